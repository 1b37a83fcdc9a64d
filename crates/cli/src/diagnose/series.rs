//! All proxies of a Prometheus in the same steps, as far as the module's series tell.

mod failures;

use std::time::Duration;

use exposition::Sample;
use mtls_watch_core::handshake::{Holder, Reason};
use mtls_watch_core::terms::{Finding, Layer, Thresholds};
use mtls_watch_x509::time::{Seconds, UnixTime};

use self::failures::Failures;
use super::cure;
use super::handshake::Refused;
use super::line::{Line, Mark, Said, Step, count, end, of_dates};
use super::report::{OfStep, OfTarget, Report};
use super::target::{Origin, Pod, Seen, Target};
use crate::mesh::cardinal::objections;
use crate::mesh::fleet::Fleet;
use crate::mesh::questions::Answers;
use crate::mesh::store::{self, Dates, Key, Moment, Store, current, key, name};
use crate::mesh::verdict::Verdict;
use crate::prometheus::{Prometheus, QueryError, at_once};
use crate::terminal::counted;

/// A CA that was met within this time is in use, and what was read longer ago than [`STALE`] is unknown: as in
/// rotation-status.
const RECENT: Seconds = Seconds(3600);
const STALE: Seconds = Seconds(300);
/// Prometheus scrapes a proxy now and then: in less than this there may be one scrape only.
const OBSERVED: Duration = Duration::from_secs(300);

const UNTOLD: &str = "no proxy tells of what it holds";

/// What is known of all proxies.
struct Mesh<'a> {
    url: &'a str,
    fleet: &'a Fleet,
    store: &'a Store,
    answers: &'a Answers,
    failures: &'a Failures,
    thresholds: &'a Thresholds,
}

/// What the series of a Prometheus tell; of handshakes, what failed within `watch`.
///
/// # Errors
/// [`QueryError`].
pub(super) fn report(
    prometheus: &Prometheus<'_>,
    watch: Option<Duration>,
    thresholds: &Thresholds,
    now: UnixTime,
) -> Result<Report, QueryError> {
    let watch = watch.unwrap_or_default().max(OBSERVED);
    let moment = Moment {
        now,
        recent: RECENT,
        stale: STALE,
    };
    let (others, store) = at_once(
        || {
            let answers = Answers::ask(prometheus)?;
            Ok::<_, QueryError>((answers, Failures::ask(prometheus, watch)?))
        },
        || store::read(prometheus, watch, &moment),
    );
    let ((answers, failures), store) = (others?, store?);
    let fleet = Fleet::new(store.proxies(&moment), &[], moment.now, moment.recent);
    let mesh = Mesh {
        url: prometheus.url(),
        fleet: &fleet,
        store: &store,
        answers: &answers,
        failures: &failures,
        thresholds,
    };
    let steps = [
        mesh.expiry(),
        mesh.chain(),
        mesh.names(),
        mesh.usage(),
        mesh.failures.said(&mesh),
    ];
    let target = OfTarget {
        target: format!(
            "{} ({} with the module)",
            mesh.url,
            counted(mesh.count(), "proxy", "proxies")
        ),
        identities: Vec::new(),
        steps: steps.iter().map(OfStep::from).collect(),
    };
    Ok(Report::new(vec![target], Vec::new(), now))
}

/// Whether a finding is of the dates of a CA. The step shows each of those once, and not for each proxy.
fn is_of_dates(layer: Option<Layer>, finding: Finding) -> bool {
    let of_secrets = [
        Finding::RotationRejected,
        Finding::SecretWarming,
        Finding::CrlExpiring,
    ];
    layer != Some(Layer::Workload) && !of_secrets.contains(&finding)
}

impl Mesh<'_> {
    /// Whether any proxy tells of what it holds.
    fn tells(&self) -> bool {
        self.fleet.proxies.iter().any(|proxy| proxy.blind.is_none())
    }

    fn count(&self) -> usize {
        self.store.kinds.iter().map(|kind| kind.members.len()).sum()
    }

    fn expiry(&self) -> Said {
        let fleet = self.fleet;
        let mut lines = self.own(|layer, finding| {
            Step::of(finding) == Step::Expiry && !is_of_dates(layer, finding)
        });
        let mut cas: Vec<&str> = self.store.dates.iter().map(|it| it.ca.as_str()).collect();
        cas.dedup();
        for ca in cas {
            let dates = current(ca, &fleet.proxies, &self.store.dates);
            lines.extend(dates.iter().map(|dates| self.dated(dates)));
        }
        lines.sort_by_key(|line| (std::cmp::Reverse(line.mark), line.at));
        lines.extend(self.unseen());
        let summary = of_dates(&lines, fleet.now, "no CA was seen");
        Said {
            step: Step::Expiry,
            summary,
            lines,
        }
    }

    /// A certificate of a CA, by its dates.
    fn dated(&self, dates: &Dates) -> Line {
        let fleet = self.fleet;
        let now = fleet.now;
        let holders = self.under(&dates.ca);
        let under: usize = holders.iter().map(|(_, count)| count).sum();
        let trusting = fleet.proxies.iter();
        let trusting = trusting.filter(|proxy| proxy.has_in_bundle(&dates.ca) == Some(true));
        let trusting: usize = trusting.map(|proxy| proxy.count).sum();
        let layer = dates.layer();
        let text = format!(
            "{} {} {}; proxies with leaves under it: {under}, with it in a bundle: {trusting}",
            words(layer),
            dates.ca,
            end(dates.not_after, now)
        );
        let finding = dates.finding(now, self.thresholds);
        let mark = match finding {
            None => Mark::Ok,
            Some(_) if under == 0 && trusting == 0 => Mark::Note,
            Some(Finding::Expired | Finding::NotYetValid) if under > 0 => Mark::Broken,
            Some(_) => Mark::Warning,
        };
        let line = Line::new(mark, text).layer(layer).at(dates.not_after);
        match (finding, holders.first()) {
            (Some(finding), first) if mark > Mark::Unseen => {
                let target = self.target(first.map_or(self.url, |(name, _)| name), None);
                let layer = layer.unwrap_or(Layer::IssuingCa);
                line.word(finding.as_str())
                    .cure(cure::of_finding(finding, layer, &target))
            }
            _ => line,
        }
    }

    /// The proxies with a leaf under a CA: names of kinds, and how many are of each.
    fn under(&self, ca: &str) -> Vec<(&str, usize)> {
        let fleet = self.fleet;
        let proxies = fleet.proxies.iter().filter(|proxy| {
            let mut chains = proxy.chains.iter();
            chains.any(|it| !fleet.is_foreign(proxy, it) && fleet.stands_under(it, ca))
        });
        proxies
            .map(|proxy| (proxy.name.as_str(), proxy.count))
            .collect()
    }

    fn chain(&self) -> Said {
        let objections = objections(self.fleet, &[]);
        let mut lines: Vec<Line> = objections
            .iter()
            .filter_map(|reason| {
                let proxy = reason.proxy.as_deref().unwrap_or(self.url);
                let text = format!("{proxy}: {}", reason.what);
                match reason.verdict {
                    Verdict::Open => None,
                    Verdict::Unknown => Some(Line::new(Mark::Unseen, text)),
                    Verdict::Closed => {
                        let judge = self.target(proxy, None);
                        let refused = Refused {
                            reason: Reason::UnknownCa,
                            layer: None,
                            holder: Holder::Own,
                            by_name: false,
                            detail: String::new(),
                        };
                        let line = Line::new(Mark::Broken, text).word(Reason::UnknownCa.as_str());
                        Some(line.cure(cure::of_refusal(&refused, &judge, &judge)))
                    }
                }
            })
            .collect();
        lines.extend(self.own(|_, finding| Step::of(finding) == Step::Chain));
        let signs = self.fleet.signatures().next().is_some();
        let is_open = objections
            .iter()
            .all(|reason| reason.verdict == Verdict::Open);
        if signs && is_open {
            lines.push(Line::new(
                Mark::Ok,
                "whatever is signed is trusted by every proxy",
            ));
        }
        lines.sort_by_key(|line| std::cmp::Reverse(line.mark));
        let broken = count(&lines, Mark::Broken);
        Said {
            step: Step::Chain,
            summary: match broken {
                0 if signs && is_open => "whatever is signed is trusted by every proxy".to_owned(),
                0 => "it is not known whether all that is signed is trusted".to_owned(),
                broken => counted(broken, "fault", "faults"),
            },
            lines,
        }
    }

    fn names(&self) -> Said {
        let mut lines = self.own(|_, finding| Step::of(finding) == Step::Names);
        let members = self.store.kinds.iter().flat_map(|kind| &kind.members);
        let identities = members.flat_map(|member| member.identities.values());
        let domains = identities.filter_map(|it| mtls_watch_x509::spiffe::trust_domain(it));
        let domains: std::collections::BTreeSet<&str> = domains.collect();
        let domains: Vec<&str> = domains.into_iter().collect();
        let summary = match (domains.is_empty(), lines.len()) {
            (_, faults @ 1..) => format!("{faults} kinds of faults"),
            (true, _) if !self.tells() => UNTOLD.to_owned(),
            (true, _) => "no leaf with a SPIFFE ID was seen".to_owned(),
            (false, _) => format!("trust domains: {}", domains.join(", ")),
        };
        match (self.tells(), domains.is_empty()) {
            (false, _) => lines.push(Line::new(Mark::Unseen, UNTOLD)),
            (true, true) => {}
            (true, false) => {
                let text = format!("trust domains: {}", domains.join(", "));
                lines.push(Line::new(Mark::Ok, text));
            }
        }
        let text =
            "the series do not tell which names a proxy asks for: diagnose it by its pod or URL";
        lines.push(Line::new(Mark::Note, text));
        Said {
            step: Step::Names,
            summary,
            lines,
        }
    }

    fn usage(&self) -> Said {
        let mut lines = self.own(|_, finding| Step::of(finding) == Step::Usage);
        let faults = lines.iter().filter(|line| line.mark > Mark::Unseen).count();
        let (mark, sound) = match self.tells() {
            true => (Mark::Ok, "no usage is missing in what the proxies hold"),
            false => (Mark::Unseen, UNTOLD),
        };
        if faults == 0 {
            lines.push(Line::new(mark, sound));
        }
        Said {
            step: Step::Usage,
            summary: match faults {
                0 => sound.to_owned(),
                faults => counted(faults, "fault", "faults"),
            },
            lines,
        }
    }

    /// Lines about findings of the proxies' own certificates.
    fn own(&self, is_wanted: impl Fn(Option<Layer>, Finding) -> bool) -> Vec<Line> {
        let counted = self.answers.own.iter();
        let counted = counted.filter(|sample| sample.label("what") == "proxies");
        let mut lines: Vec<Line> = counted
            .filter_map(|sample| {
                let finding = Finding::from_name(sample.label("finding"))?;
                let mut layers = Layer::ALL.iter().copied();
                let layer = layers.find(|layer| layer.as_str() == sample.label("layer"));
                is_wanted(layer, finding).then(|| self.found(sample, layer, finding))
            })
            .collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.mark));
        lines
    }

    fn found(&self, sample: &Sample, layer: Option<Layer>, finding: Finding) -> Line {
        let same = |it: &&Sample| {
            ["layer", "finding"]
                .iter()
                .all(|label| it.label(label) == sample.label(label))
        };
        let first = self.answers.examples.iter().find(same).map(key);
        let more = match sample.value as usize {
            0 | 1 => String::new(),
            all => format!(" and {} more", all.saturating_sub(1)),
        };
        let named = first.as_ref().map_or_else(|| self.url.to_owned(), name);
        let text = format!(
            "{named}{more}: {} {}: {}",
            words(layer),
            finding.as_str(),
            finding.hint()
        );
        let target = self.target(&named, first.as_ref());
        let mark = Mark::of_finding(finding);
        let line = Line::new(mark, text).word(finding.as_str()).layer(layer);
        match finding {
            _ if mark <= Mark::Unseen => line,
            Finding::RotationRejected => line.cure(cure::of_rejected(&target)),
            Finding::SecretWarming => line.cure(cure::of_missing(&target)),
            finding => {
                let layer = layer.unwrap_or(Layer::IssuingCa);
                line.cure(cure::of_finding(finding, layer, &target))
            }
        }
    }

    /// Proxies of which nothing is known.
    fn unseen(&self) -> Vec<Line> {
        let blind = self.fleet.proxies.iter();
        let blind = blind.filter_map(|proxy| Some((&proxy.name, proxy.blind?)));
        let mut lines: Vec<Line> = blind
            .map(|(name, blind)| Line::new(Mark::Unseen, format!("{name}: {}", blind.as_str())))
            .collect();
        let without = self.answers.coverage.iter();
        let without = without.filter(|sample| sample.label("what") == "without");
        let without: f64 = without.map(|sample| sample.value).sum();
        if without > 0.0 {
            let text = format!("proxies without mtls-watch, of which nothing is known: {without}");
            lines.push(Line::new(Mark::Unseen, text));
        }
        lines
    }

    /// A proxy as a target, for what leads to its cure: a pod where the scrape tells which.
    fn target(&self, name: &str, key: Option<&Key>) -> Target {
        let pod = key.and_then(|[_, namespace, pod, _]| {
            let options = match namespace.as_str() {
                "" => Vec::new(),
                namespace => vec![format!("--namespace={namespace}")],
            };
            (!pod.is_empty()).then(|| Pod {
                name: pod.clone(),
                options,
            })
        });
        Target {
            name: name.to_owned(),
            origin: pod.map_or_else(|| Origin::Series(self.url.to_owned()), Origin::Pod),
            contexts: Vec::new(),
            served: Seen::not("the series do not tell"),
            counters: Seen::not("the series do not tell"),
            missing: Vec::new(),
            unseen: Vec::new(),
        }
    }
}

/// A layer as people read it.
const fn words(layer: Option<Layer>) -> &'static str {
    match layer {
        Some(Layer::Workload) => "leaf",
        Some(Layer::IssuingCa) => "issuing CA",
        Some(Layer::IntermediateCa) => "intermediate CA",
        Some(Layer::RootCa) => "root CA",
        None => "CA",
    }
}
