//! What holds for any text: PEM, SPIFFE IDs, times.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use mtls_watch_x509::pem::{self, MAX_CERTIFICATES};
use mtls_watch_x509::spiffe;
use mtls_watch_x509::time::UnixTime;
use pki::fixtures::url_encode;
use proptest::collection::vec;
use proptest::prelude::*;
use regex::Regex;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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

/// SPIFFE-ID, sections 2.1 to 2.3, for a workload.
static SPIFFE_ID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+$").unwrap());

const SPIFFE_PARTS: &[&str] = &[
    "spiffe:", "//", "/", "a", "Z", ".", "..", "-", "_", "%", ":80", "é",
];
const VALID_SPIFFE_ID: &str = "spiffe://[a-z0-9._-]{1,20}(/[A-Za-z0-9._-]{1,10}){1,5}";

const TIME_PARTS: &[&str] = &[
    "2026", "-", "02", "29", "T", "00", ":", "59", "Z", "z", "+01:00", ".5", " ",
];
