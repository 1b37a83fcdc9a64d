//! A command again and again, for the hour of a rotation.

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use crate::clock::now;
use crate::{Error, Output};

/// Puts the cursor of a terminal to its first line, and clears what is there.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

/// Runs a command every `interval` and prints what it says, with the time; on a terminal in the place of what it said before.
/// Ends with whoever reads it. What goes wrong once it has worked is told, and it goes on: of an hour, a minute may be missing.
///
/// # Errors
/// That of the first time.
pub(crate) fn repeat(
    interval: Duration,
    command: impl Fn() -> Result<Output, Error>,
) -> Result<Output, Error> {
    let clear = match io::stdout().is_terminal() {
        true => CLEAR,
        false => "",
    };
    let mut last = command()?;
    loop {
        let text = format!("{clear}{}\n{}\n", now(), last.text);
        let mut out = io::stdout().lock();
        // The reader has gone: nobody is left to tell.
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            return Ok(Output {
                text: String::new(),
                ..last
            });
        }
        drop(out);
        thread::sleep(interval);
        last = command().unwrap_or_else(|error| Output {
            text: format!("mtls-watch: {error}\n"),
            ..last
        });
    }
}
