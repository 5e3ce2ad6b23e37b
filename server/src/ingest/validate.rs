//! The rules of the contract, as pure functions: on a batch's envelope, and on each of its logs.
//!
//! A bad envelope refuses the batch; a bad log is rejected alone. Each rule has its own name and a
//! text with the limit and the value. A good log costs no allocation.

use logweir_core::{
    identity::{BatchId, ProducerId, Service, ServiceScope},
    limits::{
        DROP_REASONS_MAX, FUTURE_MAX, LEDGER_HOURS_MIN, Limits, PRODUCER_RETENTION_DAYS,
        RESOURCE_FIELD_BYTES_MAX, SDK_NAME_BYTES_MAX,
    },
    record::{Attribute, Record, Resource, Value},
    timestamp::Timestamp,
    wire::FieldViolation,
};
use logweir_proto::v1;

use crate::status::{Refusal, Violation};

/// What the logs of a batch get from its resource may take this many times the bound on a request.
const COPIES_RATIO_MAX: usize = 8;

/// Where a time that was replaced is kept.
pub(crate) const ORIGINAL_TIME_ATTRIBUTE: &str = "logweir.original_time_unix_nano";

/// Checks everything about a batch but its logs; returns its id and the service that it is for.
pub(crate) fn check_envelope(
    batch: &v1::Batch,
    scope: &ServiceScope,
    limits: &Limits,
    now: Timestamp,
) -> Result<(BatchId, Service), Refusal> {
    let records = batch.records.len();
    // First and alone: the sender splits the batch under new ids, so that what else is wrong with
    // this one does not matter.
    if records > limits.batch_records_max {
        let (value, limit) = (records.to_string(), limits.batch_records_max);
        return Err(Refusal::TooLarge { what: "the number of logs in the batch", value, limit });
    }
    let mut found = Found(Vec::new());
    let batch_id = BatchId::try_from(batch.batch_id.as_slice());
    if batch_id.is_err() {
        found.add("batch.batch_id", format!("is {} bytes, must be 16", batch.batch_id.len()));
    }
    if let Some(producer) = &batch.producer {
        check_producer(producer, &mut found);
    }
    let unnamed = v1::Resource::default();
    let resource = batch.resource.as_ref().unwrap_or(&unnamed);
    find_in_resource(resource, limits, &mut found);
    let service = resolve_service(&resource.service, scope);
    if let Err(Refusal::Invalid(violations)) = &service {
        found.0.extend(violations.iter().cloned());
    }
    match (batch_id, service) {
        (Ok(batch_id), Ok(service)) if found.0.is_empty() => {
            // Last, because age is the only rule here whose outcome changes with time: a batch with
            // a bad field is told of the field, however old it is.
            check_age(batch_id, batch.producer.is_some(), now)?;
            Ok((batch_id, service))
        }
        (_, Err(refusal @ Refusal::PermissionDenied { .. })) => Err(refusal),
        _ => Err(Refusal::Invalid(found.0)),
    }
}

/// The service that a batch is for: what it names, if the token allows that.
pub(crate) fn resolve_service(named: &str, scope: &ServiceScope) -> Result<Service, Refusal> {
    match scope {
        ServiceScope::One(service) if named.is_empty() || named == service.as_str() => {
            Ok(service.clone())
        }
        ServiceScope::One(service) => {
            let named = shortened(named);
            let message = format!(
                "the token is for service {service}, the batch names {named}: use that service's \
                 token, or leave the name out"
            );
            Err(Refusal::PermissionDenied { reason: "SERVICE_FOREIGN", message })
        }
        ServiceScope::Any if named.is_empty() => {
            let why = "is empty, and the token is for any service: name the service";
            Err(Refusal::invalid("batch.resource.service", why))
        }
        ServiceScope::Any => Service::new(named)
            .map_err(|error| Refusal::invalid("batch.resource.service", error.to_string())),
    }
}

struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, field: impl Into<String>, why: String) {
        self.0.push(Violation { field: field.into(), why });
    }

    fn length(&mut self, field: &str, text: &str, limit: usize) {
        if text.len() > limit {
            self.add(field, format!("is {} bytes, the limit is {limit}", text.len()));
        }
    }
}

fn check_producer(producer: &v1::Producer, found: &mut Found) {
    if ProducerId::try_from(producer.producer_id.as_slice()).is_err() {
        let length = producer.producer_id.len();
        found.add("batch.producer.producer_id", format!("is {length} bytes, must be 16"));
    }
    if producer.sequence == 0 {
        found.add("batch.producer.sequence", "is 0, must count from 1".to_owned());
    }
    found.length("batch.producer.sdk_name", &producer.sdk_name, SDK_NAME_BYTES_MAX);
    found.length("batch.producer.sdk_version", &producer.sdk_version, SDK_NAME_BYTES_MAX);
    let dropped = producer.account.as_ref().map_or(&[][..], |account| &account.dropped);
    // Without looking at each: the answer would name thousands of violations.
    if dropped.len() > DROP_REASONS_MAX {
        let why = format!("has {} reasons, the limit is {DROP_REASONS_MAX}", dropped.len());
        found.add("batch.producer.account.dropped", why);
        return;
    }
    for drop in dropped {
        found.length("batch.producer.account.dropped.reason", &drop.reason, SDK_NAME_BYTES_MAX);
    }
}

/// Checks the resource of logs alone.
pub(crate) fn check_resource(resource: &v1::Resource, limits: &Limits) -> Result<(), Refusal> {
    let mut found = Found(Vec::new());
    find_in_resource(resource, limits, &mut found);
    if found.0.is_empty() { Ok(()) } else { Err(Refusal::Invalid(found.0)) }
}

fn find_in_resource(resource: &v1::Resource, limits: &Limits, found: &mut Found) {
    for (field, text) in [
        ("batch.resource.instance", &resource.instance),
        ("batch.resource.environment", &resource.environment),
        ("batch.resource.version", &resource.version),
        ("batch.resource.region", &resource.region),
        ("batch.resource.host", &resource.host),
    ] {
        found.length(field, text, RESOURCE_FIELD_BYTES_MAX);
    }
    let count = resource.attributes.len();
    if count > limits.attributes_max {
        let why = format!("has {count} attributes, the limit is {}", limits.attributes_max);
        found.add("batch.resource.attributes", why);
        return;
    }
    for attribute in &resource.attributes {
        use v1::attribute::Value as Wire;
        let value_bytes = match &attribute.value {
            Some(Wire::StringValue(text) | Wire::JsonValue(text)) => text.len(),
            _ => 0,
        };
        if let Some(bad) = attribute_violation(&attribute.key, value_bytes, limits) {
            found.add("batch.resource.attributes", bad.detail);
        }
    }
}

/// Each log of a batch gets the values of its resource for its own, which a small request could
/// make into more than fits in memory.
pub(crate) fn check_copies(
    resource: &Resource,
    records: usize,
    limits: &Limits,
) -> Result<(), Refusal> {
    // 128 attributes of 16 KiB on 10,000 empty logs fit a request of 4 MiB and would be 20 GB in
    // the processor. What OpenTelemetry says of a pod, some 25 attributes, fits the largest batch.
    let value = resource.heap_bytes().saturating_mul(records);
    let limit = limits.request_bytes_max.saturating_mul(COPIES_RATIO_MAX);
    // A batch of one log cannot be split any further, and makes one copy.
    if value <= limit || records <= 1 {
        return Ok(());
    }
    let what = "the memory in bytes for the resource's values on each of the batch's logs";
    Err(Refusal::TooLarge { what, value: value.to_string(), limit })
}

/// A batch minted longer ago than it is remembered cannot be told from a repeat: by its producer's
/// numbers, or by its id alone.
fn check_age(batch_id: BatchId, has_producer: bool, now: Timestamp) -> Result<(), Refusal> {
    // Only a UUIDv7 says when it was minted. Other ids are taken as new: their senders are told in
    // the contract for how long a retry is recognised.
    let Some(minted_unix_ms) = batch_id.minted_unix_ms() else { return Ok(()) };
    let now_unix_ms = u64::try_from(now.as_unix_nanos() / 1_000_000).unwrap_or(0);
    let age_hours = now_unix_ms.saturating_sub(minted_unix_ms) / 3_600_000;
    let (limit_hours, of_what) = match has_producer {
        true => (24 * PRODUCER_RETENTION_DAYS, "for batches with a producer"),
        false => (LEDGER_HOURS_MIN, "for batches without a producer"),
    };
    if age_hours < u64::from(limit_hours) {
        return Ok(());
    }
    Err(Refusal::Expired(format!(
        "batch {batch_id} was minted {age_hours} hours ago, the limit {of_what} is {limit_hours}: \
         it may be stored already, send its logs under a new id if they are not"
    )))
}

/// The first rule that a log breaks, if any.
pub(crate) fn check_record(record: &Record, limits: &Limits) -> Option<FieldViolation> {
    let message = record.message.len();
    if message > limits.message_bytes_max {
        return over(
            "message_too_large",
            "the message",
            message,
            limits.message_bytes_max,
            "bytes",
        );
    }
    // One NaN would make the average latency of its bucket NaN, for good: buckets are sums.
    if let Some(latency) = record.latency_ms
        && !(latency.is_finite() && latency >= 0.0)
    {
        let detail = format!("latency_ms is {latency}, must be finite and not negative");
        return Some(FieldViolation { reason: "invalid_latency", detail });
    }
    let logger = record.logger.len();
    if logger > RESOURCE_FIELD_BYTES_MAX {
        return over("logger_too_large", "the logger", logger, RESOURCE_FIELD_BYTES_MAX, "bytes");
    }
    let count = record.attributes.len();
    if count > limits.attributes_max {
        return over("too_many_attributes", "the log", count, limits.attributes_max, "attributes");
    }
    record.attributes.iter().find_map(|Attribute { key, value }| {
        let value_bytes = match value {
            Value::String(text) | Value::Json(text) => text.len(),
            Value::Int(_) | Value::Double(_) | Value::Bool(_) => 0,
        };
        attribute_violation(key, value_bytes, limits)
    })
}

fn attribute_violation(key: &str, value_bytes: usize, limits: &Limits) -> Option<FieldViolation> {
    if key.is_empty() {
        let detail = "an attribute has no key, must be 1 byte or more".to_owned();
        return Some(FieldViolation { reason: "attribute_key_empty", detail });
    }
    if key.len() > limits.attribute_key_bytes_max {
        let what = format!("the attribute key {:?}", shortened(key));
        let limit = limits.attribute_key_bytes_max;
        return over("attribute_key_too_large", &what, key.len(), limit, "bytes");
    }
    if value_bytes > limits.attribute_value_bytes_max {
        let what = format!("the value of attribute {:?}", shortened(key));
        let limit = limits.attribute_value_bytes_max;
        return over("attribute_value_too_large", &what, value_bytes, limit, "bytes");
    }
    None
}

fn over(
    reason: &'static str,
    what: &str,
    value: usize,
    limit: usize,
    unit: &str,
) -> Option<FieldViolation> {
    let verb = if unit == "bytes" { "is" } else { "has" };
    let detail = format!("{what} {verb} {value} {unit}, the limit is {limit}");
    Some(FieldViolation { reason, detail })
}

// What is named in an answer comes from the sender and may have megabytes.
fn shortened(text: &str) -> String {
    text.chars().take(32).collect()
}

/// Gives a log whose time is missing or impossible the time of its receipt, keeping what was sent.
/// `sent` is the time on the wire, which may be beyond what a record can hold.
pub(crate) fn correct_time(record: &mut Record, sent: u64, received_at: Timestamp) {
    let latest = u64::try_from((received_at + FUTURE_MAX).as_unix_nanos()).unwrap_or(0);
    // Old times are kept: a spool or a backfill belongs into the past. A time far ahead would open
    // a partition in the future and stay the newest log for years.
    if sent != 0 && sent <= latest {
        return;
    }
    let kept = i64::try_from(sent).map_or_else(|_| Value::String(sent.to_string()), Value::Int);
    record.time = received_at;
    // A sender may have set this attribute itself; of two with one name, which is read is chance.
    record.attributes.retain(|attribute| attribute.key != ORIGINAL_TIME_ATTRIBUTE);
    record.attributes.push(Attribute::new(ORIGINAL_TIME_ATTRIBUTE, kept));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_760_000_000);

    fn batch() -> v1::Batch {
        v1::Batch {
            batch_id: vec![7; 16],
            producer: Some(v1::Producer {
                producer_id: vec![8; 16],
                sequence: 1,
                ..v1::Producer::default()
            }),
            resource: Some(v1::Resource::default()),
            records: vec![v1::LogRecord::default()],
        }
    }

    fn scope() -> ServiceScope {
        "payments".parse().unwrap()
    }

    fn refusal(change: impl FnOnce(&mut v1::Batch)) -> Refusal {
        let mut batch = batch();
        change(&mut batch);
        check_envelope(&batch, &scope(), &Limits::default(), NOW).unwrap_err()
    }

    fn check_field(change: impl FnOnce(&mut v1::Batch), field: &str, why: &str) {
        let Refusal::Invalid(violations) = refusal(change) else { panic!("{field}") };
        let found: Vec<_> = violations.iter().map(|v| (v.field.as_str(), v.why.as_str())).collect();
        assert_eq!(found, [(field, why)]);
    }

    fn producer(batch: &mut v1::Batch) -> &mut v1::Producer {
        batch.producer.as_mut().unwrap()
    }

    fn resource(batch: &mut v1::Batch) -> &mut v1::Resource {
        batch.resource.as_mut().unwrap()
    }

    #[test]
    fn a_resource_that_grows_with_every_log_is_to_be_split() {
        let mut resource = Resource::of(Service::new("a").unwrap());
        let long = Value::String("x".repeat(16_384));
        resource.attributes =
            (0..100).map(|n| Attribute::new(n.to_string(), long.clone())).collect();
        let check = |records| check_copies(&resource, records, &Limits::default());
        let refusal = check(10_000).unwrap_err();
        assert_eq!(refusal.reason(), "BATCH_TOO_LARGE");
        assert!(check(20).is_ok());
        // As OpenTelemetry describes a pod, in the largest batch.
        let usual = Value::String("x".repeat(50));
        resource.attributes =
            (0..25).map(|n| Attribute::new(n.to_string(), usual.clone())).collect();
        assert_eq!(check_copies(&resource, 10_000, &Limits::default()), Ok(()));
    }

    #[test]
    fn a_good_envelope_passes() {
        let (id, service) = check_envelope(&batch(), &scope(), &Limits::default(), NOW).unwrap();
        assert_eq!((id, service.as_str()), (BatchId([7; 16]), "payments"));
    }

    #[test]
    fn each_field_of_the_envelope_has_its_rule() {
        check_field(|b| b.batch_id = vec![1; 3], "batch.batch_id", "is 3 bytes, must be 16");
        check_field(
            |b| producer(b).producer_id = vec![],
            "batch.producer.producer_id",
            "is 0 bytes, must be 16",
        );
        check_field(
            |b| producer(b).sequence = 0,
            "batch.producer.sequence",
            "is 0, must count from 1",
        );
        check_field(
            |b| producer(b).sdk_name = "x".repeat(65),
            "batch.producer.sdk_name",
            "is 65 bytes, the limit is 64",
        );
        check_field(
            |b| producer(b).sdk_version = "x".repeat(65),
            "batch.producer.sdk_version",
            "is 65 bytes, the limit is 64",
        );
        for (field, change) in [
            ("instance", (|r, text| r.instance = text) as fn(&mut v1::Resource, String)),
            ("environment", |r, text| r.environment = text),
            ("version", |r, text| r.version = text),
            ("region", |r, text| r.region = text),
            ("host", |r, text| r.host = text),
        ] {
            check_field(
                |b| change(resource(b), "x".repeat(257)),
                &format!("batch.resource.{field}"),
                "is 257 bytes, the limit is 256",
            );
        }
    }

    #[test]
    fn the_account_is_bounded() {
        let drops = |count, length| {
            let drop = v1::DropCount { reason: "r".repeat(length), count: 1 };
            Some(v1::Account { dropped: vec![drop; count], ..v1::Account::default() })
        };
        check_field(
            |b| producer(b).account = drops(65, 1),
            "batch.producer.account.dropped",
            "has 65 reasons, the limit is 64",
        );
        check_field(
            |b| producer(b).account = drops(1, 65),
            "batch.producer.account.dropped.reason",
            "is 65 bytes, the limit is 64",
        );
    }

    #[test]
    fn resource_attributes_keep_the_limits_of_attributes() {
        let attribute = |key: &str| v1::Attribute { key: key.into(), value: None };
        check_field(
            |b| resource(b).attributes = vec![attribute("k"); 129],
            "batch.resource.attributes",
            "has 129 attributes, the limit is 128",
        );
        check_field(
            |b| resource(b).attributes = vec![attribute("")],
            "batch.resource.attributes",
            "an attribute has no key, must be 1 byte or more",
        );
    }

    #[test]
    fn all_bad_fields_are_named_at_once() {
        let refusal = refusal(|b| {
            b.batch_id.clear();
            producer(b).sequence = 0;
            resource(b).host = "x".repeat(300);
        });
        let Refusal::Invalid(violations) = refusal else { panic!() };
        assert_eq!(violations.len(), 3);
    }

    #[test]
    fn too_many_logs_are_to_be_split() {
        let refusal = refusal(|b| b.records = vec![v1::LogRecord::default(); 10_001]);
        assert_eq!(
            refusal.to_string(),
            "the number of logs in the batch is 10001, the limit is 10000: split the batch under \
             new ids"
        );
    }

    #[test]
    fn the_service_is_the_tokens() {
        let one = scope();
        let any = ServiceScope::Any;
        assert_eq!(resolve_service("", &one).unwrap().as_str(), "payments");
        assert_eq!(resolve_service("payments", &one).unwrap().as_str(), "payments");
        assert_eq!(resolve_service("orders", &any).unwrap().as_str(), "orders");
        assert_eq!(resolve_service("orders", &one).unwrap_err().reason(), "SERVICE_FOREIGN");
        assert_eq!(resolve_service("", &any).unwrap_err().reason(), "INVALID_FIELD");
        let error = resolve_service("no blanks", &any).unwrap_err().to_string();
        assert!(error.contains("1 to 128 characters"), "{error}");
    }

    #[test]
    fn a_batch_older_than_the_ledger_remembers_is_expired() {
        let minted = |hours_ago: u64| {
            let now_ms = NOW.as_unix_nanos() as u64 / 1_000_000;
            let mut id = [0x11; 16];
            id[..6].copy_from_slice(&(now_ms - hours_ago * 3_600_000).to_be_bytes()[2..]);
            id[6] = 0x70;
            id[8] = 0x80;
            id.to_vec()
        };
        for (producer, limit) in [(batch().producer, 90 * 24), (None, 48)] {
            let old = refusal(|b| {
                b.producer.clone_from(&producer);
                b.batch_id = minted(limit);
            });
            assert_eq!(old.reason(), "EXPIRED");
            let text = format!("{limit} hours ago");
            assert!(old.to_string().contains(&text), "{old}");
            let young = v1::Batch { batch_id: minted(limit - 1), producer, ..batch() };
            assert!(check_envelope(&young, &scope(), &Limits::default(), NOW).is_ok());
        }
    }

    fn check_verdict(record: Record, expected: Option<(&str, &str)>) {
        let result = check_record(&record, &Limits::default());
        let result = result.as_ref().map(|v| (v.reason, v.detail.as_str()));
        assert_eq!(result, expected);
    }

    fn with_attribute(key: &str, value: Value) -> Record {
        Record { attributes: vec![Attribute::new(key, value)], ..Record::default() }
    }

    #[test]
    fn each_rule_of_a_log_has_its_name_limit_and_value() {
        check_verdict(Record::default(), None);
        check_verdict(
            Record { message: "x".repeat(65_537), ..Record::default() },
            Some(("message_too_large", "the message is 65537 bytes, the limit is 65536")),
        );
        check_verdict(
            Record { logger: "x".repeat(257), ..Record::default() },
            Some(("logger_too_large", "the logger is 257 bytes, the limit is 256")),
        );
        for latency in [f64::NAN, f64::INFINITY, -1.0] {
            let detail = format!("latency_ms is {latency}, must be finite and not negative");
            check_verdict(
                Record { latency_ms: Some(latency), ..Record::default() },
                Some(("invalid_latency", &detail)),
            );
        }
        let attributes = vec![Attribute::new("k", Value::Int(1)); 129];
        check_verdict(
            Record { attributes, ..Record::default() },
            Some(("too_many_attributes", "the log has 129 attributes, the limit is 128")),
        );
        check_verdict(
            with_attribute("", Value::Int(1)),
            Some(("attribute_key_empty", "an attribute has no key, must be 1 byte or more")),
        );
        let detail =
            format!("the attribute key {:?} is 257 bytes, the limit is 256", "k".repeat(32));
        check_verdict(
            with_attribute(&"k".repeat(257), Value::Int(1)),
            Some(("attribute_key_too_large", &detail)),
        );
        for value in [Value::String("x".repeat(16_385)), Value::Json("x".repeat(16_385))] {
            let detail = "the value of attribute \"k\" is 16385 bytes, the limit is 16384";
            check_verdict(with_attribute("k", value), Some(("attribute_value_too_large", detail)));
        }
    }

    #[test]
    fn values_at_their_limits_pass() {
        check_verdict(
            Record {
                message: "x".repeat(65_536),
                logger: "x".repeat(256),
                latency_ms: Some(0.0),
                attributes: (0..128)
                    .map(|n| {
                        Attribute::new(format!("{n:0>256}"), Value::String("x".repeat(16_384)))
                    })
                    .collect(),
                ..Record::default()
            },
            None,
        );
    }

    #[test]
    fn an_impossible_time_becomes_the_receipt_and_is_kept() {
        let ahead = (NOW + FUTURE_MAX).as_unix_nanos();
        for (sent, kept) in [
            (0, Some(Value::Int(0))),
            (1, None),
            (NOW.as_unix_nanos() as u64, None),
            (ahead as u64, None),
            (ahead as u64 + 1, Some(Value::Int(ahead + 1))),
            (u64::MAX, Some(Value::String(u64::MAX.to_string()))),
        ] {
            let time = Timestamp::from_unix_nanos(i64::try_from(sent).unwrap_or(i64::MAX));
            let mut record = Record { time, ..Record::default() };
            correct_time(&mut record, sent, NOW);
            assert_eq!(record.attribute(ORIGINAL_TIME_ATTRIBUTE), kept.as_ref(), "{sent}");
            let expected = if kept.is_some() { NOW } else { time };
            assert_eq!(record.time, expected, "{sent}");
        }
    }

    proptest! {
        #[test]
        fn no_batch_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), now: i64) {
            use prost::Message;
            let batch = v1::Batch::decode(bytes.as_slice()).unwrap_or_else(|_| batch());
            for scope in [scope(), ServiceScope::Any] {
                let result = check_envelope(&batch, &scope, &Limits::default(), Timestamp::from_unix_nanos(now));
                prop_assert!(result.is_ok() || !result.unwrap_err().to_string().is_empty());
            }
        }

        #[test]
        fn any_time_is_settled(sent: u64, now in 0..i64::MAX) {
            let time = Timestamp::from_unix_nanos(i64::try_from(sent).unwrap_or(i64::MAX));
            let mut record = Record { time, ..Record::default() };
            let now = Timestamp::from_unix_nanos(now);
            correct_time(&mut record, sent, now);
            prop_assert!(record.time <= now + FUTURE_MAX);
        }
    }
}
