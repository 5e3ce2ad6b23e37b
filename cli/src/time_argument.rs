//! Timestamps as people type them on a command line. Pure.

use chrono::{NaiveDate, NaiveTime};
use logweir_core::timestamp::{Timestamp, parse_duration};
use logweir_parse::{Context, time};

/// Reads `now`, `-1h` (before now), `2026-01-02`, `2026-01-02T03:04:05Z` and what else logs have.
/// Nothing is before 1970, and zero would mean that no moment is given.
pub fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    moment(text.trim(), now).map(|time| time.max(Timestamp::EPOCH.next()))
}

fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(now);
    }
    if let Some(ago) = text.strip_prefix('-') {
        return Ok(now - parse_duration(ago)?);
    }
    // A date alone begins at midnight in UTC, as every time without a zone is one in UTC here.
    if let Ok(date) = text.parse::<NaiveDate>() {
        let nanos = date.and_time(NaiveTime::MIN).and_utc().timestamp_nanos_opt();
        let midnight = nanos.map(Timestamp::from_unix_nanos);
        return midnight.ok_or_else(|| format!("{text:?} is too far"));
    }
    time::whole(text, &Context::at(now)).ok_or_else(|| {
        format!("{text:?} is no time: write -1h, 2026-01-02 or 2026-01-02T03:04:05Z")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_323_045);

    const FIRST: Timestamp = Timestamp::EPOCH.next();

    #[test]
    fn moments_are_absolute_or_before_now() {
        for (text, expected) in [
            ("now", NOW),
            ("-1h", NOW - Duration::from_secs(3_600)),
            ("2026-01-02T03:04:05Z", NOW),
            ("2026-01-02", Timestamp::from_unix_seconds(1_767_312_000)),
            ("1970-01-01", FIRST),
            ("1969-12-31", FIRST),
            ("-99y", FIRST),
        ] {
            assert_eq!(parse_time(text, NOW).unwrap(), expected, "{text}");
        }
        for bad in ["", "yesterday", "-x", "2026-13-01"] {
            assert!(parse_time(bad, NOW).is_err(), "{bad}");
        }
    }
}
