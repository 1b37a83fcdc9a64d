//! Blocks of PEM (RFC 7468), also of what is packed in them, and base64.

use std::borrow::Cow;

use mtls_watch_x509::pem::{self, PemError};

use super::{InputError, der};

type Certificates = Vec<Result<Vec<u8>, String>>;

/// The certificates of PEM; `None` if there is no block in it.
///
/// # Errors
/// [`InputError`] if the blocks are all something else.
pub(super) fn of_pem(text: &[u8], password: &str) -> Result<Option<Certificates>, InputError> {
    let mut found = Vec::new();
    let mut other = None;
    for block in blocks(text) {
        match block.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => found.push(block.der()),
            // Of `openssl x509 -trustout`.
            "TRUSTED CERTIFICATE" => {
                let der = block.der();
                found.push(der.map(|der| der::without_trust_settings(&der).to_vec()));
            }
            "PKCS7" | "CMS" | "PKCS #7 SIGNED DATA" => {
                let content = block.der().map_err(|_| InputError::Pkcs7)?;
                found.extend(der::structure(&content, password)?);
            }
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => other = Some(InputError::Request),
            "X509 CRL" => other = other.or(Some(InputError::RevocationList)),
            "PUBLIC KEY" => other = other.or(Some(InputError::PublicKey)),
            label if label.ends_with("PRIVATE KEY") => other = other.or(Some(InputError::OnlyKey)),
            _ => {}
        }
    }
    match (found.is_empty(), other) {
        (false, _) => Ok(Some(found)),
        (true, Some(other)) => Err(other),
        (true, None) => Ok(None),
    }
}

/// A block of PEM (RFC 7468).
struct Block<'a> {
    label: &'a str,
    text: &'a [u8],
}

impl Block<'_> {
    /// Decoded where the module decodes it, whatever its label.
    fn der(&self) -> Result<Vec<u8>, String> {
        let block = match self.label {
            "CERTIFICATE" => Cow::Borrowed(self.text),
            label => {
                let text = String::from_utf8_lossy(self.text);
                Cow::Owned(text.replace(label, "CERTIFICATE").into_bytes())
            }
        };
        let der = pem::certificates(&block).next();
        der.unwrap_or(Err(PemError::NoCertificate))
            .map_err(|error| error.to_string())
    }
}

/// The blocks of a text: each from its BEGIN to the next one. There may be more than the module reads.
fn blocks(text: &[u8]) -> Vec<Block<'_>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let starts: Vec<usize> = positions(text, BEGIN).collect();
    let ends = starts.iter().copied().skip(1).chain([text.len()]);
    let blocks = starts.iter().zip(ends).filter_map(|(start, end)| {
        let text = text.get(*start..end)?;
        let label = text.get(BEGIN.len()..)?;
        let length = positions(label, b"-----").next().unwrap_or(label.len());
        let label = std::str::from_utf8(label.get(..length)?).ok()?;
        Some(Block { label, text })
    });
    blocks.collect()
}

/// Where a pattern begins.
fn positions<'a>(text: &'a [u8], pattern: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    text.windows(pattern.len())
        .enumerate()
        .filter_map(move |(at, window)| (window == pattern).then_some(at))
}

pub(super) fn contains(text: &[u8], pattern: &[u8]) -> bool {
    positions(text, pattern).next().is_some()
}

/// Base64 of something that is long enough to be a certificate: words are base64, too.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    const SHORTEST: usize = 100;
    if text.len() < SHORTEST {
        return None;
    }
    pem::decode_base64(text).ok()
}
