//! Certificate authorities for istiod to sign with.

use anyhow::Result;
use pki::{Ca, Identity, Lifetime, MINUTE};

use crate::kubectl::{apply, kubectl};

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

    /// As the module names it: common name and the beginning of the key identifier.
    #[must_use]
    pub fn ca_name(&self) -> String {
        let mut identifier = self.ca.key_identifier();
        identifier.truncate(8);
        format!("{}:{identifier}", self.common_name.replace(' ', "_"))
    }
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
                "ca-key.pem": self.signer.ca.key().pkcs8_pem()?,
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
