//! How much memory a batch takes once decoded, read off its encoding before it is decoded.
//!
//! An empty log takes two bytes on the wire and a hundred times that in memory, so a bound on the
//! encoding alone does not bound memory.

use prost::encoding::decode_varint;

/// Memory of one decoded log without its text, bytes.
const RECORD_BYTES: usize = 160;
/// Memory of one decoded attribute or drop count without its text, bytes.
const ENTRY_BYTES: usize = 64;
/// Memory of one decoded log of OTLP, and of what it becomes, without its text, bytes.
pub(crate) const OTLP_RECORD_BYTES: usize = 400;
/// Memory of one value or attribute of OTLP, and of what it becomes, without its text, bytes.
pub(crate) const OTLP_ENTRY_BYTES: usize = 128;
/// Memory of one list of logs by resource or scope, bytes.
const OTLP_LIST_BYTES: usize = 192;
/// Memory of a byte of names of an entity: an empty name has two on the wire.
const NAME_RATIO: usize = 12;
/// Levels of nested values that `prost` decodes at most.
const OTLP_DEPTH_MAX: usize = 100;

/// The fields of an encoded message, up to the first that is malformed: number, and content if it
/// has any.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        // The wire types of protobuf's encoding: 0 varint, 1 64-bit, 2 length-delimited, 3 and 4 a
        // group's ends, 5 32-bit. A malformed rest ends the count, for decoding will refuse it.
        let content = match tag & 7 {
            0 => {
                self.varint()?;
                &[]
            }
            1 => self.take(8)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.take(length)?
            }
            5 => self.take(4)?,
            // The fields of a group are counted as if they stood outside: too much rather than too
            // little.
            3 | 4 => &[],
            _ => return None,
        };
        Some((tag >> 3, content))
    }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        decode_varint(&mut self.0).ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (content, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }
}

/// About how much memory the structure of an encoded `IngestRequest` or `IngestStreamRequest` takes
/// decoded, bytes; its text comes on top and is at most as long as the encoding.
pub(crate) fn decoded_structure_bytes(request: &[u8]) -> usize {
    const BATCH: u64 = 1;
    // Summed over all of them: a message field may be repeated on the wire, and the decoder merges
    // what it finds, so counting only one would let the rest in uncounted.
    contents(request, BATCH).map(batch_bytes).sum()
}

fn batch_bytes(batch: &[u8]) -> usize {
    // Field numbers of ingest.proto and log.proto. They never change once released; a new repeated
    // field must be added here, else its entries take memory that nothing counts.
    const PRODUCER: u64 = 2;
    const RESOURCE: u64 = 3;
    const RECORDS: u64 = 4;
    const ACCOUNT: u64 = 3;
    const DROPPED: u64 = 2;
    const RESOURCE_ATTRIBUTES: u64 = 7;
    const RECORD_ATTRIBUTES: u64 = 9;
    let entries = |message, number| contents(message, number).count() * ENTRY_BYTES;
    let field = |(number, content)| match number {
        PRODUCER => contents(content, ACCOUNT).map(|account| entries(account, DROPPED)).sum(),
        RESOURCE => entries(content, RESOURCE_ATTRIBUTES),
        RECORDS => RECORD_BYTES + entries(content, RECORD_ATTRIBUTES),
        _ => 0,
    };
    Fields(batch).map(field).sum()
}

/// The same of an OTLP `ExportLogsServiceRequest`.
pub(crate) fn otlp_structure_bytes(request: &[u8]) -> usize {
    const RESOURCE_LOGS: u64 = 1;
    contents(request, RESOURCE_LOGS).map(resource_logs_bytes).sum()
}

// Field numbers of logs.proto, resource.proto and common.proto of OTLP 1.
fn resource_logs_bytes(resource_logs: &[u8]) -> usize {
    const RESOURCE: u64 = 1;
    const SCOPE_LOGS: u64 = 2;
    const RESOURCE_ATTRIBUTES: u64 = 1;
    const ENTITIES: u64 = 3;
    let field = |(number, content): (u64, &[u8])| match number {
        RESOURCE => {
            let entities: usize =
                contents(content, ENTITIES).map(|entity| NAME_RATIO * entity.len()).sum();
            entities + otlp_attributes_bytes(content, RESOURCE_ATTRIBUTES)
        }
        SCOPE_LOGS => OTLP_LIST_BYTES + scope_logs_bytes(content),
        _ => 0,
    };
    OTLP_LIST_BYTES + Fields(resource_logs).map(field).sum::<usize>()
}

fn scope_logs_bytes(scope_logs: &[u8]) -> usize {
    const SCOPE: u64 = 1;
    const RECORDS: u64 = 2;
    const SCOPE_ATTRIBUTES: u64 = 3;
    const BODY: u64 = 5;
    const RECORD_ATTRIBUTES: u64 = 6;
    let field = |(number, content): (u64, &[u8])| match number {
        SCOPE => otlp_attributes_bytes(content, SCOPE_ATTRIBUTES),
        RECORDS => {
            let body: usize = contents(content, BODY).map(|value| any_value_bytes(value, 0)).sum();
            OTLP_RECORD_BYTES + body + otlp_attributes_bytes(content, RECORD_ATTRIBUTES)
        }
        _ => 0,
    };
    Fields(scope_logs).map(field).sum()
}

fn otlp_attributes_bytes(message: &[u8], number: u64) -> usize {
    contents(message, number).map(|attribute| key_value_bytes(attribute, 0)).sum()
}

fn key_value_bytes(key_value: &[u8], depth: usize) -> usize {
    const VALUE: u64 = 2;
    let values = contents(key_value, VALUE).map(|value| any_value_bytes(value, depth));
    OTLP_ENTRY_BYTES + values.sum::<usize>()
}

/// What lies within a value; the value itself lies within what holds it.
fn any_value_bytes(value: &[u8], depth: usize) -> usize {
    const ARRAY: u64 = 5;
    const LIST: u64 = 6;
    const ENTRIES: u64 = 1;
    // The decoder goes no deeper, and refuses the request.
    if depth > OTLP_DEPTH_MAX {
        return 0;
    }
    let field = |(number, content): (u64, &[u8])| match number {
        ARRAY => contents(content, ENTRIES)
            .map(|entry| OTLP_ENTRY_BYTES + any_value_bytes(entry, depth + 1))
            .sum::<usize>(),
        LIST => contents(content, ENTRIES).map(|entry| key_value_bytes(entry, depth + 1)).sum(),
        _ => 0,
    };
    Fields(value).map(field).sum()
}

/// The same of Loki's `PushRequest`.
pub(crate) fn loki_structure_bytes(request: &[u8]) -> usize {
    // Field numbers of `pkg/push/push.proto`.
    const STREAMS: u64 = 1;
    const ENTRIES: u64 = 2;
    const METADATA: u64 = 3;
    let entry = |entry| OTLP_RECORD_BYTES + contents(entry, METADATA).count() * OTLP_ENTRY_BYTES;
    let stream = |stream| OTLP_LIST_BYTES + contents(stream, ENTRIES).map(entry).sum::<usize>();
    contents(request, STREAMS).map(stream).sum()
}

fn contents(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter(move |(number, _)| *number == wanted).map(|(_, content)| content)
}

#[cfg(test)]
mod tests {
    use logweir_proto::v1;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    #[test]
    fn the_constants_are_no_less_than_the_types() {
        assert!(size_of::<v1::LogRecord>() <= RECORD_BYTES);
        assert!(size_of::<v1::Attribute>() <= ENTRY_BYTES);
        assert!(size_of::<v1::DropCount>() <= ENTRY_BYTES);
    }

    #[test]
    fn everything_that_repeats_is_counted() {
        let attribute = v1::Attribute { key: "k".into(), value: None };
        let record =
            v1::LogRecord { attributes: vec![attribute.clone(); 3], ..v1::LogRecord::default() };
        let account =
            v1::Account { dropped: vec![v1::DropCount::default(); 5], ..v1::Account::default() };
        let batch = v1::Batch {
            batch_id: vec![1; 16],
            producer: Some(v1::Producer { account: Some(account), ..v1::Producer::default() }),
            resource: Some(v1::Resource {
                attributes: vec![attribute; 7],
                ..v1::Resource::default()
            }),
            records: vec![record; 11],
        };
        let request = v1::IngestRequest { batch: Some(batch) };
        let expected = 11 * RECORD_BYTES + (11 * 3 + 5 + 7) * ENTRY_BYTES;
        assert_eq!(decoded_structure_bytes(&request.encode_to_vec()), expected);
    }

    #[test]
    fn a_megabyte_of_empty_logs_weighs_as_much_as_it_will_take() {
        let batch =
            v1::Batch { records: vec![v1::LogRecord::default(); 500_000], ..v1::Batch::default() };
        let encoded = v1::IngestRequest { batch: Some(batch) }.encode_to_vec();
        assert!(encoded.len() < 1_100_000);
        assert_eq!(decoded_structure_bytes(&encoded), 500_000 * RECORD_BYTES);
    }

    #[test]
    fn the_constants_of_otlp_are_no_less_than_the_types() {
        use opentelemetry_proto::tonic::{
            common::v1::{AnyValue, KeyValue},
            logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
        };
        assert!(size_of::<LogRecord>() + size_of::<v1::LogRecord>() <= OTLP_RECORD_BYTES);
        assert!(size_of::<KeyValue>() + size_of::<v1::Attribute>() <= OTLP_ENTRY_BYTES);
        assert!(size_of::<AnyValue>() <= OTLP_ENTRY_BYTES);
        assert!(size_of::<ResourceLogs>() <= OTLP_LIST_BYTES);
        assert!(size_of::<ScopeLogs>() <= OTLP_LIST_BYTES);
        assert!(size_of::<String>() <= 2 * NAME_RATIO);
    }

    #[test]
    fn everything_that_repeats_in_otlp_is_counted() {
        use opentelemetry_proto::tonic::{
            collector::logs::v1::ExportLogsServiceRequest,
            common::v1::{
                AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
                any_value::Value,
            },
            logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
            resource::v1::Resource,
        };
        let array = ArrayValue { values: vec![AnyValue::default(); 3] };
        let nested = AnyValue { value: Some(Value::ArrayValue(array)) };
        let entry = KeyValue { value: Some(nested), ..KeyValue::default() };
        let list = KeyValueList { values: vec![entry.clone(); 2] };
        let body = Some(AnyValue { value: Some(Value::KvlistValue(list)) });
        let record = LogRecord { body, attributes: vec![entry.clone()], ..LogRecord::default() };
        let scope = InstrumentationScope {
            attributes: vec![KeyValue::default(); 5],
            ..InstrumentationScope::default()
        };
        let scope_logs =
            ScopeLogs { scope: Some(scope), log_records: vec![record; 7], ..ScopeLogs::default() };
        let resource = Resource { attributes: vec![entry], ..Resource::default() };
        let logs = ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![scope_logs],
            ..ResourceLogs::default()
        };
        let request = ExportLogsServiceRequest { resource_logs: vec![logs] };
        let of_entry = OTLP_ENTRY_BYTES * 4;
        let expected = 7 * (OTLP_RECORD_BYTES + 3 * of_entry)
            + 5 * OTLP_ENTRY_BYTES
            + of_entry
            + 2 * OTLP_LIST_BYTES;
        assert_eq!(otlp_structure_bytes(&request.encode_to_vec()), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_weighed(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            otlp_structure_bytes(&bytes);
            let weight = decoded_structure_bytes(&bytes);
            if let Ok(request) = v1::IngestRequest::decode(bytes.as_slice()) {
                let batch = request.batch.unwrap_or_default();
                prop_assert!(weight >= batch.records.len() * RECORD_BYTES);
            }
        }
    }
}
