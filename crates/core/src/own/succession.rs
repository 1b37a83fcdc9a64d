//! CAs that were replaced in good order. Control planes keep the old one in the bundle for a while: SPIRE for a
//! day beyond its end. Nobody need do anything about it.

use super::secret::{FullCertificate, Secret};
use super::signing::is_same_ca;
use mtls_watch_x509::Certificate;
use mtls_watch_x509::spiffe;
use mtls_watch_x509::time::UnixTime;

/// What is in use: the certificates of the own chains that sign there, and those that they sign.
pub(super) struct InUse<'a> {
    links: Vec<&'a Certificate>,
}

impl<'a> InUse<'a> {
    /// What these links of chains use.
    pub(super) fn new(links: impl IntoIterator<Item = &'a FullCertificate>) -> Self {
        let links = links.into_iter().map(|link| &link.facts);
        Self {
            links: links.collect(),
        }
    }

    fn signed_by<'b>(&'b self, ca: &'b Certificate) -> impl Iterator<Item = &'a Certificate> + 'b {
        let links = self.links.iter().copied();
        links.filter(|link| !link.is_self_issued() && link.names_as_issuer(ca))
    }

    /// How far a CA in a bundle, at a place of it, has been replaced.
    pub(super) fn succession(
        &self,
        place: usize,
        ca: &FullCertificate,
        bundle: &Secret,
        now: UnixTime,
    ) -> Succession {
        let by_signatures = || match self.signed_by(&ca.facts).max_by_key(|link| link.not_after) {
            None => Succession::Done,
            Some(last) if last.not_after < ca.facts.not_after => Succession::UnderWay,
            Some(_) => Succession::None,
        };
        let successors = bundle
            .full()
            .enumerate()
            .filter(|(_, other)| lasts_longer(&other.facts, &ca.facts, now));
        let successions = successors.map(|(other_place, other)| {
            match Kinship::of(&other.facts, &ca.facts) {
                // BoringSSL takes the first of two certificates of one CA, whether or not it has expired.
                Kinship::Ca if now <= ca.facts.not_after || other_place < place => Succession::Done,
                // A leaf that does not say which key has signed it is verified by either.
                Kinship::Name if now <= ca.facts.not_after => by_signatures(),
                Kinship::TrustDomain => by_signatures(),
                _ => Succession::None,
            }
        });
        successions.max().unwrap_or(Succession::None)
    }

    /// The same of a CA in a chain: peers trust a later certificate of the same CA.
    pub(super) fn is_superseded_in_chain(
        ca: &FullCertificate,
        bundles: &[&Secret],
        now: UnixTime,
    ) -> bool {
        let mut trusted = bundles.iter().flat_map(|bundle| bundle.full());
        trusted.any(|other| {
            is_same_ca(&other.facts, &ca.facts) && lasts_longer(&other.facts, &ca.facts, now)
        })
    }

    /// Whether a certificate outlives each trusted certificate of the CA that signed it.
    pub(super) fn outlives_issuers(certificate: &Certificate, bundles: &[&Secret]) -> bool {
        let mut issuers = bundles
            .iter()
            .flat_map(|bundle| bundle.full())
            .filter(|ca| certificate.names_as_issuer(&ca.facts));
        !issuers.any(|ca| ca.facts.not_after >= certificate.not_after)
    }
}

/// How far a CA has been replaced by a successor that is valid now, and trusted beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Succession {
    /// There is no successor, or what the CA has signed and this proxy shows lasts as long as the CA.
    None,
    /// What it has signed and this proxy shows ends before it does, and so is renewed before. SPIRE lets a new CA sign
    /// when the old one has a sixth of its lifetime left, and leaves are renewed at half of theirs: for that time an
    /// early warning of the old one's end would be one at every rotation.
    UnderWay,
    /// It has signed nothing that this proxy shows: its end concerns nobody.
    Done,
}

/// What makes one CA the successor of another.
enum Kinship {
    /// The same name and key: two certificates of one CA.
    Ca,
    /// The same name.
    Name,
    /// The same SPIFFE trust domain.
    TrustDomain,
    None,
}

impl Kinship {
    fn of(one: &Certificate, other: &Certificate) -> Self {
        let domain = spiffe::trust_domain(&one.identity);
        if is_same_ca(one, other) {
            Self::Ca
        } else if one.links.subject == other.links.subject {
            Self::Name
        } else if domain.is_some() && domain == spiffe::trust_domain(&other.identity) {
            Self::TrustDomain
        } else {
            Self::None
        }
    }
}

/// Whether a CA is valid at that time, and for longer than another.
fn lasts_longer(ca: &Certificate, other: &Certificate, now: UnixTime) -> bool {
    ca.not_before <= now && now <= ca.not_after && ca.not_after > other.not_after
}
