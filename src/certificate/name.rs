//! Distinguished names and CA names.

use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{AttributeTypeAndValue, X509Name};

/// The first half of a CA's name: its CN, else its O, else `unnamed`.
pub(super) fn ca_text(name: &X509Name<'_>) -> String {
    common_name(name)
        .or_else(|| name.iter_organization().next().map(attribute_text))
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "unnamed".to_owned())
}

/// `<text>:<first 8 hex digits of the key identifier>`; without a key identifier, of the SHA-256 of the
/// DER name.
pub(super) fn ca_name(text: &str, key_id: Option<&[u8]>, name: &[u8]) -> String {
    const DIGITS: usize = 8;
    let mut ca = String::with_capacity(text.len().saturating_add(1 + DIGITS));
    ca.push_str(text);
    ca.push(':');
    match key_id {
        Some(id) => push_hex(&mut ca, id, DIGITS / 2),
        None => push_hex(&mut ca, &Sha256::digest(name), DIGITS / 2),
    }
    ca
}

/// First common name of a distinguished name.
pub(super) fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().next().map(attribute_text)
}

/// Appends at most `bytes` bytes of `data` in lower-case hex.
pub(super) fn push_hex(text: &mut String, data: &[u8], bytes: usize) {
    for byte in data.iter().take(bytes) {
        let digits = [byte >> 4, byte & 15].map(u32::from);
        text.extend(
            digits
                .into_iter()
                .filter_map(|digit| char::from_digit(digit, 16)),
        );
    }
}

/// Value of an attribute as text. Certificates carry names in five string types, and peers put
/// anything into them: what is not the text it says it is comes out with replacement characters.
pub(super) fn attribute_text(attribute: &AttributeTypeAndValue<'_>) -> String {
    const BMP_STRING: u32 = 30;
    const TELETEX_STRING: u32 = 20;
    let value = attribute.attr_value();
    match value.tag().0 {
        BMP_STRING => {
            let units = value.data.chunks_exact(2).map(|pair| match pair {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0xFFFD,
            });
            char::decode_utf16(units)
                .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        // In practice Latin-1 (RFC 5280, appendix B, on TeletexString).
        TELETEX_STRING if std::str::from_utf8(value.data).is_err() => {
            value.data.iter().copied().map(char::from).collect()
        }
        _ => String::from_utf8_lossy(value.data).into_owned(),
    }
}
