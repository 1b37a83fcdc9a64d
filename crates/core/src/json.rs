//! A JSON value.
//!
//! One type for all that is read: a derived `Deserialize` for each message of Envoy's takes 32 KB more of the module.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value. Texts stay where they are, unless they have escapes.
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    List(Vec<Self>),
    Object(Vec<(Self, Self)>),
    /// A whole number beyond 32 bits is infinite.
    Number(f64),
    Boolean,
    Null,
}

/// Not JSON, or a value is of another kind than Envoy's message has there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected;

impl<'a> Value<'a> {
    /// Reads a text of JSON.
    pub(crate) fn read(json: &'a [u8]) -> Result<Self, Unexpected> {
        serde_json::from_slice(json).map_err(|_| Unexpected)
    }

    /// The member of an object; `None` if it is absent or `null`.
    fn member(&self, key: &str) -> Result<Option<&Self>, Unexpected> {
        let Self::Object(members) = self else {
            return Err(Unexpected);
        };
        let is_it = |name: &Self| matches!(name, Self::Text(text) if text == key);
        let found = members.iter().find(|(name, _)| is_it(name));
        let value = found.map(|(_, value)| value);
        Ok(value.filter(|value| !matches!(value, Self::Null)))
    }

    /// The members of an object, with their names; none of anything else.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Self)> {
        let members = match self {
            Self::Object(members) => members.as_slice(),
            _ => &[],
        };
        members
            .iter()
            .filter_map(|(name, value)| Some((name.as_text()?, value)))
    }

    /// The text that it is.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The member that is an object.
    pub(crate) fn object(&self, key: &str) -> Result<Option<&Self>, Unexpected> {
        match self.member(key)? {
            None => Ok(None),
            Some(object @ Self::Object(_)) => Ok(Some(object)),
            Some(_) => Err(Unexpected),
        }
    }

    /// The member that is a text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Unexpected> {
        match self.member(key)? {
            None => Ok(None),
            Some(Self::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Unexpected),
        }
    }

    /// The items of the member that is a list; none if there is no such member.
    pub(crate) fn list(&self, key: &str) -> Result<&[Self], Unexpected> {
        match self.member(key)? {
            None => Ok(&[]),
            Some(Self::List(items)) => Ok(items),
            Some(_) => Err(Unexpected),
        }
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Boolean)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        let number = u32::try_from(number).map_or(f64::INFINITY, f64::from);
        Ok(Value::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        let number = i32::try_from(number).map_or(f64::NEG_INFINITY, f64::from);
        Ok(Value::Number(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_by_kind() {
        let json = br#"{"text": "a\nb", "list": ["x", 1, true, -2, 0.5], "object": {"k": "v"}, "null": null}"#;
        let value = Value::read(json).unwrap();
        assert_eq!(value.text("text"), Ok(Some("a\nb")));
        assert_eq!(value.list("list").map(<[_]>::len), Ok(5));
        let object = value.object("object").unwrap().unwrap();
        assert_eq!(object.text("k"), Ok(Some("v")));
        for absent in ["null", "none"] {
            assert_eq!(value.text(absent), Ok(None));
            assert_eq!(value.list(absent).map(<[_]>::len), Ok(0));
            assert!(value.object(absent).is_ok_and(|it| it.is_none()));
        }
    }

    #[test]
    fn another_kind_is_an_error() {
        let value = Value::read(br#"{"text": "a", "list": [1], "object": {}}"#).unwrap();
        assert_eq!(value.text("list"), Err(Unexpected));
        assert_eq!(value.list("object").map(<[_]>::len), Err(Unexpected));
        assert!(value.object("text").is_err());
        assert_eq!(value.list("list").unwrap()[0].text("k"), Err(Unexpected));
        for json in [&b""[..], b"{", b"{} {}", b"\"\xff\""] {
            assert!(Value::read(json).is_err());
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(Value::read(deep.as_bytes()).is_err());
    }
}
