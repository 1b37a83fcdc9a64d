//! Text to DER: percent-encoding (RFC 3986) and PEM (RFC 7468), as Envoy and people write them.

use std::borrow::Cow;
use std::fmt;

use crate::hex;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Most certificates that are read from one text: a trust bundle with every public root has some 150.
pub const MAX_CERTIFICATES: usize = 1000;

/// The certificates of a text: each as DER, or why it is none.
pub type Ders = Vec<Result<Vec<u8>, PemError>>;

/// Why a text gave no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PemError {
    /// A `%` is not followed by two hex digits, at this byte.
    Percent(usize),
    /// There is no `-----BEGIN CERTIFICATE-----`.
    NoCertificate,
    /// A block has a beginning but no end.
    Unterminated,
    /// What is between the lines is not base64.
    Base64,
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(at) => write!(f, "broken percent-encoding at byte {at}"),
            Self::NoCertificate => f.write_str("no PEM certificate in the text"),
            Self::Unterminated => f.write_str("PEM certificate without an END line"),
            Self::Base64 => f.write_str("PEM certificate is not base64"),
        }
    }
}

impl std::error::Error for PemError {}

/// Decodes percent-encoding. Text that begins with a mark in plain, or has no `%`, is returned as it is, so
/// that plain PEM and the URL-encoded PEM of Envoy are read alike; `+` stays `+`, as base64 needs it.
///
/// # Errors
/// [`PemError::Percent`] for a `%` without two hex digits.
pub fn percent_decode(text: &[u8]) -> Result<Cow<'_, [u8]>, PemError> {
    // In a mark there is a space, which every encoder encodes.
    let encoded = match text.starts_with(BEGIN) {
        true => None,
        false => split_at_match(text, b"%"),
    };
    let Some((start, mut escaped)) = encoded else {
        return Ok(Cow::Borrowed(text));
    };
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(start);
    loop {
        let byte = escaped
            .split_first_chunk()
            .and_then(|(pair, rest)| Some((hex::decode(*pair)?, rest)));
        let Some((byte, rest)) = byte else {
            let at = text.len().saturating_sub(escaped.len()).saturating_sub(1);
            return Err(PemError::Percent(at));
        };
        decoded.push(byte);
        let Some((plain, next)) = split_at_match(rest, b"%") else {
            decoded.extend_from_slice(rest);
            return Ok(Cow::Owned(decoded));
        };
        decoded.extend_from_slice(plain);
        escaped = next;
    }
}

/// The certificates of a PEM text in their order, each as DER or as the reason why it is none.
/// Other blocks (keys) and text between blocks are passed over; a broken block does not hide the
/// ones after it.
pub fn certificates(text: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, PemError>> {
    Blocks { rest: text }.take(MAX_CERTIFICATES)
}

struct Blocks<'a> {
    rest: &'a [u8],
}

impl Iterator for Blocks<'_> {
    type Item = Result<Vec<u8>, PemError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (_, after) = split_at_match(self.rest, BEGIN)?;
            let Some((label, body)) = split_at_match(after, DASHES) else {
                self.rest = &[];
                return Some(Err(PemError::Unterminated));
            };
            let is_certificate = matches!(label, b"CERTIFICATE" | b"X509 CERTIFICATE");
            if is_certificate && let Some((der, after)) = undisturbed(body) {
                self.rest = after;
                return Some(Ok(der));
            }
            let end = split_at_match(body, END);
            // A block that runs into the next BEGIN has lost its end: only it is broken.
            let cut = split_at_match(body, BEGIN).filter(|(before, _)| {
                end.as_ref()
                    .is_none_or(|(block, _)| before.len() < block.len())
            });
            let block = match (&cut, end) {
                (Some((before, _)), _) => {
                    self.rest = body.get(before.len()..).unwrap_or_default();
                    None
                }
                (None, Some((block, after))) => {
                    self.rest = after;
                    Some(block)
                }
                (None, None) => {
                    self.rest = &[];
                    None
                }
            };
            if is_certificate {
                return Some(block.ok_or(PemError::Unterminated).and_then(decode_base64));
            }
        }
    }
}

/// The block that nearly all are: nothing but base64 up to the mark of its end.
fn undisturbed(body: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (der, rest) = decode_digits(body)?;
    Some((der, rest.strip_prefix(END)?))
}

/// RFC 4648, section 4, white space passed over. Written out here because a library's decoder, made
/// for any alphabet, is a tenth of the module's size.
pub fn decode_base64(text: &[u8]) -> Result<Vec<u8>, PemError> {
    match decode_digits(text) {
        Some((decoded, [])) => Ok(decoded),
        _ => Err(PemError::Base64),
    }
}

/// Digits in a line of PEM (RFC 7468, section 2), and the bytes that they stand for.
const LINE_DIGITS: usize = 64;
const LINE_BYTES: usize = LINE_DIGITS / 4 * 3;

/// Most bytes that are decoded without asking for more memory: nearly all certificates.
const TYPICAL_BYTES: usize = 1024;

/// Decodes up to what is neither a digit nor white space: gives what is before and after that. `None`
/// if the digits end in the middle of a group of four.
fn decode_digits(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let bytes = (text.len() / 4).saturating_mul(3);
    let mut decoded = Vec::with_capacity(bytes.min(TYPICAL_BYTES));
    let mut group = 0u32;
    let mut digits = 0u32;
    let mut padding = 0usize;
    let mut rest = text;
    loop {
        // Nearly all of it is groups of four, line by line.
        if digits == 0 && padding == 0 {
            while let (line, groups @ 1..) = decode_line(rest) {
                let bytes = line.get(..groups.saturating_mul(3));
                decoded.extend_from_slice(bytes.unwrap_or_default());
                let tail = rest.get(groups.saturating_mul(4)..).unwrap_or_default();
                rest = tail.strip_prefix(b"\n").unwrap_or(tail);
            }
        }
        let Some((byte, tail)) = rest.split_first() else {
            break;
        };
        let digit = match base64_value(*byte) {
            digit @ 0.. if padding == 0 => u32::from(digit.unsigned_abs()),
            SPACE => {
                rest = tail;
                continue;
            }
            PADDING if digits >= 2 => {
                padding = padding.saturating_add(1);
                0
            }
            _ => break,
        };
        rest = tail;
        group = group << 6 | digit;
        digits = digits.saturating_add(1);
        if digits == 4 {
            let [_, bytes @ ..] = group.to_be_bytes();
            decoded.extend_from_slice(bytes.get(..3usize.saturating_sub(padding))?);
            (group, digits) = (0, 0);
        }
    }
    (digits == 0).then_some((decoded, rest))
}

/// The groups of four digits that come first, a line of them at most: their bytes, and how many they are.
fn decode_line(text: &[u8]) -> ([u8; LINE_BYTES], usize) {
    let mut decoded = [0; LINE_BYTES];
    let groups = text.as_chunks().0.iter().zip(decoded.as_chunks_mut().0);
    let good = groups.map_while(|(group, bytes)| {
        let value;
        (value, *bytes) = decode_group(group);
        (value >= 0).then_some(())
    });
    let count = good.count();
    (decoded, count)
}

/// What four digits stand for, as a number and in its three bytes. Negative if one of them is no digit.
fn decode_group(digits: &[u8; 4]) -> (i32, [u8; 3]) {
    let [a, b, c, d] = digits;
    let value = |digit: &u8| i32::from(base64_value(*digit));
    let value = value(a) << 18 | value(b) << 12 | value(c) << 6 | value(d);
    let [first, ..] = (value >> 16).to_le_bytes();
    let [second, ..] = (value >> 8).to_le_bytes();
    let [third, ..] = value.to_le_bytes();
    (value, [first, second, third])
}

const SPACE: i8 = -1;
const PADDING: i8 = -2;
const NO_DIGIT: i8 = -3;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What each byte stands for: a digit (below 64), or one of the above, whose sign no shift to the left
/// loses. A table, for a certificate has a thousand of them.
#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "evaluated when the module is built"
)]
const BASE64: [i8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 64 {
        table[DIGITS[digit] as usize] = digit as i8;
        digit += 1;
    }
    let mut spaces: &[u8] = b" \t\n\x0c\r";
    while let [space, rest @ ..] = spaces {
        table[*space as usize] = SPACE;
        spaces = rest;
    }
    table[b'=' as usize] = PADDING;
    table
};

fn base64_value(byte: u8) -> i8 {
    let value = BASE64.get(usize::from(byte)).copied();
    value.unwrap_or(NO_DIGIT)
}

/// Splits `text` around the first `pattern`: what is before it and what is after it. Byte by byte, for it is
/// mostly near.
fn split_at_match<'a>(text: &'a [u8], pattern: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let first = pattern.first()?;
    let mut rest = text;
    loop {
        let at = rest.iter().position(|byte| byte == first)?;
        rest = rest.get(at..)?;
        if let Some(after) = rest.strip_prefix(pattern) {
            let before = text.len().saturating_sub(rest.len());
            return Some((text.get(..before)?, after));
        }
        rest = rest.get(1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAEC\nAw==\n-----END CERTIFICATE-----\n";

    fn all(text: &str) -> Vec<Result<Vec<u8>, PemError>> {
        certificates(text.as_bytes()).collect()
    }

    #[test]
    fn decodes_percent_encoding() {
        assert_eq!(&*percent_decode(b"a+b").unwrap(), b"a+b");
        assert_eq!(&*percent_decode(b"%2B%2f%0A").unwrap(), b"+/\n");
        assert_eq!(&*percent_decode(b"a%2Bb%2Bc").unwrap(), b"a+b+c");
        let plain = [PEM.as_bytes(), b"100%\n"].concat();
        assert_eq!(&*percent_decode(&plain).unwrap(), plain);
        assert_eq!(percent_decode(b"ab%4").unwrap_err(), PemError::Percent(2));
        assert_eq!(percent_decode(b"%%41").unwrap_err(), PemError::Percent(0));
        assert_eq!(percent_decode(b"%4\xff").unwrap_err(), PemError::Percent(0));
    }

    #[test]
    fn reads_blocks_in_order_and_passes_over_the_rest() {
        let key = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
        let text = format!("subject=x\n{PEM}{key}text\r\n{}", PEM.replace('\n', "\r\n"));
        assert_eq!(all(&text), vec![Ok(vec![0, 1, 2, 3]); 2]);
        assert_eq!(all(""), vec![]);
    }

    #[test]
    fn a_broken_block_does_not_hide_the_others() {
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        let endless = "-----BEGIN CERTIFICATE-----\nAAEC\n";
        let text = format!("{PEM}{broken}{endless}{PEM}{endless}");
        let good = Ok(vec![0, 1, 2, 3]);
        assert_eq!(
            all(&text),
            vec![
                good.clone(),
                Err(PemError::Base64),
                Err(PemError::Unterminated),
                good,
                Err(PemError::Unterminated)
            ]
        );
        assert_eq!(all("-----BEGIN CERT"), vec![Err(PemError::Unterminated)]);
    }

    #[test]
    fn reads_base64_of_every_length_and_layout() {
        let digits = |bytes: &[u8]| {
            let groups = bytes.chunks(3).map(|group| {
                let number = group.iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
                let bits = number << (24 - 8 * group.len());
                let digit = |at: usize| match at <= group.len() {
                    true => DIGITS[(bits >> (18 - 6 * at)) as usize & 63],
                    false => b'=',
                };
                [0, 1, 2, 3].map(digit)
            });
            groups.flatten().collect::<Vec<u8>>()
        };
        let bytes: Vec<u8> = (0..200u8).map(|byte| byte.wrapping_mul(73)).collect();
        for length in 0..bytes.len() {
            let bytes = &bytes[..length];
            let digits = digits(bytes);
            assert_eq!(decode_base64(&digits).unwrap(), bytes);
            for (width, end) in [(64, "\n"), (64, "\r\n"), (76, "\n"), (63, " \t"), (1, "\n")] {
                let lines = digits
                    .chunks(width)
                    .map(|line| [line, end.as_bytes()].concat());
                let mut text = lines.collect::<Vec<_>>().concat();
                assert_eq!(decode_base64(&text).unwrap(), bytes, "{width} {end:?}");
                // One digit less, one more, another byte in the place of one.
                if let [first, ..] = text[..] {
                    assert_eq!(decode_base64(&text[1..]), Err(PemError::Base64));
                    text.insert(length % text.len(), first);
                    assert_eq!(decode_base64(&text), Err(PemError::Base64));
                    text[length % width.min(digits.len())] = b'-';
                    assert_eq!(decode_base64(&text), Err(PemError::Base64));
                }
            }
        }
    }

    #[test]
    fn reads_a_bounded_number() {
        assert_eq!(all(&PEM.repeat(2000)).len(), MAX_CERTIFICATES);
    }
}
