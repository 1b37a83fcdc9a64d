//! Scenario C: CAs are rotated under load, as docs/ca-rotation.md and docs/ca-rotation-istio.md say, and in wrong
//! orders. Each time a gate says yes, what it allows is tried with real handshakes between all proxies
//! (`Rotation::gates`, `Rotation::wait_for_gate`): a gate that is wrong fails its scenario.
//!
//! How to see that: have gate 1 take its answer from the chain in `default`. In `new_ca_trusted`
//! (crates/cli/src/rotation_status/gate.rs) leave out each proxy with a root in `chain.carried`.
//! `rotation::signing_before_trust` then fails: "gate 1 says yes, and it is not so", and the sidecar's alert.

mod federation;
mod right;
mod wrong;

use anyhow::Result;
use mesh_tests::authority::Authority;
use mesh_tests::handshakes::{every_pair, target};
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::nothing;
use mesh_tests::rotation::Rotation;
use mesh_tests::runner::Scenario;
use mesh_tests::{DEADLINE, eventually};
use pki::DAY;

/// In the order in which they run.
pub(crate) const SCENARIOS: &[&[Scenario]] =
    &[right::SCENARIOS, wrong::SCENARIOS, federation::SCENARIOS];

const NAMES: [&str; 3] = ["cart", "pay", "web"];

/// Leaves of three minutes, of which a new one comes every 36 seconds; roots by xDS, without a restart.
pub(crate) const SHORT_LEAVES: &str = r#"{"proxyMetadata": {"SECRET_TTL": "3m", "SECRET_GRACE_PERIOD_RATIO": "0.8", "PROXY_CONFIG_XDS_AGENT": "true"}}"#;

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
        let cas = [&self.old_root, &self.old_ca, &self.new_root, &self.new_ca];
        Rotation::of_workloads(&self.old_root, &self.new_root, &self.new_ca, &cas)
    }
}

/// Three workloads that call each other all the while, each call a handshake.
pub(crate) fn start_all(shop: &Namespace, proxy_config: &str) -> Result<()> {
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

/// Of this namespace's proxies and identities.
pub(crate) fn alerts_are_silent(shop: &Namespace) -> Result<()> {
    nothing(&format!(
        "ALERTS{{alertname=~\"Mtls.*\", alertstate=\"firing\", namespace={:?}}}",
        shop.name
    ))?;
    nothing(&format!(
        "ALERTS{{alertname=~\"Mtls.*\", alertstate=\"firing\", identity=~\"spiffe://cluster.local/ns/{}/.*\"}}",
        shop.name
    ))
}

/// That a certificate has left every bundle of the namespace.
fn wait_until_gone(shop: &Namespace, labels: &str) -> Result<()> {
    let bundles = shop.selector("mtls_trust_bundle_ca", labels);
    mesh_tests::prometheus::wait_for(&format!("max({bundles}) == 0")).map(drop)
}
