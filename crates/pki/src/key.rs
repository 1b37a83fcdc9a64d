//! Private keys of every kind that peers have, the too weak ones included.
//!
//! ring, under rcgen, generates no RSA keys and signs with none below 2048 bits; real peers do. RSA is
//! therefore done by the `rsa` crate.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SigningKey as _,
};
use rsa::pkcs1::EncodeRsaPublicKey;
use rsa::pkcs8::EncodePrivateKey;
use rsa::rand_core::OsRng;
use rsa::sha2::{Digest, Sha256};
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use sha1::Sha1;

use crate::pem_block;

/// Algorithm and size of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on NIST P-256.
    #[default]
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// EdDSA on Curve25519. Envoy takes it only where `signature_algorithms` names it.
    Ed25519,
    /// RSA, modulus of 2048 bits.
    Rsa2048,
    /// RSA, modulus of 1024 bits: too weak, and accepted by Envoy.
    Rsa1024,
}

/// A private key. Clones share it, so a certificate can be renewed under the same key.
#[derive(Clone)]
pub struct Key(Arc<Inner>);

enum Inner {
    Ring(KeyPair),
    Rsa {
        private: RsaPrivateKey,
        public_der: Vec<u8>,
    },
}

impl Key {
    /// Generates a key.
    ///
    /// # Errors
    /// If the system's random source fails.
    pub fn generate(kind: KeyKind) -> Result<Self> {
        let inner = match kind {
            KeyKind::P256 => Inner::Ring(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?),
            KeyKind::P384 => Inner::Ring(KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?),
            KeyKind::Ed25519 => Inner::Ring(KeyPair::generate_for(&PKCS_ED25519)?),
            KeyKind::Rsa2048 => Inner::rsa(2048)?,
            KeyKind::Rsa1024 => Inner::rsa(1024)?,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The private key as PKCS#8 DER.
    ///
    /// # Errors
    /// If an RSA key cannot be encoded.
    pub fn pkcs8_der(&self) -> Result<Vec<u8>> {
        Ok(match &*self.0 {
            Inner::Ring(pair) => pair.serialize_der(),
            Inner::Rsa { private, .. } => private.to_pkcs8_der()?.as_bytes().to_vec(),
        })
    }

    /// The private key as PKCS#8 PEM, as Envoy reads it.
    ///
    /// # Errors
    /// As [`Key::pkcs8_der`].
    pub fn pkcs8_pem(&self) -> Result<String> {
        Ok(pem_block("PRIVATE KEY", self.pkcs8_der()?))
    }

    /// A signature over `message`, as certificates have it.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        match &*self.0 {
            Inner::Ring(pair) => Ok(pair.sign(message)?),
            Inner::Rsa { .. } => bail!("an RSA key"),
        }
    }

    /// An RSA signature (PKCS#1 v1.5) over the SHA-1 digest of `message`.
    pub(crate) fn sign_with_sha1(&self, message: &[u8]) -> Result<Vec<u8>> {
        let digest = Sha1::digest(message);
        let private = self.rsa().context("not an RSA key")?;
        Ok(private.sign(Pkcs1v15Sign::new::<Sha1>(), &digest)?)
    }

    /// The key, if it is RSA: for signatures that no library makes with keys of any size.
    pub fn rsa(&self) -> Option<&RsaPrivateKey> {
        match &*self.0 {
            Inner::Rsa { private, .. } => Some(private),
            Inner::Ring(_) => None,
        }
    }
}

impl Inner {
    fn rsa(bits: usize) -> Result<Self> {
        let private = RsaPrivateKey::new(&mut OsRng, bits)?;
        let public_der = private.to_public_key().to_pkcs1_der()?.into_vec();
        Ok(Self::Rsa {
            private,
            public_der,
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        match &*self.0 {
            Inner::Ring(pair) => pair.der_bytes(),
            Inner::Rsa { public_der, .. } => public_der,
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match &*self.0 {
            Inner::Ring(pair) => pair.algorithm(),
            Inner::Rsa { .. } => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match &*self.0 {
            Inner::Ring(pair) => pair.sign(message),
            Inner::Rsa { private, .. } => private
                .sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message))
                .map_err(|_| rcgen::Error::RemoteKeyError),
        }
    }
}
