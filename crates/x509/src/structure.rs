//! The outer structure of a certificate (RFC 5280, section 4.1). What is in its names is the X.509 parser's to
//! read.
//!
//! The parser's own entry point reads every extension it knows, or carries the code to. Of some
//! twenty kinds six matter here; taking the parts one by one leaves the others out of the module. Its
//! reader of ASN.1 elements keeps for each what BER could have written otherwise: with seventy elements in a
//! leaf, that was a fifth of what a new certificate costs.

use crate::error::{MAX_DER_BYTES, ParseError};
use crate::time::{Seconds, UnixTime};

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
    pub(crate) public_key: PublicKeyInfo<'a>,
    pub(crate) extensions: Vec<Extension<'a>>,
    /// Content of the OBJECT IDENTIFIER.
    pub(crate) signature_algorithm: &'a [u8],
}

/// The subject's public key (RFC 5280, section 4.1.2.7).
pub(crate) struct PublicKeyInfo<'a> {
    /// Content of the algorithm's OBJECT IDENTIFIER.
    pub(crate) algorithm: &'a [u8],
    /// Content of the algorithm's parameters, of whatever type they are.
    pub(crate) parameters: Option<&'a [u8]>,
    /// The bits.
    pub(crate) key: &'a [u8],
}

/// An extension; whether it is critical is Envoy's to judge.
pub(crate) struct Extension<'a> {
    /// Content of the OBJECT IDENTIFIER.
    pub(crate) oid: &'a [u8],
    /// DER inside the OCTET STRING.
    pub(crate) value: &'a [u8],
}

/// Reads the outer structure.
pub(crate) fn structure(der: &[u8]) -> Result<Structure<'_>, ParseError> {
    if der.len() > MAX_DER_BYTES {
        return Err(ParseError::TooLarge(der.len()));
    }
    let (after, certificate) = sequence(der)?;
    if !after.is_empty() {
        return Err(ParseError::TrailingBytes(after.len()));
    }
    let (rest, tbs) = sequence(certificate)?;
    let (rest, algorithm) = sequence(rest)?;
    let (signature_algorithm, _) = algorithm_identifier(algorithm)?;
    let (rest, _) = universal(rest, BIT_STRING)?;
    match rest {
        [] => to_be_signed(tbs, signature_algorithm),
        _ => Err(ParseError::Der),
    }
}

fn to_be_signed<'a>(
    tbs: &'a [u8],
    signature_algorithm: &'a [u8],
) -> Result<Structure<'a>, ParseError> {
    let (rest, version) = version(tbs)?;
    let (rest, raw_serial) = universal(rest, INTEGER)?;
    let (rest, algorithm) = sequence(rest)?;
    algorithm_identifier(algorithm)?;
    let (rest, issuer) = name(rest)?;
    let (rest, validity) = sequence(rest)?;
    let (after_start, not_before) = time(validity)?;
    let (_, not_after) = time(after_start)?;
    let (rest, subject) = name(rest)?;
    let (rest, public_key) = sequence(rest)?;
    Ok(Structure {
        version,
        raw_serial,
        issuer,
        not_before,
        not_after,
        subject,
        public_key: public_key_info(public_key)?,
        extensions: extensions(rest)?,
        signature_algorithm,
    })
}

/// A name with its header, and what follows it. What is in it is read when it is asked for: mostly never.
fn name(input: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    let (rest, _) = sequence(input)?;
    let length = input.len().saturating_sub(rest.len());
    let name = input.get(..length).ok_or(ParseError::Der)?;
    Ok((rest, name))
}

/// `CHOICE { utcTime UTCTime, generalTime GeneralizedTime }`, and what follows it.
fn time(input: &[u8]) -> Result<(&[u8], UnixTime), ParseError> {
    let (rest, element) = any(input)?;
    let time = read_time(&element).ok_or(ParseError::Der)?;
    Ok((rest, time))
}

/// A time as RFC 5280 (section 4.1.2.5) has it, with seconds, in UTC; or as BoringSSL takes it besides, a
/// UTCTime with an offset. The parser's own way for it, which takes more than Envoy lets pass, leads
/// through a calendar library: 7 KB of module.
#[expect(clippy::arithmetic_side_effects, reason = "numbers of two digits")]
fn read_time(element: &Element<'_>) -> Option<UnixTime> {
    let (digits, offset) = match (element.identifier, element.content) {
        (_, [digits @ .., b'Z']) => (digits, 0),
        (UTC_TIME, content) => {
            let (digits, [sign, zone @ ..]) = content.split_last_chunk::<5>()?;
            (digits, offset(*sign, zone)?)
        }
        _ => return None,
    };
    let (pairs, []) = digits.as_chunks() else {
        return None;
    };
    let (year, pairs) = match (element.identifier, pairs) {
        (UTC_TIME, [year, pairs @ ..]) => match decimal(*year)? {
            year @ ..50 => (2000 + year, pairs),
            year => (1900 + year, pairs),
        },
        (GENERALIZED_TIME, [century, year, pairs @ ..]) => {
            (decimal(*century)? * 100 + decimal(*year)?, pairs)
        }
        _ => return None,
    };
    let [month, day, hour, minute, second] = pairs else {
        return None;
    };
    let second = decimal(*second).filter(|second| *second < 60)?;
    UnixTime::of(
        [year, decimal(*month)?, decimal(*day)?],
        [decimal(*hour)?, decimal(*minute)?, second],
    )
    .map(|time| time.minus(Seconds(offset)))
}

/// How much later it is there than in UTC, in seconds.
#[expect(clippy::arithmetic_side_effects, reason = "numbers of two digits")]
fn offset(sign: u8, digits: &[u8]) -> Option<i64> {
    let ([hours, minutes], []) = digits.as_chunks() else {
        return None;
    };
    let hours = decimal(*hours).filter(|hours| *hours < 24)?;
    let minutes = decimal(*minutes).filter(|minutes| *minutes < 60)?;
    let seconds = (hours * 60 + minutes) * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// Two decimal digits.
fn decimal([tens, ones]: [u8; 2]) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    let value = tens.wrapping_mul(10).wrapping_add(ones);
    (tens < 10 && ones < 10).then_some(i64::from(value))
}

/// `algorithm OBJECT IDENTIFIER, parameters ANY DEFINED BY algorithm OPTIONAL`: the content of both.
fn algorithm_identifier(content: &[u8]) -> Result<(&[u8], Option<&[u8]>), ParseError> {
    let (rest, algorithm) = universal(content, OBJECT_IDENTIFIER)?;
    let parameters = match rest {
        [] => None,
        rest => Some(any(rest)?.1.content),
    };
    Ok((algorithm, parameters))
}

/// `algorithm AlgorithmIdentifier, subjectPublicKey BIT STRING`.
fn public_key_info(content: &[u8]) -> Result<PublicKeyInfo<'_>, ParseError> {
    let (rest, algorithm) = sequence(content)?;
    let (algorithm, parameters) = algorithm_identifier(algorithm)?;
    let (_, bits) = universal(rest, BIT_STRING)?;
    let (unused, key) = bits.split_first().ok_or(ParseError::Der)?;
    let zeros = key.last().map_or(0, |last| last.trailing_zeros());
    match u32::from(*unused) <= zeros {
        true => Ok(PublicKeyInfo {
            algorithm,
            parameters,
            key,
        }),
        false => Err(ParseError::Der),
    }
}

/// `[0] EXPLICIT Version DEFAULT v1`.
fn version(tbs: &[u8]) -> Result<(&[u8], u32), ParseError> {
    let (rest, tagged) = any(tbs)?;
    if tagged.context() != Some(0) {
        return Ok((tbs, 1));
    }
    match universal(tagged.content, INTEGER)? {
        ([], [number]) => Ok((rest, u32::from(*number).saturating_add(1))),
        _ => Err(ParseError::Der),
    }
}

/// A leaf of a public CA has ten.
const TYPICAL_EXTENSIONS: usize = 10;

/// `issuerUniqueID [1]`, `subjectUniqueID [2]` (passed over), `extensions [3] EXPLICIT`.
fn extensions(mut rest: &[u8]) -> Result<Vec<Extension<'_>>, ParseError> {
    let mut found = Vec::with_capacity(TYPICAL_EXTENSIONS);
    while !rest.is_empty() {
        let (after, tagged) = any(rest)?;
        rest = after;
        if tagged.context() != Some(3) {
            continue;
        }
        let (_, mut list) = sequence(tagged.content)?;
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
    let (rest, oid) = universal(content, OBJECT_IDENTIFIER)?;
    let after_critical = universal(rest, BOOLEAN).map_or(rest, |(rest, _)| rest);
    let (_, value) = universal(after_critical, OCTET_STRING)?;
    Ok(Extension { oid, value })
}

/// Identifiers of universal elements (X.690, section 8.1.2): class, form and number in one byte.
pub(crate) const BOOLEAN: u8 = 1;
pub(crate) const INTEGER: u8 = 2;
pub(crate) const BIT_STRING: u8 = 3;
pub(crate) const OCTET_STRING: u8 = 4;
pub(crate) const OBJECT_IDENTIFIER: u8 = 6;
const UTC_TIME: u8 = 23;
const GENERALIZED_TIME: u8 = 24;
const SEQUENCE: u8 = 0x30;

/// The bit of an identifier that says that the content is elements.
const CONSTRUCTED: u8 = 0x20;
/// The bits of a context-specific one.
const CONTEXT: u8 = 0x80;
/// The bits of the number; all of them for those that are not below 31.
const NUMBER: u8 = 0x1f;

/// An element of DER.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    identifier: u8,
    pub(crate) content: &'a [u8],
}

impl Element<'_> {
    /// The number of a context-specific element.
    pub(crate) fn context(&self) -> Option<u8> {
        let number = self.identifier & !CONSTRUCTED ^ CONTEXT;
        (number < NUMBER).then_some(number)
    }
}

/// The content of a SEQUENCE, and what follows it.
pub(crate) fn sequence(input: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    universal(input, SEQUENCE)
}

/// The content of an element with that identifier, and what follows it: `(rest, content)`.
pub(crate) fn universal(input: &[u8], identifier: u8) -> Result<(&[u8], &[u8]), ParseError> {
    let (rest, element) = any(input)?;
    match element.identifier == identifier {
        true => Ok((rest, element.content)),
        false => Err(ParseError::Der),
    }
}

/// The first element, and what follows it.
pub(crate) fn any(input: &[u8]) -> Result<(&[u8], Element<'_>), ParseError> {
    let element = || {
        let (identifier, rest) = input.split_first()?;
        let (identifier, rest) = match identifier & NUMBER {
            NUMBER => long_number(*identifier, rest)?,
            _ => (*identifier, rest),
        };
        let (length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..0x80 => (usize::from(*length), rest),
            _ => long_length(*length & 0x7f, rest)?,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some((
            rest,
            Element {
                identifier,
                content,
            },
        ))
    };
    element().ok_or(ParseError::Der)
}

/// An identifier whose number is in up to five further bytes (X.690, section 8.1.2.4), also where it need not
/// be. Numbers that do need it are no part of a certificate: all are one.
fn long_number(identifier: u8, input: &[u8]) -> Option<(u8, &[u8])> {
    let last = input.iter().take(5).position(|byte| byte & 0x80 == 0)?;
    let (digits, rest) = input.split_at_checked(last.saturating_add(1))?;
    let number = digits
        .iter()
        .fold(0u32, |number, digit| number << 7 | u32::from(digit & 0x7f));
    let number = u8::try_from(number).map_or(NUMBER, |number| number.min(NUMBER));
    Some((identifier & !NUMBER | number, rest))
}

/// A length in that many bytes (X.690, section 8.1.3.5), also where fewer would do. In none it would be
/// BER's, which is found by searching; 127 are reserved.
fn long_length(bytes: u8, input: &[u8]) -> Option<(usize, &[u8])> {
    let (digits, rest) = input.split_at_checked(usize::from(bytes))?;
    let length = digits.iter().try_fold(0usize, |length, digit| {
        length.checked_mul(256)?.checked_add(usize::from(*digit))
    });
    Some((length?, rest)).filter(|_| (1..0x7f).contains(&bytes))
}
