//! Counters over closed sets of labels: their handles are an array, defined at load or on first use.

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher as _;
use std::rc::Rc;

use strum::VariantArray as _;

use super::duplicates::Duplicates;
use super::in_force::{Configuration, InForce};
use super::{
    CONFIGURATION_ERRORS, CONNECTION_FINDINGS, CONNECTIONS, DUPLICATE_PLUGINS, HANDSHAKE_FAILURES,
    HIERARCHY_POLLS, IGNORED_FINDINGS, INFO, INSPECTIONS, PollResult, REMAINING, REQUEST_FINDINGS,
    REQUESTS, ReadResult, SERIES_OVERFLOW, Version,
};
use mtls_watch_x509::time::{Seconds, UnixTime};

use crate::VERSION;
use crate::handshake::{Holder, Reason};
use crate::hash::{HashMap, Keyed};
use crate::host::{Host, MetricId, MetricKind};
use crate::report::Written;
use crate::terms::Source;
use crate::terms::{Direction, Finding, Security, Status};
use mtls_watch_x509::chain::Layer;

/// One series of a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A connection.
    Connection(Direction, Security),
    /// A request.
    Request(Direction, Status),
    /// A finding of a connection.
    ConnectionFinding(Direction, Layer, Finding),
    /// A finding of a request.
    RequestFinding(Direction, Layer, Finding),
    /// A finding that is accepted.
    IgnoredFinding(Direction, Layer, Finding),
    /// A handshake that did not complete, and the layer of the certificate at fault, and whose it is.
    HandshakeFailure(Direction, Option<Layer>, Holder, Reason),
    /// A certificate read.
    Inspection(Source, ReadResult),
    /// A poll of the admin interface.
    HierarchyPoll(PollResult),
    /// An identity or CA folded into `other`.
    SeriesOverflow,
}

const DIRECTIONS: usize = Direction::ALL.len();
const LAYERS: usize = Layer::ALL.len();
const FINDINGS: usize = Finding::ALL.len();
const HOLDERS: usize = Holder::ALL.len();
const REASONS: usize = Reason::ALL.len();
const CONNECTION_SLOTS: usize = DIRECTIONS * Security::ALL.len();
const REQUEST_SLOTS: usize = DIRECTIONS * Status::ALL.len();
const FINDING_SLOTS: usize = DIRECTIONS * LAYERS * FINDINGS;
const FAILURE_SLOTS: usize = DIRECTIONS * (LAYERS + 1) * HOLDERS * REASONS;
const INSPECTION_SLOTS: usize = Source::ALL.len() * ReadResult::VARIANTS.len();

const REQUEST_BASE: usize = CONNECTION_SLOTS;
const CONNECTION_FINDING_BASE: usize = REQUEST_BASE + REQUEST_SLOTS;
const REQUEST_FINDING_BASE: usize = CONNECTION_FINDING_BASE + FINDING_SLOTS;
const IGNORED_FINDING_BASE: usize = REQUEST_FINDING_BASE + FINDING_SLOTS;
const FAILURE_BASE: usize = IGNORED_FINDING_BASE + FINDING_SLOTS;
const INSPECTION_BASE: usize = FAILURE_BASE + FAILURE_SLOTS;
const POLL_BASE: usize = INSPECTION_BASE + INSPECTION_SLOTS;
const OVERFLOW_SLOT: usize = POLL_BASE + PollResult::VARIANTS.len();
const SLOTS: usize = OVERFLOW_SLOT + 1;

impl Counter {
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        reason = "places of enumerations' values; a test goes through all of them"
    )]
    fn slot(self) -> usize {
        let finding = |direction, layer, finding| {
            (direction as usize * LAYERS + layer as usize) * FINDINGS + finding as usize
        };
        match self {
            Self::Connection(direction, security) => {
                direction as usize * Security::ALL.len() + security as usize
            }
            Self::Request(direction, status) => {
                REQUEST_BASE + direction as usize * Status::ALL.len() + status as usize
            }
            Self::ConnectionFinding(direction, layer, found) => {
                CONNECTION_FINDING_BASE + finding(direction, layer, found)
            }
            Self::RequestFinding(direction, layer, found) => {
                REQUEST_FINDING_BASE + finding(direction, layer, found)
            }
            Self::IgnoredFinding(direction, layer, found) => {
                IGNORED_FINDING_BASE + finding(direction, layer, found)
            }
            Self::HandshakeFailure(direction, layer, holder, reason) => {
                let layer = layer.map_or(LAYERS, |layer| layer as usize);
                let row = direction as usize * (LAYERS + 1) + layer;
                FAILURE_BASE + (row * HOLDERS + holder as usize) * REASONS + reason as usize
            }
            Self::Inspection(source, result) => {
                INSPECTION_BASE + source as usize * ReadResult::VARIANTS.len() + result as usize
            }
            Self::HierarchyPoll(result) => POLL_BASE + result as usize,
            Self::SeriesOverflow => OVERFLOW_SLOT,
        }
    }

    fn series(self) -> String {
        match self {
            Self::Connection(direction, security) => CONNECTIONS.series((direction, security)),
            Self::Request(direction, status) => REQUESTS.series((direction, status)),
            Self::ConnectionFinding(direction, layer, finding) => {
                CONNECTION_FINDINGS.series((direction, layer, finding))
            }
            Self::RequestFinding(direction, layer, finding) => {
                REQUEST_FINDINGS.series((direction, layer, finding))
            }
            Self::IgnoredFinding(direction, layer, finding) => {
                IGNORED_FINDINGS.series((direction, layer, finding))
            }
            Self::HandshakeFailure(direction, layer, holder, reason) => {
                HANDSHAKE_FAILURES.series((direction, layer, holder, reason))
            }
            Self::Inspection(source, result) => INSPECTIONS.series((source, result)),
            Self::HierarchyPoll(result) => HIERARCHY_POLLS.series((result,)),
            Self::SeriesOverflow => SERIES_OVERFLOW.series(()),
        }
    }

    /// The counters that exist at 0 from load: a proxy at rest shows what it watches, and that it
    /// does. Findings and issuers appear with their first event.
    fn at_load() -> impl Iterator<Item = Counter> {
        let connections = Direction::ALL.iter().copied().flat_map(|direction| {
            Security::ALL
                .iter()
                .copied()
                .map(move |security| Counter::Connection(direction, security))
        });
        let requests = Direction::ALL.iter().copied().flat_map(|direction| {
            Status::ALL
                .iter()
                .copied()
                // A client that is refused makes no request.
                .filter(move |status| {
                    direction == Direction::Outbound || *status != Status::Refused
                })
                .map(move |status| Counter::Request(direction, status))
        });
        let inspections = Source::ALL.iter().copied().flat_map(|source| {
            let results = ReadResult::VARIANTS.iter().copied();
            results.map(move |result| Counter::Inspection(source, result))
        });
        let polls = PollResult::VARIANTS
            .iter()
            .copied()
            .map(Counter::HierarchyPoll);
        connections
            .chain(requests)
            .chain(inspections)
            .chain(polls)
            .chain([Counter::SeriesOverflow])
    }
}

/// The handle of a series, once it has been asked for.
#[derive(Clone, Copy, Default)]
pub enum Handle {
    /// It has not.
    #[default]
    Unknown,
    /// It is this.
    Defined(MetricId),
    /// The host refused once: it is not asked again on every event.
    Refused,
}

impl Handle {
    fn id(self) -> Option<MetricId> {
        match self {
            Handle::Defined(id) => Some(id),
            _ => None,
        }
    }
}

/// The handles of all metrics of one VM. Envoy gives a new handle for every definition and keeps all
/// of them, so each name is defined once per VM, however often plugins are configured.
pub struct Registry {
    counters: Vec<Cell<Handle>>,
    remaining_inbound: Cell<Handle>,
    remaining_outbound: Cell<Handle>,
    named: RefCell<HashMap<String, Handle>>,
    /// What this VM knows of other plugins in its place.
    pub duplicates: Duplicates,
    in_force: InForce,
    /// What the filters of this VM have logged lately.
    pub lines: Rc<Written>,
    inspectors: Cell<u64>,
    /// Tells this VM from the others of the proxy.
    vm: u64,
    /// Whether a filter of this VM has ever seen a connection or a request. That of Envoy's main thread never does.
    pub has_traffic: Cell<bool>,
    pub(super) heartbeat: Heartbeat,
}

/// The handles of the gauges that tell whether VMs are alive.
#[derive(Default)]
pub(super) struct Heartbeat {
    pub(super) last_tick: Cell<Handle>,
    pub(super) workers: Cell<Handle>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            counters: vec![Cell::default(); SLOTS],
            remaining_inbound: Cell::default(),
            remaining_outbound: Cell::default(),
            named: RefCell::default(),
            lines: Rc::default(),
            duplicates: Duplicates::default(),
            in_force: InForce::default(),
            inspectors: Cell::default(),
            vm: Keyed::default().hash_one(0u8),
            has_traffic: Cell::default(),
            heartbeat: Heartbeat::default(),
        }
    }
}

impl Registry {
    /// A number that no other VM of the proxy has.
    pub(super) fn vm(&self) -> u64 {
        self.vm
    }

    /// Defines what exists from load on. The configuration that is loaded has so many errors.
    pub fn define_at_load(&self, host: &dyn Host, configuration_errors: usize) {
        for counter in Counter::at_load() {
            self.counter_id(host, counter);
        }
        self.record(host, MetricKind::Gauge, INFO.series((Version(VERSION),)), 1);
        self.in_force.loaded(configuration_errors);
        self.record_errors(host, configuration_errors);
    }

    /// A configuration ticks: tells how many errors those in force have, if that has changed.
    pub fn publish_errors(&self, host: &dyn Host, ticking: Configuration, now: UnixTime) {
        if let Some(errors) = self.in_force.ticked(ticking, now) {
            self.record_errors(host, errors);
        }
    }

    fn record_errors(&self, host: &dyn Host, errors: usize) {
        let errors = u64::try_from(errors).unwrap_or(u64::MAX);
        let series = CONFIGURATION_ERRORS.series(());
        self.record(host, MetricKind::Gauge, series, errors);
    }

    /// Sets the gauge that tells of other plugins in this place. It does not exist before the first is seen.
    pub fn publish_duplicates(&self, host: &dyn Host, now: UnixTime) {
        if let Some(present) = self.duplicates.are_present(host, now) {
            let series = DUPLICATE_PLUGINS.series(());
            self.record(host, MetricKind::Gauge, series, present.into());
        }
    }

    /// A number for a new inspector of this VM.
    pub fn next_inspector(&self) -> u64 {
        let next = self.inspectors.get().wrapping_add(1);
        self.inspectors.set(next);
        next
    }

    /// Adds one.
    pub fn count(&self, host: &dyn Host, counter: Counter) {
        if let Some(id) = self.counter_id(host, counter) {
            host.increment(id);
        }
    }

    /// Adds a leaf's remaining lifetime to its histogram; expired counts as 0.
    pub fn remaining(&self, host: &dyn Host, direction: Direction, left: Seconds) {
        let handle = match direction {
            Direction::Inbound => &self.remaining_inbound,
            Direction::Outbound => &self.remaining_outbound,
        };
        let series = || REMAINING.series((direction,));
        let id = self.remembered(host, handle, MetricKind::Histogram, series);
        if let Some(id) = id {
            host.record(id, left.gauge());
        }
    }

    /// The same as [`Registry::named`], for a caller that remembers the handle: the name is not even
    /// made again.
    pub fn remembered(
        &self,
        host: &dyn Host,
        handle: &Cell<Handle>,
        kind: MetricKind,
        series: impl FnOnce() -> String,
    ) -> Option<MetricId> {
        if matches!(handle.get(), Handle::Unknown) {
            let id = self.named(host, kind, series());
            handle.set(id.map_or(Handle::Refused, Handle::Defined));
        }
        handle.get().id()
    }

    /// Handle of a series that is not of a closed set; the caller bounds how many there are.
    pub fn named(&self, host: &dyn Host, kind: MetricKind, series: String) -> Option<MetricId> {
        if let Some(handle) = self.named.borrow().get(&series) {
            return handle.id();
        }
        let handle = define(host, kind, &series);
        self.named.borrow_mut().insert(series, handle);
        handle.id()
    }

    fn record(&self, host: &dyn Host, kind: MetricKind, series: String, value: u64) {
        if let Some(id) = self.named(host, kind, series) {
            host.record(id, value);
        }
    }

    fn counter_id(&self, host: &dyn Host, counter: Counter) -> Option<MetricId> {
        let cell = self.counters.get(counter.slot())?;
        if matches!(cell.get(), Handle::Unknown) {
            cell.set(define(host, MetricKind::Counter, &counter.series()));
        }
        cell.get().id()
    }
}

fn define(host: &dyn Host, kind: MetricKind, series: &str) -> Handle {
    host.define_metric(kind, series)
        .map_or(Handle::Refused, Handle::Defined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn all() -> Vec<Counter> {
        let mut all: Vec<Counter> = Counter::at_load().collect();
        all.push(Counter::Request(Direction::Inbound, Status::Refused));
        for &direction in Direction::ALL {
            for layer in Layer::ALL.iter().copied().map(Some).chain([None]) {
                for &holder in Holder::ALL {
                    for &reason in Reason::ALL {
                        all.push(Counter::HandshakeFailure(direction, layer, holder, reason));
                    }
                }
            }
            for &layer in Layer::ALL {
                for &finding in Finding::ALL {
                    all.push(Counter::ConnectionFinding(direction, layer, finding));
                    all.push(Counter::RequestFinding(direction, layer, finding));
                    all.push(Counter::IgnoredFinding(direction, layer, finding));
                }
            }
        }
        all
    }

    #[test]
    fn every_counter_has_a_slot_and_a_name_of_its_own() {
        let slots: HashSet<usize> = all().into_iter().map(Counter::slot).collect();
        let names: HashSet<String> = all().into_iter().map(Counter::series).collect();
        assert_eq!((slots.len(), names.len()), (SLOTS, SLOTS));
        assert!(slots.iter().all(|slot| *slot < SLOTS));
    }

    #[test]
    fn a_proxy_at_rest_costs_at_most_60_series() {
        assert!(Counter::at_load().count() < 60);
    }
}
