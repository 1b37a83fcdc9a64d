//! `make refusals`, as far as it takes no TLS stack but those that are there anyway; and its tables in the
//! documentation.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use testbed::workspace_root;

const REFUSALS: &str = env!("CARGO_BIN_EXE_refusals");

#[test]
fn who_and_why_is_said_of_every_refusal_and_nothing_of_what_is_none() -> Result<()> {
    let version =
        env::var("ENVOY_VERSION").unwrap_or_else(|_| testbed::envoy::DEFAULT_VERSION.to_owned());
    let output = Command::new(REFUSALS)
        .args(["--anywhere", &version])
        .output()?;
    let table = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{table}{errors}");
    let summary = table.lines().last().unwrap_or_default();
    ensure!(summary.ends_with(" on 1 Envoys: 0 wrong"), "{summary}");
    Ok(())
}

#[test]
fn the_documentation_has_the_scenarios() -> Result<()> {
    check("--page", "docs/refusals.md", "refusals")
}

#[test]
fn the_documentation_names_what_is_beyond_what_envoy_tells() -> Result<()> {
    check("--limits", "docs/handshake-failures.md", "limits")
}

/// That the page has what the option prints, between its marks.
fn check(option: &str, page: &str, mark: &str) -> Result<()> {
    let output = Command::new(REFUSALS).arg(option).output()?;
    let table = String::from_utf8(output.stdout)?;
    ensure!(table.lines().count() > 5, "{table}");
    let path = workspace_root().join(Path::new(page));
    let text = fs::read_to_string(&path).context(page.to_owned())?;
    let (begin, end) = (
        format!("<!-- {mark}:begin -->\n"),
        format!("<!-- {mark}:end -->"),
    );
    let (before, rest) = text.split_once(&begin).context(begin.clone())?;
    let (written, after) = rest.split_once(&end).context(end.clone())?;
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, [before, &begin, &table, &end, after].concat())?;
        return Ok(());
    }
    assert_eq!(written, table, "{page}: run `make docs`");
    Ok(())
}
