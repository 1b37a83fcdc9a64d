//! What a scenario is, and what is to be said of it.

use anyhow::Result;
use testbed::Sample;
use testbed::servers::Step;

use crate::materials::{Materials, Shown};
use crate::programs::{Client, Server, Stack};

/// Major and minor version of an Envoy.
pub type Release = (u32, u32);

/// A proxy that scenarios share.
#[derive(Clone, Copy)]
pub struct Setup {
    pub name: &'static str,
    /// Makes the sample; proxies of one setup differ in ports only.
    pub sample: fn(&Materials) -> Result<Sample>,
    /// Whether clients come to it. Otherwise it connects to servers.
    pub is_inbound: bool,
}

impl Setup {
    /// What tells it from all others.
    pub fn key(&self) -> String {
        let direction = if self.is_inbound {
            "inbound"
        } else {
            "outbound"
        };
        format!("{direction}, {}", self.name)
    }
}

/// One handshake, or several of a kind.
pub struct Scenario {
    pub setup: Setup,
    pub name: String,
    pub peer: Peer,
    pub truth: Truth,
    /// How many connections are refused, if they are; 0: at least one.
    pub times: u32,
}

/// Who is on the other side.
pub enum Peer {
    /// A client of the proxy.
    Client(Client),
    /// Clients that do something else with the proxy's port.
    Clients(&'static [Stack], fn(u16, &Materials) -> Result<()>),
    /// A server behind the proxy.
    Server(Server),
    /// A server in this process that does these steps over TLS, with a certificate or without TLS.
    Script(Option<Shown>, &'static [Step]),
    /// Nobody listens.
    Nobody,
}

/// What has happened.
#[derive(Clone, Copy)]
pub enum Truth {
    /// Nothing is refused; whether it goes well for the peer is not the module's business.
    Sound,
    /// A handshake is refused.
    Refused(Verdict),
}

/// What is to be said of a refused handshake.
#[derive(Clone, Copy)]
pub struct Verdict {
    /// `holder reason layer`.
    pub says: &'static str,
    /// Words of the hint.
    pub hint: &'static str,
    /// Whose certificate it is, where it can be named.
    pub named: Option<Shown>,
    /// Where Envoy tells less, in the order in which they are looked at: what is said then; "" for nothing.
    pub limits: &'static [(Limit, &'static str)],
}

/// What Envoy does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Envoy 1.36, inbound.
    NoReason,
    /// Envoy 1.36, outbound.
    NoVerifierWords,
    /// Before Envoy 1.38, inbound.
    NoClientCertificate,
    /// Outbound.
    NoServerCertificate,
    /// The alert `handshake_failure`.
    VagueAlert,
    /// TLS 1.2, inbound.
    ResetBeforeTls13,
    /// A peer that judges after the handshake.
    JudgedLater,
}

impl Limit {
    pub const ALL: [Self; 7] = [
        Self::NoReason,
        Self::NoVerifierWords,
        Self::NoClientCertificate,
        Self::NoServerCertificate,
        Self::VagueAlert,
        Self::ResetBeforeTls13,
        Self::JudgedLater,
    ];

    /// How tables call it.
    pub fn letter(self) -> char {
        char::from(b'a' + self as u8)
    }

    fn applies(self, release: Release) -> bool {
        match self {
            Self::NoReason | Self::NoVerifierWords => release < (1, 37),
            Self::NoClientCertificate => release < (1, 38),
            _ => true,
        }
    }

    /// What is not told, and what follows, for operators.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoReason => {
                "Envoy 1.36 gives a network filter no reason: refused clients are not counted"
            }
            Self::NoVerifierWords => {
                "Envoy 1.36 gives none of the verifier's words: of a refused server it is known that verification failed, and no more"
            }
            Self::NoClientCertificate => {
                "before Envoy 1.38 the refused certificate cannot be read: a self-signed one is `unknown_ca`, keyUsage without digitalSignature (TLS 1.2) `client_auth_missing`"
            }
            Self::NoServerCertificate => {
                "no Envoy shows the certificate of a refused server: a self-signed one is `unknown_ca`"
            }
            Self::VagueAlert => {
                "in TLS 1.2 many servers answer a missing certificate with the alert `handshake_failure`, which may be about anything: the hint says so, and the holder is `none`"
            }
            Self::ResetBeforeTls13 => {
                "a client that resets in the middle of a TLS 1.2 handshake looks like a health check that connects and resets: it is not counted"
            }
            Self::JudgedLater => {
                "nginx and Node judge certificates, and curl names, when the handshake is over, and it has succeeded: as clients they close the connection; as a server nginx answers 400, and Node closes. To Envoy nothing is wrong. Of a Node server with TLS 1.3, requests are counted, and connections are not"
            }
        }
    }
}

impl Truth {
    /// What is to be said on this release, and why not more.
    pub fn on(&self, release: Release, is_inbound: bool) -> (String, Option<Limit>) {
        let Self::Refused(verdict) = self else {
            return (String::new(), None);
        };
        if is_inbound && Limit::NoReason.applies(release) {
            return (String::new(), Some(Limit::NoReason));
        }
        if !is_inbound
            && Limit::NoVerifierWords.applies(release)
            && let Some(said) = without_words(verdict.says)
        {
            return (said.to_owned(), Some(Limit::NoVerifierWords));
        }
        let limit = verdict.limits.iter().find(|(it, _)| it.applies(release));
        limit.map_or((verdict.says.to_owned(), None), |(limit, said)| {
            ((*said).to_owned(), Some(*limit))
        })
    }
}

/// What BoringSSL's error alone tells of a server that this proxy refuses; `None` if that is all there is.
fn without_words(says: &str) -> Option<&'static str> {
    let mut words = says.split(' ');
    let (holder, reason) = (words.next()?, words.next()?);
    let is_of_verifier = match reason {
        "key_usage" => !says.ends_with(" workload"),
        "revoked" => true,
        _ => holder == "peer",
    };
    is_of_verifier.then_some("none verify_failed none")
}

impl Scenario {
    /// The stacks that it takes.
    pub fn stacks(&self) -> Vec<Stack> {
        match &self.peer {
            Peer::Client(client) => vec![client.stack],
            Peer::Clients(stacks, _) => stacks.to_vec(),
            Peer::Server(server) => vec![server.stack],
            Peer::Script(..) | Peer::Nobody => vec![Stack::Rustls],
        }
    }

    /// What tells it from all others: the proxy, and what happens.
    pub fn key(&self) -> String {
        format!("{}: {}", self.setup.key(), self.name)
    }

    pub fn is_refusal(&self) -> bool {
        matches!(self.truth, Truth::Refused(_))
    }
}
