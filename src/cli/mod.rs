//! The commands. Exit codes: 0 good, 1 something was found, 2 unreadable or bad usage.

mod check_config;
mod explain;
mod inspect;
mod relabel;
mod rotation_status;
mod stats_tags;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mtls_watch::policy::Direction;

/// Nothing was found.
const GOOD: u8 = 0;
/// Something was found.
const FOUND: u8 = 1;
/// The input could not be read. Also clap's code for bad usage.
const UNREADABLE: u8 = 2;

/// Certificates of mTLS peers, judged as the mtls-watch module judges them in Envoy.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Arguments),
    Explain(explain::Arguments),
    StatsTags(stats_tags::Arguments),
    CheckConfig(check_config::Arguments),
    RotationStatus(rotation_status::Arguments),
}

/// On which side of the proxy a peer is.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Side {
    /// A client that connects to the proxy
    Inbound,
    /// A server that the proxy connects to
    Outbound,
}

impl From<Side> for Direction {
    fn from(side: Side) -> Self {
        match side {
            Side::Inbound => Self::Inbound,
            Side::Outbound => Self::Outbound,
        }
    }
}

/// What a command has to say, and how it ends.
struct Outcome {
    text: String,
    code: u8,
}

/// Runs the command that was asked for.
pub(crate) fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::StatsTags(arguments) => Ok(stats_tags::run(&arguments)),
        Command::CheckConfig(arguments) => check_config::run(&arguments),
        Command::RotationStatus(arguments) => rotation_status::run(&arguments),
    };
    let (written, code) = match outcome {
        Ok(outcome) => (
            writeln!(io::stdout(), "{}", outcome.text.trim_end()),
            outcome.code,
        ),
        Err(error) => (writeln!(io::stderr(), "mtls-watch: {error}"), UNREADABLE),
    };
    match written {
        Ok(()) => ExitCode::from(code),
        // The reader has gone: nobody is left to tell.
        Err(_) => ExitCode::from(UNREADABLE),
    }
}

/// Why a command has nothing to say.
#[derive(Debug)]
enum Error {
    /// The file cannot be read: its name, and why.
    File(String, io::Error),
    /// The content is not what the command reads.
    Content(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(name, error) => write!(f, "{name}: {error}"),
            Self::Content(reason) => f.write_str(reason),
        }
    }
}

/// The content of a file, or of standard input for `-`.
fn read(file: &str) -> Result<Vec<u8>, Error> {
    let content = match file {
        "-" => {
            let mut content = Vec::new();
            io::stdin().read_to_end(&mut content).map(|_| content)
        }
        _ => fs::read(file),
    };
    content.map_err(|error| Error::File(file.to_owned(), error))
}
