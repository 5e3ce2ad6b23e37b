//! A moment, durations as text, and nothing that reads a clock. Pure.

use std::{
    fmt,
    ops::{Add, AddAssign, Sub, SubAssign},
    str::FromStr,
    time::Duration,
};

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A moment: nanoseconds since 1970-01-01 UTC, of the years 1677 to 2262. Arithmetic saturates at
/// [`Timestamp::MIN`] and [`Timestamp::MAX`], which also stand for ranges without a bound.
///
/// Stored and sent as the bare number, under a name that ends in `_unix_nano`. So the number itself
/// is found where one leaves the program: in the generated messages, in SQL columns, in the columns
/// of a block and in ids that are made of one; and where scores do arithmetic on many of them
/// (`analysis`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The first moment that there is.
    pub const MIN: Self = Self(i64::MIN);
    /// The last moment that there is.
    pub const MAX: Self = Self(i64::MAX);
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// From nanoseconds since 1970.
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since 1970.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Nanoseconds since 1970.
    pub const fn as_unix_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn as_unix_seconds(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SECOND)
    }

    /// The time from an earlier moment to this one; zero if that is no earlier.
    pub fn since(self, earlier: Self) -> Duration {
        match self > earlier {
            true => Duration::from_nanos(self.0.abs_diff(earlier.0)),
            false => Duration::ZERO,
        }
    }

    /// The moment after this one, a nanosecond later: the end of a range through this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The moment before this one, a nanosecond earlier: the last of a range up to this one.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The moment so long before this one; none if that is before [`Timestamp::MIN`].
    pub fn checked_sub(self, duration: Duration) -> Option<Self> {
        let nanos = i64::try_from(duration.as_nanos()).ok()?;
        self.0.checked_sub(nanos).map(Self)
    }

    /// Nanoseconds from another moment to this one; negative if that is later.
    pub const fn nanos_since(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }

    /// The start of the step that this moment falls into; steps are counted from 1970.
    ///
    /// # Panics
    ///
    /// If the step is empty.
    pub const fn floor(self, step: Duration) -> Self {
        let step = nanos_of(step);
        Self(self.0.div_euclid(step).saturating_mul(step))
    }

    /// `2026-01-02T03:04:05.678901234Z`, as [`Timestamp::from_str`] reads it.
    pub fn to_rfc3339(self) -> String {
        self.date_time().to_rfc3339_opts(SecondsFormat::Nanos, true)
    }

    /// As a person would type it, to the second: `2026-01-02T03:04:05Z`.
    pub fn to_rfc3339_seconds(self) -> String {
        self.date_time().to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    /// For people: to the millisecond, with the `Z` of UTC; a dash for none, which is 1970.
    pub fn shown(self) -> String {
        // Named, as whoever reads it at night lives by another clock; and what is copied from the
        // screen means the same to every other program.
        self.formatted("%Y-%m-%d %H:%M:%S%.3fZ")
    }

    /// The hour for people, for what is known to the hour only; a dash for none, which is 1970.
    pub fn shown_hour(self) -> String {
        self.formatted("%Y-%m-%d %Hh UTC")
    }

    fn formatted(self, format: &str) -> String {
        match self {
            Self::EPOCH => "-".to_owned(),
            _ => self.date_time().format(format).to_string(),
        }
    }

    /// For the calendar.
    pub const fn date_time(self) -> DateTime<chrono::Utc> {
        DateTime::from_timestamp_nanos(self.0)
    }
}

/// A duration in nanoseconds; the longest that there is instead of a longer one (292 years).
pub const fn nanos_of(duration: Duration) -> i64 {
    let nanos = duration.as_nanos();
    if nanos > i64::MAX as u128 { i64::MAX } else { nanos as i64 }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos_of(duration)))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl SubAssign<Duration> for Timestamp {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl FromStr for Timestamp {
    type Err = String;

    /// Reads RFC 3339; what is before 1677 or after 2262 is no time either.
    fn from_str(text: &str) -> Result<Self, String> {
        let time = DateTime::parse_from_rfc3339(text).ok();
        time.and_then(|time| time.timestamp_nanos_opt())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no time: write 2026-01-02T03:04:05Z"))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_323_045);

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
        let time = NOW + Duration::from_nanos(5);
        assert_eq!(time.to_rfc3339(), "2026-01-02T03:04:05.000000005Z");
        assert_eq!(time.to_rfc3339().parse(), Ok(time));
        assert_eq!(time.to_rfc3339_seconds(), "2026-01-02T03:04:05Z");
        assert_eq!(NOW.shown(), "2026-01-02 03:04:05.000Z");
        assert_eq!(NOW.shown_hour(), "2026-01-02 03h UTC");
        assert_eq!(
            (Timestamp::EPOCH.shown(), Timestamp::EPOCH.shown_hour()),
            ("-".into(), "-".into())
        );
    }

    #[test]
    fn a_timestamp_is_stored_as_its_number() {
        assert_eq!(serde_json::to_string(&NOW).unwrap(), "1767323045000000000");
        assert_eq!(
            serde_json::from_str::<Timestamp>("-5").unwrap(),
            Timestamp::from_unix_nanos(-5)
        );
    }

    #[test]
    fn arithmetic_saturates() {
        let (hour, long) = (Duration::from_secs(3_600), Duration::MAX);
        assert_eq!((NOW + hour).since(NOW), hour);
        assert_eq!(NOW.since(NOW + hour), Duration::ZERO);
        assert_eq!(NOW.nanos_since(NOW + hour), -3_600_000_000_000);
        assert_eq!(
            (NOW + long, NOW - long),
            (Timestamp::MAX, Timestamp::from_unix_nanos(NOW.0 - i64::MAX))
        );
        assert_eq!(Timestamp::MAX.since(Timestamp::MIN), Duration::from_nanos(u64::MAX));
        assert_eq!(Timestamp::MAX.nanos_since(Timestamp::MIN), i64::MAX);
        assert_eq!(NOW.next().previous(), NOW);
        assert_eq!(
            (Timestamp::MAX.next(), Timestamp::MIN.previous()),
            (Timestamp::MAX, Timestamp::MIN)
        );
    }

    #[test]
    fn steps_are_counted_from_1970_in_both_directions() {
        let step = Duration::from_secs(10);
        for (time, start) in [(15, 10), (10, 10), (0, 0), (-1, -10), (-10, -10)] {
            let time = Timestamp::from_unix_seconds(time);
            assert_eq!(time.floor(step), Timestamp::from_unix_seconds(start));
        }
    }
}
