//! A client and a server: which of their contexts meet, and whether they accept each other.

use mtls_watch_core::handshake::Reason;
use mtls_watch_x509::describe::describe;
use mtls_watch_x509::time::UnixTime;

use super::cure;
use super::handshake::{Decision, Handshake, Refused, between};
use super::line::{Line, Mark};
use super::matcher::{Matched, matches};
use super::target::{Chain, Context, Target};

/// A context of the client and one of the server.
pub(super) struct Pair<'a> {
    pub(super) client: &'a Context,
    pub(super) server: &'a Context,
    pub(super) handshake: Handshake,
}

impl Pair<'_> {
    /// Where they meet, for messages.
    pub(super) fn places(&self) -> (String, String) {
        (place(self.client), place(self.server))
    }

    /// What each side says.
    pub(super) fn lines(&self, client: &Target, server: &Target) -> Vec<Line> {
        vec![
            line(
                "the server",
                "the client",
                &self.handshake.of_client,
                client,
                server,
            ),
            line(
                "the client",
                "the server",
                &self.handshake.of_server,
                server,
                client,
            ),
        ]
    }
}

fn line(
    judge_name: &str,
    name: &str,
    decision: &Decision,
    refused: &Target,
    judge: &Target,
) -> Line {
    match decision {
        Decision::Accepted(_) => Line::new(Mark::Ok, format!("{judge_name} accepts {name}")),
        Decision::Unknown(why) => Line::new(
            Mark::Unseen,
            format!("whether {judge_name} accepts {name} is not known: {why}"),
        ),
        Decision::Refused(why) => {
            let text = format!(
                "{judge_name} refuses {name}: {}: {}",
                why.reason.as_str(),
                why.detail
            );
            let line = Line::new(Mark::Broken, text)
                .word(why.reason.as_str())
                .layer(why.layer);
            line.cure(cure::of_refusal(why, refused, judge))
        }
    }
}

/// The name of a context, of several the first.
pub(super) fn place(context: &Context) -> String {
    match &*context.places {
        [] => String::new(),
        [only] => only.clone(),
        [first, more @ ..] => format!("{first} and {} more", more.len()),
    }
}

/// All pairs that may meet. `is_chosen`: the contexts of the client are those that somebody has chosen.
pub(super) fn pairs<'a>(
    client: &'a Target,
    server: &'a Target,
    is_chosen: bool,
    now: UnixTime,
) -> Vec<Pair<'a>> {
    let servers: Vec<&Context> = server
        .contexts
        .iter()
        .filter(|context| context.role.is_server())
        .collect();
    let clients: Vec<&Context> = client
        .contexts
        .iter()
        .filter(|context| context.role.is_client())
        .collect();
    let clients = match is_chosen {
        true => clients,
        false => likely(clients, &servers),
    };
    let mut pairs = Vec::new();
    for client in clients {
        for server in &servers {
            pairs.push(Pair {
                client,
                server,
                handshake: between(client, server, now),
            });
        }
    }
    pairs
}

/// The clusters that lead to the server: those that ask for a name that it has. If there is none, a few of the others,
/// which show what they ask for.
fn likely<'a>(clients: Vec<&'a Context>, servers: &[&Context]) -> Vec<&'a Context> {
    const FEW: usize = 3;
    let chains: Vec<&Chain> = servers
        .iter()
        .filter_map(|it| it.chain.seen()?.as_deref())
        .collect();
    let asks_for = |client: &&&Context| {
        let Some(trust) = client.trust.seen() else {
            return false;
        };
        let has_name = |chain: &&Chain| {
            let leaf = chain.certificates.first();
            let names = leaf.and_then(|leaf| describe(&leaf.der).ok());
            let names = names.map(|it| it.subject_alt_names).unwrap_or_default();
            matches(&trust.matchers, &names) == Matched::Yes
        };
        chains.iter().any(has_name)
    };
    let (named, unnamed): (Vec<&Context>, Vec<&Context>) = clients
        .iter()
        .copied()
        .filter(|client| asks_for(&client))
        .partition(|client| {
            client
                .trust
                .seen()
                .is_some_and(|trust| !trust.matchers.is_empty())
        });
    match (named.is_empty(), unnamed.is_empty()) {
        (false, _) => named,
        (true, false) => unnamed,
        (true, true) => clients.into_iter().take(FEW).collect(),
    }
}

/// Whether a refusal is of the handshake itself, and belongs to no certificate that a step looks at.
pub(super) const fn is_of_handshake(refused: &Refused) -> bool {
    matches!(
        refused.reason,
        Reason::ProtocolVersion | Reason::NoCertificate
    )
}
