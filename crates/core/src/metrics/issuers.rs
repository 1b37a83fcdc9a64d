//! Series by the CA that signed the peers' leaves.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::admission::{Admission, Kind, MAX_CAS, OTHER};
use super::counters::{Counter, Handle, Registry};
use super::{CONNECTIONS_BY_ISSUER, ISSUER_LAST_SEEN, Issuer, name};
use crate::hash::HashMap;
use crate::host::{Host, MetricKind, Shared};
use crate::terms::Direction;
use mtls_watch_x509::Certificate;
use mtls_watch_x509::time::UnixTime;

/// Names of the CAs that signed leaves of accepted peers, for all workers, one a line; those of sane
/// length and without control characters. At most
/// [`MAX_CAS`] are admitted, so it stays short.
const KNOWN_CAS: &str = "mtls_watch/known_cas";

/// Attempts at a compare-and-swap. A name that is missed is remembered at its next certificate.
const MAX_ATTEMPTS: usize = 16;

/// The CAs whose certificates this proxy has accepted, in any worker.
pub fn known_cas(host: &dyn Host) -> Vec<String> {
    let names = host.shared(KNOWN_CAS).0.unwrap_or_default();
    String::from_utf8_lossy(&names)
        .lines()
        .map(str::to_owned)
        .collect()
}

fn remember(host: &dyn Host, ca: &str) {
    if ca.len() > name::MAX_VALUE_BYTES || ca.contains(char::is_control) {
        return;
    }
    for _ in 0..MAX_ATTEMPTS {
        let (names, version) = host.shared(KNOWN_CAS);
        let mut names = names.unwrap_or_default();
        if names
            .split(|byte| *byte == b'\n')
            .any(|name| name == ca.as_bytes())
        {
            return;
        }
        names.extend_from_slice(ca.as_bytes());
        names.push(b'\n');
        if host.share(KNOWN_CAS, &names, version) != Shared::Conflict {
            return;
        }
    }
}

/// The series of one CA as issuer of peers' leaves.
pub struct IssuerSeries {
    direction: Direction,
    label: String,
    last_seen: Cell<UnixTime>,
    published: Cell<UnixTime>,
    connections: Cell<Handle>,
    gauge: Cell<Handle>,
}

impl IssuerSeries {
    /// Counts a connection of a peer whose leaf this CA signed.
    pub fn count_connection(&self, host: &dyn Host, registry: &Registry) {
        let series = || CONNECTIONS_BY_ISSUER.series((self.direction, Issuer(&self.label)));
        let id = registry.remembered(host, &self.connections, MetricKind::Counter, series);
        if let Some(id) = id {
            host.increment(id);
        }
    }

    /// Notes that a leaf of this CA was in use at a time. What was noted while the clock was ahead of
    /// `now` does not count.
    pub fn saw(&self, last_seen: UnixTime, now: UnixTime) {
        let known = Some(self.last_seen.get()).filter(|known| *known <= now);
        self.last_seen
            .set(known.map_or(last_seen, |known| known.max(last_seen)));
    }

    /// Writes the gauge, if it has changed.
    pub fn publish(&self, host: &dyn Host, registry: &Registry) {
        let last_seen = self.last_seen.get();
        if last_seen == self.published.get() {
            return;
        }
        self.published.set(last_seen);
        let series = || ISSUER_LAST_SEEN.series((self.direction, Issuer(&self.label)));
        let id = registry.remembered(host, &self.gauge, MetricKind::Gauge, series);
        if let Some(id) = id {
            host.record(id, last_seen.gauge());
        }
    }
}

/// All issuers that this worker has met.
pub struct Issuers {
    admission: Admission,
    inbound: Known,
    outbound: Known,
}

/// Those of one direction.
#[derive(Default)]
struct Known {
    series: RefCell<HashMap<String, Rc<IssuerSeries>>>,
    /// The leaf that it met last, and whose series that was: nearly all are signed by one CA.
    latest: Cell<Option<(Certificate, Rc<IssuerSeries>)>>,
}

impl Known {
    fn find(&self, label: &str) -> Option<Rc<IssuerSeries>> {
        self.series.borrow().get(label).cloned()
    }
}

impl Default for Issuers {
    fn default() -> Self {
        Self {
            admission: Admission::new(Kind::Ca, MAX_CAS),
            inbound: Known::default(),
            outbound: Known::default(),
        }
    }
}

impl Issuers {
    /// The series of the CA that signed a leaf: its own, or the one of `other` beyond the limit.
    pub fn of(
        &self,
        host: &dyn Host,
        registry: &Registry,
        direction: Direction,
        leaf: &Certificate,
    ) -> Rc<IssuerSeries> {
        let latest = &self.known(direction).latest;
        let latest_leaf = latest.take();
        let (known, series) = match latest_leaf.filter(|(known, _)| known.has_issuer_of(leaf)) {
            Some(same) => same,
            None => {
                let series = self.look_up(host, registry, direction, &leaf.issuer_ca());
                // That one is counted each time.
                if series.label == OTHER {
                    return series;
                }
                (leaf.clone(), series)
            }
        };
        latest.set(Some((known, Rc::clone(&series))));
        series
    }

    fn known(&self, direction: Direction) -> &Known {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    fn look_up(
        &self,
        host: &dyn Host,
        registry: &Registry,
        direction: Direction,
        full_name: &str,
    ) -> Rc<IssuerSeries> {
        let ca = &*name::label_value(full_name);
        let known = self.known(direction);
        if let Some(series) = known.find(ca) {
            return series;
        }
        let admitted = self.admission.admits(host, ca);
        match admitted {
            true => remember(host, full_name),
            false => registry.count(host, Counter::SeriesOverflow),
        }
        let label = if admitted { ca } else { OTHER };
        known.find(label).unwrap_or_else(|| {
            let series = Rc::new(IssuerSeries {
                direction,
                label: label.to_owned(),
                last_seen: Cell::new(UnixTime::default()),
                published: Cell::new(UnixTime::default()),
                connections: Cell::default(),
                gauge: Cell::default(),
            });
            known
                .series
                .borrow_mut()
                .insert(label.to_owned(), Rc::clone(&series));
            series
        })
    }

    /// Writes the gauges that have news.
    pub fn publish(&self, host: &dyn Host, registry: &Registry) {
        for known in [&self.inbound, &self.outbound] {
            for series in known.series.borrow().values() {
                series.publish(host, registry);
            }
        }
    }
}
