//! The certificate authorities of the drill: roots that the proxies trust, and an issuing CA under each.

use anyhow::Result;
use testbed::pki::{Lifetime, to_pem};
use testbed::{Ca, Identity};

/// A root, and the issuing CA under it that signs the workloads' leaves.
pub struct Authority {
    root_name: String,
    issuing_name: String,
    /// What a trust bundle has.
    pub root: Ca,
    issuing: Ca,
}

impl Authority {
    /// Issues both certificates under these common names.
    pub fn new(root: &str, issuing: &str) -> Result<Self> {
        let root_name = root;
        let root = Ca::root(root).issue()?;
        let issuing_name = issuing;
        let issuing = root.subordinate(issuing).issue()?;
        Ok(Self {
            root_name: name(root_name, &root),
            issuing_name: name(issuing_name, &issuing),
            root,
            issuing,
        })
    }

    /// The root's name, as log lines have it. Labels have `_` for the spaces.
    pub fn root_name(&self) -> &str {
        &self.root_name
    }

    /// The issuing CA's name, likewise.
    pub fn issuing_name(&self) -> &str {
        &self.issuing_name
    }

    /// A leaf for a workload.
    pub fn leaf(&self, workload: &str, lifetime: Lifetime) -> Result<Identity> {
        let spiffe_id = format!("spiffe://cluster.local/ns/shop/sa/{workload}");
        self.issuing
            .leaf()
            .uri(&spiffe_id)
            .lifetime(lifetime)
            .issue()
    }

    /// Both certificates, for `rotation-status --cas`.
    pub fn pem(&self) -> String {
        to_pem([self.root.der(), self.issuing.der()])
    }
}

fn name(common_name: &str, ca: &Ca) -> String {
    format!("{common_name}:{}", &ca.key_identifier()[..8])
}

/// A name of a CA as it is in labels.
pub fn label(name: &str) -> String {
    name.replace(' ', "_")
}
