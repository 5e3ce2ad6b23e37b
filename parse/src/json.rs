//! Reads one JSON object. Pure. Nested values, and numbers that no machine number holds exactly,
//! stay the text that they are.

use std::{borrow::Cow, fmt, sync::LazyLock};

use logweir_core::{record::Value, timestamp::Timestamp};
use memchr::memmem::Finder;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    fields::Fields,
    lenient,
    names::Role,
    parsed::{Context, Format, Parsed},
};

/// What `logweir export` writes in each log, and others do not.
const EXPORT_MARKS: [&str; 4] = ["received", "template_id", "anomaly_score", "is_anomaly"];
/// What it writes of a log that was not sent with it: the server finds it anew.
const EXPORT_DERIVED: [&str; 6] =
    ["id", "received", "template_id", "anomaly_score", "is_anomaly", "anomaly_reasons"];
/// A line of OTLP may grow to this, bytes, as each of its records gets its resource: sixteen times
/// what a line takes. One that would grow beyond stays one log.
const COPIED_BYTES_MAX: usize = 16 << 20;
/// Objects within objects in which names with a meaning are looked for.
const DEPTH_MAX: usize = 3;
/// What a line with an export of OTLP begins with.
const OTLP_START: &str = "{\"resourceLogs\":";
/// What a file of CloudTrail begins with.
const CLOUDTRAIL_START: &str = "{\"Records\":";
/// What stands between two objects side by side.
static BETWEEN_OBJECTS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"}{"));
/// Members that most logs have no more than: room for them is made at once.
const MEMBERS_USUAL: usize = 12;

/// Reads a text that is one object and nothing else, but for a comma behind it. One that is not
/// quite JSON is read as far as it goes, and marked.
pub(crate) fn parse(text: &str, context: &Context, known: Parsed) -> Option<Parsed> {
    let text = text.strip_suffix(',').unwrap_or(text).trim_end();
    let (members, format) = match serde_json::from_str::<Members<'_>>(text) {
        Ok(members) => (members.0, Format::Json),
        Err(_) => (lenient::members(text)?, Format::DamagedJson),
    };
    let mut fields = Fields::new(context, known);
    let is_export = EXPORT_MARKS.iter().all(|mark| members.iter().any(|(key, _)| key == mark));
    for (key, raw) in members {
        if !(is_export && EXPORT_DERIVED.contains(&key.as_ref())) {
            add(&mut fields, &key, raw, DEPTH_MAX);
        }
    }
    let mut parsed = fields.finish(text);
    parsed.notes.format = format;
    Some(parsed)
}

/// The texts of an array of objects; none if it is something else.
pub(crate) fn elements(text: &str) -> Option<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    let texts: Vec<_> = elements.into_iter().map(RawValue::get).collect();
    texts.iter().all(|text| text.starts_with('{')).then_some(texts)
}

/// The logs of a line that holds several: objects side by side, CloudTrail's `{"Records":[…]}`, or
/// the records of an export of OTLP; none if it is something else.
pub(crate) fn several(text: &str) -> Option<Vec<Cow<'_, str>>> {
    if text.starts_with(OTLP_START) {
        return otlp_records(text);
    }
    if text.starts_with(CLOUDTRAIL_START) {
        let members = members(text)?;
        let [(_, records)] = members.as_slice() else { return None };
        return elements(records).map(|all| all.into_iter().map(Cow::Borrowed).collect());
    }
    // Asked of every line of JSON: most hold one object.
    BETWEEN_OBJECTS.find(text.as_bytes())?;
    let objects = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let objects: Vec<_> = objects.map(|raw| Some(raw.ok()?.get())).collect::<Option<_>>()?;
    let is_several = objects.len() > 1 && objects.iter().all(|text| text.starts_with('{'));
    is_several.then(|| objects.into_iter().map(Cow::Borrowed).collect())
}

/// The records of `{"resourceLogs":[{"resource":…,"scopeLogs":[{"logRecords":[…]}]}]}`, as
/// OpenTelemetry's collector writes files; each gets its resource.
fn otlp_records(text: &str) -> Option<Vec<Cow<'_, str>>> {
    let (mut records, mut copied_bytes) = (Vec::new(), 0);
    for group in objects_of(text, "resourceLogs")? {
        let resource = members(group)?.into_iter().find(|(key, _)| key == "resource");
        for scope in objects_of(group, "scopeLogs")? {
            for record in objects_of(scope, "logRecords")? {
                records.push(match resource {
                    // Behind the record's own fields, which count first.
                    Some((_, resource)) if record.len() > 2 => {
                        copied_bytes += record.len() + resource.len();
                        if copied_bytes > COPIED_BYTES_MAX {
                            return None;
                        }
                        let open = record.strip_suffix('}')?;
                        Cow::Owned(format!("{open},\"resource\":{resource}}}"))
                    }
                    _ => Cow::Borrowed(record),
                });
            }
        }
    }
    (!records.is_empty()).then_some(records)
}

/// The objects in a member that is an array.
fn objects_of<'a>(object: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let (_, raw) = members(object)?.into_iter().find(|(key, _)| key == name)?;
    elements(raw)
}

/// The members of an object; none if it is something else.
pub(crate) fn members(text: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    serde_json::from_str::<Members<'_>>(text).ok().map(|members| members.0)
}

fn add(fields: &mut Fields<'_>, name: &str, raw: &str, depth: usize) {
    let is_placed = match raw.as_bytes().first() {
        Some(b'{') if depth > 0 => add_object(fields, name, raw, depth),
        Some(b'[') => add_array(fields, name, raw),
        _ => false,
    };
    if !is_placed {
        fields.add(name, value(raw));
    }
}

/// Whether all of an object has its place.
fn add_object(fields: &mut Fields<'_>, name: &str, raw: &str, depth: usize) -> bool {
    let role = Role::of(name);
    if matches!(role, Role::Other) {
        return false;
    }
    let Ok(Members(members)) = serde_json::from_str(raw) else { return false };
    match role {
        Role::Time => {
            let time = time_of_parts(fields, &members);
            fields.fill_time(time)
        }
        Role::Attributes => {
            for (key, raw) in members {
                fields.add_attribute(&key, value(raw));
            }
            true
        }
        // A value of OTLP: `{"stringValue": "…"}`.
        Role::Message(_) if members.len() == 1 && members[0].0.ends_with("Value") => {
            add(fields, name, members[0].1, depth - 1);
            true
        }
        _ => add_group(fields, name, members, depth),
    }
}

/// Members with a meaning of their own, such as `log.level`; if none has one, the object stays
/// whole.
fn add_group(
    fields: &mut Fields<'_>,
    name: &str,
    members: Vec<(Cow<'_, str>, &str)>,
    depth: usize,
) -> bool {
    let path = |key: &str| format!("{name}.{key}");
    let is_meant = |(key, _): &(Cow<'_, str>, &str)| Role::of(&path(key)) != Role::Other;
    let has_meaning = members.iter().any(is_meant);
    if has_meaning {
        for (key, raw) in members {
            add(fields, &path(&key), raw, depth - 1);
        }
    }
    has_meaning
}

/// journald's bytes for a message that is no plain text, and OTLP's attributes.
fn add_array(fields: &mut Fields<'_>, name: &str, raw: &str) -> bool {
    match Role::of(name) {
        Role::Message(_) => {
            let Ok(bytes) = serde_json::from_str::<Vec<u8>>(raw) else { return false };
            let text = crate::clean::clean(&String::from_utf8_lossy(&bytes)).into_owned();
            fields.add(name, Value::String(text));
            true
        }
        Role::Attributes => add_otlp_attributes(fields, raw),
        _ => false,
    }
}

#[derive(Deserialize)]
struct OtlpAttribute<'a> {
    key: String,
    #[serde(borrow)]
    value: Members<'a>,
}

/// `[{"key": "k", "value": {"intValue": "7"}}]` (OTLP's JSON encoding).
fn add_otlp_attributes(fields: &mut Fields<'_>, raw: &str) -> bool {
    let Ok(attributes) = serde_json::from_str::<Vec<OtlpAttribute<'_>>>(raw) else { return false };
    for OtlpAttribute { key, value: Members(parts) } in attributes {
        let part = parts.first().map(|(kind, raw)| match (kind.as_ref(), value(raw)) {
            // Whole numbers of 64 bits are texts in protobuf's JSON.
            ("intValue", Value::String(digits)) => number(&digits),
            (_, value) => value,
        });
        fields.add_otlp_attribute(&key, part.unwrap_or_else(|| Value::Json("null".to_owned())));
    }
    true
}

/// `{"$date": …}` (MongoDB), `{"seconds": …, "nanos": …}` (Google Cloud) or `{"epochSecond": …,
/// "nanoOfSecond": …}` (log4j).
fn time_of_parts(fields: &Fields<'_>, members: &[(Cow<'_, str>, &str)]) -> Option<Timestamp> {
    let part = |names: [&str; 2]| {
        let found = members.iter().find(|(key, _)| names.contains(&key.as_ref()));
        found.map(|(_, raw)| value(raw))
    };
    if let Some(date) = part(["$date", "date"]) {
        return fields.time_of(&date);
    }
    let whole = |value: Value| value.to_string().parse().ok();
    let seconds: i64 = part(["seconds", "epochSecond"]).and_then(whole)?;
    let nanos = part(["nanos", "nanoOfSecond"]).and_then(whole).unwrap_or_default();
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    (nanos > 0).then_some(Timestamp::from_unix_nanos(nanos))
}

// By hand and with raw values: `serde_json::Value` keeps one of two equal names, sorts them, and
// rounds numbers of more than 64 bits.
/// The members of an object in their order, repeated names included.
struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

/// A name, borrowed from the line where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Vec<(Cow<'de, str>, &'de str)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(MEMBERS_USUAL);
                while let Some((Name(key), value)) = map.next_entry::<Name<'_>, &RawValue>()? {
                    members.push((key, value.get()));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

/// The value of a member.
pub(crate) fn value(raw: &str) -> Value {
    match raw.as_bytes().first() {
        Some(b't') if raw == "true" => Value::Bool(true),
        Some(b'f') if raw == "false" => Value::Bool(false),
        // As Python shows a dictionary.
        Some(b'T') if raw == "True" => Value::Bool(true),
        Some(b'F') if raw == "False" => Value::Bool(false),
        Some(b'N') if raw == "None" => Value::Json("null".to_owned()),
        Some(b'\'') => Value::String(lenient::unquoted(raw)),
        Some(b'"') => Value::String(string(raw)),
        Some(b'-' | b'0'..=b'9') => number(raw),
        // What only looks like JSON is a text: as JSON it could not be shown again.
        _ => match serde_json::from_str::<&RawValue>(raw) {
            Ok(_) => Value::Json(raw.to_owned()),
            Err(_) => Value::String(raw.to_owned()),
        },
    }
}

fn string(raw: &str) -> String {
    let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    // Most have no escapes, and what was found as one value need not be read as JSON again.
    match inner.filter(|inner| memchr::memchr2(b'\\', b'"', inner.as_bytes()).is_none()) {
        Some(inner) => inner.to_owned(),
        None => serde_json::from_str(raw).unwrap_or_else(|_| lenient::unquoted(raw)),
    }
}

/// Digits beyond what a double holds exactly stay text.
fn number(raw: &str) -> Value {
    if let Ok(whole) = raw.parse() {
        return Value::Int(whole);
    }
    // 17 significant digits tell any two doubles apart (IEEE 754); more say what a double cannot.
    let digits = raw.bytes().filter(u8::is_ascii_digit).count();
    match raw.parse::<f64>() {
        Ok(number) if number.is_finite() && digits <= 17 => Value::Double(number),
        Ok(number) if number.is_finite() => Value::Json(raw.to_owned()),
        _ => Value::String(raw.to_owned()),
    }
}
