//! A real Prometheus as a child process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::envoy::free_port;
use crate::process::{kill, read_log, tail};
use crate::stats::{Series, eventually};
use crate::{Client, tool, workspace_root};

const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long [`Prometheus::wait_for`] waits: several scrapes and evaluations of every second.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A running Prometheus. Dropping it kills the process and removes its data.
#[derive(Debug)]
pub struct Prometheus {
    process: Child,
    port: u16,
    directory: TempDir,
}

impl Prometheus {
    /// Starts Prometheus with this configuration (YAML) and waits until it is ready. `files`, names
    /// with contents, are put beside the configuration, which names them by relative paths
    /// (`rule_files: [alerts.yaml]`). The binary is that of [`tool`].
    ///
    /// # Errors
    /// If there is none, if it exits, or is not ready within a minute; the error ends with the
    /// tail of its log.
    pub fn start(configuration: &str, files: &[(&str, &str)]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("prometheus-").tempdir()?;
        fs::write(directory.path().join("prometheus.yaml"), configuration)?;
        for (name, text) in files {
            fs::write(directory.path().join(name), text)?;
        }
        let port = free_port()?;
        let mut prometheus = Self {
            process: spawn(directory.path(), port)?,
            port,
            directory,
        };
        let ready = eventually(START_DEADLINE, || {
            Ok(match prometheus.process.try_wait()? {
                Some(status) => Err(anyhow!("exited with {status}")),
                None => prometheus.get("/-/ready").map(Ok)?,
            })
        });
        match ready.and_then(|ready| ready) {
            Ok(_) => Ok(prometheus),
            Err(error) => {
                let log = tail(&prometheus.log());
                Err(error.context(format!("Prometheus did not start:\n{log}")))
            }
        }
    }

    /// Whether there is one on this machine.
    #[must_use]
    pub fn is_installed() -> bool {
        tool("prometheus").is_ok()
    }

    /// The port of the web interface and of the API on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        read_log(&self.directory.path().join("log"))
    }

    /// The result of a PromQL expression now. A scalar is one sample without labels; samples
    /// without a name have an empty one.
    ///
    /// # Errors
    /// If the expression is refused; the error says why.
    pub fn query(&self, expression: &str) -> Result<Vec<Series>> {
        let encoded = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let data = self.api(&format!("/api/v1/query?query={encoded}"));
        let data = data.with_context(|| expression.to_owned())?;
        match data["resultType"].as_str() {
            Some("scalar") => Ok(vec![series(&Value::Null, &data["result"])?]),
            Some("vector") => {
                let samples = data["result"].as_array().into_iter().flatten();
                let samples = samples.map(|sample| series(&sample["metric"], &sample["value"]));
                samples.collect()
            }
            other => bail!("{expression}: neither vector nor scalar, but {other:?}"),
        }
    }

    /// Asks until `expected` holds for the result, and returns it.
    ///
    /// # Errors
    /// After [`DEADLINE`], or if the expression is refused; the error shows the last result.
    pub fn wait_for(
        &self,
        expression: &str,
        expected: impl Fn(&[Series]) -> bool,
    ) -> Result<Vec<Series>> {
        eventually(DEADLINE, || {
            let found = self.query(expression)?;
            let shown: Vec<String> = found.iter().map(|series| format!("\n  {series}")).collect();
            let shown = shown.concat();
            ensure!(expected(&found), "{expression} is not as expected:{shown}");
            Ok(found)
        })
    }

    /// The `data` of a reply of the HTTP API: `api("/api/v1/alerts")`.
    ///
    /// # Errors
    /// If it is an error, with Prometheus' own message.
    pub fn api(&self, path: &str) -> Result<Value> {
        let mut reply = Client::plaintext().get(self.port, path, &[])?.json()?;
        let error = || format!("{path}: {}", reply["error"]);
        ensure!(reply["status"] == "success", error());
        Ok(reply["data"].take())
    }

    fn get(&self, path: &str) -> Result<String> {
        let response = Client::plaintext().get(self.port, path, &[])?;
        ensure!(response.status == 200, "{path}: {}", response.status);
        Ok(response.text())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

/// Runs `promtool` in a folder of the project, and returns what it said.
///
/// # Errors
/// If there is none, or it does not succeed; the error is what it printed.
pub fn promtool(folder: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(tool("promtool")?)
        .args(arguments)
        .current_dir(workspace_root().join(folder))
        .output()?;
    let say = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complained) = (say(&output.stdout), say(&output.stderr));
    ensure!(
        output.status.success(),
        "promtool {}\n{said}{complained}",
        arguments.join(" ")
    );
    Ok(said)
}

fn spawn(directory: &Path, port: u16) -> Result<Child> {
    let path = |option: &str, file: &str| {
        let mut argument = OsString::from(option);
        argument.push(directory.join(file));
        argument
    };
    let process = Command::new(tool("prometheus")?)
        .arg(path("--config.file=", "prometheus.yaml"))
        .arg(path("--storage.tsdb.path=", "data"))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(directory.join("log"))?)
        .spawn()?;
    Ok(process)
}

/// One sample of the API: `{"__name__": …, …}` and `[time, "value"]`.
fn series(metric: &Value, sample: &Value) -> Result<Series> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = metric.as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| (key.clone(), text(value)));
    let mut labels: BTreeMap<String, String> = labels.collect();
    let value = sample[1].as_str().context("a sample without a value")?;
    Ok(Series {
        name: labels.remove("__name__").unwrap_or_default(),
        labels,
        value: value.parse().with_context(|| value.to_owned())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = "
global: { evaluation_interval: 1s }
rule_files: [rules.yaml]
";
    const RULES: &str = "
groups:
  - name: test
    rules:
      - { record: answer, expr: vector(42), labels: { odd: 'a, \"b\"' } }
      - { alert: Always, expr: vector(1) }
";

    #[test]
    fn answers_queries_and_evaluates_rules() -> Result<()> {
        let prometheus = Prometheus::start(CONFIGURATION, &[("rules.yaml", RULES)])?;
        let answer = prometheus.wait_for("answer", |found| found.len() == 1)?;
        assert_eq!(
            (answer[0].label("odd"), answer[0].value),
            ("a, \"b\"", 42.0)
        );
        assert_eq!(prometheus.query("scalar(answer) / 2")?[0].value, 21.0);
        assert!(prometheus.query("nothing")?.is_empty());
        let alerts = eventually(DEADLINE, || {
            let alerts = prometheus.api("/api/v1/alerts")?;
            ensure!(alerts["alerts"][0]["state"] == "firing", "{alerts}");
            Ok(alerts)
        })?;
        assert_eq!(alerts["alerts"][0]["labels"]["alertname"], "Always");
        let refused = prometheus.query("sum by (").unwrap_err();
        assert!(
            format!("{refused:#}").contains("parse error"),
            "{refused:#}"
        );
        Ok(())
    }

    #[test]
    fn says_what_it_dislikes_in_the_configuration() {
        let error = Prometheus::start("global: { no_such_key: 1 }", &[]).unwrap_err();
        assert!(format!("{error:#}").contains("no_such_key"), "{error:#}");
    }
}
