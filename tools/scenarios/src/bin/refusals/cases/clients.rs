//! Refused handshakes with clients.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::Result;

use super::refused;
use crate::materials::{Materials, Shown, Trust};
use crate::programs::{Client, Stack, Version};
use crate::scenario::{Limit, Peer, Scenario, Setup, Truth, Verdict};
use crate::setups;

const CLIENTS: [Stack; 10] = [
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
];

/// Of a client that refuses this proxy.
const REJECTED: Verdict = refused("own rejected_by_peer none", "this proxy's certificate");
/// Of one that finds out when the handshake is over.
const REJECTED_LATER: Verdict = REJECTED.but(&[(Limit::JudgedLater, "")]);

fn rejected(stack: Stack) -> Verdict {
    match stack {
        Stack::Nginx | Stack::Node => REJECTED_LATER,
        _ => REJECTED,
    }
}

fn client(setup: Setup, client: Client, what: &str, truth: impl Into<Truth>) -> Scenario {
    let (stack, version) = (client.stack.name(), client.version.name());
    Scenario {
        setup,
        name: format!("client {stack}, TLS {version}: {what}"),
        peer: Peer::Client(client),
        truth: truth.into(),
        times: 1,
    }
}

/// The wrong CA, the wrong name, an expired certificate.
pub fn that_refuse_this_proxy() -> Vec<Scenario> {
    let mut all = Vec::new();
    for stack in CLIENTS {
        for version in Version::BOTH {
            let distrusting = Client {
                trusts: Trust::Strange,
                ..Client::new(stack, version)
            };
            let what = "does not trust this proxy's CA";
            all.push(client(setups::STRICT, distrusting, what, rejected(stack)));
        }
        let elsewhere = Client {
            name: "wrong.example",
            ..Client::new(stack, Version::V1_3)
        };
        let what = "looks for another name";
        let verdict = match stack {
            Stack::Curl => REJECTED_LATER,
            _ => rejected(stack),
        };
        all.push(client(setups::STRICT, elsewhere, what, verdict));
        let what = "finds this proxy's certificate expired";
        let version = match stack {
            Stack::OpenSsl | Stack::Python | Stack::Go => Version::V1_2,
            _ => Version::V1_3,
        };
        let expired = Client::new(stack, version);
        all.push(client(setups::EXPIRED, expired, what, rejected(stack)));
    }
    all
}

const NO_CERTIFICATE: Verdict =
    refused("peer no_certificate none", "give the client a certificate");

/// What a client shows, the clients that show it, what is wrong with it, and what is to be said.
type Case = (
    Setup,
    Shown,
    &'static [(Stack, Version)],
    &'static str,
    Verdict,
);

#[rustfmt::skip]
const REFUSED: &[Case] = &[
    (setups::STRICT, Shown::Expired, &[(Stack::OpenSsl, V1_2), (Stack::Curl, V1_3), (Stack::Java, V1_3)], "its certificate has expired",
        refused("peer expired workload", "expired since").of(Shown::Expired)),
    (setups::STRICT, Shown::NotYetValid, &[(Stack::Python, V1_3), (Stack::GnuTls, V1_2)], "its certificate is not valid yet",
        refused("peer not_yet_valid workload", "compare the clocks").of(Shown::NotYetValid)),
    (setups::STRICT, Shown::ServerOnly, &[(Stack::Python, V1_2), (Stack::OpenSsl, V1_3), (Stack::Go, V1_3), (Stack::HaProxy, V1_2)], "its certificate is for servers only",
        refused("peer client_auth_missing workload", "certificate allows serverAuth only; add clientAuth").of(Shown::ServerOnly)
            .but(&[(Limit::NoClientCertificate, "peer client_auth_missing workload")])),
    (setups::STRICT, Shown::AnyUsage, &[(Stack::Rustls, V1_3), (Stack::Curl, V1_2)], "its certificate is for any usage",
        refused("peer client_auth_missing workload", "anyExtendedKeyUsage").of(Shown::AnyUsage)
            .but(&[(Limit::NoClientCertificate, "peer client_auth_missing workload")])),
    (setups::STRICT, Shown::EnciphersOnly, &[(Stack::OpenSsl, V1_2)], "its certificate may not sign",
        refused("peer key_usage workload", "add digitalSignature").of(Shown::EnciphersOnly)
            .but(&[(Limit::NoClientCertificate, "peer client_auth_missing workload")])),
    (setups::STRICT, Shown::EnciphersOnly, &[(Stack::Python, V1_3)], "its certificate may not sign",
        refused("peer key_usage workload", "add digitalSignature")),
    (setups::STRICT, Shown::LeafAlone, &[(Stack::OpenSsl, V1_3), (Stack::Python, V1_2), (Stack::Node, V1_3), (Stack::Nginx, V1_3)], "it sends its leaf alone",
        refused("peer unknown_ca workload", "the chain").of(Shown::LeafAlone)
            .but(&[(Limit::NoClientCertificate, "peer unknown_ca workload")])),
    (setups::STRICT, Shown::SelfSigned, &[(Stack::Python, V1_3), (Stack::Curl, V1_2), (Stack::Rustls, V1_3)], "its certificate is self-signed",
        refused("peer self_signed workload", "from a CA of the trust bundle").of(Shown::SelfSigned)
            .but(&[(Limit::NoClientCertificate, "peer unknown_ca workload")])),
    (setups::STRICT, Shown::Stranger, &[(Stack::Curl, V1_3), (Stack::Python, V1_2), (Stack::Node, V1_2), (Stack::Go, V1_2), (Stack::HaProxy, V1_3), (Stack::Nginx, V1_2), (Stack::GnuTls, V1_3)], "a strange CA signed its certificate",
        refused("peer unknown_ca issuing_ca", "If this CA is yours").of(Shown::Stranger)
            .but(&[(Limit::NoClientCertificate, "peer unknown_ca issuing_ca")])),
    (setups::STRICT, Shown::Namesake, &[(Stack::Rustls, V1_3), (Stack::OpenSsl, V1_2)], "a CA called like ours signed its certificate",
        refused("peer unknown_ca issuing_ca", "anyone can use this name").of(Shown::Namesake)
            .but(&[(Limit::NoClientCertificate, "peer unknown_ca issuing_ca")])),
    (setups::STRICT, Shown::OfExpiredCa, &[(Stack::Curl, V1_2), (Stack::OpenSsl, V1_3), (Stack::Go, V1_3)], "its issuing CA has expired",
        refused("peer expired issuing_ca", "renew").of(Shown::OfExpiredCa)),
    (setups::STRICT, Shown::OfServerOnlyCa, &[(Stack::Python, V1_3)], "its issuing CA is for servers only",
        refused("peer client_auth_missing issuing_ca", "a CA above the leaf").of(Shown::OfServerOnlyCa)),
    (setups::STRICT, Shown::TooDeep, &[(Stack::OpenSsl, V1_2), (Stack::Node, V1_3)], "a CA of its chain is too deep",
        refused("peer path_length intermediate_ca", "pathLenConstraint").of(Shown::TooDeep)),
    (setups::STRICT, Shown::OfNoCa, &[(Stack::Python, V1_3), (Stack::Curl, V1_2)], "its issuer is no CA",
        refused("peer key_usage issuing_ca", "is no CA").of(Shown::OfNoCa)),
    (setups::STRICT, Shown::CriticalExtension, &[(Stack::OpenSsl, V1_3), (Stack::Python, V1_2)], "its certificate has a critical extension",
        refused("peer critical_extension workload", "without the extension").of(Shown::CriticalExtension)),
    (setups::REVOKING, Shown::Revoked, &[(Stack::Curl, V1_3), (Stack::Python, V1_2)], "its certificate is revoked",
        refused("peer revoked workload", "issue a new certificate").of(Shown::Revoked)),
    (setups::STALE_CRL, Shown::Sound, &[(Stack::OpenSsl, V1_3), (Stack::Go, V1_2)], "this proxy's CRL is out of date",
        refused("own revoked workload", "past its nextUpdate").of(Shown::Sound)),
    (setups::NAMES, Shown::Sound, &[(Stack::Curl, V1_2), (Stack::Python, V1_3)], "its name is not one that this proxy expects",
        refused("peer name_mismatch workload", "subjectAltName").of(Shown::Sound)),
    (setups::SPIFFE, Shown::OtherDomain, &[(Stack::Go, V1_3), (Stack::OpenSsl, V1_2)], "this proxy has no bundle for its trust domain",
        refused("peer trust_domain_unknown workload", "'far.example'").of(Shown::OtherDomain)
            .but(&[(Limit::NoClientCertificate, "peer trust_domain_unknown workload")])),
];

use Version::{V1_2, V1_3};

/// What is wrong with their certificates, or that they have none.
pub fn that_are_refused() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (setup, shown, clients, what, verdict) in REFUSED {
        for (stack, version) in *clients {
            let showing = Client {
                shows: Some(*shown),
                ..Client::new(*stack, *version)
            };
            all.push(client(*setup, showing, what, *verdict));
        }
    }
    for stack in CLIENTS {
        for version in Version::BOTH {
            let without = Client {
                shows: None,
                ..Client::new(stack, version)
            };
            all.push(client(
                setups::STRICT,
                without,
                "has no certificate",
                NO_CERTIFICATE,
            ));
        }
    }
    // The proxy names the CAs that it takes, and Java sends nothing of another.
    for (stack, version) in [(Stack::Java, V1_3), (Stack::Java, V1_2)] {
        let showing = Client {
            shows: Some(Shown::Stranger),
            ..Client::new(stack, version)
        };
        let what = "has a certificate of a strange CA only, and sends none";
        all.push(client(setups::STRICT, showing, what, NO_CERTIFICATE));
    }
    all
}

/// Versions, ciphers, curves, and what is no TLS at all.
pub fn that_speak_otherwise() -> Vec<Scenario> {
    const VERSION: Verdict = refused("none protocol_version none", "tls_minimum_protocol_version");
    const CIPHER: Verdict = refused(
        "none no_shared_cipher none",
        "cipher suites, curves and key types",
    );
    const PLAINTEXT: Verdict = refused("none not_tls none", "let the client use TLS");
    const RESET: Verdict = refused("none reset none", "between the two sides");
    let plain = |stack, version| Client::new(stack, version);
    let openssl = |version, options| Client {
        options,
        ..Client::new(Stack::OpenSsl, version)
    };
    let by = |setup, name: &str, stacks, visit, verdict: Verdict| Scenario {
        setup,
        name: name.to_owned(),
        peer: Peer::Clients(stacks, visit),
        truth: verdict.into(),
        times: 1,
    };
    let mut all = vec![
        client(
            setups::STRICT,
            openssl(Version::V1_1, &["-cipher", "ALL:@SECLEVEL=0"]),
            "too old a version",
            VERSION,
        ),
        client(
            setups::STRICT,
            openssl(V1_2, &["-cipher", "AES128-SHA256"]),
            "ciphers that are not for this proxy's key",
            CIPHER,
        ),
        client(
            setups::STRICT,
            openssl(V1_3, &["-curves", "secp521r1"]),
            "a curve that this proxy does not know",
            CIPHER,
        ),
        client(
            setups::STRICT,
            openssl(V1_2, &["-curves", "secp521r1"]),
            "a curve that this proxy does not know",
            CIPHER,
        ),
        client(
            setups::P384_ONLY,
            openssl(V1_3, &["-curves", "X25519"]),
            "no curve in common",
            CIPHER,
        ),
        by(
            setups::STRICT,
            "client curl: HTTP without TLS",
            &[Stack::Curl],
            |port, _| {
                let url = format!("http://127.0.0.1:{port}/");
                let mut curl = std::process::Command::new(testbed::tool("curl")?);
                curl.args([
                    "--disable",
                    "--silent",
                    "--noproxy",
                    "*",
                    "--max-time",
                    "10",
                ]);
                curl.arg(url).output()?;
                Ok(())
            },
            PLAINTEXT,
        ),
        by(
            setups::INSPECTING,
            "client without TLS, to a tls_inspector",
            &[Stack::Rustls],
            |port, _| say(port, b"GET / HTTP/1.1\r\n\r\n"),
            PLAINTEXT,
        ),
        by(
            setups::STRICT,
            "client of SSH",
            &[Stack::Rustls],
            |port, _| say(port, b"SSH-2.0-OpenSSH_9.9\r\n"),
            PLAINTEXT,
        ),
        by(
            setups::STRICT,
            "client that resets in mid-handshake, TLS 1.3",
            &[Stack::Rustls],
            |port, materials| reset_in_handshake(port, materials, testbed::TlsVersion::V1_3),
            RESET,
        ),
        by(
            setups::STRICT,
            "client that resets in mid-handshake, TLS 1.2",
            &[Stack::Rustls],
            |port, materials| reset_in_handshake(port, materials, testbed::TlsVersion::V1_2),
            RESET.but(&[(Limit::ResetBeforeTls13, "")]),
        ),
        by(
            setups::INSPECTING,
            "client that resets in mid-handshake, TLS 1.2, SNI, to a tls_inspector",
            &[Stack::Rustls],
            |port, materials| reset_in_handshake(port, materials, testbed::TlsVersion::V1_2),
            RESET,
        ),
    ];
    for stack in [Stack::Curl, Stack::Go, Stack::Java, Stack::Node] {
        let what = "a version that this proxy does not take";
        all.push(client(
            setups::TLS13_ONLY,
            plain(stack, V1_2),
            what,
            VERSION,
        ));
    }
    for stack in [Stack::Python, Stack::GnuTls, Stack::Rustls] {
        let what = "a version that this proxy does not take";
        all.push(client(
            setups::TLS12_ONLY,
            plain(stack, V1_3),
            what,
            VERSION,
        ));
    }
    all
}

fn say(port: u16, text: &[u8]) -> Result<()> {
    let mut connection = testbed::Client::plaintext().tcp(port)?;
    connection.send(text)?;
    connection.closed_by_peer().map(drop)
}

/// Leaves the rest of the answer to its ClientHello unread: so the system resets instead of closing.
fn reset_in_handshake(
    port: u16,
    materials: &Materials,
    version: testbed::TlsVersion,
) -> Result<()> {
    let client = testbed::Client::mtls(materials.identity(Shown::Sound)?);
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(&client.version(version).hello()?)?;
    stream.read_exact(&mut [0])?;
    Ok(())
}
