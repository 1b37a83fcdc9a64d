//! `mtls-watch rotation-status`.
//!
//! The facts of the proxies ([`crate::mesh`]) give the gates ([`gate`], with [`reissue`], and what is [`refused`]), and they the
//! [`report`](mod@report). Only [`source`] reads anything.

mod gate;
mod refused;
mod reissue;
mod report;
mod source;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use mtls_watch_core::metrics::name::label_value;
use mtls_watch_x509::time::UnixTime;

use self::report::Report;
use self::source::Source;
use crate::clock::{duration, now, seconds};
use crate::http::{Access, Http};
use crate::mesh::ancestry::{DIGITS, Known};
use crate::mesh::bundle::Authority;
use crate::mesh::fleet::{Fleet, Rotation};
use crate::mesh::given;
use crate::mesh::proxy::{Proxy, Scrapes};
use crate::mesh::refusals::Refusals;
use crate::mesh::store::{self, Moment};
use crate::prometheus::Prometheus;
use crate::{Error, FOUND, GOOD, Output, watch};

/// Show which CA is trusted and which signs, in a fleet of proxies, and which step of a CA rotation is safe.
///
/// Reads the Prometheus text of proxies with the module and its "hierarchy". Prints proxies and CAs, the
/// state of each CA, and whether everything that is signed is trusted by every proxy (the cardinal rule).
/// With --old and --new also the gates of the rotation, docs/ca-rotation.md:
///
/// 1  the new CA is trusted by every proxy: it may sign
/// 2  whatever is signed now is trusted by every proxy (the cardinal rule)
/// 3  every proxy's own leaf has moved off the old CA
/// 4  the old CA has not been seen recently, on own leaves or on peers
/// 5  the old CA may be removed: gates 1 to 4 are open
///
/// States of a CA: prepared (trusted, signs nothing), active (signs), old (trusted or signing while a newer
/// CA of the rotation is active), retired (in no bundle, signs nothing), unseen (no series names it).
/// Without --old and --new, a newer CA is one of the same common name that is valid from later.
///
/// A CA's name is the value of the labels "ca" and "issuer", such as Root_CA:1f2e3d4c. Where a CA gets a new
/// certificate for its old key, --old and --new are the SHA-256 of the two certificates, or the value of the
/// label "certificate".
///
/// Which CA signed a leaf is known exactly. An issuing CA is rarely in a bundle: it is trusted through the
/// root above it. A root or an intermediate signs through the issuing CAs under it. Which ones these are is
/// known where a proxy's own leaf stands under a CA of its bundle, else from the certificates given with
/// --cas. Use --cas to get answers before the new CA signs, and for leaves that stand under no bundle. What is
/// unknown, or was read long ago, opens no gate.
///
/// A proxy can have several bundles. A rotation is judged by each that has, or had, one of the two CAs or a
/// CA above or below them; --bundle names others.
///
/// No gate says yes while a server refuses a proxy whose leaf is of a CA in question, or a proxy refuses
/// servers for an unknown CA. Such counters only ever go up: a proxy of which one is not 0 is scraped once
/// more after --observe, and of a file --before gives an earlier scrape. With one scrape, what was refused
/// at some time is unknown. Refused clients may be strangers: they are a warning.
///
/// Exit code 0: the gate is open (without a rotation: nothing is wrong); 1: it is not, or the cardinal rule
/// is broken; 2: unreadable or bad usage.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Look at this CA and those under it only; may be repeated
    #[arg(long = "ca", value_name = "NAME")]
    only: Vec<String>,
    /// The old CA, which will be removed: its name, or the SHA-256 of its certificate
    #[arg(long, value_name = "NAME", requires = "new")]
    old: Option<String>,
    /// The new CA: its name, or the SHA-256 of its certificate
    #[arg(long, value_name = "NAME", requires = "old")]
    new: Option<String>,
    /// Judge by this trust bundle only, the name of a secret such as ROOTCA; may be repeated
    #[arg(long = "bundle", value_name = "SECRET")]
    bundles: Vec<String>,
    /// The gate that decides the exit code; 5 if none is given
    #[arg(long, value_name = "1-5", requires = "old", value_parser = clap::value_parser!(u8).range(1..=5))]
    gate: Option<u8>,
    /// PEM with certificates of the CAs, old and new: shows which CA is under which; may be repeated
    #[arg(long, value_name = "FILE")]
    cas: Vec<String>,
    /// A CA that signed a peer's leaf within this time still signs
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    recent: Duration,
    /// What was read longer ago than this is unknown
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    stale: Duration,
    /// Scrape a proxy that has refused handshakes, or was refused, once more after this time
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    observe: Duration,
    /// An earlier scrape of a proxy, by its name: shows what was refused since; may be repeated
    #[arg(long, value_name = "[NAME=]FILE")]
    before: Vec<String>,
    /// Judge as of this time instead of now, such as 2026-11-22T01:25:18Z
    #[arg(long, value_name = "RFC3339")]
    at: Option<UnixTime>,
    /// How long to wait for each URL
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Take the metrics of all proxies from this Prometheus. Proxies that say the same are shown as one. Refused handshakes
    /// go on if there were some in the last 5 minutes, or in the time of --observe if that is longer
    #[arg(long, value_name = "URL", conflicts_with_all = ["sources", "before"])]
    prometheus: Option<String>,
    /// Look again and again, with this time between
    #[arg(long, value_name = "DURATION", requires = "prometheus", value_parser = duration)]
    watch: Option<Duration>,
    #[command(flatten)]
    access: Access,
    /// Metrics of one proxy each: a file, - for standard input, or a URL such as http://127.0.0.1:15000
    /// (/stats/prometheus is added where there is no path); NAME= in front names the proxy
    #[arg(required_unless_present = "prometheus", value_name = "[NAME=]FILE|URL")]
    sources: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn run(arguments: &Arguments) -> Result<Output, Error> {
    match arguments.watch {
        Some(interval) => watch::repeat(interval, || look(arguments)),
        None => look(arguments),
    }
}

fn look(arguments: &Arguments) -> Result<Output, Error> {
    let asked = asked(arguments)?;
    let only: Vec<String> = arguments.only.iter().map(|ca| ca_name(ca)).collect();
    let cas = given::read(&arguments.cas)?;
    let proxies = proxies(arguments)?;
    let now = arguments.at.unwrap_or_else(now);
    let fleet = Fleet {
        rotation: asked
            .map(|(old, new)| rotation(&old, &new, &proxies, &cas))
            .transpose()?,
        bundles: arguments.bundles.clone(),
        ..Fleet::new(proxies, &cas, now, seconds(arguments.recent))
    };
    let report = Report::new(&fleet, arguments.gate, &only);
    let text = match arguments.format {
        Format::Text => table::text(&report),
        Format::Json => serde_json::to_string_pretty(&report)
            .map_err(|error| Error::Content(error.to_string()))?,
    };
    let code = if report.passes { GOOD } else { FOUND };
    Ok(Output::new(&text, code))
}

fn proxies(arguments: &Arguments) -> Result<Vec<Proxy>, Error> {
    let moment = Moment {
        now: arguments.at.unwrap_or_else(now),
        recent: seconds(arguments.recent),
        stale: seconds(arguments.stale),
    };
    let Some(url) = &arguments.prometheus else {
        let scrapes = scrapes(arguments)?;
        let proxies = scrapes.iter();
        let proxies =
            proxies.map(|(name, scrapes)| Proxy::new(name, scrapes, moment.now, moment.stale));
        return Ok(proxies.collect());
    };
    let http = Http::new(&arguments.access, arguments.timeout)?;
    let store = store::read(&Prometheus::new(&http, url), arguments.observe, &moment)?;
    Ok(store.proxies(&moment))
}

/// What `--old` and `--new` mean.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Ca(String),
    /// The first digits of a certificate's SHA-256.
    Certificate(String),
}

impl Asked {
    fn certificate(&self) -> Option<String> {
        match self {
            Self::Ca(_) => None,
            Self::Certificate(digits) => Some(digits.clone()),
        }
    }
}

impl From<&str> for Asked {
    /// A SHA-256 in hex, with or without colons, or the beginning of one. A CA's name ends in `:` and digits.
    fn from(text: &str) -> Self {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let digits = digits.replace(':', "").to_ascii_lowercase();
        let is_whole = digits.len() == 64 || !text.contains(':') && digits.len() >= DIGITS;
        match is_whole && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Self::Certificate(digits.chars().take(DIGITS).collect()),
            false => Self::Ca(ca_name(text)),
        }
    }
}

fn asked(arguments: &Arguments) -> Result<Option<(Asked, Asked)>, Error> {
    let (Some(old), Some(new)) = (&arguments.old, &arguments.new) else {
        return Ok(None);
    };
    let (old, new) = (Asked::from(old.as_str()), Asked::from(new.as_str()));
    match (&old, &new) {
        (Asked::Ca(both) | Asked::Certificate(both), other) if *other == old => {
            Err(Error::Content(format!("--old and --new are both {both}")))
        }
        _ => Ok(Some((old, new))),
    }
}

fn rotation(old: &Asked, new: &Asked, proxies: &[Proxy], cas: &[Known]) -> Result<Rotation, Error> {
    let ca = |asked: &Asked| match asked {
        Asked::Ca(ca) => Some(ca.clone()),
        Asked::Certificate(digits) => Fleet::ca_of(proxies, cas, digits),
    };
    // A certificate that no bundle has yet, or any more, is taken for one of the other's CA.
    let (of_old, of_new) = (ca(old), ca(new));
    let authority = |asked: &Asked, ca: Option<&String>| match (ca, asked) {
        (Some(ca), asked) => Ok(Authority {
            ca: ca.clone(),
            certificate: asked.certificate(),
        }),
        (None, Asked::Ca(name) | Asked::Certificate(name)) => Err(Error::Content(format!(
            "{name}: no series and no --cas has a CA certificate with this SHA-256"
        ))),
    };
    let rotation = Rotation {
        old: authority(old, of_old.as_ref().or(of_new.as_ref()))?,
        new: authority(new, of_new.as_ref().or(of_old.as_ref()))?,
    };
    let by_certificate = rotation.old.certificate.is_some() && rotation.new.certificate.is_some();
    match rotation.is_reissue() && !by_certificate {
        true => Err(Error::Content(format!(
            "--old and --new are both {}: give the SHA-256 of each certificate",
            rotation.old.ca
        ))),
        false => Ok(rotation),
    }
}

/// A CA's name as it is in labels. Log lines have it with spaces.
fn ca_name(name: &str) -> String {
    label_value(name).into_owned()
}

/// What the proxies say, by their names, in the order of the command line.
fn scrapes(arguments: &Arguments) -> Result<Vec<(String, Scrapes)>, Error> {
    let sources = sources(&arguments.sources)?;
    let read = |source: &Source| source.read(arguments.timeout).map_err(Error::from);
    let mut before = BTreeMap::new();
    for source in self::sources(&arguments.before)? {
        if !sources.iter().any(|known| known.name == source.name) {
            let name = source.name;
            return Err(Error::Content(format!(
                "--before {name}: no proxy is called so"
            )));
        }
        before.insert(source.name.clone(), read(&source)?);
    }
    let mut scrapes = Vec::new();
    for source in &sources {
        let scrape = Scrapes {
            latest: read(source)?,
            earlier: before.remove(&source.name),
        };
        scrapes.push((source.name.clone(), scrape));
    }
    look_again(&sources, &mut scrapes, arguments)?;
    Ok(scrapes)
}

/// Scrapes those proxies once more of which one scrape does not tell whether handshakes are refused now.
fn look_again(
    sources: &[Source],
    scrapes: &mut [(String, Scrapes)],
    arguments: &Arguments,
) -> Result<(), Error> {
    let all = sources.iter().zip(scrapes);
    let in_doubt = all.filter(|(source, (_, scrapes))| {
        let refusals = Refusals::new(&scrapes.latest, scrapes.earlier.as_deref());
        source.is_live() && refusals.are_in_doubt()
    });
    let in_doubt: Vec<_> = in_doubt.collect();
    if in_doubt.is_empty() {
        return Ok(());
    }
    thread::sleep(arguments.observe);
    for (source, (_, scrapes)) in in_doubt {
        let latest = source.read(arguments.timeout)?;
        scrapes.earlier = Some(std::mem::replace(&mut scrapes.latest, latest));
    }
    Ok(())
}

fn sources(texts: &[String]) -> Result<Vec<Source>, Error> {
    let sources: Vec<Source> = texts.iter().map(|text| text.as_str().into()).collect();
    let mut names = BTreeSet::new();
    match sources.iter().find(|source| !names.insert(&source.name)) {
        Some(twice) => Err(Error::Content(format!("{}: given twice", twice.name))),
        None => Ok(sources),
    }
}
