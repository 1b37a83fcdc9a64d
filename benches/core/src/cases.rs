//! What the core does with a certificate, a step at a time.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;

use mtls_watch_core::config::Config;
use mtls_watch_core::inspector::{Inspector, RequestWatch};
use mtls_watch_core::metrics::{self, NOT_AFTER};
use mtls_watch_core::policy;
use mtls_watch_core::source::read::fingerprint_of;
use mtls_watch_core::source::xfcc;
use mtls_watch_core::terms::{Direction, Layer};
use mtls_watch_x509::chain;
use mtls_watch_x509::{self as x509, Certificate, pem};
use pki::KeyKind;
use pki::{Hierarchy, Identity};

use crate::host::InstantHost;

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
    ders.map(|der| x509::parse(&der).expect("a certificate"))
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

/// An HTTP request on a connection whose client's leaf has not been met: everything but Envoy's part.
fn first_sight(pki: &Hierarchy) -> Case {
    let mut host = InstantHost::default();
    let mut set = |path: &str, value: &[u8]| {
        host.properties.insert(path.to_owned(), value.to_vec());
    };
    set("xds.listener_direction", &1_u64.to_le_bytes());
    set("connection.mtls", &[1]);
    let inspector = Rc::new(Inspector::new(Config::default(), Rc::default()));
    inspector.start(&host, 0);
    // Beyond 100 identities there are no new series.
    let connections: Vec<_> = (0..2000_u64)
        .map(|number| {
            let uri = format!("spiffe://cluster.local/ns/shop/sa/w-{number}");
            let leaf = pki.leaf().uri(&uri).key(pki.issuing.key()).issue();
            let leaf = leaf.expect("a leaf");
            let digest = fingerprint_of(leaf.der());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            (number, leaf.leaf_pem(), digest)
        })
        .collect();
    let (host, next) = (RefCell::new(host), Cell::new(0));
    let meet = move || {
        let (number, pem, digest) = &connections[next.replace((next.get() + 1) % 2000)];
        let mut host = host.borrow_mut();
        for (path, value) in [
            ("connection.id", number.to_le_bytes().as_slice()),
            ("connection.peer_certificate", pem.as_bytes()),
            (
                "connection.sha256_peer_certificate_digest",
                digest.as_bytes(),
            ),
        ] {
            host.properties.insert(path.to_owned(), value.to_vec());
        }
        black_box(RequestWatch::begin(&inspector, &*host));
    };
    for _ in 0..200 {
        meet();
    }
    case("first_sight", meet)
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
        case("der_p256_leaf", move || drop(black_box(x509::parse(&der)))),
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
            drop(black_box(xfcc::certificates(header.as_bytes(), None)));
        }),
        case("judge_chain_of_3", move || {
            drop(black_box(policy::judge(
                &members,
                Direction::Inbound,
                &thresholds,
            )));
        }),
        first_sight(&pki),
        case("encode_series", || {
            let identity = metrics::Identity("spiffe://cluster.local/ns/shop/sa/pay");
            let labels = (Direction::Inbound, Layer::Workload, identity);
            drop(black_box(NOT_AFTER.series(labels)));
        }),
    ]
}
