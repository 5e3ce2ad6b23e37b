//! Reads level words. Pure.

use logweir_core::record::Level;
use logweir_proto::v1;

/// The level that a word names, as the wire has it.
pub(crate) fn named(word: &str) -> Option<v1::Level> {
    let short = match word {
        "I" => Some(Level::Info),
        "W" => Some(Level::Warn),
        "E" => Some(Level::Error),
        "D" => Some(Level::Debug),
        "F" => Some(Level::Fatal),
        _ => None,
    };
    short.or_else(|| word.parse().ok()).map(to_wire)
}

/// The level that a number means: 10 to 60 in tens, as bunyan and pino write it.
pub(crate) fn numbered(number: i64) -> Option<v1::Level> {
    let tens = u8::try_from(number / 10).ok().filter(|_| number % 10 == 0)?;
    Level::from_number(tens).map(to_wire)
}

/// The level of a syslog priority.
pub(crate) fn of_priority(priority: u32) -> v1::Level {
    // RFC 3164, 4.1.1: the facility times eight plus the severity, from 0 (emergency) to 7 (debug).
    match priority % 8 {
        0..=2 => v1::Level::Fatal,
        3 => v1::Level::Error,
        4 => v1::Level::Warn,
        5 | 6 => v1::Level::Info,
        _ => v1::Level::Debug,
    }
}

/// Finds a level word at the start of a line and what follows it. A word in capitals, in brackets
/// or before a colon is one; `Error while reading` is a sentence.
pub(crate) fn leading(text: &str) -> Option<(v1::Level, &str)> {
    let (open, close) = match text.as_bytes().first()? {
        b'[' => (1, Some(b']')),
        b'<' => (1, Some(b'>')),
        b'(' => (1, Some(b')')),
        _ => (0, None),
    };
    let inner = &text[open..];
    let length = inner.bytes().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = &inner[..length];
    let blanks = inner[length..].bytes().take_while(|byte| *byte == b' ').count();
    let after = inner.as_bytes().get(length).copied();
    let ended = match close {
        Some(close) => inner.as_bytes().get(length + blanks) == Some(&close),
        None => after == Some(b':') || (is_shouted(word) && after.is_none_or(|byte| byte == b' ')),
    };
    if !ended {
        return None;
    }
    // One letter is a level only in brackets: `E: no such file` may be a drive.
    let level = if close.is_none() && word.len() == 1 { None } else { named(word) }?;
    let end = open + length + if close.is_some() { blanks + 1 } else { 0 };
    Some((level, text[end..].trim_start_matches([' ', ':', '\t'])))
}

fn is_shouted(word: &str) -> bool {
    word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn to_wire(level: Level) -> v1::Level {
    match level {
        Level::Trace => v1::Level::Trace,
        Level::Debug => v1::Level::Debug,
        Level::Info => v1::Level::Info,
        Level::Warn => v1::Level::Warn,
        Level::Error => v1::Level::Error,
        Level::Fatal => v1::Level::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_told_from_a_sentence() {
        let cases = [
            ("ERROR disk full", Some((v1::Level::Error, "disk full"))),
            ("[warn] slow", Some((v1::Level::Warn, "slow"))),
            ("[INFO ] ready", Some((v1::Level::Info, "ready"))),
            ("error: no such file", Some((v1::Level::Error, "no such file"))),
            ("INFO", Some((v1::Level::Info, ""))),
            ("[E] broken", Some((v1::Level::Error, "broken"))),
            ("Error while reading", None),
            ("INFORMAL words", None),
            ("[main] INFO x", None),
            ("E broken", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(leading(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_mean_levels_too() {
        assert_eq!(numbered(50), Some(v1::Level::Error));
        assert_eq!(numbered(55), None);
        assert_eq!(of_priority(34), v1::Level::Fatal);
        assert_eq!(of_priority(165), v1::Level::Info);
    }
}
