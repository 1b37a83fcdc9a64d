//! The core against its promise: facts in, judgements, series and log lines out. No Envoy and no Wasm: a fake
//! host stands in for the proxy.

mod acceptance;
mod allocations;
mod captured_log;
mod config;
mod connections;
mod duplicates;
mod fake_host;
mod gauges;
mod handshake;
mod heartbeat;
mod history;
mod in_force;
mod log_lines;
mod metrics;
mod observed;
mod own;
mod policy;
mod presence;
mod properties;
mod requests;
mod soundness;
mod sources;
mod worker;

use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{Certificate, parse};
use pki::fixtures::NOW;

/// [`NOW`] and so many seconds.
fn at(seconds: i64) -> UnixTime {
    UnixTime(NOW + seconds)
}

/// The facts of a certificate that must be readable.
fn facts(der: &[u8]) -> Certificate {
    parse(der).unwrap()
}
