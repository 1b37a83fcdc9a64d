//! Reads an object key by key, so that a key that is wrong does not hide the others.
//!
//! A value stays the text that it is until its type is known. So it is quoted as it was written, and a
//! key that is given twice is seen.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ConfigError, MAX_ERRORS, Problem, quote};
use crate::json::Value;

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

    /// The members of an object, each of which has one of these keys.
    pub(super) fn members<'a, K: Copy + Into<&'static str>>(
        &mut self,
        object: &Field<'a>,
        keys: &[K],
    ) -> Option<Vec<(K, Field<'a>)>> {
        let fields = self.fields(object, &names(keys))?.into_iter();
        let of_key = |(place, field)| Some((*keys.get(place)?, field));
        Some(fields.filter_map(of_key).collect())
    }

    /// The members of an object, each with the place of its key among these. A key that is unknown, or given twice,
    /// is an error and not among them.
    #[inline(never)]
    fn fields<'a>(
        &mut self,
        object: &Field<'a>,
        keys: &[&'static str],
    ) -> Option<Vec<(usize, Field<'a>)>> {
        let Ok(Members(written)) = serde_json::from_slice(object.json.as_bytes()) else {
            self.expected(object, "an object");
            return None;
        };
        // Of a key that is given twice no field is left: neither is known to be the one that is meant.
        let mut fields: Vec<(usize, Option<Field<'a>>)> = Vec::new();
        for (key, json) in written {
            let field = object.member(&key, json);
            let Some(place) = keys.iter().position(|known| **known == *key) else {
                self.report(&field, Problem::UnknownKey(one_of(keys)));
                continue;
            };
            match fields.iter_mut().find(|(known, _)| *known == place) {
                Some((_, first)) => {
                    *first = None;
                    self.report(&field, Problem::KeyRepeated);
                }
                None => fields.push((place, Some(field))),
            }
        }
        let once = fields
            .into_iter()
            .filter_map(|(place, field)| Some((place, field?)));
        Some(once.collect())
    }

    /// The items of a list.
    #[inline(never)]
    pub(super) fn items<'a>(&mut self, list: &Field<'a>) -> Option<Vec<Field<'a>>> {
        let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(list.json.as_bytes()) else {
            self.expected(list, "a list");
            return None;
        };
        let at = |(index, item): (usize, &'a RawValue)| Field {
            path: format!("{}[{index}]", list.path),
            json: item.get(),
        };
        Some(items.into_iter().enumerate().map(at).collect())
    }

    /// Some of these words, each at most once.
    pub(super) fn words<T: Copy + Into<&'static str>>(
        &mut self,
        list: &Field<'_>,
        words: &[T],
    ) -> Option<Vec<T>> {
        let places = self.places(list, &names(words))?.into_iter();
        Some(
            places
                .filter_map(|place| words.get(place).copied())
                .collect(),
        )
    }

    #[inline(never)]
    fn places(&mut self, list: &Field<'_>, words: &[&'static str]) -> Option<Vec<usize>> {
        let mut places = Vec::new();
        for item in self.items(list)? {
            let place = self.place(&item, words)?;
            if places.contains(&place) {
                self.report(&item, Problem::WordRepeated);
                return None;
            }
            places.push(place);
        }
        Some(places)
    }

    /// One of these words.
    pub(super) fn word<T: Copy + Into<&'static str>>(
        &mut self,
        field: &Field<'_>,
        words: &[T],
    ) -> Option<T> {
        let place = self.place(field, &names(words))?;
        words.get(place).copied()
    }

    #[inline(never)]
    fn place(&mut self, field: &Field<'_>, words: &[&'static str]) -> Option<usize> {
        let place = text(field).and_then(|text| words.iter().position(|word| **word == *text));
        if place.is_none() {
            self.report(field, Problem::Expected(one_of(words)));
        }
        place
    }

    /// A text that is read in this way; what is expected, if it cannot be.
    pub(super) fn parsed<T>(
        &mut self,
        field: &Field<'_>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = text(field).and_then(|text| parse(&text));
        if value.is_none() {
            self.expected(field, expected);
        }
        value
    }

    pub(super) fn boolean(&mut self, field: &Field<'_>) -> Option<bool> {
        match field.json {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.expected(field, "true or false");
                None
            }
        }
    }

    /// A whole number up to `maximum`.
    #[expect(clippy::as_conversions, reason = "it is within the range")]
    pub(super) fn count(&mut self, field: &Field<'_>, maximum: u32) -> Option<usize> {
        // A configuration that came through a protobuf Struct has only doubles.
        match Value::read(field.json.as_bytes()) {
            Ok(Value::Number(number))
                if (0.0..=f64::from(maximum)).contains(&number) && number.fract() == 0.0 =>
            {
                Some(number as usize)
            }
            _ => {
                self.expected(field, &format!("a whole number from 0 to {maximum}"));
                None
            }
        }
    }

    pub(super) fn expected(&mut self, field: &Field<'_>, what: &str) {
        self.report(field, Problem::Expected(format!("expected {what}")));
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

fn names<T: Copy + Into<&'static str>>(words: &[T]) -> Vec<&'static str> {
    words.iter().map(|word| (*word).into()).collect()
}

fn text<'a>(field: &Field<'a>) -> Option<Cow<'a, str>> {
    match Value::read(field.json.as_bytes()) {
        Ok(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn one_of(words: &[&str]) -> String {
    match words {
        [first, second] => format!("expected `{first}` or `{second}`"),
        _ => format!("expected one of `{}`", words.join("`, `")),
    }
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
