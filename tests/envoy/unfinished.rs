//! The module as the linker leaves it, before `make build` has finished it, in a real Envoy: it lets all
//! traffic pass, counts nothing, and says so in Envoy's log.

use anyhow::Result;
use serde_yaml_ng::Value;
use testbed::{Sample, module};

use crate::setup::{CONNECTIONS, Pki, Proxy, REQUESTS};

fn sample(pki: &Pki, file: &str) -> Result<Sample> {
    let built = module::path()?;
    let linked = built.with_file_name("deps").join("mtls_watch.wasm");
    let [built, linked] = [built, linked].map(|path| path.display().to_string());
    let sample = pki.sample(file)?.edit(|node| {
        if node.as_str() == Some(&built) {
            *node = Value::String(linked.clone());
        }
    });
    assert!(sample.yaml()?.contains(&linked));
    Ok(sample)
}

#[test]
fn lets_requests_and_connections_pass() -> Result<()> {
    let pki = Pki::new()?;
    let client = pki.client()?;
    let http = Proxy::http(sample(&pki, "http.yaml")?)?;
    let tcp = Proxy::tcp(sample(&pki, "network.yaml")?)?;
    for _ in 0..3 {
        http.get(&client)?;
        tcp.echo(&client)?;
    }
    for proxy in [http, tcp] {
        proxy.envoy.wait_for_log("this module is unfinished")?;
        let log = proxy.envoy.log();
        assert!(!log.contains("panicked"), "{log}");
        let stats = proxy.stats()?;
        assert_eq!(stats.sum(REQUESTS, &[]) + stats.sum(CONNECTIONS, &[]), 0.0);
    }
    Ok(())
}
