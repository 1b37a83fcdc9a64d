//! What child processes have in common.

use std::path::Path;
use std::process::Child;

const LOG_TAIL_LINES: usize = 40;

/// All that a process has written to this file so far.
pub(crate) fn read_log(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of a log, for an error.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

/// Ends the process at once.
pub(crate) fn kill(process: &mut Child) {
    // Both fail only if it has ended already.
    let _ = process.kill();
    let _ = process.wait();
}
