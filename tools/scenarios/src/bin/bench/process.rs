//! What the kernel knows of a process: CPU time, memory, and where its threads may run.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// CPU time that all threads of the process have used, in nanoseconds' resolution.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let clock = clock_getcpuclockid(as_pid(pid)?)?;
    Ok(clock.now()?.into())
}

/// CPU time of the worker threads alone: neither the main thread, which serves the admin interface
/// and flushes stats, nor V8's compilers.
pub fn worker_cpu_time(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if !fs::read_to_string(task.join("comm"))?.starts_with("wrk:") {
            continue;
        }
        // Time on the CPU, time in wait for one, number of slices.
        let schedule = fs::read_to_string(task.join("schedstat"))?;
        let on_cpu = schedule.split(' ').next().unwrap_or_default();
        total += Duration::from_nanos(on_cpu.parse().context("schedstat")?);
    }
    Ok(total)
}

/// Resident memory in bytes.
pub fn resident_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kibibytes.context("no VmRSS")?.parse::<u64>()? * 1024)
}

/// Keeps all threads of a process on these CPUs.
pub fn pin(pid: u32, cpus: &[usize]) -> Result<()> {
    let set = cpu_set(cpus)?;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = task?.file_name();
        let thread: u32 = name.to_str().context("a thread's number")?.parse()?;
        sched_setaffinity(as_pid(thread)?, &set)?;
    }
    Ok(())
}

/// Keeps the calling thread, and those that it will start, on these CPUs.
pub fn pin_this_thread(cpus: &[usize]) -> Result<()> {
    Ok(sched_setaffinity(Pid::from_raw(0), &cpu_set(cpus)?)?)
}

fn cpu_set(cpus: &[usize]) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    Ok(set)
}

fn as_pid(pid: u32) -> Result<Pid> {
    Ok(Pid::from_raw(pid.try_into()?))
}
