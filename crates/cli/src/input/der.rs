//! Binary input: which ASN.1 structure it is, by its first elements.
//!
//! Lengths are read as BER writes them, too: what is wrong with a certificate is the parser's to say.

use crate::ber::{Element, element, elements};

use super::{InputError, pkcs12};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_0: u8 = 0xa0;

/// signedData (RFC 2315, section 14), in which certificates travel without anything that is signed.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];

/// Of a Java keystore: JKS and JCEKS.
const JAVA_MAGIC: [&[u8]; 2] = [&[0xfe, 0xed, 0xfe, 0xed], &[0xce, 0xce, 0xce, 0xce]];

type Certificates = Vec<Result<Vec<u8>, String>>;

/// The certificates of a binary input; `None` if it is not one.
///
/// # Errors
/// [`InputError`] for a structure that is known and has no certificate.
pub(super) fn read(input: &[u8], password: &str) -> Result<Option<Certificates>, InputError> {
    if JAVA_MAGIC.iter().any(|magic| input.starts_with(magic)) {
        return Err(InputError::JavaKeyStore);
    }
    // A text may begin with the digit 0.
    if input.first() != Some(&SEQUENCE) || is_text(input) {
        return Ok(None);
    }
    structure(input, password).map(Some)
}

fn is_text(input: &[u8]) -> bool {
    std::str::from_utf8(input).is_ok_and(|text| {
        !text
            .chars()
            .any(|character| character.is_control() && !matches!(character, '\n' | '\r' | '\t'))
    })
}

/// The certificates of one structure of ASN.1, or of several certificates one after the other.
///
/// # Errors
/// As [`read`].
pub(super) fn structure(input: &[u8], password: &str) -> Result<Certificates, InputError> {
    let Some((first, rest)) = element(input) else {
        // Cut, or of indefinite length: the parser names it.
        return match indefinite_pkcs7(input) {
            true => Err(InputError::Pkcs7),
            false => Ok(vec![Ok(input.to_vec())]),
        };
    };
    match kind(first.content) {
        Kind::Certificate => Ok(several(input, first, rest)),
        Kind::SignedData => signed_data(first.content).ok_or(InputError::Pkcs7),
        Kind::Pkcs12 => pkcs12::certificates(first.whole, password),
        Kind::Key => Err(InputError::OnlyKey),
        Kind::PublicKey => Err(InputError::PublicKey),
        Kind::Request => Err(InputError::Request),
        Kind::RevocationList => Err(InputError::RevocationList),
    }
}

/// DER is copied with an editor, which ends it with a line break; SPIRE's agent writes one certificate after the
/// other. Anything else behind a certificate is left for the parser to name.
fn several<'a>(input: &'a [u8], first: Element<'a>, mut rest: &'a [u8]) -> Certificates {
    let mut found = vec![Ok(first.whole.to_vec())];
    while !rest.iter().all(u8::is_ascii_whitespace) {
        let Some((next, after)) = element(rest).filter(|(next, _)| next.identifier == SEQUENCE)
        else {
            return vec![Ok(input.to_vec())];
        };
        found.push(Ok(next.whole.to_vec()));
        rest = after;
    }
    found
}

/// What follows a certificate in OpenSSL's `TRUSTED CERTIFICATE` is trust settings: they are left out.
pub(super) fn without_trust_settings(der: &[u8]) -> &[u8] {
    element(der).map_or(der, |(certificate, _)| certificate.whole)
}

enum Kind {
    Certificate,
    SignedData,
    Pkcs12,
    Key,
    PublicKey,
    Request,
    RevocationList,
}

/// What a SEQUENCE is, by its elements. What is none of the others is taken for a certificate, of which the parser
/// says what is wrong.
fn kind(content: &[u8]) -> Kind {
    let parts = elements(content);
    let identifiers: Vec<u8> = parts.iter().map(|part| part.identifier).collect();
    let first = parts.first().map_or(&[][..], |part| part.content);
    match *identifiers {
        [OBJECT_IDENTIFIER, EXPLICIT_0] if first == SIGNED_DATA => Kind::SignedData,
        [INTEGER, SEQUENCE] | [INTEGER, SEQUENCE, SEQUENCE] if first == [3] => Kind::Pkcs12,
        // PKCS#8, the same encrypted, SEC 1, PKCS#1.
        [INTEGER, SEQUENCE, OCTET_STRING, ..] if first == [0] || first == [1] => Kind::Key,
        [SEQUENCE, OCTET_STRING] | [INTEGER, OCTET_STRING, ..] => Kind::Key,
        [INTEGER, INTEGER, INTEGER, INTEGER, ..] => Kind::Key,
        [SEQUENCE, BIT_STRING] => Kind::PublicKey,
        [SEQUENCE, SEQUENCE, BIT_STRING] => of_signed(first),
        _ => Kind::Certificate,
    }
}

/// Certificates, requests and revocation lists are all `{ what is signed, algorithm, signature }`.
fn of_signed(to_be_signed: &[u8]) -> Kind {
    let identifiers: Vec<u8> = elements(to_be_signed)
        .iter()
        .map(|part| part.identifier)
        .collect();
    match *identifiers {
        [INTEGER, SEQUENCE, SEQUENCE] | [INTEGER, SEQUENCE, SEQUENCE, EXPLICIT_0] => Kind::Request,
        _ if identifiers
            .iter()
            .any(|part| matches!(*part, UTC_TIME | GENERALIZED_TIME)) =>
        {
            Kind::RevocationList
        }
        _ => Kind::Certificate,
    }
}

/// The certificates of PKCS#7 (RFC 2315, section 9.1), which stand in `[0]`, as they are: encoding them anew would
/// break the signatures of those that are not quite DER.
fn signed_data(content_info: &[u8]) -> Option<Certificates> {
    let explicit = *elements(content_info).get(1)?;
    let (signed_data, _) = element(explicit.content)?;
    let parts = elements(signed_data.content);
    let certificates = parts.iter().find(|part| part.identifier == EXPLICIT_0)?;
    let certificates = elements(certificates.content);
    let found = certificates.iter().map(|part| Ok(part.whole.to_vec()));
    (!certificates.is_empty()).then(|| found.collect())
}

/// Whether it is PKCS#7 whose length is not written, as Java writes it.
fn indefinite_pkcs7(input: &[u8]) -> bool {
    let oid = [&[OBJECT_IDENTIFIER, 9], SIGNED_DATA].concat();
    input.get(2..).is_some_and(|rest| rest.starts_with(&oid))
}
