//! A CA of SPIRE's is rotated under load: by hand, with a node that lags, and by SPIRE itself.

use anyhow::{Result, ensure};
use mesh_tests::documented::Session;
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::spire::gates::{HOUR, MOMENT, Rotation};
use mesh_tests::spire::server::{Agent, Server, Settings};
use mesh_tests::spire::shop::Shop;
use mesh_tests::spire::workload::Plan;
use mesh_tests::{DEADLINE, eventually};

use crate::page::{Rehearsal, Section};

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    holds("rotation::by_itself", by_itself),
    holds("rotation::by_hand", by_hand),
    holds("rotation::a_node_that_lags", a_node_that_lags),
];

const BY_HAND: Section = Section {
    heading: "By hand",
    steps: &[
        ("--gate 1", "prepare"),
        ("--gate 2", "activate"),
        ("--gate 3", "taint"),
        ("--gate 4", "quiet"),
        ("x509 revoke", "revoke"),
    ],
    quiet: "quiet",
};

const MEMBERS: [&str; 4] = ["bank", "cart", "pay", "web"];

/// Each way to ask SPIRE's agent for the secrets. `bank` is on a node of its own.
fn plans<'a>(server: &'a Server, first: &'a Agent, second: &'a Agent) -> [Plan<'a>; 4] {
    [
        Plan::of("web", server, first),
        Plan {
            leaf: "spiffe://example.org/cart",
            bundle: "spiffe://example.org",
            ..Plan::of("cart", server, first)
        },
        Plan {
            is_plain: true,
            ..Plan::of("pay", server, first)
        },
        Plan {
            bundle: "ALL",
            ..Plan::of("bank", server, second)
        },
    ]
}

/// By the commands of the page. In the right order no request fails, and no alert fires.
fn by_hand() -> Result<()> {
    let server = Server::start(&Settings::of("rotation::by_hand"))?;
    let first = server.node("one", &["cart", "pay", "web"], &[])?;
    let second = server.node("two", &["bank"], &[])?;
    let shop = Shop::start(&plans(&server, &first, &second))?;
    bundles_have_their_names(&shop)?;
    let rehearsal = Rehearsal {
        section: &BY_HAND,
        server: &server,
        shop: &shop,
        members: &MEMBERS,
        folder: server.folder(),
        names: |session: &Session| {
            let [old, new] = ["OLD", "NEW"].map(|name| session.value(name));
            [ca_name(old), ca_name(new), new.to_owned()]
        },
    };
    rehearsal.run()?;
    shop.nothing_is_wrong()
}

/// The label `secret` is what Envoy has asked for.
fn bundles_have_their_names(shop: &Shop) -> Result<()> {
    let names = [
        ("web", "default", "ROOTCA"),
        ("cart", "spiffe://example.org/cart", "spiffe://example.org"),
        ("pay", "default", "ROOTCA"),
        ("bank", "default", "ALL"),
    ];
    for (name, leaf, bundle) in names {
        let workload = shop.workload(name)?;
        eventually(DEADLINE, || {
            let stats = workload.envoy.stats()?;
            for (metric, secret) in [("mtls_own_issuer", leaf), ("mtls_trust_bundle_ca", bundle)] {
                let labels = [("secret", secret)];
                let of_secret = stats.matching(metric, &labels).map(|series| series.value);
                let sum: f64 = of_secret.sum();
                ensure!(sum == 1.0, "{name}: {metric} of {secret}: {sum}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A node whose agent stands still has the old bundle. What it refuses shuts the gates; once it has the new bundle they
/// open.
fn a_node_that_lags() -> Result<()> {
    let server = Server::start(&Settings::of("rotation::a_node_that_lags"))?;
    let first = server.node("one", &["cart", "pay", "web"], &[])?;
    let second = server.node("two", &["bank"], &[])?;
    let shop = Shop::start(&plans(&server, &first, &second))?;
    second.process.pause()?;
    let old = server.authority("active")?;
    server.command(&["localauthority", "x509", "prepare"])?;
    let new = server.authority("prepared")?;
    let mut rotation = of_authorities(&server, &shop, &old, &new)?;
    // The others have it a moment later.
    eventually(DEADLINE, || {
        let gates = rotation.expect("a bundle lacks the new CA", "n y n n n")?;
        let because = gates.because(1);
        let is_named = |name: &&&str| because.contains(&format!("{name:?}"));
        let named: Vec<_> = MEMBERS.iter().filter(is_named).collect();
        ensure!(named == [&"bank"], "gate 1: {because}");
        Ok(())
    })?;
    shop.nothing_is_wrong()?;

    // On all the same.
    server.command(&["localauthority", "x509", "activate", "-authorityID", &new])?;
    server.command(&["localauthority", "x509", "taint", "-authorityID", &old])?;
    rotation.expect("it signs, and bank refuses", "n n n n n")?;
    ensure!(shop.every_pair().is_err(), "nobody is refused");
    refusals_are_told(&shop)?;

    second.process.resume()?;
    rotation.expect("bank has the new bundle and leaf", "y y y n n")?;
    rotation.recent = MOMENT;
    rotation.expect("the old CA is quiet", "y y y y y")?;
    shop.every_pair()
}

/// By the one that refuses, by the servers that it refuses, and by an alert. In TLS 1.3 a client whose leaf was taken a
/// moment before cannot tell a refusal from a server that dies (docs/handshake-failures.md).
fn refusals_are_told(shop: &Shop) -> Result<()> {
    let refused = [
        ("bank", "inbound", "unknown_ca"),
        ("bank", "outbound", "unknown_ca"),
        ("web", "inbound", "rejected_by_peer"),
    ];
    for (instance, direction, reason) in refused {
        let labels = format!("instance={instance:?}, direction={direction:?}, reason={reason:?}");
        let failures = format!("sum(mtls_handshake_failures_total{{{labels}}}) > 0");
        shop.prometheus
            .wait_for(&failures, |found| found.len() == 1)?;
    }
    let alert = "ALERTS{alertname=\"MtlsCardinalRuleBroken\", alertstate=\"firing\"}";
    shop.prometheus
        .wait_for(alert, |found| !found.is_empty())
        .map(drop)
}

/// A CA of five minutes, whose successor SPIRE prepares and activates by itself, until it has ended. Leaves live for a
/// sixth of that at most, or SPIRE warns. No request fails, no alert fires.
fn by_itself() -> Result<()> {
    let settings = Settings {
        ca_ttl: "5m",
        svid_ttl: "40s",
        ..Settings::of("rotation::by_itself")
    };
    let server = Server::start(&settings)?;
    let first = server.node("one", &["cart", "pay", "web"], &[])?;
    let second = server.node("two", &["bank"], &[])?;
    let shop = Shop::start(&plans(&server, &first, &second))?;
    let old = server.authority("active")?;
    let new = eventually(LONG, || server.authority("prepared"))?;
    let mut rotation = of_authorities(&server, &shop, &old, &new)?;
    rotation.expect("prepared", "y y n n n")?;
    eventually(LONG, || {
        let active = server.authority("active")?;
        ensure!(active == new, "{active} is active, not {new}");
        Ok(())
    })?;
    rotation.expect("active, and all leaves renewed", "y y y n n")?;
    rotation.recent = MOMENT;
    rotation.expect("quiet", "y y y y y")?;
    let ended = format!(
        "max(mtls_own_certificate_not_after_timestamp_seconds{{layer=\"root_ca\", identity=\"{}\"}}) < time() - 10",
        ca_name(&old)
    );
    eventually(LONG, || {
        ensure!(
            !shop.prometheus.query(&ended)?.is_empty(),
            "the old CA has not ended"
        );
        Ok(())
    })?;
    shop.nothing_is_wrong()
}

/// Half of the lifetime of a CA of minutes, and more.
const LONG: std::time::Duration = std::time::Duration::from_secs(200);

fn of_authorities<'a>(
    server: &'a Server,
    shop: &'a Shop,
    old: &str,
    new: &str,
) -> Result<Rotation<'a>> {
    let cas = server.folder().join("cas.pem");
    std::fs::write(&cas, server.command(&["bundle", "show"])?)?;
    let cas = cas.display().to_string();
    let question = [
        "--old",
        &ca_name(old),
        "--new",
        &ca_name(new),
        "--cas",
        &cas,
    ];
    Ok(Rotation {
        server,
        shop,
        members: &MEMBERS,
        new: new.to_owned(),
        question: question.map(str::to_owned).into(),
        recent: HOUR,
    })
}

/// What a CA of SPIRE's is called, by its authority ID.
pub(crate) fn ca_name(authority: &str) -> String {
    format!("SPIFFE:{}", authority.get(..8).unwrap_or(authority))
}
