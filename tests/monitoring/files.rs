//! The files under test.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
pub use testbed::fleet::RULES;
use testbed::workspace_root;

/// Where the rules are.
pub const PROMETHEUS: &str = "envoy-config/prometheus";

/// The rule files of which operators load a copy of their own.
pub const EXAMPLES: [&str; 2] = ["rotation-names.example.yaml", "strict-names.example.yaml"];

/// The text of a file of the project.
pub fn read(file: impl AsRef<Path>) -> String {
    let path = workspace_root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A YAML file of the project as JSON, anchors resolved.
pub fn yaml(file: impl AsRef<Path>) -> Value {
    serde_yaml_ng::from_str(&read(file)).unwrap()
}

/// The paths of the files in a folder of the project whose names end so, in order.
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace_root().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    paths.sort();
    paths
}

/// A rule, and the file that it is from.
pub struct Rule {
    pub file: &'static str,
    /// As it is in the file.
    pub body: Value,
}

impl Rule {
    /// The name, if it is an alert.
    pub fn alert(&self) -> Option<&str> {
        self.body["alert"].as_str()
    }

    /// A text of the rule: `text("expr")`; empty if it has none.
    pub fn text(&self, key: &str) -> &str {
        self.body[key].as_str().unwrap_or_default()
    }

    pub fn severity(&self) -> &str {
        self.body["labels"]["severity"].as_str().unwrap_or_default()
    }

    pub fn annotation(&self, key: &str) -> &str {
        self.body["annotations"][key].as_str().unwrap_or_default()
    }
}

/// All rules of [`RULES`].
pub fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for file in RULES {
        let text = yaml(Path::new(PROMETHEUS).join(file));
        for group in text["groups"].as_array().unwrap() {
            for body in group["rules"].as_array().unwrap() {
                rules.push(Rule {
                    file,
                    body: body.clone(),
                });
            }
        }
    }
    rules
}

/// The alerts among them.
pub fn alerts() -> Vec<Rule> {
    let mut rules = rules();
    rules.retain(|rule| rule.alert().is_some());
    rules
}
