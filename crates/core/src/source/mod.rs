//! Which bytes are the peer's certificate, and where from.

pub mod read;
pub mod xfcc;
