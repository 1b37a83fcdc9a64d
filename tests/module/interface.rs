//! What the module asks of Envoy, and what it offers.

use std::collections::BTreeSet;
use std::fs;

use wasmparser::{Validator, WasmFeatures};
use wasmtime::Result;

use crate::attributes::{Attributes, INBOUND};
use crate::host::{Proxy, module, offered, path};
use crate::pki::Certificate;

/// Each of the callbacks costs an entry into the VM per event; see tools/postlink.
const EXPORTS: [&str; 15] = [
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_downstream_connection_close",
    "proxy_on_downstream_data",
    "proxy_on_memory_allocate",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_tick",
    "proxy_on_upstream_data",
    "proxy_on_vm_start",
];

/// Every worker of every sidecar compiles it at start.
const MAXIMUM_SIZE: u64 = 400_000;

#[test]
fn imports_only_what_envoy_offers() {
    let foreign: Vec<_> = module()
        .imports()
        .filter(|import| !offered::is_offered(import.module(), import.name()))
        .map(|import| format!("{}.{}", import.module(), import.name()))
        .collect();
    assert_eq!(foreign, [""; 0]);
}

#[test]
fn exports_exactly_what_it_needs() {
    let exports: BTreeSet<_> = module().exports().map(|export| export.name()).collect();
    assert_eq!(exports, BTreeSet::from(EXPORTS));
}

#[test]
fn is_small() {
    let size = fs::metadata(path()).expect("a file").len();
    assert!(size < MAXIMUM_SIZE, "{size} bytes");
}

#[test]
fn request_protocol_tells_http_from_network() -> Result<()> {
    let client = Certificate::workload("spiffe://cluster.local/ns/shop/sa/pay");

    let http = Proxy::new();
    http.worker("")?
        .exchange(&Attributes::http().client(&client))?;
    assert_eq!(http.total("mtls_requests_total"), 1);
    assert_eq!(http.total("mtls_connections_total"), 0);

    let network = Proxy::new();
    network
        .worker("")?
        .connection(&Attributes::network().client(&client))?;
    assert_eq!(network.total("mtls_requests_total"), 0);
    assert_eq!(network.total("mtls_connections_total"), 1);
    Ok(())
}

#[test]
fn both_filters_of_one_vm_do_not_disturb_each_other() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let client = Certificate::workload("spiffe://cluster.local/ns/shop/sa/pay");
    let connection = worker.open(&Attributes::network().client(&client))?;
    let request = worker.open(&Attributes::http().client(&client))?;
    worker.downstream_data(connection)?;
    worker.request_headers(request, Vec::new())?;
    worker.response_headers(request, Vec::new())?;
    worker.upstream_data(connection)?;
    worker.disconnect(connection)?;
    worker.finish(request)?;
    assert_eq!(proxy.total("mtls_requests_total"), 1);
    assert_eq!(proxy.total("mtls_connections_total"), 1);
    Ok(())
}

/// Reading one there freezes it for the life of the connection, with the wrong value.
#[test]
fn no_tls_property_is_read_before_data_arrives() -> Result<()> {
    let mut worker = Proxy::new().worker("")?;
    let connection = worker.open(&Attributes::network().direction(INBOUND))?;
    worker.new_connection(connection)?;
    let read: Vec<_> = worker.host().reads.keys().cloned().collect();
    let tls = |path: &String| path.starts_with("connection.") || path.starts_with("upstream.");
    assert!(!read.iter().any(tls), "read {read:?}");
    Ok(())
}

/// What the module needs beyond the first version of WebAssembly. Envoy's wheels run V8; it is also built with wasmtime,
/// and with WAMR, which has no SIMD there.
const PROPOSALS: WasmFeatures = WasmFeatures::FLOATS
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::BULK_MEMORY);

/// Reference types, multiple values, SIMD, tail calls, memories of 64 bits and what is younger.
#[test]
fn the_module_needs_no_proposal_that_a_host_may_lack() -> Result<()> {
    let bytes = fs::read(path())?;
    let validated = Validator::new_with_features(PROPOSALS).validate_all(&bytes);
    validated.map(drop).map_err(Into::into)
}

#[test]
fn the_module_runs_on_a_host_that_lacks_all_other_proposals() -> Result<()> {
    let client = Certificate::workload("spiffe://cluster.local/ns/shop/sa/pay");
    let proxy = Proxy::new();
    let mut worker = proxy.worker_with(PROPOSALS)?;
    worker.exchange(&Attributes::http().client(&client))?;
    worker.connection(&Attributes::network().client(&client))?;
    worker.tick()?;
    for counter in ["mtls_requests_total", "mtls_connections_total"] {
        assert_eq!(proxy.total(counter), 1, "{counter}");
    }
    Ok(())
}
