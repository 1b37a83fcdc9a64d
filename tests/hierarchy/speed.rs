//! What a poll costs a real Envoy in a large mesh, and which thread pays for it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::sample::yaml;

use crate::setup::Pki;
use crate::sidecar::{PROXY, polling, polls as counted, soon, start};

const BYTES: usize = 10 << 20;
/// CPU time for a poll, of which Envoy takes a part to receive the reply.
const MILLISECONDS: u64 = 100;
/// A request waits for its own worker at most.
const OF_OTHERS: u64 = 20;
const POLLS: u64 = 3;

/// In the place of the admin interface: no secrets, and the certificates of a mesh with thousands of clusters.
fn serve(listener: TcpListener, status: &'static str, asked: &Arc<AtomicU64>) -> Result<()> {
    let certificate = |names: &str| {
        format!(
            "    {{\n     \"path\": \"/etc/certs/x.crt\",\n     \"serial_number\": \"0123456789abcdef\",\n     \
             \"subject_alt_names\": [{names}],\n     \"days_until_expiration\": \"3649\",\n     \
             \"valid_from\": \"2026-01-01T00:00:00Z\",\n     \"expiration_time\": \"2036-01-01T00:00:00Z\"\n    }}"
        )
    };
    let names = format!("\n      {{\n       \"uri\": \"{PROXY}\"\n      }}\n     ");
    let context = format!(
        "  {{\n   \"ca_cert\": [\n{}\n   ],\n   \"cert_chain\": [\n{}\n   ]\n  }}",
        certificate(""),
        certificate(&names)
    );
    let contexts = vec![context.as_str(); BYTES.div_ceil(context.len())].join(",\n");
    let certs = format!("{{\n \"certificates\": [\n{contexts}\n ]\n}}\n");
    for stream in listener.incoming() {
        let (stream, certs, asked) = (stream?, certs.clone(), Arc::clone(asked));
        thread::spawn(move || answer(stream, status, &certs, &asked));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, status: &str, certs: &str, asked: &AtomicU64) -> Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..length]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let (status, body) = match request.starts_with(b"GET /certs") {
            true => (status, certs),
            false => {
                asked.fetch_add(1, Ordering::Relaxed);
                ("200 OK", "{\"configs\": []}")
            }
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        request.clear();
    }
}

/// Nanoseconds on a CPU, of the main thread and of all threads.
fn cpu_time(pid: u32) -> Result<[u64; 2]> {
    let mut times = [0, 0];
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let text = fs::read_to_string(task.path().join("schedstat"))?;
        let time: u64 = text.split(' ').next().context("a time")?.parse()?;
        if task.file_name().to_string_lossy() == pid.to_string() {
            times[0] = time;
        }
        times[1] += time;
    }
    Ok(times)
}

/// Milliseconds on a CPU that one poll costs the main thread and the others, if the reply comes with that status.
fn cost_of_a_poll(status: &'static str, result: &str) -> Result<[u64; 2]> {
    let pki = Pki::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let asked = Arc::new(AtomicU64::new(0));
    let asks = Arc::clone(&asked);
    thread::spawn(move || serve(listener, status, &asks));
    let endpoint = json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}});
    let assignment = yaml(
        json!({"cluster_name": "prometheus_stats", "endpoints": [{"lb_endpoints": [endpoint]}]}),
    );
    let sample = polling(&pki)?.edit(|node| {
        if node["name"] == "prometheus_stats" && node.get("load_assignment").is_some() {
            node["load_assignment"] = assignment.clone();
        }
    });
    let proxy = start(sample, 1)?;
    // The main thread polls once the worker has had traffic.
    proxy.open(&pki.client()?)?.get("/", &[])?;
    // A scrape would cost the main thread more than a poll does.
    let wait_for = |number: u64| {
        soon(|| {
            let asked = asked.load(Ordering::Relaxed);
            ensure!(asked >= number, "{asked} polls");
            Ok(asked)
        })
    };
    // By then the code is compiled as well as it will be.
    let first = wait_for(5)?;
    let pid = proxy.envoy.pid();
    let [main, all] = cpu_time(pid)?;
    let polls = wait_for(first + POLLS)? - first;
    let [main_after, all_after] = cpu_time(pid)?;
    let main = main_after - main;
    let others = all_after - all - main;
    let counted = counted(&proxy.stats()?, result);
    ensure!(counted >= polls as f64, "{counted} polls {result}");
    Ok([main, others].map(|time| time / polls / 1_000_000))
}

/// Once a worker has had a connection, the main thread reads the replies: no request waits for that. What Envoy takes to
/// receive the reply it takes for any module: so much costs one that is not read.
#[test]
fn a_poll_of_ten_megabytes_is_cheap_and_keeps_no_request_waiting() -> Result<()> {
    let [received, _] = cost_of_a_poll("503 Service Unavailable", "error")?;
    let [main, others] = cost_of_a_poll("200 OK", "ok")?;
    println!(
        "a poll of {BYTES} bytes: {main} ms of the main thread, {received} ms of which to receive them; {others} ms of \
         the others"
    );
    ensure!(main <= MILLISECONDS, "{main} ms");
    ensure!(others <= OF_OTHERS, "{others} ms of other threads");
    Ok(())
}
