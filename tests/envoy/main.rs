//! The module in a real Envoy: every row of the metrics' table, every switch of the configuration,
//! asserted from `/stats/prometheus`, by label, with a real handshake behind it.
//!
//! `envoy-config/` is what runs here, with as little changed as a test needs. Nothing sleeps: what
//! takes its time is polled for, until a deadline.

mod broken;
mod caps;
mod configuration;
mod connections;
mod crowd;
mod delivery;
mod deny;
mod directions;
mod duplicates;
mod findings;
mod flags;
mod fuzzed;
mod gauges;
mod heartbeat;
mod histogram;
mod hostile;
mod observed;
mod oracle;
mod pauses;
mod positions;
mod presence;
mod relabel;
mod requests;
mod resumed;
mod samples;
mod setup;
mod sources;
mod strict;
mod unfinished;
mod updates;
mod variants;
mod workers;
