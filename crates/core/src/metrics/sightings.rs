//! The gauges by identity: the earliest not-after among the certificates of an identity that were
//! in use in the last 15 minutes, in any worker.
//!
//! A gauge holds what was written last, by whichever worker. So the workers keep one record per
//! series in shared data, merge what they saw into it by compare-and-swap, and write what the record
//! says. All write the same, and a worker that dies leaves nothing behind that does not lapse.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::admission::{Admission, Kind, MAX_CAS, OTHER};
use super::counters::{Counter, Handle, Registry};
use super::{Identity, LAST_SEEN, NOT_AFTER, NOT_BEFORE, name};
use crate::hash::{ById, HashMap};
use crate::host::{Host, MetricKind, Shared, TICK};
use crate::terms::Direction;
use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::time::{Seconds, UnixTime};

/// How long a certificate counts after it was last in use: replicas of one identity each connect
/// within it, and a rotated certificate is gone after it. Seconds.
pub const WINDOW: Seconds = Seconds::MINUTE.times(15);

/// Certificates kept per series, those that end first: enough for several replicas in rotation.
const MAX_SIGHTINGS: usize = 8;

/// Attempts at a compare-and-swap. The next tick tries again.
const MAX_ATTEMPTS: usize = 16;

/// A certificate, as far as the gauges go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sighting {
    not_after: UnixTime,
    not_before: UnixTime,
    last_seen: UnixTime,
}

/// The certificates of one series, the one that ends first first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record(Vec<Sighting>);

impl Record {
    #[expect(
        clippy::disallowed_methods,
        reason = "a partition point is at most the length"
    )]
    fn merge(&mut self, seen: Sighting) {
        let same = self
            .0
            .iter_mut()
            .find(|known| known.not_after == seen.not_after && known.not_before == seen.not_before);
        match same {
            Some(known) => known.last_seen = known.last_seen.max(seen.last_seen),
            None => {
                let place = self.0.partition_point(|known| *known < seen);
                self.0.insert(place, seen);
            }
        }
        // First what has lapsed: replicas that were replaced must not keep their successors out.
        self.forget_lapsed(seen.last_seen);
        self.0.truncate(MAX_SIGHTINGS);
    }

    /// Brings back what was seen while the clock was ahead: it was seen by now at the latest.
    fn clamp(&mut self, now: UnixTime) {
        for seen in &mut self.0 {
            seen.last_seen = seen.last_seen.min(now);
        }
    }

    /// Forgets certificates that have not been in use within the window, unless that would leave
    /// nothing: the value that was true last stays, and the time of the last sight tells its age.
    fn forget_lapsed(&mut self, now: UnixTime) {
        let newest = self.0.iter().map(|seen| seen.last_seen).max();
        let start = now.minus(WINDOW).min(newest.unwrap_or(now));
        self.0.retain(|seen| seen.last_seen >= start);
    }

    /// Start and end of the certificate that ends first.
    fn first(&self) -> Option<(UnixTime, UnixTime)> {
        let first = self.0.first()?;
        Some((first.not_before, first.not_after))
    }

    fn encode(&self) -> Vec<u8> {
        let numbers = |seen: &Sighting| [seen.not_after.0, seen.not_before.0, seen.last_seen.0];
        self.0
            .iter()
            .flat_map(numbers)
            .flat_map(i64::to_le_bytes)
            .collect()
    }

    fn decode(bytes: &[u8]) -> Record {
        let entries = bytes.as_chunks().0.as_chunks().0.iter();
        let time = |bytes| UnixTime(i64::from_le_bytes(bytes));
        let sightings = entries.map(|[not_after, not_before, last_seen]| Sighting {
            not_after: time(*not_after),
            not_before: time(*not_before),
            last_seen: time(*last_seen),
        });
        Record(sightings.collect())
    }
}

/// The gauges of one identity at one layer.
pub struct IdentitySeries {
    direction: Direction,
    layer: Layer,
    label: String,
    /// Of the record in shared data.
    key: String,
    seen: RefCell<Record>,
    news: Cell<bool>,
    /// Whether they are of the certificate that ends first.
    urgent: Cell<bool>,
    published: Cell<UnixTime>,
    not_after: Cell<Handle>,
    not_before: Cell<Handle>,
    last_seen: Cell<Handle>,
}

impl IdentitySeries {
    fn new(direction: Direction, layer: Layer, label: &str) -> Self {
        let (side, place) = (direction.as_str(), layer.as_str());
        Self {
            direction,
            layer,
            label: label.to_owned(),
            key: format!("mtls_watch/seen/{side}/{place}/{label}"),
            seen: RefCell::default(),
            news: Cell::default(),
            urgent: Cell::default(),
            published: Cell::default(),
            not_after: Cell::default(),
            not_before: Cell::default(),
            last_seen: Cell::default(),
        }
    }

    /// Notes that a certificate of this identity is in use.
    pub fn saw(&self, not_before: UnixTime, not_after: UnixTime, now: UnixTime) {
        let mut seen = self.seen.borrow_mut();
        let first = seen.first();
        seen.merge(Sighting {
            not_after,
            not_before,
            last_seen: now,
        });
        self.news.set(true);
        self.urgent.set(self.urgent.get() || seen.first() != first);
    }

    /// Publishes what must not wait for the tick: that another certificate ends first. That one more is in
    /// use must not wait for longer than a tick.
    pub fn publish_urgent(&self, host: &dyn Host, registry: &Registry, now: UnixTime) {
        let age = now.since(self.published.get());
        if self.urgent.get() || !(Seconds::ZERO..TICK).contains(&age) {
            self.publish(host, registry, now);
        }
    }

    /// Merges what this worker saw into what all workers saw, and writes the gauges.
    pub fn publish(&self, host: &dyn Host, registry: &Registry, now: UnixTime) {
        self.urgent.set(false);
        self.published.set(now);
        {
            let mut seen = self.seen.borrow_mut();
            seen.clamp(now);
            seen.forget_lapsed(now);
        }
        for _ in 0..MAX_ATTEMPTS {
            let (stored, version) = host.shared(&self.key);
            let stored = Record::decode(&stored.unwrap_or_default());
            let mut record = stored.clone();
            record.clamp(now);
            if self.news.get() {
                for seen in &self.seen.borrow().0 {
                    record.merge(*seen);
                }
            }
            record.forget_lapsed(now);
            if record == stored {
                self.write(host, registry, &record);
                break;
            }
            match host.share(&self.key, &record.encode(), version) {
                // Read again before writing: between here and there another worker may have known
                // better, and whoever writes the gauge last must write what is shared.
                Shared::Stored => self.news.set(false),
                Shared::Conflict => {}
                Shared::Refused => {
                    self.write(host, registry, &record);
                    break;
                }
            }
        }
        self.news.set(false);
    }

    fn write(&self, host: &dyn Host, registry: &Registry, record: &Record) {
        let Some(earliest) = record.0.first() else {
            return;
        };
        let last_seen = record.0.iter().map(|seen| seen.last_seen).max();
        for (metric, handle, value) in [
            (NOT_AFTER, &self.not_after, Some(earliest.not_after)),
            (NOT_BEFORE, &self.not_before, Some(earliest.not_before)),
            (LAST_SEEN, &self.last_seen, last_seen),
        ] {
            let series = || metric.series((self.direction, self.layer, Identity(&self.label)));
            let id = registry.remembered(host, handle, MetricKind::Gauge, series);
            if let (Some(id), Some(value)) = (id, value) {
                host.record(id, value.gauge());
            }
        }
    }
}

/// The gauges of all identities that this worker has met.
pub struct Sightings {
    identities: Admission,
    cas: Admission,
    series: RefCell<HashMap<(Direction, Layer), ByLabel, ById>>,
}

type ByLabel = HashMap<String, Rc<IdentitySeries>>;

impl Sightings {
    /// With at most `identity_series` identities of their own.
    #[must_use]
    pub fn new(identity_series: usize) -> Self {
        // With no identity at all as a label value, a CA's name is none either.
        let cas = if identity_series == 0 { 0 } else { MAX_CAS };
        Self {
            identities: Admission::new(Kind::Identity, identity_series),
            cas: Admission::new(Kind::Ca, cas),
            series: RefCell::default(),
        }
    }

    /// The series of an identity (or CA): its own, or the one of `other` beyond the limit.
    pub fn of(
        &self,
        host: &dyn Host,
        registry: &Registry,
        direction: Direction,
        layer: Layer,
        identity: &str,
    ) -> Rc<IdentitySeries> {
        let identity = &*name::label_value(identity);
        let admission = match layer {
            Layer::Workload => &self.identities,
            _ => &self.cas,
        };
        let label = match admission.admits(host, identity) {
            true => identity,
            false => {
                registry.count(host, Counter::SeriesOverflow);
                OTHER
            }
        };
        let mut series = self.series.borrow_mut();
        let by_label = series.entry((direction, layer)).or_default();
        if let Some(series) = by_label.get(label) {
            return Rc::clone(series);
        }
        let series = Rc::new(IdentitySeries::new(direction, layer, label));
        by_label.insert(label.to_owned(), Rc::clone(&series));
        series
    }

    /// Publishes every series: also those without news, in which a certificate may have lapsed.
    pub fn publish(&self, host: &dyn Host, registry: &Registry, now: UnixTime) {
        for by_label in self.series.borrow().values() {
            for series in by_label.values() {
                series.publish(host, registry, now);
            }
        }
    }
}
