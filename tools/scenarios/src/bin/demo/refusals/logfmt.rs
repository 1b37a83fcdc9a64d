//! The module's log lines: `mtls-watch: handshake refused reason=expired hint="renew it"`.

use std::collections::BTreeMap;

/// What the lines about refused handshakes begin with; before it is what Envoy says of each line.
const BEGINNING: &str = "mtls-watch: handshake refused ";

/// The fields of a line about a refused handshake; `None` if it is another line.
pub fn refusal(line: &str) -> Option<BTreeMap<&str, String>> {
    let (_, mut rest) = line.split_once(BEGINNING)?;
    let mut fields = BTreeMap::new();
    while let Some((key, after)) = rest.trim_start().split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(after) => quoted(after)?,
            None => {
                let (value, after) = after.split_at(after.find(' ').unwrap_or(after.len()));
                (value.to_owned(), after)
            }
        };
        fields.insert(key, value);
        rest = after;
    }
    Some(fields)
}

/// Reads up to the closing quote; returns the text and what follows. Control characters stay
/// escaped: they are for no terminal.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                escaped @ ('"' | '\\') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bare_and_quoted_values() {
        let line = r#"[2026-11-21][error][wasm] wasm log mtls_watch: mtls-watch: handshake refused reason=expired identity="a \"b\" = \\ \u{1b}c" not_after=2026-11-22T01:25:18Z hint="renew it""#;
        let fields = refusal(line).unwrap();
        let expected = [
            ("hint", "renew it"),
            ("identity", r#"a "b" = \ \u{1b}c"#),
            ("not_after", "2026-11-22T01:25:18Z"),
            ("reason", "expired"),
        ];
        let fields: Vec<_> = fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
        assert_eq!(fields, expected);
    }

    #[test]
    fn other_lines_and_cut_ones_are_none() {
        assert_eq!(
            refusal("mtls-watch: certificate finding layer=workload"),
            None
        );
        assert_eq!(refusal(r#"mtls-watch: handshake refused hint="ren"#), None);
    }
}
