//! Servers that this proxy refuses, or that refuse it, for requests and for TCP connections. Envoy shows
//! nothing of the certificate of a server that it refuses: the address, the reason and its layer are all
//! there is.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use testbed::envoy::free_port;
use testbed::pki::{DAY, ExtendedKeyUsage, HOUR, KeyUsage, LeafBuilder, Lifetime};
use testbed::servers::{ServerTls, Step};
use testbed::stats::wait_for;
use testbed::{Ca, Client, Identity, Sample, Server, TlsVersion};

use crate::outbound::Outbound;
use crate::setup::{CONNECTIONS, OUTBOUND, PAY, Pki, REQUESTS};
use crate::watch::{Failure, Watch, be_refused};

#[test]
fn are_refused_with_cause_and_cure_tls_1_2() -> Result<()> {
    check(TlsVersion::V1_2)
}

#[test]
fn are_refused_with_cause_and_cure_tls_1_3() -> Result<()> {
    check(TlsVersion::V1_3)
}

fn check(version: TlsVersion) -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Outbound::start(pki.sample("upstream.yaml")?, Server::http_echo(None)?)?;
    let mut watch = Watch::new(&proxy.envoy);
    for (name, verdict, server, hint) in cases(&pki)? {
        proxy
            .server
            .present(&ServerTls::new(&server).version(version))?;
        for attempt in Outbound::IN_VAIN {
            attempt(&proxy)?;
            watch.expect(&failure(verdict, hint)).context(name)?;
        }
    }
    watch.nothing_else()
}

fn failure(verdict: &str, hint: &str) -> Failure {
    Failure::new(format!("outbound {verdict}")).hint(&[hint])
}

/// What the server presents, layer and reason of the refusal, and what the hint says.
type Case = (&'static str, &'static str, Identity, &'static str);

fn cases(pki: &Pki) -> Result<Vec<Case>> {
    let leaf = || pki.pay();
    let of = |ca: &Ca| ca.leaf().uri(PAY);
    let below = |name: &str| pki.cas.intermediate.subordinate(name);
    let expired = Lifetime::from_now(-2 * HOUR, -HOUR);
    let tomorrow = Lifetime::from_now(DAY, 2 * DAY);
    let client_only = [ExtendedKeyUsage::ClientAuth];
    let any = [ExtendedKeyUsage::Any];
    let old = below("Old CA").lifetime(expired).issue()?;
    let client_ca = below("Client CA")
        .extended_key_usages(&client_only)
        .issue()?;
    let no_ca = below("No CA").without_ca_flag().issue()?;
    let last_ca = below("Last CA").path_length(0).issue()?;
    let strange_root = Ca::root("Strange Root").issue()?;
    let strange = strange_root.subordinate("Strange CA").issue()?;
    let add_usage = "add serverAuth";
    let add_ca = "add the CA to the trust bundle";
    let itself = LeafBuilder::self_signed().uri(PAY).issue()?;
    let issue = |leaf: LeafBuilder| leaf.issue();
    Ok(vec![
        (
            "expired",
            "workload expired",
            issue(leaf().lifetime(expired))?,
            "renew",
        ),
        (
            "early",
            "workload not_yet_valid",
            issue(leaf().lifetime(tomorrow))?,
            "clocks",
        ),
        (
            "for clients",
            "workload server_auth_missing",
            issue(leaf().extended_key_usages(&client_only))?,
            add_usage,
        ),
        (
            "for anything",
            "workload server_auth_missing",
            issue(leaf().extended_key_usages(&any))?,
            add_usage,
        ),
        (
            "may not sign",
            "workload key_usage",
            issue(leaf().key_usages(&[KeyUsage::KeyEncipherment]))?,
            "digitalSignature",
        ),
        (
            "expired CA",
            "issuing_ca expired",
            issue(of(&old))?,
            "renew",
        ),
        (
            "CA for clients",
            "issuing_ca server_auth_missing",
            issue(of(&client_ca))?,
            add_usage,
        ),
        (
            "no CA",
            "issuing_ca key_usage",
            issue(of(&no_ca))?,
            "is no CA",
        ),
        (
            "too deep",
            "intermediate_ca path_length",
            issue(of(&last_ca.subordinate("Deep CA").issue()?))?,
            "pathLenConstraint",
        ),
        (
            "leaf of a stranger",
            "workload unknown_ca",
            issue(of(&strange))?.leaf_only(),
            add_ca,
        ),
        (
            "strange CA",
            "issuing_ca unknown_ca",
            issue(of(&strange))?,
            add_ca,
        ),
        (
            "strange root",
            "root_ca unknown_ca",
            issue(of(&strange))?.with_root(),
            add_ca,
        ),
        (
            "without its CA",
            "workload unknown_ca",
            issue(leaf())?.leaf_only(),
            "with its whole chain",
        ),
        // Without the certificate it cannot be told from the one before.
        ("signed by itself", "workload unknown_ca", itself, add_ca),
        (
            "forged",
            "workload bad_signature",
            issue(leaf())?.with_bad_signature(),
            "check that the chain",
        ),
        (
            "of another mesh",
            "workload name_mismatch",
            issue(pki.cas.leaf().uri("spiffe://other/x"))?,
            "subjectAltName",
        ),
    ])
}

#[test]
fn without_tls() -> Result<()> {
    let pki = Pki::new()?;
    for server in [
        Server::http_echo(None)?,
        Server::server_first(b"220 mail ready\r\n", None)?,
    ] {
        let proxy = Outbound::start(pki.sample("upstream.yaml")?, server)?;
        let mut watch = Watch::new(&proxy.envoy);
        for attempt in Outbound::IN_VAIN {
            attempt(&proxy)?;
            watch.expect(&failure("none not_tls", "does not speak TLS on this port"))?;
        }
        watch.nothing_else()?;
    }
    Ok(())
}

/// The server says so by an alert.
#[test]
fn without_a_tls_version_in_common() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::http_echo(Some(pki.server_tls()?.version(TlsVersion::V1_2)))?;
    let range = json!({
        "tls_minimum_protocol_version": "TLSv1_3",
        "tls_maximum_protocol_version": "TLSv1_3",
    });
    let sample = pki.sample("upstream.yaml")?.replace("tls_params", range);
    let proxy = Outbound::start(sample, server)?;
    let mut watch = Watch::new(&proxy.envoy);
    for attempt in Outbound::IN_VAIN {
        attempt(&proxy)?;
        watch.expect(&failure(
            "none protocol_version",
            "tls_minimum_protocol_version",
        ))?;
    }
    watch.nothing_else()
}

#[test]
fn that_reset_in_the_middle_of_the_handshake() -> Result<()> {
    let pki = Pki::new()?;
    // What the proxy has sent is left unread: so the system resets instead of closing.
    let server = Server::script(&[Step::Wait(Duration::from_millis(100))], None)?;
    let proxy = Outbound::start(pki.sample("upstream.yaml")?, server)?;
    let mut watch = Watch::new(&proxy.envoy);
    for attempt in Outbound::IN_VAIN {
        attempt(&proxy)?;
        watch.expect(&failure("none reset", "between the two sides"))?;
    }
    watch.nothing_else()
}

/// It is no request to a server without a certificate either.
#[test]
fn that_close_in_the_middle_of_the_handshake() -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::script(&[Step::Receive], None)?;
    let proxy = Outbound::start(pki.sample("upstream.yaml")?, server)?;
    for attempt in Outbound::IN_VAIN {
        attempt(&proxy)?;
    }
    let stats = proxy.envoy.stats()?;
    assert_eq!(stats.sum(REQUESTS, &[]), 0.0);
    assert_eq!(stats.sum(CONNECTIONS, &[]), 0.0);
    Watch::new(&proxy.envoy).nothing_else()
}

/// Envoy tells how often it tried, but not why each attempt failed: one count, as the help text of the metric says.
#[test]
fn that_are_refused_at_each_of_several_attempts() -> Result<()> {
    let pki = Pki::new()?;
    let strangers = Pki::new()?;
    let server = Server::http_echo(Some(strangers.server_tls()?))?;
    let retries = json!({"retry_on": "connect-failure", "num_retries": 2});
    let sample = pki
        .sample("upstream.yaml")?
        .set("TcpProxy", "max_connect_attempts", 5)
        .insert("route", "retry_policy", retries);
    let proxy = Outbound::start(sample, server)?;
    let mut watch = Watch::new(&proxy.envoy);
    for attempt in Outbound::IN_VAIN {
        attempt(&proxy)?;
        watch.expect(&failure("intermediate_ca unknown_ca", "trust"))?;
    }
    let refused = [OUTBOUND, ("status", "refused")];
    let stats = proxy.envoy.stats()?;
    assert_eq!(stats.sum(REQUESTS, &refused), 1.0);
    assert_eq!(stats.sum(REQUESTS, &[]), 1.0);
    watch.nothing_else()
}

/// No handshake has failed where none has begun.
#[test]
fn that_cannot_be_reached_are_no_failure() -> Result<()> {
    let pki = Pki::new()?;
    let closed = pki
        .sample("upstream.yaml")?
        .upstream("peer_http", free_port()?)
        .upstream("peer_tcp", free_port()?);
    unreached(closed, "envoy_cluster_upstream_cx_connect_fail")?;

    // The system accepts, nobody answers.
    let mute = TcpListener::bind("127.0.0.1:0")?;
    let port = mute.local_addr()?.port();
    let impatient = pki
        .sample("upstream.yaml")?
        .upstream("peer_http", port)
        .upstream("peer_tcp", port)
        .set_in_clusters("connect_timeout", "0.2s");
    unreached(impatient, "envoy_cluster_upstream_cx_connect_timeout")
}

fn unreached(sample: Sample, counter: &str) -> Result<()> {
    let envoy = sample.start(1)?;
    let response = Client::plaintext().get(envoy.listener_port("outbound_http")?, "/", &[])?;
    assert_eq!(response.status, 503);
    assert_eq!(envoy.stats()?.sum(REQUESTS, &[]), 0.0);
    be_refused(&Client::plaintext(), envoy.listener_port("outbound_tcp")?)?;
    for cluster in ["peer_http", "peer_tcp"] {
        let labels = [("envoy_cluster_name", cluster)];
        wait_for(&envoy, counter, &labels, |count| count == 1.0)?;
    }
    Watch::new(&envoy).nothing_else()
}
