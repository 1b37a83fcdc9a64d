//! `make test-matrix`: what the module gets to see in each Envoy release, from real traffic, as the
//! table of docs/versions.md.
//!
//! `matrix VERSION…` prints the table, `--check` fails if that page has another, `--update` writes it
//! there. Each version must have been fetched (`make envoy ENVOY_VERSION=…`).

mod page;
mod probes;

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use probes::Row;

/// Runs the probes on one Envoy, that of `ENVOY_VERSION`: one row a line.
const PROBE: &str = "--probe";

/// The Istio releases that have these Envoys.
const ISTIO: [(&str, &str); 3] = [("1.36", "1.28"), ("1.37", "1.29"), ("1.38", "1.30")];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matrix: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (options, versions): (Vec<_>, Vec<_>) = env::args()
        .skip(1)
        .partition(|argument| argument.starts_with('-'));
    let option = options.first().map(String::as_str);
    ensure!(options.len() < 2, "one option, not {options:?}");
    if option == Some(PROBE) {
        for Row { name, cell } in probes::all()? {
            println!("{name}\t{cell}");
        }
        return Ok(());
    }
    ensure!(
        !versions.is_empty(),
        "usage: matrix [--check|--update] ENVOY_VERSION…"
    );
    let table = table(&versions)?;
    print!("{table}");
    match option {
        None => Ok(()),
        Some("--check") => page::check(&table),
        Some("--update") => page::update(&table),
        Some(other) => bail!("unknown option {other}"),
    }
}

/// One column for each version.
fn table(versions: &[String]) -> Result<String> {
    let columns = versions.iter().map(|version| column(version));
    let columns: Vec<Vec<Row>> = columns.collect::<Result<_>>()?;
    let mut table = line("Envoy", versions.iter().map(String::as_str));
    table += &line("---", versions.iter().map(|_| "---"));
    table += &line("Istio", versions.iter().map(|version| istio(version)));
    for (index, first) in columns[0].iter().enumerate() {
        let cells = columns.iter().map(|column| column[index].cell.as_str());
        table += &line(&first.name, cells);
    }
    Ok(table)
}

fn line<'a>(name: &str, cells: impl Iterator<Item = &'a str>) -> String {
    let cells: Vec<&str> = cells.collect();
    format!("| {name} | {} |\n", cells.join(" | "))
}

fn istio(version: &str) -> &str {
    let of = |(envoy, _): &&(&str, &str)| version.starts_with(envoy);
    ISTIO.iter().find(of).map_or("later", |(_, istio)| istio)
}

/// A process of its own: the environment says which Envoy is run.
fn column(version: &str) -> Result<Vec<Row>> {
    let output = Command::new(env::current_exe()?)
        .arg(PROBE)
        .env("ENVOY_VERSION", version)
        .output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "Envoy {version}: {complaint}");
    String::from_utf8(output.stdout)?
        .lines()
        .map(|line| Row::parse(line).with_context(|| format!("Envoy {version}: {line:?}")))
        .collect()
}
