//! What is seen of the certificates of each mesh and shape, on a real Envoy: the table of docs/own-certificates.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use testbed::sample::yaml;
use testbed::stats::Series;
use testbed::{Envoy, Stats, workspace_root};

use crate::fixtures::{FIXTURES, Fixture, Supply};
use crate::setup::Pki;
use crate::sidecar::{FINDINGS, PRESENT, TRUSTED, polling, soon, start, wait_for_polls};

const PAGE: &str = "docs/own-certificates.md";
const MARKS: [&str; 2] = ["<!-- meshes:begin -->\n", "<!-- meshes:end -->"];
const HEADER: &str = "\
| mesh, shape | secret | leaf | signed by | stands under | CAs with it | trusted | findings |
|---|---|---|---|---|---|---|---|
";
/// Envoys that run at the same time.
const AT_A_TIME: usize = 4;

/// Each fixture has the rows that the page says. Before 1.40 Envoy tells of a bundle by dates the first CA only.
#[test]
fn the_page_says_what_is_seen_of_every_mesh() -> Result<()> {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let page = fs::read_to_string(workspace_root().join(PAGE))?;
    let (before, rest) = page.split_once(MARKS[0]).context("the page has a table")?;
    let (table, after) = rest.split_once(MARKS[1]).context("the table has an end")?;
    let tells_all = Envoy::release()? >= (1, 40);
    let mut seen = Vec::new();
    for fixtures in FIXTURES.chunks(AT_A_TIME) {
        let rows = |fixture: &Fixture| match (update, tells_all) {
            (true, _) => run(fixture, None),
            (false, true) => run(fixture, Some(table)),
            // The CAs by dates are some only.
            (false, false) if fixture.is_by_dates => Ok(String::new()),
            (false, false) => run(fixture, Some(table)),
        };
        thread::scope(|scope| {
            let rows = &rows;
            let runs: Vec<_> = fixtures
                .iter()
                .map(|fixture| (fixture.name, scope.spawn(move || rows(fixture))))
                .collect();
            for (name, run) in runs {
                seen.push(run.join().expect("no panic").context(name)?);
            }
            anyhow::Ok(())
        })?;
    }
    let expected = [HEADER, &seen.concat()].concat();
    if update {
        let page = [before, MARKS[0], &expected, MARKS[1], after].concat();
        fs::write(workspace_root().join(PAGE), page)?;
    } else if tells_all {
        ensure!(
            table == expected,
            "{PAGE} is stale: UPDATE_DOCS=1 cargo test --test hierarchy meshes"
        );
    }
    Ok(())
}

/// The rows of a fixture, as soon as they are those of the table, if there is one.
fn run(fixture: &Fixture, table: Option<&str>) -> Result<String> {
    let pki = Pki::new()?;
    let Supply { contexts, secrets } = (fixture.supply)(&pki)?;
    let contexts = ["inbound_http", "inbound_tcp"]
        .into_iter()
        .zip(contexts.iter().cycle());
    let contexts: BTreeMap<&str, _> = contexts
        .map(|(name, it)| (name, yaml(it.clone())))
        .collect();
    let secrets = yaml(secrets.into());
    let sample = polling(&pki)?.edit(|node| {
        if let Some(items) = node.as_sequence_mut() {
            let is_outbound = |name: &str| {
                ["outbound_http", "outbound_tcp", "peer_http", "peer_tcp"].contains(&name)
            };
            items.retain(|item| !item["name"].as_str().is_some_and(is_outbound));
        }
        if node.get("clusters").is_some() && node.get("listeners").is_some() {
            node["secrets"] = secrets.clone();
        }
        if let Some(context) = node["name"].as_str().and_then(|name| contexts.get(name))
            && node.get("filter_chains").is_some()
        {
            let socket = &mut node["filter_chains"][0]["transport_socket"];
            socket["typed_config"]["common_tls_context"] = context.clone();
        }
    });
    let proxy = start(sample, 1)?;
    let rows = |stats: &Stats| rows(fixture, stats, pki.directory());
    match table {
        None => Ok(rows(&wait_for_polls(&proxy.envoy, 2.0)?)),
        Some(table) => soon(|| {
            let rows = rows(&proxy.stats()?);
            let name = fixture.name;
            ensure!(
                table.contains(&rows),
                "not in the table of {PAGE}, UPDATE_DOCS=1 writes it:\n{rows}"
            );
            ensure!(!rows.is_empty(), "{name}: nothing is seen");
            Ok(rows)
        }),
    }
}

/// One row for each secret that is seen.
fn rows(fixture: &Fixture, stats: &Stats, directory: &Path) -> String {
    let findings = stats
        .series(FINDINGS)
        .into_iter()
        .filter(|it| it.value > 0.0);
    let secrets = stats.series(PRESENT).into_iter().chain(findings);
    let secrets: BTreeSet<&str> = secrets.map(|series| series.label("secret")).collect();
    let mut name = fixture.name;
    let rows = secrets.into_iter().map(|secret| {
        let row = Row::of(secret, stats);
        // Rows of one fixture stand together.
        let first = std::mem::take(&mut name);
        row.text(first, secret, directory)
    });
    rows.collect()
}

struct Row {
    leaf: &'static str,
    signed_by: String,
    under: String,
    with_it: String,
    trusted: String,
    findings: String,
}

impl Row {
    fn of(secret: &str, stats: &Stats) -> Self {
        let of = |metric| {
            let series = stats.series(metric).into_iter();
            series.filter(move |it| it.label("secret") == secret && it.value > 0.0)
        };
        let has_layer = |layer| of(PRESENT).any(|it| it.label("layer") == layer);
        let cas = |metric: &'static str| list(of(metric).map(|it| ca(it, "ca")).collect());
        let trusted = of(TRUSTED).map(|it| it.label("ca"));
        let is_trusted: BTreeSet<&str> = trusted.collect();
        let with_it = of(PRESENT).filter(|it| {
            let is_leaf = it.label("layer") == "workload";
            !is_leaf && !is_trusted.contains(it.label("identity"))
        });
        let signed_by = cas("mtls_own_issuer");
        let lists = of("mtls_own_crl_next_update_timestamp_seconds").count();
        let mut trusted = cas(TRUSTED);
        if lists > 0 {
            trusted.push_str(&format!(", revocation lists: {lists}"));
        }
        Self {
            leaf: match (has_layer("workload"), signed_by != NONE) {
                (false, _) => NONE,
                (true, true) => "in full",
                (true, false) => "dates, SAN",
            },
            under: cas("mtls_own_trust_anchor"),
            with_it: list(with_it.map(|it| ca(it, "identity")).collect()),
            findings: list(
                of(FINDINGS)
                    .map(|it| format!("`{}`", it.label("finding")))
                    .collect(),
            ),
            signed_by,
            trusted,
        }
    }

    fn text(&self, name: &str, secret: &str, directory: &Path) -> String {
        let secret = secret.replace(&*directory.to_string_lossy(), "/etc/certs");
        let Self {
            leaf,
            signed_by,
            under,
            with_it,
            trusted,
            findings,
        } = self;
        format!(
            "| {name} | `{secret}` | {leaf} | {signed_by} | {under} | {with_it} | {trusted} | {findings} |\n"
        )
    }
}

const NONE: &str = "–";

/// A CA without what differs at each run.
fn ca(series: &Series, label: &str) -> String {
    match series.label(label).split_once(':') {
        Some(("serial", _)) => "by dates".to_owned(),
        Some((name, _)) => name.replace('_', " "),
        None => series.label(label).to_owned(),
    }
}

/// Each once, with its number.
fn list(items: Vec<String>) -> String {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    for item in items {
        *numbers.entry(item).or_default() += 1;
    }
    let text: Vec<String> = numbers
        .into_iter()
        .map(|(item, number)| match number {
            1 => item,
            _ => format!("{number} × {item}"),
        })
        .collect();
    match text.is_empty() {
        true => NONE.to_owned(),
        false => text.join(", "),
    }
}
