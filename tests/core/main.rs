//! The core against its promise: bytes in, facts, judgements, series and log lines out; and the
//! command line on top of it. No Envoy and no Wasm: a fake host stands in for the proxy.

mod allocations;
mod captured_log;
mod certificate;
mod chain;
mod cli;
mod config;
mod connections;
mod der;
mod fake_host;
mod fuzz;
mod gauges;
mod log_lines;
mod metrics;
mod mutations;
mod oddities;
mod openssl;
mod passes;
mod pki;
mod policy;
mod properties;
mod relabel;
mod requests;
mod sources;
mod worker;
