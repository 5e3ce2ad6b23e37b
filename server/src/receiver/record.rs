//! A record in JSON, or a line of text, as a log of the contract: by the one reader of log text, exactly
//! as the same line in a file. Pure.

use logweir_core::wire::record_to_wire;
use logweir_parse::{Context, Format as TextFormat, Parsed, parse_record};
use logweir_proto::v1::{self, attribute::Value};

use super::{
    batches::Batches,
    service::{UNKNOWN_SERVICE, service_name},
};

/// Where a name is kept that is not the service's.
pub(crate) const ORIGINAL_SERVICE: &str = "service.original";
/// How a record is marked that is nearly JSON.
pub(crate) const DAMAGED_JSON: &str = "logweir.damaged_json";
/// How a log is marked of whose text some bytes were no UTF-8 and became U+FFFD.
pub(crate) const INVALID_UTF8: &str = "logweir.invalid_utf8";
/// Why a record is rejected, as metrics show it.
const NOT_JSON: &str = "not_json";
/// Of a record that is shown in an answer.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// The logs of the record that stands in this place; none if it is rejected.
pub(crate) fn logs(
    batches: &mut Batches,
    place: u32,
    record: &[u8],
    context: &Context,
) -> Vec<Parsed> {
    let logs = match read(record, context) {
        Ok(logs) => logs,
        Err(why) => {
            batches.reject(place, NOT_JSON, || why);
            return Vec::new();
        }
    };
    // Each of several gets a copy of what they have in common.
    let bytes = logs.iter().map(|log| log.record.heap_bytes()).sum();
    let has_room = logs.len() <= 1 || batches.takes_copies("envelopes", bytes, place..place + 1);
    if has_room { logs } else { Vec::new() }
}

/// The logs of a record: one, or several where it is an envelope of others.
fn read(record: &[u8], context: &Context) -> Result<Vec<Parsed>, String> {
    let text = std::str::from_utf8(record).map_err(|error| {
        format!("the record is no text in UTF-8, from its byte {}", error.valid_up_to())
    })?;
    let no_object = || {
        let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
        format!("the record is no JSON object: {shown}")
    };
    if !text.starts_with('{') {
        return Err(no_object());
    }
    let logs = parse_record(text, context);
    let is_json =
        |parsed: &Parsed| matches!(parsed.notes.format, TextFormat::Json | TextFormat::DamagedJson);
    // One out of an envelope may be of any form.
    let is_read = !logs.is_empty() && (logs.iter().all(is_json) || is_object(text));
    if is_read { Ok(logs) } else { Err(no_object()) }
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

/// A log that was read, as a record of the contract.
pub(crate) fn record(parsed: Parsed) -> v1::LogRecord {
    let is_damaged = parsed.notes.format == TextFormat::DamagedJson;
    let mut record = record_to_wire(parsed.record);
    record.time_unix_nano = parsed.time.map_or(0, |time| time.as_unix_nanos().unsigned_abs());
    if is_damaged {
        let value = Some(Value::BoolValue(true));
        record.attributes.push(v1::Attribute { key: DAMAGED_JSON.to_owned(), value });
    }
    record
}

/// The service of a record. A name that no service can have is kept beside what is made of it.
pub(crate) fn service_of(
    record: &mut v1::LogRecord,
    named: Option<String>,
    unnamed: &str,
) -> String {
    let Some(named) = named.filter(|named| !named.is_empty() && named != UNKNOWN_SERVICE) else {
        return unnamed.to_owned();
    };
    let service = service_name(&named);
    if service != named {
        let value = Some(Value::StringValue(named));
        record.attributes.push(v1::Attribute { key: ORIGINAL_SERVICE.to_owned(), value });
    }
    service
}
