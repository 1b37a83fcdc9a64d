//! The gauges by identity: the earliest not-after among the certificates that an identity presents, of those
//! that were in use in the last 15 minutes, in any worker.
//!
//! A gauge holds what was written last, by whichever worker. So the workers keep one record per
//! series in shared data, merge what they saw into it by compare-and-swap, and write what the record
//! says. All write the same, and a worker that dies leaves nothing behind that does not lapse.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::admission::{Admission, Kind, MAX_CAS, OTHER};
use super::counters::{Counter, Handle, Registry};
use super::presence::{Record, Sighting};
use super::{Identity, LAST_SEEN, NOT_AFTER, NOT_BEFORE, name};
use crate::hash::{ById, HashMap};
use crate::host::{Host, MetricKind, Shared, TICK};
use crate::terms::Direction;
use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::time::{Seconds, UnixTime};

/// Attempts at a compare-and-swap. The next tick tries again.
const MAX_ATTEMPTS: usize = 16;

/// The gauges of one identity at one layer.
pub struct IdentitySeries {
    direction: Direction,
    layer: Layer,
    label: String,
    /// Of the record in shared data.
    key: String,
    seen: RefCell<Record>,
    /// As the record in shared data was last.
    shared: Cell<Record>,
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
            key: format!("mtls_watch/presence/{side}/{place}/{label}"),
            seen: RefCell::default(),
            shared: Cell::default(),
            news: Cell::default(),
            urgent: Cell::default(),
            published: Cell::default(),
            not_after: Cell::default(),
            not_before: Cell::default(),
            last_seen: Cell::default(),
        }
    }

    /// Notes that a certificate of this identity is in use.
    pub fn saw(&self, seen: Sighting) {
        let now = seen.last_seen;
        let mut record = self.seen.borrow_mut();
        let first = record.first(now).map(validity);
        record.merge(seen);
        self.news.set(true);
        let changed = record.first(now).map(validity) != first;
        self.urgent.set(self.urgent.get() || changed);
    }

    /// Whether the instance that presented it has since presented another one, to any worker.
    pub fn is_superseded(&self, seen: &Sighting) -> bool {
        let record = self.shared.take();
        let superseded = record.is_superseded(seen);
        self.shared.set(record);
        superseded
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
                for seen in self.seen.borrow().sightings() {
                    record.merge(*seen);
                }
            }
            record.forget_lapsed(now);
            if record == stored {
                self.write(host, registry, record, now);
                break;
            }
            match host.share(&self.key, &record.encode(), version) {
                // Read again before writing: between here and there another worker may have known
                // better, and whoever writes the gauge last must write what is shared.
                Shared::Stored => self.news.set(false),
                Shared::Conflict => {}
                Shared::Refused => {
                    self.write(host, registry, record, now);
                    break;
                }
            }
        }
        self.news.set(false);
    }

    fn write(&self, host: &dyn Host, registry: &Registry, record: Record, now: UnixTime) {
        let first = record.first(now).map(validity);
        let last_seen = record.last_seen(now);
        self.shared.set(record);
        let Some((not_before, not_after)) = first else {
            return;
        };
        for (metric, handle, value) in [
            (NOT_AFTER, &self.not_after, Some(not_after)),
            (NOT_BEFORE, &self.not_before, Some(not_before)),
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

/// Start and end.
fn validity(seen: &Sighting) -> (UnixTime, UnixTime) {
    (seen.not_before, seen.not_after)
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
        // The name of a CA has the digits of its key.
        let (identity, admission) = match layer {
            Layer::Workload => (name::identity_value(identity), &self.identities),
            _ => (name::label_value(identity), &self.cas),
        };
        let identity = &*identity;
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
