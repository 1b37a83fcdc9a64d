//! A pasted `x-forwarded-client-cert`: the certificates of its last element, or an error, but never those of an
//! earlier one. Only the last element is of the proxy that the header was taken from; what stands before it is what
//! clients and other proxies wrote.

use std::borrow::Cow;

use mtls_watch_core::source::read::fingerprint_of;
use mtls_watch_core::source::xfcc;
use mtls_watch_x509::pem;
use serde_json::Value;

use super::InputError;
use super::pem::contains;

const NAME: &[u8] = b"x-forwarded-client-cert:";
const KEYS: [&[u8]; 3] = [b"Hash=", b"Cert=", b"Chain="];

/// The value of the header, if the text is one: with its name or without, escaped as in a log line of JSON, or
/// several lines of it, which are one header (RFC 9110, section 5.3).
pub(super) fn header(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let is_named =
        text.len() >= NAME.len() && text.split_at(NAME.len()).0.eq_ignore_ascii_case(NAME);
    let begins = text.split(|byte| *byte == b';').next().unwrap_or_default();
    let has_pairs = !contains(text, b"-----BEGIN ")
        && KEYS.iter().any(|key| contains_ignoring_case(text, key))
        && begins.contains(&b'=');
    let is_json = text.first() == Some(&b'[') && contains(text, b"\"hash\"");
    if !is_named && !has_pairs && !is_json {
        return None;
    }
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let values: Vec<&[u8]> = lines
        .filter(|line| !line.is_empty())
        .map(without_name)
        .collect();
    Some(unescaped(match *values {
        [value] => Cow::Borrowed(value),
        _ => Cow::Owned(values.join(&b',')),
    }))
}

fn without_name(line: &[u8]) -> &[u8] {
    match line.split_at_checked(NAME.len()) {
        Some((name, value)) if name.eq_ignore_ascii_case(NAME) => value.trim_ascii(),
        _ => line,
    }
}

fn contains_ignoring_case(text: &[u8], key: &[u8]) -> bool {
    text.windows(key.len())
        .any(|window| window.eq_ignore_ascii_case(key))
}

/// Quotes that are all escaped are not Envoy's: a log line of JSON was copied.
fn unescaped(value: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let mut before = None;
    let mut quotes = 0;
    for byte in value.iter().copied() {
        match (before, byte) {
            (Some(b'\\'), b'"') => quotes += 1,
            (_, b'"') => return value,
            _ => {}
        }
        before = Some(byte);
    }
    let json = [&b"\""[..], &value, b"\""].concat();
    match serde_json::from_slice::<String>(&json) {
        Ok(plain) if quotes > 0 => Cow::Owned(plain.into_bytes()),
        _ => value,
    }
}

/// The certificates of the last element.
///
/// # Errors
/// [`InputError::Xfcc`] if it has none, or cannot be told from what stands before it.
pub(super) fn certificates(header: &[u8]) -> Result<Vec<Result<Vec<u8>, String>>, InputError> {
    let text = match json_element(header) {
        Some(element) => Cow::Owned(element?),
        None => Cow::Borrowed(text_element(header)?),
    };
    let text = pem::percent_decode(&text)?;
    let found: Vec<_> = pem::certificates(&text)
        .map(|der| der.map_err(|error| error.to_string()))
        .collect();
    match found.is_empty() {
        true if text.first() == Some(&b'-') => Err(InputError::Pem(pem::PemError::NoCertificate)),
        true => Err(InputError::Xfcc(
            "what its last element has for a certificate is no PEM (text or JSON form)",
        )),
        false => Ok(found),
    }
}

const NO_CERTIFICATE: InputError =
    InputError::Xfcc("no Cert or Chain in the last element of the header");

const UNCLEAR: InputError = InputError::Xfcc(
    "where its last element begins cannot be told: give the value of one header, whole and as it was sent",
);
const JSON: InputError = InputError::Xfcc("the JSON form of the header cannot be read");

/// The JSON form, which Envoy writes since 1.38 where it is told to: a list, of which the last item is this hop's.
fn json_element(header: &[u8]) -> Option<Result<Vec<u8>, InputError>> {
    let text = header.trim_ascii();
    if !text.starts_with(b"[") && !text.ends_with(b"]") {
        return None;
    }
    let Ok(Value::Array(elements)) = serde_json::from_slice(text) else {
        return Some(Err(JSON));
    };
    let last = elements.last();
    let value = |key| last.and_then(|last| last.get(key)).and_then(Value::as_str);
    let certificates = value("chain")
        .or_else(|| value("cert"))
        .filter(|text| !text.is_empty());
    Some(
        certificates
            .map(|text| text.as_bytes().to_vec())
            .ok_or(NO_CERTIFICATE),
    )
}

/// The element is found from the end, and once more by its last fingerprint. Where these are not one, a text that a
/// client chose looks like an element, and which of them is the proxy's cannot be told from the header alone. From the
/// end it is not found behind a URI with a comma or a quote: then its certificate must have its fingerprint.
fn text_element(header: &[u8]) -> Result<&[u8], InputError> {
    let from_end = xfcc::last_element(header);
    let hashed = xfcc::last_hashed_element(header);
    if let Ok(element) = from_end
        && element.is_whole()
    {
        let found = element.certificates();
        let is_one = hashed.is_none_or(|hashed| hashed.certificates() == found);
        return match is_one {
            true => found.ok_or(NO_CERTIFICATE),
            false => Err(UNCLEAR),
        };
    }
    match (hashed, from_end) {
        (Some(hashed), _) if has_its_fingerprint(&hashed) => {
            hashed.certificates().ok_or(NO_CERTIFICATE)
        }
        (Some(_), _) => Err(UNCLEAR),
        (None, Ok(element)) => element.certificates().ok_or(NO_CERTIFICATE),
        (None, Err(xfcc::XfccError::Quotes)) => Err(InputError::Xfcc("unbalanced quotes")),
        (None, Err(_)) => Err(JSON),
    }
}

fn has_its_fingerprint(element: &xfcc::Element<'_>) -> bool {
    let leaf = element
        .certificates()
        .and_then(|text| pem::percent_decode(text).ok())
        .and_then(|text| pem::certificates(&text).next()?.ok());
    let digest = leaf.map(|leaf| {
        let mut digits = String::new();
        mtls_watch_x509::hex::push(&mut digits, &fingerprint_of(&leaf));
        digits
    });
    digest.is_some_and(|digest| {
        element
            .hash()
            .is_some_and(|hash| hash.eq_ignore_ascii_case(digest.as_bytes()))
    })
}
