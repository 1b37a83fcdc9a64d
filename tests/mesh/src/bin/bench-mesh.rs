//! What the module costs in a real sidecar: the CPU that each sidecar takes for a request, side by side with none,
//! and with a filter that does nothing. Every variant has pods of its own, and they are measured in turn.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use mesh_tests::istio::{self, IMAGE};
use mesh_tests::kubectl::{apply, get};
use mesh_tests::namespace::{self, Namespace, Workload};
use mesh_tests::prometheus::http_get;

const ROUNDS: usize = 7;
const SECONDS: u64 = 4;
const EMPTY: &str = "oci://10.99.0.1:5000/mtls-watch:empty";

/// A name, and the plugins that the sidecars have.
const VARIANTS: [(&str, &[(&str, &str)]); 5] = [
    ("none", &[]),
    ("empty", &[("HTTP", EMPTY)]),
    ("http", &[("HTTP", IMAGE)]),
    ("network", &[("NETWORK", IMAGE)]),
    ("both", &[("HTTP", IMAGE), ("NETWORK", IMAGE)]),
];

fn main() -> ExitCode {
    let outcome = bench();
    let cleaned = namespace::delete_all();
    match outcome.and(cleaned) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-mesh: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The sidecars of one variant.
struct Pair {
    namespace: Namespace,
    client: Sidecar,
    server: Sidecar,
    /// Of each round: client's and server's CPU a request, median and slowest hundredth, all in microseconds.
    rounds: Vec<[f64; 4]>,
    /// CPU of both sidecars until the first round, in milliseconds.
    start: f64,
}

fn bench() -> Result<()> {
    istio::reset()?;
    istio::watch_nothing()?;
    let mut pairs = BTreeMap::new();
    for (index, (name, plugins)) in VARIANTS.iter().enumerate() {
        pairs.insert(index, Pair::start(name, plugins)?);
    }
    for round in 0..=ROUNDS {
        for pair in pairs.values_mut() {
            let measured = pair.measure()?;
            // The first is for warming up.
            if round > 0 {
                pair.rounds.push(measured);
            }
        }
    }
    println!(
        "sidecar     CPU of client's  of server's  median  slowest 1 %  memory  CPU of the start"
    );
    for pair in pairs.values() {
        pair.print()?;
    }
    Ok(())
}

impl Pair {
    fn start(name: &str, plugins: &[(&str, &str)]) -> Result<Self> {
        let namespace = Namespace::injected(&format!("bench-{name}"))?;
        for (kind, url) in plugins {
            apply(&plugin(&namespace.name, kind, url))?;
        }
        let workload = |name| Workload {
            name,
            ..Workload::default()
        };
        namespace.start(&[workload("server"), workload("client")])?;
        namespace.call_until_ok("client", &target(&namespace))?;
        let (client, server) = (
            Sidecar::of(&namespace, "client")?,
            Sidecar::of(&namespace, "server")?,
        );
        let start = (client.cpu()? + server.cpu()?) / 1000.0;
        Ok(Self {
            namespace,
            client,
            server,
            rounds: Vec::new(),
            start,
        })
    }

    fn measure(&self) -> Result<[f64; 4]> {
        let before = [self.client.cpu()?, self.server.cpu()?];
        let address = self.namespace.address("client")?;
        let target = target(&self.namespace);
        let url = format!("http://{address}:8081/flood?duration={SECONDS}s&target={target}");
        let reply: serde_json::Value = serde_json::from_str(&http_get(&url)?)?;
        let number = |key: &str| {
            reply[key]
                .as_f64()
                .with_context(|| format!("no {key} in {reply}"))
        };
        let calls = number("calls")?;
        ensure!(number("failed")? == 0.0, "calls have failed: {reply}");
        let after = [self.client.cpu()?, self.server.cpu()?];
        let [client, server] = [
            (after[0] - before[0]) / calls,
            (after[1] - before[1]) / calls,
        ];
        Ok([client, server, number("median")?, number("slowest")?])
    }

    fn print(&self) -> Result<()> {
        let [client, server, median, slowest] = [0, 1, 2, 3].map(|column| {
            let mut values: Vec<f64> = self.rounds.iter().map(|round| round[column]).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        });
        let memory = (self.client.memory()? + self.server.memory()?) / 2.0 / 1024.0 / 1024.0;
        println!(
            "{:<11} {client:>12.0} µs {server:>9.0} µs {median:>4.0} µs {slowest:>9.0} µs {memory:>4.0} MB {:>10.0} ms",
            self.namespace.name.trim_start_matches("bench-"),
            self.start,
        );
        Ok(())
    }
}

fn target(namespace: &Namespace) -> String {
    format!("http://server.{}/", namespace.name)
}

fn plugin(namespace: &str, kind: &str, url: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: bench-{}, namespace: {namespace}}}
spec:
  type: {kind}
  url: {url}
  failStrategy: FAIL_OPEN
  phase: AUTHN
  pluginConfig:
    hierarchy: {{admin_cluster: prometheus_stats, interval: 60s}}
    strip_xfcc_certificates: false
",
        kind.to_lowercase()
    )
}

/// A sidecar's cgroup.
struct Sidecar {
    container: String,
}

impl Sidecar {
    fn of(namespace: &Namespace, workload: &str) -> Result<Self> {
        let pods = get(&[
            "pods",
            "--namespace",
            &namespace.name,
            "--selector",
            &format!("app={workload}"),
        ])?;
        let status = &pods["items"][0]["status"];
        let containers = ["initContainerStatuses", "containerStatuses"];
        let containers = containers
            .iter()
            .filter_map(|list| status[list].as_array())
            .flatten();
        let mut proxies = containers.filter(|container| container["name"] == "istio-proxy");
        let proxy = proxies.next().context("no sidecar")?;
        let id = proxy["containerID"]
            .as_str()
            .and_then(|id| id.rsplit('/').next());
        Ok(Self {
            container: id.context("no container")?.to_owned(),
        })
    }

    /// The CPU that it has taken so far, in microseconds.
    fn cpu(&self) -> Result<f64> {
        match self.version_1("cpuacct") {
            Some(folder) => Ok(fs::read_to_string(folder.join("cpuacct.usage"))?
                .trim()
                .parse::<f64>()?
                / 1000.0),
            None => self.line(&self.version_2().join("cpu.stat"), "usage_usec"),
        }
    }

    /// The memory that it cannot give back, in bytes.
    fn memory(&self) -> Result<f64> {
        match self.version_1("memory") {
            Some(folder) => self.line(&folder.join("memory.stat"), "total_rss"),
            None => self.line(&self.version_2().join("memory.stat"), "anon"),
        }
    }

    fn version_1(&self, controller: &str) -> Option<PathBuf> {
        let folder = Path::new("/sys/fs/cgroup")
            .join(controller)
            .join("mtls-mesh/k8s.io")
            .join(&self.container);
        folder.exists().then_some(folder)
    }

    fn version_2(&self) -> PathBuf {
        Path::new("/sys/fs/cgroup/mtls-mesh/k8s.io").join(&self.container)
    }

    fn line(&self, file: &Path, key: &str) -> Result<f64> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        Ok(value
            .with_context(|| format!("{}: no {key}", self.container))?
            .parse()?)
    }
}
