//! The table, for people: most urgent first, 120 columns wide at most.

use columns::{aligned, widest};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;

use testbed::Style;

/// Columns of a terminal that tables fit into.
pub const WIDTH: usize = 120;
/// Between columns.
pub const GAP: &str = "  ";
const HEADINGS: [&str; 8] = [
    "direction",
    "identity",
    "layer",
    "issuer",
    "expires in",
    "status",
    "findings",
    "requests",
];
const IDENTITY: usize = 1;
const ISSUER: usize = 3;
const EXPIRES_IN: usize = 4;
const STATUS: usize = 5;
const FINDINGS: usize = 6;
const REQUESTS: usize = 7;
/// Columns whose cells stand to the right.
const NUMBERS: [usize; 2] = [EXPIRES_IN, REQUESTS];
/// Names are not cut shorter.
const NARROWEST: usize = 12;
/// What is not known.
pub const UNKNOWN: &str = "–";

/// From the worst to the best.
const STATUSES: [&str; 8] = [
    "expired",
    "not_yet_valid",
    "critical",
    "unreadable",
    "no_certificate",
    "warning",
    "hbone",
    "ok",
];

/// A certificate on one side of the sidecars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `inbound`, `outbound`.
    pub direction: String,
    /// The leaf's identity, or the CA's name.
    pub identity: String,
    /// The layer of the hierarchy.
    pub layer: String,
    /// The CA that signed it, where it is known.
    pub issuer: Option<String>,
    /// The end of validity, in Unix seconds.
    pub not_after: i64,
    /// The status.
    pub status: String,
    /// What was found.
    pub findings: BTreeSet<String>,
    /// The requests of the peer that presented it, for leaves.
    pub requests: Option<u64>,
}

impl Row {
    /// The same certificate on the same side has the same.
    pub fn key(&self) -> (&str, &str, &str) {
        (&self.direction, &self.layer, &self.identity)
    }

    fn urgency(&self) -> impl Ord + '_ {
        // One that is not known comes first.
        let rank = STATUSES.iter().position(|known| *known == self.status);
        let found = Reverse(!self.findings.is_empty());
        (rank, found, self.not_after, self.key())
    }

    /// One line of cells for each finding, and at least one.
    fn lines(&self, now: i64, trust_domain: &str) -> Vec<Cells> {
        let identity = self.identity.strip_prefix(trust_domain);
        let requests = self.requests.map(|requests| requests.to_string());
        let mut findings = self.findings.iter().cloned();
        let first = [
            self.direction.clone(),
            identity.unwrap_or(&self.identity).to_owned(),
            self.layer.clone(),
            self.issuer.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            duration(self.not_after - now),
            self.status.clone(),
            findings.next().unwrap_or_default(),
            requests.unwrap_or_else(|| UNKNOWN.to_owned()),
        ];
        let further = findings.map(|finding| {
            let mut cells = Cells::default();
            cells[FINDINGS] = finding;
            cells
        });
        [first].into_iter().chain(further).collect()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            direction,
            identity,
            layer,
            issuer,
            not_after,
            status,
            findings,
            requests,
        } = self;
        write!(
            f,
            "{direction} {identity} {layer}: {status} {findings:?}, issuer {issuer:?}, not after {not_after}, requests {requests:?}"
        )
    }
}

type Cells = [String; HEADINGS.len()];

/// Most urgent first.
pub fn sort(rows: &mut [Row]) {
    rows.sort_by(|a, b| a.urgency().cmp(&b.urgency()));
}

/// The table; `trust_domain` is left out of the identities.
pub fn render(rows: &[Row], now: i64, trust_domain: &str, style: Style) -> String {
    let lines: Vec<(&str, Cells)> = rows
        .iter()
        .flat_map(|row| {
            let lines = row.lines(now, trust_domain).into_iter();
            lines.map(|cells| (row.status.as_str(), cells))
        })
        .collect();
    let headings = HEADINGS.map(str::to_owned);
    let widths = widths(lines.iter().map(|(_, cells)| cells).chain([&headings]));
    let mut table = heading(&headings, &widths, &NUMBERS, style);
    for (status, cells) in lines {
        let mut cells = aligned(&cells, &widths, &NUMBERS);
        for column in [STATUS, FINDINGS] {
            cells[column] = style.status(status, &cells[column]);
        }
        table.push_str(cells.join(GAP).trim_end());
        table.push('\n');
    }
    table
}

/// As wide as the widest cell; names are cut where that is more than there is.
fn widths<'a>(lines: impl Iterator<Item = &'a Cells>) -> Vec<usize> {
    let mut widths = widest(lines.map(Cells::as_slice));
    let gaps = GAP.len() * (HEADINGS.len() - 1);
    while widths.iter().sum::<usize>() + gaps > WIDTH {
        let wider = match widths[IDENTITY] > widths[ISSUER] {
            true => IDENTITY,
            false => ISSUER,
        };
        if widths[wider] <= NARROWEST {
            break;
        }
        widths[wider] -= 1;
    }
    widths
}

/// The headings, and a line below them.
pub fn heading(headings: &[String], widths: &[usize], numbers: &[usize], style: Style) -> String {
    let rulers: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    let heading = style.bold(&aligned(headings, widths, numbers).join(GAP));
    format!("{heading}\n{}\n", rulers.join(GAP))
}

/// A duration in its two largest units: `6d 4h`.
fn duration(seconds: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(365 * 86_400, "y"), (86_400, "d"), (3600, "h"), (60, "m")];
    if seconds < 0 {
        return format!("{} ago", duration(-seconds));
    }
    let mut units = UNITS.into_iter().skip_while(|(unit, _)| seconds < *unit);
    match (units.next(), units.next()) {
        (None, _) => format!("{seconds}s"),
        (Some((unit, name)), None) => format!("{}{name} {}s", seconds / unit, seconds % unit),
        (Some((unit, name)), Some((next, next_name))) => {
            let rest = seconds % unit / next;
            format!("{}{name} {rest}{next_name}", seconds / unit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(identity: &str, status: &str, findings: &[&str], not_after: i64) -> Row {
        Row {
            direction: "inbound".to_owned(),
            identity: identity.to_owned(),
            layer: "workload".to_owned(),
            issuer: Some("Mesh_CA:1f2e3d4c".to_owned()),
            not_after,
            status: status.to_owned(),
            findings: findings.iter().map(|finding| finding.to_string()).collect(),
            requests: Some(6),
        }
    }

    #[test]
    fn durations_have_two_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 0s"),
            (3599, "59m 59s"),
            (86_399, "23h 59m"),
            (6 * 86_400 + 4 * 3600, "6d 4h"),
            (365 * 86_400 - 1, "364d 23h"),
            (5 * 365 * 86_400 - 1, "4y 364d"),
            (-3700, "1h 1m ago"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn the_most_urgent_comes_first() {
        let mut rows = [
            row("fine", "ok", &[], 1),
            row("noted", "ok", &["extended_key_usage_absent"], 2),
            row("later", "warning", &["weak_key"], 9),
            row("sooner", "warning", &["weak_key"], 8),
            row("expired", "expired", &["expired"], 99),
            row("odd", "a status of the future", &[], 99),
            row("critical", "critical", &[], 99),
        ];
        sort(&mut rows);
        let order = rows.map(|row| row.identity);
        let expected = [
            "odd", "expired", "critical", "sooner", "later", "noted", "fine",
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn columns_are_aligned_and_findings_below_each_other() {
        let rows = [
            row("spiffe://a/x", "critical", &["weak_key", "leaf_is_ca"], 160),
            Row {
                issuer: None,
                requests: None,
                ..row("CA:1", "ok", &[], 86_500)
            },
        ];
        let expected = "\
direction  identity  layer     issuer            expires in  status    findings    requests
─────────  ────────  ────────  ────────────────  ──────────  ────────  ──────────  ────────
inbound    x         workload  Mesh_CA:1f2e3d4c       1m 0s  critical  leaf_is_ca         6
                                                                       weak_key
inbound    CA:1      workload  –                      1d 0h  ok                           –
";
        assert_eq!(render(&rows, 100, "spiffe://a/", Style::PLAIN), expected);
    }

    #[test]
    fn long_names_are_cut_to_fit() {
        let long = "spiffe://another.example/ns/a-namespace/sa/a-long-service-account-name";
        let rows = [row(long, "ok", &["extended_key_usage_absent"], 0)];
        let table = render(&rows, 0, "spiffe://a/", Style::PLAIN);
        let widest = table.lines().map(|line| line.chars().count()).max();
        assert_eq!(widest, Some(WIDTH));
        assert!(table.contains("spiffe://"));
    }

    #[test]
    fn colour_is_added_where_it_is_wanted_only() {
        let rows = [row("x", "critical", &["expired"], 0)];
        assert!(!render(&rows, 0, "", Style::PLAIN).contains('\x1b'));
        assert!(render(&rows, 0, "", Style::COLOURED).contains("\x1b[31mcritical\x1b[0m"));
    }
}
