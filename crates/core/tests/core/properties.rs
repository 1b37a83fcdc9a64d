//! What holds for any text: the XFCC header, labels, the configuration.

use std::sync::LazyLock;

use mtls_watch_core::config::{Config, MAX_ERRORS, Problem};
use mtls_watch_core::metrics::name::label_value;
use mtls_watch_core::metrics::{
    CATALOGUE, Description, Identity, Label, NOT_AFTER, tag_regex, write_label,
};
use mtls_watch_core::source::xfcc;
use mtls_watch_core::terms::{Direction, Layer};
use proptest::collection::vec;
use proptest::prelude::*;
use regex::Regex;

use crate::config::REFERENCE;

/// Any text, and texts that are nearly something: made of `parts` and noise.
fn near(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => proptest::sample::select(parts).prop_map(str::to_owned),
        1 => "\\PC{0,5}",
        1 => any::<char>().prop_map(String::from),
    ];
    vec(part, 0..20).prop_map(|parts| parts.concat())
}

const XFCC_PARTS: &[&str] = &[
    "By=",
    "Hash=",
    "Cert=",
    "chain=",
    "Subject=",
    "\"",
    "\\",
    ",",
    ";",
    "=",
    "[",
    "]",
    "{",
    "}",
    " ",
    "spiffe://a/b",
    "%2D",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_before_the_last_element_of_xfcc_changes_it(
        before in near(XFCC_PARTS),
        noise in any::<Vec<u8>>(),
    ) {
        let ours = r#"By=spiffe://a/b;Hash=00;Cert="C";Chain="D";Subject="CN=\",y;Cert=z""#;
        for before in [before.as_bytes(), &noise] {
            let header = [before, b",", ours.as_bytes()].concat();
            let element = xfcc::last_element(&header).unwrap();
            prop_assert_eq!(element.certificates(), Some(&b"D"[..]));
            prop_assert_eq!(element.hash(), Some(&b"00"[..]));
            let rest = br#",By=spiffe://a/b;Hash=00;Subject="CN=\",y;Cert=z""#;
            prop_assert_eq!(element.without_certificates(), [before, rest].concat());
        }
    }

    #[test]
    fn any_header_is_read_as_xfcc_without_harm(
        text in near(XFCC_PARTS),
        bytes in any::<Vec<u8>>(),
    ) {
        for header in [text.as_bytes(), &bytes] {
            let _ = xfcc::certificates(header, None);
            if let Ok(element) = xfcc::last_element(header) {
                let stripped = element.without_certificates();
                prop_assert!(stripped.len() <= header.len());
                let again = xfcc::last_element(&stripped);
                prop_assert!(!again.is_ok_and(|element| element.has_certificates()));
            }
        }
    }

    #[test]
    fn a_label_value_has_the_promised_alphabet_and_length(
        text in any::<String>(),
        long in "\\PC{150,300}",
    ) {
        for text in [&text, &long] {
            let value = label_value(text);
            prop_assert!(PROMISED.is_match(&value), "{value:?}");
            let again = label_value(&value).into_owned();
            prop_assert_eq!(again, value);
        }
    }

    #[test]
    fn the_tags_take_every_label_out_of_a_name(
        values in vec(any::<String>(), 4),
        index in 0..CATALOGUE.len(),
    ) {
        let metric = CATALOGUE[index];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut name = encoded(&metric, &values);
        let mut tags = Vec::new();
        for &label in Label::ALL {
            let Some(found) = TAGS[label as usize].captures(&name) else { continue };
            tags.push((label, found[2].to_owned()));
            name = name.replacen(&found[1], "", 1);
        }
        prop_assert_eq!(&name, metric.name);
        prop_assert_eq!(tags.len(), metric.labels.len());
        for (label, value) in metric.labels.iter().zip(values) {
            prop_assert!(tags.contains(&(*label, label_value(value).into_owned())));
        }
    }

    #[test]
    fn long_values_that_differ_at_the_end_stay_apart(
        start in "[a-z]{200,300}",
        a in "[a-z]",
        b in "[A-Z]",
    ) {
        let series = |end: &str| {
            let identity = start.clone() + end;
            NOT_AFTER.series((Direction::Inbound, Layer::Workload, Identity(&identity)))
        };
        prop_assert_ne!(series(&a), series(&b));
    }

    #[test]
    fn any_text_is_a_configuration_and_its_errors_are_lines(
        text in near(JSON_PARTS),
        bytes in any::<Vec<u8>>(),
    ) {
        for text in [text.as_bytes(), &bytes] {
            let (_, errors) = Config::read(text);
            prop_assert!(errors.len() <= MAX_ERRORS + 1);
            for error in errors {
                let message = error.log_line();
                prop_assert!(!message.contains(char::is_control), "{message:?}");
                prop_assert!(message.len() < 1500);
            }
        }
    }

    #[test]
    fn a_damaged_configuration_does_no_harm(
        at in 0..REFERENCE.len(),
        bytes in vec(any::<u8>(), 0..5),
    ) {
        let mut text = REFERENCE.as_bytes().to_vec();
        let end = (at + bytes.len()).min(text.len());
        text.splice(at..end, bytes);
        let (config, errors) = Config::read(&text);
        prop_assert!(errors.len() <= MAX_ERRORS + 1);
        if errors.iter().any(|error| matches!(error.problem, Problem::NotJson(_))) {
            prop_assert_eq!((config, errors.len()), (Config::default(), 1));
        }
    }
}

static PROMISED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^[A-Za-z0-9._~:/@+-]{0,200}$").unwrap());

/// The regex of each tag.
static TAGS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let regex = |label: &Label| Regex::new(&tag_regex(*label)).unwrap();
    Label::ALL.iter().map(regex).collect()
});

/// The name of a series with these values.
fn encoded(metric: &Description, values: &[&str]) -> String {
    let mut series = String::new();
    for (label, value) in metric.labels.iter().zip(values) {
        write_label(*label, value, &mut series);
    }
    series + metric.name
}

const JSON_PARTS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\"thresholds\":",
    "\"workload\":",
    "\"warning\":",
    "\"21d\"",
    "\"deny\":",
    "null",
    "1e999",
    "-0",
    "100.0",
    "\\u0000",
    "\\n",
    " ",
];
