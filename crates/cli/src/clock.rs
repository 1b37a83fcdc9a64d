//! The time of day, and durations on the command line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mtls_watch_x509::time::UnixTime;

/// The time of day.
pub(crate) fn now() -> UnixTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_epoch.map_or(0, |since_epoch| since_epoch.as_secs());
    UnixTime(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// `90s`, `30m`, `36h`, `21d`.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "expected a duration such as 90s, 30m, 36h or 21d";
    let unit = match text.chars().next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(EXPECTED),
    };
    let number = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    let seconds = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    match seconds {
        None | Some(0) => Err(EXPECTED),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
    }
}
