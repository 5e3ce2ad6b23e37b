//! Batches: immutable, numbered, encoded once. A retry repeats the very bytes.

use bytes::Bytes;
use logweir_proto::v1;
use prost::Message;

use crate::error::{DropCounts, DropReason};

/// The name that batches carry.
pub(crate) const SDK_NAME: &str = "logweir-sdk-rust";
/// The version that batches carry.
pub(crate) const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A batch as it goes over the wire, with what must be known about it without decoding it.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedBatch {
    pub(crate) batch_id: [u8; 16],
    pub(crate) producer_id: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) record_count: u32,
    pub(crate) created_unix_nano: i64,
    /// The encoded `IngestRequest`.
    pub(crate) request: Bytes,
}

impl EncodedBatch {
    /// Encodes a batch that carries its own id and producer. Ids of a wrong length are left for the
    /// server to refuse.
    pub fn new(batch: v1::Batch, created_unix_nano: i64) -> Self {
        let producer = batch.producer.as_ref();
        let id = |bytes: &[u8]| bytes.try_into().unwrap_or_default();
        Self {
            batch_id: id(&batch.batch_id),
            producer_id: producer.map(|producer| id(&producer.producer_id)).unwrap_or_default(),
            sequence: producer.map_or(0, |producer| producer.sequence),
            record_count: u32::try_from(batch.records.len()).unwrap_or(u32::MAX),
            created_unix_nano,
            request: v1::IngestRequest { batch: Some(batch) }.encode_to_vec().into(),
        }
    }

    /// The id that it keeps over retries and restarts.
    pub fn batch_id(&self) -> [u8; 16] {
        self.batch_id
    }

    /// Its number within its producer.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many logs it holds.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Its size on the wire before compression, bytes.
    pub fn encoded_len(&self) -> usize {
        self.request.len()
    }

    /// The batch itself; none if the bytes are damaged.
    pub(crate) fn decode(&self) -> Option<v1::Batch> {
        v1::IngestRequest::decode(self.request.clone()).ok()?.batch
    }
}

/// A batch id: UUIDv7 of a time and 10 random bytes.
pub(crate) fn batch_id(now_unix_nano: i64, random: &[u8; 10]) -> [u8; 16] {
    let milliseconds = u64::try_from(now_unix_nano / 1_000_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(milliseconds, random).into_uuid().into_bytes()
}

/// Numbers batches and fills in their account.
pub(crate) struct Batcher {
    producer_id: [u8; 16],
    resource: v1::Resource,
    last_sequence: u64,
    last_account: v1::Account,
}

impl Batcher {
    pub(crate) fn new(producer_id: [u8; 16], resource: v1::Resource) -> Self {
        Self { producer_id, resource, last_sequence: 0, last_account: v1::Account::default() }
    }

    /// Builds the next batch.
    pub(crate) fn build(
        &mut self,
        records: Vec<v1::LogRecord>,
        account: v1::Account,
        now_unix_nano: i64,
        random: &[u8; 10],
    ) -> EncodedBatch {
        self.last_sequence += 1;
        self.last_account = account.clone();
        let producer = v1::Producer {
            producer_id: self.producer_id.to_vec(),
            sequence: self.last_sequence,
            account: Some(account),
            sdk_name: SDK_NAME.into(),
            sdk_version: SDK_VERSION.into(),
        };
        let batch = v1::Batch {
            batch_id: batch_id(now_unix_nano, random).to_vec(),
            producer: Some(producer),
            resource: Some(self.resource.clone()),
            records,
        };
        EncodedBatch::new(batch, now_unix_nano)
    }

    /// Whether the server knows less than this from the last batch built. What waits in the spool
    /// does not count: the server sees it arrive.
    pub(crate) fn is_news(&self, account: &v1::Account) -> bool {
        let known = &self.last_account;
        (known.emitted, known.rejected, known.queued, &known.dropped)
            != (account.emitted, account.rejected, account.queued, &account.dropped)
    }
}

/// The drops as an account lists them.
pub(crate) fn drop_counts(dropped: DropCounts) -> Vec<v1::DropCount> {
    let entry = |(reason, count): (DropReason, u64)| v1::DropCount {
        reason: reason.as_str().into(),
        count,
    };
    dropped.iter().map(entry).collect()
}

/// The first half of a batch that is too large, under a new id and the old number, and the logs of
/// the second half, which are for the next number. The old number would otherwise be a hole for ever.
/// The first half says of the second what is true as of its own number: those logs wait.
pub(crate) fn halve(
    mut batch: v1::Batch,
    new_id: [u8; 16],
    created_unix_nano: i64,
) -> (EncodedBatch, Vec<v1::LogRecord>) {
    let second = batch.records.split_off(batch.records.len().div_ceil(2));
    batch.batch_id = new_id.to_vec();
    let account = batch.producer.as_mut().and_then(|producer| producer.account.as_mut());
    if let Some(account) = account {
        account.queued += second.len() as u64;
    }
    (EncodedBatch::new(batch, created_unix_nano), second)
}

/// The batch under a new id and the old number, without the logs at some positions.
pub(crate) fn without(
    mut batch: v1::Batch,
    positions: &[u32],
    new_id: [u8; 16],
    created_unix_nano: i64,
) -> EncodedBatch {
    let mut position = 0;
    batch.records.retain(|_| {
        position += 1;
        !positions.contains(&(position - 1))
    });
    batch.batch_id = new_id.to_vec();
    EncodedBatch::new(batch, created_unix_nano)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: usize) -> Vec<v1::LogRecord> {
        let record = |n: usize| v1::LogRecord { message: n.to_string(), ..Default::default() };
        (0..count).map(record).collect()
    }

    fn batcher() -> Batcher {
        Batcher::new([9; 16], v1::Resource { service: "s".into(), ..Default::default() })
    }

    #[test]
    fn batches_are_numbered_from_one_and_read_back() {
        let (mut batcher, account) = (batcher(), v1::Account { emitted: 3, ..Default::default() });
        for sequence in 1..=3 {
            let built =
                batcher.build(records(3), account.clone(), 1_700_000_000_000_000_000, &[1; 10]);
            assert_eq!((built.sequence(), built.record_count()), (sequence, 3));
            let batch = built.decode().unwrap();
            assert_eq!(batch.batch_id, built.batch_id());
            assert_eq!(uuid::Uuid::from_bytes(built.batch_id()).get_version_num(), 7);
            assert_eq!(batch.producer.unwrap().sequence, sequence);
            assert_eq!(batch.records, records(3));
        }
        assert!(!batcher.is_news(&v1::Account { spooled: 7, ..account.clone() }));
        assert!(batcher.is_news(&v1::Account { rejected: 1, ..account }));
    }

    #[test]
    fn halves_keep_every_log_and_the_first_keeps_the_number() {
        let account = v1::Account { emitted: 9, queued: 4, ..Default::default() };
        let built = batcher().build(records(5), account, 1, &[1; 10]);
        let (first, second) = halve(built.decode().unwrap(), [5; 16], 1);
        assert_eq!((first.sequence(), first.record_count(), first.batch_id()), (1, 3, [5; 16]));
        let account = first.decode().unwrap().producer.unwrap().account.unwrap();
        assert_eq!((account.emitted, account.queued), (9, 6));
        assert_eq!(second, records(5)[3..]);
    }

    #[test]
    fn logs_at_fault_are_taken_out_by_position() {
        let built = batcher().build(records(4), v1::Account::default(), 1, &[1; 10]);
        let rest = without(built.decode().unwrap(), &[0, 2, 9], [5; 16], 1);
        let messages: Vec<String> =
            rest.decode().unwrap().records.into_iter().map(|record| record.message).collect();
        assert_eq!(messages, ["1", "3"]);
    }
}
