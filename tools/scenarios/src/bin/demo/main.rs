//! `make demo`: two Envoys with mtls-watch, real mTLS traffic with good and bad certificates, and
//! what an operator gets to see of them; then handshakes that are refused, and why. `KEEP=1` leaves
//! it all up.
//!
//! It checks itself: the exit code is 0 only if every certificate was judged, and every refusal
//! explained, as expected.

mod further;
mod mesh;
mod observe;
mod refusals;
mod table;
mod verdict;
mod workloads;

use std::env;
use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use testbed::progress::{self, Progress};
use testbed::{Style, pki};

use mesh::Mesh;
use refusals::{Case, Turn};
use table::Row;
use verdict::Verdict;
use workloads::{Pki, Role, TRUST_DOMAIN, Workload};

/// What a shell gives for a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) if progress::was_interrupted() => {
            eprintln!("interrupted; nothing is left running");
            INTERRUPTED.into()
        }
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the demo. Whatever it starts ends with this function, in whichever way that ends.
fn run() -> Result<bool> {
    let progress = Progress::start()?;
    let directory = tempfile::Builder::new()
        .prefix("mtls-watch-demo-")
        .tempdir()?;
    progress.step("issuing certificates: root, intermediate and issuing CAs, workloads")?;
    let pki = Pki::new()?;
    let workloads = workloads::workloads(&pki)?;
    for workload in &workloads {
        workload.write_below(directory.path(), &pki.trust_bundle())?;
    }
    let cases = refusals::cases(&pki)?;
    let trust = pki.trust_bundle();
    let servers = workloads.iter().filter_map(|w| w.server(&trust));
    let servers = servers.chain(cases.iter().filter_map(Case::server));
    let mesh = Mesh::start(servers, directory.path(), &progress)?;
    let peers_are_good = show_peers(&mesh, &pki, &workloads, &progress)?;
    let failures_are_good = show_failures(&mesh, &cases, &progress)?;
    print(&further::command(&mesh, Style::of_stdout())?)?;
    if env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0") {
        keep_up(&mesh, &workloads, directory.path())?;
    }
    Ok(peers_are_good && failures_are_good)
}

/// The main section: every peer's certificates. Returns whether they were judged as expected.
fn show_peers(mesh: &Mesh, pki: &Pki, workloads: &[Workload], progress: &Progress) -> Result<bool> {
    let mut rows = observe_peers(mesh, workloads, progress)?;
    table::sort(&mut rows);
    let expected = workloads.iter().flat_map(Workload::expected_rows);
    let expected: Vec<Row> = expected.chain(pki.expected_rows()).collect();
    let verdict = Verdict::of(&expected, &rows);
    let style = Style::of_stdout();
    let first = rows.first().context("no certificate was seen")?;
    print(&format!(
        "\nCertificates of mTLS peers, as two Envoy sidecars report them in /stats/prometheus.\nIdentities are below {TRUST_DOMAIN}\n\n{}\n{}\n\n{}",
        table::render(&rows, pki::now(), TRUST_DOMAIN, style),
        style.verdict(verdict.is_good(), &verdict.to_string()),
        further::pointers(mesh, first, style)?,
    ))?;
    Ok(verdict.is_good())
}

fn observe_peers(mesh: &Mesh, workloads: &[Workload], progress: &Progress) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for workload in workloads {
        progress.step(&format!("traffic of {}: {}", workload.name, workload.about))?;
        for row in observe::turn(mesh, workload)? {
            // Both sidecars see the CAs that they share.
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

/// The section of refused handshakes. Returns whether they were explained as expected. The CAs of
/// the workloads are known to the sidecars by then.
fn show_failures(mesh: &Mesh, cases: &[Case], progress: &Progress) -> Result<bool> {
    let turns = cases.iter().map(|case| Turn::of(mesh, case, progress));
    let turns = turns.collect::<Result<Vec<Turn>>>()?;
    let style = Style::of_stdout();
    let (good, verdict) = refusals::verdict(&turns);
    print(&format!(
        "\nRefused handshakes, as the same sidecars explain them: counted in /stats/prometheus, peer and hint in the log.\nEach was tried {} times. Where the certificate cannot be read, the peer's address is all there is.\n\n{}\n{}\n{}\n",
        refusals::ATTEMPTS,
        refusals::table(&turns, TRUST_DOMAIN, style),
        refusals::example(&turns, style),
        style.verdict(good, &verdict),
    ))?;
    Ok(good)
}

fn keep_up(mesh: &Mesh, workloads: &[Workload], directory: &Path) -> Result<()> {
    let client = workloads.iter().find(|w| w.role == Role::Client);
    let client = client.context("no client")?;
    let style = Style::of_stdout();
    let text = further::instructions(mesh, directory, client.name, style)?;
    print(&format!("\n{text}"))?;
    progress::wait_for_interrupt();
    Ok(())
}

/// Unlike `print!`, fails in an orderly manner where nobody reads on.
fn print(text: &str) -> Result<()> {
    let mut stdout = stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}
