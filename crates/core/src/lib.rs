//! mtls-watch: reads the certificate of every mTLS peer of an Envoy and reports, in Envoy's own stats,
//! which certificate, at which layer of the hierarchy, will break mTLS.
//!
//! One way through the house: bytes ([`source`]) become facts ([`certificate`]), are put in order
//! ([`chain`]), judged ([`policy`]) and leave as series ([`metrics`]) and log lines ([`report`]).
//! [`handshake`] does the same for a peer that was refused, [`hierarchy`] for
//! this proxy's own certificates. [`inspector`] walks that way for one connection or request, over the [`host`] trait; `filter`
//! (wasm only) ties it to Proxy-Wasm. Nothing but `filter` knows Proxy-Wasm, and nothing but
//! `certificate` knows the X.509 parser. See docs/architecture.md.

#![deny(missing_docs, unsafe_code, unreachable_pub)]
// A panic kills the VM of its worker, for every stream on it: none may be written by accident.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::disallowed_methods,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable
    )
)]

pub mod config;
pub mod handshake;
pub mod hash;
pub mod host;
pub mod inspector;
pub mod metrics;
pub mod own;
pub mod policy;
pub mod report;
pub mod source;
pub mod terms;

/// Version of the module, as in `mtls_watch_info{version}`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
