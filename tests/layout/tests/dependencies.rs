//! What the project is made of: known, from crates.io, under licences that anybody can use, and said why
//! in docs/dependencies.md. Whether an advisory is out on one of them takes a network: `make audit`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand, Package};
use spdx::{Expression, Licensee, ParseMode};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// A workspace of its own.
const FUZZER: &str = "fuzz/Cargo.toml";

fn project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(file)
}

fn metadata(manifest: &str) -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(project(manifest));
    command.exec().unwrap()
}

/// The packages of both workspaces, and all that they depend on anywhere.
fn all() -> Vec<Package> {
    let both = ["Cargo.toml", FUZZER].map(|manifest| metadata(manifest).packages);
    both.concat()
}

/// Names and versions of what is linked into the module. `cargo metadata` would add what tests want.
fn linked() -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--package", "mtls-watch", "--edges", "normal"]);
    cargo.args([
        "--target",
        "wasm32-wasip1",
        "--no-dedupe",
        "--prefix",
        "depth",
    ]);
    let output = cargo.current_dir(project("")).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    let mut linked = BTreeMap::<String, BTreeSet<String>>::new();
    // What a macro depends on runs in the compiler, as it does itself.
    let mut macro_above = None;
    for line in tree.lines() {
        let digits = line.find(|character: char| !character.is_ascii_digit());
        let (depth, package) = line.split_at(digits.unwrap());
        let depth: usize = depth.parse().unwrap();
        if macro_above.is_some_and(|above| depth > above) {
            continue;
        }
        macro_above = package.contains("(proc-macro)").then_some(depth);
        let (name, version) = package.split_once(' ').unwrap();
        // Crates of this workspace have a path behind their version.
        let is_foreign = !version.contains("(/");
        if macro_above.is_none() && depth > 0 && is_foreign {
            linked
                .entry(name.to_owned())
                .or_default()
                .insert(version.to_owned());
        }
    }
    linked
}

/// The names in backquotes of a part of docs/dependencies.md.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(project("docs/dependencies.md")).unwrap();
    let (_, part) = text
        .split_once(&format!("\n## {heading}\n"))
        .expect(heading);
    let part = part.split("\n## ").next().unwrap_or_default();
    // Rows begin with the names; an item of a list has them behind whose they are.
    let names = part
        .lines()
        .filter_map(|line| match line.strip_prefix("- of ") {
            Some(item) => item.split_once(": ").map(|(_, names)| names),
            None => line.strip_prefix("| ").filter(|row| row.starts_with('`')),
        });
    let first_column = names.filter_map(|names| names.split(" | ").next());
    first_column
        .flat_map(|names| names.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn come_from_crates_io_or_from_here() {
    for package in all() {
        let from = package
            .source
            .as_ref()
            .map_or(CRATES_IO, |source| &source.repr);
        assert_eq!(from, CRATES_IO, "{}", package.name);
    }
}

#[test]
fn are_under_licences_that_are_allowed() {
    let rules = fs::read_to_string(project("deny.toml")).unwrap();
    let (_, list) = rules.split_once("\nallow = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let allowed: Vec<Licensee> = list
        .split('"')
        .skip(1)
        .step_by(2)
        .map(|licence| Licensee::parse(licence).unwrap())
        .collect();
    assert!(!allowed.is_empty());
    for package in all() {
        let licence = package.license.as_deref().unwrap_or("none");
        // Crates of old separate them by a slash.
        let expression = Expression::parse_mode(licence, ParseMode::LAX);
        let expression = expression.unwrap_or_else(|_| panic!("{}: {licence}", package.name));
        let is_allowed = expression
            .evaluate(|required| allowed.iter().any(|licence| licence.satisfies(required)));
        assert!(
            is_allowed,
            "{} is under {licence}: see deny.toml",
            package.name
        );
    }
}

/// What is in the module is in every proxy: nothing gets there unnoticed, or twice.
#[test]
fn of_the_module_are_known_one_by_one() {
    let linked = linked();
    for (name, versions) in &linked {
        assert_eq!(versions.len(), 1, "{name} {versions:?}");
    }
    let names: BTreeSet<String> = linked.into_keys().collect();
    let direct = documented("In the module");
    let through = documented("In the module through others");
    assert_eq!(names, &direct | &through);
}

/// Each with its reason, and none that has gone.
#[test]
fn are_documented() {
    let both = ["Cargo.toml", FUZZER].map(metadata);
    let mut wanted = BTreeSet::new();
    for metadata in &both {
        for package in metadata.workspace_packages() {
            let foreign = package.dependencies.iter().filter(|it| it.path.is_none());
            wanted.extend(foreign.map(|dependency| dependency.name.clone()));
        }
    }
    let headings = ["In the module", "In the command line", "In tests and tools"];
    let documented: BTreeSet<_> = headings.into_iter().flat_map(documented).collect();
    assert_eq!(documented, wanted);
}
