//! The refused certificate settles what the text leaves open.

use std::borrow::Cow;

use super::text::purpose_reason;
use super::{Failure, Reason};
use crate::terms::Direction;
use crate::usage::RequiredUsages;
use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{Certificate, ExtendedKeyUsage};

/// Completes a failure with what the refused leaf shows. `known_cas` are the names of the CAs whose
/// certificates this proxy has accepted before.
#[must_use]
pub fn settle(
    failure: Failure,
    leaf: &Certificate,
    direction: Direction,
    known_cas: &[String],
    now: UnixTime,
) -> Failure {
    match failure.reason {
        Reason::VerifyFailed => unexplained(failure, leaf, direction, known_cas, now),
        Reason::ClientAuthMissing | Reason::ServerAuthMissing => purpose(failure, leaf, direction),
        Reason::UnknownCa | Reason::SelfSigned => chain(failure, leaf, known_cas),
        Reason::Expired if leaf_is_meant(&failure) && now > leaf.not_after => Failure {
            hint: Cow::Owned(format!(
                "expired since {}: renew it, and find out why its rotation did not run",
                leaf.not_after
            )),
            ..failure
        },
        Reason::NotYetValid if leaf_is_meant(&failure) && now < leaf.not_before => Failure {
            hint: Cow::Owned(format!(
                "valid from {} only: compare the clocks of issuer and proxy",
                leaf.not_before
            )),
            ..failure
        },
        _ => failure,
    }
}

fn leaf_is_meant(failure: &Failure) -> bool {
    matches!(failure.layer, None | Some(Layer::Workload))
}

/// Envoy 1.36 says that verification failed, and no more: what is wrong with the leaf is the cause, as
/// far as it is wrong.
fn unexplained(
    failure: Failure,
    leaf: &Certificate,
    direction: Direction,
    known_cas: &[String],
    now: UnixTime,
) -> Failure {
    let leaf_failure = |reason| Failure::new(reason, Some(Layer::Workload));
    let found = if now > leaf.not_after {
        leaf_failure(Reason::Expired)
    } else if now < leaf.not_before {
        leaf_failure(Reason::NotYetValid)
    } else if leaf.is_self_issued() {
        leaf_failure(Reason::SelfSigned)
    } else if lacks_usage(leaf, direction) || !may_sign(leaf) {
        leaf_failure(purpose_reason(direction))
    } else {
        return failure;
    };
    settle(found, leaf, direction, known_cas, now)
}

/// BoringSSL has one text for an extended key usage without clientAuth (or serverAuth) and a key
/// usage without digitalSignature.
fn purpose(failure: Failure, leaf: &Certificate, direction: Direction) -> Failure {
    if !leaf_is_meant(&failure) {
        let usage = missing_usage(direction);
        return Failure {
            hint: Cow::Owned(format!(
                "a CA above the leaf has an extendedKeyUsage without {usage}: reissue the CA without extendedKeyUsage, or with {usage}"
            )),
            ..failure
        };
    }
    match leaf.extended_key_usage {
        Some(usages) if lacks_usage(leaf, direction) => Failure {
            hint: Cow::Owned(usage_hint(usages, direction)),
            ..failure
        },
        _ if !may_sign(leaf) => Failure {
            hint: Cow::Borrowed("add digitalSignature to keyUsage"),
            ..Failure::new(Reason::KeyUsage, Some(Layer::Workload))
        },
        _ => failure,
    }
}

fn usage_hint(usages: ExtendedKeyUsage, direction: Direction) -> String {
    let missing = missing_usage(direction);
    match (usages.server_auth, usages.client_auth) {
        (true, _) => {
            format!("certificate allows serverAuth only; add {missing} to extendedKeyUsage")
        }
        (_, true) => {
            format!("certificate allows clientAuth only; add {missing} to extendedKeyUsage")
        }
        _ => format!(
            "certificate allows neither serverAuth nor clientAuth (anyExtendedKeyUsage does not count); add {missing} to extendedKeyUsage"
        ),
    }
}

fn missing_usage(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "clientAuth",
        Direction::Outbound => "serverAuth",
    }
}

fn lacks_usage(leaf: &Certificate, direction: Direction) -> bool {
    let required = RequiredUsages::of_handshake(direction);
    leaf.extended_key_usage
        .is_some_and(|usage| !required.missing(usage).is_empty())
}

fn may_sign(leaf: &Certificate) -> bool {
    leaf.key_usage.is_none_or(|usage| usage.digital_signature)
}

/// Which CA is missing, as far as the leaf tells.
fn chain(failure: Failure, leaf: &Certificate, known_cas: &[String]) -> Failure {
    if leaf.is_self_issued() {
        return Failure::new(Reason::SelfSigned, Some(Layer::Workload));
    }
    let missing = &*leaf.issuer_ca();
    let common_name = |ca: &str| ca.rsplit_once(':').map(|(name, _)| name.to_owned());
    let same_name = known_cas
        .iter()
        .find(|known| common_name(known) == common_name(missing));
    let issuer = shorten(missing);
    let hint = if known_cas.iter().any(|known| known == missing) {
        format!(
            "certificates of '{issuer}' are accepted when the chain is complete: send the intermediate CAs with the leaf, and check that their root is in the trust bundle"
        )
    } else if let Some(known) = same_name {
        format!(
            "'{}' is known here, '{issuer}' is not: a new key under the same name: rotation out of order; add the new CA to every trust bundle before issuing from it",
            shorten(known)
        )
    } else {
        format!(
            "'{issuer}' signed the certificate, and no CA of this proxy's trust bundle signed it: add the missing CA to the bundle, or issue from a trusted one"
        )
    };
    Failure {
        reason: Reason::UnknownCa,
        hint: Cow::Owned(hint),
        ..failure
    }
}

/// A CA's name, as short as it can be without losing its key identifier.
fn shorten(ca: &str) -> String {
    const MAX_NAME_CHARACTERS: usize = 60;
    match ca.rsplit_once(':') {
        Some((name, key_id)) if name.chars().count() > MAX_NAME_CHARACTERS => {
            let name: String = name.chars().take(MAX_NAME_CHARACTERS).collect();
            format!("{name}...:{key_id}")
        }
        _ => ca.to_owned(),
    }
}
