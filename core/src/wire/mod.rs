//! Between the wire contract and the domain: the only file that knows both. Text is moved, never
//! copied, for this runs once for every log.
//!
//! What the domain cannot hold (a trace id of 3 bytes) is never repaired in silence: the conversion
//! reports a [`FieldViolation`], leaves the field empty and keeps the value sent as an attribute
//! named `logweir.` and the reason, so that a dead letter still shows it.

mod queued;

use std::collections::HashSet;

use logweir_proto::v1;
use prost::Message;

use crate::{
    identity::{IdentityError, Service},
    record::{Account, Attribute, Level, Producer, Record, Resource, StoredLog, Value},
    timestamp::Timestamp,
};

pub use self::queued::{LiveLogs, decode_batch, decode_live_logs, encode_batch, encode_live_logs};

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
    /// A batch whose logs and positions do not belong together.
    #[error("the kept bytes have positions for other logs than they hold; discard them")]
    Indices,
}

/// A record as sent, and the first of its fields that cannot be held, if any. Of attributes with
/// the same name the last one stays. All other rules are for the server to check.
pub fn record_from_wire(index: u32, wire: v1::LogRecord) -> (Record, Option<FieldViolation>) {
    // Attributes first: what a field cannot hold is kept among them below, under a name that a
    // sender's own attribute of that name must not win over.
    let mut attributes = attributes_from_wire(wire.attributes);
    let mut kept = Kept { attributes: &mut attributes, violation: None };
    let time = i64::try_from(wire.time_unix_nano).unwrap_or_else(|_| {
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
        time: Timestamp::from_unix_nanos(time),
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
        // Cut to a line: the detail goes into answers and tables, and an "id" may be megabytes.
        let shown: String = sent.to_string().chars().take(80).collect();
        let detail = format!("{field} {shown} {rule}");
        // The first only: a log is rejected once, and one reason is enough to mend it.
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
            // W3C Trace Context calls an id of zeros invalid, and OpenTelemetry sends it for
            // "none". Kept as an id it would join all logs without a trace into one.
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
        // A time before 1970, which the contract cannot say, keeps its bits and so is not lost.
        time_unix_nano: record.time.as_unix_nanos() as u64,
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
    // Readers see one level: the derived one where the sender gave none.
    let record = Record { level: Some(scored.level), ..scored.record };
    v1::LogEntry {
        id: log.id.to_string(),
        record: Some(record_to_wire(record)),
        received_unix_nano: log.received_at.as_unix_nanos(),
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
    let attribute =
        |wire: v1::Attribute| Attribute { key: wire.key, value: value_from_wire(wire.value) };
    let mut attributes: Vec<Attribute> = wire.into_iter().map(attribute).collect();
    if may_repeat(&attributes) {
        keep_last(&mut attributes);
    }
    attributes
}

fn may_repeat(attributes: &[Attribute]) -> bool {
    // Asked first because hardly any record repeats a name, and then no set has to be made.
    attributes.len() > PAIRWISE_ATTRIBUTES_MAX
        || attributes.iter().enumerate().any(|(position, attribute)| {
            attributes[..position].iter().any(|earlier| earlier.key == attribute.key)
        })
}

fn keep_last(attributes: &mut Vec<Attribute>) {
    // From the end, where the first sight of a name is its last use; the flags are then taken off
    // in the order of the list, so that what stays keeps its place.
    let mut seen = HashSet::with_capacity(attributes.len());
    let mut last: Vec<bool> =
        attributes.iter().rev().map(|a| seen.insert(a.key.as_str())).collect();
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
        // An attribute without a value is one that was null where it came from: it is still there.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        identity::{BatchId, LogId, ProducerId, TemplateId},
        record::ScoredRecord,
    };

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<String>().prop_map(Value::String),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Double),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::Json("{\"a\":[null]}".into())),
        ]
    }

    fn attributes() -> impl Strategy<Value = Vec<Attribute>> {
        prop::collection::hash_map("[a-z]{1,3}", value(), 0..24)
            .prop_map(|map| map.into_iter().map(|(key, value)| Attribute { key, value }).collect())
    }

    prop_compose! {
        fn record()(
            index in any::<u32>(),
            time in (0..=i64::MAX).prop_map(Timestamp::from_unix_nanos),
            level in prop::option::of(prop::sample::select(Level::ALL.to_vec())),
            severity_number in 0..=24_u8,
            (message, logger) in any::<(String, String)>(),
            latency_ms in prop::option::of(any::<f64>()),
            trace_id in prop::option::of(any::<[u8; 16]>().prop_filter("not zero", |id| *id != [0; 16])),
            span_id in prop::option::of(any::<[u8; 8]>().prop_filter("not zero", |id| *id != [0; 8])),
            attributes in attributes(),
        ) -> Record {
            let record = Record { index, time, level, severity_number, ..Record::default() };
            Record { message, logger, latency_ms, trace_id, span_id, attributes, ..record }
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_went(record in record()) {
            let (back, violation) = record_from_wire(record.index, record_to_wire(record.clone()));
            prop_assert_eq!(&back, &record);
            prop_assert_eq!(violation, None);
            prop_assert_eq!(decode_record(record.index, &encode_record(&record)).unwrap(), record);
        }

        #[test]
        fn a_resource_comes_back_as_it_went(
            texts in any::<[String; 5]>(),
            attributes in attributes(),
        ) {
            let [instance, environment, version, region, host] = texts;
            let service = Service::new("team/api").unwrap();
            let resource =
                Resource { service, instance, environment, version, region, host, attributes };
            prop_assert_eq!(decode_resource(&encode_resource(&resource)).unwrap(), resource);
        }

        #[test]
        fn bytes_that_are_no_record_are_refused_or_read(bytes in any::<Vec<u8>>()) {
            if let Ok(record) = decode_record(7, &bytes) {
                prop_assert_eq!(decode_record(7, &encode_record(&record)).unwrap().index, 7);
            }
        }

        #[test]
        fn of_repeated_attributes_the_last_stays(keys in prop::collection::vec("[a-e]{1,2}", 0..40)) {
            let wire = keys.iter().zip(0..).map(|(key, number)| v1::Attribute {
                key: key.clone(),
                value: Some(v1::attribute::Value::IntValue(number)),
            });
            let expected: Vec<Attribute> = keys
                .iter()
                .enumerate()
                .filter(|(position, key)| !keys[position + 1..].contains(key))
                .map(|(position, key)| Attribute::new(key, Value::Int(position as i64)))
                .collect();
            prop_assert_eq!(attributes_from_wire(wire.collect()), expected);
        }
    }

    #[test]
    fn what_cannot_be_held_is_reported_and_kept() {
        let base = v1::LogRecord::default;
        for (wire, reason, kept) in [
            (
                v1::LogRecord { time_unix_nano: u64::MAX, ..base() },
                "invalid_time",
                Value::String(u64::MAX.to_string()),
            ),
            (v1::LogRecord { level: 7, ..base() }, "invalid_level", Value::Int(7)),
            (v1::LogRecord { level: -1, ..base() }, "invalid_level", Value::Int(-1)),
            (
                v1::LogRecord { severity_number: 281, ..base() },
                "invalid_severity_number",
                Value::Int(281),
            ),
            (
                v1::LogRecord { trace_id: vec![1, 2, 3], ..base() },
                "invalid_trace_id",
                Value::String("010203".into()),
            ),
            (
                v1::LogRecord { span_id: vec![0; 9], ..base() },
                "invalid_span_id",
                Value::String("000000000000000000".into()),
            ),
        ] {
            let (record, violation) = record_from_wire(0, wire);
            assert_eq!(violation.unwrap().reason, reason);
            let attributes = vec![Attribute::new(format!("logweir.{reason}"), kept)];
            assert_eq!(record, Record { attributes, ..Record::default() });
            assert_eq!(decode_record(0, &encode_record(&record)).unwrap(), record);
        }
    }

    #[test]
    fn a_time_before_1970_is_not_lost() {
        let record = Record { time: Timestamp::from_unix_nanos(-1), ..Record::default() };
        let back = decode_record(0, &encode_record(&record)).unwrap();
        let sent = Value::String(u64::MAX.to_string());
        assert_eq!(back.attribute("logweir.invalid_time"), Some(&sent));
    }

    #[test]
    fn ids_of_zeros_are_absent_and_no_value_is_null() {
        let attributes = vec![v1::Attribute { key: "k".into(), value: None }];
        let (trace_id, span_id) = (vec![0; 16], vec![0; 8]);
        let wire = v1::LogRecord { trace_id, span_id, attributes, ..Default::default() };
        let (record, violation) = record_from_wire(0, wire);
        assert_eq!((record.trace_id, record.span_id, violation), (None, None, None));
        assert_eq!(record.attribute("k"), Some(&Value::Json("null".into())));
    }

    #[test]
    fn a_record_that_is_not_a_number_comes_back() {
        let attributes = vec![Attribute::new("k", Value::Double(f64::NEG_INFINITY))];
        let record = Record { latency_ms: Some(f64::NAN), attributes, ..Record::default() };
        let back = decode_record(0, &encode_record(&record)).unwrap();
        assert!(back.latency_ms.unwrap().is_nan());
        assert_eq!(back.attributes, record.attributes);
    }

    #[test]
    fn a_producer_and_its_account_come_back() {
        let account = Account {
            emitted: 9,
            dropped: vec![("queue_overflow".into(), 2)],
            rejected: 1,
            queued: 3,
            spooled: 4,
        };
        let wire = v1::Producer {
            producer_id: vec![5; 16],
            sequence: 7,
            account: Some(account_to_wire(account.clone())),
            sdk_name: "logweir-rust".into(),
            sdk_version: "0.1.0".into(),
        };
        let sdk = "logweir-rust/0.1.0".to_owned();
        let expected = Producer { producer_id: ProducerId([5; 16]), sequence: 7, account, sdk };
        assert_eq!(producer_from_wire(wire.clone()), Ok(expected));
        assert!(producer_from_wire(v1::Producer { producer_id: vec![5; 3], ..wire }).is_err());
    }

    #[test]
    fn an_entry_has_the_level_that_the_log_was_given() {
        let id =
            LogId { time: Timestamp::from_unix_nanos(1), batch_id: BatchId([2; 16]), index: 3 };
        let entry = log_entry_to_wire(StoredLog {
            id,
            received_at: Timestamp::from_unix_nanos(4),
            service: Service::new("api").unwrap(),
            instance: "i".into(),
            environment: "e".into(),
            scored: ScoredRecord {
                record: Record {
                    time: Timestamp::from_unix_nanos(1),
                    index: 3,
                    ..Record::default()
                },
                level: Level::Error,
                template_id: TemplateId(255),
                anomaly_score: 0.5,
                is_anomaly: true,
                anomaly_reasons: vec!["why".into()],
            },
        });
        assert_eq!(entry.id, id.to_string());
        assert_eq!(entry.template_id, "00000000000000ff");
        assert_eq!(entry.record.unwrap().level, i32::from(v1::Level::Error));
    }
}
