//! Replies of Envoy's admin interface.
//!
//! [`SECRETS`] has what came over SDS and what is static, as PEM, private keys redacted. [`CERTIFICATES`] has every
//! certificate that a TLS context serves or trusts, files included, but of each only dates, serial number and
//! SANs: what the first reply has in full is left out of the second. [`CONTEXTS`] have the PEM that is inline in
//! listeners and clusters; they are asked for when something is inline that nothing else tells of.
//!
//! A reply of a large mesh has megabytes, most of which is repeated or not asked for. It is read in ranges, part by
//! part ([`parts`]).

use std::borrow::Cow;
use std::hash::{BuildHasher as _, Hash};
use std::rc::Rc;

use mtls_watch_x509::ParseError;
use mtls_watch_x509::crl::RevocationList;
use mtls_watch_x509::pem::{self, PemError};

use super::parts::{self, Body, Wanted, Whole};
use crate::hash::{ById, HashMap, Keyed};
use crate::json::{Unexpected, Value};

pub use super::reply::{MAX_REPLY_BYTES, ReplyError};
use super::secret::INLINE;
pub use super::secret::{CertificateKey, Dates, FullCertificate, OwnCertificate, Role, Secret};

/// Path of the secrets. The mask is that of one kind of config: Envoy leaves out the others.
pub const SECRETS: &str =
    "/config_dump?mask=static_secrets,dynamic_active_secrets,dynamic_warming_secrets";
/// Path of the certificates in use.
pub const CERTIFICATES: &str = "/certs";
/// Paths of what has TLS contexts.
pub const CONTEXTS: [&str; 2] = [
    "/config_dump?mask=static_listeners,dynamic_listeners",
    "/config_dump?mask=static_clusters,dynamic_active_clusters",
];

/// Instead of the path that `/certs` leaves empty.
const UNNAMED: &str = "<unnamed>";

/// Reads the secrets of a `config_dump`.
///
/// # Errors
/// As [`read_secrets`].
pub fn secrets(reply: &[u8]) -> Result<Vec<Secret>, ReplyError> {
    read_secrets(&mut Whole(Some(reply)))
}

/// Reads `/certs`, without what `known` has in full.
///
/// # Errors
/// As [`read_certificates`].
pub fn certificates(reply: &[u8], known: &[Secret]) -> Result<Vec<Secret>, ReplyError> {
    let served = read_certificates(&mut Whole(Some(reply)))?;
    Ok(served.unknown(known))
}

/// Reads the secrets of a `config_dump`: all of them, or a list of one kind.
///
/// # Errors
/// [`ReplyError::Json`] and [`ReplyError::TooLarge`]. A secret that cannot be read is passed over; a broken certificate does not hide the
/// others.
pub fn read_secrets(body: &mut dyn Body) -> Result<Vec<Secret>, ReplyError> {
    const WARMING: &str = "dynamic_warming_secrets";
    const WANTED: Wanted = Wanted {
        lists: &[
            "configs",
            "static_secrets",
            "dynamic_active_secrets",
            WARMING,
        ],
        objects: &[],
    };
    let mut found = Found::default();
    parts::parts(body, &WANTED, &mut |list, _, part| {
        // One that cannot be read is passed over.
        let _ = Value::read(part).and_then(|config| found.add_secret(&config, list == WARMING));
    })?;
    Ok(found.secrets)
}

/// Reads what is inline in the TLS contexts of listeners or clusters: each chain and each bundle once, a bundle with the name
/// of the first listener or cluster that has it.
///
/// # Errors
/// [`ReplyError::Json`] and [`ReplyError::TooLarge`].
pub fn read_contexts(body: &mut dyn Body) -> Result<Vec<Secret>, ReplyError> {
    const WANTED: Wanted = Wanted {
        lists: &[],
        objects: &["common_tls_context"],
    };
    let mut found = Found::default();
    let mut seen = Repeated::default();
    parts::parts(body, &WANTED, &mut |_, name, part| {
        if seen.is_new(part) {
            // As with secrets.
            let _ = Value::read(part).and_then(|context| found.add_context(name, &context));
        }
    })?;
    Ok(found.secrets)
}

/// Tells what was there before: most clusters of a mesh have one TLS context.
#[derive(Default)]
struct Repeated {
    hasher: Keyed,
    seen: HashMap<u64, u64, ById>,
}

impl Repeated {
    fn is_new(&mut self, item: &(impl Hash + ?Sized)) -> bool {
        let hash = self.hasher.hash_one(item);
        self.seen.insert(hash, hash).is_none()
    }

    fn has(&self, item: &impl Hash) -> bool {
        self.seen.contains_key(&self.hasher.hash_one(item))
    }
}

/// The secrets found so far.
#[derive(Default)]
struct Found {
    secrets: Vec<Secret>,
    hasher: Keyed,
    /// By hash: many secrets have one bundle.
    texts: HashMap<u64, Rc<Text>, ById>,
}

/// What a text has in PEM.
struct Text {
    certificates: Vec<Result<OwnCertificate, Unreadable>>,
    lists: Vec<Rc<RevocationList>>,
}

impl Found {
    /// Adds an `envoy.admin.v3.SecretsConfigDump.DynamicSecret`, or `StaticSecret`.
    fn add_secret(&mut self, config: &Value<'_>, is_warming: bool) -> Result<(), Unexpected> {
        let Some(secret) = config.object("secret")? else {
            return Ok(());
        };
        let Some(name) = config.text("name")?.or(secret.text("name")?) else {
            return Ok(());
        };
        let certificate = secret.object("tls_certificate")?;
        let context = secret.object("validation_context")?;
        if let Some(chain) = chain(certificate)? {
            self.add(Secret::new(name.to_owned(), Role::Chain), chain)?;
        } else if let Some(context) = context {
            self.add_bundles(name, context)?;
        } else if is_warming {
            self.secrets
                .push(Secret::new(name.to_owned(), Role::Unknown));
        }
        Ok(())
    }

    /// Adds an `envoy.extensions.transport_sockets.tls.v3.CommonTlsContext`.
    fn add_context(&mut self, of: &str, context: &Value<'_>) -> Result<(), Unexpected> {
        for certificate in context.list("tls_certificates")? {
            if let Some(chain) = chain(Some(certificate))? {
                self.add(Secret::new(INLINE.to_owned(), Role::Chain), chain)?;
            }
        }
        let default = match context.object("combined_validation_context")? {
            Some(combined) => combined.object("default_validation_context")?,
            None => None,
        };
        let validation = context.object("validation_context")?;
        let name = format!("{INLINE}:{of}");
        for validation in [validation, default].into_iter().flatten() {
            self.add_bundles(&name, validation)?;
        }
        Ok(())
    }

    /// Adds a `CertificateValidationContext`. Beside a SPIFFE validator Envoy asks neither `trusted_ca` nor `crl`.
    fn add_bundles(&mut self, name: &str, context: &Value<'_>) -> Result<(), Unexpected> {
        let bundle = || Secret::new(name.to_owned(), Role::Bundle);
        let Some(validator) = spiffe_validator(context)? else {
            if let Some(trusted) = context.object("trusted_ca")? {
                let mut bundle = bundle();
                // Of lists in a file nothing is told.
                if let Some(lists) = context.object("crl")? {
                    let text = inline(lists)?.unwrap_or_default();
                    bundle
                        .revocation_lists
                        .clone_from(&self.parsed(&text).lists);
                }
                self.add(bundle, trusted)?;
            }
            return Ok(());
        };
        // Envoy asks no other, then.
        if let Some(map) = validator.object("trust_bundles")? {
            return self.add_bundle_map(&bundle, map);
        }
        for domain in validator.list("trust_domains")? {
            let trusted = domain.object("trust_bundle")?;
            if let (Some(domain), Some(trusted)) = (domain.text("name")?, trusted) {
                let mut bundle = bundle();
                bundle.trust_domain = Some(domain.to_owned());
                self.add(bundle, trusted)?;
            }
        }
        Ok(())
    }

    /// Adds a map of SPIFFE bundles: of each trust domain a JWK set, in which a key of the use `x509-svid` has its
    /// certificate in `x5c`, as base64 of its DER (SPIFFE Trust Domain and Bundle, 4.2.2).
    fn add_bundle_map(
        &mut self,
        bundle: &dyn Fn() -> Secret,
        source: &Value<'_>,
    ) -> Result<(), Unexpected> {
        let Some(text) = inline(source)? else {
            return Ok(());
        };
        let map = Value::read(&text)?;
        for (domain, keys) in map
            .object("trust_domains")?
            .into_iter()
            .flat_map(Value::members)
        {
            let mut bundle = bundle();
            bundle.trust_domain = Some(domain.to_owned());
            let mut certificates = Vec::new();
            for key in keys.list("keys")? {
                let texts = key.list("x5c")?.iter().filter_map(Value::as_text);
                certificates.extend(texts.map(|text| parse(pem::decode_base64(text.as_bytes()))));
            }
            self.add_certificates(bundle, &certificates);
        }
        Ok(())
    }

    /// Adds a secret with what a DataSource has inline. Of one that names a file, `/certs` tells.
    fn add(&mut self, mut secret: Secret, source: &Value<'_>) -> Result<(), Unexpected> {
        let Some(text) = inline(source)? else {
            return Ok(());
        };
        let text = self.parsed(&text);
        // Envoy takes lists that stand among the CAs as well.
        if secret.role == Role::Bundle {
            secret.revocation_lists.extend_from_slice(&text.lists);
        }
        self.add_certificates(secret, &text.certificates);
        Ok(())
    }

    #[inline(never)]
    fn add_certificates(
        &mut self,
        mut secret: Secret,
        certificates: &[Result<OwnCertificate, Unreadable>],
    ) {
        for (position, certificate) in certificates.iter().enumerate() {
            match certificate {
                // Twice is once: Istio sends a root that signs leaves as CA and as root.
                Ok(known) if secret.certificates.contains(known) => {}
                Ok(certificate) => secret.certificates.push(certificate.clone()),
                Err(_) => {
                    secret.unreadable = secret.unreadable.saturating_add(1);
                    secret.leaf_unreadable |= position == 0;
                }
            }
        }
        let mut known = self.secrets.iter();
        if !known.any(|known| known.is_same(&secret)) {
            self.secrets.push(secret);
        }
    }

    fn parsed(&mut self, text: &[u8]) -> Rc<Text> {
        let hash = self.hasher.hash_one(text);
        let known = self.texts.entry(hash);
        let lists = pem::revocation_lists(text).flat_map(|der| RevocationList::read(&der));
        let read = || {
            Rc::new(Text {
                certificates: pem::certificates(text).map(parse).collect(),
                lists: lists.map(Rc::new).collect(),
            })
        };
        Rc::clone(known.or_insert_with(read))
    }
}

/// What a DataSource has inline.
fn inline<'a>(source: &'a Value<'_>) -> Result<Option<Cow<'a, [u8]>>, Unexpected> {
    let text = match (source.text("inline_string")?, source.text("inline_bytes")?) {
        (Some(text), _) => Some(Cow::Borrowed(text.as_bytes())),
        (None, Some(base64)) => pem::decode_base64(base64.as_bytes()).ok().map(Cow::Owned),
        (None, None) => None,
    };
    Ok(text)
}

/// Where a `TlsCertificate` has its chain.
fn chain<'a>(certificate: Option<&'a Value<'_>>) -> Result<Option<&'a Value<'a>>, Unexpected> {
    match certificate {
        Some(certificate) => certificate.object("certificate_chain"),
        None => Ok(None),
    }
}

/// An `envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig`; of any other validator nothing is read.
fn spiffe_validator<'a>(context: &'a Value<'_>) -> Result<Option<&'a Value<'a>>, Unexpected> {
    let Some(validator) = context.object("custom_validator_config")? else {
        return Ok(None);
    };
    let config = validator.object("typed_config")?;
    Ok(config.filter(|config| {
        let has = |(name, _): (&str, _)| matches!(name, "trust_domains" | "trust_bundles");
        config.members().any(has)
    }))
}

/// Calls all inline bundles alike, unless they differ: what one listener or cluster trusts says nothing of another.
pub fn name_inline(secrets: &mut [Secret]) {
    let is_inline = |secret: &Secret| secret.role == Role::Bundle && secret.is_inline();
    let domains: Vec<Option<String>> = secrets
        .iter()
        .filter(|secret| is_inline(secret))
        .map(|secret| secret.trust_domain.clone())
        .collect();
    for secret in secrets.iter_mut().filter(|secret| is_inline(secret)) {
        let of_domain = domains
            .iter()
            .filter(|domain| **domain == secret.trust_domain);
        if of_domain.count() == 1 {
            secret.name.truncate(INLINE.len());
        }
    }
}

#[derive(Clone)]
enum Unreadable {
    Pem,
    Der,
}

impl From<PemError> for Unreadable {
    fn from(_: PemError) -> Self {
        Self::Pem
    }
}

impl From<ParseError> for Unreadable {
    fn from(_: ParseError) -> Self {
        Self::Der
    }
}

fn parse(der: Result<Vec<u8>, PemError>) -> Result<OwnCertificate, Unreadable> {
    Ok(OwnCertificate::Full(Rc::new(FullCertificate::parse(der?)?)))
}

/// What `/certs` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The certificates, by path and role, each once.
    secrets: Vec<Secret>,
    /// Which leaf is used beside which CAs, each pair once.
    contexts: Vec<ServedContext>,
}

/// What one TLS context uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedContext {
    /// The leaves that it shows.
    pub leaves: Vec<CertificateKey>,
    /// The CAs that it trusts. Envoy before 1.40 tells of the first only.
    pub cas: Vec<CertificateKey>,
}

/// Reads `/certs`.
///
/// # Errors
/// [`ReplyError::Json`], also if it has no certificates, and [`ReplyError::TooLarge`].
pub fn read_certificates(body: &mut dyn Body) -> Result<Served, ReplyError> {
    const LIST: &str = "certificates";
    const WANTED: Wanted = Wanted {
        lists: &[LIST],
        objects: &[],
    };
    let mut served = Served::default();
    let mut seen = Repeated::default();
    let mut is_broken = false;
    let lists = parts::parts(body, &WANTED, &mut |_, _, part| {
        if seen.is_new(part) {
            let added = Value::read(part).and_then(|context| served.add(&context));
            is_broken |= added.is_err();
        }
    })?;
    if is_broken || lists.is_empty() {
        return Err(ReplyError::Json);
    }
    Ok(served)
}

impl Served {
    /// Adds the certificates of one TLS context, an `envoy.admin.v3.Certificate`.
    fn add(&mut self, context: &Value<'_>) -> Result<(), Unexpected> {
        let mut keys = ServedContext::default();
        for (role, list, keys) in [
            (Role::Bundle, "ca_cert", &mut keys.cas),
            (Role::Chain, "cert_chain", &mut keys.leaves),
        ] {
            for entry in context.list(list)? {
                if let Some(dates) = dates(role, entry)? {
                    keys.push(dates.key());
                    let path = match entry.text("path")? {
                        None => INLINE,
                        // A SPIFFE validator with a map of bundles.
                        Some("") => UNNAMED,
                        Some(path) => path,
                    };
                    self.add_certificate(role, path, OwnCertificate::Dates(dates));
                }
            }
        }
        if !self.contexts.contains(&keys) {
            self.contexts.push(keys);
        }
        Ok(())
    }

    fn add_certificate(&mut self, role: Role, path: &str, certificate: OwnCertificate) {
        let there = |secret: &&mut Secret| secret.name == path && secret.role == role;
        match self.secrets.iter_mut().find(there) {
            Some(secret) if secret.certificates.contains(&certificate) => {}
            Some(secret) => secret.certificates.push(certificate),
            None => self.secrets.push(Secret {
                certificates: vec![certificate],
                ..Secret::new(path.to_owned(), role)
            }),
        }
    }

    /// Which leaf is used beside which CAs.
    #[must_use]
    pub fn contexts(&self) -> &[ServedContext] {
        &self.contexts
    }

    /// What `known` does not have in full.
    #[must_use]
    pub fn unknown(&self, known: &[Secret]) -> Vec<Secret> {
        let mut in_full = Repeated::default();
        for full in known.iter().flat_map(Secret::full) {
            in_full.is_new(&full.key());
        }
        let mut unknown = self.secrets.clone();
        for secret in &mut unknown {
            let is_unknown = |it: &OwnCertificate| !in_full.has(&it.key());
            secret.certificates.retain(is_unknown);
        }
        unknown.retain(|secret| !secret.certificates.is_empty());
        unknown
    }
}

/// Whether one of these is inline in a TLS context.
#[must_use]
pub fn has_inline(secrets: &[Secret]) -> bool {
    // A SPIFFE validator puts its trust domain before it.
    secrets.iter().any(|secret| secret.name.ends_with(INLINE))
}

/// Reads an `envoy.admin.v3.CertificateDetails`; `None` without serial number or dates.
fn dates(role: Role, entry: &Value<'_>) -> Result<Option<Dates>, Unexpected> {
    let (Some(serial), Some(from), Some(to)) = (
        entry.text("serial_number")?,
        entry.text("valid_from")?,
        entry.text("expiration_time")?,
    ) else {
        return Ok(None);
    };
    let (Ok(not_before), Ok(not_after)) = (from.parse(), to.parse()) else {
        return Ok(None);
    };
    // A CA is not called by its SANs: SPIRE's names its trust domain, and there are many of that.
    let identity = match role {
        Role::Chain => name(entry.list("subject_alt_names")?)?,
        Role::Bundle | Role::Unknown => None,
    };
    Ok(Some(Dates {
        serial: serial.to_ascii_lowercase(),
        identity: identity.map(str::to_owned),
        not_before,
        not_after,
    }))
}

/// The first URI, else the first DNS name.
fn name<'a>(names: &'a [Value<'_>]) -> Result<Option<&'a str>, Unexpected> {
    for kind in ["uri", "dns"] {
        for name in names {
            if let Some(name) = name.text(kind)? {
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
    use serde_json::{Value, json};

    use super::*;

    fn ca() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn bundle(name: &str, source: &Value) -> Value {
        json!({"name": name, "secret": {"validation_context": {"trusted_ca": source}}})
    }

    fn dump(configs: &[Value]) -> Vec<Secret> {
        let reply = json!({"configs": configs}).to_string();
        secrets(reply.as_bytes()).unwrap()
    }

    /// An entry of `/certs`.
    fn entry(path: &str, serial: &str, not_after: &str) -> Value {
        json!({
            "path": path,
            "serial_number": serial,
            "subject_alt_names": [{"dns": "shop"}, {"uri": "spiffe://d/pay"}],
            "valid_from": "2026-01-01T00:00:00Z",
            "expiration_time": not_after,
        })
    }

    fn contexts(contexts: &Value, known: &[Secret]) -> Vec<Secret> {
        let reply = json!({"certificates": contexts}).to_string();
        certificates(reply.as_bytes(), known).unwrap()
    }

    #[test]
    fn text_and_base64_are_read_alike() {
        let pem = ca().pem() + &ca().pem();
        let base64 = BASE64.encode(&pem);
        let found = dump(&[
            bundle("text", &json!({"inline_string": pem})),
            bundle("bytes", &json!({"inline_bytes": base64})),
        ]);
        assert_eq!(found[0].certificates.len(), 2);
        assert_eq!(found[0].certificates, found[1].certificates);
    }

    #[test]
    fn what_is_no_certificate_is_passed_over() {
        let found = dump(&[
            json!({"name": "ticket", "secret": {"session_ticket_keys": {}}}),
            json!({"name": "warming"}),
            json!({"secret": {"validation_context": {"trusted_ca": {"inline_string": ""}}}}),
            bundle("file", &json!({"filename": "/ca.crt"})),
            bundle("empty", &json!({"inline_string": ""})),
        ]);
        let names: Vec<&str> = found.iter().map(|secret| &*secret.name).collect();
        assert_eq!(names, ["empty"]);
    }

    #[test]
    fn a_reply_is_an_object() {
        for reply in [&b""[..], b"[]", b"{", b"\xff"] {
            assert_eq!(secrets(reply), Err(ReplyError::Json));
            assert_eq!(certificates(reply, &[]), Err(ReplyError::Json));
        }
        assert_eq!(certificates(b"{}", &[]), Err(ReplyError::Json));
    }

    #[test]
    fn certificates_of_another_shape_are_an_error() {
        for context in [
            json!({"ca_cert": 7}),
            json!({"ca_cert": ["x"]}),
            json!({"cert_chain": [{"serial_number": 7}]}),
        ] {
            let reply = json!({"certificates": [context]}).to_string();
            let read = certificates(reply.as_bytes(), &[]);
            assert_eq!(read, Err(ReplyError::Json), "{reply}");
        }
    }

    #[test]
    fn a_certificate_of_several_contexts_is_one() {
        let entry = entry("/tls.crt", "0A", "2027-01-01T00:00:00Z");
        let context = json!({"cert_chain": [entry], "ca_cert": []});
        let found = contexts(&json!([context, context]), &[]);
        let dates = Dates {
            serial: "0a".to_owned(),
            identity: Some("spiffe://d/pay".to_owned()),
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2027-01-01T00:00:00Z".parse().unwrap(),
        };
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "/tls.crt");
        assert_eq!(found[0].certificates, [OwnCertificate::Dates(dates)]);
    }

    #[test]
    fn a_certificate_known_in_full_is_left_out() {
        let ca = ca();
        let known = dump(&[bundle("ROOTCA", &json!({"inline_string": ca.pem()}))]);
        let serial = mtls_watch_x509::describe::serial_number(ca.der()).unwrap();
        let same = entry("", &serial, "2030-01-01T00:00:00Z");
        let other = entry("", &serial, "2031-01-01T00:00:00Z");
        let found = contexts(&json!([{"ca_cert": [same, other]}]), &known);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].certificates.len(), 1);
    }
}
