//! `make drill`, run to its end; and the transcript of it in docs/ca-rotation-drill.md.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use testbed::{tool, workspace_root};

/// The command that the drill asks: `cargo test --workspace` builds it beside the drill, as `make drill`
/// does.
const COMMAND: &str = "mtls-watch";

const RUNBOOK: &str = "docs/ca-rotation-drill.md";
const BEGIN: &str = "<!-- drill:begin -->\n";
const END: &str = "<!-- drill:end -->";

/// The transcript that the runbook shows.
fn shown() -> Result<String> {
    let text = fs::read_to_string(workspace_root().join(RUNBOOK))?;
    let (_, shown) = text
        .split_once(BEGIN)
        .with_context(|| format!("{RUNBOOK}: {BEGIN}"))?;
    let (shown, _) = shown
        .split_once(END)
        .with_context(|| format!("{RUNBOOK}: {END}"))?;
    Ok(shown.to_owned())
}

/// Has the runbook show this transcript.
fn show(transcript: &str) -> Result<()> {
    let old = shown()?;
    let path = workspace_root().join(RUNBOOK);
    let text = fs::read_to_string(&path)?;
    fs::write(path, text.replace(&old, &format!("```\n{transcript}```\n")))?;
    Ok(())
}

/// The titles, and what held: that is the same in every run but for times, ports and keys.
fn plot(transcript: &str) -> Vec<String> {
    let lines = transcript.lines();
    let lines = lines.filter(|line| line.trim_start().starts_with('✓') || is_title(line));
    lines.map(|line| without_numbers(line.trim())).collect()
}

fn is_title(line: &str) -> bool {
    line.starts_with("Part ") || line.starts_with("Step ")
}

/// Each number, decimal or the key identifier of a CA, as `#`.
fn without_numbers(line: &str) -> String {
    let is_part = |c: char| !c.is_ascii_alphanumeric() && c != '.';
    let is_number = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            || word.len() == 8 && word.chars().all(|c| c.is_ascii_hexdigit())
    };
    let words = line.split_inclusive(is_part);
    words
        .map(|word| {
            let bare = word.trim_end_matches(is_part);
            match is_number(bare) {
                true => format!("#{}", &word[bare.len()..]),
                false => word.to_owned(),
            }
        })
        .collect()
}

#[test]
fn the_drill_passes_and_the_runbook_shows_it() -> Result<()> {
    let drill = Path::new(env!("CARGO_BIN_EXE_drill"));
    let command = drill.with_file_name(COMMAND);
    ensure!(
        command.is_file(),
        "no command at {}: run `cargo build --bin mtls-watch`",
        command.display()
    );
    // The drill itself goes on without, and shows less.
    tool("prometheus")?;
    let output = Command::new(drill).output()?;
    let transcript = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{transcript}{errors}");

    let happened = plot(&transcript);
    assert!(happened.len() > 30, "{happened:#?}");
    if env::var_os("UPDATE_DOCS").is_some() {
        return show(&transcript);
    }
    let runbook = plot(&shown()?);
    assert_eq!(
        runbook, happened,
        "{RUNBOOK} shows another drill: run `UPDATE_DOCS=1 cargo test -p scenarios --test drill`"
    );
    Ok(())
}

#[test]
fn numbers_and_keys_are_left_out() {
    let line = "✓ Old Root:87ecdd73 is old, 12 requests (after 4.1 s)";
    assert_eq!(
        without_numbers(line),
        "✓ Old Root:# is old, # requests (after # s)"
    );
}
