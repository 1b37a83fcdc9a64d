//! Distinguished names and CA names.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer as _, X509Name};

use crate::hex;

/// `<CN, else O, else "unnamed">:<first 8 hex digits of the key identifier>`; without a key identifier, of the
/// SHA-256 of the DER name.
pub(crate) fn ca_name(name: &[u8], key_id: Option<&[u8]>) -> String {
    let digest;
    let key_id = match key_id {
        Some(key_id) => key_id,
        None => {
            digest = Sha256::digest(name);
            &*digest
        }
    };
    let name = read(name);
    let text = first_text(name.iter_common_name())
        .or_else(|| first_text(name.iter_organization()))
        .filter(|text| !text.is_empty())
        .unwrap_or(Cow::Borrowed("unnamed"));
    let mut ca = String::with_capacity(text.len().saturating_add(9));
    ca.push_str(&text);
    ca.push(':');
    hex::push(&mut ca, key_id.get(..4).unwrap_or(key_id));
    ca
}

/// First common name of a DER name.
pub(crate) fn common_name(name: &[u8]) -> Option<String> {
    first_text(read(name).iter_common_name()).map(Cow::into_owned)
}

/// A name of DER, as far as it is readable.
pub(crate) fn read(name: &[u8]) -> X509Name<'_> {
    X509Name::from_der(name).map_or(X509Name::new(Vec::new(), name), |(_, name)| name)
}

fn first_text<'a, 'b: 'a>(
    mut attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'b>>,
) -> Option<Cow<'b, str>> {
    attributes.next().map(attribute_text)
}

/// Value of an attribute as text. Certificates carry names in five string types, and peers put
/// anything into them: what is not the text it says it is comes out with replacement characters.
pub(crate) fn attribute_text<'a>(attribute: &AttributeTypeAndValue<'a>) -> Cow<'a, str> {
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
        _ => String::from_utf8_lossy(value.data),
    }
}
