//! `mtls-watch fleet`.
use crate::{Error, Output};
/// Show.
#[derive(clap::Args)]
pub(super) struct Arguments {}
pub(super) fn run(_: &Arguments) -> Result<Output, Error> {
    Ok(Output::new("", 0))
}
