//! A certificate as BoringSSL keeps it while it verifies (`x509v3_cache_extensions`).

use mtls_watch_core::handshake::Reason;
use mtls_watch_core::terms::Direction;
use mtls_watch_x509 as x509;
use mtls_watch_x509::time::UnixTime;
use sha2::{Digest as _, Sha256};
use x509_cert::certificate::{Raw, TbsCertificateInner};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::ber;

use super::name::{Canonical, canonical};
use super::policy::Policies;

/// keyCertSign, digitalSignature and keyAgreement (RFC 5280, section 4.2.1.3), bit 0 lowest.
pub(super) const CERT_SIGN: u16 = 1 << 5;
pub(super) const DIGITAL_SIGNATURE: u16 = 1;
const KEY_ENCIPHERMENT: u16 = 1 << 2;
const KEY_AGREEMENT: u16 = 1 << 4;

/// Extensions that may be critical (`X509_supported_extension`).
const SUPPORTED: [&str; 9] = [
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.32",
    "2.5.29.37",
    "2.5.29.36",
    "2.5.29.30",
    "2.5.29.33",
    "2.5.29.54",
];

pub(super) struct Certificate {
    pub(super) der: Vec<u8>,
    pub(super) fingerprint: [u8; 32],
    /// What is signed, as it stands in the DER.
    pub(super) to_be_signed: Vec<u8>,
    pub(super) signature_algorithm: AlgorithmIdentifierOwned,
    pub(super) signature: Vec<u8>,
    /// SubjectPublicKeyInfo.
    pub(super) public_key: Vec<u8>,
    pub(super) key_algorithm: ObjectIdentifier,
    /// The curve of an EC key.
    curve: Option<ObjectIdentifier>,
    pub(super) subject: Name,
    pub(super) subject_canonical: Canonical,
    pub(super) issuer_canonical: Canonical,
    serial: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<AuthorityKeyIdentifier>,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    version_1: bool,
    has_ca_flag: bool,
    /// Of the basic constraints.
    pub(super) path_length: Option<usize>,
    key_usage: Option<u16>,
    extended_key_usage: Option<Vec<ObjectIdentifier>>,
    /// The first critical extension that BoringSSL does not know.
    pub(super) unknown_critical: Option<ObjectIdentifier>,
    pub(super) name_constraints: Option<NameConstraints>,
    pub(super) alt_names: Option<Vec<GeneralName>>,
    pub(super) policies: Policies,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        // As strict as BoringSSL.
        let facts = x509::parse(der).map_err(|error| error.to_string())?;
        let text = |error: x509_cert::der::Error| error.to_string();
        let [to_be_signed, algorithm, signature] = ber::parts(der).ok_or("not DER")?;
        let tbs = TbsCertificateInner::<Raw>::from_der(to_be_signed.whole).map_err(text)?;
        let key = &tbs.subject_public_key_info;
        let mut certificate = Self {
            der: der.to_vec(),
            fingerprint: Sha256::digest(der).into(),
            to_be_signed: to_be_signed.whole.to_vec(),
            signature_algorithm: AlgorithmIdentifierOwned::from_der(algorithm.whole)
                .map_err(text)?,
            // Of the signature alone BoringSSL takes a length in more bytes than needed.
            signature: signature.content.get(1..).unwrap_or_default().to_vec(),
            public_key: key.to_der().map_err(text)?,
            key_algorithm: key.algorithm.oid,
            curve: key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|parameters| parameters.decode_as().ok()),
            subject: tbs.subject.clone(),
            subject_canonical: canonical(&tbs.subject),
            issuer_canonical: canonical(&tbs.issuer),
            serial: tbs.serial_number.as_bytes().to_vec(),
            subject_key_id: None,
            authority_key_id: None,
            not_before: facts.not_before,
            not_after: facts.not_after,
            version_1: facts.version == 1,
            has_ca_flag: false,
            path_length: None,
            key_usage: None,
            extended_key_usage: None,
            unknown_critical: None,
            name_constraints: None,
            alt_names: None,
            policies: Policies::default(),
        };
        for extension in tbs.extensions.iter().flatten() {
            let value = extension.extn_value.as_bytes();
            certificate
                .take(extension.extn_id, value)
                .map_err(|error| format!("extension {}: {error}", extension.extn_id))?;
            let is_supported = SUPPORTED.contains(&&*extension.extn_id.to_string());
            if extension.critical && !is_supported && certificate.unknown_critical.is_none() {
                certificate.unknown_critical = Some(extension.extn_id);
            }
        }
        Ok(certificate)
    }

    fn take(&mut self, oid: ObjectIdentifier, value: &[u8]) -> x509_cert::der::Result<()> {
        match oid {
            BasicConstraints::OID => {
                let constraints = BasicConstraints::from_der(value)?;
                self.has_ca_flag = constraints.ca;
                self.path_length = constraints.path_len_constraint.map(usize::from);
            }
            KeyUsage::OID => {
                let usage = KeyUsage::from_der(value)?;
                self.key_usage = Some(usage.0.bits());
            }
            ExtendedKeyUsage::OID => {
                self.extended_key_usage = Some(ExtendedKeyUsage::from_der(value)?.0);
            }
            SubjectKeyIdentifier::OID => {
                let id = SubjectKeyIdentifier::from_der(value)?;
                self.subject_key_id = Some(id.0.as_bytes().to_vec());
            }
            AuthorityKeyIdentifier::OID => {
                self.authority_key_id = Some(AuthorityKeyIdentifier::from_der(value)?);
            }
            SubjectAltName::OID => {
                self.alt_names = Some(SubjectAltName::from_der(&ascii_names(value))?.0);
            }
            NameConstraints::OID => self.name_constraints = Some(NameConstraints::from_der(value)?),
            _ => self.policies.take(oid, value)?,
        }
        Ok(())
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.subject_canonical == self.issuer_canonical
    }

    /// What ends a path (`EXFLAG_SS`): self-issued, with its own key identifier, and allowed to sign certificates.
    pub(super) fn is_self_signed(&self) -> bool {
        self.is_self_issued() && self.names_key_of(self) && self.allows(CERT_SIGN)
    }

    /// Whether `self` may have signed `subject` (`X509_check_issued`): the signature is verified later.
    pub(super) fn may_have_issued(&self, subject: &Certificate) -> bool {
        self.subject_canonical == subject.issuer_canonical
            && subject.names_key_of(self)
            && self.allows(CERT_SIGN)
    }

    /// Whether the authority key identifier does not speak against `issuer` (`X509_check_akid`).
    fn names_key_of(&self, issuer: &Certificate) -> bool {
        let Some(authority) = &self.authority_key_id else {
            return true;
        };
        let other_key = match (&authority.key_identifier, &issuer.subject_key_id) {
            (Some(wanted), Some(id)) => wanted.as_bytes() != id,
            _ => false,
        };
        let serial = authority.authority_cert_serial_number.as_ref();
        let other_serial = serial.is_some_and(|serial| serial.as_bytes() != issuer.serial);
        let names = authority.authority_cert_issuer.iter().flatten();
        let name = names.into_iter().find_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(canonical(name)),
            _ => None,
        });
        let other_issuer = name.is_some_and(|name| name != issuer.issuer_canonical);
        !other_key && !other_serial && !other_issuer
    }

    /// Whether the key usage allows at least one of these (`ku_reject`).
    pub(super) fn allows(&self, usages: u16) -> bool {
        self.key_usage.is_none_or(|usage| usage & usages != 0)
    }

    /// Whether the extended key usage allows this one (`xku_reject`).
    pub(super) fn allows_purpose(&self, purpose: ObjectIdentifier) -> bool {
        let usages = self.extended_key_usage.as_ref();
        usages.is_none_or(|usages| usages.contains(&purpose))
    }

    /// Whether it may stand above another (`check_ca`).
    pub(super) fn is_ca(&self) -> bool {
        let version_1_root = self.version_1 && self.is_self_issued();
        self.allows(CERT_SIGN) && (version_1_root || self.has_ca_flag)
    }

    /// Whether a leaf's key usage allows to be a client or a server (`check_purpose_ssl_client`, `…_server`).
    pub(super) fn allows_handshake(&self, is_client: bool) -> bool {
        self.allows(match is_client {
            true => DIGITAL_SIGNATURE | KEY_AGREEMENT,
            false => DIGITAL_SIGNATURE | KEY_ENCIPHERMENT | KEY_AGREEMENT,
        })
    }

    /// Whether what follows the verification of the chain succeeds: the peer signs the handshake, with a key of which
    /// BoringSSL verifies signatures, and which it may use for that.
    ///
    /// # Errors
    /// The reason, and what it is about.
    pub(super) fn can_sign_a_handshake(
        &self,
        direction: Direction,
    ) -> Result<(), (Reason, String)> {
        const RSA: &str = "1.2.840.113549.1.1.1";
        const EC: &str = "1.2.840.10045.2.1";
        const P256: &str = "1.2.840.10045.3.1.7";
        const P384: &str = "1.3.132.0.34";
        let algorithm = self.key_algorithm.to_string();
        let curve = self
            .curve
            .map(|curve| curve.to_string())
            .unwrap_or_default();
        let curves: &[&str] = match direction {
            Direction::Inbound => &[P256, P384],
            // As a client Envoy speaks TLS 1.2 by default, where a server's curve is one of its groups.
            Direction::Outbound => &[P256],
        };
        let is_known = algorithm == RSA || algorithm == EC && curves.contains(&&*curve);
        if !is_known {
            let detail = format!("by default Envoy accepts no such key: {algorithm} {curve}");
            return Err((Reason::NoSharedCipher, detail.trim_end().to_owned()));
        }
        match self.allows(DIGITAL_SIGNATURE) {
            true => Ok(()),
            false => Err((
                Reason::KeyUsage,
                "keyUsage does not allow digitalSignature".to_owned(),
            )),
        }
    }
}

/// Names with `?` for each byte that is not ASCII, which BoringSSL takes in an IA5String, and which no name constraint
/// can have.
fn ascii_names(names: &[u8]) -> Vec<u8> {
    const TEXTS: [u8; 3] = [0x81, 0x82, 0x86];
    let Some((list, _)) = ber::element(names) else {
        return names.to_vec();
    };
    let mut ascii = names.to_vec();
    let mut end = list.whole.len() - list.content.len();
    for name in ber::elements(list.content) {
        end += name.whole.len();
        let start = end - name.content.len();
        let text = ascii
            .get_mut(start..end)
            .filter(|_| TEXTS.contains(&name.identifier));
        for byte in text.into_iter().flatten().filter(|byte| !byte.is_ascii()) {
            *byte = b'?';
        }
    }
    ascii
}
