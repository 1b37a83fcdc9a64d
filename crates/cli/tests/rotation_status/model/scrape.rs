//! What a proxy publishes, as the contract says.

use std::fmt::Write as _;

use super::fleet::{Fleet, Proxy};
use super::tls::{CertId, Universe};
use crate::metrics::NOW;

const YEAR: i64 = 365 * 86_400;

/// The newest scrape.
pub fn latest(fleet: &Fleet, proxy: &Proxy, universe: &Universe) -> String {
    let processes = 1 + i64::from(proxy.hot_restart);
    let mut text = String::new();
    let mut gauge = |series: String, value: i64| {
        writeln!(text, "{series} {}", value * processes).unwrap();
    };
    gauge("mtls_watch_info{version=\"0.2.0\"}".to_owned(), 1);
    let age = if proxy.is_stale { 3600 } else { 20 };
    gauge("mtls_watch_hierarchy_poll_age_seconds".to_owned(), age);
    let secret = "default";
    let identity = match proxy.is_workload {
        true => format!("spiffe://cluster.local/ns/shop/sa/{}", proxy.name),
        false => format!("{}.shop.example", proxy.name),
    };
    gauge(
        format!(
            "mtls_own_certificate_present{{layer=\"workload\",secret=\"{secret}\",identity=\"{identity}\"}}"
        ),
        1,
    );
    let issuer = &universe.names[proxy.leaf.issuer];
    gauge(
        format!("mtls_own_issuer{{secret=\"{secret}\",ca=\"{issuer}\"}}"),
        1,
    );
    let mut anchors: Vec<&str> = Vec::new();
    for bundle in &proxy.bundles {
        if let Some(anchor) = universe.anchor(&bundle.certs, &proxy.leaf) {
            anchors.push(&universe.names[universe.certs[anchor].subject]);
        }
    }
    if anchors.is_empty() && proxy.is_workload {
        anchors.push("none");
    }
    anchors.sort_unstable();
    anchors.dedup();
    for ca in anchors {
        gauge(
            format!("mtls_own_trust_anchor{{secret=\"{secret}\",ca=\"{ca}\"}}"),
            1,
        );
    }
    let mut rows: Vec<(&str, CertId, i64)> = Vec::new();
    let links = links(proxy, universe);
    let sent = proxy.leaf.chain.iter().copied();
    rows.extend(
        sent.filter(|cert| fleet.shows_passengers || links.contains(cert))
            .map(|cert| (secret, cert, 1)),
    );
    for bundle in &proxy.bundles {
        rows.extend(
            bundle
                .certs
                .iter()
                .map(|cert| (bundle.name.as_str(), *cert, 1)),
        );
        rows.extend(
            bundle
                .left
                .iter()
                .map(|cert| (bundle.name.as_str(), *cert, 0)),
        );
    }
    rows.sort_unstable();
    rows.dedup();
    for (of, cert, present) in rows {
        let cert_of = &universe.certs[cert];
        let (ca, digits) = (&universe.names[cert_of.subject], &cert_of.digits);
        let layer = match universe.is_self_signed(cert) {
            true => "root_ca",
            false if cert_of.subject == proxy.leaf.issuer => "issuing_ca",
            false => "intermediate_ca",
        };
        if of != secret {
            gauge(
                format!(
                    "mtls_trust_bundle_ca{{secret=\"{of}\",ca=\"{ca}\",certificate=\"{digits}\"}}"
                ),
                present,
            );
        }
        let labels = format!(
            "{{layer=\"{layer}\",secret=\"{of}\",identity=\"{ca}\",certificate=\"{digits}\"}}"
        );
        gauge(format!("mtls_own_certificate_present{labels}"), present);
        let is_ended = fleet.ended.contains(&cert);
        let (from, to) = match is_ended {
            true => (NOW - 2 * YEAR, NOW - 60),
            false => (NOW - YEAR, NOW + YEAR),
        };
        gauge(
            format!("mtls_own_certificate_not_before_timestamp_seconds{labels}"),
            from,
        );
        gauge(
            format!("mtls_own_certificate_not_after_timestamp_seconds{labels}"),
            to,
        );
    }
    for bundle in &proxy.bundles {
        for list in &bundle.lists {
            let (of, ca) = (&bundle.name, &universe.names[list.ca]);
            let labels = format!("{{secret=\"{of}\",ca=\"{ca}\"}}");
            let end = if list.is_valid { NOW + YEAR } else { NOW - 60 };
            for (metric, time) in [("this", NOW - YEAR), ("next", end)] {
                let metric = format!("mtls_own_crl_{metric}_update_timestamp_seconds");
                gauge(metric + &labels, time);
            }
        }
    }
    let mut seen = proxy.seen.clone();
    seen.sort_by_key(|(_, seconds_ago)| std::cmp::Reverse(*seconds_ago));
    let newest: std::collections::BTreeMap<_, _> = seen.into_iter().collect();
    for (ca, seconds_ago) in newest {
        let ca = &universe.names[ca];
        let labels = format!("{{direction=\"inbound\",issuer=\"{ca}\"}}");
        // Two processes' times are added; the parent has not seen what only the child has.
        let _ = writeln!(
            text,
            "mtls_issuer_last_seen_timestamp_seconds{labels} {}",
            NOW - seconds_ago
        );
    }
    let now = [0, 1, 2].map(|index| proxy.refused_before[index] + proxy.refused[index]);
    text + &failures(now)
}

/// The scrape before.
pub fn earlier(proxy: &Proxy) -> String {
    format!(
        "mtls_watch_info{{version=\"0.2.0\"}} 1\n{}",
        failures(proxy.refused_before)
    )
}

fn failures([clients, as_client, servers]: [u64; 3]) -> String {
    let mut text = String::new();
    for (direction, holder, reason, value) in [
        ("inbound", "own", "unknown_ca", clients),
        ("outbound", "own", "rejected_by_peer", as_client),
        ("outbound", "own", "unknown_ca", servers),
    ] {
        // A series appears with its first event.
        if value > 0 {
            writeln!(
                text,
                "mtls_handshake_failures_total{{direction=\"{direction}\",layer=\"none\",holder=\"{holder}\",reason=\"{reason}\"}} {value}"
            )
            .unwrap();
        }
    }
    text
}

/// The certificates of a chain that sign there.
fn links(proxy: &Proxy, universe: &Universe) -> Vec<CertId> {
    let mut issuers = vec![proxy.leaf.issuer];
    let mut links = Vec::new();
    let mut next = 0;
    while let Some(issuer) = issuers.get(next).copied() {
        next += 1;
        for cert in &proxy.leaf.chain {
            if universe.certs[*cert].subject == issuer && !links.contains(cert) {
                links.push(*cert);
                if !universe.is_self_signed(*cert) {
                    issuers.push(universe.certs[*cert].issuer);
                }
            }
        }
    }
    links
}
