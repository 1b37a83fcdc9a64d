//! Who asks the admin interface, and when.
//!
//! The tick runs in every VM of the proxy, the main thread's included. They share a lease: its holder
//! asks, renews it at every tick, and loses it a few ticks after it has died. While a reply is read, the thread does
//! nothing else: so a VM that has no traffic takes the lease from one that has. The main thread's never has.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::hash::BuildHasher as _;

use super::admin::{self, ReplyError, Secret, Served};
use super::parts::Body;
use super::series;
use crate::config::Hierarchy;
use crate::hash::Keyed;
use crate::host::{Host, MetricKind, Shared, TICK, Version};
use crate::metrics::counters::{Counter, Registry};
use crate::metrics::{HIERARCHY_POLL_AGE, HIERARCHY_REPLY_BYTES, PollResult};
use crate::report::Quoted;
use crate::terms::{Acceptance, Thresholds};
use mtls_watch_x509::time::{Seconds, UnixTime};

const LEASE: &str = "mtls_watch/poller";
/// When the last good poll was, by whichever VM.
const POLLED: &str = "mtls_watch/poller/polled";

/// How long a lease lasts without renewal.
const LEASE_DURATION: Seconds = TICK.times(3);

/// A reply with status 200.
pub struct Reply<'a> {
    /// Its length in bytes.
    pub size: usize,
    /// Its bytes.
    pub body: &'a mut dyn Body,
}

/// Polls the admin interface, if its VM is the elected one.
pub struct Poller {
    config: Hierarchy,
    thresholds: Thresholds,
    ignore: Vec<Acceptance>,
    /// Tells this poller from those of other VMs and configurations.
    id: u64,
    due: Cell<UnixTime>,
    call: RefCell<Option<Call>>,
    /// What the replies of this poll have told so far.
    told: RefCell<Told>,
    /// What was inline at the last poll that asked for it.
    inline: RefCell<Inline>,
    /// What `/certs` said at the last poll at which it answered.
    served: RefCell<Served>,
    /// Whether the last poll failed: a failure is logged once, not at every poll.
    failing: Cell<bool>,
}

/// The call that is under way.
struct Call {
    token: u32,
    question: Question,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    Secrets,
    Certificates,
    /// The first or the second of [`admin::CONTEXTS`].
    Contexts(usize),
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Secrets => admin::SECRETS,
            Self::Certificates => admin::CERTIFICATES,
            Self::Contexts(number) => admin::CONTEXTS.get(number).copied().unwrap_or_default(),
        }
    }
}

#[derive(Default)]
struct Told {
    secrets: Vec<Secret>,
    bytes: u64,
    /// Why it is not all.
    error: Option<ReplyError>,
}

/// What is inline in TLS contexts, and for which answer of `/certs` it was asked.
#[derive(Default)]
struct Inline {
    asked_for: Served,
    secrets: Vec<Secret>,
    /// How long the replies were that tell of it.
    bytes: usize,
    /// How many polls may pass until it is asked for again.
    rest: usize,
}

/// The contexts of a large mesh have many megabytes, and `/certs` does not tell of every change in them: revocation lists,
/// before Envoy 1.40 all CAs but the first. So they cost so much a poll on average.
const CONTEXT_BYTES: usize = 1024 * 1024;

impl Poller {
    /// A poller with that configuration.
    #[must_use]
    pub fn new(config: Hierarchy, thresholds: Thresholds, ignore: Vec<Acceptance>) -> Self {
        Self {
            config,
            thresholds,
            ignore,
            id: Keyed::default().hash_one(0u8),
            due: Cell::default(),
            call: RefCell::default(),
            told: RefCell::default(),
            inline: RefCell::default(),
            served: RefCell::default(),
            failing: Cell::new(false),
        }
    }

    /// Asks, if it is time and this VM's turn.
    pub fn tick(&self, host: &dyn Host, registry: &Registry, now: UnixTime) {
        // A due time further ahead than one interval is of a clock that has been set back.
        let due = self.due.get();
        let is_due = due <= now || due > now.plus(self.config.interval);
        if !self.holds_lease(host, now, !registry.has_traffic.get()) {
            return;
        }
        tell_age(host, registry, now);
        if !is_due {
            return;
        }
        // The last call was not answered in a whole interval.
        match self.call.take().map(|call| call.question) {
            None => {}
            Some(Question::Secrets) => self.fail(host, registry, &ReplyError::None),
            Some(_) => {
                self.told().error = Some(ReplyError::None);
                self.end(host, registry, now);
            }
        }
        // The clock has whole seconds: the tick after 5 s may seem to come after 4.
        self.due
            .set(now.plus(self.config.interval).minus(Seconds::ONE));
        self.told.take();
        if !self.ask(host, Question::Secrets) {
            self.fail(host, registry, &ReplyError::None);
        }
    }

    /// Borrowed in one place: each place where a cell is borrowed is one where the module could panic.
    fn told(&self) -> RefMut<'_, Told> {
        self.told.borrow_mut()
    }

    fn served(&self) -> Ref<'_, Served> {
        self.served.borrow()
    }

    fn inline(&self) -> RefMut<'_, Inline> {
        self.inline.borrow_mut()
    }

    /// Whether the question could be sent.
    fn ask(&self, host: &dyn Host, question: Question) -> bool {
        let token = host.call(&self.config.admin_cluster, question.path());
        self.call
            .replace(token.map(|token| Call { token, question }));
        token.is_some()
    }

    /// A reply has come.
    pub fn on_reply(
        &self,
        host: &dyn Host,
        registry: &Registry,
        now: UnixTime,
        token: u32,
        reply: Result<Reply<'_>, ReplyError>,
    ) {
        // Otherwise it is an answer to a call that was given up.
        let call = self.call.borrow_mut().take_if(|call| call.token == token);
        let Some(Call { question, .. }) = call else {
            return;
        };
        let reply = reply.and_then(|reply| match reply.size > admin::MAX_REPLY_BYTES {
            true => Err(ReplyError::TooLarge(reply.size)),
            false => Ok(reply),
        });
        let reply = reply.inspect(|reply| self.told().count(reply.size));
        let next = match question {
            Question::Secrets => match reply.and_then(|reply| admin::read_secrets(reply.body)) {
                Ok(secrets) => {
                    self.told().secrets = secrets;
                    Some(Question::Certificates)
                }
                Err(error) => return self.fail(host, registry, &error),
            },
            Question::Certificates => self.take_certificates(reply),
            Question::Contexts(number) => self.take_contexts(reply, number),
        };
        match next {
            Some(next) if self.ask(host, next) => {}
            None => self.end(host, registry, now),
            Some(_) => {
                self.told().error = Some(ReplyError::None);
                self.end(host, registry, now);
            }
        }
    }

    /// What `/certs` told at the last poll stays true while it does not answer.
    fn take_certificates(&self, reply: Result<Reply<'_>, ReplyError>) -> Option<Question> {
        match reply.and_then(|reply| admin::read_certificates(reply.body)) {
            Ok(served) => {
                self.served.replace(served);
            }
            Err(error) => self.told().error = Some(error),
        }
        let served = self.served();
        let mut inline = self.inline();
        if !admin::has_inline(&served.unknown(&self.told().secrets)) {
            *inline = Inline::default();
            return None;
        }
        inline.rest = inline.rest.saturating_sub(1);
        if inline.asked_for == *served && inline.rest > 0 {
            return None;
        }
        inline.asked_for.clone_from(&served);
        inline.bytes = 0;
        Some(Question::Contexts(0))
    }

    fn take_contexts(
        &self,
        reply: Result<Reply<'_>, ReplyError>,
        number: usize,
    ) -> Option<Question> {
        let mut inline = self.inline();
        if let Ok(reply) = &reply {
            inline.bytes = inline.bytes.saturating_add(reply.size);
            inline.rest = inline.bytes / CONTEXT_BYTES;
        }
        match reply.and_then(|reply| admin::read_contexts(reply.body)) {
            Ok(found) => {
                if number == 0 {
                    inline.secrets.clear();
                }
                for secret in found {
                    if !inline.secrets.iter().any(|known| known.is_same(&secret)) {
                        inline.secrets.push(secret);
                    }
                }
            }
            Err(error) => self.told().error = Some(error),
        }
        let next = number.saturating_add(1);
        (next < admin::CONTEXTS.len()).then_some(Question::Contexts(next))
    }

    /// All replies have come that will.
    fn end(&self, host: &dyn Host, registry: &Registry, now: UnixTime) {
        let Told {
            mut secrets,
            bytes,
            error,
        } = self.told.take();
        match &error {
            Some(error) => self.fail(host, registry, error),
            None => self.succeed(host, registry, now, bytes),
        }
        let mut inline = self.inline();
        secrets.extend(inline.secrets.iter().cloned());
        admin::name_inline(&mut secrets);
        if error.is_some() {
            // To be asked again.
            inline.rest = 0;
        }
        let served = self.served();
        secrets.extend(served.unknown(&secrets));
        let is_whole = error.is_none();
        let found = series::Found {
            secrets: &secrets,
            contexts: served.contexts(),
            is_whole,
            ignore: &self.ignore,
        };
        series::update(host, registry, &self.thresholds, now, &found);
    }

    fn succeed(&self, host: &dyn Host, registry: &Registry, now: UnixTime, bytes: u64) {
        registry.count(host, Counter::HierarchyPoll(PollResult::Ok));
        if self.failing.replace(false) {
            log::warn!("mtls-watch: hierarchy poll works again");
        }
        host.share(POLLED, &now.0.to_le_bytes(), Version(0));
        set(host, registry, HIERARCHY_REPLY_BYTES.series(()), bytes);
        tell_age(host, registry, now);
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

    /// Whether this poller is the elected one: takes over a lease that has run out, or that of a VM with traffic;
    /// renews its own.
    fn holds_lease(&self, host: &dyn Host, now: UnixTime, is_idle: bool) -> bool {
        let (lease, version) = host.shared(LEASE);
        let lease = lease.as_deref().and_then(Lease::decode).unwrap_or_default();
        // A lease beyond what any holder takes is of a clock that has been set back.
        let is_valid = now <= lease.until && lease.until <= now.plus(LEASE_DURATION);
        if lease.holder != self.id && is_valid && (lease.is_idle || !is_idle) {
            return false;
        }
        let lease = Lease {
            holder: self.id,
            until: now.plus(LEASE_DURATION),
            is_idle,
        };
        host.share(LEASE, &lease.encode(), version) == Shared::Stored
    }
}

impl Told {
    fn count(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// How old the last good poll is, by whichever VM; nothing before the first.
fn tell_age(host: &dyn Host, registry: &Registry, now: UnixTime) {
    let polled = host.shared(POLLED).0.and_then(|time| time.try_into().ok());
    if let Some(polled) = polled.map(i64::from_le_bytes) {
        let age = now.since(UnixTime(polled)).gauge();
        set(host, registry, HIERARCHY_POLL_AGE.series(()), age);
    }
}

fn set(host: &dyn Host, registry: &Registry, series: String, value: u64) {
    if let Some(id) = registry.named(host, MetricKind::Gauge, series) {
        host.record(id, value);
    }
}

/// Whose turn it is to ask.
#[derive(Default)]
struct Lease {
    holder: u64,
    until: UnixTime,
    /// Whether the holder's VM has never had traffic.
    is_idle: bool,
}

impl Lease {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.is_idle)];
        bytes.extend_from_slice(&self.holder.to_le_bytes());
        bytes.extend_from_slice(&self.until.0.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let ([is_idle], rest) = bytes.split_first_chunk()?;
        let (holder, until) = rest.split_first_chunk()?;
        Some(Self {
            holder: u64::from_le_bytes(*holder),
            until: UnixTime(i64::from_le_bytes(until.try_into().ok()?)),
            is_idle: *is_idle != 0,
        })
    }
}
