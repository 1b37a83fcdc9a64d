//! Where a peer's certificate is read, in which order, and what is believed.

use std::rc::Rc;

use pki::Identity;
use pki::to_pem;
use serde_json::{Value, json};

use crate::fake_host::{FakeHost, Listener, Proxy, XFCC};
use crate::worker::Worker;
use pki::fixtures::{PAY, fingerprint, leaf, url_encode, workload, xfcc_element};

const EVIL: &str = "spiffe://cluster.local/ns/shop/sa/evil";

fn named(identity: &str) -> Identity {
    leaf().uri(identity).issue().unwrap()
}

fn filter_state(key: &str) -> String {
    format!("filter_state.{key}")
}

/// A proxy with a worker, and one request of it.
struct Seen {
    proxy: Rc<Proxy>,
    host: FakeHost,
}

impl Seen {
    fn by_default(host: impl FnOnce(&Rc<Proxy>) -> FakeHost) -> Self {
        Self::with(json!({}), host)
    }

    fn with(configuration: Value, host: impl FnOnce(&Rc<Proxy>) -> FakeHost) -> Self {
        let proxy = Proxy::new();
        let host = host(&proxy);
        Worker::configured(&proxy, configuration).request(&host);
        Self { proxy, host }
    }

    fn identity(&self) -> String {
        self.host.filter_state("mtls_watch.identity").unwrap()
    }

    fn status(&self) -> String {
        self.host.filter_state("mtls_watch.status").unwrap()
    }

    /// How often a source gave a certificate, and how often one that was unreadable.
    fn inspections(&self, source: &str) -> (u64, u64) {
        let count = |result| {
            let labels = [("source", source), ("result", result)];
            self.proxy.value("mtls_watch_inspections_total", &labels)
        };
        (count("ok").unwrap(), count("unreadable").unwrap())
    }

    fn assert_read_from(&self, source: &str, certificates: u64) {
        for other in ["attribute", "filter_state", "xfcc", "hierarchy"] {
            let expected = if other == source { certificates } else { 0 };
            assert_eq!(self.inspections(other), (expected, 0), "{other}");
        }
    }
}

#[test]
fn each_source_alone_is_enough() {
    let pay = named(PAY);
    for (source, path, text) in [
        ("attribute", "connection.peer_certificate", pay.leaf_pem()),
        // Envoy's documentation says URL-encoded, Envoy writes it plain.
        (
            "attribute",
            "connection.peer_certificate",
            url_encode(&pay.leaf_pem()),
        ),
        (
            "filter_state",
            &filter_state("mtls_watch.peer_certificate"),
            url_encode(&pay.leaf_pem()),
        ),
    ] {
        let seen = Seen::by_default(|proxy| FakeHost::new(proxy).mtls(&pay).with(path, &text));
        assert_eq!(seen.identity(), PAY);
        seen.assert_read_from(source, 1);
    }
    let seen = Seen::by_default(|proxy| {
        FakeHost::new(proxy)
            .mtls(&pay)
            .header(XFCC, &xfcc_element(&pay))
    });
    assert_eq!(seen.identity(), PAY);
    seen.assert_read_from("xfcc", pay.chain().len() as u64);
}

#[test]
fn a_chain_is_read_from_the_attribute_or_filter_state_where_they_give_one() {
    let pay = named(PAY);
    for path in [
        "connection.peer_certificate",
        &filter_state("mtls_watch.peer_certificate"),
    ] {
        let seen =
            Seen::by_default(|proxy| FakeHost::new(proxy).mtls(&pay).with(path, pay.chain_pem()));
        assert_eq!(seen.identity(), PAY);
        let layers = seen.proxy.series().join("\n");
        assert!(layers.contains("layer=.=intermediate_ca"), "{layers}");
    }
}

#[test]
fn the_first_source_that_has_it_counts_in_the_configured_order() {
    let sources = ["attribute", "filter_state", "xfcc"];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]].map(|order| order.map(|index| sources[index])) {
        let pay = named(PAY).leaf_only();
        let seen = Seen::with(json!({"certificate_sources": order}), |proxy| {
            FakeHost::new(proxy)
                .client(&pay)
                .with(&filter_state("mtls_watch.peer_certificate"), pay.leaf_pem())
                .header(XFCC, &xfcc_element(&pay))
        });
        seen.assert_read_from(order[0], 1);
    }
}

#[test]
fn a_source_that_is_not_configured_is_not_asked() {
    let pay = named(PAY);
    let everything = |proxy: &Rc<Proxy>| {
        FakeHost::new(proxy)
            .client_with_chain(&pay)
            .with(&filter_state("mtls_watch.peer_certificate"), pay.leaf_pem())
    };
    for only in ["attribute", "filter_state"] {
        let seen = Seen::with(json!({"certificate_sources": [only]}), everything);
        seen.assert_read_from(only, 1);
    }
    let seen = Seen::with(json!({"certificate_sources": ["xfcc"]}), everything);
    seen.assert_read_from("xfcc", 3);
    let asked = seen.host.take_asked();
    assert!(!asked.contains(&"connection.peer_certificate".to_owned()));
    let filter_state = filter_state("mtls_watch.peer_certificate");
    assert!(!asked.contains(&filter_state));
}

#[test]
fn the_key_of_the_filter_state_can_be_set() {
    let pay = named(PAY);
    let seen = Seen::with(json!({"filter_state_key": "my.key"}), |proxy| {
        let host = FakeHost::new(proxy).mtls(&pay);
        host.with(&filter_state("my.key"), pay.leaf_pem())
    });
    seen.assert_read_from("filter_state", 1);
}

#[test]
fn filter_state_written_before_the_handshake_is_nothing() {
    let pay = named(PAY);
    let seen = Seen::by_default(|proxy| {
        FakeHost::new(proxy)
            .mtls(&pay)
            .with(&filter_state("mtls_watch.peer_certificate"), "-")
            .header(XFCC, &xfcc_element(&pay))
    });
    assert_eq!(seen.identity(), PAY);
    assert_eq!(seen.inspections("filter_state"), (0, 0));
}

#[test]
fn what_one_source_garbles_the_next_may_know() {
    let pay = named(PAY).leaf_only();
    for garbled in [
        "hello",
        "%4",
        "%2D%2D",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let seen = Seen::by_default(|proxy| {
            FakeHost::new(proxy)
                .mtls(&pay)
                .with("connection.peer_certificate", garbled)
                .header(XFCC, &xfcc_element(&pay))
        });
        assert_eq!(
            (seen.identity().as_str(), seen.status().as_str()),
            (PAY, "ok")
        );
        assert_eq!(seen.inspections("attribute"), (0, 1), "{garbled}");
        assert_eq!(seen.inspections("xfcc"), (1, 0), "{garbled}");
    }
}

#[test]
fn a_certificate_that_no_source_gives_is_unreadable_not_absent() {
    let seen = Seen::by_default(|proxy| FakeHost::new(proxy).mtls(&named(PAY)));
    assert_eq!(seen.status(), "unreadable");
    assert_eq!(seen.identity(), "unknown");
    assert_eq!(seen.inspections("attribute"), (0, 1));
}

#[test]
fn of_the_xfcc_header_only_the_last_element_is_believed() {
    let (pay, evil) = (named(PAY), named(EVIL));
    let forged = xfcc_element(&evil);
    for before in [
        forged.clone(),
        format!("{forged},{forged}"),
        // Beginnings of something that would swallow what follows.
        "Chain=\"".to_owned(),
        format!("{forged};Subject=\"x"),
        "\\".to_owned(),
        "[".to_owned(),
        "[{\"hash\":\"".to_owned(),
        "{".to_owned(),
    ] {
        let header = format!("{before},{}", xfcc_element(&pay));
        let seen = Seen::by_default(|proxy| FakeHost::new(proxy).mtls(&pay).header(XFCC, &header));
        assert_eq!(seen.identity(), PAY, "{before:.40}");
        seen.assert_read_from("xfcc", 3);
    }
}

#[test]
fn an_xfcc_header_that_this_proxy_did_not_set_is_not_believed() {
    let (pay, evil) = (named(PAY), named(EVIL));
    // The client wrote what it wants to be, or even its own true hash to it.
    let forged_hash = xfcc_element(&evil).replace(&fingerprint(&evil), &fingerprint(&pay));
    for forged in [xfcc_element(&evil), forged_hash] {
        let seen = Seen::by_default(|proxy| FakeHost::new(proxy).mtls(&pay).header(XFCC, &forged));
        assert_eq!(seen.status(), "unreadable");
        assert_eq!(seen.identity(), "unknown");
        assert_eq!(seen.inspections("xfcc"), (0, 1));
    }
}

#[test]
fn the_json_form_of_the_header_is_recognised_and_counted() {
    let pay = named(PAY);
    let chain = url_encode(&pay.chain_pem());
    for json in [
        json!([{"hash": fingerprint(&pay), "chain": chain}]),
        json!({"hash": fingerprint(&pay), "cert": chain}),
    ] {
        let header = json.to_string();
        let seen = Seen::by_default(|proxy| FakeHost::new(proxy).mtls(&pay).header(XFCC, &header));
        // "read, or counted unreadable": never passed over in silence.
        assert_ne!(seen.inspections("xfcc"), (0, 0));
    }
}

#[test]
fn a_header_without_certificate_is_no_source() {
    let pay = named(PAY);
    let header = format!("By=spiffe://d/me;Hash={};URI={PAY}", fingerprint(&pay));
    let seen = Seen::by_default(|proxy| FakeHost::new(proxy).mtls(&pay).header(XFCC, &header));
    assert_eq!(seen.status(), "unreadable");
    assert_eq!(seen.inspections("xfcc"), (0, 0));
}

#[test]
fn the_keys_of_the_header_may_be_quoted_ordered_and_written_anyhow() {
    let pay = named(PAY);
    let cert = url_encode(&pay.leaf_pem());
    let hash = fingerprint(&pay);
    for header in [
        format!("Cert={cert};Hash={hash}"),
        format!("hash={hash};cert=\"{cert}\""),
        format!(r#"Subject="CN=a\",O=\"b;Cert=x";Cert="{cert}";DNS=a.test;DNS=b.test"#),
        format!("Hash=\"{hash}\"; CERT=\"{cert}\" "),
    ] {
        let seen = Seen::by_default(|proxy| FakeHost::new(proxy).mtls(&pay).header(XFCC, &header));
        assert_eq!(seen.identity(), PAY, "{header}");
    }
}

#[test]
fn the_header_adds_the_chain_to_a_leaf_from_a_better_source() {
    let pay = named(PAY);
    let seen = Seen::by_default(|proxy| FakeHost::new(proxy).client_with_chain(&pay));
    assert_eq!(seen.identity(), PAY);
    assert_eq!(seen.inspections("attribute"), (1, 0));
    assert_eq!(seen.inspections("xfcc"), (2, 0));
    let series = seen.proxy.series().join("\n");
    for layer in ["workload", "issuing_ca", "intermediate_ca"] {
        assert!(series.contains(&format!("layer=.={layer};.;")), "{layer}");
    }
}

#[test]
fn the_chain_of_another_leaf_is_not_added() {
    let (pay, evil) = (named(PAY), named(EVIL));
    let seen = Seen::by_default(|proxy| {
        FakeHost::new(proxy)
            .client(&pay)
            .header(XFCC, &xfcc_element(&evil))
    });
    assert_eq!(
        (seen.identity().as_str(), seen.status().as_str()),
        (PAY, "ok")
    );
    assert_eq!(seen.inspections("xfcc").0, 0);
    assert!(!seen.proxy.series().join("\n").contains("issuing_ca"));
}

#[test]
fn a_broken_ca_certificate_is_a_finding_at_its_layer() {
    let pay = named(PAY);
    let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    for (blocks, layer) in [
        ([&pay.leaf_pem(), broken].concat(), "issuing_ca"),
        ([&pay.chain_pem(), broken].concat(), "intermediate_ca"),
    ] {
        let seen = Seen::by_default(|proxy| {
            let header = format!("Chain=\"{}\"", url_encode(&blocks));
            FakeHost::new(proxy).mtls(&pay).header(XFCC, &header)
        });
        assert_eq!(
            (seen.identity().as_str(), seen.status().as_str()),
            (PAY, "warning")
        );
        let labels = [
            ("direction", "inbound"),
            ("layer", layer),
            ("finding", "unreadable"),
        ];
        assert_eq!(
            seen.proxy.value("mtls_request_findings_total", &labels),
            Some(1)
        );
        assert_eq!(seen.inspections("xfcc").1, 1);
    }
}

#[test]
fn a_ca_does_not_take_the_place_of_an_unreadable_leaf() {
    let pay = named(PAY);
    let broken = pay.leaf_pem().replacen('M', "!", 1);
    let [_, cas @ ..] = &pay.chain()[..] else {
        panic!("no CAs");
    };
    let chain = broken + &to_pem(cas);
    let seen = Seen::by_default(|proxy| {
        FakeHost::new(proxy)
            .mtls(&pay)
            .with("connection.peer_certificate", &chain)
    });
    assert_eq!(
        (seen.identity().as_str(), seen.status().as_str()),
        ("unknown", "unreadable")
    );
    assert_eq!(seen.inspections("attribute"), (0, 1));
}

#[test]
fn a_chain_of_any_length_costs_a_bounded_effort() {
    let pay = named(PAY);
    let endless = pay.chain_pem().repeat(500);
    let seen = Seen::by_default(|proxy| {
        FakeHost::new(proxy)
            .mtls(&pay)
            .with("connection.peer_certificate", &endless)
    });
    assert_eq!(seen.identity(), PAY);
    assert!(seen.inspections("attribute").0 <= 64);
}

#[test]
fn a_server_s_certificate_is_in_the_attribute_only() {
    let (pay, server) = (named(PAY), named("spiffe://d/server"));
    let outbound = |proxy: &Rc<Proxy>| {
        FakeHost::new(proxy)
            .on(Listener::Outbound)
            .header(XFCC, &xfcc_element(&pay))
            .with(&filter_state("mtls_watch.peer_certificate"), pay.leaf_pem())
    };
    let seen = Seen::by_default(|proxy| outbound(proxy).server(&server));
    assert_eq!(seen.identity(), "spiffe://d/server");
    seen.assert_read_from("attribute", 1);

    let without = Seen::by_default(|proxy| {
        let host = outbound(proxy).server(&server);
        host.with("upstream.peer_certificate", "")
    });
    assert_eq!(
        (without.identity().as_str(), without.status().as_str()),
        ("unknown", "unreadable")
    );
}

#[test]
fn peers_without_a_fingerprint_are_not_taken_for_one_another() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    for source in [
        "connection.peer_certificate",
        &filter_state("mtls_watch.peer_certificate"),
    ] {
        for identity in [PAY, EVIL] {
            let host = FakeHost::new(&proxy)
                .with("connection.mtls", [1])
                .with(source, named(identity).leaf_pem());
            worker.request(&host);
            assert_eq!(
                host.filter_state("mtls_watch.identity").as_deref(),
                Some(identity)
            );
        }
    }
}

#[test]
fn a_peer_is_read_anew_when_it_shows_another_chain() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    let pay = workload().issue().unwrap();
    let bare = pay.clone().leaf_only();
    worker.request(&FakeHost::new(&proxy).client_with_chain(&bare));
    assert!(!proxy.series().join("\n").contains("issuing_ca"));
    worker.request(&FakeHost::new(&proxy).client_with_chain(&pay));
    assert!(proxy.series().join("\n").contains("issuing_ca"));
}

/// Envoy writes URI SANs without quotes. What is in one of them hides no certificate, and is not believed.
#[test]
fn a_uri_with_commas_and_quotes_hides_nothing() {
    for uri in [
        "spiffe://d/a,b",
        "spiffe://d/\"a",
        "https://d/?q=\"a,b\"",
        "spiffe://d/a;Cert=\"x\"",
        "spiffe://d/a,By=x;Cert=\"y\"",
    ] {
        let client = pki::fixtures::leaf().uri(uri).issue().unwrap();
        let element = format!("{};URI={uri}", xfcc_element(&client));
        for before in ["", "Cert=\"x,", "By=\"x\\\",\"\",\","] {
            let header = format!("{before}{element}");
            let seen = Seen::with(json!({"certificate_sources": ["xfcc"]}), |proxy| {
                FakeHost::new(proxy).mtls(&client).header(XFCC, &header)
            });
            assert_eq!(seen.identity(), uri, "{header}");
            assert_eq!(seen.inspections("xfcc"), (3, 0), "{header}");
            // Nor does it keep them in the header.
            let hash = fingerprint(&client);
            let rest = format!("{before}By=spiffe://d/me;Hash={hash};Subject=\"\";URI={uri}");
            assert_eq!(seen.host.upstream_header(XFCC), Some(rest));
        }
    }
}
