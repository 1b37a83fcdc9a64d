//! The command, run.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::metrics::{AT, Sidecar};

/// What the command said, and how it ended.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// `rotation-status` with these arguments.
pub fn command(arguments: &[&str], input: &[u8]) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mtls-watch"))
        .arg("rotation-status")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no input may be gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// `rotation-status` of these sidecars at [`AT`], from files named after them.
pub fn text(arguments: &[&str], sidecars: &[(&str, &Sidecar)]) -> Run {
    let folder = TempDir::new().unwrap();
    let sources = sidecars.iter().map(|(name, sidecar)| {
        let file = folder.path().join(name);
        fs::write(&file, sidecar.text()).unwrap();
        format!("{name}={}", file.display())
    });
    let sources: Vec<String> = sources.collect();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    command(&[&["--at", AT], arguments, &sources].concat(), b"")
}

/// The answer about proxies, of each of which there is a scrape before.
pub fn after(
    arguments: &[&str],
    sidecars: &[(&str, &Sidecar)],
    before: &[(&str, &Sidecar)],
) -> (i32, Value) {
    let folder = TempDir::new().unwrap();
    let mut more: Vec<String> = Vec::new();
    for (name, sidecar) in before {
        let file = folder.path().join(name);
        fs::write(&file, sidecar.text()).unwrap();
        more.extend(["--before".to_owned(), format!("{name}={}", file.display())]);
    }
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    json(&[arguments, &more].concat(), sidecars)
}

/// The same as JSON, with the exit code.
pub fn json(arguments: &[&str], sidecars: &[(&str, &Sidecar)]) -> (i32, Value) {
    let run = text(&[&["--format", "json"], arguments].concat(), sidecars);
    assert_eq!(run.stderr, "");
    (run.code, serde_json::from_str(&run.stdout).unwrap())
}

/// The verdict of a gate.
pub fn verdict(report: &Value, number: u64) -> String {
    let gate = gate(report, number);
    gate["verdict"].as_str().unwrap().to_owned()
}

/// The verdicts of all gates.
pub fn verdicts(report: &Value) -> Vec<&str> {
    let gates = report["gates"].as_array().unwrap().iter();
    gates
        .map(|gate| gate["verdict"].as_str().unwrap())
        .collect()
}

/// `proxy: what` of each reason at a gate.
pub fn reasons(report: &Value, number: u64) -> Vec<String> {
    let reasons = gate(report, number)["because"].as_array().unwrap().iter();
    let line = |reason: &Value| {
        let proxy = reason["proxy"].as_str().unwrap_or("fleet");
        format!("{proxy}: {}", reason["what"].as_str().unwrap())
    };
    reasons.map(line).collect()
}

/// The state of a CA.
pub fn state<'a>(report: &'a Value, ca: &str) -> &'a str {
    let mut cas = report["cas"].as_array().unwrap().iter();
    let row = cas.find(|row| row["ca"] == ca).unwrap();
    row["state"].as_str().unwrap()
}

fn gate(report: &Value, number: u64) -> &Value {
    let mut gates = report["gates"].as_array().unwrap().iter();
    gates.find(|gate| gate["number"] == number).unwrap()
}
