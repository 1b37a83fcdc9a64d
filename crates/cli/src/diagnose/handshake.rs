//! Whether one side accepts the other: the path by [`crate::verify`], then revocation lists and names, in Envoy's order.

use mtls_watch_core::handshake::{Holder, Reason};
use mtls_watch_core::terms::{Direction, Layer};
use mtls_watch_x509 as x509;
use mtls_watch_x509::chain::link;
use mtls_watch_x509::crl;
use mtls_watch_x509::describe::describe;
use mtls_watch_x509::spiffe;
use mtls_watch_x509::time::UnixTime;

use super::matcher::{Matched, Matcher, matches};
use super::target::{Anchors, Bundle, Chain, Context, Role, Seen, Trust, Versions};
use crate::verify;

/// What a side says to the other's certificate.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    /// It accepts it: the path that it takes, the leaf first, as DER. Empty: it does not look.
    Accepted(Vec<Vec<u8>>),
    Refused(Refused),
    /// It cannot be told: why.
    Unknown(String),
}

/// Why it refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) layer: Option<Layer>,
    /// Whose thing must be changed: the peer is the side that is refused.
    pub(super) holder: Holder,
    /// Whether it is about the names that the side asks for, and not about the chain.
    pub(super) by_name: bool,
    pub(super) detail: String,
}

impl Refused {
    fn new(reason: Reason, layer: Option<Layer>, detail: impl Into<String>) -> Self {
        Self {
            reason,
            layer,
            holder: reason.holder(),
            by_name: false,
            detail: detail.into(),
        }
    }
}

/// A handshake between a client and a server.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    /// What the server says to the client's certificate.
    pub(super) of_client: Decision,
    /// What the client says to the server's.
    pub(super) of_server: Decision,
}

impl Handshake {
    /// Whether it completes; `None`: it cannot be told.
    pub(super) const fn completes(&self) -> Option<bool> {
        match (&self.of_client, &self.of_server) {
            (Decision::Refused(_), _) | (_, Decision::Refused(_)) => Some(false),
            (Decision::Accepted(_), Decision::Accepted(_)) => Some(true),
            _ => None,
        }
    }
}

/// What two sides say to each other.
pub(super) fn between(client: &Context, server: &Context, now: UnixTime) -> Handshake {
    if !have_version_in_common(client, server) {
        let detail = format!(
            "the client speaks {}, the server {}",
            versions(client, 2),
            versions(server, 3)
        );
        let refused = Refused::new(Reason::ProtocolVersion, None, detail);
        return Handshake {
            of_client: Decision::Refused(refused.clone()),
            of_server: Decision::Refused(refused),
        };
    }
    Handshake {
        of_client: of_client(client, server, now),
        of_server: of_server(client, server, now),
    }
}

fn of_client(client: &Context, server: &Context, now: UnixTime) -> Decision {
    let trust = match &server.trust {
        Seen::Yes(trust) => trust,
        Seen::No(why) => return Decision::Unknown(format!("the server's trust bundle: {why}")),
    };
    let is_asked = server.requires_certificate || !matches!(trust.anchors, Anchors::Anyone);
    match &client.chain {
        _ if !is_asked => Decision::Accepted(Vec::new()),
        Seen::Yes(Some(chain)) => decide(chain, trust, Direction::Inbound, now),
        Seen::Yes(None) if server.requires_certificate => {
            let detail = "the server requires a certificate, and the client shows none";
            Decision::Refused(Refused::new(Reason::NoCertificate, None, detail))
        }
        Seen::Yes(None) => Decision::Accepted(Vec::new()),
        Seen::No(why) => Decision::Unknown(format!("the client's certificate: {why}")),
    }
}

fn of_server(client: &Context, server: &Context, now: UnixTime) -> Decision {
    let trust = match &client.trust {
        Seen::Yes(trust) => trust,
        Seen::No(why) => return Decision::Unknown(format!("the client's trust bundle: {why}")),
    };
    let decision = match &server.chain {
        Seen::Yes(Some(chain)) => decide(chain, trust, Direction::Outbound, now),
        Seen::Yes(None) => Decision::Unknown("the server shows no certificate".to_owned()),
        Seen::No(why) => Decision::Unknown(format!("the server's certificate: {why}")),
    };
    match decision {
        // What is refused is refused by the defaults, TLS 1.2.
        Decision::Refused(refused)
            if refused.reason == Reason::NoSharedCipher
                && client.versions != Versions::default() =>
        {
            Decision::Unknown(format!(
                "{}; this client has other TLS versions",
                refused.detail
            ))
        }
        decision => decision,
    }
}

/// Envoy's defaults: TLS 1.2 as a client, 1.2 and 1.3 as a server.
fn have_version_in_common(client: &Context, server: &Context) -> bool {
    let (client_range, server_range) = (range(client, 2), range(server, 3));
    client_range.0.max(server_range.0) <= client_range.1.min(server_range.1)
}

fn range(context: &Context, default_maximum: u8) -> (u8, u8) {
    let default_maximum = match context.role {
        Role::Either => 3,
        Role::Server | Role::Client => default_maximum,
    };
    let Versions { minimum, maximum } = context.versions;
    (minimum.unwrap_or(2), maximum.unwrap_or(default_maximum))
}

fn versions(context: &Context, default_maximum: u8) -> String {
    match range(context, default_maximum) {
        (minimum, maximum) if minimum == maximum => format!("TLS 1.{minimum} only"),
        (minimum, maximum) => format!("TLS 1.{minimum} to 1.{maximum}"),
    }
}

/// Whether a peer on that side, with this chain, is accepted.
pub(super) fn decide(
    chain: &Chain,
    trust: &Trust,
    direction: Direction,
    now: UnixTime,
) -> Decision {
    let decision = match &trust.anchors {
        Anchors::Anyone => Decision::Accepted(Vec::new()),
        Anchors::Bundle(bundle) => by_bundle(chain, bundle, direction, now),
        Anchors::TrustDomains(domains) => by_trust_domain(chain, domains, direction, now),
    };
    let decision = match decision {
        Decision::Accepted(path) => match revoked(&path, trust, now) {
            Some(refused) => Decision::Refused(refused),
            None => by_names(chain, &trust.matchers, path),
        },
        decision => decision,
    };
    with_reserve(decision, trust)
}

/// Path building alone: whether the bundle vouches for the chain.
pub(super) fn by_bundle(
    chain: &Chain,
    bundle: &Bundle,
    direction: Direction,
    now: UnixTime,
) -> Decision {
    match verify::verify(&chain.ders(), &bundle.ders(), direction, now) {
        Ok(path) => Decision::Accepted(path),
        Err(refusal) => {
            let is_self_signed = chain.leaf().is_some_and(x509::Certificate::is_self_signed);
            let reason = match refusal.reason {
                Reason::UnknownCa if refusal.depth == 0 && is_self_signed => Reason::SelfSigned,
                reason => reason,
            };
            Decision::Refused(Refused {
                reason,
                layer: Some(refusal.layer),
                holder: refusal.holder,
                by_name: false,
                detail: match (reason, top(chain)) {
                    (Reason::UnknownCa, Some(ca)) => {
                        format!("{}; its chain ends below {ca}", refusal.detail)
                    }
                    _ => refusal.detail,
                },
            })
        }
    }
}

/// The CA to which a chain leads: what its last link names as its issuer.
fn top(chain: &Chain) -> Option<String> {
    let facts = chain
        .certificates
        .iter()
        .filter_map(|it| it.read())
        .cloned();
    let members = link(facts.collect());
    let mut top = members.first()?;
    // Each step goes up, and a circle ends.
    for _ in &members {
        match top.issuer.and_then(|issuer| members.get(issuer)) {
            Some(issuer) => top = issuer,
            None => break,
        }
    }
    Some(top.certificate.issuer_ca().into_owned())
}

/// Envoy's SPIFFE validator. It does not look at extended key usages as the default one does.
fn by_trust_domain(
    chain: &Chain,
    domains: &[(String, std::rc::Rc<Bundle>)],
    direction: Direction,
    now: UnixTime,
) -> Decision {
    let Some(leaf) = chain.leaf() else {
        return Decision::Refused(Refused::new(
            Reason::MalformedCertificate,
            Some(Layer::Workload),
            "the leaf cannot be read",
        ));
    };
    let own = spiffe::trust_domain(&leaf.identity);
    let bundle = own.and_then(|own| domains.iter().find(|(domain, _)| domain == own));
    let Some((_, bundle)) = bundle else {
        let known: Vec<&str> = domains.iter().map(|(domain, _)| &**domain).collect();
        let detail = match own {
            Some(own) => format!(
                "there is no bundle for trust domain {own}, only for {}",
                known.join(", ")
            ),
            None => "it has no SPIFFE ID, and the validator asks for one".to_owned(),
        };
        return Decision::Refused(Refused {
            holder: Holder::Own,
            ..Refused::new(Reason::TrustDomainUnknown, Some(Layer::Workload), detail)
        });
    };
    match by_bundle(chain, bundle, direction, now) {
        Decision::Refused(refused)
            if matches!(
                refused.reason,
                Reason::ClientAuthMissing | Reason::ServerAuthMissing
            ) =>
        {
            Decision::Unknown(format!(
                "{}; the SPIFFE validator is not judged in this",
                refused.detail
            ))
        }
        decision => decision,
    }
}

/// A certificate of the path that is on a list, or of whose CA there is no list that holds: where there is one list,
/// Envoy asks for one of every CA of the path.
fn revoked(path: &[Vec<u8>], trust: &Trust, now: UnixTime) -> Option<Refused> {
    let looked_up = match (trust.lists.is_empty(), trust.lists_are_for_leaf) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => path.len(),
    };
    let mut looked_up = path.iter().take(looked_up).enumerate();
    looked_up.find_map(|(depth, der)| {
        let facts = x509::parse(der).ok()?;
        let layer = match depth {
            0 => Layer::Workload,
            _ if facts.is_self_issued() => Layer::RootCa,
            1 => Layer::IssuingCa,
            _ => Layer::IntermediateCa,
        };
        let refused = |holder, detail| {
            Some(Refused {
                holder,
                ..Refused::new(Reason::Revoked, Some(layer), detail)
            })
        };
        let ca = facts.issuer_ca();
        let mut lists = crl::in_force(&trust.lists, now).map(|placed| &placed.list);
        let Some(list) = lists.find(|list| list.is_of_issuer_of(&facts)) else {
            return refused(Holder::Own, format!("there is no revocation list of {ca}"));
        };
        if list.this_update > now {
            let detail = format!("the revocation list of {ca} is not valid yet");
            return refused(Holder::Own, detail);
        }
        if list.next_update.is_some_and(|end| now > end) {
            return refused(
                Holder::Own,
                format!("the revocation list of {ca} has expired"),
            );
        }
        match list.revokes(&facts) {
            true => refused(Holder::Peer, format!("{ca} has revoked it")),
            false => None,
        }
    })
}

fn by_names(chain: &Chain, matchers: &[Matcher], path: Vec<Vec<u8>>) -> Decision {
    let leaf = chain.certificates.first();
    let names = leaf.and_then(|leaf| describe(&leaf.der).ok());
    let names = names
        .map(|description| description.subject_alt_names)
        .unwrap_or_default();
    match matches(matchers, &names) {
        Matched::Yes => Decision::Accepted(path),
        Matched::Unknown(what) => Decision::Unknown(format!("{what} is not judged")),
        Matched::No => {
            let wanted: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
            let there = match names.is_empty() {
                true => "it has no names at all".to_owned(),
                false => format!("it has {}", names.join(", ")),
            };
            let detail = format!("expected is {}; {there}", wanted.join(" or "));
            Decision::Refused(Refused {
                by_name: true,
                ..Refused::new(Reason::NameMismatch, Some(Layer::Workload), detail)
            })
        }
    }
}

/// Settings that are not judged make an answer uncertain: those that ask for more a yes, those that ask for less a no.
fn with_reserve(decision: Decision, trust: &Trust) -> Decision {
    const LENIENT: [&str; 3] = [
        "allow_expired_certificate",
        "trust_chain_verification: ACCEPT_UNTRUSTED",
        "custom_validator_config",
    ];
    let (lenient, strict): (Vec<&str>, Vec<&str>) = trust
        .not_judged
        .iter()
        .partition(|setting| LENIENT.contains(setting));
    match decision {
        Decision::Refused(refused) if !lenient.is_empty() => Decision::Unknown(format!(
            "{}; but {} is set",
            refused.detail,
            lenient.join(", ")
        )),
        Decision::Accepted(_) if !strict.is_empty() => Decision::Unknown(format!(
            "{} is set, which is not judged here",
            strict.join(", ")
        )),
        Decision::Accepted(_) if lenient.contains(&"custom_validator_config") => {
            Decision::Unknown("custom_validator_config is set, which is not judged here".to_owned())
        }
        decision => decision,
    }
}
