//! Log lines: logfmt, bounded, and safe to print whatever a peer put into its certificate.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher as _, Hash};
use std::rc::Rc;

use log::Level;
use sha2::{Digest as _, Sha256};

use crate::handshake::Failure;
use crate::hash::ById;
use crate::hash::{HashMap, Keyed};
use crate::source::read::Fingerprint;
use crate::terms::Source;
use crate::terms::{Direction, Finding, Status};
use mtls_watch_x509::Certificate;
use mtls_watch_x509::chain::{Layer, Member};
use mtls_watch_x509::describe;
use mtls_watch_x509::hex;
use mtls_watch_x509::time::{Seconds, UnixTime};

/// Longest value of a peer's in a log line, in bytes.
const MAX_VALUE_BYTES: usize = 200;
/// Longest hint: a sentence, in which a CA's name may stand.
const MAX_HINT_BYTES: usize = 400;
/// Different lines that are remembered so as not to be repeated.
const MAX_REMEMBERED: usize = 1024;
/// Lines per worker in a minute. More are counted, not written.
const MAX_LINES_A_MINUTE: u32 = 60;

/// A value of a peer's, quoted: control characters, quotes and backslashes escaped, cut at 200
/// bytes.
pub struct Quoted<'a>(pub &'a str);

/// A hint, quoted in the same way.
struct Hint<'a>(&'a str);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quoted(f, self.0, MAX_HINT_BYTES)
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quoted(f, self.0, MAX_VALUE_BYTES)
    }
}

/// Writes `text` in quotes, in at most `max_bytes` between them.
fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str, max_bytes: usize) -> fmt::Result {
    const CUT: &str = "...";
    let mut escaped = String::new();
    // How much of it there is room for if more follows.
    let mut start = 0;
    let mut end = "";
    for c in text.chars() {
        escape(c, &mut escaped);
        if escaped.len() > max_bytes {
            end = CUT;
            break;
        }
        if escaped.len() <= max_bytes.saturating_sub(CUT.len()) {
            start = escaped.len();
        }
    }
    let start = match end {
        "" => &escaped,
        _ => escaped.get(..start).unwrap_or_default(),
    };
    for part in ["\"", start, end, "\""] {
        f.write_str(part)?;
    }
    Ok(())
}

/// Adds a character as it may stand in a log line. Escaped are quotes, backslashes, control characters
/// (terminals act on them, lines break at them) and marks that reorder text.
fn escape(c: char, line: &mut String) {
    if c.is_control() || is_invisible(c) {
        line.extend(c.escape_unicode());
    } else {
        if matches!(c, '"' | '\\') {
            line.push('\\');
        }
        line.push(c);
    }
}

/// Whether a character changes the direction of writing, has no width, or ends a line, and is no control character:
/// with it one text can look like another (Unicode general categories Zl, Zp and Cf).
#[must_use]
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// A certificate that was refused, as a log line names it.
#[derive(Clone, Copy)]
pub struct Refused<'a> {
    /// Its facts.
    pub leaf: &'a Certificate,
    /// SHA-256 of its DER.
    pub fingerprint: &'a Fingerprint,
    /// What is shown of its identity; empty: nothing.
    pub identity: &'a str,
}

/// ` serial=… sha256=…`, by which the certificate is found at its issuer, in hex.
fn write_numbers(line: &mut String, serial: &[u8], fingerprint: Option<&Fingerprint>) {
    line.push_str(" serial=");
    line.push_str(&describe::serial(serial));
    if let Some(fingerprint) = fingerprint {
        line.push_str(" sha256=");
        hex::push(line, fingerprint);
    }
}

fn write_identity(line: &mut String, identity: &str) {
    if !identity.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(line, " identity={}", Quoted(identity));
    }
}

/// The line for a handshake that did not complete.
#[must_use]
pub fn failure_line(
    direction: Direction,
    failure: &Failure,
    refused: Option<Refused<'_>>,
    address: Option<&str>,
) -> String {
    let mut line = format!(
        "mtls-watch: handshake refused direction={} reason={} layer={} holder={}",
        direction.as_str(),
        failure.reason.as_str(),
        failure.layer_label(),
        failure.holder.as_str(),
    );
    if let Some(refused) = refused {
        let leaf = refused.leaf;
        write_identity(&mut line, refused.identity);
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            " issuer={} not_after={}",
            Quoted(&leaf.issuer_ca()),
            leaf.not_after
        );
        write_numbers(&mut line, &leaf.serial, Some(refused.fingerprint));
    }
    if let Some(address) = address {
        let _ = write!(line, " address={}", Quoted(address));
    }
    let _ = write!(line, " hint={}", Hint(&failure.hint));
    line
}

/// What is kept of a certificate that is judged: a peer writes into its names, and sends in its chain, what it
/// likes, and as many peers are kept as there are connections. So names have a limit here.
pub struct Named {
    /// The certificate's place.
    pub layer: Layer,
    /// Of a leaf what is shown of its identity, of a CA its name.
    pub identity: Box<str>,
    /// The CA that signed it.
    pub issuer: Box<str>,
    serial: Box<[u8]>,
    /// SHA-256 of its DER, where that is known.
    pub fingerprint: Option<Fingerprint>,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity, inclusive.
    pub not_after: UnixTime,
}

/// Longest SPIFFE ID in bytes (SPIFFE-ID, section 2.3).
const MAX_IDENTITY: usize = 2048;
/// Longest name of a CA in bytes: 64 characters (X.520) and the digits of its key, with room for accents.
const MAX_CA_NAME: usize = 128;
/// Longest serial number in bytes: 20 (RFC 5280, section 4.1.2.2), with room for those that do not care.
const MAX_SERIAL: usize = 32;

impl Named {
    /// Of that certificate, whose identity (or name) is shown so.
    #[must_use]
    pub fn new(member: &Member, identity: &str, fingerprint: Option<Fingerprint>) -> Self {
        let Member {
            certificate, layer, ..
        } = member;
        let limit = match layer {
            Layer::Workload => MAX_IDENTITY,
            _ => MAX_CA_NAME,
        };
        let serial = &*certificate.serial;
        Self {
            layer: *layer,
            identity: cut(identity, limit),
            issuer: cut(&certificate.issuer_ca(), MAX_CA_NAME),
            serial: serial.get(..MAX_SERIAL).unwrap_or(serial).into(),
            fingerprint,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        }
    }

    /// Whether both have one issuer and serial number.
    #[must_use]
    pub fn has_number_of(&self, other: &Named) -> bool {
        self.issuer == other.issuer && self.serial == other.serial
    }

    /// What to change, where the dates say more than the finding.
    fn hint(&self, finding: Finding, now: UnixTime) -> &'static str {
        /// Clocks that nobody has set differ by minutes.
        const SKEW: Seconds = Seconds::MINUTE.times(10);
        let is_reversed = self.not_after < self.not_before;
        let begins_soon = self.not_before.since(now) <= SKEW;
        match finding {
            Finding::Expired | Finding::NotYetValid if is_reversed => {
                Finding::ValidityReversed.hint()
            }
            Finding::NotYetValid if begins_soon => {
                "the clocks of issuer and proxy differ by minutes: set them, and have the issuer backdate not_before"
            }
            Finding::NotYetValid => {
                "it was issued for a later time: wait for not_before, or reissue it; clocks that differ so much break more than this"
            }
            _ => finding.hint(),
        }
    }
}

/// The text; what is longer is cut, and ends in `~` and the first 8 hex digits of the SHA-256 of the whole.
fn cut(text: &str, limit: usize) -> Box<str> {
    if text.len() <= limit {
        return text.into();
    }
    let end = text.floor_char_boundary(limit);
    let mut short = text.get(..end).unwrap_or_default().to_owned();
    short.push('~');
    let digest = Sha256::digest(text);
    hex::push(&mut short, digest.get(..4).unwrap_or(&digest));
    short.into()
}

/// What a finding's cure depends on, beside the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context<'a> {
    /// Nothing.
    None,
    /// The workload has presented a newer certificate since; how long the connection has been open.
    Superseded(Option<Seconds>),
    /// The certificate ends with the CA of that name, which signed it.
    EndsWithIssuer(&'a str),
}

impl Context<'_> {
    fn is_superseded(self) -> bool {
        matches!(self, Self::Superseded(_))
    }

    /// The field of the log line, with the space before it.
    fn field(self) -> String {
        match self {
            Self::Superseded(Some(age)) => format!(" connection_age={}s", age.gauge()),
            _ => String::new(),
        }
    }

    fn hint(self, named: &Named, finding: Finding, now: UnixTime) -> Cow<'static, str> {
        match self {
            Self::Superseded(_) => Finding::ConnectionOutlivesCertificate.hint().into(),
            Self::EndsWithIssuer(issuer) => {
                format!("ends with its issuer '{issuer}': renew that CA, then this certificate")
                    .into()
            }
            Self::None => named.hint(finding, now).into(),
        }
    }
}

/// What the filters of one VM have written lately: a finding that both of them see has one line.
#[derive(Default)]
pub struct Written {
    subjects: Keyed,
    at: RefCell<HashMap<u64, UnixTime, ById>>,
    minute: Cell<UnixTime>,
    lines: Cell<u32>,
    suppressed: Cell<u64>,
}

/// Writes log lines, each at most once in `log_repeat`, and not more than a few a second.
pub struct Reporter {
    repeat: Seconds,
    written: Rc<Written>,
}

impl Reporter {
    /// A line may come again after `repeat`.
    #[must_use]
    pub fn new(repeat: Seconds, written: Rc<Written>) -> Self {
        Self { repeat, written }
    }

    /// A finding of a certificate.
    pub fn finding(
        &self,
        now: UnixTime,
        direction: Direction,
        named: &Named,
        finding: Finding,
        context: Context<'_>,
    ) {
        let Named {
            layer,
            identity,
            issuer,
            serial,
            fingerprint,
            not_after,
            ..
        } = named;
        // Issuer and serial number should identify a certificate (RFC 5280, section 4.1.2.2), and do not always.
        let by_name = fingerprint.is_none().then_some((issuer, serial));
        let superseded = context.is_superseded();
        let subject = (direction, layer, finding, fingerprint, by_name, superseded);
        let level = match Status::of_finding(finding) >= Status::Critical {
            true => Level::Error,
            false => Level::Warn,
        };
        self.write(now, level, subject, || {
            let mut line = format!(
                "mtls-watch: certificate finding direction={} finding={} layer={}",
                direction.as_str(),
                finding.as_str(),
                layer.as_str(),
            );
            write_identity(&mut line, identity);
            let _ = write!(line, " issuer={} not_after={not_after}", Quoted(issuer));
            write_numbers(&mut line, serial, fingerprint.as_ref());
            let hint = context.hint(named, finding, now);
            let _ = write!(line, "{} hint={}", context.field(), Hint(&hint));
            line
        });
    }

    /// A certificate that could not be read.
    pub fn unreadable(
        &self,
        now: UnixTime,
        direction: Direction,
        layer: Layer,
        source: Source,
        cause: &dyn fmt::Display,
    ) {
        let cause = cause.to_string();
        self.write(
            now,
            Level::Warn,
            (direction, layer, source, &cause),
            || {
                format!(
                    "mtls-watch: certificate finding direction={} finding={} layer={} source={} cause={}",
                    direction.as_str(),
                    Finding::Unreadable.as_str(),
                    layer.as_str(),
                    source.as_str(),
                    Quoted(&cause),
                )
            },
        );
    }

    /// A handshake that did not complete: who, why, and what to change. Of a peer that showed no
    /// certificate the address is all there is.
    pub fn failure(
        &self,
        now: UnixTime,
        direction: Direction,
        failure: &Failure,
        refused: Option<Refused<'_>>,
        address: Option<&str>,
    ) {
        let level = match failure.reason.concerns_certificates() {
            true => Level::Error,
            false => Level::Warn,
        };
        let fingerprint = refused.map(|refused| refused.fingerprint);
        let host =
            address.map(|address| address.rsplit_once(':').map_or(address, |(host, _)| host));
        let subject = (
            direction,
            failure.layer,
            failure.holder,
            failure.reason,
            fingerprint,
            host,
        );
        self.write(now, level, subject, || {
            failure_line(direction, failure, refused, address)
        });
    }

    /// A request or connection that was refused because of `deny`.
    pub fn denied(&self, now: UnixTime, direction: Direction, what: &str, who: &str, why: &str) {
        self.write(now, Level::Warn, (direction, what, who, why), || {
            let mut line = format!("mtls-watch: {what} denied direction={}", direction.as_str());
            write_identity(&mut line, who);
            let _ = write!(line, " findings={}", Quoted(why));
            line
        });
    }

    /// Says how many lines were left out, once the minute in which that happened is over.
    pub fn tick(&self, now: UnixTime) {
        let suppressed = self.written.suppressed.get();
        if suppressed > 0 && now.since(self.written.minute.get()) >= Seconds::MINUTE {
            self.written.suppressed.set(0);
            log::warn!("mtls-watch: log lines suppressed count={suppressed}");
        }
    }

    fn write(
        &self,
        now: UnixTime,
        level: Level,
        subject: impl Hash,
        line: impl FnOnce() -> String,
    ) {
        if level > log::max_level() || !self.is_due(now, &subject) {
            return;
        }
        if self.has_budget(now) {
            log::log!(level, "{}", line());
        } else {
            self.written
                .suppressed
                .set(self.written.suppressed.get().saturating_add(1));
        }
    }

    /// Whether a line about this subject was not written within `repeat`; if so it counts as written.
    fn is_due(&self, now: UnixTime, subject: &impl Hash) -> bool {
        let key = self.written.subjects.hash_one(subject);
        let recent =
            |written: &UnixTime| (Seconds::ZERO..self.repeat).contains(&now.since(*written));
        let mut written = self.written.at.borrow_mut();
        if written.get(&key).is_some_and(recent) {
            return false;
        }
        if written.len() >= MAX_REMEMBERED {
            written.retain(|_, at| recent(at));
        }
        // With the memory full of recent lines, the budget alone limits.
        if written.len() < MAX_REMEMBERED {
            written.insert(key, now);
        }
        true
    }

    fn has_budget(&self, now: UnixTime) -> bool {
        if !(Seconds::ZERO..Seconds::MINUTE).contains(&now.since(self.written.minute.get())) {
            self.written.minute.set(now);
            self.written.lines.set(0);
        }
        let lines = self.written.lines.get();
        self.written.lines.set(lines.saturating_add(1));
        lines < MAX_LINES_A_MINUTE
    }
}
