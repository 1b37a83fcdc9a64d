//! Refused handshakes with servers: each with a request and with a TCP connection.

use testbed::servers::Step;

use super::refused;
use crate::materials::{Shown, Trust};
use crate::programs::{Server, Stack, Version};
use crate::scenario::{Limit, Peer, Scenario, Setup, Truth, Verdict};
use crate::setups;

use Version::{V1_2, V1_3};

const SERVERS: [Stack; 9] = [
    Stack::OpenSsl,
    Stack::Python,
    Stack::Node,
    Stack::Java,
    Stack::Go,
    Stack::GnuTls,
    Stack::Rustls,
    Stack::HaProxy,
    Stack::Nginx,
];

/// A request and a connection.
const BOTH: u32 = 2;

fn server(setup: Setup, server: Server, what: &str, truth: impl Into<Truth>) -> Scenario {
    let (stack, version) = (server.stack.name(), server.version.name());
    Scenario {
        setup,
        name: format!("server {stack}, TLS {version}: {what}"),
        peer: Peer::Server(server),
        truth: truth.into(),
        times: BOTH,
    }
}

type Case = (
    Setup,
    Shown,
    &'static [(Stack, Version)],
    &'static str,
    Verdict,
);

#[rustfmt::skip]
const REFUSED: &[Case] = &[
    (setups::UPSTREAM, Shown::Expired, &[(Stack::Python, V1_3), (Stack::Nginx, V1_2)], "its certificate has expired",
        refused("peer expired workload", "renew")),
    (setups::UPSTREAM, Shown::NotYetValid, &[(Stack::OpenSsl, V1_3)], "its certificate is not valid yet",
        refused("peer not_yet_valid workload", "clocks")),
    (setups::UPSTREAM, Shown::ClientOnly, &[(Stack::Node, V1_3), (Stack::Go, V1_2)], "its certificate is for clients only",
        refused("peer server_auth_missing workload", "add serverAuth")),
    (setups::UPSTREAM, Shown::EnciphersOnly, &[(Stack::OpenSsl, V1_3)], "its certificate may not sign",
        refused("peer key_usage workload", "digitalSignature")),
    (setups::UPSTREAM, Shown::LeafAlone, &[(Stack::Nginx, V1_3), (Stack::Java, V1_2)], "it sends its leaf alone",
        refused("peer unknown_ca workload", "with its whole chain")),
    (setups::UPSTREAM, Shown::SelfSigned, &[(Stack::HaProxy, V1_3), (Stack::Python, V1_2)], "its certificate is self-signed",
        refused("peer self_signed workload", "CA").but(&[(Limit::NoServerCertificate, "peer unknown_ca workload")])),
    (setups::UPSTREAM, Shown::Stranger, &[(Stack::Go, V1_3), (Stack::GnuTls, V1_2), (Stack::Java, V1_3)], "a strange CA signed its certificate",
        refused("peer unknown_ca issuing_ca", "trust bundle")),
    (setups::UPSTREAM, Shown::OfExpiredCa, &[(Stack::GnuTls, V1_3)], "its issuing CA has expired",
        refused("peer expired issuing_ca", "renew")),
    (setups::UPSTREAM, Shown::TooDeep, &[(Stack::Rustls, V1_3)], "a CA of its chain is too deep",
        refused("peer path_length intermediate_ca", "pathLenConstraint")),
    (setups::UPSTREAM, Shown::OfNoCa, &[(Stack::OpenSsl, V1_2)], "its issuer is no CA",
        refused("peer key_usage issuing_ca", "is no CA")),
    (setups::UPSTREAM, Shown::OtherDomain, &[(Stack::Python, V1_3), (Stack::HaProxy, V1_2)], "it is of another trust domain",
        refused("peer name_mismatch workload", "subjectAltName")),
    (setups::UPSTREAM, Shown::CriticalExtension, &[(Stack::OpenSsl, V1_3)], "its certificate has a critical extension",
        refused("peer critical_extension workload", "without the extension")),
    (setups::UPSTREAM_REVOKING, Shown::Revoked, &[(Stack::Python, V1_3)], "its certificate is revoked",
        refused("peer revoked workload", "issue a new certificate")),
];

/// What is wrong with their certificates, or that they speak no TLS.
pub fn that_are_refused() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (setup, shown, servers, what, verdict) in REFUSED {
        for (stack, version) in *servers {
            let showing = Server {
                shows: *shown,
                ..Server::new(*stack, *version)
            };
            all.push(server(*setup, showing, what, *verdict));
        }
    }
    let plaintext = refused(
        "none not_tls none",
        "the server does not speak TLS on this port",
    );
    for (name, steps) in [
        (
            "server of HTTP without TLS",
            &[Step::Receive, Step::Send(b"HTTP/1.1 400 no\r\n\r\n")] as &[_],
        ),
        (
            "server of mail without TLS",
            &[Step::Send(b"220 mail ready\r\n"), Step::ReceiveAll],
        ),
    ] {
        all.push(script(setups::UPSTREAM, name, None, steps, plaintext));
    }
    all.push(Scenario {
        setup: setups::NO_SECRET,
        name: "this proxy's own certificate was never supplied".to_owned(),
        peer: Peer::Nobody,
        truth: refused(
            "own secret_missing none",
            "own certificate or the CA bundle",
        )
        .into(),
        times: BOTH,
    });
    all
}

fn script(
    setup: Setup,
    name: &str,
    tls: Option<Shown>,
    steps: &'static [Step],
    truth: impl Into<Truth>,
) -> Scenario {
    Scenario {
        setup,
        name: name.to_owned(),
        peer: Peer::Script(tls, steps),
        truth: truth.into(),
        times: BOTH,
    }
}

/// They do not trust its CA, or it has no certificate.
pub fn that_refuse_this_proxy() -> Vec<Scenario> {
    const REJECTED: Verdict = refused("own rejected_by_peer none", "this proxy's certificate");
    const REQUIRED: Verdict = refused("own certificate_required none", "client certificate");
    let mut all = Vec::new();
    for stack in SERVERS {
        for version in Version::BOTH {
            let judged_later: &[(Limit, &str)] = match (stack, version) {
                (Stack::Nginx, _) | (Stack::Node, V1_2) => &[(Limit::JudgedLater, "")],
                _ => &[],
            };
            let distrusting = Server {
                trusts: Trust::Strange,
                ..Server::new(stack, version)
            };
            let what = "does not trust this proxy's CA";
            let verdict = REJECTED.but(judged_later);
            let mut distrusting = server(setups::UPSTREAM, distrusting, what, verdict);
            if stack == Stack::Node {
                // It judges when the handshake is over, and resets connections on which data have come.
                distrusting.times = 0;
            }
            all.push(distrusting);
            let limits: &[(Limit, &str)] = match (stack, version) {
                (Stack::Nginx, _) => judged_later,
                (_, V1_3) | (Stack::Rustls, _) => &[],
                (Stack::Java, _) => &[(Limit::VagueAlert, "own rejected_by_peer none")],
                _ => &[(Limit::VagueAlert, "none rejected_by_peer none")],
            };
            let requiring = Server::new(stack, version);
            let what = "requires a certificate, and this proxy has none";
            all.push(server(
                setups::WITHOUT,
                requiring,
                what,
                REQUIRED.but(limits),
            ));
        }
    }
    all
}

/// Before any certificate is shown.
pub fn that_refuse_the_client_hello() -> Vec<Scenario> {
    let openssl = |shows, version, options| Server {
        shows,
        options,
        ..Server::new(Stack::OpenSsl, version)
    };
    let strict_sni = |stack, version, options| Server {
        options,
        ..Server::new(stack, version)
    };
    let parameters = refused(
        "none no_shared_cipher none",
        "cipher suites, curves and key types",
    );
    let version = refused("none protocol_version none", "tls_minimum_protocol_version");
    let name = refused("none unrecognized_name none", "server name");
    let alpn = refused("none no_application_protocol none", "alpn_protocols");
    let mut all = vec![
        server(
            setups::UPSTREAM,
            openssl(Shown::Rsa, V1_2, &["-cipher", "DHE-RSA-AES128-GCM-SHA256"]),
            "DHE suites only",
            parameters,
        ),
        server(
            setups::UPSTREAM,
            openssl(Shown::Sound, V1_3, &["-curves", "secp521r1"]),
            "a curve that this proxy does not know",
            parameters,
        ),
        server(
            setups::UPSTREAM,
            openssl(Shown::Sound, V1_2, &["-cipher", "ECDHE-ECDSA-AES128-CCM"]),
            "a cipher that this proxy does not know",
            parameters,
        ),
        server(
            setups::UPSTREAM,
            openssl(Shown::Rsa, Version::V1_1, &["-cipher", "ALL:@SECLEVEL=0"]),
            "too old a version",
            version,
        ),
        server(
            setups::UPSTREAM_TLS13,
            Server::new(Stack::Go, V1_2),
            "no version in common",
            version,
        ),
        server(
            setups::UPSTREAM_TLS13,
            Server::new(Stack::Nginx, V1_2),
            "no version in common",
            version,
        ),
        server(
            setups::SNI,
            strict_sni(Stack::HaProxy, V1_2, &["strict-sni"]),
            "no certificate for the server name",
            name,
        ),
        server(
            setups::SNI,
            strict_sni(Stack::Nginx, V1_3, &["ssl_reject_handshake on;"]),
            "no certificate for the server name",
            name,
        ),
    ];
    for stack in [Stack::Go, Stack::Node] {
        let speaking = Server {
            alpn: "h2",
            ..Server::new(stack, V1_3)
        };
        let what = "no application protocol in common";
        all.push(server(setups::ALPN, speaking, what, alpn));
    }
    all
}
