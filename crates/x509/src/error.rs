//! Why bytes are no certificate.

use std::fmt;

/// Longest DER that is parsed. Real certificates have one to three KB; Envoy itself refuses chains
/// above a handshake message's limit.
pub const MAX_DER_BYTES: usize = 64 * 1024;

/// Why bytes are no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// More than [`MAX_DER_BYTES`]: this many.
    TooLarge(usize),
    /// Not the DER of a certificate, or not as strictly as BoringSSL wants it.
    Der,
    /// This many bytes follow the certificate.
    TrailingBytes(usize),
    /// An extension that mTLS depends on is not readable: its name.
    Extension(&'static str),
    /// An extension that mTLS depends on is there more than once: its name.
    RepeatedExtension(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(bytes) => {
                write!(f, "{bytes} bytes of DER, more than {MAX_DER_BYTES}")
            }
            Self::Der => f.write_str("not the DER of an X.509 certificate"),
            Self::TrailingBytes(bytes) => write!(f, "{bytes} bytes after the certificate"),
            Self::Extension(name) => write!(f, "unreadable extension {name}"),
            Self::RepeatedExtension(name) => write!(f, "extension {name} is there more than once"),
        }
    }
}

impl std::error::Error for ParseError {}
