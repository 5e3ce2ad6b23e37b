//! A stored log.

use std::sync::LazyLock;

use logweir_proto::v1::{self, attribute::Value};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::{level_name, moment};

/// A log; what is empty is left out. `logweir send` reads it back.
#[derive(Serialize)]
pub struct Log<'a> {
    // Named as `logweir send` knows the parts of a log; what it does not know (the id, what was
    // judged) comes back as attributes.
    id: &'a str,
    time: String,
    service: &'a str,
    level: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    trace_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    span_id: String,
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

impl<'a> Log<'a> {
    /// The form of a log.
    pub fn new(entry: &'a v1::LogEntry) -> Self {
        static NOTHING: LazyLock<v1::LogRecord> = LazyLock::new(v1::LogRecord::default);
        let record = entry.record.as_ref().unwrap_or(&NOTHING);
        // The wire has 64 bits without a sign; a server never stores a time beyond 2262.
        let time = i64::try_from(record.time_unix_nano).unwrap_or(i64::MAX);
        Self {
            id: &entry.id,
            time: moment(time),
            service: &entry.service,
            level: level_name(record.level()),
            message: &record.message,
            latency_ms: record.latency_ms,
            trace_id: hex::encode(&record.trace_id),
            span_id: hex::encode(&record.span_id),
            logger: &record.logger,
            instance: &entry.instance,
            environment: &entry.environment,
            severity_number: record.severity_number,
            received: moment(entry.received_unix_nano),
            template_id: &entry.template_id,
            anomaly_score: entry.anomaly_score,
            is_anomaly: entry.is_anomaly,
            anomaly_reasons: &entry.anomaly_reasons,
            attributes: Attributes(&record.attributes),
        }
    }
}

/// The attributes of a log, as one object.
pub struct Attributes<'a>(pub &'a [v1::Attribute]);

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
    // Raw where possible: read and written again, numbers of many digits would be rounded. But an
    // object a line must stay one line.
    if json.chars().any(char::is_control) {
        return serde_json::from_str(json).ok().map(Nested::OnOneLine);
    }
    serde_json::from_str(json).ok().map(Nested::AsSent)
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
}
