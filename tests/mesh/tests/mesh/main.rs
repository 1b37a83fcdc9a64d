//! Scenarios on a real Istio, asserted at Prometheus. They need `make mesh`, and run by `make test-mesh`.
//!
//! What a scenario shows to be wrong in the product is marked with the issue that says so. The list of these
//! is printed at the end of the run.

mod delivery;
mod documented;
mod egress;
mod expiry;
mod gateways;
mod health;
mod overlays;
mod policies;
mod rotation;
mod size;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The longest first: they are shared among several meshes.
    let mut scenarios = [health::SCENARIOS, expiry::SCENARIOS].concat();
    scenarios.extend(rotation::SCENARIOS.concat());
    scenarios.extend(
        [
            documented::SCENARIOS,
            delivery::SCENARIOS,
            gateways::SCENARIOS,
            overlays::SCENARIOS,
            policies::SCENARIOS,
            egress::SCENARIOS,
            size::SCENARIOS,
        ]
        .concat(),
    );
    mesh_tests::runner::main(&scenarios)
}
