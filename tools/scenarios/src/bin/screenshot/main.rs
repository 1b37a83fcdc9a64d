//! `make screenshot`: the dashboard's picture for docs/monitoring.md, from a real Prometheus that scrapes real
//! Envoys.
//!
//! Grafana itself comes from no registry that CI reaches; the libraries that it draws its panels with
//! do. `data.js` asks Prometheus as its data source does, `page.jsx` lays the panels out as its
//! dashboard does, and both take everything else from the dashboard's JSON. Chromium makes the picture.
//!
//! Usage: `screenshot PNG FOLDER-OF-NODE-MODULES`.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use testbed::{Fleet, Prometheus, pki, workspace_root};

/// Long enough for lines to look like lines.
const TRAFFIC: Duration = Duration::from_secs(180);
/// When the leaf of `web` is renewed, and a module lost.
const EVENTS: Duration = Duration::from_secs(90);
const SOURCES: &str = "tools/scenarios/src/bin/screenshot";

/// The rows of the dashboard that the picture shows, and the size that they have in `page.jsx`.
const ROWS: [&str; 3] = [
    "Will anything break?",
    "Who is refused, and why?",
    "The hierarchy",
];
const SIZE: &str = "1600,1704";

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [picture, modules] = arguments.as_slice() else {
        anyhow::bail!("usage: screenshot PNG FOLDER-OF-NODE-MODULES");
    };
    let modules = modules.canonicalize()?;
    let directory = tempfile::Builder::new().prefix("screenshot-").tempdir()?;
    bundle(&modules, directory.path())?;
    let from = pki::now();
    let mut fleet = Fleet::start()?;
    let prometheus = fleet.prometheus()?;
    live(&mut fleet)?;
    write_page(&prometheus, from, directory.path())?;
    shoot(directory.path(), picture)
}

/// Traffic, and what happens in the meantime.
fn live(fleet: &mut Fleet) -> Result<()> {
    let start = Instant::now();
    let mut eventless = true;
    while start.elapsed() < TRAFFIC {
        fleet.drive()?;
        if eventless && start.elapsed() > EVENTS {
            eventless = false;
            fleet.renew()?;
        }
        // Somebody who pauses between two rounds: a load test is not what the picture is about.
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn bundle(modules: &Path, directory: &Path) -> Result<()> {
    run(Command::new(modules.join(".bin/esbuild"))
        .args(["page.jsx", "--bundle", "--format=esm", "--log-level=error"])
        .args(["--loader:.ttf=dataurl", "--loader:.woff2=dataurl"])
        .args([
            "--define:global=window",
            "--define:process.env.NODE_ENV=\"production\"",
        ])
        .arg(join("--outfile=", directory.join("page.js").as_os_str()))
        .current_dir(workspace_root().join(SOURCES))
        .env("NODE_PATH", modules))
}

fn write_page(prometheus: &Prometheus, from: i64, directory: &Path) -> Result<()> {
    let settings = json!({
        "prometheus": format!("http://127.0.0.1:{}", prometheus.port()),
        "from": from, "to": pki::now(), "step": 2, "range": "3m", "rows": ROWS,
    });
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><link rel=\"stylesheet\" href=\"page.css\">\n\
         <body><div id=\"page\"></div><script>window.mtlsWatch = {settings};</script>\n\
         <script type=\"module\" src=\"page.js\"></script>\n"
    );
    Ok(fs::write(directory.join("index.html"), page)?)
}

fn shoot(directory: &Path, picture: &Path) -> Result<()> {
    let profile = TempDir::new()?;
    let large = directory.join("large.png");
    run(Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args(["--hide-scrollbars", "--allow-file-access-from-files"])
        .arg(format!("--window-size={SIZE}"))
        // Milliseconds that the page has for its queries and its drawing.
        .arg("--virtual-time-budget=20000")
        .arg(join("--user-data-dir=", profile.path().as_os_str()))
        .arg(join("--screenshot=", large.as_os_str()))
        .arg(directory.join("index.html")))?;
    ensure!(large.is_file(), "chromium made no picture");
    // A quarter of the size, and nobody sees it.
    run(Command::new("pngquant")
        .args(["--force", "--speed=1", "--strip", "64"])
        .arg("--output")
        .args([picture, &large]))
}

fn join(option: &str, value: &OsStr) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(option);
    argument.push(value);
    argument
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{name}: cannot run"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {complaint}");
    Ok(())
}
