//! `mtls-watch check-config`.

use mtls_watch_core::config::{Config, ConfigError, ConfigErrors};

use crate::{Error, FOUND, GOOD, Output, read};

/// Check a plugin configuration: prints every error that the module would log
///
/// The module itself loads with any configuration: what is wrong has its default there.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The JSON of pluginConfig (Istio) or configuration (Envoy); - for standard input
    file: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<Output, Error> {
    Ok(match Config::parse(&read(&arguments.file)?) {
        Ok(_) => Output::new("configuration accepted", GOOD),
        Err(ConfigErrors(errors)) => {
            let lines: Vec<String> = errors.iter().map(ConfigError::log_line).collect();
            Output::new(&lines.join("\n"), FOUND)
        }
    })
}
