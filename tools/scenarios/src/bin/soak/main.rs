//! `make soak`: a sidecar with four workers under steady load, every request a new mTLS handshake with
//! itself, while its certificate is replaced every few seconds, and its listeners with another
//! configuration of the module, now and then with one that is wrong.
//!
//! `MINUTES` says how long, 3 if not set. The exit code is 0 only if no request was lost, every one was
//! counted, and neither memory nor series have grown.

mod mesh;
mod state;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::load::{Load, Mark};
use testbed::progress::{self, was_interrupted};

use mesh::Sidecar;
use state::State;

/// Between two leaves.
const LEAF: Duration = Duration::from_secs(4);
/// Between two configurations.
const CONFIGURATION: Duration = Duration::from_secs(10);
/// Between two lines of the report.
const REPORT: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if was_interrupted() => {
            eprintln!("interrupted; nothing is left running");
            ExitCode::from(130)
        }
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn minutes() -> Result<u64> {
    match env::var("MINUTES") {
        Ok(text) => text.parse().with_context(|| format!("MINUTES={text}")),
        Err(_) => Ok(3),
    }
}

fn run() -> Result<()> {
    progress::end_on_interrupt()?;
    let length = Duration::from_secs(60 * minutes()?);
    let mut sidecar = Sidecar::start()?;
    println!("{}", State::HEADER);
    println!("{}", State::of(&sidecar, 0, 0)?.row(Duration::ZERO));
    let load = Load::start(sidecar.edges());
    let start = load.mark();
    // Until then caches fill up, and V8 compiles what is used a lot.
    let warm = run_for(length / 3, Duration::ZERO, &mut sidecar, &load, &start)?;
    let end = run_for(length * 2 / 3, length / 3, &mut sidecar, &load, &start)?;
    let failures = load.failures(&start);
    let sent = load.stop()?;
    if let Some(first) = failures.first() {
        anyhow::bail!("{} of {sent} requests were lost: {first}", failures.len());
    }
    sidecar.counted(sent)?;
    end.no_worse_than(&warm)?;
    sidecar.unharmed()?;
    println!(
        "of {sent} requests none was lost and all were counted, over {} leaves and {} configurations, \
         {} of them wrong",
        sidecar.leaves, sidecar.configurations, sidecar.wrong
    );
    Ok(())
}

/// Replaces leaf and configuration in their turn, for that long.
fn run_for(
    length: Duration,
    offset: Duration,
    sidecar: &mut Sidecar,
    load: &Load,
    since: &Mark,
) -> Result<State> {
    let start = Instant::now();
    let mut leaf = Every::new(LEAF);
    let mut configuration = Every::new(CONFIGURATION);
    let mut report = Every::new(REPORT);
    while start.elapsed() < length {
        progress::check_interrupt()?;
        if leaf.is_due() {
            sidecar.renew()?;
        }
        if configuration.is_due() {
            sidecar.configure()?;
        }
        if report.is_due() {
            let state = State::of(sidecar, load.sent(since), load.failures(since).len())?;
            println!("{}", state.row(offset + start.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(load.sent(since) > 0, "nothing was sent");
    State::of(sidecar, load.sent(since), load.failures(since).len())
}

/// What is to happen at intervals.
struct Every {
    interval: Duration,
    last: Instant,
}

impl Every {
    fn new(interval: Duration) -> Self {
        let last = Instant::now();
        Self { interval, last }
    }

    fn is_due(&mut self) -> bool {
        let due = self.last.elapsed() >= self.interval;
        if due {
            self.last = Instant::now();
        }
        due
    }
}
