//! The report as text.

use std::fmt::Write as _;

use super::gate::Gate;
use super::report::{CaRow, Cell, ProxyRow, Report};
use crate::clock::ago;
use crate::mesh::proxy::Seen;
use crate::mesh::verdict::Reason;
use crate::printable::printable;
use crate::table::{Line, align};

const NOTHING: &str = "–";
const UNKNOWN: &str = "?";

/// The whole report.
pub(super) fn text(report: &Report) -> String {
    let mut text = align(&proxy_lines(report), &[]);
    text.push('\n');
    text.push_str(&align(&ca_lines(report), &[]));
    if !report.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &report.warnings {
        let line = format!("! {}: {}\n", warning.proxy, warning.what);
        text.push_str(&printable(&line.replace('\n', " ")));
        text.push('\n');
    }
    for gate in &report.gates {
        text.push('\n');
        text.push_str(&gate_lines(gate));
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{}", conclusion(report));
    text
}

fn conclusion(report: &Report) -> String {
    match (report.passes, report.rotation.is_some()) {
        (true, true) => format!("gate {} is open", report.gate),
        (true, false) => "nothing is wrong".to_owned(),
        (false, true) => format!("gate {} is closed", report.gate),
        (false, false) => "the cardinal rule is not shown to hold".to_owned(),
    }
}

fn header(names: &[&str]) -> Line {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn proxy_lines(report: &Report) -> Vec<Line> {
    let mut lines = vec![header(&[
        "PROXY",
        "CA",
        "IN BUNDLE",
        "TRUSTED",
        "SIGNS OWN LEAF",
        "PEERS LAST SEEN",
    ])];
    for proxy in &report.proxies {
        lines.extend(proxy.cas.iter().enumerate().map(|(index, cell)| {
            let name = if index == 0 { &proxy.name } else { "" };
            cell_line(name, cell, report.at)
        }));
        lines.extend(notes(proxy));
    }
    lines
}

fn cell_line(proxy: &str, cell: &Cell, now: i64) -> Line {
    let trusted = match (&cell.through, cell.trusted) {
        (Some(anchor), _) => format!("through {anchor}"),
        (None, trusted) => yes_no(trusted).to_owned(),
    };
    vec![
        proxy.to_owned(),
        cell.ca.clone(),
        yes_no(cell.in_bundle).to_owned(),
        trusted,
        yes_no(cell.signs_own_leaf).to_owned(),
        last_seen(cell.last_seen, now),
    ]
}

fn notes(proxy: &ProxyRow) -> Vec<Line> {
    let unknown = proxy.unknown.map(|why| format!("! unknown: {why}"));
    let refused = (proxy.unknown_ca_failures > 0).then(|| {
        format!(
            "! {} handshakes refused for unknown_ca since it started",
            proxy.unknown_ca_failures
        )
    });
    let name = |empty: bool| {
        if empty {
            proxy.name.clone()
        } else {
            String::new()
        }
    };
    let notes = unknown.into_iter().chain(refused);
    notes
        .map(|note| vec![name(proxy.cas.is_empty()), note])
        .collect()
}

fn last_seen(seen: Seen, now: i64) -> String {
    let side = |at: Option<i64>, name| Some(format!("{} ({name})", ago(now.saturating_sub(at?))));
    let sides = [
        side(seen.inbound, "inbound"),
        side(seen.outbound, "outbound"),
    ];
    let sides: Vec<String> = sides.into_iter().flatten().collect();
    match sides.is_empty() {
        true => NOTHING.to_owned(),
        false => sides.join(", "),
    }
}

fn ca_lines(report: &Report) -> Vec<Line> {
    let mut lines = vec![header(&[
        "CA",
        "LAYER",
        "STATE",
        "IN BUNDLES",
        "SIGNS LEAVES OF",
        "PEERS LAST SEEN",
    ])];
    let known = report
        .proxies
        .iter()
        .filter(|proxy| proxy.unknown.is_none())
        .map(|proxy| proxy.count)
        .sum();
    lines.extend(report.cas.iter().map(|ca| ca_line(ca, report, known)));
    lines
}

fn ca_line(ca: &CaRow, report: &Report, known: usize) -> Line {
    let all: usize = report.proxies.iter().map(|proxy| proxy.count).sum();
    let of = match all.saturating_sub(known) {
        0 => format!("{} of {known}", ca.in_bundles),
        unknown => format!("{} of {known}, {unknown} unknown", ca.in_bundles),
    };
    let seen = ca.last_seen.map(|at| ago(report.at.saturating_sub(at)));
    vec![
        ca.ca.clone(),
        ca.layer.unwrap_or(NOTHING).to_owned(),
        ca.state.as_str().to_owned(),
        of,
        list(&ca.signs_leaves_of),
        seen.unwrap_or_else(|| NOTHING.to_owned()),
    ]
}

/// The first few names, and how many more.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 if names.is_empty() => NOTHING.to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn gate_lines(gate: &Gate) -> String {
    let answer = gate.verdict.answer();
    let mut text = format!("{}  {} {answer}\n", gate.number, gate.question);
    for Reason {
        verdict,
        proxy,
        what,
        ..
    } in &gate.because
    {
        let proxy = proxy
            .as_ref()
            .map_or(String::new(), |proxy| format!("{proxy}: "));
        let _ = writeln!(
            text,
            "   {:8} {}",
            verdict.answer(),
            printable(&format!("{proxy}{what}"))
        );
    }
    text
}

fn yes_no(value: Option<bool>) -> &'static str {
    match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => UNKNOWN,
    }
}
