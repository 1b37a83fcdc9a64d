//! The pages: a runbook for each alert, and nothing in them that does not work.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use testbed::prometheus::promtool;
use testbed::workspace_root;

use crate::files::{alerts, files, read};
use crate::rules::{is_metric, metrics};

const RUNBOOKS: &str = "docs/runbooks";
/// Pages that are no runbook of an alert.
const OTHER_PAGES: [&str; 2] = ["README", "first-30-days"];

/// Every page of the project, by its path from the root.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    collect(Path::new(""), &mut pages);
    assert!(pages.len() > 20, "{pages:?}");
    pages
}

fn collect(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(workspace_root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = folder.join(&name);
        let is_ours = !name.starts_with('.') && name != "target";
        if is_ours && entry.file_type().unwrap().is_dir() {
            collect(&path, pages);
        } else if name.ends_with(".md") {
            pages.push(path);
        }
    }
}

/// The blocks of a page in a language, without the indentation that they have in lists.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let indentation = line.len() - line.trim_start().len();
        if let Some(found) = line.trim_start().strip_prefix("```") {
            let block = lines.by_ref().take_while(|line| line.trim_start() != "```");
            let block = block.map(|line| line.get(indentation..).unwrap_or_default());
            let block = block.collect::<Vec<_>>().join("\n");
            if found == language {
                blocks.push(block);
            }
        }
    }
    blocks
}

/// The queries of a block: a line that is indented, or closes a parenthesis, goes on.
fn queries(block: &str) -> Vec<String> {
    let mut queries: Vec<String> = Vec::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        match queries.last_mut() {
            Some(last) if line.starts_with([' ', ')']) => *last = format!("{last}\n{line}"),
            _ => queries.push(line.to_owned()),
        }
    }
    queries
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let alerts: BTreeSet<String> = alerts()
        .iter()
        .map(|rule| rule.alert().unwrap().to_owned())
        .collect();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let mut runbooks: BTreeSet<String> = files(RUNBOOKS, ".md").into_iter().map(stem).collect();
    for other in OTHER_PAGES {
        assert!(runbooks.remove(other), "{other}");
    }
    assert_eq!(runbooks, alerts);
    let index = read(format!("{RUNBOOKS}/README.md"));
    for alert in alerts {
        let text = read(format!("{RUNBOOKS}/{alert}.md"));
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        let title = format!("# {alert}");
        let expected = [
            &title,
            "## Meaning",
            "## Impact",
            "## Diagnosis",
            "## Mitigation",
        ];
        assert_eq!(headings, expected);
        assert!(index.contains(&format!("[{alert}]({alert}.md)")), "{alert}");
    }
}

/// The severities that the index and the page name are those of the rules.
#[test]
fn the_runbooks_name_the_severities() {
    let index = read(format!("{RUNBOOKS}/README.md"));
    for rule in alerts() {
        let (alert, severity) = (rule.alert().unwrap(), rule.severity());
        let row = index
            .lines()
            .find(|line| line.starts_with(&format!("| [{alert}]")));
        assert!(row.unwrap().contains(severity), "{alert} {severity}");
        let text = read(format!("{RUNBOOKS}/{alert}.md"));
        let line = text.lines().find(|line| line.starts_with("**Severity.**"));
        assert!(line.unwrap().contains(severity), "{alert} {severity}");
    }
}

#[test]
fn the_queries_of_the_pages_are_valid_and_about_metrics_that_exist() {
    let mut rules = Vec::new();
    for page in pages() {
        let text = read(&page);
        for query in blocks(&text, "promql")
            .iter()
            .flat_map(|block| queries(block))
        {
            for name in metrics(&query) {
                assert!(is_metric(name), "{}: {name}", page.display());
            }
            let record = format!("query_{}", rules.len());
            rules.push(json!({"record": record, "expr": query}));
        }
    }
    assert!(rules.len() > 50, "{}", rules.len());
    let file = tempfile::NamedTempFile::new().unwrap();
    // JSON is YAML.
    let groups = json!({"groups": [{"name": "pages", "rules": rules}]});
    fs::write(file.path(), groups.to_string()).unwrap();
    promtool("docs", &["check", "rules", file.path().to_str().unwrap()]).unwrap();
}

/// The command lines of ours: those of the blocks for a terminal, and those in the midst of a text.
fn our_commands(page: &str) -> Vec<String> {
    let blocks = blocks(page, "console");
    let whole = blocks.iter().map(|block| block.replace("\\\n", " "));
    let lines = whole.flat_map(|block| {
        let commands = block.lines().filter_map(|line| line.strip_prefix("$ "));
        commands.map(str::to_owned).collect::<Vec<_>>()
    });
    let in_text = page.split('`').skip(1).step_by(2).map(str::to_owned);
    let commands = lines.chain(in_text);
    let parts = commands.flat_map(|line| {
        let parts = line.split(" | ").flat_map(|part| part.split(" && "));
        parts.map(|part| part.trim().to_owned()).collect::<Vec<_>>()
    });
    parts
        .filter(|part| part.starts_with("mtls-watch "))
        .collect()
}

#[test]
fn our_commands_in_the_pages_are_understood() {
    let mut commands = BTreeSet::new();
    for page in pages() {
        commands.extend(our_commands(&read(&page)));
    }
    let subcommands: BTreeSet<&str> = commands
        .iter()
        .filter_map(|command| command.split(' ').nth(1))
        .collect();
    let all = [
        "check-config",
        "explain",
        "inspect",
        "rotation-status",
        "stats-tags",
    ];
    assert!(
        all.iter().all(|name| subcommands.contains(name)),
        "{subcommands:?}"
    );
    for command in &commands {
        let words = shlex::split(command.split(" #").next().unwrap()).unwrap();
        // A name alone, in the midst of a text, is no command line.
        if words.len() > 2 {
            understood(command, &words[1..]);
        }
    }
}

/// Runs the command with files that are not there and with nobody to ask: it may complain of what
/// is missing, but not of how it was called.
fn understood(command: &str, arguments: &[String]) {
    let absent = |argument: &String| match argument.split_once("http://") {
        Some((name, _)) => format!("{name}no-such-file"),
        None => argument.clone(),
    };
    let program = std::iter::once("mtls-watch".to_owned());
    let complaint = mtls_watch_cli::execute(program.chain(arguments.iter().map(absent))).complaint;
    // That is how clap begins; what the commands themselves say begins with their name.
    assert!(!complaint.starts_with("error:"), "{command}\n{complaint}");
}

#[test]
fn the_links_of_the_pages_lead_somewhere() {
    for page in pages() {
        let text = without_blocks(&read(&page));
        let folder = page.parent().unwrap();
        let links = text.split("](").skip(1);
        for link in links
            .filter_map(|rest| rest.split_once(')'))
            .map(|(link, _)| link)
        {
            if link.starts_with("http") {
                continue;
            }
            let (target, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if target.is_empty() {
                page.clone()
            } else {
                folder.join(target)
            };
            assert!(
                workspace_root().join(&target).exists(),
                "{}: {link}",
                page.display()
            );
            assert!(
                heading.is_empty() || has_heading(&target, heading),
                "{}: {link}",
                page.display()
            );
        }
    }
}

/// Every clone carries them.
#[test]
fn pictures_are_small() {
    let pictures = files("docs/images", ".png");
    assert!(!pictures.is_empty());
    for picture in pictures {
        let size = fs::metadata(&picture).unwrap().len();
        assert!(size <= 200 * 1024, "{}: {size} bytes", picture.display());
    }
}

fn without_blocks(page: &str) -> String {
    let parts = page.split("```").step_by(2);
    parts.collect()
}

fn has_heading(page: &Path, anchor: &str) -> bool {
    let text = without_blocks(&read(page));
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    headings.any(|heading| anchor_of(heading) == anchor)
}

/// The anchor that a Markdown heading gets.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().replace(' ', "-")
}
