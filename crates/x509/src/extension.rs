//! The values of the extensions that matter here (RFC 5280, section 4.2.1).
//!
//! They are read element by element: seven small structures. The X.509 parser's readers for
//! them go through a second, general ASN.1 parser, thirty KB of module.

use crate::error::ParseError;
use crate::structure::{
    BIT_STRING, BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, any, sequence, universal,
};

/// Content of id-kp-serverAuth and id-kp-clientAuth (1.3.6.1.5.5.7.3.1 and .2).
pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// `SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL }`: cA.
pub(crate) fn is_ca(value: &[u8]) -> Result<bool, ParseError> {
    let content = whole(sequence(value)?)?;
    if content.is_empty() {
        return Ok(false);
    }
    match universal(content, BOOLEAN) {
        Ok((_, [value])) => Ok(*value != 0),
        Ok(_) => Err(ParseError::Der),
        // The default, and a path length.
        Err(_) => universal(content, INTEGER).map(|_| false),
    }
}

/// Named bits of a key usage, bit 0 (digitalSignature) lowest.
pub(crate) const DIGITAL_SIGNATURE: u16 = 1;
/// keyCertSign.
pub(crate) const CERT_SIGN: u16 = 1 << 5;

/// `BIT STRING`: the named bits, of which ASN.1 has bit 0 highest in the first byte.
pub(crate) fn key_usage(value: &[u8]) -> Result<u16, ParseError> {
    let content = whole(universal(value, BIT_STRING)?)?;
    let Some((unused @ 0..=7, bytes)) = content.split_first() else {
        return Err(ParseError::Der);
    };
    // The last byte's lowest bits are not used: what is set there is no usage (and no DER).
    let last = bytes.len().saturating_sub(1);
    let named = |index: usize| {
        let unused = if index == last { *unused } else { 0 };
        bytes
            .get(index)
            .map_or(0, |byte: &u8| (byte >> unused << unused).reverse_bits())
    };
    Ok(u16::from_le_bytes([named(0), named(1)]))
}

/// `SEQUENCE OF OBJECT IDENTIFIER`: the content of each.
pub(crate) fn purposes(value: &[u8]) -> Result<Vec<&[u8]>, ParseError> {
    let mut rest = whole(sequence(value)?)?;
    let mut purposes = Vec::new();
    while !rest.is_empty() {
        let (after, purpose) = universal(rest, OBJECT_IDENTIFIER)?;
        rest = after;
        purposes.push(purpose);
    }
    Ok(purposes)
}

/// `OCTET STRING`.
pub(crate) fn subject_key_id(value: &[u8]) -> Result<&[u8], ParseError> {
    let (_, id) = universal(value, OCTET_STRING)?;
    Ok(id)
}

/// `SEQUENCE { keyIdentifier [0] IMPLICIT OCTET STRING OPTIONAL, ... }`: the key identifier. What comes
/// after it is not looked at.
pub(crate) fn authority_key_id(value: &[u8]) -> Result<Option<&[u8]>, ParseError> {
    let (_, fields) = sequence(value)?;
    let first = any(fields).ok().map(|(_, first)| first);
    Ok(first
        .filter(|first| first.context() == Some(0))
        .map(|first| first.content))
}

/// The subject alternative names by which a peer is called.
#[derive(Default)]
pub(crate) struct AltNames<'a> {
    /// uniformResourceIdentifier.
    pub(crate) uris: Vec<&'a str>,
    /// The first dNSName.
    pub(crate) dns_name: Option<&'a str>,
}

/// `SEQUENCE OF GeneralName`, a choice by context-specific number. What is not the text it should be is no
/// name.
pub(crate) fn alt_names(value: &[u8]) -> Result<AltNames<'_>, ParseError> {
    let (_, mut rest) = sequence(value)?;
    let mut names = AltNames::default();
    while !rest.is_empty() {
        let (after, name) = any(rest)?;
        rest = after;
        let text = || str::from_utf8(name.content).ok();
        match name.context().ok_or(ParseError::Der)? {
            2 => names.dns_name = names.dns_name.or_else(text),
            6 => names.uris.extend(text()),
            _ => {}
        }
    }
    Ok(names)
}

/// Content of the modulus: `SEQUENCE { modulus INTEGER, publicExponent INTEGER }` (RFC 8017, A.1.1).
pub(crate) fn rsa_modulus(key: &[u8]) -> Result<&[u8], ParseError> {
    let (_, modulus) = universal(whole(sequence(key)?)?, INTEGER)?;
    Ok(modulus)
}

/// The content of an element that nothing follows.
fn whole<'a>((rest, content): (&'a [u8], &'a [u8])) -> Result<&'a [u8], ParseError> {
    match rest {
        [] => Ok(content),
        _ => Err(ParseError::Der),
    }
}
