//! What the demo is doing, on standard error, and whether it is to go on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};

static INTERRUPTED: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();

/// The demo's progress since its start.
pub struct Progress {
    start: Instant,
}

impl Progress {
    /// From now on Ctrl-C (and SIGTERM, SIGHUP) ends the demo at the next step, so that everything
    /// that it started is dropped, and with that ended.
    pub fn start() -> Result<Self> {
        ctrlc::set_handler(|| {
            *interrupted() = true;
            CHANGED.notify_all();
        })?;
        Ok(Self {
            start: Instant::now(),
        })
    }

    /// Says what comes next.
    ///
    /// # Errors
    /// If the demo was interrupted.
    pub fn step(&self, what: &str) -> Result<()> {
        check_interrupt()?;
        eprintln!("{:5.1} s  {what}", self.start.elapsed().as_secs_f32());
        Ok(())
    }
}

/// # Errors
/// If the demo was interrupted.
pub fn check_interrupt() -> Result<()> {
    ensure!(!was_interrupted(), "interrupted");
    Ok(())
}

/// Whether the demo was interrupted.
pub fn was_interrupted() -> bool {
    *interrupted()
}

/// Waits until the demo is interrupted.
pub fn wait_for_interrupt() {
    let waited = CHANGED.wait_while(interrupted(), |interrupted| !*interrupted);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

fn interrupted() -> MutexGuard<'static, bool> {
    // A flag has no broken state.
    INTERRUPTED.lock().unwrap_or_else(PoisonError::into_inner)
}
