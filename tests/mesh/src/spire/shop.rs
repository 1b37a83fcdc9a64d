//! Workloads that call each other all the while, and a Prometheus with our rules that scrapes them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::envoy::free_port;
use testbed::fleet::{RULES, impatient_rules};
use testbed::load::{Edge, Load};
use testbed::{Prometheus, Server};

use super::gates::PROBE;
use super::workload::{Plan, Workload};
use crate::{DEADLINE, eventually};

/// Between two requests of one workload to another, each with its handshake.
const PAUSE: Duration = Duration::from_millis(400);

/// All that runs. Dropping it ends it.
pub struct Shop {
    /// The Envoys.
    pub workloads: Vec<Workload>,
    /// Scrapes every two seconds. The rules are as they are, but for `for`, which is ten seconds: two polls of own
    /// certificates, as two minutes are two polls in production.
    pub prometheus: Prometheus,
    load: Load,
    app: Server,
}

impl Shop {
    /// Starts the workloads, and once each reaches every other, what they call each other with.
    ///
    /// # Errors
    /// If one does not reach another within the deadline.
    pub fn start(plans: &[Plan<'_>]) -> Result<Self> {
        let app = Server::http_echo(None)?;
        let ports = plans.iter().map(|plan| Ok((plan.name, free_port()?)));
        let ports = ports.collect::<Result<BTreeMap<_, _>>>()?;
        let workloads = plans.iter().map(|plan| {
            Workload::start(plan, app.port(), &ports).with_context(|| plan.name.to_owned())
        });
        let workloads = workloads.collect::<Result<Vec<_>>>()?;
        eventually(DEADLINE, || every_pair(&workloads))?;
        Ok(Self {
            prometheus: prometheus(&workloads)?,
            load: Load::start_every(PAUSE, edges(&workloads)),
            workloads,
            app,
        })
    }

    /// Starts one more workload, which can call the others. They do not call it, nor is it scraped.
    ///
    /// # Errors
    /// If it does not start.
    pub fn beside(&self, plan: &Plan<'_>) -> Result<Workload> {
        let others = self.workloads.iter();
        let mut ports: BTreeMap<_, _> = others.map(|other| (other.name, other.inbound)).collect();
        ports.insert(plan.name, free_port()?);
        Workload::start(plan, self.app.port(), &ports)
    }

    /// A handshake between every two workloads, each way.
    ///
    /// # Errors
    /// The first that fails.
    pub fn every_pair(&self) -> Result<()> {
        every_pair(&self.workloads)
    }

    /// The workload of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn workload(&self, name: &str) -> Result<&Workload> {
        let mut workloads = self.workloads.iter();
        workloads
            .find(|workload| workload.name == name)
            .with_context(|| format!("no workload {name}"))
    }

    /// The proxies, as `rotation-status` takes them.
    #[must_use]
    pub fn proxies(&self) -> Vec<String> {
        let proxies = self.workloads.iter();
        proxies
            .map(|proxy| format!("{}=http://{}", proxy.name, proxy.envoy.admin()))
            .collect()
    }

    /// That of all requests so far none has failed, and no alert has fired.
    ///
    /// # Errors
    /// If one has.
    pub fn nothing_is_wrong(&self) -> Result<()> {
        let begin = self.load.beginning();
        // Few calls would prove little.
        eventually(DEADLINE, || {
            ensure!(
                self.load.least_sent(&begin) >= 20,
                "there are hardly any requests"
            );
            Ok(())
        })?;
        let failures = self.load.failures(&begin);
        let shown: Vec<String> = failures.iter().take(5).map(ToString::to_string).collect();
        ensure!(
            failures.is_empty(),
            "{} of {} requests failed: {}",
            failures.len(),
            self.load.sent(&begin),
            shown.join("; ")
        );
        self.no_alert_has_fired()
    }

    /// Nobody renews the leaf of the probe, which an alert may well say.
    fn no_alert_has_fired(&self) -> Result<()> {
        let scraped = self.prometheus.query("count(mtls_watch_info)")?;
        let scraped = scraped.first().map_or(0.0, |count| count.value);
        ensure!(
            scraped as usize == self.workloads.len(),
            "not all are scraped"
        );
        let fired = self.prometheus.query(&format!(
            "count_over_time(ALERTS{{alertstate=\"firing\", identity!~\".*/{PROBE}\"}}[1h])"
        ))?;
        let lines: Vec<String> = fired.iter().map(|alert| format!("\n  {alert}")).collect();
        ensure!(fired.is_empty(), "alerts have fired:{}", lines.concat());
        Ok(())
    }
}

fn every_pair(workloads: &[Workload]) -> Result<()> {
    let pairs = workloads
        .iter()
        .flat_map(|from| from.outbound.keys().map(move |to| (from, to)));
    let mut pairs = pairs;
    pairs.try_for_each(|(from, to)| from.call(to))
}

fn edges(workloads: &[Workload]) -> Vec<Edge> {
    let edges = workloads.iter().flat_map(|from| {
        let ports = from.outbound.iter();
        ports.map(|(to, port)| Edge::new(from.name, to, *port))
    });
    edges.collect()
}

fn prometheus(workloads: &[Workload]) -> Result<Prometheus> {
    let targets = workloads.iter().map(|workload| {
        json!({
            "targets": [workload.envoy.admin().to_string()],
            "labels": {"cluster": "spire", "namespace": "shop", "instance": workload.name},
        })
    });
    let configuration = json!({
        "global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
        "rule_files": RULES,
        "scrape_configs": [{
            "job_name": "mesh", "metrics_path": "/stats/prometheus",
            "static_configs": targets.collect::<Vec<_>>(),
        }],
    });
    let scaled = |text: String| text.replace("for: 1s\n", "for: 10s\n");
    let rules = RULES.map(|file| impatient_rules(file).map(|text| (file, scaled(text))));
    let rules = rules.into_iter().collect::<Result<Vec<_>>>()?;
    let files = rules.iter().map(|(name, text)| (*name, text.as_str()));
    // JSON is YAML.
    Prometheus::start(&configuration.to_string(), &files.collect::<Vec<_>>())
}
