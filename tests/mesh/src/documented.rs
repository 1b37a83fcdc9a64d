//! The commands of a page of the documentation, to be run as they stand there.

use std::collections::BTreeMap;
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
    Ok(commands_in(&text))
}

/// The same of one section (`## heading`), with those below it.
///
/// # Errors
/// If there is no such page or section.
pub fn commands_of_section(page: &str, heading: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(workspace_root().join(page)).context(page.to_owned())?;
    let begin = format!("\n## {heading}\n");
    let section = text.split_once(&begin).map(|(_, rest)| rest);
    let section = section.with_context(|| format!("{page} has no section {heading:?}"))?;
    Ok(commands_in(
        section.split("\n## ").next().unwrap_or(section),
    ))
}

/// The same of what is before all sections.
///
/// # Errors
/// If there is no such page.
pub fn commands_of_introduction(page: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(workspace_root().join(page)).context(page.to_owned())?;
    Ok(commands_in(text.split("\n## ").next().unwrap_or(&text)))
}

fn commands_in(text: &str) -> Vec<String> {
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
    commands
}

/// A copy of `envoy-config/istio`, edited as the pages tell a user to: the address of the image.
///
/// # Errors
/// If it cannot be written.
pub fn checkout() -> Result<PathBuf> {
    let url = "oci://registry.example.com/mtls-watch:0.1.0";
    checkout_of("istio", "base/module.yaml", (url, IMAGE))
}

/// A copy of a folder of `envoy-config`, with the first of two texts replaced by the other in one of its files. The
/// folder in which commands of the pages find it.
///
/// # Errors
/// If it cannot be written, or the file does not have that text.
pub fn checkout_of(samples: &str, file: &str, edit: (&str, &str)) -> Result<PathBuf> {
    let folder = scratch("documented");
    let copy = folder.join("envoy-config");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    let copy = copy.join(samples);
    copy_all(&workspace_root().join("envoy-config").join(samples), &copy)?;
    let file = copy.join(file);
    let text = fs::read_to_string(&file)?;
    ensure!(
        text.contains(edit.0),
        "no {:?} in {}",
        edit.0,
        file.display()
    );
    fs::write(file, text.replace(edit.0, edit.1))?;
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
    path: Option<PathBuf>,
    values: BTreeMap<String, String>,
}

impl Session {
    /// In this folder.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            path: None,
            values: BTreeMap::new(),
        }
    }

    /// With the programs of a folder before all others.
    #[must_use]
    pub fn with_programs(mut self, folder: PathBuf) -> Self {
        self.path = Some(folder);
        self
    }

    /// Gives a variable a value.
    pub fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// The value of a variable, empty if it has none.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// Carries an assignment out. Whether the command is one.
    ///
    /// # Errors
    /// If what is assigned comes from a command that fails.
    pub fn assigns(&mut self, command: &str) -> Result<bool> {
        let Some((name, _)) = command.split_once('=') else {
            return Ok(false);
        };
        if !name.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Ok(false);
        }
        let value = self.run(&format!("{command} && printf %s \"${name}\""))?;
        self.set(name, &value);
        Ok(true)
    }

    /// Runs a command, and returns what it prints.
    ///
    /// # Errors
    /// If it fails, in whichever part of a pipe.
    pub fn run(&self, command: &str) -> Result<String> {
        let path = self.path.iter();
        let mut lines: Vec<String> = path
            .map(|folder| format!("PATH={}:$PATH", quoted(&folder.display().to_string())))
            .collect();
        let values = self.values.iter();
        lines.extend(values.map(|(name, value)| format!("{name}={}", quoted(value))));
        lines.push(command.to_owned());
        run(&lines.join("\n"), &self.folder).with_context(|| format!("$ {command}"))
    }
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
