//! Many VMs, one poller.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::sample::yaml;

use crate::setup::Pki;
use crate::sidecar::{POLLS, polling, polls, soon, start};

/// Two ticks, less what a busy machine delays the first poll by.
const TWO_TICKS: Duration = Duration::from_secs(8);

/// Five VMs with several plugins each, all of which tick: two more polls take two more ticks.
#[test]
fn one_vm_polls_for_all_workers_and_plugins() -> Result<()> {
    let pki = Pki::new()?;
    let mut plugins = 0;
    let sample = polling(&pki)?.edit(|node| {
        if node.get("vm_config").is_some() {
            plugins += 1;
            let text =
                format!(r#"{{"hierarchy": {{"interval": "5s"}}, "identity_series": {plugins}}}"#);
            node["configuration"] = yaml(json!({
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": text,
            }));
        }
    });
    let proxy = start(sample, 4)?;
    let wait_for = |number: f64| {
        soon(|| {
            let stats = proxy.stats()?;
            let ok = polls(&stats, "ok");
            ensure!(ok >= number, "{ok}");
            Ok((ok, Instant::now()))
        })
    };
    let (first, began) = wait_for(1.0)?;
    let (third, ended) = wait_for(first + 2.0)?;
    assert_eq!((first, third), (1.0, 3.0));
    assert!(ended - began > TWO_TICKS, "{:?}", ended - began);
    let stats = proxy.stats()?;
    assert_eq!(stats.sum(POLLS, &[("result", "error")]), 0.0);
    Ok(())
}
