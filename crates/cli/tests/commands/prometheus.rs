//! `fleet`, `diagnose` and `rotation-status` of a Prometheus: what guards it, what it answers, and again and again.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::NamedTempFile;

use crate::cli::{Run, run};

const COMMANDS: [&str; 3] = ["fleet", "diagnose", "rotation-status"];

/// One proxy, which is the answer to every question.
const ONE_PROXY: &str = r#"{"status":"success","data":{"resultType":"vector","result":[
    {"metric":{"__name__":"mtls_watch_info","namespace":"shop","pod":"web-1","version":"0.2.0"},"value":[1,"1"]}]}}"#;
const EMPTY: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

/// Answers every request with what `reply` makes of its number, and keeps their heads.
struct Server {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(reply: impl Fn(usize) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (kept, reply) = (Arc::clone(&heads), Arc::new(reply));
        let count = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, reply) = (Arc::clone(&kept), Arc::clone(&reply));
                let count = Arc::clone(&count);
                // Whoever has gone reads nothing.
                thread::spawn(move || answer(stream, &kept, &count, &*reply));
            }
        });
        Self { url, heads }
    }

    fn json(body: &'static str) -> Self {
        Self::new(move |_| http("200 OK", body, body.len()))
    }
}

fn answer(
    mut stream: TcpStream,
    kept: &Mutex<Vec<String>>,
    count: &AtomicUsize,
    reply: &(dyn Fn(usize) -> String + Send + Sync),
) -> Option<()> {
    let reader = BufReader::new(stream.try_clone().ok()?);
    let head = reader.lines().map_while(Result::ok);
    let head: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
    kept.lock().ok()?.push(head.join("\n"));
    let number = count.fetch_add(1, Ordering::Relaxed);
    stream.write_all(reply(number).as_bytes()).ok()
}

fn http(status: &str, body: &str, length: usize) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn ask(command: &str, url: &str, more: &[&str]) -> Run {
    run(&[&[command, "--prometheus", url], more].concat(), b"")
}

#[track_caller]
fn refused(run: &Run, expected: &str) {
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    assert!(run.stderr.contains(expected), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
}

#[test]
fn what_is_no_prometheus_or_says_half_is_told_in_a_line() {
    let partial = r#"{"status":"success","warnings":["store eu-2: no answer"],"data":{"resultType":"vector","result":[]}}"#;
    let too_much = r#"{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory"}"#;
    let servers = [
        (
            Server::json("<html>hello</html>"),
            "it answers, and is no Prometheus",
        ),
        (
            Server::json(r#"{"status":"success"}"#),
            "Prometheus refuses the query: success",
        ),
        (
            Server::json(partial),
            "Prometheus answers in part only, by which nothing can be judged: store eu-2",
        ),
        (Server::json(EMPTY), "it has no metrics of mtls-watch"),
        (
            Server::new(move |_| http("422 Unprocessable Entity", too_much, too_much.len())),
            "Prometheus refuses the query: query processing would load too many samples",
        ),
        (
            Server::new(|_| http("502 Bad Gateway", "try\nlater", 9)),
            "502: try",
        ),
        (
            Server::new(|_| http("401 Unauthorized", "", 0)),
            "401: no text",
        ),
        // The connection breaks in the middle.
        (
            Server::new(|_| http("200 OK", &ONE_PROXY[..80], ONE_PROXY.len())),
            "http://127.0.0.1",
        ),
        (
            Server::json(&ONE_PROXY[..80]),
            "it answers, and is no Prometheus: EOF",
        ),
    ];
    for (server, expected) in servers {
        for command in COMMANDS {
            refused(&ask(command, &server.url, &[]), expected);
        }
    }
}

#[test]
fn what_is_slow_is_not_waited_for() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", slow.local_addr().unwrap());
    for command in COMMANDS {
        refused(
            &ask(command, &url, &["--timeout", "1s"]),
            "no answer within 1 s",
        );
    }
}

#[test]
fn a_proxy_that_tells_nothing_is_unknown() {
    let server = Server::json(ONE_PROXY);
    for (command, code) in [("fleet", 2), ("diagnose", 2), ("rotation-status", 1)] {
        let run = ask(command, &server.url, &[]);
        assert_eq!(run.code, code, "{command}: {}{}", run.stdout, run.stderr);
        assert!(
            run.stdout.contains("mtls_watch_hierarchy_poll") || run.stdout.contains("hierarchy"),
            "{}",
            run.stdout
        );
    }
}

#[test]
fn a_guarded_one_is_asked_as_it_wants() {
    let secret = |text: &str| {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    };
    let (token, password) = (secret("abc\n"), secret("user:word\n"));
    for (option, file, expected) in [
        ("--bearer-token-file", &token, "authorization: Bearer abc"),
        (
            "--basic-auth-file",
            &password,
            "authorization: Basic dXNlcjp3b3Jk",
        ),
    ] {
        let server = Server::json(ONE_PROXY);
        for command in COMMANDS {
            ask(
                command,
                &server.url,
                &[option, file.path().to_str().unwrap()],
            );
        }
        let heads = server.heads.lock().unwrap();
        assert!(heads.len() > 30, "{}", heads.len());
        assert!(
            heads.iter().all(|head| head.contains(expected)),
            "{heads:#?}"
        );
    }
}

#[test]
fn one_that_is_watched_is_asked_again_also_after_a_failure() {
    // The first report has as many questions.
    let first = {
        let server = Server::json(ONE_PROXY);
        ask("fleet", &server.url, &[]);
        server.heads.lock().unwrap().len()
    };
    let server = Server::new(move |number| match number / first {
        1 => http("502 Bad Gateway", "later", 5),
        _ => http("200 OK", ONE_PROXY, ONE_PROXY.len()),
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_mtls-watch"))
        .args(["fleet", "--watch", "1s", "--prometheus", &server.url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let (mut reports, mut failures) = (0, 0);
    for line in lines {
        reports += usize::from(line.contains("1 proxy with the module"));
        failures += usize::from(line.contains("502: later"));
        if reports == 2 {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((reports, failures), (2, 1));
}

#[test]
fn a_first_failure_ends_the_watch() {
    let server = Server::json(EMPTY);
    refused(
        &ask("fleet", &server.url, &["--watch", "1s"]),
        "it has no metrics",
    );
    refused(
        &ask("rotation-status", &server.url, &["--watch", "1s"]),
        "it has no metrics",
    );
}

/// The address of a server to which nobody listens.
#[test]
fn nobody_is_there() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for command in COMMANDS {
        refused(
            &ask(command, &format!("http://{closed}"), &[]),
            "api/v1/query",
        );
    }
}

#[test]
fn examples_of_the_help_are_read_as_they_stand() {
    let help = run(&["--help"], b"").stdout;
    let commands = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1);
    let commands = commands.take_while(|line| line.starts_with("  "));
    let names: Vec<&str> = commands
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.contains(&"fleet"), "{help}");
    let mut examples = Vec::new();
    for name in names.iter().filter(|name| **name != "help") {
        let help = run(&[name, "--help"], b"").stdout;
        let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
        examples.extend(
            lines
                .map(|line| line.trim().to_owned())
                .filter(|line| !line.is_empty()),
        );
    }
    assert!(examples.len() > 20, "{examples:#?}");
    for example in examples {
        let ours = example
            .split('|')
            .map(str::trim)
            .find(|it| it.starts_with("mtls-watch"));
        let words = ours
            .unwrap_or_else(|| panic!("{example}"))
            .split('>')
            .next()
            .unwrap();
        let words: Vec<&str> = words.split_whitespace().skip(1).collect();
        // Nobody is there; it is no bad usage.
        let words: Vec<String> = words
            .iter()
            .map(|word| {
                word.replace("10.0.0.", "127.0.0.")
                    .replace("prometheus.example.com", "127.0.0.1:1")
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = run(&words, b"");
        assert!(!run.stderr.contains("Usage:"), "{example}: {}", run.stderr);
        assert!(!run.stderr.contains("error:"), "{example}: {}", run.stderr);
    }
}
