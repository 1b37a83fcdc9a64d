//! Scenario B: how the module reaches the proxies, and how it does not. Traffic goes on, whatever happens to it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mesh_tests::istio::{self, Overlay};
use mesh_tests::kubectl::kubectl;
use mesh_tests::namespace::{Namespace, Workload};
use mesh_tests::prometheus::{nothing, wait_for, wait_for_none};
use mesh_tests::registry::{self, Manners};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually};

use crate::overlays::{pair, scraped_from_now_on};

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    holds(
        "delivery::a_missing_image_stops_nothing",
        a_missing_image_stops_nothing,
    ),
    holds(
        "delivery::a_pull_secret_and_a_digest",
        a_pull_secret_and_a_digest,
    ),
    holds(
        "delivery::another_digest_stops_nothing",
        another_digest_stops_nothing,
    ),
    holds(
        "delivery::a_registry_that_is_down_stops_nothing",
        a_registry_that_is_down_stops_nothing,
    ),
    holds(
        "delivery::a_slow_registry_delays_new_pods",
        a_slow_registry_delays_new_pods,
    ),
    holds(
        "delivery::a_refused_configuration_stops_nothing",
        a_refused_configuration_stops_nothing,
    ),
    holds("delivery::an_upgrade_cuts_nothing", an_upgrade_cuts_nothing),
    holds(
        "delivery::removal_cuts_long_connections_only",
        removal_cuts_long_connections_only,
    ),
];

/// The overlay `namespace` for this one, where no other is.
fn overlay(namespace: &Namespace) -> Result<Overlay> {
    istio::watch_nothing()?;
    let mut overlay = Overlay::new("namespace");
    overlay.namespace = Some(namespace.name.clone());
    Ok(overlay)
}

fn a_missing_image_stops_nothing() -> Result<()> {
    let shop = Namespace::injected("shop-missing")?;
    let mut overlay = overlay(&shop)?;
    overlay.url = "oci://10.99.0.1:5000/mtls-watch:none".to_owned();
    overlay.apply()?;
    // These start without the module.
    pair(&shop)?;
    ensure!(
        shop.failures_during(100)? == 0,
        "calls fail for want of an image"
    );
    // What tells the operator.
    wait_for(
        &(shop.selector("istio_agent_wasm_remote_fetch_count", "result!=\"success\"") + " > 0"),
    )?;
    // And what repairs it.
    Overlay {
        url: istio::IMAGE.to_owned(),
        ..overlay
    }
    .apply()?;
    wait_for(&(shop.selector("mtls_requests_total", "status=\"ok\"") + " > 0"))?;
    ensure!(
        shop.failures_during(50)? == 0,
        "calls fail when the module comes"
    );
    Ok(())
}

/// How fetches of the image have ended, by the agents of a namespace.
fn fetches(shop: &Namespace, result: &str) -> String {
    shop.selector(
        "istio_agent_wasm_remote_fetch_count",
        &format!("result={result:?}"),
    ) + " > 0"
}

fn module_counts(shop: &Namespace) -> Result<()> {
    wait_for(&(shop.selector("mtls_requests_total", "status=\"ok\"") + " > 0")).map(drop)
}

/// From a registry that asks for a password, and the very image whose digest `make dist` writes.
fn a_pull_secret_and_a_digest() -> Result<()> {
    const PORT: u16 = 5011;
    let shop = Namespace::injected("shop-secret")?;
    let mut overlay = overlay(&shop)?;
    let digest = registry::serve(
        PORT,
        Manners {
            // mesh:watch
            authorization: Some("Basic bWVzaDp3YXRjaA==".to_owned()),
            ..Manners::default()
        },
    )?;
    overlay.url = format!("oci://10.99.0.1:{PORT}/mtls-watch:0.1.0");
    overlay.added = vec![
        ("sha256", digest.trim_start_matches("sha256:").to_owned()),
        ("imagePullSecret", "registry".to_owned()),
    ];
    pair(&shop)?;
    // Without the secret nothing is fetched.
    overlay.apply()?;
    wait_for(
        &(shop.selector(
            "istio_agent_wasm_config_conversion_count",
            "result=\"fetch_failure\"",
        ) + " > 0"),
    )?;
    ensure!(
        shop.failures_during(200)? == 0,
        "calls fail for want of a secret"
    );
    kubectl(&[
        "create",
        "secret",
        "docker-registry",
        "registry",
        "--namespace",
        &shop.name,
        &format!("--docker-server=10.99.0.1:{PORT}"),
        "--docker-username=mesh",
        "--docker-password=watch",
    ])?;
    module_counts(&shop)?;
    ensure!(
        shop.failures_during(50)? == 0,
        "calls fail when the module comes"
    );
    Ok(())
}

fn another_digest_stops_nothing() -> Result<()> {
    let shop = Namespace::injected("shop-digest")?;
    let mut overlay = overlay(&shop)?;
    overlay.added = vec![("sha256", "0".repeat(64))];
    overlay.apply()?;
    pair(&shop)?;
    wait_for(&fetches(&shop, "checksum_mismatched"))?;
    ensure!(
        shop.failures_during(50)? == 0,
        "calls fail for another digest"
    );
    nothing(&shop.selector("mtls_watch_info", ""))
}

/// And once it is there again, the next pod has the module.
fn a_registry_that_is_down_stops_nothing() -> Result<()> {
    const PORT: u16 = 5012;
    let shop = Namespace::injected("shop-down")?;
    let mut overlay = overlay(&shop)?;
    overlay.url = format!("oci://10.99.0.1:{PORT}/mtls-watch:0.1.0");
    overlay.apply()?;
    pair(&shop)?;
    wait_for(&fetches(&shop, "manifest_failure"))?;
    ensure!(
        shop.failures_during(50)? == 0,
        "calls fail without a registry"
    );
    registry::serve(PORT, Manners::default())?;
    shop.restart(&["server", "client"])?;
    module_counts(&shop)
}

/// A running pod goes on meanwhile; a new one waits.
fn a_slow_registry_delays_new_pods() -> Result<()> {
    const PORT: u16 = 5013;
    const DELAY: Duration = Duration::from_secs(4);
    let shop = Namespace::injected("shop-slow")?;
    let mut overlay = overlay(&shop)?;
    pair(&shop)?;
    let manners = Manners {
        delay: DELAY,
        ..Manners::default()
    };
    registry::serve(PORT, manners)?;
    overlay.url = format!("oci://10.99.0.1:{PORT}/mtls-watch:0.1.0");
    overlay.apply()?;
    ensure!(
        shop.failures_during(100)? == 0,
        "calls fail while the image is fetched"
    );
    module_counts(&shop)?;
    let start = Instant::now();
    shop.restart(&["client"])?;
    shop.call_until_ok("client", "http://server.shop-slow/")?;
    module_counts(&shop)?;
    println!(
        "  a new pod took {:.0} s with a registry that takes {} s a reply",
        start.elapsed().as_secs_f64(),
        DELAY.as_secs()
    );
    Ok(())
}

fn a_refused_configuration_stops_nothing() -> Result<()> {
    let shop = Namespace::injected("shop-refused")?;
    let mut overlay = overlay(&shop)?;
    overlay.plugin_config = Some("{nonsense: 1}".to_owned());
    overlay.apply()?;
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
    for target in [
        "http://server.shop-refused/",
        "tcp://server.shop-refused:7000",
    ] {
        // New pods get the configuration in their first seconds: it takes many calls.
        shop.call_until_ok("client", target)?;
        (0..100).try_for_each(|_| shop.call("client", target))?;
    }
    wait_for(&(shop.selector("mtls_watch_configuration_errors", "") + " > 0"))?;
    // And what repairs it.
    Overlay {
        plugin_config: None,
        ..overlay
    }
    .apply()?;
    wait_for_none(&(shop.selector("mtls_watch_configuration_errors", "") + " > 0"))?;
    shop.call("client", "http://server.shop-refused/")
}

/// To another version and back, and to another configuration and back, under load.
fn an_upgrade_cuts_nothing() -> Result<()> {
    let shop = Namespace::injected("shop-upgrade")?;
    let mut overlay = overlay(&shop)?;
    overlay.apply()?;
    long_and_short(&shop)?;
    let runs = |version: &str, shop: &Namespace| {
        let ticks = |version| shop.selector("mtls_watch_info", &format!("version={version:?}"));
        // The series of the other version stays: Envoy never deletes one.
        wait_for(&format!("count({} == 1) == 2", ticks(version)))
    };
    runs("0.1.0", &shop)?;
    wait_for(&(shop.selector("mtls_requests_total", "status=\"ok\"") + " > 0"))?;
    let failed = shop.calls("failed")?;
    let goes_on = |what: &str| -> Result<()> {
        let more = shop.failures_during(200)? + shop.calls("failed")? - failed;
        ensure!(more == 0, "{more} calls failed with {what}");
        Ok(())
    };

    overlay.url = istio::NEXT_IMAGE.to_owned();
    overlay.apply()?;
    runs("0.1.1", &shop)?;
    goes_on("a new url")?;
    it_counts_on(&shop)?;

    overlay.plugin_config = Some(istio::PLUGIN_CONFIG.replace("5s", "6s"));
    overlay.apply()?;
    goes_on("a new configuration")?;
    it_counts_on(&shop)?;

    overlay.url = istio::IMAGE.to_owned();
    overlay.plugin_config = None;
    overlay.apply()?;
    goes_on("the old version again")?;
    it_counts_on(&shop)
}

/// The counters go on from where they were.
fn it_counts_on(shop: &Namespace) -> Result<()> {
    let inbound = "pod=~\"server-.*\", direction=\"inbound\", status=\"ok\"";
    let ok = shop.selector("mtls_requests_total", inbound);
    let before = scraped_from_now_on(&ok)?;
    wait_for(&format!("{ok} > {before}")).map(drop)
}

/// Connections of every kind: new ones, and those that stay open.
fn long_and_short(shop: &Namespace) -> Result<()> {
    let server = format!("server.{}", shop.name);
    let targets = [
        format!("http://{server}/"),
        format!("grpc://{server}:9090"),
        format!("tcp://{server}:7000"),
        format!("kept-tcp://{server}:7000"),
    ];
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    shop.start(&[
        Workload {
            name: "server",
            ..Workload::default()
        },
        Workload {
            name: "client",
            targets: &targets,
            ..Workload::default()
        },
    ])?;
    targets
        .iter()
        .try_for_each(|target| shop.call_until_ok("client", target))
}

/// The listeners change: what is open on them is closed after the drain time of 45 s.
fn removal_cuts_long_connections_only() -> Result<()> {
    let shop = Namespace::injected("shop-removal")?;
    let overlay = overlay(&shop)?;
    overlay.apply()?;
    long_and_short(&shop)?;
    wait_for(&(shop.selector("mtls_requests_total", "status=\"ok\"") + " > 0"))?;
    let before = shop.calls_by_target("failed")?;
    let failed = || -> Result<Vec<String>> {
        let now = shop.calls_by_target("failed")?.into_iter();
        let more = now.filter(|(target, count)| *count > before.get(target).copied().unwrap_or(0));
        Ok(more.map(|(target, _)| target).collect())
    };
    overlay.delete()?;
    let cut = eventually(DEADLINE, || {
        let failed = failed()?;
        ensure!(!failed.is_empty(), "nothing is cut");
        Ok(failed)
    })?;
    // Ordinary requests and new connections: not one has failed, and none does later.
    ensure!(shop.failures_during(100)? <= 1, "calls go on failing");
    ensure!(
        cut.iter()
            .chain(&failed()?)
            .all(|target| target.starts_with("kept-tcp")),
        "more than long TCP connections is cut: {cut:?}"
    );
    let plugins = kubectl(&["get", "wasmplugins", "--all-namespaces", "--output", "name"])?;
    ensure!(plugins.is_empty(), "plugins are left: {plugins}");
    Ok(())
}
