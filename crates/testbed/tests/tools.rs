//! `tools/fetch`, in a folder of its own and without a network: which tool of the PATH it takes.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use tempfile::TempDir;
use testbed::workspace_root;

/// A project that consists of `tools/fetch`, and a PATH in which these come first: names and scripts.
struct Machine(TempDir);

impl Machine {
    fn new(programs: &[(&str, &str)]) -> Result<Self> {
        let directory = TempDir::new()?;
        for folder in ["tools", "bin"] {
            fs::create_dir(directory.path().join(folder))?;
        }
        let script = "tools/fetch";
        fs::copy(workspace_root().join(script), directory.path().join(script))?;
        // Neither of them must fetch anything here.
        let nothing = [("apt-get", "exit 100"), ("no-python", "exit 1")];
        for (name, text) in nothing.iter().chain(programs) {
            let program = directory.path().join("bin").join(name);
            fs::write(&program, format!("#!/bin/sh\n{text}\n"))?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self(directory))
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.0.path().join(file)
    }

    fn fetch(&self, tool: &str, variables: &[(&str, &str)]) -> Result<Output> {
        let mut folders = vec![self.path("bin")];
        folders.extend(env::split_paths(&env::var_os("PATH").context("no PATH")?));
        let output = Command::new("python3")
            .arg(self.path("tools/fetch"))
            .arg(tool)
            .env("PATH", env::join_paths(folders)?)
            .env("PYTHON", self.path("bin/no-python"))
            .env_remove("KUBECTL")
            .env_remove("SKOPEO")
            .envs(variables.iter().copied())
            .output()?;
        Ok(output)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const OLD: &str =
    r#"echo 'Client Version: version.Info{Major:"1", Minor:"20+", GitVersion:"v1.20.2"}'"#;

#[test]
fn a_tool_that_is_too_old_is_not_taken() -> Result<()> {
    let machine = Machine::new(&[("kubectl", OLD)])?;
    let output = machine.fetch("kubectl", &[])?;
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    assert!(!output.status.success());
    assert!(
        said.contains("kubectl is not taken: it is 1.20.2, and 1.27 is wanted"),
        "{said}{error}"
    );
    // What could not be fetched is one line.
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(!machine.path("target/tools/kubectl").exists());
    Ok(())
}

#[test]
fn one_that_is_new_enough_is_taken_and_asked_again_each_time() -> Result<()> {
    let machine = Machine::new(&[("kubectl", "echo Client Version: v1.34.1")])?;
    let output = machine.fetch("kubectl", &[])?;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let taken = fs::canonicalize(machine.path("target/tools/kubectl"))?;
    assert_eq!(taken, fs::canonicalize(machine.path("bin/kubectl"))?);

    fs::write(machine.path("bin/kubectl"), format!("#!/bin/sh\n{OLD}\n"))?;
    let output = machine.fetch("kubectl", &[])?;
    assert!(!output.status.success(), "{}", text(&output.stdout));
    Ok(())
}

#[test]
fn a_package_that_cannot_be_had_is_one_line() -> Result<()> {
    let machine = Machine::new(&[("skopeo", "echo skopeo version 1.2.2")])?;
    let output = machine.fetch("skopeo", &[])?;
    let error = text(&output.stderr);
    assert!(!output.status.success());
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("tools: no package skopeo: "), "{error}");
    Ok(())
}

#[test]
fn a_variable_that_names_no_tool_is_an_error() -> Result<()> {
    let machine = Machine::new(&[])?;
    let given = Path::new("/no/such/kubectl").display().to_string();
    let output = machine.fetch("kubectl", &[("KUBECTL", &given)])?;
    assert_eq!(
        text(&output.stderr),
        "tools: KUBECTL=/no/such/kubectl: does not run, or is no kubectl\n"
    );
    assert!(!output.status.success());
    Ok(())
}
