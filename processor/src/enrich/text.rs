//! What plain text says about itself: level, latency, status, exception and trace.
//!
//! Read by eye for every log, so each question is first asked cheaply: a byte that must be there, a
//! level that makes it likely. Only clear marks count; a wrong level is worse than none. Bounded:
//! the first [`READ_BYTES_MAX`] bytes are read.

use logweir_core::record::Level;

use super::{
    fields::is_latency,
    units::{checked_ms, duration_ms, hex_id, unit_ms},
};

/// Bytes of a message that are read: messages may have 64 KiB, and what says something about
/// itself says it early.
const READ_BYTES_MAX: usize = 4 << 10;
/// Bytes within which a level is looked for: behind the longest usual stamp, before the sentence.
const LEVEL_WITHIN_BYTES: usize = 96;
/// Bytes of the word before a number that are looked at.
const KEY_BYTES_MAX: usize = 32;

/// The part that is read.
pub(super) fn readable(message: &str) -> &str {
    let mut bound = message.len().min(READ_BYTES_MAX);
    while !message.is_char_boundary(bound) {
        bound -= 1;
    }
    &message[..bound]
}

/// A level at the start: in capitals, in brackets, or before a colon; or `level=`.
pub(super) fn level(text: &str) -> Option<Level> {
    let head = text.as_bytes();
    let head = &head[..head.len().min(LEVEL_WITHIN_BYTES)];
    let mut at = 0;
    let mut first = true;
    while at < head.len() {
        let length = head[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        if length >= 3
            && let Some(level) = marked_level(head, at, length, first)
        {
            return Some(level);
        }
        first &= length == 0;
        at += length.max(1);
    }
    None
}

fn marked_level(head: &[u8], at: usize, length: usize, first: bool) -> Option<Level> {
    // `informational` is the longest name of a level.
    if length > 13 {
        return None;
    }
    let word = &head[at..at + length];
    let before = if at == 0 { b' ' } else { head[at - 1] };
    let after = head.get(at + length).copied().unwrap_or(b' ');
    let level = || std::str::from_utf8(word).ok()?.parse().ok();
    let bracketed = matches!((before, after), (b'[', b']') | (b'<', b'>') | (b'(', b')'));
    let stands_alone = matches!(before, b' ' | b'\t' | b'|' | b'[')
        && matches!(after, b' ' | b'\t' | b':' | b'|' | b']' | b',');
    let capitals = stands_alone && word.iter().all(u8::is_ascii_uppercase);
    // In capitals further on only behind a stamp: a time, a process, a bracket. Else "the button
    // says ERROR in red" would be an error.
    let behind_stamp =
        first || head[..at].iter().any(|byte| byte.is_ascii_digit() || *byte == b'[');
    let named =
        before == b'=' && [&b"level="[..], b"lvl="].iter().any(|key| head[..at].ends_with(key));
    let before_colon = first && after == b':';
    if bracketed || (capitals && behind_stamp) || named || before_colon { level() } else { None }
}

/// What numbers in the text say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Numbers {
    pub(super) latency_ms: Option<f64>,
    pub(super) status: Option<i64>,
}

/// `took 123 ms`, `latency=12ms`, `duration_ms: 5`; `status=500`, `HTTP/1.1" 500`.
pub(super) fn numbers(text: &str) -> Numbers {
    let (bytes, mut found, mut at) = (text.as_bytes(), Numbers::default(), 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while bytes.get(at).is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.') {
            at += 1;
        }
        // Most numbers in logs are parts of ids and addresses; only one that stands behind a word
        // can be a latency or a status, and only that is looked at more closely.
        if start > 0 && matches!(bytes[start - 1], b' ' | b'=' | b':') {
            number(text, start, at, &mut found);
        }
    }
    found
}

fn number(text: &str, start: usize, end: usize, found: &mut Numbers) {
    let before = text[..start].trim_end_matches([' ', '=', ':', '"']);
    let bytes = before.as_bytes();
    let in_key = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
    let length = bytes.iter().rev().take(KEY_BYTES_MAX).take_while(in_key).count();
    let key = &before[before.len() - length..];
    if found.latency_ms.is_none()
        && let Some(unit) = is_latency(key)
    {
        found.latency_ms = match unit_ms(unit) {
            Some(unit) => {
                text[start..end].parse().ok().and_then(|number: f64| checked_ms(number * unit))
            }
            None => with_unit(&text[start..]),
        };
    }
    let is_status = matches!(key, "status" | "status_code" | "statusCode")
        || before.ends_with("HTTP/1.1")
        || before.ends_with("HTTP/1.0")
        || before.ends_with("HTTP/2.0");
    if found.status.is_none() && is_status && end - start == 3 {
        found.status = text[start..end].parse().ok().filter(|code| (100..600).contains(code));
    }
}

fn with_unit(text: &str) -> Option<f64> {
    let number = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let blank = usize::from(text[number..].starts_with(' '));
    let unit = text[number + blank..].find(|letter: char| !letter.is_alphabetic());
    let end = unit.map_or(text.len(), |length| number + blank + length);
    duration_ms(&text[..end])
}

/// `trace_id=…` or `traceId: …`.
pub(super) fn trace_id(text: &str) -> Option<[u8; 16]> {
    let at = memchr::memmem::find(text.as_bytes(), b"trace")? + "trace".len();
    let rest = text.get(at..)?;
    let rest =
        ["_id", "Id", "ID", "id", ".id", "-id"].iter().find_map(|name| rest.strip_prefix(name))?;
    let rest = rest.trim_start_matches(['"', ' ']).strip_prefix(['=', ':'])?;
    let rest = rest.trim_start_matches(['"', ' ']);
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    hex_id(&rest[..digits])
}

/// The type and message of an exception.
#[derive(Debug, PartialEq)]
pub(super) struct Exception<'a> {
    pub(super) kind: &'a str,
    pub(super) message: &'a str,
}

/// The exception in the trace of a Java, Python or Rust program.
pub(super) fn exception(text: &str) -> Option<Exception<'_>> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if first.ends_with("Traceback (most recent call last):") {
        // Python writes the frames, which are indented, and last the exception.
        let last =
            rest.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with(' '))?;
        return named_exception(last);
    }
    if let Some(at) = memchr::memmem::find(first.as_bytes(), b"panicked at ") {
        let place = &first[at + "panicked at ".len()..];
        // Since Rust 1.73 the message stands on the line behind the place, before it on the same.
        let message = rest.lines().next().filter(|line| !line.is_empty()).unwrap_or(place);
        return Some(Exception { kind: "panic", message });
    }
    let named = first.strip_prefix("Exception in thread ").unwrap_or(first);
    let named = match named.strip_prefix('"').and_then(|quoted| quoted.split_once("\" ")) {
        Some((_thread, named)) => named,
        None => named,
    };
    named_exception(named).or_else(|| behind_colon(first))
}

/// `Kind: message` or `Kind` alone.
fn named_exception(text: &str) -> Option<Exception<'_>> {
    let in_name =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '$');
    let end = text.find(|letter| !in_name(letter)).unwrap_or(text.len());
    let (kind, rest) = text.split_at(end);
    let is_kind =
        ["Exception", "Error"].iter().any(|end| kind.ends_with(end) && kind.len() > end.len());
    let message = match rest.strip_prefix(':') {
        Some(message) => message.trim(),
        None if rest.trim().is_empty() => "",
        None => return None,
    };
    is_kind.then_some(Exception { kind, message })
}

/// `order failed: java.io.IOException: no route`.
fn behind_colon(line: &str) -> Option<Exception<'_>> {
    // A few colons: in a line of thousands each would start another search.
    line.match_indices(": ").take(4).find_map(|(at, _)| named_exception(&line[at + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("Fine weather", None),
            ("INFORMATIONS 12", None),
            ("", None),
        ] {
            assert_eq!(level(text), expected, "{text}");
        }
    }

    #[test]
    fn a_latency_beyond_every_number_is_none() {
        assert_eq!(numbers(&format!("elapsed_ms={}", "9".repeat(400))).latency_ms, None);
    }

    #[test]
    fn latencies_and_statuses_are_read_from_their_names() {
        for (text, latency_ms, status) in [
            ("request took 123 ms", Some(123.0), None),
            ("latency=12ms rest", Some(12.0), None),
            ("duration: 1.5s, ok", Some(1_500.0), None),
            ("done, elapsed_ms=7 status=500", Some(7.0), Some(500)),
            ("took 250µs", Some(0.25), None),
            (r#"1.2.3.4 - "GET / HTTP/1.1" 404 12"#, None, Some(404)),
            ("{\"status\": 201}", None, Some(201)),
            ("took 12 tries", None, None),
            ("latency 12", None, None),
            ("status=5000", None, None),
            ("status 999", None, None),
            ("5 took", None, None),
        ] {
            assert_eq!(numbers(text), Numbers { latency_ms, status }, "{text}");
        }
    }

    #[test]
    fn traces_are_found() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for text in [format!("x trace_id={id} y"), format!("traceId: \"{id}\"")] {
            assert!(trace_id(&text).is_some(), "{text}");
        }
        for text in ["trace", "trace_id=12", "traceé_id=1", "no"] {
            assert_eq!(trace_id(text), None, "{text}");
        }
    }

    #[test]
    fn exceptions_of_several_languages_are_found() {
        for (text, kind, message) in [
            (
                "java.io.IOException: no route\n\tat a.B.c(B.java:1)",
                "java.io.IOException",
                "no route",
            ),
            ("Exception in thread \"main\" a.BException: x\n\tat", "a.BException", "x"),
            ("order failed: a.B.CError: x", "a.B.CError", "x"),
            (
                "Traceback (most recent call last):\n  File \"a\"\nValueError: bad\n",
                "ValueError",
                "bad",
            ),
            ("thread 'main' panicked at src/a.rs:1:2:\nboom", "panic", "boom"),
            ("thread 'main' panicked at 'boom', a.rs:1", "panic", "'boom', a.rs:1"),
            ("java.lang.NullPointerException", "java.lang.NullPointerException", ""),
        ] {
            assert_eq!(exception(text), Some(Exception { kind, message }), "{text}");
        }
        for text in ["Error: x", "an Exception happened", "no", "", "Error handling is on: yes"] {
            assert_eq!(exception(text), None, "{text}");
        }
    }
}
