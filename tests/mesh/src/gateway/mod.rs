//! A real Envoy Gateway and a real cert-manager, on the cluster of `tools/mesh`: `make test-gateway`.

pub mod page;
pub mod scrape;
pub mod shop;

use std::path::Path;

use anyhow::Result;

use crate::kubectl::kubectl;
use crate::runner::Stage;

/// One Gateway for all scenarios, which take turns.
pub const GATEWAY: Stage = Stage {
    at_a_time: 1,
    begin,
    is_taken: |_| false,
    keep_logs,
    clean_up: || Ok(()),
};

/// What an interrupted run has left goes, and Prometheus scrapes as documented.
fn begin() -> Result<()> {
    let file = ["configmap", "mtls-watch", "--namespace", shop::SYSTEM];
    kubectl(&[&["delete", "--ignore-not-found"][..], &file].concat())?;
    scrape::begin()
}

/// What there is to look at when a scenario has failed.
fn keep_logs(folder: &Path) {
    let folder = folder.display().to_string();
    let all = ["--all-namespaces", "--output-directory", &folder];
    let dump = ["cluster-info", "dump", "--output", "yaml"];
    let policies = "gateways,httproutes,envoyproxies,envoyextensionpolicies,envoypatchpolicies,clienttrafficpolicies,certificates";
    let outcome = kubectl(&[&dump[..], &all].concat()).and_then(|_| {
        let found = kubectl(&["get", policies, "--all-namespaces", "--output", "yaml"])?;
        Ok(std::fs::write(
            Path::new(&folder).join("policies.yaml"),
            found,
        )?)
    });
    if let Err(error) = outcome {
        eprintln!("no logs: {error:#}");
    }
}
