//! The time of day, and durations on the command line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mtls_watch_core::terms::parse_duration;
use mtls_watch_x509::time::{Seconds, UnixTime};

/// The time of day.
pub(crate) fn now() -> UnixTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_epoch.map_or(0, |since_epoch| since_epoch.as_secs());
    UnixTime(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// Reads a duration of an option: `90s`, `30m`, `36h`, `21d`.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    let seconds = parse_duration(text).and_then(|duration| u64::try_from(duration.0).ok());
    match seconds {
        None | Some(0) => Err("expected a duration such as 90s, 30m, 36h or 21d"),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

/// A duration of an option in whole seconds.
pub(crate) fn seconds(duration: Duration) -> Seconds {
    Seconds(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}

/// Writes seconds in the two largest units that they have: `3d 4h`, `12s`. Less than none is none.
pub(crate) fn span(seconds: i64) -> String {
    let mut rest = seconds.max(0);
    let mut parts = Vec::new();
    for (size, unit) in [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")] {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    match parts.is_empty() {
        true => "0s".to_owned(),
        false => parts.join(" "),
    }
}

/// `5m ago`. A time ahead of this clock is now.
pub(crate) fn ago(seconds: i64) -> String {
    format!("{} ago", span(seconds))
}
