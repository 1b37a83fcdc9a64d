//! From bytes to facts: PEM and DER are read, certificates are put in order by who signed whom.
//!
//! The only crate of the project that knows the X.509 parser. It judges nothing, and knows neither
//! Envoy nor the time of day.

mod certificate;
pub mod chain;
pub mod describe;
mod error;
mod extension;
pub mod hex;
mod name;
mod parse;
pub mod pem;
pub mod spiffe;
mod structure;
pub mod time;

pub use certificate::{
    Certificate, ExtendedKeyUsage, KeyAlgorithm, KeyUsage, Links, PublicKey, SignatureDigest,
};
pub use error::{MAX_DER_BYTES, ParseError};
pub use parse::parse;
