//! The alert of the rules that come with the module.

use std::fs;

use anyhow::{Context, Result};
use serde_yaml_ng::Value;
use testbed::workspace_root;

const DIRECTORY: &str = "envoy-config/prometheus";
/// The alert on the cardinal rule.
const NAME: &str = "MtlsCardinalRuleBroken";

/// An alert, as it is in the rules.
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// The file of the rules.
    pub file: String,
    /// When it fires.
    pub expression: String,
}

/// The alert on the cardinal rule.
///
/// # Errors
/// If no file of rules has it, or if it does not watch this metric for unknown CAs.
pub fn on(metric: &str) -> Result<Alert> {
    for entry in fs::read_dir(workspace_root().join(DIRECTORY))? {
        let path = entry?.path();
        if !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let rules: Value = serde_yaml_ng::from_str(&text)?;
        if let Some(expression) = expression(&rules) {
            let watched = format!("{metric}{{reason=\"unknown_ca\"}}");
            let found = expression.contains(&watched);
            found
                .then_some(())
                .with_context(|| format!("{NAME} does not watch {watched}"))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return Ok(Alert {
                name: NAME,
                file: format!("{DIRECTORY}/{name}"),
                expression: expression.to_owned(),
            });
        }
    }
    Err(anyhow::anyhow!("no alert {NAME} in {DIRECTORY}"))
}

fn expression(rules: &Value) -> Option<&str> {
    let groups = rules.get("groups")?.as_sequence()?;
    let rules = groups
        .iter()
        .filter_map(|group| group.get("rules")?.as_sequence());
    let mut rules = rules.flatten();
    let rule = rules.find(|rule| rule.get("alert").and_then(Value::as_str) == Some(NAME))?;
    rule.get("expr")?.as_str()
}
