//! The pages for users of Istio: their commands run as they stand there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mesh_tests::authority::{Authority, sha256};
use mesh_tests::documented::{Session, checkout, commands, run};
use mesh_tests::handshakes::every_pair;
use mesh_tests::kubectl::kubectl;
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::{lines, wait_for};
use mesh_tests::rotation::{Leaves, Rotation};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, istio, mesh_config, scratch};
use pki::DAY;

use crate::rotation::{SHORT_LEAVES, alerts_are_silent, start_all};

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    holds("documented::installation_on_istio", installation_on_istio),
    holds("documented::rotation_on_istio", rotation_on_istio),
];

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

/// From istiod's own root to a CA that is plugged in, by the commands of docs/ca-rotation-istio.md. After each of
/// them the gates that are open are tried.
fn rotation_on_istio() -> Result<()> {
    let folder = scratch("documented-rotation");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let root = Authority::root("Corp Root")?;
    let ca = root.intermediate("Corp CA", 365 * DAY)?;
    fs::write(folder.join("new-root.pem"), root.pem())?;
    ca.write_as_cacerts(&folder)?;
    istio::watch_the_mesh()?;
    // What the page asks for before the first rotation is in the workloads here; nothing is appended.
    mesh_config::append("")?;
    let shop = Namespace::injected("shop")?;
    start_all(&shop, SHORT_LEAVES)?;
    let failed = shop.calls("failed")?;
    let commands = commands("docs/ca-rotation-istio.md")?;
    let mut session = Session::new(folder.clone());
    let mut rotation = None;
    for command in &commands {
        if session.assigns(command)? {
            continue;
        }
        if let Some(rotation) = &rotation {
            the_gate_is_shut_before(command, rotation, &shop)?;
        }
        // An hour of silence, on the page.
        let hasty = command.replace("--recent 1h", "--recent 15s");
        let printed = eventually(2 * DEADLINE, || session.run(&hasty))
            .with_context(|| format!("$ {command}"))?;
        if command.contains("rotation-status") {
            println!("$ {command}\n{printed}");
        }
        if folder.join("old-root.pem").exists() {
            rotation = Some(of_files(&folder, &root, &ca)?);
        }
        if let Some(rotation) = &rotation {
            rotation.gates(&shop)?;
        }
    }
    ensure!(commands.len() >= 15, "the page has lost commands");
    let old_root = wait_for(&shop.selector("mtls_trust_bundle_ca", "ca=~\"cluster.local:.*\""))?;
    ensure!(
        old_root.iter().all(|sample| sample.value == 0.0),
        "the old root is still there:{}",
        lines(&old_root)
    );
    every_pair(&shop)?;
    ensure!(shop.calls("failed")? == failed, "calls failed");
    alerts_are_silent(&shop)
}

/// The old root is what the page's first command has written.
fn of_files<'a>(folder: &Path, root: &Authority, ca: &'a Authority) -> Result<Rotation<'a>> {
    let old = fs::read_to_string(folder.join("old-root.pem"))?;
    Ok(Rotation {
        old: sha256(&old)?,
        new: root.sha256()?,
        cas: old + &root.pem() + &ca.pem(),
        signer: ca,
        leaves: Leaves::Workloads,
    })
}

/// A command that a gate allows. Before it is the time to see that the gates behind it are shut.
fn the_gate_is_shut_before(command: &str, rotation: &Rotation<'_>, shop: &Namespace) -> Result<()> {
    let (trusts_the_new, signs) = (
        "mesh=with-new-root.yaml",
        "old-root.pem new-root.pem > root-cert.pem",
    );
    let shut: &[u64] = if command.contains(trusts_the_new) {
        &[1, 5]
    } else if command.contains(signs) {
        &[3, 5]
    } else {
        return Ok(());
    };
    let gates = rotation.gates(shop)?;
    for gate in shut {
        ensure!(
            !gates.is_open(*gate),
            "gate {gate} is open before $ {command}"
        );
    }
    Ok(())
}
