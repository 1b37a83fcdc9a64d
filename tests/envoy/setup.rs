//! What the tests stand on: a PKI of its own for each, a proxy between a real client and a real
//! server, and what two scrapes tell of an exchange.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use testbed::client::{HttpConnection, Response, TcpConnection};
use testbed::pki::LeafBuilder;
use testbed::pki::fixtures::hex;
use testbed::servers::ServerTls;
use testbed::stats::{self, eventually, wait_for};
use testbed::{Ca, Client, Envoy, Hierarchy, Sample, Server, Stats};

/// The identity of most peers.
pub const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";

pub const INBOUND: (&str, &str) = ("direction", "inbound");
pub const OUTBOUND: (&str, &str) = ("direction", "outbound");

/// The metrics, by the names that dashboards know them by.
pub const CONNECTIONS: &str = "mtls_connections_total";
pub const REQUESTS: &str = "mtls_requests_total";
pub const CONNECTION_FINDINGS: &str = "mtls_connection_findings_total";
pub const REQUEST_FINDINGS: &str = "mtls_request_findings_total";
pub const FAILURES: &str = "mtls_handshake_failures_total";
pub const BY_ISSUER: &str = "mtls_connections_by_issuer_total";
pub const ISSUER_LAST_SEEN: &str = "mtls_issuer_last_seen_timestamp_seconds";
pub const NOT_AFTER: &str = "mtls_peer_certificate_not_after_timestamp_seconds";
pub const NOT_BEFORE: &str = "mtls_peer_certificate_not_before_timestamp_seconds";
pub const REMAINING: &str = "mtls_peer_certificate_remaining_seconds";
pub const INSPECTIONS: &str = "mtls_watch_inspections_total";
pub const CONFIGURATION_ERRORS: &str = "mtls_watch_configuration_errors";
pub const DUPLICATES: &str = "mtls_watch_duplicate_plugins";
pub const OVERFLOW: &str = "mtls_watch_series_overflow_total";

/// CAs, and the files that a sample takes from them.
pub struct Pki {
    pub cas: Hierarchy,
    directory: TempDir,
}

impl Pki {
    pub fn new() -> Result<Self> {
        let cas = Hierarchy::new()?;
        let directory = TempDir::new()?;
        let proxy = cas.leaf().uri("spiffe://cluster.local/ns/shop/sa/proxy");
        proxy.issue()?.write_to(directory.path())?;
        cas.trust_bundle().write_to(directory.path())?;
        Ok(Self { cas, directory })
    }

    /// A directory of the test's own.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A sample on this machine, with this PKI's certificates.
    pub fn sample(&self, file: &str) -> Result<Sample> {
        Sample::local(file, self.directory())
    }

    /// Starts the leaf of [`PAY`], in which nothing is wrong.
    pub fn pay(&self) -> LeafBuilder {
        self.cas.leaf().uri(PAY)
    }

    /// A client in which nothing is wrong.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::mtls(&self.pay().issue()?))
    }

    /// A server in which nothing is wrong, and that wants to see a client certificate.
    pub fn server_tls(&self) -> Result<ServerTls> {
        let tls = ServerTls::new(&self.pay().issue()?);
        Ok(tls.requiring_client_certificate(&self.cas.trust_bundle()))
    }
}

/// The label value of a CA with this common name.
pub fn ca_label(common_name: &str, ca: &Ca) -> String {
    let common_name = common_name.replace(' ', "_");
    format!("{common_name}:{}", &ca.key_identifier()[..8])
}

/// The label value of an identity that is not shown whole, and what it is told apart by.
pub fn with_digits(shown: &str, identity: &str) -> String {
    let digest = hex(&Sha256::digest(identity));
    format!("{shown}~{}", &digest[..8])
}

/// The labels of a gauge.
pub fn gauge<'a>(
    direction: (&'static str, &'static str),
    layer: &'a str,
    identity: &'a str,
) -> [(&'static str, &'a str); 3] {
    [direction, ("layer", layer), ("identity", identity)]
}

/// A sample that runs, with the server behind it.
pub struct Proxy {
    pub envoy: Envoy,
    pub port: u16,
    _server: Server,
}

impl Proxy {
    /// The HTTP service of an inbound sample.
    pub fn http(sample: Sample) -> Result<Self> {
        Self::start(sample, ("inbound", "app"), Server::http_echo(None)?, 1)
    }

    /// The TCP service of an inbound sample.
    pub fn tcp(sample: Sample) -> Result<Self> {
        Self::start(sample, ("inbound", "app"), Server::tcp_echo(None)?, 1)
    }

    /// The way from this listener to this cluster, with so many worker threads.
    pub fn start(
        sample: Sample,
        (listener, cluster): (&str, &str),
        server: Server,
        workers: u32,
    ) -> Result<Self> {
        let envoy = sample.upstream(cluster, server.port()).start(workers)?;
        let port = envoy.listener_port(listener)?;
        Ok(Self {
            envoy,
            port,
            _server: server,
        })
    }

    pub fn open(&self, client: &Client) -> Result<HttpConnection> {
        client.http(self.port)
    }

    /// One request on a connection of its own, which must reach the server.
    pub fn get(&self, client: &Client) -> Result<Response> {
        self.get_with(client, &[])
    }

    pub fn get_with(&self, client: &Client, headers: &[(&str, &str)]) -> Result<Response> {
        let response = client.get(self.port, "/", headers)?;
        ensure!(
            response.status == 200,
            "{} {}",
            response.status,
            response.text()
        );
        Ok(response)
    }

    /// A TCP connection on which bytes went to the server and came back.
    pub fn echo(&self, client: &Client) -> Result<TcpConnection> {
        let mut connection = client.tcp(self.port)?;
        connection.echo(b"hello")?;
        Ok(connection)
    }

    pub fn stats(&self) -> Result<Stats> {
        self.envoy.stats()
    }

    pub fn wait_for(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<()> {
        wait_for(&self.envoy, name, labels, |seen| seen == value).map(drop)
    }

    /// Waits until so many connections have come in since the start and all have ended.
    pub fn wait_until_closed(&self, connections: u32) -> Result<Stats> {
        eventually(stats::DEADLINE, || {
            let stats = self.stats()?;
            let total = stats.sum("envoy_listener_downstream_cx_total", &[]);
            let active = stats.sum("envoy_listener_downstream_cx_active", &[]);
            ensure!(
                total == f64::from(connections) && active == 0.0,
                "{total} connections, {active} open"
            );
            Ok(())
        })?;
        // A scrape reads counters before gauges, so those of that one may be older than the end of a connection.
        self.stats()
    }
}

/// The request header that reached the echo server behind the proxy.
pub fn forwarded(response: &Response, header: &str) -> Result<Option<String>> {
    let request = response.json()?;
    Ok(request["headers"][header].as_str().map(str::to_owned))
}

/// What was counted between two scrapes.
pub struct Counted {
    before: Stats,
    after: Stats,
}

impl Counted {
    /// What `exchange` adds to the counters of `envoy`.
    pub fn by(envoy: &Envoy, exchange: impl FnOnce() -> Result<()>) -> Result<Self> {
        let before = envoy.stats()?;
        exchange()?;
        let after = envoy.stats()?;
        Ok(Self { before, after })
    }

    /// By how much the counters of this name and these labels have grown, all together.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.after.sum(name, labels) - self.before.sum(name, labels)
    }

    /// The findings, as `layer finding`, each of which must have been counted once.
    pub fn findings(&self, name: &str, direction: &str) -> Result<BTreeSet<String>> {
        let mut findings = BTreeSet::new();
        for series in self.after.matching(name, &[("direction", direction)]) {
            let (layer, finding) = (series.label("layer"), series.label("finding"));
            let labels = [
                ("direction", direction),
                ("layer", layer),
                ("finding", finding),
            ];
            match self.sum(name, &labels) {
                0.0 => {}
                1.0 => {
                    findings.insert(format!("{layer} {finding}"));
                }
                more => bail!("{series} was counted {more} times"),
            }
        }
        Ok(findings)
    }

    /// The one status of requests that was counted, once.
    pub fn status(&self, direction: &str) -> Result<String> {
        let all = [("direction", direction)];
        let sum = self.sum(REQUESTS, &all);
        ensure!(sum == 1.0, "{sum} requests were counted");
        let grown = self.after.matching(REQUESTS, &all).find(|series| {
            let status = series.label("status");
            self.sum(REQUESTS, &[("direction", direction), ("status", status)]) == 1.0
        });
        Ok(grown.context("no status")?.label("status").to_owned())
    }
}
