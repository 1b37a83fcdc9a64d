//! Scenario C: CAs are rotated under load, as docs/ca-rotation.md says, and in the wrong order. What the gates say
//! is compared with what real handshakes do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_tests::authority::{Authority, PluggedIn};
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::{nothing, wait_for, wait_within};
use mesh_tests::rotation::Rotation;
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, istio, probe};
use pki::DAY;

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    holds(
        "rotation::right_order_without_a_restart",
        right_order_without_a_restart,
    ),
    holds("rotation::an_intermediate_alone", an_intermediate_alone),
    holds("rotation::wrong_order_is_told", wrong_order_is_told),
];

const NAMES: [&str; 3] = ["cart", "pay", "web"];

/// Leaves of five minutes, of which a new one comes every minute; roots by xDS, without a restart.
const SHORT_LEAVES: &str = r#"{"proxyMetadata": {"SECRET_TTL": "5m", "SECRET_GRACE_PERIOD_RATIO": "0.8", "PROXY_CONFIG_XDS_AGENT": "true"}}"#;

/// Root and issuing CA, old and new.
struct Hierarchies {
    old_root: Authority,
    old_ca: Authority,
    new_root: Authority,
    new_ca: Authority,
}

impl Hierarchies {
    fn new() -> Result<Self> {
        let (old_root, new_root) = (Authority::root("Old Root")?, Authority::root("New Root")?);
        let old_ca = old_root.intermediate("Old CA", 365 * DAY)?;
        let new_ca = new_root.intermediate("New CA", 365 * DAY)?;
        Ok(Self {
            old_root,
            old_ca,
            new_root,
            new_ca,
        })
    }

    fn rotation(&self) -> Rotation<'_> {
        Rotation {
            old: &self.old_root,
            new: &self.new_root,
            cas: vec![&self.old_root, &self.old_ca, &self.new_root, &self.new_ca],
        }
    }
}

/// Three workloads that call each other all the while, each call a handshake.
fn start_all(shop: &Namespace, proxy_config: &str) -> Result<()> {
    let targets: Vec<String> = NAMES.iter().map(|name| target(shop, name)).collect();
    let others = |name: &str| -> Vec<&str> {
        let others = targets
            .iter()
            .filter(|target| !target.contains(&format!("//{name}.")));
        others.map(String::as_str).collect()
    };
    let others: Vec<Vec<&str>> = NAMES.iter().map(|name| others(name)).collect();
    let workloads = NAMES.iter().zip(&others);
    let workloads = workloads.map(|(name, targets)| Workload {
        name,
        targets,
        proxy_config,
    });
    shop.start(&workloads.collect::<Vec<_>>())?;
    eventually(DEADLINE, || every_pair(shop))
}

fn target(shop: &Namespace, name: &str) -> String {
    format!("tcp://{name}.{}:7000", shop.name)
}

/// A real handshake between every pair of proxies.
fn every_pair(shop: &Namespace) -> Result<()> {
    for from in NAMES {
        for to in NAMES.iter().filter(|&&to| to != from) {
            shop.call(from, &target(shop, to))
                .with_context(|| format!("{from} to {to}"))?;
        }
    }
    Ok(())
}

/// What each proxy does with a leaf of this CA that is no workload's: a real handshake.
fn everybody_takes(shop: &Namespace, ca: &Authority) -> Result<()> {
    let leaf = ca.leaf("spiffe://cluster.local/ns/probe/sa/probe")?;
    for (name, address) in shop.pods()? {
        probe::hello(&address, &leaf)
            .with_context(|| format!("{name} refuses {}", ca.ca_name()))?;
    }
    Ok(())
}

/// Whether everybody shows a leaf of this CA, to a client that has one, too.
fn everybody_shows(shop: &Namespace, ca: &Authority, name: &str) -> Result<()> {
    let leaf = ca.leaf("spiffe://cluster.local/ns/probe/sa/probe")?;
    for (pod, address) in shop.pods()? {
        let issuer = probe::issuer_of(&address, &leaf)?;
        ensure!(issuer.contains(name), "{pod} shows a leaf of {issuer}");
    }
    Ok(())
}

/// A rotation from a plugged-in CA to another, by Istio's multi-root way.
fn right_order_without_a_restart() -> Result<()> {
    let hierarchies = Hierarchies::new()?;
    let Hierarchies {
        old_root,
        old_ca,
        new_root,
        new_ca,
    } = &hierarchies;
    let rotation = hierarchies.rotation();
    istio::watch_the_mesh()?;
    PluggedIn {
        signer: old_ca,
        roots: &[old_root],
    }
    .apply()?;
    istio::set_istiod_env(&["ISTIO_MULTIROOT_MESH=true"])?;
    istio::restart_istiod()?;
    let shop = Namespace::injected("shop-rotation")?;
    start_all(&shop, SHORT_LEAVES)?;
    let failed = shop.calls("failed")?;
    everybody_shows(&shop, old_ca, "Old CA")?;
    rotation.wait_for_gate(&shop, 2, true)?;
    rotation.wait_for_gate(&shop, 1, false)?;

    // Step 1: the new root is trusted, too. Step 2: gate 1 opens, and says the truth.
    istio::trust_also(new_root)?;
    rotation.wait_for_gate(&shop, 1, true)?;
    everybody_takes(&shop, new_ca)?;
    ensure!(
        !rotation.status(&shop)?.is_open(5),
        "gate 5 is open before the new CA signs"
    );

    // Step 3: the new CA signs. istiod reads the secret without a restart.
    PluggedIn {
        signer: new_ca,
        roots: &[old_root, new_root],
    }
    .apply()?;
    eventually(2 * DEADLINE, || {
        let gates = rotation.status(&shop)?;
        ensure!(
            gates.is_open(2) || every_pair(&shop).is_ok(),
            "the cardinal rule: {}",
            gates.because(2)
        );
        everybody_shows(&shop, new_ca, "New CA")
    })?;
    every_pair(&shop)?;

    // Step 4: the old CA is gone from the wire.
    for gate in [3, 4, 5] {
        rotation.wait_for_gate(&shop, gate, true)?;
    }

    // Step 5: the old root goes.
    PluggedIn {
        signer: new_ca,
        roots: &[new_root],
    }
    .apply()?;
    let trusted = shop.selector(
        "mtls_trust_bundle_ca",
        &format!("ca={:?}", old_root.ca_name()),
    );
    wait_for(&format!("max({trusted}) == 0"))?;
    every_pair(&shop)?;
    everybody_takes(&shop, new_ca)?;
    ensure!(
        shop.calls("failed")? == failed,
        "calls failed in a rotation in the right order"
    );
    alerts_are_silent(&shop)
}

/// The root stays, and everybody has it: the new intermediate may sign at once. istiod reads it without a restart.
fn an_intermediate_alone() -> Result<()> {
    let root = Authority::root("Stable Root")?;
    let old_ca = root.intermediate("Old CA", 365 * DAY)?;
    let new_ca = root.intermediate("New CA", 365 * DAY)?;
    let rotation = Rotation {
        old: &old_ca,
        new: &new_ca,
        cas: vec![&root, &old_ca, &new_ca],
    };
    istio::watch_the_mesh()?;
    PluggedIn {
        signer: &old_ca,
        roots: &[&root],
    }
    .apply()?;
    istio::restart_istiod()?;
    let shop = Namespace::injected("shop-intermediate")?;
    start_all(&shop, SHORT_LEAVES)?;
    let failed = shop.calls("failed")?;
    rotation.wait_for_gate(&shop, 1, true)?;
    everybody_takes(&shop, &new_ca)?;
    ensure!(
        !rotation.status(&shop)?.is_open(3),
        "gate 3 is open before the new CA signs"
    );
    PluggedIn {
        signer: &new_ca,
        roots: &[&root],
    }
    .apply()?;
    eventually(2 * DEADLINE, || everybody_shows(&shop, &new_ca, "New CA"))?;
    for gate in [3, 4, 5] {
        rotation.wait_for_gate(&shop, gate, true)?;
    }
    every_pair(&shop)?;
    ensure!(
        shop.calls("failed")? == failed,
        "calls failed while an intermediate was replaced"
    );
    alerts_are_silent(&shop)
}

/// Of this namespace's proxies and identities.
fn alerts_are_silent(shop: &Namespace) -> Result<()> {
    nothing(&format!(
        "ALERTS{{alertname=~\"Mtls.*\", alertstate=\"firing\", namespace={:?}}}",
        shop.name
    ))?;
    nothing(&format!(
        "ALERTS{{alertname=~\"Mtls.*\", alertstate=\"firing\", identity=~\"spiffe://cluster.local/ns/{}/.*\"}}",
        shop.name
    ))
}

/// Step 1 reaches the client alone; then the new CA signs all the same.
fn wrong_order_is_told() -> Result<()> {
    let hierarchies = Hierarchies::new()?;
    let Hierarchies {
        old_root,
        old_ca,
        new_root,
        new_ca,
    } = &hierarchies;
    let rotation = hierarchies.rotation();
    istio::watch_the_mesh()?;
    PluggedIn {
        signer: old_ca,
        roots: &[old_root],
    }
    .apply()?;
    istio::restart_istiod()?;
    let shop = Namespace::injected("shop-wrong-order")?;
    start_all(&shop, "")?;
    PluggedIn {
        signer: old_ca,
        roots: &[old_root, new_root],
    }
    .apply()?;
    istio::restart_istiod()?;
    shop.restart(&["web"])?;
    eventually(DEADLINE, || every_pair(&shop))?;
    // cart and pay trust the old root alone.
    rotation.wait_for_gate(&shop, 1, false)?;

    PluggedIn {
        signer: new_ca,
        roots: &[old_root, new_root],
    }
    .apply()?;
    istio::restart_istiod()?;
    shop.restart(&["web"])?;
    let refused = shop.selector(
        "mtls_handshake_failures_total",
        "direction=\"inbound\", reason=\"unknown_ca\"",
    );
    wait_for(&(refused + " > 0"))?;
    wait_within(
        Duration::from_secs(60),
        &format!(
            "ALERTS{{alertname=\"MtlsCardinalRuleBroken\", alertstate=\"firing\", namespace={:?}, workload=~\"cart|pay\"}}",
            shop.name
        ),
    )?;
    ensure!(
        every_pair(&shop).is_err(),
        "a leaf of a CA that nobody trusts is taken"
    );
    let log = shop.module_log("cart")? + &shop.module_log("pay")?;
    ensure!(
        log.contains(&new_ca.ca_name().replace('_', " ")),
        "the log does not name the CA: {log}"
    );
    rotation.wait_for_gate(&shop, 2, false)?;

    // The way back: whatever is signed by the old CA is trusted by all.
    PluggedIn {
        signer: old_ca,
        roots: &[old_root, new_root],
    }
    .apply()?;
    istio::restart_istiod()?;
    shop.restart(&["web"])?;
    eventually(DEADLINE, || every_pair(&shop))
}
