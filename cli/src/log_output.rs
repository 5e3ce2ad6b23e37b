//! A stored log as we write it: one JSON object, or one line for a person.

use std::io;

use logweir_core::timestamp::{rfc3339, shown};
use logweir_proto::v1::{self, attribute::Value};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use crate::output::{Output, Tone, escape};

/// The JSON form. What is empty is left out; `logweir send` reads it back.
#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    time: String,
    service: &'a str,
    level: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    trace_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    span_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    logger: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instance: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    environment: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    severity_number: u32,
    received: String,
    template_id: &'a str,
    anomaly_score: f32,
    is_anomaly: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    anomaly_reasons: &'a [String],
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    attributes: Attributes<'a>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

struct Attributes<'a>(&'a [v1::Attribute]);

impl Attributes<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for v1::Attribute { key, value } in self.0 {
            match value {
                None => map.serialize_entry(key, &())?,
                Some(Value::StringValue(text)) => map.serialize_entry(key, text)?,
                Some(Value::IntValue(number)) => map.serialize_entry(key, number)?,
                Some(Value::BoolValue(truth)) => map.serialize_entry(key, truth)?,
                // JSON has no NaN and no infinity.
                Some(Value::DoubleValue(number)) if !number.is_finite() => {
                    map.serialize_entry(key, &number.to_string())?;
                }
                Some(Value::DoubleValue(number)) => map.serialize_entry(key, number)?,
                Some(Value::JsonValue(json)) => match nested(json) {
                    Some(Nested::AsSent(raw)) => map.serialize_entry(key, raw)?,
                    Some(Nested::OnOneLine(value)) => map.serialize_entry(key, &value)?,
                    None => map.serialize_entry(key, json)?,
                },
            }
        }
        map.end()
    }
}

enum Nested<'a> {
    AsSent(&'a RawValue),
    OnOneLine(serde_json::Value),
}

/// A nested value as sent, unless it is spread over lines; none if it is no JSON.
fn nested(json: &str) -> Option<Nested<'_>> {
    if json.chars().any(char::is_control) {
        return serde_json::from_str(json).ok().map(Nested::OnOneLine);
    }
    serde_json::from_str(json).ok().map(Nested::AsSent)
}

/// Writes a log, as JSON or for a person.
pub fn write(output: &mut Output, entry: &v1::LogEntry) -> io::Result<()> {
    if output.json {
        return write_json(output, entry);
    }
    let fallback = v1::LogRecord::default();
    let record = entry.record.as_ref().unwrap_or(&fallback);
    let level = record.level();
    let time = output.paint(&shown(time_of(record)), Tone::Dim);
    let level = output.paint(&format!("{:<5}", level_name(level)), Tone::of_level(level));
    let service = output.paint(&escape(&entry.service), Tone::Name);
    let mut lines = record.message.split('\n');
    let first = escape(lines.next().unwrap_or_default()).into_owned();
    let attributes = output.paint(&attribute_text(record), Tone::Dim);
    let line = format!("{time} {level} {service} {first}{attributes}");
    output.line(line.trim_end())?;
    for line in lines {
        // Marked, so that no log can pass for two.
        let text = format!("{} {}", output.paint("  |", Tone::Dim), escape(line));
        output.line(text.trim_end())?;
    }
    if entry.is_anomaly {
        let reasons = escape(&entry.anomaly_reasons.join("; ")).into_owned();
        let text = format!("  ! anomaly {:.2}: {reasons}", entry.anomaly_score);
        output.line(&output.paint(&text, Tone::Bad))?;
    }
    Ok(())
}

/// Writes a log as JSON.
pub fn write_json(output: &mut Output, entry: &v1::LogEntry) -> io::Result<()> {
    let fallback = v1::LogRecord::default();
    let record = entry.record.as_ref().unwrap_or(&fallback);
    let (trace_id, span_id) = (hex::encode(&record.trace_id), hex::encode(&record.span_id));
    output.object(&Entry {
        id: &entry.id,
        time: rfc3339(time_of(record)),
        service: &entry.service,
        level: level_name(record.level()),
        message: &record.message,
        latency_ms: record.latency_ms,
        trace_id: &trace_id,
        span_id: &span_id,
        logger: &record.logger,
        instance: &entry.instance,
        environment: &entry.environment,
        severity_number: record.severity_number,
        received: rfc3339(entry.received_unix_nano),
        template_id: &entry.template_id,
        anomaly_score: entry.anomaly_score,
        is_anomaly: entry.is_anomaly,
        anomaly_reasons: &entry.anomaly_reasons,
        attributes: Attributes(&record.attributes),
    })
}

/// The JSON form of a log that was never stored.
#[derive(Serialize)]
struct Unsent<'a> {
    time: String,
    service: &'a str,
    level: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    attributes: Attributes<'a>,
}

/// Writes a log that was never stored as JSON.
pub fn write_unsent(output: &mut Output, service: &str, log: &v1::LogRecord) -> io::Result<()> {
    output.object(&Unsent {
        time: rfc3339(time_of(log)),
        service,
        level: level_name(log.level()),
        message: &log.message,
        latency_ms: log.latency_ms,
        attributes: Attributes(&log.attributes),
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

fn time_of(record: &v1::LogRecord) -> i64 {
    i64::try_from(record.time_unix_nano).unwrap_or(i64::MAX)
}

fn attribute_text(record: &v1::LogRecord) -> String {
    let latency = record.latency_ms.map(|latency| format!(" latency_ms={latency:.1}"));
    let attributes = record.attributes.iter().map(|attribute| {
        let value = match &attribute.value {
            None => "null".to_owned(),
            Some(Value::StringValue(text)) if text.contains(' ') || text.is_empty() => {
                format!("{text:?}")
            }
            Some(Value::StringValue(text) | Value::JsonValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::DoubleValue(number)) => number.to_string(),
            Some(Value::BoolValue(truth)) => truth.to_string(),
        };
        format!(" {}={}", escape(&attribute.key), escape(&value))
    });
    latency.into_iter().chain(attributes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_keep_their_types() {
        let attribute = |key: &str, value| v1::Attribute { key: key.to_owned(), value };
        let attributes = [
            attribute("s", Some(Value::StringValue("a".into()))),
            attribute("i", Some(Value::IntValue(-7))),
            attribute("d", Some(Value::DoubleValue(f64::NAN))),
            attribute("j", Some(Value::JsonValue(r#"{"a":[1]}"#.into()))),
            attribute("l", Some(Value::JsonValue("{\n\"a\": 1}".into()))),
            attribute("x", Some(Value::JsonValue("{broken".into()))),
            attribute("n", None),
        ];
        let json = serde_json::to_string(&Attributes(&attributes)).unwrap();
        let expected =
            r#"{"s":"a","i":-7,"d":"NaN","j":{"a":[1]},"l":{"a":1},"x":"{broken","n":null}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn attributes_are_shown_on_the_same_line() {
        let value = Some(Value::StringValue("a b\n\x1b".into()));
        let attributes = vec![v1::Attribute { key: "k".into(), value }];
        let record =
            v1::LogRecord { attributes, latency_ms: Some(1.25), ..v1::LogRecord::default() };
        assert_eq!(attribute_text(&record), r#" latency_ms=1.2 k="a b\n\u{1b}""#);
    }
}
