//! Which extended key usages a certificate must allow: the one place for that rule.
//!
//! As BoringSSL judges it (crypto/x509/v3_purp.cc): anyExtendedKeyUsage stands for neither clientAuth nor serverAuth,
//! and a certificate without the extension may be used for both.

use mtls_watch_x509::spiffe::Svid;
use mtls_watch_x509::{Certificate, ExtendedKeyUsage};

use crate::terms::{Direction, Finding, Findings, found};

/// The usages that an extended key usage extension must have, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequiredUsages {
    client_auth: bool,
    server_auth: bool,
}

impl RequiredUsages {
    /// What a handshake with a peer on that side needs: a client clientAuth, a server serverAuth.
    #[must_use]
    pub const fn of_handshake(direction: Direction) -> Self {
        Self {
            client_auth: matches!(direction, Direction::Inbound),
            server_auth: matches!(direction, Direction::Outbound),
        }
    }

    /// What the chain of a peer needs: that of the handshake; both where the leaf has a SPIFFE ID, for a mesh workload is
    /// client and server (X509-SVID, section 4.4).
    #[must_use]
    pub fn of_peer(leaf: &Certificate, direction: Direction) -> Self {
        let handshake = Self::of_handshake(direction);
        let workload = is_workload(leaf);
        Self {
            client_auth: workload || handshake.client_auth,
            server_auth: workload || handshake.server_auth,
        }
    }

    /// What this proxy's own chain needs: both for a mesh workload. `None` for any other certificate: whether the proxy
    /// uses it as client or as server is not known.
    #[must_use]
    pub fn of_own(leaf: &Certificate) -> Option<Self> {
        is_workload(leaf).then_some(Self {
            client_auth: true,
            server_auth: true,
        })
    }

    /// The usages that are missing, as findings.
    #[must_use]
    pub fn missing(self, usage: ExtendedKeyUsage) -> Findings {
        found([
            (
                Finding::ClientAuthMissing,
                self.client_auth && !usage.client_auth,
            ),
            (
                Finding::ServerAuthMissing,
                self.server_auth && !usage.server_auth,
            ),
        ])
    }
}

/// Whether the leaf is, or claims to be, an X.509-SVID.
fn is_workload(leaf: &Certificate) -> bool {
    leaf.spiffe != Svid::No
}
