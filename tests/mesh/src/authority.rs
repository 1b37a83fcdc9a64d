//! Certificate authorities for istiod to sign with.

use std::time::Duration;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use crate::kubectl::{apply, kubectl};

const DAY: Duration = Duration::from_secs(86400);

/// A CA with its key.
#[derive(Debug)]
pub struct Authority {
    name: String,
    key_identifier: Vec<u8>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A root of ten years.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn root(name: &str) -> Result<Self> {
        let (parameters, key) = (ca_parameters(name, 3650 * DAY), KeyPair::generate()?);
        let key_identifier = parameters.key_identifier(&key);
        let issuer = CertifiedIssuer::self_signed(parameters, key)?;
        Ok(Self { name: name.to_owned(), key_identifier, issuer })
    }

    /// A CA under this one.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn intermediate(&self, name: &str, lifetime: Duration) -> Result<Self> {
        let (parameters, key) = (ca_parameters(name, lifetime), KeyPair::generate()?);
        let key_identifier = parameters.key_identifier(&key);
        let issuer = CertifiedIssuer::signed_by(parameters, key, &self.issuer)?;
        Ok(Self { name: name.to_owned(), key_identifier, issuer })
    }

    /// A leaf for clientAuth and serverAuth with this URI SAN.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn leaf(&self, uri: &str) -> Result<Leaf> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        (parameters.not_before, parameters.not_after) = validity(DAY);
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Leaf { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// The certificate.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// As the module names it: common name and the beginning of the key identifier.
    #[must_use]
    pub fn ca_name(&self) -> String {
        let bytes = self.key_identifier.iter().take(4);
        let identifier: String = bytes.map(|byte| format!("{byte:02x}")).collect();
        format!("{}:{identifier}", self.name.replace(' ', "_"))
    }
}

fn ca_parameters(name: &str, lifetime: Duration) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "Corp");
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.use_authority_key_identifier_extension = true;
    (parameters.not_before, parameters.not_after) = validity(lifetime);
    parameters
}

/// From a little ago on, as istiod does it.
fn validity(lifetime: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - Duration::from_secs(120), now + lifetime)
}

/// What istiod signs with, as in its secret `cacerts`.
#[derive(Clone, Debug)]
pub struct PluggedIn<'a> {
    /// The CA that signs.
    pub signer: &'a Authority,
    /// The roots that its workloads trust.
    pub roots: &'a [&'a Authority],
}

impl PluggedIn<'_> {
    /// Writes the secret. Whether istiod has to be restarted for it is the scenario's matter.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn apply(&self) -> Result<()> {
        let roots: String = self.roots.iter().map(|root| root.pem()).collect();
        let secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "cacerts", "namespace": "istio-system"},
            "stringData": {
                "ca-cert.pem": self.signer.pem(),
                "ca-key.pem": self.signer.key(),
                "cert-chain.pem": self.signer.pem(),
                "root-cert.pem": roots,
            },
        });
        apply(&secret.to_string())
    }
}

/// Takes the secret away: istiod signs with its own root again, once restarted.
///
/// # Errors
/// If the API server refuses.
pub fn unplug() -> Result<()> {
    kubectl(&["delete", "secret", "cacerts", "--namespace", "istio-system", "--ignore-not-found"]).map(drop)
}
