//! CONTRIBUTING.md: its map names what is there, and each recipe every place that a change touches. A
//! recipe is followed with an example that is in the code already.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::crates::{folder, metadata};
use crate::{part, project};

const PAGE: &str = "CONTRIBUTING.md";

/// The recipes by their marker, and how the example of each is spelt.
const RECIPES: [(&str, &[&str]); 5] = [
    ("finding", &["weak_signature", "WeakSignature"]),
    (
        "metric",
        &[
            "mtls_own_rotation_margin_seconds",
            "mtls_own_rotation_margin_seconds_bucket",
            "OWN_ROTATION_MARGIN",
        ],
    ),
    (
        "label",
        &[
            "Label::Secret",
            "Self::Secret",
            "tag_name: secret",
            "- secret",
        ],
    ),
    ("key", &["filter_state_key"]),
    ("reason", &["bad_signature", "BadSignature"]),
];

/// Files that name examples without being a place where anything is added.
const PASSED_OVER: [&str; 3] = [PAGE, "CHANGELOG.md", "tests/docs/contributing.rs"];

fn page() -> String {
    fs::read_to_string(project(PAGE)).unwrap()
}

/// What is between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The files of the project: those that git has, and new ones that it does not ignore.
fn files() -> Vec<String> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git")
        .args(list)
        .current_dir(project(""))
        .output()
        .expect("git lists the files of the project");
    let files = String::from_utf8(output.stdout).unwrap();
    // A file that is gone stays in git's list until that is committed.
    let there = files.lines().filter(|file| project(file).is_file());
    there.map(str::to_owned).collect()
}

/// Whether the word is in the text, and not as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

fn read(file: &str) -> String {
    let bytes = fs::read(project(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_recipes_name_every_place_of_their_example() {
    let page = page();
    let files = files();
    for (recipe, spellings) in RECIPES {
        let (begin, end) = (
            format!("<!-- {recipe}:begin -->"),
            format!("<!-- {recipe}:end -->"),
        );
        let rows = part(&page, &begin, &end).lines();
        let mut named = BTreeSet::new();
        for row in rows.filter(|row| row.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
            let word = quoted(cells[2]).next().expect("a word to search for");
            for file in quoted(cells[0]) {
                let text = read(file);
                assert!(has_word(&text, word), "{recipe}: no {word} in {file}");
                if spellings.contains(&word) {
                    named.insert(file.to_owned());
                }
            }
        }
        let is_place = |file: &&String| {
            let text = read(file);
            spellings.iter().any(|word| has_word(&text, word))
        };
        let places = files
            .iter()
            .filter(|file| !PASSED_OVER.contains(&file.as_str()));
        let places: BTreeSet<String> = places.filter(is_place).cloned().collect();
        let missing: Vec<_> = places.difference(&named).collect();
        assert!(
            missing.is_empty(),
            "{PAGE}, the recipe for a {recipe}: {spellings:?} is in {missing:?} too. If a new {recipe} \
             would have to go there, add the row; else use another example there."
        );
    }
}

/// Crates and folders of tests are in the map, and what the map names is there.
#[test]
fn the_map_is_complete() {
    let page = page();
    let map = part(&page, "\n## The map\n", "\n## Rules\n");
    let rows = map.lines().filter(|row| row.starts_with("| `"));
    let named: BTreeSet<&str> = rows
        .filter_map(|row| row.trim_matches('|').split(" | ").next())
        .flat_map(quoted)
        .collect();
    for path in &named {
        assert!(project(path).exists(), "{PAGE} names {path}");
    }
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let folder = folder(&metadata, package);
        assert!(named.contains(folder.as_str()), "{PAGE} lacks {folder}");
        for test in package.targets.iter().filter(|target| target.is_test()) {
            let path = test.src_path.strip_prefix(&metadata.workspace_root);
            let path = path.unwrap().as_str();
            let is_named = |place: &&&str| path.starts_with(**place) && **place != folder.as_str();
            let by = named.iter().find(is_named);
            let whole = folder.starts_with("tests/");
            assert!(by.is_some() || whole, "{PAGE} lacks the test {path}");
        }
    }
}
