//! The samples of a scrape, read by the catalogue of metrics.

use exposition::Sample;
use mtls_watch_core::metrics::{INFO, Metric};
use mtls_watch_x509::time::UnixTime;

/// The label value of all CAs and secrets beyond the module's limit.
pub(crate) const FOLDED: &str = "other";
/// How a CA is called of which Envoy tells the serial number only.
const NAMELESS: &str = "serial:";
/// No certificate of a CA ends later than this after now, but by addition: fifty years.
const REASON: i64 = 50 * 365 * 86_400;

/// The samples of a metric of the catalogue.
pub(crate) fn of<'a, L>(
    samples: &'a [Sample],
    metric: &'a Metric<L>,
) -> impl Iterator<Item = &'a Sample> {
    named(samples, metric.description.name)
}

/// The samples of a metric.
pub(crate) fn named<'a>(samples: &'a [Sample], name: &'a str) -> impl Iterator<Item = &'a Sample> {
    samples.iter().filter(move |sample| sample.name == name)
}

/// Whether a label value is no CA's name.
pub(crate) fn nameless(ca: &str) -> bool {
    ca.starts_with(NAMELESS) || ca == FOLDED
}

/// The value as a time.
pub(crate) fn time(sample: &Sample) -> Option<UnixTime> {
    let value = sample.value;
    value.is_finite().then_some(UnixTime(value as i64))
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
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
pub(crate) struct Processes(f64);

impl Processes {
    /// Told by the gauge that is 1 in each.
    pub(crate) fn of(samples: &[Sample]) -> Self {
        let info = of(samples, &INFO).map(|sample| sample.value);
        Self(info.fold(1.0, f64::max))
    }

    /// Of a gauge that is 1 while something is there.
    pub(crate) fn presence(self, value: f64) -> Presence {
        if value >= self.0 {
            Presence::Here
        } else if value > 0.0 {
            Presence::Unsure
        } else {
            Presence::Gone
        }
    }

    /// A date, which may be the sum of two.
    pub(crate) fn date(self, sample: &Sample, now: UnixTime) -> Option<UnixTime> {
        let date = time(sample)?;
        let is_sum = self.0 > 1.0 && date.since(now).0 > REASON;
        Some(match is_sum {
            true => UnixTime((sample.value / self.0) as i64),
            false => date,
        })
    }
}

/// A row of `mtls_own_certificate_present`.
pub(crate) struct Row<'a> {
    pub(crate) layer: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) identity: &'a str,
    pub(crate) certificate: Option<&'a str>,
    pub(crate) presence: Presence,
}

impl<'a> Row<'a> {
    pub(crate) fn new(sample: &'a Sample, processes: Processes) -> Option<Self> {
        Some(Self {
            layer: sample.find_label("layer")?,
            secret: sample.find_label("secret")?,
            identity: sample.find_label("identity")?,
            certificate: sample.find_label("certificate"),
            presence: processes.presence(sample.value),
        })
    }

    pub(crate) fn is_ca(&self) -> bool {
        self.layer != "workload"
    }
}
