//! The types of values, and what is expected of each.

use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};

use mtls_watch_x509::time::Seconds;

use crate::host::TICK;
use crate::terms::threshold::{Bound, parse_duration};

/// Most identities that may be given a series of their own.
const MAX_COUNT: u32 = 100_000;

/// A whole number up to [`MAX_COUNT`].
pub(super) struct Count(pub(super) usize);

impl<'de> Deserialize<'de> for Count {
    #[expect(clippy::as_conversions, reason = "it is within the range")]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A configuration that came through a protobuf Struct has only doubles.
        match f64::deserialize(deserializer) {
            Ok(number)
                if (0.0..=f64::from(MAX_COUNT)).contains(&number) && number.fract() == 0.0 =>
            {
                Ok(Self(number as usize))
            }
            _ => Err(Error::custom("expected a whole number from 0 to 100000")),
        }
    }
}

/// A duration.
pub(super) struct Duration(pub(super) Seconds);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "expected a duration such as \"90s\", \"30m\", \"36h\" or \"21d\"";
        parsed(deserializer, expected, |text| {
            parse_duration(text).map(Self)
        })
    }
}

/// The duration between two polls: they are made at a tick.
pub(super) struct Interval(pub(super) Seconds);

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "expected a duration of at least \"5s\"";
        parsed(deserializer, expected, |text| {
            let interval = parse_duration(text)?;
            (interval >= TICK).then_some(Self(interval))
        })
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected =
            "expected a duration such as \"21d\" or a share of the lifetime such as \"25%\"";
        parsed(deserializer, expected, Self::parse)
    }
}

/// A name that is not empty.
pub(super) struct Name(pub(super) String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "expected a name that is not empty", |text| {
            (!text.is_empty()).then(|| Self(text.to_owned()))
        })
    }
}

/// A header's name (RFC 9110, section 5.1), in the lower case of HTTP/2; empty: none.
pub(super) struct HeaderName(pub(super) Option<String>);

impl<'de> Deserialize<'de> for HeaderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let expected = "expected a header name, or \"\" for none";
        parsed(deserializer, expected, |text| {
            let name = (!text.is_empty()).then(|| text.to_ascii_lowercase());
            text.bytes().all(is_token).then_some(Self(name))
        })
    }
}

/// A word of a closed set. The set's own reader would also take `{"expired": null}` for `"expired"`.
pub(super) struct Word<T>(pub(super) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What is not a string is not in the set, just as the empty string: the error lists what is.
        let text = String::deserialize(deserializer).unwrap_or_default();
        T::deserialize(StrDeserializer::new(&text)).map(Self)
    }
}

fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer).ok();
    let value = text.and_then(|text| parse(&text));
    value.ok_or_else(|| Error::custom(expected))
}
