//! The certificates and chains of the table.

use anyhow::Result;
use testbed::pki::handmade::{sequence, tlv};
use testbed::pki::{CaBuilder, ExtendedKeyUsage, KeyKind, KeyUsage, LeafBuilder, Lifetime};
use testbed::pki::{DAY, HOUR, lax};
use testbed::{Ca, Hierarchy, Identity, TrustBundle};

#[derive(Clone)]
/// A peer, and the bundle of the proxy that it connects to, or that connects to it.
pub struct Case {
    pub name: String,
    pub peer: Identity,
    pub bundle: TrustBundle,
}

pub const ID: &str = "spiffe://cluster.local/ns/shop/sa/pay";

/// What no CA of the world issues: 1.3.6.1.4.1.99999.1.
const UNKNOWN: &[u64] = &[1, 3, 6, 1, 4, 1, 99999, 1];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const POLICIES: &[u64] = &[2, 5, 29, 32];
const POLICY_CONSTRAINTS: &[u64] = &[2, 5, 29, 36];
/// Tags of GeneralName.
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

fn case(name: impl Into<String>, peer: Identity, bundle: TrustBundle) -> Case {
    Case {
        name: name.into(),
        peer,
        bundle,
    }
}

/// All cases that are asked in both directions.
pub fn chains() -> Result<Vec<Case>> {
    let h = Hierarchy::new()?;
    let mut cases = leaves(&h)?;
    cases.extend(compositions(&h)?);
    cases.extend(cas()?);
    cases.extend(candidates()?);
    cases.extend(constraints()?);
    cases.extend(policies()?);
    Ok(cases)
}

/// Leaves that are not quite DER, or are not as RFC 5280 has them.
pub fn malformed() -> Result<Vec<Case>> {
    let h = Hierarchy::new()?;
    let sound = h.leaf().uri(ID).issue()?;
    let every = |cases: Vec<lax::Case>, step| cases.into_iter().step_by(step);
    let edited = every(lax::long_lengths(sound.der()), 4)
        .chain(every(lax::long_lengths_in_values(sound.der()), 1))
        .chain(every(lax::times(sound.der()), 1))
        .chain(every(lax::utc_times_with_offset(sound.der()), 1))
        .chain(every(lax::values(sound.der()), 1))
        .chain(every(lax::repeated_extensions(sound.der()), 1));
    let mut cases = vec![case(
        "length of the signature in 4 bytes",
        sound
            .clone()
            .with_leaf(&lax::long_length_of_signature(sound.der()), &h.issuing)?,
        h.trust_bundle(),
    )];
    let not_ascii = sound.clone().with_replaced(b"/sa/pay", b"/sa/p\xc3\xa9");
    let not_ascii = sound.clone().with_leaf(not_ascii.der(), &h.issuing)?;
    cases.push(case("URI that is not ASCII", not_ascii, h.trust_bundle()));
    for (name, der) in edited {
        let peer = sound.clone().with_leaf(&der, &h.issuing)?;
        cases.push(case(name, peer, h.trust_bundle()));
    }
    Ok(cases)
}

fn leaves(h: &Hierarchy) -> Result<Vec<Case>> {
    use ExtendedKeyUsage::{Any, ClientAuth, CodeSigning, OcspSigning, ServerAuth};
    use KeyUsage::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign, KeyEncipherment};
    let leaf = || h.leaf().uri(ID);
    let rsa = Ca::root("RSA CA").key_kind(KeyKind::Rsa2048).issue()?;
    let small = Ca::root("RSA-1024 CA").key_kind(KeyKind::Rsa1024).issue()?;
    let p384 = Ca::root("P-384 CA").key_kind(KeyKind::P384).issue()?;
    let ed25519 = Ca::root("Ed25519 CA").key_kind(KeyKind::Ed25519).issue()?;
    let usages = |usages: &[KeyUsage]| leaf().key_usages(usages);
    let purposes = |purposes: &[ExtendedKeyUsage]| leaf().extended_key_usages(purposes);
    let of_h: Vec<(&str, LeafBuilder)> = vec![
        ("sound", leaf()),
        ("no name", h.leaf()),
        ("EKU clientAuth", purposes(&[ClientAuth])),
        ("EKU serverAuth", purposes(&[ServerAuth])),
        ("no EKU", purposes(&[])),
        ("EKU any", purposes(&[Any])),
        ("EKU any and clientAuth", purposes(&[Any, ClientAuth])),
        ("EKU codeSigning", purposes(&[CodeSigning])),
        (
            "EKU OCSPSigning and both",
            purposes(&[OcspSigning, ServerAuth, ClientAuth]),
        ),
        ("no key usage", usages(&[])),
        ("key usage digitalSignature", usages(&[DigitalSignature])),
        ("key usage keyEncipherment", usages(&[KeyEncipherment])),
        ("key usage keyAgreement", usages(&[KeyAgreement])),
        ("key usage keyCertSign", usages(&[KeyCertSign])),
        ("key usage cRLSign", usages(&[CrlSign])),
        (
            "key usage digitalSignature and keyCertSign",
            usages(&[DigitalSignature, KeyCertSign]),
        ),
        ("cA true", leaf().ca_flag()),
        ("P-384 key", leaf().key_kind(KeyKind::P384)),
        ("RSA-2048 key", leaf().key_kind(KeyKind::Rsa2048)),
        ("RSA-1024 key", leaf().key_kind(KeyKind::Rsa1024)),
        ("Ed25519 key", leaf().key_kind(KeyKind::Ed25519)),
        ("expired", leaf().lifetime(Lifetime::days(-1))),
        (
            "not yet valid",
            leaf().lifetime(Lifetime::from_now(DAY, 2 * DAY)),
        ),
        (
            "ends before it begins",
            leaf().lifetime(Lifetime::from_now(HOUR, -HOUR)),
        ),
        (
            "valid for 100 years",
            leaf().lifetime(Lifetime::from_now(-DAY, 36_500 * DAY)),
        ),
        ("no AKI", leaf().without_authority_key_identifier()),
        (
            "critical extension",
            leaf().extension_with(UNKNOWN, true, &[5, 0]),
        ),
        (
            "extension that is not critical",
            leaf().extension_with(UNKNOWN, false, &[5, 0]),
        ),
        ("subject with a comma", leaf().common_name("a, O=b")),
        ("DNS wildcard", leaf().dns("*.shop.test")),
        ("two SPIFFE IDs", leaf().uri("spiffe://cluster.local/b")),
    ];
    let mut cases = Vec::new();
    for (name, leaf) in of_h {
        cases.push(case(name, leaf.issue()?, h.trust_bundle()));
    }
    for (name, leaf, ca) in [
        ("signed by RSA-2048", rsa.leaf().uri(ID), &rsa),
        (
            "signed by RSA with SHA-1",
            rsa.leaf().uri(ID).sha1_signature(),
            &rsa,
        ),
        ("signed by RSA-1024", small.leaf().uri(ID), &small),
        ("signed by P-384", p384.leaf().uri(ID), &p384),
        ("signed by Ed25519", ed25519.leaf().uri(ID), &ed25519),
    ] {
        cases.push(case(name, leaf.issue()?, TrustBundle::of([ca])));
    }
    let bad = leaf().issue()?.with_bad_signature();
    cases.push(case("signature edited", bad, h.trust_bundle()));
    let replaced = leaf().issue()?.with_replaced(b"/sa/pay", b"/sa/pax");
    cases.push(case("name edited", replaced, h.trust_bundle()));
    Ok(cases)
}

fn compositions(h: &Hierarchy) -> Result<Vec<Case>> {
    let leaf = h.leaf().uri(ID).issue()?;
    let (root, intermediate, issuing) = (h.root.der(), h.intermediate.der(), h.issuing.der());
    let other = Hierarchy::new()?;
    let unrelated = Ca::root("Unrelated").issue()?;
    let own = LeafBuilder::self_signed()
        .uri(ID)
        .common_name("me")
        .issue()?;
    let own_der = TrustBundle::of_certificates([own.der().clone()]);
    let roots = || h.trust_bundle();
    let sent = |certificates: &[&_]| leaf.clone().sending(certificates);
    let of = |cas: &[&Ca]| TrustBundle::of(cas.iter().copied());
    Ok(vec![
        case("leaf alone, root trusted", sent(&[]), roots()),
        case(
            "leaf alone, issuing CA trusted",
            sent(&[]),
            of(&[&h.issuing]),
        ),
        case(
            "leaf alone, all CAs trusted",
            sent(&[]),
            of(&[&h.root, &h.intermediate, &h.issuing]),
        ),
        case("issuing CA trusted", leaf.clone(), of(&[&h.issuing])),
        case(
            "intermediate CA trusted",
            leaf.clone(),
            of(&[&h.intermediate]),
        ),
        case(
            "issuing CA not sent, intermediate trusted",
            sent(&[]),
            of(&[&h.intermediate]),
        ),
        case("intermediate CA not sent", sent(&[issuing]), roots()),
        case("issuing CA not sent", sent(&[intermediate]), roots()),
        case("root sent as well", leaf.clone().with_root(), roots()),
        case(
            "CAs in reverse order",
            sent(&[root, intermediate, issuing]),
            roots(),
        ),
        case(
            "CAs in reverse order without root",
            sent(&[intermediate, issuing]),
            roots(),
        ),
        case(
            "CAs twice",
            sent(&[issuing, issuing, intermediate, intermediate]),
            roots(),
        ),
        case(
            "leaf twice",
            sent(&[leaf.der(), issuing, intermediate]),
            roots(),
        ),
        case(
            "an unrelated CA in between",
            sent(&[issuing, unrelated.der(), intermediate]),
            roots(),
        ),
        case(
            "unknown root, sent",
            leaf.clone().with_root(),
            of(&[&unrelated]),
        ),
        case("unknown root, not sent", leaf.clone(), of(&[&unrelated])),
        case(
            "root of the same name, another key",
            leaf.clone(),
            other.trust_bundle(),
        ),
        case(
            "root of the same name, another key, root sent",
            leaf.clone().with_root(),
            other.trust_bundle(),
        ),
        case(
            "both roots of the name, old first",
            leaf.clone(),
            of(&[&other.root, &h.root]),
        ),
        case(
            "both roots of the name, new first",
            leaf.clone(),
            of(&[&h.root, &other.root]),
        ),
        case("self-signed, not trusted", own.clone(), roots()),
        case("self-signed, trusted", own, own_der),
        case(
            "the leaf itself trusted",
            sent(&[]),
            TrustBundle::of_certificates([leaf.der().clone()]),
        ),
        case(
            "the leaf itself trusted, CAs sent",
            leaf.clone(),
            TrustBundle::of_certificates([leaf.der().clone()]),
        ),
        case(
            "many roots",
            leaf.clone(),
            of(&[&unrelated, &other.root, &other.issuing, &h.root]),
        ),
    ])
}

/// A root, an intermediate and an issuing CA, each with what is done to it.
fn hierarchy(
    root: impl Fn(CaBuilder) -> CaBuilder,
    intermediate: impl Fn(CaBuilder) -> CaBuilder,
    issuing: impl Fn(CaBuilder) -> CaBuilder,
) -> Result<Hierarchy> {
    let root = root(Ca::root("Root CA")).issue()?;
    let intermediate = intermediate(root.subordinate("Intermediate CA")).issue()?;
    let issuing = issuing(intermediate.subordinate("Issuing CA")).issue()?;
    Ok(Hierarchy {
        root,
        intermediate,
        issuing,
    })
}

/// The same thing done to each of the three.
fn each(what: &str, change: impl Fn(CaBuilder) -> CaBuilder) -> Result<Vec<Case>> {
    let as_is = |ca: CaBuilder| ca;
    let hierarchies = [
        ("root", hierarchy(&change, as_is, as_is)?),
        ("intermediate CA", hierarchy(as_is, &change, as_is)?),
        ("issuing CA", hierarchy(as_is, as_is, &change)?),
    ];
    let mut cases = Vec::new();
    for (ca, h) in hierarchies {
        let leaf = h.leaf().uri(ID).dns("pay.shop.test").issue()?;
        cases.push(case(format!("{ca}: {what}"), leaf, h.trust_bundle()));
    }
    Ok(cases)
}

fn cas() -> Result<Vec<Case>> {
    use ExtendedKeyUsage::{Any, ClientAuth, ServerAuth};
    let mut cases = Vec::new();
    let five_years = 1800 * DAY;
    for more in [
        each("expired", |ca| ca.lifetime(Lifetime::days(-1)))?,
        each("not yet valid", |ca| {
            ca.lifetime(Lifetime::from_now(DAY, five_years))
        })?,
        each("cA false", CaBuilder::without_ca_flag)?,
        each("no keyCertSign", |ca| {
            ca.key_usages(&[KeyUsage::DigitalSignature])
        })?,
        each("no key usage", |ca| ca.key_usages(&[]))?,
        each("EKU serverAuth", |ca| ca.extended_key_usages(&[ServerAuth]))?,
        each("EKU clientAuth", |ca| ca.extended_key_usages(&[ClientAuth]))?,
        each("EKU any", |ca| ca.extended_key_usages(&[Any]))?,
        each("pathLen 0", |ca| ca.path_length(0))?,
        each("pathLen 1", |ca| ca.path_length(1))?,
        each("critical extension", |ca| {
            ca.extension_with(UNKNOWN, true, &[5, 0])
        })?,
        each("RSA-2048", |ca| ca.key_kind(KeyKind::Rsa2048))?,
    ] {
        cases.extend(more);
    }
    Ok(cases)
}

/// Several CAs that may have signed one certificate.
fn candidates() -> Result<Vec<Case>> {
    let root = Ca::root("Root CA").issue()?;
    let expired = Ca::root("Root CA")
        .key(root.key())
        .lifetime(Lifetime::days(-1))
        .issue()?;
    let issuing = root.subordinate("Issuing CA").issue()?;
    let expired_issuing = root
        .subordinate("Issuing CA")
        .key(issuing.key())
        .lifetime(Lifetime::days(-1))
        .issue()?;
    let other_root = Ca::root("Other Root CA").issue()?;
    let crossed = other_root
        .subordinate("Issuing CA")
        .key(issuing.key())
        .issue()?;
    let crossed_root = other_root.subordinate("Root CA").key(root.key()).issue()?;
    // A CA of the same name with another key, and a leaf that does not say whose key signed it.
    let impostor = root.subordinate("Issuing CA").issue()?;
    let leaf = issuing.leaf().uri(ID).issue()?;
    let vague = issuing
        .leaf()
        .uri(ID)
        .without_authority_key_identifier()
        .issue()?;
    let sent = |leaf: &Identity, certificates: &[&Ca]| {
        let ders: Vec<_> = certificates.iter().map(|ca| ca.der()).collect();
        leaf.clone().sending(&ders)
    };
    let of = |cas: &[&Ca]| TrustBundle::of(cas.iter().copied());
    Ok(vec![
        case(
            "root renewed, expired one first",
            leaf.clone(),
            of(&[&expired, &root]),
        ),
        case(
            "root renewed, expired one last",
            leaf.clone(),
            of(&[&root, &expired]),
        ),
        case(
            "root renewed, only the expired one trusted",
            leaf.clone(),
            of(&[&expired]),
        ),
        case(
            "root renewed, peer sends the expired one",
            sent(&leaf, &[&issuing, &expired]),
            of(&[&root]),
        ),
        case(
            "issuing CA renewed, expired one first",
            sent(&leaf, &[&expired_issuing, &issuing]),
            of(&[&root]),
        ),
        case(
            "issuing CA renewed, expired one last",
            sent(&leaf, &[&issuing, &expired_issuing]),
            of(&[&root]),
        ),
        case(
            "cross-signed, own root trusted, cross first",
            sent(&leaf, &[&crossed, &issuing]),
            of(&[&root]),
        ),
        case(
            "cross-signed, own root trusted, cross last",
            sent(&leaf, &[&issuing, &crossed]),
            of(&[&root]),
        ),
        case(
            "cross-signed, other root trusted, cross first",
            sent(&leaf, &[&crossed, &issuing]),
            of(&[&other_root]),
        ),
        case(
            "cross-signed, other root trusted, cross last",
            sent(&leaf, &[&issuing, &crossed]),
            of(&[&other_root]),
        ),
        case(
            "cross-signed, both trusted",
            sent(&leaf, &[&crossed, &issuing]),
            of(&[&root, &other_root]),
        ),
        case(
            "root cross-signed, other root trusted",
            sent(&leaf, &[&issuing, &crossed_root]),
            of(&[&other_root]),
        ),
        case(
            "root cross-signed, both roots sent",
            sent(&leaf, &[&issuing, &root, &crossed_root]),
            of(&[&other_root]),
        ),
        case(
            "no AKI, impostor first",
            sent(&vague, &[&impostor, &issuing]),
            of(&[&root]),
        ),
        case(
            "no AKI, impostor last",
            sent(&vague, &[&issuing, &impostor]),
            of(&[&root]),
        ),
        case(
            "AKI, impostor first",
            sent(&leaf, &[&impostor, &issuing]),
            of(&[&root]),
        ),
    ])
}

/// Name constraints of an issuing CA below a root.
fn constraints() -> Result<Vec<Case>> {
    let subtree = |tag: u8, value: &[u8]| sequence(&[tlv(tag, value)]);
    let of = |list: u8, subtree: &[u8]| sequence(&[tlv(list, subtree)]);
    let permitted = |subtree: &[u8]| of(0xa0, subtree);
    let excluded = |subtree: &[u8]| of(0xa1, subtree);
    let shop = subtree(DNS, b"shop.test");
    let domain = subtree(URI, b"cluster.local");
    let other_domain = subtree(URI, b"other.domain");
    let mesh = |leaf: LeafBuilder| leaf.uri(ID);
    let host = |leaf: LeafBuilder| leaf.dns("pay.shop.test");
    let (tens, any) = ([10, 0, 0, 0, 255, 0, 0, 0], [0; 8]);
    type Name = (
        &'static str,
        Vec<u8>,
        Box<dyn Fn(LeafBuilder) -> LeafBuilder>,
    );
    let names: Vec<Name> = vec![
        ("DNS permitted", permitted(&shop), Box::new(host)),
        (
            "DNS permitted, another name",
            permitted(&shop),
            Box::new(|leaf| leaf.dns("pay.other.test")),
        ),
        (
            "DNS permitted, URI in the leaf",
            permitted(&shop),
            Box::new(mesh),
        ),
        (
            "DNS permitted, IP in the leaf",
            permitted(&shop),
            Box::new(|leaf| leaf.ip([10, 0, 0, 1].into())),
        ),
        (
            "DNS permitted, wildcard",
            permitted(&shop),
            Box::new(|leaf| leaf.dns("*.shop.test")),
        ),
        (
            "DNS permitted, host name in CN, no SAN",
            permitted(&shop),
            Box::new(|leaf| leaf.common_name("pay.shop.test")),
        ),
        (
            "DNS permitted, words in CN, no SAN",
            permitted(&shop),
            Box::new(|leaf| leaf.common_name("the pay service")),
        ),
        (
            "DNS permitted with dot",
            permitted(&subtree(DNS, b".shop.test")),
            Box::new(host),
        ),
        ("DNS excluded", excluded(&shop), Box::new(host)),
        (
            "DNS excluded, another name",
            excluded(&shop),
            Box::new(|leaf| leaf.dns("pay.other.test")),
        ),
        (
            "DNS excluded, wildcard above",
            excluded(&subtree(DNS, b"pay.shop.test")),
            Box::new(|leaf| leaf.dns("*.shop.test")),
        ),
        ("URI permitted", permitted(&domain), Box::new(mesh)),
        (
            "URI permitted, another trust domain",
            permitted(&other_domain),
            Box::new(mesh),
        ),
        (
            "URI permitted, one label",
            permitted(&subtree(URI, b"mesh")),
            Box::new(|leaf| leaf.uri("spiffe://mesh/a")),
        ),
        (
            "URI permitted, underscore in the trust domain",
            permitted(&domain),
            Box::new(|leaf| leaf.uri("spiffe://my_mesh/a")),
        ),
        (
            "URI permitted, subdomains",
            permitted(&subtree(URI, b".local")),
            Box::new(mesh),
        ),
        ("URI excluded", excluded(&domain), Box::new(mesh)),
        (
            "URI excluded, another trust domain",
            excluded(&other_domain),
            Box::new(mesh),
        ),
        (
            "IP permitted, URI in the leaf",
            permitted(&subtree(IP, &tens)),
            Box::new(mesh),
        ),
        (
            "IP permitted, IP in the leaf",
            permitted(&subtree(IP, &tens)),
            Box::new(|leaf| leaf.ip([10, 0, 0, 1].into())),
        ),
        (
            "IP excluded, IP in the leaf",
            excluded(&subtree(IP, &any)),
            Box::new(|leaf| leaf.ip([10, 0, 0, 1].into())),
        ),
        (
            "e-mail permitted, DNS in the leaf",
            permitted(&subtree(EMAIL, b"shop.test")),
            Box::new(host),
        ),
    ];
    let mut cases = Vec::new();
    let root = Ca::root("Root CA").issue()?;
    for (name, value, change) in names {
        let ca = root
            .subordinate("Issuing CA")
            .extension_with(NAME_CONSTRAINTS, true, &value)
            .issue()?;
        let peer = change(ca.leaf()).issue()?;
        cases.push(case(
            format!("name constraints: {name}"),
            peer,
            TrustBundle::of([&root]),
        ));
    }
    // Of an anchor they count, too.
    let value = permitted(&shop);
    let root = Ca::root("Root CA")
        .extension_with(NAME_CONSTRAINTS, true, &value)
        .issue()?;
    let peer = root.leaf().dns("pay.other.test").issue()?;
    cases.push(case(
        "name constraints: of the root",
        peer,
        TrustBundle::of([&root]),
    ));
    Ok(cases)
}

/// A CA that requires a policy (requireExplicitPolicy 0).
fn policies() -> Result<Vec<Case>> {
    let policy = |last: u8| sequence(&[tlv(6, [0x2a, 3, last])]);
    let (one, other) = (sequence(&[policy(4)]), sequence(&[policy(5)]));
    let required = sequence(&[tlv(0x80, [0])]);
    let root = Ca::root("Root CA").issue()?;
    let ca = root
        .subordinate("Issuing CA")
        .extension_with(POLICIES, false, &one);
    let ca = ca
        .extension_with(POLICY_CONSTRAINTS, true, &required)
        .issue()?;
    let bundle = || TrustBundle::of([&root]);
    let leaf = || ca.leaf().uri(ID);
    Ok(vec![
        case("policy required, none", leaf().issue()?, bundle()),
        case(
            "policy required, the same",
            leaf().extension_with(POLICIES, false, &one).issue()?,
            bundle(),
        ),
        case(
            "policy required, another",
            leaf().extension_with(POLICIES, false, &other).issue()?,
            bundle(),
        ),
    ])
}
