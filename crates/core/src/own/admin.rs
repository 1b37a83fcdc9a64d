//! Replies of Envoy's admin interface.
//!
//! `/config_dump?resource=dynamic_active_secrets` has the secrets that came over SDS as PEM, private
//! keys redacted. `/certs` has every certificate that is in use, files included, but of each only
//! dates, serial number and SANs: what the first reply has in full is left out of the second.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::value::RawValue;

use mtls_watch_x509::ParseError;
use mtls_watch_x509::pem::{self, PemError};

use crate::hash::HashMap;

pub use super::secret::{CertificateKey, Dates, FullCertificate, OwnCertificate, Role, Secret};

/// Path of the secrets.
pub const SECRETS: &str = "/config_dump?resource=dynamic_active_secrets";
/// Path of the certificates in use.
pub const CERTIFICATES: &str = "/certs";

/// Longest reply that is read. A mesh proxy's secrets have some ten KB; a bundle of a hundred roots has
/// two hundred.
pub const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// Why a reply says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// More than [`MAX_REPLY_BYTES`]: this many.
    TooLarge(usize),
    /// The HTTP status is not 200.
    Status(String),
    /// Not the JSON that is expected.
    Json,
    /// No reply: time-out, reset, or no such cluster.
    None,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(bytes) => write!(f, "{bytes} bytes, more than {MAX_REPLY_BYTES}"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Json => f.write_str("not the JSON of Envoy's admin interface"),
            Self::None => f.write_str("no reply"),
        }
    }
}

impl std::error::Error for ReplyError {}

/// A string of a reply. It stays where it is, unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `envoy.admin.v3.ConfigDump`, of which [`SECRETS`] asks for one kind of configs only.
#[derive(Deserialize)]
struct ConfigDump<'a> {
    /// A proxy without SDS answers with an empty object.
    #[serde(borrow, default)]
    configs: Vec<&'a RawValue>,
}

/// `envoy.admin.v3.SecretsConfigDump.DynamicSecret`.
#[derive(Deserialize)]
struct DynamicSecret<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    secret: Option<TlsSecret<'a>>,
}

/// `envoy.extensions.transport_sockets.tls.v3.Secret`.
#[derive(Deserialize)]
struct TlsSecret<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    tls_certificate: Option<TlsCertificate<'a>>,
    validation_context: Option<ValidationContext<'a>>,
}

#[derive(Deserialize)]
struct TlsCertificate<'a> {
    #[serde(borrow)]
    certificate_chain: Option<DataSource<'a>>,
}

#[derive(Deserialize)]
struct ValidationContext<'a> {
    #[serde(borrow)]
    trusted_ca: Option<DataSource<'a>>,
}

#[derive(Deserialize)]
struct DataSource<'a> {
    #[serde(borrow)]
    inline_string: Option<Text<'a>>,
    inline_bytes: Option<Text<'a>>,
}

/// `envoy.admin.v3.Certificates`.
#[derive(Deserialize)]
struct Certificates<'a> {
    #[serde(borrow)]
    certificates: Vec<ContextCertificates<'a>>,
}

/// The certificates of one TLS context.
#[derive(Deserialize)]
struct ContextCertificates<'a> {
    #[serde(borrow, default)]
    ca_cert: Vec<CertificateDetails<'a>>,
    #[serde(default)]
    cert_chain: Vec<CertificateDetails<'a>>,
}

/// `envoy.admin.v3.CertificateDetails`.
#[derive(Deserialize)]
struct CertificateDetails<'a> {
    #[serde(borrow)]
    path: Option<Text<'a>>,
    serial_number: Option<Text<'a>>,
    #[serde(default)]
    subject_alt_names: Vec<AlternativeName<'a>>,
    valid_from: Option<Text<'a>>,
    expiration_time: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct AlternativeName<'a> {
    #[serde(borrow)]
    uri: Option<Text<'a>>,
    dns: Option<Text<'a>>,
}

/// Reads the secrets of a `config_dump`.
///
/// # Errors
/// [`ReplyError::Json`] if it is none. A secret that cannot be read is passed over; a broken certificate
/// does not hide the others.
// Not inlined: the largest function sets the memory that the module takes to compile.
#[inline(never)]
pub fn secrets(reply: &[u8]) -> Result<Vec<Secret>, ReplyError> {
    let dump: ConfigDump<'_> = read(reply)?;
    Ok(dump.configs.into_iter().filter_map(secret).collect())
}

fn secret(config: &RawValue) -> Option<Secret> {
    let config: DynamicSecret<'_> = read(config.get().as_bytes()).ok()?;
    let secret = config.secret?;
    let name = config.name.or(secret.name)?;
    let chain = secret
        .tls_certificate
        .and_then(|part| part.certificate_chain);
    let bundle = secret.validation_context.and_then(|part| part.trusted_ca);
    let (role, source) = match (chain, bundle) {
        (Some(chain), _) => (Role::Chain, chain),
        (None, Some(bundle)) => (Role::Bundle, bundle),
        (None, None) => return None,
    };
    let pem_text = data_source(&source)?;
    let mut found = Secret::new(name.0.into_owned(), role);
    for (position, der) in pem::certificates(&pem_text).enumerate() {
        match parse(der) {
            // Twice in a bundle is once.
            Ok(known) if role == Role::Bundle && found.certificates.contains(&known) => {}
            Ok(certificate) => found.certificates.push(certificate),
            Err(_) => {
                found.unreadable = found.unreadable.saturating_add(1);
                found.leaf_unreadable |= position == 0;
            }
        }
    }
    Some(found)
}

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

/// A DataSource with its content inline. One that names a file is read by `/certs`.
fn data_source(source: &DataSource<'_>) -> Option<Vec<u8>> {
    if let Some(Text(text)) = &source.inline_string {
        return Some(text.as_bytes().to_vec());
    }
    let Text(base64) = source.inline_bytes.as_ref()?;
    pem::decode_base64(base64.as_bytes()).ok()
}

/// Reads `/certs`, without what `known` has in full.
///
/// # Errors
/// [`ReplyError::Json`] if it is none.
#[inline(never)]
pub fn certificates(reply: &[u8], known: &[Secret]) -> Result<Vec<Secret>, ReplyError> {
    let reply: Certificates<'_> = read(reply)?;
    let known: HashMap<CertificateKey, ()> = known
        .iter()
        .flat_map(|secret| secret.full().map(|full| (full.key(), ())))
        .collect();
    let mut secrets: Vec<Secret> = Vec::new();
    for context in &reply.certificates {
        for (role, entries) in [
            (Role::Bundle, &context.ca_cert),
            (Role::Chain, &context.cert_chain),
        ] {
            for entry in entries {
                add(&mut secrets, &known, role, entry);
            }
        }
    }
    Ok(secrets)
}

/// Adds an entry of `/certs`, unless it is known or there: several contexts use one certificate.
fn add(
    secrets: &mut Vec<Secret>,
    known: &HashMap<CertificateKey, ()>,
    role: Role,
    entry: &CertificateDetails<'_>,
) {
    let Some(dates) = dates(role, entry) else {
        return;
    };
    let path = entry.path.as_ref().map_or("inline", |path| &*path.0);
    if known.contains_key(&dates.key()) {
        return;
    }
    let dates = OwnCertificate::Dates(dates);
    let there = secrets
        .iter_mut()
        .find(|secret| secret.name == path && secret.role == role);
    match there {
        Some(secret) if secret.certificates.contains(&dates) => {}
        Some(secret) => secret.certificates.push(dates),
        None => secrets.push(Secret {
            certificates: vec![dates],
            ..Secret::new(path.to_owned(), role)
        }),
    }
}

fn dates(role: Role, entry: &CertificateDetails<'_>) -> Option<Dates> {
    let names = &entry.subject_alt_names;
    let uri = names.iter().find_map(|name| name.uri.as_ref());
    let dns = || names.iter().find_map(|name| name.dns.as_ref());
    Some(Dates {
        serial: entry.serial_number.as_ref()?.0.to_ascii_lowercase(),
        // A CA is not called by its SANs: SPIRE's names its trust domain, and there are many of that.
        identity: match role {
            Role::Chain => uri.or_else(dns).map(|name| name.0.to_string()),
            Role::Bundle => None,
        },
        not_before: entry.valid_from.as_ref()?.0.parse().ok()?,
        not_after: entry.expiration_time.as_ref()?.0.parse().ok()?,
    })
}

fn read<'a, T: Deserialize<'a>>(reply: &'a [u8]) -> Result<T, ReplyError> {
    if reply.len() > MAX_REPLY_BYTES {
        return Err(ReplyError::TooLarge(reply.len()));
    }
    // The library also reads a list as a struct, by position.
    if !reply.trim_ascii_start().starts_with(b"{") {
        return Err(ReplyError::Json);
    }
    serde_json::from_slice(reply).map_err(|_| ReplyError::Json)
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
    fn a_reply_is_an_object_of_limited_size() {
        for reply in [&b""[..], b"[]", b"{", b"\xff"] {
            assert_eq!(secrets(reply), Err(ReplyError::Json));
            assert_eq!(certificates(reply, &[]), Err(ReplyError::Json));
        }
        assert_eq!(certificates(b"{}", &[]), Err(ReplyError::Json));
        let huge = vec![b' '; MAX_REPLY_BYTES + 1];
        assert_eq!(secrets(&huge), Err(ReplyError::TooLarge(huge.len())));
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
