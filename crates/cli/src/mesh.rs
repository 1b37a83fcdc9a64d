//! Proxies, and the CAs that they hold, trust and meet, by the module's metrics: what `rotation-status`, `fleet` and
//! `diagnose --prometheus` judge.
//!
//! Samples ([`exposition`], [`series`]) become the facts of a proxy ([`proxy`], with its [`bundle`]s, [`chain`]s and
//! [`refusals`]), proxies a fleet with its hierarchy ([`fleet`], [`ancestry`]), of which each leaf and each bundle is asked
//! ([`trust`], [`cardinal`]), and that gives the states of the CAs ([`state`]). [`store`] reads all proxies from a Prometheus.

pub(crate) mod ancestry;
pub(crate) mod bundle;
pub(crate) mod cardinal;
pub(crate) mod chain;
pub(crate) mod fleet;
pub(crate) mod given;
pub(crate) mod proxy;
pub(crate) mod questions;
pub(crate) mod refusals;
pub(crate) mod series;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod trust;
pub(crate) mod verdict;
