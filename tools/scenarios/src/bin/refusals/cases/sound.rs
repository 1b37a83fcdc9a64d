//! What looks like a refusal, or might, and is none.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::servers::Step;
use testbed::stats::{DEADLINE, eventually};

use crate::materials::{Materials, Shown, Trust};
use crate::programs::{self, Client, Server, Stack, Version};
use crate::scenario::{Peer, Scenario, Setup, Truth};
use crate::setups;

use Version::{V1_2, V1_3};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
/// SETTINGS, and GOAWAY because of a preface that is none (RFC 9113).
const HTTP_2: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";
/// Longer than a server takes to judge a certificate.
const A_WHILE: Duration = Duration::from_secs(2);
/// A client that comes and goes does so this often.
const TIMES: u32 = 5;

fn sound(setup: Setup, name: impl Into<String>, peer: Peer) -> Scenario {
    Scenario {
        setup,
        name: name.into(),
        peer,
        truth: Truth::Sound,
        times: 0,
    }
}

/// The proxy, what clients of these stacks do, and how.
type Visit = (
    Setup,
    &'static str,
    &'static [Stack],
    fn(u16, &Materials) -> Result<()>,
);

/// Requests, health checks, port scans, plaintext where it is allowed.
pub fn clients() -> Vec<Scenario> {
    let mut all = Vec::new();
    for stack in [
        Stack::OpenSsl,
        Stack::Curl,
        Stack::Python,
        Stack::Node,
        Stack::Java,
        Stack::Go,
        Stack::GnuTls,
        Stack::Rustls,
        Stack::Nginx,
        Stack::HaProxy,
    ] {
        for version in Version::BOTH {
            let name = format!("client {}, TLS {}", stack.name(), version.name());
            let peer = Peer::Client(Client::new(stack, version));
            all.push(sound(setups::STRICT, name, peer));
        }
    }
    for stack in [Stack::Curl, Stack::Python, Stack::Java] {
        let without = Client {
            shows: None,
            ..Client::new(stack, V1_3)
        };
        let name = format!(
            "client {} without a certificate, which is optional",
            stack.name()
        );
        all.push(sound(setups::OPTIONAL, name, Peer::Client(without)));
    }
    #[rustfmt::skip]
    let visits: &[Visit] = &[
        (setups::STRICT, "health check of HAProxy, TLS 1.2", &[Stack::HaProxy], |port, materials| check_tls(port, materials, V1_2)),
        (setups::STRICT, "health check of HAProxy, TLS 1.3", &[Stack::HaProxy], |port, materials| check_tls(port, materials, V1_3)),
        (setups::INSPECTING, "health check of HAProxy, TLS 1.3, to a tls_inspector", &[Stack::HaProxy], |port, materials| check_tls(port, materials, V1_3)),
        (setups::STRICT, "health check of the port by HAProxy", &[Stack::HaProxy], check_port),
        (setups::INSPECTING, "health check of the port by HAProxy, to a tls_inspector", &[Stack::HaProxy], check_port),
        (setups::STRICT, "connect and close", &[Stack::Rustls], |port, _| begin(port, b"", Shutdown::Both)),
        (setups::INSPECTING, "connect and close, to a tls_inspector", &[Stack::Rustls], |port, _| begin(port, b"", Shutdown::Both)),
        (setups::STRICT, "connect and reset", &[Stack::Rustls], |port, _| reset(port, &testbed::Client::plaintext())),
        (setups::INSPECTING, "connect and reset, to a tls_inspector", &[Stack::Rustls], |port, _| reset(port, &testbed::Client::plaintext())),
        (setups::STRICT, "half a ClientHello", &[Stack::Rustls], half_a_hello),
        (setups::INSPECTING, "half a ClientHello, to a tls_inspector", &[Stack::Rustls], half_a_hello),
        (setups::STRICT, "handshake and close, TLS 1.3", &[Stack::Rustls], |port, materials| leave(port, materials, testbed::TlsVersion::V1_3)),
        (setups::STRICT, "handshake and close, TLS 1.2", &[Stack::Rustls], |port, materials| leave(port, materials, testbed::TlsVersion::V1_2)),
        (setups::STRICT, "handshake and reset, TLS 1.2", &[Stack::Rustls], |port, materials| {
            reset(port, &own(materials)?.version(testbed::TlsVersion::V1_2))
        }),
        (setups::STRICT, "handshake and reset, TLS 1.3", &[Stack::Rustls], |port, materials| reset(port, &own(materials)?)),
        (setups::STRICT, "resumed sessions", &[Stack::Rustls], resume),
        (setups::PERMISSIVE, "plaintext, allowed", &[Stack::Rustls], |port, _| plaintext(port, 200)),
        (setups::PERMISSIVE, "mTLS on a permissive port", &[Stack::Rustls], |port, materials| answered(port, &own(materials)?, 200)),
        (setups::PERMISSIVE_RBAC, "plaintext, refused by RBAC", &[Stack::Rustls], |port, _| {
            let refused = testbed::Client::plaintext().get(port, "/", &[]);
            ensure!(refused.is_err(), "not refused");
            Ok(())
        }),
    ];
    for (setup, name, stacks, visit) in visits {
        all.push(sound(*setup, *name, Peer::Clients(stacks, *visit)));
    }
    all
}

fn own(materials: &Materials) -> Result<testbed::Client> {
    Ok(testbed::Client::mtls(materials.identity(Shown::Sound)?))
}

fn check_tls(port: u16, materials: &Materials, version: Version) -> Result<()> {
    let client = Client::new(Stack::HaProxy, version);
    let running = programs::haproxy_checks(&client, port, materials)?;
    std::thread::sleep(Duration::from_millis(1100));
    drop(running);
    Ok(())
}

fn check_port(port: u16, materials: &Materials) -> Result<()> {
    let running = programs::haproxy_port_checks(port, materials)?;
    std::thread::sleep(Duration::from_millis(1100));
    drop(running);
    Ok(())
}

fn begin(port: u16, bytes: &[u8], close: Shutdown) -> Result<()> {
    for _ in 0..TIMES {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(bytes)?;
        stream.shutdown(close)?;
    }
    Ok(())
}

fn half_a_hello(port: u16, materials: &Materials) -> Result<()> {
    let hello = own(materials)?.hello()?;
    let half = hello.get(..hello.len() / 2).unwrap_or_default();
    begin(port, half, Shutdown::Write)
}

fn leave(port: u16, materials: &Materials, version: testbed::TlsVersion) -> Result<()> {
    let client = own(materials)?.version(version);
    for _ in 0..TIMES {
        drop(client.tcp(port)?);
    }
    Ok(())
}

fn reset(port: u16, client: &testbed::Client) -> Result<()> {
    let client = client.clone().resetting();
    for _ in 0..TIMES {
        drop(client.tcp(port)?);
    }
    Ok(())
}

fn resume(port: u16, materials: &Materials) -> Result<()> {
    let client = own(materials)?.resuming()?;
    for _ in 0..TIMES {
        answered(port, &client, 200)?;
    }
    Ok(())
}

fn plaintext(port: u16, status: u16) -> Result<()> {
    answered(port, &testbed::Client::plaintext(), status)
}

fn answered(port: u16, client: &testbed::Client, status: u16) -> Result<()> {
    let response = eventually(DEADLINE, || client.get(port, "/", &[]))?;
    ensure!(response.status == status, "{}", response.status);
    Ok(())
}

/// Servers that answer, and servers that fail in other ways than by refusing.
pub fn servers() -> Vec<Scenario> {
    let mut all = Vec::new();
    for stack in [
        Stack::OpenSsl,
        Stack::Python,
        Stack::Node,
        Stack::Java,
        Stack::Go,
        Stack::GnuTls,
        Stack::Rustls,
        Stack::HaProxy,
        Stack::Nginx,
    ] {
        for version in Version::BOTH {
            let name = format!("server {}, TLS {}", stack.name(), version.name());
            let peer = Peer::Server(Server::new(stack, version));
            all.push(sound(setups::UPSTREAM, name, peer));
        }
        let without = Server {
            trusts: Trust::Anybody,
            ..Server::new(stack, V1_3)
        };
        let name = format!("server {} without client certificates", stack.name());
        all.push(sound(setups::WITHOUT, name, Peer::Server(without)));
    }
    for (name, tls, steps) in SCRIPTS {
        all.push(sound(setups::UPSTREAM, *name, Peer::Script(*tls, steps)));
    }
    let nobody = "server that cannot be reached";
    all.push(sound(setups::UPSTREAM, nobody, Peer::Nobody));
    all
}

const SOUND: Option<Shown> = Some(Shown::Sound);

/// What servers do, in TLS or without.
#[rustfmt::skip]
const SCRIPTS: &[(&str, Option<Shown>, &[Step])] = &[
    ("server that closes after its answer", SOUND, &[Step::Receive, Step::Send(ANSWER)]),
    ("server that closes in an orderly manner", SOUND, &[Step::Receive, Step::Send(ANSWER), Step::Finish]),
    ("server that resets after its answer", SOUND, &[Step::Receive, Step::Send(ANSWER), Step::Wait(Duration::from_millis(50)), Step::Reset]),
    ("server that gives up on a request after a while", SOUND, &[Step::Receive, Step::Wait(A_WHILE)]),
    ("server of HTTP/2 only", SOUND, &[Step::Receive, Step::Send(HTTP_2)]),
    ("server that closes in mid-handshake", None, &[Step::Receive]),
];
