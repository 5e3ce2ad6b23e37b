//! Reads the time formats that logs are written in. Pure.
//!
//! A time without a zone is taken as UTC; one without a year (syslog) as the latest such moment
//! that is not more than a day after `now`. Times before 1970 or after 2262 are not recognised,
//! because the wire cannot carry them.

use std::time::Duration;

use chrono::NaiveDate;
use logweir_core::timestamp::{Timestamp, nanos_of};

const SECOND_NANOS: i64 = nanos_of(Duration::from_secs(1));
const DAY: Duration = Duration::from_secs(86_400);
const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
const WEEKDAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

/// Reads a text that is a time and nothing else.
pub fn whole(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    let (time, used) = leading(text, now)?;
    (used == text.len()).then_some(time)
}

/// Reads a time, which may stand in brackets, at the start of a line; also tells where it ends.
pub fn leading(text: &str, now: Timestamp) -> Option<(Timestamp, usize)> {
    let mut cursor = Cursor { bytes: text.as_bytes(), at: 0 };
    let bracketed = cursor.eat(b'[');
    let forms: [fn(&mut Cursor<'_>, Timestamp) -> Option<Timestamp>; 4] =
        [calendar, common_log, syslog, epoch];
    let start = cursor.at;
    let time = forms.iter().find_map(|form| {
        cursor.at = start;
        form(&mut cursor, now)
    })?;
    // `[2026-01-02T03:04:05 INFO]` holds more than a time: cut out, it would leave half a bracket.
    if bracketed && !cursor.eat(b']') {
        return None;
    }
    Some((time, cursor.at))
}

/// Finds `[02/Jan/2026:03:04:05 +0000]` in the first fields of an access log line.
pub fn access_log(text: &str) -> Option<Timestamp> {
    let head = &text.as_bytes()[..text.len().min(256)];
    let start = head.iter().position(|byte| *byte == b'[')? + 1;
    let mut cursor = Cursor { bytes: head, at: start };
    let time = common_log(&mut cursor, Timestamp::EPOCH)?;
    cursor.eat(b']').then_some(time)
}

/// Reads a count since 1970 in seconds (a fraction is allowed), or, by its size, milliseconds,
/// microseconds or nanoseconds.
pub fn since_epoch(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 19 || fraction.len() > 18 || !digits(whole) {
        return None;
    }
    // By the number of digits: seconds have ten from 2001 to 2286, and each finer unit three more.
    let unit = match whole.len() {
        0..=11 => 1_000_000_000_i128,
        12..=14 => 1_000_000,
        15..=17 => 1_000,
        _ => 1,
    };
    let mut nanos = whole.parse::<i128>().ok()? * unit;
    if !fraction.is_empty() {
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        nanos += digits(fraction).then(|| fraction.parse::<i128>().ok())?? * unit / scale;
    }
    i64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Timestamp::from_unix_nanos)
}

/// `2026-01-02T03:04:05.678+01:00`, with blanks, slashes and commas as people write them.
fn calendar(cursor: &mut Cursor<'_>, _now: Timestamp) -> Option<Timestamp> {
    let year = cursor.number(4, 4)?;
    let separator = cursor.take().filter(|byte| matches!(byte, b'-' | b'/'))?;
    let month = cursor.number(2, 2)?;
    cursor.expect(separator)?;
    let day = cursor.number(2, 2)?;
    cursor.take().filter(|byte| matches!(byte, b'T' | b't' | b' ' | b'_'))?;
    let clock = cursor.clock()?;
    let zone = cursor.zone()?;
    moment(year, month, day, clock - zone)
}

/// `02/Jan/2026:03:04:05 +0000`.
fn common_log(cursor: &mut Cursor<'_>, _now: Timestamp) -> Option<Timestamp> {
    let day = cursor.number(2, 2)?;
    cursor.expect(b'/')?;
    let month = cursor.name(&MONTHS)?;
    cursor.expect(b'/')?;
    let year = cursor.number(4, 4)?;
    cursor.expect(b':')?;
    let clock = cursor.clock()?;
    let zone = cursor.zone()?;
    moment(year, month, day, clock - zone)
}

/// `Jan  2 03:04:05`, also `Fri Jan  2 03:04:05 2026`.
fn syslog(cursor: &mut Cursor<'_>, now: Timestamp) -> Option<Timestamp> {
    let start = cursor.at;
    if cursor.name(&WEEKDAYS).is_none() || !cursor.eat(b' ') {
        cursor.at = start;
    }
    let month = cursor.name(&MONTHS)?;
    cursor.expect(b' ')?;
    // A day of one digit has a blank in place of the other (RFC 3164, 4.1.2).
    cursor.eat(b' ');
    let day = cursor.number(1, 2)?;
    cursor.expect(b' ')?;
    let clock = cursor.clock()?;
    let end = cursor.at;
    if cursor.eat(b' ')
        && let Some(year) = cursor.number(4, 4)
        && cursor.at_boundary()
        && let Some(time) = moment(year, month, day, clock)
    {
        return Some(time);
    }
    cursor.at = end;
    without_year(month, day, clock, now)
}

fn without_year(month: u32, day: u32, clock: i64, now: Timestamp) -> Option<Timestamp> {
    use chrono::Datelike;
    // A day ahead is allowed: such times name no zone either, and the sender may be east of UTC.
    let latest = now + DAY;
    let year = latest.date_time().year();
    // 29 February may lie eight years back, across a century.
    (0..=8)
        .filter_map(|back| moment(u32::try_from(year - back).ok()?, month, day, clock))
        .find(|time| *time <= latest)
}

/// `1767323045.678 …`, with 10 digits or more so that no ordinary number is taken for a time.
fn epoch(cursor: &mut Cursor<'_>, _now: Timestamp) -> Option<Timestamp> {
    let rest = cursor.rest();
    let length =
        rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(rest.len());
    let text = std::str::from_utf8(&rest[..length]).ok()?;
    let whole = text.split('.').next().unwrap_or_default();
    if !matches!(whole.len(), 10 | 13 | 16 | 19) {
        return None;
    }
    let time = since_epoch(text);
    cursor.at += length;
    time.filter(|_| cursor.at_boundary() || cursor.rest().first() == Some(&b']'))
}

fn moment(year: u32, month: u32, day: u32, clock_nanos: i64) -> Option<Timestamp> {
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let days = i64::from(date.to_epoch_days());
    let nanos = days.checked_mul(nanos_of(DAY))?.checked_add(clock_nanos)?;
    (nanos > 0).then_some(Timestamp::from_unix_nanos(nanos))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn take(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        self.eat(wanted).then_some(())
    }

    fn at_boundary(&self) -> bool {
        self.rest().first().is_none_or(|byte| byte.is_ascii_whitespace())
    }

    fn number(&mut self, digits_min: usize, digits_max: usize) -> Option<u32> {
        let digits =
            self.rest().iter().take(digits_max).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < digits_min {
            return None;
        }
        let number = self.rest()[..digits].iter().fold(0, |n, b| n * 10 + u32::from(b - b'0'));
        self.at += digits;
        Some(number)
    }

    fn name(&mut self, names: &[&[u8]]) -> Option<u32> {
        let found = names.iter().position(|name| {
            self.rest().get(..3).is_some_and(|head| head.eq_ignore_ascii_case(name))
        })?;
        self.at += 3;
        u32::try_from(found + 1).ok()
    }

    /// `03:04`, `03:04:05`, `03:04:05.678` or `03:04:05,678`, in nanoseconds since midnight.
    fn clock(&mut self) -> Option<i64> {
        let hour = self.number(2, 2).filter(|hour| *hour < 24)?;
        self.expect(b':')?;
        let minute = self.number(2, 2).filter(|minute| *minute < 60)?;
        let second = match self.eat(b':') {
            // A leap second is counted into the next minute.
            true => self.number(2, 2).filter(|second| *second <= 60)?,
            false => 0,
        };
        let seconds = i64::from(hour * 3_600 + minute * 60 + second);
        Some(seconds * SECOND_NANOS + self.fraction())
    }

    fn fraction(&mut self) -> i64 {
        let marked = matches!(self.rest().first(), Some(b'.' | b','));
        let digits = self.rest().iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
        if !marked || digits == 0 {
            return 0;
        }
        // Digits beyond the ninth are read over: rounding could carry into the next second.
        let nanos = (0..9).fold(0, |nanos, place| {
            let digit = if place < digits { self.rest()[1 + place] - b'0' } else { 0 };
            nanos * 10 + i64::from(digit)
        });
        self.at += 1 + digits;
        nanos
    }

    /// `Z`, ` UTC`, `+01:00`, ` -0500` or nothing, in nanoseconds east of UTC.
    fn zone(&mut self) -> Option<i64> {
        let start = self.at;
        self.eat(b' ');
        let letters = self.rest().iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        if matches!(&self.rest()[..letters], b"Z" | b"z" | b"UTC" | b"GMT") {
            self.at += letters;
            return Some(0);
        }
        let sign = match self.rest().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => 0,
        };
        let offset = (sign != 0).then(|| {
            self.at += 1;
            self.offset()
        });
        match offset.flatten() {
            Some(nanos) => Some(sign * nanos),
            // What follows is no zone, such as the dash of ` - INFO`: it belongs to the message.
            None => {
                self.at = start;
                Some(0)
            }
        }
    }

    fn offset(&mut self) -> Option<i64> {
        let hour = self.number(2, 2).filter(|hour| *hour < 24)?;
        self.eat(b':');
        let minute = self.number(2, 2).filter(|minute| *minute < 60)?;
        Some(i64::from(hour * 3_600 + minute * 60) * SECOND_NANOS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-01-02T03:04:05Z.
    const MOMENT: Timestamp = Timestamp::from_unix_seconds(1_767_323_045);

    fn check(text: &str, expected: Timestamp) {
        assert_eq!(whole(text, MOMENT), Some(expected), "{text}");
    }

    #[test]
    fn the_common_formats_are_read() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02 03:04:05",
            "2026/01/02 03:04:05",
            "2026-01-02T04:04:05+01:00",
            "2026-01-01T22:04:05 -0500",
            "2026-01-02 03:04:05 UTC",
            "[2026-01-02 03:04:05]",
            "Jan  2 03:04:05",
            "Jan 02 03:04:05",
            "Fri Jan  2 03:04:05 2026",
            "02/Jan/2026:03:04:05 +0000",
            "[02/Jan/2026:03:04:05 +0000]",
            "1767323045",
            "1767323045000",
            "1767323045000000",
            "1767323045000000000",
        ] {
            check(text, MOMENT);
        }
        assert_eq!(leading("2026-01-02 03:04:05 Zebra", MOMENT), Some((MOMENT, 19)));
        check("2026-01-02 03:04:05,123", MOMENT + Duration::from_millis(123));
        check("2026-01-02T03:04:05.123456789Z", MOMENT + Duration::from_nanos(123_456_789));
        check("2026-01-02T03:04:05.1234567899Z", MOMENT + Duration::from_nanos(123_456_789));
        check("1767323045.5", MOMENT + Duration::from_millis(500));
    }

    #[test]
    fn what_is_no_time_is_left_alone() {
        for text in [
            "",
            "hello",
            "12345",
            "2026-13-02 03:04:05",
            "2026-01-02",
            "1969-12-31 23:59:59",
            "9999-01-01 00:00:00",
            "Foo  2 03:04:05",
            "2026-01-02 25:00:00",
            "[2026-01-02 03:04:05",
            "17673230450000000001234567890",
        ] {
            assert_eq!(whole(text, MOMENT), None, "{text}");
        }
    }

    #[test]
    fn a_time_without_a_year_is_never_in_the_future() {
        assert_eq!(
            whole("Dec 31 23:59:59", MOMENT),
            Some(Timestamp::from_unix_seconds(1_767_225_599))
        );
        let leap_day = whole("Feb 29 00:00:00", MOMENT);
        assert_eq!(leap_day, whole("2024-02-29 00:00:00", MOMENT));
    }

    #[test]
    fn an_access_log_has_its_time_further_right() {
        let line = r#"10.0.0.1 - - [02/Jan/2026:03:04:05 +0000] "GET / HTTP/1.1" 200 12"#;
        assert_eq!(access_log(line), Some(MOMENT));
        assert_eq!(access_log("no time [here]"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let used = leading(&text, MOMENT).map_or(0, |(_, used)| used);
            prop_assert!(text.is_char_boundary(used));
            prop_assert!(access_log(&text).is_none_or(|time| time > Timestamp::EPOCH));
            prop_assert!(since_epoch(&text).is_none_or(|time| time > Timestamp::EPOCH));
        }

        #[test]
        fn no_time_like_text_panics(text in "[0-9A-Z:/. ,+\\[\\]-]{0,40}") {
            prop_assert!(leading(&text, MOMENT).is_none_or(|(_, used)| used <= text.len()));
        }
    }
}
