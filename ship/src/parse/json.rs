//! Reads one JSON object. Pure. Nested values, and numbers that no machine number holds exactly,
//! stay the text that they are.

use std::{borrow::Cow, fmt};

use logweir_core::timestamp::Timestamp;

use logweir_proto::v1::attribute::Value;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::parse::fields::{Fields, Parsed, Role};

/// Reads a line that is one object and nothing else.
pub(crate) fn parse(line: &str, now: Timestamp) -> Option<Parsed> {
    let members: Members<'_> = serde_json::from_str(line).ok()?;
    let mut fields = Fields::new(now);
    for (key, raw) in members.0 {
        if Role::of(&key) == Role::Attributes
            && let Ok(nested) = serde_json::from_str::<Members<'_>>(raw.get())
        {
            for (key, raw) in nested.0 {
                fields.add_attribute(&key, value(raw.get()));
            }
        } else if let Some(value) = value(raw.get()) {
            fields.add(&key, value);
        } else {
            fields.add_attribute(&key, None);
        }
    }
    Some(fields.finish(line))
}

// By hand and with raw values: `serde_json::Value` keeps one of two equal names, sorts them, and
// rounds numbers of more than 64 bits.
/// The members of an object in their order, repeated names included.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A name, borrowed from the line where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// The value of a member; none for null.
fn value(raw: &str) -> Option<Value> {
    Some(match raw.as_bytes().first()? {
        b'n' => return None,
        b't' => Value::BoolValue(true),
        b'f' => Value::BoolValue(false),
        // A lone surrogate is no text: it stays the JSON that it is.
        b'"' => serde_json::from_str(raw)
            .map_or_else(|_| Value::JsonValue(raw.to_owned()), Value::StringValue),
        b'{' | b'[' => Value::JsonValue(raw.to_owned()),
        _ => number(raw),
    })
}

/// Digits beyond what a double holds exactly stay text.
fn number(raw: &str) -> Value {
    if let Ok(whole) = raw.parse() {
        return Value::IntValue(whole);
    }
    // 17 significant digits tell any two doubles apart (IEEE 754); more say what a double cannot.
    let digits = raw.bytes().filter(u8::is_ascii_digit).count();
    match raw.parse::<f64>() {
        Ok(number) if number.is_finite() && digits <= 17 => Value::DoubleValue(number),
        _ => Value::JsonValue(raw.to_owned()),
    }
}
