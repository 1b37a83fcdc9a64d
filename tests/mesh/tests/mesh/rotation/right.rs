//! In the right order no request fails, no alert fires, and each gate opens when it may and not before.

use anyhow::{Result, ensure};
use mesh_tests::authority::{Authority, PluggedIn};
use mesh_tests::handshakes::{every_pair, everybody_shows};
use mesh_tests::namespace::Namespace;
use mesh_tests::prometheus::wait_for;
use mesh_tests::rotation::Rotation;
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, istio, mesh_config};
use pki::DAY;

use super::{Hierarchies, SHORT_LEAVES, alerts_are_silent, start_all, wait_until_gone};

pub(super) const SCENARIOS: &[Scenario] = &[
    holds(
        "rotation::right_order_without_a_restart",
        right_order_without_a_restart,
    ),
    holds("rotation::an_intermediate_alone", an_intermediate_alone),
    holds(
        "rotation::a_root_renewed_with_its_key",
        a_root_renewed_with_its_key,
    ),
    holds(
        "rotation::istiod_renews_its_own_root",
        istiod_renews_its_own_root,
    ),
];

/// istiod signs with this CA, and reads other roots without a restart; three workloads call each other.
fn start(name: &str, signer: &Authority, root: &Authority) -> Result<Namespace> {
    istio::watch_the_mesh()?;
    PluggedIn {
        signer,
        roots: &[root],
    }
    .apply()?;
    istio::set_istiod_env(&["ISTIO_MULTIROOT_MESH=true"])?;
    let shop = Namespace::injected(name)?;
    start_all(&shop, SHORT_LEAVES)?;
    everybody_shows(&shop, signer)?;
    Ok(shop)
}

/// A rotation from a plugged-in CA to another, by Istio's multi-root way. From istiod's own CA to one that is
/// plugged in: `documented::rotation_on_istio`.
fn right_order_without_a_restart() -> Result<()> {
    let hierarchies = Hierarchies::new()?;
    let Hierarchies {
        old_root,
        old_ca,
        new_root,
        new_ca,
    } = &hierarchies;
    let rotation = hierarchies.rotation();
    let shop = start("shop-rotation", old_ca, old_root)?;
    let failed = shop.calls("failed")?;
    rotation.wait_for_gate(&shop, 2, true)?;
    rotation.wait_for_gate(&shop, 1, false)?;

    // Step 1: the new root is trusted, too. Step 2: gate 1 opens.
    mesh_config::trust_also(&[new_root])?;
    rotation.wait_for_gate(&shop, 1, true)?;
    ensure!(
        !rotation.gates(&shop)?.is_open(5),
        "gate 5 is open before the new CA signs"
    );

    // Step 3: the new CA signs. istiod reads the secret without a restart.
    PluggedIn {
        signer: new_ca,
        roots: &[old_root, new_root],
    }
    .apply()?;
    // Step 4: the old CA is gone from the wire.
    for gate in [3, 4, 5] {
        rotation.wait_for_gate(&shop, gate, true)?;
    }
    everybody_shows(&shop, new_ca)?;

    // Step 5: the old root goes.
    PluggedIn {
        signer: new_ca,
        roots: &[new_root],
    }
    .apply()?;
    wait_until_gone(&shop, &format!("ca={:?}", old_root.ca_name()))?;
    every_pair(&shop)?;
    let gates = rotation.gates(&shop)?;
    ensure!(
        gates.is_open(5),
        "gate 5 shuts once the old root is gone: {}",
        gates.because(5)
    );
    nothing_has_failed(&shop, failed)
}

fn nothing_has_failed(shop: &Namespace, failed: u64) -> Result<()> {
    let now = shop.calls("failed")?;
    ensure!(now == failed, "{} calls failed", now - failed);
    alerts_are_silent(shop)
}

/// The root stays, and everybody has it: the new intermediate may sign at once. istiod reads it without a restart.
fn an_intermediate_alone() -> Result<()> {
    let root = Authority::root("Stable Root")?;
    let old_ca = root.intermediate("Old CA", 365 * DAY)?;
    let new_ca = root.intermediate("New CA", 365 * DAY)?;
    let rotation = Rotation::of_workloads(&old_ca, &new_ca, &new_ca, &[&root, &old_ca, &new_ca]);
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
    ensure!(
        !rotation.gates(&shop)?.is_open(3),
        "gate 3 is open before the new CA signs"
    );
    PluggedIn {
        signer: &new_ca,
        roots: &[&root],
    }
    .apply()?;
    for gate in [3, 4, 5] {
        rotation.wait_for_gate(&shop, gate, true)?;
    }
    everybody_shows(&shop, &new_ca)?;
    every_pair(&shop)?;
    nothing_has_failed(&shop, failed)
}

/// The new certificate has name and key of the old one: a rotation of bundles alone. Every leaf stands under both.
fn a_root_renewed_with_its_key() -> Result<()> {
    let old_root = Authority::root("Corp Root")?;
    let new_root = old_root.renewed()?;
    let ca = old_root.intermediate("Issuing CA", 365 * DAY)?;
    let mut rotation = Rotation::of_workloads(&old_root, &new_root, &ca, &[]);
    (rotation.old, rotation.new) = (old_root.sha256()?, new_root.sha256()?);
    rotation.cas = old_root.pem() + &new_root.pem() + &ca.pem();
    let shop = start("shop-renewed", &ca, &old_root)?;
    let failed = shop.calls("failed")?;
    rotation.wait_for_gate(&shop, 2, true)?;
    rotation.wait_for_gate(&shop, 1, false)?;
    ensure!(
        !rotation.gates(&shop)?.is_open(5),
        "gate 5 is open before anybody has the new certificate"
    );
    // istiod reads roots that are added to its secret, or taken out, without a restart.
    PluggedIn {
        signer: &ca,
        roots: &[&old_root, &new_root],
    }
    .apply()?;
    for gate in [1, 5] {
        rotation.wait_for_gate(&shop, gate, true)?;
    }
    PluggedIn {
        signer: &ca,
        roots: &[&new_root],
    }
    .apply()?;
    let mut certificate = rotation.old.replace(':', "").to_lowercase();
    certificate.truncate(8);
    wait_until_gone(&shop, &format!("certificate={certificate:?}"))?;
    every_pair(&shop)?;
    rotation.wait_for_gate(&shop, 5, true)?;
    nothing_has_failed(&shop, failed)
}

/// istiod signs its own root anew, with the old key, and gives every workload the new certificate in the stead of
/// the old one. There is no step to take, and nothing breaks.
fn istiod_renews_its_own_root() -> Result<()> {
    istio::watch_the_mesh()?;
    istio::set_istiod_env(&["ISTIO_MULTIROOT_MESH=true"])?;
    let shop = Namespace::injected("shop-self-signed")?;
    start_all(&shop, SHORT_LEAVES)?;
    let failed = shop.calls("failed")?;
    let bundles = shop.selector("mtls_trust_bundle_ca", "secret=\"ROOTCA\"");
    let before = wait_for(&format!("{bundles} == 1"))?;
    let before = before
        .first()
        .map(|sample| sample.label("certificate").to_owned());
    let before = before.unwrap_or_default();
    // As if every root were about to end.
    istio::set_istiod_env(&[
        "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE=100",
        "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL=10s",
    ])?;
    wait_until_gone(&shop, &format!("certificate={before:?}"))?;
    every_pair(&shop)?;
    eventually(DEADLINE, || nothing_has_failed(&shop, failed))
}
