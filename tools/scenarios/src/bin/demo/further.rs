//! Where to look further: the raw series, the documents, the proxies.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use testbed::Style;

use crate::mesh::{Mesh, Sidecar};
use crate::observe::{NOT_AFTER, REQUEST_FINDINGS, REQUESTS};
use crate::table::Row;

const SCRAPE: &str = "/stats/prometheus?filter=mtls_";

const DOCUMENTS: [(&str, &str); 4] = [
    ("README.md", "what it is, and how to install it"),
    (
        "docs/README.md",
        "every metric, finding and configuration key",
    ),
    (
        "envoy-config/",
        "the configuration that ran here, and others",
    ),
    (
        "docs/architecture.md",
        "the way of a certificate through the code",
    ),
];

/// The series behind `row`, as the sidecar that has them gives them to Prometheus, and what to
/// read.
pub fn pointers(mesh: &Mesh, row: &Row, style: Style) -> Result<String> {
    let mut text = style.bold("The series behind the first row");
    text += " (counters are by status or finding, over all peers)\n";
    for line in series_behind(mesh, row)? {
        writeln!(text, "  {line}")?;
    }
    writeln!(text, "\n{}", style.bold("Where to look further"))?;
    for (place, what) in DOCUMENTS {
        writeln!(text, "  {place:<22}{what}")?;
    }
    for sidecar in mesh.sidecars() {
        let place = format!("scraped of {}", sidecar.name);
        writeln!(text, "  {place:<22}{}", url(sidecar, SCRAPE))?;
    }
    let keep = "leaves the sidecars up, to scrape them and to send requests";
    writeln!(text, "  {:<22}{keep}", "KEEP=1 make demo")?;
    Ok(text)
}

fn series_behind(mesh: &Mesh, row: &Row) -> Result<Vec<String>> {
    let direction = label("direction", &row.direction);
    let finding = row.findings.first().map_or("", String::as_str);
    let series = [
        (NOT_AFTER, label("identity", &row.identity)),
        (REQUEST_FINDINGS, label("finding", finding)),
        (REQUESTS, label("status", &row.status)),
    ];
    for sidecar in mesh.sidecars() {
        let scrape = sidecar.envoy.admin_get(SCRAPE)?;
        let line = |(name, label): &(&str, String)| {
            let begins = format!("{name}{{");
            let mut lines = scrape.lines().filter(|line| line.starts_with(&begins));
            lines.find(|line| line.contains(label) && line.contains(&direction))
        };
        let found: Vec<String> = series.iter().filter_map(line).map(str::to_owned).collect();
        if found.len() == series.len() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

fn label(key: &str, value: &str) -> String {
    format!("{key}=\"{value}\"")
}

/// The command to try on these sidecars, while they are up, and on one's own.
pub fn command(mesh: &Mesh, style: Style) -> Result<String> {
    let mut text = style.bold("To find out why a handshake fails (docs/diagnose.md)") + "\n";
    let sidecars = mesh.sidecars().into_iter();
    let urls: Vec<String> = sidecars.map(|it| url(it, "")).collect();
    writeln!(text, "  make cli; with KEEP=1 these two stay up:")?;
    writeln!(
        text,
        "  target/release/mtls-watch diagnose {}",
        urls.join(" ")
    )?;
    Ok(text)
}

/// What there is to do while everything stays up, with the certificate of `client` as an example.
pub fn instructions(mesh: &Mesh, directory: &Path, client: &str, style: Style) -> Result<String> {
    let mut text = style.bold("All is up until Ctrl-C") + "\n";
    for sidecar in mesh.sidecars() {
        let (name, inbound) = (sidecar.name, sidecar.inbound);
        writeln!(text, "  sidecar of {name}")?;
        writeln!(text, "    scrape       {}", url(sidecar, SCRAPE))?;
        writeln!(text, "    admin        {}", url(sidecar, "/"))?;
        writeln!(text, "    mTLS, HTTP   https://127.0.0.1:{}/", inbound.http)?;
        writeln!(text, "    mTLS, TCP    127.0.0.1:{}", inbound.tcp)?;
    }
    let directory = directory.display();
    writeln!(
        text,
        "  certificates   {directory}/*/tls.crt, tls.key, ca.crt"
    )?;
    writeln!(
        text,
        "  one more request; --insecure as the sidecar's certificate names no host:"
    )?;
    writeln!(
        text,
        "    curl --insecure --cert {directory}/{client}/tls.crt --key {directory}/{client}/tls.key https://127.0.0.1:{}/",
        mesh.called().inbound.http
    )?;
    Ok(text)
}

fn url(sidecar: &Sidecar, path: &str) -> String {
    format!("http://{}{path}", sidecar.envoy.admin())
}
