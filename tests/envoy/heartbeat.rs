//! Whether the module is alive: a VM that has trapped is called no more, and with `FAIL_OPEN` its worker's
//! traffic passes as if nothing were wrong.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::stats::eventually;
use testbed::{Server, module};

use crate::setup::{Pki, Proxy};

const WORKERS: &str = "mtls_watch_workers";
const LAST_TICK: &str = "mtls_watch_last_tick_timestamp_seconds";
const INFO: &str = "mtls_watch_info";
/// A VM counts as dead 20 s after its last tick.
const DEADLINE: Duration = Duration::from_secs(60);

fn wait_for_workers(proxy: &Proxy, expected: f64) -> Result<()> {
    eventually(DEADLINE, || {
        let found = proxy.stats()?.value(WORKERS, &[]);
        ensure!(found == Some(expected), "{found:?}, not {expected}");
        Ok(())
    })
}

#[test]
fn a_vm_that_has_trapped_is_missed() -> Result<()> {
    let pki = Pki::new()?;
    let module = module::trapping(pki.directory())?;
    let sample = pki.sample("both.yaml")?.module(&module);
    let proxy = Proxy::start(sample, ("inbound", "app"), Server::http_echo(None)?, 2)?;
    let client = pki.client()?;
    wait_for_workers(&proxy, 2.0)?;
    let concurrency = proxy.stats()?.value("envoy_server_concurrency", &[]);
    assert_eq!(concurrency, Some(2.0));

    // The response in whose midst the VM dies may be lost; those that follow are not.
    let _ = proxy.get(&client);
    wait_for_workers(&proxy, 1.0)?;

    let first = proxy.stats()?.value(LAST_TICK, &[]);
    eventually(DEADLINE, || {
        let _ = proxy.get(&client);
        let found = proxy.stats()?.value(WORKERS, &[]);
        ensure!(found == Some(0.0), "{found:?}");
        Ok(())
    })?;
    // Traffic passes, and nothing else shows it. (The main thread's VM sees no traffic, and goes on.)
    proxy.get(&client)?;
    let stats = proxy.stats()?;
    assert_eq!(stats.sum(INFO, &[]), 1.0);
    assert!(stats.value(LAST_TICK, &[]) > first);
    Ok(())
}
