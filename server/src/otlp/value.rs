//! OpenTelemetry's values as ours: scalars as they are, what is nested as JSON text.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use logweir_proto::v1::{self, attribute::Value};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Sent};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

/// An attribute.
pub(super) fn attribute(sent: KeyValue) -> v1::Attribute {
    v1::Attribute { key: sent.key, value: sent.value.and_then(value) }
}

/// The value of an attribute; none for one that says nothing, which is null.
fn value(sent: AnyValue) -> Option<Value> {
    Some(match sent.value? {
        Sent::StringValue(text) => Value::StringValue(text),
        Sent::BoolValue(truth) => Value::BoolValue(truth),
        Sent::IntValue(number) => Value::IntValue(number),
        Sent::DoubleValue(number) => Value::DoubleValue(number),
        Sent::BytesValue(bytes) => Value::StringValue(BASE64.encode(bytes)),
        nested @ (Sent::ArrayValue(_) | Sent::KvlistValue(_)) => Value::JsonValue(json(&nested)),
        // Points into a table that requests of logs do not have; to be taken as absent.
        Sent::StringValueStrindex(_) => return None,
    })
}

/// A value as text: a string and bytes as they are, everything else as JSON.
pub(super) fn text(sent: AnyValue) -> String {
    match sent.value {
        None | Some(Sent::StringValueStrindex(_)) => String::new(),
        Some(Sent::StringValue(text)) => text,
        Some(Sent::BytesValue(bytes)) => BASE64.encode(bytes),
        Some(other) => json(&other),
    }
}

fn json(value: &Sent) -> String {
    serde_json::to_string(&Json(value)).expect("text in memory takes what has text for its keys")
}

struct Json<'a>(&'a Sent);

impl Serialize for Json<'_> {
    // As deep as the request could be decoded: both decoders have a bound.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Sent::StringValue(text) => serializer.serialize_str(text),
            Sent::BoolValue(truth) => serializer.serialize_bool(*truth),
            Sent::IntValue(number) => serializer.serialize_i64(*number),
            // By the names that protobuf has for them in JSON, which has no numbers for them.
            Sent::DoubleValue(number) if number.is_nan() => serializer.serialize_str("NaN"),
            Sent::DoubleValue(f64::INFINITY) => serializer.serialize_str("Infinity"),
            Sent::DoubleValue(f64::NEG_INFINITY) => serializer.serialize_str("-Infinity"),
            Sent::DoubleValue(number) => serializer.serialize_f64(*number),
            Sent::BytesValue(bytes) => serializer.serialize_str(&BASE64.encode(bytes)),
            Sent::ArrayValue(array) => {
                let mut list = serializer.serialize_seq(Some(array.values.len()))?;
                for value in &array.values {
                    list.serialize_element(&value.value.as_ref().map(Json))?;
                }
                list.end()
            }
            Sent::KvlistValue(entries) => {
                let mut map = serializer.serialize_map(Some(entries.values.len()))?;
                for entry in &entries.values {
                    let value = entry.value.as_ref().and_then(|value| value.value.as_ref());
                    map.serialize_entry(&entry.key, &value.map(Json))?;
                }
                map.end()
            }
            Sent::StringValueStrindex(_) => serializer.serialize_unit(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

    use super::*;

    pub(in crate::otlp) fn given(value: Sent) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    pub(in crate::otlp) fn string(text: &str) -> AnyValue {
        given(Sent::StringValue(text.to_owned()))
    }

    pub(in crate::otlp) fn pair(key: &str, value: AnyValue) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
    }

    fn nested() -> AnyValue {
        let list = ArrayValue {
            values: vec![
                given(Sent::IntValue(i64::MAX)),
                AnyValue::default(),
                given(Sent::DoubleValue(f64::NEG_INFINITY)),
                given(Sent::BytesValue(vec![0, 255])),
            ],
        };
        let map = KeyValueList {
            values: vec![
                pair("z", string("\"\n")),
                pair("a", given(Sent::ArrayValue(list))),
                pair("b", given(Sent::BoolValue(true))),
            ],
        };
        given(Sent::KvlistValue(map))
    }

    const NESTED: &str =
        r#"{"z":"\"\n","a":[9223372036854775807,null,"-Infinity","AP8="],"b":true}"#;

    #[test]
    fn a_value_of_any_kind_is_kept() {
        for (sent, expected) in [
            (string("x"), Some(Value::StringValue("x".into()))),
            (given(Sent::BoolValue(false)), Some(Value::BoolValue(false))),
            (given(Sent::IntValue(-7)), Some(Value::IntValue(-7))),
            (given(Sent::DoubleValue(0.5)), Some(Value::DoubleValue(0.5))),
            (given(Sent::BytesValue(vec![1, 2])), Some(Value::StringValue("AQI=".into()))),
            (nested(), Some(Value::JsonValue(NESTED.into()))),
            (AnyValue::default(), None),
        ] {
            assert_eq!(value(sent), expected);
        }
    }

    #[test]
    fn a_body_of_any_kind_is_text() {
        for (sent, expected) in [
            (string("x \"y\""), "x \"y\""),
            (given(Sent::BoolValue(true)), "true"),
            (given(Sent::IntValue(42)), "42"),
            (given(Sent::DoubleValue(1.5)), "1.5"),
            (given(Sent::DoubleValue(f64::NAN)), "\"NaN\""),
            (given(Sent::BytesValue(vec![1, 2])), "AQI="),
            (nested(), NESTED),
            (AnyValue::default(), ""),
        ] {
            assert_eq!(text(sent), expected);
        }
    }
}
