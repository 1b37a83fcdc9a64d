//! What Envoy does with a configuration of the module.

use anyhow::{Result, bail};
use serde_json::json;
use testbed::{Client, Envoy};

use crate::setup::{CONNECTIONS, INBOUND, Pki, Proxy, REQUESTS};

/// Envoy neither starts with it nor finds it valid, `FAIL_OPEN` or not, and says once where the
/// mistake is and what stands there.
#[test]
fn is_refused_with_the_path_and_the_value() -> Result<()> {
    let pki = Pki::new()?;
    for (file, configuration, complaint) in [
        ("http.yaml", r#"{"treshold": 1}"#, "treshold: 1: "),
        (
            "http.yaml",
            r#"{"thresholds": {"issuing_ca": {"warning": ["30d", "16 %"]}}}"#,
            r#"thresholds.issuing_ca.warning[1]: "16 %": "#,
        ),
        (
            "network.yaml",
            r#"{"deny": ["expire"]}"#,
            r#"deny[0]: "expire": "#,
        ),
        ("network.yaml", "identity_series: 7", "identity_series: 7: "),
    ] {
        let sample = pki.sample(file)?.configuration(configuration);
        let started = sample.start(1).map(drop);
        for outcome in [started, Envoy::validate(&sample.yaml()?)] {
            let Err(error) = outcome else {
                bail!("{configuration} was accepted");
            };
            let error = format!("{error:#}");
            let lines: Vec<&str> = error
                .lines()
                .filter(|line| line.contains("mtls-watch"))
                .collect();
            assert_eq!(lines.len(), 1, "{error}");
            assert!(lines[0].contains("[error]"), "{error}");
            assert!(lines[0].contains(complaint), "{error}");
        }
    }
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
