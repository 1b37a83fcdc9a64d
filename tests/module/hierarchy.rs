//! The poller of this proxy's own hierarchy: whose turn it is, and what a strange reply does.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testbed::Ca;
use wasmtime::Result;

use crate::attributes::Attributes;
use crate::host::{CAS_MISMATCH, Fault, Faults, HttpCall, Proxy, Reply, Worker};
use crate::metrics::series;
use crate::pki::{Certificate, DAY, Leaf};

pub const CONFIGURATION: &str = r#"{"hierarchy": {"admin_cluster": "admin", "interval": "5s"}}"#;
pub const TICK: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(3600);
const ANCHOR: &str = "mtls_own_trust_anchor";
pub const PROXY: &str = "spiffe://cluster.local/ns/shop/sa/proxy";

/// A root; all have one name.
pub fn root() -> Ca {
    Ca::root("Root CA").issue().expect("a CA")
}

/// Its name as a label value.
fn label(root: &Ca) -> String {
    format!("Root_CA:{}", &root.key_identifier()[..8])
}

/// The series of a CA in a bundle.
fn trusted(secret: &str, ca: &Ca) -> String {
    let certificate = digits(ca);
    series(
        &[
            ("secret", secret),
            ("ca", &label(ca)),
            ("certificate", &certificate),
        ],
        "mtls_trust_bundle_ca",
    )
}

/// The label value by which certificates of one CA are told apart.
fn digits(ca: &Ca) -> String {
    let digest = Sha256::digest(ca.der());
    digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A chain and a bundle as they come over SDS, and nothing else.
pub fn secrets(chain: &[&str], bundle: &[&str]) -> Value {
    let bytes = |blocks: &[&str]| json!({"inline_bytes": BASE64.encode(blocks.concat())});
    json!({"configs": [
        {"name": "default", "secret": {
            "name": "default",
            "tls_certificate": {"certificate_chain": bytes(chain)},
        }},
        {"name": "ROOTCA", "secret": {
            "name": "ROOTCA",
            "validation_context": {"trusted_ca": bytes(bundle)},
        }},
    ]})
}

fn reply(status: &str, body: impl Into<Vec<u8>>) -> Reply {
    Reply {
        headers: vec![(":status".to_owned(), status.into())],
        body: body.into(),
    }
}

fn ok(body: &Value) -> Reply {
    reply("200", body.to_string())
}

fn last_call(worker: &mut Worker) -> HttpCall {
    let call = worker.host().http_calls.last();
    call.cloned().expect("a call")
}

fn reply_to_last(worker: &mut Worker, reply: Reply) -> Result<()> {
    let call = last_call(worker);
    worker.reply(call.token, reply)
}

/// One poll with these secrets; the holder of the lease has ticked.
pub fn answer(worker: &mut Worker, secrets: &Value) -> Result<()> {
    let call = last_call(worker);
    assert!(call.path.starts_with("/config_dump"), "{call:?}");
    worker.reply(call.token, ok(secrets))?;
    let call = last_call(worker);
    assert_eq!((&*call.cluster, &*call.path), ("admin", "/certs"));
    worker.reply(call.token, ok(&json!({"certificates": []})))
}

fn polls(proxy: &Proxy, result: &str) -> u64 {
    proxy.counter(&series(
        &[("result", result)],
        "mtls_watch_hierarchy_polls_total",
    ))
}

/// Ticks; says whether that worker asked for the secrets.
fn asks(worker: &mut Worker) -> Result<bool> {
    let before = worker.host().http_calls.len();
    worker.tick()?;
    Ok(worker.host().http_calls.len() > before)
}

#[test]
fn of_many_workers_one_asks() -> Result<()> {
    let proxy = Proxy::new();
    let mut workers = [(); 3].map(|()| proxy.worker(CONFIGURATION).expect("a worker"));
    for _ in 0..10 {
        let mut asked = [false; 3];
        for (worker, asked) in workers.iter_mut().zip(&mut asked) {
            *asked = asks(worker)?;
        }
        assert_eq!(asked, [true, false, false]);
        proxy.advance(TICK);
    }
    Ok(())
}

/// As after a listener was removed, or a VM has died.
#[test]
fn another_takes_over_once_the_lease_has_run_out() -> Result<()> {
    let proxy = Proxy::new();
    let (mut holder, mut other) = (proxy.worker(CONFIGURATION)?, proxy.worker(CONFIGURATION)?);
    assert!(asks(&mut holder)?);
    drop(holder);
    let mut waited = Duration::ZERO;
    while !asks(&mut other)? {
        proxy.advance(TICK);
        waited += TICK;
    }
    assert!((2 * TICK..=4 * TICK).contains(&waited), "{waited:?}");
    Ok(())
}

/// A thread that reads a reply lets requests wait: that of a VM without traffic has none, such as Envoy's main thread.
#[test]
fn a_worker_with_traffic_leaves_the_polls_to_one_without() -> Result<()> {
    let proxy = Proxy::new();
    let (mut busy, mut idle) = (proxy.worker(CONFIGURATION)?, proxy.worker(CONFIGURATION)?);
    assert_eq!((asks(&mut busy)?, asks(&mut idle)?), (true, false));
    proxy.advance(TICK);
    // A poll is no traffic.
    answer(&mut busy, &json!({}))?;
    proxy.advance(TICK);
    assert_eq!((asks(&mut busy)?, asks(&mut idle)?), (true, false));
    proxy.advance(TICK / 2);
    busy.exchange(&Attributes::http().client(&Certificate::workload(PROXY)))?;
    proxy.advance(TICK / 2);
    busy.tick()?;
    assert!(asks(&mut idle)?);
    for _ in 0..4 {
        proxy.advance(TICK);
        assert_eq!((asks(&mut busy)?, asks(&mut idle)?), (false, true));
    }
    // Where all have traffic, one goes on.
    idle.exchange(&Attributes::http().client(&Certificate::workload(PROXY)))?;
    for _ in 0..4 {
        proxy.advance(TICK);
        assert_eq!((asks(&mut busy)?, asks(&mut idle)?), (false, true));
    }
    Ok(())
}

/// Whoever ticks first, and whether or not the holder lives.
#[test]
fn polls_go_on_when_the_clock_is_set_back() -> Result<()> {
    for holder_first in [true, false] {
        let proxy = Proxy::new();
        let mut workers = [proxy.worker(CONFIGURATION)?, proxy.worker(CONFIGURATION)?];
        assert!(asks(&mut workers[0])?);
        proxy.set_clock_back(HOUR);
        if !holder_first {
            workers.reverse();
        }
        let mut asked = false;
        for _ in 0..4 {
            for worker in &mut workers {
                asked |= asks(worker)?;
            }
            proxy.advance(TICK);
        }
        assert!(asked, "holder first: {holder_first}");
    }
    Ok(())
}

#[test]
fn a_worker_that_loses_the_race_for_the_lease_does_not_ask() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    let conflict = Fault::Status(CAS_MISMATCH);
    worker.host().faults = Faults::from([("proxy_set_shared_data", conflict)]);
    assert!(!asks(&mut worker)?);
    worker.host().faults.clear();
    assert!(asks(&mut worker)?);
    Ok(())
}

#[test]
fn without_the_setting_nobody_asks() -> Result<()> {
    let mut worker = Proxy::new().worker("")?;
    assert!(!asks(&mut worker)?);
    Ok(())
}

/// What is no answer of Envoy's admin interface.
fn strange_replies() -> Vec<(&'static str, Reply)> {
    let body = |body: &[u8]| reply("200", body);
    vec![
        ("nothing", Reply::default()),
        (
            "no status",
            Reply {
                headers: vec![("content-type".to_owned(), b"application/json".to_vec())],
                body: b"{}".to_vec(),
            },
        ),
        ("500", reply("500", "{}")),
        ("a status in bytes", reply("\u{fffd}", "{}")),
        ("empty", body(b"")),
        ("garbage", body(b"\xff\xfe{")),
        ("an array", body(b"[]")),
        ("a number", body(b"1e999")),
        ("deep", body(&[b'['; 100_000])),
        ("10 MB", body(&[b' '; 10 * 1024 * 1024])),
        ("another object", body(br#"{"answer": 42}"#)),
        (
            "other types",
            body(
                br#"{"configs": [7, {"secret": 7}, {"name": 3, "secret": {"tls_certificate": []}}],
                 "certificates": 7}"#,
            ),
        ),
    ]
}

/// At both calls of a poll: the error is counted, one line says so, and the next poll works.
#[test]
fn strange_replies_are_counted_and_logged_once() -> Result<()> {
    for (name, strange) in strange_replies() {
        let proxy = Proxy::new();
        let mut worker = proxy.worker(CONFIGURATION)?;
        for failed in 1..=3 {
            worker.tick()?;
            let calls = worker.host().http_calls.len();
            reply_to_last(&mut worker, strange.clone())?;
            if worker.host().http_calls.len() > calls {
                reply_to_last(&mut worker, strange.clone())?;
            }
            assert_eq!(polls(&proxy, "error"), failed, "{name}");
            proxy.advance(TICK);
        }
        let lines = worker.logs().len();
        assert_eq!(lines, 1, "{name}: {:?}", worker.logs());
        worker.tick()?;
        answer(&mut worker, &json!({}))?;
        assert_eq!(polls(&proxy, "ok"), 1, "{name}");
        assert_eq!(
            worker.logs().len(),
            lines + 1,
            "{name}: {:?}",
            worker.logs()
        );
    }
    Ok(())
}

/// BadArgument (no such cluster) and InternalFailure are all that Envoy answers to the call itself. At
/// any other status the SDK panics, and its dispatcher does for a token that it does not know; only
/// through it can a reply come back.
#[test]
fn a_call_that_cannot_be_made_is_an_error() -> Result<()> {
    for status in [2, 10] {
        let proxy = Proxy::new();
        let mut worker = proxy.worker(CONFIGURATION)?;
        worker.host().faults = Faults::from([("proxy_http_call", Fault::Status(status))]);
        worker.tick()?;
        assert_eq!(polls(&proxy, "error"), 1, "status {status}");
    }
    Ok(())
}

#[test]
fn a_huge_reply_takes_no_memory() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    worker.tick()?;
    answer(&mut worker, &json!({}))?;
    let before = worker.memory();
    for _ in 0..3 {
        proxy.advance(TICK);
        worker.tick()?;
        reply_to_last(&mut worker, reply("200", vec![b' '; 10 * 1024 * 1024]))?;
    }
    assert_eq!(worker.memory(), before);
    Ok(())
}

/// Nor does Envoy's time-out come before the next poll is due.
#[test]
fn a_call_that_is_never_answered_is_an_error() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    for unanswered in 0..4 {
        assert!(asks(&mut worker)?);
        assert_eq!(polls(&proxy, "error"), unanswered);
        proxy.advance(TICK);
    }
    assert_eq!(worker.logs().len(), 1, "{:?}", worker.logs());
    Ok(())
}

#[test]
fn a_reply_nested_as_deep_as_it_likes_is_refused() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    worker.tick()?;
    let text = r#"{"configs":"#.repeat(100_000);
    reply_to_last(&mut worker, reply("200", text))?;
    assert_eq!(polls(&proxy, "error"), 1);
    Ok(())
}

/// One that comes after the next poll has begun.
#[test]
fn a_late_reply_disturbs_no_later_poll() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    worker.tick()?;
    let late = last_call(&mut worker).token;
    proxy.advance(TICK);
    worker.tick()?;
    worker.reply(late, reply("500", "late"))?;
    answer(&mut worker, &json!({}))?;
    assert_eq!(polls(&proxy, "ok"), 1);
    Ok(())
}

fn own(name: &str, layer: &str, secret: &str, last: (&str, &str)) -> String {
    series(&[("layer", layer), ("secret", secret), last], name)
}

fn unreadable(proxy: &Proxy) -> u64 {
    let labels = [("source", "hierarchy"), ("result", "unreadable")];
    proxy.counter(&series(&labels, "mtls_watch_inspections_total"))
}

const BROKEN: &str = "-----BEGIN CERTIFICATE-----\nbroken!\n-----END CERTIFICATE-----\n";

#[test]
fn a_broken_block_in_the_bundle_hides_no_other() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    let (leaf, [first, last]) = (Certificate::workload(PROXY), [root(), root()]);
    let not_der = Certificate::from_der(*b"no DER");
    worker.tick()?;
    let bundle = [&*first.pem(), BROKEN, &not_der.pem(), &last.pem()];
    answer(&mut worker, &secrets(&[&leaf.pem()], &bundle))?;
    for ca in [&first, &last] {
        let trusted = trusted("ROOTCA", ca);
        assert_eq!(proxy.gauge(&trusted), Some(1), "{:?}", proxy.metrics());
    }
    assert_eq!(unreadable(&proxy), 2);
    let finding = own(
        "mtls_own_findings",
        "root_ca",
        "ROOTCA",
        ("finding", "unreadable"),
    );
    assert_eq!(proxy.gauge(&finding), Some(2));
    Ok(())
}

/// The CA that follows it is no workload, and nothing was rotated.
#[test]
fn a_broken_leaf_is_not_taken_for_a_rotation() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    let (leaf, root) = (Certificate::workload(PROXY), root());
    for first in [&*leaf.pem(), BROKEN] {
        worker.tick()?;
        answer(&mut worker, &secrets(&[first, &root.pem()], &[&root.pem()]))?;
        proxy.advance(TICK);
    }
    assert_eq!(proxy.total("mtls_own_rotations_total"), 0);
    let metric = "mtls_own_certificate_not_after_timestamp_seconds";
    let workload = own(metric, "workload", "default", ("identity", &label(&root)));
    assert_eq!(proxy.gauge(&workload), None);
    assert_eq!(unreadable(&proxy), 1);
    Ok(())
}

/// The leaf of the last poll is known to whichever worker polls next.
#[test]
fn a_rotation_is_counted_once_whoever_polls() -> Result<()> {
    let proxy = Proxy::new();
    let (mut holder, mut heir) = (proxy.worker(CONFIGURATION)?, proxy.worker(CONFIGURATION)?);
    let root = root();
    let old = Leaf::new(PROXY).valid(-60 * DAY, 30 * DAY).sign();
    let new = Leaf::new(PROXY).valid(-DAY, 89 * DAY).sign();
    holder.tick()?;
    answer(&mut holder, &secrets(&[&old.pem()], &[&root.pem()]))?;
    drop(holder);
    proxy.advance(4 * TICK);
    for _ in 0..2 {
        heir.tick()?;
        answer(&mut heir, &secrets(&[&new.pem()], &[&root.pem()]))?;
        proxy.advance(TICK);
    }
    let rotations = series(&[("secret", "default")], "mtls_own_rotations_total");
    assert_eq!(proxy.counter(&rotations), 1);
    Ok(())
}

/// As many roots as an operating system has, before the chain in Envoy's answer.
#[test]
fn a_large_bundle_leaves_room_for_the_own_chain() -> Result<()> {
    const ROOTS: usize = 150;
    /// Certificates with series of their own.
    const LIMIT: usize = 100;
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    let roots: Vec<String> = (0..ROOTS).map(|_| root().pem()).collect();
    let own_root = root();
    let mut bundle: Vec<&str> = roots.iter().map(String::as_str).collect();
    let own_root_pem = own_root.pem();
    bundle.push(&own_root_pem);
    let issuing = own_root.subordinate("Issuing CA").issue().expect("a CA");
    let leaf = issuing.leaf().uri(PROXY).issue().expect("a leaf");
    let mut secrets = secrets(&[&leaf.leaf_pem(), &issuing.pem()], &bundle);
    let configs = secrets["configs"].as_array_mut();
    configs.expect("secrets").reverse();
    worker.tick()?;
    answer(&mut worker, &secrets)?;

    // Leaf, issuing CA and own root come first; what is beyond the limit shares one series.
    let count = |name: &str| {
        let metrics = proxy.metrics();
        metrics
            .keys()
            .filter(|series| series.ends_with(name))
            .count()
    };
    assert_eq!(count("mtls_trust_bundle_ca"), LIMIT - 2 + 1);
    assert_eq!(count("mtls_own_certificate_present"), LIMIT + 1);
    assert_eq!(proxy.counter("mtls_watch_series_overflow_total"), 53);
    let others = series(
        &[("secret", "other"), ("ca", "other")],
        "mtls_trust_bundle_ca",
    );
    for trusted in [trusted("ROOTCA", &own_root), others] {
        assert_eq!(proxy.gauge(&trusted), Some(1), "{trusted}");
    }
    let anchor = [("secret", "default"), ("ca", &*label(&own_root))];
    assert_eq!(proxy.gauge(&series(&anchor, ANCHOR)), Some(1));

    // The same ones at the next poll, and none is counted again.
    proxy.advance(TICK);
    worker.tick()?;
    answer(&mut worker, &secrets)?;
    assert_eq!(count("mtls_trust_bundle_ca"), LIMIT - 2 + 1);
    assert_eq!(proxy.counter("mtls_watch_series_overflow_total"), 53);

    let peer = Certificate::from_der(leaf.der().to_vec());
    worker.connection(&Attributes::network().client(&peer))?;
    let name = format!("Issuing_CA:{}", &issuing.key_identifier()[..8]);
    let labels = [
        ("direction", "inbound"),
        ("layer", "issuing_ca"),
        ("identity", &*name),
    ];
    let known = series(&labels, "mtls_peer_certificate_not_after_timestamp_seconds");
    assert!(proxy.gauge(&known).is_some(), "{name}");
    Ok(())
}

/// By the CA that is in the bundle, as long as one is; of a bundle that is not known in full nothing is
/// said.
#[test]
fn the_anchor_of_the_own_chain_is_told() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    let (top, other) = (root(), root());
    let zone = top.subordinate("Zone CA").issue().expect("a CA");
    let issuing = zone.subordinate("Issuing CA").issue().expect("a CA");
    let leaf = issuing.leaf().uri(PROXY).issue().expect("a leaf");
    let chain = [leaf.leaf_pem(), issuing.pem(), zone.pem()];
    let [leaf, issuing_pem, zone_pem] = chain.each_ref().map(String::as_str);
    let zone_label = format!("Zone_CA:{}", &zone.key_identifier()[..8]);
    let (top, other) = ((top.pem(), label(&top)), (other.pem(), label(&other)));
    let all = [&*top.1, &*other.1, &*zone_label, "none"];
    let cases: [(&[&str], &[&str], Option<&str>); 6] = [
        (
            &[leaf, issuing_pem, zone_pem],
            &[&other.0, &top.0],
            Some(&top.1),
        ),
        (
            &[leaf, issuing_pem],
            &[&other.0, zone_pem],
            Some(&zone_label),
        ),
        (&[leaf, issuing_pem, zone_pem], &[&other.0], Some("none")),
        (&[leaf, issuing_pem, zone_pem], &[&other.0, BROKEN], None),
        (&[leaf, issuing_pem], &[&top.0], Some("none")),
        (
            &[leaf, issuing_pem, zone_pem, &top.0],
            &[&top.0],
            Some(&top.1),
        ),
    ];
    for (number, (chain, bundle, expected)) in cases.into_iter().enumerate() {
        worker.tick()?;
        answer(&mut worker, &secrets(chain, bundle))?;
        let value = |ca| proxy.gauge(&series(&[("secret", "default"), ("ca", ca)], ANCHOR));
        let anchors = all.iter().filter(|ca| value(ca) == Some(1)).copied();
        let anchors: Vec<&str> = anchors.collect();
        assert_eq!(
            anchors,
            expected.into_iter().collect::<Vec<_>>(),
            "case {number}"
        );
        proxy.advance(TICK);
    }
    Ok(())
}

/// What the holder wrote, the heir takes back.
#[test]
fn a_ca_that_leaves_while_the_lease_changes_hands_is_at_0() -> Result<()> {
    let proxy = Proxy::new();
    let (mut holder, mut heir) = (proxy.worker(CONFIGURATION)?, proxy.worker(CONFIGURATION)?);
    let (leaf, stays, leaves) = (Certificate::workload(PROXY), root(), root());
    holder.tick()?;
    answer(
        &mut holder,
        &secrets(&[&leaf.pem()], &[&stays.pem(), &leaves.pem()]),
    )?;
    drop(holder);
    proxy.advance(4 * TICK);
    heir.tick()?;
    answer(&mut heir, &secrets(&[&leaf.pem()], &[&stays.pem()]))?;
    for (root, value) in [(&stays, 1), (&leaves, 0)] {
        assert_eq!(proxy.gauge(&trusted("ROOTCA", root)), Some(value));
    }
    Ok(())
}
