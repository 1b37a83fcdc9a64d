//! Peers that are refused, and beside each what mtls-watch is expected to say of it.

use std::fmt;
use std::net::SocketAddr;

use anyhow::Result;
use testbed::pki::{ExtendedKeyUsage, KeyUsage, Lifetime, TrustBundle};
use testbed::servers::ServerTls;
use testbed::{Ca, Client, TlsVersion};

use super::refusal::{ATTEMPTS, Refusal};
use crate::mesh::Mesh;
use crate::workloads::{Pki, TRUST_DOMAIN};

/// A peer that is refused, or refuses.
pub struct Case {
    /// The name of its service account.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    peer: Peer,
    expected: Expected,
}

/// How it takes part.
enum Peer {
    /// It connects to a sidecar.
    Client(Client),
    /// A sidecar connects to it.
    Server(ServerTls),
}

/// What mtls-watch is to say.
struct Expected {
    reason: &'static str,
    layer: &'static str,
    who: Who,
    /// What tells this hint from others.
    hint: &'static str,
}

/// Whom the log line names.
enum Who {
    /// The identity of the refused certificate.
    Identity(String),
    /// The certificate cannot be read, or there is none.
    Address,
}

/// All cases.
pub fn cases(pki: &Pki) -> Result<Vec<Case>> {
    let spiffe_id = |name| format!("{TRUST_DOMAIN}ns/shop/sa/{name}");
    let leaf = |ca: &Ca, name| ca.leaf().uri(&spiffe_id(name));
    let vendor = Ca::root("Vendor CA").issue()?;
    // A CA that has been replaced under its name, as have those above it.
    let rotated = Pki::new()?;
    let bank = Ca::root("Bank CA").issue()?;
    Ok(vec![
        Case {
            name: "invoice",
            about: "a client whose certificate allows serverAuth only",
            peer: Peer::Client(Client::mtls(
                &leaf(pki.app(), "invoice")
                    .extended_key_usages(&[ExtendedKeyUsage::ServerAuth])
                    .issue()?,
            )),
            expected: Expected {
                reason: "client_auth_missing",
                layer: "workload",
                who: Who::Identity(spiffe_id("invoice")),
                hint: "add clientAuth",
            },
        },
        Case {
            name: "report",
            about: "a client whose certificate has expired two days ago",
            peer: Peer::Client(Client::mtls(
                &leaf(pki.app(), "report")
                    .lifetime(Lifetime::days(-2))
                    .issue()?,
            )),
            expected: Expected {
                reason: "expired",
                layer: "workload",
                who: Who::Identity(spiffe_id("report")),
                hint: "expired since",
            },
        },
        Case {
            name: "orders",
            about: "a client with a certificate of a CA that is not trusted",
            peer: Peer::Client(Client::mtls(
                &vendor
                    .leaf()
                    .uri("spiffe://vendor.example/orders")
                    .issue()?,
            )),
            expected: Expected {
                reason: "unknown_ca",
                layer: "workload",
                who: Who::Identity("spiffe://vendor.example/orders".to_owned()),
                hint: "Vendor CA",
            },
        },
        Case {
            name: "search",
            about: "a client with a certificate of a CA that has a known name, but a new key",
            peer: Peer::Client(Client::mtls(&leaf(rotated.app(), "search").issue()?)),
            expected: Expected {
                reason: "unknown_ca",
                // The new Zone CA: what signed it is not trusted.
                layer: "intermediate_ca",
                who: Who::Identity(spiffe_id("search")),
                hint: "a new key under the same name",
            },
        },
        Case {
            name: "sync",
            about: "a client whose certificate lacks digitalSignature",
            peer: Peer::Client(Client::mtls(
                &leaf(pki.app(), "sync")
                    .key_usages(&[KeyUsage::KeyEncipherment])
                    .issue()?,
            )),
            expected: Expected {
                reason: "key_usage",
                layer: "workload",
                // In TLS 1.3 Envoy forgets such a certificate before anyone can read it.
                who: Who::Address,
                hint: "add digitalSignature",
            },
        },
        Case {
            name: "legacy",
            about: "a client without a certificate",
            peer: Peer::Client(Client::tls()),
            expected: Expected {
                reason: "no_certificate",
                layer: "none",
                who: Who::Address,
                hint: "give the client a certificate",
            },
        },
        Case {
            name: "nagios",
            about: "a client that speaks plaintext",
            peer: Peer::Client(Client::plaintext()),
            expected: Expected {
                reason: "not_tls",
                layer: "none",
                who: Who::Address,
                hint: "use TLS",
            },
        },
        Case {
            name: "stock",
            about: "a server whose certificate has expired",
            peer: Peer::Server(ServerTls::new(
                &leaf(pki.app(), "stock")
                    .lifetime(Lifetime::days(-2))
                    .issue()?,
            )),
            expected: Expected {
                reason: "expired",
                layer: "workload",
                who: Who::Address,
                hint: "renew the expired certificate",
            },
        },
        Case {
            name: "bank",
            about: "a TLS 1.3 server that does not trust the CA of the sidecar",
            peer: Peer::Server(
                ServerTls::new(&leaf(pki.app(), "bank").issue()?)
                    .version(TlsVersion::V1_3)
                    .requiring_client_certificate(&TrustBundle::of([&bank])),
            ),
            expected: Expected {
                reason: "rejected_by_peer",
                layer: "none",
                who: Who::Address,
                hint: "look at the other side's log",
            },
        },
    ])
}

impl Case {
    /// Its name and its TLS, if it is a server.
    pub fn server(&self) -> Option<(&'static str, ServerTls)> {
        match &self.peer {
            Peer::Client(_) => None,
            Peer::Server(tls) => Some((self.name, tls.clone())),
        }
    }

    /// One handshake that fails.
    pub fn attempt(&self, mesh: &Mesh) -> Result<()> {
        match &self.peer {
            Peer::Client(client) => mesh.refuses(client),
            Peer::Server(_) => mesh.cannot_call(self.name),
        }
    }

    /// Whether the refusals that were seen are the expected one.
    pub fn is_explained_by(&self, refusals: &[Refusal]) -> bool {
        let [refusal] = refusals else {
            return false;
        };
        let Some(report) = &refusal.report else {
            return false;
        };
        let who_is_right = match &self.expected.who {
            Who::Identity(identity) => report.who == *identity,
            Who::Address => report.who.parse::<SocketAddr>().is_ok(),
        };
        who_is_right
            && refusal.direction == self.direction()
            && refusal.layer == self.expected.layer
            && refusal.reason == self.expected.reason
            && refusal.count == ATTEMPTS
            && report.hint.contains(self.expected.hint)
    }

    fn direction(&self) -> &'static str {
        match self.peer {
            Peer::Client(_) => "inbound",
            Peer::Server(_) => "outbound",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expected {
            reason,
            layer,
            who,
            hint,
        } = &self.expected;
        let who = match who {
            Who::Identity(identity) => identity,
            Who::Address => "an address",
        };
        let direction = self.direction();
        write!(
            f,
            "{direction} {reason} of {layer}, {ATTEMPTS} times, {who}: …{hint}…"
        )
    }
}
