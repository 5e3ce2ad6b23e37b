//! Gathers records into batches, each of one service and from one producer. Bounded: a full batcher
//! says so, and its owner takes everything out before it adds more. Pure, but for [`Ids::mint`].

use std::collections::BTreeMap;

use logweir_core::timestamp::Timestamp;
use logweir_proto::v1;
use logweir_sdk::{EncodedBatch, EncodedRecords};
use prost::Message;
use serde::{Deserialize, Serialize};

/// Name of this client in the batches' producer.
const SDK_NAME: &str = "logweir-cli";

/// Bounds of a batch and of all that is gathered.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Records of a batch.
    pub batch_records_max: usize,
    /// A batch, bytes encoded; one record may be larger alone.
    pub batch_bytes_max: usize,
    /// Records gathered over all services.
    pub gathered_records_max: usize,
    /// Bytes gathered over all services.
    pub gathered_bytes_max: usize,
}

impl BatchLimits {
    /// Batches of so many records at most, up to sixteen of them gathered at once.
    pub fn with_batch_records(batch_records_max: usize) -> Self {
        // A quarter of what a server takes by default, so that no batch of ordinary logs is refused
        // as too large; and no more in memory than a few of these at a time.
        Self {
            batch_records_max,
            batch_bytes_max: 1 << 20,
            gathered_records_max: 16 * batch_records_max,
            gathered_bytes_max: 8 << 20,
        }
    }
}

/// Records waiting for their batch, encoded: so a record is let go while it is read, and what waits
/// takes little room.
pub struct Batcher {
    limits: BatchLimits,
    /// By service.
    pending: BTreeMap<String, Pending>,
    records: usize,
    bytes: usize,
}

#[derive(Default)]
struct Pending {
    full: Vec<EncodedRecords>,
    /// Takes what comes next.
    open: EncodedRecords,
}

/// A batch of one service as it goes over the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceBatch {
    /// Whose logs it holds.
    pub service: String,
    /// The batch.
    pub encoded: EncodedBatch,
}

impl ServiceBatch {
    /// Encodes a batch.
    pub fn new(batch: v1::Batch, created: Timestamp) -> Self {
        let service = batch.resource.as_ref().map(|resource| resource.service.clone());
        let encoded = EncodedBatch::new(batch, created.as_unix_nanos());
        Self { service: service.unwrap_or_default(), encoded }
    }

    /// How many records it holds.
    pub fn records(&self) -> u64 {
        self.encoded.record_count().into()
    }
}

impl Batcher {
    /// An empty batcher.
    pub fn new(limits: BatchLimits) -> Self {
        Self { limits, pending: BTreeMap::new(), records: 0, bytes: 0 }
    }

    /// Adds a record.
    pub fn add(&mut self, service: &str, record: &v1::LogRecord) {
        let pending = match self.pending.get_mut(service) {
            Some(pending) => pending,
            None => self.pending.entry(service.to_owned()).or_default(),
        };
        let is_full = pending.open.count() as usize >= self.limits.batch_records_max
            || pending.open.encoded_len() + record.encoded_len() > self.limits.batch_bytes_max;
        // A record that is too large goes alone: the server says what is wrong with it.
        if is_full && pending.open.count() > 0 {
            let full = pending.take_open();
            pending.full.push(full);
        }
        let before = pending.open.encoded_len();
        pending.open.push(record);
        self.bytes += pending.open.encoded_len() - before;
        self.records += 1;
    }

    /// Whether everything must be taken out before more is added.
    pub fn is_full(&self) -> bool {
        self.records >= self.limits.gathered_records_max
            || self.bytes >= self.limits.gathered_bytes_max
    }

    /// Whether nothing is gathered.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Takes everything out, cut into batches, by service.
    pub fn take(&mut self) -> Vec<(String, EncodedRecords)> {
        (self.records, self.bytes) = (0, 0);
        // Of a service that sent nothing since the last time, not even the name is kept.
        self.pending.retain(|_, pending| pending.open.count() > 0);
        let mut taken = Vec::new();
        for (service, pending) in &mut self.pending {
            let open = pending.take_open();
            let batches = pending.full.drain(..).chain([open]);
            taken.extend(batches.map(|records| (service.clone(), records)));
        }
        taken
    }
}

impl Pending {
    /// What is open. The next batch is about as large, so that its room is made at once.
    fn take_open(&mut self) -> EncodedRecords {
        let next = EncodedRecords::with_capacity(self.open.encoded_len());
        std::mem::replace(&mut self.open, next)
    }
}

/// What one producer has done, cumulatively.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    /// Random per producer.
    #[serde(with = "hex::serde")]
    pub id: [u8; 16],
    /// Its newest batch.
    pub sequence: u64,
    /// Records in all its batches.
    pub emitted: u64,
    /// Of these, answered by the server in any way.
    pub settled: u64,
    /// Of these, rejected.
    pub rejected: u64,
}

/// A producer per service, since a producer's account belongs to one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producers(pub BTreeMap<String, Producer>);

/// Fresh ids for a batch, and for its producer if that is new.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    /// The batch's id; a UUIDv7, which tells the server its age.
    pub batch: [u8; 16],
    /// The producer's id, should it be new.
    pub producer: [u8; 16],
}

impl Ids {
    /// Ids that were never used.
    pub fn mint() -> Self {
        let (batch, producer) = (uuid::Uuid::now_v7(), uuid::Uuid::new_v4());
        Self { batch: batch.into_bytes(), producer: producer.into_bytes() }
    }
}

impl Producers {
    /// Makes the next batch of a service.
    pub fn batch(
        &mut self,
        service: String,
        records: &EncodedRecords,
        ids: Ids,
        now: Timestamp,
    ) -> ServiceBatch {
        let producer = self.0.entry(service.clone()).or_insert_with(|| Producer {
            id: ids.producer,
            sequence: 0,
            emitted: 0,
            settled: 0,
            rejected: 0,
        });
        // Before this batch is counted: what waits in the journal are the batches before it. The
        // server adds the account up, and would miss logs that are still on their way.
        let spooled = producer.emitted.saturating_sub(producer.settled);
        producer.sequence += 1;
        producer.emitted += u64::from(records.count());
        let account = v1::Account {
            emitted: producer.emitted,
            rejected: producer.rejected,
            spooled,
            ..Default::default()
        };
        let head = v1::Batch {
            batch_id: ids.batch.to_vec(),
            producer: Some(v1::Producer {
                producer_id: producer.id.to_vec(),
                sequence: producer.sequence,
                account: Some(account),
                sdk_name: SDK_NAME.to_owned(),
                sdk_version: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            resource: Some(v1::Resource { service: service.clone(), ..Default::default() }),
            records: Vec::new(),
        };
        let encoded = EncodedBatch::with_records(&head, records, now.as_unix_nanos());
        ServiceBatch { service, encoded }
    }

    /// After a restart: whatever is in no batch that waits was answered.
    pub fn settle_all_but(&mut self, waiting: &[ServiceBatch]) {
        // The state was noted before its answers came; which of them came is told by what is left.
        for (service, producer) in &mut self.0 {
            let batches = waiting.iter().filter(|batch| batch.service == *service);
            let records: u64 = batches.map(ServiceBatch::records).sum();
            producer.settled = producer.emitted.saturating_sub(records);
        }
    }

    /// Notes that a batch of a service was answered.
    pub fn settle(&mut self, service: &str, records: u64, rejected: u64) {
        if let Some(producer) = self.0.get_mut(service) {
            producer.settled += records;
            producer.rejected += rejected;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(message: &str) -> v1::LogRecord {
        v1::LogRecord { message: message.to_owned(), ..Default::default() }
    }

    fn records(messages: &[&str]) -> EncodedRecords {
        messages.iter().map(|message| record(message)).collect()
    }

    #[test]
    fn a_producer_counts_without_gaps_and_its_account_balances() {
        let mut producers = Producers::default();
        let mut next = 0;
        let mut mint = || {
            next += 1;
            Ids { batch: [next; 16], producer: [100 + next; 16] }
        };
        let mut batch = |producers: &mut Producers, service: &str, messages: &[&str]| {
            let batch =
                producers.batch(service.to_owned(), &records(messages), mint(), Timestamp::EPOCH);
            batch.encoded.decode().unwrap()
        };
        let first = batch(&mut producers, "a", &["1", "2"]);
        let second = batch(&mut producers, "a", &["3"]);
        producers.settle("a", 2, 1);
        let third = batch(&mut producers, "a", &["4"]);
        let account = |batch: &v1::Batch| {
            let producer = batch.producer.as_ref().unwrap();
            let account = producer.account.as_ref().unwrap();
            (producer.sequence, account.emitted, account.spooled, account.rejected)
        };
        assert_eq!(account(&first), (1, 2, 0, 0));
        assert_eq!(account(&second), (2, 3, 2, 0));
        assert_eq!(account(&third), (3, 4, 1, 1));
        assert_ne!(first.batch_id, second.batch_id);
        let id = |batch: &v1::Batch| batch.producer.as_ref().unwrap().producer_id.clone();
        assert_eq!(id(&first), id(&second));
        assert_eq!(account(&batch(&mut producers, "b", &[])).0, 1);
    }

    fn decoded((service, records): (String, EncodedRecords)) -> (String, Vec<v1::LogRecord>) {
        let batch = EncodedBatch::with_records(&v1::Batch::default(), &records, 0);
        (service, batch.decode().unwrap().records)
    }

    proptest! {
        #[test]
        fn every_record_comes_out_once_in_order_and_within_bounds(
            logs in prop::collection::vec((0..4_u8, 0..300_usize), 0..200),
            taken_every in 1..100_usize,
        ) {
            let limits = BatchLimits {
                batch_records_max: 7,
                batch_bytes_max: 600,
                gathered_records_max: 1_000,
                gathered_bytes_max: 1 << 20,
            };
            let (mut batcher, mut batches) = (Batcher::new(limits), Vec::new());
            for (number, (service, length)) in logs.iter().enumerate() {
                if number % taken_every == 0 {
                    batches.extend(batcher.take().into_iter().map(decoded));
                }
                let text = format!("{number:03}{}", "x".repeat(*length));
                batcher.add(&service.to_string(), &record(&text));
            }
            batches.extend(batcher.take().into_iter().map(decoded));
            prop_assert!(batcher.is_empty());
            prop_assert!(batches.iter().all(|(_, b)| !b.is_empty() && b.len() <= 7));
            for service in 0..4_u8 {
                let expected: Vec<_> =
                    (0..logs.len()).filter(|n| logs[*n].0 == service).collect();
                let found: Vec<usize> = batches
                    .iter()
                    .filter(|(name, _)| *name == service.to_string())
                    .flat_map(|(_, batch)| batch)
                    .map(|record| record.message[..3].parse().unwrap())
                    .collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
