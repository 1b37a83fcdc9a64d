//! The report for people.

use std::fmt::Write as _;

use super::census::Group;
use super::report::{Ca, Report};
use crate::clock::{ago, span};
use crate::mark::Mark;
use crate::printable::printable;
use crate::table::{Line, align};
use crate::terminal::{counted, write_wrapped};

/// How many lines of each kind are shown; JSON has all.
const SHOWN: usize = 12;
/// Namespaces and names of a line.
const NAMED: usize = 3;
/// A CA's name, in a table of 80 columns.
const CA_WIDTH: usize = 26;

/// The report in words.
pub(super) fn text(report: &Report, in_colour: bool) -> String {
    let mut text = String::new();
    write_proxies(&mut text, report, in_colour);
    text.push('\n');
    write_cas(&mut text, report, in_colour);
    write_ends(&mut text, report);
    write_distrust(&mut text, report, in_colour);
    write_domains(&mut text, report, in_colour);
    write_findings(&mut text, report, in_colour);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{}", report.result.line(in_colour));
    text
}

fn write_proxies(text: &mut String, report: &Report, in_colour: bool) {
    let proxies = &report.proxies;
    let title = format!(
        "{}: {} with the module in {}",
        report.prometheus,
        counted(proxies.with_module, "proxy", "proxies"),
        counted(proxies.namespaces, "namespace", "namespaces"),
    );
    write_wrapped(text, "", 2, &printable(&title));
    let mut line = |mark: Mark, words: &str| {
        let head = format!("{} ", mark.sign(in_colour));
        write_wrapped(text, &head, 2, &printable(words));
    };
    match proxies.without_module {
        None => line(
            Mark::Unseen,
            "proxies without the module: there is no envoy_server_live",
        ),
        Some(0) => line(Mark::Ok, "no proxy without the module"),
        Some(without) => {
            let places = proxies.without_module_by_namespace.iter();
            let places = places.map(|it| format!("{} {} of {}", it.namespace, it.without, it.all));
            let words = format!(
                "{} without the module, of which nothing is known: {}",
                counted(without, "proxy", "proxies"),
                list(places.collect())
            );
            line(Mark::Unseen, &words);
        }
    }
    for (why, count) in &proxies.unknown {
        line(
            Mark::Unseen,
            &format!("{}: {why}", counted(*count, "proxy", "proxies")),
        );
    }
}

fn write_cas(text: &mut String, report: &Report, in_colour: bool) {
    let header = ["CA", "layer", "state", "ends in", "workloads", "trusted by"];
    let mut lines: Vec<Line> = vec![header.map(str::to_owned).to_vec()];
    lines.extend(report.cas.iter().map(|ca| {
        let left = ca.not_after.map(|at| at.saturating_sub(report.at));
        let ends = match left {
            None => "?".to_owned(),
            Some(left) if left < 0 => format!("-{}", short(left.saturating_neg())),
            Some(left) => short(left),
        };
        vec![
            shortened(&ca.ca),
            layer(ca).to_owned(),
            ca.state.as_str().to_owned(),
            ends,
            ca.workloads.count.to_string(),
            ca.trusted_by.count.to_string(),
        ]
    }));
    let signs = [String::from(" ")].into_iter();
    let signs = signs.chain(report.cas.iter().map(|ca| ca.result.sign(in_colour)));
    for (sign, line) in signs.zip(align(&lines, &[3, 4, 5]).lines()) {
        let _ = writeln!(text, "{sign} {line}");
    }
}

fn shortened(ca: &String) -> String {
    let width = CA_WIDTH.min(ca.chars().count());
    columns::aligned(std::slice::from_ref(ca), &[width], &[]).concat()
}

/// The larger unit is enough in a column.
fn short(seconds: i64) -> String {
    span(seconds)
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn layer(ca: &Ca) -> &'static str {
    match ca.layer {
        Some("root_ca") => "root",
        Some("intermediate_ca") => "intermediate",
        Some("issuing_ca") => "issuing",
        _ => "?",
    }
}

/// What breaks when a CA ends.
fn write_ends(text: &mut String, report: &Report) {
    let ending: Vec<&Ca> = report
        .cas
        .iter()
        .filter(|ca| ca.when_it_ends.workloads.count > 0)
        .collect();
    for ca in ending.iter().take(SHOWN) {
        text.push('\n');
        write_wrapped(text, "", 2, &printable(&end_of(ca, report.at)));
        let blast = &ca.when_it_ends;
        let groups = [
            ("these workloads", &blast.workloads),
            ("cannot be reached by", &blast.not_reached_by),
            ("cannot reach", &blast.cannot_reach),
        ];
        for (what, group) in groups {
            write_group(text, what, group);
        }
    }
    write_more(text, ending.len());
}

/// "If this CA ends, these 412 workloads cannot be reached by these 37."
fn end_of(ca: &Ca, now: i64) -> String {
    let blast = &ca.when_it_ends;
    let when = match ca.not_after.map(|at| at.saturating_sub(now)) {
        None => String::new(),
        Some(left) if left < 0 => format!(" (it has, {})", ago(left.saturating_neg())),
        Some(left) => format!(" (in {})", span(left)),
    };
    let mut words = format!(
        "if {} ends{when}, {} will be refused by {}",
        ca.ca,
        counted(blast.workloads.count, "workload", "workloads"),
        counted(blast.refused_by.count, "proxy", "proxies"),
    );
    let _ = match (blast.not_reached_by.count, blast.cannot_reach.count) {
        (0, 0) => write!(words, ", of which none has met them lately"),
        (callers, 0) => write!(
            words,
            ": they cannot be reached by {callers} that call them now"
        ),
        (0, servers) => write!(words, ": they cannot reach {servers} that they call now"),
        (callers, servers) => write!(
            words,
            ": they cannot be reached by {callers} that call them now, and cannot reach {servers}"
        ),
    };
    words
}

fn write_group(text: &mut String, what: &str, group: &Group) {
    if group.count == 0 {
        return;
    }
    let mut namespaces: Vec<(&String, &usize)> = group.namespaces.iter().collect();
    namespaces.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let namespaces = namespaces
        .iter()
        .map(|(name, count)| format!("{name} {count}"));
    let head = format!("    {what:20} ");
    let words = format!("by namespace: {}", list(namespaces.collect()));
    write_wrapped(text, &head, 25, &printable(&words));
    for name in group.names.iter().take(SHOWN) {
        let _ = writeln!(text, "{:25}{}", "", printable(name));
    }
    let more = group.names.len().saturating_sub(SHOWN);
    if more > 0 {
        let _ = writeln!(text, "{:25}and {more} more: -o json has them", "");
    }
}

fn write_distrust(text: &mut String, report: &Report, in_colour: bool) {
    if report.distrust.is_empty() {
        return;
    }
    text.push('\n');
    for distrust in report.distrust.iter().take(SHOWN) {
        let proxy = distrust.proxy.as_deref().unwrap_or_default();
        let head = format!("{} ", Mark::Broken.sign(in_colour));
        write_wrapped(
            text,
            &head,
            2,
            &printable(&format!("{proxy}: {}", distrust.what)),
        );
    }
    write_more(text, report.distrust.len());
}

fn write_domains(text: &mut String, report: &Report, in_colour: bool) {
    text.push('\n');
    let domains = report.trust_domains.iter().map(|it| {
        let workloads = counted(it.workloads, "workload", "workloads");
        format!("{} ({workloads})", it.trust_domain)
    });
    let domains: Vec<String> = domains.collect();
    let words = match domains.is_empty() {
        true => "no leaf has a SPIFFE ID".to_owned(),
        false => format!("trust domains: {}", domains.join(", ")),
    };
    write_wrapped(text, "", 2, &printable(&words));
    if let Some(why) = &report.across_unknown {
        let head = format!("{} ", Mark::Unseen.sign(in_colour));
        write_wrapped(
            text,
            &head,
            2,
            &printable(&format!("who talks to whom: {why}")),
        );
    }
    for across in report.across.iter().take(SHOWN) {
        let words = format!(
            "{} calls {}: seen by {} of the clients and {} of the servers",
            across.client, across.server, across.clients, across.servers
        );
        write_wrapped(text, "    ", 6, &printable(&words));
    }
    write_more(text, report.across.len());
}

fn write_findings(text: &mut String, report: &Report, in_colour: bool) {
    text.push('\n');
    if report.findings.is_empty() {
        let _ = writeln!(text, "{} no findings", Mark::Ok.sign(in_colour));
        return;
    }
    let mut lines: Vec<Line> = Vec::new();
    for found in report.findings.iter().take(SHOWN) {
        lines.push(vec![
            found.finding.clone(),
            found.layer.clone(),
            match found.whose.as_str() {
                "own" => "own".to_owned(),
                direction => format!("{direction} peers"),
            },
            match (found.certificates, &*found.examples) {
                (Some(certificates), [first, ..]) => format!(
                    "{certificates} at {}, such as {first}",
                    counted(found.proxies, "proxy", "proxies")
                ),
                _ => format!("met by {}", counted(found.proxies, "proxy", "proxies")),
            },
        ]);
    }
    let signs = report
        .findings
        .iter()
        .map(|found| found.result.sign(in_colour));
    for (sign, line) in signs.zip(align(&lines, &[]).lines()) {
        let _ = writeln!(text, "{sign} {line}");
    }
    write_more(text, report.findings.len());
}

fn write_more(text: &mut String, all: usize) {
    let more = all.saturating_sub(SHOWN);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more: -o json has them");
    }
}

/// The first few, and how many more.
fn list(words: Vec<String>) -> String {
    let shown = words
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match words.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
