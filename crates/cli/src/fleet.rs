//! `mtls-watch fleet`.
//!
//! What a Prometheus tells of all proxies ([`crate::mesh`]) becomes the [`census`]: which workloads stand
//! under which CA, and what breaks when it ends. That gives the [`report`](mod@report), and its [`text`](mod@text).

mod census;
mod domains;
mod report;
mod text;

use std::time::Duration;

use mtls_watch_core::metrics::name::label_value;
use mtls_watch_x509::time::UnixTime;

use self::report::Report;
use crate::clock::{duration, now, seconds};
use crate::http::{Access, Http};
use crate::mesh::fleet::Fleet;
use crate::mesh::given;
use crate::mesh::questions::Answers;
use crate::mesh::store::{self, Moment};
use crate::prometheus::{Prometheus, at_once};
use crate::terminal::in_colour;
use crate::{Error, Output, thresholds, watch};

/// Show every CA of a mesh: who stands under it, who trusts it, and what breaks when it ends. From a Prometheus.
///
/// Also the trust domains and who talks to whom across them, certificates by what is wrong with them, and proxies without
/// the module. A workload is a leaf's name; a proxy without "hierarchy" tells of its peers only.
///
/// Exit code 0: sound; 1: something is broken, or will be within the thresholds; 2: what decides could not be seen, or bad
/// usage.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The Prometheus that scrapes the proxies, or what speaks its HTTP API
    #[arg(long, value_name = "URL")]
    prometheus: String,
    /// Look at this CA only, the value of a label "ca" or "issuer", and name everyone
    #[arg(long, value_name = "NAME")]
    ca: Option<String>,
    /// PEM with certificates of CAs: shows which CA is under which; may be repeated
    #[arg(long, value_name = "FILE")]
    cas: Vec<String>,
    /// Look again and again, with this time between
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    watch: Option<Duration>,
    /// Who was met within this time is still called
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    recent: Duration,
    /// What was read longer ago than this is unknown
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    stale: Duration,
    /// Judge as of this time instead of now, such as 2026-11-22T01:25:18Z
    #[arg(long, value_name = "RFC3339")]
    at: Option<UnixTime>,
    /// Plugin configuration (JSON) with the thresholds to judge by
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
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
  mtls-watch fleet --prometheus http://127.0.0.1:9090
  mtls-watch fleet --prometheus http://127.0.0.1:9090 --ca Root_CA:0a0a0a0a
  mtls-watch fleet --prometheus http://127.0.0.1:9090 --at 2027-01-01T00:00:00Z
  mtls-watch fleet --prometheus http://127.0.0.1:9090 -o json
  mtls-watch fleet --prometheus https://prometheus.example.com --bearer-token-file token --ca-file ca.pem";

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
    let moment = Moment {
        now: arguments.at.unwrap_or_else(now),
        recent: seconds(arguments.recent),
        stale: seconds(arguments.stale),
    };
    let thresholds = thresholds(arguments.config.as_deref())?;
    let given = given::read(&arguments.cas)?;
    let http = Http::new(&arguments.access, arguments.timeout)?;
    let prometheus = Prometheus::new(&http, &arguments.prometheus);
    let (answers, store) = at_once(
        || Answers::ask(&prometheus),
        || store::read(&prometheus, Duration::ZERO, &moment),
    );
    let (answers, store) = (answers?, store?);
    let fleet = Fleet::new(store.proxies(&moment), &given, moment.now, moment.recent);
    let only = arguments.ca.as_deref().map(label_value);
    let report = Report::new(
        prometheus.url(),
        &fleet,
        &store,
        &answers,
        &thresholds,
        only.as_deref(),
    );
    let report = report.map_err(Error::Content)?;
    let text = match arguments.output {
        Format::Text => text::text(&report, in_colour()),
        Format::Json => serde_json::to_string_pretty(&report)
            .map_err(|error| Error::Content(error.to_string()))?,
    };
    Ok(Output::new(&text, report.result.code()))
}
