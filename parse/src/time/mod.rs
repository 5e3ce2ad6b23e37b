//! Reads the time formats that logs are written in. Pure.
//!
//! A time without a zone is taken in the zone of its source; one without a year (syslog, klog) as
//! the latest such moment that is not more than a day after now. Times before 1970 or after 2262
//! are not recognised, because the wire cannot carry them.

mod cursor;
mod zone;

use std::time::Duration;

use chrono::{Datelike, NaiveDate, TimeDelta};
use logweir_core::timestamp::{Timestamp, nanos_of};

pub use self::zone::Tz;
use self::{cursor::Cursor, zone::Zone};
use crate::parsed::Context;

const DAY: Duration = Duration::from_secs(86_400);
/// Digits of the least number of seconds that is taken for a time.
const SECOND_DIGITS_MIN: usize = 9;
/// Bytes of `2026-01-02T03:04:05.678901234Z`.
const DOCKER_STAMP_BYTES: usize = 30;
/// Bytes of an access log within which its time stands, behind client and user.
const ACCESS_LOG_BYTES_MAX: usize = 256;

/// Reads a text that is a time and nothing else.
pub fn whole(text: &str, context: &Context) -> Option<Timestamp> {
    let text = text.trim();
    let (time, used) = leading(text, context)?;
    (used == text.len()).then_some(time)
}

/// The time at the start of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When it was.
    pub time: Timestamp,
    /// Where it ends in the text, bytes.
    pub end: usize,
    /// The bracket that it begins with holds more than the time, and is not closed at its end.
    pub is_in_bracket: bool,
}

/// Reads the time at the start of a log, which may be indented.
pub(crate) fn stamp(text: &str, context: &Context) -> Option<Stamp> {
    let inner = text.trim_start_matches([' ', '\t']);
    let indent = text.len() - inner.len();
    let of = |is_in_bracket| move |(time, end)| Stamp { time, end: indent + end, is_in_bracket };
    leading(inner, context)
        .map(of(false))
        .or_else(|| leading_in_bracket(inner, context).map(of(true)))
}

/// The stamp that `docker logs -t` puts before each line, with nine digits of the second; also where
/// the line itself begins.
pub(crate) fn of_docker(text: &str, stamp: Stamp) -> Option<usize> {
    let byte = |at: usize| text.as_bytes().get(at).copied();
    let is_of_docker = stamp.end == DOCKER_STAMP_BYTES
        && (byte(19), byte(DOCKER_STAMP_BYTES - 1)) == (Some(b'.'), Some(b'Z'))
        && byte(DOCKER_STAMP_BYTES) == Some(b' ');
    is_of_docker.then_some(DOCKER_STAMP_BYTES + 1)
}

/// Reads a time, which may stand in brackets, at the start of a line; also tells where it ends.
pub fn leading(text: &str, context: &Context) -> Option<(Timestamp, usize)> {
    let mut cursor = Cursor::new(text.as_bytes(), 0);
    let is_bracketed = cursor.eat(b'[');
    if is_bracketed {
        cursor.skip_blanks();
    }
    let forms: &[Form] = match cursor.peek()? {
        b'0'..=b'9' => {
            &[year_first, day_first, epoch, basic, month_first, short_year, month_and_day]
        }
        b'A'..=b'Z' | b'a'..=b'z' => &[named_first],
        _ => return None,
    };
    let start = cursor.at();
    let time = forms.iter().find_map(|form| {
        cursor.go_to(start);
        form(&mut cursor, context)
    })?;
    // `[2026-01-02T03:04:05 INFO]` holds more than a time: cut out, it would leave half a bracket.
    if is_bracketed {
        cursor.skip_blanks();
        cursor.expect(b']')?;
    }
    Some((time, cursor.at()))
}

/// Reads a time behind an opening bracket that holds more than the time; also tells where the time
/// ends.
fn leading_in_bracket(text: &str, context: &Context) -> Option<(Timestamp, usize)> {
    let inner = text.strip_prefix(['[', '<', '(', '{'])?;
    let (time, used) = leading(inner.trim_start_matches(' '), context)?;
    Some((time, used + text.len() - inner.trim_start_matches(' ').len()))
}

type Form = fn(&mut Cursor<'_>, &Context) -> Option<Timestamp>;

/// Finds `[02/Jan/2026:03:04:05 +0000]` in the first fields of an access log line.
pub(crate) fn access_log(text: &str, context: &Context) -> Option<Timestamp> {
    let head = &text.as_bytes()[..text.len().min(ACCESS_LOG_BYTES_MAX)];
    let start = memchr::memchr(b'[', head)? + 1;
    let mut cursor = Cursor::new(head, start);
    let time = day_first(&mut cursor, context)?;
    cursor.eat(b']').then_some(time)
}

/// A month and a day such as `0102`, a blank and a clock, without a year: klog's.
pub(crate) fn month_day_clock(text: &str, context: &Context) -> Option<(Timestamp, usize)> {
    let mut cursor = Cursor::new(text.as_bytes(), 0);
    let (month, day) = (cursor.number(2, 2)?, cursor.number(2, 2)?);
    cursor.expect(b' ')?;
    let clock = cursor.clock()?;
    let time = without_year(month, day, clock, context)?;
    Some((time, cursor.at()))
}

/// Reads a count since 1970 in seconds (a fraction is allowed), or, by its size, milliseconds,
/// microseconds or nanoseconds.
pub fn since_epoch(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // Fewer digits are a count of something else: as seconds they would lie before 1974.
    if !(SECOND_DIGITS_MIN..=19).contains(&whole.len()) || fraction.len() > 18 || !digits(whole) {
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
fn year_first(cursor: &mut Cursor<'_>, context: &Context) -> Option<Timestamp> {
    let year = cursor.number(4, 4)?;
    let separator = cursor.one_of(b"-/.")?;
    let month = cursor.number(1, 2)?;
    cursor.expect(separator)?;
    let day = cursor.number(1, 2)?;
    cursor.one_of(b"Tt _:-\t")?;
    cursor.skip_blanks();
    // Gin writes a dash with blanks around it.
    if cursor.eat(b'-') {
        cursor.skip_blanks();
    }
    let clock = cursor.clock()?;
    moment(Date { year, month, day }, clock, Zone::read(cursor), context)
}

/// `02/Jan/2026:03:04:05 +0000`, `02-Jan-2026 03:04:05`, `2 Jan 2026 03:04:05`, `02.01.2026 03:04`.
fn day_first(cursor: &mut Cursor<'_>, context: &Context) -> Option<Timestamp> {
    let day = cursor.number(1, 2)?;
    let separator = cursor.one_of(b"/-. ")?;
    let month = match separator {
        b'.' => cursor.number(1, 2)?,
        _ => cursor.month()?,
    };
    cursor.expect(separator)?;
    let year = cursor.number(4, 4)?;
    cursor.eat(b',');
    cursor.one_of(b": T")?;
    let clock = cursor.clock()?;
    moment(Date { year, month, day }, clock, Zone::read(cursor), context)
}

/// `01/02/2026 03:04:05 PM`: the month first, as where such dates are written with `AM` and `PM`,
/// unless that can be no month.
fn month_first(cursor: &mut Cursor<'_>, context: &Context) -> Option<Timestamp> {
    let first = cursor.number(1, 2)?;
    let separator = cursor.one_of(b"/-")?;
    let second = cursor.number(1, 2)?;
    cursor.expect(separator)?;
    let year = cursor.number(4, 4)?;
    cursor.eat(b',');
    cursor.one_of(b" T")?;
    let clock = cursor.clock()?;
    let (month, day) = if first > 12 { (second, first) } else { (first, second) };
    moment(Date { year, month, day }, clock, Zone::read(cursor), context)
}

/// `01/02/26 03:04:05`, `02.01.26 03:04:05`, `26/01/02 03:04:05`: the month first where that is
/// possible, as with a whole year, so that the lines of one file are read alike; else of the orders
/// that are possible the one that is nearest to the present, because logs are mostly read soon.
fn short_year(cursor: &mut Cursor<'_>, context: &Context) -> Option<Timestamp> {
    let first = cursor.number(1, 2)?;
    let separator = cursor.one_of(b"/.-")?;
    let second = cursor.number(1, 2)?;
    cursor.expect(separator)?;
    let third = cursor.number(2, 2)?;
    cursor.eat(b',');
    cursor.one_of(b" T")?;
    let clock = cursor.clock()?;
    let zone = Zone::read(cursor);
    let latest = context.now + DAY;
    let of = |year, month, day| {
        let time = moment(Date { year: 2000 + year, month, day }, clock, zone, context);
        time.filter(|time| *time <= latest)
    };
    // Between dots nobody writes the month first.
    let month_first = if separator == b'.' { None } else { of(third, first, second) };
    month_first.or_else(|| {
        let others = [of(third, second, first), of(first, second, third)];
        others.into_iter().flatten().max()
    })
}

/// `01-02 03:04:05.678`, as Android writes it.
fn month_and_day(cursor: &mut Cursor<'_>, context: &Context) -> Option<Timestamp> {
    let month = cursor.number(2, 2)?;
    cursor.expect(b'-')?;
    let day = cursor.number(2, 2)?;
    cursor.expect(b' ')?;
    let clock = cursor.clock()?;
    without_year(month, day, clock, context)
}

/// `20260102T030405Z`, `20260102030405`.
fn basic(cursor: &mut Cursor<'_>, context: &Context) -> Option<Timestamp> {
    let date =
        Date { year: cursor.number(4, 4)?, month: cursor.number(2, 2)?, day: cursor.number(2, 2)? };
    let separator = cursor.one_of(b"T -").unwrap_or_default();
    let start = cursor.at();
    let clock = cursor.basic_clock().or_else(|| {
        cursor.go_to(start);
        cursor.clock().filter(|_| matches!(separator, b' ' | b'-'))
    })?;
    moment(date, clock, Zone::read(cursor), context)
}

/// `Jan  2 03:04:05`, `Fri Jan  2 03:04:05.678 2026`, `Jan 2, 2026 3:04:05 AM` or
/// `Fri, 02 Jan 2026 03:04:05 GMT`.
fn named_first(cursor: &mut Cursor<'_>, context: &Context) -> Option<Timestamp> {
    cursor.skip_weekday();
    if cursor.peek()?.is_ascii_digit() {
        return day_first(cursor, context);
    }
    let month = cursor.month()?;
    cursor.expect(b' ')?;
    // A day of one digit has a blank in place of the other (RFC 3164, 4.1.2).
    cursor.eat(b' ');
    let day = cursor.number(1, 2)?;
    if cursor.eat(b',') {
        cursor.expect(b' ')?;
        let year = cursor.number(4, 4)?;
        cursor.eat(b',');
        cursor.expect(b' ')?;
        let clock = cursor.clock()?;
        return moment(Date { year, month, day }, clock, Zone::read(cursor), context);
    }
    cursor.expect(b' ')?;
    clock_and_year(cursor, month, day, context)
}

/// `03:04:05`, `03:04:05 2026`, `03:04:05 CET 2026`, or the year first as some routers write it.
fn clock_and_year(
    cursor: &mut Cursor<'_>,
    month: u32,
    day: u32,
    context: &Context,
) -> Option<Timestamp> {
    let start = cursor.at();
    if let Some(year) = cursor.number(4, 4)
        && cursor.eat(b' ')
    {
        let clock = cursor.clock()?;
        return moment(Date { year, month, day }, clock, Zone::read(cursor), context);
    }
    cursor.go_to(start);
    let clock = cursor.clock()?;
    let end = cursor.at();
    let zone = Zone::read(cursor);
    if cursor.eat(b' ')
        && let Some(year) = cursor.number(4, 4)
        && (cursor.is_at_blank() || cursor.peek() == Some(b']'))
        && let Some(time) = moment(Date { year, month, day }, clock, zone, context)
    {
        return Some(time);
    }
    cursor.go_to(end);
    without_year(month, day, clock, context)
}

fn without_year(month: u32, day: u32, clock: i64, context: &Context) -> Option<Timestamp> {
    // A day ahead is allowed: such times name no zone either, and the sender may be east of UTC.
    let latest = context.now + DAY;
    let year = latest.date_time().year();
    // 29 February may lie eight years back, across a century.
    let dates = (0..=8).filter_map(|back| {
        let year = u32::try_from(year - back).ok()?;
        moment(Date { year, month, day }, clock, Zone::Unsaid, context)
    });
    dates.into_iter().find(|time| *time <= latest)
}

/// `1767323045.678 …`, with 10 digits or more so that no ordinary number is taken for a time.
fn epoch(cursor: &mut Cursor<'_>, _context: &Context) -> Option<Timestamp> {
    let rest = cursor.rest();
    let length =
        rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(rest.len());
    let text = std::str::from_utf8(&rest[..length]).ok()?;
    let whole = text.split('.').next().unwrap_or_default();
    if !matches!(whole.len(), 10 | 13 | 16 | 19) {
        return None;
    }
    let time = since_epoch(text);
    cursor.skip(length);
    time.filter(|_| cursor.is_at_blank() || cursor.peek() == Some(b']'))
}

struct Date {
    year: u32,
    month: u32,
    day: u32,
}

fn moment(date: Date, clock_nanos: i64, zone: Zone, context: &Context) -> Option<Timestamp> {
    let day = NaiveDate::from_ymd_opt(i32::try_from(date.year).ok()?, date.month, date.day)?;
    let local = || day.and_time(chrono::NaiveTime::MIN) + TimeDelta::nanoseconds(clock_nanos);
    let midnight = i64::from(day.to_epoch_days()).checked_mul(nanos_of(DAY))?;
    let east = zone.nanos_east(local, context.zone);
    let nanos = midnight.checked_add(clock_nanos)?.checked_sub(east)?;
    (nanos > 0).then_some(Timestamp::from_unix_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-01-02T03:04:05Z.
    const MOMENT: Timestamp = Timestamp::from_unix_seconds(1_767_323_045);

    const CONTEXT: Context = Context { zone: Tz::UTC, ..Context::at(MOMENT) };

    fn check(text: &str, expected: Timestamp) {
        assert_eq!(whole(text, &CONTEXT), Some(expected), "{text}");
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
            "2026-01-02 3:04:05",
            "02-Jan-2026 03:04:05",
            "02 Jan 2026 03:04:05",
            "02/Jan/2026 03:04:05",
            "02.01.2026 03:04:05",
            "01/02/2026 03:04:05 AM",
            "Jan 2, 2026 3:04:05 AM",
            "Jan 2, 2026, 3:04:05\u{202f}AM",
            "Fri, 02 Jan 2026 03:04:05 GMT",
            "Fri Jan  2 04:04:05 CET 2026",
            "20260102T030405Z",
            "20260102 03:04:05",
            "20260102030405",
            "[ 2026-01-02 03:04:05 ]",
            "2026-01-02-03:04:05",
            "2026-01-02 03.04.05",
            "2026/01/02 - 03:04:05",
            "01/02/26 03:04:05",
            "1/2/26, 3:04:05 AM",
            "02.01.26 03:04:05",
            "26/01/02 03:04:05",
            "26-01-02 03:04:05",
            "2026-01-02\t03:04:05",
            "01-02 03:04:05",
            "Fri Jan 02 2026 04:04:05 GMT+0100",
            "2026-01-02 05:04:05 UTC+2",
            "2026-01-02 04:04:05 Europe/Berlin",
            "2026-01-02 04:04:05 +0100 CET",
            "2026-01-02 04:04:05 CET",
            "2026-01-01 22:04:05 EST",
            "2026-01-02 04:04:05+01",
            "2026-01-02T03:04:05Z[UTC]",
            "2026-01-02T04:04:05+01:00[Europe/Berlin]",
            "2026-01-02 04:04:05[Europe/Berlin]",
            "1767323045",
            "1767323045000",
            "1767323045000000",
            "1767323045000000000",
        ] {
            check(text, MOMENT);
        }
        assert_eq!(leading("2026-01-02 03:04:05 Zebra", &CONTEXT), Some((MOMENT, 19)));
        check("2026-01-02 03:04:05,123", MOMENT + Duration::from_millis(123));
        check("2026-01-02T03:04:05.123456789Z", MOMENT + Duration::from_nanos(123_456_789));
        check("2026-01-02T03:04:05.1234567899Z", MOMENT + Duration::from_nanos(123_456_789));
        check("Fri Jan  2 03:04:05.678 2026", MOMENT + Duration::from_millis(678));
        check("13/01/2026 03:04:05", MOMENT + 11 * DAY);
        check("01/02/2026 03:04:05 PM", MOMENT + DAY / 2);
        check("01/02/2026 12:04:05 AM", MOMENT - Duration::from_secs(3 * 3_600));
        check("1767323045.5", MOMENT + Duration::from_millis(500));
    }

    #[test]
    fn what_is_no_time_is_left_alone() {
        for text in [
            "",
            "hello",
            "12345",
            "20260102",
            "2026-13-02 03:04:05",
            "2026-01-02",
            "1969-12-31 23:59:59",
            "9999-01-01 00:00:00",
            "Foo  2 03:04:05",
            "2026-01-02 25:00:00",
            "[2026-01-02 03:04:05",
            "2026-01-02 03:04:05 -12",
            "01/02/2026 13:04:05 PM",
            "32.01.2026 03:04:05",
            "17673230450000000001234567890",
            "2026-01-02 03.04",
            "1.2.3 04:05:06",
            "26/13/32 03:04:05",
        ] {
            assert_eq!(whole(text, &CONTEXT), None, "{text}");
        }
    }

    #[test]
    fn a_time_without_a_year_is_never_in_the_future() {
        assert_eq!(
            whole("Dec 31 23:59:59", &CONTEXT),
            Some(Timestamp::from_unix_seconds(1_767_225_599))
        );
        let leap_day = whole("Feb 29 00:00:00", &CONTEXT);
        assert_eq!(leap_day, whole("2024-02-29 00:00:00", &CONTEXT));
    }

    #[test]
    fn a_short_year_is_read_month_first_unless_that_cannot_be() {
        for (text, expected) in [
            ("12/31/25 23:00:00", "2025-12-31 23:00:00"),
            ("31.12.25 23:00:00", "2025-12-31 23:00:00"),
            ("31/12/25 23:00:00", "2025-12-31 23:00:00"),
            ("25/12/31 23:00:00", "2025-12-31 23:00:00"),
            ("02/01/26 01:00:00", "2026-01-02 01:00:00"),
            ("11/12/25 01:00:00", "2025-11-12 01:00:00"),
            ("10.11.12 01:00:00", "2012-11-10 01:00:00"),
        ] {
            assert_eq!(whole(text, &CONTEXT), whole(expected, &CONTEXT), "{text}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_that_of_its_source() {
        let context = Context { zone: Tz::America__New_York, ..CONTEXT };
        let check = |text, expected: &str| {
            assert_eq!(whole(text, &context), whole(expected, &CONTEXT), "{text}");
        };
        check("2026-01-02 03:04:05", "2026-01-02 08:04:05");
        check("2025-07-02 03:04:05", "2025-07-02 07:04:05");
        check("2026-01-02 03:04:05 UTC", "2026-01-02 03:04:05");
        // Set forward at two o'clock: half past two is read as if it were not.
        check("2025-03-09 02:30:00", "2025-03-09 07:30:00");
        // Set back at two o'clock: half past one comes twice.
        check("2025-11-02 01:30:00", "2025-11-02 05:30:00");
    }

    #[test]
    fn an_access_log_has_its_time_further_right() {
        let line = r#"10.0.0.1 - - [02/Jan/2026:03:04:05 +0000] "GET / HTTP/1.1" 200 12"#;
        assert_eq!(access_log(line, &CONTEXT), Some(MOMENT));
        assert_eq!(access_log("no time [here]", &CONTEXT), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let used = leading(&text, &CONTEXT).map_or(0, |(_, used)| used);
            prop_assert!(text.is_char_boundary(used));
            prop_assert!(access_log(&text, &CONTEXT).is_none_or(|time| time > Timestamp::EPOCH));
            prop_assert!(since_epoch(&text).is_none_or(|time| time > Timestamp::EPOCH));
        }

        #[test]
        fn no_time_like_text_panics(text in "[0-9A-Z:/. ,+\\[\\]-]{0,40}") {
            prop_assert!(leading(&text, &CONTEXT).is_none_or(|(_, used)| used <= text.len()));
        }
    }
}
