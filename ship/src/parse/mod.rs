//! Recognises what one line is and reads it. Pure: the same line and time give the same result.
//!
//! A line is a JSON object (`json`), pairs of keys and values (`logfmt`) or text (`plain`);
//! [`fields`] says what names mean, [`time`] and `level` read words, and [`record`] holds the
//! result to the limits of the contract.

use logweir_core::timestamp::Timestamp;
use logweir_proto::v1::attribute::Value;

use self::fields::{Fields, Parsed, Role};

pub mod fields;
mod json;
mod level;
mod logfmt;
mod plain;
pub mod record;
pub mod time;

/// Reads a line of text. Nothing in it is lost: what is not understood stays in the message or
/// becomes an attribute.
pub fn parse(text: &str, now: Timestamp) -> Parsed {
    let trimmed = text.trim();
    if trimmed.starts_with('{')
        && let Some(parsed) = json::parse(trimmed, now)
    {
        return parsed;
    }
    logfmt_record(trimmed, now).unwrap_or_else(|| plain::parse(text, now))
}

/// A line of pairs is logfmt only if it names its message or its level: `a=1 b=2` is just text.
fn logfmt_record(line: &str, now: Timestamp) -> Option<Parsed> {
    let is_known = |key| {
        let role = Role::of(key);
        matches!(role, Role::Message | Role::Level)
    };
    let pairs = logfmt::pairs(line)?;
    if pairs.len() < 2 || !pairs.iter().any(|(key, _)| is_known(key)) {
        return None;
    }
    let mut fields = Fields::new(now);
    for (key, value) in pairs {
        fields.add(key, Value::StringValue(value));
    }
    Some(fields.finish(line))
}

#[cfg(test)]
mod tests {
    use logweir_proto::v1;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_323_045);

    fn attributes(parsed: &Parsed) -> Vec<String> {
        let text = |a: &v1::Attribute| format!("{}={:?}", a.key, a.value.as_ref());
        parsed.record.attributes.iter().map(text).collect()
    }

    #[test]
    fn each_line_is_recognised_for_what_it_is() {
        let cases = [
            (
                r#"{"time":"2026-01-02T03:04:05Z","service":"pay","level":"warn","message":"slow"}"#,
                (Some(NOW), Some("pay"), v1::Level::Warn, "slow"),
            ),
            (
                r#"{"@timestamp":1767323045000,"severity":"ERR","msg":"down"}"#,
                (Some(NOW), None, v1::Level::Error, "down"),
            ),
            (
                r#"{"ts":1767323045.0,"level":30,"msg":"pino"}"#,
                (Some(NOW), None, v1::Level::Info, "pino"),
            ),
            (
                r#"ts=2026-01-02T03:04:05Z lvl=debug msg="it works" n=1"#,
                (Some(NOW), None, v1::Level::Debug, "it works"),
            ),
            ("2026-01-02 03:04:05,000 ERROR boom", (Some(NOW), None, v1::Level::Error, "boom")),
            ("a=1 b=2", (None, None, v1::Level::Unspecified, "a=1 b=2")),
            ("{broken", (None, None, v1::Level::Unspecified, "{broken")),
        ];
        for (line, (time, service, level, message)) in cases {
            let parsed = parse(line, NOW);
            assert_eq!(parsed.time, time, "{line}");
            assert_eq!(parsed.service.as_deref(), service, "{line}");
            assert_eq!(parsed.record.level(), level, "{line}");
            assert_eq!(parsed.record.message, message, "{line}");
        }
    }

    #[test]
    fn what_has_no_role_becomes_an_attribute() {
        let line = r#"{"msg":"m","n":7,"f":1.5,"b":true,"z":null,"o":{"a":[1, 2]},"level":"odd",
            "message":"second","big":123456789012345678901,"time":"noon","attributes":{"k":"v"}}"#;
        let parsed = parse(line, NOW);
        let expected = [
            r#"n=Some(IntValue(7))"#,
            r#"f=Some(DoubleValue(1.5))"#,
            r#"b=Some(BoolValue(true))"#,
            r#"z=None"#,
            r#"o=Some(JsonValue("{\"a\":[1, 2]}"))"#,
            r#"level=Some(StringValue("odd"))"#,
            r#"message=Some(StringValue("second"))"#,
            r#"big=Some(JsonValue("123456789012345678901"))"#,
            r#"time=Some(StringValue("noon"))"#,
            r#"k=Some(StringValue("v"))"#,
        ];
        assert_eq!(attributes(&parsed), expected);
        assert_eq!((parsed.time, parsed.record.message.as_str()), (None, "m"));
    }

    #[test]
    fn ids_and_latency_have_fields_of_their_own() {
        let line = r#"{"msg":"m","trace_id":"0102030405060708090a0b0c0d0e0f10","span_id":"xx",
            "latency_ms":12,"logger":"a.b"}"#;
        let parsed = parse(line, NOW);
        assert_eq!(parsed.record.trace_id.len(), 16);
        assert_eq!(parsed.record.latency_ms, Some(12.0));
        assert_eq!(parsed.record.logger, "a.b");
        assert_eq!(attributes(&parsed), [r#"span_id=Some(StringValue("xx"))"#]);
    }

    #[test]
    fn a_structured_line_without_a_message_is_its_own_message() {
        let parsed = parse(r#"{"level":"info","n":1}"#, NOW);
        assert_eq!(parsed.record.message, r#"{"level":"info","n":1}"#);
        assert_eq!(attributes(&parsed), ["n=Some(IntValue(1))"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,120}") {
            let parsed = parse(&text, NOW);
            proptest::prop_assert!(parsed.record.time_unix_nano == 0);
        }

        #[test]
        fn no_json_like_text_panics(text in "\\{[a-z\":,{}\\[\\]0-9.e\\\\u-]{0,60}\\}") {
            let parsed = parse(&text, NOW);
            proptest::prop_assert!(parsed.record.time_unix_nano == 0);
        }
    }
}
