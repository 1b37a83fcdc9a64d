//! The commands of a page of the documentation, to be run as they stand there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::istio::IMAGE;
use crate::workspace_root;

/// The commands of a page's console blocks, in their order, those over several lines as one.
///
/// # Errors
/// If there is no such page.
pub fn commands(page: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(workspace_root().join(page)).context(page.to_owned())?;
    let mut commands: Vec<String> = Vec::new();
    let (mut in_console, mut goes_on) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            in_console = line == "```console";
            goes_on = false;
            continue;
        }
        let begins = line.strip_prefix("$ ");
        match (in_console, begins, goes_on) {
            (true, Some(command), _) => commands.push(command.to_owned()),
            (true, None, true) => {
                if let Some(command) = commands.last_mut() {
                    *command = format!("{} {line}", command.trim_end_matches('\\').trim_end());
                }
            }
            _ => {}
        }
        goes_on = line.ends_with('\\');
    }
    Ok(commands)
}

/// A copy of `envoy-config`, edited as the pages tell a user to: the address of the image.
///
/// # Errors
/// If it cannot be written.
pub fn checkout() -> Result<PathBuf> {
    let folder = workspace_root().join("target/mesh-documented");
    let copy = folder.join("envoy-config");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    copy_all(
        &workspace_root().join("envoy-config/istio"),
        &copy.join("istio"),
    )?;
    let module = copy.join("istio/base/module.yaml");
    let text = fs::read_to_string(&module)?;
    let edited = text.replace("oci://registry.example.com/mtls-watch:0.1.0", IMAGE);
    ensure!(edited != text, "another url is in base/module.yaml");
    fs::write(module, edited)?;
    Ok(folder)
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_all(&entry.path(), &target)?,
            false => fs::copy(entry.path(), target).map(drop)?,
        }
    }
    Ok(())
}

/// Runs a command in a shell, in that folder, and returns what it prints.
///
/// # Errors
/// If it fails, in whichever part of a pipe.
pub fn run(command: &str, folder: &Path) -> Result<String> {
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", command])
        .current_dir(folder)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
