//! Keys and trust bundles in the form that rustls takes.
//!
//! ring, under rustls, signs with no RSA key below 2048 bits; real peers do. RSA is therefore done by the
//! `rsa` crate.

use std::sync::Arc;

use anyhow::{Context, Result};
use pki::{Key, TrustBundle};
use rsa::rand_core::OsRng;
use rsa::sha2::{Digest, Sha256};
use rsa::{Pkcs1v15Sign, Pss, RsaPrivateKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{Signer, SigningKey};
use rustls::{RootCertStore, SignatureAlgorithm, SignatureScheme};

/// The roots that a client or server trusts.
pub(crate) fn root_store(trust: &TrustBundle) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for root in trust.certificates() {
        store.add(root.clone())?;
    }
    Ok(store)
}

/// The key that signs handshakes.
pub(crate) fn handshake_key(key: &Key) -> Result<Arc<dyn SigningKey>> {
    if key.rsa().is_some() {
        return Ok(Arc::new(RsaHandshakeKey(key.clone())));
    }
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.pkcs8_der()?));
    rustls::crypto::ring::sign::any_supported_type(&der).context("rustls took no key")
}

/// An RSA key of any size as a handshake key for rustls.
#[derive(Debug)]
struct RsaHandshakeKey(Key);

impl SigningKey for RsaHandshakeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        // PSS first: TLS 1.3 allows nothing else.
        [
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
        .into_iter()
        .find(|scheme| offered.contains(scheme))
        .map(|scheme| {
            let key = self.0.clone();
            Box::new(RsaSigner { key, scheme }) as Box<dyn Signer>
        })
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

#[derive(Debug)]
struct RsaSigner {
    key: Key,
    scheme: SignatureScheme,
}

impl Signer for RsaSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let private = rsa(&self.key)?;
        let digest = Sha256::digest(message);
        match self.scheme {
            SignatureScheme::RSA_PSS_SHA256 => {
                private.sign_with_rng(&mut OsRng, Pss::new::<Sha256>(), &digest)
            }
            _ => private.sign(Pkcs1v15Sign::new::<Sha256>(), &digest),
        }
        .map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

fn rsa(key: &Key) -> Result<&RsaPrivateKey, rustls::Error> {
    key.rsa()
        .ok_or_else(|| rustls::Error::General("not an RSA key".to_owned()))
}
