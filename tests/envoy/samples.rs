//! The samples of `envoy-config/`, which operators copy: valid, cheap at rest, and each gives the
//! series that it is there for, with the types and labels that the contract promises.

use std::fs;

use anyhow::{Context, Result, ensure};
use testbed::pki::{DAY, Lifetime};
use testbed::{Client, Envoy, Sample, Server, Stats, workspace_root};

use crate::setup::{
    BY_ISSUER, CONFIGURATION_ERRORS, CONNECTION_FINDINGS, CONNECTIONS, INBOUND, INSPECTIONS,
    ISSUER_LAST_SEEN, NOT_AFTER, NOT_BEFORE, OUTBOUND, OVERFLOW, Pki, Proxy, REMAINING,
    REQUEST_FINDINGS, REQUESTS,
};

/// All samples that are a whole Envoy; the others are secrets of theirs.
fn files() -> Result<Vec<String>> {
    let names = fs::read_dir(workspace_root().join("envoy-config"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    let files: Vec<String> = names
        .into_iter()
        .filter(|name| name.ends_with(".yaml") && !name.starts_with("secret-"))
        .collect();
    ensure!(files.len() >= 7, "{files:?}");
    Ok(files)
}

/// Those whose certificates come from elsewhere, and which so cannot be run here: `tests/mesh/tests/spire` does.
const WITH_AN_AGENT: [&str; 1] = ["spire/envoy.yaml"];

/// Every metric that peers can move: its type and its labels.
const METRICS: &[(&str, &str, &[&str])] = &[
    (CONNECTIONS, "counter", &["direction", "security"]),
    (REQUESTS, "counter", &["direction", "status"]),
    (
        CONNECTION_FINDINGS,
        "counter",
        &["direction", "finding", "layer"],
    ),
    (
        REQUEST_FINDINGS,
        "counter",
        &["direction", "finding", "layer"],
    ),
    (BY_ISSUER, "counter", &["direction", "issuer"]),
    (ISSUER_LAST_SEEN, "gauge", &["direction", "issuer"]),
    (NOT_AFTER, "gauge", &["direction", "identity", "layer"]),
    (NOT_BEFORE, "gauge", &["direction", "identity", "layer"]),
    (REMAINING, "histogram", &["direction"]),
    ("mtls_watch_info", "gauge", &["version"]),
    (CONFIGURATION_ERRORS, "gauge", &[]),
    (INSPECTIONS, "counter", &["result", "source"]),
    ("mtls_watch_hierarchy_polls_total", "counter", &["result"]),
    (OVERFLOW, "counter", &[]),
];

/// Nothing of the module's is left in a name or in a label that is not its own.
fn check_names(envoy: &Envoy) -> Result<Stats> {
    let text = envoy.admin_get("/stats/prometheus")?;
    for line in text.lines() {
        let name = line.trim_start_matches("# TYPE ");
        let ours = name.contains("mtls_") && !name.starts_with("envoy_");
        ensure!(!line.contains("=.=") && !line.contains(";.;"), "{line}");
        ensure!(!ours || name.starts_with("mtls_"), "{line}");
    }
    Stats::parse(&text)
}

#[test]
fn are_valid() -> Result<()> {
    let pki = Pki::new()?;
    let with_an_agent = WITH_AN_AGENT.map(str::to_owned);
    for file in files()?.into_iter().chain(with_an_agent) {
        let yaml = pki.sample(&file)?.yaml()?;
        Envoy::validate(&yaml).context(file)?;
    }
    Ok(())
}

/// With the default, a failure of the module would be one of the traffic.
#[test]
fn let_traffic_go_on_without_the_module() -> Result<()> {
    let with_an_agent = WITH_AN_AGENT.map(str::to_owned);
    for file in files()?.into_iter().chain(with_an_agent) {
        let yaml = Sample::load(&file)?.yaml()?;
        let filters = yaml.matches("vm_config:").count();
        let open = yaml.matches("failure_policy: FAIL_OPEN").count();
        assert!(
            filters > 0 && open == filters,
            "{file}: {open} of {filters}"
        );
    }
    Ok(())
}

/// At rest: what is watched is there at 0, what needs an event is not, and all that there is costs
/// at most 60 series.
#[test]
fn cost_little_at_rest() -> Result<()> {
    let pki = Pki::new()?;
    for file in files()? {
        let envoy = pki.sample(&file)?.start(1)?;
        let stats = check_names(&envoy)?;
        let series = stats.count("mtls_");
        assert!(series <= 60, "{file}: {series}");
        for direction in [INBOUND, OUTBOUND] {
            for security in ["mtls", "tls", "plaintext", "hbone"] {
                let labels = [direction, ("security", security)];
                assert_eq!(
                    stats.value(CONNECTIONS, &labels),
                    Some(0.0),
                    "{file} {security}"
                );
            }
            for status in [
                "ok",
                "warning",
                "critical",
                "expired",
                "not_yet_valid",
                "no_certificate",
                "hbone",
                "unreadable",
            ] {
                let labels = [direction, ("status", status)];
                assert_eq!(stats.value(REQUESTS, &labels), Some(0.0), "{file} {status}");
            }
        }
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        assert_eq!(
            stats.value("mtls_watch_info", &version),
            Some(1.0),
            "{file}"
        );
        assert_eq!(stats.value(OVERFLOW, &[]), Some(0.0), "{file}");
        for name in [
            CONNECTION_FINDINGS,
            REQUEST_FINDINGS,
            BY_ISSUER,
            ISSUER_LAST_SEEN,
            NOT_AFTER,
        ] {
            assert!(stats.series(name).is_empty(), "{file} {name}");
        }
    }
    Ok(())
}

/// Every metric, once something has happened: of the type and with exactly the labels promised.
#[test]
fn give_types_and_labels() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::http(pki.sample("both.yaml")?)?;
    let aging = pki.pay().lifetime(Lifetime::from_now(-70 * DAY, 20 * DAY));
    proxy.get(&Client::mtls(&aging.issue()?))?;
    proxy.wait_for(&format!("{REMAINING}_count"), &[INBOUND], 1.0)?;
    let stats = check_names(&proxy.envoy)?;
    for (name, kind, labels) in METRICS {
        assert_eq!(stats.kind(name), Some(*kind), "{name}");
        let suffix = if *kind == "histogram" { "_count" } else { "" };
        let series = stats.series(&format!("{name}{suffix}"));
        assert!(!series.is_empty(), "{name}");
        for series in series {
            let keys: Vec<&str> = series.labels.keys().map(String::as_str).collect();
            assert_eq!(keys, *labels, "{series}");
        }
    }
    Ok(())
}

/// The inbound samples: HTTP, TCP, or both.
#[test]
fn give_the_series_of_inbound_traffic() -> Result<()> {
    let pki = Pki::new()?;
    for (file, connections, requests, layers) in [
        ("http.yaml", 0.0, 1.0, 1),
        ("network.yaml", 1.0, 0.0, 1),
        ("both.yaml", 1.0, 1.0, 1),
        ("filter-state.yaml", 1.0, 1.0, 1),
        ("xfcc.yaml", 0.0, 1.0, 3),
    ] {
        // network.yaml carries HTTP as bytes.
        let proxy = Proxy::http(pki.sample(file)?)?;
        proxy.get(&pki.client()?)?;
        let stats = check_names(&proxy.envoy)?;
        let mtls = stats.value(CONNECTIONS, &[INBOUND, ("security", "mtls")]);
        assert_eq!(mtls, Some(connections), "{file}");
        assert_eq!(stats.sum(CONNECTIONS, &[]), connections, "{file}");
        let ok = stats.value(REQUESTS, &[INBOUND, ("status", "ok")]);
        assert_eq!(ok, Some(requests), "{file}");
        assert_eq!(stats.sum(REQUESTS, &[]), requests, "{file}");
        assert_eq!(stats.series(NOT_AFTER).len(), layers, "{file}");
    }
    Ok(())
}

/// The sidecar: all four ways, each counted once by the filter that is there for it. The network
/// filter before an HTTP connection manager sees its clients, but not the servers.
#[test]
fn give_the_series_of_a_sidecar() -> Result<()> {
    let pki = Pki::new()?;
    let app_http = Server::http_echo(None)?;
    let app_tcp = Server::tcp_echo(None)?;
    let peer_http = Server::http_echo(Some(pki.server_tls()?))?;
    let peer_tcp = Server::tcp_echo(Some(pki.server_tls()?))?;
    let envoy = pki
        .sample("sidecar.yaml")?
        .upstream("app_http", app_http.port())
        .upstream("app_tcp", app_tcp.port())
        .upstream("peer_http", peer_http.port())
        .upstream("peer_tcp", peer_tcp.port())
        .start(1)?;
    let port = |listener| envoy.listener_port(listener);
    let (peer, app) = (pki.client()?, Client::plaintext());
    for (client, listener) in [(&peer, "inbound_http"), (&app, "outbound_http")] {
        let mut connection = client.http(port(listener)?)?;
        for _ in 0..2 {
            assert_eq!(connection.get("/", &[])?.status, 200, "{listener}");
        }
    }
    for (client, listener) in [(&peer, "inbound_tcp"), (&app, "outbound_tcp")] {
        client
            .tcp(port(listener)?)?
            .echo(b"hello")
            .context(listener)?;
    }
    let stats = check_names(&envoy)?;
    for (direction, connections) in [(INBOUND, 2.0), (OUTBOUND, 1.0)] {
        let mtls = stats.value(CONNECTIONS, &[direction, ("security", "mtls")]);
        assert_eq!(mtls, Some(connections), "{direction:?}");
        assert_eq!(
            stats.sum(CONNECTIONS, &[direction]),
            connections,
            "{direction:?}"
        );
        let ok = stats.value(REQUESTS, &[direction, ("status", "ok")]);
        assert_eq!(ok, Some(2.0), "{direction:?}");
        assert_eq!(stats.sum(REQUESTS, &[direction]), 2.0, "{direction:?}");
        assert_eq!(
            stats.sum(BY_ISSUER, &[direction]),
            connections,
            "{direction:?}"
        );
    }
    Ok(())
}
