//! Whether the VMs of this proxy are alive. A VM that has trapped is called no more, and the traffic of its
//! worker passes uninspected: nothing else shows it.
//!
//! Every VM notes its ticks in one list in shared data. Envoy's main thread has a VM, too, which ticks and never
//! sees traffic. It is not told which VM that is, but that there is one: Envoy tries each configuration in a
//! VM that it throws away (a canary), which is configured and never ticks. Where there was one, the main thread's
//! is taken off.

use super::counters::Registry;
use super::{LAST_TICK, WORKERS};
use crate::host::{Host, MetricKind, Shared, TICK};
use mtls_watch_x509::time::{Seconds, UnixTime};

/// The list of VMs in shared data.
const VMS: &str = "mtls_watch/vms";

/// A VM whose last tick is longer ago is dead.
const ALIVE: Seconds = TICK.times(4);

/// VMs that are remembered: more than any proxy has threads.
const MAX_VMS: usize = 1024;

/// Attempts at a compare-and-swap. The next tick tries again.
const MAX_ATTEMPTS: usize = 16;

/// A VM of this proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vm {
    id: u64,
    configured: UnixTime,
    /// `None`: it has not ticked yet.
    ticked: Option<UnixTime>,
}

impl Vm {
    fn is_alive(self, now: UnixTime) -> bool {
        self.ticked.is_some_and(|ticked| now.since(ticked) <= ALIVE)
    }

    fn is_canary(self, now: UnixTime) -> bool {
        self.ticked.is_none() && now.since(self.configured) > ALIVE
    }
}

/// The VMs, of which one has just been configured, or has ticked.
fn noted(mut vms: Vec<Vm>, id: u64, ticks: bool, now: UnixTime) -> Vec<Vm> {
    let known = vms.iter().find(|vm| vm.id == id).copied();
    vms.retain(|vm| vm.id != id);
    let mut has_canary = false;
    vms.retain(|vm| match vm.ticked {
        Some(_) => vm.is_alive(now),
        // One canary tells as much as many.
        None => !vm.is_canary(now) || !std::mem::replace(&mut has_canary, true),
    });
    vms.truncate(MAX_VMS);
    vms.push(Vm {
        id,
        configured: known.map_or(now, |vm| vm.configured),
        ticked: match ticks {
            true => Some(now),
            false => known.and_then(|vm| vm.ticked),
        },
    });
    // A clock that was ahead does not keep a dead VM alive.
    for vm in &mut vms {
        vm.configured = vm.configured.min(now);
        vm.ticked = vm.ticked.map(|ticked| ticked.min(now));
    }
    vms
}

/// The workers whose VM is alive.
fn workers(vms: &[Vm], now: UnixTime) -> usize {
    let alive = vms.iter().filter(|vm| vm.is_alive(now)).count();
    let has_main = vms.iter().any(|vm| vm.is_canary(now));
    alive.saturating_sub(usize::from(has_main))
}

/// A VM has been configured.
pub fn configured(host: &dyn Host, registry: &Registry, now: UnixTime) {
    note(host, registry.vm(), false, now);
}

/// A VM ticks: says so, and how many do.
pub fn ticked(host: &dyn Host, registry: &Registry, now: UnixTime) {
    let vms = note(host, registry.vm(), true, now);
    let workers = u64::try_from(workers(&vms, now)).unwrap_or(u64::MAX);
    let handles = &registry.heartbeat;
    for (handle, series, value) in [
        (&handles.last_tick, LAST_TICK, now.gauge()),
        (&handles.workers, WORKERS, workers),
    ] {
        let id = registry.remembered(host, handle, MetricKind::Gauge, || series.series(()));
        if let Some(id) = id {
            host.record(id, value);
        }
    }
}

/// The list, with that VM noted.
fn note(host: &dyn Host, id: u64, ticks: bool, now: UnixTime) -> Vec<Vm> {
    let mut vms = Vec::new();
    for _ in 0..MAX_ATTEMPTS {
        let (stored, version) = host.shared(VMS);
        vms = noted(decode(&stored.unwrap_or_default()), id, ticks, now);
        if host.share(VMS, &encode(&vms), version) != Shared::Conflict {
            break;
        }
    }
    vms
}

fn encode(vms: &[Vm]) -> Vec<u8> {
    let numbers = |vm: &Vm| {
        let ticked = vm.ticked.unwrap_or(UnixTime::NEVER);
        [
            vm.id.to_le_bytes(),
            vm.configured.0.to_le_bytes(),
            ticked.0.to_le_bytes(),
        ]
    };
    vms.iter().flat_map(numbers).flatten().collect()
}

fn decode(bytes: &[u8]) -> Vec<Vm> {
    let entries = bytes.as_chunks().0.as_chunks().0.iter();
    let time = |bytes| UnixTime(i64::from_le_bytes(bytes));
    let vms = entries.map(|[id, configured, ticked]| Vm {
        id: u64::from_le_bytes(*id),
        configured: time(*configured),
        ticked: Some(time(*ticked)).filter(|ticked| *ticked != UnixTime::NEVER),
    });
    vms.collect()
}
