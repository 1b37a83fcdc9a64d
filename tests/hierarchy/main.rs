//! This proxy's own hierarchy on a real Envoy: its chain, its trust bundle, and what they tell of the
//! peers.
//!
//! The module ticks every five seconds, so most tests wait for the next tick; none sleeps: what takes
//! its time is polled for, until a deadline.

mod bundle;
mod directory;
mod election;
mod errors;
mod files;
mod fixtures;
mod meshes;
mod own;
mod refused;
mod restart;
mod revocation;
mod shapes;
mod sidecar;
mod speed;
mod updates;

#[allow(dead_code, reason = "shared with tests/envoy, which uses the rest")]
#[path = "../envoy/setup.rs"]
mod setup;
