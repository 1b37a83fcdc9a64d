//! What a poll costs in a large mesh. While a reply is read its thread does nothing else.

use mtls_watch_x509::describe::serial_number;
use mtls_watch_x509::{Certificate, parse};
use testbed::Ca;
use testbed::pki::to_pem;
use wasmtime::Result;

use crate::hierarchy::{CONFIGURATION, PROXY, root, secrets};
use crate::host::{Proxy, Reply, Worker};

/// Linear memory that a poll may add.
const MEMORY: usize = 4 << 20;
const MEGABYTES: usize = 10;

/// A TLS context as Envoy prints it: one root above, and the proxy's leaf.
fn context(ca: &Ca, leaf: &[u8]) -> String {
    let certificate = |der: &[u8], name: &str| {
        let serial = serial_number(der).expect("a serial number");
        let Certificate {
            not_before,
            not_after,
            ..
        } = parse(der).expect("a certificate");
        format!(
            "    {{\n     \"path\": \"\\u003cinline\\u003e\",\n     \"serial_number\": \"{serial}\",\n     \
             \"subject_alt_names\": [{name}],\n     \"days_until_expiration\": \"3649\",\n     \
             \"valid_from\": \"{not_before}\",\n     \"expiration_time\": \"{not_after}\"\n    }}"
        )
    };
    let name = format!("\n      {{\n       \"uri\": \"{PROXY}\"\n      }}\n     ");
    format!(
        "  {{\n   \"ca_cert\": [\n{}\n   ],\n   \"cert_chain\": [\n{}\n   ]\n  }}",
        certificate(ca.der(), ""),
        certificate(leaf, &name)
    )
}

/// The reply of so many bytes that has these contexts in turn.
fn certs(contexts: &[String], bytes: usize) -> String {
    let mut all = Vec::new();
    let mut size = 0;
    for context in contexts.iter().cycle() {
        size += context.len() + ",\n".len();
        all.push(context.as_str());
        if size >= bytes {
            break;
        }
    }
    format!("{{\n \"certificates\": [\n{}\n ]\n}}\n", all.join(",\n"))
}

fn reply(worker: &mut Worker, body: String) -> Result<()> {
    let call = worker.host().http_calls.last().expect("a call").token;
    let headers = vec![(":status".to_owned(), b"200".to_vec())];
    let body = body.into_bytes();
    worker.reply(call, Reply { headers, body })
}

/// As in a mesh, where nearly all clusters have one TLS context; with a few in turn; and the worst, where each has another.
#[test]
fn a_poll_of_ten_megabytes_costs_little() -> Result<()> {
    /// WebAssembly instructions for a byte of a reply, reads and writes of local variables included: as measured, and a tenth
    /// on top.
    const BUDGETS: [(&str, usize, u64); 3] = [
        ("one TLS context", 1, 6),
        ("five in turn", 5, 10),
        ("each another", 100_000, 180),
    ];
    let ca = root();
    let leaf = ca.leaf().uri(PROXY).issue()?;
    let secrets = secrets(&[&to_pem(&leaf.chain())], &[&ca.pem()]).to_string();
    let one = context(&ca, leaf.der());
    for (case, different, budget) in BUDGETS {
        let with_days = |number| one.replacen("3649", &format!("{number:06}"), 1);
        let contexts: Vec<String> = (0..different).map(with_days).collect();
        let certs = certs(&contexts, MEGABYTES << 20);
        let proxy = Proxy::new();
        let mut worker = proxy.worker(CONFIGURATION)?;
        worker.tick()?;
        reply(&mut worker, secrets.clone())?;
        let (before, memory) = (worker.instructions()?, worker.memory());
        let bytes = certs.len() as u64;
        reply(&mut worker, certs)?;
        let instructions = (worker.instructions()? - before) / bytes;
        let memory = worker.memory() - memory;
        println!(
            "{MEGABYTES} MiB of /certs, {case}: {instructions} instructions a byte, {memory} bytes of memory"
        );
        let age = proxy.gauge("mtls_watch_hierarchy_poll_age_seconds");
        assert_eq!(age, Some(0), "{case}");
        assert!(instructions <= budget, "{case}");
        assert!(memory <= MEMORY, "{case}");
    }
    Ok(())
}
