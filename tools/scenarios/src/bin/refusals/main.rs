//! `make refusals`: refused and sound handshakes with real clients and servers, on several Envoys, and what the module
//! says of each.
//!
//! `refusals VERSION…` runs all on each, prints the table and fails if a cell is wrong. Each version must have been
//! fetched (`make envoy ENVOY_VERSION=…`), and the stacks (`tools/fetch stacks`). `--anywhere` runs what takes no stack
//! but those that `make test` has, on the usual proxies; `--only=TEXT` those with this text in their names. `--page` prints the table as the
//! documentation has it, `--limits` that of what Envoy does not tell; both run nothing.

mod cases;
mod materials;
mod programs;
mod scenario;
mod setups;
mod stage;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use testbed::Envoy;

use materials::Materials;
use programs::Stack;
use scenario::{Release, Scenario};
use stage::{Outcome, Stage};
use table::Cell;

/// Runs the scenarios on one Envoy, that of `ENVOY_VERSION`: one result a line.
const RUN: &str = "--run";
const ANYWHERE: &str = "--anywhere";
const ONLY: &str = "--only=";
const PAGE: &str = "--page";
const LIMITS: &str = "--limits";

/// Most scenarios of one proxy: a worker logs 60 lines a minute, and a server is tried twice.
const MOST_CLIENTS: usize = 50;
const MOST_SERVERS: usize = 25;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("refusals: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as expected.
fn run() -> Result<bool> {
    let (options, versions): (Vec<_>, Vec<_>) = env::args()
        .skip(1)
        .partition(|argument| argument.starts_with('-'));
    let scenarios = chosen(&options);
    ensure!(!scenarios.is_empty(), "no such scenario");
    let has = |option: &str| options.iter().any(|it| it == option);
    if has(PAGE) {
        print!("{}", table::page(&scenarios));
        return Ok(true);
    }
    if has(LIMITS) {
        print!("{}", table::limits(&scenarios));
        return Ok(true);
    }
    if has(RUN) {
        return play(&scenarios).map(|()| true);
    }
    ensure!(
        !versions.is_empty(),
        "usage: refusals [--anywhere] [--only=TEXT] ENVOY_VERSION…"
    );
    if !has(ANYWHERE) {
        programs::compile()?;
    }
    let mut columns = Vec::new();
    for version in &versions {
        eprintln!("Envoy {version}: {} scenarios", scenarios.len());
        columns.push((version.clone(), column(version, &options, &scenarios)?));
    }
    print!("{}", table::printed(&scenarios, &columns));
    let cells = columns.iter().flat_map(|(_, cells)| cells.values());
    let wrong = cells.filter(|cell| cell.wrong.is_some()).count();
    let refusals = scenarios.iter().filter(|it| it.is_refusal()).count();
    println!(
        "{refusals} refusals and {} sound situations on {} Envoys: {wrong} wrong",
        scenarios.len() - refusals,
        columns.len()
    );
    Ok(wrong == 0)
}

fn chosen(options: &[String]) -> Vec<Scenario> {
    let anywhere = options.iter().any(|it| it == ANYWHERE);
    let text = options
        .iter()
        .find_map(|it| it.strip_prefix(ONLY))
        .unwrap_or_default();
    let is_chosen = |scenario: &Scenario| {
        let is_usual = || {
            setups::USUAL
                .iter()
                .any(|it| it.key() == scenario.setup.key())
        };
        let has_stacks = || scenario.stacks().into_iter().all(Stack::is_everywhere);
        let is_to_be_had = !anywhere || is_usual() && has_stacks();
        is_to_be_had && scenario.key().contains(text)
    };
    cases::all().into_iter().filter(is_chosen).collect()
}

/// Has all happen on this Envoy.
fn play(scenarios: &[Scenario]) -> Result<()> {
    let (release, materials) = (Envoy::release()?, Materials::new()?);
    let setups: BTreeSet<_> = scenarios.iter().map(|it| it.setup.key()).collect();
    for setup in setups {
        let of_setup = scenarios.iter().filter(|it| it.setup.key() == setup);
        let of_setup: Vec<&Scenario> = of_setup.collect();
        let most = match of_setup.first() {
            Some(scenario) if scenario.setup.is_inbound => MOST_CLIENTS,
            _ => MOST_SERVERS,
        };
        for some in of_setup.chunks(most) {
            play_some(some, &materials, release)?;
        }
    }
    Ok(())
}

fn play_some(scenarios: &[&Scenario], materials: &Materials, release: Release) -> Result<()> {
    let setup = scenarios.first().context("no scenario")?.setup;
    let stage = Stage::start(setup, scenarios, materials, release);
    for (number, scenario) in scenarios.iter().enumerate() {
        let outcome = match &stage {
            Ok(stage) => stage.play(number, scenario),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        let outcome = outcome.unwrap_or_else(|error| Outcome {
            said: String::new(),
            wrong: Some(format!("{error:#}")),
        });
        let Outcome { said, wrong } = outcome;
        let wrong = wrong.unwrap_or_default().replace(['\n', '\t'], " ");
        println!("{}\t{said}\t{wrong}", scenario.key());
    }
    Ok(())
}

/// What was seen on one Envoy, by the keys of the scenarios. A process of its own: the environment says which Envoy is
/// run.
fn column(
    version: &str,
    options: &[String],
    scenarios: &[Scenario],
) -> Result<BTreeMap<String, Cell>> {
    let output = Command::new(env::current_exe()?)
        .arg(RUN)
        .args(options)
        .env("ENVOY_VERSION", version)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "Envoy {version}: {}",
        output.status
    );
    let release = release(version)?;
    let text = String::from_utf8(output.stdout)?;
    let mut seen = BTreeMap::new();
    for line in text.lines() {
        let [key, said, wrong] = line.split('\t').collect::<Vec<_>>()[..] else {
            anyhow::bail!("Envoy {version}: {line:?}");
        };
        seen.insert(key, (said, wrong));
    }
    let cell = |scenario: &Scenario| {
        let key = scenario.key();
        let (said, wrong) = seen
            .get(key.as_str())
            .with_context(|| format!("{key}: not run"))?;
        let (_, limit) = scenario.truth.on(release, scenario.setup.is_inbound);
        let cell = Cell {
            said: (*said).to_owned(),
            limit,
            wrong: (!wrong.is_empty()).then(|| (*wrong).to_owned()),
        };
        Ok((key, cell))
    };
    scenarios.iter().map(cell).collect()
}

/// Major and minor version.
fn release(version: &str) -> Result<Release> {
    let mut numbers = version.split('.').map(str::parse);
    let (major, minor) = numbers.next().zip(numbers.next()).context("no version")?;
    Ok((major?, minor?))
}
