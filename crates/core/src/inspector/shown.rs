//! What filter state `wasm.mtls_watch.*` says: access logs read it there.

use std::rc::Rc;

use super::peer::{Peer, Posture};
use crate::host::Host;
use crate::terms::Status;

/// Filter state with the peer's status; `wasm.` comes before it in access logs.
pub(super) const STATUS: &str = "mtls_watch.status";

/// Status, identity and findings in filter state.
pub(super) type Names = [&'static str; 3];

/// Of the peer: the client where it is inspected, else the server.
pub(super) const PEER: Names = [STATUS, "mtls_watch.identity", "mtls_watch.findings"];

/// Of the server.
pub(super) const SERVER: Names = [
    "mtls_watch.upstream_status",
    "mtls_watch.upstream_identity",
    "mtls_watch.upstream_findings",
];

/// What is said of a peer.
#[derive(Clone, Default)]
pub(super) enum Shown {
    /// Nothing is known, or nothing was said yet.
    #[default]
    Nothing,
    /// It showed no certificate.
    Anonymous(Status),
    /// It did, and stands so.
    Certified(Rc<Peer>, Rc<Posture>),
}

impl Shown {
    /// Writes it. `before` is what filter state says now: what it leaves behind is cleared.
    pub(super) fn write(&self, host: &dyn Host, names: Names, before: &Shown) {
        let values: [&str; 3] = match self {
            Self::Nothing => [""; 3],
            Self::Anonymous(status) => [status.as_str(), "", ""],
            Self::Certified(peer, posture) => {
                [posture.status.as_str(), peer.identity(), &posture.names]
            }
        };
        let clears = matches!(before, Self::Certified(..));
        let certified = matches!(self, Self::Certified(..));
        for (position, (name, value)) in names.into_iter().zip(values).enumerate() {
            if certified || clears || position == 0 {
                host.set_filter_state(name, value.as_bytes());
            }
        }
    }

    /// Whether both say the same, as far as can be told without a look at the words.
    pub(super) fn is(&self, other: &Shown) -> bool {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => true,
            (Self::Anonymous(status), Self::Anonymous(other)) => status == other,
            (Self::Certified(peer, posture), Self::Certified(other, its)) => {
                Rc::ptr_eq(peer, other) && Rc::ptr_eq(posture, its)
            }
            _ => false,
        }
    }
}
