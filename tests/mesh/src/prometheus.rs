//! The mesh's Prometheus, with the rules of `envoy-config/prometheus`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use std::{env, fmt, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::kubectl::run;
use crate::{DEADLINE, eventually, workspace_root};

const ADDRESS: &str = "http://10.99.0.1:9090";

/// A series and its value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// With `__name__`, where it has one.
    pub labels: BTreeMap<String, String>,
    /// At the time of the question.
    pub value: f64,
}

impl Sample {
    /// Empty where there is no such label.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.labels {
            write!(formatter, "{name}={value:?} ")?;
        }
        write!(formatter, "{}", self.value)
    }
}

/// The body of a successful reply.
///
/// # Errors
/// If there is none, or it has another status.
pub fn http_get(url: &str) -> Result<String> {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let mut reply = agent.get(url).call().with_context(|| url.to_owned())?;
    let body = reply.body_mut().read_to_string()?;
    ensure!(
        reply.status().is_success(),
        "{url}: {}: {body}",
        reply.status()
    );
    Ok(body)
}

fn api(path: &str) -> Result<Value> {
    let mut reply: Value = serde_json::from_str(&http_get(&format!("{ADDRESS}{path}"))?)?;
    Ok(reply["data"].take())
}

/// The result of a PromQL expression now.
///
/// # Errors
/// If Prometheus refuses it.
pub fn query(expression: &str) -> Result<Vec<Sample>> {
    let encoded = percent_encode(expression);
    let data = api(&format!("/api/v1/query?query={encoded}"))?;
    let samples = data["result"].as_array().context("no vector")?;
    samples.iter().map(sample).collect()
}

fn sample(sample: &Value) -> Result<Sample> {
    let labels = sample["metric"].as_object().into_iter().flatten();
    let labels =
        labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned()));
    let value = sample["value"][1]
        .as_str()
        .context("a sample without value")?;
    Ok(Sample {
        labels: labels.collect(),
        value: value.parse()?,
    })
}

/// Asks until there is a result, and returns it.
///
/// # Errors
/// After the deadline.
pub fn wait_for(expression: &str) -> Result<Vec<Sample>> {
    wait_within(DEADLINE, expression)
}

/// As [`wait_for`], with a deadline of one's own.
///
/// # Errors
/// After the deadline.
pub fn wait_within(deadline: Duration, expression: &str) -> Result<Vec<Sample>> {
    eventually(deadline, || {
        let samples = query(expression)?;
        ensure!(!samples.is_empty(), "no result: {expression}");
        Ok(samples)
    })
}

/// Asks until there is no result.
///
/// # Errors
/// After the deadline; the error has what there is still.
pub fn wait_for_none(expression: &str) -> Result<()> {
    eventually(DEADLINE, || nothing(expression))
}

/// That there is no result now.
///
/// # Errors
/// If there is one; the error has it.
pub fn nothing(expression: &str) -> Result<()> {
    let samples = query(expression)?;
    ensure!(samples.is_empty(), "{expression} has{}", lines(&samples));
    Ok(())
}

/// Waits until an alert fires with these labels, and returns its annotations.
///
/// # Errors
/// After the deadline.
pub fn wait_for_alert(
    deadline: Duration,
    name: &str,
    labels: &[(&str, &str)],
) -> Result<BTreeMap<String, String>> {
    eventually(deadline, || {
        let data = api("/api/v1/alerts")?;
        let alerts = data["alerts"].as_array().context("no alerts")?;
        let is_it = |alert: &&Value| {
            alert["state"] == "firing"
                && alert["labels"]["alertname"] == name
                && labels
                    .iter()
                    .all(|(key, value)| alert["labels"][key] == *value)
        };
        let alert = alerts.iter().find(is_it);
        let alert = alert.with_context(|| format!("{name} does not fire with {labels:?}"))?;
        let annotations = alert["annotations"].as_object().context("no annotations")?;
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let annotations = annotations.iter();
        Ok(annotations
            .map(|(key, value)| (key.clone(), text(value)))
            .collect())
    })
}

/// Each sample on a line of its own.
#[must_use]
pub fn lines(samples: &[Sample]) -> String {
    samples
        .iter()
        .map(|sample| format!("\n  {sample}"))
        .collect()
}

/// Reads rule files and configuration again.
///
/// # Errors
/// If Prometheus refuses them.
pub fn reload() -> Result<()> {
    let reply = ureq::post(format!("{ADDRESS}/-/reload")).send_empty();
    reply.context("Prometheus refuses its rules").map(drop)
}

/// Ends Prometheus, and starts it again with what it has stored.
///
/// # Errors
/// If it does not come back.
pub fn restart() -> Result<()> {
    let mesh = workspace_root().join("tools/mesh/mesh");
    run(&mesh.display().to_string(), &["restart-prometheus"], None).map(drop)
}

/// The rules with their pending times (`for: 15m`) in seconds, and with 20 seconds in the stead of the hour for which
/// a peer's certificate that is no longer shown counts, and of the ten minutes after which a VM that does not tick is
/// dead: for certificates that live for minutes. The rules are as they were when this is dropped.
#[derive(Debug)]
pub struct ScaledRules(());

impl ScaledRules {
    /// Scales the rules of `envoy-config/prometheus`.
    ///
    /// # Errors
    /// If Prometheus refuses them.
    pub fn load() -> Result<Self> {
        Self::pending_for("4s")
    }

    /// With another pending time: a minute of a day is nothing of two minutes.
    ///
    /// # Errors
    /// If Prometheus refuses them.
    pub fn pending_for(time: &str) -> Result<Self> {
        let pending = format!("for: {time}");
        write_rules(|text| {
            let lines = text
                .lines()
                .map(|line| match line.trim_start().strip_prefix("for: ") {
                    Some(_) => line.replace(line.trim_start(), &pending),
                    None => line
                        .replace(
                            "mtls_peer_certificate_last_seen_timestamp_seconds < 3600",
                            "mtls_peer_certificate_last_seen_timestamp_seconds < 20",
                        )
                        .replace(
                            "mtls_watch_last_tick_timestamp_seconds > 600",
                            "mtls_watch_last_tick_timestamp_seconds > 20",
                        ),
                });
            lines.collect::<Vec<_>>().join("\n")
        })?;
        Ok(Self(()))
    }
}

impl Drop for ScaledRules {
    fn drop(&mut self) {
        if let Err(error) = write_rules(str::to_owned) {
            eprintln!("{error:#}");
        }
    }
}

/// The mesh's copies of the rules, edited.
fn write_rules(edit: impl Fn(&str) -> String) -> Result<()> {
    let run = env::var("MESH_RUN").context("run this by make test-mesh")?;
    for entry in fs::read_dir(workspace_root().join("envoy-config/prometheus"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        if name.ends_with(".rules.yaml") {
            let text = edit(&fs::read_to_string(&path)?);
            fs::write(Path::new(&run).join("rules").join(name), text)?;
        }
    }
    reload()
}

fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}
