//! Certificates in the shapes in which meshes and gateways give them to Envoy. Names and structure are those of real
//! control planes.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testbed::pki::fixtures::hex;
use testbed::pki::{DAY, KeyKind, Lifetime};
use testbed::tool;
use testbed::{Ca, Identity};

use crate::setup::Pki;
use crate::sidecar::PROXY;

/// The certificates of one proxy.
pub struct Fixture {
    /// The mesh, and what of it.
    pub name: &'static str,
    /// Whether Envoy tells of CAs by their dates only.
    pub is_by_dates: bool,
    pub supply: fn(&Pki) -> Result<Supply>,
}

/// What a control plane gives to the proxy.
#[derive(Default)]
pub struct Supply {
    /// A CommonTlsContext for each listener; the first for all, if there is one only.
    pub contexts: Vec<Value>,
    /// Static secrets.
    pub secrets: Vec<Value>,
}

pub const FIXTURES: [Fixture; 22] = [
    fixture("Istio, sidecar", istio_sidecar),
    fixture("Istio, gateway with `credentialName`", istio_gateway),
    fixture("Istio, certificates from files", istio_files),
    fixture("Istio, two roots", istio_two_roots),
    fixture("Istio, several trust domains", istio_trust_domains),
    fixture("Istio, system roots", istio_system_roots),
    fixture("Istio, revocation lists (`ca-crl.pem`)", istio_revocation),
    fixture("SPIRE, one trust domain", spire),
    fixture("SPIRE, federated", spire_federated),
    fixture("SPIFFE validator, map of bundles", bundle_map),
    by_dates(
        "SPIFFE validator, map of bundles in a file",
        bundle_map_in_file,
    ),
    fixture("Consul: inline in listeners and clusters", consul),
    fixture("inline, with bundles that differ", inline_that_differ),
    fixture("Kuma", kuma),
    fixture("Contour", contour),
    by_dates("Emissary: files", emissary),
    fixture("Envoy Gateway", envoy_gateway),
    fixture("plain Envoy, static secrets", static_secrets),
    by_dates("plain Envoy, files", files),
    by_dates("plain Envoy, PKCS#12", pkcs12),
    fixture("plain Envoy, ECDSA and RSA", two_keys),
    fixture("plain Envoy, hash of the peer's leaf", hash_only),
];

const fn fixture(name: &'static str, supply: fn(&Pki) -> Result<Supply>) -> Fixture {
    Fixture {
        name,
        is_by_dates: false,
        supply,
    }
}

const fn by_dates(name: &'static str, supply: fn(&Pki) -> Result<Supply>) -> Fixture {
    Fixture {
        is_by_dates: true,
        ..fixture(name, supply)
    }
}

fn inline(text: &str) -> Value {
    json!({"inline_bytes": BASE64.encode(text)})
}

fn chain_of(pem: &str, identity: &Identity) -> Result<Value> {
    Ok(json!({"certificate_chain": inline(pem), "private_key": inline(&identity.key_pem()?)}))
}

fn pem(cas: &[&Ca]) -> String {
    cas.iter().map(|ca| ca.pem()).collect()
}

fn trusted(cas: &[&Ca]) -> Value {
    json!({"trusted_ca": inline(&pem(cas))})
}

fn validator(domains: &[(&str, &[&Ca])]) -> Value {
    let domains = domains
        .iter()
        .map(|(name, cas)| json!({"name": name, "trust_bundle": inline(&pem(cas))}));
    json!({"custom_validator_config": {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
            "trust_domains": domains.collect::<Vec<_>>(),
        },
    }})
}

/// Secrets over SDS.
struct Sds<'a> {
    pki: &'a Pki,
    number: Cell<u32>,
}

impl<'a> Sds<'a> {
    fn new(pki: &'a Pki) -> Self {
        Self {
            pki,
            number: Cell::default(),
        }
    }

    /// Has Envoy ask for a secret, which it gets.
    fn secret(&self, name: &str, kind: &str, value: Value) -> Result<Value> {
        self.number.set(self.number.get() + 1);
        let file = format!("sds-{}.yaml", self.number.get());
        let path = self.pki.directory().join(file);
        let secret = json!({"resources": [{
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": name,
            kind: value,
        }]});
        fs::write(&path, secret.to_string())?;
        Ok(json!({"name": name, "sds_config": {"path_config_source": {"path": path}}}))
    }

    /// A context with a chain and a bundle, each by its name.
    fn context(
        &self,
        (chain, value): (&str, Value),
        (bundle, context): (&str, Value),
    ) -> Result<Value> {
        Ok(json!({
            "tls_certificate_sds_secret_configs": [self.secret(chain, "tls_certificate", value)?],
            "validation_context_sds_secret_config": self.secret(bundle, "validation_context", context)?,
        }))
    }
}

fn of(context: Value) -> Supply {
    Supply {
        contexts: vec![context],
        ..Supply::default()
    }
}

fn workload(ca: &Ca) -> Result<Identity> {
    ca.leaf().uri(PROXY).issue()
}

fn public(ca: &Ca) -> Result<Identity> {
    ca.leaf().dns("shop.example.com").issue()
}

fn root(name: &str) -> Result<Ca> {
    Ca::root(name).issue()
}

/// A root and an issuing CA below it.
fn hierarchy(letter: &str) -> Result<(Ca, Ca)> {
    let root = root(&format!("Root {letter}"))?;
    let issuing = root.subordinate(&format!("Issuing {letter}")).issue()?;
    Ok((root, issuing))
}

/// Step 1 of a rotation: A signs, and behind the chain come all roots of the mesh.
fn istio_sidecar(pki: &Pki) -> Result<Supply> {
    let ((a, issuing), b) = (hierarchy("A")?, root("Root B")?);
    let leaf = workload(&issuing)?;
    let chain = chain_of(&[leaf.chain_pem(), pem(&[&a, &b])].concat(), &leaf)?;
    let sds = Sds::new(pki);
    Ok(of(
        sds.context(("default", chain), ("ROOTCA", trusted(&[&a])))?
    ))
}

/// A certificate of a public CA for clients outside, who show one of a CA of their own.
fn istio_gateway(pki: &Pki) -> Result<Supply> {
    let ((a, issuing), (_, public_ca), partners) =
        (hierarchy("A")?, hierarchy("P")?, root("Partners")?);
    let (leaf, server) = (workload(&issuing)?, public(&public_ca)?);
    let sds = Sds::new(pki);
    let mesh = sds.context(
        ("default", chain_of(&leaf.chain_pem(), &leaf)?),
        ("ROOTCA", trusted(&[&a])),
    )?;
    let outside = sds.context(
        (
            "kubernetes://shop-credential",
            chain_of(&server.chain_pem(), &server)?,
        ),
        ("kubernetes://shop-credential-cacert", trusted(&[&partners])),
    )?;
    Ok(Supply {
        contexts: vec![mesh, outside],
        ..Supply::default()
    })
}

fn istio_files(pki: &Pki) -> Result<Supply> {
    let (a, issuing) = hierarchy("A")?;
    let leaf = workload(&issuing)?;
    let sds = Sds::new(pki);
    let name = "file-cert:/etc/certs/cert-chain.pem~/etc/certs/key.pem";
    let bundle = ("file-root:/etc/certs/root-cert.pem", trusted(&[&a]));
    Ok(of(sds.context(
        (name, chain_of(&leaf.chain_pem(), &leaf)?),
        bundle,
    )?))
}

fn istio_two_roots(pki: &Pki) -> Result<Supply> {
    let ((a, issuing), b) = (hierarchy("A")?, root("Root B")?);
    let leaf = workload(&issuing)?;
    let chain = chain_of(&[leaf.chain_pem(), pem(&[&a])].concat(), &leaf)?;
    let sds = Sds::new(pki);
    Ok(of(sds.context(
        ("default", chain),
        ("ROOTCA", trusted(&[&b, &a])),
    )?))
}

/// The bundles of foreign trust domains stand in a validator beside `ROOTCA`.
fn istio_trust_domains(pki: &Pki) -> Result<Supply> {
    let ((a, issuing), other) = (hierarchy("A")?, root("Root O")?);
    let leaf = workload(&issuing)?;
    let sds = Sds::new(pki);
    let chain = sds.secret(
        "default",
        "tls_certificate",
        chain_of(&leaf.chain_pem(), &leaf)?,
    )?;
    let domains = validator(&[("cluster.local", &[&a]), ("other.example", &[&other])]);
    Ok(of(json!({
        "tls_certificate_sds_secret_configs": [chain],
        "combined_validation_context": {
            "default_validation_context": domains,
            "validation_context_sds_secret_config":
                sds.secret("ROOTCA", "validation_context", trusted(&[&a]))?,
        },
    })))
}

/// The mesh's own, and the system's for a server on the Internet.
fn istio_system_roots(pki: &Pki) -> Result<Supply> {
    let (a, issuing) = hierarchy("A")?;
    let leaf = workload(&issuing)?;
    let system = (0..5).map(|number| root(&format!("Public Root {number}")));
    let system = system.collect::<Result<Vec<_>>>()?;
    let system: Vec<&Ca> = system.iter().collect();
    let sds = Sds::new(pki);
    let chain = || chain_of(&leaf.chain_pem(), &leaf);
    Ok(Supply {
        contexts: vec![
            sds.context(("default", chain()?), ("ROOTCA", trusted(&[&a])))?,
            sds.context(
                ("default", chain()?),
                ("file-root:system", trusted(&system)),
            )?,
        ],
        ..Supply::default()
    })
}

/// Root and issuing CA have a list each, as Envoy wants it. That of the root is overdue.
fn istio_revocation(pki: &Pki) -> Result<Supply> {
    let (a, issuing) = hierarchy("A")?;
    let leaf = workload(&issuing)?;
    let lists = [
        a.revocation_list_for(Lifetime::from_now(-9 * DAY, -DAY), &[])?,
        issuing.revocation_list_for(Lifetime::from_now(-DAY, 9 * DAY), &[&leaf])?,
    ];
    let mut context = trusted(&[&a]);
    context["crl"] = inline(&lists.concat());
    let chain = chain_of(&leaf.chain_pem(), &leaf)?;
    let sds = Sds::new(pki);
    Ok(of(sds.context(("default", chain), ("ROOTCA", context))?))
}

/// The CA of SPIRE signs leaves itself, and they come alone.
fn spire(pki: &Pki) -> Result<Supply> {
    let (old, new) = (root("SPIRE 1")?, root("SPIRE 2")?);
    let leaf = workload(&old)?.leaf_only();
    let bundle = ("ROOTCA", validator(&[("cluster.local", &[&old, &new])]));
    let sds = Sds::new(pki);
    Ok(of(sds.context(
        ("default", chain_of(&leaf.leaf_pem(), &leaf)?),
        bundle,
    )?))
}

fn spire_federated(pki: &Pki) -> Result<Supply> {
    let (own, other) = (root("SPIRE 1")?, root("SPIRE O")?);
    let leaf = workload(&own)?.leaf_only();
    let domains = validator(&[("cluster.local", &[&own]), ("other.example", &[&other])]);
    let sds = Sds::new(pki);
    Ok(of(sds.context(
        ("default", chain_of(&leaf.leaf_pem(), &leaf)?),
        ("ALL", domains),
    )?))
}

/// A map of bundles in the form of the SPIFFE standard: of each trust domain a JWK set.
fn map_of(domains: &[(&str, &[&Ca])]) -> String {
    let domains = domains.iter().map(|(name, cas)| {
        let key = |ca: &&Ca| json!({"use": "x509-svid", "x5c": [BASE64.encode(ca.der())]});
        let keys: Vec<Value> = cas.iter().map(key).collect();
        ((*name).to_owned(), json!({"keys": keys}))
    });
    json!({"trust_domains": domains.collect::<serde_json::Map<_, _>>()}).to_string()
}

fn with_map(pki: &Pki, source: impl FnOnce(String) -> Result<Value>) -> Result<Supply> {
    let (old, new, other) = (root("SPIRE 1")?, root("SPIRE 2")?, root("SPIRE O")?);
    let leaf = workload(&old)?.leaf_only();
    let map = map_of(&[
        ("cluster.local", &[&old, &new]),
        ("other.example", &[&other]),
    ]);
    let mut context = validator(&[]);
    context["custom_validator_config"]["typed_config"]["trust_bundles"] = source(map)?;
    let sds = Sds::new(pki);
    let chain = ("default", chain_of(&leaf.leaf_pem(), &leaf)?);
    Ok(of(sds.context(chain, ("ROOTCA", context))?))
}

fn bundle_map(pki: &Pki) -> Result<Supply> {
    with_map(pki, |map| Ok(inline(&map)))
}

fn bundle_map_in_file(pki: &Pki) -> Result<Supply> {
    with_map(pki, |map| {
        let file = pki.directory().join("bundles.json");
        fs::write(&file, map)?;
        Ok(json!({"filename": file}))
    })
}

/// Two listeners, of which one has the new root.
fn inline_that_differ(_: &Pki) -> Result<Supply> {
    let ((a, issuing), b) = (hierarchy("A")?, root("Root B")?);
    let leaf = workload(&issuing)?;
    let context = |cas: &[&Ca]| -> Result<Value> {
        Ok(json!({
            "tls_certificates": [chain_of(&leaf.chain_pem(), &leaf)?],
            "validation_context": trusted(cas),
        }))
    };
    Ok(Supply {
        contexts: vec![context(&[&a])?, context(&[&a, &b])?],
        ..Supply::default()
    })
}

fn consul(_: &Pki) -> Result<Supply> {
    let (a, issuing) = hierarchy("A")?;
    let leaf = issuing
        .leaf()
        .uri("spiffe://11111111-2222.consul/ns/default/dc/dc1/svc/web")
        .issue()?;
    Ok(of(json!({
        "tls_certificates": [chain_of(&leaf.chain_pem(), &leaf)?],
        "validation_context": trusted(&[&a]),
    })))
}

fn kuma(pki: &Pki) -> Result<Supply> {
    let mesh = root("Kuma CA")?;
    let leaf = mesh
        .leaf()
        .uri("spiffe://default/web")
        .uri("kuma://version/v1")
        .issue()?;
    let chain = (
        "identity_cert:secret:default",
        chain_of(&leaf.chain_pem(), &leaf)?,
    );
    let sds = Sds::new(pki);
    Ok(of(sds.context(
        chain,
        ("mesh_ca:secret:default", trusted(&[&mesh])),
    )?))
}

/// Names end in a digest of the content.
fn contour(pki: &Pki) -> Result<Supply> {
    let ((_, issuing), clients) = (hierarchy("A")?, root("Clients")?);
    let server = public(&issuing)?;
    let chain = (
        "shop/shop-tls/1f2e3d4c5b",
        chain_of(&server.chain_pem(), &server)?,
    );
    let sds = Sds::new(pki);
    Ok(of(sds.context(
        chain,
        ("shop/client-ca/0a1b2c3d4e", trusted(&[&clients])),
    )?))
}

/// Writes a chain, its key and a bundle; what a TLS context says of them.
fn in_files(
    pki: &Pki,
    [chain, key, bundle]: [&str; 3],
    leaf: &Identity,
    cas: &[&Ca],
) -> Result<Value> {
    let write = |name: &str, text: String| -> Result<Value> {
        let path: PathBuf = pki.directory().join(name);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&path, text)?;
        Ok(json!({"filename": path}))
    };
    Ok(json!({
        "tls_certificates": [{
            "certificate_chain": write(chain, leaf.chain_pem())?,
            "private_key": write(key, leaf.key_pem()?)?,
        }],
        "validation_context": {"trusted_ca": write(bundle, pem(cas))?},
    }))
}

fn emissary(pki: &Pki) -> Result<Supply> {
    const CHAIN: &str = "secrets/shop/DA39A3EE5E6B4B0D3255BFEF95601890AFD80709.crt";
    const KEY: &str = "secrets/shop/DA39A3EE5E6B4B0D3255BFEF95601890AFD80709.key";
    const BUNDLE: &str = "secrets/clients/2FD4E1C67A2D28FCED849EE1BB76E7391B93EB12.crt";
    let ((_, issuing), clients) = (hierarchy("A")?, root("Clients")?);
    let server = public(&issuing)?;
    Ok(of(in_files(
        pki,
        [CHAIN, KEY, BUNDLE],
        &server,
        &[&clients],
    )?))
}

fn files(pki: &Pki) -> Result<Supply> {
    let ((a, issuing), b) = (hierarchy("A")?, root("Root B")?);
    let leaf = workload(&issuing)?;
    Ok(of(in_files(
        pki,
        ["tls.crt", "tls.key", "ca.crt"],
        &leaf,
        &[&a, &b],
    )?))
}

/// A listener for clients with certificates, and the client certificate for a backend that has a bundle of its own.
fn envoy_gateway(pki: &Pki) -> Result<Supply> {
    let ((_, issuing), clients) = (hierarchy("A")?, root("Clients")?);
    let backends = root("Backends")?;
    let (server, client) = (public(&issuing)?, backends.leaf().dns("gateway").issue()?);
    let sds = Sds::new(pki);
    let listener = sds.context(
        ("shop/shop-cert", chain_of(&server.chain_pem(), &server)?),
        ("shop/client-policy/ca.crt", trusted(&[&clients])),
    )?;
    let backend = sds.context(
        ("shop/client-cert", chain_of(&client.leaf_pem(), &client)?),
        ("backend-policy/shop-ca", trusted(&[&backends])),
    )?;
    Ok(Supply {
        contexts: vec![listener, backend],
        ..Supply::default()
    })
}

fn static_secrets(_: &Pki) -> Result<Supply> {
    let (a, issuing) = hierarchy("A")?;
    let leaf = workload(&issuing)?;
    Ok(Supply {
        contexts: vec![json!({
            "tls_certificate_sds_secret_configs": [{"name": "server"}],
            "validation_context_sds_secret_config": {"name": "clients"},
        })],
        secrets: vec![
            json!({"name": "server", "tls_certificate": chain_of(&leaf.chain_pem(), &leaf)?}),
            json!({"name": "clients", "validation_context": trusted(&[&a])}),
        ],
    })
}

fn pkcs12(pki: &Pki) -> Result<Supply> {
    const PASSWORD: &str = "changeit";
    let (a, issuing) = hierarchy("A")?;
    let leaf = workload(&issuing)?;
    let mut context = in_files(pki, ["in.crt", "in.key", "ca.crt"], &leaf, &[&a])?;
    let file = |name: &str| pki.directory().join(name);
    let mut openssl = Command::new(tool("openssl")?);
    openssl.args(["pkcs12", "-export", "-passout", &format!("pass:{PASSWORD}")]);
    openssl
        .arg("-in")
        .arg(file("in.crt"))
        .arg("-inkey")
        .arg(file("in.key"));
    openssl.arg("-out").arg(file("tls.p12"));
    ensure!(openssl.status()?.success(), "openssl pkcs12");
    context["tls_certificates"] = json!([{
        "pkcs12": {"filename": file("tls.p12")},
        "password": {"inline_string": PASSWORD},
    }]);
    Ok(of(context))
}

fn two_keys(pki: &Pki) -> Result<Supply> {
    let (a, issuing) = hierarchy("A")?;
    let sds = Sds::new(pki);
    let chain = |name: &str, kind: KeyKind| -> Result<Value> {
        let leaf = issuing
            .leaf()
            .dns("shop.example.com")
            .key_kind(kind)
            .issue()?;
        sds.secret(name, "tls_certificate", chain_of(&leaf.chain_pem(), &leaf)?)
    };
    Ok(of(json!({
        "tls_certificate_sds_secret_configs": [chain("ecdsa", KeyKind::P256)?, chain("rsa", KeyKind::Rsa2048)?],
        "validation_context_sds_secret_config": sds.secret("clients", "validation_context", trusted(&[&a]))?,
    })))
}

fn hash_only(pki: &Pki) -> Result<Supply> {
    let (_, issuing) = hierarchy("A")?;
    let (leaf, client) = (workload(&issuing)?, public(&issuing)?);
    let hash = json!({"verify_certificate_hash": [hex(&Sha256::digest(client.der()))]});
    let sds = Sds::new(pki);
    Ok(of(sds.context(
        ("default", chain_of(&leaf.chain_pem(), &leaf)?),
        ("clients", hash),
    )?))
}
