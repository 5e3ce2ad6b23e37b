//! What plain text says about itself: latency, status and trace.
//!
//! Asked of every log, so each question is first asked cheaply: by a byte that must be there.

use crate::units::{checked_ms, duration_ms, hex_id, latency_unit, unit_ms};

/// Bytes of a message that are read: messages may have 64 KiB, and what says something about
/// itself says it early.
const READ_BYTES_MAX: usize = 4 << 10;
/// Bytes of the word before a number that are looked at.
const KEY_BYTES_MAX: usize = 32;

/// The part that is read.
pub fn readable(message: &str) -> &str {
    let mut bound = message.len().min(READ_BYTES_MAX);
    while !message.is_char_boundary(bound) {
        bound -= 1;
    }
    &message[..bound]
}

/// What numbers in the text say.
#[derive(Debug, Default, PartialEq)]
pub struct Numbers {
    /// How long something took, milliseconds.
    pub latency_ms: Option<f64>,
    /// The status of an answer, 100 to 599.
    pub status: Option<i64>,
}

/// `took 123 ms`, `latency=12ms`, `duration_ms: 5`; `status=500`, `HTTP/1.1" 500`.
pub fn numbers(text: &str) -> Numbers {
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
        && let Some(unit) = latency_unit(key)
    {
        found.latency_ms = match unit_ms(unit) {
            Some(unit) => {
                text[start..end].parse().ok().and_then(|number: f64| checked_ms(number * unit))
            }
            None => with_unit(&text[start..]),
        };
    }
    let is_behind_protocol = || {
        ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/2", "HTTP/3.0", "HTTP/3"]
            .iter()
            .any(|name| before.ends_with(name))
    };
    let is_status = matches!(key, "status" | "status_code" | "statusCode") || is_behind_protocol();
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
pub fn trace_id(text: &str) -> Option<[u8; 16]> {
    let found = memchr::memmem::find_iter(text.as_bytes(), b"trace");
    found.into_iter().find_map(|at| trace_id_behind(text.get(at + "trace".len()..)?))
}

fn trace_id_behind(rest: &str) -> Option<[u8; 16]> {
    let rest =
        ["_id", "Id", "ID", "id", ".id", "-id"].iter().find_map(|name| rest.strip_prefix(name))?;
    let rest = rest.trim_start_matches(['"', ' ']).strip_prefix(['=', ':'])?;
    let rest = rest.trim_start_matches(['"', ' ']);
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    hex_id(&rest[..digits])
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for text in [
            format!("x trace_id={id} y"),
            format!("traceId: \"{id}\""),
            format!("no trace here, and tracing: trace_id={id}"),
        ] {
            assert!(trace_id(&text).is_some(), "{text}");
        }
        for text in ["trace", "trace_id=12", "traceé_id=1", "no"] {
            assert_eq!(trace_id(text), None, "{text}");
        }
    }
}
