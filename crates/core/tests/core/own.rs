//! This proxy's own certificates, as control planes send them: who signed whom, what is trusted, what it comes to.

use std::rc::Rc;

use pki::fixtures::{NOW, lasting};
use pki::{Ca, DAY, Identity, LeafBuilder};
use serde_json::{Value, json};

use crate::fake_host::Proxy;
use crate::worker::Worker;

const PROXY: &str = "spiffe://cluster.local/ns/shop/sa/proxy";
const NOT_AFTER: &str = "mtls_own_certificate_not_after_timestamp_seconds";
const PRESENT: &str = "mtls_own_certificate_present";
const FINDINGS: &str = "mtls_own_findings";
const ISSUER: &str = "mtls_own_issuer";
const ANCHOR: &str = "mtls_own_trust_anchor";
const TRUSTED: &str = "mtls_trust_bundle_ca";

/// A proxy that polls its admin interface.
struct Poller {
    proxy: Rc<Proxy>,
    worker: Worker,
    seconds: i64,
}

impl Poller {
    fn new() -> Self {
        let proxy = Proxy::new();
        let hierarchy = json!({"admin_cluster": "admin", "interval": "5s"});
        let worker = Worker::configured(&proxy, json!({"hierarchy": hierarchy}));
        Self {
            proxy,
            worker,
            seconds: 0,
        }
    }

    /// One poll in which Envoy answers with these secrets, and nothing else.
    fn poll(&mut self, secrets: &[Value]) {
        self.poll_with(secrets, &json!([]));
    }

    fn poll_with(&mut self, secrets: &[Value], contexts: &Value) {
        self.seconds += 5;
        self.proxy.set_clock(self.seconds);
        self.worker.tick();
        let secrets = json!({"configs": secrets}).to_string();
        self.answer(secrets.as_bytes());
        let contexts = json!({"certificates": contexts}).to_string();
        self.answer(contexts.as_bytes());
    }

    fn answer(&self, body: &[u8]) {
        let token = u32::try_from(self.proxy.calls().len()).unwrap();
        self.worker.reply(token, body);
    }

    /// The labels of the series of a metric that have this value, in order.
    fn with_value(&self, metric: &str, value: u64) -> Vec<String> {
        self.rows(metric, |it| it == value)
    }

    fn rows(&self, metric: &str, filter: impl Fn(u64) -> bool) -> Vec<String> {
        let series = self.proxy.series().into_iter();
        let of_metric = series.filter(|series| self.proxy.total_of(series).is_some_and(&filter));
        of_metric
            .filter_map(|series| {
                let (labels, name) = series.rsplit_once(";.;")?;
                let values = labels
                    .split(";.;")
                    .filter_map(|label| label.split_once("=.="));
                let values: Vec<&str> = values.map(|(_, value)| value).collect();
                (name == metric).then(|| values.join(" "))
            })
            .collect()
    }
}

fn chain(name: &str, certificates: &[&str]) -> Value {
    let source = json!({"inline_string": certificates.concat()});
    json!({"name": name, "secret": {"tls_certificate": {"certificate_chain": source}}})
}

fn bundle(name: &str, certificates: &[&str]) -> Value {
    let source = json!({"inline_string": certificates.concat()});
    json!({"name": name, "secret": {"validation_context": {"trusted_ca": source}}})
}

/// A CA that is valid for years.
fn root(name: &str) -> Ca {
    root_until(name, 3000 * DAY)
}

fn root_until(name: &str, end: i64) -> Ca {
    let lifetime = lasting(-1000 * DAY, end);
    Ca::root(name).lifetime(lifetime).issue().unwrap()
}

/// A later certificate of the same CA.
fn reissued(ca: &Ca, name: &str, end: i64) -> Ca {
    let lifetime = lasting(-DAY, end);
    Ca::root(name)
        .key(ca.key())
        .lifetime(lifetime)
        .issue()
        .unwrap()
}

fn below(ca: &Ca, name: &str) -> Ca {
    let lifetime = lasting(-900 * DAY, 2000 * DAY);
    ca.subordinate(name).lifetime(lifetime).issue().unwrap()
}

fn leaf(ca: &Ca) -> Identity {
    named(ca, PROXY)
}

fn named(ca: &Ca, uri: &str) -> Identity {
    lasts_a_day(ca.leaf().uri(uri))
}

fn lasts_a_day(leaf: LeafBuilder) -> Identity {
    leaf.lifetime(lasting(-1000, DAY)).issue().unwrap()
}

fn label(name: &str, ca: &Ca) -> String {
    format!("{}:{}", name.replace(' ', "_"), &ca.key_identifier()[..8])
}

fn digits(ca: &Ca) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(ca.der());
    digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Step 1 of a rotation as istiod sends it: A signs, and every root of the mesh is behind the chain, in the order of
/// the file.
#[test]
fn a_root_that_signs_nothing_in_a_chain_is_a_passenger() {
    let (a, b) = (root("Root A"), root_until("Root B", 10 * DAY));
    let issuing = below(&a, "Issuing A");
    let leaf = leaf(&issuing);
    for roots in [[&a, &b], [&b, &a]] {
        let [first, second] = roots.map(Ca::pem);
        let mut poller = Poller::new();
        poller.poll(&[
            chain(
                "default",
                &[&leaf.leaf_pem(), &issuing.pem(), &first, &second],
            ),
            bundle("ROOTCA", &[&a.pem()]),
        ]);
        let [a_name, issuing_name] = [label("Root A", &a), label("Issuing A", &issuing)];
        let (a, issuing) = (digits(&a), digits(&issuing));
        let mut expected = vec![
            format!("workload default {PROXY}"),
            format!("issuing_ca default {issuing_name} {issuing}"),
            format!("root_ca default {a_name} {a}"),
            format!("root_ca ROOTCA {a_name} {a}"),
        ];
        expected.sort();
        let mut present = poller.with_value(PRESENT, 1);
        present.sort();
        assert_eq!(present, expected);
        assert_eq!(
            poller.with_value(ISSUER, 1),
            [format!("default {issuing_name}")]
        );
        assert_eq!(poller.with_value(ANCHOR, 1), [format!("default {a_name}")]);
        assert_eq!(
            poller.with_value(TRUSTED, 1),
            [format!("ROOTCA {a_name} {a}")]
        );
        assert_eq!(poller.rows(FINDINGS, |_| true), [""; 0]);
    }
}

/// Step 3: B signs. What A was is at 0.
#[test]
fn the_issuer_of_the_own_leaf_is_0_once_another_signs() {
    let (a, b) = (root("Root A"), root("Root B"));
    let (issuing_a, issuing_b) = (below(&a, "Issuing A"), below(&b, "Issuing B"));
    let roots = [a.pem(), b.pem()];
    let mut poller = Poller::new();
    for issuing in [&issuing_a, &issuing_b] {
        let leaf = leaf(issuing);
        poller.poll(&[
            chain(
                "default",
                &[&leaf.leaf_pem(), &issuing.pem(), &roots[0], &roots[1]],
            ),
            bundle("ROOTCA", &[&roots[1], &roots[0]]),
        ]);
    }
    let [old, new] = [
        label("Issuing A", &issuing_a),
        label("Issuing B", &issuing_b),
    ];
    assert_eq!(poller.with_value(ISSUER, 1), [format!("default {new}")]);
    assert_eq!(poller.with_value(ISSUER, 0), [format!("default {old}")]);
    let [old, new] = [label("Root A", &a), label("Root B", &b)];
    assert_eq!(poller.with_value(ANCHOR, 1), [format!("default {new}")]);
    assert_eq!(poller.with_value(ANCHOR, 0), [format!("default {old}")]);
}

/// SPIRE's default, and that of small private CAs.
#[test]
fn the_issuer_of_a_leaf_that_is_alone_is_what_the_leaf_names() {
    let (a, b) = (root("Root A"), root("Root B"));
    let issuing = below(&b, "Issuing B");
    for (ca, name) in [(&a, "Root A"), (&b, "Root B"), (&issuing, "Issuing B")] {
        for trusted in [vec![&a, &b], vec![&a], vec![]] {
            let pems: Vec<String> = trusted.iter().map(|ca| ca.pem()).collect();
            let pems: Vec<&str> = pems.iter().map(String::as_str).collect();
            let mut poller = Poller::new();
            poller.poll(&[
                chain("default", &[&leaf(ca).leaf_pem()]),
                bundle("ROOTCA", &pems),
            ]);
            let expected = format!("default {}", label(name, ca));
            assert_eq!(poller.with_value(ISSUER, 1), [expected], "{name}");
        }
    }
}

/// Names alone do not tell two CAs apart.
#[test]
fn of_several_cas_that_may_have_signed_none_is_named() {
    let (a, b) = (root("Root CA"), root("Root CA"));
    let leaf = lasts_a_day(a.leaf().uri(PROXY).without_authority_key_identifier());
    let mut poller = Poller::new();
    for bundles in [vec![a.pem()], vec![a.pem(), b.pem()]] {
        let pems: Vec<&str> = bundles.iter().map(String::as_str).collect();
        poller.poll(&[
            chain("default", &[&leaf.leaf_pem()]),
            bundle("ROOTCA", &pems),
        ]);
        let expected = match bundles.len() {
            1 => vec![format!("default {}", label("Root CA", &a))],
            _ => Vec::new(),
        };
        assert_eq!(poller.with_value(ISSUER, 1), expected);
        assert_eq!(poller.with_value(ANCHOR, 1), expected);
    }
}

/// A gateway's server certificate, and the client certificate for a foreign server.
#[test]
fn what_peers_do_not_verify_by_the_own_bundle_needs_no_anchor() {
    let (mesh, public) = (root("Mesh CA"), root("Public CA"));
    let server = lasts_a_day(public.leaf().dns("shop.example.com"));
    let stray = named(&public, "spiffe://cluster.local/ns/shop/sa/stray");
    let mut poller = Poller::new();
    poller.poll(&[
        chain("default", &[&leaf(&mesh).leaf_pem()]),
        chain("kubernetes://shop-credential", &[&server.leaf_pem()]),
        chain("stray", &[&stray.leaf_pem()]),
        bundle("ROOTCA", &[&mesh.pem()]),
    ]);
    let anchors = [
        format!("default {}", label("Mesh CA", &mesh)),
        "stray none".to_owned(),
    ];
    assert_eq!(poller.with_value(ANCHOR, 1), anchors);
    assert_eq!(poller.with_value(ISSUER, 1).len(), 3);
}

/// Each bundle has series of its own: what a gateway's clients are verified by says nothing of the mesh.
#[test]
fn each_bundle_is_told_apart() {
    let (old, new) = (root("Root A"), root("Root B"));
    let mut poller = Poller::new();
    let both = [&*old.pem(), &new.pem()].concat();
    for mesh in [&*old.pem(), &both] {
        poller.poll(&[
            bundle("ROOTCA", &[mesh]),
            bundle("kubernetes://api-cert-cacert", &[&both]),
        ]);
    }
    poller.poll(&[
        bundle("ROOTCA", &[&new.pem()]),
        bundle("kubernetes://api-cert-cacert", &[&both]),
    ]);
    let row =
        |secret: &str, name: &str, ca: &Ca| format!("{secret} {} {}", label(name, ca), digits(ca));
    let expected = [
        row("ROOTCA", "Root B", &new),
        row("kubernetes://api-cert-cacert", "Root A", &old),
        row("kubernetes://api-cert-cacert", "Root B", &new),
    ];
    assert_eq!(poller.with_value(TRUSTED, 1), expected);
    assert_eq!(
        poller.with_value(TRUSTED, 0),
        [row("ROOTCA", "Root A", &old)]
    );
}

/// What Istio's self-signed rotation makes: the same name, the same key, a later end.
#[test]
fn twins_are_two_certificates() {
    let old = root_until("Root CA", 10 * DAY);
    let new = reissued(&old, "Root CA", 3000 * DAY);
    let mut poller = Poller::new();
    let [old_pem, new_pem] = [&old, &new].map(Ca::pem);
    poller.poll(&[
        chain("default", &[&leaf(&old).leaf_pem(), &old_pem]),
        bundle("ROOTCA", &[&old_pem, &new_pem, &old_pem]),
    ]);
    let name = label("Root CA", &old);
    for (ca, end) in [(&old, 10 * DAY), (&new, 3000 * DAY)] {
        let (name, digits) = (name.as_str(), digits(ca));
        let labels = [
            ("layer", "root_ca"),
            ("secret", "ROOTCA"),
            ("identity", name),
            ("certificate", &digits),
        ];
        let value = poller.proxy.value(NOT_AFTER, &labels);
        assert_eq!(value, u64::try_from(NOW + end).ok());
    }
    assert_eq!(poller.with_value(TRUSTED, 1).len(), 2);
    // The end of the old one concerns nobody.
    assert_eq!(poller.rows(FINDINGS, |_| true), [""; 0]);
}

/// BoringSSL verifies by the first of two certificates of one CA.
#[test]
fn an_expired_twin_is_found_where_it_is_in_the_way() {
    let old = root_until("Root CA", -DAY);
    let new = reissued(&old, "Root CA", 3000 * DAY);
    for (order, found) in [([&old, &new], true), ([&new, &old], false)] {
        let [first, second] = order.map(Ca::pem);
        let mut poller = Poller::new();
        poller.poll(&[bundle("ROOTCA", &[&first, &second])]);
        let expected = match found {
            true => vec!["root_ca ROOTCA expired"],
            false => Vec::new(),
        };
        assert_eq!(poller.rows(FINDINGS, |value| value > 0), expected);
    }
}

/// The end of a CA counts as long as it signs, or has no successor that is trusted.
#[test]
fn a_ca_is_superseded_when_another_of_its_name_has_taken_over() {
    let old = root_until("Mesh CA", 10 * DAY);
    let successor = root("Mesh CA");
    let stranger = root("Other CA");
    for (signer, trusted, superseded) in [
        (&successor, &successor, true),
        (&old, &successor, false),
        (&stranger, &stranger, false),
    ] {
        let mut poller = Poller::new();
        poller.poll(&[
            chain("default", &[&leaf(signer).leaf_pem()]),
            bundle("ROOTCA", &[&old.pem(), &trusted.pem()]),
        ]);
        let found = poller.rows(FINDINGS, |value| value > 0);
        assert_eq!(found.is_empty(), superseded, "{found:?}");
    }
}

/// A cross certificate ends before the root of the same key, which is trusted.
#[test]
fn a_leaf_does_not_outlive_a_ca_that_is_trusted_for_longer() {
    let (a, b) = (root("Root A"), root("Root B"));
    let cross = a.subordinate("Root B").key(b.key());
    let cross = cross.lifetime(lasting(-DAY, 1000)).issue().unwrap();
    for (trusted, outlives) in [(vec![a.pem(), b.pem()], 0), (vec![a.pem()], 1)] {
        let pems: Vec<&str> = trusted.iter().map(String::as_str).collect();
        let mut poller = Poller::new();
        poller.poll(&[
            chain("default", &[&leaf(&b).leaf_pem(), &cross.pem()]),
            bundle("ROOTCA", &pems),
        ]);
        let found = poller.rows(FINDINGS, |value| value > 0);
        let found = found.iter().filter(|row| row.ends_with("outlives_issuer"));
        assert_eq!(found.count(), outlives);
    }
}

/// A CA that comes with `/certs` alone has dates, but neither name nor layer.
#[test]
fn of_a_ca_that_is_known_by_its_dates_nothing_else_is_told() {
    let entry = json!({
        "path": "example.org: <inline>",
        "serial_number": "0a",
        "subject_alt_names": [{"uri": "spiffe://example.org"}],
        "valid_from": "2026-01-01T00:00:00Z",
        "expiration_time": "2027-06-01T00:00:00Z",
    });
    let mut poller = Poller::new();
    poller.poll_with(&[], &json!([{"ca_cert": [entry]}]));
    let rows = poller.with_value(PRESENT, 1);
    assert_eq!(
        rows,
        ["none example.org:_<inline> serial:0a".replace(['<', '>'], "_")]
    );
}

/// `/certs` writes a serial number of zero as one digit.
#[test]
fn serial_number_0_makes_no_double() {
    let ca = Ca::root("Root CA").serial_number(&[0]);
    let ca = ca.lifetime(lasting(-DAY, 3000 * DAY)).issue().unwrap();
    let end = time::OffsetDateTime::from_unix_timestamp(NOW + 3000 * DAY).unwrap();
    let end = end
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let entry = json!({
        "path": "<inline>",
        "serial_number": "0",
        "valid_from": "2026-01-01T00:00:00Z",
        "expiration_time": end,
    });
    let mut poller = Poller::new();
    poller.poll_with(
        &[bundle("ROOTCA", &[&ca.pem()])],
        &json!([{"ca_cert": [entry]}]),
    );
    assert_eq!(poller.with_value(PRESENT, 1).len(), 1);
}

/// A gateway with more secrets than there are places keeps the mesh's identity, and what stands above it.
#[test]
fn the_mesh_has_its_places_before_all_others() {
    let (mesh, public) = (root("Mesh CA"), root("Public CA"));
    let issuing = below(&mesh, "Issuing CA");
    let mut secrets: Vec<Value> = (0..120)
        .map(|number| {
            let server = lasts_a_day(public.leaf().dns(&format!("shop-{number}.example.com")));
            chain(&format!("shop-{number}"), &[&server.leaf_pem()])
        })
        .collect();
    secrets.push(bundle("ROOTCA", &[&mesh.pem()]));
    secrets.push(chain(
        "default",
        &[&leaf(&issuing).leaf_pem(), &issuing.pem()],
    ));
    let mut poller = Poller::new();
    poller.poll(&secrets);
    let present = poller.with_value(PRESENT, 1);
    let issuing = label("Issuing CA", &issuing);
    let mesh = label("Mesh CA", &mesh);
    for row in [
        format!("workload default {PROXY}"),
        format!("issuing_ca default {issuing}"),
        format!("root_ca ROOTCA {mesh}"),
    ] {
        assert!(present.iter().any(|it| it.starts_with(&row)), "{row}");
    }
    assert_eq!(present.len(), 101);
}

/// Contour names a secret after its content; so each rotation has a new name.
#[test]
fn a_secret_that_is_named_after_its_content_is_one() {
    let ca = root("Root CA");
    let mut poller = Poller::new();
    for rotation in 0..150 {
        let leaf = lasts_a_day(ca.leaf().dns("shop.example.com"));
        let name = format!("ingress/shop/{:010x}", 0xabc_0000_0000_u64 + rotation);
        poller.poll(&[chain(&name, &[&leaf.leaf_pem()])]);
    }
    let rows = ["workload ingress/shop shop.example.com"];
    assert_eq!(poller.rows(PRESENT, |_| true), rows);
    let rotations = poller
        .proxy
        .value("mtls_own_rotations_total", &[("secret", "ingress/shop")]);
    assert_eq!(rotations, Some(149));
}

/// A certificate that is gone gives its place to another.
#[test]
fn a_place_is_given_back() {
    let ca = root("Root CA");
    let server = |number: usize| {
        let leaf = lasts_a_day(ca.leaf().dns(&format!("shop-{number}.example.com")));
        chain(&format!("shop-{number}"), &[&leaf.leaf_pem()])
    };
    let mut poller = Poller::new();
    for round in 0..3 {
        let secrets: Vec<Value> = (round * 90..(round + 1) * 90).map(server).collect();
        poller.poll(&secrets);
        let present = poller.with_value(PRESENT, 1);
        assert_eq!(present.len(), 90);
        assert!(!present.iter().any(|row| row.contains("other")));
    }
}

/// The operating system's roots are looked after elsewhere.
#[test]
fn a_public_bundle_has_no_series() {
    let ca = root_until("Old Root", 10 * DAY);
    let mut poller = Poller::new();
    poller.poll(&[
        bundle("file-root:system", &[&ca.pem()]),
        bundle("ROOTCA", &[&ca.pem()]),
    ]);
    let present = poller.with_value(PRESENT, 1);
    assert_eq!(present.len(), 1, "{present:?}");
    assert!(present[0].contains("ROOTCA"));
    assert_eq!(poller.with_value(TRUSTED, 1).len(), 1);
}
