//! Two trust domains that are federated, and a workload that is not. The CA of the one is rotated.

use anyhow::{Result, ensure};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::spire::gates::{HOUR, MOMENT, Rotation};
use mesh_tests::spire::server::{Server, Settings};
use mesh_tests::spire::shop::Shop;
use mesh_tests::spire::workload::Plan;
use mesh_tests::{DEADLINE, eventually};

use crate::rotation::ca_name;

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] =
    &[holds("federation::two_trust_domains", two_trust_domains)];

const SCENARIO: &str = "federation::two_trust_domains";

/// `web` of example.org and `till` of partner.example call each other. Each has both bundles; `pay` has its own alone.
fn two_trust_domains() -> Result<()> {
    let ours = Server::start(&Settings::of(SCENARIO))?;
    let theirs = Server::start(&Settings {
        trust_domain: "partner.example",
        ..Settings::of(SCENARIO)
    })?;
    ours.trust(&theirs)?;
    theirs.trust(&ours)?;
    let agents = (
        ours.node("one", &["web"], &["partner.example"])?,
        ours.node("two", &["pay"], &[])?,
        theirs.node("one", &["till"], &["example.org"])?,
    );
    let federated = |name, server, agent| Plan {
        bundle: "ALL",
        peers: "spiffe://",
        ..Plan::of(name, server, agent)
    };
    let shop = Shop::start(&[
        federated("web", &ours, &agents.0),
        federated("till", &theirs, &agents.2),
    ])?;
    their_ca_is_rotated(&shop, &ours, &theirs)?;
    shop.nothing_is_wrong()?;
    a_stranger_is_refused(&shop, &Plan::of("pay", &ours, &agents.1))
}

/// A proxy without the other trust domain's bundle says that this is what it lacks.
fn a_stranger_is_refused(shop: &Shop, plan: &Plan<'_>) -> Result<()> {
    let pay = shop.beside(plan)?;
    eventually(DEADLINE, || pay.call("web"))?;
    eventually(DEADLINE, || {
        ensure!(pay.call("till").is_err(), "pay reaches till");
        let labels = [
            ("direction", "outbound"),
            ("reason", "trust_domain_unknown"),
        ];
        let refused = pay
            .envoy
            .stats()?
            .sum("mtls_handshake_failures_total", &labels);
        ensure!(refused >= 1.0, "no trust_domain_unknown");
        Ok(())
    })
}

/// What the partner does counts once our server has its bundle.
fn their_ca_is_rotated(shop: &Shop, ours: &Server, theirs: &Server) -> Result<()> {
    let authority = |words: &[&str]| theirs.command(&[&["localauthority", "x509"], words].concat());
    let old = theirs.authority("active")?;
    authority(&["prepare"])?;
    let new = theirs.authority("prepared")?;
    let cas = theirs.folder().join("cas.pem");
    std::fs::write(&cas, theirs.command(&["bundle", "show"])?)?;
    let cas = cas.display().to_string();
    let question = [
        "--old",
        &ca_name(&old),
        "--new",
        &ca_name(&new),
        "--cas",
        &cas,
    ];
    let mut rotation = Rotation {
        server: theirs,
        shop,
        members: &["till"],
        new: new.clone(),
        question: question.map(str::to_owned).into(),
        recent: HOUR,
    };
    let gates = rotation.expect("our bundle of theirs lacks it", "n y n n n")?;
    let because = gates.because(1);
    ensure!(because.contains("ALL@partner.example"), "gate 1: {because}");
    ours.trust(theirs)?;
    rotation.expect("prepared", "y y n n n")?;
    authority(&["activate", "-authorityID", &new])?;
    authority(&["taint", "-authorityID", &old])?;
    rotation.expect("tainted", "y y y n n")?;
    rotation.recent = MOMENT;
    rotation.expect("quiet", "y y y y y")?;
    authority(&["revoke", "-authorityID", &old])?;
    ours.trust(theirs)?;
    rotation.expect("revoked", "y y y y y").map(drop)
}
