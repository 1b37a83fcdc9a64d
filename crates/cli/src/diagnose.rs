//! `mtls-watch diagnose`.
//!
//! A [`source`] reads what can be seen of a side into a [`target`]; [`handshake`] and [`pair`] decide who accepts whom;
//! the [`steps`] say what is wrong, in the order in which broken mTLS is debugged; [`report`](mod@report) draws the conclusion.

mod counters;
mod cure;
mod dump;
mod handshake;
mod line;
mod matcher;
mod pair;
mod report;
mod series;
mod source;
mod steps;
mod target;
mod text;

use std::rc::Rc;
use std::time::Duration;

use mtls_watch_core::terms::{Direction, Thresholds};
use mtls_watch_x509::spiffe::Svid;
use mtls_watch_x509::time::UnixTime;

use self::handshake::{Decision, by_bundle};
use self::pair::{Pair, pairs, place};
use self::report::{OfLine, OfPair, OfStep, OfTarget, Report};
use self::source::{Reader, SourceError, bundle};
use self::steps::{Judge, Judged, Subject};
use self::target::{Chain, Context, Role, Target};
use crate::clock::{duration, now};
use crate::http::{Access, Http};
use crate::kubectl::Cluster;
use crate::prometheus::Prometheus;
use crate::terminal::in_colour;
use crate::{Error, Output, UNREADABLE, read, thresholds};

/// Find out why mTLS fails: expiry, chain, names, key usage, Envoy's counters, and who must change what.
///
/// One target: what is wrong with it, and whether its own trust bundle accepts it. Two: a client and a server, and
/// whether they will accept each other. What cannot be seen is marked with ?, and why.
///
/// Exit code 0: sound; 1: something is broken, or will be within the thresholds; 2: what decides could not be seen, or
/// bad usage.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// pod/NAME, by kubectl; URL of an Envoy or ztunnel admin interface; a config dump of either, `istioctl proxy-config secret -o json`,
    /// `istioctl ztunnel-config certificates -o json`, a Secret (JSON or YAML), PEM and all that inspect reads; - for
    /// standard input
    #[arg(required_unless_present_any = ["selector", "prometheus"], value_name = "TARGET")]
    targets: Vec<String>,
    /// All pods that this selector finds, such as app=cart
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// All proxies of this Prometheus, as far as the module's series show them
    #[arg(long, value_name = "URL", conflicts_with_all = ["targets", "selector", "trusted", "cluster", "listener"])]
    prometheus: Option<String>,
    /// Port of the admin interface of pods
    #[arg(long, value_name = "PORT", default_value = "15000")]
    admin_port: u16,
    #[command(flatten)]
    cluster_access: Cluster,
    /// Trust bundle for targets that have none with them, in any form that is read
    #[arg(long, value_name = "BUNDLE")]
    trusted: Option<String>,
    /// Of two targets: the cluster of the client that leads to the server; without it, those that ask for its names
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Of two targets: the listener of the server; without it, each
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Look at the counters again after this time, and tell what fails now from what once failed; with --prometheus: what
    /// failed within this time, 5m if it is not given or less
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    watch: Option<Duration>,
    /// Judge as of this time instead of now, such as 2026-11-22T01:25:18Z
    #[arg(long, value_name = "RFC3339")]
    at: Option<UnixTime>,
    /// Plugin configuration (JSON) with the thresholds to judge by
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// File with the password of PKCS#12 files; without it, none is tried
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: Format,
    /// How long to wait for each reply
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    access: Access,
}

const EXAMPLES: &str = "\
Examples:
  mtls-watch diagnose -n shop pod/cart-5d9c7b-x2x4p
  mtls-watch diagnose -n shop pod/cart-5d9c7b-x2x4p pod/pay-6f7d8c-9k2lm
  mtls-watch diagnose -n shop --selector app=cart
  mtls-watch diagnose http://127.0.0.1:15000
  mtls-watch diagnose --watch 10s http://127.0.0.1:15000
  mtls-watch diagnose --at 2026-12-01T00:00:00Z http://127.0.0.1:15000
  mtls-watch diagnose http://10.0.0.1:15000 http://10.0.0.2:15000
  mtls-watch diagnose --prometheus http://127.0.0.1:9090
  mtls-watch diagnose --trusted root-cert.pem cert-chain.pem
  istioctl proxy-config secret deploy/cart -o json | mtls-watch diagnose -
  kubectl get secret -n shop pay-tls -o json | mtls-watch diagnose -";

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn run(arguments: &Arguments) -> Result<Output, Error> {
    let now = arguments.at.unwrap_or_else(now);
    let thresholds = thresholds(arguments.config.as_deref())?;
    if let Some(url) = &arguments.prometheus {
        let http = Http::new(&arguments.access, arguments.timeout)?;
        let prometheus = Prometheus::new(&http, url);
        let report = series::report(&prometheus, arguments.watch, &thresholds, now)?;
        return Ok(Output::new(
            &written(&report, arguments.output)?,
            report.result.code(),
        ));
    }
    let (mut targets, errors) = targets(arguments)?;
    if let [client, server] = &mut *targets {
        select(client, "cluster", arguments.cluster.as_deref())?;
        select(server, "listener", arguments.listener.as_deref())?;
    }
    let report = report(&targets, arguments, &thresholds, now);
    let text = written(&report, arguments.output)?;
    let code = match report.result {
        _ if !errors.is_empty() => UNREADABLE,
        outcome => outcome.code(),
    };
    let complaint = errors.iter().map(|error| format!("mtls-watch: {error}\n"));
    Ok(Output {
        complaint: complaint.collect(),
        ..Output::new(&text, code)
    })
}

fn written(report: &Report, format: Format) -> Result<String, Error> {
    match format {
        Format::Text => Ok(text::text(report, in_colour())),
        Format::Json => {
            serde_json::to_string_pretty(report).map_err(|error| Error::Content(error.to_string()))
        }
    }
}

/// Leaves of a target the context that is wanted.
fn select(target: &mut Target, kind: &str, name: Option<&str>) -> Result<(), Error> {
    let Some(name) = name else { return Ok(()) };
    target
        .contexts
        .retain(|context| context.places.iter().any(|place| place == name));
    match target.contexts.is_empty() {
        true => Err(Error::Content(format!(
            "{}: there is no {kind} {name:?} with TLS in it",
            target.name
        ))),
        false => Ok(()),
    }
}

/// The targets that could be read, and why the others could not.
fn targets(arguments: &Arguments) -> Result<(Vec<Target>, Vec<SourceError>), Error> {
    let content = |error: &dyn std::fmt::Display| Error::Content(error.to_string());
    let password = match &arguments.password_file {
        Some(file) => String::from_utf8_lossy(&read(file)?)
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
        None => String::new(),
    };
    let http = Http::new(&arguments.access, arguments.timeout).map_err(|error| content(&error))?;
    let trusted = arguments
        .trusted
        .as_ref()
        .map(|file| bundle(file, &password));
    let trusted = trusted.transpose().map_err(|error| content(&error))?;
    let reader = Reader {
        http: &http,
        cluster: &arguments.cluster_access,
        admin_port: arguments.admin_port,
        limit: arguments.timeout,
        watch: arguments.watch,
        password: &password,
        trusted: trusted.as_ref(),
    };
    let (mut targets, mut errors) = (Vec::new(), Vec::new());
    let mut named = arguments.targets.clone();
    if let Some(selector) = &arguments.selector {
        named.extend(reader.pods(selector).map_err(|error| content(&error))?);
    }
    for argument in &named {
        match reader.read(argument) {
            Ok(target) => targets.push(target),
            Err(error) => errors.push(error),
        }
    }
    match targets.is_empty() {
        true => Err(errors.into_iter().next().map_or_else(
            || Error::Content("no target".to_owned()),
            |error| content(&error),
        )),
        false => Ok((targets, errors)),
    }
}

fn report(
    targets: &[Target],
    arguments: &Arguments,
    thresholds: &Thresholds,
    now: UnixTime,
) -> Report {
    let both = match targets {
        [client, server] => pairs(client, server, arguments.cluster.is_some(), now),
        _ => Vec::new(),
    };
    let (others_of_client, others_of_server) = match targets {
        [client, server] => (of_clients(&both, server), of_servers(&both, client)),
        _ => (Vec::new(), Vec::new()),
    };
    let mut others = [others_of_client, others_of_server].into_iter();
    let mut of_targets = Vec::new();
    for target in targets {
        let judged = match others.next().unwrap_or_default() {
            none if none.is_empty() => by_own(target, now),
            judged => judged,
        };
        let subject = Subject {
            target,
            judged,
            thresholds,
            now,
        };
        of_targets.push(OfTarget {
            target: target.name.clone(),
            identities: target
                .chains()
                .iter()
                .map(|chain| chain.name().to_owned())
                .collect(),
            steps: steps::all(&subject).iter().map(OfStep::from).collect(),
        });
    }
    let handshakes = match targets {
        [client, server] => both
            .iter()
            .map(|pair| of_pair(pair, client, server))
            .collect(),
        _ => Vec::new(),
    };
    Report::new(of_targets, handshakes, now)
}

fn of_pair(pair: &Pair<'_>, client: &Target, server: &Target) -> OfPair {
    let (cluster, listener) = pair.places();
    OfPair {
        client: client.name.clone(),
        server: server.name.clone(),
        cluster,
        listener,
        accepted: pair.handshake.completes(),
        lines: pair
            .lines(client, server)
            .iter()
            .map(OfLine::from)
            .collect(),
    }
}

/// What the server says of the client's chains.
fn of_clients<'a>(both: &[Pair<'_>], server: &'a Target) -> Vec<Judged<'a>> {
    let of_client = both.iter().filter_map(|pair| {
        let chain = pair.client.chain.seen()?.as_ref()?;
        other(chain, server, pair.server, &pair.handshake.of_client)
    });
    of_client.collect()
}

/// What the client says of the server's.
fn of_servers<'a>(both: &[Pair<'_>], client: &'a Target) -> Vec<Judged<'a>> {
    let of_server = both.iter().filter_map(|pair| {
        let chain = pair.server.chain.seen()?.as_ref()?;
        other(chain, client, pair.client, &pair.handshake.of_server)
    });
    of_server.collect()
}

fn other<'a>(
    chain: &Rc<Chain>,
    judge: &'a Target,
    context: &Context,
    decision: &Decision,
) -> Option<Judged<'a>> {
    if matches!(decision, Decision::Refused(refused) if pair::is_of_handshake(refused)) {
        return None;
    }
    Some(Judged {
        chain: Rc::clone(chain),
        by: Judge::Other(judge, place(context)),
        decision: decision.clone(),
    })
}

/// What the target's own bundles say of its own chains: peers of the same mesh have the same bundle.
fn by_own(target: &Target, now: UnixTime) -> Vec<Judged<'_>> {
    let mut judged: Vec<Judged<'_>> = Vec::new();
    for context in &target.contexts {
        let (Some(Some(chain)), Some(trust)) = (context.chain.seen(), context.trust.seen()) else {
            continue;
        };
        for bundle in trust.anchors.bundles() {
            let is_known = judged.iter().any(|known| {
                known.chain == *chain
                    && matches!(&known.by, Judge::Own(place) if *place == bundle.place)
            });
            if is_known {
                continue;
            }
            for direction in directions(context, chain) {
                judged.push(Judged {
                    chain: Rc::clone(chain),
                    by: Judge::Own(bundle.place.clone()),
                    decision: by_bundle(chain, bundle, direction, now),
                });
            }
        }
    }
    judged
}

/// On which sides peers meet a chain: a mesh workload's on both.
fn directions(context: &Context, chain: &Chain) -> Vec<Direction> {
    let is_workload = chain.leaf().is_some_and(|leaf| leaf.spiffe != Svid::No);
    match (is_workload, context.role) {
        (true, _) | (false, Role::Either) => vec![Direction::Inbound, Direction::Outbound],
        (false, Role::Client) => vec![Direction::Inbound],
        (false, Role::Server) => vec![Direction::Outbound],
    }
}
