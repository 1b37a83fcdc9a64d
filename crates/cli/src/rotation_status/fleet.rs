//! The proxies together: who trusts whom, and who signs.

use std::collections::BTreeSet;

use mtls_watch_x509::Certificate;
use mtls_watch_x509::time::{Seconds, UnixTime};

use super::ancestry::Ancestry;
use super::proxy::{Chain, Proxy};

/// The facts, and the time at which they are judged.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    /// In the order of the command line.
    pub(super) proxies: Vec<Proxy>,
    /// Which CA stands under which.
    pub(super) ancestry: Ancestry,
    /// When.
    pub(super) now: UnixTime,
    /// A CA that signed a peer's leaf in the last so many seconds still signs.
    pub(super) recent: Seconds,
}

/// The change of a CA.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Rotation {
    /// The CA that goes.
    pub(super) old: String,
    /// The CA that comes.
    pub(super) new: String,
}

/// Whether a proxy accepts what a CA signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The CA is in the bundle.
    Direct,
    /// A CA above it is in the bundle.
    Through(String),
    /// The proxy has accepted a leaf of it, and its bundle has lost no CA.
    Accepted,
    /// Neither it nor any CA above it is in the bundle.
    No,
    /// Cannot be told.
    Unknown,
}

/// A CA that signs something now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature<'a> {
    /// The proxy that holds or has seen it.
    pub(super) proxy: &'a str,
    /// The CA; `None` if it cannot be told.
    pub(super) ca: Option<&'a str>,
    /// Of what.
    pub(super) on: Signed<'a>,
}

/// What a CA has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed<'a> {
    /// The proxy's own leaf in this secret.
    OwnLeaf(&'a str),
    /// A peer's leaf, last seen then.
    Peer(UnixTime),
}

impl Fleet {
    /// The proxies, with what they and the CAs' certificates tell of the hierarchy.
    pub(super) fn new(
        proxies: Vec<Proxy>,
        certificates: &[Certificate],
        now: UnixTime,
        recent: Seconds,
    ) -> Self {
        let ancestry = Ancestry::new(&proxies, certificates);
        Self {
            proxies,
            ancestry,
            now,
            recent,
        }
    }

    /// Every CA that a proxy's metrics name.
    pub(super) fn cas(&self) -> BTreeSet<&str> {
        let cas = self.proxies.iter().flat_map(Proxy::cas);
        cas.map(String::as_str).collect()
    }

    /// Whether a proxy accepts what a CA signs.
    pub(super) fn trust(&self, proxy: &Proxy, ca: &str) -> Trust {
        let above = self.ancestry.above(ca);
        let trusted = |ca: &&&str| proxy.has_in_bundle(ca) == Some(true);
        if proxy.has_in_bundle(ca) == Some(true) {
            Trust::Direct
        } else if let Some(anchor) = above.iter().find(trusted) {
            Trust::Through((*anchor).to_owned())
        } else if proxy.has_in_bundle(ca).is_none() {
            Trust::Unknown
        } else if self.ancestry.is_complete(ca) {
            Trust::No
        } else if proxy.seen.contains_key(ca) && !proxy.bundle_has_shrunk() {
            Trust::Accepted
        } else {
            Trust::Unknown
        }
    }

    /// Everything that is signed now: own leaves, and peers' leaves seen in the recent past.
    pub(super) fn signatures(&self) -> impl Iterator<Item = Signature<'_>> {
        self.proxies.iter().flat_map(|proxy| {
            let own = proxy.chains.iter().map(|chain| own(proxy, chain));
            own.chain(self.recent_peers(proxy))
        })
    }

    fn recent_peers<'a>(&'a self, proxy: &'a Proxy) -> impl Iterator<Item = Signature<'a>> {
        let named = proxy.seen.iter();
        let named = named.filter_map(|(ca, seen)| Some((Some(ca.as_str()), seen.latest()?)));
        let folded = proxy.folded_seen.map(|at| (None, at));
        let all = named.chain(folded);
        let recent = all.filter(|(_, at)| self.now.since(*at) < self.recent);
        recent.map(|(ca, at)| Signature {
            proxy: &proxy.name,
            ca,
            on: Signed::Peer(at),
        })
    }

    /// Whether a CA, or one under it, signs now.
    pub(super) fn signs(&self, ca: &str) -> bool {
        let below = |signer| self.ancestry.is_below(signer, ca) == Some(true);
        self.signatures()
            .any(|signature| signature.ca.is_some_and(below))
    }

    /// When a peer's leaf of a CA, or of one under it, was last seen, by any proxy.
    pub(super) fn last_seen(&self, ca: &str) -> Option<UnixTime> {
        let seen = self.proxies.iter().flat_map(|proxy| &proxy.seen);
        let below = seen.filter(|(issuer, _)| self.ancestry.is_below(issuer, ca) == Some(true));
        below.filter_map(|(_, seen)| seen.latest()).max()
    }

    /// Start of validity of a CA, if any proxy knows it.
    pub(super) fn not_before(&self, ca: &str) -> Option<UnixTime> {
        self.proxies
            .iter()
            .find_map(|proxy| proxy.not_before.get(ca).copied())
    }
}

fn own<'a>(proxy: &'a Proxy, chain: &'a Chain) -> Signature<'a> {
    Signature {
        proxy: &proxy.name,
        ca: chain.signer.as_deref(),
        on: Signed::OwnLeaf(&chain.secret),
    }
}
