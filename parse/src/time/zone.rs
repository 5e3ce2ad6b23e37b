//! Zones: offsets, names and the abbreviations that logs use. Pure.

use std::time::Duration;

use chrono::{LocalResult, NaiveDateTime, Offset, TimeZone};
pub use chrono_tz::Tz;
use logweir_core::timestamp::nanos_of;

use super::cursor::Cursor;

const MINUTE_NANOS: i64 = nanos_of(Duration::from_secs(60));
/// Bytes of the longest abbreviation in [`ABBREVIATIONS`].
const ABBREVIATION_BYTES_MAX: usize = 4;
/// Bytes of a zone's name at most, such as `America/Argentina/ComodRivadavia`.
const NAME_BYTES_MAX: usize = 40;

/// Abbreviations and their minutes east of UTC, from the IANA time zone database. Where one stands
/// for several zones, that of most people's logs: CST and EST are America's, IST India's, BST the
/// British summer's.
const ABBREVIATIONS: [(&str, i64); 42] = [
    ("UTC", 0),
    ("GMT", 0),
    ("Z", 0),
    ("WET", 0),
    ("WEST", 60),
    ("BST", 60),
    ("CET", 60),
    ("MET", 60),
    ("CEST", 120),
    ("MEST", 120),
    ("EET", 120),
    ("EEST", 180),
    ("MSK", 180),
    ("SAST", 120),
    ("CAT", 120),
    ("EAT", 180),
    ("WAT", 60),
    ("IST", 330),
    ("PKT", 300),
    ("WIB", 420),
    ("HKT", 480),
    ("SGT", 480),
    ("PHT", 480),
    ("AWST", 480),
    ("JST", 540),
    ("KST", 540),
    ("ACST", 570),
    ("ACDT", 630),
    ("AEST", 600),
    ("AEDT", 660),
    ("NZST", 720),
    ("NZDT", 780),
    ("NST", -210),
    ("NDT", -150),
    ("EST", -300),
    ("EDT", -240),
    ("CST", -360),
    ("CDT", -300),
    ("MST", -420),
    ("MDT", -360),
    ("PST", -480),
    ("PDT", -420),
];

/// What a text says about the zone of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// Nothing.
    Unsaid,
    /// So many nanoseconds east of UTC.
    East(i64),
    /// A zone of the IANA database, by name.
    Named(Tz),
}

impl Zone {
    /// Reads `Z`, ` UTC`, ` CET`, `+01:00`, ` -0500`, `+01` or `[Europe/Berlin]`, which may stand
    /// behind one of the others.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Self {
        let start = cursor.at();
        let is_apart = cursor.eat(b' ');
        if let Some(zone) = iana_name(cursor) {
            return Self::Named(zone);
        }
        let zone = match offset(cursor, is_apart) {
            Some(nanos) => {
                skip_abbreviation(cursor);
                Some(Self::East(nanos))
            }
            // `GMT+0100` and `UTC+2` are so far from what stands before.
            None => abbreviation(cursor).map(|nanos| match nanos {
                0 => Self::East(offset(cursor, false).unwrap_or(0)),
                nanos => Self::East(nanos),
            }),
        };
        if zone.is_none() {
            // What follows is no zone, such as the dash of ` - INFO`: it belongs to the message.
            cursor.go_to(start);
        }
        let named = bracketed_name(cursor).map(Self::Named);
        zone.or(named).unwrap_or(Self::Unsaid)
    }

    /// The nanoseconds east of UTC that apply to a local moment; `of_source` is for times that say
    /// nothing of their zone.
    pub(super) fn nanos_east(self, local: impl Fn() -> NaiveDateTime, of_source: Tz) -> i64 {
        match self {
            Self::East(nanos) => nanos,
            Self::Unsaid if of_source == Tz::UTC => 0,
            Self::Named(zone) => zone_nanos_east(zone, local()),
            Self::Unsaid => zone_nanos_east(of_source, local()),
        }
    }
}

/// Of the two moments that one local time names when clocks are set back, the earlier. A local time
/// that is left out when clocks are set forward is read as if they had not been.
fn zone_nanos_east(zone: Tz, local: NaiveDateTime) -> i64 {
    let offset = match zone.offset_from_local_datetime(&local) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => Some(offset),
        // Clocks are never set forward by more than a day.
        LocalResult::None => {
            let before = local - Duration::from_secs(86_400);
            zone.offset_from_local_datetime(&before).earliest()
        }
    };
    offset.map_or(0, |offset| {
        nanos_of(Duration::from_secs(1)) * i64::from(offset.fix().local_minus_utc())
    })
}

/// `+01:00`, `-0500`; `+01` only where no blank stands before it: ` -12 degrees` is no zone.
fn offset(cursor: &mut Cursor<'_>, is_apart: bool) -> Option<i64> {
    let start = cursor.at();
    let sign = match cursor.take()? {
        b'+' => 1,
        b'-' => -1,
        _ => {
            cursor.go_to(start);
            return None;
        }
    };
    let read = |cursor: &mut Cursor<'_>| {
        // 14 hours east is the most that there is (Kiribati); 15 leaves room.
        let hour = cursor.number(1, 2).filter(|hour| *hour <= 15)?;
        let is_parted = cursor.eat(b':');
        let minute = match cursor.number(2, 2) {
            Some(minute) if minute < 60 => minute,
            // `+01` alone; but `+01:` and `+01x` are no zones.
            None if !is_parted
                && cursor.is_at_end_of_word()
                && (!is_apart || is_at_bracket(cursor)) =>
            {
                0
            }
            _ => return None,
        };
        Some(sign * i64::from(hour * 60 + minute) * MINUTE_NANOS)
    };
    let nanos = read(cursor);
    if nanos.is_none() {
        cursor.go_to(start);
    }
    nanos
}

/// Whether ` [` follows: PostgreSQL's ` -03 [7]`.
fn is_at_bracket(cursor: &Cursor<'_>) -> bool {
    cursor.rest().starts_with(b" [")
}

/// An abbreviation behind an offset says the same once more.
fn skip_abbreviation(cursor: &mut Cursor<'_>) {
    let start = cursor.at();
    if !cursor.eat(b' ') || abbreviation(cursor).is_none() {
        cursor.go_to(start);
    }
}

/// `Europe/Berlin`; one without a slash could be a word.
fn iana_name(cursor: &mut Cursor<'_>) -> Option<Tz> {
    let rest = cursor.rest();
    let allowed =
        |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'+');
    let length = rest.iter().take(NAME_BYTES_MAX).take_while(allowed).count();
    if !rest[..length].contains(&b'/') {
        return None;
    }
    let zone = std::str::from_utf8(&rest[..length]).ok()?.parse().ok()?;
    cursor.skip(length);
    Some(zone)
}

fn abbreviation(cursor: &mut Cursor<'_>) -> Option<i64> {
    let rest = cursor.rest();
    let letters = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    if letters == 0 || letters > ABBREVIATION_BYTES_MAX {
        return None;
    }
    let word = &rest[..letters];
    let is_named = |name: &str| name.as_bytes() == word || (word == b"z" && name == "Z");
    let (_, minutes) = ABBREVIATIONS.iter().find(|(name, _)| is_named(name))?;
    cursor.skip(letters);
    Some(minutes * MINUTE_NANOS)
}

/// `[Europe/Berlin]`, as Java writes it behind the offset (java.time, `ISO_ZONED_DATE_TIME`).
fn bracketed_name(cursor: &mut Cursor<'_>) -> Option<Tz> {
    let rest = cursor.rest().strip_prefix(b"[")?;
    let length = rest.iter().take(NAME_BYTES_MAX).position(|byte| *byte == b']')?;
    let zone = std::str::from_utf8(&rest[..length]).ok()?.parse().ok()?;
    cursor.skip(length + 2);
    Some(zone)
}
