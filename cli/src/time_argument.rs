//! Timestamps as people type them on a command line. Pure.

use std::time::Duration;

use chrono::NaiveDate;
use logweir_core::timestamp::{NANOS_PER_DAY, parse_duration};
use logweir_ship::parse::time;

/// Reads `now`, `-1h` (before now), `2026-01-02`, `2026-01-02T03:04:05Z` and what else logs have.
/// Nothing is before 1970, and zero would mean that no moment is given.
pub fn parse_time(text: &str, now_unix_nano: i64) -> Result<i64, String> {
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
        return days.checked_mul(NANOS_PER_DAY).ok_or_else(|| format!("{text:?} is too far"));
    }
    time::whole(text, now_unix_nano).ok_or_else(|| {
        format!("{text:?} is no time: write -1h, 2026-01-02 or 2026-01-02T03:04:05Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_323_045_000_000_000;

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
            assert_eq!(parse_time(text, NOW).unwrap(), expected, "{text}");
        }
        for bad in ["", "yesterday", "-x", "2026-13-01"] {
            assert!(parse_time(bad, NOW).is_err(), "{bad}");
        }
    }
}
