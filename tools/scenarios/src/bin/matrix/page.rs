//! The table in docs/versions.md.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use testbed::workspace_root;

const PAGE: &str = "docs/versions.md";
const BEGIN: &str = "<!-- matrix:begin -->\n";
const END: &str = "<!-- matrix:end -->";

/// That it is this one.
pub fn check(table: &str) -> Result<()> {
    let text = fs::read_to_string(path())?;
    let (_, written, _) = parts(&text)?;
    ensure!(
        written == table,
        "the table in {PAGE} is not this one; run `make test-matrix UPDATE=1`, and look at the difference"
    );
    Ok(())
}

/// Replaces it by this one.
pub fn update(table: &str) -> Result<()> {
    let text = fs::read_to_string(path())?;
    let (before, _, after) = parts(&text)?;
    fs::write(path(), [before, table, after].concat())?;
    Ok(())
}

fn path() -> PathBuf {
    workspace_root().join(PAGE)
}

/// What is before the table, the table, and what is after it.
fn parts(text: &str) -> Result<(&str, &str, &str)> {
    let begin = text
        .find(BEGIN)
        .with_context(|| format!("{PAGE} has no matrix:begin"))?
        + BEGIN.len();
    let (before, rest) = text.split_at(begin);
    let end = rest
        .find(END)
        .with_context(|| format!("{PAGE} has no matrix:end"))?;
    let (table, after) = rest.split_at(end);
    Ok((before, table, after))
}
