//! The rotation as docs/ca-rotation.md has it.

use anyhow::{Result, ensure};
use testbed::pki::Lifetime;

use crate::Drill;
use crate::authority::Authority;
use crate::mesh::NAMES;
use crate::status::Status;
use crate::story::wait_until;

/// A day, as long as a mesh's leaves live.
pub fn day() -> Lifetime {
    Lifetime::days(1)
}

/// Five steps from the old CA to the new one. No request may fail, from the first to the last.
pub fn run(drill: &mut Drill, old: &Authority, new: &Authority) -> Result<()> {
    let status = drill.status(old, new)?;
    begin(drill, &status, old, new)?;
    trust(drill, &status, old, new)?;
    sign(drill, &status, old, new)?;
    wait(drill, &status, new)?;
    drill.story.chapter("Step 5: remove the old CA")?;
    drill.gate_opens(&status, 5)?;
    drill
        .story
        .tell("and without --cas, from the metrics alone:")?;
    drill.gate_opens(&drill.status(old, new)?.without_certificates(), 5)?;
    remove(drill, &status, old, new)?;
    no_handshake_was_refused(drill)
}

fn begin(drill: &mut Drill, status: &Status, old: &Authority, new: &Authority) -> Result<()> {
    drill
        .story
        .chapter("Part 1: a rotation in the safe order")?;
    drill
        .story
        .tell("every question is asked with this command:")?;
    drill.story.quote(&status.command_line())?;
    wait_until("every proxy has read its hierarchy", || {
        ensure!(status.ask(1)?.is_certain(1), "{}", status.text(1)?.text);
        Ok(())
    })?;
    drill.story.tell("this is how it begins:")?;
    drill.story.quote(status.text(1)?.proxies()?)?;
    drill.states(
        status,
        &[(old.root_name(), "active"), (new.root_name(), "unseen")],
    )?;
    drill.gate_is_closed(status, 1, &NAMES)
}

fn trust(drill: &mut Drill, status: &Status, old: &Authority, new: &Authority) -> Result<()> {
    drill
        .story
        .chapter("Step 1: add the new CA to every trust bundle")?;
    let mark = drill.load.mark();
    drill.mesh.sidecar("web")?.trust(&[old, new])?;
    drill.story.tell("web's bundle has both roots")?;
    drill.gate_is_closed(status, 1, &["cart", "pay"])?;
    for name in ["cart", "pay"] {
        drill.mesh.sidecar(name)?.trust(&[old, new])?;
    }
    drill
        .story
        .tell("the bundles of cart and pay have both roots")?;

    drill
        .story
        .chapter("Step 2: verify that every proxy has it")?;
    drill.gate_opens(status, 1)?;
    drill.states(
        status,
        &[(old.root_name(), "active"), (new.root_name(), "prepared")],
    )?;
    drill.no_request_fails(&mark)
}

fn sign(drill: &mut Drill, status: &Status, old: &Authority, new: &Authority) -> Result<()> {
    drill.story.chapter("Step 3: issue from the new CA")?;
    let mark = drill.load.mark();
    drill.mesh.sidecar("web")?.renew(new, day())?;
    drill
        .story
        .tell("the issuer is switched; web is the first to get a leaf of the new CA")?;
    drill.states(
        status,
        &[(old.root_name(), "old"), (new.root_name(), "active")],
    )?;
    drill.gate_opens(status, 2)?;
    drill.gate_is_closed(status, 3, &["cart", "pay"])?;
    drill.no_request_fails(&mark)
}

fn wait(drill: &mut Drill, status: &Status, new: &Authority) -> Result<()> {
    drill
        .story
        .chapter("Step 4: wait until the old CA is gone from the wire")?;
    let mark = drill.load.mark();
    drill.mesh.sidecar("cart")?.renew(new, day())?;
    drill
        .story
        .tell("cart's leaf is renewed; pay's is not due yet")?;
    drill.gate_is_closed(status, 3, &["pay"])?;
    drill.gate_is_closed(status, 5, &NAMES)?;
    drill.mesh.sidecar("pay")?.renew(new, day())?;
    drill
        .story
        .tell("pay's leaf is renewed, the last one of the old CA")?;
    drill.gate_opens(status, 3)?;
    drill.gate_opens(status, 4)?;
    drill.no_request_fails(&mark)
}

fn remove(drill: &mut Drill, status: &Status, old: &Authority, new: &Authority) -> Result<()> {
    let mark = drill.load.mark();
    drill.mesh.sidecar("web")?.trust(&[new])?;
    drill
        .story
        .tell("the old root is taken out of web's bundle, to see that nothing breaks")?;
    drill.no_request_fails(&mark)?;
    for name in ["cart", "pay"] {
        drill.mesh.sidecar(name)?.trust(&[new])?;
    }
    drill.story.tell("and out of the bundles of cart and pay")?;
    drill.states(
        status,
        &[(old.root_name(), "retired"), (new.root_name(), "active")],
    )?;
    drill.no_request_fails(&mark)
}

fn no_handshake_was_refused(drill: &mut Drill) -> Result<()> {
    wait_until("no handshake failure is counted", || {
        for sidecar in drill.mesh.sidecars() {
            let stats = sidecar.stats()?;
            let failures = stats.series("mtls_handshake_failures_total");
            ensure!(failures.is_empty(), "{}: {}", sidecar.name, failures[0]);
        }
        Ok(())
    })?;
    let start = drill.load.beginning();
    let failures = drill.load.failures(&start).len();
    ensure!(failures == 0, "{failures} requests failed");
    if let Some(alerts) = &drill.alerts {
        alerts.none_has_fired(NAMES.len())?;
        drill.story.holds("no alert has fired")?;
    }
    drill.story.holds(&format!(
        "the rotation is done: {} requests in all, none failed, and no proxy has refused a handshake",
        drill.load.sent(&start)
    ))
}
