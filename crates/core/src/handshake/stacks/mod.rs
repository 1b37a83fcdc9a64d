//! What other TLS stacks say, for the texts that people paste.
//!
//! A line is read clause by clause: a phrase counts where a clause begins with it, so that words in host names,
//! names of programs and certificates decide nothing. Of what several clauses and lines say, the cause counts more
//! than the alert that it made the other side get, and that more than a connection that broke.

mod names;
mod phrases;

use std::borrow::Cow;

use super::envoy::{self, ALERT_OFFSET, SslError};
use super::words::{around, limited, same, strip, until};
use super::{Failure, Holder, Reason, alert, verification};
use crate::terms::Direction;
use mtls_watch_x509::chain::Layer;
use phrases::{ALERTS, NAMES, NSS_ALERTS, PHRASES, Phrase};

/// Longest text that is looked at: a stack trace has ten KB.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Longest part of a text that is repeated in a hint.
const MAX_QUOTE_BYTES: usize = 160;

/// How much a clause tells, the most first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// What is wrong.
    Cause,
    /// What is most likely wrong.
    Guess,
    /// That the other side has sent an alert.
    Alert,
    /// That verification, or the handshake, has failed.
    Vague,
    /// That the connection broke.
    Broken,
    /// Nothing that is known.
    Nothing,
}

struct Reading {
    rank: Rank,
    failure: Failure,
}

/// Reads what any stack says about a peer on that side: Envoy, and those that people meet beside it. Several lines are
/// taken together.
///
/// `None` if it is not about TLS: a refused or timed-out connection is no handshake.
#[must_use]
pub fn explain(text: &str, direction: Direction) -> Option<Failure> {
    let text = limited(text, MAX_TEXT_BYTES);
    let readings = text.lines().filter_map(|line| read(line, direction));
    let best = readings.min_by_key(|reading| reading.rank);
    let failure = best.map(|reading| reading.failure);
    failure.or_else(|| is_about_tls(text).then(|| unknown(text)))
}

fn read(line: &str, direction: Direction) -> Option<Reading> {
    if let Some(failure) = envoy::classify(line, direction) {
        let rank = match failure.reason {
            Reason::RejectedByPeer | Reason::CertificateRequired => Rank::Alert,
            Reason::VerifyFailed => Rank::Vague,
            Reason::Reset => Rank::Broken,
            Reason::Other => Rank::Nothing,
            _ => Rank::Cause,
        };
        return Some(Reading { rank, failure });
    }
    let mut best = sent_alert(line, direction);
    let mut rest = line;
    loop {
        let clause = rest.trim_start();
        let (words, mut after) = clause
            .split_at_checked(clause_end(clause))
            .unwrap_or((clause, ""));
        if words.len() >= MIN_CLAUSE {
            let reading = match received_alert(clause) {
                // Its name reads like a finding of this side's.
                Some((alert, after_name)) => {
                    after = after_name;
                    Some(alert)
                }
                None => of_clause(clause, direction),
            };
            let is_better = |it: &Reading| best.as_ref().is_none_or(|best| it.rank < best.rank);
            if reading.as_ref().is_some_and(is_better) {
                best = reading;
            }
        }
        match after.char_indices().nth(1) {
            Some((next, _)) => rest = after.get(next..).unwrap_or_default(),
            None => return best,
        }
    }
}

/// Where a clause ends: at punctuation, or at a dash between blanks.
fn clause_end(text: &str) -> usize {
    let next = text.bytes().skip(1).chain([b' ']);
    let ends =
        |(byte, next)| b":;,.!()[]{}'\"|=>".contains(&byte) || (byte == b'-' && next == b' ');
    text.bytes().zip(next).position(ends).unwrap_or(text.len())
}

/// Shortest clause that is looked at: `error`.
const MIN_CLAUSE: usize = 5;

fn of_clause(clause: &str, direction: Direction) -> Option<Reading> {
    error_code(clause, direction)
        .or_else(|| error_name(clause, direction))
        .or_else(|| outcome(clause, direction))
        .or_else(|| phrase_of(clause, direction))
}

/// Erlang says which side has sent an alert: `… generated SERVER ALERT: Fatal - Certificate Expired`.
fn sent_alert(line: &str, direction: Direction) -> Option<Reading> {
    let (before, rest) = around(line, " ALERT: Fatal - ")?;
    let (name, _) = until(rest, b",.;:\"'");
    let name = name.trim();
    let whose = before.rsplit(' ').nth(1);
    Some(match whose {
        Some("generated") => Reading {
            rank: match alert::sent(alert_number(name), direction).reason {
                Reason::VerifyFailed | Reason::NoSharedCipher => Rank::Vague,
                _ => Rank::Cause,
            },
            failure: alert::sent(alert_number(name), direction),
        },
        _ => Reading {
            rank: Rank::Alert,
            failure: received_by_name(name),
        },
    })
}

/// An alert of the other side, and what follows its name.
fn received_alert(clause: &str) -> Option<(Reading, &str)> {
    let rest = ALERTS.iter().find_map(|(_, words)| strip(clause, words))?;
    let rest = rest.trim_start_matches(['\'', '[', ' ']);
    let (name, after) = until(rest, b"([:,'\"].");
    let number = name.trim().parse::<u32>().ok();
    // mbedTLS: [<level>:<alert>].
    let second = rest.strip_prefix("2:").map(|rest| until(rest, b"]").0);
    let number = second.and_then(|digits| digits.parse().ok()).or(number);
    let failure = match number {
        Some(number) => alert::received(number),
        None => received_by_name(name.trim()),
    };
    let rank = Rank::Alert;
    Some((Reading { rank, failure }, after))
}

/// `error:<hexadecimal number>:<library>:<function>:<reason>` of OpenSSL and BoringSSL.
fn error_code(clause: &str, direction: Direction) -> Option<Reading> {
    let mut parts = strip(clause, "error:")?.splitn(4, ':');
    let number = u32::from_str_radix(parts.next()?, 16).ok()? & 0xFFF;
    let reason = parts.nth(2)?;
    if let Some(number) = number.checked_sub(ALERT_OFFSET) {
        return Some(Reading {
            rank: Rank::Alert,
            failure: alert::received(number),
        });
    }
    let (reason, _) = until(reason, b":(,|\")");
    ssl_error(reason.trim(), direction)
}

fn alert_number(name: &str) -> Option<u32> {
    let mut named = names::ALERTS
        .iter()
        .filter(|(_, names)| names.iter().any(|it| same(name, it)));
    named.next().map(|(number, _)| *number)
}

fn received_by_name(name: &str) -> Failure {
    alert_number(name).map_or_else(alert::unknown, alert::received)
}

fn result_named(code: &str) -> Option<&'static verification::Outcome> {
    let (_, words) = names::RESULTS.iter().find(|(it, _)| *it == code)?;
    verification::by_text(words)
}

fn ssl_error(name: &str, direction: Direction) -> Option<Reading> {
    let (number, _) = names::SSL_ERRORS.iter().find(|(_, it)| same(name, it))?;
    let error = SslError::numbered(*number)?;
    let failure = error.failure(direction);
    let rank = match failure.reason {
        Reason::VerifyFailed => Rank::Vague,
        _ => Rank::Cause,
    };
    Some(Reading { rank, failure })
}

/// A word in capitals: what libraries call their errors.
fn error_name(clause: &str, direction: Direction) -> Option<Reading> {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let end = clause.find(|c| !is_part(c)).unwrap_or(clause.len());
    let (name, rest) = clause.split_at_checked(end)?;
    if name.len() < MIN_NAME || rest.starts_with(|c: char| c.is_alphanumeric() || c == '-') {
        return None;
    }
    if let Some(phrase) = NAMES.iter().find(|phrase| phrase.text == name) {
        return Some(phrase.reading(direction));
    }
    if let Some((_, alert)) = NSS_ALERTS.iter().find(|(nss, _)| *nss == name) {
        return Some(Reading {
            rank: Rank::Alert,
            failure: received_by_name(alert),
        });
    }
    let code = name.strip_prefix("X509_V_ERR_").unwrap_or(name);
    if let Some(outcome) = result_named(code) {
        return Some(Reading {
            rank: Rank::Cause,
            failure: outcome.failure(None, direction),
        });
    }
    let name = ["ERR_SSL_", "SSL_R_"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    if let Some((_, alert)) = name.split_once("_ALERT_") {
        return Some(Reading {
            rank: Rank::Alert,
            failure: received_by_name(alert),
        });
    }
    ssl_error(name, direction)
}

/// Shortest name of an error: CERT_REVOKED has 12.
const MIN_NAME: usize = 9;

/// The words of X509_verify_cert_error_string, bare, or with what Envoy puts before them.
fn outcome(clause: &str, direction: Direction) -> Option<Reading> {
    if let Some(words) = strip(clause, envoy::VERIFIER) {
        let failure = envoy::detail(words.trim_end(), direction);
        let rank = match failure.reason {
            Reason::VerifyFailed => Rank::Vague,
            _ => Rank::Cause,
        };
        return Some(Reading { rank, failure });
    }
    let (outcome, rest) = verification::at_start(clause, strip)?;
    if !is_end(rest) || dates(clause).is_some() {
        return None;
    }
    Some(Reading {
        rank: Rank::Cause,
        failure: outcome.failure(None, direction),
    })
}

fn phrase_of(clause: &str, direction: Direction) -> Option<Reading> {
    let phrase = PHRASES.iter().find(|phrase| phrase.begins(clause))?;
    let mut reading = phrase.reading(direction);
    if let Some(reason) = dates(clause) {
        reading.failure = Failure::new(reason, None);
    }
    Some(reading)
}

/// Go has one text for both ends of validity: `… current time T is before T`.
fn dates(clause: &str) -> Option<Reason> {
    let rest = strip(clause, "certificate has expired or is not yet valid")?;
    let time = strip(rest, ": current time ")?;
    let (_, time) = until(time, b" ");
    Some(match strip(time, " is before ") {
        Some(_) => Reason::NotYetValid,
        None => Reason::Expired,
    })
}

fn is_end(rest: &str) -> bool {
    !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-')
}

impl Phrase {
    fn begins(&self, clause: &str) -> bool {
        // A single word is an identifier: rustls' `Expired` is not the first word of a sentence.
        let rest = match self.text.contains(' ') {
            true => strip(clause, self.text),
            false => clause.strip_prefix(self.text),
        };
        let open = self.text.ends_with([' ', '\'']);
        rest.is_some_and(|rest| open || is_end(rest))
    }

    fn reading(&self, direction: Direction) -> Reading {
        let reason = self.reason.unwrap_or(Reason::of_purpose(direction));
        // Names are those of the leaf, and so is a signature by itself.
        let of_leaf = matches!(reason, Reason::NameMismatch | Reason::SelfSigned);
        let layer = self.layer.or(of_leaf.then_some(Layer::Workload));
        let hint = self.hint.unwrap_or(reason.hint_towards(direction));
        Reading {
            rank: self.rank,
            failure: Failure {
                hint: Cow::Borrowed(hint),
                ..Failure::new(reason, layer)
            },
        }
    }
}

fn is_about_tls(text: &str) -> bool {
    let is_word = |word: &str| {
        ["tls", "ssl", "x509", "certificate", "handshake"]
            .iter()
            .any(|known| strip(word, known).is_some())
    };
    text.split(|c: char| !c.is_alphanumeric()).any(is_word)
}

/// A text that nobody knows goes into the hint as it is.
fn unknown(text: &str) -> Failure {
    let line = text.lines().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or_default().trim();
    Failure {
        holder: Holder::None,
        hint: Cow::Owned(format!(
            "no text that is known here; its own words: {}",
            limited(line, MAX_QUOTE_BYTES)
        )),
        ..Failure::new(Reason::Other, None)
    }
}

/// Every phrase that is known, for the documentation: who says it, its words, and the reason that they give; of a
/// missing usage that of a client.
pub fn phrases() -> impl Iterator<Item = (&'static str, &'static str, Reason)> {
    let all = PHRASES.iter().chain(NAMES);
    all.map(|phrase| {
        let reason = phrase
            .reason
            .unwrap_or(Reason::of_purpose(Direction::Inbound));
        (phrase.stack, phrase.text, reason)
    })
}
