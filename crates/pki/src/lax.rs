//! Certificates that most libraries read, and BoringSSL, so Envoy, does not: sound ones, edited where it hurts.
//!
//! An element is found by its path: `[0, 1]` is the second element of the first one, which is the serial number.
//! A path goes through the OCTET STRING of an extension into its value.

use anyhow::Result;

use crate::Key;
use crate::handmade::{bit_string, sequence, tlv};

/// What is wrong with a certificate, and the certificate.
pub type Case = (String, Vec<u8>);

const VERSION: &[usize] = &[0, 0, 0];
const SERIAL: &[usize] = &[0, 1];
const ISSUER_TEXT: &[usize] = &[0, 3, 0, 0, 1];
const ISSUER_TYPE: &[usize] = &[0, 3, 0, 0, 0];
const ALGORITHM: &[usize] = &[0, 2, 0];
const PARAMETERS_OF_KEY: &[usize] = &[0, 6, 0, 1];
const NOT_BEFORE: &[usize] = &[0, 4, 0];
const NOT_AFTER: &[usize] = &[0, 4, 1];
const EXTENSIONS: &[usize] = &[0, 7, 0];
const SIGNATURE: &[usize] = &[2];

/// Content of ecdsa-with-SHA256 (RFC 5758, section 3.2).
const ECDSA: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// The levels of a certificate whose issuer has a common name, each by one element.
const LEVELS: [(&str, &[usize]); 17] = [
    ("certificate", &[]),
    ("TBSCertificate", &[0]),
    ("version", &[0, 0]),
    ("number of the version", VERSION),
    ("serial number", SERIAL),
    ("algorithm", &[0, 2]),
    ("issuer", &[0, 3]),
    ("attribute of the issuer", &[0, 3, 0, 0]),
    ("text in the issuer", ISSUER_TEXT),
    ("validity", &[0, 4]),
    ("notBefore", NOT_BEFORE),
    ("notAfter", NOT_AFTER),
    ("public key", &[0, 6]),
    ("extensions", &[0, 7]),
    ("list of extensions", EXTENSIONS),
    ("extension", &[0, 7, 0, 0]),
    ("OCTET STRING of an extension", &[0, 7, 0, 0, 1]),
];

/// Certificates with lengths in more bytes than they need: at every level outside the values of extensions.
pub fn long_lengths(der: &[u8]) -> Vec<Case> {
    let stretched = LEVELS.into_iter().flat_map(|(level, path)| {
        // One byte is too many where the length fits into the byte before.
        let short = at(der, path).content.len() < 0x80;
        let bytes = [1, 3, 4]
            .into_iter()
            .filter(move |bytes| short || *bytes > 2);
        bytes.map(move |bytes| {
            let case = format!("{level}: length in {bytes} bytes");
            (case, edited(der, path, &|element| stretch(element, bytes)))
        })
    });
    stretched.collect()
}

/// The same in the values of the extensions. Envoy loads them from a file, and refuses a peer.
pub fn long_lengths_in_values(der: &[u8]) -> Vec<Case> {
    let extensions = elements(at(der, EXTENSIONS).content).len();
    let values = (0..extensions).map(|extension| {
        let path = [EXTENSIONS, &[extension]].concat();
        let oid = elements(at(der, &path).content)[0].content.to_vec();
        let value = [&path[..], &[last(at(der, &path).content), 0]].concat();
        let case = format!("value of extension {oid:02x?}: length in 4 bytes");
        (case, edited(der, &value, &|element| stretch(element, 4)))
    });
    values.collect()
}

/// Certificates with the one length that may be longer than it needs to be.
pub fn long_length_of_signature(der: &[u8]) -> Vec<u8> {
    edited(der, SIGNATURE, &|element| stretch(element, 4))
}

/// The certificate without what version 1 does not have: the number of the version, and extensions.
pub fn version_1(der: &[u8]) -> Vec<u8> {
    edited(der, &[0], &|element| {
        let parts = elements(element.content).into_iter();
        let first_edition = parts.filter(|part| !matches!(part.tag, 0xa0 | 0xa3));
        let parts: Vec<_> = first_edition
            .map(|part| tlv(part.tag, part.content))
            .collect();
        sequence(&parts)
    })
}

/// Certificates with lengths that are not there, but an end: as BER has it.
pub fn indefinite_lengths(der: &[u8]) -> Vec<Case> {
    let paths = LEVELS
        .into_iter()
        .filter(|(_, path)| at(der, path).tag & 0x20 != 0);
    paths
        .map(|(level, path)| {
            let endless = |element: Element<'_>| {
                [&[element.tag, 0x80][..], element.content, &[0, 0]].concat()
            };
            let case = format!("{level}: indefinite length");
            (case, edited(der, path, &endless))
        })
        .collect()
}

/// Certificates with a time that is not as RFC 5280 (section 4.1.2.5) has it.
pub fn times(der: &[u8]) -> Vec<Case> {
    let utc = [
        "4912010000Z",
        "2512010000Z",
        "9912010000Z",
        "491201000000",
        "4912010000+0000",
        "491201000000+2400",
        "491201000000+0060",
        "491201000060Z",
        "491301000000Z",
    ];
    let generalized = [
        "205012010000Z",
        "202512010000Z",
        "2050120100Z",
        "20501201000000.5Z",
        "20501201000000.0Z",
        "20501201000000,25Z",
        "20501201000000+0000",
        "20501201000000-0130",
        "20501201000000",
    ];
    let utc = utc.map(|text| (23, text));
    let generalized = generalized.map(|text| (24, text));
    with_times(der, &[&utc[..], &generalized].concat())
}

/// Certificates with a UTCTime that has an offset. Envoy loads them from a file, and refuses a peer.
pub fn utc_times_with_offset(der: &[u8]) -> Vec<Case> {
    let texts = [
        "491201000000+0000",
        "491201000000+0130",
        "491201000000-0800",
    ];
    with_times(der, &texts.map(|text| (23, text)))
}

fn with_times(der: &[u8], times: &[(u8, &str)]) -> Vec<Case> {
    times
        .iter()
        .map(|(tag, text)| {
            let time = tlv(*tag, text);
            (text.to_string(), edited(der, NOT_AFTER, &|_| time.clone()))
        })
        .collect()
}

/// Certificates with a number, a text, a type or a version that is none.
pub fn values(der: &[u8]) -> Vec<Case> {
    let cases: [(&str, &[usize], Vec<u8>); 17] = [
        ("no serial number", SERIAL, tlv(2, [])),
        ("algorithm of another type", ALGORITHM, tlv(7, ECDSA)),
        (
            "algorithm with something behind",
            PARAMETERS_OF_KEY,
            [tlv(5, []), tlv(5, [])].concat(),
        ),
        ("name without attributes", &[0, 3, 0], tlv(0x31, [])),
        ("SEQUENCE instead of SET", &[0, 3, 0], tlv(0x30, [])),
        (
            "serial number with zeros in front",
            SERIAL,
            tlv(2, [0, 0, 1]),
        ),
        (
            "serial number with ones in front",
            SERIAL,
            tlv(2, [0xff, 0x80]),
        ),
        ("version 4", VERSION, tlv(2, [3])),
        ("extensions in version 1", VERSION, tlv(2, [0])),
        ("extensions in version 2", VERSION, tlv(2, [1])),
        (
            "type with zeros in front",
            ISSUER_TYPE,
            tlv(6, [0x55, 0x80, 4, 3]),
        ),
        ("type without an end", ISSUER_TYPE, tlv(6, [0x55, 4, 0x83])),
        (
            "UTF8String that is Latin-1",
            ISSUER_TEXT,
            tlv(12, b"Z\xfcrich"),
        ),
        ("UTF8String that was cut", ISSUER_TEXT, tlv(12, b"pay\xc3")),
        ("BMPString that was cut", ISSUER_TEXT, tlv(30, b"\0Zx")),
        (
            "BMPString in UTF-16",
            ISSUER_TEXT,
            tlv(30, b"\xd8\x3d\xde\x00"),
        ),
        (
            "UniversalString that was cut",
            ISSUER_TEXT,
            tlv(28, b"\0\0Z"),
        ),
    ];
    cases
        .into_iter()
        .map(|(case, path, value)| (case.to_owned(), edited(der, path, &|_| value.clone())))
        .collect()
}

/// Certificates with an extension twice. Envoy loads them from a file, and refuses a peer.
pub fn repeated_extensions(der: &[u8]) -> Vec<Case> {
    let list = at(der, EXTENSIONS);
    let extensions: Vec<_> = elements(list.content);
    let twice = extensions.iter().map(|extension| {
        let oid = elements(extension.content)[0].content.to_vec();
        let content = [list.content, &tlv(extension.tag, extension.content)].concat();
        let again = edited(der, EXTENSIONS, &|list| tlv(list.tag, &content));
        (format!("extension {oid:02x?} twice"), again)
    });
    twice.collect()
}

/// What became of `original`, with a signature of `key` over it. As it is where what is signed is the same.
pub(crate) fn signed_again(original: &[u8], edited: &[u8], key: &Key) -> Result<Vec<u8>> {
    let (tbs, rest) = split_raw(split(edited).0.content);
    if split_raw(split(original).0.content).0 == tbs {
        return Ok(edited.to_vec());
    }
    let (algorithm, _) = split_raw(rest);
    let signature = bit_string(&key.sign(tbs)?);
    Ok(sequence(&[tbs.to_vec(), algorithm.to_vec(), signature]))
}

#[derive(Clone, Copy)]
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

/// The element with a length in so many bytes, of which it needs fewer.
fn stretch(element: Element<'_>, bytes: usize) -> Vec<u8> {
    let length = element.content.len().to_be_bytes();
    let digits = &length[length.len() - bytes..];
    let header = [element.tag, 0x80 | bytes as u8];
    [&header, digits, element.content].concat()
}

/// The certificate with another element at a path; the lengths around it are right again.
fn edited(der: &[u8], path: &[usize], edit: &dyn Fn(Element<'_>) -> Vec<u8>) -> Vec<u8> {
    let (element, rest) = split(der);
    let Some((first, path)) = path.split_first() else {
        return [edit(element), rest.to_vec()].concat();
    };
    let mut before = 0;
    let mut inside = element.content;
    for _ in 0..*first {
        let (skipped, rest) = split_raw(inside);
        before += skipped.len();
        inside = rest;
    }
    let (raw, after) = split_raw(inside);
    let content = [&element.content[..before], &edited(raw, path, edit), after].concat();
    [tlv(element.tag, content), rest.to_vec()].concat()
}

fn at<'a>(der: &'a [u8], path: &[usize]) -> Element<'a> {
    let (mut element, _) = split(der);
    for index in path {
        element = elements(element.content)[*index];
    }
    element
}

fn elements(mut content: &[u8]) -> Vec<Element<'_>> {
    let mut found = Vec::new();
    while !content.is_empty() {
        let (element, rest) = split(content);
        found.push(element);
        content = rest;
    }
    found
}

fn last(content: &[u8]) -> usize {
    elements(content).len() - 1
}

fn split_raw(input: &[u8]) -> (&[u8], &[u8]) {
    let (_, rest) = split(input);
    input.split_at(input.len() - rest.len())
}

/// The first element, whatever its length is written in.
fn split(input: &[u8]) -> (Element<'_>, &[u8]) {
    let (header, length) = match input[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let digits = &input[2..][..usize::from(long & 0x7f)];
            let length = digits
                .iter()
                .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (2 + digits.len(), length)
        }
    };
    let (content, rest) = input[header..].split_at(length);
    let element = Element {
        tag: input[0],
        content,
    };
    (element, rest)
}
