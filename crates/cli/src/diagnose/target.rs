//! What could be seen of one side of a handshake, whatever it was read from. Sources build it, steps judge it.

use std::collections::BTreeSet;
use std::rc::Rc;

use mtls_watch_core::own::admin::CertificateKey;
use mtls_watch_core::terms::Layer;
use mtls_watch_x509 as x509;
use mtls_watch_x509::crl::RevocationList;
use mtls_watch_x509::describe::{serial_number, why_unreadable};
use mtls_watch_x509::time::UnixTime;

use super::counters::Counters;
use super::matcher::Matcher;

/// What was looked for: it was seen, or why not.
#[derive(Clone, Debug)]
pub(super) enum Seen<T> {
    Yes(T),
    /// Why it could not be seen, in words.
    No(String),
}

impl<T> Seen<T> {
    pub(super) fn not(why: impl Into<String>) -> Self {
        Self::No(why.into())
    }

    pub(super) const fn seen(&self) -> Option<&T> {
        match self {
            Self::Yes(value) => Some(value),
            Self::No(_) => None,
        }
    }
}

/// A proxy, or files that stand for one.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// As named on the command line.
    pub(super) name: String,
    pub(super) origin: Origin,
    /// Each use of a certificate, and of a trust bundle.
    pub(super) contexts: Vec<Context>,
    /// What Envoy serves now, which may be older than what its secrets say.
    pub(super) served: Seen<Served>,
    pub(super) counters: Seen<Counters>,
    /// Certificates and bundles that nobody has supplied: name, and why, where that is known.
    pub(super) missing: Vec<(String, String)>,
    /// What else could not be seen.
    pub(super) unseen: Vec<String>,
}

/// Where a target was read from: that decides which commands lead to its cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File,
    /// A Secret of Kubernetes: its namespace and name.
    Secret(String, String),
    Admin,
    /// A pod: its namespace and name, and the arguments of kubectl that lead to it.
    Pod(Pod),
    /// ztunnel's dump.
    Ztunnel,
    /// The module's series in the Prometheus of this address.
    Series(String),
}

/// A pod of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    /// `--context` and `--namespace`, as they were given.
    pub(super) options: Vec<String>,
}

/// On which side of a handshake a context stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// A listener: it ends TLS.
    Server,
    /// A cluster: it begins TLS.
    Client,
    /// Nothing tells.
    Either,
}

impl Role {
    pub(super) const fn is_server(self) -> bool {
        matches!(self, Self::Server | Self::Either)
    }

    pub(super) const fn is_client(self) -> bool {
        matches!(self, Self::Client | Self::Either)
    }
}

/// One TLS context: the certificate that it shows, and what it asks of the peer's.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) role: Role,
    /// The listeners or clusters that have it.
    pub(super) places: Vec<String>,
    /// `None`: it shows no certificate.
    pub(super) chain: Seen<Option<Rc<Chain>>>,
    pub(super) trust: Seen<Trust>,
    /// Of a server: whether a client must show a certificate.
    pub(super) requires_certificate: bool,
    pub(super) versions: Versions,
}

/// Whom a context accepts.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    pub(super) anchors: Anchors,
    /// The peer's names must match one of these; none: any name will do.
    pub(super) matchers: Vec<Matcher>,
    /// Settings that decide, too, and are not judged here.
    pub(super) not_judged: Vec<&'static str>,
    pub(super) lists: Vec<PlacedList>,
    /// Whether only the leaf is looked up in them (`only_verify_leaf_cert_crl`).
    pub(super) lists_are_for_leaf: bool,
}

/// A revocation list, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlacedList {
    pub(super) place: String,
    pub(super) list: RevocationList,
}

impl AsRef<RevocationList> for PlacedList {
    fn as_ref(&self) -> &RevocationList {
        &self.list
    }
}

/// The CAs by which peers are judged.
#[derive(Clone, Debug)]
pub(super) enum Anchors {
    /// No validation: any certificate, or none, is accepted.
    Anyone,
    Bundle(Rc<Bundle>),
    /// Of Envoy's SPIFFE validator: a bundle for each trust domain.
    TrustDomains(Vec<(String, Rc<Bundle>)>),
}

impl Anchors {
    pub(super) fn bundles(&self) -> Vec<&Rc<Bundle>> {
        match self {
            Self::Anyone => Vec::new(),
            Self::Bundle(bundle) => vec![bundle],
            Self::TrustDomains(domains) => domains.iter().map(|(_, bundle)| bundle).collect(),
        }
    }
}

/// TLS versions that are allowed, as Envoy writes them (`TLSv1_2`); `None`: its default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) minimum: Option<u8>,
    pub(super) maximum: Option<u8>,
}

/// The certificates that are shown, the leaf first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Name of the secret, path of the file, or where in a file it stands.
    pub(super) place: String,
    pub(super) certificates: Vec<Certificate>,
}

/// The CAs that are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    pub(super) place: String,
    pub(super) certificates: Vec<Certificate>,
}

/// A certificate, as DER; where it can be read, with its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) der: Vec<u8>,
    pub(super) facts: Result<x509::Certificate, String>,
}

impl Certificate {
    /// Of what an input has for one.
    pub(super) fn new(der: Result<Vec<u8>, String>) -> Self {
        match der {
            Ok(der) => Self {
                facts: x509::parse(&der).map_err(|error| why_unreadable(&der, &error)),
                der,
            },
            Err(why) => Self {
                der: Vec::new(),
                facts: Err(why),
            },
        }
    }

    pub(super) fn read(&self) -> Option<&x509::Certificate> {
        self.facts.as_ref().ok()
    }

    /// By what Envoy's `/certs` tells it, too.
    pub(super) fn key(&self) -> Option<CertificateKey> {
        let not_after = self.read()?.not_after;
        let serial = serial_number(&self.der).ok()?;
        Some(CertificateKey::new(&serial, not_after))
    }
}

impl Chain {
    pub(super) fn leaf(&self) -> Option<&x509::Certificate> {
        self.certificates.first()?.read()
    }

    /// How the leaf is called in messages.
    pub(super) fn name(&self) -> &str {
        self.leaf().map_or(&self.place, |leaf| &leaf.identity)
    }

    pub(super) fn ders(&self) -> Vec<Vec<u8>> {
        self.certificates.iter().map(|it| it.der.clone()).collect()
    }
}

impl Bundle {
    pub(super) fn ders(&self) -> Vec<Vec<u8>> {
        self.certificates.iter().map(|it| it.der.clone()).collect()
    }
}

/// What Envoy serves, by `/certs`.
#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    /// The leaves that are shown.
    pub(super) leaves: BTreeSet<CertificateKey>,
    /// What is served and was not seen as it is.
    pub(super) dated: Vec<Dated>,
}

/// A certificate of which only dates and names are known.
#[derive(Clone, Debug)]
pub(super) struct Dated {
    /// Path of the file.
    pub(super) place: String,
    pub(super) is_leaf: bool,
    pub(super) identity: Option<String>,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
}

impl Dated {
    /// Of a CA that is known by its dates only, nobody knows more than that it is trusted.
    pub(super) const fn layer(&self) -> Layer {
        match self.is_leaf {
            true => Layer::Workload,
            false => Layer::RootCa,
        }
    }
}

impl Target {
    /// Every chain, each once.
    pub(super) fn chains(&self) -> Vec<&Rc<Chain>> {
        let chains = self.contexts.iter().filter_map(|it| it.chain.seen());
        let mut found: Vec<&Rc<Chain>> = Vec::new();
        for chain in chains.flatten() {
            if !found.contains(&chain) {
                found.push(chain);
            }
        }
        found
    }

    /// Every bundle, each once.
    pub(super) fn bundles(&self) -> Vec<&Rc<Bundle>> {
        let trusts = self.contexts.iter().filter_map(|it| it.trust.seen());
        let mut found: Vec<&Rc<Bundle>> = Vec::new();
        for bundle in trusts.flat_map(|trust| trust.anchors.bundles()) {
            if !found.contains(&bundle) {
                found.push(bundle);
            }
        }
        found
    }
}
