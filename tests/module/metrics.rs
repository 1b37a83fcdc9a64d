//! Every metric that a peer can move, by the name a dashboard knows it by.

use wasmtime::Result;

use crate::attributes::{Attributes, INBOUND};
use crate::host::{Metric, Proxy};
use crate::pki::{Certificate, DAY, ExtendedKeyUsage, Leaf, issuer_label};

const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";

/// The name of a metric with labels, in Istio's encoding.
pub fn series(labels: &[(&str, &str)], name: &str) -> String {
    let labels: String = labels
        .iter()
        .map(|(key, value)| format!("{key}=.={value};.;"))
        .collect();
    labels + name
}

fn requests(direction: &str, status: &str) -> String {
    let labels = [("direction", direction), ("status", status)];
    series(&labels, "mtls_requests_total")
}

fn connections(direction: &str, security: &str) -> String {
    let labels = [("direction", direction), ("security", security)];
    series(&labels, "mtls_connections_total")
}

fn inspections(source: &str, result: &str) -> String {
    let labels = [("source", source), ("result", result)];
    series(&labels, "mtls_watch_inspections_total")
}

pub fn not_after(direction: &str, identity: &str) -> String {
    let labels = [
        ("direction", direction),
        ("layer", "workload"),
        ("identity", identity),
    ];
    series(&labels, "mtls_peer_certificate_not_after_timestamp_seconds")
}

/// A leaf that has `days` left of 90.
fn aged(days: i64) -> Certificate {
    Leaf::new(PAY).valid((days - 90) * DAY, days * DAY).sign()
}

#[test]
fn the_label_encoding_is_the_one_promised() -> Result<()> {
    let proxy = Proxy::new();
    let client = Certificate::workload(PAY);
    proxy
        .worker("")?
        .exchange(&Attributes::http().client(&client))?;
    let name = "direction=.=inbound;.;status=.=ok;.;mtls_requests_total";
    assert_eq!(proxy.counter(name), 1, "{:?}", proxy.metrics());
    Ok(())
}

#[test]
fn requests_count_by_the_status_of_the_peer() -> Result<()> {
    let inbound = Attributes::http().direction(INBOUND);
    let of = |certificate: &Certificate| Attributes::http().client(certificate);
    for (status, attributes) in [
        ("ok", of(&aged(60))),
        ("warning", of(&aged(20))),
        ("critical", of(&aged(6))),
        ("expired", of(&aged(-1))),
        ("not_yet_valid", of(&aged(91))),
        ("no_certificate", inbound.clone()),
        (
            "no_certificate",
            inbound.clone().text("connection.tls_version", "TLSv1.3"),
        ),
        (
            "hbone",
            inbound
                .clone()
                .text("filter_state.io.istio.peer_principal", PAY),
        ),
        (
            "unreadable",
            inbound
                .flag("connection.mtls", true)
                .text("connection.tls_version", "TLSv1.3"),
        ),
    ] {
        let proxy = Proxy::new();
        proxy.worker("")?.exchange(&attributes)?;
        let name = requests("inbound", status);
        assert_eq!(proxy.counter(&name), 1, "{status}: {:?}", proxy.metrics());
        assert_eq!(proxy.total("mtls_requests_total"), 1, "{status}");
    }
    Ok(())
}

#[test]
fn requests_to_a_server_count_as_outbound() -> Result<()> {
    let proxy = Proxy::new();
    let server = Certificate::workload(PAY);
    proxy
        .worker("")?
        .exchange(&Attributes::http().server(&server))?;
    assert_eq!(proxy.counter(&requests("outbound", "ok")), 1);
    assert_eq!(proxy.total("mtls_requests_total"), 1);
    Ok(())
}

#[test]
fn a_gateway_counts_both_sides() -> Result<()> {
    let proxy = Proxy::new();
    let certificate = Certificate::workload(PAY);
    let both = Attributes::http()
        .client(&certificate)
        .server(&certificate)
        .direction(0);
    proxy.worker("")?.exchange(&both)?;
    assert_eq!(proxy.counter(&requests("inbound", "ok")), 1);
    assert_eq!(proxy.counter(&requests("outbound", "ok")), 1);
    Ok(())
}

#[test]
fn a_gateway_does_not_count_an_upstream_without_tls() -> Result<()> {
    let proxy = Proxy::new();
    let certificate = Certificate::workload(PAY);
    let gateway = Attributes::http()
        .client(&certificate)
        .direction(0)
        .text("upstream.address", "192.0.2.7:80");
    proxy.worker("")?.exchange(&gateway)?;
    assert_eq!(proxy.counter(&requests("inbound", "ok")), 1);
    assert_eq!(proxy.total("mtls_requests_total"), 1);
    Ok(())
}

#[test]
fn connections_count_by_their_security() -> Result<()> {
    let inbound = Attributes::network().direction(INBOUND);
    let tls = inbound.clone().text("connection.tls_version", "TLSv1.3");
    for (security, attributes) in [
        ("mtls", inbound.clone().client(&aged(60))),
        ("tls", tls),
        ("plaintext", inbound.clone()),
        (
            "hbone",
            inbound.text("filter_state.io.istio.peer_principal", PAY),
        ),
    ] {
        let proxy = Proxy::new();
        proxy.worker("")?.connection(&attributes)?;
        let name = connections("inbound", security);
        assert_eq!(proxy.counter(&name), 1, "{security}: {:?}", proxy.metrics());
        assert_eq!(proxy.total("mtls_connections_total"), 1, "{security}");
    }
    Ok(())
}

#[test]
fn connections_to_a_server_count_as_outbound() -> Result<()> {
    let proxy = Proxy::new();
    let server = Certificate::workload(PAY);
    proxy
        .worker("")?
        .connection(&Attributes::network().server(&server))?;
    assert_eq!(proxy.counter(&connections("outbound", "mtls")), 1);
    assert_eq!(proxy.total("mtls_connections_total"), 1);
    Ok(())
}

#[test]
fn findings_count_by_filter() -> Result<()> {
    let client = Leaf::new(PAY)
        .usages(&[ExtendedKeyUsage::ServerAuth])
        .sign();
    let labels = [
        ("direction", "inbound"),
        ("layer", "workload"),
        ("finding", "client_auth_missing"),
    ];

    let http = Proxy::new();
    http.worker("")?
        .exchange(&Attributes::http().client(&client))?;
    assert_eq!(
        http.counter(&series(&labels, "mtls_request_findings_total")),
        1
    );
    assert_eq!(http.total("mtls_connection_findings_total"), 0);
    assert_eq!(http.counter(&requests("inbound", "critical")), 1);

    let network = Proxy::new();
    network
        .worker("")?
        .connection(&Attributes::network().client(&client))?;
    assert_eq!(
        network.counter(&series(&labels, "mtls_connection_findings_total")),
        1
    );
    assert_eq!(network.total("mtls_request_findings_total"), 0);
    Ok(())
}

#[test]
fn connections_count_by_issuer() -> Result<()> {
    let proxy = Proxy::new();
    proxy
        .worker("")?
        .connection(&Attributes::network().client(&aged(60)))?;
    let issuer = issuer_label();
    let labels = [("direction", "inbound"), ("issuer", issuer.as_str())];
    let count = series(&labels, "mtls_connections_by_issuer_total");
    assert_eq!(proxy.counter(&count), 1, "{:?}", proxy.metrics());
    let seen = series(&labels, "mtls_issuer_last_seen_timestamp_seconds");
    assert_eq!(proxy.gauge(&seen), Some(proxy.now()));
    Ok(())
}

#[test]
fn validity_shows_in_gauges_of_both_filters() -> Result<()> {
    let client = aged(60);
    for attributes in [Attributes::http(), Attributes::network()] {
        let proxy = Proxy::new();
        let mut worker = proxy.worker("")?;
        let context = worker.open(&attributes.client(&client))?;
        worker.request_or_data(context)?;
        worker.tick()?;
        let name = not_after("inbound", PAY);
        assert_eq!(proxy.gauge(&name), Some(client.not_after));
        let name = name.replace("not_after", "not_before");
        assert_eq!(proxy.gauge(&name), Some(client.not_before));
    }
    Ok(())
}

/// The inbound histogram of remaining lifetimes.
fn recorded(proxy: &Proxy) -> Vec<u64> {
    let name = "direction=.=inbound;.;mtls_peer_certificate_remaining_seconds";
    match proxy.metrics().remove(name) {
        Some(Metric::Histogram(values)) => values,
        other => panic!("{other:?}"),
    }
}

#[test]
fn remaining_lifetime_is_recorded_per_connection() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    for days in [60, -1] {
        worker.connection(&Attributes::network().client(&aged(days)))?;
    }
    assert_eq!(recorded(&proxy), [60 * DAY.unsigned_abs(), 0]);
    Ok(())
}

#[test]
fn remaining_lifetime_is_recorded_per_connection_in_an_http_only_proxy_too() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    for _ in 0..2 {
        let connection = Attributes::http().client(&aged(60));
        worker.exchange(&connection)?;
        worker.exchange(&connection)?;
    }
    let left = 60 * DAY.unsigned_abs();
    assert_eq!(recorded(&proxy), [left, left]);
    Ok(())
}

/// What the network filter leaves on the connection is there for the HTTP filter to see.
#[test]
fn remaining_lifetime_is_recorded_once_where_both_filters_run() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let client = Attributes::network().client(&aged(60));
    let connection = worker.open(&client)?;
    worker.downstream_data(connection)?;
    let left_there = worker.stream(connection).filter_state.clone();
    let request = worker.open(&client.text("request.protocol", "HTTP/2"))?;
    worker.stream(request).filter_state = left_there;
    worker.request_headers(request, Vec::new())?;
    assert_eq!(recorded(&proxy).len(), 1);
    Ok(())
}

#[test]
fn certificates_read_count_by_source() -> Result<()> {
    let client = aged(60);
    let without = Attributes::http()
        .client(&client)
        .without("connection.peer_certificate");
    let state = "filter_state.mtls_watch.peer_certificate";
    let xfcc = format!("By=spiffe://a/b;Cert=\"{}\"", client.url_encoded_pem());
    let encoded = client.url_encoded_pem();
    for (source, attributes, headers) in [
        ("attribute", Attributes::http().client(&client), vec![]),
        (
            "attribute",
            Attributes::http()
                .client(&client)
                .text("connection.peer_certificate", encoded.as_str()),
            vec![],
        ),
        (
            "filter_state",
            without.clone().text(state, encoded.as_str()),
            vec![],
        ),
        (
            "xfcc",
            without,
            vec![("x-forwarded-client-cert".to_owned(), xfcc.into_bytes())],
        ),
    ] {
        let proxy = Proxy::new();
        proxy.worker("")?.exchange_with(&attributes, headers)?;
        let name = inspections(source, "ok");
        assert_eq!(proxy.counter(&name), 1, "{source}: {:?}", proxy.metrics());
        assert_eq!(proxy.counter(&requests("inbound", "ok")), 1, "{source}");
    }
    Ok(())
}

#[test]
fn an_unreadable_certificate_is_counted_as_such() -> Result<()> {
    let proxy = Proxy::new();
    let garbage = Certificate::from_der("not a certificate");
    proxy
        .worker("")?
        .exchange(&Attributes::http().client(&garbage))?;
    assert_eq!(proxy.counter(&requests("inbound", "unreadable")), 1);
    assert_eq!(proxy.counter(&inspections("attribute", "unreadable")), 1);
    Ok(())
}

#[test]
fn refused_handshakes_count_by_cause() -> Result<()> {
    let verify = "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:\
                  verify cert failed: X509_verify_cert: certificate verification error at depth 0: ";
    let purpose = format!("{verify}unsupported certificate purpose:TLS_error_end");
    let expired = format!("{verify}certificate has expired:TLS_error_end");
    let server_only = Leaf::new(PAY)
        .usages(&[ExtendedKeyUsage::ServerAuth])
        .sign();
    for (certificate, text, layer, reason) in [
        (
            Some(&server_only),
            purpose.as_str(),
            "workload",
            "client_auth_missing",
        ),
        (Some(&aged(-1)), expired.as_str(), "workload", "expired"),
        (
            None,
            "TLS_error:|268435648:SSL routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE:\
             peer did not provide required client certificate:TLS_error_end",
            "none",
            "no_certificate",
        ),
    ] {
        let proxy = Proxy::new();
        proxy
            .worker("")?
            .refused_handshake(&Attributes::network().refused(certificate, text))?;
        let labels = [
            ("direction", "inbound"),
            ("layer", layer),
            ("holder", "peer"),
            ("reason", reason),
        ];
        let name = series(&labels, "mtls_handshake_failures_total");
        assert_eq!(proxy.counter(&name), 1, "{reason}: {:?}", proxy.metrics());
        assert_eq!(proxy.total("mtls_handshake_failures_total"), 1, "{reason}");
    }
    Ok(())
}

/// Or else anybody could make series by the thousand.
#[test]
fn a_refused_certificate_names_nobody() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let reason = "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:\
                  TLS_error_end";
    let stranger = Certificate::workload("spiffe://stranger/x");
    worker.refused_handshake(&Attributes::network().refused(Some(&stranger), reason))?;
    worker.tick()?;
    assert_eq!(proxy.total("mtls_handshake_failures_total"), 1);
    let metrics = proxy.metrics();
    let named = metrics
        .keys()
        .find(|name| name.contains("stranger") || name.contains("Issuing"));
    assert_eq!(named, None);
    Ok(())
}

#[test]
fn the_module_reports_its_own_version() -> Result<()> {
    let proxy = Proxy::new();
    proxy.worker("")?;
    let name = series(&[("version", env!("CARGO_PKG_VERSION"))], "mtls_watch_info");
    assert_eq!(proxy.gauge(&name), Some(1), "{:?}", proxy.metrics());
    Ok(())
}

#[test]
fn the_status_of_the_peer_is_left_in_filter_state() -> Result<()> {
    let mut worker = Proxy::new().worker("")?;
    let stream = worker.exchange(&Attributes::http().client(&aged(6)))?;
    let state = |key: &str| {
        let value = stream.filter_state.get(key)?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    assert_eq!(state("mtls_watch.status").as_deref(), Some("critical"));
    assert_eq!(state("mtls_watch.identity").as_deref(), Some(PAY));
    assert_eq!(
        state("mtls_watch.findings").as_deref(),
        Some("expires_critical")
    );
    Ok(())
}

#[test]
fn a_denied_finding_refuses_the_request_and_the_connection() -> Result<()> {
    let expired = aged(-1);
    let mut worker = Proxy::new().worker(r#"{"deny": ["expired"]}"#)?;

    let request = worker.open(&Attributes::http().client(&expired))?;
    worker.request_headers(request, Vec::new())?;
    assert_eq!(worker.finish(request)?.local_responses, [403]);

    let connection = worker.open(&Attributes::network().client(&expired))?;
    worker.downstream_data(connection)?;
    assert!(!worker.disconnect(connection)?.closed.is_empty());

    let healthy = worker.exchange(&Attributes::http().client(&aged(60)))?;
    assert_eq!(healthy.local_responses, [0; 0]);
    Ok(())
}
