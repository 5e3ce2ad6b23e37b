//! A batch as a message: its encoding compressed with zstd in the body, and what people look for in
//! the broker's tools in the properties. What is read from the properties is whose turn it is to be
//! handed out, what it costs, when a server took it, and what an unreadable body leaves to say.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use logweir_core::{
    identity::{BatchId, Service, Tenant},
    record::{Batch, Record, RejectedRecord, Resource},
    timestamp::Timestamp,
    wire,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The quickest level that still finds repeats well: what a log costs in the broker falls to a
/// fifth.
const COMPRESSION_LEVEL: i32 = 1;
/// No batch is larger; it bounds what a hostile or broken message unfolds to.
// Sixteen times the largest request by default, so that a larger limit may be set.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// The version of the body's format.
const CONTENT_TYPE: &str = "application/vnd.logweir.batch.v1+protobuf";
const PERSISTENT: u8 = 2;
/// Bytes of an ordinary log, compressed among others.
const LOG_COST: u64 = 26;
/// The header of a batch whose tenant's next ones wait elsewhere.
const BULK_FOLLOWS: &str = "bulk-follows";
/// Bytes of an unreadable message in one rejected log: hexadecimal, they fit a message.
const UNREADABLE_PART_BYTES: usize = 24 << 10;

/// A message to be published.
pub(super) struct Message {
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}

/// Why a message is no batch.
#[derive(Debug, thiserror::Error)]
pub(super) enum MessageError {
    #[error("its format is {0:?}")]
    Format(String),
    #[error("it cannot be decompressed: {0}")]
    Compression(std::io::Error),
    #[error("it cannot be read: {0}")]
    Encoding(#[from] wire::WireError),
}

/// A batch as a message.
pub(super) fn encode(batch: Batch) -> Result<Message, std::io::Error> {
    let mut headers = FieldTable::default();
    headers.insert("tenant".into(), text(batch.tenant.as_str()));
    headers.insert("service".into(), text(batch.resource.service.as_str()));
    headers.insert("checksum".into(), text(&format!("{:016x}", batch.checksum)));
    let logs = batch.records.len() + batch.rejected.len();
    headers.insert("logs".into(), AMQPValue::LongLongInt(logs as i64));
    headers.insert("received".into(), AMQPValue::LongLongInt(batch.received_at.as_unix_nanos()));
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(CONTENT_TYPE.into())
        .with_content_encoding("zstd".into())
        .with_message_id(batch.batch_id.to_string().into())
        .with_headers(headers);
    let body = compress(&wire::encode_batch(batch))?;
    Ok(Message { body, properties })
}

impl Message {
    /// What it costs to process it.
    pub(super) fn cost(&self) -> u64 {
        cost(&self.properties, self.body.len())
    }

    /// Notes that the next batches of its tenant wait where bulk does.
    pub(super) fn note_bulk_follows(&mut self) {
        let mut headers = self.properties.headers().clone().unwrap_or_default();
        headers.insert(BULK_FOLLOWS.into(), AMQPValue::Boolean(true));
        self.properties = std::mem::take(&mut self.properties).with_headers(headers);
    }
}

/// What it costs to process a message, in compressed bytes of ordinary logs: many small ones that are
/// alike take hardly any bytes.
pub(super) fn cost(properties: &BasicProperties, bytes: usize) -> u64 {
    let logs =
        header(properties, "logs").and_then(number).and_then(|logs| u64::try_from(logs).ok());
    (bytes as u64).max(logs.unwrap_or_default().saturating_mul(LOG_COST))
}

/// Whose a message is; the default tenant's if it does not say.
pub(super) fn tenant(properties: &BasicProperties) -> Tenant {
    text_header(properties, "tenant").and_then(|name| Tenant::new(&name).ok()).unwrap_or_default()
}

/// When a server took it; long ago if it does not say.
pub(super) fn received_at(properties: &BasicProperties) -> Timestamp {
    let nanos = header(properties, "received").and_then(number).unwrap_or_default();
    Timestamp::from_unix_nanos(nanos)
}

/// Whether the next batches of its tenant wait where bulk does.
pub(super) fn bulk_follows(properties: &BasicProperties) -> bool {
    header(properties, BULK_FOLLOWS) == Some(&AMQPValue::Boolean(true))
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn text_header(properties: &BasicProperties, name: &str) -> Option<String> {
    let value = header(properties, name)?.as_long_string()?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The batch of a message.
pub(super) fn decode(properties: &BasicProperties, body: &[u8]) -> Result<Batch, MessageError> {
    match properties.content_type() {
        Some(format) if format.as_str() == CONTENT_TYPE => {}
        other => {
            let shown = other.as_ref().map_or("none", |format| format.as_str());
            return Err(MessageError::Format(shown.chars().take(80).collect()));
        }
    }
    let encoded = decompress(body, BATCH_BYTES_MAX).map_err(MessageError::Compression)?;
    Ok(wire::decode_batch(&encoded)?)
}

/// The frame carries a checksum, so that what broke on the way is not taken for a batch.
pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let mut compressor = zstd::bulk::Compressor::new(COMPRESSION_LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(bytes)
}

/// Takes no more memory than the size that the frame states, and none beyond the limit.
pub(super) fn decompress(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, std::io::Error> {
    let invalid = |what| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let stated = zstd::zstd_safe::get_frame_content_size(body)
        .map_err(|_| invalid("it is no zstd frame"))?
        .ok_or_else(|| invalid("its size is not stated"))?;
    match usize::try_from(stated) {
        Ok(bytes) if bytes <= bytes_max => zstd::bulk::decompress(body, bytes),
        _ => Err(invalid("it is too large")),
    }
}

/// A batch of rejected logs that hold a message's bytes in hexadecimal, so that nothing is lost and
/// the message goes the way of all dead letters. Its id follows from the bytes, for the id that the
/// message names may still come with a sound one.
pub(super) fn unreadable(
    properties: &BasicProperties,
    body: &[u8],
    error: &MessageError,
    now: Timestamp,
) -> Batch {
    let tenant = tenant(properties);
    let service = text_header(properties, "service").and_then(|name| Service::new(&name).ok());
    let service = service.unwrap_or_else(|| {
        Service::new("logweir.unreadable").expect("the name keeps to the alphabet")
    });
    let parts = body.chunks(UNREADABLE_PART_BYTES);
    let count = parts.len();
    let rejected = |(index, part): (u32, &[u8])| RejectedRecord {
        record: Record { index, time: now, message: hex::encode(part), ..Record::default() },
        reason: "unreadable_message".to_owned(),
        detail: format!("part {} of {count} of a message of the queue; {error}", index + 1),
    };
    Batch {
        tenant,
        batch_id: BatchId(xxh3_128(body).to_be_bytes()),
        checksum: xxh3_64(body),
        received_at: now,
        producer: None,
        resource: Resource::of(service),
        records: Vec::new(),
        rejected: (0..).zip(parts).map(rejected).collect(),
    }
}

/// How often a message was handed out before, as far as the broker tells.
pub(super) fn delivery_count(properties: &BasicProperties, redelivered: bool) -> u32 {
    let counted = header(properties, "x-delivery-count").and_then(number);
    let counted = counted.and_then(|count| u32::try_from(count).ok());
    // A quorum queue leaves the header out the first time. Without it, `redelivered` tells at least
    // that there was a time before.
    counted.unwrap_or(u32::from(redelivered))
}

fn number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some((*number).into()),
        AMQPValue::ShortShortUInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let record = |index| Record { index, message: "m".repeat(50), ..Record::default() };
        Batch {
            tenant: Tenant::new("acme").unwrap(),
            batch_id: BatchId([7; 16]),
            checksum: 5,
            received_at: Timestamp::from_unix_nanos(9),
            producer: None,
            resource: Resource::of(Service::new("api").unwrap()),
            records: (0..100).map(record).collect(),
            rejected: Vec::new(),
        }
    }

    #[test]
    fn a_batch_comes_back_as_it_went() {
        let message = encode(batch()).unwrap();
        assert!(message.body.len() < 1_000, "it is compressed");
        assert_eq!(decode(&message.properties, &message.body).unwrap(), batch());
    }

    #[test]
    fn what_it_costs_is_not_only_its_size() {
        let message = encode(batch()).unwrap();
        assert_eq!(message.cost(), 100 * LOG_COST);
        assert_eq!(cost(&BasicProperties::default(), 7), 7, "it does not say how many logs it has");
        assert_eq!(cost(&message.properties, 1 << 20), 1 << 20);
    }

    #[test]
    fn a_message_that_broke_on_the_way_is_no_batch_and_is_kept() {
        let Message { body, properties } = encode(batch()).unwrap();
        for at in 0..body.len() {
            let mut broken = body.clone();
            broken[at] ^= 0x10;
            assert!(decode(&properties, &broken).map_or(true, |back| back == batch()), "{at}");
        }
        let cut = &body[..body.len() - 3];
        let error = decode(&properties, cut).unwrap_err();
        let kept = unreadable(&properties, cut, &error, Timestamp::from_unix_nanos(11));
        assert_eq!((kept.tenant.as_str(), kept.resource.service.as_str()), ("acme", "api"));
        assert_ne!(kept.batch_id, batch().batch_id, "a sound copy may still come");
        assert_eq!(kept.rejected[0].record.message, hex::encode(cut));
    }

    #[test]
    fn a_large_foreign_message_is_kept_in_parts() {
        let body = vec![0xab; UNREADABLE_PART_BYTES * 2 + 1];
        let none = BasicProperties::default();
        let error = decode(&none, &body).unwrap_err();
        let kept = unreadable(&none, &body, &error, Timestamp::from_unix_nanos(11));
        let parts: String = kept.rejected.iter().map(|r| r.record.message.as_str()).collect();
        assert_eq!((kept.rejected.len(), parts), (3, hex::encode(&body)));
        assert_eq!(kept.resource.service.as_str(), "logweir.unreadable");
        assert_eq!(
            kept.rejected[2].detail.split(';').next(),
            Some("part 3 of 3 of a message of the queue")
        );
    }

    #[test]
    fn a_bomb_is_not_unfolded() {
        let bomb = compress(&vec![0; 1 << 20]).unwrap();
        assert!(bomb.len() < 1_000);
        assert!(decompress(&bomb, 1 << 19).is_err());
        assert_eq!(decompress(&bomb, 1 << 20).unwrap().len(), 1 << 20);
    }

    #[test]
    fn the_brokers_count_is_read_in_every_width() {
        let counted = |value| {
            let mut headers = FieldTable::default();
            headers.insert("x-delivery-count".into(), value);
            delivery_count(&BasicProperties::default().with_headers(headers), true)
        };
        assert_eq!(counted(AMQPValue::ShortShortUInt(3)), 3);
        assert_eq!(counted(AMQPValue::LongLongInt(70_000)), 70_000);
        assert_eq!(counted(AMQPValue::LongLongInt(-1)), 1, "as if it was not there");
        assert_eq!(delivery_count(&BasicProperties::default(), true), 1);
        assert_eq!(delivery_count(&BasicProperties::default(), false), 0);
    }
}
