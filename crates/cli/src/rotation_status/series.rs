//! The samples of a scrape, read by the catalogue of metrics.

use exposition::Sample;
use mtls_watch_core::metrics::{INFO, Metric};
use mtls_watch_x509::time::UnixTime;

/// The label value of all CAs and secrets beyond the module's limit.
pub(super) const FOLDED: &str = "other";
/// How a CA is called of which Envoy tells the serial number only.
const NAMELESS: &str = "serial:";
/// No certificate of a CA ends later than this after now, but by addition: fifty years.
const REASON: i64 = 50 * 365 * 86_400;

/// The samples of a metric of the catalogue.
pub(super) fn of<'a, L>(
    samples: &'a [Sample],
    metric: &'a Metric<L>,
) -> impl Iterator<Item = &'a Sample> {
    named(samples, metric.description.name)
}

/// The samples of a metric.
pub(super) fn named<'a>(samples: &'a [Sample], name: &'a str) -> impl Iterator<Item = &'a Sample> {
    samples.iter().filter(move |sample| sample.name == name)
}

/// Whether a label value is no CA's name.
pub(super) fn nameless(ca: &str) -> bool {
    ca.starts_with(NAMELESS) || ca == FOLDED
}

/// The value as a time.
pub(super) fn time(sample: &Sample) -> Option<UnixTime> {
    let value = sample.value;
    value.is_finite().then_some(UnixTime(value as i64))
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is.
    Here,
    /// One of two processes has it: Envoy restarts, and adds the gauges of the old one to its own.
    Unsure,
    /// It is no longer.
    Gone,
}

/// How many processes' gauges are added in this scrape: two while Envoy restarts without closing its
/// listeners (hot restart), for up to 15 minutes, else one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processes(f64);

impl Processes {
    /// Told by the gauge that is 1 in each.
    pub(super) fn of(samples: &[Sample]) -> Self {
        let info = of(samples, &INFO).map(|sample| sample.value);
        Self(info.fold(1.0, f64::max))
    }

    /// Of a gauge that is 1 while something is there.
    pub(super) fn presence(self, value: f64) -> Presence {
        if value >= self.0 {
            Presence::Here
        } else if value > 0.0 {
            Presence::Unsure
        } else {
            Presence::Gone
        }
    }

    /// A date, which may be the sum of two.
    pub(super) fn date(self, sample: &Sample, now: UnixTime) -> Option<UnixTime> {
        let date = time(sample)?;
        let is_sum = self.0 > 1.0 && date.since(now).0 > REASON;
        Some(match is_sum {
            true => UnixTime((sample.value / self.0) as i64),
            false => date,
        })
    }
}

/// A row of `mtls_own_certificate_present`.
pub(super) struct Row<'a> {
    pub(super) layer: &'a str,
    pub(super) secret: &'a str,
    pub(super) identity: &'a str,
    pub(super) certificate: Option<&'a str>,
    pub(super) presence: Presence,
}

impl<'a> Row<'a> {
    pub(super) fn new(sample: &'a Sample, processes: Processes) -> Option<Self> {
        Some(Self {
            layer: sample.find_label("layer")?,
            secret: sample.find_label("secret")?,
            identity: sample.find_label("identity")?,
            certificate: sample.find_label("certificate"),
            presence: processes.presence(sample.value),
        })
    }

    pub(super) fn is_ca(&self) -> bool {
        self.layer != "workload"
    }
}
