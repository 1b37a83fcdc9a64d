//! CAs of peers' chains: what is remembered of them, by all workers, and what is not.

use testbed::pki::KeyUsage;
use testbed::{Ca, Identity};
use wasmtime::Result;

use crate::attributes::Attributes;
use crate::hierarchy::{CONFIGURATION, PROXY, TICK, answer, root, secrets};
use crate::host::{Headers, Proxy, Worker};
use crate::metrics::series;
use crate::pki::{Certificate, url_encode};

/// CAs of peers that are remembered.
const LIMIT: usize = 64;

/// A worker that has polled: the own chain is signed by the root, which is all that is trusted.
fn worker(proxy: &Proxy, root: &Ca) -> Result<Worker> {
    let mut worker = proxy.worker(CONFIGURATION)?;
    let own = root.leaf().uri(PROXY).issue().expect("a leaf");
    worker.tick()?;
    answer(&mut worker, &secrets(&[&own.leaf_pem()], &[&root.pem()]))?;
    Ok(worker)
}

/// An issuing CA with something wrong, by which it is known when it is known.
fn issuing(root: &Ca) -> Ca {
    let ca = root
        .subordinate("Issuing CA")
        .key_usages(&[KeyUsage::CrlSign]);
    ca.issue().expect("a CA")
}

fn leaf(ca: &Ca) -> Identity {
    let leaf = ca.leaf().uri("spiffe://cluster.local/ns/shop/sa/pay");
    leaf.issue().expect("a leaf")
}

fn certificate(leaf: &Identity) -> Certificate {
    Certificate::from_der(leaf.der().to_vec())
}

/// A request on a connection whose client has sent these CAs with its leaf.
fn request(
    worker: &mut Worker,
    leaf: &Identity,
    cas: &[&Ca],
    verified: Option<bool>,
) -> Result<()> {
    let chain: String = cas.iter().map(|ca| ca.pem()).collect();
    let chain = url_encode(&(leaf.leaf_pem() + &chain));
    let header = format!("Chain=\"{chain}\"");
    let headers: Headers = vec![("x-forwarded-client-cert".to_owned(), header.into_bytes())];
    let mut peer = Attributes::http().client(&certificate(leaf));
    if let Some(verified) = verified {
        peer = peer.flag("connection.peer_certificate_valid", verified);
    }
    worker.exchange_with(&peer, headers)?;
    Ok(())
}

/// Whether a worker knows the issuing CA of a client that shows its leaf only.
fn knows(proxy: &Proxy, worker: &mut Worker, leaf: &Identity) -> Result<bool> {
    let labels = [
        ("direction", "inbound"),
        ("layer", "issuing_ca"),
        ("finding", "cert_sign_missing"),
    ];
    let found = || proxy.counter(&series(&labels, "mtls_connection_findings_total"));
    let before = found();
    worker.tick()?;
    worker.connection(&Attributes::network().client(&certificate(leaf)))?;
    Ok(found() > before)
}

#[test]
fn an_issuing_ca_that_one_peer_has_sent_is_known_to_all_workers() -> Result<()> {
    let proxy = Proxy::new();
    let root = root();
    let issuing = issuing(&root);
    let (mut http, mut network) = (worker(&proxy, &root)?, proxy.worker(CONFIGURATION)?);
    let other = leaf(&issuing);
    assert!(!knows(&proxy, &mut network, &other)?);
    request(&mut http, &leaf(&issuing), &[&issuing], None)?;
    // Also to the worker that has met that peer before.
    assert!(knows(&proxy, &mut network, &other)?);
    assert!(knows(&proxy, &mut http, &other)?);
    Ok(())
}

#[test]
fn what_envoy_has_not_verified_by_is_not_learnt() -> Result<()> {
    let root = root();
    let issuing = issuing(&root);
    let twin = root.subordinate("Issuing CA").key(issuing.key());
    let twin = twin.issue().expect("a CA");
    let stranger = Ca::root("Stranger").issue().expect("a CA");
    let foreign = self::issuing(&stranger);
    let mine = leaf(&issuing);
    for (what, leaf, cas, verified) in [
        ("not verified", &mine, &[&issuing][..], Some(false)),
        ("two of one name and key", &mine, &[&issuing, &twin], None),
        (
            "under no CA of this proxy",
            &leaf(&foreign),
            &[&foreign, &stranger],
            None,
        ),
    ] {
        let proxy = Proxy::new();
        let mut worker = worker(&proxy, &root)?;
        request(&mut worker, leaf, cas, verified)?;
        assert!(!knows(&proxy, &mut worker, leaf)?, "{what}");
    }
    let proxy = Proxy::new();
    let mut worker = worker(&proxy, &root)?;
    request(&mut worker, &mine, &[&issuing], Some(true))?;
    assert!(knows(&proxy, &mut worker, &mine)?);
    Ok(())
}

/// Peers that send ever new CAs take the places that are left, and no other's.
#[test]
fn the_first_ones_stay_and_the_own_ones_always() -> Result<()> {
    let proxy = Proxy::new();
    let root = root();
    let mut worker = worker(&proxy, &root)?;
    let cas: Vec<Ca> = (0..LIMIT + 6).map(|_| issuing(&root)).collect();
    for ca in &cas {
        request(&mut worker, &leaf(ca), &[ca], None)?;
        proxy.advance(TICK);
    }
    let known = cas.iter().map(|ca| knows(&proxy, &mut worker, &leaf(ca)));
    let known: Vec<bool> = known.collect::<Result<_>>()?;
    let expected: Vec<bool> = (0..cas.len()).map(|index| index < LIMIT).collect();
    assert_eq!(known, expected);
    let full = worker
        .logs()
        .iter()
        .filter(|(_, line)| line.contains("directory is full"));
    assert_eq!(full.count(), 1);
    Ok(())
}

/// A proxy without `hierarchy` has no CA of its own that they could stand under.
#[test]
fn nothing_is_learnt_without_the_own_hierarchy() -> Result<()> {
    let proxy = Proxy::new();
    let issuing = issuing(&root());
    let mut worker = proxy.worker("{}")?;
    let peer = leaf(&issuing);
    request(&mut worker, &peer, &[&issuing], None)?;
    assert!(!knows(&proxy, &mut worker, &peer)?);
    Ok(())
}
