//! Timestamps and durations as text. A timestamp is nanoseconds since 1970, UTC. Pure.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};

/// Nanoseconds of a second.
pub const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// Nanoseconds of a minute.
pub const NANOS_PER_MINUTE: i64 = 60 * NANOS_PER_SECOND;
/// Nanoseconds of an hour.
pub const NANOS_PER_HOUR: i64 = 60 * NANOS_PER_MINUTE;
/// Nanoseconds of a day.
pub const NANOS_PER_DAY: i64 = 24 * NANOS_PER_HOUR;

const UNITS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
    ("y", 31_536_000_000),
];

/// Reads `90s`, `5m`, `1h30m`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write a number and ms, s, m, h, d, w or y");
    let mut rest = text.trim();
    let mut total_ms = 0_u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(wrong)?;
        total_ms =
            number.checked_mul(unit.1).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(wrong)?;
        rest = &rest[letters..];
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads what [`rfc3339`] writes.
pub fn parse_rfc3339(text: &str) -> Result<i64, String> {
    let time = DateTime::parse_from_rfc3339(text).ok().and_then(|time| time.timestamp_nanos_opt());
    time.ok_or_else(|| format!("{text:?} is no time: write 2026-01-02T03:04:05Z"))
}

/// A timestamp as `2026-01-02T03:04:05.678901234Z`.
pub fn rfc3339(unix_nano: i64) -> String {
    DateTime::from_timestamp_nanos(unix_nano).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A timestamp as a person would type it, to the second: `2026-01-02T03:04:05Z`.
pub fn typed(unix_nano: i64) -> String {
    DateTime::from_timestamp_nanos(unix_nano).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A timestamp for people: UTC, to the millisecond; a dash for none.
pub fn shown(unix_nano: i64) -> String {
    if unix_nano == 0 {
        return "-".to_owned();
    }
    DateTime::from_timestamp_nanos(unix_nano).format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// The hour of a timestamp for people, for what is known to the hour only; a dash for none.
pub fn shown_hour(unix_nano: i64) -> String {
    if unix_nano == 0 {
        return "-".to_owned();
    }
    DateTime::from_timestamp_nanos(unix_nano).format("%Y-%m-%d %Hh").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_323_045_000_000_000;

    #[test]
    fn durations_are_sums_of_parts() {
        for (text, ms) in [("90s", 90_000), ("1h30m", 5_400_000), ("250ms", 250), ("0s", 0)] {
            assert_eq!(parse_duration(text).unwrap().as_millis(), ms, "{text}");
        }
        for bad in ["", "5", "m", "5x", "99999999999999999999s", "-5m", "9999999999999y"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_timestamp_is_shown_to_the_point() {
        assert_eq!(rfc3339(NOW + 5), "2026-01-02T03:04:05.000000005Z");
        assert_eq!(parse_rfc3339(&rfc3339(NOW + 5)), Ok(NOW + 5));
        assert_eq!(typed(NOW + 5), "2026-01-02T03:04:05Z");
        assert_eq!(shown(NOW), "2026-01-02 03:04:05.000");
        assert_eq!(shown(0), "-");
        assert_eq!((shown_hour(NOW).as_str(), shown_hour(0).as_str()), ("2026-01-02 03h", "-"));
    }
}
