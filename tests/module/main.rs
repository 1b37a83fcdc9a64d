//! The built module, driven through the Proxy-Wasm ABI by a small host in Envoy's place.
//!
//! What is tested here is what only the artifact has: its imports and exports, what it does when a
//! host call fails, how it shares a proxy with other workers, how much memory it takes. Real
//! Envoys are the testbed's business.

mod attributes;
mod caps;
mod configuration;
mod counts;
mod directory;
mod faults;
mod floor;
mod functions;
mod headers;
mod hierarchy;
mod host;
mod hostile;
mod hot_path;
mod interface;
mod logs;
mod memory;
mod metrics;
mod panics;
mod pki;
mod poll;
mod unfinished;
mod workers;
