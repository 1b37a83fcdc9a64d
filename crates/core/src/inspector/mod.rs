//! One peer's way through the house: who is it, what is its certificate, how does it stand, which
//! series move. Everything a filter does is decided here, over the [`Host`] trait.

mod answers;
mod cache;
mod connection;
mod failure;
mod flag;
mod peer;
mod place;
mod request;
mod seen;
mod shown;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::hash::{ById, Keyed};
use crate::host::{self, Host};
use crate::metrics::ReadResult;
use crate::metrics::admission;
use crate::metrics::counters::{Counter, Registry};
use crate::metrics::heartbeat;
use crate::metrics::in_force::Configuration;
use crate::metrics::issuers::Issuers;
use crate::metrics::presence::{Moment, SECOND};
use crate::metrics::sightings::Sightings;
use crate::metrics::trust_domains::TrustDomains;
use crate::own::admin::ReplyError;
use crate::own::{DirectoryKeeper, Poller, Reply};
use crate::policy;
use crate::report::{Named, Reporter};
use crate::source::fingerprints::Fingerprints;
use crate::source::read::{Fingerprint, PeerCertificates, Reading};
use crate::source::xfcc;
use crate::terms::{Acceptance, Direction, Finding, Findings, IdentityForm, Security};
use answers::Answers;
use cache::Cache;
use mtls_watch_x509::Certificate;
use mtls_watch_x509::chain::{self, Layer, Member};
use mtls_watch_x509::hex;
use mtls_watch_x509::spiffe;
use mtls_watch_x509::time::UnixTime;
use peer::{Judged, Presence, UNKNOWN, Unreadable};
use place::{Plugin, Standing};
use seen::{Origins, Serials};
use shown::Shown;

pub use connection::{ConnectionWatch, Event};
pub use peer::{Peer, Posture};
pub use request::RequestWatch;

/// Peers that a worker remembers (at most twice as many, see [`Cache`]).
const MAX_PEERS: usize = 512;
/// Connections of which a worker remembers the peer, for HTTP (at most twice as many).
const MAX_CONNECTIONS: usize = 1024;

/// The header with the certificates, as a proxy before or Envoy itself writes it.
const XFCC: &str = "x-forwarded-client-cert";

/// What the configuration says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its request or connection goes on.
    Continue,
    /// The peer is denied: the request gets 403, the connection is closed.
    Deny,
}

/// What is known of the other end of a connection.
#[derive(Clone)]
pub enum Party {
    /// It presented a certificate.
    Certified(Rc<Peer>),
    /// It did not; how the connection is secured otherwise.
    Anonymous(Security),
}

impl Party {
    fn security(&self) -> Security {
        match self {
            Self::Certified(_) => Security::Mtls,
            Self::Anonymous(security) => *security,
        }
    }
}

/// What Envoy knows of a server.
enum Server {
    /// There is none, or not yet.
    Unknown,
    /// It is there.
    Met(Party),
    /// The connection with it failed; Envoy's text.
    Failed(Vec<u8>),
}

/// What a listener is called, by `xds.listener_direction`. Which sides are inspected depends on the
/// connection, too: see `Listener::inspects_client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Sidecar, towards the workload: the client is the peer.
    Inbound,
    /// Sidecar, from the workload: the server is the peer. Istio's gateways are called so, too: where this
    /// proxy has ended the client's TLS, both are.
    Outbound,
    /// Plain Envoy: both are.
    Unspecified,
}

impl Listener {
    fn of(host: &dyn Host) -> Self {
        match host::integer(host, &["xds", "listener_direction"]) {
            Some(1) => Self::Inbound,
            Some(2) => Self::Outbound,
            _ => Self::Unspecified,
        }
    }

    /// Whether the client of this connection is inspected. At an outbound listener only one whose TLS has
    /// ended here is: a sidecar's is the application of the same machine. To be asked when the client's
    /// handshake is over, for Envoy would keep the answer of an unfinished one.
    fn inspects_client(self, host: &dyn Host) -> bool {
        self != Self::Outbound || ends_tls(host)
    }

    fn inspects_upstream(self) -> bool {
        self != Self::Inbound
    }
}

/// The inspector of one plugin configuration in one worker.
pub struct Inspector {
    config: Config,
    registry: Rc<Registry>,
    peers: RefCell<Cache<PeerKey, Rc<Peer>, ById>>,
    connections: RefCell<Cache<u64, Rc<Downstream>, ById>>,
    plugin: Plugin,
    /// The number of the newest HTTP connection, given at its first request.
    last_connection: Cell<u64>,
    /// Whether filter state stays as long as the connection. If not, it goes with each request.
    keeps_state: Cell<bool>,
    sightings: Sightings,
    issuers: Issuers,
    reporter: Reporter,
    poller: Option<Poller>,
    directory: DirectoryKeeper,
    answers: Answers,
    /// Whether it was said that the filter stands in a cluster's chain.
    misplaced: Cell<bool>,
    /// Errors of the configuration.
    errors: Cell<usize>,
    /// When it was loaded, or met the latest connection.
    met: Cell<UnixTime>,
    /// The time when a host call last asked for it; at most one tick old.
    clock: Cell<UnixTime>,
    last_tick: Cell<UnixTime>,
    /// The same as the clock, in nanoseconds.
    moment: Cell<Moment>,
    /// When it was last asked for otherwise than for a stream.
    own_moment: Cell<Moment>,
    chain_hasher: Keyed,
    trust_domains: TrustDomains,
    fingerprints: Fingerprints,
    origins: Origins,
    serials: Serials,
}

#[derive(Clone, PartialEq, Eq)]
struct PeerKey {
    direction: Direction,
    fingerprint: Fingerprint,
    /// Keyed hash of the header that may hold the chain; 0 without.
    chain: u64,
    /// Which CAs were known when the peer was met: they are part of what is made of it.
    directory: u64,
}

impl Hash for PeerKey {
    /// Not by a keyed hash, which would take longer than the rest of the look-up: a fingerprint is one, of
    /// what a CA has signed. Whoever wants thousands of them in one place needs a CA to sign billions.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let parts = self.fingerprint.as_chunks().0.iter();
        let parts = parts.map(|part| u64::from_le_bytes(*part));
        hasher.write_u64(parts.fold(self.chain, |hash, part| hash ^ part));
    }
}

/// The client of an HTTP connection, as remembered between its requests.
struct Downstream {
    listener: Listener,
    /// Whether its requests are counted here, or by another plugin of this module.
    standing: Standing,
    /// Whether the filter stands in a cluster's chain, where nothing is watched.
    behind_router: bool,
    /// Whether there is nothing to do here: that, or another plugin counts and this one does no more than that.
    idle: bool,
    /// `None`: the client is not inspected.
    client: Option<Party>,
    /// Whether this hop's element of the XFCC header has certificates to take out.
    strips_xfcc: Option<Vec<u8>>,
    /// What filter state of the connection says of the client.
    shown: Cell<Shown>,
    /// What it says of a server.
    server_shown: Cell<Shown>,
}

impl Inspector {
    /// An inspector with that configuration; `registry` is the VM's.
    #[must_use]
    pub fn new(config: Config, registry: Rc<Registry>) -> Self {
        let plugin = Plugin::new(registry.next_inspector());
        Self {
            peers: RefCell::new(Cache::new(MAX_PEERS)),
            connections: RefCell::new(Cache::new(MAX_CONNECTIONS)),
            last_connection: Cell::new(plugin.first_number()),
            keeps_state: Cell::default(),
            plugin,
            sightings: Sightings::new(match config.identity {
                IdentityForm::Off => 0,
                IdentityForm::Full | IdentityForm::Hashed => config.identity_series,
            }),
            trust_domains: TrustDomains::default(),
            fingerprints: Fingerprints::default(),
            origins: Origins::default(),
            serials: Serials::default(),
            issuers: Issuers::default(),
            reporter: Reporter::new(config.log_repeat, Rc::clone(&registry.lines)),
            poller: config.hierarchy.clone().map(|hierarchy| {
                Poller::new(hierarchy, config.thresholds.clone(), config.ignore.clone())
            }),
            directory: DirectoryKeeper::default(),
            answers: Answers::default(),
            misplaced: Cell::default(),
            errors: Cell::default(),
            met: Cell::default(),
            clock: Cell::default(),
            last_tick: Cell::default(),
            moment: Cell::default(),
            own_moment: Cell::default(),
            chain_hasher: Keyed::default(),
            config,
            registry,
        }
    }

    /// The inspector is loaded, with a configuration that has so many errors: defines what exists from then
    /// on.
    pub fn start(&self, host: &dyn Host, configuration_errors: usize) {
        self.errors.set(configuration_errors);
        self.registry.define_at_load(host, configuration_errors);
        self.met.set(self.now(host));
        admission::prepare(host);
        self.plugin.start(host);
        heartbeat::configured(host, &self.registry, self.clock.get());
        self.own_moment.set(self.moment.get());
        let mut names = [place::REQUESTS]
            .into_iter()
            .chain(shown::PEER)
            .chain(shown::SERVER);
        self.keeps_state
            .set(names.all(|name| host.declare_connection_state(name)));
    }

    /// Every [`TICK`](crate::host::TICK): the gauges learn who was there.
    pub fn tick(&self, host: &dyn Host) {
        // Each stream asks for the time.
        if self.moment.get() != self.own_moment.get() {
            self.registry.has_traffic.set(true);
        }
        let since = self.last_tick.replace(self.now(host));
        let now = self.clock.get();
        self.own_moment.set(self.moment.get());
        let peers: Vec<_> = self.peers.borrow().values().cloned().collect();
        for peer in &peers {
            peer.tell_gauges(since, now);
        }
        if self.origins.begins_anew(now) {
            for peer in &peers {
                peer.forget_origins();
            }
        }
        self.sightings.publish(host, &self.registry, now);
        for peer in &peers {
            peer.learn(since);
        }
        self.issuers.publish(host, &self.registry);
        self.registry.publish_duplicates(host, now);
        let configuration = Configuration {
            plugin: self.plugin.name(),
            errors: self.errors.get(),
            met: self.met.get(),
        };
        self.registry.publish_errors(host, configuration, now);
        heartbeat::ticked(host, &self.registry, now);
        self.reporter.tick(now);
        if let Some(poller) = &self.poller {
            poller.tick(host, &self.registry, now);
        }
        self.directory.refresh(host);
    }

    /// A reply to a call of the hierarchy's poller has come.
    pub fn on_reply(&self, host: &dyn Host, token: u32, reply: Result<Reply<'_>, ReplyError>) {
        if let Some(poller) = &self.poller {
            poller.on_reply(host, &self.registry, self.now(host), token, reply);
            self.own_moment.set(self.moment.get());
        }
        self.directory.refresh(host);
    }

    /// The time; where the clock fails, the time that was read last.
    fn now(&self, host: &dyn Host) -> UnixTime {
        let moment = host.nanoseconds().filter(|moment| *moment >= SECOND);
        if let Some(moment) = moment {
            let seconds = i64::try_from(moment / SECOND).unwrap_or(i64::MAX);
            self.clock.set(UnixTime(seconds));
            self.moment.set(moment);
        }
        self.clock.get()
    }

    /// The client of this connection.
    fn downstream(&self, host: &dyn Host, xfcc: Option<&[u8]>) -> Party {
        let digest = host.property(&["connection", "sha256_peer_certificate_digest"]);
        // The digest says it all, where there is one.
        if digest.is_some() || host::boolean(host, &["connection", "mtls"]) {
            return Party::Certified(self.peer(host, Direction::Inbound, digest, xfcc));
        }
        let principal = host.property(&["filter_state", "io.istio.peer_principal"]);
        Party::Anonymous(if principal.is_some() {
            Security::Hbone
        } else if host.property(&["connection", "tls_version"]).is_some() {
            Security::Tls
        } else {
            Security::Plaintext
        })
    }

    /// The server of this connection or request, as far as Envoy knows it now.
    fn upstream(&self, host: &dyn Host) -> Server {
        let digest = host.property(&["upstream", "sha256_peer_certificate_digest"]);
        if digest.is_some() || host.property(&["upstream", "peer_certificate"]).is_some() {
            let peer = self.peer(host, Direction::Outbound, digest, None);
            return Server::Met(Party::Certified(peer));
        }
        if let Some(reason) = host.property(&["upstream", "transport_failure_reason"]) {
            return Server::Failed(reason);
        }
        if !is_connected(host) {
            return Server::Unknown;
        }
        let tls = host.property(&["upstream", "tls_version"]).is_some();
        Server::Met(Party::Anonymous(match tls {
            true => Security::Tls,
            false => Security::Plaintext,
        }))
    }

    /// The peer with that fingerprint: remembered, or read now.
    fn peer(
        &self,
        host: &dyn Host,
        direction: Direction,
        digest: Option<Vec<u8>>,
        xfcc: Option<&[u8]>,
    ) -> Rc<Peer> {
        let fingerprint = digest.as_deref().and_then(hex::decode_array);
        let chain = xfcc.map_or(0, |header| self.chain_key(header, digest.as_deref()));
        // Without any fingerprint one peer cannot be told from another: none is remembered.
        let key = fingerprint
            .or_else(|| attribute_fingerprint(host, direction))
            .map(|fingerprint| PeerKey {
                direction,
                fingerprint,
                chain,
                directory: self.directory.current().generation,
            });
        let known = key
            .as_ref()
            .and_then(|key| self.peers.borrow_mut().get(key));
        if let Some(peer) = known {
            return peer;
        }
        let certificates = PeerCertificates {
            host,
            config: &self.config,
            direction,
            fingerprint: fingerprint.as_ref(),
            xfcc,
        };
        let reading = certificates.read();
        let peer = Rc::new(self.meet(host, direction, fingerprint, reading));
        if let Some(key) = key {
            self.peers.borrow_mut().insert(key, Rc::clone(&peer));
        }
        peer
    }

    /// What tells one chain of a leaf from another: only this hop's element, as others vary.
    fn chain_key(&self, header: &[u8], digest: Option<&[u8]>) -> u64 {
        let element = xfcc::own_element(header, digest).ok();
        let certificates = element.and_then(|element| element.certificates());
        self.chain_hasher.hash_one(certificates.unwrap_or(header))
    }

    /// A peer that this worker has not met: judges it, gives it series, reports what is wrong.
    fn meet(
        &self,
        host: &dyn Host,
        direction: Direction,
        fingerprint: Option<Fingerprint>,
        reading: Reading,
    ) -> Peer {
        let now = self.now(host);
        self.report_reading(host, now, direction, &reading);
        let unreadable = unreadable_layers(&reading);
        let mut certificates = reading.certificates;
        let verified = verified(host);
        if certificates.len() > 1 && verified != Some(false) {
            self.directory.learn(host, &certificates, &reading.ders);
        }
        chain::complete(&mut certificates, &self.directory.current().cas);
        let fingerprints = self.fingerprints(&certificates, &reading.ders, fingerprint);
        let members = chain::link(certificates);
        let issuer = members.first().map(|leaf| {
            let leaf = &leaf.certificate;
            self.issuers.of(host, &self.registry, direction, leaf)
        });
        let trust_domain = members.first().and_then(|leaf| {
            let domain = spiffe::trust_domain(&leaf.certificate.identity)?;
            let domains = &self.trust_domains;
            Some(domains.of(host, &self.registry, direction, domain))
        });
        let leaf = members.first().map(|leaf| &leaf.certificate);
        let is_reused = leaf.is_some_and(|leaf| self.is_serial_reused(leaf));
        let is_own = self.directory.current().is_own(fingerprint.as_ref());
        let chain = self.judged(host, direction, members, fingerprints);
        let presence = presence(host, direction, &chain);
        let (accepted, unreadable) = unreadable.into_iter().partition(|layer| {
            let accepted = Acceptance::of_names(&self.config.ignore, Some(*layer), &[UNKNOWN]);
            accepted.contains(Finding::Unreadable)
        });
        let unreadable = Unreadable {
            found: unreadable,
            accepted,
        };
        let series = (issuer, trust_domain);
        let known = (is_own, verified == Some(true));
        let peer = Peer::new(direction, chain, unreadable, series, presence, known);
        if is_reused {
            self.note_reused(&peer);
        }
        if peer.is_location_due(now) {
            self.note_location(host, &peer, presence);
        }
        peer.saw(now);
        if direction == Direction::Outbound {
            peer.handshook(self.moment.get());
        }
        peer.publish(host, &self.registry, now);
        peer
    }

    /// Whether the issuer has given the serial number of a leaf to another key, too, and should not have. Self-signed
    /// ones have no issuer in common.
    #[inline(never)]
    fn is_serial_reused(&self, leaf: &Certificate) -> bool {
        let issuer = (&leaf.links.issuer, &leaf.links.authority_key_id);
        let [issuer, serial, number] = [
            ById::default().hash_one(issuer),
            ById::default().hash_one(&leaf.serial),
            ById::default().hash_one((issuer, &leaf.serial)),
        ];
        // One number for all leaves is no counter's.
        let is_counted =
            policy::may_share_its_number(leaf) && self.serials.is_given_to_several(issuer, serial);
        let is_reused = self.serials.is_given_to_several(number, leaf.key_hash);
        is_reused && !is_counted && !leaf.is_self_signed()
    }

    /// Of both peers whose leaves share a serial number, each is told of the other.
    #[inline(never)]
    fn note_reused(&self, peer: &Peer) {
        peer.observe(Finding::SerialReused, true);
        let Ok(peers) = self.peers.try_borrow() else {
            return;
        };
        for other in peers.values() {
            if other.has_number_of(peer) {
                other.observe(Finding::SerialReused, true);
            }
        }
    }

    /// A peer has made a connection. From time to time it is looked from where: who else shares its certificate does
    /// not go away.
    fn arrived(&self, host: &dyn Host, peer: &Peer) {
        let has_ended = peer.has_ended(self.clock.get());
        if has_ended && verified(host) == Some(false) {
            peer.observe(Finding::SessionUnverified, true);
        }
        if peer.is_location_due(self.clock.get()) {
            let presence = presence(host, peer.direction(), peer.chain());
            self.note_location(host, peer, presence);
        }
    }

    #[inline(never)]
    fn note_location(&self, host: &dyn Host, peer: &Peer, presence: Presence) {
        let (Presence::Counts(Some(instance)), Some(leaf)) = (presence, peer.chain().first())
        else {
            return;
        };
        if peer.is_own() && is_elsewhere(host, peer.direction()) {
            peer.observe(Finding::OwnCertificatePresented, true);
        }
        let limit = self.config.certificate_addresses;
        let hash = ById::default().hash_one((instance, &leaf.named.fingerprint));
        if peer.direction() == Direction::Inbound
            && limit > 0
            && self.origins.is_new(hash)
            && peer.count_origin() > limit
        {
            peer.observe(Finding::CertificateShared, true);
        }
    }

    /// Counts what was read and what could not be, and logs the latter.
    fn report_reading(
        &self,
        host: &dyn Host,
        now: UnixTime,
        direction: Direction,
        reading: &Reading,
    ) {
        for source in &reading.read {
            self.count(host, Counter::Inspection(*source, ReadResult::Ok));
        }
        for unreadable in &reading.unreadable {
            let (layer, source) = (unreadable.layer, unreadable.source);
            self.count(host, Counter::Inspection(source, ReadResult::Unreadable));
            self.reporter
                .unreadable(now, direction, layer, source, &unreadable.error);
        }
    }

    /// The certificates of a chain with what is wrong with them and with their series.
    fn judged(
        &self,
        host: &dyn Host,
        direction: Direction,
        members: Vec<Member>,
        fingerprints: Vec<Option<Fingerprint>>,
    ) -> Vec<Judged> {
        let judgements = policy::judge(&members, direction, &self.config.thresholds);
        let judged = members.into_iter().zip(judgements).zip(fingerprints);
        judged
            .enumerate()
            // Another leaf beside the peer's is nothing that Envoy looks at.
            .filter(|(position, ((member, _), _))| {
                *position == 0 || member.layer != Layer::Workload
            })
            .map(|(_, ((member, judgement), fingerprint))| {
                let (layer, identity) = (member.layer, &*member.identity());
                let accepted = Acceptance::of(&self.config.ignore, &member);
                let identity = &*match layer {
                    Layer::Workload => self.config.identity.shown(identity),
                    _ => Cow::Borrowed(identity),
                };
                let registry = &self.registry;
                let series = self
                    .sightings
                    .of(host, registry, direction, layer, identity);
                Judged {
                    named: Named::new(&member, identity, fingerprint),
                    judgement: judgement.accepting(accepted),
                    series,
                }
            })
            .collect()
    }

    /// SHA-256 of each certificate of a chain whose first ones have these DERs: Envoy gives that of the leaf, the
    /// directory those of the CAs that were added.
    fn fingerprints(
        &self,
        certificates: &[Certificate],
        ders: &[Vec<u8>],
        leaf: Option<Fingerprint>,
    ) -> Vec<Option<Fingerprint>> {
        let directory = self.directory.current();
        let of = |(position, certificate): (usize, &Certificate)| match ders.get(position) {
            Some(der) => Some(match leaf {
                Some(fingerprint) if position == 0 => fingerprint,
                _ => self.fingerprints.of(der),
            }),
            None => directory.fingerprint(certificate),
        };
        certificates.iter().enumerate().map(of).collect()
    }

    /// How the peer stands now. What is wrong with it is reported when it appears, and from time to
    /// time while it lasts.
    fn posture(&self, peer: &Peer, now: UnixTime) -> Rc<Posture> {
        peer.saw(now);
        let posture = peer.posture(now);
        if peer.is_report_due(now, self.config.log_repeat) {
            for judged in peer.chain() {
                for finding in peer.findings(judged, now) {
                    let context = peer.context(judged, finding, now);
                    self.reporter
                        .finding(now, peer.direction(), &judged.named, finding, context);
                }
            }
        }
        posture
    }

    /// Whether the configuration refuses a peer that stands so; if so it is reported.
    fn denies(&self, now: UnixTime, peer: &Peer, posture: &Posture, what: &str) -> bool {
        let denied = !posture.all.is_disjoint(self.config.deny);
        if denied {
            let (direction, who) = (peer.direction(), peer.identity());
            self.reporter
                .denied(now, direction, what, who, &posture.names);
        }
        denied
    }

    fn count(&self, host: &dyn Host, counter: Counter) {
        self.registry.count(host, counter);
    }

    /// Counts what is accepted of a peer at its first sight.
    fn count_ignored(&self, host: &dyn Host, direction: Direction, posture: &Posture) {
        let counter = |layer, finding| Counter::IgnoredFinding(direction, layer, finding);
        self.count_findings(host, &posture.ignored, counter);
    }

    fn count_findings(
        &self,
        host: &dyn Host,
        findings: &[(Layer, Findings)],
        counter: impl Fn(Layer, Finding) -> Counter,
    ) {
        for (layer, findings) in findings {
            for finding in findings.iter() {
                self.count(host, counter(*layer, finding));
            }
        }
    }
}

/// Who presented a certificate. A client's address without its port, which is another for each connection; a
/// server's with it.
fn presence(host: &dyn Host, direction: Direction, chain: &[Judged]) -> Presence {
    let path = match direction {
        Direction::Inbound => ["source", "address"],
        Direction::Outbound => ["upstream", "address"],
    };
    let address = host.property(&path).unwrap_or_default();
    let address = String::from_utf8_lossy(&address);
    let identity = chain.first().map(|leaf| &*leaf.named.identity);
    match address_of_instance(direction, &address).zip(identity) {
        Some((address, identity)) => {
            Presence::Counts(Some(admission::hash(&format!("{identity} {address}"))))
        }
        // With X-Forwarded-For, the HTTP filter is told the address of another. The network filter of the same
        // connection is not.
        None if host.property(&[shown::STATUS]).is_some() => Presence::ToldElsewhere,
        None => Presence::Counts(None),
    }
}

/// Whether a peer has another address than this proxy has on the connection with it. A workload that calls itself comes
/// from its own.
#[inline(never)]
fn is_elsewhere(host: &dyn Host, direction: Direction) -> bool {
    let ends = match direction {
        Direction::Inbound => [["source", "address"], ["destination", "address"]],
        Direction::Outbound => [["upstream", "address"], ["upstream", "local_address"]],
    };
    let [peer, own] = ends.map(|path| host.property(&path).unwrap_or_default());
    without_port(&peer) != without_port(&own)
}

fn without_port(address: &[u8]) -> Option<&[u8]> {
    let port = address.iter().rposition(|byte| *byte == b':')?;
    address.get(..port)
}

/// An address of X-Forwarded-For has the port 0, and an internal listener or a socket file has none.
fn address_of_instance(direction: Direction, address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    match direction {
        _ if port == 0 => None,
        Direction::Inbound => Some(host),
        Direction::Outbound => Some(address),
    }
}

/// The layers of which a certificate could not be read.
fn unreadable_layers(reading: &Reading) -> Vec<Layer> {
    if reading.certificates.is_empty() {
        return vec![Layer::Workload];
    }
    // Where the leaf came from a later source, an earlier one does not speak against it.
    let layers = reading.unreadable.iter().map(|unreadable| unreadable.layer);
    layers.filter(|layer| *layer != Layer::Workload).collect()
}

/// Whether this proxy has ended TLS on the client's connection.
fn ends_tls(host: &dyn Host) -> bool {
    host.property(&["connection", "tls_version"]).is_some()
        || host::boolean(host, &["connection", "mtls"])
}

/// Whether there is a connection with the server: its address is known before. Envoy gives this proxy's own address on
/// it from then on; where a host does not, the response says whether connecting failed.
fn is_connected(host: &dyn Host) -> bool {
    host.property(&["upstream", "local_address"]).is_some()
        || host.property(&["upstream", "address"]).is_some() && !failure::failed_to_connect(host)
}

/// Whether Envoy has verified the client's certificate on this connection, as far as it says (1.39 or later). It has not
/// where it resumed a TLS session, or accepts untrusted certificates.
fn verified(host: &dyn Host) -> Option<bool> {
    let valid = host.property(&["connection", "peer_certificate_valid"])?;
    Some(valid.first() == Some(&1))
}

/// What stands for the fingerprint where Envoy gives none: the digest of the certificate's text.
fn attribute_fingerprint(host: &dyn Host, direction: Direction) -> Option<Fingerprint> {
    let root = match direction {
        Direction::Inbound => "connection",
        Direction::Outbound => "upstream",
    };
    let text = host.property(&[root, "peer_certificate"])?;
    Some(Sha256::digest(text).into())
}
