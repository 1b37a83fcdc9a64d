//! The few WASI functions that Envoy offers, and no more than it does in them: no files, no
//! arguments, no environment.

use wasmtime::{Error, Linker, Result};

use super::Host;

type Caller<'a> = wasmtime::Caller<'a, Host>;
type Errno = i32;

const MODULE: &str = "wasi_snapshot_preview1";

const SUCCESS: Errno = 0;
const BADF: Errno = 8;
const FAULT: Errno = 21;
const NOSYS: Errno = 52;
const NOTSUP: Errno = 58;

/// Envoy logs what a module writes to standard error, a panic's message too, at this level.
const STDERR: (u32, u32) = (2, 4);
const STDOUT: (u32, u32) = (1, 2);

pub fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "proc_exit", |_: Caller, code: i32| -> Result<()> {
        Err(Error::msg(format!("proc_exit({code})")))
    })?;
    linker.func_wrap(MODULE, "environ_sizes_get", no_strings)?;
    linker.func_wrap(MODULE, "args_sizes_get", no_strings)?;
    linker.func_wrap(MODULE, "environ_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "args_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "sched_yield", || SUCCESS)?;
    linker.func_wrap(MODULE, "poll_oneoff", |_: u32, _: u32, _: u32, _: u32| {
        NOTSUP
    })?;
    linker.func_wrap(MODULE, "fd_read", |_: u32, _: u32, _: u32, _: u32| NOSYS)?;
    linker.func_wrap(MODULE, "fd_seek", |_: u32, _: u64, _: u32, _: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "fd_close", |_: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |_: u32, _: u32| BADF)?;
    linker.func_wrap(MODULE, "fd_prestat_get", |_: u32, _: u32| BADF)?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", |_: u32, _: u32, _: u32| BADF)?;
    Ok(())
}

fn fd_write(mut caller: Caller, fd: u32, vectors: u32, count: u32, written: u32) -> Errno {
    let Some((_, level)) = [STDOUT, STDERR].into_iter().find(|(known, _)| *known == fd) else {
        return BADF;
    };
    let Some(text) = gather(&caller, vectors, count) else {
        return FAULT;
    };
    let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    caller.data_mut().logs.push((level, text));
    put(&mut caller, written, &size.to_le_bytes())
}

/// The buffers of a vectored write in a row.
fn gather(caller: &Caller, vectors: u32, count: u32) -> Option<Vec<u8>> {
    let memory = caller.data().memory?.data(caller);
    let word = |at: usize| {
        let bytes = memory.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes) as usize)
    };
    let mut text = Vec::new();
    for vector in 0..count as usize {
        let at = vectors as usize + vector * 8;
        let (start, size) = (word(at)?, word(at + 4)?);
        text.extend(memory.get(start..start + size)?);
    }
    Some(text)
}

fn clock_time_get(mut caller: Caller, clock: u32, _precision: u64, time: u32) -> Errno {
    const REALTIME_OR_MONOTONIC: std::ops::RangeInclusive<u32> = 0..=1;
    if !REALTIME_OR_MONOTONIC.contains(&clock) {
        return NOTSUP;
    }
    let now = caller.data().proxy.0.borrow().nanoseconds;
    put(&mut caller, time, &now.to_le_bytes())
}

/// Not random at all: a test should fail today as it did yesterday. Only no two workers get the same.
fn random_get(mut caller: Caller, start: u32, size: u32) -> Errno {
    let seed = u32::from(caller.data().seed);
    let bytes: Vec<u8> = (0..size)
        .map(|index| (index * 31 + seed * 7) as u8)
        .collect();
    put(&mut caller, start, &bytes)
}

fn no_strings(mut caller: Caller, count: u32, size: u32) -> Errno {
    put(&mut caller, count, &[0; 4]) | put(&mut caller, size, &[0; 4])
}

fn put(caller: &mut Caller, start: u32, bytes: &[u8]) -> Errno {
    let Some(memory) = caller.data().memory else {
        return FAULT;
    };
    match memory.write(caller, start as usize, bytes) {
        Ok(()) => SUCCESS,
        Err(_) => FAULT,
    }
}
