//! Certificates around the moment at which these tests begin.

use std::sync::LazyLock;

use pki::fixtures::hex;
use pki::{Ca, Key, KeyKind, LeafBuilder, Lifetime, to_pem};
pub use pki::{DAY, ExtendedKeyUsage};
use sha2::{Digest, Sha256};

use crate::host::START;

/// The CN of the CA that signs every leaf here.
const ISSUER: &str = "Issuing CA";

static CA: LazyLock<Ca> = LazyLock::new(|| {
    let ca = Ca::root(ISSUER).lifetime(from_start(-100 * DAY, 3650 * DAY));
    ca.issue().expect("a CA")
});

/// One key for all leaves: making a key is what takes time, and no test looks at it.
static KEY: LazyLock<Key> = LazyLock::new(|| Key::generate(KeyKind::P256).expect("a P-256 key"));

/// That CA as a label value: its name and the beginning of its key identifier.
pub fn issuer_label() -> String {
    let name = ISSUER.replace(' ', "_");
    format!("{name}:{}", &CA.key_identifier()[..8])
}

/// That CA's key identifier.
pub fn issuer_key() -> Vec<u8> {
    let digits = CA.key_identifier();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[derive(Clone)]
pub struct Certificate {
    pub der: Vec<u8>,
    /// Unix seconds.
    pub not_before: u64,
    pub not_after: u64,
}

impl Certificate {
    /// A mesh workload's certificate, valid for 90 days from the start of the tests on.
    pub fn workload(identity: &str) -> Self {
        Leaf::new(identity).sign()
    }

    /// Bytes that claim to be a certificate.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Self {
        Self {
            der: der.into(),
            not_before: 0,
            not_after: 0,
        }
    }

    pub fn pem(&self) -> String {
        to_pem([&self.der.clone().into()])
    }

    /// As in XFCC and filter state.
    pub fn url_encoded_pem(&self) -> String {
        url_encode(&self.pem())
    }

    /// SHA-256 in hexadecimal, as Envoy has it.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(&self.der))
    }

    /// Another certificate of the same length: `bytes` replaced wherever they are.
    pub fn patched(&self, bytes: &[u8], by: &[u8]) -> Self {
        assert_eq!(bytes.len(), by.len());
        let mut der = self.der.clone();
        let mut found = false;
        for start in 0..=der.len() - bytes.len() {
            if der[start..].starts_with(bytes) {
                der[start..start + by.len()].copy_from_slice(by);
                found = true;
            }
        }
        assert!(found, "nothing to patch");
        Self {
            der,
            ..self.clone()
        }
    }
}

/// A leaf to be signed. What is not said is as in a mesh workload's certificate.
pub struct Leaf {
    builder: LeafBuilder,
    lifetime: Lifetime,
}

impl Leaf {
    /// With one URI SAN.
    pub fn new(identity: &str) -> Self {
        Self::nameless().with(|leaf| leaf.uri(identity))
    }

    /// Without any name.
    pub fn nameless() -> Self {
        Self {
            builder: CA.leaf().key(&KEY),
            lifetime: from_start(0, 90 * DAY),
        }
    }

    /// With what else the builder can do.
    pub fn with(mut self, set: impl FnOnce(LeafBuilder) -> LeafBuilder) -> Self {
        self.builder = set(self.builder);
        self
    }

    /// Validity in seconds from the start of the tests.
    pub fn valid(mut self, from: i64, to: i64) -> Self {
        self.lifetime = from_start(from, to);
        self
    }

    /// Validity from and to such times (RFC 3339).
    pub fn between(mut self, from: &str, to: &str) -> Self {
        let seconds = |time: &str| {
            time.parse::<mtls_watch_x509::time::UnixTime>()
                .expect("a time")
                .0
        };
        self.lifetime = Lifetime {
            not_before: seconds(from),
            not_after: seconds(to),
        };
        self
    }

    pub fn common_name(self, common_name: &str) -> Self {
        self.with(|leaf| leaf.common_name(common_name))
    }

    pub fn usages(self, usages: &[ExtendedKeyUsage]) -> Self {
        self.with(|leaf| leaf.extended_key_usages(usages))
    }

    pub fn sign(self) -> Certificate {
        let signed = self.builder.lifetime(self.lifetime).issue();
        let gauge = |seconds| u64::try_from(seconds).unwrap_or(0);
        Certificate {
            der: signed.expect("a signed leaf").der().to_vec(),
            not_before: gauge(self.lifetime.not_before),
            not_after: gauge(self.lifetime.not_after),
        }
    }
}

/// Percent-encodes all but letters and digits, of which Envoy encodes a part.
pub fn url_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

fn from_start(from: i64, to: i64) -> Lifetime {
    let start = i64::try_from(START).expect("a date of this age");
    Lifetime {
        not_before: start + from,
        not_after: start + to,
    }
}
