//! What a validation context asks of a peer's names (`match_typed_subject_alt_names`), as Envoy 1.40 decides it.

use regex::Regex;
use serde::Deserialize;

/// One matcher: a kind of name, and what it must be.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    /// `None`: any kind (`match_subject_alt_names`, deprecated).
    kind: Option<Kind>,
    text: Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Dns,
    Uri,
    Ip,
    Email,
    Other,
}

#[derive(Clone, Debug)]
enum Text {
    Exact(String, bool),
    Prefix(String, bool),
    Suffix(String, bool),
    Contains(String, bool),
    Expression(Regex),
    /// One that cannot be judged: what it is.
    Unknown(String),
}

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StringMatcher {
    exact: Option<String>,
    prefix: Option<String>,
    suffix: Option<String>,
    contains: Option<String>,
    #[serde(alias = "safeRegex")]
    safe_regex: Option<SafeRegex>,
    #[serde(alias = "ignoreCase")]
    ignore_case: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SafeRegex {
    regex: String,
}

/// `SubjectAltNameMatcher`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TypedMatcher {
    #[serde(alias = "sanType")]
    san_type: String,
    matcher: StringMatcher,
}

impl From<TypedMatcher> for Matcher {
    fn from(typed: TypedMatcher) -> Self {
        Self {
            kind: Some(match &*typed.san_type {
                "DNS" => Kind::Dns,
                "URI" => Kind::Uri,
                "IP_ADDRESS" => Kind::Ip,
                "EMAIL" => Kind::Email,
                _ => Kind::Other,
            }),
            text: typed.matcher.into(),
        }
    }
}

impl From<StringMatcher> for Matcher {
    fn from(matcher: StringMatcher) -> Self {
        Self {
            kind: None,
            text: matcher.into(),
        }
    }
}

impl From<StringMatcher> for Text {
    fn from(matcher: StringMatcher) -> Self {
        let ignore_case = matcher.ignore_case;
        match matcher {
            StringMatcher {
                exact: Some(text), ..
            } => Self::Exact(text, ignore_case),
            StringMatcher {
                prefix: Some(text), ..
            } => Self::Prefix(text, ignore_case),
            StringMatcher {
                suffix: Some(text), ..
            } => Self::Suffix(text, ignore_case),
            StringMatcher {
                contains: Some(text),
                ..
            } => Self::Contains(text, ignore_case),
            StringMatcher {
                safe_regex: Some(expression),
                ..
            } => Self::expression(&expression.regex),
            _ => Self::Unknown("a matcher of another kind".to_owned()),
        }
    }
}

impl Text {
    /// Envoy takes an expression for the whole of a name.
    fn expression(expression: &str) -> Self {
        match Regex::new(&format!("^(?:{expression})$")) {
            Ok(regex) => Self::Expression(regex),
            Err(_) => Self::Unknown(format!("the expression {expression}")),
        }
    }
}

/// Whether a certificate has a name that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matched {
    Yes,
    No,
    /// A matcher could not be judged: which.
    Unknown(String),
}

/// Asks all matchers, of which one is enough. Names are as [`mtls_watch_x509::describe`] writes them, `URI:spiffe://…`.
pub(super) fn matches(matchers: &[Matcher], names: &[String]) -> Matched {
    if matchers.is_empty() {
        return Matched::Yes;
    }
    let mut unknown = None;
    for matcher in matchers {
        match matcher.matches(names) {
            Matched::No => {}
            Matched::Yes => return Matched::Yes,
            Matched::Unknown(what) => unknown = unknown.or(Some(what)),
        }
    }
    unknown.map_or(Matched::No, Matched::Unknown)
}

impl Matcher {
    fn matches(&self, names: &[String]) -> Matched {
        if self.kind == Some(Kind::Other) {
            return Matched::Unknown("an otherName".to_owned());
        }
        let mut of_kind = names.iter().filter_map(|name| self.of_kind(name));
        match &self.text {
            Text::Unknown(what) => Matched::Unknown(what.clone()),
            text if of_kind.any(|(kind, name)| text.matches(kind, name)) => Matched::Yes,
            _ => Matched::No,
        }
    }

    fn of_kind<'a>(&self, name: &'a str) -> Option<(Kind, &'a str)> {
        let (kind, name) = name.split_once(':')?;
        let kind = match kind {
            "DNS" => Kind::Dns,
            "URI" => Kind::Uri,
            "IP" => Kind::Ip,
            "email" => Kind::Email,
            _ => return None,
        };
        self.kind
            .is_none_or(|wanted| wanted == kind)
            .then_some((kind, name))
    }
}

impl Text {
    fn matches(&self, kind: Kind, name: &str) -> bool {
        let same =
            |ignore_case: bool, text: &str, compare: fn(&str, &str) -> bool| match ignore_case {
                true => compare(&name.to_lowercase(), &text.to_lowercase()),
                false => compare(name, text),
            };
        match self {
            // A wildcard in the certificate stands for a label of the name that is asked for.
            Self::Exact(text, _) if kind == Kind::Dns => dns_name_matches(name, text),
            Self::Exact(text, ignore_case) => same(*ignore_case, text, |name, text| name == text),
            Self::Prefix(text, ignore_case) => {
                same(*ignore_case, text, |name, text| name.starts_with(text))
            }
            Self::Suffix(text, ignore_case) => {
                same(*ignore_case, text, |name, text| name.ends_with(text))
            }
            Self::Contains(text, ignore_case) => {
                same(*ignore_case, text, |name, text| name.contains(text))
            }
            Self::Expression(regex) => regex.is_match(name),
            Self::Unknown(_) => false,
        }
    }
}

/// `Utility::dnsNameMatch` of Envoy: case does not matter, and a wildcard in the first label of `pattern` stands for one
/// label, or for a part of it.
fn dns_name_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    if pattern == name {
        return true;
    }
    let Some(((first, rest), (label, name_rest))) =
        pattern.split_once('.').zip(name.split_once('.'))
    else {
        return false;
    };
    let Some((before, after)) = first.split_once('*') else {
        return false;
    };
    let is_long_enough = label.len() >= before.len().saturating_add(after.len());
    rest == name_rest
        && is_long_enough
        && !after.contains('*')
        && !label.is_empty()
        && !first.starts_with("xn--")
        && label.starts_with(before)
        && label.ends_with(after)
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Some(Kind::Dns) => "DNS ",
            Some(Kind::Uri) => "URI ",
            Some(Kind::Ip) => "IP ",
            Some(Kind::Email) => "e-mail ",
            Some(Kind::Other) => "otherName ",
            None => "",
        };
        f.write_str(kind)?;
        match &self.text {
            Text::Exact(text, _) => f.write_str(text),
            Text::Prefix(text, _) => write!(f, "{text}*"),
            Text::Suffix(text, _) => write!(f, "*{text}"),
            Text::Contains(text, _) => write!(f, "*{text}*"),
            Text::Expression(regex) => write!(f, "/{regex}/"),
            Text::Unknown(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(json: &str) -> Matcher {
        serde_json::from_str::<TypedMatcher>(json).unwrap().into()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_matcher_that_fits_is_enough() {
        let trust_domain =
            matcher(r#"{"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}"#);
        let host = matcher(r#"{"sanType": "DNS", "matcher": {"exact": "pay.shop"}}"#);
        let both = [trust_domain, host];
        for (there, expected) in [
            (
                &["URI:spiffe://cluster.local/ns/shop/sa/pay"][..],
                Matched::Yes,
            ),
            (&["URI:spiffe://other/ns/shop/sa/pay"], Matched::No),
            (&["DNS:spiffe://cluster.local/"], Matched::No),
            (&["URI:x:y", "DNS:PAY.shop"], Matched::Yes),
            (&["DNS:*.shop"], Matched::Yes),
            (&["DNS:*.other"], Matched::No),
            (&[], Matched::No),
        ] {
            assert_eq!(matches(&both, &names(there)), expected, "{there:?}");
        }
        assert_eq!(matches(&[], &[]), Matched::Yes);
    }

    #[test]
    fn an_expression_is_for_the_whole_name() {
        let one = |regex: &str| {
            [matcher(&format!(
                r#"{{"san_type": "URI", "matcher": {{"safe_regex": {{"regex": "{regex}"}}}}}}"#
            ))]
        };
        let name = names(&["URI:spiffe://d/ns/a/sa/b"]);
        assert_eq!(
            matches(&one("spiffe://d/ns/[a-z]+/sa/b"), &name),
            Matched::Yes
        );
        assert_eq!(matches(&one("ns/a"), &name), Matched::No);
        assert!(matches!(matches(&one("("), &name), Matched::Unknown(_)));
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (pattern, name, expected) in [
            ("*.a.b", "x.a.b", true),
            ("*.a.b", "x.y.a.b", false),
            ("*.a.b", "a.b", false),
            ("w*.a.b", "www.a.b", true),
            ("w*.a.b", "x.a.b", false),
            ("a.b", "A.B", true),
        ] {
            assert_eq!(
                dns_name_matches(pattern, name),
                expected,
                "{pattern} {name}"
            );
        }
    }
}
