//! Comparing what TLS stacks say: they spell one thing with blanks or underscores, in upper or in lower case.

/// What follows `words` at the beginning of `text`. A blank of `words` stands for a blank or `_`.
pub(super) fn strip<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(words.len())?;
    let same = start.bytes().map(plain).eq(words.bytes().map(plain));
    same.then_some(rest)
}

/// Whether the two are the same words.
pub(super) fn same(text: &str, words: &str) -> bool {
    strip(text, words) == Some("")
}

/// What stands before and after words in a text. The search of the standard library, made for long words,
/// is 2.5 KB of module.
pub(super) fn around<'a>(text: &'a str, words: &str) -> Option<(&'a str, &'a str)> {
    let first = words.as_bytes().first()?;
    memchr::memchr_iter(*first, text.as_bytes()).find_map(|start| {
        let (before, rest) = text.split_at_checked(start)?;
        Some((before, rest.strip_prefix(words)?))
    })
}

/// The beginning of a text, and what follows the first of these bytes with that byte.
pub(super) fn until<'a>(text: &'a str, ends: &[u8]) -> (&'a str, &'a str) {
    let end = text.bytes().position(|byte| ends.contains(&byte));
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, ""))
}

/// A text without these bytes at its beginning.
pub(super) fn skip<'a>(text: &'a str, bytes: &[u8]) -> &'a str {
    let start = text.bytes().position(|byte| !bytes.contains(&byte));
    let start = start.unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// At most so many bytes of a text.
pub(super) fn limited(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

fn plain(byte: u8) -> u8 {
    match byte {
        b'_' => b' ',
        other => other.to_ascii_lowercase(),
    }
}
