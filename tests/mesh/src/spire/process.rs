//! Processes that end with this one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};

use crate::kubectl::run;
use crate::{DEADLINE, eventually};

/// Has the kernel kill the process when its parent ends, even if that is killed.
const ENDS_WITH_ITS_PARENT: [&str; 3] = ["--pdeathsig", "KILL", "--"];

/// A part of SPIRE. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Whether processes can be started so.
    ///
    /// # Errors
    /// If util-linux is missing, or older than 2.34.
    pub fn check() -> Result<()> {
        let arguments = [&ENDS_WITH_ITS_PARENT[..], &["true"]].concat();
        run("setpriv", &arguments, None)
            .map(drop)
            .context("setpriv of util-linux is needed")
    }

    /// Starts the program; what it says goes into `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Result<Self> {
        let file = File::create(log)?;
        let child = Command::new("setpriv")
            .args(ENDS_WITH_ITS_PARENT)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("setpriv")?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Waits until it is ready, as `ask` says.
    ///
    /// # Errors
    /// If it ends, or is not ready within the deadline; the error has the end of its log.
    pub fn wait_until(&mut self, mut ask: impl FnMut() -> Result<()>) -> Result<()> {
        let answer = eventually(DEADLINE, || match self.child.try_wait()? {
            Some(status) => Ok(Err(anyhow!("it has ended: {status}"))),
            None => ask().map(Ok),
        });
        answer
            .and_then(|answer| answer)
            .with_context(|| self.last_words())
    }

    /// Stops it where it is, until [`Self::resume`]: what it serves stays as it is, and nothing new comes.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let process = self.child.id().to_string();
        run("kill", &[signal, &process], None).map(drop)
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.len().saturating_sub(10);
        format!(
            "{}:\n{}",
            self.log.display(),
            lines.get(end..).unwrap_or_default().join("\n")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a script that runs the program with further arguments behind those that it is given.
///
/// # Errors
/// If it cannot be written.
pub fn write_script(path: &Path, program: &Path, further: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let text = format!("#!/bin/sh\nexec '{}' \"$@\" {further}\n", program.display());
    ensure!(!text.contains("''"), "a path with a quote: {text}");
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
