//! What Envoy does with a network filter that stops data: why `deny` holds none back (docs/configuration.md).

use std::path::PathBuf;

use anyhow::{Result, ensure};
use testbed::Server;
use testbed::stats::{DEADLINE, eventually};

use crate::setup::{Pki, Proxy};

const BANNER: &[u8] = b"220 ready";

/// A Proxy-Wasm module that stops at the first call of this callback, with so many parameters, and at no other.
fn stopping_at(callback: &str, parameters: usize, pki: &Pki) -> Result<PathBuf> {
    let parameters = "i32 ".repeat(parameters);
    let module = format!(
        r#"(module
            (memory (export "memory") 1)
            (global $calls (mut i32) (i32.const 0))
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
            (func (export "proxy_on_context_create") (param i32 i32))
            (func (export "{callback}") (param {parameters}) (result i32)
                global.get $calls
                i32.eqz
                (global.set $calls (i32.const 1))))"#
    );
    let path = pki.directory().join(callback).with_extension("wasm");
    std::fs::write(&path, wat::parse_str(module)?)?;
    Ok(path)
}

/// The server's data stays where it is until the server sends more.
#[test]
fn on_the_way_to_the_client_last_until_the_server_speaks_again() -> Result<()> {
    let pki = Pki::new()?;
    let module = stopping_at("proxy_on_upstream_data", 3, &pki)?;
    let sample = pki.sample("network.yaml")?.module(&module);
    let server = Server::server_first(BANNER, None)?;
    let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
    let mut connection = pki.client()?.tcp(proxy.port)?;
    let bytes = |counter: &str| Ok::<_, anyhow::Error>(proxy.stats()?.sum(counter, &[]));
    eventually(DEADLINE, || {
        let received = bytes("envoy_cluster_upstream_cx_rx_bytes_total")?;
        ensure!(received == BANNER.len() as f64, "{received} bytes");
        Ok(())
    })?;
    assert_eq!(bytes("envoy_tcp_downstream_cx_tx_bytes_total")?, 0.0);
    connection.send(b"EHLO")?;
    assert_eq!(connection.receive(BANNER.len() + 4)?, b"220 readyEHLO");
    Ok(())
}

/// `tcp_proxy` reads nothing from the client until it is connected to the server, and it is not asked to connect. Only a
/// handshake whose messages are there when the connection begins goes on, to its end or not.
#[test]
fn before_the_first_data_stop_the_connection() -> Result<()> {
    let pki = Pki::new()?;
    let module = stopping_at("proxy_on_new_connection", 1, &pki)?;
    let sample = pki.sample("network.yaml")?.module(&module);
    let proxy = Proxy::tcp(sample)?;
    let first = pki.client()?.tcp(proxy.port).and_then(|mut connection| {
        connection.send(b"EHLO")?;
        connection.receive(4)
    });
    // In ten seconds there is no answer.
    ensure!(first.is_err(), "{first:?}");
    let stats = proxy.stats()?;
    assert_eq!(stats.sum("envoy_cluster_upstream_cx_total", &[]), 0.0);
    // The filter stops the first connection only.
    proxy.echo(&pki.client()?)?;
    Ok(())
}
