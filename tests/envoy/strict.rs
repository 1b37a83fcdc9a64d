//! Certificates that are not called ok, because Envoy refuses them: from a file, or when a peer shows them.

use anyhow::{Context, Result, ensure};
use mtls_watch_x509::parse;
use serde_json::json;
use testbed::pki::lax::{self, Case};
use testbed::{Client, Envoy};

use crate::setup::{Pki, Proxy};

/// All that makes a certificate unreadable.
fn unreadable(der: &[u8]) -> Vec<Case> {
    [lax::long_lengths(der), lax::times(der), lax::values(der)].concat()
}

/// What Envoy only looks at when it verifies a peer.
fn unverifiable(der: &[u8]) -> Vec<Case> {
    [
        lax::long_lengths_in_values(der),
        lax::utc_times_with_offset(der),
        lax::repeated_extensions(der),
    ]
    .concat()
}

#[test]
fn certificates_of_a_peer_are_refused() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::tcp(pki.sample("network.yaml")?)?;
    let sound = pki.pay().issue()?;
    let client = |der: &[u8]| -> Result<Client> {
        let edited = sound.clone().with_leaf(der, &pki.cas.issuing)?;
        Ok(Client::mtls(&edited))
    };
    // Signing what was edited makes a certificate that Envoy takes, if nothing else is wrong with it.
    for der in [
        sound.der().to_vec(),
        lax::long_length_of_signature(sound.der()),
    ] {
        proxy.echo(&client(&der)?)?;
        parse(&der)?;
    }
    for (case, der) in [unreadable(sound.der()), unverifiable(sound.der())].concat() {
        let accepted = proxy.echo(&client(&der)?).is_ok();
        ensure!(!accepted, "{case}: Envoy accepts the peer");
        ensure!(parse(&der).is_err(), "{case}: read");
    }
    Ok(())
}

/// Each is a start of Envoy: one of each kind.
#[test]
fn certificates_in_a_file_are_refused() -> Result<()> {
    let pki = Pki::new()?;
    let root = pki.cas.root.der();
    load(root).context("nothing is wrong with it")?;
    load(&lax::long_length_of_signature(root)).context("the exception")?;
    let every = |cases: Vec<Case>, step| cases.into_iter().step_by(step);
    let cases = every(lax::long_lengths(root), 12)
        .chain(every(lax::indefinite_lengths(root), 4))
        .chain(every(lax::times(root), 4))
        .chain(every(lax::values(root), 3));
    for (case, der) in cases {
        let Err(error) = load(&der) else {
            panic!("{case}: Envoy loads it");
        };
        let error = format!("{error:#}");
        let cause = "Failed to load trusted CA certificates";
        ensure!(error.contains(cause), "{case}: {error}");
        ensure!(parse(&der).is_err(), "{case}: read");
    }
    // Not by these: they are found out when a peer is verified.
    for (case, der) in every(unverifiable(root), 4) {
        load(&der).context(case)?;
    }
    Ok(())
}

/// Has Envoy load a certificate as one that it trusts.
pub fn load(der: &[u8]) -> Result<()> {
    let pem = pki::to_pem([&der.to_vec().into()]);
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"validation_context": {"trusted_ca": {"inline_string": pem}}},
    });
    let cluster = json!({
        "name": "server",
        "load_assignment": {"cluster_name": "server"},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    });
    Envoy::validate(&json!({"static_resources": {"clusters": [cluster]}}).to_string())
}
