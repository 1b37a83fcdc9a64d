//! What is inline in the TLS contexts of listeners and clusters, and bundles of one name.

use super::*;

fn context(bundle: &Value) -> Value {
    json!({"common_tls_context": {"validation_context": bundle}})
}

fn trusted(cas: &[&Ca]) -> Value {
    let pem: String = cas.iter().map(|ca| ca.pem()).collect();
    json!({"trusted_ca": {"inline_string": pem}})
}

/// A listener as LDS has brought it: in force, and perhaps one that is on its way out.
fn listener(name: &str, bundle: &Value, draining: Option<&Value>) -> String {
    let state = |bundle| json!({"listener": {"filter_chains": [context(bundle)]}});
    let draining = draining.map(|bundle| format!(r#", "draining_state": {}"#, state(bundle)));
    let (active, draining) = (state(bundle), draining.unwrap_or_default());
    format!(r#"{{"name": "{name}", "active_state": {active}{draining}}}"#)
}

fn cluster(name: &str, bundle: &Value) -> String {
    let context = context(bundle);
    format!(r#"{{"cluster": {{"@type": "C", "name": "{name}", "transport_socket": {context}}}}}"#)
}

fn entry(cas: &[&Ca]) -> Value {
    let cas = cas.iter().map(|ca| details(ca.der(), "<inline>", None));
    json!({"ca_cert": cas.collect::<Vec<_>>()})
}

/// An Envoy with these listeners and clusters, whose `/certs` has these contexts.
fn envoy(listeners: &[String], clusters: &[String], contexts: &[Value]) -> Admin {
    let dump = |kind, items: &[String]| {
        format!(r#"{{"configs": [{{"{kind}": [{}]}}]}}"#, items.join(", "))
    };
    Admin {
        certificates: json!({"certificates": contexts}),
        listeners: dump("dynamic_listeners", listeners),
        clusters: dump("dynamic_active_clusters", clusters),
        ..Admin::new(json!({}))
    }
}

fn row(secret: &str, name: &str, ca: &Ca) -> String {
    format!("{secret} {} {}", label(name, ca), digits(ca))
}

/// The new root in the bundle of one cluster is not trusted by the listener.
#[test]
fn inline_bundles_that_differ_are_told_apart_by_listener_and_cluster() {
    let (a, b) = (root("Root A"), root("Root B"));
    let (old, both) = (trusted(&[&a]), trusted(&[&a, &b]));
    let contexts = [entry(&[&a]), entry(&[&a, &b])];
    let clusters = [cluster("api", &both), cluster("db", &both)];
    let mut poller = Poller::new();
    poller.ask(&envoy(
        &[
            listener("public", &old, None),
            listener("admin", &old, None),
        ],
        &clusters,
        &contexts,
    ));
    let expected = [
        row("_inline_:api", "Root A", &a),
        row("_inline_:api", "Root B", &b),
        row("_inline_:public", "Root A", &a),
    ];
    assert_eq!(poller.with_value(TRUSTED, 1), expected);
    // All have it.
    poller.ask(&envoy(
        &[
            listener("public", &both, None),
            listener("admin", &both, None),
        ],
        &clusters,
        &contexts[1..],
    ));
    let expected = [row("_inline_", "Root A", &a), row("_inline_", "Root B", &b)];
    assert_eq!(poller.with_value(TRUSTED, 1), expected);
}

/// What a listener will trust, or has trusted, is not what it trusts.
#[test]
fn of_two_bundles_of_one_name_what_both_have_is_trusted() {
    let (a, b) = (root("Root A"), root("Root B"));
    let (old, both) = (trusted(&[&a]), trusted(&[&a, &b]));
    for (bundle, draining) in [(&old, &both), (&both, &old)] {
        let mut poller = Poller::new();
        let listener = listener("public", bundle, Some(draining));
        poller.ask(&envoy(&[listener], &[], &[entry(&[&a]), entry(&[&a, &b])]));
        let expected = [row("_inline_:public", "Root A", &a)];
        assert_eq!(poller.with_value(TRUSTED, 1), expected);
        assert_eq!(poller.with_value(PRESENT, 1).len(), 2);
    }
    // Names after the content.
    let mut poller = Poller::new();
    poller.poll(&[
        bundle("shop/clients/1f2e3d4c5b", &[&a.pem()]),
        bundle("shop/clients/5b4c3d2e1f", &[&a.pem(), &b.pem()]),
    ]);
    let expected = [row("shop/clients", "Root A", &a)];
    assert_eq!(poller.with_value(TRUSTED, 1), expected);
}

/// Before 1.40 `/certs` tells the first CA only, so that it does not change with the second.
#[test]
fn contexts_are_asked_for_again_the_sooner_the_smaller_they_are() {
    let (a, b) = (root("Root A"), root("Root B"));
    let long = "x".repeat(3 << 20);
    for (padding, polls_until_seen) in [("", 1), (&*long, 3)] {
        let mut poller = Poller::new();
        for poll in 0..=polls_until_seen {
            let bundle = match poll {
                0 => trusted(&[&a]),
                _ => trusted(&[&a, &b]),
            };
            let listener = listener("public", &bundle, None);
            let padding = format!(r#"{{"padding": "{padding}"}}"#);
            poller.ask(&envoy(&[listener, padding], &[], &[entry(&[&a])]));
            let trusted = poller.with_value(TRUSTED, 1).len();
            assert_eq!(
                trusted,
                if poll == polls_until_seen { 2 } else { 1 },
                "{poll}"
            );
        }
    }
}

/// A validator with a map of bundles: a JWK set for each trust domain.
#[test]
fn a_map_of_spiffe_bundles_is_read() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    let (old, new, foreign) = (root("SPIRE 1"), root("SPIRE 2"), root("SPIRE 3"));
    let key = |ca: &Ca| json!({"kty": "EC", "use": "x509-svid", "x5c": [BASE64.encode(ca.der())]});
    let map = json!({"trust_domains": {
        "cluster.local": {"spiffe_sequence": 1, "keys": [key(&old), key(&new)]},
        "other.org": {"keys": [key(&foreign)]},
    }});
    let config = json!({
        "trust_bundles": {"inline_string": map.to_string()},
        // Envoy does not look at these, then.
        "trust_domains": [{"name": "cluster.local", "trust_bundle": {"inline_string": foreign.pem()}}],
    });
    let validator = json!({"name": "envoy.tls.cert_validator.spiffe", "typed_config": config});
    let context = json!({"custom_validator_config": validator, "trusted_ca": trusted(&[&foreign])});
    let mut poller = Poller::new();
    poller.poll(&[
        chain("default", &[&leaf(&new).leaf_pem()]),
        json!({"name": "ROOTCA", "secret": {"validation_context": context}}),
    ]);
    let expected = [
        row("ROOTCA", "SPIRE 1", &old),
        row("ROOTCA", "SPIRE 2", &new),
        row("ROOTCA@other.org", "SPIRE 3", &foreign),
    ];
    assert_eq!(poller.with_value(TRUSTED, 1), expected);
    let anchor = format!("default {}", label("SPIRE 2", &new));
    assert_eq!(poller.with_value(ANCHOR, 1), [anchor]);
}
