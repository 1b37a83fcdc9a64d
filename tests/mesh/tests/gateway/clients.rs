//! Who connects and who is refused, by the network filter; and the clients' chains.

use anyhow::{Context, Result, ensure};
use mesh_tests::gateway::page::Page;
use mesh_tests::gateway::shop::{HOST, Shop};
use mesh_tests::kubectl::apply;
use mesh_tests::probe::{Credentials, reply};
use mesh_tests::prometheus::{nothing, query, wait_for};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually};
use pki::{Ca, ExtendedKeyUsage};

use crate::page::proxies;
use crate::policies::{becomes_invalid, counted, set_tag};
use crate::{installed, installed_for_connections};

pub(crate) const SCENARIOS: &[Scenario] = &[
    holds("clients::the_refused_are_named", the_refused_are_named),
    holds("clients::each_is_counted_once", each_is_counted_once),
    holds(
        "clients::connections_are_counted_without_the_policy",
        connections_are_counted_without_the_policy,
    ),
    holds("clients::chains_come_by_a_patch", chains_come_by_a_patch),
    holds("clients::backends_get_no_chain", backends_get_no_chain),
];

/// Who, why, and whose thing must be changed.
fn the_refused_are_named() -> Result<()> {
    let shop = installed_for_connections()?;
    let foreign = Ca::root("Vendor CA")
        .issue()?
        .leaf()
        .dns("orders.vendor.example")
        .issue()?;
    let server_only = shop
        .client("server-only.example.com")
        .extended_key_usages(&[ExtendedKeyUsage::ServerAuth])
        .issue()?;
    let refused = [
        (
            "expired",
            "workload",
            "peer",
            Some(shop.expired()?),
            "expired.example.com",
        ),
        (
            "unknown_ca",
            "workload",
            "peer",
            Some(Credentials::of(&foreign)?),
            "orders.vendor.example",
        ),
        (
            "client_auth_missing",
            "workload",
            "peer",
            Some(Credentials::of(&server_only)?),
            "server-only.example.com",
        ),
        ("no_certificate", "none", "peer", None, ""),
    ];
    for (reason, layer, holder, shown, name) in &refused {
        let told = eventually(DEADLINE, || {
            let outcome = reply(&shop.address()?, HOST, "/", shown.as_ref());
            ensure!(outcome.is_err(), "{reason}: this client was let in");
            let labels = format!("direction=\"inbound\", reason={reason:?}");
            let found = query(&(proxies("mtls_handshake_failures_total", &labels) + " > 0"))?;
            let found = found
                .into_iter()
                .next()
                .with_context(|| format!("no {reason}"))?;
            let log = shop.module_log()?;
            let line = log
                .lines()
                .find(|line| line.contains(&format!("reason={reason} ")));
            let line = line
                .with_context(|| format!("no line of {reason}: {log}"))?
                .to_owned();
            Ok((found, line))
        })?;
        let (found, line) = told;
        ensure!(
            found.label("layer") == *layer && found.label("holder") == *holder,
            "{found}"
        );
        ensure!(line.contains(name), "{name} is not named: {line}");
    }
    Ok(())
}

/// Both filters are there, in one VM: a connection and its request are counted once each.
fn each_is_counted_once() -> Result<()> {
    let shop = installed_for_connections()?;
    let partner = shop.partner()?;
    let mtls = MTLS;
    let ok = "mtls_requests_total{direction=\"inbound\",status=\"ok\"} ";
    let count = |series: &str| count(shop, series);
    eventually(DEADLINE, || {
        shop.get("/", &partner)?;
        count(mtls).and(count(ok)).map(drop)
    })?;
    let before = (count(mtls)?, count(ok)?);
    for _ in 0..10 {
        shop.get("/", &partner)?;
    }
    eventually(DEADLINE, || {
        let more = (count(mtls)? - before.0, count(ok)? - before.1);
        ensure!(
            more == (10.0, 10.0),
            "of 10 connections and requests: {more:?}"
        );
        Ok(())
    })?;
    nothing(&(proxies("mtls_watch_duplicate_plugins", "") + " > 0"))
}

const MTLS: &str = "mtls_connections_total{direction=\"inbound\",security=\"mtls\"} ";

/// As the proxy itself says.
fn count(shop: &Shop, series: &str) -> Result<f64> {
    let stats = shop.stats()?;
    let value = stats.lines().find_map(|line| line.strip_prefix(series));
    Ok(value.context(series.to_owned())?.parse()?)
}

/// A policy that became Invalid takes out the filter of requests alone: `mtls_watch_info` stays 1, rightly, and nothing but
/// the standstill of `mtls_requests_total` tells.
fn connections_are_counted_without_the_policy() -> Result<()> {
    let shop = installed_for_connections()?;
    let partner = shop.partner()?;
    counted(shop)?;
    becomes_invalid(shop)?;
    let before = count(shop, MTLS)?;
    let outcome = eventually(DEADLINE, || {
        shop.get("/", &partner)?;
        ensure!(count(shop, MTLS)? > before, "connections are not counted");
        ensure!(
            shop.stats()?.contains("mtls_watch_info{version="),
            "no mtls_watch_info"
        );
        Ok(())
    });
    set_tag(shop, "0.1.0")?;
    counted(shop)?;
    outcome
}

/// A policy beside the one that verifies clients is in conflict with it; a patch of that one is not.
fn chains_come_by_a_patch() -> Result<()> {
    let shop = installed()?;
    let conflicted = |name: &str| -> Result<bool> {
        let (status, reason) = shop.condition("clienttrafficpolicy", name, "Accepted")?;
        Ok(status == "False" && reason == "Conflicted")
    };
    apply(
        "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: second, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: ingress}]
  headers: {xForwardedClientCert: {mode: SanitizeSet, certDetailsToAdd: [Cert, Chain]}}
",
    )?;
    eventually(DEADLINE, || {
        ensure!(conflicted("second")?, "two policies are not in conflict");
        Ok(())
    })?;
    shop.kubectl(&["delete", "clienttrafficpolicy", "second"])?;

    let partner = shop.partner()?;
    let mut is_first = true;
    Page::checkout()?.follow("The clients' chains", |_| {
        ensure!(!conflicted("clients")?, "the policy is in conflict");
        if std::mem::take(&mut is_first) {
            the_module_reads_the_chain(shop, &partner)?;
        }
        Ok(())
    })?;
    // And the last command is the way back.
    eventually(DEADLINE, || {
        let seen = shop.get("/", &partner)?;
        ensure!(
            !seen.contains("Hash="),
            "backends get the header still: {seen}"
        );
        Ok(())
    })
}

/// And backends get who it was, without certificates.
fn the_module_reads_the_chain(shop: &Shop, partner: &Credentials) -> Result<()> {
    let issuing = "direction=\"inbound\", layer=\"issuing_ca\", identity=~\"Client_Issuing_CA:.*\"";
    eventually(DEADLINE, || {
        let seen = shop.get("/", partner)?;
        ensure!(seen.contains("Hash="), "no header: {seen}");
        ensure!(
            !has_certificates(&seen),
            "the backend gets certificates: {seen}"
        );
        let read = "mtls_peer_certificate_not_after_timestamp_seconds";
        ensure!(
            !query(&proxies(read, issuing))?.is_empty(),
            "the issuing CA is not seen"
        );
        Ok(())
    })?;
    wait_for(
        &(proxies(
            "mtls_watch_inspections_total",
            "source=\"xfcc\", result=\"ok\"",
        ) + " > 0"),
    )?;
    Ok(())
}

fn has_certificates(seen: &str) -> bool {
    seen.contains("Cert=") || seen.contains("Chain=")
}

/// Where the module does not run they get 2 KB and more, as xfcc-chain.yaml warns; with the filter that it names, which is
/// here word for word, they get nothing.
fn backends_get_no_chain() -> Result<()> {
    let shop = installed()?;
    let partner = shop.partner()?;
    let page = Page::checkout()?;
    let sample = "envoy-config/envoy-gateway/xfcc-chain.yaml";
    page.run(&format!(
        "kubectl -n shop patch clienttrafficpolicy clients --type merge --patch-file {sample}"
    ))?;
    shop.kubectl(&["delete", "envoyextensionpolicy", "mtls-watch"])?;
    eventually(DEADLINE, || {
        let seen = shop.get("/", &partner)?;
        ensure!(
            has_certificates(&seen) && seen.len() > 2000,
            "{} bytes",
            seen.len()
        );
        Ok(())
    })?;
    let text = std::fs::read_to_string(mesh_tests::workspace_root().join(sample))?;
    let filters = text.lines().find_map(|line| {
        line.trim_start_matches(['#', ' '])
            .strip_prefix("filters: ")
    });
    let filters: serde_json::Value = serde_yaml_ng::from_str(filters.context("no filters")?)?;
    let path = "/spec/rules/0/filters";
    let patch = |operation: serde_json::Value| {
        let patch = serde_json::json!([operation]).to_string();
        shop.kubectl(&[
            "patch",
            "httproute",
            "app",
            "--type",
            "json",
            "--patch",
            &patch,
        ])
    };
    patch(serde_json::json!({"op": "add", "path": path, "value": filters}))?;
    eventually(DEADLINE, || {
        let seen = shop.get("/", &partner)?;
        ensure!(
            !seen.contains("Hash="),
            "the backend gets the header: {seen}"
        );
        Ok(())
    })?;
    // With the module, too, which reads it before.
    page.run("kubectl apply -k envoy-config/envoy-gateway")?;
    eventually(DEADLINE, || the_header_is_gone_and_was_read(shop, &partner))?;
    patch(serde_json::json!({"op": "remove", "path": path}))?;
    let back = serde_json::json!({"spec": {"headers": {"xForwardedClientCert": null}}});
    shop.patch("clienttrafficpolicy", "clients", &back)
}

fn the_header_is_gone_and_was_read(shop: &Shop, partner: &Credentials) -> Result<()> {
    let series = "mtls_watch_inspections_total{source=\"xfcc\",result=\"ok\"} ";
    let read = || -> Result<f64> {
        let stats = shop.stats()?;
        let value = stats.lines().find_map(|line| line.strip_prefix(series));
        Ok(value.map_or(Ok(0.0), str::parse)?)
    };
    let before = read()?;
    // A chain that has not been read before is read anew.
    let seen = shop.get("/", partner)?;
    ensure!(
        !seen.contains("Hash="),
        "the backend gets the header: {seen}"
    );
    let fresh = shop.partner()?;
    shop.get("/", &fresh)?;
    ensure!(read()? > before, "the module reads no chain");
    Ok(())
}
