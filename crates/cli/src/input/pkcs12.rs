//! Certificates of PKCS#12 (RFC 7292). Keys are not looked at, and the MAC is not checked: nothing is believed of
//! such a file but what its certificates say.

use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipher, BlockDecryptMut, InnerIvInit, KeyInit};
use cms::encrypted_data::EncryptedData;
use des::TdesEde3;
use pkcs5::pbes2;
use pkcs12::authenticated_safe::AuthenticatedSafe;
use pkcs12::cert_type::CertBag;
use pkcs12::kdf::{Pkcs12KeyType, derive_key};
use pkcs12::pbe_params::Pkcs12PbeParams;
use pkcs12::pfx::Pfx;
use pkcs12::safe_bag::SafeContents;
use rc2::Rc2;
use sha1::Sha1;
use x509_cert::der::asn1::{ContextSpecific, ObjectIdentifier, OctetString};
use x509_cert::der::{AnyRef, Decode, Encode};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::InputError;

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ENCRYPTED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
const CERTIFICATE_BAG: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.3");
const X509_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.22.1");
const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const TRIPLE_DES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.3");
const RC2_40: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.6");

type Certificates = Vec<Result<Vec<u8>, String>>;

/// The certificates, in the order of the file: the one of the key first, as every tool writes it.
///
/// # Errors
/// [`InputError::Password`] or [`InputError::Pkcs12`].
pub(super) fn certificates(file: &[u8], password: &str) -> Result<Certificates, InputError> {
    let pfx = Pfx::from_der(file).map_err(not_readable)?;
    let content = pfx.auth_safe.content.to_der().map_err(not_readable)?;
    let content = OctetString::from_der(&content).map_err(not_readable)?;
    let safe = AuthenticatedSafe::from_der(content.as_bytes()).map_err(not_readable)?;
    let mut found = Vec::new();
    for info in safe {
        let content = info.content.to_der().map_err(not_readable)?;
        let (bags, is_encrypted) = match info.content_type {
            DATA => {
                let bytes = OctetString::from_der(&content).map_err(not_readable)?;
                (bytes.into_bytes(), false)
            }
            ENCRYPTED_DATA => (decrypted(&content, password)?, true),
            other => return Err(InputError::Pkcs12(format!("content {other} is not read"))),
        };
        let bags = SafeContents::from_der(&bags).map_err(|error| match is_encrypted {
            true => InputError::Password,
            false => not_readable(error),
        })?;
        for bag in bags.iter().filter(|bag| bag.bag_id == CERTIFICATE_BAG) {
            let bag = ContextSpecific::<CertBag>::from_der(&bag.bag_value).map_err(not_readable)?;
            if bag.value.cert_id == X509_CERTIFICATE {
                found.push(Ok(bag.value.cert_value.into_bytes()));
            }
        }
    }
    match found.is_empty() {
        true => Err(InputError::OnlyKey),
        false => Ok(found),
    }
}

fn not_readable(error: x509_cert::der::Error) -> InputError {
    InputError::Pkcs12(error.to_string())
}

fn decrypted(content: &[u8], password: &str) -> Result<Vec<u8>, InputError> {
    let info = EncryptedData::from_der(content)
        .map_err(not_readable)?
        .enc_content_info;
    let encrypted = info
        .encrypted_content
        .ok_or(InputError::Pkcs12("no content".to_owned()))?;
    let algorithm = info.content_enc_alg;
    let parameters = parameters(&algorithm)?;
    match algorithm.oid {
        PBES2 => AnyRef::from_der(&parameters)
            .and_then(pbes2::Parameters::try_from)
            .map_err(not_readable)?
            .decrypt(password, encrypted.as_bytes())
            .map_err(|_| InputError::Password),
        TRIPLE_DES => derived::<TdesEde3>(24, &parameters, encrypted.as_bytes(), password),
        RC2_40 => derived::<Rc2>(5, &parameters, encrypted.as_bytes(), password),
        other => Err(InputError::Pkcs12(format!(
            "encryption {other} is not read"
        ))),
    }
}

fn parameters(algorithm: &AlgorithmIdentifierOwned) -> Result<Vec<u8>, InputError> {
    let parameters = algorithm.parameters.as_ref();
    let parameters = parameters.ok_or(InputError::Pkcs12("no parameters".to_owned()))?;
    parameters.to_der().map_err(not_readable)
}

/// Decrypts with a key made of the password as RFC 7292 (appendix B) makes it: files before OpenSSL 3, and of
/// Windows. An empty password is two zero bytes to some, and nothing to others.
fn derived<C: BlockCipher + BlockDecryptMut + KeyInit>(
    key_bytes: usize,
    parameters: &[u8],
    encrypted: &[u8],
    password: &str,
) -> Result<Vec<u8>, InputError> {
    let parameters = Pkcs12PbeParams::from_der(parameters).map_err(not_readable)?;
    let (salt, rounds) = (parameters.salt.as_bytes(), parameters.iterations);
    if rounds > MAX_ROUNDS {
        return Err(InputError::Pkcs12(format!("{rounds} rounds for a key")));
    }
    let mut texts = vec![utf_16(password)];
    if password.is_empty() {
        texts.push(Vec::new());
    }
    let decrypted = texts.iter().find_map(|text| {
        let key = derive_key::<Sha1>(text, salt, Pkcs12KeyType::EncryptionKey, rounds, key_bytes);
        let iv = derive_key::<Sha1>(text, salt, Pkcs12KeyType::Iv, rounds, IV_BYTES);
        decrypted_by::<C>(&key, &iv, encrypted)
    });
    decrypted.ok_or(InputError::Password)
}

/// More would take minutes: tools write 2,048 to 100,000.
const MAX_ROUNDS: i32 = 10_000_000;
/// Both ciphers have blocks of eight bytes.
const IV_BYTES: usize = 8;

/// A password as RFC 7292 (appendix B.1) wants it: big-endian, and zero at the end.
fn utf_16(password: &str) -> Vec<u8> {
    let units = password.encode_utf16().chain([0]);
    units.flat_map(u16::to_be_bytes).collect()
}

fn decrypted_by<C: BlockCipher + BlockDecryptMut + KeyInit>(
    key: &[u8],
    iv: &[u8],
    encrypted: &[u8],
) -> Option<Vec<u8>> {
    let cipher = C::new_from_slice(key).ok()?;
    let decryptor = Decryptor::<C>::inner_iv_slice_init(cipher, iv).ok()?;
    decryptor.decrypt_padded_vec_mut::<Pkcs7>(encrypted).ok()
}
