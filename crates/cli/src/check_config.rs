//! `mtls-watch check-config`.

use mtls_watch_core::config::{Config, ConfigError, ConfigErrors};

use crate::{Error, FOUND, GOOD, Outcome, read};

/// Check a plugin configuration: prints every error that the module would log
///
/// The module itself loads with any configuration: what is wrong has its default there.
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
        Err(ConfigErrors(errors)) => {
            let lines: Vec<String> = errors.iter().map(ConfigError::log_line).collect();
            Outcome {
                text: lines.join("\n"),
                code: FOUND,
            }
        }
    })
}
