//! What the sidecars say of a refusal: its reason and count in their series, peer and hint in their
//! logs.
//!
//! As with the peers, the cases have their turns one after another: what is counted and logged
//! during a turn belongs to its case.

use anyhow::{Result, ensure};
use testbed::Stats;
use testbed::progress::{Progress, check_interrupt, was_interrupted};
use testbed::stats::{DEADLINE, Series, eventually};

use super::cases::Case;
use super::logfmt;
use super::refusal::{ATTEMPTS, Refusal, Report};
use crate::mesh::Mesh;

const FAILURES: &str = "mtls_handshake_failures_total";

/// A case and what was seen of it.
pub struct Turn<'a> {
    /// The case.
    pub case: &'a Case,
    /// One of each kind.
    pub refusals: Vec<Refusal>,
}

impl<'a> Turn<'a> {
    /// Gives `case` its turn. What is not seen in time is missing.
    ///
    /// # Errors
    /// If nothing was refused, or the demo was interrupted.
    pub fn of(mesh: &Mesh, case: &'a Case, progress: &Progress) -> Result<Self> {
        progress.step(&format!("refusal of {}: {}", case.name, case.about))?;
        let before = scrape(mesh)?;
        for _ in 0..ATTEMPTS {
            case.attempt(mesh)?;
        }
        let mut refusals = Vec::new();
        let seen = eventually(DEADLINE, || {
            if was_interrupted() {
                return Ok(());
            }
            let after = scrape(mesh)?;
            let both = before.iter().zip(&after);
            refusals = both
                .flat_map(|(before, after)| after.since(before))
                .collect();
            let counted: u64 = refusals.iter().map(|refusal| refusal.count).sum();
            ensure!(counted == ATTEMPTS, "{counted} of {ATTEMPTS} counted");
            let logged = refusals.iter().all(|refusal| refusal.report.is_some());
            ensure!(logged, "not logged");
            Ok(())
        });
        check_interrupt()?;
        if let Err(error) = seen {
            progress.step(&format!("going on without it: {error:#}"))?;
        }
        Ok(Self { case, refusals })
    }
}

fn scrape(mesh: &Mesh) -> Result<Vec<Scrape>> {
    let sidecars = mesh.sidecars().into_iter();
    let scrape = sidecars.map(|sidecar| {
        Ok(Scrape {
            stats: sidecar.envoy.stats()?,
            log: sidecar.envoy.log(),
        })
    });
    scrape.collect()
}

/// What one sidecar says at one time.
struct Scrape {
    stats: Stats,
    log: String,
}

impl Scrape {
    fn since(&self, before: &Scrape) -> Vec<Refusal> {
        let news = self.log.get(before.log.len()..).unwrap_or_default();
        // The last line may be half written.
        let news = news.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let series = self.stats.matching(FAILURES, &[]);
        let refusals = series.map(|series| refusal(series, &before.stats, news));
        refusals.filter(|refusal| refusal.count > 0).collect()
    }
}

fn refusal(series: &Series, before: &Stats, log: &str) -> Refusal {
    let labels = ["direction", "layer", "reason"].map(|key| (key, series.label(key)));
    let [direction, layer, reason] = labels.map(|(_, value)| value.to_owned());
    Refusal {
        direction,
        layer,
        reason,
        count: (series.value - before.sum(FAILURES, &labels)) as u64,
        series: series.to_string(),
        report: log.lines().find_map(|line| report(line, &labels)),
    }
}

/// What a log line says, if it has these fields.
fn report(line: &str, fields: &[(&str, &str)]) -> Option<Report> {
    let said = logfmt::refusal(line)?;
    let has = |(key, value): &(&str, &str)| said.get(key).is_some_and(|said| said == value);
    let who = said.get("identity").or_else(|| said.get("address"))?;
    fields.iter().all(has).then_some(Report {
        who: who.clone(),
        hint: said.get("hint")?.clone(),
        line: line.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD_SERIES: &str =
        r#"mtls_handshake_failures_total{direction="inbound",layer="none",reason="not_tls"} 2"#;
    const NEW_SERIES: &str =
        r#"mtls_handshake_failures_total{direction="inbound",layer="workload",reason="expired"} 3"#;
    const OLD_LINE: &str = r#"mtls-watch: handshake refused direction=inbound reason=expired layer=workload identity="old" hint="x""#;
    const NEW_LINE: &str = r#"mtls-watch: handshake refused direction=inbound reason=expired layer=workload identity="new" address="a:1" hint="renew it""#;

    fn scrape(series: &[&str], lines: &[&str]) -> Result<Scrape> {
        Ok(Scrape {
            stats: Stats::parse(&series.join("\n"))?,
            log: lines.iter().map(|line| format!("{line}\n")).collect(),
        })
    }

    #[test]
    fn what_is_counted_and_logged_since_belongs_together() -> Result<()> {
        let before = scrape(&[OLD_SERIES], &[OLD_LINE])?;
        let lines = [OLD_LINE, "another line", NEW_LINE];
        let after = scrape(&[OLD_SERIES, NEW_SERIES], &lines)?;
        let expected = Refusal {
            direction: "inbound".to_owned(),
            layer: "workload".to_owned(),
            reason: "expired".to_owned(),
            count: 3,
            series: NEW_SERIES.to_owned(),
            report: Some(Report {
                who: "new".to_owned(),
                hint: "renew it".to_owned(),
                line: NEW_LINE.to_owned(),
            }),
        };
        assert_eq!(after.since(&before), [expected]);
        Ok(())
    }

    #[test]
    fn what_is_not_logged_is_unexplained() -> Result<()> {
        let before = scrape(&[], &[])?;
        let mut after = scrape(&[OLD_SERIES], &[NEW_LINE])?;
        assert_eq!(after.since(&before)[0].report, None);
        after = scrape(&[NEW_SERIES], &[NEW_LINE])?;
        // Half a line.
        after.log.pop();
        assert_eq!(after.since(&before)[0].report, None);
        Ok(())
    }
}
