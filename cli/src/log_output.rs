//! A stored log as we write it: one JSON object, or one line for a person.

use std::io;

use logweir_core::json::{Attributes, Log, level_name};
use logweir_proto::v1::{self, attribute::Value};
use serde::Serialize;

use crate::output::{Output, Tone, escape};
use crate::response_times::{rfc3339, shown};

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
    output.object(&Log::new(entry))
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

fn time_of(record: &v1::LogRecord) -> i64 {
    // The wire has 64 bits without a sign; a server never stores a time beyond 2262.
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
    fn attributes_are_shown_on_the_same_line() {
        let value = Some(Value::StringValue("a b\n\x1b".into()));
        let attributes = vec![v1::Attribute { key: "k".into(), value }];
        let record =
            v1::LogRecord { attributes, latency_ms: Some(1.25), ..v1::LogRecord::default() };
        assert_eq!(attribute_text(&record), r#" latency_ms=1.2 k="a b\n\u{1b}""#);
    }
}
