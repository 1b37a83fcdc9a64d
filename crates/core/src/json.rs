//! A tree of JSON.
//!
//! The library's own tree can also write what it holds, floats as short as can be without loss: 20 KB of
//! module, for numbers in a configuration that is wrong.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::report::Quoted;

/// A value. Texts without escapes stay where they are.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    Object(Vec<(String, Value<'a>)>),
}

impl<'a> Value<'a> {
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_array(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_object(&self) -> Option<&[(String, Value<'a>)]> {
        match self {
            Self::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// A whole number from 0 to `max`.
    #[expect(clippy::as_conversions, reason = "it is within the range")]
    pub(crate) fn as_count(&self, max: u32) -> Option<u32> {
        let Self::Number(number) = self else {
            return None;
        };
        let is_count = (0.0..=f64::from(max)).contains(number) && number.trunc() == *number;
        is_count.then_some(*number as u32)
    }

    /// The value of an object's field; of several of one name the last counts.
    pub(crate) fn get(&self, key: &str) -> Option<&Value<'a>> {
        let fields = self.as_object()?;
        let field = fields.iter().rfind(|(name, _)| name == key);
        field.map(|(_, value)| value)
    }
}

impl fmt::Display for Value<'_> {
    /// JSON, but numbers have three decimals at most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => f.write_str(if *value { "true" } else { "false" }),
            Self::Number(number) => f.write_str(&decimal(*number)),
            Self::Text(text) => Quoted(text).fmt(f),
            Self::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index == 0 { "[" } else { "," })?;
                    item.fmt(f)?;
                }
                f.write_str(if items.is_empty() { "[]" } else { "]" })
            }
            Self::Object(fields) => {
                for (index, (key, value)) in fields.iter().enumerate() {
                    f.write_str(if index == 0 { "{" } else { "," })?;
                    write!(f, "{}:{value}", Quoted(key))?;
                }
                f.write_str(if fields.is_empty() { "{}" } else { "}" })
            }
        }
    }
}

#[expect(clippy::as_conversions, reason = "it is within the range")]
fn decimal(number: f64) -> String {
    const MAX: f64 = 1e12;
    if number.abs() >= MAX {
        let sign = if number < 0.0 { "<-" } else { ">" };
        return format!("{sign}1e12");
    }
    let thousandths = (number * 1000.0).round_ties_even() as i64;
    let sign = if thousandths < 0 { "-" } else { "" };
    let thousandths = thousandths.unsigned_abs();
    let text = format!("{sign}{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Read)
    }
}

struct Read;

#[expect(
    clippy::as_conversions,
    reason = "a float holds every number that may be set"
)]
impl<'de> Visitor<'de> for Read {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Value<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn is_shown_as_json() {
        for json in [
            "null",
            "true",
            "false",
            r#""a \"b\" \\""#,
            "[]",
            "{}",
            r#"[1,[],{"a":{"b":null}}]"#,
            "0",
            "1.5",
            "-0.125",
            "-3",
            "999999999999",
        ] {
            assert_eq!(read(json).to_string(), json);
        }
        for (json, shown) in [
            (" [ 1 , 2 ] ", "[1,2]"),
            ("1e2", "100"),
            ("100.0", "100"),
            ("0.0004", "0"),
            ("18446744073709551615", ">1e12"),
            ("-1e99", "<-1e12"),
            (r#""\u0041\n""#, r#""A\u{a}""#),
        ] {
            assert_eq!(read(json).to_string(), shown, "{json}");
        }
    }

    #[test]
    fn counts_are_whole_and_limited() {
        for (json, count) in [
            ("0", Some(0)),
            ("7.0", Some(7)),
            ("1e1", Some(10)),
            ("10.5", None),
            ("11", None),
            ("-1", None),
            ("1e99", None),
            ("\"1\"", None),
        ] {
            assert_eq!(read(json).as_count(10), count, "{json}");
        }
    }

    #[test]
    fn of_fields_of_one_name_the_last_counts() {
        let object = read(r#"{"a": 1, "b": "x", "a": "y"}"#);
        assert_eq!(object.get("a").and_then(Value::as_str), Some("y"));
        assert_eq!(object.get("b").and_then(Value::as_str), Some("x"));
        assert!(object.get("c").is_none());
        assert!(read("[]").get("a").is_none());
    }
}
