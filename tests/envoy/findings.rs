//! `mtls_request_findings_total` and `mtls_connection_findings_total`: every finding of every
//! certificate that Envoy shows, by layer, exactly once and nothing besides; and the status that
//! they make together.
//!
//! In two parts, for either direction: certificates that Envoy takes as it is, and those that get
//! through only where it is told to take any.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use testbed::pki::{DAY, ExtendedKeyUsage, KeyKind, KeyUsage, LeafBuilder, Lifetime};
use testbed::servers::ServerTls;
use testbed::{Ca, Client, Envoy, Identity, Sample, Server, TlsVersion};

use crate::setup::{
    CONNECTION_FINDINGS, Counted, PAY, Pki, Proxy, REQUEST_FINDINGS, Variant,
};

const CLIENT_AUTH: &[ExtendedKeyUsage] = &[ExtendedKeyUsage::ClientAuth];
const SERVER_AUTH: &[ExtendedKeyUsage] = &[ExtendedKeyUsage::ServerAuth];
const BOTH: &[ExtendedKeyUsage] = &[ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::ServerAuth];

/// A peer and what is to be said of it.
struct Case {
    name: &'static str,
    peer: Identity,
    status: &'static str,
    /// `layer finding`, of all certificates that the peer presents.
    findings: &'static [&'static str],
}

fn case(
    name: &'static str,
    peer: LeafBuilder,
    status: &'static str,
    findings: &'static [&'static str],
) -> Result<Case> {
    let peer = peer.issue().context(name)?;
    Ok(Case { name, peer, status, findings })
}

impl Case {
    fn all(&self) -> BTreeSet<String> {
        self.findings.iter().map(|text| (*text).to_owned()).collect()
    }

    /// What a leaf shows that comes without its chain.
    fn of_the_leaf_alone(&self) -> BTreeSet<String> {
        let mut findings = self.all();
        findings.retain(|text| text.starts_with("workload") && !text.ends_with("outlives_issuer"));
        findings
    }
}

fn days(from: i64, to: i64) -> Lifetime {
    Lifetime::from_now(from * DAY, to * DAY)
}

/// The CA chain comes with the XFCC header, so the requests show all layers; a network filter sees
/// no header, and the connections the leaf only.
#[test]
fn of_clients_that_envoy_takes() -> Result<()> {
    let pki = Pki::new()?;
    let leaf = || pki.pay();
    let other = |uri| pki.cas.leaf().uri(uri);
    let issuing = || pki.cas.intermediate.subordinate("Issuing CA");
    let of = |ca: Ca| ca.leaf().uri(PAY);
    let aging_intermediate = pki.cas.root.subordinate("Aging").lifetime(days(-300, 40)).issue()?;
    let under_aging = aging_intermediate.subordinate("Issuing CA").lifetime(Lifetime::days(39));
    let rsa_ca = issuing().key_kind(KeyKind::Rsa2048).issue()?;
    let client_ca = issuing().extended_key_usages(CLIENT_AUTH).issue()?;
    let one_day_less = issuing().lifetime(Lifetime::days(60)).issue()?;
    let cases = [
        case("sound", leaf(), "ok", &[])?,
        case("sound, with a DNS name", pki.cas.leaf().dns("pay.shop"), "ok", &[])?,
        case("in its last quarter", leaf().lifetime(days(-70, 20)), "warning", &["workload expires_warning"])?,
        case("in its last eighth", leaf().lifetime(days(-84, 6)), "critical", &["workload expires_critical"])?,
        case("clientAuth only, in a mesh", leaf().extended_key_usages(CLIENT_AUTH), "critical", &["workload server_auth_missing"])?,
        case("clientAuth only, outside", pki.cas.leaf().dns("pay.shop").extended_key_usages(CLIENT_AUTH), "ok", &[])?,
        case("no EKU", leaf().extended_key_usages(&[]), "ok", &["workload extended_key_usage_absent"])?,
        case("cA true", pki.cas.leaf().dns("pay.shop").ca_flag(), "critical", &["workload leaf_is_ca"])?,
        case("cA true in an SVID", leaf().ca_flag(), "critical", &["workload leaf_is_ca", "workload spiffe_id_invalid"])?,
        case("two URIs", leaf().uri("https://pay.shop/"), "critical", &["workload spiffe_id_invalid"])?,
        case("no path", other("spiffe://cluster.local"), "critical", &["workload spiffe_id_invalid"])?,
        case("dots in the path", other("spiffe://cluster.local/../pay"), "critical", &["workload spiffe_id_invalid"])?,
        case("capitals in the domain", other("spiffe://Cluster.local/pay"), "critical", &["workload spiffe_id_invalid"])?,
        case("a port", other("spiffe://cluster.local:80/pay"), "critical", &["workload spiffe_id_invalid"])?,
        case("RSA 1024", leaf().key_kind(KeyKind::Rsa1024), "warning", &["workload weak_key"])?,
        case("SHA-1", rsa_ca.leaf().uri(PAY).sha1_signature(), "warning", &["workload weak_signature"])?,
        case("longer than its CA", of(one_day_less).lifetime(Lifetime::days(61)), "warning", &["workload outlives_issuer"])?,
        case("an aging CA", of(issuing().lifetime(days(-100, 10)).issue()?), "warning", &["issuing_ca expires_warning"])?,
        case("an old CA", of(issuing().lifetime(days(-100, 5)).issue()?), "critical", &["issuing_ca expires_critical"])?,
        case("an aging intermediate", of(under_aging.issue()?), "warning", &["intermediate_ca expires_warning"])?,
        case("a CA longer than its own", of(aging_intermediate.subordinate("Issuing CA").issue()?), "warning", &["intermediate_ca expires_warning", "issuing_ca outlives_issuer"])?,
        case("a CA with both EKUs", of(issuing().extended_key_usages(BOTH).issue()?), "ok", &[])?,
        case("a CA for clients, in a mesh", client_ca.leaf().uri(PAY), "critical", &["issuing_ca server_auth_missing"])?,
        case("a CA for clients, outside", client_ca.leaf().dns("pay.shop"), "ok", &[])?,
        case("a CA with RSA 1024", of(issuing().key_kind(KeyKind::Rsa1024).issue()?), "warning", &["issuing_ca weak_key"])?,
    ];
    check_clients(&pki.sample("both.yaml")?, &cases)
}

#[test]
fn of_clients_that_envoy_would_refuse() -> Result<()> {
    let pki = Pki::new()?;
    let leaf = || pki.pay();
    let issuing = || pki.cas.intermediate.subordinate("Issuing CA");
    let of = |ca: Ca| ca.leaf().uri(PAY);
    let any = &[ExtendedKeyUsage::Any];
    let root = Ca::root("Other root").lifetime(days(-1000, 100)).issue()?;
    let cases = [
        case("expired", leaf().lifetime(days(-2, -1)), "expired", &["workload expired"])?,
        case("not yet valid", leaf().lifetime(days(1, 2)), "not_yet_valid", &["workload not_yet_valid"])?,
        case("serverAuth only", leaf().extended_key_usages(SERVER_AUTH), "critical", &["workload client_auth_missing"])?,
        case("serverAuth only, outside", pki.cas.leaf().dns("pay.shop").extended_key_usages(SERVER_AUTH), "critical", &["workload client_auth_missing"])?,
        case("any EKU", leaf().extended_key_usages(any), "critical", &["workload client_auth_missing", "workload server_auth_missing"])?,
        case("a CA for servers", of(issuing().extended_key_usages(SERVER_AUTH).issue()?), "critical", &["issuing_ca client_auth_missing"])?,
        case("a CA that may not sign", of(issuing().key_usages(&[KeyUsage::CrlSign]).issue()?), "critical", &["issuing_ca cert_sign_missing"])?,
        case("a CA that is none", of(issuing().without_ca_flag().issue()?), "critical", &["issuing_ca ca_flag_missing"])?,
        case("an expired CA", of(issuing().lifetime(days(-9, -1)).issue()?), "expired", &["issuing_ca expired", "workload outlives_issuer"])?,
        case("a CA of tomorrow", of(issuing().lifetime(days(1, 90)).issue()?), "not_yet_valid", &["issuing_ca not_yet_valid"])?,
        case("expired beats not yet valid", of(issuing().lifetime(days(1, 90)).issue()?).lifetime(days(-2, -1)), "expired", &["issuing_ca not_yet_valid", "workload expired"])?,
        case("not yet valid beats critical", leaf().lifetime(days(1, 2)).extended_key_usages(SERVER_AUTH), "not_yet_valid", &["workload client_auth_missing", "workload not_yet_valid"])?,
        case("critical beats warning", leaf().key_kind(KeyKind::Rsa1024).extended_key_usages(SERVER_AUTH), "critical", &["workload client_auth_missing", "workload weak_key"])?,
        Case {
            name: "an aging root that signed the leaf",
            peer: of(root).issue()?.with_root(),
            status: "warning",
            findings: &["root_ca expires_warning"],
        },
        case("signed by itself", LeafBuilder::self_signed().uri(PAY), "ok", &[])?,
    ];
    check_clients(&pki.sample("both.yaml")?.accepting_untrusted(), &cases)
}

/// In TLS 1.3 Envoy refuses the handshake itself, before the certificate is a matter of trust
/// (`KEY_USAGE_BIT_INCORRECT`). In TLS 1.2 it can be told to accept.
#[test]
fn of_a_client_that_may_not_sign() -> Result<()> {
    let pki = Pki::new()?;
    let leaf = pki.pay().key_usages(&[KeyUsage::KeyEncipherment]);
    let case = case("no digitalSignature", leaf, "critical", &["workload digital_signature_missing"])?;
    let sample = pki.sample("both.yaml")?.xfcc("SANITIZE_SET").accepting_untrusted();
    let client = Client::mtls(&case.peer).version(TlsVersion::V1_2);
    check_client(&Proxy::http(sample)?, &client, &case)
}

fn check_clients(sample: &Sample, cases: &[Case]) -> Result<()> {
    let proxy = Proxy::http(sample.clone().xfcc("SANITIZE_SET"))?;
    for case in cases {
        check_client(&proxy, &Client::mtls(&case.peer), case).context(case.name)?;
    }
    Ok(())
}

fn check_client(proxy: &Proxy, client: &Client, case: &Case) -> Result<()> {
    let counted = Counted::by(&proxy.envoy, || proxy.get(client).map(drop))?;
    let requests = counted.findings(REQUEST_FINDINGS, "inbound")?;
    let connections = counted.findings(CONNECTION_FINDINGS, "inbound")?;
    assert_eq!(requests, case.all(), "{}", case.name);
    assert_eq!(connections, case.of_the_leaf_alone(), "{}", case.name);
    assert_eq!(counted.status("inbound")?, case.status, "{}", case.name);
    Ok(())
}

/// Of a server no source gives more than the leaf.
#[test]
fn of_servers_that_envoy_takes() -> Result<()> {
    let pki = Pki::new()?;
    let leaf = || pki.pay();
    let cases = [
        case("sound", leaf(), "ok", &[])?,
        case("in its last quarter", leaf().lifetime(days(-70, 20)), "warning", &["workload expires_warning"])?,
        case("in its last eighth", leaf().lifetime(days(-84, 6)), "critical", &["workload expires_critical"])?,
        case("serverAuth only, in a mesh", leaf().extended_key_usages(SERVER_AUTH), "critical", &["workload client_auth_missing"])?,
        case("no EKU", leaf().extended_key_usages(&[]), "ok", &["workload extended_key_usage_absent"])?,
        case("cA true", leaf().ca_flag(), "critical", &["workload leaf_is_ca", "workload spiffe_id_invalid"])?,
        case("two URIs", leaf().uri("https://pay.shop/"), "critical", &["workload spiffe_id_invalid"])?,
        case("RSA 1024", leaf().key_kind(KeyKind::Rsa1024), "warning", &["workload weak_key"])?,
    ];
    check_servers(pki.sample("upstream.yaml")?, &cases, tls)
}

#[test]
fn of_servers_that_envoy_would_refuse() -> Result<()> {
    let pki = Pki::new()?;
    let leaf = || pki.pay();
    let outside = || pki.cas.leaf().dns("pay.shop");
    let any = &[ExtendedKeyUsage::Any];
    let cases = [
        case("expired", leaf().lifetime(days(-2, -1)), "expired", &["workload expired"])?,
        case("not yet valid", leaf().lifetime(days(1, 2)), "not_yet_valid", &["workload not_yet_valid"])?,
        case("clientAuth only", leaf().extended_key_usages(CLIENT_AUTH), "critical", &["workload server_auth_missing"])?,
        case("clientAuth only, outside", outside().extended_key_usages(CLIENT_AUTH), "critical", &["workload server_auth_missing"])?,
        case("serverAuth only, outside", outside().extended_key_usages(SERVER_AUTH), "ok", &[])?,
        case("any EKU, outside", outside().extended_key_usages(any), "critical", &["workload server_auth_missing"])?,
        case("another trust domain", pki.cas.leaf().uri("spiffe://"), "critical", &["workload spiffe_id_invalid"])?,
    ];
    check_servers(pki.sample("upstream.yaml")?.accepting_untrusted(), &cases, tls)
}

/// BoringSSL refuses it for any key but RSA; for that it can be told not to care, in TLS 1.2.
#[test]
fn of_a_server_that_may_not_sign() -> Result<()> {
    let pki = Pki::new()?;
    let leaf = pki.pay().key_kind(KeyKind::Rsa2048).key_usages(&[KeyUsage::KeyEncipherment]);
    let cases = [case("no digitalSignature", leaf, "critical", &["workload digital_signature_missing"])?];
    let sample = pki.sample("upstream.yaml")?.set("UpstreamTlsContext", "enforce_rsa_key_usage", false);
    check_servers(sample, &cases, |peer| tls(peer).version(TlsVersion::V1_2))
}

fn tls(peer: &Identity) -> ServerTls {
    ServerTls::new(peer)
}

fn check_servers(sample: Sample, cases: &[Case], tls: fn(&Identity) -> ServerTls) -> Result<()> {
    let first = || Some(tls(&cases[0].peer));
    let (http, tcp) = (Server::http_echo(first())?, Server::tcp_echo(first())?);
    let envoy = sample
        .one_request_per_server_connection()
        .upstream("peer_http", http.port())
        .upstream("peer_tcp", tcp.port())
        .start(1)?;
    for case in cases {
        http.present(&tls(&case.peer))?;
        tcp.present(&tls(&case.peer))?;
        check_server(&envoy, case).context(case.name)?;
    }
    Ok(())
}

fn check_server(envoy: &Envoy, case: &Case) -> Result<()> {
    let client = Client::plaintext();
    let (http, tcp) = (envoy.listener_port("outbound_http")?, envoy.listener_port("outbound_tcp")?);
    let counted = Counted::by(envoy, || {
        let response = client.get(http, "/", &[])?;
        anyhow::ensure!(response.status == 200, "{}", response.text());
        client.tcp(tcp)?.echo(b"hello")
    })?;
    let requests = counted.findings(REQUEST_FINDINGS, "outbound")?;
    let connections = counted.findings(CONNECTION_FINDINGS, "outbound")?;
    assert_eq!(requests, case.all(), "{}", case.name);
    assert_eq!(connections, case.all(), "{}", case.name);
    assert_eq!(counted.status("outbound")?, case.status, "{}", case.name);
    Ok(())
}
