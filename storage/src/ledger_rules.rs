//! The rules of the ledger and of the producers' accounts, whatever tables they lie in.
//!
//! Of a batch whose entry was folded only its producer's sequence is left, so that a repeat is told
//! by that alone. This holds because a producer gives each sequence to one batch only. Where it can
//! be seen that one did not, or where the sequence is forgotten, the batch may be new and may be a
//! repeat: it is put aside whole, so that it is neither lost in silence nor stored twice.

use std::{cmp::Reverse, time::Duration};

use logweir_core::{
    identity::BatchId,
    record::{Account, Producer, RejectedRecord, ScoredBatch},
    timestamp::Timestamp,
};
use metrics::counter;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{
    WriteOutcome,
    ranges::{Membership, RangeSet},
};

/// Reasons for drops that are kept of an account; the rest is summed. The client libraries have ten.
const DROP_REASONS_KEPT: usize = 16;
/// What the rest is called.
const OTHER_REASONS: &str = "other";

/// What the ledger says of a batch; `E` names its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission<E> {
    /// Not seen before.
    New { entry: E },
    /// Committed before with the same content: nothing is added.
    Duplicate,
    /// The id was used with other content. No entry if this content was put aside before.
    Conflict { entry: Option<E> },
    /// It cannot be told whether it was committed before.
    Doubtful { entry: E, doubt: Doubt },
}

/// Why it cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Its sequence was folded long ago, but its id was minted lately.
    SequenceReused,
    /// Its producer left too many gaps to be remembered.
    SequenceForgotten,
}

/// What its producer's folded sequences say of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// It is not among them.
    Unknown,
    /// It was committed.
    Committed,
    /// It may have been committed and may be new, and why that cannot be told.
    Doubtful(Doubt),
}

impl Past {
    pub(crate) fn of(folded: &RangeSet, sequence: u64, is_minted_lately: bool) -> Self {
        // A folded sequence means a repeat, unless the id is younger than anything folded: then the
        // producer has begun to count anew, and its batch would be dropped as a repeat.
        match folded.find(sequence) {
            Membership::In if is_minted_lately => Self::Doubtful(Doubt::SequenceReused),
            Membership::In => Self::Committed,
            Membership::Forgotten => Self::Doubtful(Doubt::SequenceForgotten),
            Membership::Out => Self::Unknown,
        }
    }

    /// Of a batch that the ledger did not know.
    pub(crate) const fn admit<E: Copy>(self, entry: E) -> Admission<E> {
        match self {
            Self::Unknown => Admission::New { entry },
            Self::Committed => Admission::Duplicate,
            Self::Doubtful(doubt) => Admission::Doubtful { entry, doubt },
        }
    }
}

/// Whether the id says that it is younger than anything folded. Half of the age at which entries
/// are folded is left for the clocks of senders.
pub(crate) fn is_minted_lately(batch_id: BatchId, now: Timestamp, ledger_age: Duration) -> bool {
    // Of an id that holds no time nothing can be told; then the sequence alone decides.
    batch_id.minted_unix_ms().is_some_and(|minted_unix_ms| {
        let age_ms = i128::from(now.as_unix_nanos() / 1_000_000) - i128::from(minted_unix_ms);
        age_ms < (ledger_age.as_millis() / 2) as i128
    })
}

/// Content that conflicts has an entry of its own under this id, so that its repeats add nothing.
pub(crate) fn conflict_id(batch_id: BatchId, checksum: u64) -> BatchId {
    // A pure function of both, so that every process and every repeat comes to the same id.
    BatchId(xxh3_128_with_seed(&batch_id.0, checksum).to_be_bytes())
}

/// Two batches of one sequence: told while the first is in the ledger.
pub(crate) fn report_reuse(batch: &ScoredBatch) {
    let Some(sent) = &batch.producer else { return };
    counter!("logweir_storage_sequences_reused_total").increment(1);
    // Counted only: there may be one with every batch.
    tracing::debug!(tenant = %batch.tenant, producer_id = %sent.producer_id, sequence = sent.sequence,
        sdk = sent.sdk, "a producer gave one sequence to two batches: later on they would be taken \
        for one and the same");
}

/// What becomes of a batch.
#[derive(Debug, PartialEq)]
pub(crate) struct Settlement<E> {
    /// The entry that it has in the ledger now.
    pub(crate) entry: Option<E>,
    pub(crate) stored: u32,
    /// For the dead letters.
    pub(crate) put_aside: Vec<RejectedRecord>,
    pub(crate) outcome: WriteOutcome,
}

/// Settles what becomes of a batch, some of whose logs turned out to be `unstorable`.
pub(crate) fn settle<E>(
    batch: &ScoredBatch,
    admission: Admission<E>,
    unstorable: Vec<RejectedRecord>,
) -> Settlement<E> {
    let nothing = |outcome| Settlement { entry: None, stored: 0, put_aside: Vec::new(), outcome };
    match admission {
        Admission::Duplicate => nothing(WriteOutcome::Duplicate),
        Admission::Conflict { entry: None } => nothing(WriteOutcome::Conflict),
        Admission::Conflict { entry: Some(entry) } => Settlement {
            entry: Some(entry),
            stored: 0,
            put_aside: whole(batch, CONFLICT),
            outcome: WriteOutcome::Conflict,
        },
        Admission::Doubtful { entry, doubt } => {
            let put_aside = whole(batch, doubt.cause());
            // Told as stored with nothing stored: to the sender it is settled, and sending it again
            // would change nothing. All indices are named, so that the live feed shows none of it.
            let indices = batch.records.iter().map(|scored| scored.record.index).collect();
            let outcome = stored_but(0, &put_aside, indices);
            Settlement { entry: Some(entry), stored: 0, put_aside, outcome }
        }
        Admission::New { entry } => {
            let stored = (batch.records.len() - unstorable.len()) as u32;
            let indices = unstorable.iter().map(|rejected| rejected.record.index).collect();
            // What the server had rejected travels in the batch and becomes dead letters here, in
            // its transaction: written at once by the server, a retry of the batch would double it.
            let mut put_aside = batch.rejected.clone();
            put_aside.extend(unstorable);
            let outcome = stored_but(stored, &put_aside, indices);
            Settlement { entry: Some(entry), stored, put_aside, outcome }
        }
    }
}

fn stored_but(stored: u32, dead: &[RejectedRecord], put_aside: Vec<u32>) -> WriteOutcome {
    WriteOutcome::Stored { stored, dead_lettered: dead.len() as u32, put_aside }
}

/// Why a whole batch is put aside: a stable name, and words for a person.
type Cause = (&'static str, &'static str);

const CONFLICT: Cause = (
    "batch_conflict",
    "the batch_id was used before with other content; mint a new id for every batch",
);

impl Doubt {
    const fn cause(self) -> Cause {
        match self {
            Self::SequenceReused => (
                "sequence_reused",
                "its producer gave the sequence to another batch before; give every batch its own, \
                 and replay this log if it is missing",
            ),
            Self::SequenceForgotten => (
                "sequence_forgotten",
                "its producer left so many gaps in its sequences that it is no longer known whether \
                 this one was stored; replay this log if it is missing",
            ),
        }
    }
}

/// All logs of a batch, those rejected before last.
fn whole(batch: &ScoredBatch, (reason, detail): Cause) -> Vec<RejectedRecord> {
    let whole = batch.records.iter().map(|scored| RejectedRecord {
        record: scored.record.clone(),
        reason: reason.into(),
        detail: detail.into(),
    });
    whole.chain(batch.rejected.iter().cloned()).collect()
}

/// A log that storage cannot hold.
pub(crate) fn unstorable(record: &logweir_core::record::Record, detail: String) -> RejectedRecord {
    RejectedRecord { record: record.clone(), reason: "unstorable".to_owned(), detail }
}

/// Counts what became of the batches of a transaction.
pub(crate) fn count(batches: &[ScoredBatch], outcomes: &[WriteOutcome]) {
    for (batch, outcome) in batches.iter().zip(outcomes) {
        let name = match outcome {
            WriteOutcome::Stored { stored, dead_lettered, .. } => {
                counter!("logweir_storage_logs_total").increment(u64::from(*stored));
                counter!("logweir_storage_dead_letters_total").increment(u64::from(*dead_lettered));
                "stored"
            }
            WriteOutcome::Duplicate => {
                let logs = (batch.records.len() + batch.rejected.len()) as u64;
                counter!("logweir_storage_repeated_logs_total").increment(logs);
                "duplicate"
            }
            WriteOutcome::Conflict => "conflict",
        };
        counter!("logweir_storage_batches_total", "outcome" => name).increment(1);
    }
}

/// A producer's account.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProducerAccount {
    /// The highest that was committed; what follows came with it.
    pub(crate) sequence: u64,
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) sdk: String,
    pub(crate) account: Account,
    pub(crate) stored: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) committed: RangeSet,
    pub(crate) last_received: Timestamp,
}

impl ProducerAccount {
    /// What is left of it while no report lists it: its figures, and its sequences. Neither its
    /// service's sums nor whether a batch is a repeat depends on the rest.
    pub(crate) fn unlist(&mut self) {
        let dropped = self.account.dropped_total();
        self.account.dropped.clear();
        if dropped > 0 {
            self.account.dropped.push((OTHER_REASONS.to_owned(), dropped));
        }
        self.instance.clear();
        self.sdk.clear();
    }

    /// Notes what became of an admitted batch.
    pub(crate) fn note(
        &mut self,
        batch: &ScoredBatch,
        sent: &Producer,
        stored: u32,
        dead_lettered: u32,
    ) {
        self.stored += u64::from(stored);
        self.dead_lettered += u64::from(dead_lettered);
        self.committed.insert(sent.sequence);
        self.last_received = self.last_received.max(batch.received_at);
        // Batches may be committed in another order than they were sent. The counts that a producer
        // gives are cumulative as of a sequence, so only the highest holds.
        if sent.sequence >= self.sequence {
            self.sequence = sent.sequence;
            self.account.clone_from(&sent.account);
            sum_reasons(&mut self.account.dropped);
            self.sdk.clone_from(&sent.sdk);
            batch.resource.service.as_str().clone_into(&mut self.service);
            self.instance.clone_from(&batch.resource.instance);
        }
    }
}

/// The reasons with the most logs, and the rest as one: a row is read and written with each of its
/// producer's batches, and a report reads thousands.
fn sum_reasons(dropped: &mut Vec<(String, u64)>) {
    if dropped.len() <= DROP_REASONS_KEPT {
        return;
    }
    dropped.sort_by_key(|(reason, count)| (reason == OTHER_REASONS, Reverse(*count)));
    let rest = dropped.split_off(DROP_REASONS_KEPT - 1).into_iter();
    let rest = rest.fold(0, |sum: u64, (_, count)| sum.saturating_add(count));
    dropped.push((OTHER_REASONS.to_owned(), rest));
}

/// The drops of an account as kept in the table.
pub(crate) fn dropped_to_json(dropped: &[(String, u64)]) -> String {
    serde_json::json!(dropped).to_string()
}
