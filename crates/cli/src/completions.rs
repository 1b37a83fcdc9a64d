//! `mtls-watch completions` and `mtls-watch man`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{Error, GOOD, Output};

/// Print the completions of a shell, to be put where it reads them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  mtls-watch completions bash > /etc/bash_completion.d/mtls-watch
  mtls-watch completions zsh > ~/.zfunc/_mtls-watch")]
pub(super) struct Arguments {
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual page (roff); of one command, if it is named.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  mtls-watch man | man -l -
  mtls-watch man inspect > mtls-watch-inspect.1")]
pub(super) struct Man {
    /// The command
    command: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Output {
    let mut script = Vec::new();
    let mut command = crate::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "mtls-watch", &mut script);
    Output::new(&String::from_utf8_lossy(&script), GOOD)
}

pub(super) fn man(arguments: &Man) -> Result<Output, Error> {
    let mut whole = crate::Arguments::command();
    whole.build();
    let command = match &arguments.command {
        None => whole,
        Some(name) => {
            let found = whole.find_subcommand(name).cloned();
            let found = found.ok_or_else(|| Error::Content(format!("no command {name:?}")))?;
            found.display_name(format!("mtls-watch-{name}"))
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Error::Content(error.to_string()))?;
    Ok(Output::new(&String::from_utf8_lossy(&page), GOOD))
}
