//! Recognises what one line is and reads it. Pure: the same line and time give the same result.

use logweir_proto::v1::{self, attribute::Value};

use crate::source::{json, level, logfmt, plain, time};

/// A line, read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// When it happened, nanoseconds since 1970; none if the line does not say.
    pub time_unix_nano: Option<i64>,
    /// The service that the line names.
    pub service: Option<String>,
    /// Everything else. Its time is not set.
    pub record: v1::LogRecord,
}

/// Reads a line of text. Nothing in it is lost: what is not understood stays in the message or
/// becomes an attribute.
pub fn parse(text: &str, now_unix_nano: i64) -> Parsed {
    let trimmed = text.trim();
    if trimmed.starts_with('{')
        && let Some(parsed) = json::parse(trimmed, now_unix_nano)
    {
        return parsed;
    }
    logfmt_record(trimmed, now_unix_nano).unwrap_or_else(|| plain::parse(text, now_unix_nano))
}

/// Whether a line stands for itself, so that a line after it never continues it.
pub fn is_structured(line: &str) -> bool {
    line.starts_with('{') && line.trim_end().ends_with('}')
}

/// A line of pairs is logfmt only if it names its message or its level: `a=1 b=2` is just text.
fn logfmt_record(line: &str, now_unix_nano: i64) -> Option<Parsed> {
    let is_known = |key| {
        let role = Role::of(key);
        matches!(role, Role::Message | Role::Level)
    };
    let pairs = logfmt::pairs(line)?;
    if pairs.len() < 2 || !pairs.iter().any(|(key, _)| is_known(key)) {
        return None;
    }
    let mut fields = Fields::new(now_unix_nano);
    for (key, value) in pairs {
        fields.add(key, Value::StringValue(value));
    }
    Some(fields.finish(line))
}

/// What a field of a structured line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its event time.
    Time,
    /// Its service.
    Service,
    /// Its level.
    Level,
    /// OpenTelemetry's severity number.
    Severity,
    /// Its message.
    Message,
    /// Its latency in milliseconds.
    Latency,
    /// Its trace id.
    Trace,
    /// Its span id.
    Span,
    /// Its logger.
    Logger,
    /// An object of further attributes.
    Attributes,
    /// None of these: an attribute.
    Other,
}

impl Role {
    /// The role of a field by its name.
    pub fn of(key: &str) -> Self {
        match key {
            "time" | "ts" | "timestamp" | "@timestamp" | "datetime" => Self::Time,
            "service" | "service.name" | "service_name" => Self::Service,
            "level" | "lvl" | "severity" | "loglevel" | "levelname" | "log.level" => Self::Level,
            "severity_number" => Self::Severity,
            "message" | "msg" | "log" | "event" => Self::Message,
            "latency_ms" => Self::Latency,
            "trace_id" | "traceId" => Self::Trace,
            "span_id" | "spanId" => Self::Span,
            "logger" | "logger_name" | "target" => Self::Logger,
            "attributes" => Self::Attributes,
            _ => Self::Other,
        }
    }
}

/// Gathers the fields of a structured line. The first field of a role fills it; whatever a role
/// cannot use becomes an attribute under its own name.
pub struct Fields {
    now_unix_nano: i64,
    parsed: Parsed,
    has_message: bool,
}

impl Fields {
    /// No fields yet.
    pub fn new(now_unix_nano: i64) -> Self {
        Self { now_unix_nano, parsed: Parsed::default(), has_message: false }
    }

    /// Adds a field.
    pub fn add(&mut self, key: &str, value: Value) {
        if !self.fill(Role::of(key), &value) {
            self.add_attribute(key, Some(value));
        }
    }

    /// Adds an attribute, whatever its name.
    pub fn add_attribute(&mut self, key: &str, value: Option<Value>) {
        self.parsed.record.attributes.push(v1::Attribute { key: key.to_owned(), value });
    }

    /// The line, read. One without a message of its own is its own message.
    pub fn finish(mut self, line: &str) -> Parsed {
        if !self.has_message {
            line.clone_into(&mut self.parsed.record.message);
        }
        self.parsed
    }

    fn fill(&mut self, role: Role, value: &Value) -> bool {
        let parsed = &mut self.parsed;
        match role {
            Role::Time => {
                fill_option(&mut parsed.time_unix_nano, || time_of(value, self.now_unix_nano))
            }
            Role::Service => fill_option(&mut parsed.service, || text_of(value)),
            Role::Level => fill_default(&mut parsed.record.level, || level_of(value)),
            Role::Severity => fill_default(&mut parsed.record.severity_number, || match value {
                Value::IntValue(number @ 1..=24) => u32::try_from(*number).ok(),
                _ => None,
            }),
            Role::Message if !self.has_message => match value {
                Value::StringValue(text) => {
                    text.clone_into(&mut parsed.record.message);
                    self.has_message = true;
                    true
                }
                _ => false,
            },
            Role::Latency => fill_option(&mut parsed.record.latency_ms, || latency_of(value)),
            Role::Trace => fill_default(&mut parsed.record.trace_id, || hex_of(value, 16)),
            Role::Span => fill_default(&mut parsed.record.span_id, || hex_of(value, 8)),
            Role::Logger => fill_default(&mut parsed.record.logger, || text_of(value)),
            Role::Message | Role::Attributes | Role::Other => false,
        }
    }
}

fn fill_option<T>(slot: &mut Option<T>, value: impl FnOnce() -> Option<T>) -> bool {
    if slot.is_some() {
        return false;
    }
    *slot = value();
    slot.is_some()
}

fn fill_default<T: Default + PartialEq>(slot: &mut T, value: impl FnOnce() -> Option<T>) -> bool {
    if *slot != T::default() {
        return false;
    }
    value().is_some_and(|value| {
        *slot = value;
        true
    })
}

fn time_of(value: &Value, now_unix_nano: i64) -> Option<i64> {
    match value {
        Value::StringValue(text) => {
            time::whole(text, now_unix_nano).or_else(|| time::since_epoch(text))
        }
        Value::IntValue(number) => time::since_epoch(&number.to_string()),
        Value::DoubleValue(number) if *number < 1e18 => time::since_epoch(&format!("{number:.6}")),
        _ => None,
    }
}

fn level_of(value: &Value) -> Option<i32> {
    let level = match value {
        Value::StringValue(text) => {
            level::named(text.trim()).or_else(|| level::numbered(text.parse().ok()?))
        }
        Value::IntValue(number) => level::numbered(*number),
        _ => None,
    };
    level.map(i32::from)
}

fn latency_of(value: &Value) -> Option<f64> {
    let latency = match value {
        Value::DoubleValue(number) => *number,
        Value::IntValue(number) => *number as f64,
        Value::StringValue(text) => text.parse().ok()?,
        _ => return None,
    };
    (latency.is_finite() && latency >= 0.0).then_some(latency)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::StringValue(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn hex_of(value: &Value, bytes: usize) -> Option<Vec<u8>> {
    let Value::StringValue(text) = value else { return None };
    hex::decode(text).ok().filter(|id| id.len() == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_323_045_000_000_000;

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
            assert_eq!(parsed.time_unix_nano, time, "{line}");
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
        assert_eq!((parsed.time_unix_nano, parsed.record.message.as_str()), (None, "m"));
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
