//! The words that everyone uses: who is judged, what is found, what follows from it.
//!
//! This module knows nothing of the others, so that all of them can use it.

mod acceptance;
mod finding;
mod status;
pub(crate) mod threshold;

use strum::{IntoStaticStr, VariantArray};

pub use acceptance::{Acceptance, IdentityForm};
pub use finding::{Finding, Findings, found};
pub use mtls_watch_x509::chain::Layer;
pub use status::Status;
pub use threshold::{Threshold, Thresholds, parse_duration};

/// On which side of this proxy the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Direction {
    /// The peer is a client that connected to this proxy (Envoy: downstream).
    Inbound,
    /// The peer is a server this proxy connected to (Envoy: upstream).
    Outbound,
}

impl Direction {
    /// All values.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Security {
    /// TLS with a certificate of the peer, and one of this proxy.
    Mtls,
    /// TLS without a certificate of the client.
    Tls,
    /// No TLS.
    Plaintext,
    /// Inside an Istio HBONE tunnel: the peer's identity is known from filter state only.
    Hbone,
}

impl Security {
    /// All values.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Where a certificate was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Source {
    /// Envoy's own attribute (`connection.peer_certificate`, `upstream.peer_certificate`; Envoy 1.38
    /// or later).
    Attribute,
    /// A filter state object that Envoy's set_filter_state filter wrote (Envoy 1.37 or later).
    FilterState,
    /// The header `x-forwarded-client-cert`, of which only the last element is this hop's.
    Xfcc,
    /// The admin interface: this proxy's own certificates.
    Hierarchy,
}

impl Source {
    /// All values.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The sources of peer certificates, which `certificate_sources` may name.
    pub const CONFIGURABLE: [Source; 3] = [Source::Attribute, Source::FilterState, Source::Xfcc];

    /// The label value, and the word in `certificate_sources`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
