//! `make drill`: a CA rotation on three real Envoys under load, as docs/ca-rotation.md describes it. First
//! in the safe order, with the gate between each step and the next; then in the wrong order, and what
//! catches it; then a workload whose leaf is no longer renewed.
//!
//! It checks itself, and stops at the first thing that is not as expected: the exit code is 0 only if
//! everything was.

mod alert;
mod authority;
mod gates;
mod mesh;
mod safe_order;
mod stalled;
mod status;
mod story;
mod wrong_order;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use testbed::load::{Load, Mark};
use testbed::progress::{self, was_interrupted};

use alert::Alerts;
use authority::Authority;
use mesh::Mesh;
use status::Status;
use story::Story;

/// What a shell gives for a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Requests on each edge after which a change is taken to have done no harm: each of the two workers at
/// both ends has had some.
const ENOUGH_REQUESTS: u64 = 10;

fn main() -> ExitCode {
    let mut story = Story::begin();
    match run(&mut story) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if was_interrupted() => {
            eprintln!("interrupted; nothing is left running");
            INTERRUPTED.into()
        }
        Err(error) => {
            story.break_off(&error);
            ExitCode::FAILURE
        }
    }
}

/// Runs the drill. Whatever it starts ends with this function, in whichever way that ends.
fn run(story: &mut Story) -> Result<()> {
    progress::end_on_interrupt()?;
    let old = Authority::new("Old Root", "Old CA")?;
    let new = Authority::new("New Root", "New CA")?;
    // The issuer gets a new key and keeps its name, as issuers do.
    let rekeyed = Authority::new("Next Root", "New CA")?;
    let mut drill = Drill::start(story, &old)?;
    safe_order::run(&mut drill, &old, &new)?;
    wrong_order::run(&mut drill, &new, &rekeyed)?;
    stalled::run(&mut drill, &new)?;
    drill.end()
}

/// Everything that is up during the drill.
struct Drill<'a> {
    // Ends before the sidecars do.
    load: Load,
    alerts: Option<Alerts>,
    mesh: Mesh,
    directory: TempDir,
    story: &'a mut Story,
    /// Requests that failed because they were meant to.
    expected_failures: usize,
}

impl<'a> Drill<'a> {
    fn start(story: &'a mut Story, authority: &Authority) -> Result<Self> {
        story.tell("starting three Envoys, the sidecars of web, cart and pay, each of which calls the other two")?;
        let directory = tempfile::Builder::new()
            .prefix("mtls-watch-drill-")
            .tempdir()?;
        let mesh = Mesh::start(authority, directory.path())?;
        let alerts = Alerts::start(&mesh)?;
        match &alerts {
            Some(_) => story
                .tell("a Prometheus scrapes them, with the rules of envoy-config/prometheus")?,
            None => story.tell(
                "no alert is evaluated here, as there is no Prometheus: apt-get install prometheus",
            )?,
        }
        let load = Load::start(mesh.edges()?);
        story.tell("steady load from now on; every request is a new mTLS handshake")?;
        Ok(Self {
            load,
            alerts,
            mesh,
            directory,
            story,
            expected_failures: 0,
        })
    }

    /// The command that tells how a rotation stands.
    fn status(&self, old: &Authority, new: &Authority) -> Result<Status> {
        Status::new(&self.mesh, old, new, &self.certificates_of(old, new)?)
    }

    fn certificates_of(&self, old: &Authority, new: &Authority) -> Result<PathBuf> {
        let path = self.directory.path().join("cas.pem");
        fs::write(&path, old.pem() + &new.pem())?;
        Ok(path)
    }

    /// Waits until every workload has called every other often enough since `mark`.
    ///
    /// # Errors
    /// If a request failed.
    fn no_request_fails(&mut self, mark: &Mark) -> Result<()> {
        let (load, story) = (&self.load, &mut *self.story);
        story::wait_until("requests on every edge", || {
            let least = load.least_sent(mark);
            ensure!(least >= ENOUGH_REQUESTS, "{least} on the slowest");
            Ok(())
        })?;
        let failures = load.failures(mark);
        if let Some(first) = failures.first() {
            bail!("no request may fail, {} did: {first}", failures.len());
        }
        story.holds(&format!("{} requests since, none failed", load.sent(mark)))
    }

    fn end(self) -> Result<()> {
        let failed = self.load.failures(&self.load.beginning()).len();
        ensure!(
            failed == self.expected_failures,
            "{failed} requests failed, {} of them were meant to",
            self.expected_failures
        );
        let sent = self.load.stop().context("load")?;
        self.story.end(&format!(
            "of {sent} requests {failed} failed, all of them while the wrong CA signed"
        ))
    }
}
