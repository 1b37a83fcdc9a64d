//! What looks like a refused handshake and is none: nobody is to be paged for it.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::pki::ExtendedKeyUsage;
use testbed::servers::{ServerTls, Step};
use testbed::stats::{DEADLINE, eventually, wait_for};
use testbed::{Client, Server, TlsVersion};

use crate::outbound::Outbound;
use crate::setup::{CONNECTIONS, INBOUND, Pki, Proxy};
use crate::watch::Watch;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Longer than a server takes to judge a certificate.
const A_WHILE: Duration = Duration::from_secs(2);

/// A port scan, a health check of the port, a client that goes away before its handshake is over.
#[test]
fn clients_that_leave_before_the_handshake() -> Result<()> {
    let pki = Pki::new()?;
    for file in ["network.yaml", "both.yaml"] {
        let proxy = Proxy::http(pki.sample(file)?)?;
        let hello = pki.client()?.hello()?;
        let beginnings = [&[][..], &hello[..1], &hello[..hello.len() / 2]];
        for beginning in beginnings {
            for close in [Shutdown::Both, Shutdown::Write] {
                let mut stream = TcpStream::connect(("127.0.0.1", proxy.port))?;
                stream.write_all(beginning)?;
                stream.shutdown(close)?;
            }
        }
        let stats = proxy.wait_until_closed(6)?;
        assert_eq!(stats.sum(CONNECTIONS, &[]), 0.0);
        Watch::new(&proxy.envoy).nothing_else()?;
    }
    Ok(())
}

/// A health check with TLS; in TLS 1.3 it may be gone before the proxy has judged its certificate, and
/// leaves what the proxy still sends unread.
#[test]
fn clients_that_leave_right_after_the_handshake() -> Result<()> {
    const TIMES: u32 = 10;
    let pki = Pki::new()?;
    for file in ["network.yaml", "both.yaml"] {
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let proxy = Proxy::http(pki.sample(file)?)?;
            let client = pki.client()?.version(version);
            for _ in 0..TIMES {
                drop(client.tcp(proxy.port)?);
            }
            proxy.wait_until_closed(TIMES)?;
            Watch::new(&proxy.envoy).nothing_else()?;
        }
    }
    Ok(())
}

/// Health checks of load balancers: of the port, and of TLS with a valid certificate.
#[test]
fn clients_that_reset_before_and_after_the_handshake() -> Result<()> {
    let pki = Pki::new()?;
    for file in ["network.yaml", "both.yaml"] {
        for sample in [pki.sample(file)?, pki.sample(file)?.inspecting_tls()] {
            let proxy = Proxy::http(sample)?;
            let tls = |version| Ok::<_, anyhow::Error>(pki.client()?.version(version).resetting());
            for client in [
                Client::plaintext().resetting(),
                tls(TlsVersion::V1_2)?,
                tls(TlsVersion::V1_3)?,
            ] {
                for _ in 0..3 {
                    drop(client.tcp(proxy.port)?);
                }
            }
            Watch::new(&proxy.envoy).nothing_else()?;
            // In TLS 1.3 the client may be gone before Envoy has its certificate.
            eventually(DEADLINE, || {
                let seen = proxy.stats()?.sum(CONNECTIONS, &[("security", "mtls")]);
                ensure!((3.0..=6.0).contains(&seen), "{seen} connections");
                Ok(())
            })?;
            Watch::new(&proxy.envoy).nothing_else()?;
        }
    }
    Ok(())
}

/// `tls_inspector` leaves a reason on a connection without TLS, also where the filter chain takes it.
#[test]
fn clients_without_tls_on_a_permissive_listener() -> Result<()> {
    let pki = Pki::new()?;
    for file in ["network.yaml", "both.yaml"] {
        let permissive = || Ok::<_, anyhow::Error>(pki.sample(file)?.permissive("inbound"));
        let proxy = Proxy::http(permissive()?)?;
        proxy.get(&Client::plaintext())?;
        proxy.get(&pki.client()?)?;
        let stats = proxy.wait_until_closed(2)?;
        for security in ["plaintext", "mtls"] {
            let labels = [INBOUND, ("security", security)];
            assert_eq!(stats.value(CONNECTIONS, &labels), Some(1.0), "{security}");
        }
        Watch::new(&proxy.envoy).nothing_else()?;

        // By an authorization filter, before this module's has seen a byte.
        let proxy = Proxy::http(permissive()?.refusing_plaintext("inbound"))?;
        let refused = Client::plaintext().get(proxy.port, "/", &[]);
        ensure!(refused.is_err(), "not refused");
        proxy.wait_until_closed(1)?;
        Watch::new(&proxy.envoy).nothing_else()?;
        // TLS is none of its business.
        proxy.get(&pki.client()?)?;
    }
    Ok(())
}

/// Not the server, but this proxy closes: by `deny`, or by a limit of its own.
#[test]
fn connections_that_this_proxy_closes() -> Result<()> {
    let pki = Pki::new()?;
    let server_only = [ExtendedKeyUsage::ServerAuth];
    let leaf = pki.pay().extended_key_usages(&server_only).issue()?;
    let denying = pki
        .sample("upstream.yaml")?
        .configuration(r#"{"deny": ["client_auth_missing"], "log_repeat": "0s"}"#);
    let idle = pki.sample("upstream.yaml")?;
    let idle = idle.set("TcpProxy", "idle_timeout", "0.5s");
    let limited = pki.sample("upstream.yaml")?;
    let limited = limited.set("TcpProxy", "max_downstream_connection_duration", "0.5s");
    for (name, sample) in [("deny", denying), ("idle", idle), ("limit", limited)] {
        let server = Server::script(&[Step::ReceiveAll], Some(ServerTls::new(&leaf)))?;
        let envoy = sample.upstream("peer_tcp", server.port()).start(1)?;
        for talks in [true, false] {
            let mut connection = Client::plaintext().tcp(envoy.listener_port("outbound_tcp")?)?;
            if talks {
                connection.send(b"hello")?;
            }
            // A connection is denied when something happens on it.
            if talks || name != "deny" {
                connection.closed_by_peer()?;
            }
        }
        let peer = [("envoy_cluster_name", "peer_tcp")];
        let ended = "envoy_cluster_upstream_cx_destroy";
        wait_for(&envoy, ended, &peer, |count| count == 2.0)?;
        Watch::new(&envoy).nothing_else().context(name)?;
    }
    Ok(())
}

/// What answers on one new connection and hangs up on the next has not refused the certificate.
#[test]
fn servers_that_answer_every_second_request() -> Result<()> {
    let pki = Pki::new()?;
    let tls = pki.server_tls()?.version(TlsVersion::V1_3);
    let (answer, die) = ([Step::Receive, Step::Send(ANSWER)], [Step::Receive]);
    let server = Server::script(&answer, Some(tls))?;
    let proxy = Outbound::start(pki.sample("upstream.yaml")?, server)?;
    for request in 0..6 {
        let (steps, status) = match request % 2 {
            0 => (&answer[..], 200),
            _ => (&die[..], 503),
        };
        proxy.server.follow(steps);
        ensure!(proxy.get()?.status == status, "request {request}");
        proxy.wait_until_closed("peer_http", request + 1)?;
    }
    proxy.wait_for_silence()?;
    Watch::new(&proxy.envoy).nothing_else()
}

/// In whichever way a client hangs up later.
#[test]
fn clients_that_reset_a_connection_in_use() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    let mut connection = pki.client()?.tcp(proxy.port)?;
    connection.echo(b"hello")?;
    connection.send(b"not read by the client")?;
    drop(connection);
    let stats = proxy.wait_until_closed(1)?;
    assert_eq!(
        stats.value(CONNECTIONS, &[INBOUND, ("security", "mtls")]),
        Some(1.0)
    );
    Watch::new(&proxy.envoy).nothing_else()
}

/// Orderly, or without a word.
#[test]
fn servers_that_close_a_connection_when_it_is_idle() -> Result<()> {
    let pause = Step::Wait(Duration::from_millis(50));
    let answer = [Step::Receive, Step::Send(ANSWER), pause];
    each_way_to_close(&answer, |proxy| {
        for request in 1..=3 {
            ensure!(proxy.get()?.status == 200, "request {request}");
            proxy.wait_until_closed("peer_http", request)?;
        }
        Ok(())
    })
}

#[test]
fn servers_that_close_after_each_response() -> Result<()> {
    each_way_to_close(&[Step::Receive, Step::Send(ANSWER)], |proxy| {
        for request in 1..=3 {
            ensure!(proxy.get()?.status == 200, "request {request}");
            proxy.wait_until_closed("peer_http", request)?;
        }
        Ok(())
    })
}

/// The race that every server with an idle timeout loses now and then.
#[test]
fn servers_that_close_just_when_the_next_request_comes() -> Result<()> {
    let answer_once = [Step::Receive, Step::Send(ANSWER), Step::Receive];
    each_way_to_close(&answer_once, |proxy| {
        for _ in 0..3 {
            let mut connection = Client::plaintext().http(proxy.http)?;
            ensure!(connection.get("/", &[])?.status == 200);
            let late = connection.get("/", &[])?;
            ensure!(late.status == 503, "{}", late.status);
        }
        Ok(())
    })
}

/// It crashes on the request, say: the certificate was good enough for it to get there.
#[test]
fn servers_that_give_up_on_a_request_after_a_while() -> Result<()> {
    each_way_to_close(&[Step::Receive, Step::Wait(A_WHILE)], |proxy| {
        ensure!(proxy.get()?.status == 503);
        Ok(())
    })
}

#[test]
fn servers_that_never_speak() -> Result<()> {
    each_way_to_close(&[Step::ReceiveAll], |proxy| {
        let mut connection = Client::plaintext().tcp(proxy.tcp)?;
        connection.send(b"for the log")?;
        drop(connection);
        drop(Client::plaintext().tcp(proxy.tcp)?);
        proxy.wait_until_closed("peer_tcp", 2)
    })
}

#[test]
fn servers_that_close_after_their_greeting() -> Result<()> {
    each_way_to_close(&[Step::Send(b"421 busy\r\n")], |proxy| {
        let mut connection = Client::plaintext().tcp(proxy.tcp)?;
        assert_eq!(connection.closed_by_peer()?, b"421 busy\r\n");
        drop(connection);
        proxy.wait_until_closed("peer_tcp", 1)
    })
}

/// Nobody has said anything on it for a while.
#[test]
fn servers_that_close_an_idle_tcp_connection() -> Result<()> {
    each_way_to_close(&[Step::Wait(A_WHILE)], |proxy| {
        Client::plaintext().tcp(proxy.tcp)?.closed_by_peer()?;
        proxy.wait_until_closed("peer_tcp", 1)
    })
}

/// A server that does this and then closes: with `close_notify`, without it, or with a reset.
fn each_way_to_close(steps: &[Step], exchange: impl Fn(&Outbound) -> Result<()>) -> Result<()> {
    let pki = Pki::new()?;
    // A reset at once would take along what was sent before it.
    let reset = [Step::Wait(Duration::from_millis(50)), Step::Reset];
    for end in [&[Step::Finish][..], &[], &reset] {
        let steps = [steps, end].concat();
        let server = Server::script(&steps, Some(pki.server_tls()?.version(TlsVersion::V1_3)))?;
        let proxy = Outbound::start(pki.sample("upstream.yaml")?, server)?;
        exchange(&proxy)?;
        proxy.wait_for_silence()?;
        let unharmed = Watch::new(&proxy.envoy).nothing_else();
        unharmed.with_context(|| format!("{end:?}"))?;
    }
    Ok(())
}
