//! The outer structure of a certificate (RFC 5280, section 4.1), its parts read by the X.509 parser.
//!
//! The parser's own entry point reads every extension it knows, or carries the code to. Of some
//! twenty kinds six matter here; taking the parts one by one leaves the others out of the module.

use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::certificate::Validity;
use x509_parser::der_parser::Oid;
use x509_parser::prelude::{
    AlgorithmIdentifier, FromDer, SubjectPublicKeyInfo, X509Error, X509Name,
};

use super::parse::{MAX_DER_BYTES, ParseError};

/// A certificate, its extensions not yet looked into.
pub(super) struct Structure<'a> {
    /// 1, 2 or 3.
    pub(super) version: u32,
    /// Content of the serial number's INTEGER.
    pub(super) raw_serial: &'a [u8],
    pub(super) issuer: X509Name<'a>,
    pub(super) validity: Validity,
    pub(super) subject: X509Name<'a>,
    pub(super) public_key: SubjectPublicKeyInfo<'a>,
    pub(super) extensions: Vec<Extension<'a>>,
    pub(super) signature_algorithm: Oid<'a>,
}

/// An extension; whether it is critical is Envoy's to judge.
pub(super) struct Extension<'a> {
    /// Content of the OBJECT IDENTIFIER.
    pub(super) oid: &'a [u8],
    /// DER inside the OCTET STRING.
    pub(super) value: &'a [u8],
}

/// Reads the outer structure.
pub(super) fn structure(der: &[u8]) -> Result<Structure<'_>, ParseError> {
    if der.len() > MAX_DER_BYTES {
        return Err(ParseError::TooLarge(der.len()));
    }
    let (after, certificate) = sequence(der)?;
    if !after.is_empty() {
        return Err(ParseError::TrailingBytes(after.len()));
    }
    let (rest, tbs) = sequence(certificate)?;
    let (rest, algorithm) = part::<AlgorithmIdentifier<'_>>(rest)?;
    let (rest, _) = universal(rest, Tag::BitString)?;
    match rest {
        [] => to_be_signed(tbs, algorithm.algorithm),
        _ => Err(ParseError::Der),
    }
}

fn to_be_signed<'a>(tbs: &'a [u8], signature: Oid<'a>) -> Result<Structure<'a>, ParseError> {
    let (rest, version) = version(tbs)?;
    let (rest, raw_serial) = universal(rest, Tag::Integer)?;
    let (rest, _) = part::<AlgorithmIdentifier<'_>>(rest)?;
    let (rest, issuer) = part::<X509Name<'_>>(rest)?;
    let (rest, validity) = part::<Validity>(rest)?;
    let (rest, subject) = part::<X509Name<'_>>(rest)?;
    let (rest, public_key) = part::<SubjectPublicKeyInfo<'_>>(rest)?;
    Ok(Structure {
        version,
        raw_serial,
        issuer,
        validity,
        subject,
        public_key,
        extensions: extensions(rest)?,
        signature_algorithm: signature,
    })
}

/// `[0] EXPLICIT Version DEFAULT v1`.
fn version(tbs: &[u8]) -> Result<(&[u8], u32), ParseError> {
    let (rest, tagged) = any(tbs)?;
    if !is_context(&tagged, 0) {
        return Ok((tbs, 1));
    }
    match universal(tagged.data, Tag::Integer)? {
        ([], [number]) => Ok((rest, u32::from(*number).saturating_add(1))),
        _ => Err(ParseError::Der),
    }
}

/// `issuerUniqueID [1]`, `subjectUniqueID [2]` (passed over), `extensions [3] EXPLICIT`.
fn extensions(mut rest: &[u8]) -> Result<Vec<Extension<'_>>, ParseError> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (after, tagged) = any(rest)?;
        rest = after;
        if !is_context(&tagged, 3) {
            continue;
        }
        let (_, mut list) = sequence(tagged.data)?;
        while !list.is_empty() {
            let (after, extension) = sequence(list)?;
            list = after;
            found.push(one_extension(extension)?);
        }
    }
    Ok(found)
}

/// `extnID OID, critical BOOLEAN DEFAULT FALSE, extnValue OCTET STRING`.
fn one_extension(content: &[u8]) -> Result<Extension<'_>, ParseError> {
    let (rest, oid) = universal(content, Tag::Oid)?;
    let after_critical = universal(rest, Tag::Boolean).map_or(rest, |(rest, _)| rest);
    let (_, value) = universal(after_critical, Tag::OctetString)?;
    Ok(Extension { oid, value })
}

pub(super) fn is_context(any: &Any<'_>, tag: u32) -> bool {
    any.class() == Class::ContextSpecific && any.tag() == Tag(tag)
}

/// The content of a SEQUENCE, and what follows it.
pub(super) fn sequence(input: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    universal(input, Tag::Sequence)
}

/// The content of an element with that universal tag, and what follows it: `(rest, content)`.
pub(super) fn universal(input: &[u8], tag: Tag) -> Result<(&[u8], &[u8]), ParseError> {
    let (rest, element) = any(input)?;
    let constructed = matches!(tag, Tag::Sequence);
    let expected = element.class() == Class::Universal
        && element.tag() == tag
        && element.header.constructed() == constructed;
    match expected {
        true => Ok((rest, element.data)),
        false => Err(ParseError::Der),
    }
}

pub(super) fn any(input: &[u8]) -> Result<(&[u8], Any<'_>), ParseError> {
    Any::from_der(input).map_err(|_| ParseError::Der)
}

fn part<'a, T: FromDer<'a, X509Error>>(input: &'a [u8]) -> Result<(&'a [u8], T), ParseError> {
    T::from_der(input).map_err(|_| ParseError::Der)
}
