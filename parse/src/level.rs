//! Reads level words. Pure.

use logweir_core::record::Level;

/// Bytes within which [`marked`] looks for a level: behind the longest usual stamp, before the
/// sentence.
const LEVEL_WITHIN_BYTES: usize = 96;
/// Names of levels that are ordinary words as well: `Alert: work at night` tells of work.
const ORDINARY_WORDS: [&str; 9] =
    ["Alert", "Panic", "Fail", "Failure", "Fine", "Emergency", "Trace", "Verbose", "Notice"];

/// The level that a word names.
pub(crate) fn named(word: &str) -> Option<Level> {
    let of_letter = match word {
        "T" => Some(Level::Trace),
        "D" => Some(Level::Debug),
        "I" => Some(Level::Info),
        "W" => Some(Level::Warn),
        "E" => Some(Level::Error),
        "C" | "F" => Some(Level::Fatal),
        _ => None,
    };
    of_letter.or_else(|| word.parse().ok())
}

/// The level that a number means: 10 to 60 in tens, as bunyan and pino write it, or 100 to 600, as
/// Monolog does.
pub(crate) fn numbered(number: i64) -> Option<Level> {
    match number {
        100 => Some(Level::Debug),
        200 | 250 => Some(Level::Info),
        300 => Some(Level::Warn),
        400 => Some(Level::Error),
        500 | 550 | 600 => Some(Level::Fatal),
        _ => {
            let tens = u8::try_from(number / 10).ok().filter(|_| number % 10 == 0)?;
            Level::from_number(tens)
        }
    }
}

/// The level of a syslog severity, 0 (emergency) to 7 (debug).
pub(crate) fn of_severity(severity: i64) -> Option<Level> {
    // RFC 5424, table 2.
    match severity {
        0..=2 => Some(Level::Fatal),
        3 => Some(Level::Error),
        4 => Some(Level::Warn),
        5 | 6 => Some(Level::Info),
        7 => Some(Level::Debug),
        _ => None,
    }
}

/// Finds a level word at the start of a line and what follows it. A word in capitals, in brackets
/// or before a colon is one; `Error while reading` is a sentence.
pub(crate) fn leading(text: &str) -> Option<(Level, &str)> {
    let (open, close) = match text.as_bytes().first()? {
        b'[' => (1, Some(b']')),
        b'<' => (1, Some(b'>')),
        b'(' => (1, Some(b')')),
        _ => (0, None),
    };
    let inner = text[open..].trim_start_matches(' ');
    let open = text.len() - inner.len();
    let length = inner.bytes().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = &inner[..length];
    let blanks = inner[length..].bytes().take_while(|byte| *byte == b' ').count();
    let after = inner.as_bytes().get(length).copied();
    let ended = match close {
        Some(close) => inner.as_bytes().get(length + blanks) == Some(&close),
        None => match after {
            Some(b':') => is_level_before_colon(word),
            // `warn | text`, `error - text`, in any case.
            _ if is_before_separator(&inner[length..]) => is_level_before_colon(word),
            _ => {
                is_shouted(word)
                    && after.is_none_or(|byte| matches!(byte, b' ' | b'\t' | b'|' | b'['))
            }
        },
    };
    if !ended {
        return None;
    }
    // One letter is a level only in brackets: `E: no such file` may be a drive.
    let level = if close.is_none() && word.len() == 1 { None } else { named(word) }?;
    let end = open + length + if close.is_some() { blanks + 1 } else { 0 };
    Some((level, text[end..].trim_start_matches([' ', ':', '\t'])))
}

/// A level that a text's first words say and that are a part of what it tells.
pub(crate) fn of_first_words(text: &str) -> Option<Level> {
    const STARTS: [(&str, Level); 7] = [
        ("panic: ", Level::Fatal),
        ("Unhandled exception", Level::Fatal),
        ("PHP Parse error:", Level::Fatal),
        ("PHP Recoverable fatal error:", Level::Error),
        ("PHP Warning:", Level::Warn),
        ("PHP Deprecated:", Level::Warn),
        ("PHP Notice:", Level::Info),
    ];
    let found = STARTS.iter().find(|(start, _)| text.starts_with(start));
    found.map(|(_, level)| *level)
}

/// The same for words further on: `a.swift:7: Fatal error: text`, `PHP Fatal error:  text`, Go's
/// `fatal error: text`, and SQL Server's `Error: 7, Severity: 14`.
pub(crate) fn of_words_within(line: &str) -> Option<Level> {
    let head = &line.as_bytes()[..line.len().min(LEVEL_WITHIN_BYTES)];
    let find = |words: &str| memchr::memmem::find(head, words.as_bytes());
    if let Some(at) = find("Fatal error: ").or_else(|| find("fatal error: ")) {
        let before = &head[..at];
        let is_first = before.is_empty() || before == b"PHP " || before.ends_with(b": ");
        return is_first.then_some(Level::Fatal);
    }
    let has_severity = find("Error: ").is_some_and(|at| find(", Severity: ") > Some(at));
    has_severity.then_some(Level::Error)
}

/// A level at the beginning of a text, within its first 96 bytes: in capitals, in brackets, or before
/// a colon; or `level=`. Only clear marks count; a wrong level is worse than none.
pub fn marked(text: &str) -> Option<Level> {
    marked_behind(text, false)
}

/// The same for what stands behind a stamp, if `has_stamp`.
pub(crate) fn marked_behind(text: &str, has_stamp: bool) -> Option<Level> {
    let head = text.as_bytes();
    let head = &head[..head.len().min(LEVEL_WITHIN_BYTES)];
    let mut at = 0;
    let mut first = true;
    while at < head.len() {
        let length = head[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        if length >= 3
            && let Some(level) = level_at(text, at, length, first, has_stamp)
        {
            return Some(level);
        }
        first &= length == 0;
        at += length.max(1);
    }
    None
}

fn level_at(text: &str, at: usize, length: usize, first: bool, has_stamp: bool) -> Option<Level> {
    if length > Level::NAME_BYTES_MAX {
        return None;
    }
    let (head, word) = (text.as_bytes(), &text[at..at + length]);
    let before = if at == 0 { b' ' } else { head[at - 1] };
    let after = head.get(at + length).copied().unwrap_or(b' ');
    let bracketed = matches!((before, after), (b'[', b']') | (b'<', b'>') | (b'(', b')'));
    // `[core:error]`, as Apache writes module and level.
    let behind_module = before == b':' && after == b']' && head[..at].contains(&b'[');
    let stands_alone = matches!(before, b' ' | b'\t' | b'|' | b'[')
        && matches!(after, b' ' | b'\t' | b':' | b'|' | b']' | b',');
    let is_stamp = |byte: &u8| byte.is_ascii_digit() || *byte == b'[';
    let capitals = stands_alone && is_shouted(word) && (first || head[..at].iter().any(is_stamp));
    let named_so =
        before == b'=' && [&b"level="[..], b"lvl="].iter().any(|key| head[..at].ends_with(key));
    let before_colon = first && after == b':' && is_level_before_colon(word);
    // `shop alice ERROR:  text`, as PostgreSQL writes its database and user.
    let names_max = if after == b':' { 2 } else { 1 };
    let is_marked =
        (bracketed || behind_module || capitals) && is_head(&text[..at], has_stamp, names_max);
    if is_marked || named_so || before_colon { word.parse().ok() } else { None }
}

/// Whether what stands before a level is the head of a log and no part of its sentence: "the button
/// says ERROR in red" is no error, and neither is "7 tests, 0 ERROR". So many names may stand there
/// behind a stamp.
fn is_head(before: &str, has_stamp: bool, names_max: usize) -> bool {
    let (mut is_stamped, mut names, mut is_counted) = (has_stamp, 0, false);
    for token in before.split_whitespace() {
        let word = token.trim_end_matches(',');
        let is_word = word.len() > 1
            && word.bytes().all(|byte| byte.is_ascii_alphabetic())
            && word.bytes().any(|byte| byte.is_ascii_lowercase());
        if has_clock(token) || token.ends_with("]:") {
            (is_stamped, names) = (true, 0);
        } else if is_word && word.len() < token.len() {
            return false;
        }
        names += usize::from(is_word);
        is_counted = token.bytes().all(|byte| byte.is_ascii_digit());
    }
    if is_stamped { names <= names_max } else { names == 0 && !is_counted }
}

/// Whether a colon stands between digits.
fn has_clock(token: &str) -> bool {
    token
        .as_bytes()
        .windows(3)
        .any(|part| part[0].is_ascii_digit() && part[1] == b':' && part[2].is_ascii_digit())
}

/// Whether a bar or a dash with blanks parts what is before from what follows.
fn is_before_separator(text: &str) -> bool {
    let behind = text.trim_start_matches(' ');
    behind.starts_with('|') || (behind.len() < text.len() && behind.starts_with("- "))
}

fn is_level_before_colon(word: &str) -> bool {
    !ORDINARY_WORDS.contains(&word)
}

fn is_shouted(word: &str) -> bool {
    word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_told_from_a_sentence() {
        let cases = [
            ("ERROR disk full", Some((Level::Error, "disk full"))),
            ("[warn] slow", Some((Level::Warn, "slow"))),
            ("[INFO ] ready", Some((Level::Info, "ready"))),
            ("error: no such file", Some((Level::Error, "no such file"))),
            ("Alert: work at night", None),
            ("Panic: at the disco", None),
            ("panic: index out of range", Some((Level::Fatal, "index out of range"))),
            ("warn | slow", Some((Level::Warn, "| slow"))),
            ("error - slow", Some((Level::Error, "- slow"))),
            ("WRN slow", Some((Level::Warn, "slow"))),
            ("INFO", Some((Level::Info, ""))),
            ("[E] broken", Some((Level::Error, "broken"))),
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
    fn last_words_tell_a_level() {
        for (text, expected) in [
            ("PHP Fatal error:  Uncaught E: x", Some(Level::Fatal)),
            ("PHP Warning:  no such file", Some(Level::Warn)),
            ("fatal error: all goroutines are asleep", Some(Level::Fatal)),
            ("app/a.swift:7: Fatal error: no value", Some(Level::Fatal)),
            ("spid7      Error: 701, Severity: 17, State: 1.", Some(Level::Error)),
            ("a nonfatal error: x", None),
            ("no fatal error: y", None),
            ("Severity: 1", None),
        ] {
            assert_eq!(of_first_words(text).or_else(|| of_words_within(text)), expected, "{text}");
        }
    }

    #[test]
    fn numbers_mean_levels_too() {
        assert_eq!(numbered(50), Some(Level::Error));
        assert_eq!(numbered(55), None);
        assert_eq!(numbered(400), Some(Level::Error));
        assert_eq!((of_severity(2), of_severity(5)), (Some(Level::Fatal), Some(Level::Info)));
    }

    #[test]
    fn a_level_counts_where_it_is_clearly_marked() {
        for (text, expected) in [
            ("[ERROR] boom", Some(Level::Error)),
            ("ERROR: boom", Some(Level::Error)),
            ("error: boom", Some(Level::Error)),
            ("WARN boom", Some(Level::Warn)),
            ("2024-01-01 12:00:00,123 WARN  [main] slow", Some(Level::Warn)),
            ("Jan  2 host app[12]: [notice] up", Some(Level::Info)),
            ("x 1 level=debug y", Some(Level::Debug)),
            ("2024-01-01T12:00:00Z|FATAL|down", Some(Level::Fatal)),
            ("no error here", None),
            ("error rate is low", None),
            ("the user saw an ERROR page", None),
            ("12 checks, 3 ERROR", None),
            ("0 ERROR", None),
            ("somebody opened [Error] twice", None),
            ("at 12:30 somebody opened [Error] twice", None),
            ("2024-01-01 12:00:00 web 7 ERROR down", Some(Level::Error)),
            ("Fine weather", None),
            ("INFORMATIONS 12", None),
            ("", None),
        ] {
            assert_eq!(marked(text), expected, "{text}");
        }
    }
}
