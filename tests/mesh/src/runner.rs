//! One scenario after the other, as ordinary tests: filters by name, `--list`, `--exact`.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
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

/// What scenarios run on.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// How many scenarios at a time, if the command line does not say.
    pub at_a_time: usize,
    /// Before the first scenario; without it none can run.
    pub begin: fn() -> Result<()>,
    /// Whether another run has begun with the scenario of this name.
    pub is_taken: fn(&str) -> bool,
    /// Keeps in the folder what there is to look at when a scenario has failed.
    pub keep_logs: fn(&Path),
    /// After each scenario.
    pub clean_up: fn() -> Result<()>,
}

/// The mesh of `make mesh`. Scenarios share istiod and its authorities.
const MESH: Stage = Stage {
    at_a_time: 1,
    begin: istio::reset,
    is_taken,
    keep_logs,
    clean_up: || {
        namespace::delete_all()?;
        istio::reset()
    },
};

/// Runs the scenarios that the command line asks for on the mesh, and lists those that fail as their issue says.
#[must_use]
pub fn main(scenarios: &[Scenario]) -> ExitCode {
    main_on(MESH, scenarios)
}

/// The same on another stage.
#[must_use]
pub fn main_on(stage: Stage, scenarios: &[Scenario]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(stage.at_a_time));
    if let Some(filter) = &arguments.filter
        && !scenarios
            .iter()
            .any(|scenario| scenario.name.contains(filter.as_str()))
    {
        eprintln!("no scenario has {filter:?} in its name");
        return ExitCode::FAILURE;
    }
    let trials = scenarios.iter().map(|&scenario| {
        let trial = Trial::ignorable_test(scenario.name, move || {
            match (stage.is_taken)(scenario.name) {
                true => Ok(Completion::ignored_with("on another mesh")),
                false => match scenario.judge(stage) {
                    Ok(()) => Ok(Completion::Completed),
                    Err(error) => Err(format!("{error:#}").into()),
                },
            }
        });
        trial.with_ignored_flag(scenario.large)
    });
    if !arguments.list
        && let Err(error) = (stage.begin)()
    {
        eprintln!("no scenario can run: {error:#}");
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
    fn judge(self, stage: Stage) -> Result<()> {
        let start = Instant::now();
        let outcome = (self.run)();
        let folder = logs_of(self.name);
        if outcome.is_err() {
            (stage.keep_logs)(&folder);
            if env::var_os("KEEP").is_some() {
                return outcome.context("left as it is, for kubectl");
            }
        }
        (stage.clean_up)()?;
        eprintln!(
            "  {} took {:.0} s",
            self.name,
            start.elapsed().as_secs_f64()
        );
        outcome.with_context(|| format!("logs of all parts: {}", folder.display()))
    }
}

/// Where the logs of a scenario that has failed are kept.
#[must_use]
pub fn logs_of(scenario: &str) -> PathBuf {
    let folder = workspace_root().join("target/mesh-logs");
    folder.join(scenario.replace(':', "_"))
}

/// Whether another mesh of this run has begun with it. There is a file for each scenario that one has.
fn is_taken(scenario: &str) -> bool {
    env::var_os("MESH_QUEUE").is_some_and(|queue| {
        let file = Path::new(&queue).join(scenario.replace(':', "_"));
        File::create_new(file).is_err()
    })
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
