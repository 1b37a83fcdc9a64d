//! A JSON value of which texts, lists and objects matter.
//!
//! One type for all that is read: a derived `Deserialize` for each message of Envoy's takes 35 KB more of the module.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value. Texts stay where they are, unless they have escapes.
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    List(Vec<Self>),
    /// Without the members that are `null`, a number or a boolean.
    Object(Vec<(Self, Self)>),
    /// `null`, a number or a boolean.
    Other,
}

impl<'a> Value<'a> {
    /// Reads a text of JSON.
    pub(super) fn read(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The member of an object.
    fn member(&self, key: &str) -> Option<&Self> {
        let Self::Object(members) = self else {
            return None;
        };
        let mut members = members.iter();
        let (_, value) = members.find(|(name, _)| name.as_text() == Some(key))?;
        Some(value)
    }

    /// The member that is an object.
    pub(super) fn object(&self, key: &str) -> Option<&Self> {
        self.member(key)
            .filter(|value| matches!(value, Self::Object(_)))
    }

    /// The member that is a text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.member(key)?.as_text()
    }

    /// The items of the member that is a list; none if there is no such member.
    pub(super) fn list(&self, key: &str) -> &[Self] {
        match self.member(key) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    // Not inlined: it is called for keys, items and members.
    #[inline(never)]
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
        Ok(Value::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Value::Other)
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
            if !matches!(member, (_, Value::Other)) {
                members.push(member);
            }
        }
        Ok(Value::Object(members))
    }
}
