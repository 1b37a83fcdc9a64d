//! Scenario F: a real SPIRE, and Envoys on its SDS. They need neither root nor a cluster, and run by `make test-spire`.
//!
//! How to see that they can fail: have the module pass over the bundles of SPIFFE validators, in `trust_domains` of
//! crates/core/src/own/admin.rs. None of them holds then: gates 1 and 2 are unknown, and web has no bundle `ROOTCA`.

mod federation;
mod page;
mod rotation;
mod sample;
mod upstream;

use std::process::ExitCode;

use mesh_tests::runner::Stage;
use mesh_tests::spire;

/// Each scenario has a SPIRE of its own, and mostly waits.
const SPIRE: Stage = Stage {
    at_a_time: 3,
    begin: spire::check,
    is_taken: |_| false,
    // They are where they are kept already.
    keep_logs: |_| (),
    clean_up: || Ok(()),
};

fn main() -> ExitCode {
    // The longest first: several run beside each other.
    let scenarios = [
        rotation::SCENARIOS,
        federation::SCENARIOS,
        upstream::SCENARIOS,
        sample::SCENARIOS,
    ]
    .concat();
    mesh_tests::runner::main_on(SPIRE, &scenarios)
}
