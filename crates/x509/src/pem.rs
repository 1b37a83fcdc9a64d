//! Text to DER: percent-encoding (RFC 3986) and PEM (RFC 7468), as Envoy and people write them.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

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
    let kind = Kind::Certificate;
    Blocks { kind, rest: text }.take(MAX_CERTIFICATES)
}

/// The certificate revocation lists of a PEM text in their order, each as DER; broken ones are passed over.
pub fn revocation_lists(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let kind = Kind::RevocationList;
    let blocks = Blocks { kind, rest: text };
    blocks.take(MAX_CERTIFICATES).flatten()
}

/// What is in a block, as its label says (RFC 7468, sections 5 and 6).
#[derive(Clone, Copy)]
enum Kind {
    Certificate,
    RevocationList,
}

impl Kind {
    fn has(self, label: &[u8]) -> bool {
        match self {
            Self::Certificate => matches!(label, b"CERTIFICATE" | b"X509 CERTIFICATE"),
            Self::RevocationList => label == b"X509 CRL",
        }
    }
}

struct Blocks<'a> {
    kind: Kind,
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
            let is_wanted = self.kind.has(label);
            if is_wanted && let Some((der, after)) = undisturbed(body) {
                self.rest = after;
                return Some(Ok(der));
            }
            let (block, after) = split_at_end(body);
            self.rest = after;
            if is_wanted {
                return Some(block.ok_or(PemError::Unterminated).and_then(decode_base64));
            }
        }
    }
}

/// What is before the mark of the end, and what follows it. A block that runs into the next BEGIN has lost its
/// end: only it is broken.
fn split_at_end(body: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut rest = body;
    while let Some((_, after)) = split_at_match(rest, DASHES) {
        rest = after;
        let mark = DASHES.len().saturating_add(after.len());
        let Some((block, mark)) = body.split_at_checked(body.len().saturating_sub(mark)) else {
            break;
        };
        if mark.starts_with(END) {
            return (Some(block), after);
        }
        if mark.starts_with(BEGIN) {
            return (None, mark);
        }
    }
    (None, &[])
}

/// The block that nearly all are: lines of sixty-four digits, the last one shorter. They are decoded where they
/// are: to find the end first and to take out white space costs a fifth of a new certificate.
fn undisturbed(body: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = body.strip_prefix(b"\n")?;
    let mut der = Vec::with_capacity(TYPICAL_BYTES);
    while let Some(([line @ .., b'\n'], after)) = rest.split_first_chunk::<{ LINE_DIGITS + 1 }>() {
        let mut bytes = [0; LINE_DIGITS / 4 * 3];
        // Fewer bytes: the line ends with padding, and must be the last.
        let length = BASE64.decode_slice(line, &mut bytes).ok()?;
        if length < bytes.len() {
            return None;
        }
        der.extend_from_slice(&bytes);
        rest = after;
    }
    let (last, after) = split_at_match(rest, DASHES)?;
    BASE64.decode_vec(last.trim_ascii_end(), &mut der).ok()?;
    Some((der, after.strip_prefix(b"END ")?))
}

/// Digits in a line of PEM (RFC 7468, section 2).
const LINE_DIGITS: usize = 64;

/// Most bytes that are decoded without asking for more memory: nearly all certificates.
const TYPICAL_BYTES: usize = 1024;

/// RFC 4648, section 4. Bits behind the last byte may be set: BoringSSL and OpenSSL take that in PEM.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Decodes base64 (RFC 4648, section 4), white space passed over.
///
/// # Errors
/// [`PemError::Base64`] for anything else.
pub fn decode_base64(text: &[u8]) -> Result<Vec<u8>, PemError> {
    let mut digits = Vec::with_capacity(text.len());
    for part in text.split(u8::is_ascii_whitespace) {
        digits.extend_from_slice(part);
    }
    BASE64.decode(digits).map_err(|_| PemError::Base64)
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
        let bytes: Vec<u8> = (0..200u8).map(|byte| byte.wrapping_mul(73)).collect();
        for length in 0..bytes.len() {
            let bytes = &bytes[..length];
            let digits = BASE64.encode(bytes).into_bytes();
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
