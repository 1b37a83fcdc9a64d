//! The gauges by identity: the earliest not-after among the certificates of an identity that were
//! in use in the last 15 minutes, in any worker.
//!
//! A gauge holds what was written last, by whichever worker. So the workers keep one record per
//! series in shared data, merge what they saw into it by compare-and-swap, and write what the record
//! says. All write the same, and a worker that dies leaves nothing behind that does not lapse.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::admission::{self, Kind, MAX_CAS, OTHER};
use super::counters::{Counter, Handle, Registry};
use super::{LAST_SEEN, NOT_AFTER, NOT_BEFORE, name};
use crate::chain::Layer;
use crate::host::{Host, MetricKind, Shared};
use crate::policy::Direction;
use crate::time::UnixTime;

/// How long a certificate counts after it was last in use: replicas of one identity each connect
/// within it, and a rotated certificate is gone after it. Seconds.
pub const WINDOW: i64 = 15 * 60;

/// Certificates kept per series, those that end first: enough for several replicas in rotation.
const MAX_SIGHTINGS: usize = 8;

/// Attempts at a compare-and-swap. The next tick tries again.
const MAX_ATTEMPTS: usize = 16;

const ENTRY_BYTES: usize = 3 * size_of::<i64>();

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

    fn encode(&self) -> Vec<u8> {
        let numbers = |seen: &Sighting| [seen.not_after.0, seen.not_before.0, seen.last_seen.0];
        self.0
            .iter()
            .flat_map(numbers)
            .flat_map(i64::to_le_bytes)
            .collect()
    }

    fn decode(bytes: &[u8]) -> Record {
        let number = |bytes: &[u8], index: usize| {
            let start = index.saturating_mul(size_of::<i64>());
            let bytes = bytes.get(start..)?.first_chunk()?;
            Some(UnixTime(i64::from_le_bytes(*bytes)))
        };
        let sighting = |entry: &[u8]| {
            Some(Sighting {
                not_after: number(entry, 0)?,
                not_before: number(entry, 1)?,
                last_seen: number(entry, 2)?,
            })
        };
        Record(
            bytes
                .chunks_exact(ENTRY_BYTES)
                .filter_map(sighting)
                .collect(),
        )
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
    not_after: Cell<Handle>,
    not_before: Cell<Handle>,
    last_seen: Cell<Handle>,
}

impl IdentitySeries {
    /// Notes that a certificate of this identity is in use.
    pub fn saw(&self, not_before: UnixTime, not_after: UnixTime, now: UnixTime) {
        self.seen.borrow_mut().merge(Sighting {
            not_after,
            not_before,
            last_seen: now,
        });
        self.news.set(true);
    }

    /// Merges what this worker saw into what all workers saw, and writes the gauges.
    pub fn publish(&self, host: &dyn Host, registry: &Registry, now: UnixTime) {
        self.seen.borrow_mut().clamp(now);
        self.seen.borrow_mut().forget_lapsed(now);
        for _ in 0..MAX_ATTEMPTS {
            let (stored, version) = host.shared(&self.key);
            let stored = stored.unwrap_or_default();
            let mut record = Record::decode(&stored);
            record.clamp(now);
            if self.news.get() {
                for seen in &self.seen.borrow().0 {
                    record.merge(*seen);
                }
            }
            record.forget_lapsed(now);
            let bytes = record.encode();
            if bytes == stored {
                self.write(host, registry, &record);
                break;
            }
            match host.share(&self.key, &bytes, version) {
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
            let labels = [self.direction.as_str(), self.layer.as_str(), &self.label];
            let series = || metric.series(&labels);
            let id = registry.remembered(host, handle, MetricKind::Gauge, series);
            if let (Some(id), Some(value)) = (id, value) {
                host.record(id, value.gauge());
            }
        }
    }
}

/// The gauges of all identities that this worker has met.
pub struct Sightings {
    identity_series: usize,
    series: RefCell<HashMap<(Direction, Layer, String), Rc<IdentitySeries>>>,
}

impl Sightings {
    /// With at most `identity_series` identities of their own.
    #[must_use]
    pub fn new(identity_series: usize) -> Self {
        Self {
            identity_series,
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
        if let Some(series) = self.find(direction, layer, identity) {
            return series;
        }
        let (kind, limit) = match layer {
            Layer::Workload => (Kind::Identity, self.identity_series),
            // With no identity at all as a label value, a CA's name is none either.
            _ if self.identity_series == 0 => (Kind::Ca, 0),
            _ => (Kind::Ca, MAX_CAS),
        };
        let admitted = admission::admit(host, kind, identity, limit);
        if !admitted {
            registry.count(host, Counter::SeriesOverflow);
        }
        let label = if admitted { identity } else { OTHER };
        self.find(direction, layer, label).unwrap_or_else(|| {
            let series = Rc::new(IdentitySeries {
                direction,
                layer,
                label: label.to_owned(),
                key: format!(
                    "mtls_watch/seen/{}/{}/{label}",
                    direction.as_str(),
                    layer.as_str()
                ),
                seen: RefCell::default(),
                news: Cell::new(false),
                not_after: Cell::default(),
                not_before: Cell::default(),
                last_seen: Cell::default(),
            });
            self.series
                .borrow_mut()
                .insert((direction, layer, label.to_owned()), Rc::clone(&series));
            series
        })
    }

    /// Publishes every series: also those without news, in which a certificate may have lapsed.
    pub fn publish(&self, host: &dyn Host, registry: &Registry, now: UnixTime) {
        let all: Vec<_> = self.series.borrow().values().cloned().collect();
        for series in all {
            series.publish(host, registry, now);
        }
    }

    fn find(&self, direction: Direction, layer: Layer, label: &str) -> Option<Rc<IdentitySeries>> {
        let key = (direction, layer, label.to_owned());
        self.series.borrow().get(&key).cloned()
    }
}
