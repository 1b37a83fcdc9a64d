//! What an operator has decided about findings and names.

use std::borrow::Cow;

use mtls_watch_x509::chain::Member;
use mtls_watch_x509::{hex, spiffe};
use sha2::{Digest as _, Sha256};
use strum::{IntoStaticStr, VariantArray};

use super::{Finding, Findings, Layer};

/// A finding that is known and accepted: it is counted, and has no other effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The finding.
    pub finding: Finding,
    /// Only of identities (of CAs: names), or other URI SANs, that begin so; empty: of all.
    pub identity_prefix: String,
    /// Only at that layer.
    pub layer: Option<Layer>,
}

impl Acceptance {
    /// The findings that are accepted of a certificate.
    #[must_use]
    pub fn of(accepted: &[Acceptance], member: &Member) -> Findings {
        if accepted.is_empty() {
            return Findings::empty();
        }
        let identity = member.identity();
        let uris = member.certificate.other_uris.iter().map(String::as_str);
        let names: Vec<&str> = [&*identity].into_iter().chain(uris).collect();
        Self::of_names(accepted, Some(member.layer), &names)
    }

    /// The same, of a certificate at that layer (`None`: of no certificate) with these names.
    #[must_use]
    #[inline(never)]
    pub fn of_names(accepted: &[Acceptance], layer: Option<Layer>, names: &[&str]) -> Findings {
        let fits = |it: &&Acceptance| {
            let prefix = it.identity_prefix.as_bytes();
            let mut names = names.iter().map(|name| name.as_bytes());
            (it.layer.is_none() || it.layer == layer) && names.any(|name| name.starts_with(prefix))
        };
        let fitting = accepted.iter().filter(fits);
        fitting.map(|it| it.finding).collect()
    }
}

/// How much of the identities of peers is shown: e-mail addresses and names are personal data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum IdentityForm {
    /// They are shown.
    #[default]
    Full,
    /// 16 hex digits of the SHA-256 stand for each; the trust domain of a SPIFFE ID stays.
    Hashed,
    /// They are not shown.
    Off,
}

impl IdentityForm {
    /// What is shown of an identity; empty: nothing.
    #[must_use]
    pub fn shown(self, identity: &str) -> Cow<'_, str> {
        match self {
            Self::Full => Cow::Borrowed(identity),
            Self::Hashed => Cow::Owned(hashed(identity)),
            Self::Off => Cow::Borrowed(""),
        }
    }
}

fn hashed(identity: &str) -> String {
    let mut text = match spiffe::trust_domain(identity) {
        Some(domain) => format!("spiffe://{domain}/"),
        None => String::new(),
    };
    let digest = Sha256::digest(identity);
    hex::push(&mut text, digest.get(..8).unwrap_or(&digest));
    text
}
