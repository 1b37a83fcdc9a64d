//! Labels and buckets: what the files say is what the module's series need.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use mtls_watch_core::metrics::{Label, REMAINING, tag_regex};
use serde_json::{Value, json};
use testbed::stats::wait_for;

use crate::kustomize::load;
use crate::proxy::Proxy;

const BUCKETS: &str = "sidecar.istio.io/statsHistogramBuckets";

fn strings(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// The tags and the buckets (an annotation) that a file of Istio's sets.
fn istio(file: &str) -> Result<(Value, String)> {
    let document = load(file)?;
    let (tags, annotations) = match file {
        "istio/values.yaml" => (
            document["meshConfig"]["defaultConfig"].clone(),
            &document["sidecarInjectorWebhook"]["injectedAnnotations"],
        ),
        _ => {
            let annotations = &document["spec"]["template"]["metadata"]["annotations"];
            let config = annotations["proxy.istio.io/config"]
                .as_str()
                .context("no configuration")?;
            (serde_yaml_ng::from_str(config)?, annotations)
        }
    };
    let buckets = annotations[BUCKETS].as_str().context("no buckets")?;
    Ok((tags["extraStatTags"].clone(), buckets.to_owned()))
}

/// The upper bounds of the histogram's buckets in an Envoy with these statistics settings.
fn bounds(stats_config: Value) -> Result<BTreeSet<String>> {
    let proxy = Proxy::start("both.yaml", |sample| {
        sample.replace("stats_config", stats_config)
    })?;
    proxy.get()?;
    let (count, bucket) = (
        format!("{}_count", REMAINING.description.name),
        format!("{}_bucket", REMAINING.description.name),
    );
    let labels = [("direction", "inbound")];
    wait_for(&proxy.envoy, &count, &labels, |count| count == 1.0)?;
    let stats = proxy.envoy.stats()?;
    let bounds = stats
        .matching(&bucket, &labels)
        .map(|series| series.label("le").to_owned());
    Ok(bounds.collect())
}

/// What Istio's agent makes of tags and the annotation (`envoy_bootstrap.json`): a regex for each tag, and
/// the key of each list of buckets as a prefix.
fn bootstrap(tags: &Value, buckets: &str) -> Result<Value> {
    let tags: Vec<Value> = strings(tags)
        .into_iter()
        .map(|tag| json!({"tag_name": tag, "regex": format!(r"({tag}=\.=(.*?);\.;)")}))
        .collect();
    let buckets: serde_json::Map<String, Value> = serde_json::from_str(buckets)?;
    let buckets: Vec<Value> = buckets
        .into_iter()
        .map(|(prefix, buckets)| json!({"match": {"prefix": prefix}, "buckets": buckets}))
        .collect();
    Ok(
        json!({"use_all_default_tags": false, "stats_tags": tags, "histogram_bucket_settings": buckets}),
    )
}

#[test]
fn istio_s_files_say_what_the_samples_say() -> Result<()> {
    let expected = bounds(load("both.yaml")?["stats_config"].clone())?;
    let (tags, buckets) = istio("istio/values.yaml")?;
    assert_eq!(
        strings(&tags),
        Label::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>()
    );
    assert_eq!(bounds(bootstrap(&tags, &buckets)?)?, expected);
    // The same for a single workload.
    assert_eq!(istio("istio/pod-annotations.yaml")?, (tags, buckets));
    Ok(())
}

#[test]
fn envoy_gateway_s_bootstrap_says_what_the_samples_say() -> Result<()> {
    let proxy = load("envoy-gateway/envoy-proxy.yaml")?;
    let value = proxy["spec"]["bootstrap"]["value"]
        .as_str()
        .context("no bootstrap")?;
    let merged: Value = serde_yaml_ng::from_str(value)?;
    let tags = merged["stats_config"]["stats_tags"]
        .as_array()
        .into_iter()
        .flatten();
    let regexes: Vec<&str> = tags.filter_map(|tag| tag["regex"].as_str()).collect();
    assert_eq!(
        regexes,
        Label::ALL
            .iter()
            .copied()
            .map(tag_regex)
            .collect::<Vec<_>>()
    );
    let expected = bounds(load("both.yaml")?["stats_config"].clone())?;
    assert_eq!(bounds(merged["stats_config"].clone())?, expected);
    Ok(())
}

/// Where the operator lists the metrics that there are (`telemetry.metrics.matches`, in Envoy an inclusion list), all of
/// the module's are hidden, unless the prefix that pod-monitor.yaml names is among them.
#[test]
fn a_list_of_metrics_needs_the_module_s_prefix() -> Result<()> {
    let monitor = testbed::workspace_root().join("envoy-config/envoy-gateway/pod-monitor.yaml");
    let monitor = std::fs::read_to_string(monitor)?;
    let (_, entry) = monitor
        .split_once("- { type: Prefix, value: ")
        .context("no prefix")?;
    let named = entry.split(' ').next().context("no value")?;
    // What the testbed waits for, beside what an operator may list.
    let listed = ["cluster", "listener_manager", "server"];
    for (more, is_seen) in [(None, false), (Some(named), true)] {
        let prefixes: Vec<&str> = listed.into_iter().chain(more).collect();
        let mut stats = load("http.yaml")?["stats_config"].clone();
        let patterns: Vec<Value> = prefixes
            .iter()
            .map(|prefix| json!({"prefix": prefix}))
            .collect();
        stats["stats_matcher"] = json!({"inclusion_list": {"patterns": patterns}});
        let proxy = Proxy::start("http.yaml", |sample| sample.replace("stats_config", stats))?;
        proxy.get()?;
        let stats = proxy.envoy.stats()?;
        let ok = [("direction", "inbound"), ("status", "ok")];
        let counted = stats.value("mtls_requests_total", &ok);
        assert_eq!(counted.is_some(), is_seen, "{prefixes:?}: {counted:?}");
    }
    Ok(())
}
