//! Certificates, good and bad.

use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::host::START;

pub const DAY: i64 = 86_400;

/// The CN of the CA that signs every leaf here.
const ISSUER: &str = "Issuing CA";

static CA: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(ISSUER);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (at(-100 * DAY), at(3650 * DAY));
    CertifiedIssuer::self_signed(params, key()).expect("a CA")
});

/// One key for all leaves: making a key is what takes time, and no test looks at it.
static KEY: LazyLock<KeyPair> = LazyLock::new(key);

fn key() -> KeyPair {
    KeyPair::generate().expect("a P-256 key")
}

/// That CA as a label value: its name and the beginning of its key identifier.
pub fn issuer_label() -> String {
    let name = ISSUER.replace(' ', "_");
    format!("{name}:{}", hexadecimal(&issuer_key()[..4]))
}

/// That CA's key identifier.
pub fn issuer_key() -> Vec<u8> {
    CertificateParams::default().key_identifier(CA.key())
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
        let block = pem::Pem::new("CERTIFICATE", self.der.clone());
        pem::encode_config(
            &block,
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        )
    }

    /// As in XFCC and filter state.
    pub fn url_encoded_pem(&self) -> String {
        url_encode(&self.pem())
    }

    /// SHA-256 in hexadecimal, as Envoy has it.
    pub fn digest(&self) -> String {
        hexadecimal(&Sha256::digest(&self.der))
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
    params: CertificateParams,
}

impl Leaf {
    /// With one URI SAN.
    pub fn new(identity: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(identity)];
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        Self { params }.valid(0, 90 * DAY)
    }

    /// Validity in seconds from the start of the tests.
    pub fn valid(mut self, from: i64, to: i64) -> Self {
        (self.params.not_before, self.params.not_after) = (at(from), at(to));
        self
    }

    pub fn years(mut self, from: i32, to: i32) -> Self {
        self.params.not_before = rcgen::date_time_ymd(from, 1, 1);
        self.params.not_after = rcgen::date_time_ymd(to, 12, 31);
        self
    }

    pub fn common_name(mut self, common_name: &str) -> Self {
        self.params.distinguished_name = name(common_name);
        self
    }

    pub fn subject_alt_names(mut self, names: Vec<SanType>) -> Self {
        self.params.subject_alt_names = names;
        self
    }

    pub fn usages(mut self, usages: &[ExtendedKeyUsagePurpose]) -> Self {
        self.params.extended_key_usages = usages.to_vec();
        self
    }

    pub fn sign(self) -> Certificate {
        let signed = self.params.signed_by(&*KEY, &CA).expect("a signed leaf");
        Certificate {
            der: signed.der().to_vec(),
            not_before: seconds(self.params.not_before),
            not_after: seconds(self.params.not_after),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("ASCII"))
}

pub fn dns(name: String) -> SanType {
    SanType::DnsName(name.try_into().expect("ASCII"))
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

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn at(offset: i64) -> OffsetDateTime {
    let start = i64::try_from(START).expect("a date of this age");
    OffsetDateTime::from_unix_timestamp(start + offset).expect("a date")
}

fn seconds(time: OffsetDateTime) -> u64 {
    u64::try_from(time.unix_timestamp()).unwrap_or(0)
}
