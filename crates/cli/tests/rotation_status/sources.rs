//! Where metrics come from, and what is told of those that cannot be read.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use crate::metrics::{AT, OLD, OLD_ROOT, Sidecar};
use crate::run::{command, json, text};

fn healthy() -> Sidecar {
    Sidecar::trusting(&[OLD_ROOT])
        .signed_under(OLD, OLD_ROOT)
        .seen(OLD, 1)
}

/// Serves one request per element, and gives back the paths that were asked for.
fn serve(replies: Vec<Vec<u8>>) -> (SocketAddr, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let reply_to = |reply: Vec<u8>| reply_to(listener.accept().unwrap().0, &reply);
        replies.into_iter().map(reply_to).collect()
    });
    (address, serving)
}

fn reply_to(mut stream: TcpStream, reply: &[u8]) -> String {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let head: Vec<String> = lines
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty())
        .collect();
    stream.write_all(reply).unwrap();
    head[0].split(' ').nth(1).unwrap().to_owned()
}

fn plain(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// As Envoy's admin interface replies.
fn chunked(body: &str) -> Vec<u8> {
    let (first, second) = body.split_at(body.len() / 2);
    let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    [head, &chunk(first), &chunk(second), "0\r\n\r\n"]
        .concat()
        .into_bytes()
}

#[test]
fn reads_proxies_over_http() {
    let sidecar = healthy();
    let (address, serving) = serve(vec![
        plain("200 OK", sidecar.text()),
        chunked(sidecar.text()),
    ]);
    let web = format!("web=http://{address}");
    let cart = format!("http://{address}/stats/prometheus?filter=mtls_");
    let run = command(&["--at", AT, "--format", "json", &web, &cart], b"");
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["proxies"][0]["name"], "web");
    assert_eq!(report["proxies"][1]["name"], cart);
    assert_eq!(
        serving.join().unwrap(),
        ["/stats/prometheus", "/stats/prometheus?filter=mtls_"]
    );
}

#[test]
fn a_url_that_does_not_answer_is_named() {
    let (address, serving) = serve(vec![plain("503 Service Unavailable", "no")]);
    let url = format!("http://{address}/");
    let run = command(&[&url], b"");
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains(&url) && run.stderr.contains("503"),
        "{}",
        run.stderr
    );
    serving.join().unwrap();
    // Nobody listens there any more.
    let run = command(&[&url], b"");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains(&url), "{}", run.stderr);
    let run = command(&["https://127.0.0.1:1"], b"");
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("https is not spoken here"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_url_that_hangs_is_given_up() {
    // Connections wait in the listener's queue, and nobody takes them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let run = command(&["--timeout", "1s", &url], b"");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("timeout"), "{}", run.stderr);
}

#[test]
fn reads_standard_input() {
    let run = command(&["--at", AT, "-"], healthy().text().as_bytes());
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("nothing is wrong"), "{}", run.stdout);
}

#[test]
fn garbage_is_told_with_file_and_line() {
    let folder = TempDir::new().unwrap();
    let error = |content: &[u8]| {
        let file = folder.path().join("scrape.prom");
        fs::write(&file, content).unwrap();
        let run = command(&[file.to_str().unwrap()], b"");
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
        run.stderr.replace(folder.path().to_str().unwrap(), "")
    };
    assert_eq!(
        error(b"a 1\n<html>\n"),
        "mtls-watch: /scrape.prom: line 2: expected the name of a metric\n"
    );
    assert_eq!(
        error(b"a 1\n\n# comment\nmtls_trust_bundle_ca{ca=\"Root"),
        "mtls-watch: /scrape.prom: line 4: expected labels such as {ca=\"Root_CA:1f2e3d4c\"}\n"
    );
    assert_eq!(
        error(&[0xff, 0x00]),
        "mtls-watch: /scrape.prom: line 1: not UTF-8\n"
    );
    for empty in ["", "\n\n", "# TYPE a counter\n"] {
        assert_eq!(
            error(empty.as_bytes()),
            "mtls-watch: /scrape.prom: no metrics: expected the text of a proxy's /stats/prometheus\n"
        );
    }
}

#[test]
fn bad_usage_is_told() {
    let file = NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for (arguments, expected) in [
        (vec![], "required arguments"),
        (vec!["--old", "a:1", path], "--new <NAME>"),
        (vec!["--gate", "1", path], "--old <NAME>"),
        (
            vec!["--old", "a:1", "--new", "b:1", "--gate", "6", path],
            "6 is not in 1..=5",
        ),
        (
            vec!["--old", "a:1", "--new", "a:1", path],
            "--old and --new are both a:1",
        ),
        (vec!["--recent", "1 h", path], "expected a duration"),
        (vec!["--recent", "0s", path], "expected a duration"),
        (vec!["/does/not/exist"], "/does/not/exist: No such file"),
        (vec!["a=x", "a=y"], "a: given twice"),
        (vec!["--cas", path, path], "no certificate: expected PEM"),
    ] {
        let run = command(&arguments, b"");
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(
            run.stderr.contains(expected),
            "{arguments:?}: {}",
            run.stderr
        );
    }
}

#[test]
fn only_certificates_of_cas_tell_of_the_hierarchy() {
    let leaf = pki::Hierarchy::new().unwrap().leaf().issue().unwrap();
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), leaf.leaf_pem()).unwrap();
    let run = text(
        &["--cas", file.path().to_str().unwrap()],
        &[("web", &healthy())],
    );
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.ends_with("certificate 1: not a CA\n"),
        "{}",
        run.stderr
    );
    fs::write(
        file.path(),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let run = text(
        &["--cas", file.path().to_str().unwrap()],
        &[("web", &healthy())],
    );
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("certificate 1: "), "{}", run.stderr);
}

#[test]
fn a_proxy_of_which_nothing_is_known_says_why() {
    let unknown = |text: &str| {
        let sidecar = Sidecar::default().line(text);
        let (code, report) = json(&[], &[("web", &sidecar)]);
        assert_eq!(code, 1);
        report["proxies"][0]["unknown"].as_str().unwrap().to_owned()
    };
    assert!(unknown("envoy_server_live{} 1").contains("not loaded"));
    assert!(unknown("mtls_watch_info{version=\"0.1.0\"} 1").contains("set \"hierarchy\""));
    assert!(unknown("ca___Root_CA_0a____mtls_trust_bundle_ca{} 1").contains("stats tags"));
}

#[test]
fn nothing_from_a_file_moves_the_cursor_or_is_invisible() {
    for mark in ['\u{1b}', '\u{202e}', '\u{61c}', '\u{200b}'] {
        let sidecar = Sidecar::trusting(&[&format!("Root{mark}_CA:0a0a0a0a")]);
        let shown = text(&[], &[("web", &sidecar)]).stdout;
        let escaped = format!("Root{}_CA", mark.escape_unicode());
        assert!(shown.contains(&escaped) && !shown.contains(mark), "{shown}");
    }
}
