//! Which CA stands under which.
//!
//! Told by the CAs of their bundles that proxies' own leaves stand under, and by certificates of the CAs
//! (`--cas`). Never by position: a chain has passengers, CAs that signed nothing in it.

use std::collections::{BTreeMap, BTreeSet};

use mtls_watch_core::metrics::name::label_value;
use mtls_watch_x509::Certificate;

use super::chain::Carried;
use super::proxy::Proxy;
use crate::verify;

/// What is known of the hierarchy above each CA.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ancestry {
    /// Of a CA, those known to stand above it.
    above: BTreeMap<String, BTreeSet<Link>>,
    /// Of a CA, those that are sent along with its leaves: links or passengers.
    perhaps_above: BTreeMap<String, BTreeSet<String>>,
    /// CAs that are self-issued.
    roots: BTreeSet<String>,
    /// Roots of which there is another certificate: one by which they stand under a CA that is not known.
    crossed: BTreeSet<String>,
    /// CAs that were seen to sign leaves.
    issuing: BTreeSet<String>,
    /// CAs that are in a bundle.
    anchors: BTreeSet<String>,
    /// CAs whose certificates were given.
    pub(crate) certified: BTreeSet<String>,
    /// The CA of each certificate that was given, by the digits of its SHA-256.
    pub(crate) certificates: BTreeMap<String, String>,
}

/// A CA above another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    /// The upper CA.
    pub(crate) parent: String,
    /// The certificate by which it is above, of those that were given; `None`: a proxy's own leaf stands under
    /// it.
    pub(crate) certificate: Option<String>,
}

/// A CA's certificate that was given.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its facts.
    pub(crate) certificate: Certificate,
    /// Its DER.
    pub(crate) der: Vec<u8>,
    /// The first [`DIGITS`] of its SHA-256.
    pub(crate) digits: String,
}

/// Digits of a certificate's SHA-256 in the label `certificate`.
pub(crate) const DIGITS: usize = 8;

impl Ancestry {
    /// What the proxies' own leaves and the CAs' certificates show.
    pub(crate) fn new(proxies: &[Proxy], cas: &[Known]) -> Self {
        let mut ancestry = Self::default();
        for proxy in proxies {
            ancestry.roots.extend(proxy.roots.iter().cloned());
            ancestry.issuing.extend(proxy.seen.keys().cloned());
            let in_bundles = proxy.bundles.iter().flat_map(|bundle| bundle.cas());
            ancestry.anchors.extend(in_bundles.cloned());
            for chain in &proxy.chains {
                let Some(signer) = &chain.signer else {
                    continue;
                };
                ancestry.issuing.insert(signer.clone());
                let above = chain.anchors().iter().chain(&chain.above);
                for parent in above.filter(|parent| *parent != signer) {
                    ancestry.add(signer, parent, None);
                }
                if let [intermediate, root] = chain.above.as_slice() {
                    ancestry.add(intermediate, root, None);
                }
                let carried = chain.carried.iter().filter(|carried| !carried.is_root);
                let perhaps = ancestry.perhaps_above.entry(signer.clone()).or_default();
                perhaps.extend(carried.map(|carried| carried.ca.clone()));
            }
        }
        for ca in cas {
            ancestry.add_certificate(ca, cas);
        }
        let chains = proxies.iter().flat_map(|proxy| &proxy.chains);
        let carried = chains.flat_map(|chain| &chain.carried);
        let crossed = carried.filter(|carried| ancestry.is_cross(carried, proxies));
        let mut crossed: BTreeSet<String> = crossed.map(|carried| carried.ca.clone()).collect();
        let issued = proxies.iter().flat_map(|proxy| &proxy.issued);
        let issued = issued.filter(|(ca, digits)| {
            let is_given = digits
                .as_ref()
                .is_some_and(|it| ancestry.certificates.contains_key(it));
            ancestry.roots.contains(ca) && !is_given
        });
        crossed.extend(issued.map(|(ca, _)| ca.clone()));
        ancestry.crossed = crossed;
        ancestry
    }

    fn is_cross(&self, carried: &Carried, proxies: &[Proxy]) -> bool {
        let certificate = carried.certificate.as_ref();
        let is_given = certificate.is_some_and(|digits| self.certificates.contains_key(digits));
        let is_trusted = || {
            let mut bundles = proxies.iter().flat_map(|proxy| &proxy.bundles);
            bundles.any(|bundle| bundle.has_had(&carried.ca, certificate.map(String::as_str)))
        };
        self.roots.contains(&carried.ca) && certificate.is_some() && !is_given && !is_trusted()
    }

    fn add(&mut self, ca: &str, parent: &str, certificate: Option<String>) {
        let link = Link {
            parent: parent.to_owned(),
            certificate,
        };
        self.above.entry(ca.to_owned()).or_default().insert(link);
    }

    fn add_certificate(&mut self, ca: &Known, all: &[Known]) {
        let Known {
            certificate,
            digits,
            ..
        } = ca;
        let name = ca.ca();
        self.certified.insert(name.clone());
        self.certificates.insert(digits.clone(), name.clone());
        // A certificate need not have the key identifier of its issuer; a root may leave it out.
        let issuer = ca.issuers(all).find(|issuer| issuer.has_signed(ca));
        let parent = match issuer.filter(|_| !certificate.is_self_issued()) {
            Some(issuer) => issuer.ca(),
            None => label_value(&certificate.issuer_ca()).into_owned(),
        };
        // A root may sign another of its own name, and another key: that one is no root by this certificate.
        match certificate.is_self_issued() && parent == name {
            true => {
                self.roots.insert(name);
            }
            false => self.add(&name, &parent, Some(digits.clone())),
        }
    }

    /// The CAs directly above a CA, as far as known.
    pub(crate) fn links(&self, ca: &str) -> impl Iterator<Item = &Link> {
        self.above.get(ca).into_iter().flatten()
    }

    /// The CAs known to stand above a CA, nearest first.
    pub(crate) fn above(&self, ca: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        let mut next: Vec<&str> = vec![ca];
        while let Some(current) = next.pop() {
            for link in self.links(current) {
                if link.parent != ca && !found.contains(&link.parent.as_str()) {
                    found.push(&link.parent);
                    next.push(&link.parent);
                }
            }
        }
        found
    }

    /// The CAs known to stand under a CA.
    pub(crate) fn below(&self, ca: &str) -> Vec<&str> {
        let below = self.above.keys().map(String::as_str);
        below
            .filter(|it| *it != ca && self.above(it).contains(&ca))
            .collect()
    }

    /// The CAs that are no roots and are sent along with leaves of a CA.
    pub(crate) fn sent_with(&self, ca: &str) -> impl Iterator<Item = &str> {
        let sent = self.perhaps_above.get(ca).into_iter().flatten();
        sent.map(String::as_str)
    }

    /// Whether roots sign leaves themselves.
    pub(crate) fn roots_sign(&self) -> bool {
        self.issuing.iter().any(|ca| self.roots.contains(ca))
    }

    /// Whether every way that is known up from `ca` leads through `link`, or begins with it.
    pub(crate) fn needs(&self, ca: &str, link: &str) -> bool {
        ca == link || !self.avoids(ca, link, &mut BTreeSet::new())
    }

    fn avoids<'a>(&'a self, ca: &'a str, link: &str, met: &mut BTreeSet<&'a str>) -> bool {
        if ca == link || !met.insert(ca) {
            return false;
        }
        let mut links = self.links(ca).peekable();
        links.peek().is_none() || links.any(|above| self.avoids(&above.parent, link, met))
    }

    /// Whether a CA is self-issued, as far as known.
    pub(crate) fn is_root(&self, ca: &str) -> bool {
        self.roots.contains(ca)
    }

    /// Whether everything above a CA is known.
    pub(crate) fn is_complete(&self, ca: &str) -> bool {
        self.ends_in_roots(ca, &mut BTreeSet::new())
    }

    fn ends_in_roots<'a>(&'a self, ca: &'a str, met: &mut BTreeSet<&'a str>) -> bool {
        if self.roots.contains(ca) {
            return !self.crossed.contains(ca);
        }
        // CAs that have signed each other lead nowhere.
        let mut links = self.links(ca).peekable();
        met.insert(ca)
            && links.peek().is_some()
            && links.all(|link| self.ends_in_roots(&link.parent, met))
    }

    /// Whether a CA is `top`, or stands under it; `None` if that cannot be told.
    pub(crate) fn is_below(&self, ca: &str, top: &str) -> Option<bool> {
        if ca == top || self.above(ca).contains(&top) {
            return Some(true);
        }
        // What signs leaves, is no root and in no bundle, is taken to sign nothing but leaves.
        let signs_leaves_only =
            self.issuing.contains(top) && !self.roots.contains(top) && !self.anchors.contains(top);
        (self.is_sure(ca, top) || signs_leaves_only).then_some(false)
    }

    /// Whether everything above a CA is known, and `top` is not among it.
    fn is_sure(&self, ca: &str, top: &str) -> bool {
        let perhaps = self.perhaps_above.get(ca);
        let is_sent = perhaps.is_some_and(|perhaps| perhaps.contains(top));
        self.is_complete(ca) && (!is_sent || self.certified.contains(ca))
    }

    /// Whether a CA that is no root is sent along with leaves that are in use.
    pub(crate) fn is_sent(&self, ca: &str) -> bool {
        let mut sent = self.perhaps_above.values();
        sent.any(|sent| sent.contains(ca))
    }

    /// The layer of a CA, if known.
    pub(crate) fn layer(&self, ca: &str) -> Option<&'static str> {
        let mut links = self.above.values().flatten();
        let mut is_above = || links.any(|link| link.parent == ca);
        if self.roots.contains(ca) {
            Some("root_ca")
        } else if self.issuing.contains(ca) {
            Some("issuing_ca")
        } else if is_above() || self.is_sent(ca) {
            Some("intermediate_ca")
        } else {
            None
        }
    }
}

impl Known {
    /// Those of `all` that it names as its issuer.
    fn issuers<'a>(&'a self, all: &'a [Self]) -> impl Iterator<Item = &'a Self> {
        let names = |other: &&Self| self.certificate.names_as_issuer(&other.certificate);
        all.iter().filter(names)
    }

    /// Whether its key has signed another. Of what cannot be read for that, names must do.
    fn has_signed(&self, other: &Self) -> bool {
        verify::has_signed(&self.der, &other.der) != Some(false)
    }

    /// Checks that each certificate is signed by one that it names, where one of those is given.
    ///
    /// # Errors
    /// Which one is not, in words.
    pub(crate) fn check_signatures(all: &[Self]) -> Result<(), String> {
        // Nobody verifies the signature of a root.
        for known in all.iter().filter(|it| !it.certificate.is_self_issued()) {
            let mut issuers = known.issuers(all).peekable();
            let Some(named) = issuers.peek().map(|issuer| issuer.ca()) else {
                continue;
            };
            if !issuers.any(|issuer| issuer.has_signed(known)) {
                let (ca, digits) = (known.ca(), &known.digits);
                return Err(format!(
                    "--cas: {ca} (certificate {digits}) names {named} as its issuer, but the key of that one has not signed it"
                ));
            }
        }
        Ok(())
    }

    /// The name of the CA as in labels.
    pub(crate) fn ca(&self) -> String {
        label_value(&self.certificate.subject_ca()).into_owned()
    }
}
