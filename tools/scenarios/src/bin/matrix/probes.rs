//! What can be seen on one Envoy: each row from traffic that went through it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use testbed::servers::ServerTls;
use testbed::stats::{self, eventually};
use testbed::{
    Ca, Client, Envoy, Hierarchy, Identity, Lifetime, Sample, Server, Stats, TlsVersion,
    TrustBundle,
};

const FAILURES: &str = "mtls_handshake_failures_total";
const NOT_AFTER: &str = "mtls_peer_certificate_not_after_timestamp_seconds";
const BY_ISSUER: &str = "mtls_connections_by_issuer_total";
const REQUESTS: &str = "mtls_requests_total";
const INSPECTIONS: &str = "mtls_watch_inspections_total";
const OWN_NOT_AFTER: &str = "mtls_own_certificate_not_after_timestamp_seconds";

const INBOUND: (&str, &str) = ("direction", "inbound");
const OUTBOUND: (&str, &str) = ("direction", "outbound");

const YES: &str = "yes";
const NOTHING: &str = "–";
/// For what comes some time after the traffic, if at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// A row of the table, as this Envoy fills it.
pub struct Row {
    pub name: String,
    pub cell: String,
}

impl Row {
    fn new(name: &str, cell: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            cell: cell.into(),
        }
    }

    fn if_seen(name: &str, seen: bool) -> Self {
        Self::new(name, if seen { YES } else { NOTHING })
    }

    /// What `--probe` has written.
    pub fn parse(line: &str) -> Option<Self> {
        let (name, cell) = line.split_once('\t')?;
        Some(Self::new(name, cell))
    }
}

/// All rows.
pub fn all() -> Result<Vec<Row>> {
    let pki = Pki::new()?;
    let mut rows = clients(&pki)?;
    rows.push(xfcc_in_json(&pki)?);
    rows.extend(servers(&pki)?);
    rows.extend(refused_clients(&pki)?);
    rows.extend(refused_servers(&pki)?);
    rows.extend(refusals_of_this_proxy(&pki)?);
    rows.push(own_certificates(&pki)?);
    Ok(rows)
}

struct Pki {
    cas: Hierarchy,
    /// Nobody trusts it.
    strange: TrustBundle,
    /// The proxy's files.
    directory: TempDir,
}

impl Pki {
    fn new() -> Result<Self> {
        let pki = Self {
            cas: Hierarchy::new()?,
            strange: TrustBundle::of([&Ca::root("Strange CA").issue()?]),
            directory: TempDir::new()?,
        };
        let proxy = pki
            .cas
            .leaf()
            .uri("spiffe://cluster.local/ns/shop/sa/proxy");
        proxy.issue()?.write_to(pki.directory.path())?;
        pki.cas.trust_bundle().write_to(pki.directory.path())?;
        Ok(pki)
    }

    fn sample(&self, file: &str) -> Result<Sample> {
        Sample::local(file, self.directory.path())
    }

    fn peer(&self) -> Result<Identity> {
        peer(&self.cas.issuing)
    }

    /// One whose issuing CA has expired: reason, layer and identity are three things then.
    fn late_peer(&self) -> Result<Identity> {
        let ca = self.cas.intermediate.subordinate("Late CA");
        peer(&ca.lifetime(Lifetime::days(-1)).issue()?)
    }
}

fn peer(ca: &Ca) -> Result<Identity> {
    ca.leaf()
        .uri("spiffe://cluster.local/ns/shop/sa/pay")
        .issue()
}

/// Where the client's certificates can be read, with one source at a time.
fn clients(pki: &Pki) -> Result<Vec<Row>> {
    let [mut http, mut network, mut cas] = [(); 3].map(|()| Vec::new());
    for (file, source, name) in [
        ("both.yaml", "attribute", "attribute"),
        ("filter-state.yaml", "filter_state", "filter state"),
        ("xfcc.yaml", "xfcc", "XFCC"),
    ] {
        let only = json!({"certificate_sources": [source]});
        let sample = pki.sample(file)?.configuration(&only.to_string());
        let Some(stats) = one_request(pki, sample)? else {
            continue;
        };
        let requests = stats.value(REQUESTS, &[INBOUND, ("status", "ok")]);
        if requests == Some(1.0) {
            http.push(name);
        }
        if stats.sum(BY_ISSUER, &[INBOUND]) == 1.0 {
            network.push(name);
        }
        if stats.sum(NOT_AFTER, &[INBOUND, ("layer", "issuing_ca")]) > 0.0 {
            cas.push(name);
        }
    }
    Ok(vec![
        Row::new("client's leaf, HTTP filter", list(&http)),
        Row::new("client's leaf, network filter", list(&network)),
        Row::new("client's CAs, HTTP filter", list(&cas)),
    ])
}

fn list(sources: &[&str]) -> String {
    match sources {
        [] => NOTHING.to_owned(),
        sources => sources.join(", "),
    }
}

/// What was counted of a client's request; `None` if this Envoy cannot be configured so.
fn one_request(pki: &Pki, sample: Sample) -> Result<Option<Stats>> {
    let app = Server::http_echo(None)?;
    let sample = sample.upstream("app", app.port());
    if Envoy::validate(&sample.yaml()?).is_err() {
        return Ok(None);
    }
    let envoy = sample.start(1)?;
    let port = envoy.listener_port("inbound")?;
    let response = Client::mtls(&pki.peer()?).get(port, "/", &[])?;
    ensure!(response.status == 200, "{}", response.status);
    envoy.stats().map(Some)
}

/// The form of the header that Envoy 1.38 has brought.
fn xfcc_in_json(pki: &Pki) -> Result<Row> {
    let details = json!({"cert": true, "chain": true, "format": "JSON"});
    let key = "set_current_client_cert_details";
    let sample = pki
        .sample("xfcc.yaml")?
        .set("HttpConnectionManager", key, details);
    let only = json!({"certificate_sources": ["xfcc"]});
    let stats = one_request(pki, sample.configuration(&only.to_string()))?;
    let read = |stats: Stats| stats.sum(INSPECTIONS, &[("source", "xfcc"), ("result", "ok")]) > 0.0;
    let cell = stats.map_or(
        NOTHING,
        |stats| if read(stats) { YES } else { "unreadable" },
    );
    Ok(Row::new("XFCC as JSON", cell))
}

fn servers(pki: &Pki) -> Result<Vec<Row>> {
    let proxy = Outbound::start(pki, &ServerTls::new(&pki.peer()?))?;
    for port in [proxy.http, proxy.tcp] {
        let response = Client::plaintext().get(port, "/", &[])?;
        ensure!(response.status == 200, "{}", response.status);
    }
    let stats = proxy.envoy.stats()?;
    let requests = stats.value(REQUESTS, &[OUTBOUND, ("status", "ok")]);
    let tcp = stats.sum(BY_ISSUER, &[OUTBOUND]);
    Ok(vec![
        Row::if_seen("server's leaf, HTTP", requests == Some(1.0)),
        Row::if_seen("server's leaf, TCP", tcp == 1.0),
    ])
}

fn refused_clients(pki: &Pki) -> Result<Vec<Row>> {
    let inbound = Inbound::start(pki)?;
    let failures = inbound.refuse(&Client::mtls(&pki.late_peer()?))?;
    Ok(failures.rows("refused client"))
}

fn refused_servers(pki: &Pki) -> Result<Vec<Row>> {
    let proxy = Outbound::start(pki, &ServerTls::new(&pki.late_peer()?))?;
    Ok(proxy.fail()?.rows("refused server"))
}

/// Where the other side does it, and only that side knows why.
fn refusals_of_this_proxy(pki: &Pki) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (version, name) in [(TlsVersion::V1_2, "TLS 1.2"), (TlsVersion::V1_3, "TLS 1.3")] {
        let tls = ServerTls::new(&pki.peer()?).version(version);
        let proxy = Outbound::start(pki, &tls.requiring_client_certificate(&pki.strange))?;
        let name = format!("refused by a server, {name}");
        rows.push(Row::if_seen(&name, proxy.fail()?.are(REJECTED, 2.0)));
    }
    let client = Client::mtls(&pki.peer()?).verifying(&pki.strange, "localhost");
    let failures = Inbound::start(pki)?.refuse(&client)?;
    rows.push(Row::if_seen(
        "refused by a client",
        failures.are(REJECTED, 1.0),
    ));
    Ok(rows)
}

fn own_certificates(pki: &Pki) -> Result<Row> {
    let polled = json!({"hierarchy": {"admin_cluster": "prometheus_stats", "interval": "5s"}});
    let sample = pki.sample("sidecar.yaml")?;
    let envoy = sample.configuration(&polled.to_string()).start(1)?;
    let seen = eventually(PATIENCE, || {
        ensure!(envoy.stats()?.count(OWN_NOT_AFTER) > 0, "not yet");
        Ok(())
    });
    Ok(Row::if_seen("own certificates (`hierarchy`)", seen.is_ok()))
}

const REJECTED: &str = "rejected_by_peer";

/// What was counted and logged of handshakes that failed for one cause.
struct Failures {
    /// Reason and layer, if any was counted.
    labels: Option<(String, String)>,
    count: f64,
    named: bool,
}

impl Failures {
    fn of(envoy: &Envoy) -> Result<Self> {
        let stats = envoy.stats()?;
        let series = stats.series(FAILURES);
        ensure!(series.len() < 2, "several causes: {series:?}");
        let Some(series) = series.first() else {
            return Ok(Self {
                labels: None,
                count: 0.0,
                named: false,
            });
        };
        let line = envoy.wait_for_log("handshake refused")?;
        Ok(Self {
            labels: Some((
                series.label("reason").to_owned(),
                series.label("layer").to_owned(),
            )),
            count: series.value,
            named: line.contains(r#" identity="spiffe://cluster.local/ns/shop/sa/pay""#),
        })
    }

    fn are(&self, expected: &str, count: f64) -> bool {
        let reason = self.labels.as_ref().map(|(reason, _)| reason.as_str());
        reason == Some(expected) && self.count == count
    }

    /// What is told of a peer whose issuing CA has expired.
    fn rows(&self, who: &str) -> Vec<Row> {
        let reason = match &self.labels {
            None => NOTHING.to_owned(),
            Some((reason, _)) if reason == "expired" => YES.to_owned(),
            Some((reason, _)) => format!("only `{reason}`"),
        };
        let layer = self
            .labels
            .as_ref()
            .is_some_and(|(_, layer)| layer == "issuing_ca");
        vec![
            Row::new(&format!("{who}: reason"), reason),
            Row::if_seen(&format!("{who}: layer"), layer),
            Row::if_seen(&format!("{who}: identity"), self.named),
        ]
    }
}

/// A TCP listener with mTLS.
struct Inbound {
    envoy: Envoy,
    _app: Server,
}

impl Inbound {
    fn start(pki: &Pki) -> Result<Self> {
        let app = Server::tcp_echo(None)?;
        let envoy = pki
            .sample("network.yaml")?
            .upstream("app", app.port())
            .start(1)?;
        Ok(Self { envoy, _app: app })
    }

    fn refuse(&self, client: &Client) -> Result<Failures> {
        be_refused(client, self.envoy.listener_port("inbound")?)?;
        wait_until_closed(&self.envoy)?;
        Failures::of(&self.envoy)
    }
}

/// Requests and TCP connections to one server.
struct Outbound {
    envoy: Envoy,
    http: u16,
    tcp: u16,
    _server: Server,
}

impl Outbound {
    fn start(pki: &Pki, tls: &ServerTls) -> Result<Self> {
        let server = Server::http_echo(Some(tls.clone()))?;
        let envoy = pki
            .sample("upstream.yaml")?
            .upstream("peer_http", server.port())
            .upstream("peer_tcp", server.port())
            .start(1)?;
        Ok(Self {
            http: envoy.listener_port("outbound_http")?,
            tcp: envoy.listener_port("outbound_tcp")?,
            envoy,
            _server: server,
        })
    }

    /// A request and a connection, neither of which gets through.
    fn fail(&self) -> Result<Failures> {
        let response = Client::plaintext().get(self.http, "/", &[])?;
        ensure!(response.status == 503, "{}", response.status);
        be_refused(&Client::plaintext(), self.tcp)?;
        wait_until_closed(&self.envoy)?;
        Failures::of(&self.envoy)
    }
}

/// Tries to connect, and waits until that has failed.
fn be_refused(client: &Client, port: u16) -> Result<()> {
    match client.tcp(port) {
        Ok(mut connection) => connection.closed_by_peer().map(drop),
        Err(_) => Ok(()),
    }
}

/// Waits until connections have come in and none is left, so that all of them is counted.
fn wait_until_closed(envoy: &Envoy) -> Result<()> {
    eventually(stats::DEADLINE, || {
        let stats = envoy.stats()?;
        let open = stats.sum("envoy_listener_downstream_cx_active", &[]);
        let total = stats.sum("envoy_listener_downstream_cx_total", &[]);
        ensure!(total > 0.0 && open == 0.0, "{open} of {total} open");
        Ok(())
    })
}
