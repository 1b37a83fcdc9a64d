//! Clients that this proxy refuses because of their certificates.

use anyhow::{Context, Result, ensure};
use testbed::pki::{CaBuilder, DAY, ExtendedKeyUsage, HOUR, KeyUsage, LeafBuilder, Lifetime};
use testbed::{Ca, Client, Identity, Server, TlsVersion};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::setup::{CONNECTIONS, PAY, Pki, Proxy, ca_label};
use crate::watch::{Failure, REPEATED, Watch, be_refused};

#[test]
fn are_named_with_cause_and_cure_on_tcp_listeners_tls_1_2() -> Result<()> {
    check("network.yaml", TlsVersion::V1_2)
}

#[test]
fn are_named_with_cause_and_cure_on_tcp_listeners_tls_1_3() -> Result<()> {
    check("network.yaml", TlsVersion::V1_3)
}

#[test]
fn are_named_with_cause_and_cure_on_http_listeners_tls_1_2() -> Result<()> {
    check("both.yaml", TlsVersion::V1_2)
}

#[test]
fn are_named_with_cause_and_cure_on_http_listeners_tls_1_3() -> Result<()> {
    check("both.yaml", TlsVersion::V1_3)
}

/// After a client that is accepted: whose CA is known from then on.
fn check(file: &str, version: TlsVersion) -> Result<()> {
    let pki = Pki::new()?;
    let sample = pki.sample(file)?.configuration(REPEATED);
    let server = Server::http_echo(None)?;
    let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
    proxy.get(&pki.client()?.version(version))?;
    let mut watch = Watch::new(&proxy.envoy);
    let cases = cases(&pki, version)?;
    for case in &cases {
        let client = Client::mtls(&case.peer()?).version(version);
        be_refused(&client, proxy.port)?;
        watch.expect(&case.failure).context(case.name)?;
    }
    let stats = proxy.wait_until_closed(cases.len() as u32 + 1)?;
    watch.nothing_else()?;
    // Whoever was refused has left no trace in any other metric.
    assert_eq!(stats.sum(CONNECTIONS, &[]), 1.0);
    let issuer = ca_label("Issuing CA", &pki.cas.issuing);
    for series in stats.with_prefix("mtls_") {
        ensure!(["", PAY].contains(&series.label("identity")), "{series}");
        ensure!(["", &issuer].contains(&series.label("issuer")), "{series}");
    }
    Ok(())
}

fn cases(pki: &Pki, version: TlsVersion) -> Result<Vec<Case>> {
    let expired = Lifetime::from_now(-2 * HOUR, -HOUR);
    let since = utc(expired.not_after)?;
    let not_after = format!("\" not_after={since} ");
    let tomorrow = Lifetime::from_now(DAY, 2 * DAY);
    let server_only = [ExtendedKeyUsage::ServerAuth];
    let below = |name: &str| pki.cas.intermediate.subordinate(name);
    let issuing = Signer {
        ca: pki.cas.issuing.clone(),
        name: ca_name("Issuing CA", &pki.cas.issuing),
    };
    let expired_ca = Signer::issue("Old CA", |name| below(name).lifetime(expired))?;
    let server_ca = |name: &str| below(name).extended_key_usages(&server_only);
    let server_ca = Signer::issue("Server CA", server_ca)?;
    let no_ca = Signer::issue("No CA", |name| below(name).without_ca_flag())?;
    let last_ca = below("Last CA").path_length(0).issue()?;
    let deep_ca = Signer::issue("Deep CA", |name| last_ca.subordinate(name))?;
    let strange_root = Ca::root("Strange Root").issue()?;
    let strange = Signer::issue("Strange CA", |name| strange_root.subordinate(name))?;
    let rotated = Signer::issue("Issuing CA", |name| strange_root.subordinate(name))?;
    let missing = &[
        "If this CA is yours",
        "add the missing CA to the bundle",
        &strange.name,
    ];
    // One text for this and for the extended key usage in TLS 1.2; in 1.3 the key is refused before
    // Envoy keeps the certificate.
    let may_not_sign = |name, usage| {
        let case = Case::new("workload key_usage", name, &issuing);
        let case = case.leaf(|leaf| leaf.key_usages(&[usage]));
        let case = case.hint(&["add digitalSignature to keyUsage"]);
        match (version, name) {
            (TlsVersion::V1_2, "encipher") => case.unseen("workload client_auth_missing"),
            (TlsVersion::V1_2, _) => case,
            (TlsVersion::V1_3, _) => case.failure(Failure::unnamed),
        }
    };
    Ok(vec![
        Case::new("workload expired", "expired", &issuing)
            .leaf(|leaf| leaf.lifetime(expired))
            .failure(|failure| failure.peer(peer("expired", &issuing.name) + &not_after))
            .hint(&[&format!("since {since}"), "renew"]),
        Case::new("workload not_yet_valid", "early", &issuing)
            .leaf(|leaf| leaf.lifetime(tomorrow))
            .hint(&[&format!("from {}", utc(tomorrow.not_before)?), "clocks"]),
        Case::new("workload client_auth_missing", "server", &issuing)
            .leaf(|leaf| leaf.extended_key_usages(&server_only))
            .hint(&["certificate allows serverAuth only; add clientAuth to extendedKeyUsage"]),
        Case::new("workload client_auth_missing", "any", &issuing)
            .leaf(|leaf| leaf.extended_key_usages(&[ExtendedKeyUsage::Any]))
            .hint(&["anyExtendedKeyUsage", "add clientAuth to extendedKeyUsage"]),
        may_not_sign("encipher", KeyUsage::KeyEncipherment),
        may_not_sign("agree", KeyUsage::KeyAgreement),
        Case::new("issuing_ca expired", "old-ca", &expired_ca).hint(&["renew"]),
        Case::new("issuing_ca client_auth_missing", "server-ca", &server_ca)
            .hint(&["a CA above the leaf", "without clientAuth"]),
        Case::new("issuing_ca key_usage", "no-ca", &no_ca).hint(&["is no CA", "cA true"]),
        Case::new("intermediate_ca path_length", "deep", &deep_ca).hint(&["pathLenConstraint"]),
        Case::new("workload unknown_ca", "stranger", &strange)
            .presenting(Identity::leaf_only)
            .hint(missing),
        Case::new("issuing_ca unknown_ca", "with-ca", &strange).hint(missing),
        Case::new("root_ca unknown_ca", "with-root", &strange)
            .presenting(Identity::with_root)
            .hint(missing),
        Case::new("workload unknown_ca", "alone", &issuing)
            .presenting(Identity::leaf_only)
            .hint(&["send the intermediate CAs with the leaf"]),
        Case::new("workload self_signed", "itself", &issuing)
            .leaf(|_| {
                LeafBuilder::self_signed()
                    .common_name("itself")
                    .uri(&identity("itself"))
            })
            .failure(|failure| failure.peer(peer("itself", "itself:")))
            .unseen("workload unknown_ca")
            .hint(&["from a CA of the trust bundle"]),
        Case::new("workload bad_signature", "forged", &issuing)
            .presenting(Identity::with_bad_signature)
            .hint(&["check that the chain belongs to the leaf"]),
        Case::new("issuing_ca unknown_ca", "rotated", &rotated).hint(&[
            &issuing.name,
            &rotated.name,
            "a new key under the same name",
            "rotation out of order",
            "anyone can use this name",
        ]),
    ])
}

/// A CA, and how log lines name it.
struct Signer {
    ca: Ca,
    name: String,
}

impl Signer {
    fn issue(common_name: &str, builder: impl Fn(&str) -> CaBuilder) -> Result<Self> {
        let ca = builder(common_name).issue()?;
        let name = ca_name(common_name, &ca);
        Ok(Self { ca, name })
    }
}

/// A client that is refused.
struct Case {
    /// Its service account.
    name: &'static str,
    leaf: LeafBuilder,
    presented: fn(Identity) -> Identity,
    failure: Failure,
}

impl Case {
    /// Refused with this layer and reason.
    fn new(verdict: &str, name: &'static str, signer: &Signer) -> Self {
        let failure = Failure::new(format!("inbound {verdict}"));
        Self {
            name,
            leaf: signer.ca.leaf().uri(&identity(name)),
            presented: |identity| identity,
            failure: failure.peer(peer(name, &signer.name)),
        }
    }

    fn leaf(mut self, change: impl FnOnce(LeafBuilder) -> LeafBuilder) -> Self {
        self.leaf = change(self.leaf);
        self
    }

    fn presenting(mut self, presented: fn(Identity) -> Identity) -> Self {
        self.presented = presented;
        self
    }

    fn failure(mut self, change: impl FnOnce(Failure) -> Failure) -> Self {
        self.failure = change(self.failure);
        self
    }

    fn hint(self, words: &[&str]) -> Self {
        self.failure(|failure| failure.hint(words))
    }

    fn unseen(self, verdict: &str) -> Self {
        self.failure(|failure| failure.unseen(format!("inbound {verdict}")))
    }

    fn peer(&self) -> Result<Identity> {
        self.leaf.clone().issue().map(self.presented)
    }
}

/// What log lines say of who was refused; the issuer may be only its beginning.
fn peer(name: &str, issuer: &str) -> String {
    format!(r#" identity="{}" issuer="{issuer}"#, identity(name))
}

fn identity(name: &str) -> String {
    format!("spiffe://cluster.local/ns/shop/sa/{name}")
}

fn ca_name(common_name: &str, ca: &Ca) -> String {
    format!("{common_name}:{}", &ca.key_identifier()[..8])
}

fn utc(unix: i64) -> Result<String> {
    Ok(OffsetDateTime::from_unix_timestamp(unix)?.format(&Rfc3339)?)
}
