//! What the sidecar has come to.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::mesh::Sidecar;

/// What resident memory may grow by after the first third, in bytes: what V8 and the allocator take as
/// they like. A leaked configuration or certificate per change would be many times as much in an hour.
const GROWTH: u64 = 16 * MIB;
const MIB: u64 = 1024 * 1024;

/// At one moment.
pub struct State {
    sent: u64,
    lost: usize,
    leaves: u32,
    rotations: u64,
    configurations: u32,
    wrong: u32,
    resident: u64,
    allocated: u64,
    series: usize,
    errors: u64,
}

impl State {
    pub const HEADER: &str = "  time  requests  lost  leaves  seen  configurations    wrong  resident  \
                              allocated  series  errors";

    pub fn of(sidecar: &Sidecar, sent: u64, lost: usize) -> Result<Self> {
        let stats = sidecar.stats()?;
        let allocated = stats.value("envoy_server_memory_allocated", &[]);
        let errors = [
            stats.sum("mtls_handshake_failures_total", &[]),
            stats.sum("mtls_watch_inspections_total", &[("result", "unreadable")]),
        ];
        Ok(Self {
            sent,
            lost,
            leaves: sidecar.leaves,
            rotations: stats.sum("mtls_own_rotations_total", &[]) as u64,
            configurations: sidecar.configurations,
            wrong: sidecar.wrong,
            resident: sidecar.envoy.resident_memory()?,
            allocated: allocated.context("no allocated memory")? as u64,
            series: stats.count("mtls_"),
            errors: errors.iter().sum::<f64>() as u64,
        })
    }

    pub fn row(&self, time: Duration) -> String {
        format!(
            "{:4} s  {:8}  {:4}  {:6}  {:4}  {:14}  {:7}  {:4} MiB  {:5} MiB  {:6}  {:6}",
            time.as_secs(),
            self.sent,
            self.lost,
            self.leaves,
            self.rotations,
            self.configurations,
            self.wrong,
            self.resident / MIB,
            self.allocated / MIB,
            self.series,
            self.errors
        )
    }

    pub fn no_worse_than(&self, before: &Self) -> Result<()> {
        ensure!(
            self.series == before.series,
            "{} series, before {}",
            self.series,
            before.series
        );
        ensure!(self.errors == 0, "{} errors", self.errors);
        ensure!(
            self.rotations > before.rotations,
            "the rotations of the leaf are not seen"
        );
        for (memory, now, before) in [
            ("resident", self.resident, before.resident),
            ("allocated", self.allocated, before.allocated),
        ] {
            let growth = now.saturating_sub(before);
            ensure!(
                growth < GROWTH,
                "{memory} memory has grown from {before} to {now} bytes"
            );
        }
        Ok(())
    }
}
