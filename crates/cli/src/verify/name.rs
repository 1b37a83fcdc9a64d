//! Names as BoringSSL compares them: texts of any type as UTF-8 in lower case, with single spaces
//! (`asn1_marshal_string_canon`).

use x509_cert::attr::AttributeValue;
use x509_cert::der::{Encode, Tag, Tagged};
use x509_cert::name::Name;

/// The canonical form of each relative distinguished name, in order. Two names are the same if these are; one is
/// below another if that one's are its first.
pub(super) type Canonical = Vec<Vec<u8>>;

pub(super) fn canonical(name: &Name) -> Canonical {
    let relative = name.0.iter().map(|relative| {
        let mut attributes: Vec<Vec<u8>> = relative
            .0
            .iter()
            .map(|attribute| {
                let oid = attribute.oid.as_bytes();
                let value = canonical_value(&attribute.value);
                [&length(oid)[..], oid, &value].concat()
            })
            .collect();
        attributes.sort();
        attributes.concat()
    });
    relative.collect()
}

/// Keeps what follows from being read as part of what is before.
fn length(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes()
}

fn canonical_value(value: &AttributeValue) -> Vec<u8> {
    match text(value) {
        Some(text) => {
            let folded = fold(&text).into_bytes();
            [&[1][..], &length(&folded), &folded].concat()
        }
        None => {
            let der = value.to_der().unwrap_or_default();
            [&[0][..], &length(&der), &der].concat()
        }
    }
}

/// The text of a value, if it is of a type that is compared as text.
pub(super) fn text(value: &AttributeValue) -> Option<String> {
    let bytes = value.value();
    match value.tag() {
        Tag::Utf8String => Some(String::from_utf8_lossy(bytes).into_owned()),
        Tag::BmpString => {
            let units = bytes.as_chunks::<2>().0.iter();
            let units: Vec<u16> = units.map(|unit| u16::from_be_bytes(*unit)).collect();
            Some(String::from_utf16_lossy(&units))
        }
        Tag::PrintableString | Tag::TeletexString | Tag::Ia5String | Tag::VisibleString => {
            Some(bytes.iter().copied().map(char::from).collect())
        }
        _ => None,
    }
}

fn fold(text: &str) -> String {
    let is_space = |character: char| matches!(character, '\t'..='\r' | ' ');
    let words = text.split(is_space).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}
