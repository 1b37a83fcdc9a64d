//! Handshakes that the module has seen fail, at all proxies.

use std::time::Duration;

use exposition::Sample;
use mtls_watch_core::handshake::{Holder, Reason};
use mtls_watch_core::metrics::HANDSHAKE_FAILURES;

use super::Mesh;
use crate::clock::{seconds, span};
use crate::diagnose::cure;
use crate::diagnose::line::{Line, Mark, Said, Step};
use crate::mesh::store::{BY_PROXY, key, name};
use crate::prometheus::{Prometheus, QueryError};
use crate::terminal::counted;

/// Labels of a failure.
const LABELS: [&str; 4] = ["direction", "layer", "holder", "reason"];

/// What was counted.
pub(super) struct Failures {
    watched: Duration,
    /// Since the proxies started, and of late, and at how many proxies: the label `what`.
    counted: Vec<Sample>,
    /// The proxy with most of each, of late.
    examples: Vec<Sample>,
}

impl Failures {
    pub(super) fn ask(prometheus: &Prometheus<'_>, watched: Duration) -> Result<Self, QueryError> {
        let failures = HANDSHAKE_FAILURES.description.name;
        let by = LABELS.join(", ");
        let before = format!("{failures} offset {}s", watched.as_secs());
        // A proxy that has restarted counts from 0, and a series that is new has gone up by what it has.
        let lately = format!("({failures} - {before} >= 0 or {failures}) > 0");
        let of_proxies = format!("sum by ({BY_PROXY}, {by}) ({lately})");
        let labelled = |what: &str, expression: &str| {
            format!("label_replace({expression}, \"what\", \"{what}\", \"\", \"\")")
        };
        let counted = [
            labelled("total", &format!("sum by ({by}) ({failures} > 0)")),
            labelled("lately", &format!("sum by ({by}) ({of_proxies})")),
            labelled("proxies", &format!("count by ({by}) ({of_proxies})")),
        ];
        let examples = format!("topk by ({by}) (1, {of_proxies})");
        let [counted, examples] = prometheus.query([&counted.join(" or "), &examples])?;
        Ok(Self {
            watched,
            counted,
            examples,
        })
    }

    /// What step 5 says.
    pub(super) fn said(&self, mesh: &Mesh<'_>) -> Said {
        let totals = self.counted.iter();
        let totals = totals.filter(|sample| sample.label("what") == "total");
        let mut lines: Vec<Line> = totals.map(|total| self.line(mesh, total)).collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.mark));
        let watched = span(seconds(self.watched).0);
        let summary = match lines.iter().any(|line| line.mark == Mark::Broken) {
            true => format!("handshakes have failed in the last {watched}"),
            false => format!("nothing has failed in the last {watched}"),
        };
        Said {
            step: Step::Counters,
            summary,
            lines,
        }
    }

    fn line(&self, mesh: &Mesh<'_>, total: &Sample) -> Line {
        let same = |it: &&Sample| {
            LABELS
                .iter()
                .all(|label| it.label(label) == total.label(label))
        };
        let of = |what: &'static str| {
            let mut counted = self.counted.iter().filter(same);
            let count = counted.find(|sample| sample.label("what") == what);
            count.map_or(0.0, |count| count.value)
        };
        let lately = of("lately");
        let labels = LABELS.map(|label| format!("{label}={:?}", total.label(label)));
        let counter = format!(
            "{}{{{}}}",
            HANDSHAKE_FAILURES.description.name,
            labels.join(",")
        );
        let reason = Reason::ALL.iter().copied();
        let reason = reason
            .clone()
            .find(|it| it.as_str() == total.label("reason"));
        let meaning = reason.map_or("handshakes that failed", Reason::meaning);
        if lately == 0.0 {
            let text = format!("{counter} {}: {meaning}", total.value);
            return Line::new(Mark::Note, text);
        }
        let example = self.examples.iter().find(same).map(key);
        let named = example.as_ref().map(name).unwrap_or_default();
        let text = format!(
            "{counter} {}, {lately} of them in the last {}, at {}, most at {named}: {meaning}",
            total.value,
            span(seconds(self.watched).0),
            counted(of("proxies") as usize, "proxy", "proxies")
        );
        let holder = Holder::ALL.iter().copied();
        let holder = holder
            .clone()
            .find(|it| it.as_str() == total.label("holder"));
        let line = Line::new(Mark::Broken, text);
        match reason {
            Some(reason) => {
                let target = mesh.target(&named, example.as_ref());
                line.word(reason.as_str())
                    .cure(cure::of_failure(reason, holder, &target))
            }
            None => line,
        }
    }
}
