//! `kubectl`, as `make mesh-shell` has it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Runs a program, and returns what it prints.
///
/// # Errors
/// If it cannot be started, or fails; the error has what it says.
pub fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program}: run this by make test-mesh"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {said}{text}", arguments.join(" "));
    }
    Ok(text)
}

/// # Errors
/// If `kubectl` fails; the error has what it says.
pub fn kubectl(arguments: &[&str]) -> Result<String> {
    run("kubectl", arguments, None)
}

/// Applies manifests.
///
/// # Errors
/// If the API server refuses one.
pub fn apply(manifests: &str) -> Result<()> {
    run("kubectl", &["apply", "--filename", "-"], Some(manifests)).map(drop)
}

/// Applies a kustomization.
///
/// # Errors
/// If it cannot be rendered, or the API server refuses an object.
pub fn apply_kustomization(folder: &Path) -> Result<()> {
    let rendered = kustomization(folder)?;
    apply(&rendered)
}

/// Deletes what a kustomization has.
///
/// # Errors
/// If it cannot be rendered, or the API server refuses.
pub fn delete_kustomization(folder: &Path) -> Result<()> {
    let rendered = kustomization(folder)?;
    let delete = ["delete", "--ignore-not-found", "--filename", "-"];
    run("kubectl", &delete, Some(&rendered)).map(drop)
}

fn kustomization(folder: &Path) -> Result<String> {
    let folder = folder.display().to_string();
    kubectl(&[
        "kustomize",
        "--load-restrictor",
        "LoadRestrictionsNone",
        &folder,
    ])
}

/// `kubectl get … -o json`.
///
/// # Errors
/// If there is no such object.
pub fn get(arguments: &[&str]) -> Result<Value> {
    let arguments = [&["get", "--output", "json"], arguments].concat();
    Ok(serde_json::from_str(&kubectl(&arguments)?)?)
}
