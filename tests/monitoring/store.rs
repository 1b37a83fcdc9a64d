//! `rotation-status --prometheus` and `fleet` on a real Prometheus that has generated proxies.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
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

/// As many call others.
const CALLERS: usize = 37;
/// Envoys without the module.
const WITHOUT_MODULE: usize = 5;

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
        "layer=\"workload\",secret=\"default\",identity=\"spiffe://cluster.local/ns/ns-{}/sa/web-{number}\"",
        number % 40
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
    if number < CALLERS {
        writeln!(
            text,
            "mtls_issuer_last_seen_timestamp_seconds{{{of},direction=\"outbound\",issuer=\"{ISSUING}\"}} {}",
            now - 5
        )?;
    }
    for (domain, count) in [("cluster.local", proxies()), ("partner.example", 2)] {
        if number < count {
            writeln!(
                text,
                "mtls_connections_by_trust_domain_total{{{of},direction=\"inbound\",trust_domain=\"{domain}\"}} 7"
            )?;
        }
    }
    if number == 5 {
        writeln!(
            text,
            "mtls_own_findings{{{of},layer=\"workload\",secret=\"default\",finding=\"client_auth_missing\"}} 1"
        )?;
    }
    writeln!(text, "envoy_server_live{{{of}}} 1")?;
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
    for number in 0..WITHOUT_MODULE {
        let _ = writeln!(
            text,
            "envoy_server_live{{namespace=\"ns-0\",pod=\"bare-{number}\",instance=\"10.0.0.2:{number}\"}} 1"
        );
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

/// A Prometheus that has all of them.
fn prometheus() -> Result<Prometheus> {
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
    Ok(prometheus)
}

/// What a command prints, its exit code, and how long it took. `make fleet-cost` measures the command as it is released,
/// which MTLS_WATCH names.
fn ask(prometheus: &Prometheus, arguments: &[&str]) -> Result<(String, u8, Duration)> {
    let url = format!("http://127.0.0.1:{}", prometheus.port());
    let more = ["--timeout", "60s", "--prometheus", &url];
    let arguments = [&["mtls-watch"], arguments, &more].concat();
    let begun = Instant::now();
    if let Some(program) = std::env::var_os("MTLS_WATCH") {
        let program = testbed::workspace_root().join(program);
        let output = Command::new(program).args(&arguments[1..]).output()?;
        let took = begun.elapsed();
        ensure!(
            output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let code = u8::try_from(output.status.code().unwrap_or_default())?;
        return Ok((String::from_utf8(output.stdout)?, code, took));
    }
    let output = mtls_watch_cli::execute(&arguments);
    ensure!(output.complaint.is_empty(), "{}", output.complaint);
    Ok((output.text, output.code, begun.elapsed()))
}

fn ask_json(prometheus: &Prometheus, arguments: &[&str]) -> Result<(Value, u8)> {
    let (text, code, took) = ask(prometheus, arguments)?;
    println!("{}: {} proxies in {took:?}", arguments.join(" "), proxies());
    if std::env::var_os("MTLS_WATCH").is_some() {
        ensure!(took < Duration::from_secs(2), "{arguments:?}: {took:?}");
    }
    Ok((serde_json::from_str(&text)?, code))
}

#[test]
fn thousands_of_proxies_are_judged_by_what_they_share() -> Result<()> {
    let prometheus = prometheus()?;
    the_gates(&prometheus)?;
    the_fleet(&prometheus)?;
    one_ca(&prometheus)?;
    for_people(&prometheus)
}

fn the_gates(prometheus: &Prometheus) -> Result<()> {
    let command = ["rotation-status", "--format", "json"];
    let gate = ["--old", OLD, "--new", NEW, "--gate", "1"];
    let (report, code) = ask_json(prometheus, &[&command[..], &gate].concat())?;
    // Those that are behind; those that call others; the rest.
    let rows = report["proxies"].as_array().into_iter().flatten();
    let counts: Vec<u64> = rows.filter_map(|row| row["count"].as_u64()).collect();
    // By the names of the first.
    let expected = [BEHIND, proxies() - CALLERS, CALLERS - BEHIND].map(|count| count as u64);
    assert_eq!(counts, expected, "{report:#}");
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
    let (report, code) = ask_json(prometheus, &command)?;
    assert_eq!(
        (&report["passes"], code),
        (&Value::Bool(true), 0),
        "{report:#}"
    );
    Ok(())
}

fn ca<'a>(report: &'a Value, name: &str) -> Result<&'a Value> {
    let mut cas = report["cas"].as_array().into_iter().flatten();
    cas.find(|ca| ca["ca"] == name).context(name.to_owned())
}

fn the_fleet(prometheus: &Prometheus) -> Result<()> {
    let (report, code) = ask_json(prometheus, &["fleet", "-o", "json"])?;
    assert_eq!(
        (&report["result"], code),
        (&json!("broken"), 1),
        "{report:#}"
    );
    assert_eq!(report["proxies"]["with_module"], proxies());
    assert_eq!(report["proxies"]["without_module"], WITHOUT_MODULE);
    let uncovered = &report["proxies"]["without_module_by_namespace"];
    assert_eq!(uncovered.as_array().map(Vec::len), Some(1));
    assert_eq!(uncovered[0]["namespace"], "ns-0");
    assert_eq!(uncovered[0]["all"], proxies() / 40 + WITHOUT_MODULE);
    let old = ca(&report, OLD)?;
    assert_eq!(
        (&old["layer"], &old["state"]),
        (&json!("root_ca"), &json!("active"))
    );
    for (name, trusted, workloads, callers, called) in [
        (OLD, proxies(), proxies(), CALLERS, proxies()),
        (NEW, proxies() - BEHIND, 0, 0, 0),
        (ISSUING, 0, proxies(), CALLERS, proxies()),
    ] {
        let ca = ca(&report, name)?;
        assert_eq!(ca["trusted_by"]["count"], trusted, "{ca:#}");
        assert_eq!(ca["workloads"]["count"], workloads, "{ca:#}");
        let blast = &ca["when_it_ends"];
        assert_eq!(blast["workloads"]["count"], workloads, "{ca:#}");
        assert_eq!(blast["not_reached_by"]["count"], callers, "{ca:#}");
        assert_eq!(blast["cannot_reach"]["count"], called, "{ca:#}");
    }
    let workloads = &ca(&report, ISSUING)?["when_it_ends"]["workloads"];
    assert_eq!(workloads["namespaces"]["ns-7"], proxies() / 40);
    assert_eq!(ca(&report, ISSUING)?["above"], json!([OLD]));
    assert_eq!(
        report["trust_domains"],
        json!([{"trust_domain": "cluster.local", "workloads": proxies(), "proxies": proxies()}])
    );
    assert_eq!(
        report["across"],
        json!([{"client": "partner.example", "server": "cluster.local", "clients": 0, "servers": 2}])
    );
    let found = &report["findings"][0];
    assert_eq!(
        (&found["finding"], &found["proxies"]),
        (&json!("client_auth_missing"), &json!(1))
    );
    assert_eq!(found["examples"], json!(["ns-5/web-5"]));
    // In three years the issuing CA has ended.
    let later = [
        "fleet",
        "-o",
        "json",
        "--stale",
        "2000d",
        "--at",
        "2029-12-01T00:00:00Z",
    ];
    let (report, _) = ask_json(prometheus, &later)?;
    let ended = ca(&report, ISSUING)?;
    assert_eq!(
        (&ended["result"], &ended["finding"]),
        (&json!("broken"), &json!("expired"))
    );
    Ok(())
}

fn one_ca(prometheus: &Prometheus) -> Result<()> {
    let (report, _) = ask_json(prometheus, &["fleet", "-o", "json", "--ca", OLD])?;
    assert_eq!(report["cas"].as_array().map(Vec::len), Some(1));
    let callers = &report["cas"][0]["when_it_ends"]["not_reached_by"]["names"];
    assert_eq!(
        callers.as_array().map(Vec::len),
        Some(CALLERS),
        "{callers:#}"
    );
    let url = format!("http://127.0.0.1:{}", prometheus.port());
    let nobody = [
        "mtls-watch",
        "fleet",
        "--prometheus",
        &url,
        "--ca",
        "Nobody:00000000",
    ];
    let output = mtls_watch_cli::execute(nobody);
    assert_eq!((output.code, output.text.as_str()), (2, ""));
    ensure!(
        output
            .complaint
            .contains("no series names the CA Nobody:00000000"),
        "{}",
        output.complaint
    );
    Ok(())
}

fn for_people(prometheus: &Prometheus) -> Result<()> {
    let (text, code, _) = ask(prometheus, &["fleet"])?;
    assert_eq!(code, 1);
    for line in text.lines() {
        ensure!(line.chars().count() <= 80, "{line}\n{text}");
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentence = format!(
        "{} workloads will be refused by {} proxies: they cannot be reached by {CALLERS} that call them now, and cannot reach {}",
        proxies(),
        proxies(),
        proxies()
    );
    ensure!(words.contains(&sentence), "{text}");
    ensure!(!text.contains('\u{1b}'), "{text}");
    println!("{text}");
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
