//! What is said of a configuration that is wrong.

use std::fmt;

/// Most errors that are told one by one. One more says how many there are besides.
pub const MAX_ERRORS: usize = 32;

/// Longest value quoted in an error, in characters.
const MAX_QUOTED: usize = 80;

/// One thing that is wrong in a configuration: where, what is written there, what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Path in the JSON, e.g. `thresholds.issuing_ca.warning[1]`; empty for the whole.
    pub path: String,
    /// The value as it is written, cut to a readable length.
    pub value: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The text is not JSON; the parser's words.
    NotJson(String),
    /// Another value is wanted; a description of it.
    Expected(String),
    /// There is no such key; the keys that there are.
    UnknownKey(String),
    /// The key is given before in the same object.
    KeyRepeated,
    /// The word is in the list before.
    WordRepeated,
    /// The critical threshold is greater than the warning threshold of the same kind.
    CriticalExceedsWarning,
    /// There are [`MAX_ERRORS`] errors, and this many more.
    More(usize),
}

impl ConfigError {
    pub(super) fn new(path: &str, value: &str, problem: Problem) -> Self {
        Self {
            path: path.to_owned(),
            value: quote(value),
            problem,
        }
    }

    /// The line in Envoy's log.
    #[must_use]
    pub fn log_line(&self) -> String {
        format!("mtls-watch: configuration error: {self}; the default applies")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.path.as_str() {
            "" => "configuration",
            path => path,
        };
        write!(f, "{path}: {}: ", self.value)?;
        match &self.problem {
            Problem::NotJson(reason) => write!(f, "not JSON: {reason}"),
            Problem::Expected(expected) => f.write_str(expected),
            Problem::UnknownKey(expected) => write!(f, "unknown key; {expected}"),
            Problem::KeyRepeated => f.write_str("the key is given twice"),
            Problem::WordRepeated => f.write_str("stands in the list twice"),
            Problem::CriticalExceedsWarning => {
                f.write_str("critical must not exceed warning; set both")
            }
            Problem::More(count) => write!(f, "{count} more errors"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong in a configuration, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Part of one log line, whatever is written.
pub(super) fn quote(text: &str) -> String {
    let mut characters = text.chars();
    let mut short: String = characters.by_ref().take(MAX_QUOTED).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short.replace(char::is_control, " ")
}
