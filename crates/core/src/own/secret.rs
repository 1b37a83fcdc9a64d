//! This proxy's own certificates, as far as Envoy tells of them.

use std::borrow::Cow;
use std::rc::Rc;

use mtls_watch_x509::crl::RevocationList;
use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{self as x509, Certificate, ParseError, spiffe};

use crate::source::read::{Fingerprint, fingerprint_of};

/// How `/certs` calls what is inline in a TLS context.
pub(super) const INLINE: &str = "<inline>";

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The proxy's own certificate, and what comes with it. The first is the leaf.
    Chain,
    /// The CAs it trusts.
    Bundle,
    /// Nobody has supplied it yet, so Envoy does not tell.
    Unknown,
}

/// A secret of this proxy, or what stands for one: a file, or what is inline in a TLS context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Name in SDS, path of the file, or `<inline>`; of one inline bundle of several that differ also the listener or cluster
    /// that has it: `<inline>:public_listener`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The SPIFFE trust domain whose peers alone are verified by this bundle; `None`: any peer.
    pub trust_domain: Option<String>,
    /// Its certificates that could be read; of a bundle each once.
    pub certificates: Vec<OwnCertificate>,
    /// How many could not.
    pub unreadable: usize,
    /// Whether the first of them, of a chain the leaf, could not.
    pub leaf_unreadable: bool,
    /// Of a bundle: what Envoy looks the certificates of peers up in.
    pub revocation_lists: Vec<Rc<RevocationList>>,
}

/// A certificate of this proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCertificate {
    /// With all its facts.
    Full(Rc<FullCertificate>),
    /// What `/certs` says of it.
    Dates(Dates),
}

/// A certificate that is known as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullCertificate {
    /// What it says.
    pub facts: Certificate,
    /// Its DER.
    pub der: Vec<u8>,
    /// SHA-256 of that.
    pub fingerprint: Fingerprint,
}

impl FullCertificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// As [`x509::parse()`].
    pub fn parse(der: Vec<u8>) -> Result<Self, ParseError> {
        Ok(Self {
            facts: x509::parse(&der)?,
            fingerprint: fingerprint_of(&der),
            der,
        })
    }

    /// By what `/certs` and a secret tell it alike.
    #[must_use]
    pub fn key(&self) -> CertificateKey {
        let mut serial = String::new();
        x509::hex::push(&mut serial, &self.facts.serial);
        CertificateKey::new(&serial, self.facts.not_after)
    }
}

/// What `/certs` says of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dates {
    /// Serial number in hex.
    pub serial: String,
    /// Of a leaf: first URI SAN, else first DNS SAN.
    pub identity: Option<String>,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity.
    pub not_after: UnixTime,
}

/// Serial number and end of validity: two CAs may share a serial number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateKey {
    /// Hex digits without leading zeros: DER and `/certs` differ in these.
    serial: String,
    not_after: UnixTime,
}

impl CertificateKey {
    /// Of a serial number in hex, in whatever case.
    #[must_use]
    pub fn new(serial: &str, not_after: UnixTime) -> Self {
        Self {
            serial: serial.trim_start_matches('0').to_ascii_lowercase(),
            not_after,
        }
    }
}

impl Dates {
    /// By what `/certs` and a secret tell it alike.
    #[must_use]
    pub fn key(&self) -> CertificateKey {
        CertificateKey::new(&self.serial, self.not_after)
    }
}

impl OwnCertificate {
    /// The certificate, where it is known as it is.
    #[must_use]
    pub fn full(&self) -> Option<&FullCertificate> {
        match self {
            Self::Full(full) => Some(full),
            Self::Dates(_) => None,
        }
    }

    /// By what `/certs` and a secret tell it alike.
    #[must_use]
    pub fn key(&self) -> CertificateKey {
        match self {
            Self::Full(full) => full.key(),
            Self::Dates(dates) => dates.key(),
        }
    }
}

impl Secret {
    /// One without certificates.
    #[must_use]
    pub fn new(name: String, role: Role) -> Self {
        Self {
            name,
            role,
            trust_domain: None,
            certificates: Vec::new(),
            unreadable: 0,
            leaf_unreadable: false,
            revocation_lists: Vec::new(),
        }
    }

    /// Whether it is inline in a TLS context.
    pub(super) fn is_inline(&self) -> bool {
        self.name.starts_with(INLINE)
    }

    /// Whether it has what another has, by the same name. Of what is inline the name does not matter.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_named = self.name == other.name || (self.is_inline() && other.is_inline());
        is_named
            && self.role == other.role
            && self.trust_domain == other.trust_domain
            && self.certificates == other.certificates
            && self.unreadable == other.unreadable
            && self.leaf_unreadable == other.leaf_unreadable
            && self.revocation_lists == other.revocation_lists
    }

    /// Whether each of its certificates is known as it is.
    #[must_use]
    pub fn is_known_in_full(&self) -> bool {
        self.unreadable == 0 && self.certificates.iter().all(|it| it.full().is_some())
    }

    /// The certificates that are known as they are, in their order.
    pub fn full(&self) -> impl Iterator<Item = &FullCertificate> {
        self.certificates.iter().filter_map(OwnCertificate::full)
    }

    /// The proxy's own certificate, where it is known as it is.
    #[must_use]
    pub fn leaf(&self) -> Option<&FullCertificate> {
        match (self.role, self.leaf_unreadable) {
            (Role::Chain, false) => self.certificates.first()?.full(),
            _ => None,
        }
    }

    /// The trust domain of its leaf, if that is a workload's.
    #[must_use]
    pub fn own_trust_domain(&self) -> Option<&str> {
        spiffe::trust_domain(&self.leaf()?.facts.identity)
    }

    /// Whether peers of a leaf that names this identity are verified by this bundle.
    #[must_use]
    pub fn verifies(&self, identity: &str) -> bool {
        self.role == Role::Bundle
            && match &self.trust_domain {
                None => true,
                Some(domain) => spiffe::trust_domain(identity) == Some(domain),
            }
    }

    /// How it is called in metrics: by what it is for. The digest of the content, which some control planes
    /// end the name with, would make another secret of it at each rotation.
    #[must_use]
    pub fn label(&self, own_domains: &[&str]) -> Cow<'_, str> {
        let name = without_digest(&self.name);
        match &self.trust_domain {
            // The bundles of one validator have one name. That of a foreign trust domain trusts no leaf of
            // this one.
            Some(domain) if !own_domains.contains(&domain.as_str()) => {
                Cow::Owned(format!("{name}@{domain}"))
            }
            _ => Cow::Borrowed(name),
        }
    }
}

/// A name without the digest of the content at its end: `ns/name/<hash>` (Contour), `/secret/<HASH>.crt`
/// (Emissary).
fn without_digest(name: &str) -> &str {
    /// Contour's have ten digits, SHA-1 has forty, SHA-256 sixty-four.
    const DIGITS: std::ops::RangeInclusive<usize> = 10..=64;
    let Some((rest, last)) = name.rsplit_once('/') else {
        return name;
    };
    let digits = last.split_once('.').map_or(last, |(stem, _)| stem);
    let is_digest = DIGITS.contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && digits.bytes().any(|byte| byte.is_ascii_digit());
    match is_digest && !rest.is_empty() {
        true => rest,
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_of_the_content_is_no_part_of_a_name() {
        for (name, label) in [
            ("ingress/shop/1f2e3d4c5b", "ingress/shop"),
            (
                "/snapshots/tls-cert/DA39A3EE5E6B4B0D3255BFEF95601890AFD80709.crt",
                "/snapshots/tls-cert",
            ),
            ("default", "default"),
            (
                "kubernetes://shop-credential",
                "kubernetes://shop-credential",
            ),
            ("/etc/certs/tls.crt", "/etc/certs/tls.crt"),
            ("shop/deadbeefed", "shop/deadbeefed"),
            ("shop/1234", "shop/1234"),
            ("/1f2e3d4c5b", "/1f2e3d4c5b"),
        ] {
            let secret = Secret::new(name.to_owned(), Role::Chain);
            assert_eq!(secret.label(&[]), label);
        }
    }

    #[test]
    fn a_foreign_trust_domain_is_part_of_the_name() {
        let mut bundle = Secret::new("ALL".to_owned(), Role::Bundle);
        bundle.trust_domain = Some("example.org".to_owned());
        assert_eq!(bundle.label(&["example.org"]), "ALL");
        assert_eq!(bundle.label(&["other.org"]), "ALL@example.org");
        assert_eq!(bundle.label(&[]), "ALL@example.org");
    }

    #[test]
    fn serial_numbers_of_both_forms_are_one() {
        let end = UnixTime(1);
        assert_eq!(
            CertificateKey::new("00", end),
            CertificateKey::new("0", end)
        );
        assert_eq!(
            CertificateKey::new("0A", end),
            CertificateKey::new("a", end)
        );
        assert_ne!(
            CertificateKey::new("0a", end),
            CertificateKey::new("a0", end)
        );
    }
}
