//! The table, the targets, and the JSON file.

use std::fs;

use anyhow::Result;
use serde_json::{Value as Json, json};
use testbed::{Envoy, module, workspace_root};

use crate::POPULATIONS;
use crate::figures::{Figure, Figures, Summary};
use crate::variants::Variant;

const FILE: &str = "target/bench.json";
const ONE_WORKER: Figure = Figure::Request { workers: 1 };

/// What `make bench` is to show, from issue 6.
struct Target {
    what: String,
    value: Option<f64>,
    limit: f64,
    at_least: bool,
}

impl Target {
    fn at_most(what: impl Into<String>, value: Option<f64>, limit: f64) -> Self {
        let what = what.into();
        Self {
            what,
            value,
            limit,
            at_least: false,
        }
    }

    fn at_least(what: impl Into<String>, value: Option<f64>, limit: f64) -> Self {
        let target = Self::at_most(what, value, limit);
        Self {
            at_least: true,
            ..target
        }
    }

    fn is_met(&self) -> bool {
        self.value.is_some_and(|value| match self.at_least {
            true => value >= self.limit,
            false => value <= self.limit,
        })
    }

    fn json(&self) -> Json {
        let bound = if self.at_least { "at_least" } else { "at_most" };
        json!({ "what": self.what, "value": self.value, bound: self.limit, "met": self.is_met() })
    }
}

/// Prints the tables and writes the JSON file.
pub fn write(figures: &Figures, quick: bool) -> Result<()> {
    let targets = targets(figures)?;
    print_requests(figures);
    print_connections(figures);
    print_rest(figures);
    println!("\ntarget                                                        measured   limit");
    for target in &targets {
        let value = target.value.map_or("–".to_owned(), |v| format!("{v:.2}"));
        let sign = if target.at_least { "≥" } else { "≤" };
        let limit = format!("{sign} {}", target.limit);
        let verdict = if target.is_met() { "met" } else { "NOT met" };
        println!("{:<60} {value:>9}   {limit:<9} {verdict}", target.what);
    }
    if quick {
        println!("\nQUICK=1: one short round. The figures mean nothing.");
    }
    let json = json!({
        "quick": quick,
        "envoy": Envoy::release()?,
        "module_bytes": fs::metadata(module::path()?)?.len(),
        "targets": targets.iter().map(Target::json).collect::<Vec<_>>(),
        "figures": figures.json(),
    });
    fs::write(
        workspace_root().join(FILE),
        serde_json::to_string_pretty(&json)?,
    )?;
    println!("\nEvery sample is in {FILE}.");
    Ok(())
}

fn targets(figures: &Figures) -> Result<Vec<Target>> {
    let added = |variant| Some(figures.added(ONE_WORKER, variant)?.median);
    let ratio = |a, b| Some(added(a)? / added(b)?);
    let mut targets = vec![
        Target::at_most(
            "request: HTTP filter / empty filter (added CPU)",
            ratio(Variant::Http, Variant::Empty),
            1.0,
        ),
        Target::at_most(
            "request: HTTP filter / Lua (added CPU)",
            ratio(Variant::Http, Variant::Lua),
            0.8,
        ),
        Target::at_most(
            "request: network filter / empty filter (added CPU)",
            ratio(Variant::Network, Variant::Empty),
            0.3,
        ),
    ];
    for variant in [Variant::Http, Variant::Network, Variant::Both] {
        let what = format!("new connections per CPU second: {} / none", variant.name());
        targets.push(Target::at_least(what, rate(figures, variant, 100), 0.98));
    }
    targets.push(Target::at_most(
        "first sight of a leaf in Envoy, µs",
        first_sight(figures),
        15.0,
    ));
    targets.push(Target::at_most(
        "module, KB",
        Some(fs::metadata(module::path()?)?.len() as f64 / 1e3),
        300.0,
    ));
    Ok(targets)
}

/// New connections a second as a share of those without a filter: CPU time is what limits them.
fn rate(figures: &Figures, variant: Variant, certificates: usize) -> Option<f64> {
    let figure = Figure::Connection { certificates };
    let rounds = figures.samples(figure, variant).iter();
    let base = figures.samples(figure, variant.base());
    Some(Summary::of(rounds.zip(base).map(|(own, base)| base / own))?.median)
}

/// What a connection costs more when its certificate is new to the module, less what that costs
/// Envoy itself.
fn first_sight(figures: &Figures) -> Option<f64> {
    let [one, _, many] = POPULATIONS.map(|certificates| Figure::Connection { certificates });
    let median = |figure| Some(figures.added(figure, Variant::Http)?.median);
    Some(median(many)? - median(one)?)
}

fn print_requests(figures: &Figures) {
    println!(
        "\nCPU of Envoy's workers per request, keep-alive, µs (median; half of the rounds between)"
    );
    println!(
        "{:<36}{:>25}{:>10}{:>25}{:>10}",
        "", "1 worker", "added", "2 workers", "added"
    );
    for variant in Variant::ALL {
        print!("{:<36}", variant.name());
        for workers in [1, 2] {
            let figure = Figure::Request { workers };
            print!("{:>25}", spread(figures.summary(figure, variant)));
            print!("{:>10}", signed(figures.added(figure, variant), variant));
        }
        println!();
    }
}

fn print_connections(figures: &Figures) {
    println!(
        "\nCPU of Envoy's workers per new connection with one request, µs, by client certificates"
    );
    print!("{:<36}", "");
    for certificates in POPULATIONS {
        print!("{certificates:>25}{:>10}", "added");
    }
    println!();
    for variant in Variant::ALL {
        print!("{:<36}", variant.name());
        for certificates in POPULATIONS {
            let figure = Figure::Connection { certificates };
            print!("{:>25}", spread(figures.summary(figure, variant)));
            print!("{:>10}", signed(figures.added(figure, variant), variant));
        }
        println!();
    }
}

fn print_rest(figures: &Figures) {
    println!(
        "\nLatency at 2000 requests/s (µs), start to ready (ms), resident memory (MB); medians"
    );
    let columns = [
        ("p50", Figure::LatencyMedian),
        ("p99", Figure::Latency99),
        ("start CPU", Figure::Start),
        ("start", Figure::StartElapsed),
        ("memory", Figure::Memory),
        ("+1 worker", Figure::MemoryPerWorker),
        ("at end", Figure::MemoryAtEnd),
    ];
    print!("{:<36}", "");
    for (name, _) in columns {
        print!("{name:>11}");
    }
    println!();
    for variant in Variant::ALL {
        print!("{:<36}", variant.name());
        for (_, figure) in columns {
            let summary = figures.summary(figure, variant);
            print!(
                "{:>11}",
                summary.map_or("–".to_owned(), |s| format!("{:.1}", s.median))
            );
        }
        println!();
    }
}

fn spread(summary: Option<Summary>) -> String {
    summary.map_or("–".to_owned(), |s| {
        format!(
            "{:.1} ({:.1}–{:.1})",
            s.median, s.lower_quartile, s.upper_quartile
        )
    })
}

fn signed(summary: Option<Summary>, variant: Variant) -> String {
    match summary {
        Some(summary) if variant.base() != variant => format!("{:+.2}", summary.median),
        _ => String::new(),
    }
}
