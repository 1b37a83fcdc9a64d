//! The commands of a page of the documentation, to be run as they stand there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use crate::istio::IMAGE;
use crate::{scratch, workspace_root};

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
    let folder = scratch("documented");
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
    let release = workspace_root().join("target/release");
    let path = env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .env("PATH", format!("{}:{path}", release.display()))
        .args(["-o", "pipefail", "-c", command])
        .current_dir(folder)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{command}: {said}{printed}");
    Ok(printed)
}

/// Commands that are given one after the other in one shell: what they assign is there for those that follow.
#[derive(Debug)]
pub struct Session {
    folder: PathBuf,
    assignments: String,
}

impl Session {
    /// In this folder.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            assignments: String::new(),
        }
    }

    /// Keeps an assignment, to be evaluated before each command that follows. Whether it is one.
    pub fn assigns(&mut self, command: &str) -> bool {
        let name = command.split('=').next().unwrap_or("");
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase());
        let assigns = command.contains('=') && is_name(name);
        if assigns {
            self.assignments += command;
            self.assignments += "\n";
        }
        assigns
    }

    /// Runs a command, and returns what it prints.
    ///
    /// # Errors
    /// If it fails, in whichever part of a pipe.
    pub fn run(&self, command: &str) -> Result<String> {
        run(&format!("{}{command}", self.assignments), &self.folder)
    }
}
