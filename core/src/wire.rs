//! Between the wire contract and the domain: the only file that knows both. Text is moved, never
//! copied, for this runs once for every log.
//!
//! What the domain cannot hold (a trace id of 3 bytes) is never repaired in silence: the conversion
//! reports a [`FieldViolation`], leaves the field empty and keeps the value sent as an attribute
//! named `logweir.` and the reason, so that a dead letter still shows it.

use std::collections::HashSet;

use logweir_proto::v1;
use prost::Message;

use crate::{
    identity::{IdentityError, Service},
    record::{Account, Attribute, Level, Producer, Record, Resource, StoredLog, Value},
};

/// Up to this many attributes are compared pair by pair; a set is quicker for more, and keeps a
/// hostile record from taking quadratic time.
const PAIRWISE_ATTRIBUTES_MAX: usize = 16;

/// A field of a record that the domain cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// A stable name of the rule.
    pub reason: &'static str,
    /// The rule and the value, for a person.
    pub detail: String,
}

/// Kept bytes that cannot be read back; trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not the encoding of what was expected.
    #[error("the kept bytes are not a valid encoding; discard them")]
    Encoding(#[from] prost::DecodeError),
    /// A name that no service can have.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// A record as sent, and the first of its fields that cannot be held, if any. Of attributes with
/// the same name the last one stays. All other rules are for the server to check.
pub fn record_from_wire(index: u32, wire: v1::LogRecord) -> (Record, Option<FieldViolation>) {
    let mut attributes = attributes_from_wire(wire.attributes);
    let mut kept = Kept { attributes: &mut attributes, violation: None };
    let time_unix_nano = i64::try_from(wire.time_unix_nano).unwrap_or_else(|_| {
        let sent = Value::String(wire.time_unix_nano.to_string());
        kept.keep("invalid_time", sent, "time_unix_nano", "is after the year 2262");
        0
    });
    let level = level_from_wire(wire.level).unwrap_or_else(|number| {
        kept.keep("invalid_level", Value::Int(number.into()), "level", "is not 0 to 6");
        None
    });
    let severity_number = match u8::try_from(wire.severity_number) {
        Ok(severity @ 0..=24) => severity,
        _ => {
            let sent = Value::Int(wire.severity_number.into());
            kept.keep("invalid_severity_number", sent, "severity_number", "is not 0 to 24");
            0
        }
    };
    let trace_id = kept.id("invalid_trace_id", "trace_id", "is not 0 or 16 bytes", &wire.trace_id);
    let span_id = kept.id("invalid_span_id", "span_id", "is not 0 or 8 bytes", &wire.span_id);
    let violation = kept.violation;
    let record = Record {
        index,
        time_unix_nano,
        level,
        severity_number,
        message: wire.message,
        latency_ms: wire.latency_ms,
        trace_id,
        span_id,
        logger: wire.logger,
        attributes,
    };
    (record, violation)
}

/// Where values go that their field cannot hold.
struct Kept<'a> {
    attributes: &'a mut Vec<Attribute>,
    violation: Option<FieldViolation>,
}

impl Kept<'_> {
    fn keep(&mut self, reason: &'static str, sent: Value, field: &str, rule: &str) {
        let shown: String = sent.to_string().chars().take(80).collect();
        let detail = format!("{field} {shown} {rule}");
        self.violation.get_or_insert(FieldViolation { reason, detail });
        let key = format!("logweir.{reason}");
        self.attributes.retain(|attribute| attribute.key != key);
        self.attributes.push(Attribute { key, value: sent });
    }

    fn id<const N: usize>(
        &mut self,
        reason: &'static str,
        field: &str,
        rule: &str,
        sent: &[u8],
    ) -> Option<[u8; N]> {
        if sent.is_empty() {
            return None;
        }
        match sent.try_into() {
            Ok(id) => (id != [0; N]).then_some(id),
            Err(_) => {
                self.keep(reason, Value::String(hex::encode(sent)), field, rule);
                None
            }
        }
    }
}

/// A record as it goes out; the inverse of [`record_from_wire`].
pub fn record_to_wire(record: Record) -> v1::LogRecord {
    v1::LogRecord {
        // Nothing before 1970 comes in, so a negative time is a time that was never accepted.
        time_unix_nano: u64::try_from(record.time_unix_nano).unwrap_or(0),
        level: record.level.map_or(v1::Level::Unspecified, level_to_wire).into(),
        severity_number: record.severity_number.into(),
        message: record.message,
        latency_ms: record.latency_ms,
        trace_id: record.trace_id.map_or_else(Vec::new, Vec::from),
        span_id: record.span_id.map_or_else(Vec::new, Vec::from),
        logger: record.logger,
        attributes: attributes_to_wire(record.attributes),
    }
}

/// The level of a number on the wire: none for 0, the number itself if no level has it.
pub fn level_from_wire(number: i32) -> Result<Option<Level>, i32> {
    if number == 0 {
        return Ok(None);
    }
    u8::try_from(number).ok().and_then(Level::from_number).map(Some).ok_or(number)
}

/// A level as it goes out.
pub fn level_to_wire(level: Level) -> v1::Level {
    match level {
        Level::Trace => v1::Level::Trace,
        Level::Debug => v1::Level::Debug,
        Level::Info => v1::Level::Info,
        Level::Warn => v1::Level::Warn,
        Level::Error => v1::Level::Error,
        Level::Fatal => v1::Level::Fatal,
    }
}

/// A resource with the service that its sender may write; the name it sent is not looked at.
pub fn resource_from_wire(wire: v1::Resource, service: Service) -> Resource {
    Resource {
        service,
        instance: wire.instance,
        environment: wire.environment,
        version: wire.version,
        region: wire.region,
        host: wire.host,
        attributes: attributes_from_wire(wire.attributes),
    }
}

/// A resource as it goes out.
pub fn resource_to_wire(resource: Resource) -> v1::Resource {
    v1::Resource {
        service: resource.service.to_string(),
        instance: resource.instance,
        environment: resource.environment,
        version: resource.version,
        region: resource.region,
        host: resource.host,
        attributes: attributes_to_wire(resource.attributes),
    }
}

/// A producer's account as sent.
pub fn account_from_wire(wire: v1::Account) -> Account {
    Account {
        emitted: wire.emitted,
        dropped: wire.dropped.into_iter().map(|drop| (drop.reason, drop.count)).collect(),
        rejected: wire.rejected,
        queued: wire.queued,
        spooled: wire.spooled,
    }
}

/// A producer's account as it goes out.
pub fn account_to_wire(account: Account) -> v1::Account {
    let dropped = account.dropped.into_iter();
    v1::Account {
        emitted: account.emitted,
        dropped: dropped.map(|(reason, count)| v1::DropCount { reason, count }).collect(),
        rejected: account.rejected,
        queued: account.queued,
        spooled: account.spooled,
    }
}

/// A producer as sent. Client library and version are joined as `name/version`.
pub fn producer_from_wire(wire: v1::Producer) -> Result<Producer, IdentityError> {
    let mut sdk = wire.sdk_name;
    if !wire.sdk_version.is_empty() {
        sdk.push('/');
        sdk.push_str(&wire.sdk_version);
    }
    Ok(Producer {
        producer_id: wire.producer_id.as_slice().try_into()?,
        sequence: wire.sequence,
        account: account_from_wire(wire.account.unwrap_or_default()),
        sdk,
    })
}

/// A stored log as a reader gets it, with the level that it was given.
pub fn log_entry_to_wire(log: StoredLog) -> v1::LogEntry {
    let scored = log.scored;
    let record = Record { level: Some(scored.level), ..scored.record };
    v1::LogEntry {
        id: log.id.to_string(),
        record: Some(record_to_wire(record)),
        received_unix_nano: log.received_unix_nano,
        service: log.service.to_string(),
        instance: log.instance,
        environment: log.environment,
        template_id: scored.template_id.to_string(),
        anomaly_score: scored.anomaly_score,
        is_anomaly: scored.is_anomaly,
        anomaly_reasons: scored.anomaly_reasons,
    }
}

/// A record as bytes, for the dead letters: valid or not, it reads back as it was.
pub fn encode_record(record: &Record) -> Vec<u8> {
    record_to_wire(record.clone()).encode_to_vec()
}

/// A record from [`encode_record`].
pub fn decode_record(index: u32, bytes: &[u8]) -> Result<Record, WireError> {
    let (record, _kept_as_attribute) = record_from_wire(index, v1::LogRecord::decode(bytes)?);
    Ok(record)
}

/// A resource as bytes, for the dead letters.
pub fn encode_resource(resource: &Resource) -> Vec<u8> {
    resource_to_wire(resource.clone()).encode_to_vec()
}

/// A resource from [`encode_resource`].
pub fn decode_resource(bytes: &[u8]) -> Result<Resource, WireError> {
    let wire = v1::Resource::decode(bytes)?;
    let service = Service::new(&wire.service)?;
    Ok(resource_from_wire(wire, service))
}

fn attributes_from_wire(wire: Vec<v1::Attribute>) -> Vec<Attribute> {
    let attribute = |wire: v1::Attribute| Attribute { key: wire.key, value: value_from_wire(wire.value) };
    let mut attributes: Vec<Attribute> = wire.into_iter().map(attribute).collect();
    if may_repeat(&attributes) {
        keep_last(&mut attributes);
    }
    attributes
}

fn may_repeat(attributes: &[Attribute]) -> bool {
    attributes.len() > PAIRWISE_ATTRIBUTES_MAX
        || attributes.iter().enumerate().any(|(position, attribute)| {
            attributes[..position].iter().any(|earlier| earlier.key == attribute.key)
        })
}

fn keep_last(attributes: &mut Vec<Attribute>) {
    let mut seen = HashSet::with_capacity(attributes.len());
    let mut last: Vec<bool> = attributes.iter().rev().map(|a| seen.insert(a.key.as_str())).collect();
    attributes.retain(|_| last.pop().expect("one flag per attribute"));
}

fn attributes_to_wire(attributes: Vec<Attribute>) -> Vec<v1::Attribute> {
    let wire = |attribute: Attribute| v1::Attribute {
        key: attribute.key,
        value: Some(value_to_wire(attribute.value)),
    };
    attributes.into_iter().map(wire).collect()
}

fn value_from_wire(wire: Option<v1::attribute::Value>) -> Value {
    use v1::attribute::Value as Wire;
    match wire {
        Some(Wire::StringValue(text)) => Value::String(text),
        Some(Wire::IntValue(number)) => Value::Int(number),
        Some(Wire::DoubleValue(number)) => Value::Double(number),
        Some(Wire::BoolValue(truth)) => Value::Bool(truth),
        Some(Wire::JsonValue(text)) => Value::Json(text),
        None => Value::Json("null".to_owned()),
    }
}

fn value_to_wire(value: Value) -> v1::attribute::Value {
    use v1::attribute::Value as Wire;
    match value {
        Value::String(text) => Wire::StringValue(text),
        Value::Int(number) => Wire::IntValue(number),
        Value::Double(number) => Wire::DoubleValue(number),
        Value::Bool(truth) => Wire::BoolValue(truth),
        Value::Json(text) => Wire::JsonValue(text),
    }
}
