//! The strictness of BoringSSL, which x509-parser does not have.
//!
//! x509-parser reads what CAs of old have issued: lengths with zeros in front, times without seconds, times with
//! an offset, text that is none. Envoy (BoringSSL) does not load a certificate with any of these, or refuses
//! every peer that sends it. So the elements of a certificate are checked here before x509-parser reads them.
//!
//! Elements that only hold others are read here, too: x509-parser's reader keeps for each what BER could have
//! written otherwise, which a new certificate pays for (figures in docs/architecture.md).

use crate::error::ParseError;

/// Deepest nesting of elements: as BoringSSL (`ASN1_MAX_CONSTRUCTED_NEST`). Certificates have ten levels.
const MAX_DEPTH: usize = 30;

/// Identifiers (X.690, section 8.1.2): class, form and number in one byte.
pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const UNIVERSAL_STRING: u8 = 0x1c;
pub(crate) const BMP_STRING: u8 = 0x1e;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// The bit that says that the content is elements.
const CONSTRUCTED: u8 = 0x20;
/// The bits of the number. All are set where it is not below 31, as in no element of a certificate.
const NUMBER: u8 = 0x1f;

/// An element of DER: type, length, value. (An element of `x-forwarded-client-cert` is in the core.)
#[derive(Clone, Copy)]
pub(crate) struct Tlv<'a> {
    pub(crate) identifier: u8,
    pub(crate) content: &'a [u8],
}

/// Checks that these bytes are elements of DER, and the content of each, down to the last.
pub(crate) fn check(input: &[u8]) -> Result<(), ParseError> {
    check_to(input, MAX_DEPTH)
}

fn check_to(mut input: &[u8], depth: usize) -> Result<(), ParseError> {
    let depth = depth.checked_sub(1).ok_or(ParseError::Der)?;
    while !input.is_empty() {
        let (rest, element) = any(input)?;
        input = rest;
        if element.identifier & CONSTRUCTED != 0 {
            check_to(element.content, depth)?;
        } else if !is_valid(&element) {
            return Err(ParseError::Der);
        }
    }
    Ok(())
}

/// Whether a time has seconds and is in UTC (RFC 5280, section 4.1.2.5), and a text or an object identifier is
/// one. The digits of a time are checked where it is read.
fn is_valid(element: &Tlv<'_>) -> bool {
    let content = element.content;
    match element.identifier {
        OBJECT_IDENTIFIER => is_oid(content),
        UTC_TIME => content.len() == b"YYMMDDhhmmssZ".len() && content.ends_with(b"Z"),
        GENERALIZED_TIME => content.len() == b"YYYYMMDDhhmmssZ".len() && content.ends_with(b"Z"),
        UTF8_STRING => str::from_utf8(content).is_ok(),
        BMP_STRING => is_ucs2(content),
        UNIVERSAL_STRING => content.len().is_multiple_of(4),
        _ => true,
    }
}

/// Whether the last number has an end, and none begins with zeros (X.690, section 8.19.2).
fn is_oid(content: &[u8]) -> bool {
    let ends = content.last().is_some_and(|last| last & 0x80 == 0);
    // Numbers that have such a byte at all are rare.
    ends && (!content.contains(&0x80) || is_minimal(content))
}

fn is_minimal(content: &[u8]) -> bool {
    let mut at_start = true;
    content.iter().all(|byte| {
        let superfluous = at_start && *byte == 0x80;
        at_start = byte & 0x80 == 0;
        !superfluous
    })
}

/// UCS-2 has no surrogates, by which UTF-16 writes what does not fit into two bytes.
fn is_ucs2(content: &[u8]) -> bool {
    let (characters, rest) = content.as_chunks::<2>();
    rest.is_empty()
        && !characters
            .iter()
            .any(|[high, _]| matches!(high, 0xd8..=0xdf))
}

/// The content of an element with that identifier, and what follows it: `(rest, content)`.
pub(crate) fn element(input: &[u8], identifier: u8) -> Result<(&[u8], &[u8]), ParseError> {
    match any(input)? {
        (rest, element) if element.identifier == identifier => Ok((rest, element.content)),
        _ => Err(ParseError::Der),
    }
}

/// The content of an element with that identifier, which nothing follows.
pub(crate) fn only(input: &[u8], identifier: u8) -> Result<&[u8], ParseError> {
    match element(input, identifier)? {
        ([], content) => Ok(content),
        _ => Err(ParseError::Der),
    }
}

/// The first element, and what follows it.
pub(crate) fn any(input: &[u8]) -> Result<(&[u8], Tlv<'_>), ParseError> {
    read(input).ok_or(ParseError::Der)
}

fn read(input: &[u8]) -> Option<(&[u8], Tlv<'_>)> {
    let (&identifier, rest) = input.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..0x80 => (usize::from(length), rest),
        _ => long_length(length & 0x7f, rest)?,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let element = Tlv {
        identifier,
        content,
    };
    (identifier & NUMBER != NUMBER).then_some((rest, element))
}

/// A length in that many bytes, if it needs as many (X.690, section 10.1). An indefinite length has none.
fn long_length(bytes: u8, input: &[u8]) -> Option<(usize, &[u8])> {
    let (digits, rest) = input.split_at_checked(usize::from(bytes))?;
    let length = match *digits {
        [low @ 0x80..=0xff] => usize::from(low),
        [high @ 1..=0xff, low] => usize::from(u16::from_be_bytes([high, low])),
        // More than a certificate may have, but not a revocation list. Four bytes are more than any text here.
        [high @ 1..=0xff, middle, low] => {
            let length = u32::from_be_bytes([0, high, middle, low]);
            usize::try_from(length).ok()?
        }
        _ => return None,
    };
    Some((length, rest))
}
