//! GitHub's workflows: what they run is what everybody can run here. `make lint-workflows` has actionlint
//! look at them as well.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_yaml_ng::Value;

fn project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(project(file)).expect(file)
}

/// The steps of all jobs of a workflow.
fn steps(file: &str) -> Vec<Value> {
    let workflow: Value = serde_yaml_ng::from_str(&read(file)).expect(file);
    let jobs = workflow["jobs"].as_mapping().expect(file).values();
    let steps = jobs.flat_map(|job| job["steps"].as_sequence().expect(file));
    steps.cloned().collect()
}

const WORKFLOWS: [&str; 2] = [".github/workflows/ci.yml", ".github/workflows/release.yml"];

#[test]
fn there_are_no_others() {
    let mut found: Vec<_> = fs::read_dir(project(".github/workflows"))
        .unwrap()
        .map(|entry| format!(".github/workflows/{}", entry.unwrap().file_name().display()))
        .collect();
    found.sort();
    assert_eq!(found, WORKFLOWS);
}

#[test]
fn ci_runs_what_everybody_runs() {
    let steps = steps(WORKFLOWS[0]);
    assert!(
        steps.iter().any(|step| step["run"] == ".ci/run"),
        "{steps:?}"
    );
    let script = read(".ci/run");
    assert!(script.contains("\nmake lint test\n"), "{script}");
    // What it takes, make fetches: else a stranger's `make test` fails where CI passes.
    for installer in ["apt-get", "pip install", "rustup", "cargo install"] {
        assert!(!script.contains(installer), "{installer}: {script}");
    }
}

#[test]
fn what_they_make_is_a_target() {
    let makefile = read("Makefile");
    let made = Regex::new(r"(?m)\bmake((?: [a-z-]+)+)").unwrap();
    let mut scripts: Vec<String> = WORKFLOWS
        .into_iter()
        .flat_map(steps)
        .filter_map(|step| Some(step["run"].as_str()?.to_owned()))
        .collect();
    let script = read(".ci/run");
    let commands = script.lines().filter(|line| !line.starts_with('#'));
    scripts.extend(commands.map(str::to_owned));
    let mut count = 0;
    for script in scripts {
        for targets in made.captures_iter(&script) {
            for target in targets[1].split_whitespace() {
                assert!(makefile.contains(&format!("\n{target}:")), "{target}");
                count += 1;
            }
        }
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn actions_are_pinned_by_major_version() {
    let pinned = Regex::new(r"^[a-z-]+/[a-z-]+@v\d+$").unwrap();
    for step in WORKFLOWS.into_iter().flat_map(steps) {
        if let Some(action) = step["uses"].as_str() {
            assert!(pinned.is_match(action), "{action}");
        }
    }
}
