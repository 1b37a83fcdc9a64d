//! The pages for users of Istio: their commands run as they stand there.

use anyhow::{Context, Result, ensure};
use mesh_tests::documented::{checkout, commands, run};
use mesh_tests::kubectl::kubectl;
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::wait_for;
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, istio};

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[holds(
    "documented::installation_on_istio",
    installation_on_istio,
)];

/// What these commands need is not here: the release's image is in the registry already, and the mesh has neither
/// helm nor Prometheus' operator.
const NOT_HERE: [&str; 5] = [
    "make dist",
    "skopeo copy ",
    "cat target/dist/",
    "helm upgrade ",
    "kubectl apply -f envoy-config/istio/pod-monitor.yaml",
];

/// Every other command of both pages: from one namespace to the whole mesh, a look into a proxy, and removal.
fn installation_on_istio() -> Result<()> {
    let shop = Namespace::injected("shop")?;
    istio::watch_nothing()?;
    shop.start(&[
        Workload {
            name: "cart",
            ..Workload::default()
        },
        Workload {
            name: "web",
            targets: &["http://cart.shop/", "tcp://cart.shop:7000"],
            ..Workload::default()
        },
    ])?;
    shop.call_until_ok("web", "http://cart.shop/")?;
    let folder = checkout()?;
    let runs = |page: &str| -> Result<usize> {
        let all = commands(page)?;
        let here = all
            .iter()
            .filter(|command| !NOT_HERE.iter().any(|other| command.starts_with(other)));
        let here: Vec<&String> = here.collect();
        for command in &here {
            // What a command looks at may take its seconds to come.
            let printed = eventually(DEADLINE, || run(command, &folder))
                .with_context(|| format!("{page}: $ {command}"))?;
            ensure!(!printed.is_empty(), "{page}: $ {command}: prints nothing");
            if command.contains("apply -k") {
                wait_for(&(shop.selector("mtls_requests_total", "status=\"ok\"") + " > 0"))?;
            }
        }
        Ok(here.len())
    };
    ensure!(
        runs("docs/install-istio.md")? >= 3,
        "install-istio.md has lost commands"
    );
    // Its last command takes the namespace's overlay away.
    run(
        "kubectl apply -k envoy-config/istio/overlays/namespace",
        &folder,
    )?;
    ensure!(
        runs("envoy-config/istio/README.md")? >= 4,
        "the README has lost commands"
    );
    let left = kubectl(&[
        "get",
        "wasmplugins",
        "--namespace",
        "shop",
        "--output",
        "name",
    ])?;
    ensure!(left.is_empty(), "plugins are left: {left}");
    ensure!(shop.failures_during(50)? == 0, "calls fail");
    Ok(())
}
