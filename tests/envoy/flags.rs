//! What the module tells others in the proxy: access logs, headers, log lines.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::client::Response;
use testbed::pki::fixtures::fingerprint;
use testbed::pki::{DAY, ExtendedKeyUsage, LeafBuilder, Lifetime};
use testbed::servers::ServerTls;
use testbed::stats::eventually;
use testbed::{Client, Envoy, Sample, Server};
use time::OffsetDateTime;

use crate::setup::{PAY, Pki, Proxy, forwarded};
use crate::variants::Variant;

const CLIENT: [ExtendedKeyUsage; 1] = [ExtendedKeyUsage::ClientAuth];

fn client(leaf: LeafBuilder) -> Result<Client> {
    Ok(Client::mtls(&leaf.issue()?))
}

/// A client that Envoy takes and mtls-watch finds critical.
fn critical(pki: &Pki) -> Result<Client> {
    client(pki.pay().extended_key_usages(&CLIENT))
}

/// One line for a request, one for a TCP connection.
#[test]
fn are_in_access_logs() -> Result<()> {
    const FORMAT: &str = "%FILTER_STATE(wasm.mtls_watch.status:PLAIN)% \
                          %FILTER_STATE(wasm.mtls_watch.identity:PLAIN)% \
                          [%FILTER_STATE(wasm.mtls_watch.findings:PLAIN)%]";
    let pki = Pki::new()?;
    // network.yaml carries HTTP as bytes.
    for file in ["http.yaml", "network.yaml", "both.yaml"] {
        let path = pki.directory().join(file).with_extension("log");
        let sample = pki.sample(file)?.accepting_anonymous();
        let proxy = Proxy::http(sample.access_log(&path, FORMAT))?;
        proxy.get(&pki.client()?)?;
        proxy.get(&critical(&pki)?)?;
        proxy.get(&client(pki.pay().ca_flag())?)?;
        proxy.get(&Client::tls())?;
        proxy.wait_until_closed(4)?;
        proxy.envoy.stop()?;
        let expected = format!(
            "ok {PAY} []\n\
             critical {PAY} [server_auth_missing]\n\
             critical {PAY} [leaf_is_ca,spiffe_id_invalid]\n\
             no_certificate - [-]\n"
        );
        assert_eq!(fs::read_to_string(&path)?, expected, "{file}");
    }
    Ok(())
}

/// At a gateway that speaks mTLS on both sides, HTTP and TCP say the same: names without prefix are about the
/// client. At a sidecar's outbound side, where there is no TLS of the client's, they are about the server.
#[test]
fn are_in_access_logs_of_both_sides() -> Result<()> {
    const FORMAT: &str = "%FILTER_STATE(wasm.mtls_watch.status:PLAIN)% \
                          [%FILTER_STATE(wasm.mtls_watch.findings:PLAIN)%] \
                          %FILTER_STATE(wasm.mtls_watch.upstream_status:PLAIN)% \
                          %FILTER_STATE(wasm.mtls_watch.upstream_identity:PLAIN)%";
    let pki = Pki::new()?;
    for file in ["http.yaml", "network.yaml"] {
        for direction in ["OUTBOUND", "UNSPECIFIED"] {
            let path = pki.directory().join(format!("{file}.{direction}.log"));
            let sample = pki.sample(file)?.mtls_to("app", &pki);
            let sample = sample.replace("traffic_direction", direction);
            let server = Server::http_echo(Some(pki.server_tls()?))?;
            let sample = sample.access_log(&path, FORMAT);
            let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
            proxy.get(&critical(&pki)?)?;
            proxy.wait_until_closed(1)?;
            proxy.envoy.stop()?;
            let expected = format!("critical [server_auth_missing] ok {PAY}\n");
            assert_eq!(fs::read_to_string(&path)?, expected, "{file} {direction}");
        }
        let path = pki.directory().join(format!("{file}.sidecar.log"));
        let sample = pki.sample(file)?.mtls_to("app", &pki).plaintext("inbound");
        let sample = sample.replace("traffic_direction", "OUTBOUND");
        let server = Server::http_echo(Some(pki.server_tls()?))?;
        let sample = sample.access_log(&path, FORMAT);
        let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
        proxy.get(&Client::plaintext())?;
        proxy.wait_until_closed(1)?;
        proxy.envoy.stop()?;
        assert_eq!(
            fs::read_to_string(&path)?,
            format!("ok [] ok {PAY}\n"),
            "{file}"
        );
    }
    Ok(())
}

/// Requests of one HTTP/2 connection go to different servers at the same time, and the first to get its
/// response is the last to end. Each line of the access log is about its own server.
#[test]
fn are_in_access_logs_for_each_of_many_requests_at_a_time() -> Result<()> {
    const FORMAT: &str = "%UPSTREAM_REMOTE_PORT% %FILTER_STATE(wasm.mtls_watch.status:PLAIN)% \
                          [%FILTER_STATE(wasm.mtls_watch.findings:PLAIN)%]";
    let pki = Pki::new()?;
    let server = |leaf: LeafBuilder| Server::http_echo(Some(ServerTls::new(&leaf.issue()?)));
    let sound = server(pki.pay())?;
    let critical = server(
        pki.pay()
            .extended_key_usages(&[ExtendedKeyUsage::ServerAuth]),
    )?;
    let ports = (sound.port(), critical.port());
    let path = pki.directory().join("http2.log");
    let sample = pki
        .sample("upstream.yaml")?
        .access_log(&path, FORMAT)
        .with_slow_bodies()
        .upstream("peer_http", sound.port())
        .another_endpoint("peer_http", critical.port());
    let envoy = sample.start(1)?;
    let mut connection = Client::plaintext().http2(envoy.listener_port("outbound_http")?)?;
    // The echo of a header of a kilobyte takes about a second.
    let long = "x".repeat(1000);
    let slow = [
        ("x-envoy-fault-throughput-response", "1"),
        ("x-long", &*long),
    ];
    let pending: Vec<_> = (0..4)
        .map(|_| connection.begin(&slow))
        .collect::<Result<_>>()?;
    for response in pending {
        ensure!(response.finish()?.status == 200);
    }
    envoy.stop()?;
    let log = fs::read_to_string(&path)?;
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    let ok = format!("{} ok []", ports.0);
    let warned = format!("{} critical [client_auth_missing]", ports.1);
    let mut expected = [&ok, &ok, &warned, &warned];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    Ok(())
}

const HEADERS: &str = r#"{"flag": {"request_header": "X-Peer", "response_header": "x-peer"}}"#;

/// Has the route add a response header, as the server could.
fn answering(sample: Sample, name: &str, value: &str) -> Sample {
    let header = testbed::sample::yaml(serde_json::json!([
        { "header": { "key": name, "value": value } },
    ]));
    sample.edit(|node| {
        if let Some(route) = node.as_mapping_mut()
            && route.contains_key("route")
        {
            route.insert("response_headers_to_add".into(), header.clone());
        }
    })
}

/// Both headers say how the client stands, whatever it or the server had written there itself.
#[test]
fn are_headers_that_nobody_outside_can_write() -> Result<()> {
    let pki = Pki::new()?;
    let sample = answering(pki.sample("http.yaml")?, "x-peer", "server's own");
    let proxy = Proxy::http(sample.accepting_anonymous().configuration(HEADERS))?;
    for (client, flag) in [
        (pki.client()?, "ok"),
        (critical(&pki)?, "critical; server_auth_missing"),
        (Client::tls(), "no_certificate"),
    ] {
        for own in [
            &[][..],
            &[("x-peer", "ok")],
            &[("X-Peer", "ok"), ("x-peer", "ok")],
        ] {
            let response = proxy.get_with(&client, own)?;
            let request_header = forwarded(&response, "x-peer")?;
            assert_eq!(request_header.as_deref(), Some(flag), "{own:?}");
            assert_eq!(values(&response, "x-peer"), [flag], "{own:?}");
        }
    }
    Ok(())
}

/// `x_peer` and `x-peer` are one variable to WSGI, CGI and PHP.
#[test]
fn are_not_forged_under_a_name_that_applications_take_for_theirs() -> Result<()> {
    let pki = Pki::new()?;
    let sample = answering(pki.sample("http.yaml")?, "x_peer", "server's own");
    let proxy = Proxy::http(sample.configuration(HEADERS))?;
    let response = proxy.get_with(&critical(&pki)?, &[("x_peer", "ok"), ("X_Peer", "ok")])?;
    assert_eq!(forwarded(&response, "x_peer")?, None);
    let flag = "critical; server_auth_missing";
    assert_eq!(forwarded(&response, "x-peer")?.as_deref(), Some(flag));
    assert_eq!(values(&response, "x_peer"), [""; 0]);
    Ok(())
}

fn values<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
    let values = response.headers.get_all(name).into_iter();
    values.filter_map(|value| value.to_str().ok()).collect()
}

/// On the way out the server is not known before it answers: no request header, and none from the
/// application either; the response header is about the server.
#[test]
fn are_headers_about_the_server_on_outbound_listeners() -> Result<()> {
    let pki = Pki::new()?;
    let leaf = pki
        .pay()
        .extended_key_usages(&[ExtendedKeyUsage::ServerAuth]);
    let server = Server::http_echo(Some(ServerTls::new(&leaf.issue()?)))?;
    let sample = pki.sample("upstream.yaml")?.configuration(HEADERS);
    let sample = answering(sample, "x-peer", "server's own");
    let proxy = Proxy::start(sample, ("outbound_http", "peer_http"), server, 1)?;
    let response = proxy.get_with(&Client::plaintext(), &[("x-peer", "ok")])?;
    assert_eq!(forwarded(&response, "x-peer")?, None);
    assert_eq!(
        values(&response, "x-peer"),
        ["critical; client_auth_missing"]
    );
    Ok(())
}

/// Nobody has asked for them.
#[test]
fn are_no_headers_unless_configured() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::http(answering(
        pki.sample("http.yaml")?,
        "x-peer",
        "server's own",
    ))?;
    let response = proxy.get_with(&pki.client()?, &[("x-peer", "client's own")])?;
    assert_eq!(
        forwarded(&response, "x-peer")?.as_deref(),
        Some("client's own")
    );
    assert_eq!(values(&response, "x-peer"), ["server's own"]);
    Ok(())
}

/// What the module has logged, without Envoy's prefix.
fn lines(envoy: &Envoy) -> Vec<(String, String)> {
    let log = envoy.log();
    let lines = log
        .lines()
        .filter_map(|line| line.split_once("mtls-watch: "));
    lines
        .map(|(prefix, text)| (prefix.to_owned(), text.to_owned()))
        .collect()
}

/// Each finding once, however many connections and requests show it, with or without the chain.
#[test]
fn log_each_finding_once() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::http(pki.sample("both.yaml")?.xfcc("SANITIZE_SET"))?;
    let lifetime = Lifetime::days(300);
    let issuing = pki.cas.intermediate.subordinate("Issuing \"CA\"").issue()?;
    let leaf = issuing
        .leaf()
        .uri(PAY)
        .lifetime(lifetime)
        .serial_number(&[0x0a, 0xbc])
        .extended_key_usages(&CLIENT);
    let leaf = leaf.issue()?;
    for _ in 0..2 {
        let mut connection = proxy.open(&Client::mtls(&leaf))?;
        connection.get("/", &[])?;
        connection.get("/", &[])?;
    }
    let lines = lines(&proxy.envoy);
    let key = &issuing.key_identifier()[..8];
    let end = OffsetDateTime::from_unix_timestamp(lifetime.not_after)?;
    let (date, (hour, minute, second)) = (end.date(), end.to_hms());
    let sha256 = fingerprint(&leaf);
    let expected = format!(
        "certificate finding direction=inbound finding=server_auth_missing layer=workload \
         identity=\"{PAY}\" issuer=\"Issuing \\\"CA\\\":{key}\" \
         not_after={date}T{hour:02}:{minute:02}:{second:02}Z serial=0abc sha256={sha256} \
         hint=\"add serverAuth to extendedKeyUsage\""
    );
    assert_eq!(
        lines.iter().map(|(_, line)| line).collect::<Vec<_>>(),
        [&expected]
    );
    assert!(lines[0].0.contains("[error]"), "{}", lines[0].0);
    Ok(())
}

/// Warnings are warnings; and after `log_repeat` the line comes again, for as long as the finding
/// is there.
#[test]
fn log_again_after_the_configured_time() -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki
        .sample("http.yaml")?
        .configuration(r#"{"log_repeat": "2s"}"#);
    let proxy = Proxy::http(sample)?;
    let aging = pki.pay().lifetime(Lifetime::from_now(-70 * DAY, 20 * DAY));
    let mut connection = proxy.open(&client(aging)?)?;
    for _ in 0..10 {
        connection.get("/", &[])?;
    }
    let first = lines(&proxy.envoy);
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0].0.contains("[warning]"), "{}", first[0].0);
    assert!(
        first[0].1.contains("finding=expires_warning"),
        "{}",
        first[0].1
    );
    eventually(Duration::from_secs(20), || {
        connection.get("/", &[])?;
        ensure!(lines(&proxy.envoy).len() > 1, "not repeated");
        Ok(())
    })
}

/// A name that would break the line, colour the terminal, or forge a line of its own.
#[test]
fn log_names_of_peers_harmlessly() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::http(pki.sample("http.yaml")?)?;
    let evil = "a\n[critical] b\r\u{1b}[31m\u{0}\u{202e}\"\\ identity=\"c";
    let long = format!("spiffe://cluster.local/{}", "x".repeat(300));
    for leaf in [pki.cas.leaf().common_name(evil), pki.cas.leaf().uri(&long)] {
        proxy.get(&client(leaf.ca_flag())?)?;
    }
    // The first is a CA without a subjectAltName; the second is a CA, and therefore no SVID.
    let lines = lines(&proxy.envoy);
    assert_eq!(lines.len(), 4, "{lines:?}");
    let value = |line: usize| {
        let (_, rest) = lines[line].1.split_once("identity=\"").unwrap_or_default();
        rest.split_once("\" issuer=").unwrap_or_default().0
    };
    let escaped = r#"a\u{a}[critical] b\u{d}\u{1b}[31m\u{0}\u{202e}\"\\ identity=\"c"#;
    for line in [0, 1] {
        assert_eq!(value(line), escaped);
    }
    for line in [2, 3] {
        assert!(value(line).starts_with(&long[..190]), "{}", value(line));
        assert!(value(line).len() <= 200, "{} bytes", value(line).len());
    }
    Ok(())
}
