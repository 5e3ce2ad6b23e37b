//! Structured bodies: a message that is a JSON object or logfmt, taken apart into fields.
//!
//! All or nothing: if anything in the body has no place (an attribute over a limit, a name that the
//! sender has used for something else, a name twice), the message stays as it is.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value as Json;

use logweir_core::record::Value;

/// The fields of a body in their order.
pub(super) type Fields = Vec<(String, Value)>;

/// The fields of a message with a structured body.
pub(super) fn parse(message: &str) -> Option<Fields> {
    let text = message.trim();
    match text.as_bytes().first()? {
        b'{' => parse_json(text),
        first if first.is_ascii_alphabetic() => parse_logfmt(text),
        _ => None,
    }
}

struct JsonFields(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for JsonFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = JsonFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object without repeated names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonFields, A::Error> {
                let mut fields: Vec<(String, Json)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Json>()? {
                    // By hand, because serde_json keeps the last of two equal names in silence.
                    // Each name is compared with all before it, which the bound keeps small.
                    if fields.len() >= FIELDS_MAX || fields.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom("too many names, or one twice"));
                    }
                    fields.push((key, value));
                }
                Ok(JsonFields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// More fields than any limit of attributes makes sense for.
const FIELDS_MAX: usize = 1_024;

fn parse_json(text: &str) -> Option<Fields> {
    let JsonFields(fields) = serde_json::from_str(text).ok()?;
    Some(fields.into_iter().flat_map(flatten_error).collect())
}

/// `{"error": {"type": …, "message": …}}` becomes `exception.type` and `exception.message`.
fn flatten_error((key, value): (String, Json)) -> Vec<(String, Value)> {
    const PARTS: [(&str, &str); 5] = [
        ("type", "exception.type"),
        ("name", "exception.type"),
        ("message", "exception.message"),
        ("stacktrace", "exception.stacktrace"),
        ("stack", "exception.stacktrace"),
    ];
    let place = |part: &str| PARTS.iter().find(|(name, _)| *name == part).map(|(_, place)| *place);
    match value {
        Json::Object(parts)
            if matches!(key.as_str(), "error" | "err" | "exception")
                && !parts.is_empty()
                && parts.iter().all(|(part, value)| place(part).is_some() && value.is_string()) =>
        {
            let named = parts.into_iter().map(|(part, value)| {
                (place(&part).unwrap_or("exception").to_owned(), json_value(value))
            });
            named.collect()
        }
        value => vec![(key, json_value(value))],
    }
}

fn json_value(value: Json) -> Value {
    match value {
        Json::String(text) => Value::String(text),
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            // Above `i64::MAX` a double would round it: an id of 64 bits would become another one.
            (None, Some(real)) if !number.is_u64() => Value::Double(real),
            _ => Value::Json(number.to_string()),
        },
        nested => Value::Json(nested.to_string()),
    }
}

/// `key=value key="quoted value"`, nothing else between, with a key that says that it is a log.
fn parse_logfmt(text: &str) -> Option<Fields> {
    const TELLING: [&str; 8] =
        ["msg", "message", "level", "lvl", "severity", "time", "ts", "timestamp"];
    let mut fields: Fields = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = logfmt_key(rest)?;
        let (value, after) = logfmt_value(after)?;
        if fields.len() >= FIELDS_MAX || fields.iter().any(|(known, _)| known == key) {
            return None;
        }
        fields.push((key.to_owned(), value));
        rest = after.trim_start_matches([' ', '\t']);
    }
    // `user=anna` is a sentence that happens to have an equals sign. Taken apart, its message would
    // be empty and its pattern lost; so one of the names that loggers write must be there.
    let telling = fields.iter().any(|(key, _)| TELLING.contains(&key.as_str()));
    (telling && fields.len() >= 2).then_some(fields)
}

fn logfmt_key(text: &str) -> Option<(&str, &str)> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-/@".contains(byte);
    let length = text.bytes().take_while(|byte| allowed(byte)).count();
    let after = text[length..].strip_prefix('=')?;
    (length > 0).then_some((&text[..length], after))
}

fn logfmt_value(text: &str) -> Option<(Value, &str)> {
    if text.starts_with('"') {
        // Quoted with the escapes of JSON, whose parser also finds where the text ends.
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let value = values.next()?.ok()?;
        let rest = &text[values.byte_offset()..];
        let ends = rest.is_empty() || rest.starts_with([' ', '\t']);
        return ends.then_some((Value::String(value), rest));
    }
    let end = memchr::memchr3(b' ', b'\t', b'\n', text.as_bytes()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let plain = !word.contains(['"', '=']) && !rest.starts_with('\n');
    plain.then(|| (logfmt_word(word), rest))
}

/// A number only if it reads back as it was written.
fn logfmt_word(word: &str) -> Value {
    match word {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    // `007`, `+1` and `1e3` stay text: as numbers they could not be shown as they were written.
    if let Ok(number) = word.parse::<i64>()
        && number.to_string() == word
    {
        return Value::Int(number);
    }
    if let Ok(number) = word.parse::<f64>()
        && number.to_string() == word
        && number.is_finite()
    {
        return Value::Double(number);
    }
    Value::String(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::String(value.into())
    }

    fn check(message: &str, expected: &[(&str, Value)]) {
        let expected: Fields =
            expected.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        assert_eq!(parse(message), Some(expected), "{message}");
    }

    #[test]
    fn objects_are_taken_apart() {
        check(
            r#" {"msg":"a","n":1,"x":1.5,"t":true,"o":{"b":[1]},"z":null,"big":18446744073709551615} "#,
            &[
                ("msg", text("a")),
                ("n", Value::Int(1)),
                ("x", Value::Double(1.5)),
                ("t", Value::Bool(true)),
                ("o", Value::Json(r#"{"b":[1]}"#.into())),
                ("z", Value::Json("null".into())),
                ("big", Value::Json("18446744073709551615".into())),
            ],
        );
        check(
            r#"{"error":{"name":"E","message":"m"}}"#,
            &[("exception.message", text("m")), ("exception.type", text("E"))],
        );
    }

    #[test]
    fn logfmt_is_taken_apart() {
        check(
            r#"level=warn msg="slow \"query\"" n=12 id=007 ok=true x=1.5 empty="#,
            &[
                ("level", text("warn")),
                ("msg", text("slow \"query\"")),
                ("n", Value::Int(12)),
                ("id", text("007")),
                ("ok", Value::Bool(true)),
                ("x", Value::Double(1.5)),
                ("empty", text("")),
            ],
        );
    }

    #[test]
    fn other_text_is_left_alone() {
        for message in [
            "",
            "plain words",
            "{not json}",
            r#"{"a":1} and more"#,
            r#"{"a":1,"a":2}"#,
            r#"["a"]"#,
            "a=1 b=2",
            "level=warn",
            "level=warn and words",
            "level=warn level=info",
            "level=warn msg=\"open",
            "level=warn msg=a=b",
            "level=warn msg=a\nb=c",
        ] {
            assert_eq!(parse(message), None, "{message:?}");
        }
    }
}
