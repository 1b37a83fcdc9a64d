//! What holds for any text, well-formed or not.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use mtls_watch::certificate::pem::{self, MAX_CERTIFICATES};
use mtls_watch::certificate::spiffe;
use mtls_watch::config::Config;
use mtls_watch::metrics::name::label_value;
use mtls_watch::metrics::{CATALOGUE, Label, NOT_AFTER, tag_regex};
use mtls_watch::source::xfcc;
use mtls_watch::time::UnixTime;
use proptest::collection::vec;
use proptest::prelude::*;
use regex::Regex;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::config::REFERENCE;
use crate::pki::url_encode;

/// As usual, but a failure is printed only, and leaves no file among the sources.
pub fn unsaved() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Any text, and texts that are nearly something: made of `parts` and noise.
fn near(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => proptest::sample::select(parts).prop_map(str::to_owned),
        1 => "\\PC{0,5}",
        1 => any::<char>().prop_map(String::from),
    ];
    vec(part, 0..20).prop_map(|parts| parts.concat())
}

const PEM_PARTS: &[&str] = &[
    "-----BEGIN CERTIFICATE-----",
    "-----END CERTIFICATE-----",
    "-----BEGIN ",
    "-----END ",
    "-----",
    "\n",
    "\r\n",
    "MIIB",
    "AA==",
    "=",
    "%0A",
    "%2B",
    "%",
    "-",
    "CERTIFICATE",
];

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
    #![proptest_config(unsaved())]

    #[test]
    fn percent_encoding_is_undone(text in any::<String>()) {
        let encoded = url_encode(&text);
        let decoded = pem::percent_decode(encoded.as_bytes()).unwrap();
        prop_assert_eq!(decoded.as_ref(), text.as_bytes());
    }

    #[test]
    fn text_without_percent_signs_stays_as_it_is(text in "[^%]*") {
        let decoded = pem::percent_decode(text.as_bytes()).unwrap();
        prop_assert_eq!(decoded.as_ref(), text.as_bytes());
    }

    #[test]
    fn any_text_is_read_as_pem_without_harm(text in near(PEM_PARTS), bytes in any::<Vec<u8>>()) {
        for text in [text.as_bytes(), &bytes] {
            let decoded = pem::percent_decode(text);
            let text = decoded.as_deref().unwrap_or(text);
            prop_assert!(pem::certificates(text).count() <= MAX_CERTIFICATES);
        }
    }

    #[test]
    fn pem_gives_back_the_bytes(
        ders in vec(any::<Vec<u8>>(), 0..5),
        crlf in any::<bool>(),
        between in "[^-]*",
    ) {
        let ending = if crlf { ::pem::LineEnding::CRLF } else { ::pem::LineEnding::LF };
        let config = ::pem::EncodeConfig::new().set_line_ending(ending);
        let block = |der: &Vec<u8>| {
            let block = ::pem::Pem::new("CERTIFICATE", der.clone());
            between.clone() + &::pem::encode_config(&block, config)
        };
        let text: String = ders.iter().map(block).collect();
        let found: Vec<_> = pem::certificates(text.as_bytes()).collect();
        prop_assert_eq!(found, ders.into_iter().map(Ok).collect::<Vec<_>>());
    }

    #[test]
    fn base64_is_decoded_as_another_decoder_does(
        body in "([A-Za-z0-9+/]{0,6}[=\n !-,]{0,4}){0,4}",
    ) {
        let lenient = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
        let other = GeneralPurpose::new(&STANDARD, lenient);
        let digits: String = body.split_ascii_whitespace().collect();
        let text = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----");
        let found = pem::certificates(text.as_bytes()).next().unwrap();
        prop_assert_eq!(found.ok(), other.decode(digits).ok());
    }

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
            let _ = xfcc::certificates(header);
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
        values in vec(any::<String>(), 3),
        index in 0..CATALOGUE.len(),
    ) {
        let metric = CATALOGUE[index];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut name = metric.series(&values);
        let mut tags = Vec::new();
        for label in Label::ALL {
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
        let series = |end: &str| NOT_AFTER.series(&["inbound", "workload", &(start.clone() + end)]);
        prop_assert_ne!(series(&a), series(&b));
    }

    #[test]
    fn any_configuration_is_read_or_refused_in_one_line(
        text in near(JSON_PARTS),
        bytes in any::<Vec<u8>>(),
    ) {
        for text in [text.as_bytes(), &bytes] {
            if let Err(error) = Config::parse(text) {
                let message = error.to_string();
                prop_assert!(!message.contains(char::is_control), "{message:?}");
                prop_assert!(message.len() < 1000);
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
        let _ = Config::parse(&text).map_err(|error| error.to_string());
    }

    #[test]
    fn a_spiffe_id_is_what_the_standard_says(id in near(SPIFFE_PARTS), valid in VALID_SPIFFE_ID) {
        for id in [&id, &valid] {
            let mut path = id.split('/').skip(3);
            let dots = path.any(|segment| matches!(segment, "." | ".."));
            let expected = SPIFFE_ID.is_match(id) && !dots && id.len() <= 2048;
            prop_assert_eq!(spiffe::validate_id(id).is_ok(), expected, "{}", id);
        }
    }

    #[test]
    fn a_time_is_written_and_read_as_another_library_does(
        seconds in -62_167_219_200..=253_402_300_799i64,
    ) {
        let text = UnixTime(seconds).to_string();
        let other = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        prop_assert_eq!(&text, &other.format(&Rfc3339).unwrap());
        prop_assert_eq!(text.parse(), Ok(UnixTime(seconds)));
    }

    #[test]
    fn every_time_of_rfc_3339_is_read(
        seconds in 0..253_402_200_000i64,
        nanoseconds in 0..1_000_000_000i64,
        offset in -12 * 60..=14 * 60,
    ) {
        let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let time = time + time::Duration::nanoseconds(nanoseconds);
        let there = time.to_offset(UtcOffset::from_whole_seconds(offset * 60).unwrap());
        let text = there.format(&Rfc3339).unwrap();
        prop_assert_eq!(text.parse(), Ok(UnixTime(seconds)), "{}", text);
    }

    #[test]
    fn a_time_that_is_none_is_refused(
        (year, month, day) in (1900..2100u32, 0..15u32, 0..34u32),
        (hour, minute, second) in (0..27u32, 0..63u32, 0..60u32),
        (sign, hours, minutes) in ("[+-]", 0..27u32, 0..63u32),
        fraction in "[0-9a]{0,3}",
    ) {
        let text = format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}\
             .{fraction}{sign}{hours:02}:{minutes:02}"
        );
        let other = OffsetDateTime::parse(&text, &Rfc3339).ok();
        let other = other.map(|time| UnixTime(time.unix_timestamp()));
        prop_assert_eq!(text.parse().ok(), other, "{}", text);
    }

    #[test]
    fn any_text_is_read_as_a_time_without_harm(text in near(TIME_PARTS)) {
        let _ = text.parse::<UnixTime>();
    }
}

static PROMISED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^[A-Za-z0-9._~:/@+-]{0,200}$").unwrap());

/// SPIFFE-ID, sections 2.1 to 2.3, for a workload.
static SPIFFE_ID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+$").unwrap());

/// The regex of each tag.
static TAGS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let regex = |label: &Label| Regex::new(&tag_regex(*label)).unwrap();
    Label::ALL.iter().map(regex).collect()
});

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

const SPIFFE_PARTS: &[&str] = &[
    "spiffe:", "//", "/", "a", "Z", ".", "..", "-", "_", "%", ":80", "é",
];
const VALID_SPIFFE_ID: &str = "spiffe://[a-z0-9._-]{1,20}(/[A-Za-z0-9._-]{1,10}){1,5}";

const TIME_PARTS: &[&str] = &[
    "2026", "-", "02", "29", "T", "00", ":", "59", "Z", "z", "+01:00", ".5", " ",
];
