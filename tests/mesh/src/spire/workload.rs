//! An Envoy of `envoy-config/spire/envoy.yaml`, with what an operator would edit set for this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;
use testbed::envoy::free_port;
use testbed::sample::{Value, yaml};
use testbed::{Client, Envoy, Sample, module};

use super::server::{Agent, Server};

/// How a workload's Envoy asks SPIRE's agent, and whom it lets in.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The last part of its SPIFFE ID.
    pub name: &'static str,
    /// The server of its trust domain.
    pub server: &'a Server,
    /// The agent of its node.
    pub agent: &'a Agent,
    /// The name of the secret with its leaf: `default`, or its SPIFFE ID.
    pub leaf: &'a str,
    /// The name of the secret with the trust bundle: `ROOTCA`, `ALL`, or the trust domain's SPIFFE ID.
    pub bundle: &'a str,
    /// The bundle comes as `trusted_ca`, not as that of the SPIFFE validator.
    pub is_plain: bool,
    /// What the SPIFFE IDs of its peers begin with.
    pub peers: &'a str,
}

impl<'a> Plan<'a> {
    /// As the sample is.
    #[must_use]
    pub const fn of(name: &'static str, server: &'a Server, agent: &'a Agent) -> Self {
        Self {
            name,
            server,
            agent,
            leaf: "default",
            bundle: "ROOTCA",
            is_plain: false,
            peers: "spiffe://example.org/",
        }
    }

    /// The sample with the edits that its first lines ask for, and nothing else.
    ///
    /// # Errors
    /// If there is no module or no free port.
    pub fn sample(&self, inbound: u16, app: u16) -> Result<Sample> {
        let sample = Sample::load("spire/envoy.yaml")?
            .module(&module::path()?)
            .admin_port(free_port()?)
            .listen("inbound", inbound)
            .listen("outbound", 0)
            .upstream("app", app)
            .replace("path", self.agent.socket.display().to_string());
        Ok(self.with_names(sample))
    }

    fn with_names(&self, sample: Sample) -> Sample {
        let renamed = [
            ("default", self.leaf),
            ("ROOTCA", self.bundle),
            ("spiffe://example.org/", self.peers),
        ];
        sample.edit(|node| {
            let new = renamed.iter().find(|(old, _)| node == old);
            if let Some((_, new)) = new {
                *node = Value::from(*new);
            }
            if self.is_plain && node.get("static_resources").is_some() {
                node["node"]["metadata"] = yaml(json!({"disable_spiffe_cert_validation": true}));
            }
        })
    }

    /// The program that SPIRE's agent tells this workload by: a name of its own for Envoy's.
    ///
    /// # Errors
    /// If there is no Envoy.
    pub fn program(&self) -> Result<PathBuf> {
        program(self.server, self.name)
    }
}

/// The program that a workload of this name runs. Another user or group for each would need root.
///
/// # Errors
/// If there is no Envoy.
pub fn program(server: &Server, name: &str) -> Result<PathBuf> {
    let path = server
        .folder()
        .canonicalize()?
        .join(format!("envoy-{name}"));
    if !path.exists() {
        let envoy = Envoy::binary()?.canonicalize()?;
        // On another file system there are no links to it.
        fs::hard_link(&envoy, &path).or_else(|_| fs::copy(&envoy, &path).map(drop))?;
    }
    Ok(path)
}

/// An Envoy that runs.
#[derive(Debug)]
pub struct Workload {
    /// The last part of its SPIFFE ID.
    pub name: &'static str,
    /// The process.
    pub envoy: Envoy,
    log: PathBuf,
    /// Where it takes mTLS.
    pub inbound: u16,
    /// Where it takes calls of its application to each other workload.
    pub outbound: BTreeMap<&'static str, u16>,
}

impl Workload {
    /// Starts one that calls all others, with a handshake for each request.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(plan: &Plan<'_>, app: u16, ports: &BTreeMap<&'static str, u16>) -> Result<Self> {
        let inbound = *ports.get(plan.name).context("no port")?;
        let others = || ports.iter().filter(|(name, _)| **name != plan.name);
        let mut sample = with_a_handshake_each(plan.sample(inbound, app)?);
        for (name, port) in others() {
            let suffix = format!("-{name}");
            sample = sample
                .with_copies(&["outbound", "peer"], &suffix)
                .upstream(&format!("peer{suffix}"), *port);
        }
        let envoy = Envoy::start_program(&plan.program()?, &sample.yaml()?, 1, &[])?;
        let port = |name: &&'static str| -> Result<_> {
            Ok((*name, envoy.listener_port(&format!("outbound-{name}"))?))
        };
        Ok(Self {
            name: plan.name,
            outbound: others()
                .map(|(name, _)| port(name))
                .collect::<Result<_>>()?,
            envoy,
            log: plan.server.logs().join(format!("{}.envoy.log", plan.name)),
            inbound,
        })
    }

    /// Calls another workload.
    ///
    /// # Errors
    /// If it does not answer with 200.
    pub fn call(&self, other: &str) -> Result<()> {
        let port = self.outbound.get(other).context("no such workload")?;
        let response = Client::plaintext().get(*port, "/", &[])?;
        anyhow::ensure!(
            response.status == 200,
            "{} to {other}: {} {}",
            self.name,
            response.status,
            response.text()
        );
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // For whoever looks into a failure; there is nobody to tell if it cannot be written.
        let _ = fs::write(&self.log, self.envoy.log());
    }
}

/// Own certificates are read as often as the module allows; no connection serves two requests, nor a session two connections.
fn with_a_handshake_each(sample: Sample) -> Sample {
    let options = yaml(json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": { "max_requests_per_connection": 1 },
            "explicit_http_config": { "http_protocol_options": {} },
        },
    }));
    sample
        .configuration(r#"{"hierarchy": {"interval": "5s"}}"#)
        .set("UpstreamTlsContext", "max_session_keys", 0)
        .edit(|node| {
            if node["name"] == "peer" && node.get("transport_socket").is_some() {
                node["typed_extension_protocol_options"] = options.clone();
            }
        })
}
