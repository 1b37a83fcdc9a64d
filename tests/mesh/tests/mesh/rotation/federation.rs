//! Another trust domain: what it takes that its workloads are let in, and how its CA is rotated.

use anyhow::{Result, ensure};
use mesh_tests::authority::{Authority, PluggedIn};
use mesh_tests::handshakes::{every_pair, everybody_takes};
use mesh_tests::mesh_config::{append, ca_certificates};
use mesh_tests::namespace::Namespace;
use mesh_tests::prometheus::wait_for;
use mesh_tests::rotation::{Leaves, Rotation};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, istio};
use pki::Identity;

use super::{SHORT_LEAVES, start_all, wait_until_gone};

pub(super) const SCENARIOS: &[Scenario] = &[holds(
    "rotation::federated_trust_domains",
    federated_trust_domains,
)];

const TELLER: &str = "spiffe://partner.example/ns/bank/sa/teller";
const ALIAS: &str = "trustDomainAliases: [partner.example]\n";

/// `caCertificates` has the partner's root, `trustDomainAliases` its trust domain. With one of them alone its
/// workloads are refused, and the reason tells which is missing. Then the partner's root is rotated.
fn federated_trust_domains() -> Result<()> {
    let root = Authority::root("Corp Root")?;
    let (old, new) = (
        Authority::root("Partner Root")?,
        Authority::root("Next Partner Root")?,
    );
    istio::watch_the_mesh()?;
    PluggedIn {
        signer: &root,
        roots: &[&root],
    }
    .apply()?;
    istio::set_istiod_env(&["ISTIO_MULTIROOT_MESH=true"])?;
    let shop = Namespace::injected("shop-federated")?;
    start_all(&shop, SHORT_LEAVES)?;
    let failed = shop.calls("failed")?;
    let teller = old.leaf(TELLER)?;
    refused(&shop, &teller, "unknown_ca")?;
    append(&ca_certificates(&[&old]))?;
    wait_until_everybody_has(&shop, &old)?;
    refused(&shop, &teller, "name_mismatch")?;
    append(&(ca_certificates(&[&old]) + ALIAS))?;
    eventually(DEADLINE, || everybody_takes(&shop, &teller))?;
    let partner = "direction=\"inbound\", trust_domain=\"partner.example\"";
    let by_domain = shop.selector("mtls_connections_by_trust_domain_total", partner);
    wait_for(&format!("count({by_domain} > 0) == 3"))?;

    // No workload of ours has a leaf of the partner's: gate 3 is open from the start, and gate 4 is what counts.
    let mut rotation = Rotation::of_workloads(&old, &new, &new, &[&root, &old, &new]);
    rotation.leaves = Leaves::Partners(TELLER);
    rotation.wait_for_gate(&shop, 1, false)?;
    append(&(ca_certificates(&[&old, &new]) + ALIAS))?;
    rotation.wait_for_gate(&shop, 1, true)?;
    everybody_takes(&shop, &teller)?;
    let gates = rotation.gates(&shop)?;
    ensure!(
        !gates.is_open(4) && !gates.is_open(5),
        "gates 4 and 5 are open while the old root's leaves are in use"
    );
    for gate in [4, 5] {
        rotation.wait_for_gate(&shop, gate, true)?;
    }
    append(&(ca_certificates(&[&new]) + ALIAS))?;
    wait_until_gone(&shop, &format!("ca={:?}", old.ca_name()))?;
    rotation.everybody_takes_the_new(&shop)?;
    ensure!(
        everybody_takes(&shop, &teller).is_err(),
        "a leaf of the root that was removed is taken"
    );
    every_pair(&shop)?;
    ensure!(
        shop.calls("failed")? == failed,
        "calls of our own trust domain failed"
    );
    Ok(())
}

fn wait_until_everybody_has(shop: &Namespace, ca: &Authority) -> Result<()> {
    let labels = format!("secret=\"ROOTCA\", ca={:?}", ca.ca_name());
    let bundles = shop.selector("mtls_trust_bundle_ca", &labels);
    wait_for(&format!("count({bundles} == 1) == 3")).map(drop)
}

/// That the leaf is refused by all, for this reason.
fn refused(shop: &Namespace, leaf: &Identity, reason: &str) -> Result<()> {
    for (name, address) in shop.pods()? {
        let answer = mesh_tests::probe::hello(&address, leaf);
        ensure!(answer.is_err(), "{name} takes a leaf of {TELLER}");
    }
    let labels = format!("direction=\"inbound\", reason={reason:?}");
    let failures = shop.selector("mtls_handshake_failures_total", &labels);
    wait_for(&format!("count(sum by (pod) ({failures}) > 0) == 3")).map(drop)
}
