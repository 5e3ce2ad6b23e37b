//! OTLP in JSON: protobuf's mapping with the exceptions that OTLP makes (specification, "JSON Protobuf
//! Encoding"): ids are hexadecimal, enums are numbers (names are read too), names of fields are in
//! lowerCamelCase alone, and what is not known is passed over.
//!
//! As in protobuf's mapping, a number may stand in a string, and null is what is left out.

use std::{fmt, marker::PhantomData};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest as Request, common::v1 as common,
    logs::v1 as logs, resource::v1 as resource,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::translate::{INVALID_SPAN_ID, INVALID_TRACE_ID};
use crate::{
    listener::{
        decoded_size::{OTLP_ENTRY_BYTES, OTLP_RECORD_BYTES},
        message_body::malformed,
    },
    status::Refusal,
};

/// Objects within a request down to a log: the request, a resource's logs, a scope's logs, the log,
/// each but the first in a list.
const RECORD_DEPTH: usize = 7;

/// Reads a request.
pub(super) fn request(text: &[u8]) -> Result<Request, Refusal> {
    match serde_json::from_slice::<Object<JsonRequest>>(text) {
        Ok(Object(request)) => Ok(Request { resource_logs: request.resource_logs }),
        Err(error) => Err(malformed(&format!("it is no OTLP in JSON: {error}"))),
    }
}

/// About how much memory the structure of a request takes once decoded, bytes.
pub(super) fn structure_bytes(text: &[u8]) -> usize {
    let (mut depth, mut bytes, mut rest) = (0_usize, 0, text);
    while let Some(position) = rest.iter().position(|byte| b"{}[]\"".contains(byte)) {
        let (byte, after) = (rest[position], &rest[position + 1..]);
        rest = after;
        match byte {
            b'"' => rest = after_string(after),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {
                depth += 1;
                // A list weighs as much as an object, since it can stand for one. An attribute is two
                // objects, itself and its value.
                bytes +=
                    if depth <= RECORD_DEPTH { OTLP_RECORD_BYTES } else { OTLP_ENTRY_BYTES / 2 };
            }
        }
    }
    bytes
}

fn after_string(mut text: &[u8]) -> &[u8] {
    while let Some(position) = text.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        let ends = text[position] == b'"';
        // After a backslash comes one that counts for nothing.
        text = text.get(position + if ends { 1 } else { 2 }..).unwrap_or_default();
        if ends {
            return text;
        }
    }
    &[]
}

/// What is read from an object alone: a type with fields would else be read from a list too, of its fields
/// in order, and from an empty one at that.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonRequest {
    #[serde(deserialize_with = "list::<_, ResourceLogs, _>")]
    resource_logs: Vec<logs::ResourceLogs>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ResourceLogs {
    resource: Option<Object<Resource>>,
    #[serde(deserialize_with = "list::<_, ScopeLogs, _>")]
    scope_logs: Vec<logs::ScopeLogs>,
}

impl From<ResourceLogs> for logs::ResourceLogs {
    fn from(read: ResourceLogs) -> Self {
        let (resource, scope_logs) = (read.resource.map(|Object(of)| of.into()), read.scope_logs);
        Self { resource, scope_logs, ..Self::default() }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Resource {
    #[serde(deserialize_with = "list::<_, KeyValue, _>")]
    attributes: Vec<common::KeyValue>,
    #[serde(deserialize_with = "int")]
    dropped_attributes_count: u32,
}

impl From<Resource> for resource::Resource {
    fn from(read: Resource) -> Self {
        let Resource { attributes, dropped_attributes_count } = read;
        Self { attributes, dropped_attributes_count, ..Self::default() }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ScopeLogs {
    scope: Option<Object<Scope>>,
    #[serde(deserialize_with = "list::<_, LogRecord, _>")]
    log_records: Vec<logs::LogRecord>,
}

impl From<ScopeLogs> for logs::ScopeLogs {
    fn from(read: ScopeLogs) -> Self {
        let (scope, log_records) = (read.scope.map(|Object(of)| of.into()), read.log_records);
        Self { scope, log_records, ..Self::default() }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Scope {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    version: String,
    #[serde(deserialize_with = "list::<_, KeyValue, _>")]
    attributes: Vec<common::KeyValue>,
    #[serde(deserialize_with = "int")]
    dropped_attributes_count: u32,
}

impl From<Scope> for common::InstrumentationScope {
    fn from(read: Scope) -> Self {
        let Scope { name, version, attributes, dropped_attributes_count } = read;
        Self { name, version, attributes, dropped_attributes_count }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LogRecord {
    #[serde(deserialize_with = "int")]
    time_unix_nano: u64,
    #[serde(deserialize_with = "int")]
    observed_time_unix_nano: u64,
    #[serde(deserialize_with = "severity_number")]
    severity_number: i32,
    #[serde(deserialize_with = "or_default")]
    severity_text: String,
    body: Option<AnyValue>,
    #[serde(deserialize_with = "list::<_, KeyValue, _>")]
    attributes: Vec<common::KeyValue>,
    #[serde(deserialize_with = "int")]
    dropped_attributes_count: u32,
    #[serde(deserialize_with = "int")]
    flags: u32,
    #[serde(deserialize_with = "or_default")]
    trace_id: String,
    #[serde(deserialize_with = "or_default")]
    span_id: String,
    #[serde(deserialize_with = "or_default")]
    event_name: String,
}

impl From<LogRecord> for logs::LogRecord {
    fn from(mut read: LogRecord) -> Self {
        let trace_id = id(read.trace_id, INVALID_TRACE_ID, &mut read.attributes);
        let span_id = id(read.span_id, INVALID_SPAN_ID, &mut read.attributes);
        Self {
            time_unix_nano: read.time_unix_nano,
            observed_time_unix_nano: read.observed_time_unix_nano,
            severity_number: read.severity_number,
            severity_text: read.severity_text,
            body: read.body.map(Into::into),
            attributes: read.attributes,
            dropped_attributes_count: read.dropped_attributes_count,
            flags: read.flags,
            trace_id,
            span_id,
            event_name: read.event_name,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyValue {
    #[serde(deserialize_with = "or_default")]
    key: String,
    value: Option<AnyValue>,
}

impl From<KeyValue> for common::KeyValue {
    fn from(KeyValue { key, value }: KeyValue) -> Self {
        Self { key, value: value.map(Into::into), ..Self::default() }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArrayValue {
    #[serde(deserialize_with = "list::<_, AnyValue, _>")]
    values: Vec<common::AnyValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyValueList {
    #[serde(deserialize_with = "list::<_, KeyValue, _>")]
    values: Vec<common::KeyValue>,
}

/// One value, by the field that it stands in; none if no field is known.
#[derive(Default)]
struct AnyValue(Option<common::any_value::Value>);

impl From<AnyValue> for common::AnyValue {
    fn from(AnyValue(value): AnyValue) -> Self {
        Self { value }
    }
}

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnyValueVisitor)
    }
}

struct AnyValueVisitor;

impl<'de> Visitor<'de> for AnyValueVisitor {
    type Value = AnyValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value such as {\"stringValue\": \"…\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValue, A::Error> {
        use common::any_value::Value as Sent;
        let mut value = None;
        while let Some(field) = map.next_key::<String>()? {
            let read = match field.as_str() {
                "stringValue" => map.next_value::<Option<String>>()?.map(Sent::StringValue),
                "boolValue" => map.next_value::<Option<bool>>()?.map(Sent::BoolValue),
                "intValue" => {
                    let number = map.next_value::<Option<Int>>()?;
                    number.map(Int::into_type).transpose()?.map(Sent::IntValue)
                }
                "doubleValue" => {
                    map.next_value::<Option<Double>>()?.map(|d| Sent::DoubleValue(d.0))
                }
                "arrayValue" => {
                    map.next_value::<Option<Object<ArrayValue>>>()?.map(|Object(array)| {
                        Sent::ArrayValue(common::ArrayValue { values: array.values })
                    })
                }
                "kvlistValue" => {
                    map.next_value::<Option<Object<KeyValueList>>>()?.map(|Object(list)| {
                        Sent::KvlistValue(common::KeyValueList { values: list.values })
                    })
                }
                "bytesValue" => {
                    let text = map.next_value::<Option<String>>()?;
                    text.map(bytes).transpose()?.map(Sent::BytesValue)
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            value = read.or(value);
        }
        Ok(AnyValue(value))
    }
}

/// Bytes, in either alphabet of base64, padded or not.
fn bytes<E: Error>(text: String) -> Result<Vec<u8>, E> {
    let alphabet = match text.contains(['-', '_']) {
        true => alphabet::URL_SAFE,
        false => alphabet::STANDARD,
    };
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&alphabet, config).decode(text).map_err(E::custom)
}

/// A list whose elements become what they are in protobuf one by one, so that it is never there twice.
fn list<'de, D, From, To>(deserializer: D) -> Result<Vec<To>, D::Error>
where
    D: Deserializer<'de>,
    From: Deserialize<'de> + Into<To>,
{
    struct List<From, To>(PhantomData<(From, To)>);

    impl<'de, From: Deserialize<'de> + Into<To>, To> Visitor<'de> for List<From, To> {
        type Value = Vec<To>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<E: Error>(self) -> Result<Vec<To>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<To>, A::Error> {
            let mut read = Vec::new();
            while let Some(Object(element)) = list.next_element::<Object<From>>()? {
                read.push(element.into());
            }
            Ok(read)
        }
    }

    deserializer.deserialize_any(List::<From, To>(PhantomData))
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An id; what is not hexadecimal is none, and kept as an attribute, like one of a wrong length.
fn id(text: String, key: &str, attributes: &mut Vec<common::KeyValue>) -> Vec<u8> {
    hex::decode(&text).unwrap_or_else(|_| {
        let value = common::AnyValue { value: Some(common::any_value::Value::StringValue(text)) };
        attributes.push(common::KeyValue {
            key: key.to_owned(),
            value: Some(value),
            ..common::KeyValue::default()
        });
        Vec::new()
    })
}

fn int<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i128> + Default,
{
    Option::<Int>::deserialize(deserializer)?.map_or(Ok(T::default()), Int::into_type)
}

fn severity_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    Option::<SeverityNumber>::deserialize(deserializer)?
        .map_or(Ok(0), |SeverityNumber(number)| number.into_type())
}

/// A number, in a string or not, or the name of one.
struct SeverityNumber(Int);

impl<'de> Deserialize<'de> for SeverityNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeverityNumberVisitor)
    }
}

struct SeverityNumberVisitor;

impl Visitor<'_> for SeverityNumberVisitor {
    type Value = SeverityNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a severity number or its name")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<SeverityNumber, E> {
        IntVisitor.visit_u64(number).map(SeverityNumber)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<SeverityNumber, E> {
        IntVisitor.visit_i64(number).map(SeverityNumber)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<SeverityNumber, E> {
        IntVisitor.visit_f64(number).map(SeverityNumber)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SeverityNumber, E> {
        match logs::SeverityNumber::from_str_name(text) {
            Some(severity) => Ok(SeverityNumber(Int(severity as i128))),
            None => IntVisitor.visit_str(text).map(SeverityNumber),
        }
    }
}

/// A whole number, in a string or not.
struct Int(i128);

impl Int {
    fn into_type<T: TryFrom<i128>, E: Error>(self) -> Result<T, E> {
        T::try_from(self.0).map_err(|_| E::custom(format!("{} is out of range", self.0)))
    }
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntVisitor)
    }
}

struct IntVisitor;

impl Visitor<'_> for IntVisitor {
    type Value = Int;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, in a string or not")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Int, E> {
        Ok(Int(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Int, E> {
        Ok(Int(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Int, E> {
        if number.fract() == 0.0 && number.is_finite() {
            return Ok(Int(number as i128));
        }
        Err(E::custom(format!("{number} is no whole number")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Int, E> {
        text.parse().map(Int).map_err(|_| E::custom(format!("{text:?} is no whole number")))
    }
}

/// A number, in a string or not, with those that JSON has no numbers for.
struct Double(f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DoubleVisitor)
    }
}

struct DoubleVisitor;

impl Visitor<'_> for DoubleVisitor {
    type Value = Double;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, in a string or not")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Double, E> {
        Ok(Double(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Double, E> {
        Ok(Double(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Double, E> {
        Ok(Double(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Double, E> {
        // Reads `NaN`, `Infinity` and `-Infinity` too.
        text.parse().map(Double).map_err(|_| E::custom(format!("{text:?} is no number")))
    }
}

#[cfg(test)]
mod tests {
    use common::any_value::Value;
    use proptest::prelude::*;

    use super::*;

    fn log(fields: &str) -> Result<logs::LogRecord, Refusal> {
        let text =
            format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{fields}}}]}}]}}]}}"#);
        Ok(request(text.as_bytes())?
            .resource_logs
            .remove(0)
            .scope_logs
            .remove(0)
            .log_records
            .remove(0))
    }

    fn body(value: &str) -> Option<Value> {
        log(&format!(r#""body":{value}"#)).unwrap().body.unwrap().value
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        // `examples/logs.json` of opentelemetry-proto, shortened.
        let text = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name",
            "value":{"stringValue":"my.service"}}]},"scopeLogs":[{"scope":{"name":"my.library",
            "version":"1.0.0","attributes":[{"key":"a","value":{"stringValue":"b"}}]},"logRecords":[{
            "timeUnixNano":"1544712660300000000","observedTimeUnixNano":"1544712660300000001",
            "severityNumber":10,"severityText":"Information","traceId":"5B8EFFF798038103D269B633813FC60C",
            "spanId":"eee19b7ec3c1b174","body":{"stringValue":"Example log record"},"flags":1,
            "droppedAttributesCount":2,"eventName":"e","attributes":[{"key":"int.attribute","value":
            {"intValue":"10"}},{"key":"map.attribute","value":{"kvlistValue":{"values":[{"key":
            "some.map.key","value":{"stringValue":"some value"}}]}}}]}]}]}]}"#;
        let read = request(text.as_bytes()).unwrap().resource_logs.remove(0);
        let attributes = read.resource.unwrap().attributes;
        assert_eq!(attributes[0].key, "service.name");
        let scope = read.scope_logs[0].scope.as_ref().unwrap();
        assert_eq!((scope.name.as_str(), scope.version.as_str()), ("my.library", "1.0.0"));
        let log = &read.scope_logs[0].log_records[0];
        assert_eq!(log.time_unix_nano, 1_544_712_660_300_000_000);
        assert_eq!(log.observed_time_unix_nano, 1_544_712_660_300_000_001);
        assert_eq!((log.severity_number, log.severity_text.as_str()), (10, "Information"));
        assert_eq!(log.trace_id, hex::decode("5b8efff798038103d269b633813fc60c").unwrap());
        assert_eq!(log.span_id, hex::decode("eee19b7ec3c1b174").unwrap());
        assert_eq!((log.flags, log.dropped_attributes_count, log.event_name.as_str()), (1, 2, "e"));
        assert_eq!(log.attributes.len(), 2);
    }

    #[test]
    fn what_is_unknown_null_or_left_out_is_passed_over() {
        assert_eq!(request(b"{}").unwrap(), Request::default());
        assert_eq!(request(br#"{"resourceLogs":null,"x":[{}]}"#).unwrap(), Request::default());
        let names = r#""timeUnixNano":null,"traceId":null,"body":null,"attributes":null,"flags":null,
            "severityNumber":null,"severityText":null,"new":{"a":[1,{}]},"time_unix_nano":"7""#;
        assert_eq!(log(names).unwrap(), logs::LogRecord::default());
        assert_eq!(body("{}"), None);
        assert_eq!(body(r#"{"newValue":[1,2]}"#), None);
        assert_eq!(
            body(r#"{"arrayValue":{}}"#),
            Some(Value::ArrayValue(common::ArrayValue::default()))
        );
    }

    #[test]
    fn numbers_may_stand_in_strings_and_severities_have_names() {
        for (text, expected) in
            [("7", 7), (r#""7""#, 7), ("7.0", 7), (r#""18446744073709551615""#, u64::MAX)]
        {
            assert_eq!(log(&format!(r#""timeUnixNano":{text}"#)).unwrap().time_unix_nano, expected);
        }
        for (text, expected) in
            [("9", 9), (r#""9""#, 9), (r#""SEVERITY_NUMBER_INFO2""#, 10), ("99", 99)]
        {
            assert_eq!(
                log(&format!(r#""severityNumber":{text}"#)).unwrap().severity_number,
                expected
            );
        }
        assert_eq!(body(r#"{"intValue":"-9223372036854775808"}"#), Some(Value::IntValue(i64::MIN)));
        assert_eq!(
            body(r#"{"doubleValue":"-Infinity"}"#),
            Some(Value::DoubleValue(f64::NEG_INFINITY))
        );
        assert_eq!(body(r#"{"doubleValue":1}"#), Some(Value::DoubleValue(1.0)));
        for text in ["+/8=", "-_8=", "+/8", "-_8"] {
            let expected = Some(Value::BytesValue(vec![0xfb, 0xff]));
            assert_eq!(body(&format!(r#"{{"bytesValue":"{text}"}}"#)), expected, "{text}");
        }
    }

    #[test]
    fn an_id_that_is_none_takes_nothing_along() {
        let found = log(r#""traceId":"xy","spanId":"abc","severityNumber":9"#).unwrap();
        assert_eq!((found.trace_id.len(), found.span_id.len(), found.severity_number), (0, 0, 9));
        let kept: Vec<_> = found.attributes.iter().map(|kept| kept.key.as_str()).collect();
        assert_eq!(kept, [INVALID_TRACE_ID, INVALID_SPAN_ID]);
    }

    #[test]
    fn what_is_wrong_is_malformed() {
        for bad in [
            r#""timeUnixNano":-1"#,
            r#""timeUnixNano":"x""#,
            r#""timeUnixNano":1.5"#,
            r#""severityNumber":"LOUD""#,
            r#""body":"text""#,
            r#""body":{"intValue":"9223372036854775808"}"#,
            r#""body":{"bytesValue":"?"}"#,
            r#""attributes":{}"#,
        ] {
            assert_eq!(log(bad).unwrap_err().reason(), "MALFORMED", "{bad}");
        }
        let deep = format!("{}{}", r#"{"resourceLogs":["#, r#"{"a":["#.repeat(10_000));
        let of_lists = [
            r#"{"resourceLogs":[[]]}"#,
            r#"{"resourceLogs":[{"resource":[]}]}"#,
            r#"{"resourceLogs":[{"scopeLogs":[[]]}]}"#,
            r#"{"resourceLogs":[{"scopeLogs":[{"scope":[]}]}]}"#,
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{},[]]}]}]}"#,
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[[]]}]}]}]}"#,
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":[0]}]}]}]}"#,
        ];
        for bad in ["", "[]", "{", "\u{0}", deep.as_str()].into_iter().chain(of_lists) {
            assert_eq!(request(bad.as_bytes()).unwrap_err().reason(), "MALFORMED");
        }
    }

    #[test]
    fn a_megabyte_of_empty_logs_weighs_as_much_as_it_will_take() {
        let logs = "{},".repeat(300_000);
        let text =
            format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{logs}{{}}]}}]}}]}}"#);
        assert_eq!(structure_bytes(text.as_bytes()), 300_007 * OTLP_RECORD_BYTES);
    }

    #[test]
    fn what_stands_in_strings_weighs_nothing() {
        assert_eq!(structure_bytes(br#"{"a":"{[\"{\\"}"#), OTLP_RECORD_BYTES);
        assert_eq!(structure_bytes(br#"{"a":"{[\"#), OTLP_RECORD_BYTES);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[{}\\[\\]\",:a0\\\\]{0,60}") {
            structure_bytes(text.as_bytes());
            if let Err(refusal) = request(text.as_bytes()) {
                prop_assert_eq!(refusal.reason(), "MALFORMED");
            }
        }
    }
}
