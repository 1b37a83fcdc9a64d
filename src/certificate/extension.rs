//! The values of the extensions that matter here (RFC 5280, section 4.2.1).
//!
//! They are read with the ASN.1 parser directly: six small structures. The X.509 parser's readers for
//! them go through a second, general ASN.1 parser, twenty KB of module.

use x509_parser::asn1_rs::Tag;

use super::parse::ParseError;
use super::structure::{any, is_context, sequence, universal};
use super::{ExtendedKeyUsage, KeyUsage};

/// Content of id-kp-serverAuth and id-kp-clientAuth (1.3.6.1.5.5.7.3.1 and .2).
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// `SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL }`: cA.
pub(super) fn is_ca(value: &[u8]) -> Result<bool, ParseError> {
    let content = whole(sequence(value)?)?;
    if content.is_empty() {
        return Ok(false);
    }
    let (_, first) = any(content)?;
    match (first.tag(), first.data) {
        (Tag::Boolean, [0]) | (Tag::Integer, _) => Ok(false),
        (Tag::Boolean, [_]) => Ok(true),
        _ => Err(ParseError::Der),
    }
}

/// `BIT STRING`: bit 0, the highest of the first byte, is digitalSignature, bit 5 keyCertSign.
pub(super) fn key_usage(value: &[u8]) -> Result<KeyUsage, ParseError> {
    match whole(universal(value, Tag::BitString)?)? {
        [0..=7, bits @ ..] => {
            let bits = bits.first().copied().unwrap_or(0);
            Ok(KeyUsage {
                digital_signature: bits & 0x80 != 0,
                cert_sign: bits & 0x04 != 0,
            })
        }
        _ => Err(ParseError::Der),
    }
}

/// `SEQUENCE OF OBJECT IDENTIFIER`.
pub(super) fn extended_key_usage(value: &[u8]) -> Result<ExtendedKeyUsage, ParseError> {
    let mut purposes = whole(sequence(value)?)?;
    let mut usage = ExtendedKeyUsage {
        server_auth: false,
        client_auth: false,
    };
    while !purposes.is_empty() {
        let (rest, purpose) = universal(purposes, Tag::Oid)?;
        purposes = rest;
        usage.server_auth |= purpose == SERVER_AUTH;
        usage.client_auth |= purpose == CLIENT_AUTH;
    }
    Ok(usage)
}

/// `OCTET STRING`.
pub(super) fn subject_key_id(value: &[u8]) -> Result<&[u8], ParseError> {
    whole(universal(value, Tag::OctetString)?)
}

/// `SEQUENCE { keyIdentifier [0] IMPLICIT OCTET STRING OPTIONAL, ... }`: the key identifier.
pub(super) fn authority_key_id(value: &[u8]) -> Result<Option<&[u8]>, ParseError> {
    let mut fields = whole(sequence(value)?)?;
    while !fields.is_empty() {
        let (rest, field) = any(fields)?;
        fields = rest;
        if is_context(&field, 0) {
            return Ok(Some(field.data));
        }
    }
    Ok(None)
}

/// Content of the modulus: `SEQUENCE { modulus INTEGER, publicExponent INTEGER }` (RFC 8017, A.1.1).
pub(super) fn rsa_modulus(key: &[u8]) -> Result<&[u8], ParseError> {
    let (_, modulus) = universal(whole(sequence(key)?)?, Tag::Integer)?;
    Ok(modulus)
}

/// The content of an element that nothing follows.
fn whole<'a>((rest, content): (&'a [u8], &'a [u8])) -> Result<&'a [u8], ParseError> {
    match rest {
        [] => Ok(content),
        _ => Err(ParseError::Der),
    }
}
