//! Whether a bundle accepts a leaf, as BoringSSL builds a path: from the leaf up, through what its owner sends
//! along, to the first CA that is in the bundle.

use std::collections::BTreeSet;

use super::ancestry::{Ancestry, Link};
use super::bundle::{Authority, Bundle, Hold};
use super::chain::Chain;
use super::proxy::Proxy;

/// Whether a bundle accepts a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The CA is in the bundle.
    Direct,
    /// A CA above it is in the bundle.
    Through(String),
    /// The proxy has accepted such a leaf, and its bundle has lost no CA.
    Accepted,
    /// No CA of its path is in the bundle, or that one is not valid.
    No,
    /// Cannot be told.
    Unknown(Doubt),
}

impl Trust {
    /// Whether it is sure that the leaf is accepted.
    pub(crate) const fn is_sure(&self) -> bool {
        matches!(self, Self::Direct | Self::Through(_) | Self::Accepted)
    }
}

/// Why it cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The bundle has certificates without a name.
    Nameless,
    /// What stands above the CA is not known.
    Ancestry,
    /// A certificate of this CA on the way is not valid, and another may be.
    Validity(String),
    /// The bundle has revocation lists, but no valid one of this CA.
    Revocation(String),
    /// The bundle has revocation lists, and what stands above this CA is not in it up to a root.
    NoRoot(String),
    /// The bundle has revocation lists, and it is not known which CA under this one will sign.
    Below,
    /// The way leads through this CA, of which it is not known whether peers send the certificate.
    Carried(String),
}

/// A leaf that a bundle is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaf<'a> {
    /// One that this CA, or one below it, will sign.
    Future(&'a str),
    /// A proxy's own, with the CA that signed it.
    Own(&'a str, &'a Chain),
    /// A peer's, by this CA, that this proxy has accepted.
    Peer(&'a str, &'a Proxy),
}

impl<'a> Leaf<'a> {
    /// The CA that signs it.
    pub(crate) const fn signer(self) -> &'a str {
        match self {
            Self::Future(signer) | Self::Own(signer, _) | Self::Peer(signer, _) => signer,
        }
    }
}

/// The CAs on the way up from a leaf.
#[derive(Debug, Default)]
struct Path<'a> {
    /// Those to which the leaf leads with what is sent along.
    sure: Vec<&'a str>,
    /// Those to which it may lead.
    perhaps: BTreeSet<&'a str>,
}

impl Bundle {
    /// Whether the bundle accepts a leaf, as if `without` were taken out.
    pub(crate) fn accepts(
        &self,
        leaf: Leaf<'_>,
        ancestry: &Ancestry,
        without: Option<&Authority>,
    ) -> Trust {
        let path = Path::new(leaf, ancestry);
        if let Some(anchor) = path
            .sure
            .iter()
            .find(|ca| self.hold(ca, without) == Hold::Firm)
        {
            if let Some(doubt) = self.unlisted(leaf, &path, ancestry, without) {
                return Trust::Unknown(doubt);
            }
            return match self.obstacle(leaf, &path, anchor, without) {
                Some(doubt) => Trust::Unknown(doubt),
                None if *anchor == leaf.signer() => Trust::Direct,
                None => Trust::Through((*anchor).to_owned()),
            };
        }
        let doubtful = |ca: &&&str| self.hold(ca, without) == Hold::Doubtful;
        let perhaps = |ca: &&&str| matches!(self.hold(ca, without), Hold::Firm | Hold::Doubtful);
        if let Some(ca) = path.sure.iter().find(doubtful) {
            Trust::Unknown(Doubt::Validity((*ca).to_owned()))
        } else if let Some(ca) = path.perhaps.iter().find(perhaps) {
            Trust::Unknown(Doubt::Carried((*ca).to_owned()))
        } else if self.is_partial {
            Trust::Unknown(Doubt::Nameless)
        } else if ancestry.is_complete(leaf.signer()) {
            Trust::No
        } else {
            Trust::Unknown(Doubt::Ancestry)
        }
    }

    /// Why Envoy may refuse a leaf for want of a revocation list. If a bundle has any, each certificate of the path must have
    /// a valid one of its issuer, and the path must end in a root of the bundle (measured on Envoy 1.40).
    fn unlisted(
        &self,
        leaf: Leaf<'_>,
        path: &Path<'_>,
        ancestry: &Ancestry,
        without: Option<&Authority>,
    ) -> Option<Doubt> {
        if !self.has_lists() {
            return None;
        }
        let is_firm_root = |ca: &&str| ancestry.is_root(ca) && self.hold(ca, without) == Hold::Firm;
        // BoringSSL takes what is in the bundle before what is sent, and goes on in the bundle.
        let leads_on = |ca: &str| {
            let mut above = ancestry.links(ca).map(|link| link.parent.as_str());
            !self.has(ca) || above.any(|parent| self.hold(parent, without) == Hold::Firm)
        };
        let below = match leaf {
            Leaf::Future(signer) => ancestry.below(signer),
            Leaf::Own(..) | Leaf::Peer(..) => Vec::new(),
        };
        let is_alone = below.is_empty() && ancestry.is_root(leaf.signer());
        let sent = ancestry.sent_with(leaf.signer());
        let mut signers = path.sure.iter().copied().chain(sent).chain(below);
        let mut links = path.sure.iter().filter(|ca| !ancestry.is_root(ca));
        if let Some(ca) = signers.find(|ca| self.lacks_list(ca)) {
            Some(Doubt::Revocation(ca.to_owned()))
        } else if let Some(ca) = links.find(|ca| !leads_on(ca)) {
            Some(Doubt::NoRoot((*ca).to_owned()))
        } else if !path.sure.iter().any(is_firm_root) {
            Some(Doubt::NoRoot(leaf.signer().to_owned()))
        } else {
            let is_asked = matches!(leaf, Leaf::Future(_)) && is_alone;
            (is_asked && !ancestry.roots_sign()).then_some(Doubt::Below)
        }
    }

    /// What BoringSSL may take instead of the anchor, and stumble over: it takes the first certificate of the
    /// right name and key, those of the bundle before those that are sent, whatever its dates.
    fn obstacle(
        &self,
        leaf: Leaf<'_>,
        path: &Path<'_>,
        anchor: &str,
        without: Option<&Authority>,
    ) -> Option<Doubt> {
        let carried = match leaf {
            Leaf::Own(_, chain) => chain.carried.as_slice(),
            Leaf::Future(_) | Leaf::Peer(..) => &[],
        };
        let names = carried.iter().map(|carried| carried.ca.as_str());
        let names = names.chain(path.sure.iter().chain(&path.perhaps).copied());
        let is_broken = |ca: &&str| matches!(self.hold(ca, without), Hold::Void | Hold::Doubtful);
        let broken = names.filter(|ca| *ca != anchor).find(is_broken);
        let link = |ca: &str, is_root: bool| ca == leaf.signer() || !is_root;
        let expired = carried.iter().find(|carried| {
            anchor != leaf.signer() && !carried.is_valid && link(&carried.ca, carried.is_root)
        });
        let expired = expired.map(|carried| carried.ca.as_str());
        broken.or(expired).map(|ca| Doubt::Validity(ca.to_owned()))
    }
}

impl<'a> Path<'a> {
    fn new(leaf: Leaf<'a>, ancestry: &'a Ancestry) -> Self {
        let mut path = Self {
            sure: vec![leaf.signer()],
            ..Self::default()
        };
        if let Leaf::Own(_, chain) = leaf {
            for anchor in chain.anchors().iter().chain(&chain.above) {
                path.add_sure(anchor);
            }
        }
        path.climb(leaf, ancestry);
        if let Leaf::Own(_, chain) = leaf {
            // A passenger, or a link: the metrics do not tell. A second root is a passenger.
            let has_root = ancestry.is_complete(leaf.signer());
            let carried = chain.carried.iter().filter(|it| !(it.is_root && has_root));
            let carried = carried.map(|carried| carried.ca.as_str());
            let carried = carried.filter(|ca| !path.sure.contains(ca));
            path.perhaps.extend(carried.collect::<Vec<_>>());
        }
        path
    }

    fn add_sure(&mut self, ca: &'a str) {
        if !self.sure.contains(&ca) {
            self.sure.push(ca);
        }
    }

    fn climb(&mut self, leaf: Leaf<'a>, ancestry: &'a Ancestry) {
        let mut next = 0;
        while let Some(ca) = self.sure.get(next).copied() {
            next = next.saturating_add(1);
            for link in ancestry.links(ca) {
                match is_sent(leaf, ca, link, ancestry) {
                    true => self.add_sure(&link.parent),
                    false => {
                        self.perhaps.insert(&link.parent);
                        self.perhaps.extend(ancestry.above(&link.parent));
                    }
                }
            }
        }
        for ca in &self.sure {
            self.perhaps.remove(ca);
        }
    }
}

/// Whether a certificate by which a CA stands under another is sent along with a leaf.
fn is_sent(leaf: Leaf<'_>, ca: &str, link: &Link, ancestry: &Ancestry) -> bool {
    // By a cross-certificate a root stands under another root. Not every chain has it.
    let is_cross = ancestry.is_root(ca);
    match leaf {
        Leaf::Future(_) => !is_cross,
        // Who accepts the CA itself needs no more of the chain.
        Leaf::Peer(_, met_by) => !is_cross && met_by.has_in_bundle(ca) == Some(false),
        Leaf::Own(_, chain) => match &link.certificate {
            Some(certificate) => {
                let known = chain.carried.iter().any(|it| it.certificate.is_some());
                chain.carries(ca, Some(certificate)) && (known || !is_cross)
            }
            // Another proxy's leaf of the same CA leads there, through what that proxy sends.
            None => false,
        },
    }
}
