//! `rotation-status --prometheus` on a real Prometheus that has generated proxies.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use testbed::Prometheus;
use testbed::pki::{DAY, now};
use testbed::stats::eventually;

/// How many there are; with FULL=1 as many as in a large mesh (`make fleet-cost`).
fn proxies() -> usize {
    match testbed::is_full() {
        true => 8_000,
        false => 1_000,
    }
}

/// Of these, as many trust the old CA alone.
const BEHIND: usize = 3;

const OLD: &str = "Root_CA:0a0a0a0a";
const NEW: &str = "Root_CA:1a1a1a1a";
const ISSUING: &str = "Issuing_CA:0b0b0b0b";

/// What a scrape of one proxy has, with the labels that a scrape configuration adds.
fn proxy(text: &mut String, number: usize, begun: i64) -> std::fmt::Result {
    let of = format!(
        "namespace=\"ns-{}\",pod=\"web-{number}\",instance=\"10.0.0.1:{number}\"",
        number % 40
    );
    let now = now();
    let leaf = format!(
        "layer=\"workload\",secret=\"default\",identity=\"spiffe://cluster.local/ns/n/sa/web-{number}\""
    );
    let issuing = format!(
        "layer=\"issuing_ca\",secret=\"default\",identity=\"{ISSUING}\",certificate=\"0b0b0b0b\""
    );
    let root = |ca: &str| {
        let digits = &ca[ca.len() - 8..];
        format!("layer=\"root_ca\",secret=\"ROOTCA\",identity=\"{ca}\",certificate=\"{digits}\"")
    };
    let roots = match number < BEHIND {
        true => vec![OLD],
        false => vec![OLD, NEW],
    };
    // A day's leaf, of which each proxy has another part left.
    let left = 3600 + i64::try_from(number).unwrap_or(0) * 7;
    let mut own = vec![(leaf, left - DAY, left), (issuing, -100 * DAY, 265 * DAY)];
    own.extend(roots.iter().map(|ca| (root(ca), -100 * DAY, 3550 * DAY)));
    for (labels, from, to) in own {
        writeln!(text, "mtls_own_certificate_present{{{of},{labels}}} 1")?;
        writeln!(
            text,
            "mtls_own_certificate_not_before_timestamp_seconds{{{of},{labels}}} {}",
            begun + from
        )?;
        writeln!(
            text,
            "mtls_own_certificate_not_after_timestamp_seconds{{{of},{labels}}} {}",
            begun + to
        )?;
    }
    for ca in roots {
        let digits = &ca[ca.len() - 8..];
        writeln!(
            text,
            "mtls_trust_bundle_ca{{{of},secret=\"ROOTCA\",ca=\"{ca}\",certificate=\"{digits}\"}} 1"
        )?;
    }
    writeln!(
        text,
        "mtls_own_issuer{{{of},secret=\"default\",ca=\"{ISSUING}\"}} 1"
    )?;
    writeln!(
        text,
        "mtls_own_trust_anchor{{{of},secret=\"default\",ca=\"{OLD}\"}} 1"
    )?;
    writeln!(
        text,
        "mtls_issuer_last_seen_timestamp_seconds{{{of},direction=\"inbound\",issuer=\"{ISSUING}\"}} {}",
        now - 5
    )?;
    writeln!(text, "mtls_watch_info{{{of},version=\"0.2.0\"}} 1")?;
    writeln!(text, "mtls_watch_last_tick_timestamp_seconds{{{of}}} {now}")?;
    writeln!(
        text,
        "mtls_watch_hierarchy_poll_age_seconds{{{of}}} {}",
        number % 60
    )
}

/// All proxies as one scrape. Certificates keep their dates since `begun`; what the module says of itself is new each time.
fn scrape(begun: i64) -> String {
    let mut text = String::new();
    for number in 0..proxies() {
        // Writing to a String cannot fail.
        let _ = proxy(&mut text, number, begun);
    }
    text
}

/// Serves all proxies, to whoever asks.
fn serve() -> Result<u16> {
    let begun = now();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(|stream| stream.ok()) {
            let mut stream = stream;
            let Ok(reader) = stream.try_clone() else {
                continue;
            };
            let head = BufReader::new(reader).lines().map_while(|line| line.ok());
            head.take_while(|line| !line.is_empty()).for_each(drop);
            let text = scrape(begun);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            // Whoever has gone reads nothing.
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(text.as_bytes()));
        }
    });
    Ok(port)
}

fn ask(prometheus: &Prometheus, arguments: &[&str]) -> Result<(Value, u8, Duration)> {
    let url = format!("http://127.0.0.1:{}", prometheus.port());
    let fixed = [
        "mtls-watch",
        "rotation-status",
        "--format",
        "json",
        "--timeout",
        "60s",
        "--prometheus",
        &url,
    ];
    let begun = Instant::now();
    let output = mtls_watch_cli::execute([&fixed, arguments].concat());
    let took = begun.elapsed();
    ensure!(output.complaint.is_empty(), "{}", output.complaint);
    Ok((serde_json::from_str(&output.text)?, output.code, took))
}

#[test]
fn thousands_of_proxies_are_judged_by_a_handful_of_queries() -> Result<()> {
    // The scrape of thousands takes its time on a busy machine.
    let interval = match testbed::is_full() {
        true => "20s",
        false => "5s",
    };
    let configuration = format!(
        "
global: {{ scrape_interval: {interval}, scrape_timeout: {interval} }}
scrape_configs:
  - job_name: mesh
    honor_labels: true
    static_configs: [{{ targets: [\"127.0.0.1:{}\"] }}]
",
        serve()?
    );
    let prometheus = Prometheus::start(&configuration, &[])?;
    // The first scrape comes within an interval.
    eventually(Duration::from_secs(120), || {
        let count = prometheus.query("count(mtls_watch_info)")?;
        let is_whole = count
            .first()
            .is_some_and(|count| count.value == proxies() as f64);
        let targets = || prometheus.api("/api/v1/targets").unwrap_or_default();
        ensure!(is_whole, "{count:?}: {}", targets());
        Ok(())
    })?;
    let gate = ["--old", OLD, "--new", NEW, "--gate", "1"];
    let (report, code, took) = ask(&prometheus, &gate)?;
    println!("{} proxies in {took:?}", proxies());
    // Two kinds: those that trust both, and those that are behind.
    let rows = report["proxies"].as_array().into_iter().flatten();
    let counts: Vec<u64> = rows.filter_map(|row| row["count"].as_u64()).collect();
    assert_eq!(
        counts,
        [BEHIND as u64, (proxies() - BEHIND) as u64],
        "{report:#}"
    );
    assert_eq!(code, 1);
    let first = &report["gates"][0]["because"][0];
    assert_eq!(first["verdict"], "closed", "{report:#}");
    assert_eq!(
        first["proxy"],
        format!("ns-0/web-0 and {} like it", BEHIND - 1)
    );
    let cas = report["cas"].as_array().into_iter().flatten();
    let trusted: Vec<(&str, u64)> = cas
        .filter_map(|ca| Some((ca["ca"].as_str()?, ca["in_bundles"].as_u64()?)))
        .collect();
    ensure!(trusted.contains(&(OLD, proxies() as u64)), "{trusted:?}");
    ensure!(
        trusted.contains(&(NEW, (proxies() - BEHIND) as u64)),
        "{trusted:?}"
    );
    // Without a rotation: whatever is signed is trusted.
    let (report, code, _) = ask(&prometheus, &[])?;
    assert_eq!(
        (&report["passes"], code),
        (&Value::Bool(true), 0),
        "{report:#}"
    );
    Ok(())
}

#[test]
fn what_is_no_prometheus_is_told() -> Result<()> {
    let echo = testbed::Server::http_echo(None)?;
    let echo = format!("http://127.0.0.1:{}", echo.port());
    for (url, expected) in [
        (&*echo, "it answers, and is no Prometheus"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1/api/v1/query"),
    ] {
        let output =
            mtls_watch_cli::execute(["mtls-watch", "rotation-status", "--prometheus", url]);
        assert_eq!((output.code, output.text.as_str()), (2, ""));
        ensure!(output.complaint.contains(expected), "{}", output.complaint);
        assert_eq!(output.complaint.lines().count(), 1);
    }
    Ok(())
}
