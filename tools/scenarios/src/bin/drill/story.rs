//! What happens, told to whoever watches; and whether it is what was expected.

use std::io::{Write as _, stdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::Style;
use testbed::progress::check_interrupt;

/// Between two looks at something that takes seconds.
const PAUSE: Duration = Duration::from_millis(250);
/// Several ticks of the module, on a machine that is busy with other things.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The story so far.
pub struct Story {
    start: Instant,
    style: Style,
    held: usize,
}

impl Story {
    /// Begins now.
    pub fn begin() -> Self {
        Self {
            start: Instant::now(),
            style: Style::of_stdout(),
            held: 0,
        }
    }

    /// A new chapter.
    ///
    /// # Errors
    /// If nobody reads on, or the program was interrupted.
    pub fn chapter(&self, title: &str) -> Result<()> {
        check_interrupt()?;
        print(&format!("\n{}\n", self.style.bold(title)))
    }

    /// Something happens.
    ///
    /// # Errors
    /// As [`Story::chapter`].
    pub fn tell(&self, what: &str) -> Result<()> {
        check_interrupt()?;
        let seconds = self.start.elapsed().as_secs_f32();
        print(&format!("{seconds:6.1} s  {what}\n"))
    }

    /// What somebody else says: a table, a series, a log line.
    ///
    /// # Errors
    /// As [`Story::chapter`].
    pub fn quote(&self, text: &str) -> Result<()> {
        let lines = text.lines().map(|line| format!("{:10}{line}\n", ""));
        print(&lines.collect::<String>())
    }

    /// Something is as expected.
    ///
    /// # Errors
    /// As [`Story::chapter`].
    pub fn holds(&mut self, what: &str) -> Result<()> {
        self.held += 1;
        let line = self.style.verdict(true, &format!("✓ {what}"));
        print(&format!("          {line}\n"))
    }

    /// The last line: how it ended.
    ///
    /// # Errors
    /// If nobody reads on.
    pub fn end(&self, load: &str) -> Result<()> {
        let text = format!(
            "✓ the drill passed: {} of {} expectations held in {:.0} s; {load}",
            self.held,
            self.held,
            self.start.elapsed().as_secs_f32()
        );
        print(&format!("\n{}\n", self.style.verdict(true, &text)))
    }

    /// The last line where something was not as expected: there the drill stops, as a rotation would.
    pub fn break_off(&self, error: &anyhow::Error) {
        let text = format!(
            "✗ the drill stopped after {:.0} s, {} expectations held, this one did not: {error:#}",
            self.start.elapsed().as_secs_f32(),
            self.held
        );
        // Where nobody reads on, the exit code tells.
        let _ = print(&format!("\n{}\n", self.style.verdict(false, &text)));
    }
}

/// Tries until it succeeds; returns what came of it, and after how many seconds.
///
/// # Errors
/// The last attempt's error after a minute; or if the program was interrupted.
pub fn wait_until<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<(T, f32)> {
    let start = Instant::now();
    loop {
        check_interrupt()?;
        match attempt() {
            Ok(success) => return Ok((success, start.elapsed().as_secs_f32())),
            Err(error) if start.elapsed() >= DEADLINE => {
                return Err(error).with_context(|| format!("{what}: not within {DEADLINE:?}"));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Unlike `print!`, fails in an orderly manner where nobody reads on.
fn print(text: &str) -> Result<()> {
    let mut stdout = stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}
