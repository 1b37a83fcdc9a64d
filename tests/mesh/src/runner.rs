//! One scenario after the other, as ordinary tests: filters by name, `--list`, `--exact`.

use std::env;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use libtest_mimic::{Arguments, Completion, Trial};

use crate::{istio, kubectl, namespace, workspace_root};

/// A scenario: a name, and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    name: &'static str,
    run: fn() -> Result<()>,
    large: bool,
}

/// A scenario that holds.
#[must_use]
pub const fn holds(name: &'static str, run: fn() -> Result<()>) -> Scenario {
    Scenario {
        name,
        run,
        large: false,
    }
}

/// A scenario that is asked for by `--ignored` only.
#[must_use]
pub const fn large(name: &'static str, run: fn() -> Result<()>) -> Scenario {
    Scenario {
        name,
        run,
        large: true,
    }
}

static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What a scenario expects, and what does not hold until that issue is done. The scenario goes on; once it
/// holds, the mark must go. One expectation only: a mark on a whole scenario would hide other failures.
///
/// # Errors
/// If it holds.
pub fn not_until(issue: u32, what: &str, outcome: Result<()>) -> Result<()> {
    match outcome {
        Ok(()) => bail!("{what}: it holds; is issue {issue} done? then take the mark away"),
        Err(error) => {
            let line = format!("  issue {issue}: {what}: {error:#}");
            KNOWN
                .lock()
                .map_err(|_| anyhow!("a scenario has panicked"))?
                .push(line);
            Ok(())
        }
    }
}

/// Runs the scenarios that the command line asks for, and lists those that fail as their issue says.
#[must_use]
pub fn main(scenarios: &[Scenario]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share istiod and its authorities.
    arguments.test_threads = Some(1);
    let trials = scenarios.iter().map(|&scenario| {
        let trial = Trial::ignorable_test(scenario.name, move || match scenario.is_taken() {
            true => Ok(Completion::ignored_with("on another mesh")),
            false => match scenario.judge() {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(format!("{error:#}").into()),
            },
        });
        trial.with_ignored_flag(scenario.large)
    });
    if !arguments.list
        && let Err(error) = istio::reset()
    {
        eprintln!("no mesh: {error:#}");
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let known = KNOWN.lock().map(|known| known.clone()).unwrap_or_default();
    if !known.is_empty() {
        println!(
            "These fail as the issues say that they do:\n{}",
            known.join("\n")
        );
    }
    conclusion.exit_code()
}

impl Scenario {
    /// Whether another mesh of this run has begun with it. There is a file for each scenario that one has.
    fn is_taken(self) -> bool {
        env::var_os("MESH_QUEUE").is_some_and(|queue| {
            let file = Path::new(&queue).join(self.name.replace(':', "_"));
            File::create_new(file).is_err()
        })
    }

    fn judge(self) -> Result<()> {
        let start = Instant::now();
        let outcome = (self.run)();
        let folder = workspace_root()
            .join("target/mesh-logs")
            .join(self.name.replace(':', "_"));
        if outcome.is_err() {
            keep_logs(&folder);
            if env::var_os("KEEP").is_some() {
                return outcome.context("left as it is, for kubectl");
            }
        }
        namespace::delete_all()?;
        istio::reset()?;
        eprintln!(
            "  {} took {:.0} s",
            self.name,
            start.elapsed().as_secs_f64()
        );
        outcome.with_context(|| format!("logs of all parts: {}", folder.display()))
    }
}

/// What there is to look at when a scenario has failed. What cannot be had is left out.
fn keep_logs(folder: &Path) {
    let folder = folder.display().to_string();
    let namespaces = ["--all-namespaces", "--output-directory", &folder];
    let dump = [
        &["cluster-info", "dump", "--output", "yaml"][..],
        &namespaces[..],
    ]
    .concat();
    if let Err(error) = kubectl::kubectl(&dump) {
        eprintln!("no logs: {error:#}");
    }
}
