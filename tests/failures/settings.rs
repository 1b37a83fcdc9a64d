//! Certificates that are sound, and refused because of what the proxy is configured to expect: clients
//! and servers alike.

use anyhow::Result;
use serde_json::{Value, json};
use testbed::pki::{HOUR, KeyUsage, Lifetime};
use testbed::servers::ServerTls;
use testbed::{Client, Identity, Sample, Server};

use crate::setup::{PAY, Pki, Proxy};
use crate::watch::{Failure, Watch, be_refused};

#[test]
fn names_that_are_not_expected() -> Result<()> {
    let expected =
        json!([{"san_type": "URI", "matcher": {"exact": "spiffe://cluster.local/else"}}]);
    let verdict = "workload name_mismatch";
    check(verdict, "subjectAltName", |_, _| {
        Ok(("match_typed_subject_alt_names", expected.clone()))
    })
}

#[test]
fn certificates_that_are_not_the_pinned_one() -> Result<()> {
    let pin = json!(["00".repeat(32)]);
    check("workload name_mismatch", "update the pin", |_, _| {
        Ok(("verify_certificate_hash", pin.clone()))
    })
}

#[test]
fn revoked_certificates() -> Result<()> {
    check(
        "workload revoked",
        "issue a new certificate",
        |pki, peer| {
            let lists = [
                pki.cas.issuing.revocation_list(&[peer])?,
                pki.cas.intermediate.revocation_list(&[])?,
                pki.cas.root.revocation_list(&[])?,
            ];
            Ok(("crl", json!({"inline_string": lists.concat()})))
        },
    )
}

#[test]
fn certificates_while_the_revocation_list_is_out_of_date() -> Result<()> {
    check("workload revoked", "past its nextUpdate", |pki, _| {
        let old = Lifetime::from_now(-2 * HOUR, -HOUR);
        let lists = [
            pki.cas.issuing.revocation_list_for(old, &[])?,
            pki.cas.intermediate.revocation_list(&[])?,
            pki.cas.root.revocation_list(&[])?,
        ];
        Ok(("crl", json!({"inline_string": lists.concat()})))
    })
}

/// A list is there for one CA of the chain only.
#[test]
fn certificates_of_a_ca_without_a_revocation_list() -> Result<()> {
    check("workload revoked", "a CRL for every CA", |pki, _| {
        let list = pki.cas.root.revocation_list(&[])?;
        Ok(("crl", json!({"inline_string": list})))
    })
}

/// The same peer as client and as server of proxies with this in their validation context.
fn check(
    verdict: &str,
    hint: &str,
    setting: impl Fn(&Pki, &Identity) -> Result<(&'static str, Value)>,
) -> Result<()> {
    let pki = Pki::new()?;
    let peer = pki.pay().issue()?;
    let (key, value) = setting(&pki, &peer)?;
    let strict = |sample: Sample| sample.insert("validation_context", key, value.clone());

    let proxy = Proxy::tcp(strict(pki.sample("network.yaml")?))?;
    be_refused(&Client::mtls(&peer), proxy.port)?;
    let failure = Failure::new(format!("inbound {verdict}")).hint(&[hint]);
    let named = failure.peer(format!(r#" identity="{PAY}""#));
    Watch::new(&proxy.envoy).expect(&named)?;

    let server = Server::tcp_echo(Some(ServerTls::new(&peer)))?;
    let sample = strict(pki.sample("upstream.yaml")?);
    let proxy = Proxy::start(sample, ("outbound_tcp", "peer_tcp"), server, 1)?;
    be_refused(&Client::plaintext(), proxy.port)?;
    let failure = Failure::new(format!("outbound {verdict}")).hint(&[hint]);
    Watch::new(&proxy.envoy).expect(&failure)
}

/// SPIRE's way: bundles by trust domain, and a validator of their own.
#[test]
fn svids_of_a_trust_domain_without_a_bundle() -> Result<()> {
    let pki = Pki::new()?;
    let validator = json!({"custom_validator_config": {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
            "trust_domains": [
                {"name": "cluster.local", "trust_bundle": {"inline_string": pki.cas.root.pem()}},
            ],
        },
    }});
    let sample = pki.sample("network.yaml")?;
    let proxy = Proxy::http(sample.insert("common_tls_context", "validation_context", validator))?;
    proxy.get(&pki.client()?)?;
    let mut watch = Watch::new(&proxy.envoy);
    let misspelt = "spiffe://clutser.local/ns/shop/sa/pay";
    let misspelt = pki.cas.leaf().uri(misspelt).issue()?;
    be_refused(&Client::mtls(&misspelt), proxy.port)?;
    let failure = Failure::new("inbound workload trust_domain_unknown").peer("clutser.local");
    watch.expect(
        &failure
            .holder("peer")
            .hint(&["'clutser.local'", "'cluster.local'"]),
    )?;
    let no_svid = pki.cas.leaf().dns("pay.example").issue()?;
    be_refused(&Client::mtls(&no_svid), proxy.port)?;
    let failure = Failure::new("inbound workload trust_domain_unknown").peer("pay.example");
    watch.expect(&failure.hint(&["has no SPIFFE ID"]))?;
    let signing = [KeyUsage::DigitalSignature, KeyUsage::KeyCertSign];
    let signing = pki.pay().key_usages(&signing).issue()?;
    be_refused(&Client::mtls(&signing), proxy.port)?;
    let failure = Failure::new("inbound workload key_usage").peer(PAY);
    watch.expect(&failure.hint(&["SPIFFE validator"]))
}
