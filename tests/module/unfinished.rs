//! The module as the linker leaves it: what a plain `cargo build` makes, and what runs if somebody ships it.
//! Nobody's traffic may suffer from that, and somebody must notice. See docs/module-link.md.

use wasmtime::Result;

use crate::attributes::Attributes;
use crate::host::{CONTINUE, ERROR, Proxy, Worker, linked, offered};
use crate::pki::Certificate;

fn client() -> Certificate {
    Certificate::workload("spiffe://d/x")
}

/// A callback about a context, with what else it says: sizes, or the end of a stream.
fn raise(worker: &mut Worker, context: u32, callback: &str, more: [u32; 2]) -> Result<()> {
    let [first, second] = more;
    let action = worker.enter::<_, u32>(context, callback, (context, first, second))?;
    assert_eq!(action, Some(CONTINUE), "{callback}");
    Ok(())
}

#[test]
fn loads_and_says_that_it_is_unfinished() -> Result<()> {
    for configuration in ["", r#"{"deny": ["expired"]}"#, "nonsense"] {
        let mut worker = Proxy::new().unfinished_worker()?;
        assert!(worker.configure(configuration)?);
        let [(level, line)] = worker.logs() else {
            panic!("not one line: {:?}", worker.logs());
        };
        assert_eq!(*level, ERROR);
        assert!(
            line.contains("unfinished") && line.contains("make build"),
            "{line}"
        );
        assert_eq!(worker.host().tick_period, None);
    }
    Ok(())
}

/// Envoy calls all that is exported, and here that is every callback of the ABI.
#[test]
fn lets_requests_pass() -> Result<()> {
    let mut worker = Proxy::new().unfinished_worker()?;
    worker.configure(r#"{"flag": {"request_header": "x-peer"}}"#)?;
    for _ in 0..3 {
        let request = worker.open(&Attributes::http().client(&client()))?;
        assert_eq!(worker.request_headers(request, Vec::new())?, CONTINUE);
        raise(&mut worker, request, "proxy_on_request_body", [10, 1])?;
        let trailers = "proxy_on_request_trailers";
        assert_eq!(
            worker.enter(request, trailers, (request, 1_u32))?,
            Some(CONTINUE)
        );
        assert_eq!(worker.response_headers(request, Vec::new())?, CONTINUE);
        raise(&mut worker, request, "proxy_on_response_body", [10, 1])?;
        let trailers = "proxy_on_response_trailers";
        assert_eq!(
            worker.enter(request, trailers, (request, 1_u32))?,
            Some(CONTINUE)
        );
        let stream = worker.finish(request)?;
        assert!(stream.filter_state.is_empty() && stream.local_responses.is_empty());
        assert!(
            stream
                .request_headers
                .is_some_and(|headers| headers.is_empty())
        );
    }
    Ok(())
}

#[test]
fn lets_connections_pass() -> Result<()> {
    let mut worker = Proxy::new().unfinished_worker()?;
    worker.configure("")?;
    for refused in [false, true] {
        let connection = worker.open(&Attributes::network().client(&client()))?;
        assert_eq!(worker.new_connection(connection)?, CONTINUE);
        if !refused {
            assert_eq!(worker.downstream_data(connection)?, CONTINUE);
            assert_eq!(worker.upstream_data(connection)?, CONTINUE);
            raise(&mut worker, connection, "proxy_on_downstream_data", [0, 1])?;
            raise(&mut worker, connection, "proxy_on_upstream_data", [0, 1])?;
        }
        let close = "proxy_on_upstream_connection_close";
        worker.enter::<_, ()>(connection, close, (connection, 1_u32))?;
        let stream = worker.disconnect(connection)?;
        assert!(stream.filter_state.is_empty() && stream.closed.is_empty());
    }
    Ok(())
}

#[test]
fn watches_nothing() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.unfinished_worker()?;
    worker.configure("")?;
    let request = Attributes::http().client(&client());
    let connection = Attributes::network().client(&client());
    for _ in 0..3 {
        worker.exchange(&request)?;
        worker.connection(&connection)?;
    }
    worker.tick()?;
    assert!(proxy.metrics().is_empty());
    assert_eq!(worker.logs().len(), 1, "{:?}", worker.logs());
    let read: Vec<_> = worker.host().reads.keys().collect();
    assert_eq!(read, ["request.protocol"]);
    Ok(())
}

#[test]
fn imports_only_what_envoy_offers() {
    let foreign: Vec<_> = linked()
        .imports()
        .filter(|import| !offered::is_offered(import.module(), import.name()))
        .map(|import| format!("{}.{}", import.module(), import.name()))
        .collect();
    assert_eq!(foreign, [""; 0]);
}

/// Else these tests look at the wrong file.
#[test]
fn is_what_the_tool_has_not_seen() {
    let mut exports = linked().exports().map(|export| export.name());
    assert!(exports.any(|name| name == "guarded_proxy_on_log"));
}
