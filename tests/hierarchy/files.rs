//! Certificates that do not come over SDS: plain files and what is inline in the bootstrap. Of files Envoy
//! tells only dates, serial number and names, while they are in use.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use testbed::pki::{DAY, Lifetime};
use testbed::sample::yaml;
use testbed::{Ca, Identity, Sample, Stats, TrustBundle};

use crate::setup::{Pki, ca_label};
use crate::sidecar::{NOT_AFTER, PROXY, Rows, certificates, each, polling, start, wait_until};

const OTHER: &str = "spiffe://cluster.local/ns/shop/sa/other";

/// Has a listener take this chain and this bundle, each a DataSource.
fn serve(sample: Sample, listener: &str, chain: Value, key: Value, bundle: Value) -> Sample {
    let context = yaml(json!({
        "tls_certificates": [{"certificate_chain": chain, "private_key": key}],
        "validation_context": {"trusted_ca": bundle},
    }));
    sample.edit(|node| {
        if node.get("filter_chains").is_some() && node["name"] == listener {
            let socket = &mut node["filter_chains"][0]["transport_socket"];
            socket["typed_config"]["common_tls_context"] = context.clone();
        }
    })
}

fn file(path: &Path) -> Value {
    json!({"filename": path.display().to_string()})
}

fn serve_files(
    sample: Sample,
    listener: &str,
    directory: &Path,
    identity: &Identity,
    trusted: &[&Ca],
) -> Result<Sample> {
    fs::create_dir_all(directory)?;
    let files = identity.write_to(directory)?;
    let bundle = TrustBundle::of(trusted.iter().copied()).write_to(directory)?;
    Ok(serve(
        sample,
        listener,
        file(&files.certificate),
        file(&files.key),
        file(&bundle),
    ))
}

fn serve_inline(
    sample: Sample,
    listener: &str,
    identity: &Identity,
    trusted: &[&Ca],
) -> Result<Sample> {
    let inline = |text: String| json!({"inline_string": text});
    let bundle = TrustBundle::of(trusted.iter().copied()).pem();
    let (chain, key) = (identity.chain_pem(), identity.key_pem()?);
    Ok(serve(
        sample,
        listener,
        inline(chain),
        inline(key),
        inline(bundle),
    ))
}

/// Seconds at which certificates end, by layer, in order.
fn ends(stats: &Stats, layer: &str) -> Vec<f64> {
    let labels = [("layer", layer)];
    let series = stats.matching(NOT_AFTER, &labels);
    let mut ends: Vec<f64> = series.map(|series| series.value).collect();
    ends.sort_by(f64::total_cmp);
    ends
}

fn end(days: i64) -> Lifetime {
    Lifetime::from_now(-DAY, days * DAY)
}

/// No SDS at all: each leaf is a workload's, and each CA of a bundle is there once a
/// file, or once where it is inline.
#[test]
fn without_sds_leaves_and_bundles_are_seen() -> Result<()> {
    each(&[("files", false), ("inline", true)], |inline| {
        let pki = Pki::new()?;
        let (root_end, new_end) = (end(900), end(800));
        let root = Ca::root("Root CA").lifetime(root_end).issue()?;
        let new = Ca::root("Root CA").lifetime(new_end).issue()?;
        let leaf_ends = [end(40), end(50)];
        let mut sample = polling(&pki)?;
        for ((listener, identity), lifetime) in [("inbound_http", PROXY), ("inbound_tcp", OTHER)]
            .into_iter()
            .zip(leaf_ends)
        {
            let leaf = root.leaf().uri(identity).lifetime(lifetime).issue()?;
            let directory = pki.directory().join(listener);
            sample = match inline {
                true => serve_inline(sample, listener, &leaf, &[&root, &new])?,
                false => serve_files(sample, listener, &directory, &leaf, &[&root, &new])?,
            };
        }
        let sample = without_outbound(sample);
        let proxy = start(sample, 1)?;
        let expected = leaf_ends.map(|dates| dates.not_after as f64);
        let stats = wait_until(&proxy.envoy, &expected.to_vec(), |stats| {
            ends(stats, "workload")
        })?;
        for identity in [PROXY, OTHER] {
            let labels = [("layer", "workload"), ("identity", identity)];
            assert!(stats.value(NOT_AFTER, &labels).is_some(), "{identity}");
        }
        // Of CAs in files Envoy tells neither name nor place.
        let layer = if *inline { "root_ca" } else { "none" };
        let mut roots = ends(&stats, layer);
        if !inline {
            // Each listener has a file of its own, and each file its rows.
            assert_eq!(roots.len(), 4);
            roots.dedup();
        }
        assert_eq!(
            roots,
            [new_end, root_end].map(|dates| dates.not_after as f64)
        );
        assert!(ends(&stats, "intermediate_ca").is_empty());
        Ok(())
    })
}

/// Listeners and clusters that take secrets over SDS are left out.
fn without_outbound(sample: Sample) -> Sample {
    sample.edit(|node| {
        if let Some(items) = node.as_sequence_mut() {
            items.retain(|item| {
                let name = item.get("name").and_then(|name| name.as_str());
                !matches!(
                    name,
                    Some("outbound_http" | "outbound_tcp" | "peer_http" | "peer_tcp")
                )
            });
        }
    })
}

/// What Envoy tells of twice, in full and by its dates, has one row; what it tells of only by its dates
/// comes in addition.
#[test]
fn both_are_merged_without_double_rows() -> Result<()> {
    let pki = Pki::new()?;
    let leaf = |identity| pki.cas.leaf().uri(identity).issue();
    let (sds, other) = (leaf(PROXY)?, leaf(OTHER)?);
    sds.write_to(pki.directory())?;
    let files = pki.directory().join("files");
    let (root, sample) = (&pki.cas.root, polling(&pki)?);
    let sample = serve_files(sample, "inbound_tcp", &files, &other, &[root])?;
    // The leaf that comes over SDS, once more.
    let sample = serve_inline(sample, "inbound_http", &sds, &[root])?;
    let proxy = start(sample, 1)?;
    let name = |layer: &str, secret: &str, identity: &str| format!("{layer} {secret} {identity}");
    let path = files.join("tls.crt").display().to_string();
    let cas = &pki.cas;
    let mut expected = vec![
        name(
            "issuing_ca",
            "default",
            &ca_label("Issuing CA", &cas.issuing),
        ),
        name(
            "intermediate_ca",
            "default",
            &ca_label("Intermediate CA", &cas.intermediate),
        ),
        name("root_ca", "ROOTCA", &ca_label("Root CA", &cas.root)),
        name("workload", "default", PROXY),
        name("workload", &path, OTHER),
    ];
    expected.sort();
    let names = |rows: Rows| rows.into_keys().collect::<Vec<String>>();
    wait_until(&proxy.envoy, &expected, |stats| {
        names(certificates(stats, NOT_AFTER))
    })?;
    Ok(())
}
