//! The sidecar: its own peer, so that one process has both ends of every handshake.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use testbed::envoy::free_port;
use testbed::load::Edge;
use testbed::stats::eventually;
use testbed::{Envoy, Hierarchy, Sample, Server, Stats};

const WORKERS: u32 = 4;
/// Clients at the same time.
const CLIENTS: usize = 16;
/// How long a listener that was replaced serves what is open, in seconds. The default is ten minutes, in
/// which nothing of it would be given back.
const DRAIN: &str = "10";
const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/pay";
const HIERARCHY: &str = r#""hierarchy": {"admin_cluster": "prometheus_stats", "interval": "5s"}"#;
/// Every so many configurations, one is wrong.
const WRONG: u32 = 4;

/// A running sidecar, and what was done to it.
pub struct Sidecar {
    pub envoy: Envoy,
    pub leaves: u32,
    pub configurations: u32,
    pub wrong: u32,
    cas: Hierarchy,
    sample: Sample,
    directory: TempDir,
    port: u16,
    _application: Server,
}

impl Sidecar {
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("mtls-watch-soak-")
            .tempdir()?;
        let cas = Hierarchy::new()?;
        cas.trust_bundle().write_to(directory.path())?;
        let leaf = cas.leaf().uri(IDENTITY).issue()?;
        leaf.write_to(directory.path())?;
        let application = Server::http_echo(None)?;
        let (inbound, port) = (free_port()?, free_port()?);
        let sample = Sample::local("sidecar.yaml", directory.path())?
            .listen("inbound_http", inbound)
            .listen("outbound_http", port)
            .upstream("peer_http", inbound)
            .upstream("app_http", application.port())
            .set_in_clusters("max_requests_per_connection", 1);
        let listeners = directory.path().join("listeners.yaml");
        fs::write(&listeners, configured(&sample, 0).listeners()?)?;
        let bootstrap = sample.clone().listeners_from(&listeners).yaml()?;
        let drain = ["--drain-time-s", DRAIN];
        let envoy = Envoy::start_with(&bootstrap, WORKERS, &drain)?;
        Ok(Self {
            envoy,
            leaves: 0,
            configurations: 0,
            wrong: 0,
            cas,
            sample,
            directory,
            port,
            _application: application,
        })
    }

    /// The clients, all of which call the sidecar's own application by way of both its sides.
    pub fn edges(&self) -> Vec<Edge> {
        let edge = |_| Edge::new("a client", "the application", self.port);
        (0..CLIENTS).map(edge).collect()
    }

    /// Gives it another leaf, with another key.
    pub fn renew(&mut self) -> Result<()> {
        let leaf = self.cas.leaf().uri(IDENTITY).issue()?;
        leaf.write_to(self.directory.path())?;
        self.leaves += 1;
        Ok(())
    }

    /// Gives it another configuration of the module, now and then a wrong one, and waits until Envoy has
    /// taken it: the module loads with any.
    pub fn configure(&mut self) -> Result<()> {
        const TAKEN: &str = "envoy_listener_manager_lds_update_success";
        // The first update is the one of the start.
        let before = f64::from(self.configurations) + 1.0;
        self.configurations += 1;
        let wrong = self.configurations.is_multiple_of(WRONG);
        let sample = match wrong {
            true => self.sample.clone().configuration(&wrong_configuration()),
            false => configured(&self.sample, self.configurations),
        };
        self.wrong += u32::from(wrong);
        self.move_in("listeners.yaml", &sample.listeners()?)?;
        eventually(testbed::stats::DEADLINE, || {
            let stats = self.envoy.stats()?;
            let updates = stats.sum(TAKEN, &[]);
            ensure!(updates > before, "{TAKEN} is {updates}");
            let errors = stats.sum("mtls_watch_configuration_errors", &[]);
            ensure!((errors > 0.0) == wrong, "{errors} configuration errors");
            Ok(())
        })
    }

    /// Envoy looks for files that are moved into place.
    fn move_in(&self, name: &str, content: &str) -> Result<()> {
        let path: PathBuf = self.directory.path().join(name);
        let partial = path.with_extension("new");
        fs::write(&partial, content)?;
        Ok(fs::rename(partial, path)?)
    }

    /// Checks that each of so many requests was counted at both ends, and the connection that it took.
    pub fn counted(&self, sent: u64) -> Result<()> {
        eventually(testbed::stats::DEADLINE, || {
            let stats = self.envoy.stats()?;
            let inbound = ("direction", "inbound");
            for (name, labels) in [
                ("mtls_requests_total", &[("direction", "outbound")][..]),
                ("mtls_requests_total", &[inbound]),
                ("mtls_connections_total", &[inbound, ("security", "mtls")]),
            ] {
                let counted = stats.sum(name, labels);
                ensure!(
                    counted == sent as f64,
                    "{name} {labels:?}: {counted} of {sent}"
                );
            }
            Ok(())
        })
    }

    /// Checks that nothing was logged that should not be.
    pub fn unharmed(&self) -> Result<()> {
        let log = self.envoy.log();
        let bad = [
            "bug, please report",
            "panic",
            "Wasm VM failed",
            "Function: ",
        ];
        let is_bad = |line: &&str| bad.iter().any(|word| line.contains(word));
        let line = log.lines().find(is_bad);
        ensure!(line.is_none(), "logged: {}", line.unwrap_or_default());
        Ok(())
    }

    pub fn stats(&self) -> Result<Stats> {
        self.envoy.stats()
    }
}

/// What is right in it applies, so that the sidecar is watched as before.
fn wrong_configuration() -> String {
    format!(r#"{{"treshold": 1, {HIERARCHY}}}"#)
}

/// The configurations differ in what makes no series.
fn configured(sample: &Sample, number: u32) -> Sample {
    sample.clone().configuration(&format!(
        r#"{{{HIERARCHY}, "log_repeat": "{}s"}}"#,
        3600 + number
    ))
}
