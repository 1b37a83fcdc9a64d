//! Reads an object key by key, so that a key that is wrong does not hide the others.
//!
//! A value stays the text that it is until its type is known. So it is quoted as it was written, and a
//! key that is given twice is seen.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{Error as KeyError, StrDeserializer};
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};

use super::error::{ConfigError, MAX_ERRORS, Problem, quote};
use super::value::Word;

/// A value, and the way to it.
pub(super) struct Field<'a> {
    path: String,
    json: &'a str,
}

impl<'a> Field<'a> {
    pub(super) fn is_null(&self) -> bool {
        self.json == "null"
    }

    pub(super) fn is_list(&self) -> bool {
        self.json.starts_with('[')
    }

    fn member(&self, key: &str, json: &'a RawValue) -> Self {
        let separator = if self.path.is_empty() { "" } else { "." };
        Self {
            path: format!("{}{separator}{}", self.path, quote(key)),
            json: json.get(),
        }
    }

    fn item(&self, index: usize) -> Self {
        let items: Vec<&RawValue> =
            serde_json::from_slice(self.json.as_bytes()).unwrap_or_default();
        Self {
            path: format!("{}[{index}]", self.path),
            json: items.get(index).map_or("", |item| item.get()),
        }
    }

    /// The item of a list that a path in the list leads to.
    fn at(&self, path: &Path) -> Self {
        match path.iter().next() {
            Some(Segment::Seq { index }) => self.item(*index),
            _ => Self {
                path: self.path.clone(),
                json: self.json,
            },
        }
    }
}

/// Reads values; what is wrong with them adds up.
#[derive(Default)]
pub(super) struct Reader {
    errors: Vec<ConfigError>,
    more: usize,
}

impl Reader {
    /// The whole. Nothing, or only white space, is an empty object.
    pub(super) fn root<'a>(&mut self, text: &'a [u8]) -> Option<Field<'a>> {
        let path = String::new();
        if text.trim_ascii().is_empty() {
            return Some(Field { path, json: "{}" });
        }
        match serde_json::from_slice::<&RawValue>(text) {
            Ok(json) => Some(Field {
                path,
                json: json.get(),
            }),
            Err(error) => {
                let json = &String::from_utf8_lossy(text);
                self.report(&Field { path, json }, Problem::NotJson(error.to_string()));
                None
            }
        }
    }

    /// The members of an object. A key that is unknown, or given twice, is an error and not among them.
    // Not inlined: the largest function sets the memory that the module takes to compile.
    #[inline(never)]
    pub(super) fn members<'a, K: DeserializeOwned + PartialEq>(
        &mut self,
        object: &Field<'a>,
    ) -> Option<Vec<(K, Field<'a>)>> {
        // Of a key that is given twice no field is left: neither is known to be the one that is meant.
        let mut members: Vec<(K, Option<Field<'a>>)> = Vec::new();
        for (key, json) in self.value::<Members<'_>>(object)?.0 {
            let field = object.member(&key, json);
            let key: Result<K, KeyError> = K::deserialize(StrDeserializer::new(&key));
            match key {
                Err(error) => self.report(&field, Problem::UnknownKey(expectation(&error))),
                Ok(key) => match members.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, first)) => {
                        *first = None;
                        self.report(&field, Problem::KeyRepeated);
                    }
                    None => members.push((key, Some(field))),
                },
            }
        }
        let members = members.into_iter();
        Some(
            members
                .filter_map(|(key, field)| Some((key, field?)))
                .collect(),
        )
    }

    /// Words, each at most once.
    #[inline(never)]
    pub(super) fn words<T: DeserializeOwned + PartialEq>(
        &mut self,
        field: &Field<'_>,
    ) -> Option<Vec<T>> {
        let mut words = Vec::new();
        for (index, Word(word)) in self.list(field)?.into_iter().enumerate() {
            if words.contains(&word) {
                self.report(&field.item(index), Problem::WordRepeated);
                return None;
            }
            words.push(word);
        }
        Some(words)
    }

    #[inline(never)]
    pub(super) fn list<'a, T: Deserialize<'a>>(&mut self, field: &Field<'a>) -> Option<Vec<T>> {
        if !field.is_list() {
            self.report(field, Problem::expected("a list"));
            return None;
        }
        let mut json = serde_json::Deserializer::from_slice(field.json.as_bytes());
        let list = serde_path_to_error::deserialize(&mut json);
        list.map_err(|error| self.wrong(&field.at(error.path()), error.inner()))
            .ok()
    }

    /// The items of a list, each still a text.
    #[inline(never)]
    pub(super) fn items<'a>(&mut self, field: &Field<'a>) -> Option<Vec<Field<'a>>> {
        let items: Vec<&'a RawValue> = self.list(field)?;
        let items = items.into_iter().enumerate();
        let at = |(index, item): (usize, &'a RawValue)| Field {
            path: format!("{}[{index}]", field.path),
            json: item.get(),
        };
        Some(items.map(at).collect())
    }

    #[inline(never)]
    pub(super) fn value<'a, T: Deserialize<'a>>(&mut self, field: &Field<'a>) -> Option<T> {
        let value = serde_json::from_slice(field.json.as_bytes());
        value.map_err(|error| self.wrong(field, &error)).ok()
    }

    #[inline(never)]
    fn wrong(&mut self, field: &Field<'_>, error: &serde_json::Error) {
        self.report(field, Problem::Expected(expectation(error)));
    }

    #[inline(never)]
    pub(super) fn report(&mut self, field: &Field<'_>, problem: Problem) {
        match self.errors.len() < MAX_ERRORS {
            true => {
                let error = ConfigError::new(&field.path, field.json, problem);
                self.errors.push(error);
            }
            false => self.more = self.more.saturating_add(1),
        }
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        let mut errors = self.errors;
        if self.more > 0 {
            errors.push(ConfigError::new("", "…", Problem::More(self.more)));
        }
        errors
    }
}

/// What the parser expected. It quotes the value before that, and says the place in it after that: the
/// error has both already.
fn expectation(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    let (_, expected) = cut_at_last(&text, "expected ").unwrap_or(("", &text));
    let (expectation, _) = cut_at_last(expected, " at line ").unwrap_or((expected, ""));
    expectation.to_owned()
}

/// Cuts before the last `word`. The standard library's search for a word has places that could panic.
fn cut_at_last<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let cuts = text.char_indices().rev();
    let mut cuts = cuts.filter_map(|(index, _)| text.split_at_checked(index));
    cuts.find(|(_, rest)| rest.starts_with(word))
}

/// An object as it is written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadMembers)
    }
}

struct ReadMembers;

impl<'de> Visitor<'de> for ReadMembers {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = access.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}
