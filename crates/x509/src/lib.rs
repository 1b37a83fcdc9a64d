//! From bytes to facts: PEM and DER are read, certificates are put in order by who signed whom.
//!
//! The only crate of the project that knows the X.509 parser. x509-parser reads the values, behind a check that
//! is as strict as BoringSSL: what is read here, Envoy loads. It judges nothing, and knows neither Envoy nor the
//! time of day.

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

mod certificate;
pub mod chain;
pub mod crl;
pub mod describe;
mod error;
mod extension;
pub mod hex;
mod name;
mod parse;
pub mod pem;
pub mod spiffe;
mod strict;
mod structure;
pub mod time;
mod usage;

pub use certificate::{Certificate, KeyAlgorithm, Links, PublicKey, SignatureDigest};
pub use error::{MAX_DER_BYTES, ParseError};
pub use parse::parse;
pub use usage::{ExtendedKeyUsage, KeyUsage};
