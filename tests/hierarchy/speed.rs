//! What a poll costs a real Envoy in a large mesh, and which thread pays for it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::sample::yaml;

use crate::setup::Pki;
use crate::sidecar::{PROXY, polling, polls, soon, start};

const BYTES: usize = 10 << 20;
/// CPU time for a poll, of which Envoy takes a part to receive the reply.
const MILLISECONDS: u64 = 100;
const POLLS: f64 = 3.0;

/// In the place of the admin interface: no secrets, and the certificates of a mesh with thousands of clusters.
fn serve(listener: TcpListener) -> Result<()> {
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
        let (stream, certs) = (stream?, certs.clone());
        thread::spawn(move || answer(stream, &certs));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, certs: &str) -> Result<()> {
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
        let body = match request.starts_with(b"GET /certs") {
            true => certs,
            false => "{\"configs\": []}",
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
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

/// Once a worker has had a connection, the main thread reads the replies: no request waits for that.
#[test]
fn a_poll_of_ten_megabytes_is_cheap_and_keeps_no_request_waiting() -> Result<()> {
    let pki = Pki::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || serve(listener));
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
    proxy.open(&pki.client()?)?.get("/", &[])?;
    let wait_for = |number: f64| {
        soon(|| {
            let polls = polls(&proxy.stats()?, "ok");
            ensure!(polls >= number, "{polls} polls");
            Ok(polls)
        })
    };
    // By then the code is compiled as well as it will be, and the main thread has the lease.
    let before = wait_for(4.0)?;
    let pid = proxy.envoy.pid();
    let [main, all] = cpu_time(pid)?;
    let polls = (wait_for(before + POLLS)? - before) as u64;
    let [main, all] =
        [(main, 0), (all, 1)].map(|(time, index)| cpu_time(pid).map(|it| it[index] - time));
    let (main, all) = (main? / polls / 1_000_000, all? / polls / 1_000_000);
    println!("a poll of {BYTES} bytes: {main} ms of the main thread, {all} ms of all threads");
    ensure!(main <= MILLISECONDS, "{main} ms");
    ensure!(all - main <= 20, "{} ms of other threads", all - main);
    Ok(())
}
