//! Loki's push request in JSON: `{"streams":[{"stream":{"app":"web"},"values":[["1700000000000000000",
//! "line",{"trace_id":"…"}]]}]}`. Pure.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::stream::{Entry, Stream};

/// Of a time that is shown in an answer.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// A request.
#[derive(Deserialize)]
pub(super) struct JsonRequest {
    pub(super) streams: Vec<JsonStream>,
}

#[derive(Deserialize)]
pub(super) struct JsonStream {
    #[serde(default)]
    stream: Pairs,
    #[serde(default)]
    values: Vec<JsonEntry>,
}

impl From<JsonStream> for Stream {
    fn from(read: JsonStream) -> Self {
        Self {
            labels: read.stream.0,
            entries: read.values.into_iter().map(|entry| entry.0).collect(),
        }
    }
}

/// The members of an object, each as text.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, Text(value))) = map.next_entry::<String, Text>()? {
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// A text; of a number or truth value, which Loki refuses, what it is written as.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Text, E> {
                Ok(Text(truth.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

/// One whose time is none takes no other along.
struct JsonEntry(Result<Entry, String>);

impl<'de> Deserialize<'de> for JsonEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = JsonEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[\"<nanoseconds since 1970>\", \"<line>\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<JsonEntry, A::Error> {
                let missing = |at| de::Error::invalid_length(at, &self);
                let Text(time) = seq.next_element()?.ok_or_else(|| missing(0))?;
                let line = seq.next_element()?.ok_or_else(|| missing(1))?;
                let Pairs(metadata) = seq.next_element()?.unwrap_or_default();
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                let entry = |time_unix_nano| Entry {
                    time_unix_nano,
                    line,
                    metadata,
                    has_invalid_utf8: false,
                };
                let read = time.parse().map(entry);
                Ok(JsonEntry(read.map_err(|_| wrong_time(&time))))
            }
        }
        deserializer.deserialize_seq(EntryVisitor)
    }
}

fn wrong_time(time: &str) -> String {
    let shown: String = time.chars().take(SHOWN_CHARACTERS_MAX).collect();
    format!("{shown:?} is no time in nanoseconds since 1970")
}
