//! What `inspect --format json` prints.

use mtls_watch_core::terms::Finding;
use mtls_watch_x509::describe::Description;
use serde::Serialize;

use super::judge::Judged;

/// All that was inspected.
#[derive(Serialize)]
pub(super) struct Report {
    /// The worst of all.
    pub(super) status: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) trust: Option<Trust>,
    pub(super) certificates: Vec<Entry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unreadable: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// Each chain and bundle by itself, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) sources: Vec<Source>,
}

/// A chain or a bundle of several.
#[derive(Serialize)]
pub(super) struct Source {
    pub(super) source: String,
    pub(super) status: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) trust: Option<Trust>,
}

/// Whether Envoy would accept the chain with the bundle of `--trusted`.
#[derive(Clone, Serialize)]
pub(super) struct Trust {
    pub(super) trusted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) untrusted: Option<Untrusted>,
}

/// Why it would not.
#[derive(Clone, Serialize)]
pub(super) struct Untrusted {
    pub(super) reason: &'static str,
    pub(super) layer: &'static str,
    pub(super) holder: &'static str,
    pub(super) detail: String,
}

/// A certificate.
#[derive(Serialize)]
pub(super) struct Entry {
    /// Where it stands, if there are several chains or bundles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    pub(super) layer: &'static str,
    pub(super) identity: String,
    pub(super) issuer: String,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) is_ca: bool,
    pub(super) public_key: Key,
    pub(super) findings: Vec<&'static str>,
    #[serde(flatten)]
    pub(super) description: Description,
}

#[derive(Serialize)]
pub(super) struct Key {
    pub(super) algorithm: &'static str,
    pub(super) bits: u32,
}

impl Entry {
    pub(super) fn new(judged: Judged, description: Description, source: Option<String>) -> Self {
        let Judged { member, findings } = judged;
        let certificate = &member.certificate;
        Self {
            source,
            layer: member.layer.as_str(),
            identity: member.identity().into_owned(),
            issuer: certificate.issuer_ca().into_owned(),
            not_before: certificate.not_before.0,
            not_after: certificate.not_after.0,
            is_ca: certificate.is_ca,
            public_key: Key {
                algorithm: certificate.public_key.algorithm.as_str(),
                bits: certificate.public_key.bits,
            },
            findings: findings.iter().map(Finding::as_str).collect(),
            description,
        }
    }
}
