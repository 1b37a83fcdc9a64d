//! JSON and YAML that other tools write: every text in it that is a certificate, with the place where it stands.
//!
//! Kubernetes' objects and Envoy's secrets are named as their tools name them. Of any other document every string is
//! looked at, and its place is its path.

use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::{Group, InputError, Purpose, der, pem};

type Certificates = Vec<Result<Vec<u8>, String>>;

/// The certificates of JSON.
///
/// # Errors
/// [`InputError`] if it is none, or has no certificate.
pub(super) fn read_json(input: &[u8], password: &str) -> Result<Vec<Group>, InputError> {
    let documents = serde_json::Deserializer::from_slice(input).into_iter::<Value>();
    let mut groups = Vec::new();
    let mut what = "the JSON";
    for document in documents {
        let document = document.map_err(|error| InputError::Json(error.to_string()))?;
        what = kind(&document).unwrap_or(what);
        if what == DATES_ONLY {
            return Err(InputError::DatesOnly);
        }
        collect(&document, "", password, &mut groups);
    }
    match groups.is_empty() {
        true => Err(InputError::Document(what)),
        false => Ok(groups),
    }
}

/// The certificates of YAML with several documents; `None` if it is plain text.
///
/// # Errors
/// [`InputError::Document`] for an object of Kubernetes without certificates.
pub(super) fn read_yaml(input: &[u8], password: &str) -> Result<Option<Vec<Group>>, InputError> {
    let Ok(text) = std::str::from_utf8(input) else {
        return Ok(None);
    };
    let mut groups = Vec::new();
    let mut what = None;
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let document = match Value::deserialize(document) {
            Ok(document @ (Value::Object(_) | Value::Array(_))) => document,
            // What `---` at the end of a file begins.
            Ok(Value::Null) => continue,
            // A chain with text around it is no YAML, or a single string.
            _ => return Ok(None),
        };
        what = what.or(kind(&document));
        collect(&document, "", password, &mut groups);
    }
    match (groups.is_empty(), what) {
        (false, _) => Ok(Some(groups)),
        (true, Some(what)) => Err(InputError::Document(what)),
        (true, None) => Ok(None),
    }
}

const DATES_ONLY: &str = "Envoy's /certs";

/// What kind of document it is, where it is known, for the message that it has no certificate.
fn kind(document: &Value) -> Option<&'static str> {
    let has = |key: &str| document.get(key).is_some();
    let kind = document.get("kind").and_then(Value::as_str);
    match kind {
        Some("Secret") => Some("the Secret"),
        Some("ConfigMap") => Some("the ConfigMap"),
        Some(_) => Some("the Kubernetes object"),
        None if has("dynamicActiveSecrets") || has("dynamic_active_secrets") => {
            Some("the secret dump of istioctl")
        }
        None if has("configs") => Some("the config dump"),
        None if document.pointer("/certificates/0/ca_cert").is_some()
            || document
                .pointer("/certificates/0/cert_chain/0/serial_number")
                .is_some() =>
        {
            Some(DATES_ONLY)
        }
        None => None,
    }
}

/// Adds what is below a value. `place` is where it stands, as the tool that wrote it would say.
fn collect(value: &Value, place: &str, password: &str, groups: &mut Vec<Group>) {
    match value {
        Value::Object(object) => of_object(object, place, password, groups),
        Value::Array(items) => {
            let pems: Vec<&str> = items.iter().filter_map(one_of_chain).collect();
            if !items.is_empty() && pems.len() == items.len() {
                let certificates = pems.iter().filter_map(|text| certificates(text, password));
                add(groups, place, certificates.flatten().collect());
                return;
            }
            for (index, item) in items.iter().enumerate() {
                collect(item, &below(place, &index.to_string()), password, groups);
            }
        }
        Value::String(text) => {
            let found = certificates(text, password);
            add(groups, place, found.unwrap_or_default());
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn of_object(object: &Map<String, Value>, place: &str, password: &str, groups: &mut Vec<Group>) {
    let place = match (object_name(object), secret_name(object)) {
        (Some(name), _) => name,
        (None, Some(name)) => name,
        (None, None) => place.to_owned(),
    };
    for (key, value) in object {
        // What kubectl applied last is the same once more.
        if key == "annotations" {
            continue;
        }
        collect(value, &below(&place, key), password, groups);
    }
}

/// `Secret shop/pay`, for an object of Kubernetes.
fn object_name(object: &Map<String, Value>) -> Option<String> {
    let kind = object.get("kind")?.as_str()?;
    let metadata = object.get("metadata")?;
    let name = metadata.get("name")?.as_str()?;
    Some(match metadata.get("namespace").and_then(Value::as_str) {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    })
}

/// `secret default`, for one of Envoy's, or `ztunnel spiffe://…`.
fn secret_name(object: &Map<String, Value>) -> Option<String> {
    if let Some(name) = object.get("name").and_then(Value::as_str)
        && object.contains_key("secret")
    {
        return Some(format!("secret {name}"));
    }
    let identity = object.get("identity").and_then(Value::as_str)?;
    ["certChain", "cert_chain"]
        .iter()
        .any(|key| object.contains_key(*key))
        .then(|| format!("ztunnel {identity}"))
}

/// Certificates that stand one by one: ztunnel has `[{"pem": …}]`, a SPIFFE bundle `{"x5c": [...]}`.
fn one_of_chain(item: &Value) -> Option<&str> {
    match item {
        Value::String(text) => Some(text),
        Value::Object(object) => object
            .get("pem")
            .or_else(|| object.get("x5c").and_then(|chain| chain.get(0)))
            .and_then(Value::as_str),
        _ => None,
    }
}

/// Keys that only hold what matters.
const PASSED_OVER: [&str; 14] = [
    "configs",
    "data",
    "stringData",
    "items",
    "secret",
    "inline_string",
    "inline_bytes",
    "inlineString",
    "inlineBytes",
    "dynamicActiveSecrets",
    "dynamic_active_secrets",
    "keys",
    "certificates",
    "pem",
];

fn below(place: &str, key: &str) -> String {
    let is_passed_over = PASSED_OVER.contains(&key);
    match (place.is_empty(), is_passed_over) {
        (_, true) => place.to_owned(),
        (true, false) => key.to_owned(),
        (false, false) => format!("{place} {key}"),
    }
}

fn add(groups: &mut Vec<Group>, place: &str, certificates: Certificates) {
    if certificates.is_empty() {
        return;
    }
    groups.push(Group {
        place: (!place.is_empty()).then(|| place.to_owned()),
        purpose: purpose(place),
        certificates,
    });
}

/// What the last word of a place says of its certificates.
fn purpose(place: &str) -> Purpose {
    let last = place.rsplit(' ').next().unwrap_or_default();
    match last {
        "tls.crt" | "cert-chain.pem" | "certificate_chain" | "certificateChain" | "certChain"
        | "cert_chain" | "x509_svid" => Purpose::Chain,
        "ca.crt" | "root-cert.pem" | "ca-cert.pem" | "trusted_ca" | "trustedCa"
        | "trust_bundle" | "trustBundle" | "rootCerts" | "root_certs" | "caBundle" | "bundle"
        | "bundle.crt" => Purpose::Bundle,
        _ => Purpose::Unknown,
    }
}

/// The certificates of one string: PEM, or base64 of PEM or of DER. `None` for any other text: of a Secret's keys
/// most are something else.
fn certificates(string: &str, password: &str) -> Option<Certificates> {
    let bytes = string.trim().as_bytes();
    let found = match pem::contains(bytes, b"-----BEGIN ") {
        true => pem::of_pem(bytes, password).ok()??,
        false => {
            let content = pem::decode_base64(bytes)?;
            match pem::contains(&content, b"-----BEGIN ") {
                true => pem::of_pem(&content, password).ok()??,
                false => der::read(&content, password).ok()??,
            }
        }
    };
    // Bytes that only begin like a certificate are passed over.
    let is_certificate = |found: &Result<Vec<u8>, String>| match found {
        Ok(der) => mtls_watch_x509::parse(der).is_ok(),
        Err(_) => false,
    };
    let is_pem = pem::contains(bytes, b"-----BEGIN ") || bytes.starts_with(b"LS0t");
    (is_pem || found.iter().any(is_certificate)).then_some(found)
}
