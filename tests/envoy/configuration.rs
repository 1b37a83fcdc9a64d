//! What Envoy does with a configuration of the module.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::{Client, Envoy};

use crate::setup::{CONFIGURATION_ERRORS, CONNECTIONS, INBOUND, Pki, Proxy, REQUESTS};

/// Wrong configurations, the number of their errors, and the beginning of the first one.
const WRONG: [(&str, f64, &str); 6] = [
    (r#"{"treshold": 1}"#, 1.0, "treshold: 1: unknown key"),
    (
        r#"{"thresholds": {"issuing_ca": {"warning": ["30d", "16 %"]}}}"#,
        1.0,
        r#"thresholds.issuing_ca.warning[1]: "16 %": expected a duration"#,
    ),
    // What would refuse every client if it applied: a list with a wrong item does not, not even in part.
    (
        r#"{"deny": ["leaf_is_ca", "expire"], "hierarchy": {"interval": "1s"}, "identity_series": 1.5}"#,
        3.0,
        r#"deny[1]: "expire": expected one of"#,
    ),
    (
        r#"{"deny": 1, "deny": []}"#,
        1.0,
        "deny: []: the key is given twice",
    ),
    (
        "identity_series: 7",
        1.0,
        "configuration: identity_series: 7: not JSON",
    ),
    ("{", 1.0, "configuration: {: not JSON"),
];

/// Envoy would leave a hole in the filter chain in place of a filter that refuses: every request would fail.
#[test]
fn that_is_wrong_loads_and_lets_every_request_pass() -> Result<()> {
    let pki = Pki::new()?;
    let client = Client::mtls(&pki.pay().ca_flag().issue()?);
    for (configuration, errors, complaint) in WRONG {
        let sample = pki.sample("http.yaml")?.configuration(configuration);
        Envoy::validate(&sample.yaml()?)?;
        let proxy = Proxy::http(sample)?;
        for _ in 0..3 {
            proxy.get(&client).context(configuration)?;
        }
        let critical = [INBOUND, ("status", "critical")];
        assert_eq!(proxy.stats()?.value(REQUESTS, &critical), Some(3.0));
        is_told(&proxy, errors, complaint)?;
    }
    Ok(())
}

#[test]
fn that_is_wrong_loads_and_lets_every_connection_pass() -> Result<()> {
    let pki = Pki::new()?;
    let client = Client::mtls(&pki.pay().ca_flag().issue()?);
    for (configuration, errors, complaint) in WRONG {
        let sample = pki.sample("network.yaml")?.configuration(configuration);
        Envoy::validate(&sample.yaml()?)?;
        let proxy = Proxy::tcp(sample)?;
        for _ in 0..3 {
            proxy.echo(&client).context(configuration)?;
        }
        let mtls = [INBOUND, ("security", "mtls")];
        assert_eq!(proxy.stats()?.value(CONNECTIONS, &mtls), Some(3.0));
        is_told(&proxy, errors, complaint)?;
    }
    Ok(())
}

/// The gauge has the number of errors, and the log has each at level error.
fn is_told(proxy: &Proxy, errors: f64, complaint: &str) -> Result<()> {
    let stats = proxy.stats()?;
    assert_eq!(stats.value(CONFIGURATION_ERRORS, &[]), Some(errors));
    let line = proxy
        .envoy
        .wait_for_log("mtls-watch: configuration error: ")?;
    ensure!(line.contains("[error]"), "{line}");
    ensure!(line.contains(complaint), "{line}");
    ensure!(line.contains("; the default applies"), "{line}");
    Ok(())
}

/// None, an empty one, `{}`, and the defaults as documented: all the same.
#[test]
fn may_be_absent() -> Result<()> {
    const DOCUMENTED: &str = r#"{
        "thresholds": {
            "workload":        {"warning": ["21d", "25%"],   "critical": ["7d", "12.5%"]},
            "issuing_ca":      {"warning": ["30d", "16%"],   "critical": ["7d", "8%"]},
            "intermediate_ca": {"warning": ["60d", "16%"],   "critical": ["30d", "8%"]},
            "root_ca":         {"warning": ["180d", "16%"],  "critical": ["90d", "8%"]}
        },
        "identity_series": 100,
        "certificate_sources": ["attribute", "filter_state", "xfcc"],
        "filter_state_key": "mtls_watch.peer_certificate",
        "strip_xfcc_certificates": true,
        "identity": "full",
        "certificate_addresses": 256,
        "ignore": [],
        "flag": {"request_header": "", "response_header": ""},
        "deny": [],
        "log_repeat": "1h"
    }"#;
    let pki = Pki::new()?;
    let sample = || pki.sample("http.yaml");
    for sample in [
        sample()?.remove("configuration"),
        sample()?.configuration(""),
        sample()?.configuration("{}"),
        sample()?.configuration(DOCUMENTED),
    ] {
        let proxy = Proxy::http(sample)?;
        proxy.get(&pki.client()?)?;
        let ok = [INBOUND, ("status", "ok")];
        assert_eq!(proxy.stats()?.value(REQUESTS, &ok), Some(1.0));
        assert_eq!(proxy.stats()?.value(CONFIGURATION_ERRORS, &[]), Some(0.0));
    }
    Ok(())
}

/// Two filters in one VM, each with its own: the HTTP filter refuses what the network filter lets
/// through, and only counts.
#[test]
fn is_each_filters_own() -> Result<()> {
    let pki = Pki::new()?;
    let configuration = testbed::sample::yaml(json!({
        "@type": "type.googleapis.com/google.protobuf.StringValue",
        "value": r#"{"deny": ["leaf_is_ca"]}"#,
    }));
    let sample = pki.sample("both.yaml")?.edit(|node| {
        if node
            .get("name")
            .is_some_and(|name| name == "envoy.filters.http.wasm")
        {
            node["typed_config"]["config"]["configuration"] = configuration.clone();
        }
    });
    let proxy = Proxy::http(sample)?;
    let client = Client::mtls(&pki.pay().ca_flag().issue()?);
    assert_eq!(client.get(proxy.port, "/", &[])?.status, 403);
    let mtls = [INBOUND, ("security", "mtls")];
    assert_eq!(proxy.stats()?.value(CONNECTIONS, &mtls), Some(1.0));
    Ok(())
}
