//! Certificate authorities for istiod to sign with.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pki::{Ca, DAY, Identity, Lifetime, MINUTE};

use crate::kubectl::{apply, kubectl, run};

/// A CA with its key, and the name that it has in the metrics.
#[derive(Clone, Debug)]
pub struct Authority {
    common_name: String,
    ca: Ca,
}

impl Authority {
    /// A root of ten years.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn root(common_name: &str) -> Result<Self> {
        let ca = Ca::root(common_name).issue()?;
        Ok(Self {
            common_name: common_name.to_owned(),
            ca,
        })
    }

    /// A CA under this one that ends in so many seconds. It began two minutes ago, as istiod does it.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn intermediate(&self, common_name: &str, seconds: i64) -> Result<Self> {
        let lifetime = Lifetime::from_now(-2 * MINUTE, seconds);
        let ca = self
            .ca
            .subordinate(common_name)
            .lifetime(lifetime)
            .issue()?;
        Ok(Self {
            common_name: common_name.to_owned(),
            ca,
        })
    }

    /// The same root with another certificate: its name and its key, and twenty years from now.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn renewed(&self) -> Result<Self> {
        let lifetime = Lifetime::from_now(-2 * MINUTE, 7300 * DAY);
        let ca = Ca::root(&self.common_name)
            .key(self.ca.key())
            .lifetime(lifetime)
            .issue()?;
        Ok(Self {
            common_name: self.common_name.clone(),
            ca,
        })
    }

    /// A leaf for clients and servers with this URI SAN.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn leaf(&self, uri: &str) -> Result<Identity> {
        self.ca.leaf().uri(uri).issue()
    }

    /// A server's leaf with this name.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn server(&self, host: &str) -> Result<Identity> {
        self.ca.leaf().dns(host).issue()
    }

    /// The certificate.
    #[must_use]
    pub fn pem(&self) -> String {
        self.ca.pem()
    }

    /// The common name.
    #[must_use]
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// Certificate, key and root in the files of which istiod's secret `cacerts` is made.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write_as_cacerts(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join("ca-cert.pem"), self.pem())?;
        fs::write(folder.join("cert-chain.pem"), self.pem())?;
        fs::write(folder.join("ca-key.pem"), self.ca.key().pkcs8_pem()?)?;
        Ok(())
    }

    /// The SHA-256 of the certificate, as OpenSSL prints it.
    ///
    /// # Errors
    /// If there is no OpenSSL.
    pub fn sha256(&self) -> Result<String> {
        sha256(&self.pem())
    }

    /// As the module names it: common name and the beginning of the key identifier.
    #[must_use]
    pub fn ca_name(&self) -> String {
        let mut identifier = self.ca.key_identifier();
        identifier.truncate(8);
        format!("{}:{identifier}", self.common_name.replace(' ', "_"))
    }
}

/// The SHA-256 of a certificate, as OpenSSL prints it.
///
/// # Errors
/// If it is no certificate, or there is no OpenSSL.
pub fn sha256(pem: &str) -> Result<String> {
    let fingerprint = ["x509", "-noout", "-fingerprint", "-sha256"];
    let line = run("openssl", &fingerprint, Some(pem))?;
    let digits = line.trim().split_once('=').context("no fingerprint")?.1;
    Ok(digits.to_owned())
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
        self.apply_with_chain(&[])
    }

    /// The same with these certificates in `cert-chain.pem` too: every workload sends them along with its leaf.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn apply_with_chain(&self, passengers: &[&Authority]) -> Result<()> {
        let pem = |cas: &[&Authority]| cas.iter().map(|ca| ca.pem()).collect::<String>();
        let secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "cacerts", "namespace": "istio-system"},
            "stringData": {
                "ca-cert.pem": self.signer.pem(),
                "ca-key.pem": self.signer.ca.key().pkcs8_pem()?,
                "cert-chain.pem": self.signer.pem() + &pem(passengers),
                "root-cert.pem": pem(self.roots),
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
    let delete = [
        "delete",
        "secret",
        "cacerts",
        "--namespace",
        "istio-system",
        "--ignore-not-found",
    ];
    kubectl(&delete).map(drop)
}
