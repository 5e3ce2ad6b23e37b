//! How a log's texts and attributes lie in columns that people read, and what those columns cannot
//! hold: U+0000 in any text, numbers that are not finite, and JSON that is none or that functions
//! of PostgreSQL fail on. A log with any of these is kept a second time in `exact`, and comes back
//! from there as it was; its readable columns hold the nearest that is possible.

use std::{borrow::Cow, fmt};

use logweir_core::record::{Attribute, StoredLog, Value};
use serde::{
    Deserialize, Serialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// PostgreSQL parses JSON by recursion, on a stack of 2 MB.
// Well below what that bears, for a server's stack may be set smaller; nobody nests hundreds.
const DEPTH_MAX: usize = 256;

/// A text as a column can hold it.
pub(super) fn readable(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Appends the attributes as a JSON object; false if it is not exact.
pub(super) fn put_attributes(out: &mut Vec<u8>, attributes: &[Attribute]) -> bool {
    let mut is_exact = true;
    let mut before = b'{';
    for Attribute { key, value } in attributes {
        out.push(before);
        before = b',';
        is_exact &= put_string(out, key);
        out.push(b':');
        is_exact &= match value {
            Value::String(text) => put_string(out, text),
            Value::Int(number) => put_json(out, number),
            Value::Bool(truth) => put_json(out, truth),
            Value::Double(number) if number.is_finite() => put_json(out, number),
            Value::Double(number) => {
                put_json(out, &number.to_string());
                false
            }
            Value::Json(text) if is_plain_json(text) => {
                out.extend_from_slice(text.as_bytes());
                true
            }
            Value::Json(text) => {
                put_string(out, text);
                false
            }
        };
    }
    if attributes.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    is_exact
}

fn put_string(out: &mut Vec<u8>, text: &str) -> bool {
    let readable = readable(text);
    put_json(out, &*readable);
    readable.len() == text.len()
}

fn put_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> bool {
    // Texts and finite numbers have no way to fail, nor has a vector.
    serde_json::to_writer(out, value).is_ok()
}

/// Whether text is JSON that can stand among the attributes, is read back as [`Value::Json`], and
/// that no function of PostgreSQL fails on: an escaped U+0000 or half a pair would end every query
/// that looks into the attributes.
fn is_plain_json(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    // A number, text or truth value would be read back as that kind and not as JSON. The last
    // condition rejects blanks around it, which the column keeps but reading back would not.
    matches!(text.as_bytes().first(), Some(b'{' | b'[' | b'n'))
        && !text.as_bytes().contains(&0)
        && !lower.contains("\\u0000")
        && !lower.contains("\\ud")
        && depth(text) <= DEPTH_MAX
        && serde_json::from_str::<&RawValue>(text).is_ok_and(|json| json.get().len() == text.len())
}

/// At most how deep brackets lie in each other: those in strings are counted too.
fn depth(text: &str) -> usize {
    text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count()
}

/// What [`put_attributes`] wrote.
pub(super) fn read_attributes(json: &str) -> Result<Vec<Attribute>, serde_json::Error> {
    serde_json::from_str(json).map(|Attributes(attributes)| attributes)
}

struct Attributes(Vec<Attribute>);

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of attributes")
            }

            // One by one and not into a map: names may repeat, and their order is the sender's.
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Attributes, M::Error> {
                let mut attributes = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some((key, json)) = map.next_entry::<String, &RawValue>()? {
                    let value = value_of(json.get()).map_err(serde::de::Error::custom)?;
                    attributes.push(Attribute { key, value });
                }
                Ok(Attributes(attributes))
            }
        }
        from.deserialize_map(Each)
    }
}

fn value_of(json: &str) -> Result<Value, serde_json::Error> {
    Ok(match json.as_bytes().first() {
        Some(b'"') => Value::String(serde_json::from_str(json)?),
        Some(b'{' | b'[' | b'n') => Value::Json(json.to_owned()),
        Some(b't' | b'f') => Value::Bool(serde_json::from_str(json)?),
        _ if json.contains(['.', 'e', 'E']) => {
            // Its own reading of numbers may be off by the last bit.
            Value::Double(json.parse().map_err(serde::de::Error::custom)?)
        }
        _ => Value::Int(serde_json::from_str(json)?),
    })
}

/// A log's texts and attributes as they are, in the coding of the column `exact`: JSON, where
/// U+0000 is an escape.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Exact<'a> {
    pub(super) message: Cow<'a, str>,
    pub(super) logger: Cow<'a, str>,
    pub(super) instance: Cow<'a, str>,
    pub(super) environment: Cow<'a, str>,
    pub(super) anomaly_reasons: Cow<'a, [String]>,
    attributes: Vec<(Cow<'a, str>, ExactValue<'a>)>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum ExactValue<'a> {
    String(Cow<'a, str>),
    Json(Cow<'a, str>),
    Int(i64),
    Bool(bool),
    /// The bits of the number, since JSON has none for infinity or "not a number".
    Double(u64),
}

impl<'a> Exact<'a> {
    pub(super) fn new(
        [message, logger, instance, environment]: [&'a str; 4],
        anomaly_reasons: &'a [String],
        attributes: &'a [Attribute],
    ) -> Self {
        let exact = |attribute: &'a Attribute| {
            let value = match &attribute.value {
                Value::String(text) => ExactValue::String(text.into()),
                Value::Json(text) => ExactValue::Json(text.into()),
                Value::Int(number) => ExactValue::Int(*number),
                Value::Bool(truth) => ExactValue::Bool(*truth),
                Value::Double(number) => ExactValue::Double(number.to_bits()),
            };
            (attribute.key.as_str().into(), value)
        };
        Self {
            message: message.into(),
            logger: logger.into(),
            instance: instance.into(),
            environment: environment.into(),
            anomaly_reasons: anomaly_reasons.into(),
            attributes: attributes.iter().map(exact).collect(),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Texts and whole numbers have no way to fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Gives a log read from the other columns its true texts and attributes.
    pub(super) fn restore(self, log: &mut StoredLog) {
        log.instance = self.instance.into_owned();
        log.environment = self.environment.into_owned();
        log.scored.anomaly_reasons = self.anomaly_reasons.into_owned();
        let record = &mut log.scored.record;
        record.message = self.message.into_owned();
        record.logger = self.logger.into_owned();
        let attribute = |(key, value): (Cow<'_, str>, ExactValue<'_>)| {
            let value = match value {
                ExactValue::String(text) => Value::String(text.into_owned()),
                ExactValue::Json(text) => Value::Json(text.into_owned()),
                ExactValue::Int(number) => Value::Int(number),
                ExactValue::Bool(truth) => Value::Bool(truth),
                ExactValue::Double(bits) => Value::Double(f64::from_bits(bits)),
            };
            Attribute::new(key, value)
        };
        record.attributes = self.attributes.into_iter().map(attribute).collect();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(attributes: &[Attribute]) -> (String, bool) {
        let mut out = Vec::new();
        let is_exact = put_attributes(&mut out, attributes);
        (String::from_utf8(out).unwrap(), is_exact)
    }

    fn one(value: Value) -> (String, bool) {
        written(&[Attribute::new("k", value)])
    }

    #[test]
    fn usual_attributes_are_readable_and_exact() {
        let attributes = [
            Attribute::new("user \"a\"", Value::String("line\nä".into())),
            Attribute::new("n", Value::Int(i64::MIN)),
            Attribute::new("x", Value::Double(1.0)),
            Attribute::new("x", Value::Bool(false)),
            Attribute::new("nested", Value::Json("{\"b\": 1.0, \"a\":[1e400]}".into())),
            Attribute::new("none", Value::Json("null".into())),
        ];
        let (json, is_exact) = written(&attributes);
        assert_eq!(
            json,
            "{\"user \\\"a\\\"\":\"line\\nä\",\"n\":-9223372036854775808,\"x\":1.0,\"x\":false,\
             \"nested\":{\"b\": 1.0, \"a\":[1e400]},\"none\":null}"
        );
        assert!(is_exact);
        assert_eq!(read_attributes(&json).unwrap(), attributes);
        assert_eq!(written(&[]), ("{}".into(), true));
    }

    #[test]
    fn odd_values_are_kept_apart() {
        for (value, readable) in [
            (Value::String("a\0b".into()), "\"a\u{fffd}b\""),
            (Value::Double(f64::NEG_INFINITY), "\"-inf\""),
            (Value::Json(" {}".into()), "\" {}\""),
            (Value::Json("5".into()), "\"5\""),
            (Value::Json("{\"a\":".into()), "\"{\\\"a\\\":\""),
            (Value::Json("[\"\\u0000\"]".into()), "\"[\\\"\\\\u0000\\\"]\""),
            (Value::Json("[\"\\uD800\"]".into()), "\"[\\\"\\\\uD800\\\"]\""),
        ] {
            assert_eq!(one(value), (format!("{{\"k\":{readable}}}"), false));
        }
        assert!(!one(Value::Json("[".repeat(5_000) + &"]".repeat(5_000))).1);
        assert!(one(Value::Json("[".repeat(50) + &"]".repeat(50))).1);
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<String>().prop_map(Value::String),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))),
            any::<bool>().prop_map(Value::Bool),
            any::<String>().prop_map(Value::Json),
            Just(Value::Json("{\"a\": [1, null]}".into())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_exact_comes_back(
            attributes in prop::collection::vec((any::<String>(), value()), 0..6),
        ) {
            let attributes: Vec<Attribute> =
                attributes.into_iter().map(|(key, value)| Attribute::new(key, value)).collect();
            let (json, is_exact) = written(&attributes);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok() || json.len() > 1_000);
            if is_exact {
                // The text tells −0.0 from 0.0, which equality does not.
                prop_assert_eq!(format!("{:?}", read_attributes(&json).unwrap()), format!("{attributes:?}"));
            }
            let exact = Exact::new(["\0", "b", "c", "d"], &[], &attributes);
            let bytes = exact.to_bytes();
            prop_assert_eq!(Exact::from_bytes(&bytes).unwrap(), exact);
        }
    }
}
