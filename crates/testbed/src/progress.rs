//! What the demo or the drill is doing, and whether it is to go on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};

static INTERRUPTED: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();

/// The progress since the start.
pub struct Progress {
    start: Instant,
}

impl Progress {
    /// Starts, and has Ctrl-C end the program at the next step ([`end_on_interrupt`]).
    ///
    /// # Errors
    /// As [`end_on_interrupt`].
    pub fn start() -> Result<Self> {
        end_on_interrupt()?;
        Ok(Self {
            start: Instant::now(),
        })
    }

    /// Says what comes next.
    ///
    /// # Errors
    /// If the program was interrupted.
    pub fn step(&self, what: &str) -> Result<()> {
        check_interrupt()?;
        eprintln!("{:5.1} s  {what}", self.start.elapsed().as_secs_f32());
        Ok(())
    }
}

/// From now on Ctrl-C (and SIGTERM, SIGHUP) ends the program at its next [`check_interrupt`], so that
/// everything that it started is dropped, and with that ended.
///
/// # Errors
/// If the signals cannot be handled, or are already.
pub fn end_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        *interrupted() = true;
        CHANGED.notify_all();
    })?;
    Ok(())
}

/// Whether to go on.
///
/// # Errors
/// If the program was interrupted.
pub fn check_interrupt() -> Result<()> {
    ensure!(!was_interrupted(), "interrupted");
    Ok(())
}

/// Whether the program was interrupted.
pub fn was_interrupted() -> bool {
    *interrupted()
}

/// Waits until the program is interrupted.
pub fn wait_for_interrupt() {
    let waited = CHANGED.wait_while(interrupted(), |interrupted| !*interrupted);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

fn interrupted() -> MutexGuard<'static, bool> {
    // A flag has no broken state.
    INTERRUPTED.lock().unwrap_or_else(PoisonError::into_inner)
}
