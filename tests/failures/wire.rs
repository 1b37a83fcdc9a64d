//! Clients that show no certificate, or do not get as far as that: the address is all there is of them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::Result;
use serde_json::json;
use testbed::pki::KeyKind;
use testbed::{Client, Sample, TlsVersion};

use crate::setup::{Pki, Proxy};
use crate::watch::{Failure, REPEATED, Watch, be_refused};

const VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

#[test]
fn without_a_certificate() -> Result<()> {
    let pki = Pki::new()?;
    // Of a kind that Envoy does not take, so that it is not shown.
    let odd = pki.pay().key_kind(KeyKind::Ed25519).issue()?;
    for file in ["network.yaml", "both.yaml"] {
        let proxy = start(pki.sample(file)?)?;
        let mut watch = Watch::new(&proxy.envoy);
        for version in VERSIONS {
            for client in [Client::tls(), Client::mtls(&odd)] {
                be_refused(&client.version(version), proxy.port)?;
                watch.expect(&unnamed("no_certificate", "give the client a certificate"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn without_tls() -> Result<()> {
    let pki = Pki::new()?;
    for file in ["network.yaml", "both.yaml"] {
        let proxy = start(pki.sample(file)?)?;
        let mut watch = Watch::new(&proxy.envoy);
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "SSH-2.0-OpenSSH_9.9\r\n",
            "\0\x01\x02\x03\x04\x05",
        ] {
            let mut connection = Client::plaintext().tcp(proxy.port)?;
            connection.send(text.as_bytes())?;
            connection.closed_by_peer()?;
            watch.expect(&unnamed("not_tls", "let the client use TLS"))?;
        }
    }
    Ok(())
}

#[test]
fn without_a_tls_version_in_common() -> Result<()> {
    let pki = Pki::new()?;
    for (offered, range) in [
        (
            TlsVersion::V1_2,
            json!({"tls_minimum_protocol_version": "TLSv1_3"}),
        ),
        (
            TlsVersion::V1_3,
            json!({"tls_maximum_protocol_version": "TLSv1_2"}),
        ),
    ] {
        let sample = pki.sample("network.yaml")?;
        let proxy = start(sample.insert("common_tls_context", "tls_params", range))?;
        be_refused(&pki.client()?.version(offered), proxy.port)?;
        let failure = unnamed("protocol_version", "tls_minimum_protocol_version");
        Watch::new(&proxy.envoy).expect(&failure)?;
    }
    Ok(())
}

/// The proxy's key is an EC key, which none of the cipher suites is for.
#[test]
fn without_a_cipher_in_common() -> Result<()> {
    let pki = Pki::new()?;
    let suites = json!({"cipher_suites": ["ECDHE-RSA-AES128-GCM-SHA256"]});
    let sample = pki.sample("network.yaml")?;
    let proxy = start(sample.insert("common_tls_context", "tls_params", suites))?;
    be_refused(&pki.client()?.version(TlsVersion::V1_2), proxy.port)?;
    Watch::new(&proxy.envoy).expect(&unnamed("no_shared_cipher", "cipher suites"))
}

/// What none of the other reasons is about: here a message that is no ClientHello.
#[test]
fn without_knowing_tls() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = start(pki.sample("network.yaml")?)?;
    let mut hello = pki.client()?.hello()?;
    hello[5] = 0x63;
    let mut connection = Client::plaintext().tcp(proxy.port)?;
    connection.send(&hello)?;
    connection.closed_by_peer()?;
    Watch::new(&proxy.envoy).expect(&unnamed("other", "transport_failure_reason"))
}

#[test]
fn reset_in_the_middle_of_the_handshake() -> Result<()> {
    let pki = Pki::new()?;
    for file in ["network.yaml", "both.yaml"] {
        let proxy = start(pki.sample(file)?)?;
        let mut watch = Watch::new(&proxy.envoy);
        for (version, told) in [(TlsVersion::V1_2, false), (TlsVersion::V1_3, true)] {
            let mut stream = TcpStream::connect(("127.0.0.1", proxy.port))?;
            stream.write_all(&pki.client()?.version(version).hello()?)?;
            // The rest of the answer is left unread: so the system resets instead of closing.
            stream.read_exact(&mut [0])?;
            drop(stream);
            // To Envoy the other one looks like a health check that connects and resets.
            if told {
                watch.expect(&unnamed("reset", "between the two sides"))?;
            }
        }
        proxy.wait_until_closed(2)?;
        watch.nothing_else()?;
    }
    Ok(())
}

fn start(sample: Sample) -> Result<Proxy> {
    Proxy::http(sample.configuration(REPEATED))
}

fn unnamed(reason: &str, hint: &str) -> Failure {
    Failure::new(format!("inbound none {reason}")).hint(&[hint])
}
