//! What mtls-watch makes of a peer: findings, a status, series, log lines.
//!
//! Facts of certificates (the crate `mtls-watch-x509`) come in by [`source`], are judged ([`policy`]) and leave as series
//! ([`metrics`]) and log lines ([`report`]). [`handshake`] explains a handshake that was refused, [`own`] reads this proxy's own
//! certificates. [`inspector`] does all of that for one connection or request, over the trait [`host::Host`]: this crate
//! knows neither Proxy-Wasm nor a clock. [`terms`] has the words that all of them use. See docs/architecture.md.

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

pub mod bounded;
pub mod config;
pub mod handshake;
pub mod hash;
pub mod host;
pub mod inspector;
mod json;
pub mod metrics;
pub mod own;
pub mod policy;
pub mod report;
pub mod source;
pub mod terms;
pub mod usage;

/// Version of the module, as in `mtls_watch_info{version}`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
