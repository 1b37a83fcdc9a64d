//! Some ninety pairs: what `diagnose` says of them is what a real handshake between them does.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testbed::Envoy;

use crate::cases::{self, Case};
use crate::proxies::{bootstrap, client, diagnose, is_accepted, server};

/// Pairs of one Envoy. Each is judged by a dump of all of them.
const AT_ONCE: usize = 16;

#[test]
fn no_verdict_differs_from_the_handshake() -> Result<()> {
    let cases = cases::all()?;
    let mut wrong = Vec::new();
    for cases in cases.chunks(AT_ONCE) {
        wrong.append(&mut differing(cases)?);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (refused, accepted): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.word.is_some());
    ensure!(
        refused.len() >= 30 && accepted.len() >= 30,
        "{} and {}",
        refused.len(),
        accepted.len()
    );
    Ok(())
}

/// Of which another thing is said than happens.
fn differing(cases: &[Case]) -> Result<Vec<String>> {
    let directory = TempDir::new()?;
    let (mut listeners, mut clusters) = (Vec::new(), Vec::new());
    for (index, case) in cases.iter().enumerate() {
        let path = directory
            .path()
            .join(index.to_string())
            .display()
            .to_string();
        listeners.push(server(&format!("server-{index}"), &path, &case.server)?);
        let (listener, cluster) = client(&format!("client-{index}"), &path, &case.client)?;
        listeners.push(listener);
        clusters.push(cluster);
    }
    let envoy = Envoy::start(&bootstrap(&listeners, &clusters), 1)?;
    let url = format!("http://{}", envoy.admin());
    let mut wrong = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let (cluster, listener) = (format!("client-{index}"), format!("server-{index}"));
        let accepted = is_accepted(envoy.listener_port(&format!("to-{cluster}"))?);
        let arguments = ["--cluster", &cluster, "--listener", &listener, &url, &url];
        let (report, code) = diagnose(&arguments).with_context(|| case.name.clone())?;
        let said = &report["handshakes"][0]["accepted"];
        let word = report["verdict"]["word"].as_str();
        // A sound pair may have a leaf that is not fit for the other side.
        let is_expected = accepted == case.word.is_none() && (accepted || word == case.word);
        if *said != Value::Bool(accepted) || !is_expected || (!accepted && code != 1) {
            wrong.push(format!(
                "{}: accepted {accepted}, said {said}, {word:?} for {:?}, code {code}: {}",
                case.name, case.word, report["handshakes"][0]["lines"]
            ));
        }
    }
    Ok(wrong)
}
