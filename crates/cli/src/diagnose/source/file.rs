//! Files, and what comes on standard input: dumps of Envoy and ztunnel, and all that `inspect` reads.

use std::rc::Rc;

use mtls_watch_x509 as x509;
use serde_json::Value;

use super::SourceError;
use crate::diagnose::dump::{self, Dump};
use crate::diagnose::target::{
    Anchors, Bundle, Certificate, Chain, Context, Origin, Role, Seen, Target, Trust, Versions,
};
use crate::input::{self, Group, Purpose};

/// Reads a file as a target.
///
/// # Errors
/// If there is no certificate in it.
pub(super) fn read(argument: &str, password: &str) -> Result<Target, SourceError> {
    let text = crate::read(argument).map_err(|error| SourceError::File(error.to_string()))?;
    let content = |why: String| SourceError::Content(argument.to_owned(), why);
    if dump::is_dump(&text) && !is_ztunnel(&text) {
        let dump = Dump::read(&[&text]).map_err(content)?;
        if dump.contexts.is_empty() && dump.warming.is_empty() {
            return Err(content(
                "the dump has neither secrets nor TLS contexts in it".to_owned(),
            ));
        }
        return Ok(of_dump(argument, dump));
    }
    if let Some(target) = ztunnel(argument, &text) {
        return Ok(target);
    }
    let groups = input::read(&text, password).map_err(|error| content(error.to_string()))?;
    Ok(of_groups(argument, groups))
}

/// The bundle of a file, as a context without a certificate.
///
/// # Errors
/// As [`read`].
pub(in crate::diagnose) fn bundle(file: &str, password: &str) -> Result<Context, SourceError> {
    let text = crate::read(file).map_err(|error| SourceError::File(error.to_string()))?;
    let groups = input::read(&text, password)
        .map_err(|error| SourceError::Content(file.to_owned(), error.to_string()))?;
    let has_bundle = groups.iter().any(|group| group.purpose == Purpose::Bundle);
    let groups = groups
        .into_iter()
        .filter(|group| !has_bundle || group.purpose == Purpose::Bundle);
    let certificates = groups
        .flat_map(|group| group.certificates)
        .map(Certificate::new);
    let bundle = Bundle {
        place: file.to_owned(),
        certificates: certificates.collect(),
    };
    Ok(dump::bundle_alone(file, Seen::Yes(trust(bundle))))
}

fn trust(bundle: Bundle) -> Trust {
    Trust {
        anchors: Anchors::Bundle(Rc::new(bundle)),
        matchers: Vec::new(),
        not_judged: Vec::new(),
        lists: Vec::new(),
        lists_are_for_leaf: false,
    }
}

fn target(name: &str, origin: Origin, contexts: Vec<Context>) -> Target {
    const A_FILE: &str = "a file has none: give the URL of the admin interface, or the pod";
    Target {
        name: name.to_owned(),
        origin,
        contexts,
        served: Seen::not(A_FILE),
        counters: Seen::not(A_FILE),
        missing: Vec::new(),
        unseen: Vec::new(),
    }
}

fn of_dump(name: &str, dump: Dump) -> Target {
    let missing = dump.warming.iter().map(|name| {
        (
            format!("secret {name}"),
            "nobody has supplied it; its listeners and clusters wait for it".to_owned(),
        )
    });
    let missing = missing.collect();
    let unseen = match dump.unreadable {
        0 => Vec::new(),
        unreadable => vec![format!(
            "{unreadable} entries of the config dump could not be read"
        )],
    };
    Target {
        missing,
        unseen,
        ..target(name, Origin::File, dump.contexts)
    }
}

/// What stands together in an object, such as `Secret shop/pay`, is one context.
fn of_groups(name: &str, groups: Vec<Group>) -> Target {
    let mut contexts: Vec<Context> = Vec::new();
    for group in groups {
        let place = group.place.clone().unwrap_or_else(|| name.to_owned());
        let object = match group.place {
            Some(_) => place
                .rsplit_once(' ')
                .map_or(place.as_str(), |(object, _)| object)
                .to_owned(),
            None => place.clone(),
        };
        let is_bundle = is_bundle(&group);
        let certificates: Vec<Certificate> = group
            .certificates
            .into_iter()
            .map(Certificate::new)
            .collect();
        let at = contexts
            .iter()
            .position(|context| context.places.contains(&object));
        let mut empty = empty(&object);
        let context = at.and_then(|at| contexts.get_mut(at)).unwrap_or(&mut empty);
        match is_bundle {
            true => {
                context.trust = Seen::Yes(trust(Bundle {
                    place,
                    certificates,
                }))
            }
            false => {
                context.chain = Seen::Yes(Some(Rc::new(Chain {
                    place,
                    certificates,
                })))
            }
        }
        if at.is_none() {
            contexts.push(empty);
        }
    }
    let origin = origin(&contexts);
    target(name, origin, contexts)
}

fn empty(object: &str) -> Context {
    Context {
        role: Role::Either,
        places: vec![object.to_owned()],
        chain: Seen::not("there is only a trust bundle in it"),
        trust: Seen::not("there is none in it: give one with --trusted"),
        requires_certificate: true,
        versions: Versions::default(),
    }
}

/// A Secret of Kubernetes, if it is one.
fn origin(contexts: &[Context]) -> Origin {
    let place = match contexts {
        [only] => only.places.first().map_or("", String::as_str),
        _ => "",
    };
    let names = place
        .strip_prefix("Secret ")
        .and_then(|names| names.split_once('/'));
    match names {
        Some((namespace, name)) => Origin::Secret(namespace.to_owned(), name.to_owned()),
        None => Origin::File,
    }
}

fn is_bundle(group: &Group) -> bool {
    match group.purpose {
        Purpose::Bundle => true,
        Purpose::Chain => false,
        Purpose::Unknown => {
            let mut all = group.certificates.iter();
            let is_ca = |der: &Result<Vec<u8>, String>| {
                let facts = der.as_ref().ok().and_then(|der| x509::parse(der).ok());
                facts.is_some_and(|facts| facts.is_ca || facts.is_old_root())
            };
            all.all(is_ca)
        }
    }
}

fn is_ztunnel(text: &[u8]) -> bool {
    let has = |key: &[u8]| text.windows(key.len()).any(|window| window == key);
    has(b"\"certChain\"") && has(b"\"identity\"")
}

/// ztunnel's dump, or `istioctl ztunnel-config certificates -o json`: every identity of the node.
pub(super) fn ztunnel(name: &str, text: &[u8]) -> Option<Target> {
    let dump: Value = serde_json::from_slice(text).ok()?;
    let list = dump.get("certificates").unwrap_or(&dump).as_array()?;
    let mut contexts = Vec::new();
    let mut missing = Vec::new();
    for entry in list {
        let identity = entry.get("identity")?.as_str()?;
        let place = format!("ztunnel {identity}");
        let chain = pems(entry.get("certChain").or(entry.get("cert_chain")));
        let roots = pems(entry.get("rootCerts").or(entry.get("root_certs")));
        // Older ones put the root last into the chain.
        let (chain, roots) = match (roots.is_empty(), chain.split_last()) {
            (true, Some((last, rest)))
                if !rest.is_empty()
                    && last.read().is_some_and(x509::Certificate::is_self_issued) =>
            {
                (rest.to_vec(), vec![last.clone()])
            }
            _ => (chain, roots),
        };
        if chain.is_empty() {
            let state = entry.get("state").map_or("no state".to_owned(), |state| {
                state
                    .as_str()
                    .map_or_else(|| state.to_string(), str::to_owned)
            });
            missing.push((
                place.clone(),
                format!("ztunnel has no certificate for it: {state}"),
            ));
            continue;
        }
        let mut context = empty(&place);
        context.chain = Seen::Yes(Some(Rc::new(Chain {
            place: place.clone(),
            certificates: chain,
        })));
        if !roots.is_empty() {
            context.trust = Seen::Yes(trust(Bundle {
                place,
                certificates: roots,
            }));
        }
        contexts.push(context);
    }
    (!contexts.is_empty() || !missing.is_empty()).then(|| Target {
        missing,
        ..target(name, Origin::Ztunnel, contexts)
    })
}

fn pems(list: Option<&Value>) -> Vec<Certificate> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    let texts = items.filter_map(|item| item.get("pem").and_then(Value::as_str));
    let ders = texts.flat_map(|text| x509::pem::certificates(text.as_bytes()).collect::<Vec<_>>());
    ders.map(|der| Certificate::new(der.map_err(|error| error.to_string())))
        .collect()
}
