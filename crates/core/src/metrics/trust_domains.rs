//! Connections by the SPIFFE trust domain of the peer: who is federated with whom.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::admission::{Admission, Kind, MAX_TRUST_DOMAINS, OTHER};
use super::counters::{Counter, Handle, Registry};
use super::{CONNECTIONS_BY_TRUST_DOMAIN, TrustDomain, name};
use crate::hash::HashMap;
use crate::host::{Host, MetricKind};
use crate::terms::Direction;

/// The series of one trust domain.
pub struct TrustDomainSeries {
    direction: Direction,
    label: String,
    connections: Cell<Handle>,
}

impl TrustDomainSeries {
    /// Counts a connection of a peer of this domain.
    pub fn count_connection(&self, host: &dyn Host, registry: &Registry) {
        let labels = (self.direction, TrustDomain(&self.label));
        let series = || CONNECTIONS_BY_TRUST_DOMAIN.series(labels);
        let id = registry.remembered(host, &self.connections, MetricKind::Counter, series);
        if let Some(id) = id {
            host.increment(id);
        }
    }
}

/// All trust domains that this worker has met.
pub struct TrustDomains {
    admission: Admission,
    inbound: Known,
    outbound: Known,
}

type Known = RefCell<HashMap<String, Rc<TrustDomainSeries>>>;

impl Default for TrustDomains {
    fn default() -> Self {
        Self {
            admission: Admission::new(Kind::TrustDomain, MAX_TRUST_DOMAINS),
            inbound: Known::default(),
            outbound: Known::default(),
        }
    }
}

impl TrustDomains {
    /// The series of a domain: its own, or the one of `other` beyond the limit.
    pub fn of(
        &self,
        host: &dyn Host,
        registry: &Registry,
        direction: Direction,
        domain: &str,
    ) -> Rc<TrustDomainSeries> {
        let domain = &*name::label_value(domain);
        let known = match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        };
        let mut known = known.borrow_mut();
        if let Some(series) = known.get(domain) {
            return Rc::clone(series);
        }
        let label = match self.admission.admits(host, domain) {
            true => domain,
            false => {
                registry.count(host, Counter::SeriesOverflow);
                OTHER
            }
        };
        let series = known.entry(label.to_owned()).or_insert_with(|| {
            Rc::new(TrustDomainSeries {
                direction,
                label: label.to_owned(),
                connections: Cell::default(),
            })
        });
        Rc::clone(series)
    }
}
