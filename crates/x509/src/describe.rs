//! A certificate in words, for the command line: what the module itself never needs.

use crate::error::ParseError;
use crate::extension;
use crate::hex;
use crate::name::{self, attribute_text};
use crate::parse::parse;
use crate::structure::structure;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use x509_parser::asn1_rs::ToDer as _;
use x509_parser::prelude::*;

/// What a person wants to know of a certificate beyond its [`crate::Certificate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Subject, `CN=..., O=...` in the order of the certificate.
    pub subject: String,
    /// Serial number in lower-case hex, without the leading 00 that only keeps it positive; negative
    /// ones with a `-`.
    pub serial: String,
    /// Names of the key usages (RFC 5280, section 4.2.1.3), `None` without the extension.
    pub key_usage: Option<Vec<&'static str>>,
    /// Names (or OIDs) of the extended key usages, `None` without the extension.
    pub extended_key_usage: Option<Vec<String>>,
    /// Name of the signature algorithm, or its OID.
    pub signature_algorithm: String,
    /// SHA-256 of the DER in hex.
    pub sha256: String,
    /// Subject alternative names, `URI:...`, `DNS:...`, `IP:...`.
    pub subject_alt_names: Vec<String>,
}

/// Describes a certificate.
///
/// # Errors
/// As [`crate::parse()`].
pub fn describe(der: &[u8]) -> Result<Description, ParseError> {
    // What cannot be judged is not described.
    parse(der)?;
    let structure = structure(der)?;
    let mut description = Description {
        subject: distinguished_name(&name::read(structure.subject)),
        serial: serial(structure.raw_serial),
        key_usage: None,
        extended_key_usage: None,
        signature_algorithm: signature_algorithm(&structure.signature_algorithm.algorithm),
        sha256: digits(&Sha256::digest(der)),
        subject_alt_names: Vec::new(),
    };
    for extension in &structure.extensions {
        let value = extension.value;
        match extension.oid {
            [0x55, 0x1d, 15] => {
                let usage = extension::key_usage(value);
                let usage = usage.map_err(|_| ParseError::Extension("keyUsage"))?;
                description.key_usage = Some(key_usage_names(usage));
            }
            [0x55, 0x1d, 37] => {
                let purposes = extension::purposes(value);
                let purposes = purposes.map_err(|_| ParseError::Extension("extKeyUsage"))?;
                description.extended_key_usage =
                    Some(purposes.into_iter().map(purpose_name).collect());
            }
            [0x55, 0x1d, 17] => {
                let (_, names) = SubjectAlternativeName::from_der(value)
                    .map_err(|_| ParseError::Extension("subjectAltName"))?;
                description.subject_alt_names =
                    names.general_names.iter().map(general_name).collect();
            }
            _ => {}
        }
    }
    Ok(description)
}

/// The content of a serial number in hex, without the leading 00 that only keeps it positive. A negative number, which RFC 5280 forbids and CAs have issued, is `-` and its absolute value: as
/// OpenSSL and Envoy write it.
#[must_use]
pub fn serial(content: &[u8]) -> String {
    match content {
        [0, rest @ ..] if !rest.is_empty() => digits(rest),
        [0x80..=0xff, ..] => format!("-{}", digits(&negated(content))),
        _ => digits(content),
    }
}

/// Two's complement, without the zero that is left in front where there is one.
fn negated(content: &[u8]) -> Vec<u8> {
    let mut carry = true;
    let mut bytes: Vec<u8> = content
        .iter()
        .rev()
        .map(|byte| {
            let (negated, overflow) = (!byte).overflowing_add(u8::from(carry));
            carry = overflow;
            negated
        })
        .collect();
    if let [_, .., 0] = *bytes {
        bytes.pop();
    }
    bytes.reverse();
    bytes
}

fn digits(bytes: &[u8]) -> String {
    let mut text = String::new();
    hex::push(&mut text, bytes);
    text
}

/// The serial number alone, as in [`Description`].
///
/// # Errors
/// As [`crate::parse()`].
pub fn serial_number(der: &[u8]) -> Result<String, ParseError> {
    Ok(serial(structure(der)?.raw_serial))
}

fn distinguished_name(name: &X509Name<'_>) -> String {
    let attributes = name.iter_attributes().map(|attribute| {
        let oid = attribute.attr_type();
        let key = objects::oid2abbrev(oid, objects::oid_registry())
            .map_or_else(|_| oid.to_id_string(), str::to_owned);
        format!("{key}={}", attribute_value(attribute))
    });
    attributes.collect::<Vec<_>>().join(", ")
}

/// As RFC 4514 has it (section 2.4): what separates attributes is escaped in a text, and what is no text is `#` and
/// the DER in hex.
fn attribute_value(attribute: &AttributeTypeAndValue<'_>) -> String {
    const UNIVERSAL_STRING: u32 = 28;
    let value = attribute.attr_value();
    let text = match value.tag().0 {
        // UTF8String, NumericString, PrintableString, TeletexString, IA5String, VisibleString, BMPString.
        12 | 18 | 19 | 20 | 22 | 26 | 30 => attribute_text(attribute),
        UNIVERSAL_STRING => value
            .data
            .chunks_exact(4)
            .map(|unit| <[u8; 4]>::try_from(unit).map_or(0, u32::from_be_bytes))
            .map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
        _ => return format!("#{}", digits(&value.to_der_vec().unwrap_or_default())),
    };
    escaped(&text)
}

fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(text.len());
    for (position, character) in text.chars().enumerate() {
        let separates = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (position == 0 && matches!(character, '#' | ' '))
            || (position == last && character == ' ');
        if separates {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Why a certificate cannot be read, in words: an error of [`crate::parse()`], and the field where the parser does
/// not name one.
#[must_use]
pub fn why_unreadable(der: &[u8], error: &ParseError) -> String {
    match (error, unreadable_time(der)) {
        (ParseError::Der, Some(field)) => format!(
            "{error}: {field} is no time as RFC 5280 has it (in UTC, with seconds, without fractions)"
        ),
        _ => error.to_string(),
    }
}

/// The time that is not one, if all before it can be read.
fn unreadable_time(der: &[u8]) -> Option<&'static str> {
    use crate::strict::{SEQUENCE, any, check, element};
    let (_, certificate) = element(der, SEQUENCE).ok()?;
    let (_, to_be_signed) = element(certificate, SEQUENCE).ok()?;
    let mut rest = to_be_signed;
    // Version (where it is), serial number, algorithm, issuer.
    let fields = match any(rest).ok()?.1.identifier {
        0xa0 => 4,
        _ => 3,
    };
    for _ in 0..fields {
        rest = any(rest).ok()?.0;
    }
    let (_, mut validity) = element(rest, SEQUENCE).ok()?;
    for field in ["notBefore", "notAfter"] {
        let (after, _) = any(validity).ok()?;
        let length = validity.len().saturating_sub(after.len());
        let time = validity.get(..length)?;
        if check(time).is_err() || ASN1Time::from_der(time).is_err() {
            return Some(field);
        }
        validity = after;
    }
    None
}

fn key_usage_names(usage: u16) -> Vec<&'static str> {
    const NAMES: [&str; 9] = [
        "digitalSignature",
        "nonRepudiation",
        "keyEncipherment",
        "dataEncipherment",
        "keyAgreement",
        "keyCertSign",
        "cRLSign",
        "encipherOnly",
        "decipherOnly",
    ];
    let bits = (0..u16::BITS).map(|bit| usage >> bit & 1 == 1);
    NAMES
        .into_iter()
        .zip(bits)
        .filter_map(|(name, set)| set.then_some(name))
        .collect()
}

fn purpose_name(purpose: &[u8]) -> String {
    // id-kp, 1.3.6.1.5.5.7.3, and anyExtendedKeyUsage, 2.5.29.37.0.
    let name = match purpose {
        [0x2b, 6, 1, 5, 5, 7, 3, 1] => "serverAuth",
        [0x2b, 6, 1, 5, 5, 7, 3, 2] => "clientAuth",
        [0x2b, 6, 1, 5, 5, 7, 3, 3] => "codeSigning",
        [0x2b, 6, 1, 5, 5, 7, 3, 4] => "emailProtection",
        [0x2b, 6, 1, 5, 5, 7, 3, 8] => "timeStamping",
        [0x2b, 6, 1, 5, 5, 7, 3, 9] => "OCSPSigning",
        [0x55, 0x1d, 37, 0] => "anyExtendedKeyUsage",
        other => return der_parser::Oid::new(other.into()).to_id_string(),
    };
    name.to_owned()
}

fn signature_algorithm(oid: &der_parser::Oid<'_>) -> String {
    objects::oid2sn(oid, objects::oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned)
}

fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::IPAddress(bytes) => format!("IP:{}", ip_address(bytes)),
        GeneralName::DirectoryName(name) => format!("dirName:{}", distinguished_name(name)),
        GeneralName::RegisteredID(oid) => format!("RID:{oid}"),
        GeneralName::OtherName(oid, _) => format!("otherName:{oid}"),
        _ => "unreadable".to_owned(),
    }
}

fn ip_address(bytes: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(octets).to_string();
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(octets) => std::net::Ipv6Addr::from(octets).to_string(),
        Err(_) => digits(bytes),
    }
}
