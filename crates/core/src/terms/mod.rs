//! The words that everyone uses: who is judged, what is found, what follows from it.
//!
//! This module knows nothing of the others, so that all of them can use it.

mod finding;
pub(crate) mod threshold;

pub use finding::{Finding, Findings};
pub use mtls_watch_x509::chain::Layer;
pub use threshold::{Threshold, Thresholds};

/// On which side of this proxy the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer is a client that connected to this proxy (Envoy: downstream).
    Inbound,
    /// The peer is a server this proxy connected to (Envoy: upstream).
    Outbound,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// How a peer stands at a moment, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// Nothing found that needs anyone.
    Ok,
    /// Something to mend in time.
    Warning,
    /// mTLS is about to break, or breaks with stricter peers.
    Critical,
    /// Not valid before a time that has not come.
    NotYetValid,
    /// Past its end.
    Expired,
    /// The peer has a certificate that could not be read.
    Unreadable,
    /// The peer has shown no certificate.
    NoCertificate,
    /// The peer's identity is known from Istio's HBONE tunnel only, its certificate is not.
    Hbone,
}

impl Status {
    /// All values.
    pub const ALL: [Status; 8] = [
        Status::Ok,
        Status::Warning,
        Status::Critical,
        Status::NotYetValid,
        Status::Expired,
        Status::Unreadable,
        Status::NoCertificate,
        Status::Hbone,
    ];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Unreadable => "unreadable",
            Self::NoCertificate => "no_certificate",
            Self::Hbone => "hbone",
        }
    }
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS with a certificate of the peer.
    Mtls,
    /// TLS without a certificate of the peer.
    Tls,
    /// No TLS.
    Plaintext,
    /// Inside an Istio HBONE tunnel: the peer's identity is known from filter state only.
    Hbone,
}

impl Security {
    /// All values.
    pub const ALL: [Security; 4] = [
        Security::Mtls,
        Security::Tls,
        Security::Plaintext,
        Security::Hbone,
    ];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Tls => "tls",
            Self::Plaintext => "plaintext",
            Self::Hbone => "hbone",
        }
    }
}

/// Where a certificate was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Envoy's own attribute (`connection.peer_certificate`, `upstream.peer_certificate`; Envoy 1.38
    /// or later).
    Attribute,
    /// A filter state object that Envoy's set_filter_state filter wrote (Envoy 1.37 or later).
    FilterState,
    /// The header `x-forwarded-client-cert`, of which only the last element is this hop's.
    Xfcc,
    /// The admin interface: this proxy's own certificates.
    #[serde(skip_deserializing)]
    Hierarchy,
}

impl Source {
    /// All sources.
    pub const ALL: [Source; 4] = [
        Source::Attribute,
        Source::FilterState,
        Source::Xfcc,
        Source::Hierarchy,
    ];

    /// The sources of peer certificates, which `certificate_sources` may name.
    pub const CONFIGURABLE: [Source; 3] = [Source::Attribute, Source::FilterState, Source::Xfcc];

    /// The label value, and the word in `certificate_sources`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attribute => "attribute",
            Self::FilterState => "filter_state",
            Self::Xfcc => "xfcc",
            Self::Hierarchy => "hierarchy",
        }
    }
}
