//! DER to facts.

use std::borrow::Cow;

use crate::certificate::{Certificate, KeyAlgorithm, Links, PublicKey, SignatureDigest};
use crate::error::ParseError;
use crate::extension::{self, AltNames};
use crate::name::{self, COMMON_NAME, ORGANIZATION, SERIAL_NUMBER};
use crate::spiffe;
use crate::structure::{Extension, structure};
use crate::usage::{ExtendedKeyUsage, KeyUsage};
use x509_parser::prelude::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// Reads the facts of one certificate (RFC 5280, section 4.1).
///
/// # Errors
/// [`ParseError`] says what is wrong with the bytes. Nothing panics, whatever they are.
pub fn parse(der: &[u8]) -> Result<Certificate, ParseError> {
    let structure = structure(der)?;
    let extensions = Extensions::read(&structure.extensions)?;
    let has_alt_names = extensions.alt_names.is_some();
    let alt_names = extensions.alt_names.unwrap_or_default();
    let is_ca = extensions.is_ca.unwrap_or_default();
    // An empty key identifier identifies nothing.
    let subject_key_id = extensions.subject_key_id.filter(|id| !id.is_empty());
    let authority_key_id = extensions.authority_key_id.flatten();
    let authority_key_id = authority_key_id.filter(|id| !id.is_empty());
    Ok(Certificate {
        identity: identity(&alt_names, structure.subject),
        other_uris: other_uris(&alt_names.uris),
        signer: None,
        serial: structure.raw_serial.into(),
        links: Links {
            subject: structure.subject.into(),
            issuer: structure.issuer.into(),
            subject_key_id: subject_key_id.map(Into::into),
            authority_key_id: authority_key_id.map(Into::into),
        },
        not_before: structure.not_before,
        not_after: structure.not_after,
        version: structure.version,
        is_ca,
        key_usage: extensions.key_usage,
        extended_key_usage: extensions.extended_key_usage,
        public_key: public_key(&structure.public_key),
        key_hash: key_hash(structure.public_key.raw),
        signature_digest: signature_digest(&structure.signature_algorithm),
        spiffe: spiffe::judge(&alt_names.uris, is_ca, extensions.key_usage),
        has_alt_names,
        has_wildcard: alt_names.has_wildcard,
        has_default_issuer: name::is_default(structure.issuer),
        has_unknown_critical_extension: extensions.unknown_critical,
    })
}

/// SPIFFE ID, else first other URI SAN, else DNS SAN, else subject CN, else IP, e-mail or UPN SAN, else subject
/// serialNumber, else O, else `unknown`. Empty ones are none.
fn identity(names: &AltNames<'_>, subject: &[u8]) -> String {
    let uris = &names.uris;
    let spiffe_id = uris.iter().find(|uri| spiffe::is_spiffe_uri(uri));
    let uri = spiffe_id.or_else(|| uris.iter().find(|uri| !uri.is_empty()));
    match uri.copied().or(names.dns_name) {
        Some(name) => name.to_owned(),
        None => rarer_identity(names, subject).unwrap_or_else(|| "unknown".to_owned()),
    }
}

fn other_uris(uris: &[&str]) -> Vec<String> {
    match uris {
        [] | [_] => Vec::new(),
        _ => {
            let others = uris.iter().filter(|uri| !spiffe::is_spiffe_uri(uri));
            others.map(|uri| (*uri).to_owned()).collect()
        }
    }
}

fn rarer_identity(names: &AltNames<'_>, subject: &[u8]) -> Option<String> {
    let attribute = |kind| name::attribute(subject, kind).map(Cow::into_owned);
    let other = names.email.or(names.user_principal_name);
    attribute(COMMON_NAME)
        .or_else(|| names.ip_address.map(|address| address.to_string()))
        .or_else(|| other.map(str::to_owned))
        .or_else(|| attribute(SERIAL_NUMBER))
        .or_else(|| attribute(ORGANIZATION))
}

/// The extensions that matter here, each at most once (RFC 5280, section 4.2): BoringSSL refuses a peer with a
/// repeated one.
#[derive(Default)]
struct Extensions<'a> {
    is_ca: Option<bool>,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<ExtendedKeyUsage>,
    subject_key_id: Option<&'a [u8]>,
    authority_key_id: Option<Option<&'a [u8]>>,
    alt_names: Option<AltNames<'a>>,
    unknown_critical: bool,
}

impl<'a> Extensions<'a> {
    fn read(extensions: &[Extension<'a>]) -> Result<Self, ParseError> {
        let mut found = Self::default();
        for extension in extensions {
            let value = extension.value;
            found.unknown_critical |= extension.critical && !is_processed(extension.oid);
            match ExtensionKind::of(extension.oid) {
                Some(ExtensionKind::BasicConstraints) => {
                    let is_ca = extension::is_ca(value);
                    set(&mut found.is_ca, is_ca, "basicConstraints")
                }
                Some(ExtensionKind::KeyUsage) => {
                    let usage = extension::key_usage(value);
                    let usage = usage.map(|bits| key_usage(bits, extension.critical));
                    set(&mut found.key_usage, usage, "keyUsage")
                }
                Some(ExtensionKind::ExtendedKeyUsage) => {
                    let usage = extension::purposes(value).map(extended_key_usage);
                    set(&mut found.extended_key_usage, usage, "extKeyUsage")
                }
                Some(ExtensionKind::SubjectKeyId) => {
                    let id = extension::subject_key_id(value);
                    set(&mut found.subject_key_id, id, "subjectKeyIdentifier")
                }
                Some(ExtensionKind::AuthorityKeyId) => {
                    let id = extension::authority_key_id(value);
                    set(&mut found.authority_key_id, id, "authorityKeyIdentifier")
                }
                Some(ExtensionKind::SubjectAltName) => {
                    let names = extension::alt_names(value);
                    set(&mut found.alt_names, names, "subjectAltName")
                }
                None => Ok(()),
            }?;
        }
        Ok(found)
    }
}

/// Keeps the value of an extension that is there for the first time.
fn set<T>(
    slot: &mut Option<T>,
    value: Result<T, ParseError>,
    name: &'static str,
) -> Result<(), ParseError> {
    let value = value.map_err(|_| ParseError::Extension(name))?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ParseError::RepeatedExtension(name)),
    }
}

fn key_usage(bits: u16, critical: bool) -> KeyUsage {
    KeyUsage {
        digital_signature: bits & extension::DIGITAL_SIGNATURE != 0,
        cert_sign: bits & extension::CERT_SIGN != 0,
        crl_sign: bits & extension::CRL_SIGN != 0,
        critical,
    }
}

fn extended_key_usage(purposes: Vec<&[u8]>) -> ExtendedKeyUsage {
    let mut usage = ExtendedKeyUsage::default();
    for purpose in purposes {
        match purpose {
            extension::SERVER_AUTH => usage.server_auth = true,
            extension::CLIENT_AUTH => usage.client_auth = true,
            extension::CODE_SIGNING => usage.code_signing = true,
            extension::OCSP_SIGNING => usage.ocsp_signing = true,
            _ => {}
        }
    }
    usage
}

/// The extensions that are read, by the last arc of their OID under id-ce (2.5.29).
enum ExtensionKind {
    SubjectKeyId,
    KeyUsage,
    SubjectAltName,
    BasicConstraints,
    AuthorityKeyId,
    ExtendedKeyUsage,
}

impl ExtensionKind {
    fn of(oid: &[u8]) -> Option<Self> {
        match oid {
            [0x55, 0x1d, 14] => Some(Self::SubjectKeyId),
            [0x55, 0x1d, 15] => Some(Self::KeyUsage),
            [0x55, 0x1d, 17] => Some(Self::SubjectAltName),
            [0x55, 0x1d, 19] => Some(Self::BasicConstraints),
            [0x55, 0x1d, 35] => Some(Self::AuthorityKeyId),
            [0x55, 0x1d, 37] => Some(Self::ExtendedKeyUsage),
            _ => None,
        }
    }
}

/// Whether BoringSSL verifies a certificate with that extension marked critical (`X509_supported_extension`): of
/// id-ce keyUsage, subjectAltName, basicConstraints, nameConstraints, certificatePolicies, policyMappings,
/// policyConstraints, extKeyUsage, inhibitAnyPolicy.
fn is_processed(oid: &[u8]) -> bool {
    matches!(
        oid,
        [0x55, 0x1d, 15 | 17 | 19 | 30 | 32 | 33 | 36 | 37 | 54]
    )
}

fn public_key(info: &SubjectPublicKeyInfo<'_>) -> PublicKey {
    // RFC 3279 (RSA, DSA), RFC 4055 (RSA-PSS), RFC 5480 (EC), RFC 8410 (Ed25519, Ed448).
    let algorithm = match info.algorithm.algorithm.as_bytes() {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 1 | 10] => KeyAlgorithm::Rsa,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 1] => KeyAlgorithm::Ec,
        [0x2b, 0x65, 0x70] => KeyAlgorithm::Ed25519,
        [0x2b, 0x65, 0x71] => KeyAlgorithm::Ed448,
        [0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 1] => KeyAlgorithm::Dsa,
        _ => KeyAlgorithm::Other,
    };
    let bits = match algorithm {
        KeyAlgorithm::Rsa => rsa_bits(&info.subject_public_key.data),
        KeyAlgorithm::Ec => ec_bits(info),
        KeyAlgorithm::Ed25519 => 256,
        KeyAlgorithm::Ed448 => 456,
        KeyAlgorithm::Dsa | KeyAlgorithm::Other => 0,
    };
    PublicKey { algorithm, bits }
}

/// Of the whole words of a SubjectPublicKeyInfo: what is behind them is an exponent's, or part of a coordinate.
fn key_hash(info: &[u8]) -> u64 {
    // 2^64 divided by the golden ratio.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = info.as_chunks().0.iter();
    words.fold(0, |hash: u64, word| {
        (hash ^ u64::from_le_bytes(*word))
            .wrapping_mul(SPREAD)
            .rotate_left(32)
    })
}

fn rsa_bits(key: &[u8]) -> u32 {
    let modulus = extension::rsa_modulus(key).unwrap_or_default();
    let first = modulus.iter().position(|byte| *byte != 0);
    let significant = first.and_then(|first| modulus.get(first..));
    let Some([high, rest @ ..]) = significant else {
        return 0;
    };
    let low_bits = u32::try_from(rest.len())
        .unwrap_or(u32::MAX)
        .saturating_mul(8);
    low_bits.saturating_add(8u32.saturating_sub(high.leading_zeros()))
}

/// Size of the curve's field: from its OID, or, for other curves, from the length of the point.
fn ec_bits(info: &SubjectPublicKeyInfo<'_>) -> u32 {
    match info.algorithm.parameters.as_ref().map(|any| any.data) {
        Some([0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 1]) => 192,
        Some([0x2b, 0x81, 0x04, 0x00, 33]) => 224,
        Some([0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 7]) => 256,
        Some([0x2b, 0x81, 0x04, 0x00, 34]) => 384,
        Some([0x2b, 0x81, 0x04, 0x00, 35]) => 521,
        _ => {
            let bytes = match &*info.subject_public_key.data {
                [4, coordinates @ ..] => coordinates.len() / 2,
                [2 | 3, coordinate @ ..] => coordinate.len(),
                _ => 0,
            };
            u32::try_from(bytes).unwrap_or(u32::MAX).saturating_mul(8)
        }
    }
}

/// RFC 8017 (RSA), RFC 5758 and 3279 (ECDSA, DSA), RFC 4055 (RSA-PSS), and the older names of OIW.
fn signature_digest(algorithm: &AlgorithmIdentifier<'_>) -> SignatureDigest {
    match algorithm.algorithm.as_bytes() {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 2] => SignatureDigest::Md2,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 4] | [0x2b, 0x0e, 3, 2, 3] => {
            SignatureDigest::Md5
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 5]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 1]
        | [0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 3]
        | [0x2b, 0x0e, 3, 2, 13 | 15 | 27 | 29] => SignatureDigest::Sha1,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 10] => {
            let parameters = algorithm.parameters.as_ref();
            pss_digest(parameters.map_or(&[], |any| any.data))
        }
        _ => SignatureDigest::Other,
    }
}

fn pss_digest(parameters: &[u8]) -> SignatureDigest {
    match extension::pss_digest(parameters) {
        None | Some([0x2b, 0x0e, 3, 2, 26]) => SignatureDigest::Sha1,
        Some([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 2]) => SignatureDigest::Md2,
        Some([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 5]) => SignatureDigest::Md5,
        Some(_) => SignatureDigest::Other,
    }
}
