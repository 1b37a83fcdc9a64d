//! The commands of `mtls-watch`: the module's parser and policy, natively.
//!
//! Exit codes: 0 good, 1 something was found, 2 unreadable or bad usage.

// There is no command line in a proxy, though `cargo build --target wasm32-wasip1` comes here, too.
#![cfg(not(target_arch = "wasm32"))]
#![deny(missing_docs, unsafe_code, unreachable_pub)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable
    )
)]

mod ber;
mod check_config;
mod clock;
mod completions;
mod diagnose;
mod explain;
mod fleet;
mod http;
mod input;
mod inspect;
mod kubectl;
mod mark;
mod mesh;
mod printable;
mod prometheus;
mod relabel;
mod rotation_status;
mod stats_tags;
mod table;
mod terminal;
mod verify;
mod watch;

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::{env, fs};

use clap::{Parser, Subcommand};
use mtls_watch_core::config::Config;
use mtls_watch_core::terms::{Direction, Thresholds};

/// Nothing was found.
const GOOD: u8 = 0;
/// Something was found.
const FOUND: u8 = 1;
/// The input could not be read. Also clap's code for bad usage.
const UNREADABLE: u8 = 2;

/// Diagnose broken mTLS, inspect certificates, explain refused handshakes and check CA rotations, as the mtls-watch module does in Envoy.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Diagnose(diagnose::Arguments),
    Fleet(fleet::Arguments),
    Inspect(inspect::Arguments),
    Explain(explain::Arguments),
    StatsTags(stats_tags::Arguments),
    CheckConfig(check_config::Arguments),
    RotationStatus(rotation_status::Arguments),
    Completions(completions::Arguments),
    Man(completions::Man),
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

/// What a command writes, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// For standard output.
    pub text: String,
    /// For standard error.
    pub complaint: String,
    /// The exit code.
    pub code: u8,
}

impl Output {
    /// What a command found.
    fn new(text: &str, code: u8) -> Self {
        Self {
            text: format!("{}\n", text.trim_end()),
            complaint: String::new(),
            code,
        }
    }
}

/// Runs a command line, of which the first argument is the name of the program.
pub fn execute(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Output {
    match Arguments::try_parse_from(arguments) {
        Ok(arguments) => output(&arguments.command),
        Err(usage) => {
            let (text, complaint) = match usage.use_stderr() {
                true => (String::new(), usage.to_string()),
                false => (usage.to_string(), String::new()),
            };
            let code = u8::try_from(usage.exit_code()).unwrap_or(UNREADABLE);
            Output {
                text,
                complaint,
                code,
            }
        }
    }
}

fn output(command: &Command) -> Output {
    let output = match command {
        Command::Diagnose(arguments) => diagnose::run(arguments),
        Command::Fleet(arguments) => fleet::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::StatsTags(arguments) => Ok(stats_tags::run(arguments)),
        Command::CheckConfig(arguments) => check_config::run(arguments),
        Command::RotationStatus(arguments) => rotation_status::run(arguments),
        Command::Completions(arguments) => Ok(completions::run(arguments)),
        Command::Man(arguments) => completions::man(arguments),
    };
    match output {
        Ok(output) => output,
        Err(error) => Output {
            text: String::new(),
            complaint: format!("mtls-watch: {error}\n"),
            code: UNREADABLE,
        },
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let output = execute(env::args_os());
    let text = io::stdout().write_all(output.text.as_bytes());
    let complaint = io::stderr().write_all(output.complaint.as_bytes());
    match text.and(complaint) {
        Ok(()) => ExitCode::from(output.code),
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

impl From<http::HttpError> for Error {
    fn from(error: http::HttpError) -> Self {
        Self::Content(error.to_string())
    }
}

impl From<prometheus::QueryError> for Error {
    fn from(error: prometheus::QueryError) -> Self {
        Self::Content(error.to_string())
    }
}

/// The thresholds of a plugin configuration; without one, the module's own.
fn thresholds(config: Option<&str>) -> Result<Thresholds, Error> {
    let Some(file) = config else {
        return Ok(Thresholds::default());
    };
    let config = Config::parse(&read(file)?);
    let config = config.map_err(|errors| Error::Content(format!("{file}: {errors}")))?;
    Ok(config.thresholds)
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
