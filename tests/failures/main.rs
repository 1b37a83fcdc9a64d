//! Refused handshakes on a real Envoy: for each cause one counter, one log line that says who, why
//! and what to change, and nothing where nobody was refused.
//!
//! Expectations are of Envoy 1.40; what an older one cannot tell is in `release`. Nothing sleeps: what
//! takes its time is polled for, until a deadline.

mod clients;
mod harmless;
mod openssl;
mod outbound;
mod rejected;
mod release;
mod servers;
mod settings;
mod strangers;
mod watch;
mod wire;

#[allow(dead_code, reason = "shared with tests/envoy, which uses the rest")]
#[path = "../envoy/setup.rs"]
mod setup;
