//! The values of the extensions that matter here (RFC 5280, section 4.2.1).
//!
//! x509-parser's readers for them go through a second ASN.1 parser, which keeps every element: 20 KB of module and
//! ten places that could panic, for structures of one or two elements. Its reader of extended key usages needs
//! random numbers, a host call that the module does not have.

use std::net::IpAddr;

use x509_parser::asn1_rs::{BitString, FromDer as _};

use crate::error::ParseError;
use crate::strict::{
    self, BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, UTF8_STRING, any, element,
    only,
};

/// Content of id-kp-serverAuth and id-kp-clientAuth (1.3.6.1.5.5.7.3.1 and .2).
pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
/// id-kp-codeSigning and id-kp-OCSPSigning (1.3.6.1.5.5.7.3.3 and .9).
pub(crate) const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
pub(crate) const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];

/// `SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL }`: cA. BoringSSL refuses a path
/// length without cA.
pub(crate) fn is_ca(value: &[u8]) -> Result<bool, ParseError> {
    let content = checked(value, SEQUENCE)?;
    let (path_length, ca) = match element(content, BOOLEAN) {
        Ok((rest, [ca])) => (rest, *ca != 0),
        Ok(_) => return Err(ParseError::Der),
        Err(_) => (content, false),
    };
    match path_length {
        [] => Ok(ca),
        _ if ca => only(path_length, INTEGER).map(|_| true),
        _ => Err(ParseError::Der),
    }
}

/// Named bits of a key usage, bit 0 (digitalSignature) lowest.
pub(crate) const DIGITAL_SIGNATURE: u16 = 1;
/// keyCertSign.
pub(crate) const CERT_SIGN: u16 = 1 << 5;
/// cRLSign.
pub(crate) const CRL_SIGN: u16 = 1 << 6;

/// `BIT STRING`: the named bits, of which ASN.1 has bit 0 highest in the first byte.
pub(crate) fn key_usage(value: &[u8]) -> Result<u16, ParseError> {
    checked(value, strict::BIT_STRING)?;
    let (_, bits) = BitString::from_der(value).map_err(|_| ParseError::Der)?;
    let named = |index| {
        bits.data
            .get(index)
            .map_or(0, |byte: &u8| byte.reverse_bits())
    };
    Ok(u16::from_le_bytes([named(0), named(1)]))
}

/// `SEQUENCE OF OBJECT IDENTIFIER`: the content of each.
pub(crate) fn purposes(value: &[u8]) -> Result<Vec<&[u8]>, ParseError> {
    let mut rest = checked(value, SEQUENCE)?;
    let mut purposes = Vec::new();
    while !rest.is_empty() {
        let (after, purpose) = element(rest, OBJECT_IDENTIFIER)?;
        rest = after;
        purposes.push(purpose);
    }
    Ok(purposes)
}

/// `OCTET STRING`.
pub(crate) fn subject_key_id(value: &[u8]) -> Result<&[u8], ParseError> {
    checked(value, OCTET_STRING)
}

/// `SEQUENCE { keyIdentifier [0] IMPLICIT OCTET STRING OPTIONAL, ... }`: the key identifier.
pub(crate) fn authority_key_id(value: &[u8]) -> Result<Option<&[u8]>, ParseError> {
    const KEY_IDENTIFIER: u8 = 0x80;
    let fields = checked(value, SEQUENCE)?;
    let first = element(fields, KEY_IDENTIFIER).ok();
    Ok(first.map(|(_, identifier)| identifier))
}

/// The subject alternative names by which a peer is called: of each kind the first that is not empty.
#[derive(Default)]
pub(crate) struct AltNames<'a> {
    /// All uniformResourceIdentifiers.
    pub(crate) uris: Vec<&'a str>,
    /// dNSName.
    pub(crate) dns_name: Option<&'a str>,
    /// Whether any dNSName has a wildcard.
    pub(crate) has_wildcard: bool,
    /// iPAddress.
    pub(crate) ip_address: Option<IpAddr>,
    /// rfc822Name.
    pub(crate) email: Option<&'a str>,
    /// Microsoft's user principal name, an otherName.
    pub(crate) user_principal_name: Option<&'a str>,
}

/// `SEQUENCE OF GeneralName`, a choice by context-specific number. What is not the text it should be is no
/// name.
pub(crate) fn alt_names(value: &[u8]) -> Result<AltNames<'_>, ParseError> {
    const OTHER_NAME: u8 = 0xa0;
    const EMAIL: u8 = 0x81;
    const DNS_NAME: u8 = 0x82;
    const URI: u8 = 0x86;
    const IP_ADDRESS: u8 = 0x87;
    let mut rest = checked(value, SEQUENCE)?;
    let mut names = AltNames::default();
    while !rest.is_empty() {
        let (after, name) = any(rest)?;
        rest = after;
        let content = name.content;
        match name.identifier {
            DNS_NAME => {
                names.has_wildcard |= content.contains(&b'*');
                keep(&mut names.dns_name, || text(content));
            }
            URI => names.uris.extend(str::from_utf8(content)),
            EMAIL => keep(&mut names.email, || text(content)),
            IP_ADDRESS => keep(&mut names.ip_address, || ip_address(content)),
            OTHER_NAME => keep(&mut names.user_principal_name, || {
                user_principal_name(content)
            }),
            // Another context-specific one.
            0x80..0xc0 => {}
            _ => return Err(ParseError::Der),
        }
    }
    Ok(names)
}

/// Fills a place that is empty.
fn keep<T>(place: &mut Option<T>, value: impl FnOnce() -> Option<T>) {
    if place.is_none() {
        *place = value();
    }
}

fn text(content: &[u8]) -> Option<&str> {
    let text = str::from_utf8(content).ok()?;
    (!text.is_empty()).then_some(text)
}

fn ip_address(content: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(content).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(content).map(IpAddr::from))
        .ok()
}

/// `type-id OBJECT IDENTIFIER, value [0] EXPLICIT UTF8String`, of the type 1.3.6.1.4.1.311.20.2.3.
fn user_principal_name(content: &[u8]) -> Option<&str> {
    const VALUE: u8 = 0xa0;
    const UPN: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3];
    match element(content, OBJECT_IDENTIFIER) {
        Ok((value, UPN)) => text(only(only(value, VALUE).ok()?, UTF8_STRING).ok()?),
        _ => None,
    }
}

/// The digest of RSASSA-PSS parameters, `SEQUENCE { hashAlgorithm [0] AlgorithmIdentifier DEFAULT sha1, ... }`
/// (RFC 4055, section 3.1): the content of its object identifier, `None` where it is the default. `content` is
/// that of the sequence.
pub(crate) fn pss_digest(content: &[u8]) -> Option<&[u8]> {
    const HASH_ALGORITHM: u8 = 0xa0;
    let (_, algorithm) = element(content, HASH_ALGORITHM).ok()?;
    let (_, oid) = element(only(algorithm, SEQUENCE).ok()?, OBJECT_IDENTIFIER).ok()?;
    Some(oid)
}

/// Content of the modulus: `SEQUENCE { modulus INTEGER, publicExponent INTEGER }` (RFC 8017, A.1.1).
pub(crate) fn rsa_modulus(key: &[u8]) -> Result<&[u8], ParseError> {
    let (_, modulus) = element(checked(key, SEQUENCE)?, INTEGER)?;
    Ok(modulus)
}

/// The content of an element with that identifier, which is all there is and DER down to the last.
fn checked(value: &[u8], identifier: u8) -> Result<&[u8], ParseError> {
    strict::check(value)?;
    only(value, identifier)
}
