//! The rotation as it must not be done: a CA that signs before it is trusted.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use testbed::stats::eventually;

use crate::alert::CARDINAL_RULE;
use crate::authority::{Authority, label};
use crate::mesh::{NAMES, Sidecar};
use crate::safe_order::day;
use crate::status::Status;
use crate::story::{DEADLINE, wait_until};
use crate::{Drill, ENOUGH_REQUESTS};
use testbed::load::{Failure, Mark};

const FAILURES: &str = "mtls_handshake_failures_total";
const UNKNOWN_CA: [(&str, &str); 2] = [("direction", "inbound"), ("reason", "unknown_ca")];
const LOG_LINE: &str = "mtls-watch: handshake refused direction=inbound reason=unknown_ca";

/// The issuer gets a new key, and signs with it a leaf for cart before any bundle has its root.
pub fn run(drill: &mut Drill, trusted: &Authority, rekeyed: &Authority) -> Result<()> {
    drill.story.chapter("Part 2: the wrong order")?;
    let status = drill.status(trusted, rekeyed)?;
    drill.story.tell(
        "the issuer gets a new key under its old name, below a new root that nobody trusts yet",
    )?;
    drill.gate_is_closed(&status, 1, &NAMES)?;
    drill
        .story
        .tell("nobody asks gate 1: cart gets a leaf of it")?;
    let mark = drill.load.mark();
    let switched = Instant::now();
    drill.mesh.sidecar("cart")?.renew(rekeyed, day())?;

    proxy_tells(drill, switched, rekeyed)?;
    alert_fires(drill, switched)?;
    command_names_it(drill, &status, switched, rekeyed)?;
    alert_names_web(drill)?;
    way_back(drill, &mark, trusted)?;
    drill.gate_opens(&status, 2)
}

fn proxy_tells(drill: &mut Drill, switched: Instant, rekeyed: &Authority) -> Result<()> {
    let web = drill.mesh.sidecar("web")?;
    let series = eventually(DEADLINE, || {
        let stats = web.stats()?;
        let mut found = stats.matching(FAILURES, &UNKNOWN_CA);
        let first = found.next().map(ToString::to_string);
        first.context("no failure is counted")
    })?;
    let counted = switched.elapsed().as_secs_f32();
    let line = logged(web)?;
    let logged = switched.elapsed().as_secs_f32();
    let name = rekeyed.issuing_name();
    ensure!(
        line.contains(&format!("issuer=\"{name}\"")),
        "{name} is not named: {line}"
    );
    let story = &mut drill.story;
    story.tell("web refuses cart, and counts it:")?;
    story.quote(&series)?;
    story.holds(&format!(
        "the series has appeared {counted:.1} s after the switch"
    ))?;
    story.tell("web's log says who, by which CA, and what to do:")?;
    story.quote(&line)?;
    story.holds(&format!(
        "the log has named {name} {logged:.1} s after the switch"
    ))
}

fn alert_fires(drill: &mut Drill, switched: Instant) -> Result<()> {
    let Some(alerts) = &drill.alerts else {
        return Ok(());
    };
    eventually(DEADLINE, || alerts.cardinal_rule("web"))?;
    let seconds = switched.elapsed().as_secs_f32();
    drill.story.holds(&format!(
        "the alert {CARDINAL_RULE} has fired {seconds:.1} s after the switch (scraped and evaluated every second)"
    ))
}

fn command_names_it(
    drill: &mut Drill,
    status: &Status,
    switched: Instant,
    rekeyed: &Authority,
) -> Result<()> {
    drill.gate_is_closed(status, 2, &NAMES)?;
    let seconds = switched.elapsed().as_secs_f32();
    let answer = status.ask(2)?;
    let (named, name) = (answer.blocking_cas(2), label(rekeyed.issuing_name()));
    ensure!(
        named.contains(name.as_str()),
        "gate 2 names {named:?}, not {name}"
    );
    drill.story.holds(&format!(
        "the command has named {name} {seconds:.1} s after the switch"
    ))
}

/// The alert is of a workload: which CA signs is in the log, and in the query of its runbook.
fn alert_names_web(drill: &mut Drill) -> Result<()> {
    let Some(alerts) = &drill.alerts else {
        return Ok(());
    };
    let (text, _) = wait_until("the alert names web", || {
        let text = alerts.cardinal_rule("web")?;
        ensure!(text.contains("web"), "{text}");
        Ok(text)
    })?;
    drill.story.tell("by now the alert says:")?;
    drill.story.quote(&text)?;
    drill.story.holds("the alert names web, which refuses; which CA signs is in the log and in the runbook's query")
}

/// The log line of the refused client, without Envoy's prefix.
fn logged(sidecar: &Sidecar) -> Result<String> {
    let line = sidecar.envoy.wait_for_log(LOG_LINE)?;
    let at = line.find(LOG_LINE).unwrap_or(0);
    Ok(line[at..].to_owned())
}

/// Issues from the trusted CA again; waits until all is well.
fn way_back(drill: &mut Drill, mark: &Mark, trusted: &Authority) -> Result<()> {
    drill.mesh.sidecar("cart")?.renew(trusted, day())?;
    let switched = Instant::now();
    drill
        .story
        .tell("roll back: cart gets a leaf of the trusted CA again")?;
    wait_until("no request fails any more", || {
        let since = drill.load.mark();
        eventually(DEADLINE, || {
            ensure!(
                drill.load.least_sent(&since) >= ENOUGH_REQUESTS,
                "too few requests"
            );
            Ok(())
        })?;
        let failures = drill.load.failures(&since);
        ensure!(failures.is_empty(), "{}", failures[0]);
        Ok(())
    })?;
    let failures = drill.load.failures(mark);
    let concerns_cart = |failure: &&Failure| failure.caller == "cart" || failure.called == "cart";
    let (of_cart, others): (Vec<_>, Vec<_>) = failures.iter().partition(concerns_cart);
    ensure!(
        others.is_empty(),
        "web and pay trust each other: {}",
        others[0]
    );
    let first = of_cart
        .first()
        .context("no request to or from cart failed")?;
    let last = of_cart
        .iter()
        .map(|failure| failure.at)
        .max()
        .unwrap_or(switched);
    drill
        .story
        .tell("the callers got to see no more than this, for example:")?;
    drill.story.quote(&first.to_string())?;
    drill.expected_failures = failures.len();
    drill.story.holds(&format!(
        "{} requests failed, all to or from cart; the last one {:.1} s after the rollback",
        failures.len(),
        last.saturating_duration_since(switched).as_secs_f32()
    ))
}
