//! Points in time. The core never asks a clock: every judgement takes its time as an argument.

use std::fmt;

/// Seconds since 1970-01-01T00:00:00Z; negative before. Wide enough for every date of X.509
/// (RFC 5280, section 4.1.2.5: years 1950 to 9999).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// A time that no clock reaches.
    pub const NEVER: UnixTime = UnixTime(i64::MAX);
    /// 9999-12-31T23:59:59Z, the not-after of a certificate that has no end (RFC 5280, section 4.1.2.5), such as
    /// that of a device (IEEE 802.1AR).
    pub const NO_EXPIRY: UnixTime = UnixTime(253_402_300_799);

    /// The time of a date (year, month, day) and time of day (hour, minute, second) in UTC, also of a leap
    /// second; `None` if there is none such. None of the numbers is negative.
    #[must_use]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "days and seconds of four-digit years"
    )]
    pub fn of([year, month, day]: [i64; 3], [hour, minute, second]: [i64; 3]) -> Option<UnixTime> {
        let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && year <= 9999;
        let valid = valid && hour <= 23 && minute <= 59 && second <= 60;
        if !valid {
            return None;
        }
        let days = days_from_civil(year, month, day);
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
        // A day that the month does not have comes back as another date.
        (civil_from_days(days) == (year, month, day)).then_some(UnixTime(seconds))
    }

    /// This time plus a duration, saturating.
    #[must_use]
    pub const fn plus(self, duration: Seconds) -> UnixTime {
        UnixTime(self.0.saturating_add(duration.0))
    }

    /// This time minus a duration, saturating.
    #[must_use]
    pub const fn minus(self, duration: Seconds) -> UnixTime {
        UnixTime(self.0.saturating_sub(duration.0))
    }

    /// The duration from `earlier` to this time; negative if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: UnixTime) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }

    /// The value of a gauge: Envoy's gauges are unsigned, so a time before 1970 is 0.
    #[must_use]
    pub fn gauge(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }
}

/// A duration in seconds. Negative: back in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub i64);

impl Seconds {
    /// Nothing.
    pub const ZERO: Seconds = Seconds(0);
    /// A second.
    pub const ONE: Seconds = Seconds(1);
    /// A minute.
    pub const MINUTE: Seconds = Seconds(60);
    /// An hour.
    pub const HOUR: Seconds = Seconds::MINUTE.times(60);
    /// A day.
    pub const DAY: Seconds = Seconds::HOUR.times(24);

    /// This duration so many times, saturating.
    #[must_use]
    pub const fn times(self, number: i64) -> Seconds {
        Seconds(self.0.saturating_mul(number))
    }

    /// The value of a gauge or histogram, which are unsigned: a negative duration is 0.
    #[must_use]
    pub fn gauge(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }
}

/// RFC 3339 in UTC, e.g. `2026-11-22T01:25:18Z`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.div_euclid(86_400);
        let second = self.0.rem_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3600,
            second % 3600 / 60,
            second % 60
        )
    }
}

/// Proleptic Gregorian date of a day number (day 0 = 1970-01-01).
/// Algorithm: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "all but the era is within one era of 400 years"
)]
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era
        .saturating_add(era.saturating_mul(400))
        .saturating_add(i64::from(month <= 2));
    (year, month, day)
}

/// Day number of a proleptic Gregorian date; the inverse of [`civil_from_days`].
#[expect(
    clippy::arithmetic_side_effects,
    reason = "years have at most four digits, as every caller's"
)]
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Why a text is no RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTime(String);

impl fmt::Display for InvalidTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: not a time such as 2026-11-22T01:25:18Z (RFC 3339)",
            self.0
        )
    }
}

impl std::error::Error for InvalidTime {}

/// Reads RFC 3339: `2026-11-22T01:25:18Z`, also with an offset; a fraction of a second is dropped.
impl std::str::FromStr for UnixTime {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_rfc3339(text).ok_or_else(|| InvalidTime(text.to_owned()))
    }
}

fn parse_rfc3339(text: &str) -> Option<UnixTime> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(zone)?;
    let time = UnixTime::of(numbers(date, '-')?, numbers(without_fraction(time)?, ':')?)?;
    Some(time.minus(Seconds(parse_offset(zone)?)))
}

fn without_fraction(time: &str) -> Option<&str> {
    match time.split_once('.') {
        None => Some(time),
        Some((time, fraction)) => {
            let digits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
            digits.then_some(time)
        }
    }
}

/// `Z`, `+02:00`, `-05:30` in seconds east of UTC.
fn parse_offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (east, offset) = match zone.split_at_checked(1)? {
        ("+", offset) => (true, offset),
        ("-", offset) => (false, offset),
        _ => return None,
    };
    let [hours, minutes] = numbers(offset, ':')?;
    let seconds = hours
        .saturating_mul(3600)
        .saturating_add(minutes.saturating_mul(60));
    (hours <= 23 && minutes <= 59).then_some(if east {
        seconds
    } else {
        seconds.saturating_neg()
    })
}

/// Exactly `N` whole numbers between separators.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u16>().ok().map(i64::from))?
    };
    let found: Option<Vec<i64>> = text.split(separator).map(number).collect();
    found?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_the_dates_of_x509() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_310_718, "2026-11-22T01:25:18Z"),
            (-631_152_000, "1950-01-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
        ] {
            assert_eq!(UnixTime(seconds).to_string(), text);
            assert_eq!(text.parse(), Ok(UnixTime(seconds)));
        }
    }

    #[test]
    fn reads_offsets_and_drops_fractions() {
        for text in [
            "2026-11-22T03:25:18+02:00",
            "2026-11-21 19:55:18.999-05:30",
            "2026-11-22t01:25:18.0z",
        ] {
            assert_eq!(text.parse(), Ok(UnixTime(1_795_310_718)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "Z",
            "2026-11-22",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T01:25:18",
            "+026-11-22T01:25:18Z",
            "2026-11-22-1T01:25:18Z",
            "2026-11-22T01:25:18+0200",
            "2026-11-22T01:25:18+24:00",
            "2026-11-22T01:25:18.Z",
        ] {
            assert!(text.parse::<UnixTime>().is_err(), "{text}");
        }
        let error = "soon".parse::<UnixTime>().unwrap_err();
        assert!(error.to_string().starts_with("\"soon\": not a time"));
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        assert_eq!(UnixTime::NEVER.plus(Seconds::ONE), UnixTime::NEVER);
        assert_eq!(UnixTime(i64::MIN).gauge(), 0);
        assert_eq!(UnixTime(i64::MIN).since(UnixTime(1)), Seconds(i64::MIN));
        let _ = UnixTime(i64::MIN).to_string();
        let _ = UnixTime::NEVER.to_string();
    }
}
