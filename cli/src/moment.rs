//! Moments and durations as people give them, and as we show them. Pure.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, SecondsFormat};

use crate::source::time;

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

/// Reads `now`, `-1h` (before now), `2026-01-02`, `2026-01-02T03:04:05Z` and what else logs have.
/// Nothing is before 1970, and zero would mean that no moment is given.
pub fn parse_moment(text: &str, now_unix_nano: i64) -> Result<i64, String> {
    moment(text.trim(), now_unix_nano).map(|unix_nano| unix_nano.max(1))
}

fn moment(text: &str, now_unix_nano: i64) -> Result<i64, String> {
    let nanos = |ago: Duration| i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
    if text == "now" {
        return Ok(now_unix_nano);
    }
    if let Some(ago) = text.strip_prefix('-') {
        return Ok(now_unix_nano.saturating_sub(nanos(parse_duration(ago)?)));
    }
    if let Ok(date) = text.parse::<NaiveDate>() {
        let days = i64::from(date.to_epoch_days());
        return days.checked_mul(86_400_000_000_000).ok_or_else(|| format!("{text:?} is too far"));
    }
    time::whole(text, now_unix_nano).ok_or_else(|| {
        format!("{text:?} is no time: write -1h, 2026-01-02 or 2026-01-02T03:04:05Z")
    })
}

/// A moment as `2026-01-02T03:04:05.678901234Z`.
pub fn rfc3339(unix_nano: i64) -> String {
    DateTime::from_timestamp_nanos(unix_nano).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A moment as a person would type it, to the second: `2026-01-02T03:04:05Z`.
pub fn typed(unix_nano: i64) -> String {
    DateTime::from_timestamp_nanos(unix_nano).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A moment for people: UTC, to the millisecond; a dash for none.
pub fn shown(unix_nano: i64) -> String {
    if unix_nano == 0 {
        return "-".to_owned();
    }
    DateTime::from_timestamp_nanos(unix_nano).format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// The hour of a moment for people, for what is known to the hour only; a dash for none.
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
    fn moments_are_absolute_or_before_now() {
        for (text, expected) in [
            ("now", NOW),
            ("-1h", NOW - 3_600_000_000_000),
            ("2026-01-02T03:04:05Z", NOW),
            ("2026-01-02", 1_767_312_000_000_000_000),
            ("1970-01-01", 1),
            ("1969-12-31", 1),
            ("-99y", 1),
        ] {
            assert_eq!(parse_moment(text, NOW).unwrap(), expected, "{text}");
        }
        for bad in ["", "yesterday", "-x", "2026-13-01"] {
            assert!(parse_moment(bad, NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_shown_to_the_point() {
        assert_eq!(rfc3339(NOW + 5), "2026-01-02T03:04:05.000000005Z");
        assert_eq!(typed(NOW + 5), "2026-01-02T03:04:05Z");
        assert_eq!(shown(NOW), "2026-01-02 03:04:05.000");
        assert_eq!(shown(0), "-");
        assert_eq!((shown_hour(NOW).as_str(), shown_hour(0).as_str()), ("2026-01-02 03h", "-"));
    }
}
