//! When remaining time is flagged.

use mtls_watch_x509::time::Seconds;

use super::Layer;

/// Thresholds of every layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    workload: Threshold,
    issuing_ca: Threshold,
    intermediate_ca: Threshold,
    root_ca: Threshold,
}

impl Thresholds {
    /// The thresholds of one layer.
    #[must_use]
    pub const fn of(&self, layer: Layer) -> &Threshold {
        match layer {
            Layer::Workload => &self.workload,
            Layer::IssuingCa => &self.issuing_ca,
            Layer::IntermediateCa => &self.intermediate_ca,
            Layer::RootCa => &self.root_ca,
        }
    }

    pub(crate) fn of_mut(&mut self, layer: Layer) -> &mut Threshold {
        match layer {
            Layer::Workload => &mut self.workload,
            Layer::IssuingCa => &mut self.issuing_ca,
            Layer::IntermediateCa => &mut self.intermediate_ca,
            Layer::RootCa => &mut self.root_ca,
        }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            workload: Threshold::days_or_share((21, 2500), (7, 1250)),
            issuing_ca: Threshold::days_or_share((30, 1600), (7, 800)),
            intermediate_ca: Threshold::days_or_share((60, 1600), (30, 800)),
            root_ca: Threshold::days_or_share((180, 1600), (90, 800)),
        }
    }
}

/// Warning and critical thresholds of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    pub(crate) warning: Bounds,
    pub(crate) critical: Bounds,
}

impl Threshold {
    const fn days_or_share(warning: (i64, i64), critical: (i64, i64)) -> Self {
        Self {
            warning: Bounds::days_or_share(warning),
            critical: Bounds::days_or_share(critical),
        }
    }

    /// Warning and critical threshold for a certificate with that lifetime.
    /// Critical never exceeds warning, also where the two are bounded in different ways.
    #[must_use]
    pub fn of_lifetime(&self, lifetime: Seconds) -> (Seconds, Seconds) {
        let warning = self.warning.smallest(lifetime);
        (warning, self.critical.smallest(lifetime).min(warning))
    }
}

/// A list of bounds of which the smallest counts. Of each kind only the smallest matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) duration: Option<Seconds>,
    /// Hundredths of a percent of the lifetime.
    pub(crate) share: Option<i64>,
}

impl Bounds {
    const fn days_or_share((days, share): (i64, i64)) -> Self {
        Self {
            duration: Some(Seconds::DAY.times(days)),
            share: Some(share),
        }
    }

    fn smallest(&self, Seconds(lifetime): Seconds) -> Seconds {
        let share = self.share.map(|share| {
            // Rounded up: less than 21599.75 s is less than 21600 s.
            let (whole, rest) = (lifetime.div_euclid(10_000), lifetime.rem_euclid(10_000));
            let rest = rest.saturating_mul(share).saturating_add(9999) / 10_000;
            Seconds(whole.saturating_mul(share).saturating_add(rest))
        });
        [self.duration, share]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_default()
    }

    pub(crate) fn add(&mut self, bound: Bound) {
        match bound {
            Bound::Duration(duration) => keep_smallest(&mut self.duration, duration),
            Bound::Share(share) => keep_smallest(&mut self.share, share),
        }
    }

    pub(crate) fn exceeds(&self, other: &Bounds) -> bool {
        is_more(self.duration, other.duration) || is_more(self.share, other.share)
    }
}

fn keep_smallest<T: Copy + Ord>(known: &mut Option<T>, value: T) {
    *known = Some(known.map_or(value, |smallest| smallest.min(value)));
}

fn is_more<T: Ord>(a: Option<T>, b: Option<T>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a > b)
}

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    Duration(Seconds),
    Share(i64),
}

impl Bound {
    pub(crate) fn parse(text: &str) -> Option<Bound> {
        match text.strip_suffix('%') {
            Some(number) => parse_hundredths(number).map(Bound::Share),
            None => parse_duration(text).map(Bound::Duration),
        }
    }
}

/// Reads a duration: `90s`, `30m`, `36h`, `21d`; `None` for any other text.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Seconds> {
    let unit = match text.chars().next_back()? {
        's' => Seconds::ONE,
        'm' => Seconds::MINUTE,
        'h' => Seconds::HOUR,
        'd' => Seconds::DAY,
        _ => return None,
    };
    let (number, _) = text.split_at_checked(text.len().checked_sub(1)?)?;
    parse_digits(number)?.checked_mul(unit.0).map(Seconds)
}

/// `12.5` in hundredths: 1250. At most 100, at most two decimals.
fn parse_hundredths(text: &str) -> Option<i64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let decimals = match decimals.len() {
        1 => parse_digits(decimals)?.checked_mul(10)?,
        2 => parse_digits(decimals)?,
        _ => return None,
    };
    let hundredths = parse_digits(whole)?
        .checked_mul(100)?
        .checked_add(decimals)?;
    (hundredths <= 10_000).then_some(hundredths)
}

fn parse_digits(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}
