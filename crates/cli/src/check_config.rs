//! `mtls-watch check-config`.

use mtls_watch_core::config::Config;

use crate::{Error, FOUND, GOOD, Output, read};

/// Check a plugin configuration: prints the message that Envoy would log.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The JSON of pluginConfig (Istio) or configuration (Envoy); - for standard input
    file: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<Output, Error> {
    Ok(match Config::parse(&read(&arguments.file)?) {
        Ok(_) => Output::new("configuration accepted", GOOD),
        Err(error) => Output::new(
            &format!("mtls-watch: configuration refused: {error}"),
            FOUND,
        ),
    })
}
