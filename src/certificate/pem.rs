//! Text to DER: percent-encoding (RFC 3986) and PEM (RFC 7468), as Envoy and people write them.

use std::borrow::Cow;
use std::fmt;

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

/// Decodes percent-encoding. Text without `%` is returned as it is, so that plain PEM and the
/// URL-encoded PEM of Envoy are read alike; `+` stays `+`, as base64 needs it.
///
/// # Errors
/// [`PemError::Percent`] for a `%` without two hex digits.
pub fn percent_decode(text: &[u8]) -> Result<Cow<'_, [u8]>, PemError> {
    if !text.contains(&b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let at = || text.len().saturating_sub(tail.len()).saturating_sub(1);
        let [high, low, tail @ ..] = tail else {
            return Err(PemError::Percent(at()));
        };
        match (hex_digit(*high), hex_digit(*low)) {
            (Some(high), Some(low)) => decoded.push(high << 4 | low),
            _ => return Err(PemError::Percent(at())),
        }
        rest = tail;
    }
    Ok(Cow::Owned(decoded))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
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
            if matches!(label, b"CERTIFICATE" | b"X509 CERTIFICATE") {
                return Some(block.ok_or(PemError::Unterminated).and_then(decode_base64));
            }
        }
    }
}

/// RFC 4648, section 4, white space passed over. Written out here because a library's decoder, made
/// for any alphabet, is a tenth of the module's size.
pub(crate) fn decode_base64(text: &[u8]) -> Result<Vec<u8>, PemError> {
    let mut decoded = Vec::with_capacity((text.len() / 4).saturating_mul(3));
    let mut group = 0u32;
    let mut digits = 0u32;
    let mut padding = 0usize;
    let mut rest = text;
    loop {
        // Nearly all is four digits at a time, between one line end and the next.
        while let (0, 0, [a, b, c, d, tail @ ..]) = (digits, padding, rest) {
            let (a, b) = (base64_value(*a), base64_value(*b));
            let (c, d) = (base64_value(*c), base64_value(*d));
            // All that are no digits have this bit.
            if (a | b | c | d) & SPACE != 0 {
                break;
            }
            decoded.extend_from_slice(&[a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d]);
            rest = tail;
        }
        let Some((byte, tail)) = rest.split_first() else {
            break;
        };
        rest = tail;
        let digit = match base64_value(*byte) {
            SPACE => continue,
            digit @ 0..64 if padding == 0 => digit,
            PADDING if digits >= 2 => {
                padding = padding.saturating_add(1);
                0
            }
            _ => return Err(PemError::Base64),
        };
        group = group << 6 | u32::from(digit);
        digits = digits.saturating_add(1);
        if digits == 4 {
            let [_, bytes @ ..] = group.to_be_bytes();
            let significant = bytes.get(..3usize.saturating_sub(padding));
            decoded.extend_from_slice(significant.ok_or(PemError::Base64)?);
            (group, digits) = (0, 0);
        }
    }
    match digits {
        0 => Ok(decoded),
        _ => Err(PemError::Base64),
    }
}

const SPACE: u8 = 64;
const PADDING: u8 = 65;
const NO_DIGIT: u8 = 66;

/// What each byte stands for: a digit (below 64), or one of the above. A table, for a certificate has
/// a thousand of them.
#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "evaluated when the module is built"
)]
const BASE64: [u8; 256] = {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut table = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 64 {
        table[DIGITS[digit as usize] as usize] = digit;
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

fn base64_value(byte: u8) -> u8 {
    let value = BASE64.get(usize::from(byte)).copied();
    value.unwrap_or(NO_DIGIT)
}

/// Splits `text` around the first `pattern`: what is before it and what is after it.
fn split_at_match<'a>(text: &'a [u8], pattern: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let first = *pattern.first()?;
    let mut starts = memchr::memchr_iter(first, text);
    let at = starts.find(|at| {
        text.get(*at..)
            .is_some_and(|rest| rest.starts_with(pattern))
    })?;
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.get(pattern.len()..)?))
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
    fn reads_a_bounded_number() {
        assert_eq!(all(&PEM.repeat(2000)).len(), MAX_CERTIFICATES);
    }
}
