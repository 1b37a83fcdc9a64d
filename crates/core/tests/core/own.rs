//! This proxy's own certificates, as control planes send them: who signed whom, what is trusted, what it comes to.

mod inline;
mod revocation;

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
        Self::ignoring(&json!([]))
    }

    fn ignoring(accepted: &Value) -> Self {
        let proxy = Proxy::new();
        let hierarchy = json!({"admin_cluster": "admin", "interval": "5s"});
        let configuration = json!({"hierarchy": hierarchy, "ignore": accepted});
        let worker = Worker::configured(&proxy, configuration);
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
/// the file. What signs nothing is there, and that is all.
#[test]
fn a_root_that_signs_nothing_in_a_chain_is_a_passenger() {
    let (a, b) = (root("Root A"), root_until("Root B", 10 * DAY));
    let stray = below(&root("Root C"), "Issuing C");
    let issuing = below(&a, "Issuing A");
    let leaf = leaf(&issuing);
    for roots in [[&a, &b], [&b, &a]] {
        let [first, second] = roots.map(Ca::pem);
        let mut poller = Poller::new();
        poller.poll(&[
            chain(
                "default",
                &[
                    &leaf.leaf_pem(),
                    &issuing.pem(),
                    &first,
                    &second,
                    &stray.pem(),
                    &first,
                ],
            ),
            bundle("ROOTCA", &[&a.pem()]),
        ]);
        let [a_name, issuing_name] = [label("Root A", &a), label("Issuing A", &issuing)];
        let (b_name, stray_name) = (label("Root B", &b), label("Issuing C", &stray));
        let end = poller.with_value(NOT_AFTER, u64::try_from(NOW + 10 * DAY).unwrap());
        let passenger = format!("root_ca default {b_name} {}", digits(&b));
        assert_eq!(end.join(""), passenger);
        let (a, issuing) = (digits(&a), digits(&issuing));
        let mut expected = vec![
            passenger,
            format!("intermediate_ca default {stray_name} {}", digits(&stray)),
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

/// Where leaves are renewed in time, a trusted successor takes over before the old CA's end: no early warning of
/// it, as at every rotation of SPIRE's. Of a leaf that lasts as long as the CA there is, and a critical one is always.
#[test]
fn a_ca_is_handed_over_while_its_leaves_end_before_it() {
    let (warning, critical) = (
        "root_ca ROOTCA expires_warning",
        "root_ca ROOTCA expires_critical",
    );
    let (last_days, months) = (10 * DAY, 100 * DAY);
    for (left, leaf_left, is_succeeded, expected) in [
        (months, DAY, true, None),
        (months, months, true, Some(warning)),
        (months, DAY, false, Some(warning)),
        (last_days, DAY, true, Some(critical)),
    ] {
        let old = root_until("Mesh CA", left);
        let other = if is_succeeded { "Mesh CA" } else { "Other CA" };
        let leaf = old.leaf().uri(PROXY).lifetime(lasting(-1000, leaf_left));
        let mut poller = Poller::new();
        poller.poll(&[
            chain("default", &[&leaf.issue().unwrap().leaf_pem()]),
            bundle("ROOTCA", &[&old.pem(), &root(other).pem()]),
        ]);
        let found = poller.rows(FINDINGS, |value| value > 0);
        let of_end = found.iter().filter(|row| row.contains(" ROOTCA expire"));
        let of_end: Vec<&str> = of_end.map(String::as_str).collect();
        assert_eq!(
            of_end,
            Vec::from_iter(expected),
            "{left} {leaf_left} {is_succeeded}"
        );
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
    let mut admin = Admin::new(json!({}));
    admin.certificates = json!({"certificates": [{"ca_cert": [entry]}]});
    poller.ask(&admin);
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

/// An Envoy's admin interface: what it answers to each path.
struct Admin {
    secrets: Value,
    certificates: Value,
    /// As texts: in Envoy's a name comes first.
    listeners: String,
    clusters: String,
}

impl Admin {
    fn new(secrets: Value) -> Self {
        Self {
            secrets,
            certificates: json!({"certificates": []}),
            listeners: "{}".to_owned(),
            clusters: "{}".to_owned(),
        }
    }

    fn answer(&self, path: &str) -> String {
        match path {
            "/certs" => self.certificates.to_string(),
            path if path.contains("listeners") => self.listeners.clone(),
            path if path.contains("clusters") => self.clusters.clone(),
            _ => self.secrets.to_string(),
        }
    }
}

impl Poller {
    /// One poll; each question is answered until there is no other.
    fn ask(&mut self, admin: &Admin) {
        self.seconds += 5;
        self.proxy.set_clock(self.seconds);
        let mut answered = self.proxy.calls().len();
        self.worker.tick();
        while let Some(path) = self.proxy.calls().get(answered) {
            answered += 1;
            self.answer(admin.answer(path).as_bytes());
        }
    }
}

/// What Envoy's admin interface answers to a mask.
fn all_secrets(lists: &Value) -> Value {
    let mut config = lists.clone();
    config["@type"] = json!("type.googleapis.com/envoy.admin.v3.SecretsConfigDump");
    json!({"configs": [config]})
}

/// A bundle as SPIRE sends it.
fn validator(name: &str, domains: &[(&str, &[&Ca])]) -> Value {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    let domains = domains.iter().map(|(domain, cas)| {
        let pem: String = cas.iter().map(|ca| ca.pem()).collect();
        json!({"name": domain, "trust_bundle": {"inline_bytes": BASE64.encode(pem)}})
    });
    let config = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
        "trust_domains": domains.collect::<Vec<_>>(),
    });
    let validator = json!({"name": "envoy.tls.cert_validator.spiffe", "typed_config": config});
    json!({"name": name, "secret": {"validation_context": {"custom_validator_config": validator}}})
}

fn time(seconds: i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    time.format(&time::format_description::well_known::Rfc3339)
        .unwrap()
}

/// What `/certs` tells of a certificate.
fn details(der: &[u8], path: &str, san: Option<&str>) -> Value {
    let facts = crate::facts(der);
    let serial: String = facts
        .serial
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    json!({
        "path": path,
        "serial_number": serial,
        "subject_alt_names": san.map(|uri| json!({"uri": uri})).into_iter().collect::<Vec<_>>(),
        "valid_from": time(facts.not_before.0),
        "expiration_time": time(facts.not_after.0),
    })
}

/// SPIRE's default: a leaf alone, and a validator. Its CA is called after its key, and stands above the leaf.
#[test]
fn a_spiffe_validator_is_a_bundle() {
    let (old, new) = (root("SPIRE 1"), root("SPIRE 2"));
    let mut poller = Poller::new();
    for (signer, cas, anchor) in [
        (&old, vec![&old], label("SPIRE 1", &old)),
        (&old, vec![&old, &new], label("SPIRE 1", &old)),
        (&new, vec![&old, &new], label("SPIRE 2", &new)),
        (&new, vec![&new], label("SPIRE 2", &new)),
    ] {
        poller.poll(&[
            chain("default", &[&leaf(signer).leaf_pem()]),
            validator("ROOTCA", &[("cluster.local", &cas)]),
        ]);
        assert_eq!(poller.with_value(ISSUER, 1), [format!("default {anchor}")]);
        assert_eq!(poller.with_value(ANCHOR, 1), [format!("default {anchor}")]);
        let trusted = poller.with_value(TRUSTED, 1);
        assert_eq!(trusted.len(), cas.len());
        assert!(
            trusted.iter().all(|row| row.starts_with("ROOTCA SPIRE_")),
            "{trusted:?}"
        );
    }
}

/// A CA counts for leaves of its own trust domain only.
#[test]
fn each_trust_domain_of_a_validator_is_a_bundle() {
    let (own, foreign) = (root("SPIRE 1"), root("SPIRE 2"));
    for (signer, anchor) in [
        (&own, label("SPIRE 1", &own)),
        (&foreign, "none".to_owned()),
    ] {
        let mut poller = Poller::new();
        poller.poll(&[
            chain("default", &[&leaf(signer).leaf_pem()]),
            validator(
                "ALL",
                &[("cluster.local", &[&own]), ("other.org", &[&foreign])],
            ),
        ]);
        assert_eq!(poller.with_value(ANCHOR, 1), [format!("default {anchor}")]);
        let expected = [
            format!("ALL {} {}", label("SPIRE 1", &own), digits(&own)),
            format!(
                "ALL@other.org {} {}",
                label("SPIRE 2", &foreign),
                digits(&foreign)
            ),
        ];
        assert_eq!(poller.with_value(TRUSTED, 1), expected);
    }
}

/// SPIRE keeps a CA for a day after its end. Its CAs differ in their names, and have the trust domain in a SAN.
#[test]
fn a_ca_of_spire_that_was_replaced_raises_nothing() {
    use rcgen::{CertificateParams, DnType, IsCa, KeyPair, SanType};
    let ca = |number: &str, end: i64| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CountryName, "US");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "SPIFFE");
        let serial = DnType::CustomDnType(vec![2, 5, 4, 5]);
        params.distinguished_name.push(serial, number);
        params.distinguished_name.remove(DnType::CommonName);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.subject_alt_names = vec![SanType::URI("spiffe://cluster.local".try_into().unwrap())];
        let moment = |seconds| time::OffsetDateTime::from_unix_timestamp(NOW + seconds).unwrap();
        params.not_before = moment(-10 * DAY);
        params.not_after = moment(end);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    };
    for end in [-1000, 1000, DAY] {
        let (old, new) = (ca("1", end), ca("2", 3000 * DAY));
        for (cas, found) in [(vec![&old, &new], 0), (vec![&old], 1)] {
            let pem: String = cas.iter().map(|ca| ca.pem()).collect();
            let mut poller = Poller::new();
            poller.poll(&[bundle("ROOTCA", &[&pem])]);
            let rows = poller.rows(FINDINGS, |value| value > 0);
            let of_end = rows.iter().filter(|row| row.contains("expire"));
            assert_eq!(of_end.count(), found, "{rows:?}");
        }
    }
}

/// Envoy's answer to a mask: static secrets, and such as are still to come.
#[test]
fn static_and_missing_secrets_are_seen() {
    let ca = root("Root CA");
    let leaf = leaf(&ca);
    let mut poller = Poller::new();
    let secrets = |warming: Value| {
        all_secrets(&json!({
            "static_secrets": [chain("static", &[&leaf.leaf_pem()])],
            "dynamic_active_secrets": [bundle("ROOTCA", &[&ca.pem()])],
            "dynamic_warming_secrets": warming,
        }))
    };
    let never =
        json!([{"name": "never", "version_info": "uninitialized", "secret": {"name": "never"}}]);
    for (warming, missing) in [(never, 1), (json!([]), 0)] {
        poller.ask(&Admin::new(secrets(warming)));
        assert_eq!(
            poller.with_value(ISSUER, 1),
            [format!("static {}", label("Root CA", &ca))]
        );
        let found = poller.rows(FINDINGS, |value| value == missing);
        assert_eq!(found, ["none never secret_warming"]);
    }
}

/// Consul, and many an Envoy of one's own.
#[test]
fn what_is_inline_in_tls_contexts_is_read() {
    let ca = root("Root CA");
    let (client, server) = (leaf(&ca), lasts_a_day(ca.leaf().dns("shop.example.com")));
    let inline = |pem: String| json!({"inline_string": pem});
    let context = |leaf: &Identity| {
        json!({"common_tls_context": {
            "tls_certificates": [{"certificate_chain": inline(leaf.leaf_pem())}],
            "validation_context": {"trusted_ca": inline(ca.pem())},
        }})
    };
    let entry = |leaf: &Identity, san| {
        json!({
            "ca_cert": [details(ca.der(), "<inline>", None)],
            "cert_chain": [details(leaf.der(), "<inline>", san)],
        })
    };
    let admin = Admin {
        secrets: json!({}),
        certificates: json!({"certificates": [entry(&client, Some(PROXY)), entry(&server, None)]}),
        listeners: json!({"configs": [{"static_listeners": [
            {"filter_chains": [context(&client), context(&client)]},
            {"filter_chains": [context(&server)]},
        ]}]})
        .to_string(),
        ..Admin::new(json!({}))
    };
    let mut poller = Poller::new();
    for _ in 0..2 {
        poller.ask(&admin);
        let name = label("Root CA", &ca);
        let digits = digits(&ca);
        let expected = [
            format!("root_ca _inline_ {name} {digits}"),
            "workload _inline_ shop.example.com".to_owned(),
            format!("workload _inline_ {PROXY}"),
        ];
        assert_eq!(poller.with_value(PRESENT, 1), expected);
        assert_eq!(poller.with_value(ISSUER, 1), [format!("_inline_ {name}")]);
        assert_eq!(
            poller.with_value(TRUSTED, 1),
            [format!("_inline_ {name} {digits}")]
        );
    }
}

/// A gateway trusts more for its clients than the mesh does.
#[test]
fn an_anchor_is_one_of_the_bundle_that_is_used_with_the_leaf() {
    let (old, new) = (root("Root A"), root("Root B"));
    let leaf = leaf(&new);
    let secrets = [
        chain("default", &[&leaf.leaf_pem()]),
        bundle("ROOTCA", &[&old.pem()]),
        bundle("kubernetes://api-cert-cacert", &[&old.pem(), &new.pem()]),
    ];
    let [old_ca, new_ca] = [&old, &new].map(|ca| details(ca.der(), "<inline>", None));
    let own = details(leaf.der(), "<inline>", Some(PROXY));
    let gateway = json!({"ca_cert": [old_ca, new_ca]});
    for (mesh, anchor) in [
        (json!([old_ca]), "default none".to_owned()),
        (
            json!([old_ca, new_ca]),
            format!("default {}", label("Root B", &new)),
        ),
    ] {
        let mut poller = Poller::new();
        let mesh = json!({"ca_cert": mesh, "cert_chain": [own]});
        poller.poll_with(&secrets, &json!([mesh, gateway]));
        assert_eq!(poller.with_value(ANCHOR, 1), [anchor]);
    }
}

/// Certificate and key do not match: the dump has the new leaf, and Envoy serves the old one.
#[test]
fn a_rotation_that_envoy_refuses_is_found_and_is_none() {
    let ca = root("Root CA");
    let old = ca
        .leaf()
        .uri(PROXY)
        .lifetime(lasting(-DAY, DAY))
        .issue()
        .unwrap();
    let new = leaf(&ca);
    let mut poller = Poller::new();
    let secret = |leaf: &Identity| {
        [
            chain("default", &[&leaf.leaf_pem()]),
            bundle("ROOTCA", &[&ca.pem()]),
        ]
    };
    let served =
        |leaf: &Identity| json!([{"cert_chain": [details(leaf.der(), "<inline>", Some(PROXY))]}]);
    let rotations = |poller: &Poller| poller.proxy.total("mtls_own_rotations_total");
    poller.poll_with(&secret(&old), &served(&old));
    poller.ask(&Admin {
        secrets: json!({"configs": secret(&new)}),
        certificates: json!({"certificates": served(&old)}),
        ..Admin::new(json!({}))
    });
    let found = poller.rows(FINDINGS, |value| value > 0);
    assert_eq!(found, ["workload default rotation_rejected"]);
    assert_eq!(rotations(&poller), 0);
    poller.poll_with(&secret(&new), &served(&new));
    assert_eq!(poller.rows(FINDINGS, |value| value > 0), [""; 0]);
    assert_eq!(rotations(&poller), 1);
}

/// What the secrets say is published whatever becomes of the rest, and what `/certs` said before stays.
#[test]
fn secrets_are_published_though_certs_fails() {
    let (ca, file_ca) = (root("Root CA"), root("File CA"));
    let file = details(file_ca.der(), "/ca.crt", None);
    let mut poller = Poller::new();
    let mut admin = Admin::new(json!({"configs": [bundle("ROOTCA", &[])]}));
    admin.certificates = json!({"certificates": [{"ca_cert": [file]}]});
    poller.ask(&admin);
    assert_eq!(
        poller
            .with_value("mtls_watch_hierarchy_poll_age_seconds", 0)
            .len(),
        0
    );
    let age = |poller: &Poller| {
        poller
            .proxy
            .value("mtls_watch_hierarchy_poll_age_seconds", &[])
    };
    let bytes = |poller: &Poller| poller.proxy.value("mtls_watch_hierarchy_reply_bytes", &[]);
    assert_eq!(age(&poller), Some(0));
    let size = admin.answer("/certs").len() + admin.answer("").len();
    assert_eq!(bytes(&poller), u64::try_from(size).ok());
    admin.secrets = json!({"configs": [bundle("ROOTCA", &[&ca.pem()])]});
    admin.certificates = json!({"certificates": 7});
    for failed in 1..3 {
        poller.ask(&admin);
        assert_eq!(poller.with_value(TRUSTED, 1).len(), 2);
        assert_eq!(age(&poller), Some(5 * failed));
        let errors = poller
            .proxy
            .value("mtls_watch_hierarchy_polls_total", &[("result", "error")]);
        assert_eq!(errors, Some(failed));
    }
}

/// `/certs` of a mesh with 20,000 clusters repeats each CA for each of them.
#[test]
fn a_reply_of_many_megabytes_is_read() {
    let ca = root("Root CA");
    let leaf = leaf(&ca);
    let context = json!({
        "ca_cert": [details(ca.der(), "<inline>", None)],
        "cert_chain": [details(leaf.der(), "<inline>", Some(PROXY))],
    });
    let mut certificates = r#"{"certificates": ["#.to_owned();
    let context = context.to_string();
    while certificates.len() < 20_000_000 {
        certificates.push_str(&context);
        certificates.push(',');
    }
    certificates.push_str(&context);
    certificates.push_str("]}");
    let secrets =
        json!({"configs": [chain("default", &[&leaf.leaf_pem()]), bundle("ROOTCA", &[&ca.pem()])]});
    let mut poller = Poller::new();
    poller.seconds += 5;
    poller.proxy.set_clock(poller.seconds);
    poller.worker.tick();
    poller.answer(secrets.to_string().as_bytes());
    poller.answer(certificates.as_bytes());
    assert_eq!(poller.with_value(PRESENT, 1).len(), 2);
    let ok = poller
        .proxy
        .value("mtls_watch_hierarchy_polls_total", &[("result", "ok")]);
    assert_eq!(ok, Some(1));
}

const IGNORED: &str = "mtls_own_ignored_findings";

/// By finding, name and layer, as of peers; of a secret that never came by the name of the secret.
#[test]
fn what_is_accepted_of_own_certificates_is_counted_apart() {
    let old = root_until("Old CA", 30 * DAY);
    let leaf = lasts_a_day(old.leaf().uri(PROXY).key_kind(pki::KeyKind::Rsa1024));
    let secrets = [
        chain("default", &[&leaf.leaf_pem()]),
        bundle("ROOTCA", &[&old.pem()]),
    ];
    let of = |accepted: Value, metric| {
        let mut poller = Poller::ignoring(&accepted);
        poller.poll(&secrets);
        poller.with_value(metric, 1)
    };
    let both = [
        "root_ca ROOTCA expires_critical",
        "workload default weak_key",
    ];
    assert_eq!(of(json!([]), FINDINGS), both);
    assert_eq!(of(json!([]), IGNORED), [""; 0]);
    for (accepted, is_leaf) in [
        (json!({"finding": "weak_key"}), true),
        (
            json!({"finding": "weak_key", "identity_prefix": "spiffe://cluster.local/", "layer": "workload"}),
            true,
        ),
        (
            json!({"finding": "expires_critical", "identity_prefix": "Old CA:"}),
            false,
        ),
        (
            json!({"finding": "expires_critical", "layer": "root_ca"}),
            false,
        ),
    ] {
        let (found, ignored) = match is_leaf {
            true => (both[0], both[1]),
            false => (both[1], both[0]),
        };
        let accepted = json!([accepted]);
        assert_eq!(of(accepted.clone(), FINDINGS), [found], "{accepted}");
        assert_eq!(of(accepted.clone(), IGNORED), [ignored], "{accepted}");
    }
    for accepted in [
        json!([{"finding": "weak_key", "identity_prefix": "spiffe://other/"}]),
        json!([{"finding": "expires_critical", "layer": "workload"}]),
    ] {
        assert_eq!(of(accepted.clone(), FINDINGS), both, "{accepted}");
        assert_eq!(of(accepted.clone(), IGNORED), [""; 0], "{accepted}");
    }
}
