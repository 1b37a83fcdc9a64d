//! Without stats tags: a real Prometheus gets from the flattened names of a real Envoy, by the rules
//! that `mtls-watch stats-tags` prints, what it gets from one with tags.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value as Json, json};
use testbed::prometheus::Prometheus;
use testbed::sample::{Value, yaml};
use testbed::stats::{Series, eventually};
use testbed::{Client, Envoy, Lifetime, Server};

use crate::setup::{PAY, Pki};

/// A poll of the hierarchy is a tick, and a scrape comes after it.
const DEADLINE: Duration = Duration::from_secs(40);

/// The tags that every Envoy of Istio has, as in its bootstrap template.
fn istio_s_tags() -> Vec<Value> {
    [
        ("cache", r"(cache\.(.+?)\.)"),
        ("component", r"(component\.(.+?)\.)"),
        ("tag", r"(tag\.(.+?);\.)"),
        ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
        ("cluster_name", r"^cluster(\.(.+);)"),
        ("response_code", r"_rq(_(\d{3}))$"),
        ("response_code_class", r"_rq(_(\dxx))$"),
        ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ]
    .map(|(name, regex)| yaml(json!({"tag_name": name, "regex": regex})))
    .into()
}

/// Identities into which Istio's tags cut.
const CACHE: &str = "spiffe://cluster.local/ns/shop/sa/redis-cache.eu.pay";
const TAG: &str = "spiffe://cluster.local/ns/shop/sa/stag.pay";
const REFUSED: &str = "spiffe://cluster.local/ns/shop/sa/late";

/// A sidecar of Istio's: with the tags of mtls-watch (`extraStatTags`), or without.
fn sidecar(pki: &Pki, app: &Server, tagged: bool) -> Result<Envoy> {
    let sample = pki
        .sample("sidecar.yaml")?
        .configuration(r#"{"hierarchy": {"interval": "5s"}}"#)
        .upstream("app_http", app.port());
    let sample = sample.edit(|node| {
        if let Some(config) = node.get_mut("stats_config") {
            let mut tags = istio_s_tags();
            if tagged {
                tags.extend(
                    config["stats_tags"]
                        .as_sequence()
                        .cloned()
                        .unwrap_or_default(),
                );
            }
            config["stats_tags"] = Value::Sequence(tags);
            config["use_all_default_tags"] = Value::Bool(false);
        }
    });
    let envoy = sample.start(1)?;
    let port = envoy.listener_port("inbound_http")?;
    for identity in [PAY, CACHE, TAG] {
        let leaf = pki.cas.leaf().uri(identity).issue()?;
        ensure!(Client::mtls(&leaf).get(port, "/", &[])?.status == 200);
    }
    let expired = pki
        .cas
        .leaf()
        .uri(REFUSED)
        .lifetime(Lifetime::from_now(-7200, -3600));
    let refused = Client::mtls(&expired.issue()?).get(port, "/", &[]);
    ensure!(refused.is_err(), "an expired certificate was accepted");
    Ok(envoy)
}

fn rules() -> Result<Json> {
    let output =
        mtls_watch_cli::execute(["mtls-watch", "stats-tags", "--format", "prometheus-relabel"]);
    let document: Json = serde_yaml_ng::from_str(&output.text)?;
    Ok(document["metric_relabel_configs"].clone())
}

fn job(name: &str, envoy: &Envoy, rules: Json) -> Json {
    json!({
        "job_name": name,
        "metrics_path": "/stats/prometheus",
        "static_configs": [{"targets": [envoy.admin().to_string()]}],
        "metric_relabel_configs": rules,
    })
}

type Row = (String, BTreeMap<String, String>);

/// Name and labels of every series of a job, but for those that have a tag of Istio's.
fn rows(prometheus: &Prometheus, job: &str) -> Result<BTreeSet<Row>> {
    let query = format!(
        r#"{{__name__=~".*mtls_.*", __name__!~"envoy_.*", job="{job}", cache="", tag=""}}"#
    );
    let row = |mut series: Series| {
        series
            .labels
            .retain(|key, _| key != "job" && key != "instance");
        (series.name, series.labels)
    };
    Ok(prometheus.query(&query)?.into_iter().map(row).collect())
}

/// What is left of the labels of a series with tags, where there are none.
fn flattened((name, mut labels): Row) -> Row {
    let is_ca = labels.get("layer").is_some_and(|layer| layer != "workload");
    for (key, value) in &mut labels {
        let (text, digits) = match value.rsplit_once(':') {
            Some((text, digits)) if is_ca || key == "issuer" || key == "ca" => (text, Some(digits)),
            _ => (value.as_str(), None),
        };
        if ["identity", "secret", "issuer", "ca", "trust_domain"].contains(&key.as_str()) {
            let text = text.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            *value = digits.map_or(text.clone(), |digits| format!("{text}:{digits}"));
        }
    }
    (name, labels)
}

#[test]
fn gives_prometheus_the_series_of_an_envoy_with_tags() -> Result<()> {
    let pki = Pki::new()?;
    let app = Server::http_echo(None)?;
    let with = sidecar(&pki, &app, true)?;
    let without = sidecar(&pki, &app, false)?;
    let configuration = json!({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [job("with", &with, json!([])), job("without", &without, rules()?)],
    });
    let prometheus = Prometheus::start(&configuration.to_string(), &[])?;
    eventually(DEADLINE, || {
        let expected: BTreeSet<Row> = rows(&prometheus, "with")?
            .into_iter()
            .map(flattened)
            .collect();
        let names: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        // The last to come: own certificates need a poll.
        for name in ["mtls_trust_bundle_ca", "mtls_handshake_failures_total"] {
            ensure!(names.contains(name), "no {name} yet: {names:?}");
        }
        let found = rows(&prometheus, "without")?;
        let missing: Vec<_> = expected.difference(&found).collect();
        let more: Vec<_> = found.difference(&expected).collect();
        ensure!(
            missing.is_empty() && more.is_empty(),
            "{missing:#?} missing, {more:#?} too many"
        );
        ensure!(names.len() >= 18, "{names:?}");
        Ok(())
    })?;

    // Istio's own tags take their part: beside the identity where there is a tag for that, out of it
    // where there is none; one of them with the end of the label.
    let name = "mtls_peer_certificate_not_after_timestamp_seconds";
    let cut_off = format!("identity___spiffe___cluster_local_ns_shop_sa_s_{name}");
    for (job, name, tag, identity) in [
        ("with", name, r#"cache="eu""#, CACHE),
        (
            "without",
            name,
            r#"cache="eu""#,
            "spiffe___cluster_local_ns_shop_sa_redis_pay",
        ),
        ("with", name, r#"tag="pay""#, TAG),
        ("without", &cut_off, r#"tag="pay""#, ""),
    ] {
        let found = prometheus.query(&format!(r#"{name}{{job="{job}", {tag}}}"#))?;
        ensure!(
            found.len() == 1 && found[0].label("identity") == identity,
            "{job} {tag}: {found:?}"
        );
    }
    Ok(())
}
