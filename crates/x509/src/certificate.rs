//! A certificate as facts, in the terms of RFC 5280.

use std::borrow::Cow;

use crate::name;
use crate::spiffe;
use crate::time::UnixTime;
use crate::usage::{ExtendedKeyUsage, KeyUsage};

/// What is known of one certificate, in the terms of RFC 5280.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom the certificate names, as a peer: SPIFFE ID, else first other URI SAN, else DNS SAN, else subject CN
    /// (the last one), else IP, e-mail or UPN SAN, else subject serialNumber, else O, else `unknown`.
    pub identity: String,
    /// URI SANs beside a SPIFFE ID. X509-SVID forbids them, and Kuma has them.
    pub other_uris: Vec<String>,
    /// What the CA that signed it calls itself, where that is known: it is better than what can be told from
    /// this certificate, which may not say which key signed it.
    pub signer: Option<String>,
    /// Content of the serial number, unique per issuer.
    pub serial: Box<[u8]>,
    /// Subject, issuer and key identifiers, by which certificates are put in order.
    pub links: Links,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity, inclusive (RFC 5280, section 4.1.2.5).
    pub not_after: UnixTime,
    /// X.509 version: 1, 2 or 3.
    pub version: u32,
    /// cA of the basic constraints (RFC 5280, section 4.2.1.9); false without the extension.
    pub is_ca: bool,
    /// Key usage, `None` without the extension (which then restricts nothing).
    pub key_usage: Option<KeyUsage>,
    /// Extended key usage, `None` without the extension (which then restricts nothing).
    pub extended_key_usage: Option<ExtendedKeyUsage>,
    /// Algorithm and size of the subject's key.
    pub public_key: PublicKey,
    /// Of the subject's key: where it differs, so do the keys. It resists no one who chooses keys.
    pub key_hash: u64,
    /// Digest used by the signature over this certificate.
    pub signature_digest: SignatureDigest,
    /// Whether the certificate claims to be an X.509-SVID, and if so whether it is a valid leaf.
    pub spiffe: spiffe::Svid,
    /// Whether there are subject alternative names.
    pub has_alt_names: bool,
    /// Whether one of its DNS SANs has a wildcard.
    pub has_wildcard: bool,
    /// Whether the issuer's name is one that a tool proposes, such as `Internet Widgits Pty Ltd`.
    pub has_default_issuer: bool,
    /// Whether BoringSSL does not know an extension that is marked critical, and refuses the certificate.
    pub has_unknown_critical_extension: bool,
}

impl Certificate {
    /// The subject as a CA: `<CN, else O, else "unnamed">:<first 8 hex digits of its key identifier>`, so
    /// that two CAs of one name but different keys stay apart. A leaf is never asked for it.
    #[must_use]
    pub fn subject_ca(&self) -> String {
        let Links {
            subject,
            subject_key_id,
            ..
        } = &self.links;
        name::ca_name(subject, subject_key_id.as_deref())
    }

    /// The CA that signed this certificate, named as [`Certificate::subject_ca`] names it.
    #[must_use]
    pub fn issuer_ca(&self) -> Cow<'_, str> {
        match &self.signer {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(name::ca_name(&self.links.issuer, self.issuer_key_id())),
        }
    }

    /// Whether the issuer's name has a common name. What is called after its organization shares that with others:
    /// every CA of SPIRE is `O=SPIFFE`.
    #[must_use]
    pub fn issuer_has_common_name(&self) -> bool {
        name::attribute(&self.links.issuer, name::COMMON_NAME).is_some()
    }

    /// Whether the CA that signed `other` has the same name, without making the names.
    #[must_use]
    pub fn has_issuer_of(&self, other: &Certificate) -> bool {
        self.links.issuer == other.links.issuer
            && self.issuer_key_id() == other.issuer_key_id()
            && self.signer == other.signer
    }

    fn issuer_key_id(&self) -> Option<&[u8]> {
        // A root may leave out the authority key identifier (RFC 5280, section 4.2.1.1): it is its own.
        let own = self.links.subject_key_id.as_deref();
        let own = own.filter(|_| self.is_self_issued());
        self.links.authority_key_id.as_deref().or(own)
    }

    /// Subject and issuer are the same name (RFC 5280, section 3.2): a root, or a self-signed leaf.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.links.subject == self.links.issuer
    }

    /// A root of version 1: it cannot carry cA, and BoringSSL takes it for a CA (`check_ca`).
    #[must_use]
    pub fn is_old_root(&self) -> bool {
        self.version == 1 && self.is_self_issued()
    }

    /// Whether it may sign other certificates: it is a CA, and has keyCertSign where there is a key usage.
    #[must_use]
    pub fn may_sign_certificates(&self) -> bool {
        let is_ca = self.is_ca || self.is_old_root();
        is_ca && self.key_usage.is_none_or(|usage| usage.cert_sign)
    }

    /// Its own key signed it: subject and issuer are the same, and the issuer's key, if it is named, is its own.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        let links = &self.links;
        let own_key =
            links.authority_key_id.is_none() || links.authority_key_id == links.subject_key_id;
        own_key && self.is_self_issued()
    }

    /// Whether `issuer` may have signed this certificate: its subject is this one's issuer, and the
    /// key identifiers do not contradict. The signature itself is Envoy's to verify.
    #[must_use]
    pub fn names_as_issuer(&self, issuer: &Certificate) -> bool {
        let same_key = match (&self.links.authority_key_id, &issuer.links.subject_key_id) {
            (Some(authority), Some(subject)) => authority == subject,
            _ => true,
        };
        same_key && self.links.issuer == issuer.links.subject
    }
}

/// What ties a certificate to its issuer: DER names and key identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// DER of the subject name.
    pub subject: Box<[u8]>,
    /// DER of the issuer name.
    pub issuer: Box<[u8]>,
    /// Subject key identifier (RFC 5280, section 4.2.1.2).
    pub subject_key_id: Option<Box<[u8]>>,
    /// Key identifier of the authority key identifier (RFC 5280, section 4.2.1.1).
    pub authority_key_id: Option<Box<[u8]>>,
}

/// The subject's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Kind of key.
    pub algorithm: KeyAlgorithm,
    /// Size in bits: RSA and DSA modulus, EC field; 0 when not known.
    pub bits: u32,
}

/// Kinds of public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// RSA, also with an RSA-PSS key identifier.
    Rsa,
    /// Elliptic curve (ECDSA).
    Ec,
    /// Ed25519.
    Ed25519,
    /// Ed448.
    Ed448,
    /// DSA.
    Dsa,
    /// Anything else.
    Other,
}

impl KeyAlgorithm {
    /// Name for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::Ec => "EC",
            Self::Ed25519 => "Ed25519",
            Self::Ed448 => "Ed448",
            Self::Dsa => "DSA",
            Self::Other => "unknown",
        }
    }
}

/// Digest of a signature algorithm, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureDigest {
    /// MD2.
    Md2,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// Any other: no weakness known to this module.
    Other,
}
