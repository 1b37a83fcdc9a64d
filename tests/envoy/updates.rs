//! Another configuration of the module while requests are on their way. `make soak` has more of it.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use testbed::envoy::free_port;
use testbed::stats::{DEADLINE, eventually};
use testbed::{Client, Sample, Server};

use crate::setup::{CONFIGURATION_ERRORS, CONNECTIONS, INBOUND, Pki, Proxy, REQUESTS};

const WORKERS: u32 = 2;
const CLIENTS: usize = 4;
/// Requests between two configurations.
const REQUESTS_BETWEEN: u32 = 100;

/// Good ones, and some that are wrong: the module loads with every one. The second one makes all clients
/// critical: it is seen when it is there.
#[test]
fn lose_no_request_and_no_count() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::http_echo(None)?;
    let port = free_port()?;
    let sample = pki.sample("both.yaml")?.listen("inbound", port);
    let sample = sample.upstream("app", server.port());
    let file = pki.directory().join("listeners.yaml");
    fs::write(&file, sample.listeners()?)?;
    let proxy = Proxy::start(
        sample.clone().listeners_from(&file),
        ("inbound", "app"),
        server,
        WORKERS,
    )?;
    let client = pki.client()?;
    let (sent, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| load(&proxy, &client, &sent, &stop)))
            .collect();
        let updated = update(&sample, &file, &proxy, &sent);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let result = client.join().expect("no panic");
            result.context("a request was lost")?;
        }
        updated
    })?;
    let sent = f64::from(sent.into_inner());
    eventually(DEADLINE, || {
        let stats = proxy.stats()?;
        let requests = stats.sum(REQUESTS, &[INBOUND]);
        let connections = stats.sum(CONNECTIONS, &[INBOUND]);
        ensure!(
            (requests, connections) == (sent, sent),
            "{requests} requests and {connections} connections counted of {sent}"
        );
        Ok(())
    })
}

/// Requests, each on a connection of its own.
pub(crate) fn load(
    proxy: &Proxy,
    client: &Client,
    sent: &AtomicU32,
    stop: &AtomicBool,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        proxy.get(client)?;
        sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn update(sample: &Sample, file: &std::path::Path, proxy: &Proxy, sent: &AtomicU32) -> Result<()> {
    let critical = r#"{"thresholds": {"workload": {"warning": "30000d", "critical": "30000d"}}}"#;
    let stat = "envoy_listener_manager_lds_update_success";
    for (configuration, errors) in [
        (r#"{"identity_series": 7}"#, 0.0),
        (critical, 0.0),
        (r#"{"treshold": 1, "deny": ["expire"]}"#, 2.0),
        ("identity_series: 7", 1.0),
        ("{}", 0.0),
    ] {
        let before = proxy.stats()?.sum(stat, &[]);
        let partial = file.with_extension("new");
        fs::write(
            &partial,
            sample.clone().configuration(configuration).listeners()?,
        )?;
        fs::rename(&partial, file)?;
        let start = sent.load(Ordering::Relaxed);
        eventually(DEADLINE, || {
            let stats = proxy.stats()?;
            let updates = stats.sum(stat, &[]);
            ensure!(
                updates > before,
                "{stat} is {updates} after {configuration}"
            );
            let told = stats.value(CONFIGURATION_ERRORS, &[]);
            ensure!(told == Some(errors), "{told:?} errors in {configuration}");
            let since = sent.load(Ordering::Relaxed) - start;
            ensure!(since >= REQUESTS_BETWEEN, "{since} requests since");
            Ok(())
        })?;
    }
    let critical = proxy
        .stats()?
        .value(REQUESTS, &[INBOUND, ("status", "critical")]);
    ensure!(
        critical > Some(0.0),
        "the second configuration was never in force"
    );
    Ok(())
}
