//! Signatures of certificates, with the algorithms that BoringSSL takes (`x509_digest_verify_init`): RSA and ECDSA
//! with SHA-1 and SHA-2, RSA-PSS where digest, MGF and salt go together, Ed25519. No MD5.

use mtls_watch_core::handshake::Reason;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use rsa::pkcs1v15;
use rsa::pkcs8::DecodePublicKey;
use rsa::signature::Verifier;
use rsa::{RsaPublicKey, pss};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoRef};

use super::certificate::Certificate;

/// Verifies the signature of a certificate with the key of the one above it.
///
/// # Errors
/// Why it does not verify.
pub(super) fn verify(
    certificate: &Certificate,
    issuer: &Certificate,
) -> Result<(), (Reason, String)> {
    let algorithm = &certificate.signature_algorithm;
    let (message, signature) = (&certificate.to_be_signed, &certificate.signature);
    let key = Key::read(issuer).map_err(|detail| (Reason::MalformedCertificate, detail))?;
    let detail = match key.verifies(algorithm, message, signature) {
        Some(true) => return Ok(()),
        Some(false) => "its signature does not verify with the issuer's key".to_owned(),
        None => format!(
            "Envoy does not verify signatures with {} and that key",
            algorithm.oid
        ),
    };
    Err((Reason::BadSignature, detail))
}

enum Key {
    Rsa(RsaPublicKey),
    P224(p224::ecdsa::VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
    /// BoringSSL reads it, and verifies no signature of a certificate with it: DSA, X25519.
    Unfit,
}

#[derive(Clone, Copy)]
enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Key {
    fn read(issuer: &Certificate) -> Result<Self, String> {
        let der = &*issuer.public_key;
        let curve = SubjectPublicKeyInfoRef::from_der(der)
            .ok()
            .and_then(|info| info.algorithm.parameters_oid().ok());
        let curve = curve.map(|curve| curve.to_string()).unwrap_or_default();
        let algorithm = issuer.key_algorithm.to_string();
        let key = match (&*algorithm, &*curve) {
            ("1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.10", _) => rsa_key(der).map(Self::Rsa),
            ("1.2.840.10045.2.1", "1.3.132.0.33") => {
                p224::ecdsa::VerifyingKey::from_public_key_der(der)
                    .ok()
                    .map(Self::P224)
            }
            ("1.2.840.10045.2.1", "1.2.840.10045.3.1.7") => {
                p256::ecdsa::VerifyingKey::from_public_key_der(der)
                    .ok()
                    .map(Self::P256)
            }
            ("1.2.840.10045.2.1", "1.3.132.0.34") => {
                p384::ecdsa::VerifyingKey::from_public_key_der(der)
                    .ok()
                    .map(Self::P384)
            }
            ("1.2.840.10045.2.1", "1.3.132.0.35") => {
                let key = p521::PublicKey::from_public_key_der(der).ok();
                key.and_then(|key| p521::ecdsa::VerifyingKey::from_affine(*key.as_affine()).ok())
                    .map(Self::P521)
            }
            ("1.3.101.112", _) => ed25519_dalek::VerifyingKey::from_public_key_der(der)
                .ok()
                .map(Self::Ed25519),
            ("1.2.840.10040.4.1" | "1.3.101.110", _) => Some(Self::Unfit),
            _ => None,
        };
        key.ok_or_else(|| format!("the issuer's key ({algorithm} {curve}) cannot be used"))
    }

    /// Whether it verifies; `None` for an algorithm that is not accepted with this key.
    fn verifies(
        &self,
        algorithm: &AlgorithmIdentifierOwned,
        message: &[u8],
        signature: &[u8],
    ) -> Option<bool> {
        let oid = algorithm.oid.to_string();
        match self {
            Self::Unfit => None,
            Self::Rsa(key) if oid == RSA_PSS => pss(key, algorithm, message, signature),
            Self::Rsa(key) => {
                has_no_parameters(algorithm).then_some(())?;
                pkcs1(key, rsa_hash(&oid)?, message, signature)
            }
            Self::Ed25519(key) => {
                let is_ed25519 = oid == "1.3.101.112" && algorithm.parameters.is_none();
                is_ed25519.then_some(())?;
                let signature = ed25519_dalek::Signature::from_slice(signature);
                Some(signature.is_ok_and(|signature| key.verify(message, &signature).is_ok()))
            }
            _ => {
                has_no_parameters(algorithm).then_some(())?;
                let digest = ecdsa_hash(&oid)?.digest(message);
                Some(self.verifies_ecdsa(&digest, signature))
            }
        }
    }

    fn verifies_ecdsa(&self, digest: &[u8], signature: &[u8]) -> bool {
        macro_rules! verifies {
            ($key:expr, $curve:ident) => {
                $curve::ecdsa::DerSignature::from_bytes(signature)
                    .ok()
                    .and_then(|signature| $curve::ecdsa::Signature::try_from(signature).ok())
                    .is_some_and(|signature| {
                        $key.verify_prehash(
                            &padded(digest, $curve::FieldBytes::default().len()),
                            &signature,
                        )
                        .is_ok()
                    })
            };
        }
        match self {
            Self::P224(key) => verifies!(key, p224),
            Self::P256(key) => verifies!(key, p256),
            Self::P384(key) => verifies!(key, p384),
            Self::P521(key) => verifies!(key, p521),
            Self::Rsa(_) | Self::Ed25519(_) | Self::Unfit => false,
        }
    }
}

/// RustCrypto refuses a digest shorter than half the curve's field; zeros in front are the same number.
fn padded(digest: &[u8], field: usize) -> Vec<u8> {
    let zeros = field.saturating_sub(digest.len());
    [&vec![0; zeros][..], digest].concat()
}

/// An explicit NULL or nothing: BoringSSL takes either.
fn has_no_parameters(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm
        .parameters
        .as_ref()
        .is_none_or(|parameters| parameters.tag() == Tag::Null)
}

/// Large keys, too: the crate's own reader stops at 4,096 bits.
fn rsa_key(der: &[u8]) -> Option<RsaPublicKey> {
    use rsa::BigUint;
    const MAX_BITS: usize = 16_384;
    let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
    let key = rsa::pkcs1::RsaPublicKey::from_der(info.subject_public_key.as_bytes()?).ok()?;
    let number = |number: rsa::pkcs1::UintRef<'_>| BigUint::from_bytes_be(number.as_bytes());
    let (modulus, exponent) = (number(key.modulus), number(key.public_exponent));
    RsaPublicKey::new_with_max_size(modulus, exponent, MAX_BITS).ok()
}

const RSA_PSS: &str = "1.2.840.113549.1.1.10";

impl Hash {
    fn of(oid: ObjectIdentifier) -> Option<Self> {
        Some(match &*oid.to_string() {
            "1.3.14.3.2.26" => Self::Sha1,
            "2.16.840.1.101.3.4.2.4" => Self::Sha224,
            "2.16.840.1.101.3.4.2.1" => Self::Sha256,
            "2.16.840.1.101.3.4.2.2" => Self::Sha384,
            "2.16.840.1.101.3.4.2.3" => Self::Sha512,
            _ => return None,
        })
    }

    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(message).to_vec(),
            Self::Sha224 => Sha224::digest(message).to_vec(),
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// RFC 8017 (appendix A.2.4), and OIW's sha1WithRSASignature.
fn rsa_hash(oid: &str) -> Option<Hash> {
    Some(match oid {
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => Hash::Sha1,
        "1.2.840.113549.1.1.14" => Hash::Sha224,
        "1.2.840.113549.1.1.11" => Hash::Sha256,
        "1.2.840.113549.1.1.12" => Hash::Sha384,
        "1.2.840.113549.1.1.13" => Hash::Sha512,
        _ => return None,
    })
}

/// RFC 3279 and RFC 5758.
fn ecdsa_hash(oid: &str) -> Option<Hash> {
    Some(match oid {
        "1.2.840.10045.4.1" => Hash::Sha1,
        "1.2.840.10045.4.3.1" => Hash::Sha224,
        "1.2.840.10045.4.3.2" => Hash::Sha256,
        "1.2.840.10045.4.3.3" => Hash::Sha384,
        "1.2.840.10045.4.3.4" => Hash::Sha512,
        _ => return None,
    })
}

fn pkcs1(key: &RsaPublicKey, hash: Hash, message: &[u8], signature: &[u8]) -> Option<bool> {
    let signature = pkcs1v15::Signature::try_from(signature).ok()?;
    let key = key.clone();
    let verified = match hash {
        Hash::Sha1 => pkcs1v15::VerifyingKey::<Sha1>::new(key).verify(message, &signature),
        Hash::Sha224 => pkcs1v15::VerifyingKey::<Sha224>::new(key).verify(message, &signature),
        Hash::Sha256 => pkcs1v15::VerifyingKey::<Sha256>::new(key).verify(message, &signature),
        Hash::Sha384 => pkcs1v15::VerifyingKey::<Sha384>::new(key).verify(message, &signature),
        Hash::Sha512 => pkcs1v15::VerifyingKey::<Sha512>::new(key).verify(message, &signature),
    };
    Some(verified.is_ok())
}

/// RSASSA-PSS (RFC 4055): SHA-256, 384 or 512, the same in MGF1, and a salt as long as the digest
/// (`rsa_pss_decode`).
fn pss(
    key: &RsaPublicKey,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> Option<bool> {
    let parameters = algorithm.parameters.as_ref()?.to_der().ok()?;
    let parameters = rsa::pkcs1::RsaPssParams::from_der(&parameters).ok()?;
    let mgf = parameters.mask_gen.parameters?;
    let hash = parameters.hash.oid;
    let goes_together =
        parameters.mask_gen.oid.to_string() == "1.2.840.113549.1.1.8" && mgf.oid == hash;
    let hash = Hash::of(hash)?;
    let salt = hash.digest(&[]).len();
    (goes_together && usize::from(parameters.salt_len) == salt).then_some(())?;
    let signature = pss::Signature::try_from(signature).ok()?;
    let key = key.clone();
    let verified = match hash {
        Hash::Sha256 => pss::VerifyingKey::<Sha256>::new(key).verify(message, &signature),
        Hash::Sha384 => pss::VerifyingKey::<Sha384>::new(key).verify(message, &signature),
        Hash::Sha512 => pss::VerifyingKey::<Sha512>::new(key).verify(message, &signature),
        Hash::Sha1 | Hash::Sha224 => return None,
    };
    Some(verified.is_ok())
}
