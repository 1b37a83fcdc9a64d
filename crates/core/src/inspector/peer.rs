//! A peer's certificates, judged, as they are kept while the peer is known.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::host::{Host, TICK};
use crate::metrics::counters::Registry;
use crate::metrics::issuers::IssuerSeries;
use crate::metrics::presence::{Handshakes, Instance, Moment, Sighting};
use crate::metrics::sightings::IdentitySeries;
use crate::metrics::trust_domains::TrustDomainSeries;
use crate::policy::Judgement;
use crate::report::{Context, Named};
use crate::terms::{Direction, Finding, Findings, Status};
use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::time::{Seconds, UnixTime};

/// A certificate of a peer's chain, with what was made of it.
pub(super) struct Judged {
    pub(super) named: Named,
    pub(super) judgement: Judgement,
    pub(super) series: Rc<IdentitySeries>,
}

/// The identity of a leaf that could not be read.
pub(super) const UNKNOWN: &str = "unknown";

/// Layers of the certificates that could not be read.
pub(super) struct Unreadable {
    pub(super) found: Vec<Layer>,
    /// Those of which it is accepted.
    pub(super) accepted: Vec<Layer>,
}

/// A peer that presented a certificate.
pub struct Peer {
    direction: Direction,
    chain: Vec<Judged>,
    unreadable: Unreadable,
    issuer: Option<Rc<IssuerSeries>>,
    trust_domain: Option<Rc<TrustDomainSeries>>,
    /// Since it was judged first.
    posture: RefCell<Option<Rc<Posture>>>,
    last_seen: Cell<UnixTime>,
    /// The workload instance that presented it.
    presence: Cell<Presence>,
    /// The handshakes with this worker in which it was presented.
    handshakes: Cell<Handshakes>,
    /// What is wrong with its leaf, as what else was seen tells.
    observed: Cell<Findings>,
    /// Whether its leaf is this proxy's own.
    is_own: bool,
    /// Whether Envoy has verified its leaf on some connection.
    was_verified: bool,
    /// From how many addresses its leaf has lately come.
    origins: Cell<usize>,
    /// From when its findings may be reported again.
    report_at: Cell<UnixTime>,
    /// Whether its remaining lifetime has been recorded by nobody yet.
    fresh: Cell<bool>,
    /// From when it is worth a question: of a client where it is, of a server whether it answers on new connections.
    ask_at: Cell<UnixTime>,
}

/// What is known of where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It counts for the gauges, as that instance.
    Counts(Instance),
    /// The network filter of the same connection knows better, and tells the gauges.
    ToldElsewhere,
}

/// How a peer stands, for as long as nothing changes.
#[derive(Debug)]
pub struct Posture {
    /// The worst of all findings; `unreadable` if the leaf is.
    pub status: Status,
    /// The findings of each certificate that has any, leaf first.
    pub findings: Vec<(Layer, Findings)>,
    /// The findings of all certificates.
    pub all: Findings,
    /// The findings that are accepted of each certificate, which count nowhere else.
    pub ignored: Vec<(Layer, Findings)>,
    /// Their names, separated by commas.
    pub names: String,
    /// From when this holds. A clock that is set back makes it invalid.
    from: UnixTime,
    /// Until when this holds, exclusive.
    until: Cell<UnixTime>,
}

impl Posture {
    /// Whether nothing has changed at `now`.
    #[must_use]
    pub fn holds(&self, now: UnixTime) -> bool {
        self.from <= now && now < self.until.get()
    }

    /// The value of a flag header: `critical; client_auth_missing`.
    #[must_use]
    pub fn flag(&self) -> String {
        match self.names.as_str() {
            "" => self.status.as_str().to_owned(),
            names => format!("{}; {names}", self.status.as_str()),
        }
    }
}

impl Peer {
    pub(super) fn new(
        direction: Direction,
        chain: Vec<Judged>,
        unreadable: Unreadable,
        (issuer, trust_domain): (Option<Rc<IssuerSeries>>, Option<Rc<TrustDomainSeries>>),
        presence: Presence,
        (is_own, was_verified): (bool, bool),
    ) -> Self {
        Self {
            direction,
            chain,
            unreadable,
            issuer,
            trust_domain,
            posture: RefCell::default(),
            last_seen: Cell::default(),
            presence: Cell::new(presence),
            handshakes: Cell::new(Handshakes::NONE),
            observed: Cell::default(),
            is_own,
            was_verified,
            origins: Cell::default(),
            report_at: Cell::default(),
            fresh: Cell::new(true),
            ask_at: Cell::default(),
        }
    }

    /// What is shown of the leaf's identity, `unknown` if it could not be read; empty: nothing.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.chain
            .first()
            .map_or(UNKNOWN, |leaf| &leaf.named.identity)
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    pub(super) fn issuer(&self) -> Option<&IssuerSeries> {
        self.issuer.as_deref()
    }

    pub(super) fn trust_domain(&self) -> Option<&TrustDomainSeries> {
        self.trust_domain.as_deref()
    }

    pub(super) fn chain(&self) -> &[Judged] {
        &self.chain
    }

    /// What the leaf has left.
    pub(super) fn remaining(&self, now: UnixTime) -> Option<Seconds> {
        let leaf = self.chain.first()?;
        Some(leaf.named.not_after.since(now))
    }

    /// Whether this is asked for the first time.
    pub(super) fn take_fresh(&self) -> bool {
        self.fresh.replace(false)
    }

    /// Whether it was not asked lately if the peer answers on new connections: once a tick is enough.
    pub(super) fn is_answer_due(&self, now: UnixTime) -> bool {
        take_turn(&self.ask_at, now)
    }

    /// Whether it was not asked lately where the peer is: once a tick is enough.
    pub(super) fn is_location_due(&self, now: UnixTime) -> bool {
        match self.direction {
            Direction::Inbound => take_turn(&self.ask_at, now),
            Direction::Outbound => self.is_own,
        }
    }

    /// Whether its leaf has the same issuer and serial number as another one.
    pub(super) fn has_number_of(&self, other: &Peer) -> bool {
        match (self.chain.first(), other.chain.first()) {
            (Some(leaf), Some(other)) => leaf.named.has_number_of(&other.named),
            _ => false,
        }
    }

    /// Whether the peer has this proxy's own leaf.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Whether Envoy has verified its leaf, which has ended since.
    pub(super) fn has_ended(&self, now: UnixTime) -> bool {
        self.was_verified && self.remaining(now) < Some(Seconds::ZERO)
    }

    /// The leaf has come from one address more; how many that are.
    pub(super) fn count_origin(&self) -> usize {
        let origins = self.origins.get().saturating_add(1);
        self.origins.set(origins);
        origins
    }

    /// Addresses are counted anew.
    pub(super) fn forget_origins(&self) {
        self.origins.set(0);
    }

    /// Notes that the peer is there. The gauges learn of it at the next tick.
    pub(super) fn saw(&self, now: UnixTime) {
        self.last_seen.set(now);
    }

    /// Notes that the peer has presented its leaf in a handshake that was completed now.
    pub(super) fn handshook(&self, now: Moment) {
        self.handshakes.set(self.handshakes.get().and(now));
        if self.presence.get() == Presence::ToldElsewhere {
            self.presence.set(Presence::Counts(None));
        }
        self.observe(Finding::ConnectionOutlivesCertificate, false);
    }

    /// Whether the workload that presented this leaf has since presented another one: nobody will see this one in a
    /// handshake again.
    pub(super) fn is_superseded(&self) -> bool {
        let observed = self.observed.get();
        observed.contains(Finding::ConnectionOutlivesCertificate)
    }

    /// Notes that the leaf has, or no longer has, a finding that no certificate tells by itself.
    pub(super) fn observe(&self, finding: Finding, is_found: bool) {
        let before = self.observed.get();
        let observed = match is_found {
            true => before | finding,
            false => before.difference(finding.into()),
        };
        if observed == before {
            return;
        }
        self.observed.set(observed);
        // What holds this posture asks for another one.
        if let Some(posture) = self.posture.replace(None) {
            posture.until.set(posture.from);
        }
    }

    /// The age of the youngest connection on which this worker has seen the leaf.
    pub(super) fn connection_age(&self, now: UnixTime) -> Option<Seconds> {
        self.handshakes.get().age(now)
    }

    /// Tells the gauges when the peer was last there, if that was after `since`.
    pub(super) fn tell_gauges(&self, since: UnixTime, now: UnixTime) {
        // A clock that was ahead does not make a peer be there later than now.
        let last_seen = self.last_seen.get().min(now);
        self.last_seen.set(last_seen);
        let Presence::Counts(instance) = self.presence.get() else {
            return;
        };
        if last_seen < since {
            return;
        }
        for judged in &self.chain {
            let sighting = self.sighting(judged, instance, last_seen);
            judged.series.saw(sighting);
            // Nobody presents the CAs above it any more, either.
            if self.is_superseded() || sighting.is_outlived(now) {
                return;
            }
        }
        if let Some(issuer) = &self.issuer {
            issuer.saw(last_seen, now);
        }
    }

    /// Learns, after all workers have told the gauges, whether its leaf is superseded.
    pub(super) fn learn(&self, since: UnixTime) {
        let last_seen = self.last_seen.get();
        if let (Some(leaf), Presence::Counts(instance)) = (self.chain.first(), self.presence.get())
            && instance.is_some()
            && last_seen >= since
        {
            let sighting = self.sighting(leaf, instance, last_seen);
            let superseded = leaf.series.is_superseded(&sighting);
            self.observe(Finding::ConnectionOutlivesCertificate, superseded);
        }
    }

    fn sighting(&self, judged: &Judged, instance: Instance, last_seen: UnixTime) -> Sighting {
        let is_leaf = judged.named.layer == Layer::Workload;
        Sighting {
            not_after: judged.named.not_after,
            not_before: judged.named.not_before,
            // A CA is the same one, whoever shows it.
            instance: instance.filter(|_| is_leaf),
            last_seen,
            handshakes: match is_leaf {
                true => self.handshakes.get(),
                false => Handshakes::NONE,
            },
        }
    }

    /// Writes at once what the gauges have to say of a peer that is new.
    pub(super) fn publish(&self, host: &dyn Host, registry: &Registry, now: UnixTime) {
        self.tell_gauges(now, now);
        for judged in &self.chain {
            judged.series.publish_urgent(host, registry, now);
        }
        if let Some(issuer) = &self.issuer {
            issuer.publish(host, registry);
        }
    }

    /// The posture that holds at `now`. Judging again needs no parsing, and happens only when a
    /// moment has passed at which some finding changes.
    pub(super) fn posture(&self, now: UnixTime) -> Rc<Posture> {
        if let Some(posture) = &*self.posture.borrow()
            && posture.holds(now)
        {
            return Rc::clone(posture);
        }
        let posture = Rc::new(self.judge(now));
        self.posture.replace(Some(Rc::clone(&posture)));
        self.report_at.set(now);
        posture
    }

    /// Whether the findings should be reported: when they change, and every `repeat` seconds.
    pub(super) fn is_report_due(&self, now: UnixTime, repeat: Seconds) -> bool {
        let due_at = self.report_at.get();
        let is_due = now >= due_at || due_at > now.plus(repeat);
        let posture = self.posture.borrow();
        let due = is_due && posture.as_ref().is_some_and(|it| !it.all.is_empty());
        if due {
            self.report_at.set(now.plus(repeat));
        }
        due
    }

    /// What is wrong with a certificate of its chain now.
    pub(super) fn findings(&self, judged: &Judged, now: UnixTime) -> Findings {
        let accepted = judged.judgement.accepted();
        self.all_findings(judged, now).difference(accepted)
    }

    /// The same, with those that are accepted.
    fn all_findings(&self, judged: &Judged, now: UnixTime) -> Findings {
        let findings = judged.judgement.all_at(now);
        match judged.named.layer {
            Layer::Workload => findings | self.observed.get(),
            _ => findings,
        }
    }

    /// What else a log line says of a finding.
    pub(super) fn context(&self, judged: &Judged, finding: Finding, now: UnixTime) -> Context<'_> {
        let is_about_end = matches!(
            finding,
            Finding::Expired | Finding::ExpiresCritical | Finding::ExpiresWarning
        );
        let superseded = self.is_superseded() && judged.named.layer == Layer::Workload;
        if superseded && (is_about_end || finding == Finding::ConnectionOutlivesCertificate) {
            return Context::Superseded(self.connection_age(now));
        }
        let issuer = self.chain.iter().find(|above| {
            above.named.identity == judged.named.issuer
                && above.named.layer != judged.named.layer
                && ends_together(above.named.not_after, judged.named.not_after)
        });
        match issuer {
            Some(issuer) if is_about_end => Context::EndsWithIssuer(&issuer.named.identity),
            _ => Context::None,
        }
    }

    fn judge(&self, now: UnixTime) -> Posture {
        let readable = self
            .chain
            .iter()
            .map(|judged| (judged.named.layer, self.findings(judged, now)));
        let unreadable = of_layers(&self.unreadable.found);
        let findings = not_empty(readable.chain(unreadable));
        let ignored = self.chain.iter().map(|judged| {
            let accepted = judged.judgement.accepted();
            let findings = self.all_findings(judged, now).intersection(accepted);
            (judged.named.layer, findings)
        });
        let ignored = not_empty(ignored.chain(of_layers(&self.unreadable.accepted)));
        // A leaf that may be unreadable is nothing to report.
        let leaf_accepted = self.unreadable.accepted.contains(&Layer::Workload);
        let all = findings
            .iter()
            .fold(Findings::empty(), |all, (_, findings)| all | *findings);
        let changes = self
            .chain
            .iter()
            .map(|judged| judged.judgement.next_change(now));
        let names: Vec<_> = all.iter().map(Finding::as_str).collect();
        Posture {
            status: Status::of_certified(!self.chain.is_empty() || leaf_accepted, all),
            findings,
            ignored,
            all,
            names: names.join(","),
            from: now,
            until: Cell::new(changes.min().unwrap_or(UnixTime::NEVER)),
        }
    }
}

/// Whether it is the turn of what is done once a tick.
fn take_turn(at: &Cell<UnixTime>, now: UnixTime) -> bool {
    let is_due = now >= at.get() || at.get() > now.plus(TICK);
    if is_due {
        at.set(now.plus(TICK));
    }
    is_due
}

/// Whether a certificate was cut to the end of its issuer, as istiod does, to the second. Others round.
fn ends_together(issuer: UnixTime, subject: UnixTime) -> bool {
    (issuer.minus(Seconds::MINUTE)..=issuer.plus(Seconds::MINUTE)).contains(&subject)
}

fn of_layers(unreadable: &[Layer]) -> impl Iterator<Item = (Layer, Findings)> {
    let found = Findings::only(Finding::Unreadable);
    unreadable.iter().map(move |layer| (*layer, found))
}

fn not_empty(findings: impl Iterator<Item = (Layer, Findings)>) -> Vec<(Layer, Findings)> {
    findings
        .filter(|(_, findings)| !findings.is_empty())
        .collect()
}
