//! A workload whose leaf is no longer renewed.

use anyhow::{Context, Result, ensure};
use testbed::Stats;
use testbed::pki::{Lifetime, now};

use crate::Drill;
use crate::authority::Authority;
use crate::mesh::NAMES;
use crate::safe_order::day;
use crate::story::wait_until;

const NOT_AFTER: &str = "mtls_own_certificate_not_after_timestamp_seconds";
const NOT_BEFORE: &str = "mtls_own_certificate_not_before_timestamp_seconds";
const FINDINGS: &str = "mtls_own_findings";
const ROTATIONS: &str = "mtls_own_rotations_total";
const PEERS: &str = "mtls_connection_findings_total";

const LEAF: [(&str, &str); 2] = [("layer", "workload"), ("secret", "default")];
const BELOW_HALF: [(&str, &str); 2] = [("layer", "workload"), ("finding", "expires_warning")];

/// Two minutes, of which 45 s are over: half of it is reached 15 s later.
fn short() -> Lifetime {
    Lifetime::from_now(-45, 75)
}

/// Two minutes that begin now.
fn fresh() -> Lifetime {
    Lifetime::from_now(0, 120)
}

/// All three have short leaves. Those of web and cart are renewed before half of the lifetime; pay's is not.
pub fn run(drill: &mut Drill, issuer: &Authority) -> Result<()> {
    drill
        .story
        .chapter("Part 3: a workload that is no longer renewed")?;
    let mark = drill.load.mark();
    drill
        .story
        .tell("all get leaves for two minutes, to be renewed at half of it")?;
    let lifetime = short();
    renew(drill, &NAMES, issuer, lifetime)?;
    for name in NAMES {
        let sidecar = drill.mesh.sidecar(name)?;
        wait_until("the short leaf is seen", || {
            let end = sidecar.stats()?.value(NOT_AFTER, &LEAF);
            ensure!(end == Some(lifetime.not_after as f64), "{name}: {end:?}");
            Ok(())
        })?;
    }
    let rotations = |drill: &Drill| -> Result<Vec<f64>> {
        let sidecars = drill.mesh.sidecars().iter();
        sidecars
            .map(|sidecar| Ok(sidecar.stats()?.sum(ROTATIONS, &[])))
            .collect()
    };
    let before = rotations(drill)?;
    renew(drill, &["web", "cart"], issuer, fresh())?;
    drill.story.tell("web and cart are renewed; pay is not")?;

    let pay = drill.mesh.sidecar("pay")?;
    let half = (lifetime.not_before + lifetime.not_after) / 2;
    let ((series, ratio), _) = wait_until("pay's leaf is found to be stalled", || {
        let stats = pay.stats()?;
        let mut found = stats.matching(FINDINGS, &BELOW_HALF);
        let series = found
            .find(|series| series.value > 0.0)
            .context("no finding")?;
        Ok((series.to_string(), remaining(&stats)?))
    })?;
    let seconds = now() - half;
    ensure!(ratio < 0.5, "pay's leaf has {ratio} of its lifetime left");
    drill.story.tell(&format!(
        "{seconds} s after half of the lifetime of pay's leaf has passed, {:.0} % are left and this series appears:",
        100.0 * ratio
    ))?;
    drill.story.quote(&series)?;
    drill
        .story
        .holds("the stalled leaf of pay is found before it expires")?;

    only_pay_stalls(drill, &before, &rotations(drill)?)?;
    renew(drill, &NAMES, issuer, day())?;
    drill
        .story
        .tell("pay is renewed, and all get leaves for a day again")?;
    let pay = drill.mesh.sidecar("pay")?;
    wait_until("the finding goes", || {
        let left = pay.stats()?.sum(FINDINGS, &BELOW_HALF);
        ensure!(left == 0.0, "{left}");
        Ok(())
    })?;
    drill.story.holds("the finding is gone")?;
    drill.no_request_fails(&mark)
}

fn renew(drill: &Drill, names: &[&str], issuer: &Authority, lifetime: Lifetime) -> Result<()> {
    for name in names {
        drill.mesh.sidecar(name)?.renew(issuer, lifetime)?;
    }
    Ok(())
}

/// The share of its lifetime that the own leaf has left, as the query of docs/hierarchy.md has it.
fn remaining(stats: &Stats) -> Result<f64> {
    let end = stats.value(NOT_AFTER, &LEAF).context("no end")?;
    let begin = stats.value(NOT_BEFORE, &LEAF).context("no beginning")?;
    Ok((end - now() as f64) / (end - begin))
}

fn only_pay_stalls(drill: &mut Drill, before: &[f64], after: &[f64]) -> Result<()> {
    let renewed = before
        .iter()
        .zip(after)
        .map(|(before, after)| after - before);
    let renewed: Vec<f64> = renewed.collect();
    ensure!(
        renewed == [1.0, 1.0, 0.0],
        "rotations of {NAMES:?}: {renewed:?}"
    );
    for name in ["web", "cart"] {
        let found = drill
            .mesh
            .sidecar(name)?
            .stats()?
            .sum(FINDINGS, &BELOW_HALF);
        ensure!(found == 0.0, "{name}: {found} findings");
    }
    drill.story.holds(&format!(
        "web and cart have none: {ROTATIONS} went up there, and not at pay"
    ))?;
    let met = |drill: &Drill| -> Result<f64> {
        Ok(drill.mesh.sidecar("web")?.stats()?.sum(PEERS, &BELOW_HALF))
    };
    ensure!(met(drill)? > 0.0, "web has not met pay's leaf");
    drill
        .story
        .holds(&format!("the peers see it, too: web has it in {PEERS}"))
}
