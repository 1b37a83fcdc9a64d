//! What is read of a reply, and why one says nothing.

use std::fmt;

/// Longest reply that is read.
pub const MAX_REPLY_BYTES: usize = 32 * 1024 * 1024;

/// Longest part that is kept. A bundle with every public root has a quarter of that.
pub(super) const MAX_PART_BYTES: usize = 1024 * 1024;

/// Why a reply says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// The reply, or one certificate, secret or TLS context in it, is longer than is read: so many bytes.
    TooLarge(usize),
    /// The HTTP status is not 200.
    Status(String),
    /// Not the JSON that is expected.
    Json,
    /// No reply: time-out, reset, or no such cluster.
    None,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(bytes) => write!(
                f,
                "{bytes} bytes: more than the {MAX_REPLY_BYTES} of a reply, or the {MAX_PART_BYTES} of one secret"
            ),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Json => f.write_str("not the JSON of Envoy's admin interface"),
            Self::None => f.write_str("no reply"),
        }
    }
}

impl std::error::Error for ReplyError {}
