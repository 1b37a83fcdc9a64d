//! Who asks the admin interface, and when.
//!
//! The tick runs in every VM of the proxy, the main thread's included. They share a lease: its holder
//! asks, renews it at every tick, and loses it a few ticks after it has died.

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher as _;

use super::admin::{self, ReplyError, Secret};
use super::series;
use crate::config::Hierarchy;
use crate::hash::Keyed;
use crate::host::{Host, Shared, TICK};
use crate::metrics::PollResult;
use crate::metrics::counters::{Counter, Registry};
use crate::report::Quoted;
use crate::terms::Thresholds;
use mtls_watch_x509::time::{Seconds, UnixTime};

const LEASE: &str = "mtls_watch/poller";

/// How long a lease lasts without renewal.
const LEASE_DURATION: Seconds = TICK.times(3);

/// Polls the admin interface, if its VM is the elected one.
pub struct Poller {
    config: Hierarchy,
    thresholds: Thresholds,
    /// Tells this poller from those of other VMs and configurations.
    id: u64,
    due: Cell<UnixTime>,
    call: RefCell<Call>,
    /// Whether the last poll failed: a failure is logged once, not at every poll.
    failing: Cell<bool>,
}

/// The call that is under way.
enum Call {
    None,
    Secrets(u32),
    Certificates(u32, Vec<Secret>),
}

impl Poller {
    /// A poller with that configuration.
    #[must_use]
    pub fn new(config: Hierarchy, thresholds: Thresholds) -> Self {
        Self {
            config,
            thresholds,
            id: Keyed::default().hash_one(0u8),
            due: Cell::default(),
            call: RefCell::new(Call::None),
            failing: Cell::new(false),
        }
    }

    /// Asks, if it is time and this VM's turn.
    pub fn tick(&self, host: &dyn Host, registry: &Registry, now: UnixTime) {
        // A due time further ahead than one interval is of a clock that has been set back.
        let due = self.due.get();
        let is_due = due <= now || due > now.plus(self.config.interval);
        if !self.holds_lease(host, now) || !is_due {
            return;
        }
        if !matches!(self.call.replace(Call::None), Call::None) {
            // The last call was not answered in a whole interval.
            self.fail(host, registry, &ReplyError::None);
        }
        // The clock has whole seconds: the tick after 5 s may seem to come after 4.
        self.due
            .set(now.plus(self.config.interval).minus(Seconds::ONE));
        match host.call(&self.config.admin_cluster, admin::SECRETS) {
            Some(token) => {
                self.call.replace(Call::Secrets(token));
            }
            None => self.fail(host, registry, &ReplyError::None),
        }
    }

    /// A reply has come: its HTTP status, and its body unless that is too long.
    pub fn on_reply(
        &self,
        host: &dyn Host,
        registry: &Registry,
        now: UnixTime,
        token: u32,
        reply: Result<&[u8], ReplyError>,
    ) {
        match self.call.replace(Call::None) {
            Call::Secrets(expected) if expected == token => match reply.and_then(admin::secrets) {
                Ok(secrets) => self.ask_certificates(host, registry, secrets),
                Err(error) => self.fail(host, registry, &error),
            },
            Call::Certificates(expected, mut secrets) if expected == token => {
                match reply.and_then(|reply| admin::certificates(reply, &secrets)) {
                    Ok(files) => {
                        secrets.extend(files);
                        self.succeed(host, registry, now, &secrets);
                    }
                    Err(error) => self.fail(host, registry, &error),
                }
            }
            // An answer to a call that was given up.
            other => {
                self.call.replace(other);
            }
        }
    }

    fn ask_certificates(&self, host: &dyn Host, registry: &Registry, secrets: Vec<Secret>) {
        match host.call(&self.config.admin_cluster, admin::CERTIFICATES) {
            Some(token) => {
                self.call.replace(Call::Certificates(token, secrets));
            }
            None => self.fail(host, registry, &ReplyError::None),
        }
    }

    fn succeed(&self, host: &dyn Host, registry: &Registry, now: UnixTime, secrets: &[Secret]) {
        registry.count(host, Counter::HierarchyPoll(PollResult::Ok));
        if self.failing.replace(false) {
            log::warn!("mtls-watch: hierarchy poll works again");
        }
        series::update(host, registry, &self.thresholds, now, secrets);
    }

    fn fail(&self, host: &dyn Host, registry: &Registry, error: &ReplyError) {
        registry.count(host, Counter::HierarchyPoll(PollResult::Error));
        if !self.failing.replace(true) {
            let cluster = &self.config.admin_cluster;
            log::warn!(
                "mtls-watch: hierarchy poll failed cluster={} cause=\"{error}\"",
                Quoted(cluster)
            );
        }
    }

    /// Whether this poller is the elected one: takes over a lease that has run out, renews its own.
    fn holds_lease(&self, host: &dyn Host, now: UnixTime) -> bool {
        let (lease, version) = host.shared(LEASE);
        let (holder, until) = lease.as_deref().and_then(decode_lease).unwrap_or_default();
        // A lease beyond what any holder takes is of a clock that has been set back.
        let valid = now <= until && until <= now.plus(LEASE_DURATION);
        if holder != self.id && valid {
            return false;
        }
        let until = now.plus(LEASE_DURATION);
        let lease = [self.id.to_le_bytes(), until.0.to_le_bytes()].concat();
        host.share(LEASE, &lease, version) == Shared::Stored
    }
}

fn decode_lease(bytes: &[u8]) -> Option<(u64, UnixTime)> {
    let (holder, until) = bytes.split_first_chunk()?;
    let until = i64::from_le_bytes(until.try_into().ok()?);
    Some((u64::from_le_bytes(*holder), UnixTime(until)))
}
