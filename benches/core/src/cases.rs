//! What the core does with a certificate, a step at a time.

use std::hint::black_box;

use mtls_watch::certificate::{self, Certificate, pem};
use mtls_watch::chain;
use mtls_watch::config::Config;
use mtls_watch::metrics::NOT_AFTER;
use mtls_watch::policy::{self, Direction};
use mtls_watch::source::xfcc;
use testbed::key::KeyKind;
use testbed::{Hierarchy, Identity};

/// A step, and its name.
pub struct Case {
    pub name: &'static str,
    pub run: Box<dyn Fn()>,
}

fn case(name: &'static str, run: impl Fn() + 'static) -> Case {
    let run = Box::new(run);
    Case { name, run }
}

fn parsed(pem: &str) -> Vec<Certificate> {
    let ders = pem::certificates(pem.as_bytes()).map(|der| der.expect("PEM"));
    ders.map(|der| certificate::parse(&der).expect("a certificate"))
        .collect()
}

/// A header as Envoy writes it.
fn header(identity: &Identity) -> String {
    let encoded = |text: &str| {
        let escape = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(escape).collect::<String>()
    };
    format!(
        "Hash=00;Cert=\"{}\";Chain=\"{}\"",
        encoded(&identity.leaf_pem()),
        encoded(&identity.chain_pem())
    )
}

/// All cases, with certificates made for the occasion.
pub fn all() -> Vec<Case> {
    let pki = Hierarchy::new().expect("a PKI");
    let leaf = || pki.leaf().uri("spiffe://cluster.local/ns/shop/sa/pay");
    let p256 = leaf().issue().expect("a leaf");
    let rsa = leaf().key_kind(KeyKind::Rsa2048).issue().expect("a leaf");
    let header = header(&p256);
    let members = chain::link(parsed(&p256.chain_pem()));
    let thresholds = Config::default().thresholds;
    let (leaf_pem, rsa_pem, chain_pem) = (p256.leaf_pem(), rsa.leaf_pem(), p256.chain_pem());
    let der = p256.der().to_vec();
    vec![
        case("pem_p256_leaf", {
            let text = leaf_pem.clone();
            move || {
                black_box(pem::certificates(text.as_bytes()).count());
            }
        }),
        case("der_p256_leaf", move || {
            drop(black_box(certificate::parse(&der)))
        }),
        case("parse_p256_leaf", move || {
            drop(black_box(parsed(&leaf_pem)))
        }),
        case("parse_rsa2048_leaf", move || {
            drop(black_box(parsed(&rsa_pem)))
        }),
        case("parse_and_link_chain_of_3", move || {
            drop(black_box(chain::link(parsed(&chain_pem))));
        }),
        case("xfcc_with_chain_of_3", move || {
            drop(black_box(xfcc::certificates(header.as_bytes())));
        }),
        case("judge_chain_of_3", move || {
            drop(black_box(policy::judge(
                &members,
                Direction::Inbound,
                &thresholds,
            )));
        }),
        case("encode_series", || {
            let labels = [
                "inbound",
                "workload",
                "spiffe://cluster.local/ns/shop/sa/pay",
            ];
            drop(black_box(NOT_AFTER.series(&labels)));
        }),
    ]
}
