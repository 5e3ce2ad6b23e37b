//! Reads a line of text: perhaps a syslog priority, a time and a level at its start, and the
//! message. Pure.

use logweir_core::timestamp::Timestamp;
use logweir_proto::v1::{self, attribute::Value};

use crate::parse::{
    fields::Parsed,
    level,
    time::{self, leading},
};

/// Reads a line; what is not recognised is message.
pub(crate) fn parse(text: &str, now: Timestamp) -> Parsed {
    let mut parsed = Parsed::default();
    let mut rest = text;
    if let Some((priority, after)) = syslog_priority(rest) {
        parsed.record.level = level::of_priority(priority).into();
        rest = after;
    }
    // Only syslog begins its time with a name of a month or day, and then names host and program.
    let from_syslog = rest.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    if let Some((time, used)) = leading(rest, now) {
        parsed.time = Some(time);
        rest = rest[used..].trim_start_matches([' ', '\t', ':']);
        if from_syslog {
            rest = take_syslog_origin(&mut parsed, rest);
        }
    } else {
        // Access logs begin with the client; their time stays in the message, which has no other.
        parsed.time = time::access_log(text);
    }
    if let Some((level, after)) = level::leading(rest) {
        parsed.record.level = level.into();
        rest = after;
    } else if let Some(level) = level_after_bracket(rest) {
        parsed.record.level = level.into();
    }
    // A line that is nothing but a time and a level is its own message.
    if rest.is_empty() { text } else { rest }.clone_into(&mut parsed.record.message);
    parsed
}

/// `<34>` at the start; 0 to 191 by RFC 3164.
fn syslog_priority(text: &str) -> Option<(u32, &str)> {
    let (digits, after) = text.strip_prefix('<')?.split_once('>')?;
    let priority = digits.parse().ok().filter(|_| digits.len() <= 3)?;
    (priority <= 191).then_some((priority, after))
}

/// `host program[123]: message`, as syslog writes it: the program is the service.
fn take_syslog_origin<'a>(parsed: &mut Parsed, rest: &'a str) -> &'a str {
    let origin = || {
        let (host, after) = rest.split_once(' ')?;
        let (tag, message) = after.split_once(": ")?;
        let (program, pid) = match tag.strip_suffix(']') {
            Some(tag) => tag.split_once('[').map(|(program, pid)| (program, Some(pid)))?,
            None => (tag, None),
        };
        let plain = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        let words = plain(host) && plain(program) && program.len() <= 64;
        words.then_some((host, program, pid, message))
    };
    let Some((host, program, pid, message)) = origin() else { return rest };
    parsed.service = Some(program.to_owned());
    let mut add = |key: &str, text: &str| {
        let value = Some(Value::StringValue(text.to_owned()));
        parsed.record.attributes.push(v1::Attribute { key: key.to_owned(), value });
    };
    add("host", host);
    if let Some(pid) = pid {
        add("pid", pid);
    }
    message
}

/// `[main] WARN …`: the level behind a thread's name, which stays in the message.
fn level_after_bracket(text: &str) -> Option<v1::Level> {
    let (_, after) = text.strip_prefix('[')?.split_once(']')?;
    level::leading(after.trim_start()).map(|(level, _)| level)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_323_045);

    fn check(line: &str, time: Option<Timestamp>, level: v1::Level, message: &str) {
        let parsed = parse(line, NOW);
        assert_eq!(parsed.time, time, "{line}");
        assert_eq!(parsed.record.level(), level, "{line}");
        assert_eq!(parsed.record.message, message, "{line}");
    }

    #[test]
    fn time_and_level_are_taken_off_the_message() {
        let none = v1::Level::Unspecified;
        check("hello world", None, none, "hello world");
        check("2026-01-02 03:04:05 INFO  up", Some(NOW), v1::Level::Info, "up");
        check("[2026-01-02T03:04:05Z] [error] down", Some(NOW), v1::Level::Error, "down");
        check("1767323045 WARN: late", Some(NOW), v1::Level::Warn, "late");
        check("Jan  2 03:04:05 DEBUG x", Some(NOW), v1::Level::Debug, "x");
        check(
            "2026-01-02 03:04:05 [main] WARN a.B x",
            Some(NOW),
            v1::Level::Warn,
            "[main] WARN a.B x",
        );
        check("<11>Jan  2 03:04:05 broken", Some(NOW), v1::Level::Error, "broken");
        check("2026-01-02 03:04:05 INFO", Some(NOW), v1::Level::Info, "2026-01-02 03:04:05 INFO");
        let access = r#"10.0.0.1 - - [02/Jan/2026:03:04:05 +0000] "GET / HTTP/1.1" 200 12"#;
        check(access, Some(NOW), none, access);
    }

    #[test]
    fn syslog_names_its_program() {
        let parsed = parse("Jan  2 03:04:05 web-1 sshd[17]: Accepted key", NOW);
        assert_eq!(parsed.service.as_deref(), Some("sshd"));
        assert_eq!(parsed.record.message, "Accepted key");
        let names: Vec<_> = parsed.record.attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(names, ["host", "pid"]);
    }
}
