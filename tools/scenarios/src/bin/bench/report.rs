//! The table, the targets, and the JSON file.

use std::{env, fs};

use anyhow::{Context, Result};
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

/// Prints the tables and writes the JSON file; with `UPDATE_DOCS` set, also the documents that show
/// the tables.
pub fn write(figures: &Figures, quick: bool) -> Result<()> {
    let targets = targets(figures)?;
    let tables = [
        requests_table(figures),
        connections_table(figures),
        first_sight_table(figures),
        rest_table(figures),
        scrape_table(figures),
        targets_table(&targets),
    ]
    .join("\n");
    println!("\n{tables}");
    if quick {
        println!("QUICK=1: one short round. The figures mean nothing.");
    }
    let json = json!({
        "quick": quick,
        "envoy": Envoy::release()?,
        "module_bytes": fs::metadata(module::path()?)?.len(),
        "targets": targets.iter().map(Target::json).collect::<Vec<_>>(),
        "figures": figures.json(),
    });
    let file = workspace_root().join(FILE);
    fs::write(file, serde_json::to_string_pretty(&json)?)?;
    println!("Every sample is in {FILE}.");
    if env::var_os("UPDATE_DOCS").is_some() {
        update("docs/performance.md", &format!("```\n{tables}```\n"))?;
        update("README.md", &summary(figures).context("no figures")?)?;
    }
    Ok(())
}

/// Replaces what a document has between its marks.
fn update(document: &str, text: &str) -> Result<()> {
    const BEGIN: &str = "<!-- bench:begin -->\n";
    const END: &str = "<!-- bench:end -->";
    let path = workspace_root().join(document);
    let old = fs::read_to_string(&path)?;
    let (before, rest) = old.split_once(BEGIN).context("no bench:begin")?;
    let (_, after) = rest.split_once(END).context("no bench:end")?;
    Ok(fs::write(
        path,
        format!("{before}{BEGIN}{text}{END}{after}"),
    )?)
}

/// The line of the README: memory first, for each proxy pays it whatever its traffic.
fn summary(figures: &Figures) -> Option<String> {
    let memory = |variant| Some(figures.summary(Figure::Memory, variant)?.median);
    let without = memory(Variant::None)?;
    let module = memory(Variant::Both)? - without;
    let empty = memory(Variant::Empty)? - without;
    let request = figures.added(ONE_WORKER, Variant::Http)?.median;
    let figure = Figure::Connection { certificates: 100 };
    let connection = figures.added(figure, Variant::Both)?.median;
    Some(format!(
        "Memory: {module:.0} MB for each Envoy, of which any Wasm filter takes {empty:.0} MB. CPU: {request:.1} µs for a request, \
         {connection:.0} µs for a new mTLS connection (`make bench`).\n",
    ))
}

/// What the crates that read certificates, base64 and JSON may cost, beside the readers of our own in 0.1: half again
/// of what the first sight of a leaf took, and 400 KB of module.
const FIRST_SIGHT: f64 = 1.5;

fn targets_table(targets: &[Target]) -> String {
    let mut table = format!("{:<62}{:>9}   limit\n", "target", "measured");
    for target in targets {
        let value = target.value.map_or("–".to_owned(), |v| format!("{v:.2}"));
        let sign = if target.at_least { "≥" } else { "≤" };
        let limit = format!("{sign} {}", target.limit);
        let verdict = match (target.value, target.is_met()) {
            (None, _) => "not measured",
            (_, true) => "met",
            (_, false) => "NOT met",
        };
        table += &format!("{:<62}{value:>9}   {limit:<8}{verdict}\n", target.what);
    }
    table
}

fn targets(figures: &Figures) -> Result<Vec<Target>> {
    let added = |variant| Some(figures.added(ONE_WORKER, variant)?.median);
    let ratio = |a, b| Some(added(a)? / added(b)?);
    let mut targets = vec![
        Target::at_most(
            "request: HTTP filter / floor (added CPU)",
            ratio(Variant::Http, Variant::HttpFloor),
            1.5,
        ),
        Target::at_most(
            "request: network filter / floor (added CPU)",
            ratio(Variant::Network, Variant::NetworkFloor),
            1.5,
        ),
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
    let first_sights =
        first_sight(figures, Variant::Http).zip(first_sight(figures, Variant::Before));
    targets.push(Target::at_most(
        "first sight of a leaf: this module / 0.1",
        first_sights.map(|(now, before)| now / before),
        FIRST_SIGHT,
    ));
    let memory = |variant| Some(figures.summary(Figure::Memory, variant)?.median);
    targets.push(Target::at_most(
        "memory: both filters above the empty filter, MB",
        memory(Variant::Both)
            .zip(memory(Variant::Empty))
            .map(|(both, empty)| both - empty),
        8.0,
    ));
    targets.push(Target::at_most(
        "module, KB",
        Some(fs::metadata(module::path()?)?.len() as f64 / 1e3),
        400.0,
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
fn first_sight(figures: &Figures, variant: Variant) -> Option<f64> {
    let [one, _, many] = POPULATIONS.map(|certificates| Figure::Connection { certificates });
    let more =
        |variant| Some(figures.undisturbed(many, variant)? - figures.undisturbed(one, variant)?);
    Some(more(variant)? - more(variant.base())?)
}

/// Both figures behind the ratio, in µs.
fn first_sight_table(figures: &Figures) -> String {
    let mut table =
        "First sight of a leaf: what a connection costs more when its certificate is new, µs\n"
            .to_owned();
    for variant in Variant::chosen() {
        if let (true, Some(value)) = (variant.is_module(), first_sight(figures, variant)) {
            table += &format!("{:<34}{value:>22.1}\n", variant.name());
        }
    }
    table
}

fn requests_table(figures: &Figures) -> String {
    let mut table = "CPU of Envoy's workers for a request on a keep-alive connection, µs: median (quartiles), and what is added\n".to_owned();
    table += &format!(
        "{:<34}{:>22}{:>8}{:>22}{:>8}\n",
        "", "1 worker", "", "2 workers", ""
    );
    for variant in Variant::chosen() {
        let columns = [1, 2].map(|workers| columns(figures, Figure::Request { workers }, variant));
        table += &format!("{:<34}{}\n", variant.name(), columns.concat());
    }
    table
}

fn connections_table(figures: &Figures) -> String {
    let mut table = "The same for a new connection with one request, by how many client certificates there are\n".to_owned();
    let head = POPULATIONS.map(|certificates| format!("{certificates:>22}{:>8}", ""));
    table += &format!("{:<34}{}\n", "", head.concat());
    for variant in Variant::chosen() {
        let columns = POPULATIONS
            .map(|certificates| columns(figures, Figure::Connection { certificates }, variant));
        table += &format!("{:<34}{}\n", variant.name(), columns.concat());
    }
    table
}

fn rest_table(figures: &Figures) -> String {
    const COLUMNS: [(&str, Figure); 7] = [
        ("p50", Figure::LatencyMedian),
        ("p99", Figure::Latency99),
        ("start CPU", Figure::Start),
        ("start", Figure::StartElapsed),
        ("memory", Figure::Memory),
        ("+1 worker", Figure::MemoryPerWorker),
        ("at end", Figure::MemoryAtEnd),
    ];
    let mut table = "Latency at 2000 requests a second, µs; from start to ready, ms; resident memory, MB (at end: after all certificates)\n".to_owned();
    let head = COLUMNS.map(|(name, _)| format!("{name:>11}"));
    table += &format!("{:<34}{}\n", "", head.concat());
    for variant in Variant::chosen() {
        let columns = COLUMNS.map(|(_, figure)| {
            let summary = figures.summary(figure, variant);
            let median = summary.map_or("–".to_owned(), |s| format!("{:.1}", s.median));
            format!("{median:>11}")
        });
        table += &format!("{:<34}{}\n", variant.name(), columns.concat());
    }
    table
}

fn scrape_table(figures: &Figures) -> String {
    let mut table = "What the module adds to a scrape: before the first connection, and with 100 identities of their own\n".to_owned();
    let head = ["series", "bytes", "series", "bytes"].map(|name| format!("{name:>11}"));
    table += &format!("{:<34}{}\n", "", head.concat());
    for variant in [
        Variant::Http,
        Variant::Network,
        Variant::Both,
        Variant::Xfcc,
    ] {
        let columns = [
            Figure::SeriesAtRest,
            Figure::ScrapeAtRest,
            Figure::SeriesAtEnd,
            Figure::ScrapeAtEnd,
        ]
        .map(|figure| {
            let summary = figures.summary(figure, variant);
            let median = summary.map_or("–".to_owned(), |s| format!("{:.0}", s.median));
            format!("{median:>11}")
        });
        table += &format!("{:<34}{}\n", variant.name(), columns.concat());
    }
    table
}

/// Median, quartiles and what the variant adds to its base.
fn columns(figures: &Figures, figure: Figure, variant: Variant) -> String {
    let spread = spread(figures.summary(figure, variant));
    let added = signed(figures.added(figure, variant), variant);
    format!("{spread:>22}{added:>8}")
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
