//! `mtls-watch check-config`.

use mtls_watch_core::config::Config;

use crate::{Error, FOUND, GOOD, Outcome, read};

/// Check a plugin configuration: prints the message that Envoy would log.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The JSON of pluginConfig (Istio) or configuration (Envoy); - for standard input
    file: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    Ok(match Config::parse(&read(&arguments.file)?) {
        Ok(_) => Outcome {
            text: "configuration accepted".to_owned(),
            code: GOOD,
        },
        Err(error) => Outcome {
            text: format!("mtls-watch: configuration refused: {error}"),
            code: FOUND,
        },
    })
}
