//! The outer structure of a certificate (RFC 5280, section 4.1), its parts read by x509-parser.
//!
//! x509-parser's own entry point also reads both names and makes a big number of the serial number, which are
//! rarely asked for: with it a new certificate is above its budget (figures in docs/architecture.md).

use x509_parser::asn1_rs::BitString;
use x509_parser::prelude::{AlgorithmIdentifier, FromDer, SubjectPublicKeyInfo, X509Error};

use crate::error::{MAX_DER_BYTES, ParseError};
use crate::strict::{
    self, BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING,
    SEQUENCE, SET, UTC_TIME, any, element, only,
};
use crate::time::UnixTime;

/// A certificate, its extensions not yet looked into.
pub(crate) struct Structure<'a> {
    /// 1, 2 or 3.
    pub(crate) version: u32,
    /// Content of the serial number's INTEGER.
    pub(crate) raw_serial: &'a [u8],
    /// DER of the name.
    pub(crate) issuer: &'a [u8],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    /// DER of the name.
    pub(crate) subject: &'a [u8],
    pub(crate) public_key: SubjectPublicKeyInfo<'a>,
    pub(crate) extensions: Vec<Extension<'a>>,
    pub(crate) signature_algorithm: AlgorithmIdentifier<'a>,
}

/// An extension.
pub(crate) struct Extension<'a> {
    /// Content of the OBJECT IDENTIFIER.
    pub(crate) oid: &'a [u8],
    /// Whether who does not know it must refuse the certificate (RFC 5280, section 4.2).
    pub(crate) critical: bool,
    /// DER inside the OCTET STRING.
    pub(crate) value: &'a [u8],
}

/// Identifiers of `[0]` and `[3]`, which hold other elements, and of `[1]` and `[2]`, which are bits.
const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;

/// Reads the outer structure.
pub(crate) fn structure(der: &[u8]) -> Result<Structure<'_>, ParseError> {
    if der.len() > MAX_DER_BYTES {
        return Err(ParseError::TooLarge(der.len()));
    }
    let (after, certificate) = element(der, SEQUENCE)?;
    if !after.is_empty() {
        return Err(ParseError::TrailingBytes(after.len()));
    }
    let (rest, tbs) = element(certificate, SEQUENCE)?;
    let (signature, algorithm_of_signature) = element(rest, SEQUENCE)?;
    strict::check(tbs)?;
    strict::check(algorithm_of_signature)?;
    let (_, algorithm) = algorithm(rest)?;
    // Of the signature alone BoringSSL takes a length with zeros in front (asn1_parse_bit_string_with_bad_length).
    match BitString::from_der(signature) {
        Ok(([], _)) if signature.starts_with(&[BIT_STRING]) => to_be_signed(tbs, algorithm),
        _ => Err(ParseError::Der),
    }
}

fn to_be_signed<'a>(
    tbs: &'a [u8],
    signature: AlgorithmIdentifier<'a>,
) -> Result<Structure<'a>, ParseError> {
    let (rest, version) = version(tbs)?;
    let (rest, raw_serial) = serial(rest)?;
    let (rest, _) = algorithm(rest)?;
    let (rest, issuer) = name(rest)?;
    let (rest, validity) = element(rest, SEQUENCE)?;
    let (after_start, not_before) = time(validity)?;
    let (after_end, not_after) = time(after_start)?;
    let (rest, subject) = name(rest)?;
    let (rest, public_key) = public_key(rest)?;
    if !after_end.is_empty() {
        return Err(ParseError::Der);
    }
    Ok(Structure {
        version,
        raw_serial,
        issuer,
        not_before,
        not_after,
        subject,
        public_key,
        extensions: extensions(rest, version)?,
        signature_algorithm: signature,
    })
}

/// A time, and what follows it: `YYMMDDhhmmssZ`, whose years are 1950 to 2049, or `YYYYMMDDhhmmssZ` (RFC 5280, section
/// 4.1.2.5). x509-parser's reader takes 6 KB of the module.
pub(crate) fn time(input: &[u8]) -> Result<(&[u8], UnixTime), ParseError> {
    let (rest, element) = any(input)?;
    let time = match (element.identifier, element.content) {
        (UTC_TIME, [digits @ .., b'Z']) => utc_time(digits),
        (GENERALIZED_TIME, [digits @ .., b'Z']) => generalized_time(digits),
        _ => None,
    };
    Ok((rest, time.ok_or(ParseError::Der)?))
}

fn utc_time(digits: &[u8]) -> Option<UnixTime> {
    let [year, rest @ ..] = pairs::<6>(digits)?;
    let century = if year < 50 { 2000 } else { 1900 };
    moment(year.saturating_add(century), rest)
}

fn generalized_time(digits: &[u8]) -> Option<UnixTime> {
    let [century, year, rest @ ..] = pairs::<7>(digits)?;
    moment(century.saturating_mul(100).saturating_add(year), rest)
}

fn moment(year: i64, [month, day, hour, minute, second]: [i64; 5]) -> Option<UnixTime> {
    // BoringSSL knows no leap seconds.
    let time = UnixTime::of([year, month, day], [hour, minute, second]);
    time.filter(|_| second < 60)
}

/// The numbers of two digits each.
fn pairs<const N: usize>(digits: &[u8]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let (pairs, []) = digits.as_chunks() else {
        return None;
    };
    if pairs.len() != N || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for (number, [tens, ones]) in numbers.iter_mut().zip(pairs) {
        let digit = |byte: &u8| i64::from(byte.wrapping_sub(b'0'));
        *number = digit(tens).saturating_mul(10).saturating_add(digit(ones));
    }
    Some(numbers)
}

/// `[0] EXPLICIT Version DEFAULT v1`, and what follows it.
fn version(tbs: &[u8]) -> Result<(&[u8], u32), ParseError> {
    let Ok((rest, tagged)) = element(tbs, VERSION) else {
        return Ok((tbs, 1));
    };
    match only(tagged, INTEGER)? {
        [number @ 0..=2] => Ok((rest, u32::from(*number).saturating_add(1))),
        _ => Err(ParseError::Der),
    }
}

/// An INTEGER without a byte in front that it does not need (X.690, section 8.3.2), and what follows it.
fn serial(input: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    match element(input, INTEGER)? {
        (_, [] | [0, 0..0x80, ..] | [0xff, 0x80..=0xff, ..]) => Err(ParseError::Der),
        serial => Ok(serial),
    }
}

/// An algorithm and its parameters, and what follows it. x509-parser does not look at the types.
fn algorithm(input: &[u8]) -> Result<(&[u8], AlgorithmIdentifier<'_>), ParseError> {
    let (_, content) = element(input, SEQUENCE)?;
    match element(content, OBJECT_IDENTIFIER)? {
        ([], _) => {}
        (parameters, _) => only_one(parameters)?,
    }
    part(input)
}

/// A key and its algorithm, and what follows it.
fn public_key(input: &[u8]) -> Result<(&[u8], SubjectPublicKeyInfo<'_>), ParseError> {
    let (_, content) = element(input, SEQUENCE)?;
    let (bits, _) = algorithm(content)?;
    match only(bits, BIT_STRING)? {
        // Keys are whole bytes.
        [0, ..] => part(input),
        _ => Err(ParseError::Der),
    }
}

/// A name with its header, and what follows it. Its texts are read when they are asked for: mostly never.
pub(crate) fn name(input: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    let (rest, mut content) = element(input, SEQUENCE)?;
    while !content.is_empty() {
        let (after, attributes) = element(content, SET)?;
        content = after;
        check_attributes(attributes)?;
    }
    let length = input.len().saturating_sub(rest.len());
    let name = input.get(..length).ok_or(ParseError::Der)?;
    Ok((rest, name))
}

/// Checks that these are attributes, `SEQUENCE { type OBJECT IDENTIFIER, value ANY }`, and at least one.
fn check_attributes(mut attributes: &[u8]) -> Result<(), ParseError> {
    loop {
        let (after, attribute) = element(attributes, SEQUENCE)?;
        attributes = after;
        let (value, _) = element(attribute, OBJECT_IDENTIFIER)?;
        only_one(value)?;
        if attributes.is_empty() {
            return Ok(());
        }
    }
}

/// Checks that there is one element, of whatever type.
fn only_one(input: &[u8]) -> Result<(), ParseError> {
    match any(input)? {
        ([], _) => Ok(()),
        _ => Err(ParseError::Der),
    }
}

/// A leaf of a public CA has ten.
const TYPICAL_EXTENSIONS: usize = 10;

/// `issuerUniqueID [1]`, `subjectUniqueID [2]` (passed over, from version 2 on), `extensions [3] EXPLICIT` (in
/// version 3 only).
fn extensions(mut rest: &[u8], version: u32) -> Result<Vec<Extension<'_>>, ParseError> {
    for unique_id in [ISSUER_UNIQUE_ID, SUBJECT_UNIQUE_ID] {
        rest = match any(rest) {
            Ok((after, found)) if found.identifier == unique_id && version >= 2 => after,
            _ => rest,
        };
    }
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    if version < 3 {
        return Err(ParseError::Der);
    }
    extension_list(rest, EXTENSIONS)
}

/// The extensions in an element with that identifier, which nothing follows.
pub(crate) fn extension_list(
    rest: &[u8],
    identifier: u8,
) -> Result<Vec<Extension<'_>>, ParseError> {
    let mut found = Vec::with_capacity(TYPICAL_EXTENSIONS);
    let mut list = only(only(rest, identifier)?, SEQUENCE)?;
    while !list.is_empty() {
        let (after, extension) = element(list, SEQUENCE)?;
        list = after;
        found.push(one_extension(extension)?);
    }
    Ok(found)
}

/// `extnID OID, critical BOOLEAN DEFAULT FALSE, extnValue OCTET STRING`.
fn one_extension(content: &[u8]) -> Result<Extension<'_>, ParseError> {
    let (rest, oid) = element(content, OBJECT_IDENTIFIER)?;
    let (after_critical, critical) = element(rest, BOOLEAN).unwrap_or((rest, &[]));
    let value = only(after_critical, OCTET_STRING)?;
    Ok(Extension {
        oid,
        critical: critical.iter().any(|byte| *byte != 0),
        value,
    })
}

/// A part, as x509-parser reads it, and what follows it.
fn part<'a, T: FromDer<'a, X509Error>>(input: &'a [u8]) -> Result<(&'a [u8], T), ParseError> {
    T::from_der(input).map_err(|_| ParseError::Der)
}
