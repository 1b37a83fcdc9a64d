//! What one proxy's metrics say of its hierarchy.

use std::collections::{BTreeMap, BTreeSet};

use mtls_watch_core::metrics::{
    CATALOGUE, HANDSHAKE_FAILURES, ISSUER_LAST_SEEN, Metric, NOT_BEFORE, OWN_FINDINGS,
    OWN_NOT_BEFORE, OWN_PRESENT, OWN_TRUST_ANCHOR, TRUST_BUNDLE_CA,
};
use mtls_watch_x509::time::UnixTime;

use exposition::Sample;

/// The label value of all CAs beyond the module's limit.
const FOLDED: &str = "other";
/// How a CA is called of which Envoy tells the serial number only (certificates from files).
const NAMELESS: &str = "serial:";

/// A proxy, as far as its metrics tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxy {
    /// As named on the command line.
    pub(super) name: String,
    /// Why nothing is known of its hierarchy; `None`: it is known.
    pub(super) blind: Option<Blind>,
    /// The CAs that are, or have been, in its trust bundle, and whether they are now.
    pub(super) bundle: BTreeMap<String, bool>,
    /// A CA of the bundle has no name in the metrics, so that none can be said to be missing.
    pub(super) nameless_in_bundle: bool,
    /// Its own leaves with what signed them.
    pub(super) chains: Vec<Chain>,
    /// When peers' leaves were last seen, by the CA that signed them.
    pub(super) seen: BTreeMap<String, Seen>,
    /// When a peer was last seen whose CA has no series of its own.
    pub(super) folded_seen: Option<UnixTime>,
    /// Start of validity of the CAs, where known.
    pub(super) not_before: BTreeMap<String, UnixTime>,
    /// The CAs that are self-issued.
    pub(super) roots: BTreeSet<String>,
    /// CAs that have left its own chains.
    pub(super) left: BTreeSet<String>,
    /// Handshakes that it has refused, since it started, because it did not know the peer's CA.
    pub(super) unknown_ca_failures: u64,
}

/// Why nothing is known of a proxy's hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blind {
    /// There is no metric of the module.
    NotLoaded,
    /// Envoy has left the labels in the names.
    Untagged,
    /// The module does not read the hierarchy, or has not yet.
    NotRead,
}

impl Blind {
    /// What is missing, and what to do.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NotLoaded => "no mtls-watch metrics: the module is not loaded",
            Self::Untagged => {
                "labels are part of the names: add the stats tags (mtls-watch stats-tags)"
            }
            Self::NotRead => {
                "no mtls_trust_bundle_ca: set \"hierarchy\", and see mtls_watch_hierarchy_polls_total"
            }
        }
    }
}

/// A leaf of the proxy's own, with its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// The secret that holds it.
    pub(super) secret: String,
    /// The CA that signed the leaf; `None` if the chain does not show it.
    pub(super) signer: Option<String>,
    /// The CAs above the signer that the chain and the trust bundle show, the root last.
    pub(super) above: Vec<String>,
    /// A root is among them.
    pub(super) has_root: bool,
}

/// When peers with leaves of a CA were last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Seen {
    /// As clients.
    pub(super) inbound: Option<UnixSeconds>,
    /// As servers.
    pub(super) outbound: Option<UnixSeconds>,
}

/// A time in JSON: Unix seconds.
pub(super) type UnixSeconds = i64;

impl Seen {
    /// The later of the two.
    pub(super) fn latest(self) -> Option<UnixTime> {
        self.inbound.max(self.outbound).map(UnixTime)
    }
}

/// The rows of `mtls_own_certificate_present`.
struct Row<'a> {
    layer: &'a str,
    secret: &'a str,
    identity: &'a str,
    present: bool,
}

impl Proxy {
    /// The facts in a proxy's samples.
    pub(super) fn new(name: &str, samples: &[Sample]) -> Self {
        let rows: Vec<Row<'_>> = of(samples, &OWN_PRESENT).filter_map(Row::new).collect();
        let anchors = of(samples, &OWN_TRUST_ANCHOR).filter(|sample| sample.value > 0.0);
        let anchors: Vec<(&str, &str)> = anchors
            .filter_map(|sample| Some((sample.find_label("secret")?, sample.find_label("ca")?)))
            .collect();
        let mut proxy = Self {
            name: name.to_owned(),
            blind: blind(samples),
            bundle: of(samples, &TRUST_BUNDLE_CA)
                .filter_map(|sample| {
                    Some((sample.find_label("ca")?.to_owned(), sample.value > 0.0))
                })
                .collect(),
            nameless_in_bundle: unreadable(samples, "root_ca"),
            chains: chains(&rows, &anchors),
            not_before: not_before(samples),
            roots: named(rows.iter().filter(|row| row.layer == "root_ca")),
            left: named(rows.iter().filter(|row| row.is_ca() && !row.present)),
            unknown_ca_failures: of(samples, &HANDSHAKE_FAILURES)
                .filter(|sample| sample.find_label("reason") == Some("unknown_ca"))
                .map(|sample| sample.value as u64)
                .fold(0, u64::saturating_add),
            ..Self::default()
        };
        proxy.nameless_in_bundle |= proxy
            .bundle
            .iter()
            .any(|(ca, present)| *present && nameless(ca));
        proxy.add_seen(samples);
        if unreadable(samples, "issuing_ca") {
            proxy.chains.push(Chain::unreadable());
        }
        proxy
    }

    fn add_seen(&mut self, samples: &[Sample]) {
        for sample in of(samples, &ISSUER_LAST_SEEN) {
            let (Some(issuer), Some(at)) = (sample.find_label("issuer"), time(sample)) else {
                continue;
            };
            if issuer == FOLDED {
                self.folded_seen = self.folded_seen.max(Some(at));
                continue;
            }
            let seen = self.seen.entry(issuer.to_owned()).or_default();
            let side = match sample.find_label("direction") {
                Some("outbound") => &mut seen.outbound,
                _ => &mut seen.inbound,
            };
            *side = (*side).max(Some(at.0));
        }
    }

    /// Whether a CA is in the bundle now; `None` if that cannot be told.
    pub(super) fn has_in_bundle(&self, ca: &str) -> Option<bool> {
        match self.bundle.get(ca) {
            Some(true) => Some(true),
            _ if self.blind.is_some() || self.nameless_in_bundle => None,
            _ => Some(false),
        }
    }

    /// Whether a CA has ever left the bundle.
    pub(super) fn bundle_has_shrunk(&self) -> bool {
        self.bundle.values().any(|present| !present)
    }

    /// Every CA that its metrics name.
    pub(super) fn cas(&self) -> impl Iterator<Item = &String> {
        let chains = self.chains.iter();
        let chains = chains.flat_map(|chain| chain.signer.iter().chain(&chain.above));
        let gone = self.left.iter();
        self.bundle
            .keys()
            .chain(chains)
            .chain(self.seen.keys())
            .chain(gone)
    }
}

impl Chain {
    /// A chain of which the metrics say only that it is there.
    fn unreadable() -> Self {
        Self {
            secret: "unreadable".to_owned(),
            signer: None,
            above: Vec::new(),
            has_root: false,
        }
    }
}

impl<'a> Row<'a> {
    fn new(sample: &'a Sample) -> Option<Self> {
        Some(Self {
            layer: sample.find_label("layer")?,
            secret: sample.find_label("secret")?,
            identity: sample.find_label("identity")?,
            present: sample.value > 0.0,
        })
    }

    fn is_ca(&self) -> bool {
        self.layer != "workload"
    }

    fn is_ca_named(&self, name: &str) -> bool {
        self.present && self.is_ca() && self.identity == name && !nameless(name)
    }
}

fn of<'a, L>(samples: &'a [Sample], metric: &Metric<L>) -> impl Iterator<Item = &'a Sample> {
    let name = metric.description.name;
    samples.iter().filter(move |sample| sample.name == name)
}

fn blind(samples: &[Sample]) -> Option<Blind> {
    let is_ours = |sample: &Sample| {
        CATALOGUE
            .iter()
            .any(|metric| sample.name.starts_with(metric.name))
    };
    let is_untagged = |sample: &Sample| {
        CATALOGUE
            .iter()
            .any(|metric| ends_in(&sample.name, metric.name))
    };
    if of(samples, &TRUST_BUNDLE_CA).any(|sample| sample.find_label("ca").is_some()) {
        None
    } else if samples.iter().any(is_untagged) {
        Some(Blind::Untagged)
    } else if samples.iter().any(is_ours) {
        Some(Blind::NotRead)
    } else {
        Some(Blind::NotLoaded)
    }
}

/// Whether a metric's name is there behind its labels: `ca___x____mtls_trust_bundle_ca`.
fn ends_in(sample: &str, name: &str) -> bool {
    let labels = sample.strip_suffix(name);
    labels.is_some_and(|labels| labels.contains("___"))
}

/// The chains: what is in a secret together with a leaf.
fn chains(rows: &[Row<'_>], anchors: &[(&str, &str)]) -> Vec<Chain> {
    let leaves = rows.iter().filter(|row| row.present && !row.is_ca());
    let secrets: BTreeSet<&str> = leaves.map(|row| row.secret).collect();
    let chains = secrets
        .into_iter()
        .map(|secret| chain(secret, rows, anchors));
    chains.collect()
}

fn chain(secret: &str, rows: &[Row<'_>], anchors: &[(&str, &str)]) -> Chain {
    let cas = |layer| -> Vec<String> {
        let of_it = |row: &&Row<'_>| row.present && row.secret == secret && row.layer == layer;
        let cas = rows.iter().filter(of_it);
        cas.map(|row| row.identity.to_owned()).collect()
    };
    let (roots, intermediates) = (cas("root_ca"), cas("intermediate_ca"));
    // A root signs the leaf itself where nothing is between them.
    let by_root = roots.first().filter(|_| intermediates.is_empty()).cloned();
    let signer = cas("issuing_ca").into_iter().next().or(by_root);
    // The root is seldom sent along; the bundle has it.
    let anchors = anchors.iter().filter(|(of, _)| *of == secret);
    let anchors = anchors.filter_map(|(_, ca)| rows.iter().find(|row| row.is_ca_named(ca)));
    let anchors: Vec<&Row<'_>> = anchors.collect();
    let has_root = !roots.is_empty() || anchors.iter().any(|row| row.layer == "root_ca");
    let mut above: Vec<String> = Vec::new();
    let anchors = anchors.iter().map(|row| row.identity.to_owned());
    for ca in intermediates.into_iter().chain(roots).chain(anchors) {
        if signer.as_ref() != Some(&ca) && !above.contains(&ca) {
            above.push(ca);
        }
    }
    Chain {
        secret: secret.to_owned(),
        above,
        signer: signer.filter(|ca| !nameless(ca)),
        has_root,
    }
}

fn not_before(samples: &[Sample]) -> BTreeMap<String, UnixTime> {
    let all = of(samples, &OWN_NOT_BEFORE).chain(of(samples, &NOT_BEFORE));
    let cas = all.filter(|sample| {
        sample
            .find_label("layer")
            .is_some_and(|layer| layer != "workload")
    });
    cas.filter_map(|sample| Some((sample.find_label("identity")?.to_owned(), time(sample)?)))
        .collect()
}

/// Whether a certificate of the proxy could not be read. The module gives those of bundles as
/// `root_ca`, those of chains as `issuing_ca`.
fn unreadable(samples: &[Sample], layer: &str) -> bool {
    of(samples, &OWN_FINDINGS).any(|sample| {
        sample.find_label("finding") == Some("unreadable")
            && sample.find_label("layer") == Some(layer)
            && sample.value > 0.0
    })
}

fn named<'a>(rows: impl Iterator<Item = &'a Row<'a>>) -> BTreeSet<String> {
    let names = rows.map(|row| row.identity.to_owned());
    names.filter(|ca| !nameless(ca)).collect()
}

fn nameless(ca: &str) -> bool {
    ca.starts_with(NAMELESS) || ca == FOLDED
}

fn time(sample: &Sample) -> Option<UnixTime> {
    sample
        .value
        .is_finite()
        .then_some(UnixTime(sample.value as i64))
}
