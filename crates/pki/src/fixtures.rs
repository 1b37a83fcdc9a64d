//! Certificates around one fixed moment, for tests that have no clock, and the texts that Envoy makes of them.

use std::sync::LazyLock;

use crate::{
    Ca, DAY, ExtendedKeyUsage, HOUR, Hierarchy, Identity, Key, KeyKind, KeyUsage, LeafBuilder,
    Lifetime,
};
use sha2::{Digest as _, Sha256};

/// 2027-01-15T08:00:00Z.
pub const NOW: i64 = 1_800_000_000;

/// The identity that most leaves have.
pub const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";

/// Root, intermediate and issuing CA, sound and with years to go.
pub static PKI: LazyLock<Hierarchy> = LazyLock::new(|| {
    let years = lasting(-1000 * DAY, 3000 * DAY);
    let root = Ca::root("Root CA").lifetime(years).issue().unwrap();
    let intermediate = root.subordinate("Intermediate CA").lifetime(years);
    let intermediate = intermediate.issue().unwrap();
    let issuing = intermediate.subordinate("Issuing CA").lifetime(years);
    let issuing = issuing.issue().unwrap();
    Hierarchy {
        root,
        intermediate,
        issuing,
    }
});

/// RSA keys take a second to make.
pub static RSA: LazyLock<Key> = LazyLock::new(|| Key::generate(KeyKind::Rsa2048).unwrap());

/// A lifetime from and to so many seconds after [`NOW`].
pub fn lasting(from: i64, to: i64) -> Lifetime {
    Lifetime {
        not_before: NOW + from,
        not_after: NOW + to,
    }
}

/// A sound leaf of the issuing CA, an hour into its day, yet without a name.
pub fn leaf() -> LeafBuilder {
    PKI.leaf().lifetime(lasting(-HOUR, 23 * HOUR))
}

/// A sound mesh workload's leaf.
pub fn workload() -> LeafBuilder {
    leaf().uri(PAY)
}

/// The first eight digits of a CA's key identifier, as in its name.
pub fn key_digits(ca: &Ca) -> String {
    ca.key_identifier()[..8].to_owned()
}

/// Every kind of certificate that the testbed issues.
pub fn generated() -> Vec<(&'static str, Vec<u8>)> {
    let rsa_ca = Ca::root("RSA CA").key(&RSA).issue().unwrap();
    let names = (0..100).fold(leaf(), |leaf, index| {
        leaf.dns(&format!("host-{index}.test"))
    });
    let leaves = [
        ("P-256", workload()),
        ("P-384", workload().key_kind(KeyKind::P384)),
        ("Ed25519", workload().key_kind(KeyKind::Ed25519)),
        ("RSA 2048", workload().key(&RSA)),
        ("RSA 1024", workload().key_kind(KeyKind::Rsa1024)),
        ("SHA-1", rsa_ca.leaf().uri(PAY).sha1_signature()),
        ("empty subject, no name", leaf()),
        ("subject", leaf().common_name("pay").organization("Shop")),
        ("100 names", names),
        (
            "several URIs",
            workload().uri("https://a.test/").dns("a.test"),
        ),
        ("no usages", leaf().extended_key_usages(&[]).key_usages(&[])),
        (
            "any usage",
            leaf().extended_key_usages(&[ExtendedKeyUsage::Any]),
        ),
        (
            "server only",
            leaf().extended_key_usages(&[ExtendedKeyUsage::ServerAuth]),
        ),
        ("keyAgreement", leaf().key_usages(&[KeyUsage::KeyAgreement])),
        ("CA flag", leaf().ca_flag()),
        ("no AKI", leaf().without_authority_key_identifier()),
        ("self-signed", LeafBuilder::self_signed().common_name("me")),
    ];
    let cas = [
        ("root", &PKI.root),
        ("intermediate", &PKI.intermediate),
        ("issuing", &PKI.issuing),
        ("RSA", &rsa_ca),
    ];
    let leaves = leaves.map(|(case, leaf)| (case, leaf.issue().unwrap().der().to_vec()));
    let cas = cas.map(|(case, ca)| (case, ca.der().to_vec()));
    leaves.into_iter().chain(cas).collect()
}

/// Bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text as Envoy puts it into a header: all but unreserved characters percent-encoded.
pub fn url_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// What Envoy gives as the fingerprint of a peer's certificate.
pub fn fingerprint(identity: &Identity) -> String {
    hex(&Sha256::digest(identity.der()))
}

/// The element that Envoy appends to the XFCC header for that client, with its chain.
pub fn xfcc_element(client: &Identity) -> String {
    let chain = url_encode(&client.chain_pem());
    let hash = fingerprint(client);
    format!("By=spiffe://d/me;Hash={hash};Chain=\"{chain}\";Subject=\"\"")
}
