//! An admin interface that does not answer as it should.

use anyhow::{Result, ensure};
use testbed::servers::Step;
use testbed::{Client, Envoy, Server};

use crate::setup::{Pki, Proxy};
use crate::sidecar::{POLLING, each, polling, polls, soon, start};

const FAILED: &str = "mtls-watch: hierarchy poll failed";
const WORKS: &str = "mtls-watch: hierarchy poll works again";

/// More than any reply that is read.
const HUGE: usize = 10 * 1024 * 1024;

/// Gives this answer to each request.
fn answer(status: &str, body: &[u8]) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    send([head.as_bytes(), body].concat())
}

fn send(bytes: Vec<u8>) -> Vec<Step> {
    vec![Step::Receive, Step::Send(bytes.leak()), Step::Finish]
}

fn huge() -> Vec<u8> {
    format!(r#"{{"configs": [], "padding": "{}"}}"#, "x".repeat(HUGE)).into_bytes()
}

fn logged(envoy: &Envoy, text: &str) -> usize {
    envoy.log().matches(text).count()
}

/// Waits until so many polls have failed; traffic flows all the while, and one line tells of it.
fn check_failing(proxy: &Proxy, client: &Client, polls_failed: f64) -> Result<()> {
    soon(|| {
        proxy.get(client)?;
        let failed = polls(&proxy.stats()?, "error");
        ensure!(failed >= polls_failed, "{failed} failed polls");
        Ok(())
    })?;
    ensure!(logged(&proxy.envoy, FAILED) == 1, "{}", proxy.envoy.log());
    ensure!(polls(&proxy.stats()?, "ok") == 0.0, "a poll succeeded");
    Ok(())
}

/// Each is counted at every poll and logged once, until it works again. Nothing traps: Envoy would log
/// it, and count no further poll.
#[test]
fn are_counted_and_logged_once() -> Result<()> {
    let cases = [
        ("500", answer("500 Internal Server Error", b"{}")),
        ("10 MB", answer("200 OK", &huge())),
        ("no JSON", answer("200 OK", b"\xff\x00 no JSON {")),
        ("empty", answer("200 OK", b"")),
        ("another array", answer("200 OK", b"[]")),
        ("another object", answer("200 OK", br#"{"answer": 42}"#)),
        ("no HTTP", send(b"SSH-2.0-OpenSSH\r\n".to_vec())),
        (
            "cut short",
            send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"con".to_vec()),
        ),
        ("hangs", vec![Step::Receive, Step::ReceiveAll]),
    ];
    each(&cases, |steps| {
        let pki = Pki::new()?;
        let admin = Server::script(steps, None)?;
        let sample = polling(&pki)?.upstream("prometheus_stats", admin.port());
        let (proxy, client) = (start(sample, 1)?, pki.client()?);
        check_failing(&proxy, &client, 2.0)?;
        admin.follow(&answer("200 OK", br#"{"configs": [], "certificates": []}"#));
        soon(|| {
            let ok = polls(&proxy.stats()?, "ok");
            ensure!(ok >= 2.0, "{ok} polls");
            Ok(())
        })?;
        let log = proxy.envoy.log();
        ensure!(logged(&proxy.envoy, WORKS) == 1, "{log}");
        ensure!(logged(&proxy.envoy, FAILED) == 1, "{log}");
        Ok(())
    })
}

#[test]
fn a_missing_cluster_is_one() -> Result<()> {
    let pki = Pki::new()?;
    let configuration = POLLING.replace("prometheus_stats", "no_such_cluster");
    let proxy = start(polling(&pki)?.configuration(&configuration), 4)?;
    check_failing(&proxy, &pki.client()?, 2.0)?;
    let line = proxy.envoy.wait_for_log(FAILED)?;
    assert!(line.contains("no_such_cluster"), "{line}");
    Ok(())
}
