//! A proxy with two ways to one server: requests and TCP connections.

use anyhow::{Result, ensure};
use testbed::client::Response;
use testbed::stats::{self, eventually};
use testbed::{Client, Envoy, Sample, Server};

use crate::watch::{REPEATED, be_refused};

pub struct Outbound {
    pub envoy: Envoy,
    pub server: Server,
    pub http: u16,
    pub tcp: u16,
}

impl Outbound {
    /// A variant of `upstream.yaml` with this server.
    pub fn start(sample: Sample, server: Server) -> Result<Self> {
        let envoy = sample
            .configuration(REPEATED)
            .upstream("peer_http", server.port())
            .upstream("peer_tcp", server.port())
            .start(1)?;
        Ok(Self {
            http: envoy.listener_port("outbound_http")?,
            tcp: envoy.listener_port("outbound_tcp")?,
            server,
            envoy,
        })
    }

    pub fn get(&self) -> Result<Response> {
        Client::plaintext().get(self.http, "/", &[])
    }

    /// Waits until so many connections to the server were made, and all have ended.
    pub fn wait_until_closed(&self, cluster: &str, connections: u32) -> Result<()> {
        let labels = [("envoy_cluster_name", cluster)];
        eventually(stats::DEADLINE, || {
            let stats = self.envoy.stats()?;
            let total = stats.sum("envoy_cluster_upstream_cx_total", &labels);
            let active = stats.sum("envoy_cluster_upstream_cx_active", &labels);
            ensure!(
                total == f64::from(connections) && active == 0.0,
                "{total} connections, {active} open"
            );
            Ok(())
        })
    }

    /// Waits until all clients have gone, so that all of their connections is known.
    pub fn wait_for_silence(&self) -> Result<()> {
        eventually(stats::DEADLINE, || {
            let stats = self.envoy.stats()?;
            let active = stats.sum("envoy_listener_downstream_cx_active", &[]);
            ensure!(active == 0.0, "{active} clients");
            Ok(())
        })
    }

    /// Makes a request, which must fail.
    pub fn request_in_vain(&self) -> Result<()> {
        let response = self.get()?;
        ensure!(response.status == 503, "{}", response.status);
        Ok(())
    }

    /// Connects, and waits until that has failed.
    pub fn connect_in_vain(&self) -> Result<()> {
        be_refused(&Client::plaintext(), self.tcp)
    }

    /// Both.
    pub const IN_VAIN: [fn(&Self) -> Result<()>; 2] =
        [Self::request_in_vain, Self::connect_in_vain];
}
