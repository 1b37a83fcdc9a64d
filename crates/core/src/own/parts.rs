//! The parts of a long JSON text that matter, one after the other, without the text in memory.
//!
//! A reply of Envoy's admin interface is an object with a list in it; of a config dump each item may be an
//! object with further lists. What is not asked for is passed over byte by byte: it costs neither memory nor a
//! parser.

use super::reply::{MAX_PART_BYTES, ReplyError};

/// Longest key that is told from others.
const MAX_KEY_BYTES: usize = 32;
/// Longest name that is told. Label values are cut there, too.
const MAX_NAME_BYTES: usize = 200;

/// Deepest nesting. Envoy's own has thirty levels.
const MAX_DEPTH: usize = 512;

/// How many parts are remembered, to pass over their copies, and the longest of them.
const MAX_MET: usize = 8;
const MAX_MET_BYTES: usize = 16 * 1024;

/// Bytes that have a meaning outside of texts: a table, for a reply has millions of others.
#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "evaluated when the module is built"
)]
const STRUCTURE: [bool; 256] = {
    const BYTES: &[u8] = b"\"{}[],";
    let mut table = [false; 256];
    let mut index = 0;
    while index < BYTES.len() {
        table[BYTES[index] as usize] = true;
        index += 1;
    }
    table
};

fn is_structure(byte: &u8) -> bool {
    STRUCTURE.get(usize::from(*byte)) == Some(&true)
}

/// How many bytes come before the next with a meaning. Envoy indents what it writes: most are blanks.
fn without_meaning(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((b"        ", after)) = rest.split_first_chunk() {
        rest = after;
    }
    if let Some((b"    ", after)) = rest.split_first_chunk() {
        rest = after;
    }
    let others = rest.iter().position(is_structure).unwrap_or(rest.len());
    let blanks = bytes.len().saturating_sub(rest.len());
    blanks.saturating_add(others)
}

/// Whether a text begins with another: eight bytes at a time, for the comparison of slices takes one.
fn begins_with(text: &[u8], other: &[u8]) -> bool {
    let Some(text) = text.get(..other.len()) else {
        return false;
    };
    let ((words, rest), (other_words, other_rest)) = (text.as_chunks(), other.as_chunks());
    let number = |word: &[u8; 8]| u64::from_ne_bytes(*word);
    let is_same = |(word, other): (&[u8; 8], &[u8; 8])| number(word) == number(other);
    words.iter().zip(other_words).all(is_same) && rest == other_rest
}

/// A reply, range by range.
pub trait Body {
    /// The next range; `None` at the end.
    fn next(&mut self) -> Option<Vec<u8>>;
}

/// A reply that is in memory.
pub struct Whole<'a>(pub Option<&'a [u8]>);

impl Body for Whole<'_> {
    fn next(&mut self) -> Option<Vec<u8>> {
        Some(self.0.take()?.to_vec())
    }
}

/// Who takes the parts: key, name, text.
pub(super) type Take<'a> = dyn FnMut(&'static str, &str, &[u8]) + 'a;

/// What is asked for.
pub(super) struct Wanted {
    /// Keys of lists, each object in which is a part.
    pub lists: &'static [&'static str],
    /// Keys of objects that are parts, at whatever depth.
    pub objects: &'static [&'static str],
}

impl Wanted {
    fn of<'a>(keys: &'a [&'static str], key: &[u8]) -> Option<&'a &'static str> {
        keys.iter().find(|wanted| wanted.as_bytes() == key)
    }
}

/// Reads a reply, and hands over each part: with the key of its list, or its own, and with the `name` of the outermost object
/// around it that has one. A copy of one that was met shortly before need not come. Says which lists there were.
///
/// # Errors
/// [`ReplyError::Json`] if the text is no object, or ends within it; [`ReplyError::TooLarge`] for a part of more
/// than [`MAX_PART_BYTES`].
pub(super) fn parts(
    body: &mut dyn Body,
    wanted: &Wanted,
    take: &mut Take<'_>,
) -> Result<Vec<&'static str>, ReplyError> {
    let mut reader = Reader {
        wanted,
        levels: Vec::new(),
        state: State::Value,
        key: Vec::new(),
        name: Vec::new(),
        named: 0,
        part: None,
        met: [const { ("", Vec::new()) }; MAX_MET],
        next_met: 0,
        deep: 0,
        lists: Vec::new(),
        is_over: false,
    };
    while let Some(range) = body.next() {
        reader.read(&range, take)?;
    }
    match reader.is_over {
        true => Ok(reader.lists),
        false => Err(ReplyError::Json),
    }
}

/// An object or a list that is open.
struct Level {
    is_object: bool,
    /// The key of a list that is asked for.
    list: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before or within a value that is no text.
    Value,
    /// In an object, before a key.
    BeforeKey,
    /// Within a text. `escaped`: so is its next byte.
    Text { is: Text, escaped: bool },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Key,
    /// The name of the outermost object that has one.
    Name,
    Other,
}

struct Part {
    key: &'static str,
    /// How many levels were open before it.
    depth: usize,
    /// Whether it is an item of a list, which may have lists of its own.
    is_item: bool,
    bytes: Vec<u8>,
}

struct Reader<'a> {
    wanted: &'a Wanted,
    levels: Vec<Level>,
    state: State,
    /// The key before the value, or as much of it as has been read.
    key: Vec<u8>,
    /// The name of the outermost object that has one, and how many levels are open in it; 0: none has.
    name: Vec<u8>,
    named: usize,
    part: Option<Part>,
    /// The last parts that differed: a large mesh has the same TLS context for nearly every cluster.
    met: [(&'static str, Vec<u8>); MAX_MET],
    next_met: usize,
    /// How many levels are open below `levels`, where no key matters.
    deep: usize,
    lists: Vec<&'static str>,
    is_over: bool,
}

impl Reader<'_> {
    fn read(&mut self, range: &[u8], take: &mut Take<'_>) -> Result<(), ReplyError> {
        // Where the part that is not yet kept begins.
        let mut kept = 0;
        let mut at = 0;
        while let Some(byte) = range.get(at) {
            if let State::Text { is, escaped } = self.state {
                at = self.text(range, at, is, escaped);
                continue;
            }
            if !is_structure(byte) {
                let rest = range.get(at..).unwrap_or_default();
                let between = without_meaning(rest);
                let is_blank = |rest: &[u8]| rest.trim_ascii().is_empty();
                if self.levels.is_empty() && !rest.get(..between).is_some_and(is_blank) {
                    return Err(ReplyError::Json);
                }
                at = at.saturating_add(between);
                continue;
            }
            match byte {
                b'"' => {
                    let is = self.text_begins();
                    let escaped = false;
                    self.state = State::Text { is, escaped };
                }
                b'{' | b'[' if self.is_below_keys() => {
                    self.deep = self.deep.saturating_add(1);
                    if self.deep > MAX_DEPTH {
                        return Err(ReplyError::Json);
                    }
                }
                b'}' | b']' if self.deep > 0 => self.deep = self.deep.saturating_sub(1),
                b',' if self.deep > 0 => {}
                b'{' | b'[' => {
                    let is_object = *byte == b'{';
                    if self.open(is_object)? {
                        kept = at;
                        if let Some(length) = self.met(range.get(at..).unwrap_or_default()) {
                            at = at.saturating_add(length);
                            kept = at;
                            continue;
                        }
                    }
                }
                b'}' | b']' => {
                    let end = at.saturating_add(1);
                    self.close(
                        *byte == b'}',
                        range.get(kept..end).unwrap_or_default(),
                        take,
                    )?;
                    kept = if self.part.is_some() { kept } else { end };
                }
                b',' => {
                    let in_object = self.levels.last().is_some_and(|level| level.is_object);
                    self.state = if in_object {
                        State::BeforeKey
                    } else {
                        State::Value
                    };
                }
                _ => {}
            }
            at = at.saturating_add(1);
        }
        match &mut self.part {
            Some(part) => part.keep(range.get(kept..).unwrap_or_default()),
            None => Ok(()),
        }
    }

    /// Passes over a part that has just begun, if its text begins as that of one before: an object ends where it ends, so it
    /// is the same. How long it is.
    fn met(&mut self, text: &[u8]) -> Option<usize> {
        let key = self.part.as_ref()?.key;
        let mut met = self.met.iter();
        let (_, same) = met.find(|(of, part)| *of == key && begins_with(text, part))?;
        self.part = None;
        self.levels.pop();
        self.state = State::Value;
        Some(same.len())
    }

    /// Whether a part is open, and so deep that it cannot have lists that are asked for. What is in it is checked
    /// by whoever reads it.
    fn is_below_keys(&self) -> bool {
        self.part.as_ref().is_some_and(|part| {
            let keyed = part.depth.saturating_add(usize::from(part.is_item));
            self.levels.len() > keyed
        })
    }

    fn text_begins(&mut self) -> Text {
        if self.state == State::BeforeKey {
            self.key.clear();
            return Text::Key;
        }
        let is_member = self.levels.last().is_some_and(|level| level.is_object);
        if self.named > 0 || self.part.is_some() || !is_member || self.key != b"name" {
            return Text::Other;
        }
        self.name.clear();
        self.named = self.levels.len();
        Text::Name
    }

    /// Goes on in a text, to its end or that of the range.
    fn text(&mut self, range: &[u8], start: usize, is: Text, mut escaped: bool) -> usize {
        let rest = range.get(start..).unwrap_or_default();
        let mut length = usize::from(escaped && !rest.is_empty());
        escaped &= rest.is_empty();
        let mut is_over = false;
        // Texts are most of a reply.
        while let Some(found) = memchr::memchr2(b'"', b'\\', rest.get(length..).unwrap_or_default())
        {
            length = length.saturating_add(found);
            if rest.get(length) == Some(&b'"') {
                is_over = true;
                break;
            }
            // What is escaped may be in the next range.
            length = length.saturating_add(2);
            escaped = length > rest.len();
        }
        let text = match is_over {
            true => rest.get(..length),
            false => Some(rest),
        };
        let text = text.unwrap_or_default();
        match is {
            Text::Key if self.key.len() <= MAX_KEY_BYTES => self.key.extend_from_slice(text),
            Text::Name if self.name.len() <= MAX_NAME_BYTES => self.name.extend_from_slice(text),
            _ => {}
        }
        match is_over {
            true => {
                self.state = State::Value;
                start.saturating_add(length).saturating_add(1)
            }
            false => {
                self.state = State::Text { is, escaped };
                range.len()
            }
        }
    }

    /// An object or a list begins. Whether a part begins with it.
    fn open(&mut self, is_object: bool) -> Result<bool, ReplyError> {
        let depth = self.levels.len();
        if self.is_over || depth >= MAX_DEPTH || (depth == 0 && !is_object) {
            return Err(ReplyError::Json);
        }
        let parent = self.levels.last();
        let has_key = parent.is_some_and(|level| level.is_object);
        let of_list = parent.and_then(|level| level.list);
        let key = match (is_object, has_key) {
            (true, true) => Wanted::of(self.wanted.objects, &self.key),
            (false, true) => Wanted::of(self.wanted.lists, &self.key),
            _ => None,
        };
        let mut begins = false;
        if is_object && let Some(key) = key.copied().or(of_list) {
            // What is within a part belongs to it.
            if self.part.is_none() {
                self.part = Some(Part {
                    key,
                    depth,
                    is_item: of_list.is_some(),
                    bytes: Vec::new(),
                });
                begins = true;
            }
        }
        let list = key.copied().filter(|_| !is_object);
        // Of an item with lists of its own, these are what is asked for.
        let is_below_item = self
            .part
            .as_ref()
            .is_some_and(|part| part.is_item && part.depth.saturating_add(1) == depth);
        let list = match &self.part {
            Some(_) if list.is_some() && is_below_item => {
                self.part = None;
                list
            }
            Some(_) => None,
            None => list,
        };
        if let Some(list) = list
            && !self.lists.contains(&list)
        {
            self.lists.push(list);
        }
        self.levels.push(Level { is_object, list });
        self.state = if is_object {
            State::BeforeKey
        } else {
            State::Value
        };
        Ok(begins)
    }

    fn close(
        &mut self,
        is_object: bool,
        rest: &[u8],
        take: &mut Take<'_>,
    ) -> Result<(), ReplyError> {
        match self.levels.pop() {
            Some(level) if level.is_object == is_object => {}
            _ => return Err(ReplyError::Json),
        }
        self.state = State::Value;
        self.is_over = self.levels.is_empty();
        let depth = self.levels.len();
        if depth < self.named {
            self.named = 0;
        }
        if let Some(mut part) = self.part.take_if(|part| part.depth == depth) {
            part.keep(rest)?;
            let name = str::from_utf8(&self.name).ok().filter(|_| self.named > 0);
            take(part.key, name.unwrap_or_default(), &part.bytes);
            if part.bytes.len() <= MAX_MET_BYTES {
                let next = self.next_met % MAX_MET;
                self.next_met = next.saturating_add(1);
                if let Some(oldest) = self.met.get_mut(next) {
                    *oldest = (part.key, part.bytes);
                }
            }
        }
        Ok(())
    }
}

impl Part {
    fn keep(&mut self, bytes: &[u8]) -> Result<(), ReplyError> {
        let size = self.bytes.len().saturating_add(bytes.len());
        if size > MAX_PART_BYTES {
            return Err(ReplyError::TooLarge(size));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        lists: &["configs", "secrets"],
        objects: &["context"],
    };

    /// The text in ranges of that size.
    struct Ranges<'a>(&'a [u8], usize);

    impl Body for Ranges<'_> {
        fn next(&mut self) -> Option<Vec<u8>> {
            let (range, rest) = self.0.split_at(self.1.min(self.0.len()));
            self.0 = rest;
            (!range.is_empty()).then(|| range.to_vec())
        }
    }

    fn read(text: &str, range: usize) -> Result<Vec<(&'static str, String)>, ReplyError> {
        let mut found = Vec::new();
        let mut body = Ranges(text.as_bytes(), range);
        parts(&mut body, &WANTED, &mut |key, name, part| {
            let text = String::from_utf8(part.to_vec()).unwrap();
            found.push((key, [name, &text].concat()));
        })?;
        Ok(found)
    }

    #[test]
    fn parts_are_found_whatever_the_ranges() {
        let cases: [(&str, &[(&str, &str)]); 7] = [
            (r#"{}"#, &[]),
            (r#"{"configs": []}"#, &[]),
            (
                r#" {"other": [{"a": 1}], "configs": [7, {"a": "}"}, {"b": [{}]}, "x"]} "#,
                &[("configs", r#"{"a": "}"}"#), ("configs", r#"{"b": [{}]}"#)],
            ),
            (
                r#"{"configs": [{"@type": "T", "secrets": [{"a": 1}, {"b": 2}], "rest": {}}, {"c": 3}]}"#,
                &[
                    ("secrets", r#"{"a": 1}"#),
                    ("secrets", r#"{"b": 2}"#),
                    ("configs", r#"{"c": 3}"#),
                ],
            ),
            (
                r#"{"listeners": [{"deep": {"context": {"a": "\"{"}}}], "context": {"secrets": [{}]}}"#,
                &[
                    ("context", r#"{"a": "\"{"}"#),
                    ("context", r#"{"secrets": [{}]}"#),
                ],
            ),
            (
                r#"{"secrets\\": [{}], "configs": "{[", "a": {"configs": [{"b": 1}]}}"#,
                &[("configs", r#"{"b": 1}"#)],
            ),
            (
                r#"{"configs": [{"deep": {"secrets": [{}]}}]}"#,
                &[("configs", r#"{"deep": {"secrets": [{}]}}"#)],
            ),
        ];
        for (text, expected) in cases {
            let expected: Vec<(&str, String)> = expected
                .iter()
                .map(|(key, part)| (*key, (*part).to_owned()))
                .collect();
            for range in 1..=text.len() {
                assert_eq!(read(text, range).unwrap(), expected, "{text} by {range}");
            }
        }
    }

    /// Its copies do not come, whatever lies between; what only begins like it does.
    #[test]
    fn a_part_that_was_met_is_passed_over() {
        let (one, other) = (r#"{"a": {"b": "}\""}}"#, r#"{"a": {"b": "}\"x"}}"#);
        let list = [one, one, other, r#"{"a": 1}"#, one, other].join(",\n  ");
        let text = format!(r#"{{"configs": [{list}], "secrets": [{one}]}}"#);
        for range in 1..=text.len() {
            let found = read(&text, range).unwrap();
            let mut differ: Vec<_> = Vec::new();
            for part in &found {
                if !differ.contains(part) {
                    differ.push(part.clone());
                }
            }
            let expected = [
                ("configs", one),
                ("configs", other),
                ("configs", r#"{"a": 1}"#),
                ("secrets", one),
            ];
            let expected = expected.map(|(key, part)| (key, part.to_owned()));
            assert_eq!(differ, expected, "by {range}");
            if range == text.len() {
                assert_eq!(found, expected);
            }
        }
        // More than are remembered.
        let many: Vec<String> = (0..20).map(|it| format!(r#"{{"a": {it}}}"#)).collect();
        let text = format!(r#"{{"configs": [{0}, {0}]}}"#, many.join(", "));
        assert_eq!(read(&text, 4096).unwrap().len(), 40);
    }

    #[test]
    fn a_part_has_the_name_of_the_outermost_object_around_it() {
        let text = r#"{"configs": [{"@type": "T", "rest": [
            {"name": "a", "state": {"name": "deep", "x": {"name": "no", "context": {"name": "b"}}}},
            {"name": ["no"], "state": {"name": "c\"", "context": {}}},
            {"name": 7, "context": {"c": 1}}
        ]}]}"#;
        let expected = [r#"a{"name": "b"}"#, r#"c\"{}"#, r#"{"c": 1}"#];
        let wanted = Wanted {
            lists: &[],
            objects: &["context"],
        };
        for range in 1..=text.len() {
            let mut found = Vec::new();
            let mut body = Ranges(text.as_bytes(), range);
            let take = &mut |_: &'static str, name: &str, part: &[u8]| {
                found.push([name, str::from_utf8(part).unwrap()].concat());
            };
            parts(&mut body, &wanted, take).unwrap();
            assert_eq!(found, expected, "by {range}");
        }
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        let deep = "[".repeat(100_000);
        let nested = r#"{"configs":"#.repeat(100_000);
        for text in [
            "",
            " ",
            "[]",
            "7",
            "{",
            r#"{"configs": ["#,
            r#"{"configs": ]"#,
            "}",
            "{}x",
            "{}{}",
            &deep,
            &nested,
        ] {
            assert_eq!(read(text, 7), Err(ReplyError::Json), "{:.20}", text);
        }
    }

    #[test]
    fn a_part_has_a_limit_and_a_text_has_none() {
        let long = "x".repeat(MAX_PART_BYTES);
        let text = format!(r#"{{"other": "{long}", "configs": [{{}}]}}"#);
        assert_eq!(read(&text, 4096).unwrap().len(), 1);
        let text = format!(r#"{{"configs": [{{"a": "{long}"}}]}}"#);
        assert!(matches!(read(&text, 4096), Err(ReplyError::TooLarge(_))));
    }
}
