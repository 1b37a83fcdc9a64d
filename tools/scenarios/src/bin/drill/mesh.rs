//! Three Envoys as the sidecars of workloads that call each other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use testbed::envoy::free_port;
use testbed::load::Edge;
use testbed::pki::Lifetime;
use testbed::{Envoy, Identity, Sample, Server, Stats, TrustBundle};

use crate::authority::Authority;

/// The workloads.
pub const NAMES: [&str; 3] = ["web", "cart", "pay"];

/// Worker threads of each Envoy: more than one, as in real life.
const WORKERS: u32 = 2;

/// Polls the admin interface at every tick of the module (5 s), and finds a leaf that is not renewed at
/// half of its lifetime.
const CONFIGURATION: &str = r#"{
  "hierarchy": {"admin_cluster": "prometheus_stats", "interval": "5s"},
  "thresholds": {"workload": {"warning": "50%", "critical": "25%"}}
}"#;

/// What the sample has for a service that its application calls.
const CALLED_SERVICE: [&str; 2] = ["outbound_http", "peer_http"];

/// A workload's sidecar, with the directory from which it takes its secrets.
pub struct Sidecar {
    /// The workload.
    pub name: &'static str,
    /// The process.
    pub envoy: Envoy,
    directory: PathBuf,
}

impl Sidecar {
    /// Gives it a trust bundle with the roots of these authorities.
    pub fn trust(&self, authorities: &[&Authority]) -> Result<()> {
        trust(&self.directory, authorities)
    }

    /// Gives it a new leaf.
    pub fn renew(&self, issuer: &Authority, lifetime: Lifetime) -> Result<()> {
        renew(&self.directory, &issuer.leaf(self.name, lifetime)?)
    }

    /// What it says of itself, and of its peers.
    pub fn stats(&self) -> Result<Stats> {
        Stats::parse(&self.scrape()?)
    }

    /// The module's series, as Prometheus text.
    pub fn scrape(&self) -> Result<String> {
        self.envoy.admin_get("/stats/prometheus?filter=mtls_")
    }
}

fn trust(directory: &Path, authorities: &[&Authority]) -> Result<()> {
    let roots = authorities.iter().map(|authority| &authority.root);
    TrustBundle::of(roots).write_to(directory).map(drop)
}

fn renew(directory: &Path, leaf: &Identity) -> Result<()> {
    leaf.write_to(directory).map(drop)
}

/// All that runs. Dropping it ends it.
pub struct Mesh {
    sidecars: Vec<Sidecar>,
    _application: Server,
}

impl Mesh {
    /// Starts the sidecars, with leaves of this authority and trust in its root. Their secrets are below
    /// `directory`, by name.
    pub fn start(authority: &Authority, directory: &Path) -> Result<Self> {
        let application = Server::http_echo(None)?;
        let ports: Vec<(&str, u16)> = NAMES
            .into_iter()
            .map(|name| Ok((name, free_port()?)))
            .collect::<Result<_>>()?;
        let start = |(name, port): &(&'static str, u16)| {
            let directory = directory.join(name);
            fs::create_dir(&directory)?;
            trust(&directory, &[authority])?;
            renew(&directory, &authority.leaf(name, Lifetime::days(1))?)?;
            let sample = Sample::local("sidecar.yaml", &directory)?
                .configuration(CONFIGURATION)
                .listen("inbound_http", *port)
                .upstream("app_http", application.port());
            let peers = ports.iter().filter(|(peer, _)| peer != name);
            let sample = peers.fold(sample, calls);
            Ok(Sidecar {
                name,
                envoy: handshake_for_every_request(sample).start(WORKERS)?,
                directory,
            })
        };
        Ok(Self {
            sidecars: ports.iter().map(start).collect::<Result<_>>()?,
            _application: application,
        })
    }

    /// The sidecars.
    pub fn sidecars(&self) -> &[Sidecar] {
        &self.sidecars
    }

    /// A workload's sidecar.
    ///
    /// # Errors
    /// If there is no such workload.
    pub fn sidecar(&self, name: &str) -> Result<&Sidecar> {
        let mut sidecars = self.sidecars.iter();
        let found = sidecars.find(|sidecar| sidecar.name == name);
        found.with_context(|| format!("no sidecar of {name}"))
    }

    /// Who calls whom: everybody each other.
    pub fn edges(&self) -> Result<Vec<Edge>> {
        let pairs = self
            .sidecars
            .iter()
            .flat_map(|caller| NAMES.into_iter().map(move |called| (caller, called)));
        pairs
            .filter(|(caller, called)| caller.name != *called)
            .map(|(caller, called)| {
                let listener = format!("outbound_http-{called}");
                let port = caller.envoy.listener_port(&listener)?;
                Ok(Edge::new(caller.name, called, port))
            })
            .collect()
    }
}

/// The sidecar's application also calls the workload of that name, which is at this port.
fn calls(sample: Sample, (name, port): &(&str, u16)) -> Sample {
    let suffix = format!("-{name}");
    let sample = sample.with_copies(&CALLED_SERVICE, &suffix);
    sample.upstream(&format!("peer_http{suffix}"), *port)
}

/// No connection to a peer outlives its request: a leaf that is not trusted fails at once.
fn handshake_for_every_request(sample: Sample) -> Sample {
    sample.set_in_clusters("max_requests_per_connection", 1)
}
