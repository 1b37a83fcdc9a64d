//! Which bytes are the peer's certificate, and where from.

pub mod read;
pub mod xfcc;

/// Where a certificate was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
