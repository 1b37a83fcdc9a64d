//! Lines for people: 80 columns, colours on a terminal only.

use std::env;
use std::io::{self, IsTerminal as _};

/// Columns of a terminal.
pub(crate) const WIDTH: usize = 80;

/// Whether standard output takes colours: it is a terminal, and nobody has set `NO_COLOR` (<https://no-color.org>).
pub(crate) fn in_colour() -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !refused
}

/// Words behind a head, in lines of [`WIDTH`], the further ones indented. A word that is longer stays whole.
pub(crate) fn write_wrapped(text: &mut String, head: &str, indent: usize, words: &str) {
    let mut line = head.to_owned();
    let mut width = match head.is_empty() {
        true => 0,
        false => indent,
    };
    let mut is_first = true;
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if !is_first && width + 1 + length > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(indent);
            width = indent;
            is_first = true;
        }
        if !is_first {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += length;
        is_first = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// `1 proxy`, `2 proxies`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}
