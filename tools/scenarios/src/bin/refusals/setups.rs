//! The proxies: samples of `envoy-config/`, and what scenarios change in them.

use anyhow::Result;
use pki::HOUR;
use serde_json::{Value, json};
use testbed::sample::yaml;
use testbed::{Lifetime, Sample};

use crate::materials::{Materials, Shown, own};
use crate::scenario::Setup;

/// Every refusal is logged, also one that cannot be told from the one before.
const REPEATED: &str = r#"{"log_repeat": "0s"}"#;

const fn inbound(name: &'static str, sample: fn(&Materials) -> Result<Sample>) -> Setup {
    Setup {
        name,
        sample,
        is_inbound: true,
    }
}

const fn outbound(name: &'static str, sample: fn(&Materials) -> Result<Sample>) -> Setup {
    Setup {
        name,
        sample,
        is_inbound: false,
    }
}

/// Takes mTLS only.
pub const STRICT: Setup = inbound("mTLS", strict);

/// The same, with a listener filter that reads the ClientHello.
pub const INSPECTING: Setup = inbound("mTLS, tls_inspector", |materials| {
    Ok(strict(materials)?.inspecting_tls())
});

/// Shows a certificate that has expired.
pub const EXPIRED: Setup = inbound("mTLS, own certificate expired", |materials| {
    let expired = Lifetime::from_now(-2 * HOUR, -HOUR);
    materials.serve(&own(&materials.cas).lifetime(expired).issue()?)?;
    strict(materials)
});

pub const TLS13_ONLY: Setup = inbound("mTLS, TLS 1.3 only", |materials| {
    Ok(parameters(
        strict(materials)?,
        json!({"tls_minimum_protocol_version": "TLSv1_3"}),
    ))
});

pub const TLS12_ONLY: Setup = inbound("mTLS, TLS 1.2 only", |materials| {
    Ok(parameters(
        strict(materials)?,
        json!({"tls_maximum_protocol_version": "TLSv1_2"}),
    ))
});

pub const P384_ONLY: Setup = inbound("mTLS, curve P-384 only", |materials| {
    Ok(parameters(
        strict(materials)?,
        json!({"ecdh_curves": ["P-384"]}),
    ))
});

pub const REVOKING: Setup = inbound("mTLS, a CRL", |materials| {
    Ok(validation(strict(materials)?, "crl", crl(materials, true)?))
});

pub const STALE_CRL: Setup = inbound("mTLS, a CRL past its nextUpdate", |materials| {
    Ok(validation(
        strict(materials)?,
        "crl",
        crl(materials, false)?,
    ))
});

pub const NAMES: Setup = inbound("mTLS, names that are expected", |materials| {
    let expected =
        json!([{"san_type": "URI", "matcher": {"exact": "spiffe://cluster.local/else"}}]);
    Ok(validation(
        strict(materials)?,
        "match_typed_subject_alt_names",
        expected,
    ))
});

/// SPIRE's way: bundles by trust domain.
pub const SPIFFE: Setup = inbound("mTLS, SPIFFE validator", |materials| {
    let validator = json!({"custom_validator_config": {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
            "trust_domains": [
                {"name": "cluster.local", "trust_bundle": {"inline_string": materials.cas.root.pem()}},
            ],
        },
    }});
    Ok(strict(materials)?.insert("common_tls_context", "validation_context", validator))
});

/// Takes clients without a certificate, too.
pub const OPTIONAL: Setup = inbound("TLS, certificate optional", |materials| {
    Ok(strict(materials)?.set("DownstreamTlsContext", "require_client_certificate", false))
});

/// Takes TLS and plaintext on one port.
pub const PERMISSIVE: Setup = inbound("permissive", |materials| {
    Ok(strict(materials)?.permissive("inbound"))
});

/// The same; plaintext is refused by an authorization filter.
pub const PERMISSIVE_RBAC: Setup = inbound("permissive, RBAC refuses plaintext", |materials| {
    let sample = strict(materials)?.permissive("inbound");
    Ok(sample.refusing_plaintext("inbound"))
});

/// Shows its certificate to servers.
pub const UPSTREAM: Setup = outbound("mTLS", upstream);

/// Has none to show.
pub const WITHOUT: Setup = outbound("TLS, without a certificate", |materials| {
    Ok(upstream(materials)?.remove("tls_certificates"))
});

pub const UPSTREAM_REVOKING: Setup = outbound("mTLS, a CRL", |materials| {
    Ok(validation(
        upstream(materials)?,
        "crl",
        crl(materials, true)?,
    ))
});

/// Asks servers for one name.
pub const SNI: Setup = outbound("mTLS, SNI", |materials| {
    Ok(upstream(materials)?.set("UpstreamTlsContext", "sni", "other.example"))
});

/// Offers a protocol that nobody speaks.
pub const ALPN: Setup = outbound("mTLS, ALPN", |materials| {
    Ok(upstream(materials)?.insert("common_tls_context", "alpn_protocols", json!(["odd"])))
});

pub const UPSTREAM_TLS13: Setup = outbound("mTLS, TLS 1.3 only", |materials| {
    let range = json!({
        "tls_minimum_protocol_version": "TLSv1_3",
        "tls_maximum_protocol_version": "TLSv1_3",
    });
    Ok(upstream(materials)?.replace("tls_params", range))
});

/// Waits for a secret that never comes.
pub const NO_SECRET: Setup = outbound("mTLS, secret missing", |materials| {
    let empty = materials.proxy().join("never.yaml");
    std::fs::write(&empty, "resources: []\n")?;
    let secret = json!([{
        "name": "never",
        "sds_config": {"path_config_source": {"path": empty}, "initial_fetch_timeout": "1s"},
    }]);
    let node = yaml(json!({"id": "sidecar", "cluster": "mesh"}));
    let sample = upstream(materials)?.remove("tls_certificates").edit(|it| {
        if it.get("static_resources").is_some() {
            it["node"] = node.clone();
        }
    });
    Ok(sample.insert(
        "common_tls_context",
        "tls_certificate_sds_secret_configs",
        secret,
    ))
});

/// Those that take few Envoys for many scenarios.
pub const USUAL: [Setup; 4] = [STRICT, PERMISSIVE_RBAC, UPSTREAM, WITHOUT];

fn strict(materials: &Materials) -> Result<Sample> {
    let sample = Sample::local("both.yaml", &materials.proxy())?;
    Ok(sample.configuration(REPEATED))
}

fn upstream(materials: &Materials) -> Result<Sample> {
    let sample = Sample::local("upstream.yaml", &materials.proxy())?;
    Ok(sample.configuration(REPEATED))
}

fn parameters(sample: Sample, range: Value) -> Sample {
    sample.insert("common_tls_context", "tls_params", range)
}

fn validation(sample: Sample, key: &'static str, value: Value) -> Sample {
    sample.insert("validation_context", key, value)
}

/// Lists of all three CAs; that of the issuing CA is out of date, or has one certificate.
fn crl(materials: &Materials, is_current: bool) -> Result<Value> {
    let cas = &materials.cas;
    let old = Lifetime::from_now(-2 * HOUR, -HOUR);
    let of_leaves = match is_current {
        true => cas
            .issuing
            .revocation_list(&[materials.identity(Shown::Revoked)?])?,
        false => cas.issuing.revocation_list_for(old, &[])?,
    };
    let lists = [
        of_leaves,
        cas.intermediate.revocation_list(&[])?,
        cas.root.revocation_list(&[])?,
    ];
    Ok(json!({"inline_string": lists.concat()}))
}
