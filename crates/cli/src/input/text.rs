//! Text input: PEM in every disguise, base64, and headers that carry certificates.

use std::borrow::Cow;

use mtls_watch_x509::pem;

use super::pem::{contains, decode_base64, of_pem};
use super::{Group, InputError, alone, document, xfcc};

/// Headers that carry a certificate, as they are pasted with their names: of RFC 9440, Traefik, nginx and AWS.
const HEADERS: [&str; 6] = [
    "client-cert",
    "client-cert-chain",
    "x-forwarded-tls-client-cert",
    "ssl-client-cert",
    "x-ssl-client-cert",
    "x-amzn-mtls-clientcert",
];

/// How deep texts are wrapped in each other: base64 of PEM in a string of JSON in base64.
const MAX_WRAPPINGS: usize = 4;

/// The text of a file, whatever Windows made of it: UTF-16, or with a byte order mark. PEM does not mind a few bytes
/// in another encoding around it.
pub(crate) fn decode(input: &[u8]) -> Cow<'_, [u8]> {
    let units = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.as_chunks::<2>().0.iter().copied().map(unit);
        Cow::Owned(String::from_utf16_lossy(&units.collect::<Vec<_>>()).into_bytes())
    };
    match input {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        // Without a mark: every other byte of ASCII is zero.
        [first, 0, second, 0, ..] if *first != 0 && *second != 0 => {
            units(input, u16::from_le_bytes)
        }
        [0, first, 0, second, ..] if *first != 0 && *second != 0 => {
            units(input, u16::from_be_bytes)
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(rest),
        _ => Cow::Borrowed(input),
    }
}

/// The certificates of a text.
///
/// # Errors
/// [`InputError`] if it has none.
pub(super) fn read(text: &[u8], password: &str) -> Result<Vec<Group>, InputError> {
    read_wrapped(text, password, MAX_WRAPPINGS)
}

fn read_wrapped(text: &[u8], password: &str, wrappings: usize) -> Result<Vec<Group>, InputError> {
    let text = text.trim_ascii();
    let wrappings = wrappings.checked_sub(1).ok_or(InputError::Nothing)?;
    if let Some(header) = xfcc::header(text) {
        return xfcc::certificates(&header).map(alone);
    }
    if matches!(text.first(), Some(b'{' | b'[')) {
        return document::read_json(text, password);
    }
    // A string of JSON or of a shell, as it is copied from a log line.
    if let Some(inner) = unquoted(text) {
        return read_wrapped(&inner, password, wrappings);
    }
    let value = header_value(text);
    // In YAML, PEM stands between other keys, or in base64.
    if let Some(groups) = document::read_yaml(value, password)? {
        return Ok(groups);
    }
    if let Some(certificates) = of_pem(&unescaped(value)?, password)? {
        return Ok(alone(certificates));
    }
    if let Some(certificates) = of_base64(value, password)? {
        return Ok(certificates);
    }
    Err(InputError::Nothing)
}

/// A header as it is pasted: with its name, or without.
fn header_value(text: &[u8]) -> &[u8] {
    let colon = text.iter().position(|byte| *byte == b':');
    match colon.and_then(|at| text.split_at_checked(at)) {
        Some((name, rest))
            if HEADERS
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known.as_bytes())) =>
        {
            rest.get(1..).unwrap_or_default().trim_ascii()
        }
        _ => text,
    }
}

/// The content of a text in quotes.
fn unquoted(text: &[u8]) -> Option<Vec<u8>> {
    let content = match text {
        [b'"', content @ .., b'"'] | [b'\'', content @ .., b'\''] => content,
        _ => return None,
    };
    let json: Option<String> = serde_json::from_slice(text).ok();
    Some(json.map_or(content.to_vec(), String::into_bytes))
}

/// PEM whose line breaks and spaces were written otherwise: `\n` of JSON and shells, percent-encoding, and `+` of
/// forms, where the `+` of base64 is `%2B`.
fn unescaped(text: &[u8]) -> Result<Cow<'_, [u8]>, InputError> {
    if contains(text, b"-----BEGIN ") && contains(text, b"\\n") {
        let text = String::from_utf8_lossy(text);
        let plain = text.replace("\\r", "").replace("\\n", "\n");
        return Ok(Cow::Owned(plain.into_bytes()));
    }
    if contains(text, b"-----BEGIN+") {
        let spaced = text.split(|byte| *byte == b'+');
        let spaced = spaced.collect::<Vec<_>>().join(&b"%20"[..]);
        return Ok(Cow::Owned(pem::percent_decode(&spaced)?.into_owned()));
    }
    match contains(text, b"-----BEGIN ") {
        true => Ok(Cow::Borrowed(text)),
        false => Ok(pem::percent_decode(text)?),
    }
}

/// The certificates of base64 without marks: of DER, of PEM, or of a keystore. RFC 9440 has them between colons, and
/// Traefik between commas, percent-encoded.
///
/// # Errors
/// As [`super::read`], of what is in it.
fn of_base64(text: &[u8], password: &str) -> Result<Option<Vec<Group>>, InputError> {
    let text = pem::percent_decode(text)?;
    let mut certificates = Vec::new();
    for part in text.split(|byte| *byte == b',') {
        let part = part.trim_ascii();
        let part = part.strip_prefix(b":").unwrap_or(part);
        let part = part.strip_suffix(b":").unwrap_or(part);
        let Some(content) = decode_base64(part) else {
            return Ok(None);
        };
        for group in super::read(&content, password)? {
            certificates.extend(group.certificates);
        }
    }
    Ok(Some(alone(certificates)))
}
