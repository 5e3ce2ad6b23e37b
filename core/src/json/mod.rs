//! The contract's answers in JSON, in one form wherever it is written: `logweir … --json` and the JSON
//! API. Names are those of the contract; a moment is RFC 3339 under its name without `_unix_nano`;
//! levels and states are words. Pure.

mod incident;
mod log;
mod statistics;

use std::borrow::Cow;

use logweir_proto::v1;
use serde::Serialize;

pub use self::{
    incident::{Incident, delivery_state_name, severity_name, state_name},
    log::{Attributes, Log},
    statistics::{Point, Service, ServiceStat, Template},
};
use crate::timestamp::Timestamp;

const HEX: [char; 16] =
    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];

/// A value as text that nothing acts on which shows it: see [`is_unsafe`].
///
/// # Errors
///
/// If the value does not serialize, which those of this module do.
pub fn to_text(value: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string(value)?;
    Ok(match escaped(&json) {
        Cow::Borrowed(_) => json,
        Cow::Owned(safe) => safe,
    })
}

/// A level's name, as filters spell it.
pub fn level_name(level: v1::Level) -> &'static str {
    match level {
        v1::Level::Unspecified => "-",
        v1::Level::Trace => "TRACE",
        v1::Level::Debug => "DEBUG",
        v1::Level::Info => "INFO",
        v1::Level::Warn => "WARN",
        v1::Level::Error => "ERROR",
        v1::Level::Fatal => "FATAL",
    }
}

fn moment(unix_nano: i64) -> String {
    Timestamp::from_unix_nanos(unix_nano).to_rfc3339()
}

/// On the wire 0 is no moment; a program must not read it as 1970.
fn known_moment(unix_nano: i64) -> Option<String> {
    (unix_nano != 0).then(|| moment(unix_nano))
}

/// JSON with every unsafe character escaped as JSON escapes it; the value is unchanged.
fn escaped(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    let mut units = [0; 2];
    for character in json.chars() {
        if is_unsafe(character) {
            // JSON escapes units of UTF-16: beyond U+FFFF a character is two of them.
            for unit in character.encode_utf16(&mut units) {
                safe.push_str("\\u");
                // Digit by digit, for `format!` would take memory for each of a log's characters.
                safe.extend([12, 8, 4, 0].map(|shift| HEX[usize::from(*unit >> shift & 0xf)]));
            }
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Control characters (C0, C1), line and paragraph separators, direction changes, invisible ones
/// and tags.
pub fn is_unsafe(character: char) -> bool {
    // A log with `ESC ] 52` can write to the clipboard of some terminals, one with U+202E show its
    // text backwards, and one with tags (U+E0000 on) carry text that nobody sees.
    character.is_control()
        || matches!(character,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unsafe_characters_are_escaped_by_their_units_of_utf16() {
        let json = to_text(&"a\u{7f}\u{202e}\u{e0041}b").unwrap();
        assert_eq!(json, r#""a\u007f\u202e\udb40\udc41b""#);
    }

    proptest! {
        #[test]
        fn text_is_safe_and_means_the_same(text: String) {
            let safe = to_text(&text).unwrap();
            prop_assert!(!safe.chars().any(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        }
    }
}
