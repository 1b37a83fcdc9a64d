//! Which CA stands under which.
//!
//! The metrics have the layers of each proxy's own chain, and those only. A chain seldom shows its root;
//! certificates of the CAs (`--cas`) tell the rest.

use std::collections::{BTreeMap, BTreeSet};

use mtls_watch_core::metrics::name::label_value;
use mtls_watch_x509::Certificate;

use super::proxy::{Chain, Proxy};

/// What is known of the hierarchy above each CA.
#[derive(Clone, Debug, Default)]
pub(super) struct Ancestry {
    /// Of a CA, those known to stand above it.
    above: BTreeMap<String, BTreeSet<String>>,
    /// CAs that are self-issued.
    roots: BTreeSet<String>,
    /// CAs of which a chain up to the root was seen.
    to_the_root: BTreeSet<String>,
    /// CAs that were seen to sign leaves.
    issuing: BTreeSet<String>,
    /// CAs whose certificates were given.
    pub(super) certified: BTreeSet<String>,
}

impl Ancestry {
    /// What the proxies' own chains and the CAs' certificates show.
    pub(super) fn new(proxies: &[Proxy], cas: &[Certificate]) -> Self {
        let mut ancestry = Self::default();
        for proxy in proxies {
            ancestry.roots.extend(proxy.roots.iter().cloned());
            ancestry.issuing.extend(proxy.seen.keys().cloned());
            for chain in &proxy.chains {
                ancestry.add_chain(chain);
            }
        }
        for ca in cas {
            ancestry.add_certificate(ca);
        }
        ancestry
    }

    fn add_chain(&mut self, chain: &Chain) {
        let Some(signer) = &chain.signer else { return };
        self.issuing.insert(signer.clone());
        let above = self.above.entry(signer.clone()).or_default();
        above.extend(chain.above.iter().cloned());
        if !chain.has_root {
            return;
        }
        self.to_the_root.insert(signer.clone());
        // Of several intermediates it is not known which signed which.
        if let [intermediate, root] = chain.above.as_slice() {
            let above = self.above.entry(intermediate.clone()).or_default();
            above.insert(root.clone());
        }
    }

    fn add_certificate(&mut self, ca: &Certificate) {
        let name = label_value(&ca.subject_ca()).into_owned();
        self.certified.insert(name.clone());
        match ca.is_self_issued() {
            true => {
                self.roots.insert(name);
            }
            false => {
                let above = self.above.entry(name).or_default();
                above.insert(label_value(&ca.issuer_ca()).into_owned());
            }
        }
    }

    /// The CAs known to stand above a CA, nearest first.
    pub(super) fn above(&self, ca: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        let mut next: Vec<&str> = vec![ca];
        while let Some(current) = next.pop() {
            for parent in self.above.get(current).into_iter().flatten() {
                if parent != ca && !found.contains(&parent.as_str()) {
                    found.push(parent);
                    next.push(parent);
                }
            }
        }
        found
    }

    /// Whether everything above a CA is known.
    pub(super) fn is_complete(&self, ca: &str) -> bool {
        self.ends_in_roots(ca, &mut BTreeSet::new())
    }

    fn ends_in_roots<'a>(&'a self, ca: &'a str, met: &mut BTreeSet<&'a str>) -> bool {
        if self.roots.contains(ca) || self.to_the_root.contains(ca) {
            return true;
        }
        // CAs that have signed each other lead nowhere.
        let parents = self.above.get(ca).filter(|parents| !parents.is_empty());
        met.insert(ca)
            && parents
                .is_some_and(|parents| parents.iter().all(|parent| self.ends_in_roots(parent, met)))
    }

    /// Whether a CA is `top`, or stands under it; `None` if that cannot be told.
    pub(super) fn is_below(&self, ca: &str, top: &str) -> Option<bool> {
        if ca == top || self.above(ca).contains(&top) {
            return Some(true);
        }
        // What signs leaves, and is no root, is taken to sign nothing but leaves.
        let signs_leaves_only = self.issuing.contains(top) && !self.roots.contains(top);
        (self.is_complete(ca) || signs_leaves_only).then_some(false)
    }

    /// The layer of a CA, if known.
    pub(super) fn layer(&self, ca: &str) -> Option<&'static str> {
        let is_above_another = || self.above.values().any(|above| above.contains(ca));
        if self.roots.contains(ca) {
            Some("root_ca")
        } else if self.issuing.contains(ca) {
            Some("issuing_ca")
        } else if is_above_another() {
            Some("intermediate_ca")
        } else {
            None
        }
    }
}
