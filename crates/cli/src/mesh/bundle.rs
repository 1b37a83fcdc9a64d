//! The trust bundles of one proxy.

use std::collections::{BTreeMap, BTreeSet};

use exposition::Sample;
use mtls_watch_core::metrics::{
    OWN_CRL_NEXT_UPDATE, OWN_CRL_THIS_UPDATE, OWN_NOT_AFTER, OWN_NOT_BEFORE, TRUST_BUNDLE_CA,
};
use mtls_watch_x509::time::UnixTime;

use super::series::{FOLDED, Presence, Processes, Row, nameless, of};

/// The certificates by which a listener or a cluster judges its peers: one secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bundle {
    /// The secret; empty: metrics of 0.1 do not tell.
    pub(crate) name: String,
    /// The certificates that are or have been in it, by their CA.
    anchors: BTreeMap<String, Vec<Anchor>>,
    /// Not every certificate in it is known by name, so that none can be said to be missing.
    pub(crate) is_partial: bool,
    /// The CAs of which it has a revocation list, and whether that one is valid.
    lists: BTreeMap<String, bool>,
}

/// A certificate of a bundle.
#[derive(Clone, Debug)]
struct Anchor {
    /// The first digits of its SHA-256; metrics of 0.1 do not tell.
    certificate: Option<String>,
    presence: Presence,
    /// It is between its dates, as far as they are known.
    is_valid: bool,
}

/// How a bundle has a CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Each certificate of it is valid.
    Firm,
    /// BoringSSL may take a certificate that is not valid, or it is not sure that one is there.
    Doubtful,
    /// No certificate of it is valid.
    Void,
    /// It has left.
    Left,
    /// It was never there.
    Never,
}

/// A CA, or one certificate of a CA that has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// The CA's name as in labels.
    pub(crate) ca: String,
    /// The first digits of the certificate's SHA-256.
    pub(crate) certificate: Option<String>,
}

impl Authority {
    fn is(&self, ca: &str, certificate: Option<&str>) -> bool {
        self.ca == ca && (self.certificate.is_none() || self.certificate.as_deref() == certificate)
    }
}

impl Bundle {
    /// How it has a CA, as if `without` were taken out.
    pub(crate) fn hold(&self, ca: &str, without: Option<&Authority>) -> Hold {
        let is_left_out = |anchor: &&Anchor| {
            without.is_some_and(|authority| authority.is(ca, anchor.certificate.as_deref()))
        };
        let Some(anchors) = self.anchors.get(ca) else {
            return Hold::Never;
        };
        let here = anchors
            .iter()
            .filter(|anchor| anchor.presence != Presence::Gone && !is_left_out(anchor));
        let here: Vec<&Anchor> = here.collect();
        let firm = |anchor: &&Anchor| anchor.is_valid && anchor.presence == Presence::Here;
        if here.is_empty() {
            Hold::Left
        } else if here.iter().all(|anchor| !anchor.is_valid) {
            Hold::Void
        } else if here.iter().all(|anchor| anchor.is_valid) && here.iter().any(firm) {
            Hold::Firm
        } else {
            Hold::Doubtful
        }
    }

    /// Whether one certificate is in it for sure.
    pub(crate) fn has_certificate(&self, authority: &Authority) -> bool {
        let anchors = self.anchors.get(&authority.ca).into_iter().flatten();
        anchors
            .filter(|anchor| authority.is(&authority.ca, anchor.certificate.as_deref()))
            .any(|anchor| anchor.presence == Presence::Here && anchor.is_valid)
    }

    /// Whether it has revocation lists.
    pub(crate) fn has_lists(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Whether Envoy refuses what a CA has signed because it has revocation lists, but no valid one of this CA.
    pub(crate) fn lacks_list(&self, ca: &str) -> bool {
        !self.lists.is_empty() && self.lists.get(ca) != Some(&true)
    }

    /// Whether it has the CA, valid or not, now.
    pub(crate) fn has(&self, ca: &str) -> bool {
        matches!(
            self.hold(ca, None),
            Hold::Firm | Hold::Doubtful | Hold::Void
        )
    }

    /// Whether it has the CA now or had it once.
    pub(crate) fn knows(&self, ca: &str) -> bool {
        self.anchors.contains_key(ca)
    }

    /// Whether a certificate of a CA is or was in it.
    pub(crate) fn has_had(&self, ca: &str, certificate: Option<&str>) -> bool {
        let mut anchors = self.anchors.get(ca).into_iter().flatten();
        anchors.any(|anchor| anchor.certificate.as_deref() == certificate)
    }

    /// Whether it has lost a certificate since the proxy started.
    pub(crate) fn has_shrunk(&self) -> bool {
        let mut anchors = self.anchors.values().flatten();
        anchors.any(|anchor| anchor.presence == Presence::Gone)
    }

    /// Every CA that is or was in it.
    pub(crate) fn cas(&self) -> impl Iterator<Item = &String> {
        self.anchors.keys()
    }

    /// The certificates that are in it now, each with its CA.
    pub(crate) fn current(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let anchors = self.anchors.iter();
        anchors.flat_map(|(ca, anchors)| {
            let here = anchors.iter().filter(|it| it.presence != Presence::Gone);
            here.map(move |anchor| (ca.as_str(), anchor.certificate.as_deref()))
        })
    }

    /// The certificates of a CA that are or were in it.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&str, &str)> {
        let anchors = self.anchors.iter();
        anchors.flat_map(|(ca, anchors)| {
            let known = anchors.iter().filter_map(|it| it.certificate.as_deref());
            known.map(move |certificate| (certificate, ca.as_str()))
        })
    }
}

/// The bundles that a scrape tells of, by name.
pub(crate) fn bundles(samples: &[Sample], rows: &[Row<'_>], now: UnixTime) -> Vec<Bundle> {
    let processes = Processes::of(samples);
    let validity = Validity::new(samples, now);
    let mut bundles: BTreeMap<String, Bundle> = BTreeMap::new();
    for sample in of(samples, &TRUST_BUNDLE_CA) {
        let Some(ca) = sample.find_label("ca") else {
            continue;
        };
        let certificate = sample.find_label("certificate");
        let places = match sample.find_label("secret") {
            Some(secret) => vec![(secret, processes.presence(sample.value))],
            None => places_of(ca, rows, processes.presence(sample.value)),
        };
        for (secret, presence) in places {
            let bundle = bundles.entry(secret.to_owned()).or_default();
            bundle.name = secret.to_owned();
            if nameless(ca) {
                bundle.is_partial |= presence != Presence::Gone;
                continue;
            }
            let anchor = Anchor {
                certificate: certificate.map(str::to_owned),
                presence,
                is_valid: validity.of(secret, ca, certificate),
            };
            bundle
                .anchors
                .entry(ca.to_owned())
                .or_default()
                .push(anchor);
        }
    }
    for bundle in bundles.values_mut() {
        bundle.lists = lists(samples, &bundle.name, now);
    }
    bundles.into_values().collect()
}

/// The CAs of which a bundle has a revocation list, and whether that one is valid.
fn lists(samples: &[Sample], secret: &str, now: UnixTime) -> BTreeMap<String, bool> {
    let processes = Processes::of(samples);
    let dates = |metric| {
        let of_it = of(samples, metric)
            .filter(|sample| sample.find_label("secret") == Some(secret) && sample.value > 0.0);
        of_it.filter_map(|sample| Some((sample.find_label("ca")?, processes.date(sample, now)?)))
    };
    let ended: BTreeSet<&str> = dates(&OWN_CRL_NEXT_UPDATE)
        .filter(|(_, end)| *end < now)
        .map(|(ca, _)| ca)
        .collect();
    let begun = dates(&OWN_CRL_THIS_UPDATE);
    begun
        .map(|(ca, begin)| (ca.to_owned(), begin <= now && !ended.contains(ca)))
        .collect()
}

/// Where a CA of the bundle is, by metrics of 0.1: in the secrets that have no leaf.
fn places_of<'a>(ca: &str, rows: &[Row<'a>], presence: Presence) -> Vec<(&'a str, Presence)> {
    let chains: BTreeSet<&str> = rows
        .iter()
        .filter(|row| !row.is_ca())
        .map(|row| row.secret)
        .collect();
    let of_it = rows
        .iter()
        .filter(|row| row.is_ca() && row.identity == ca && !chains.contains(row.secret));
    let places: Vec<(&str, Presence)> = of_it.map(|row| (row.secret, row.presence)).collect();
    match places.is_empty() {
        true if ca == FOLDED => vec![(FOLDED, presence)],
        true => vec![("", presence)],
        false => places,
    }
}

/// Whether the proxy's CA certificates are between their dates.
pub(crate) struct Validity {
    /// Certificates that are not, by secret, CA and digits.
    broken: BTreeSet<(String, String, Option<String>)>,
    /// The same by their digits, wherever they are.
    certificates: BTreeSet<String>,
}

impl Validity {
    pub(crate) fn new(samples: &[Sample], now: UnixTime) -> Self {
        let processes = Processes::of(samples);
        let broken = |sample: &&Sample, after: bool| {
            let date = processes.date(sample, now);
            date.is_some_and(|date| match after {
                true => date < now,
                false => date > now,
            })
        };
        let ended = of(samples, &OWN_NOT_AFTER).filter(|sample| broken(sample, true));
        let begins = of(samples, &OWN_NOT_BEFORE).filter(|sample| broken(sample, false));
        let all: Vec<&Sample> = ended.chain(begins).collect();
        let key = |sample: &&Sample| {
            let certificate = sample.find_label("certificate").map(str::to_owned);
            Some((
                sample.find_label("secret")?.to_owned(),
                sample.find_label("identity")?.to_owned(),
                certificate,
            ))
        };
        let digits = |sample: &&Sample| Some(sample.find_label("certificate")?.to_owned());
        Self {
            broken: all.iter().filter_map(key).collect(),
            certificates: all.iter().filter_map(digits).collect(),
        }
    }

    pub(crate) fn of(&self, secret: &str, ca: &str, certificate: Option<&str>) -> bool {
        let key = (
            secret.to_owned(),
            ca.to_owned(),
            certificate.map(str::to_owned),
        );
        let by_digits = certificate.is_some_and(|digits| self.certificates.contains(digits));
        !by_digits && !self.broken.contains(&key)
    }
}
