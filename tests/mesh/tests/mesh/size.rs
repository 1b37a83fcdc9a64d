//! Scenario H: a mesh of 1,500 services and 300 servers outside. `make bench-mesh` has it run.

use std::time::Duration;

use anyhow::Result;
use mesh_tests::authority::Authority;
use mesh_tests::kubectl::run;
use mesh_tests::namespace::Namespace;
use mesh_tests::prometheus::{lines, query, wait_for, wait_within};
use mesh_tests::runner::{Scenario, large, not_until};
use mesh_tests::{istio, mesh_config};

use crate::overlays::pair_with;

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[large(
    "size::the_poll_reads_a_large_mesh",
    the_poll_reads_a_large_mesh,
)];

const SERVICES: usize = 1500;
const OUTSIDE: usize = 300;
const ROOTS_BY_XDS: &str = r#"{"proxyMetadata": {"PROXY_CONFIG_XDS_AGENT": "true"}}"#;

/// Step 1 of a rotation: there is one more root in every TLS context that Envoy lists.
fn the_poll_reads_a_large_mesh() -> Result<()> {
    let (large, shop) = (
        Namespace::injected("large")?,
        Namespace::injected("shop-large")?,
    );
    run(
        "kubectl",
        &["apply", "--server-side", "--filename", "-"],
        Some(&many(&large.name)),
    )?;
    istio::watch_the_mesh()?;
    pair_with(&shop, ROOTS_BY_XDS)?;
    wait_for(&(shop.selector("mtls_requests_total", "status=\"ok\"") + " > 0"))?;
    println!(
        "  the sidecars take, in bytes:{}",
        lines(&query(&shop.selector("envoy_server_memory_allocated", ""))?)
    );
    let root = Authority::root("Next Root")?;
    mesh_config::trust_also(&[&root])?;
    let trusted = shop.selector("mtls_trust_bundle_ca", &format!("ca={:?}", root.ca_name()));
    let seen = wait_within(
        Duration::from_secs(60),
        &format!("count({trusted} == 1) == 2"),
    );
    let polls = query(&shop.selector("mtls_watch_hierarchy_polls_total", ""))?;
    println!("  polls:{}", lines(&polls));
    not_until(
        16,
        "the second root of a large mesh is seen",
        seen.map(drop),
    )
}

fn many(namespace: &str) -> String {
    let services = (0..SERVICES).map(|number| {
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: service-{number}, namespace: {namespace}}}, spec: {{ports: [{{name: http, port: 80}}], selector: {{app: nobody}}}}}}\n")
    });
    let outside = (0..OUTSIDE).map(|number| {
        format!("{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: outside-{number}, namespace: {namespace}}}, spec: {{hosts: [host-{number}.outside.test], ports: [{{number: 443, name: tls, protocol: TLS}}], resolution: STATIC, location: MESH_INTERNAL, endpoints: [{{address: 10.99.0.1, labels: {{security.istio.io/tlsMode: istio}}}}]}}}}\n")
    });
    services.chain(outside).collect::<Vec<_>>().join("---\n")
}
