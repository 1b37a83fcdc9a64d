//! Which bytes are the peer's certificate, and where from.

pub mod fingerprints;
pub mod read;
pub mod xfcc;
