//! Secrets that change under load.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use testbed::envoy::free_port;
use testbed::stats::wait_for;
use testbed::{Ca, Client, Sample};

use crate::setup::{Pki, Proxy};
use crate::sidecar::{PROXY, polling, soon, start, trust, wait_for_polls};

const UPDATES: usize = 5;
const THREADS: usize = 4;

/// A sidecar whose peer is itself, with a new connection to it for every request.
fn to_itself(pki: &Pki) -> Result<Sample> {
    let port = free_port()?;
    let sample = polling(pki)?
        .listen("inbound_http", port)
        .upstream("peer_http", port);
    Ok(sample.edit(|node| {
        if node.get("load_assignment").is_some() && node["name"] == "peer_http" {
            node["max_requests_per_connection"] = 1.into();
        }
    }))
}

/// Sends requests one after the other until told to stop; says how many.
fn load(port: u16, sent: &AtomicU32, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let response = Client::plaintext().get(port, "/", &[])?;
        ensure!(
            response.status == 200,
            "{}: {}",
            response.status,
            response.text()
        );
        sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Each leaf with a new key, each bundle with one root more or less: both ends of every handshake
/// change, under several clients, with the poller looking on.
#[test]
fn lose_no_request() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = start(to_itself(&pki)?, 4)?;
    let port = proxy.envoy.listener_port("outbound_http")?;
    let (sent, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| load(port, &sent, &stop)))
            .collect();
        let updated = update(&pki, &proxy, &sent);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client
                .join()
                .expect("no panic")
                .context("a request was lost")?;
        }
        updated
    })?;
    let stats = wait_for_polls(&proxy.envoy, 1.0)?;
    assert_eq!(stats.sum("mtls_handshake_failures_total", &[]), 0.0);
    Ok(())
}

fn update(pki: &Pki, proxy: &Proxy, sent: &AtomicU32) -> Result<()> {
    wait_for_polls(&proxy.envoy, 1.0)?;
    let other = Ca::root("Root CA").issue()?;
    for number in 0..UPDATES {
        let before = sent.load(Ordering::Relaxed);
        pki.cas
            .leaf()
            .uri(PROXY)
            .issue()?
            .write_to(pki.directory())?;
        let root = &pki.cas.root;
        match number % 2 {
            0 => trust(pki, [root, &other])?,
            _ => trust(pki, [root])?,
        }
        soon(|| {
            let since = sent.load(Ordering::Relaxed) - before;
            ensure!(since >= 20, "{since} requests since");
            Ok(())
        })?;
    }
    wait_for(
        &proxy.envoy,
        "mtls_own_rotations_total",
        &[("secret", "default")],
        |value| value >= 1.0,
    )?;
    Ok(())
}
