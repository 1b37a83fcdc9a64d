//! Memory: a proxy runs for months, and linear memory never shrinks.

use testbed::is_full;
use wasmtime::Result;

use crate::attributes::Attributes;
use crate::host::Proxy;
use crate::pki::{Certificate, Leaf};

const PAGE: usize = 65_536;
const MAXIMUM: usize = 2 << 20;

/// Of what hostile chains leave behind.
const JUNK_LIMIT: usize = 8 << 20;

/// More than the first measurement is taken after, so that those that come later would show.
const PEERS: usize = 12_000;

/// Different certificates of different identities, made of one by changing five digits.
fn peers() -> Vec<Attributes> {
    let template = Certificate::workload("spiffe://cluster.local/ns/shop/sa/w-00000");
    (0..PEERS)
        .map(|number| {
            let digits = format!("w-{number:05}");
            let peer = template.patched(b"w-00000", digits.as_bytes());
            Attributes::http().client(&peer)
        })
        .collect()
}

/// With `FULL=1` more; `CONTEXTS=1000000` takes some minutes.
fn contexts() -> usize {
    let default = if is_full() { 100_000 } else { 50_000 };
    let contexts = std::env::var("CONTEXTS").ok();
    contexts.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn memory_is_flat_over_many_contexts() -> Result<()> {
    let contexts = contexts();
    let http = peers();
    let network: Vec<_> = http
        .iter()
        .map(|peer| peer.clone().without("request.protocol"))
        .collect();
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let mut serve = |contexts: std::ops::Range<usize>| -> Result<usize> {
        for number in contexts {
            if number % 2 == 0 {
                worker.exchange(&http[number / 2 % PEERS].clone().reconnected())?;
            } else {
                worker.connection(&network[number / 2 % PEERS].clone().reconnected())?;
            }
            if number % 1000 == 0 {
                worker.tick()?;
            }
        }
        Ok(worker.memory())
    };
    let early = serve(0..20_000)?;
    let late = serve(20_000..contexts)?;
    println!("linear memory: {early} bytes, after {contexts} contexts {late}");
    // A page more or less is the allocator's luck.
    assert!(late <= early + PAGE, "{early} bytes grew to {late}");
    assert!(late < MAXIMUM, "{late} bytes");
    let series = proxy.metrics().len();
    assert!(series < 1000, "{series} series");
    let half = u64::try_from(contexts / 2)?;
    assert_eq!(proxy.total("mtls_requests_total"), half);
    assert_eq!(proxy.total("mtls_connections_total"), half);
    Ok(())
}

/// Envoy says goodbye to no configuration that it drops, as far as the module is asked to listen.
#[test]
fn a_configuration_that_ticks_no_more_is_given_up() -> Result<()> {
    const UPDATES: usize = 30;
    const HALF_AN_HOUR: usize = 360;
    let mut worker = Proxy::new().worker("")?;
    let mut update_and_wait = || -> Result<usize> {
        for _ in 0..UPDATES {
            worker.configure_another("")?;
        }
        for _ in 0..HALF_AN_HOUR * (UPDATES + 1) {
            worker.tick()?;
        }
        Ok(worker.memory())
    };
    update_and_wait()?;
    let early = update_and_wait()?;
    for _ in 0..5 {
        let late = update_and_wait()?;
        assert!(late < early + PAGE, "{early} bytes grew to {late}");
    }
    Ok(())
}

/// Envoy says of no request of a cluster's filter that it is over, and a host may forget to say it at all.
#[test]
fn requests_that_never_end_are_bounded() -> Result<()> {
    const REQUESTS: usize = 40_000;
    let peer = Certificate::workload("spiffe://d/x");
    let request = Attributes::http().server(&peer);
    for (limit, attributes) in [
        (2 << 20, request.clone().behind_router()),
        (32 << 20, request),
    ] {
        let mut worker = Proxy::new().worker("")?;
        for _ in 0..REQUESTS {
            let context = worker.open(&attributes)?;
            worker.request_headers(context, Vec::new())?;
            worker.forget(context);
        }
        let memory = worker.memory();
        assert!(memory < limit, "{memory} bytes");
    }
    Ok(())
}

/// The module keeps at most 131,072 of them (src/streams.rs).
#[test]
fn connections_that_never_end_are_bounded() -> Result<()> {
    let peer = Certificate::workload("spiffe://d/x");
    let connection = Attributes::network().client(&peer);
    let mut worker = Proxy::new().worker("")?;
    let mut use_contexts = |count: usize| -> Result<usize> {
        for _ in 0..count {
            let context = worker.open(&connection)?;
            worker.downstream_data(context)?;
            worker.forget(context);
        }
        Ok(worker.memory())
    };
    let full = use_contexts(135_000)?;
    let later = use_contexts(70_000)?;
    assert!(later < full + (1 << 20), "{full} bytes grew to {later}");
    Ok(())
}

/// A client with a certificate that is trusted sends what it likes beside it: another junk root on each
/// connection, with a long name, or many of them.
#[test]
fn junk_in_chains_is_not_kept() -> Result<()> {
    const NAME: usize = 30_000;
    const DIGITS: &[u8] = b"junk-00000";
    let leaf = Leaf::new("spiffe://d/x").sign();
    let long = format!("junk-00000{}", "x".repeat(NAME));
    let root = Leaf::nameless()
        .common_name(&long)
        .with(|leaf| leaf.ca_flag());
    let root = root.sign();
    let of_many = Leaf::nameless().common_name(&format!("junk-00000{}", "x".repeat(2000)));
    let of_many = of_many.with(|leaf| leaf.ca_flag()).sign();
    for (root, copies, connections) in [(&root, 1, 500), (&of_many, 14, 500)] {
        let mut worker = Proxy::new().worker("")?;
        for connection in 0..connections {
            let mut chain = leaf.url_encoded_pem();
            for copy in 0..copies {
                let digits = format!("junk-{:05}", connection * copies + copy);
                chain += &root.patched(DIGITS, digits.as_bytes()).url_encoded_pem();
            }
            let element = format!("Hash={};Chain=\"{chain}\"", leaf.digest());
            let headers = vec![("x-forwarded-client-cert".to_owned(), element.into_bytes())];
            let request = worker.open(&Attributes::http().client(&leaf).reconnected())?;
            worker.request_headers(request, headers)?;
            worker.finish(request)?;
        }
        let memory = worker.memory();
        println!("{copies} of junk on each of {connections} connections: {memory} bytes");
        assert!(memory < JUNK_LIMIT, "{memory} bytes");
    }
    Ok(())
}

/// Connections that stay open while others come and go cost little each.
#[test]
fn an_open_connection_costs_little() -> Result<()> {
    const CONNECTIONS: usize = 20_000;
    let peer = Attributes::network().client(&Certificate::workload("spiffe://d/x"));
    let mut worker = Proxy::new().worker("")?;
    let before = worker.memory();
    for _ in 0..CONNECTIONS {
        let connection = worker.open(&peer)?;
        worker.downstream_data(connection)?;
    }
    let each = (worker.memory() - before) / CONNECTIONS;
    assert!(each < 500, "{each} bytes each");
    Ok(())
}
