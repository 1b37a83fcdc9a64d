//! An Envoy, or a ztunnel, by its admin interface.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use mtls_watch_core::own::admin::{
    self, CERTIFICATES, CONTEXTS, CertificateKey, OwnCertificate, Role, SECRETS,
};
use serde_json::Value;

use super::{SourceError, file};
use crate::diagnose::counters::{self, Counters};
use crate::diagnose::dump::Dump;
use crate::diagnose::target::{Dated, Origin, Seen, Served, Target};

/// Asks for a path of the admin interface.
pub(super) type Get<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, SourceError>;

/// Reads a proxy.
///
/// # Errors
/// If nothing answers, or something else does.
pub(super) fn read(
    name: &str,
    get: Get<'_>,
    watch: Option<Duration>,
) -> Result<Target, SourceError> {
    let other = |why: &str| SourceError::Content(name.to_owned(), why.to_owned());
    match get("/server_info") {
        Ok(reply) if is_envoy(&reply) => envoy(name, get, watch),
        Ok(_) | Err(SourceError::Http(crate::http::HttpError::Status { .. })) => {
            // ztunnel has no such page.
            let dump = get("/config_dump")
                .map_err(|_| other("it answers, and is no admin interface of Envoy"))?;
            file::ztunnel(name, &dump)
                .ok_or_else(|| other("it answers, and is no admin interface of Envoy"))
        }
        Err(error) => Err(error),
    }
}

fn is_envoy(reply: &[u8]) -> bool {
    let info: Result<Value, _> = serde_json::from_slice(reply);
    info.is_ok_and(|info| info.get("version").is_some() && info.get("state").is_some())
}

fn envoy(name: &str, get: Get<'_>, watch: Option<Duration>) -> Result<Target, SourceError> {
    let secrets = get(SECRETS)?;
    let mut unseen = Vec::new();
    let mut parts = vec![secrets];
    for path in CONTEXTS {
        match get(path) {
            Ok(part) => parts.push(part),
            Err(error) => unseen.push(error.to_string()),
        }
    }
    let texts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let dump = Dump::read(&texts).map_err(|why| SourceError::Content(name.to_owned(), why))?;
    if dump.unreadable > 0 {
        unseen.push(format!(
            "{} entries of the config dump could not be read",
            dump.unreadable
        ));
    }
    let served = match get(CERTIFICATES) {
        Ok(reply) => served(&reply, texts.first().copied().unwrap_or_default(), &dump),
        Err(error) => Seen::No(error.to_string()),
    };
    let missing = dump.warming.iter().map(|name| {
        (
            format!("secret {name}"),
            "nobody has supplied it; its listeners and clusters wait for it".to_owned(),
        )
    });
    Ok(Target {
        name: name.to_owned(),
        origin: Origin::Admin,
        missing: missing.collect(),
        served,
        counters: counters(get, watch),
        unseen,
        contexts: dump.contexts,
    })
}

/// `/certs`, without what is known in full.
fn served(reply: &[u8], secrets: &[u8], dump: &Dump) -> Seen<Served> {
    let known = admin::secrets(secrets).unwrap_or_default();
    let Ok(certificates) = admin::certificates(reply, &known) else {
        return Seen::not("/certs: it cannot be read");
    };
    let inline: BTreeSet<CertificateKey> = dump.inline_keys();
    let mut found = Served::default();
    let whole = admin::certificates(reply, &[]).unwrap_or_default();
    for secret in whole.iter().filter(|secret| secret.role == Role::Chain) {
        found
            .leaves
            .extend(secret.certificates.iter().map(OwnCertificate::key));
    }
    for secret in &certificates {
        for certificate in &secret.certificates {
            let OwnCertificate::Dates(dates) = certificate else {
                continue;
            };
            if !inline.contains(&dates.key()) {
                found.dated.push(Dated {
                    place: secret.name.clone(),
                    is_leaf: secret.role == Role::Chain,
                    identity: dates.identity.clone(),
                    not_before: dates.not_before,
                    not_after: dates.not_after,
                });
            }
        }
    }
    Seen::Yes(found)
}

fn counters(get: Get<'_>, watch: Option<Duration>) -> Seen<Counters> {
    let ask = || -> Result<counters::Values, String> {
        let filter: String = counters::FILTER.bytes().map(encoded).collect();
        let reply = get(&format!("/stats?filter={filter}")).map_err(|error| error.to_string())?;
        let values = std::str::from_utf8(&reply).ok().and_then(counters::parse);
        values.ok_or_else(|| "/stats: not as Envoy writes it".to_owned())
    };
    let first = match ask() {
        Ok(values) => values,
        Err(why) => return Seen::No(why),
    };
    let Some(watch) = watch else {
        return Seen::Yes(Counters {
            values: first,
            before: None,
        });
    };
    thread::sleep(watch);
    match ask() {
        Ok(values) => Seen::Yes(Counters {
            values,
            before: Some((watch, first)),
        }),
        Err(why) => Seen::No(why),
    }
}

/// Percent-encoded, but for letters and digits.
fn encoded(byte: u8) -> String {
    match byte.is_ascii_alphanumeric() || byte == b'_' {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    }
}
