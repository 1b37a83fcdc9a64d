//! What this proxy knows beside the text settles what that leaves open: the refused leaf, and the CAs.

use std::borrow::Cow;

use super::words::{limited, until};
use super::{Failure, Holder, Reason};
use crate::terms::Direction;
use crate::usage::RequiredUsages;
use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{Certificate, ExtendedKeyUsage};

/// What this proxy knows beside the text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The refused leaf, where Envoy shows it.
    pub leaf: Option<&'a Certificate>,
    /// The CAs of this proxy's trust bundle, if its hierarchy is read.
    pub bundle: &'a [Certificate],
    /// Other CAs that stand under them: of this proxy's own chain, and of peers.
    pub others: [&'a [Certificate]; 2],
    /// Names of the CAs that have signed accepted peers since the proxy started.
    pub accepted: &'a [String],
    /// The trust domain of this proxy's own certificate.
    pub trust_domain: Option<&'a str>,
    /// Names of the secrets that this proxy waits for, `', '` between them.
    pub missing_secrets: Option<&'a str>,
}

impl Known<'_> {
    fn cas(&self) -> impl Iterator<Item = &Certificate> {
        self.bundle.iter().chain(self.others.into_iter().flatten())
    }
}

/// Completes a failure of a peer on that side.
#[must_use]
pub fn settle(failure: Failure, known: &Known<'_>, direction: Direction, now: UnixTime) -> Failure {
    let Some(leaf) = known.leaf else {
        return match failure.reason {
            Reason::Expired | Reason::NotYetValid => dates_of_ca(failure, known, now),
            Reason::SecretMissing => missing_secret(failure, known),
            _ => failure,
        };
    };
    match failure.reason {
        Reason::VerifyFailed => unexplained(failure, leaf, known, direction, now),
        Reason::ClientAuthMissing | Reason::ServerAuthMissing => purpose(failure, leaf, direction),
        Reason::UnknownCa | Reason::SelfSigned => chain(failure, leaf, known),
        Reason::TrustDomainUnknown => trust_domain(failure, leaf, known),
        Reason::Expired | Reason::NotYetValid if !leaf_is_meant(&failure) => {
            dates_of_ca(failure, known, now)
        }
        Reason::Expired if now > leaf.not_after => Failure {
            hint: Cow::Owned(format!(
                "expired since {}: renew it, and find out why its rotation did not run",
                leaf.not_after
            )),
            ..failure
        },
        Reason::NotYetValid if now < leaf.not_before => Failure {
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
    known: &Known<'_>,
    direction: Direction,
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
        leaf_failure(Reason::of_purpose(direction))
    } else {
        return failure;
    };
    settle(found, known, direction, now)
}

/// Which CA is past its dates, and who holds it. Envoy gives the depth of the certificate and not the certificate: it
/// may have come with the peer or be one of the bundle, and an expired copy of a root stands beside its successor.
fn dates_of_ca(failure: Failure, known: &Known<'_>, now: UnixTime) -> Failure {
    let is_out = |ca: &Certificate| match failure.reason {
        Reason::Expired => now > ca.not_after,
        _ => now < ca.not_before,
    };
    let may_be_it = |ca: &Certificate| is_out(ca) && may_be_above(ca, &failure, known);
    let Some(ca) = known.bundle.iter().find(|ca| may_be_it(ca)) else {
        let sent = known.others.into_iter().flatten().find(|ca| may_be_it(ca));
        return Failure {
            layer: sent.map(|ca| layer_of_ca(ca, &failure)).or(failure.layer),
            ..failure
        };
    };
    let name = shorten(&ca.subject_ca());
    let has_twin = known
        .bundle
        .iter()
        .any(|other| !is_out(other) && is_twin(other, ca));
    let hint = match (failure.reason, has_twin) {
        (Reason::Expired, true) => format!(
            "'{name}' of this proxy's own trust bundle expired {}, and a valid copy of it stands beside: remove the expired copy",
            ca.not_after
        ),
        (Reason::Expired, false) => format!(
            "'{name}' of this proxy's own trust bundle expired {}: renew this CA, and replace it in the bundle",
            ca.not_after
        ),
        _ => format!(
            "'{name}' of this proxy's own trust bundle is valid from {} only: compare the clocks of issuer and proxy",
            ca.not_before
        ),
    };
    Failure {
        layer: Some(layer_of_ca(ca, &failure)),
        holder: Holder::Own,
        hint: Cow::Owned(hint),
        ..failure
    }
}

/// Whether a CA may stand where the failure is: above the leaf, as far as the leaf and the CAs are known; else a root
/// of the bundle, which a chain must lead to.
fn may_be_above(ca: &Certificate, failure: &Failure, known: &Known<'_>) -> bool {
    let Some(leaf) = known.leaf else {
        return ca.is_self_issued() && !leaf_is_meant(failure);
    };
    if leaf.names_as_issuer(ca) {
        return true;
    }
    let above: Vec<&Certificate> = known.cas().filter(|it| leaf.names_as_issuer(it)).collect();
    match failure.layer {
        Some(Layer::IssuingCa) => false,
        _ if above.is_empty() => ca.is_self_issued(),
        _ => leads_to(&above, ca, known),
    }
}

/// Whether one of the CAs leads to this one, by names and key identifiers.
fn leads_to(from: &[&Certificate], ca: &Certificate, known: &Known<'_>) -> bool {
    const MAX_PATH: usize = 8;
    let mut level: Vec<&Certificate> = from.to_vec();
    for _ in 0..MAX_PATH {
        if level
            .iter()
            .any(|it| !it.is_self_issued() && it.names_as_issuer(ca))
        {
            return true;
        }
        let next = known.cas().filter(|up| {
            let is_issuer = |it: &&Certificate| !it.is_self_issued() && it.names_as_issuer(up);
            level.iter().any(is_issuer)
        });
        level = next.collect();
    }
    false
}

/// Same name and same key: one CA, issued twice.
fn is_twin(one: &Certificate, other: &Certificate) -> bool {
    one.links.subject == other.links.subject
        && one.links.subject_key_id == other.links.subject_key_id
}

fn layer_of_ca(ca: &Certificate, failure: &Failure) -> Layer {
    match ca.is_self_issued() {
        true => Layer::RootCa,
        false => failure.layer.unwrap_or(Layer::IntermediateCa),
    }
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

/// Which CA is missing, as far as the leaf and what is known of the CAs tell. A CA is known that is in the bundle now, or
/// stands under it; where the hierarchy is not read, one that has signed an accepted peer.
fn chain(failure: Failure, leaf: &Certificate, known: &Known<'_>) -> Failure {
    if leaf.is_self_issued() {
        return Failure::new(Reason::SelfSigned, Some(Layer::Workload));
    }
    let missing = shorten(&leaf.issuer_ca());
    let (hint, holder) = match relation(leaf, known) {
        Relation::CannotSign => (
            format!(
                "'{missing}' is known here and may not sign certificates: reissue this CA with cA true and keyCertSign in keyUsage"
            ),
            Holder::Peer,
        ),
        Relation::Known => (
            format!(
                "certificates of '{missing}' are accepted when the chain is complete: send the intermediate CAs with the leaf, and check that each has cA true and keyCertSign, and that their root is in the trust bundle"
            ),
            Holder::Peer,
        ),
        Relation::Foreign(theirs, ours) => (
            format!(
                "the peer is of trust domain '{theirs}', this proxy of '{ours}', and '{missing}' is not in the trust bundle: federate the two if they are meant to trust each other, else find out why the peer connects here"
            ),
            Holder::Peer,
        ),
        Relation::Left => (
            format!(
                "'{missing}' has signed accepted certificates and is no longer in the trust bundle: the peer still has a certificate of the old CA; find out why its rotation (its agent) did not run, and restart it"
            ),
            Holder::Peer,
        ),
        Relation::Namesake(ours) => (
            format!(
                "'{}' is known here, '{missing}' is not: a new key under the same name. If its key identifier is that of your new CA: rotation out of order, add it to every trust bundle before issuing from it. If not, it is a stranger: anyone can use this name",
                shorten(&ours)
            ),
            Holder::Peer,
        ),
        Relation::Stranger => (
            format!(
                "'{missing}' signed the certificate, and no CA of this proxy's trust bundle signed it. If this CA is yours (compare its key identifier) add the missing CA to the bundle; if not, the refusal is right: have the peer use a certificate of a trusted CA"
            ),
            Holder::Peer,
        ),
    };
    Failure {
        reason: Reason::UnknownCa,
        holder,
        hint: Cow::Owned(hint),
        ..failure
    }
}

/// What the CA that signed a refused leaf is to this proxy.
enum Relation {
    /// Known, and not allowed to sign.
    CannotSign,
    /// Known: the chain to it is not complete.
    Known,
    /// Of another trust domain: its, and this proxy's.
    Foreign(String, String),
    /// It was accepted, and is no longer in the bundle.
    Left,
    /// A known CA has its name and another key.
    Namesake(String),
    Stranger,
}

fn relation(leaf: &Certificate, known: &Known<'_>) -> Relation {
    let mut issuers = known.cas().filter(|ca| leaf.names_as_issuer(ca)).peekable();
    if issuers.peek().is_some() {
        let may_sign =
            |ca: &Certificate| ca.is_ca && ca.key_usage.is_none_or(|usage| usage.cert_sign);
        return match issuers.any(may_sign) {
            true => Relation::Known,
            false => Relation::CannotSign,
        };
    }
    let missing = &*leaf.issuer_ca();
    let was_accepted = known.accepted.iter().any(|ca| ca == missing);
    let hierarchy_is_known = !known.bundle.is_empty();
    if was_accepted {
        return match hierarchy_is_known {
            true => Relation::Left,
            false => Relation::Known,
        };
    }
    if let (Some(theirs), Some(ours)) = (trust_domain_of(&leaf.identity), known.trust_domain)
        && theirs != ours
    {
        return Relation::Foreign(theirs.to_owned(), ours.to_owned());
    }
    if hierarchy_is_known {
        let namesake = known.cas().find(|ca| ca.links.subject == leaf.links.issuer);
        return namesake.map_or(Relation::Stranger, |ca| Relation::Namesake(ca.subject_ca()));
    }
    if !leaf.issuer_has_common_name() {
        return Relation::Stranger;
    }
    let name = |ca: &str| ca.rsplit_once(':').map(|(name, _)| name.to_owned());
    let namesake = known.accepted.iter().find(|ca| name(ca) == name(missing));
    namesake.map_or(Relation::Stranger, |ca| Relation::Namesake(ca.clone()))
}

/// The SPIFFE validator has no bundle for the peer's trust domain.
fn trust_domain(failure: Failure, leaf: &Certificate, known: &Known<'_>) -> Failure {
    let Some(theirs) = trust_domain_of(&leaf.identity) else {
        return Failure {
            hint: Cow::Borrowed(
                "the peer's certificate has no SPIFFE ID, and this proxy's validator takes no other: issue the peer an X.509-SVID",
            ),
            ..failure
        };
    };
    let ours = known.trust_domain.unwrap_or("another");
    Failure {
        hint: Cow::Owned(format!(
            "no trust bundle for trust domain '{theirs}' (this proxy is of '{ours}'): check its spelling; if it is meant to be trusted, federate it: add its bundle to trust_domains"
        )),
        ..failure
    }
}

/// Envoy does not tell which secret a connection waits for; its admin interface tells which were never supplied.
fn missing_secret(failure: Failure, known: &Known<'_>) -> Failure {
    const MAX_BYTES: usize = 160;
    let Some(names) = known.missing_secrets else {
        return failure;
    };
    Failure {
        hint: Cow::Owned(format!(
            "this proxy waits for '{}', which was never supplied: check the name, and the SDS server or the files that it reads",
            limited(names, MAX_BYTES)
        )),
        ..failure
    }
}

/// The trust domain of a SPIFFE ID, cut to what a log line takes.
fn trust_domain_of(identity: &str) -> Option<&str> {
    const MAX_BYTES: usize = 80;
    let rest = identity.strip_prefix("spiffe://")?;
    let (name, _) = until(rest, b"/");
    Some(limited(name, MAX_BYTES))
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
