//! Batches: immutable, numbered, encoded once. A retry repeats the very bytes.
//!
//! A batch that the server does not take as it is goes on as others that follow from it alone: ids,
//! numbers and content are those that any process would come to, so that one killed halfway, and
//! the next that starts over, send the same. A pair of producer and sequence names one batch for
//! ever, because the server recognises a repeat by it once it has forgotten the batch's id.

use bytes::Bytes;
use logweir_proto::v1;
use prost::{Message, encoding};

use crate::error::{DropCounts, DropReason};

/// The name that batches carry.
pub(crate) const SDK_NAME: &str = "logweir-sdk-rust";
/// The version that batches carry.
pub(crate) const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The field of `IngestRequest` that holds the batch.
const BATCH_FIELD: u32 = 1;
/// The field of `Batch` that holds the logs: its last one.
const RECORDS_FIELD: u32 = 4;

/// Logs, each encoded as it comes: they need not be kept until their batch is full.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EncodedRecords {
    bytes: Vec<u8>,
    count: u32,
}

impl EncodedRecords {
    /// No logs yet, and room for so many bytes of them.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), count: 0 }
    }

    /// Adds a log.
    pub fn push(&mut self, record: &v1::LogRecord) {
        encoding::message::encode(RECORDS_FIELD, record, &mut self.bytes);
        self.count += 1;
    }

    /// How many logs there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Their size within a batch, bytes.
    pub fn encoded_len(&self) -> usize {
        self.bytes.len()
    }
}

impl FromIterator<v1::LogRecord> for EncodedRecords {
    fn from_iter<I: IntoIterator<Item = v1::LogRecord>>(records: I) -> Self {
        let mut encoded = Self::default();
        records.into_iter().for_each(|record| encoded.push(&record));
        encoded
    }
}

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
    pub fn new(mut batch: v1::Batch, created_unix_nano: i64) -> Self {
        let records = std::mem::take(&mut batch.records).into_iter().collect();
        Self::with_records(&batch, &records, created_unix_nano)
    }

    /// The same of a batch whose logs are encoded already and not in `head`.
    pub fn with_records(
        head: &v1::Batch,
        records: &EncodedRecords,
        created_unix_nano: i64,
    ) -> Self {
        let producer = head.producer.as_ref();
        let id = |bytes: &[u8]| bytes.try_into().unwrap_or_default();
        Self {
            batch_id: id(&head.batch_id),
            producer_id: producer.map(|producer| id(&producer.producer_id)).unwrap_or_default(),
            sequence: producer.map_or(0, |producer| producer.sequence),
            record_count: records.count,
            created_unix_nano,
            request: request(head, &records.bytes),
        }
    }

    /// The encoded `Batch`.
    pub fn batch_bytes(&self) -> Bytes {
        let mut batch = self.request.clone();
        // It is the only field of its request.
        let is_whole =
            encoding::decode_key(&mut batch).is_ok() && encoding::decode_varint(&mut batch).is_ok();
        if is_whole { batch } else { Bytes::new() }
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
    pub fn decode(&self) -> Option<v1::Batch> {
        v1::IngestRequest::decode(self.request.clone()).ok()?.batch
    }
}

/// The `IngestRequest` of a batch. Its logs come last, so that they stand where the message would
/// have them.
fn request(head: &v1::Batch, records: &[u8]) -> Bytes {
    let batch_len = head.encoded_len() + records.len();
    let prefix_len =
        encoding::key_len(BATCH_FIELD) + encoding::encoded_len_varint(batch_len as u64);
    let mut request = Vec::with_capacity(prefix_len + batch_len);
    encoding::encode_key(BATCH_FIELD, encoding::WireType::LengthDelimited, &mut request);
    encoding::encode_varint(batch_len as u64, &mut request);
    head.encode_raw(&mut request);
    request.extend_from_slice(records);
    request.into()
}

/// A batch id: UUIDv7 of a time and 10 random bytes.
pub(crate) fn batch_id(now_unix_nano: i64, random: &[u8; 10]) -> [u8; 16] {
    // A clock before 1970 still gives a valid id, of the earliest time.
    let milliseconds = u64::try_from(now_unix_nano / 1_000_000).unwrap_or(0);
    let mut id = [0; 16];
    id[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
    id[6..].copy_from_slice(random);
    marked_as_version_7(id)
}

/// The version and the variant of a UUID whose first 6 bytes are a time (RFC 9562).
fn marked_as_version_7(mut id: [u8; 16]) -> [u8; 16] {
    id[6] = id[6] & 0x0f | 0x70;
    id[8] = id[8] & 0x3f | 0x80;
    id
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
        // Numbered as it is made: a number that is given and not used would be a hole for ever.
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

/// The drops as an account lists them, and the logs that are in other accounts.
pub(crate) fn drop_counts(dropped: DropCounts, moved: u64) -> Vec<v1::DropCount> {
    let named = dropped.iter().map(|(reason, count)| (reason.as_str(), count));
    let moved = (moved > 0).then_some((MOVED, moved));
    let entry = |(reason, count): (&str, u64)| v1::DropCount { reason: reason.into(), count };
    named.chain(moved).map(entry).collect()
}

/// What an account gives as the reason for logs that are in another producer's account.
pub(crate) const MOVED: &str = "moved";

/// What follows from a batch, each with an id of its own.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    FirstHalf = 1,
    SecondHalf = 2,
    SecondProducer = 3,
    Repaired = 4,
}

/// Random bytes that follow from an id: the first of a SHA-256, which every language has.
pub(crate) fn derived(id: [u8; 16], part: Part) -> [u8; 16] {
    let mut hash = hmac_sha256::Hash::new();
    hash.update(id);
    hash.update([part as u8]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes
}

/// A batch id that follows from another, of the same time: the server tells a batch's age by it.
pub(crate) fn derived_batch_id(id: [u8; 16], part: Part) -> [u8; 16] {
    let mut new = derived(id, part);
    // The server finds the age of a batch in these bytes.
    new[..6].copy_from_slice(&id[..6]);
    marked_as_version_7(new)
}

/// The halves of a batch that is too large; none if it cannot be split. The first keeps the number,
/// which would otherwise be a hole for ever. The second is the only batch of a producer of its own,
/// since all other numbers of the old one are given; both accounts balance.
pub(crate) fn halves(whole: &EncodedBatch) -> Option<[EncodedBatch; 2]> {
    let mut first = whole.decode().filter(|batch| batch.records.len() > 1)?;
    // Rounded up, so that a half of one log is the first and the split ends.
    let records = first.records.split_off(first.records.len().div_ceil(2));
    let moved = records.len() as u64;
    let producer = first.producer.as_ref().map(|producer| v1::Producer {
        producer_id: derived(whole.batch_id, Part::SecondProducer).to_vec(),
        // The only batch of its producer, so that its numbers have no hole.
        sequence: 1,
        account: Some(v1::Account { emitted: moved, ..v1::Account::default() }),
        ..producer.clone()
    });
    let second = v1::Batch {
        batch_id: derived_batch_id(whole.batch_id, Part::SecondHalf).to_vec(),
        producer,
        resource: first.resource.clone(),
        records,
    };
    first.batch_id = derived_batch_id(whole.batch_id, Part::FirstHalf).to_vec();
    // Otherwise the account would miss the logs that the second half takes along.
    add_drop(&mut first, MOVED, moved);
    Some([first, second].map(|batch| EncodedBatch::new(batch, whole.created_unix_nano)))
}

/// The batch under its old number, without the logs at some positions, which it says are dropped;
/// none if it is damaged.
pub(crate) fn without(
    whole: &EncodedBatch,
    positions: &[u32],
    reason: DropReason,
) -> Option<EncodedBatch> {
    let mut batch = whole.decode()?;
    let (mut position, before) = (0, batch.records.len());
    batch.records.retain(|_| {
        position += 1;
        !positions.contains(&(position - 1))
    });
    // A new id: the server may remember what it answered to the old one.
    batch.batch_id = derived_batch_id(whole.batch_id, Part::Repaired).to_vec();
    let dropped = (before - batch.records.len()) as u64;
    add_drop(&mut batch, reason.as_str(), dropped);
    Some(EncodedBatch::new(batch, whole.created_unix_nano))
}

/// Adds to what a batch's account says was dropped.
fn add_drop(batch: &mut v1::Batch, reason: &str, count: u64) {
    let account = batch.producer.as_mut().and_then(|producer| producer.account.as_mut());
    let Some(v1::Account { dropped, .. }) = account else { return };
    match dropped.iter_mut().find(|drop| drop.reason == reason) {
        Some(drop) => drop.count += count,
        None => dropped.push(v1::DropCount { reason: reason.into(), count }),
    }
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
    fn a_batch_is_encoded_as_its_message_would_be() {
        let batch =
            v1::Batch { batch_id: vec![7; 16], records: records(300), ..Default::default() };
        let encoded = EncodedBatch::new(batch.clone(), 1);
        assert_eq!(encoded.batch_bytes(), batch.encode_to_vec());
        let request = v1::IngestRequest { batch: Some(batch) };
        assert_eq!(encoded.request, request.encode_to_vec());
    }

    fn account(batch: &EncodedBatch) -> v1::Account {
        batch.decode().unwrap().producer.unwrap().account.unwrap()
    }

    #[test]
    fn halves_keep_every_log_and_both_accounts_balance() {
        let given = v1::Account { emitted: 9, queued: 4, ..Default::default() };
        let built = batcher().build(records(5), given, 1_700_000_000_000_000_000, &[1; 10]);
        let [first, second] = halves(&built).unwrap();
        assert_eq!((first.producer_id, first.sequence(), first.record_count()), ([9; 16], 1, 3));
        assert_eq!((account(&first).emitted, account(&first).queued), (9, 4));
        let moved = v1::DropCount { reason: MOVED.into(), count: 2 };
        assert_eq!(account(&first).dropped, [moved]);
        assert_eq!((second.sequence(), account(&second).emitted), (1, 2));
        let kept = [&first, &second].map(|half| half.decode().unwrap().records).concat();
        assert_eq!(kept, records(5));
        let [third, _] = halves(&first).unwrap();
        assert_eq!(account(&third).dropped[0].count, 3, "moves add up");
        assert!(halves(&halves(&second).unwrap()[0]).is_none(), "a single log stays whole");
    }

    #[test]
    fn what_follows_from_a_batch_is_the_same_each_time_and_shares_no_id() {
        let built = batcher().build(records(5), v1::Account::default(), 1 << 60, &[1; 10]);
        let all = || {
            let rest = without(&built, &[1], DropReason::SendError).unwrap();
            let [first, second] = halves(&built).unwrap();
            let deeper = halves(&second).unwrap();
            [built.clone(), rest, first, second].into_iter().chain(deeper).collect::<Vec<_>>()
        };
        assert_eq!(all(), all());
        let mut ids: Vec<_> = all().iter().map(EncodedBatch::batch_id).collect();
        for id in &ids {
            let uuid = uuid::Uuid::from_bytes(*id);
            assert_eq!((uuid.get_version_num(), id[..6] == built.batch_id()[..6]), (7, true));
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 6);
        let mut names: Vec<_> =
            all()[2..].iter().map(|batch| (batch.producer_id, batch.sequence)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 3, "the half of a half keeps the number that it halves");
    }

    #[test]
    fn logs_at_fault_are_taken_out_by_position_and_counted() {
        let built = batcher().build(records(4), v1::Account::default(), 1, &[1; 10]);
        let rest = without(&built, &[0, 2, 9], DropReason::SendError).unwrap();
        let messages: Vec<String> =
            rest.decode().unwrap().records.into_iter().map(|record| record.message).collect();
        assert_eq!(messages, ["1", "3"]);
        assert_eq!((account(&rest).dropped[0].count, rest.sequence()), (2, 1));
    }
}
