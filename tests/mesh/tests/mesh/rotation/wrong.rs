//! In a wrong order: the gate was shut; when it is done all the same, the refusal, the alert and its runbook name
//! it within a minute.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_tests::authority::{Authority, PluggedIn};
use mesh_tests::handshakes::every_pair;
use mesh_tests::namespace::Namespace;
use mesh_tests::prometheus::{wait_for_alert, wait_within};
use mesh_tests::rotation::Rotation;
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, istio, workspace_root};

use super::{Hierarchies, start_all};

pub(super) const SCENARIOS: &[Scenario] = &[
    holds("rotation::signing_before_trust", signing_before_trust),
    holds("rotation::removal_before_renewal", removal_before_renewal),
    holds("rotation::replaced_at_once", replaced_at_once),
];

const MINUTE: Duration = Duration::from_secs(60);

/// Step 1 reaches `web` alone, and then the new CA signs. All the while every chain has the new root in it, which
/// looks like trust to whoever looks at chains.
fn signing_before_trust() -> Result<()> {
    let hierarchies = Hierarchies::new()?;
    let Hierarchies {
        old_root,
        old_ca,
        new_root,
        new_ca,
    } = &hierarchies;
    let rotation = hierarchies.rotation();
    istio::watch_the_mesh()?;
    // The mistake that is easily made: appended to the wrong file.
    PluggedIn {
        signer: old_ca,
        roots: &[old_root],
    }
    .apply_with_chain(&[new_root])?;
    istio::restart_istiod()?;
    let shop = Namespace::injected("shop-too-early")?;
    start_all(&shop, "")?;
    rotation.wait_for_gate(&shop, 2, true)?;
    ensure!(
        !rotation.gates(&shop)?.is_open(1),
        "gate 1 is open because the new root is in the chains"
    );

    sign_with(old_ca, &[old_root, new_root], &shop, &["web"])?;
    eventually(DEADLINE, || every_pair(&shop))?;
    // cart and pay trust the old root alone.
    let gates = rotation.gates(&shop)?;
    ensure!(
        !gates.is_open(1) && gates.because(1).contains("cart"),
        "gate 1 is open, or does not name cart: {}",
        gates.because(1)
    );

    sign_with(new_ca, &[old_root, new_root], &shop, &["web"])?;
    told(&rotation, &shop, (&["cart", "pay"], "inbound"), new_ca)?;

    // The way back: whatever is signed by the old CA is trusted by all.
    sign_with(old_ca, &[old_root, new_root], &shop, &["web"])?;
    eventually(DEADLINE, || every_pair(&shop))
}

/// istiod signs with that CA, and these workloads have a leaf and roots of it.
fn sign_with(
    signer: &Authority,
    roots: &[&Authority],
    shop: &Namespace,
    restarted: &[&str],
) -> Result<()> {
    PluggedIn { signer, roots }.apply()?;
    istio::restart_istiod()?;
    shop.restart(restarted)
}

/// That these workloads refuse a leaf of this CA, of clients (`inbound`) or of servers (`outbound`), and that this is
/// named: by series, alert, runbook, log and gates.
fn told(
    rotation: &Rotation<'_>,
    shop: &Namespace,
    (refusing, direction): (&[&str], &str),
    refused: &Authority,
) -> Result<()> {
    for workload in refusing {
        let labels =
            format!("pod=~\"{workload}-.*\", direction={direction:?}, reason=\"unknown_ca\"");
        let failures = shop.selector("mtls_handshake_failures_total", &labels);
        wait_within(MINUTE, &(failures + " > 0"))?;
        let labels = [
            ("namespace", shop.name.as_str()),
            ("workload", *workload),
            ("direction", direction),
        ];
        let annotations = wait_for_alert(MINUTE, "MtlsCardinalRuleBroken", &labels)?;
        let runbook = annotations.get("runbook_url").context("no runbook")?;
        let page = runbook.rsplit('/').next().unwrap_or("");
        let runbook = fs::read_to_string(workspace_root().join("docs/runbooks").join(page))?;
        ensure!(
            runbook.contains("unknown_ca"),
            "the runbook does not name it"
        );
        let log = shop.module_log(workload)?;
        let peer = match direction {
            "inbound" => refused.ca_name().replace('_', " "),
            // Envoy shows no certificate of a server that it refuses. The address tells which one it was.
            _ => "direction=outbound reason=unknown_ca".to_owned(),
        };
        ensure!(
            log.contains(&peer),
            "{workload}'s log does not have {peer}: {log}"
        );
    }
    ensure!(
        every_pair(shop).is_err(),
        "a leaf of a CA that nobody trusts is taken"
    );
    eventually(MINUTE, || {
        let gates = rotation.gates(shop)?;
        let open: Vec<u64> = (1..=5).filter(|gate| gates.is_open(*gate)).collect();
        ensure!(open.is_empty(), "these gates are open: {open:?}");
        Ok(())
    })
}

/// Step 5 before step 4 is over: the old root goes while `cart` still has a leaf of the old CA.
fn removal_before_renewal() -> Result<()> {
    let hierarchies = Hierarchies::new()?;
    let Hierarchies {
        old_root,
        old_ca,
        new_root,
        new_ca,
    } = &hierarchies;
    let rotation = hierarchies.rotation();
    istio::watch_the_mesh()?;
    let both = [old_root, new_root];
    PluggedIn {
        signer: old_ca,
        roots: &both,
    }
    .apply()?;
    istio::restart_istiod()?;
    let shop = Namespace::injected("shop-too-late")?;
    start_all(&shop, "")?;
    rotation.wait_for_gate(&shop, 1, true)?;
    sign_with(new_ca, &both, &shop, &["pay", "web"])?;
    eventually(DEADLINE, || every_pair(&shop))?;
    let gates = rotation.gates(&shop)?;
    ensure!(
        !gates.is_open(3) && !gates.is_open(5) && gates.because(3).contains("cart"),
        "gate 3 or 5 is open, or does not name cart: {}",
        gates.because(3)
    );
    sign_with(new_ca, &[new_root], &shop, &["pay", "web"])?;
    told(&rotation, &shop, (&["pay", "web"], "inbound"), old_ca)?;
    // The cure: cart has a leaf of the new CA.
    shop.restart(&["cart"])?;
    eventually(DEADLINE, || every_pair(&shop))
}

/// Steps 1, 3 and 5 in one, as one replaces a certificate of a web server.
fn replaced_at_once() -> Result<()> {
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
    let shop = Namespace::injected("shop-at-once")?;
    start_all(&shop, "")?;
    rotation.wait_for_gate(&shop, 1, false)?;
    sign_with(new_ca, &[new_root], &shop, &["web"])?;
    // Neither side trusts the other. The client looks first, so no server gets to refuse.
    told(&rotation, &shop, (&["cart", "pay"], "outbound"), new_ca)?;
    told(&rotation, &shop, (&["web"], "outbound"), old_ca)?;
    // The cure is as fast: everybody has what istiod signs now.
    shop.restart(&["cart", "pay"])?;
    eventually(DEADLINE, || every_pair(&shop))
}
