//! Bytes in, facts out: what was put in comes out, OpenSSL reads the same, and what is broken is an error.

mod certificate;
mod chain;
mod crl;
mod oddities;
mod openssl;
mod properties;
mod strict;

use mtls_watch_x509::{Certificate, parse};

/// The facts of a certificate that must be readable.
fn facts(der: &[u8]) -> Certificate {
    parse(der).unwrap()
}
