//! The demo's certificates, and beside each what mtls-watch is expected to say of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;
use testbed::pki::{
    CaBuilder, DAY, ExtendedKeyUsage, HOUR, KeyKind, LeafBuilder, Lifetime, TrustBundle,
};
use testbed::servers::ServerTls;
use testbed::{Ca, Identity};

use crate::table::Row;

/// A workload that has a sidecar.
pub const WEB: &str = "web";
/// The other one.
pub const CART: &str = "cart";

/// Requests of a workload on a connection that is kept alive.
pub const REQUESTS_KEPT_ALIVE: u64 = 5;
/// Requests that each workload sends or receives: those, and one on a connection of its own.
pub const REQUESTS: u64 = REQUESTS_KEPT_ALIVE + 1;

/// The trust domain of the workloads.
pub const TRUST_DOMAIN: &str = "spiffe://cluster.local/";

const YEAR: i64 = 365 * DAY;

/// A certificate authority of the demo.
pub struct Authority {
    name: &'static str,
    layer: &'static str,
    ca: Ca,
    lifetime: Lifetime,
    expected: Expected,
}

/// What a certificate's own findings make of it.
#[derive(Clone, Copy)]
struct Expected {
    status: &'static str,
    findings: &'static [&'static str],
}

const HEALTHY: Expected = Expected {
    status: "ok",
    findings: &[],
};

impl Authority {
    fn issue(
        name: &'static str,
        layer: &'static str,
        builder: CaBuilder,
        lifetime: Lifetime,
        expected: Expected,
    ) -> Result<Self> {
        Ok(Self {
            name,
            layer,
            ca: builder.lifetime(lifetime).issue()?,
            lifetime,
            expected,
        })
    }

    /// The CA's name in the metrics: its common name as a label value, and the beginning of its key
    /// identifier.
    fn label(&self) -> String {
        let name = self.name.replace(' ', "_");
        format!("{name}:{}", &self.ca.key_identifier()[..8])
    }

    /// Only the chains of clients are seen, and no request is a CA's own.
    fn expected_row(&self) -> Row {
        Row {
            direction: "inbound".to_owned(),
            identity: self.label(),
            layer: self.layer.to_owned(),
            issuer: None,
            not_after: self.lifetime.not_after,
            status: self.expected.status.to_owned(),
            findings: owned(self.expected.findings),
            requests: None,
        }
    }
}

/// The demo's certificate authorities.
pub struct Pki {
    root: Authority,
    zone: Authority,
    app: Authority,
    /// Like `app`, but about to end.
    old: Authority,
}

impl Pki {
    /// Issues the CAs.
    pub fn new() -> Result<Self> {
        let root = Authority::issue(
            "Root CA",
            "root_ca",
            Ca::root("Root CA"),
            Lifetime::from_now(-5 * YEAR, 5 * YEAR),
            HEALTHY,
        )?;
        let zone = Authority::issue(
            "Zone CA",
            "intermediate_ca",
            root.ca.subordinate("Zone CA"),
            Lifetime::from_now(-YEAR, 2 * YEAR),
            HEALTHY,
        )?;
        let app = Authority::issue(
            "App CA",
            "issuing_ca",
            zone.ca.subordinate("App CA"),
            Lifetime::from_now(-90 * DAY, 275 * DAY),
            HEALTHY,
        )?;
        let old = Authority::issue(
            "Old CA",
            "issuing_ca",
            zone.ca.subordinate("Old CA"),
            Lifetime::from_now(-345 * DAY, 20 * DAY),
            Expected {
                status: "warning",
                findings: &["expires_warning"],
            },
        )?;
        Ok(Self {
            root,
            zone,
            app,
            old,
        })
    }

    /// What every peer trusts.
    pub fn trust_bundle(&self) -> TrustBundle {
        TrustBundle::of([&self.root.ca])
    }

    /// The CA that issues the workloads' certificates.
    pub fn app(&self) -> &Ca {
        &self.app.ca
    }

    /// The rows that the CAs should have in the table.
    pub fn expected_rows(&self) -> impl Iterator<Item = Row> {
        let all = [&self.root, &self.zone, &self.app, &self.old];
        all.into_iter().map(Authority::expected_row)
    }
}

/// What a workload does with its certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A sidecar presents it, to servers and to clients.
    Sidecar,
    /// A client without a sidecar presents it.
    Client,
    /// A server without a sidecar presents it.
    Server,
}

/// A workload with its certificate.
pub struct Workload {
    /// The name of its service account.
    pub name: &'static str,
    /// What is special about its certificate.
    pub about: &'static str,
    /// Who presents the certificate.
    pub role: Role,
    /// The certificate, its key and its CAs.
    pub identity: Identity,
    spiffe_id: String,
    issuer: String,
    not_after: i64,
    expected: Expected,
}

/// A workload without its certificate.
struct Plan<'a> {
    name: &'static str,
    about: &'static str,
    role: Role,
    spiffe_path: String,
    issuer: &'a Authority,
    lifetime: Lifetime,
    change: fn(LeafBuilder) -> LeafBuilder,
    expected: Expected,
}

/// The workloads, healthy ones first: a CA is judged by what its first leaf brings with it.
pub fn workloads(pki: &Pki) -> Result<Vec<Workload>> {
    let sound = |name, role| Plan {
        name,
        about: "a sound certificate for 24 hours",
        role,
        spiffe_path: format!("ns/shop/sa/{name}"),
        issuer: &pki.app,
        lifetime: Lifetime::days(1),
        change: |leaf| leaf,
        expected: HEALTHY,
    };
    let plans = [
        sound(WEB, Role::Sidecar),
        sound(CART, Role::Sidecar),
        Plan {
            about: "23 of its 24 hours have passed",
            lifetime: Lifetime::from_now(-23 * HOUR, HOUR),
            expected: Expected {
                status: "critical",
                findings: &["expires_critical"],
            },
            ..sound("pay", Role::Client)
        },
        Plan {
            about: "a server whose certificate allows serverAuth only",
            change: |leaf| leaf.extended_key_usages(&[ExtendedKeyUsage::ServerAuth]),
            expected: Expected {
                status: "critical",
                findings: &["client_auth_missing"],
            },
            ..sound("db", Role::Server)
        },
        Plan {
            about: "no extended key usage extension",
            change: |leaf| leaf.extended_key_usages(&[]),
            expected: Expected {
                status: "ok",
                findings: &["extended_key_usage_absent"],
            },
            ..sound("job", Role::Client)
        },
        Plan {
            about: "a SPIFFE ID with an empty namespace",
            spiffe_path: "ns//sa/mail".to_owned(),
            expected: Expected {
                status: "critical",
                findings: &["spiffe_id_invalid"],
            },
            ..sound("mail", Role::Client)
        },
        Plan {
            about: "an RSA key of 1024 bits",
            change: |leaf| leaf.key_kind(KeyKind::Rsa1024),
            expected: Expected {
                status: "warning",
                findings: &["weak_key"],
            },
            ..sound("erp", Role::Client)
        },
        Plan {
            about: "valid for a year, by a CA that ends in 20 days",
            issuer: &pki.old,
            lifetime: Lifetime::from_now(-HOUR, YEAR),
            expected: Expected {
                status: "warning",
                findings: &["outlives_issuer"],
            },
            ..sound("batch", Role::Client)
        },
    ];
    plans.into_iter().map(Plan::issue).collect()
}

impl Plan<'_> {
    fn issue(self) -> Result<Workload> {
        let spiffe_id = format!("{TRUST_DOMAIN}{}", self.spiffe_path);
        let leaf = self.issuer.ca.leaf();
        let leaf = (self.change)(leaf.uri(&spiffe_id).lifetime(self.lifetime));
        let identity = leaf.issue()?;
        Ok(Workload {
            name: self.name,
            about: self.about,
            role: self.role,
            identity: match self.role {
                // So that the table has a root, too.
                Role::Sidecar => identity.with_root(),
                Role::Client | Role::Server => identity,
            },
            spiffe_id,
            issuer: self.issuer.label(),
            not_after: self.lifetime.not_after,
            expected: self.expected,
        })
    }
}

impl Workload {
    /// Writes `tls.crt`, `tls.key` and `ca.crt` into a directory of its own below `directory`.
    pub fn write_below(&self, directory: &Path, trust: &TrustBundle) -> Result<()> {
        let own = directory.join(self.name);
        fs::create_dir(&own)?;
        self.identity.write_to(&own)?;
        trust.write_to(&own)?;
        Ok(())
    }

    /// Its name and the TLS of it, if it is a server without a sidecar.
    pub fn server(&self, trust: &TrustBundle) -> Option<(&'static str, ServerTls)> {
        let tls = ServerTls::new(&self.identity).requiring_client_certificate(trust);
        (self.role == Role::Server).then_some((self.name, tls))
    }

    /// The rows that the workload should have in the table.
    pub fn expected_rows(&self) -> impl Iterator<Item = Row> {
        let directions: &[&str] = match self.role {
            Role::Sidecar => &["inbound", "outbound"],
            Role::Client => &["inbound"],
            Role::Server => &["outbound"],
        };
        directions.iter().map(|direction| Row {
            direction: (*direction).to_owned(),
            identity: self.spiffe_id.clone(),
            layer: "workload".to_owned(),
            issuer: Some(self.issuer.clone()),
            not_after: self.not_after,
            status: self.expected.status.to_owned(),
            findings: owned(self.expected.findings),
            requests: Some(REQUESTS),
        })
    }
}

fn owned(findings: &[&str]) -> BTreeSet<String> {
    findings.iter().map(|finding| finding.to_string()).collect()
}
