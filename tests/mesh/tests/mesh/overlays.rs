//! Scenario A: what is applied as the documentation says, and what then is to be seen at Prometheus.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::{http_get, nothing, query, wait_for};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, istio, mesh_config};

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    holds(
        "overlays::mesh_names_clients_and_servers",
        mesh_names_clients_and_servers,
    ),
    holds(
        "overlays::traffic_extension_is_the_same",
        traffic_extension_is_the_same,
    ),
    holds(
        "overlays::annotations_make_the_same_labels",
        annotations_make_the_same_labels,
    ),
    holds(
        "overlays::the_pod_monitor_makes_the_same_labels",
        the_pod_monitor_makes_the_same_labels,
    ),
    holds("overlays::xfcc_shows_the_chain", xfcc_shows_the_chain),
    holds(
        "overlays::xfcc_beside_the_mesh_counts_once",
        xfcc_beside_the_mesh_counts_once,
    ),
    holds("overlays::two_plugins_count_once", two_plugins_count_once),
];

/// A server, and a client that calls it in every way.
pub(crate) fn pair(namespace: &Namespace) -> Result<()> {
    pair_with(namespace, "")
}

/// The same, with proxies that are configured so.
pub(crate) fn pair_with(namespace: &Namespace, proxy_config: &str) -> Result<()> {
    let server = |scheme: &str, port: u16| format!("{scheme}://server.{}:{port}", namespace.name);
    let targets = [
        server("http", 80),
        server("grpc", 9090),
        server("tcp", 7000),
        server("greeting", 7001),
    ];
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    namespace.start(&[
        Workload {
            name: "server",
            proxy_config,
            ..Workload::default()
        },
        Workload {
            name: "client",
            targets: &targets,
            proxy_config,
        },
    ])?;
    for target in targets {
        namespace.call_until_ok("client", target)?;
    }
    Ok(())
}

fn mesh_names_clients_and_servers() -> Result<()> {
    let shop = Namespace::injected("shop")?;
    pair(&shop)?;
    istio::watch_the_mesh()?;
    both_sides_are_named(&shop)
}

/// The same plugins as TrafficExtensions, in the stead of the overlay.
fn traffic_extension_is_the_same() -> Result<()> {
    let shop = Namespace::injected("shop-extension")?;
    pair(&shop)?;
    istio::watch_nothing()?;
    istio::Overlay::new("traffic-extension").apply()?;
    both_sides_are_named(&shop)
}

/// The clients and servers of a [`pair`], in a sound mesh.
fn both_sides_are_named(shop: &Namespace) -> Result<()> {
    let spiffe = |account: &str| format!("spiffe://cluster.local/ns/{}/sa/{account}", shop.name);
    for (pod, direction, peer) in [
        ("server", "inbound", "client"),
        ("client", "outbound", "server"),
    ] {
        let of = |labels: &str| format!("pod=~\"{pod}-.*\", direction={direction:?}, {labels}");
        for expression in [
            shop.selector("mtls_connections_total", &of("security=\"mtls\"")) + " > 0",
            shop.selector("mtls_requests_total", &of("status=\"ok\"")) + " > 0",
            shop.selector(
                "mtls_peer_certificate_not_after_timestamp_seconds",
                &of(&format!("layer=\"workload\", identity={:?}", spiffe(peer))),
            ) + " > time()",
            shop.selector(
                "mtls_connections_by_issuer_total",
                &of("issuer=~\".+:[0-9a-f]{8}\""),
            ) + " > 0",
        ] {
            wait_for(&expression)?;
        }
        let own = format!(
            "pod=~\"{pod}-.*\", layer=\"workload\", secret=\"default\", identity={:?}",
            spiffe(pod)
        );
        wait_for(&shop.selector("mtls_own_certificate_not_after_timestamp_seconds", &own))?;
        wait_for(&shop.selector(
            "mtls_trust_bundle_ca",
            &format!("pod=~\"{pod}-.*\", ca=~\".+:[0-9a-f]{{8}}\""),
        ))?;
    }
    // A sound mesh: nothing is refused, nothing is found, no call has failed.
    nothing(&(shop.selector("mtls_handshake_failures_total", "") + " > 0"))?;
    nothing(
        &(shop.selector(
            "mtls_connection_findings_total",
            "finding!=\"connection_outlives_certificate\"",
        ) + " > 0"),
    )?;
    ensure!(
        shop.failures_during(100)? == 0,
        "calls of a sound mesh fail"
    );
    no_label_is_left_in_a_name(shop)
}

/// The tags of values.yaml have made labels of all that the module has put into names.
fn no_label_is_left_in_a_name(namespace: &Namespace) -> Result<()> {
    let named = format!(
        "{{namespace={:?}, __name__=~\".+___.*mtls_.+\"}}",
        namespace.name
    );
    nothing(&named)
}

/// What a workload's series are called, without what is this pod's own.
fn shape(namespace: &Namespace, workload: &str) -> Result<BTreeSet<String>> {
    let expression = format!(
        "{{namespace={:?}, pod=~\"{workload}-.*\", __name__=~\"mtls_.*\"}}",
        namespace.name
    );
    let series = query(&expression)?;
    let own = |name: &str| !matches!(name, "instance" | "pod" | "identity" | "le");
    let series = series.iter().map(|sample| {
        let labels = sample.labels.iter().filter(|(name, _)| own(name));
        labels
            .map(|(name, value)| format!("{name}={value} "))
            .collect()
    });
    Ok(series.collect())
}

fn annotations_make_the_same_labels() -> Result<()> {
    let shop = Namespace::injected("shop-annotated")?;
    istio::watch_the_mesh()?;
    let targets = ["http://server.shop-annotated/"];
    let workload = |name| Workload {
        name,
        targets: &targets,
        ..Workload::default()
    };
    shop.start(&[workload("server"), workload("plain"), workload("annotated")])?;
    istio::annotate_as_documented("shop-annotated", "annotated")?;
    shop.wait()?;
    eventually(DEADLINE, || {
        let (plain, annotated) = (shape(&shop, "plain")?, shape(&shop, "annotated")?);
        let differ: Vec<_> = plain.symmetric_difference(&annotated).collect();
        ensure!(
            plain.len() > 20 && differ.is_empty(),
            "{} series; these differ: {differ:#?}",
            plain.len()
        );
        Ok(())
    })
}

/// Proxies that started without stats tags, and whose labels are made at the scrape. The characters that a metric's
/// name cannot have are lost in values.
fn the_pod_monitor_makes_the_same_labels() -> Result<()> {
    let (tagged, untagged) = (
        Namespace::injected("shop-tagged")?,
        Namespace::injected("shop-untagged")?,
    );
    istio::watch_the_mesh()?;
    pair(&tagged)?;
    mesh_config::remove_list("extraStatTags")?;
    pair(&untagged)?;
    let client = untagged.address("client")?;
    let raw = http_get(&format!("http://{client}:15090/stats/prometheus"))?;
    ensure!(
        raw.contains("direction___outbound___status___ok___mtls_requests_total"),
        "this proxy has tags"
    );
    let flat = |workload: &str, shop| -> Result<BTreeSet<String>> {
        let name = |character: char| match character {
            '=' | ' ' => character,
            other if other.is_ascii_alphanumeric() => other,
            _ => '_',
        };
        let series = shape(shop, workload)?.into_iter();
        let of = format!("namespace={} ", shop.name);
        Ok(series
            .map(|series| series.replace(&of, "").chars().map(name).collect())
            .collect())
    };
    for workload in ["client", "server"] {
        eventually(DEADLINE, || {
            let (tagged, untagged) = (flat(workload, &tagged)?, flat(workload, &untagged)?);
            let differ: Vec<_> = tagged.symmetric_difference(&untagged).collect();
            ensure!(
                tagged.len() > 20 && differ.is_empty(),
                "{} series; these differ: {differ:#?}",
                tagged.len()
            );
            Ok(())
        })?;
    }
    no_label_is_left_in_a_name(&untagged)
}

/// The value of a counter as of a scrape that has yet to come.
pub(crate) fn scraped_from_now_on(counter: &str) -> Result<f64> {
    let now = query("vector(time())")?.first().context("no time")?.value;
    let samples = wait_for(&format!("{counter} and timestamp({counter}) > {now} + 1"))?;
    Ok(samples.first().context("no count")?.value)
}

const READ_FROM_XFCC: &str = "pod=~\"server-.*\", source=\"xfcc\", result=\"ok\"";

/// The overlay xfcc of a namespace, where nothing else is.
fn xfcc_shows_the_chain() -> Result<()> {
    let shop = Namespace::injected("shop-xfcc")?;
    istio::watch_nothing()?;
    let mut overlay = istio::Overlay::new("xfcc");
    overlay.namespace = Some(shop.name.clone());
    overlay.apply()?;
    pair(&shop)?;
    wait_for(&(shop.selector("mtls_watch_inspections_total", READ_FROM_XFCC) + " > 0"))?;
    both_sides_are_named(&shop)
}

/// Its part without plugins, in a mesh that is watched.
fn xfcc_beside_the_mesh_counts_once() -> Result<()> {
    let shop = Namespace::injected("shop-beside")?;
    istio::watch_the_mesh()?;
    let mut overlay = istio::Overlay::new("xfcc-chain");
    overlay.namespace = Some(shop.name.clone());
    overlay.apply()?;
    pair(&shop)?;
    wait_for(&(shop.selector("mtls_watch_inspections_total", READ_FROM_XFCC) + " > 0"))?;
    both_sides_are_named(&shop)
}

/// The overlay of a namespace beside the one of the mesh.
fn two_plugins_count_once() -> Result<()> {
    let shop = Namespace::injected("shop-twice")?;
    istio::watch_the_mesh()?;
    let mut second = istio::Overlay::new("namespace");
    second.namespace = Some(shop.name.clone());
    second.apply()?;
    shop.start(&[
        Workload {
            name: "server",
            ..Workload::default()
        },
        Workload {
            name: "client",
            ..Workload::default()
        },
    ])?;
    shop.call_until_ok("client", "http://server.shop-twice/")?;
    let count = shop.selector(
        "mtls_requests_total",
        "pod=~\"server-.*\", direction=\"inbound\", status=\"ok\"",
    );
    let before = scraped_from_now_on(&count)?;
    for _ in 0..10 {
        shop.call("client", "http://server.shop-twice/")?;
    }
    let after = scraped_from_now_on(&count)?;
    let times = after - before;
    ensure!(times == 10.0, "10 requests were counted {times} times");
    wait_for(&(shop.selector("mtls_watch_duplicate_plugins", "pod=~\"server-.*\"") + " == 1"))
        .map(drop)
}
