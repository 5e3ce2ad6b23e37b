//! Structured bodies: a message that is a JSON object or logfmt, taken apart into fields.
//!
//! All or nothing: if anything in the body has no place (an attribute over a limit, a name that the
//! sender has used for something else, a name twice), the message stays as it is.

use logweir_core::{
    limits::{FUTURE_MAX, Limits, RESOURCE_FIELD_BYTES_MAX},
    record::{Attribute, Level, Record, Value},
    timestamp::Timestamp,
};
use logweir_parse::{Context, Format, Parsed, structured};

/// Where the server keeps a time that it replaced; a 0 there means that the sender gave none.
pub(super) const ORIGINAL_TIME_ATTRIBUTE: &str = "logweir.original_time_unix_nano";

/// Moves the fields of a structured message to their places in the log; leaves the log alone if it
/// has none, or one of them has no place.
pub(super) fn take_apart(record: &mut Record, received_at: Timestamp, limits: &Limits) {
    let text = record.message.trim();
    if !text.starts_with(|first: char| first == '{' || first.is_ascii_alphabetic()) {
        return;
    }
    let context = Context { latest: received_at + FUTURE_MAX, ..Context::at(received_at) };
    let found = structured(text, &context, sent(record));
    // Of a damaged one something may be missing, and what is there may be cut.
    let whole = found.filter(|found| found.notes.format != Format::DamagedJson);
    if let Some(parsed) = whole
        && let Some(attributes) = placed(&record.attributes, &parsed, limits)
    {
        apply(record, parsed, attributes);
    }
}

/// What the sender said apart from the text, without its attributes.
fn sent(record: &Record) -> Parsed {
    // The server has put the time of receipt where the sender gave none; that is no reason to refuse
    // the time that stands in the body.
    let has_time = record.attribute(ORIGINAL_TIME_ATTRIBUTE) != Some(&Value::Int(0));
    Parsed {
        time: has_time.then_some(record.time),
        record: Record {
            level: record.level.or(Level::from_severity_number(record.severity_number)),
            severity_number: record.severity_number,
            latency_ms: record.latency_ms,
            trace_id: record.trace_id,
            span_id: record.span_id,
            logger: record.logger.clone(),
            ..Record::default()
        },
        ..Parsed::default()
    }
}

/// The attributes that the body adds; none if one of them has no place.
fn placed(sent: &[Attribute], parsed: &Parsed, limits: &Limits) -> Option<Vec<Attribute>> {
    let mut added: Vec<Attribute> = Vec::new();
    if parsed.record.logger.len() > RESOURCE_FIELD_BYTES_MAX {
        return None;
    }
    for attribute in &parsed.record.attributes {
        let known = sent.iter().chain(&added).find(|known| known.key == attribute.key);
        match known {
            Some(known) if known.value == attribute.value => {}
            Some(_) => return None,
            None if fits(attribute, limits) => added.push(attribute.clone()),
            None => return None,
        }
    }
    (sent.len() + added.len() <= limits.attributes_max).then_some(added)
}

fn fits(attribute: &Attribute, limits: &Limits) -> bool {
    let bytes = match &attribute.value {
        Value::String(text) | Value::Json(text) => text.len(),
        Value::Int(_) | Value::Double(_) | Value::Bool(_) => 0,
    };
    (1..=limits.attribute_key_bytes_max).contains(&attribute.key.len())
        && bytes <= limits.attribute_value_bytes_max
}

fn apply(record: &mut Record, parsed: Parsed, attributes: Vec<Attribute>) {
    let Parsed { time, record: found, .. } = parsed;
    record.message = found.message;
    if let Some(time) = time.filter(|time| *time != record.time) {
        record.time = time;
        record.attributes.retain(|attribute| attribute.key != ORIGINAL_TIME_ATTRIBUTE);
    }
    record.logger = found.logger;
    record.level = record.level.or(found.level);
    record.severity_number = found.severity_number;
    record.latency_ms = found.latency_ms;
    record.trace_id = found.trace_id;
    record.span_id = found.span_id;
    record.attributes.extend(attributes);
}
