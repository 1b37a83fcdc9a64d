//! The proxies together: who trusts whom, and who signs.

use std::collections::BTreeSet;

use mtls_watch_x509::time::{Seconds, UnixTime};

use super::ancestry::{Ancestry, Known};
use super::bundle::{Authority, Bundle};
use super::chain::{Chain, Standing};
use super::proxy::Proxy;
use super::trust::{Doubt, Leaf, Trust};

/// The facts, and the time at which they are judged.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    /// In the order of the command line.
    pub(crate) proxies: Vec<Proxy>,
    /// Which CA stands under which.
    pub(crate) ancestry: Ancestry,
    /// When.
    pub(crate) now: UnixTime,
    /// A CA that signed a peer's leaf in the last so many seconds still signs.
    pub(crate) recent: Seconds,
    /// The rotation that is asked about.
    pub(crate) rotation: Option<Rotation>,
    /// The bundles that are asked about; none: those that the rotation concerns.
    pub(crate) bundles: Vec<String>,
}

/// The change of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// The CA that goes.
    pub(crate) old: Authority,
    /// The CA that comes.
    pub(crate) new: Authority,
}

impl Rotation {
    /// Whether both are certificates of one CA: the same name and the same key.
    pub(crate) fn is_reissue(&self) -> bool {
        self.old.ca == self.new.ca
    }
}

/// A CA that signs something now.
#[derive(Clone, Debug)]
pub(crate) struct Signature<'a> {
    /// The proxy that holds or has seen it.
    pub(crate) proxy: &'a Proxy,
    /// The CA; `None` if it cannot be told.
    pub(crate) ca: Option<&'a str>,
    /// Of what.
    pub(crate) on: Signed<'a>,
}

/// What a CA has signed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signed<'a> {
    /// The proxy's own leaf.
    OwnLeaf(&'a Chain),
    /// A peer's leaf, last seen then.
    Peer(UnixTime),
}

impl<'a> Signature<'a> {
    /// The leaf that a bundle would be asked about; `None` if its signer is not known.
    pub(crate) fn leaf(&self) -> Option<Leaf<'a>> {
        let ca = self.ca?;
        Some(match self.on {
            Signed::OwnLeaf(chain) => Leaf::Own(ca, chain),
            Signed::Peer(_) => Leaf::Peer(ca, self.proxy),
        })
    }
}

/// What one bundle of a proxy says to a leaf.
#[derive(Clone, Debug)]
pub(crate) struct Judgement<'a> {
    /// The bundle, where the proxy has several.
    pub(crate) bundle: Option<&'a str>,
    /// What it says.
    pub(crate) trust: Trust,
}

impl Fleet {
    /// All that these proxies tell, with `given` CAs' certificates; no rotation is asked about.
    pub(crate) fn new(
        proxies: Vec<Proxy>,
        given: &[Known],
        now: UnixTime,
        recent: Seconds,
    ) -> Self {
        Self {
            ancestry: Ancestry::new(&proxies, given),
            proxies,
            now,
            recent,
            rotation: None,
            bundles: Vec::new(),
        }
    }

    /// Every CA that a proxy's metrics name.
    pub(crate) fn cas(&self) -> BTreeSet<&str> {
        let cas = self.proxies.iter().flat_map(Proxy::cas);
        cas.map(String::as_str).collect()
    }

    /// The bundles of a proxy by which its peers in this rotation are judged: those that are named, else those
    /// that have, or had, the old CA or the new one, or one under the same root. Without a rotation it is the
    /// CAs of the proxies' own leaves that count.
    pub(crate) fn concerned<'a>(&self, proxy: &'a Proxy) -> Vec<&'a Bundle> {
        let bundles = proxy.bundles.iter();
        if !self.bundles.is_empty() {
            return bundles
                .filter(|bundle| self.bundles.contains(&bundle.name))
                .collect();
        }
        let cas = match &self.rotation {
            Some(Rotation { old, new }) => BTreeSet::from([old.ca.as_str(), new.ca.as_str()]),
            None => self.own_cas(),
        };
        bundles
            .filter(|bundle| cas.iter().any(|ca| self.relates(bundle, ca)))
            .collect()
    }

    fn own_cas(&self) -> BTreeSet<&str> {
        let chains = self.proxies.iter().flat_map(|proxy| {
            let chains = proxy.chains.iter();
            chains.filter(|chain| !self.is_foreign(proxy, chain))
        });
        let cas = chains.flat_map(|chain| chain.signer.iter().chain(chain.anchors()));
        cas.map(String::as_str).collect()
    }

    /// Whether a bundle may accept leaves of a CA, or of one beside it under the same root. A root of its own is
    /// known to be none.
    fn relates(&self, bundle: &Bundle, ca: &str) -> bool {
        let tops = || std::iter::once(ca).chain(self.ancestry.above(ca));
        let mut in_it = bundle.cas();
        bundle.is_partial
            || in_it
                .any(|below| tops().any(|top| self.ancestry.is_below(below, top) != Some(false)))
    }

    /// What the bundles of a proxy that are concerned say to a leaf, as if `without` were taken out. Where
    /// none is concerned: what the one says that says yes.
    pub(crate) fn judge<'a>(
        &self,
        proxy: &'a Proxy,
        leaf: Leaf<'_>,
        without: Option<&Authority>,
    ) -> Vec<Judgement<'a>> {
        let judge = |bundle: &'a Bundle| Judgement {
            bundle: (proxy.bundles.len() > 1).then_some(bundle.name.as_str()),
            trust: self.ask(proxy, bundle, leaf, without),
        };
        let concerned = self.concerned(proxy);
        if !concerned.is_empty() || !self.bundles.is_empty() {
            return concerned.into_iter().map(judge).collect();
        }
        let mut all: Vec<Judgement<'_>> = proxy.bundles.iter().map(judge).collect();
        all.sort_by_key(|judgement| match &judgement.trust {
            trust if trust.is_sure() => 0,
            Trust::Unknown(_) => 1,
            _ => 2,
        });
        all.truncate(1);
        all.into_iter()
            .map(|judgement| Judgement {
                bundle: None,
                ..judgement
            })
            .collect()
    }

    fn ask(
        &self,
        proxy: &Proxy,
        bundle: &Bundle,
        leaf: Leaf<'_>,
        without: Option<&Authority>,
    ) -> Trust {
        let trust = bundle.accepts(leaf, &self.ancestry, without);
        // Which bundle accepted a peer is known where there is one.
        let is_accepted = proxy.seen.contains_key(leaf.signer())
            && proxy.bundles.len() == 1
            && !bundle.has_shrunk()
            && without.is_none()
            && !self.ancestry.is_complete(leaf.signer())
            // A root that is not in it was accepted by a cross-certificate, which other leaves need not bring.
            && (matches!(leaf, Leaf::Peer(..)) || !self.ancestry.is_root(leaf.signer()));
        match trust {
            Trust::Unknown(Doubt::Revocation(_) | Doubt::NoRoot(_) | Doubt::Below) => trust,
            Trust::Unknown(_) if is_accepted => Trust::Accepted,
            trust => trust,
        }
    }

    /// Whether a proxy accepts what a CA will sign, with every bundle that is concerned.
    pub(crate) fn trust(&self, proxy: &Proxy, ca: &str) -> Trust {
        let judgements = self.judge(proxy, Leaf::Future(ca), None);
        let worst = judgements.into_iter().max_by_key(|it| match &it.trust {
            trust if trust.is_sure() => 0,
            Trust::Unknown(_) => 1,
            _ => 2,
        });
        worst.map_or(Trust::Unknown(Doubt::Nameless), |judgement| judgement.trust)
    }

    /// Whether every proxy of which something is known accepts a leaf, as if `without` were taken out.
    pub(crate) fn all_accept(&self, leaf: Leaf<'_>, without: &Authority) -> bool {
        let mut known = self.proxies.iter().filter(|proxy| proxy.blind.is_none());
        known.all(|proxy| {
            let judgements = self.judge(proxy, leaf, Some(without));
            !judgements.is_empty() && judgements.iter().all(|it| it.trust.is_sure())
        })
    }

    /// The bundles that are concerned, of all proxies of which something is known.
    pub(crate) fn concerned_by_known(&self) -> impl Iterator<Item = &Bundle> {
        let known = self.proxies.iter().filter(|proxy| proxy.blind.is_none());
        known.flat_map(|proxy| self.concerned(proxy))
    }

    /// Everything that is signed now: own leaves, and peers' leaves seen in the recent past. Leaves for the
    /// public are none of this mesh's.
    pub(crate) fn signatures(&self) -> impl Iterator<Item = Signature<'_>> {
        self.proxies.iter().flat_map(|proxy| {
            let chains = proxy.chains.iter();
            let chains = chains.filter(|chain| !self.is_foreign(proxy, chain));
            let own = chains.map(|chain| Signature {
                proxy,
                ca: chain.signer.as_deref(),
                on: Signed::OwnLeaf(chain),
            });
            own.chain(self.recent_peers(proxy))
        })
    }

    /// Whether a leaf stands under a CA. Of what is sent along with a leaf, the module tells what has signed in its chain.
    pub(crate) fn stands_under(&self, chain: &Chain, ca: &str) -> bool {
        let is_sent = || {
            let mut carried = chain.carried.iter();
            carried.any(|carried| carried.ca == ca && !carried.is_root)
        };
        let below = |signer: &String| self.ancestry.is_below(signer, ca) == Some(true);
        chain.signer.as_ref().is_some_and(below) || is_sent()
    }

    /// Whether a leaf is one for the public, beside the one by which the proxy is a workload: it stands under no
    /// CA of its own proxy's bundles, nor need it.
    pub(crate) fn is_foreign(&self, proxy: &Proxy, chain: &Chain) -> bool {
        let is_asked = |signer: &String| {
            self.rotation.iter().any(|Rotation { old, new }| {
                let mut both = [old, new].into_iter();
                both.any(|it| self.ancestry.is_below(signer, &it.ca) == Some(true))
            })
        };
        // Clients show their certificates within a mesh.
        let is_shown = |signer: &String| {
            let mut seen = self
                .proxies
                .iter()
                .filter_map(|proxy| proxy.seen.get(signer));
            seen.any(|seen| seen.inbound.is_some())
        };
        let is_ours = |signer: &String| is_asked(signer) || is_shown(signer);
        chain.standing == Standing::Unnamed
            && proxy.chains.iter().any(|chain| chain.is_workload)
            && !chain.signer.as_ref().is_some_and(is_ours)
    }

    fn recent_peers<'a>(&'a self, proxy: &'a Proxy) -> impl Iterator<Item = Signature<'a>> {
        let named = proxy.seen.iter();
        let named = named.filter_map(|(ca, seen)| Some((Some(ca.as_str()), seen.latest()?)));
        let folded = proxy.folded_seen.map(|at| (None, at));
        let all = named.chain(folded);
        // A time to come is the sum of two processes' gauges: seen by both.
        let recent = all.filter(|(_, at)| self.now.since(*at) < self.recent);
        recent.map(move |(ca, at)| Signature {
            proxy,
            ca,
            on: Signed::Peer(at),
        })
    }

    /// Whether a CA, or one under it, signs now.
    pub(crate) fn signs(&self, ca: &str) -> bool {
        let below = |signer| self.ancestry.is_below(signer, ca) == Some(true);
        self.signatures()
            .any(|signature| signature.ca.is_some_and(below))
    }

    /// When a peer's leaf of a CA, or of one under it, was last seen, by any proxy.
    pub(crate) fn last_seen(&self, ca: &str) -> Option<UnixTime> {
        let seen = self.proxies.iter().flat_map(|proxy| &proxy.seen);
        let below = seen.filter(|(issuer, _)| self.ancestry.is_below(issuer, ca) == Some(true));
        below.filter_map(|(_, seen)| seen.latest()).max()
    }

    /// Start of validity of a CA, if any proxy knows it.
    pub(crate) fn not_before(&self, ca: &str) -> Option<UnixTime> {
        self.proxies
            .iter()
            .find_map(|proxy| proxy.not_before.get(ca).copied())
    }

    /// Whether a CA, or a certificate, is known to be one. A root may be named by no series and yet stand above
    /// what signs.
    pub(crate) fn knows(&self, authority: &Authority) -> bool {
        let Authority { ca, certificate } = authority;
        match certificate {
            Some(digits) => {
                self.ancestry.certificates.contains_key(digits)
                    || Self::ca_of(&self.proxies, &[], digits).is_some()
            }
            None => self.cas().contains(ca.as_str()) || self.signs(ca),
        }
    }

    /// The CA of a certificate, by the digits of its SHA-256.
    pub(crate) fn ca_of(proxies: &[Proxy], cas: &[Known], digits: &str) -> Option<String> {
        let given = cas.iter().filter(|known| known.digits == digits);
        let mut given = given.map(|known| known.ca());
        let in_bundles = proxies.iter().flat_map(|proxy| &proxy.bundles);
        let in_bundles = in_bundles.flat_map(Bundle::certificates);
        let carried = proxies.iter().flat_map(|proxy| &proxy.chains);
        let carried = carried.flat_map(|chain| &chain.carried);
        let carried = carried.filter_map(|it| Some((it.certificate.as_deref()?, it.ca.as_str())));
        let mut seen = in_bundles.chain(carried);
        given.next().or_else(|| {
            seen.find(|(certificate, _)| *certificate == digits)
                .map(|(_, ca)| ca.to_owned())
        })
    }
}
