//! Distinguished names and CA names.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer as _, X509Name};

use crate::hex;
use crate::strict::{
    BMP_STRING, OBJECT_IDENTIFIER, SEQUENCE, SET, Tlv, UNIVERSAL_STRING, any, element,
};

/// Types of attributes (X.520), the content of their object identifiers.
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
pub(crate) const SERIAL_NUMBER: &[u8] = &[0x55, 4, 5];
pub(crate) const ORGANIZATION: &[u8] = &[0x55, 4, 10];

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
    let text = attribute(name, COMMON_NAME)
        .or_else(|| attribute(name, ORGANIZATION))
        .unwrap_or(Cow::Borrowed("unnamed"));
    let mut ca = String::with_capacity(text.len().saturating_add(9));
    ca.push_str(&text);
    ca.push(':');
    hex::push(&mut ca, key_id.get(..4).unwrap_or(key_id));
    ca
}

/// The value of that type in a DER name, if it is not empty. Of several it is the last: names begin with what is
/// most general, so that it is the most specific (X.501, section 9.3).
pub(crate) fn attribute<'a>(name: &'a [u8], kind: &[u8]) -> Option<Cow<'a, str>> {
    let values = attributes(name).filter(|(oid, value)| *oid == kind && !value.content.is_empty());
    values
        .last()
        .map(|(_, value)| text(value.identifier, value.content))
}

/// Whether whoever signed with that name took what a tool proposes: the name tells nobody apart, and the CA is
/// mostly one that somebody made to try something out.
pub(crate) fn is_default(name: &[u8]) -> bool {
    /// OpenSSL; its packages for Fedora and RHEL, and mod_ssl there; Go's generate_cert.go, and the ingress
    /// controller of Kubernetes; Apache's and Debian's examples; Traefik.
    const DEFAULTS: [&[u8]; 8] = [
        b"Internet Widgits Pty Ltd",
        b"Default Company Ltd",
        b"SomeOrganization",
        b"Acme Co",
        b"Snake Oil, Ltd",
        b"Snake Oil CA",
        b"My Company Ltd",
        b"TRAEFIK DEFAULT CERT",
    ];
    let named = |oid: &[u8]| matches!(oid, COMMON_NAME | ORGANIZATION);
    attributes(name).any(|(oid, value)| named(oid) && DEFAULTS.contains(&value.content))
}

/// Type and value of each attribute of a DER name, in their order, as far as it is readable.
fn attributes(name: &[u8]) -> impl Iterator<Item = (&[u8], Tlv<'_>)> {
    let mut sets = element(name, SEQUENCE).map_or(&[][..], |(_, content)| content);
    let mut set: &[u8] = &[];
    std::iter::from_fn(move || {
        while set.is_empty() {
            (sets, set) = element(sets, SET).ok()?;
        }
        let (rest, attribute) = element(set, SEQUENCE).ok()?;
        set = rest;
        let (value, oid) = element(attribute, OBJECT_IDENTIFIER).ok()?;
        let (_, value) = any(value).ok()?;
        Some((oid, value))
    })
}

/// A name of DER, as far as it is readable.
pub(crate) fn read(name: &[u8]) -> X509Name<'_> {
    X509Name::from_der(name).map_or(X509Name::new(Vec::new(), name), |(_, name)| name)
}

/// Value of an attribute as text.
pub(crate) fn attribute_text<'a>(attribute: &AttributeTypeAndValue<'a>) -> Cow<'a, str> {
    let value = attribute.attr_value();
    let tag = u8::try_from(value.tag().0).unwrap_or_default();
    text(tag, value.data)
}

/// A text as its type says. Certificates carry names in six string types, and peers put anything into them: what
/// is not the text it says it is comes out with replacement characters.
fn text(identifier: u8, content: &[u8]) -> Cow<'_, str> {
    const TELETEX_STRING: u8 = 20;
    match identifier {
        BMP_STRING => {
            let units = content.as_chunks().0.iter();
            char::decode_utf16(units.map(|unit| u16::from_be_bytes(*unit)))
                .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        UNIVERSAL_STRING => {
            let units = content.as_chunks().0.iter();
            units
                .map(|unit| char::from_u32(u32::from_be_bytes(*unit)))
                .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        // In practice Latin-1 (RFC 5280, appendix B, on TeletexString).
        TELETEX_STRING if str::from_utf8(content).is_err() => {
            content.iter().copied().map(char::from).collect()
        }
        _ => String::from_utf8_lossy(content),
    }
}
