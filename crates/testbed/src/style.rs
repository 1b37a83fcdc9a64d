//! Colours in what the demo and the drill print.

use std::env;
use std::io::{IsTerminal, stdout};

/// Colours, where they are wanted.
#[derive(Clone, Copy)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// No colours.
    pub const PLAIN: Self = Self { coloured: false };
    /// Colours.
    pub const COLOURED: Self = Self { coloured: true };

    /// Coloured on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
    pub fn of_stdout() -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            coloured: stdout().is_terminal() && !unwanted,
        }
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Something good or bad.
    pub fn verdict(self, good: bool, text: &str) -> String {
        self.paint(if good { "32" } else { "31" }, text)
    }

    /// Text about a peer of that status (label value).
    pub fn status(self, status: &str, text: &str) -> String {
        match status {
            "ok" => self.paint("32", text),
            "warning" | "hbone" => self.paint("33", text),
            _ => self.paint("31", text),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self.coloured {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}
