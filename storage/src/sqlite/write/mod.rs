//! The transaction of a write, in the order that the contract gives: ledger, logs, what is derived
//! from them, producers, dead letters.

pub(crate) mod ledger;
pub(crate) mod producers;
pub(crate) mod rollups;
pub(crate) mod writer;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use logweir_core::{
    record::{RejectedRecord, ScoredBatch, ScoredRecord},
    runtime::fault,
    timestamp::Timestamp,
};
use metrics::counter;
use rusqlite::Transaction;

use self::{ledger::Ledger, rollups::save, writer::Tools};
use crate::{
    WriteOutcome,
    bisect::Bisection,
    block::{BlockError, Effort, Encoder, Row},
    ledger_rules::{self, Admission},
    rollups::{Derived, TEMPLATE_MISSING},
    sqlite::{
        admin::dead_letters::DeadLetters,
        blocks::{self, Origin},
        errors::Fault,
        ids::Ids,
    },
};

/// A block is cut at so many logs, and at so many bytes in memory: bounds what a reader has to
/// hold.
// A processor's group is 20,000 logs at most by default, so that an ordinary write is one block;
// the bytes are what cuts when messages are long. Readers open four blocks at a time at most.
const BLOCK_LOGS_MAX: usize = 32 << 10;
const BLOCK_HEAP_BYTES_MAX: usize = 32 << 20;

/// What is known of a batch in the course of a transaction.
struct Entry<'a> {
    batch: &'a ScoredBatch,
    tenant_id: i64,
    admission: Admission<i64>,
    unstorable: Vec<RejectedRecord>,
}

/// Commits nothing itself: the caller does. One outcome for each batch, in order.
pub(crate) fn write_batches(
    db: &Transaction<'_>,
    Tools { ids, encoder }: &mut Tools,
    batches: &[ScoredBatch],
    now: Timestamp,
    ledger_age: Duration,
) -> Result<Vec<WriteOutcome>, Fault> {
    let mut ledger = Ledger::new(now, ledger_age);
    let mut entries = Vec::with_capacity(batches.len());
    // The ledger comes first and alone decides which logs are stored: what is counted below is
    // counted of newly admitted batches only, so a repeat changes no row. Two batches of one id in
    // this very write are told apart as well, since the first has its ledger row by then.
    for batch in batches {
        let tenant_id = ids.tenant(db, &batch.tenant)?;
        let admission = ledger.admit(db, tenant_id, batch)?;
        entries.push(Entry { batch, tenant_id, admission, unstorable: Vec::new() });
    }
    fault::step("write_after_ledger");
    // A block belongs to one tenant: a reader who opens it can never come upon another's logs.
    let tenants: BTreeSet<i64> = entries.iter().map(|entry| entry.tenant_id).collect();
    for tenant_id in tenants {
        let origin = Origin { tenant_id, generation: 0, now };
        let mut derived = Derived::default();
        let logs = admitted_logs(&entries, tenant_id);
        for part in cut(&logs) {
            number_services(db, ids, tenant_id, part)?;
            // Counted only once it is known which logs could be stored, or buckets and templates
            // would show more than a search finds.
            let unstorable = store_part(db, ids, encoder, origin, part)?;
            observe(db, ids, &mut derived, tenant_id, part, &unstorable)?;
            put_aside(&mut entries, part, unstorable);
        }
        save(db, ids, tenant_id, derived.finish())?;
    }
    // In this transaction too: a dead letter of its own would be written again by every repeat of
    // the batch, or be missing when the process dies between the two.
    let mut dead_letters = DeadLetters::new(db, now)?;
    let mut outcomes = Vec::with_capacity(entries.len());
    for entry in entries {
        outcomes.push(settle(db, &mut ledger, &mut dead_letters, entry)?);
    }
    // A producer mostly has many batches in one write; its account is a single row, written once.
    ledger.save(db)?;
    fault::step("write_after_rows");
    ledger_rules::count(batches, &outcomes);
    Ok(outcomes)
}

/// A log on its way into a block, and the batch that it came in.
#[derive(Clone, Copy)]
struct Incoming<'a> {
    entry: usize,
    batch: &'a ScoredBatch,
    scored: &'a ScoredRecord,
}

impl<'a> Incoming<'a> {
    fn row(&self) -> Row<'a> {
        Row {
            batch_id: self.batch.batch_id,
            received_unix_nano: self.batch.received_at.as_unix_nanos(),
            service: &self.batch.resource.service,
            instance: &self.batch.resource.instance,
            environment: &self.batch.resource.environment,
            scored: self.scored,
        }
    }
}

/// The admitted logs of one tenant, sorted by service and then by arrival.
fn admitted_logs<'a>(entries: &[Entry<'a>], tenant_id: i64) -> Vec<Incoming<'a>> {
    let is_admitted = |entry: &Entry<'_>| {
        entry.tenant_id == tenant_id && matches!(entry.admission, Admission::New { .. })
    };
    let mut admitted: Vec<usize> = (0..entries.len()).collect();
    admitted.retain(|&entry| is_admitted(&entries[entry]));
    // By service because equal neighbours compress best and a reader of one service then reads one
    // run of rows. Batches are sorted and not logs: a batch is of one service, and there are far
    // fewer. The sort is stable, which keeps the order of arrival.
    admitted.sort_by_key(|&entry| &entries[entry].batch.resource.service);
    let mut logs = Vec::new();
    for entry in admitted {
        let batch = entries[entry].batch;
        logs.extend(batch.records.iter().map(|scored| Incoming { entry, batch, scored }));
    }
    logs
}

/// Gives every service its number here, outside of savepoints: a number given in one that is rolled
/// back would be given again to another.
fn number_services(
    db: &Transaction<'_>,
    ids: &mut Ids,
    tenant_id: i64,
    logs: &[Incoming<'_>],
) -> rusqlite::Result<()> {
    for of_batch in logs.chunk_by(|a, b| a.entry == b.entry) {
        ids.service(db, tenant_id, &of_batch[0].batch.resource.service)?;
    }
    Ok(())
}

/// Counts the logs that were stored.
fn observe<'a>(
    db: &Transaction<'_>,
    ids: &mut Ids,
    derived: &mut Derived<'a>,
    tenant_id: i64,
    logs: &[Incoming<'a>],
    unstorable: &[(usize, String)],
) -> Result<(), Fault> {
    // Both are ascending, so one walk over the two finds what to leave out.
    let mut bad = unstorable.iter().map(|(position, _)| *position).peekable();
    let mut position = 0;
    for of_batch in logs.chunk_by(|a, b| a.entry == b.entry) {
        let batch = of_batch[0].batch;
        let service_id = ids.service(db, tenant_id, &batch.resource.service)?;
        for log in of_batch {
            if bad.next_if_eq(&position).is_none() {
                derived.observe(service_id, batch, log.scored).map_err(Fault::data)?;
            }
            position += 1;
        }
    }
    Ok(())
}

/// Notes logs that cannot be stored with their batches.
fn put_aside(entries: &mut [Entry<'_>], logs: &[Incoming<'_>], unstorable: Vec<(usize, String)>) {
    for (position, detail) in unstorable {
        let Incoming { entry, scored, .. } = logs[position];
        entries[entry].unstorable.push(ledger_rules::unstorable(&scored.record, detail));
    }
}

fn cut<'a, 'b>(logs: &'b [Incoming<'a>]) -> Vec<&'b [Incoming<'a>]> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (position, log) in logs.iter().enumerate() {
        let added = log.scored.record.heap_bytes();
        let is_full = position - start == BLOCK_LOGS_MAX || bytes + added > BLOCK_HEAP_BYTES_MAX;
        // A log that is larger than the limit by itself becomes a block of its own: no empty one
        // before it.
        if is_full && position > start {
            parts.push(&logs[start..position]);
            (start, bytes) = (position, 0);
        }
        bytes += added;
    }
    if start < logs.len() {
        parts.push(&logs[start..]);
    }
    parts
}

/// Stores logs as one block, without those that cannot be stored, which it returns with the cause.
fn store_part(
    db: &Transaction<'_>,
    ids: &mut Ids,
    encoder: &mut Encoder,
    origin: Origin,
    logs: &[Incoming<'_>],
) -> Result<Vec<(usize, String)>, Fault> {
    let mut store = |logs: &[Incoming<'_>]| store_block(db, ids, encoder, origin, logs);
    // All at once first: data that cannot be stored is rare, and a savepoint costs next to nothing.
    if in_savepoint(db, true, || store(logs))?.is_none() {
        return Ok(Vec::new());
    }
    let mut bisection = Bisection::new(logs.len());
    // Every trial is taken back, also those that succeed: the good logs then go into one block
    // rather than into as many as there were trials.
    while let Some(part) = bisection.next() {
        bisection.tell(in_savepoint(db, false, || store(&logs[part]))?);
    }
    let unstorable = bisection.finish();
    let mut bad = unstorable.iter().map(|(position, _)| *position).peekable();
    let good = logs.iter().enumerate().filter(|(position, _)| bad.next_if_eq(position).is_none());
    let good: Vec<Incoming<'_>> = good.map(|(_, log)| *log).collect();
    if let Some(cause) = in_savepoint(db, true, || store(&good))? {
        // Each was stored and taken back, apart. Together they are not to blame one by one.
        return Err(Fault::Data(cause));
    }
    Ok(unstorable)
}

/// Runs `store` in a savepoint and keeps what it did if that is wanted. Returns the cause if the
/// values at hand are to blame for its failure; any other failure is an error.
fn in_savepoint(
    db: &Transaction<'_>,
    keep: bool,
    store: impl FnOnce() -> Result<(), Fault>,
) -> Result<Option<String>, Fault> {
    db.execute_batch("SAVEPOINT part")?;
    match store() {
        Ok(()) if keep => {
            db.execute_batch("RELEASE part")?;
            Ok(None)
        }
        Ok(()) => {
            db.execute_batch("ROLLBACK TO part; RELEASE part")?;
            Ok(None)
        }
        Err(fault) => {
            // Anything else ends the transaction: SQLite may have rolled all of it back already.
            let Some(cause) = fault.data_cause() else { return Err(fault) };
            db.execute_batch("ROLLBACK TO part; RELEASE part")?;
            Ok(Some(cause))
        }
    }
}

fn store_block(
    db: &Transaction<'_>,
    ids: &mut Ids,
    encoder: &mut Encoder,
    origin: Origin,
    logs: &[Incoming<'_>],
) -> Result<(), Fault> {
    // None are left when bisection found every one of them at fault; a block has at least one log.
    if logs.is_empty() {
        return Ok(());
    }
    // Looked at here, inside the savepoint, so that such a log alone is put aside. Found only while
    // counting, after the block is stored, it would fail the whole write.
    for log in logs {
        if !log.batch.templates.contains_key(&log.scored.template_id) {
            return Err(Fault::data(TEMPLATE_MISSING));
        }
    }
    let rows: Vec<Row<'_>> = logs.iter().map(Incoming::row).collect();
    let block = encode(encoder, |encoder| encoder.encode(&rows, Effort::Fresh))?;
    blocks::insert(db, ids, origin, &block)?;
    counter!("logweir_storage_block_bytes_total", "kind" => "fresh")
        .increment(blocks::disk_bytes(&block));
    Ok(())
}

/// A log on which encoding panics is a defect of ours, and no reason to keep all others waiting for
/// ever: it is one that cannot be stored.
fn encode<T>(
    encoder: &mut Encoder,
    encode: impl FnOnce(&mut Encoder) -> Result<T, BlockError>,
) -> Result<T, Fault> {
    let encoded = catch_unwind(AssertUnwindSafe(|| encode(encoder))).map_err(|_| {
        // What a panic has left in its buffers could show up in the next block.
        *encoder = Encoder::new();
        Fault::Data("the program failed on it: please report this".into())
    })?;
    encoded.map_err(|error| match error {
        BlockError::Unstorable { detail, .. } => Fault::Data(detail),
        BlockError::TooLarge(what) => Fault::Data(format!("too large: {what}")),
        corrupt @ BlockError::Corrupt(_) => Fault::from(corrupt),
    })
}

/// Puts aside what is to be put aside of a batch, and tells what became of it.
fn settle(
    db: &Transaction<'_>,
    ledger: &mut Ledger,
    dead_letters: &mut DeadLetters<'_>,
    Entry { batch, tenant_id, admission, unstorable }: Entry<'_>,
) -> Result<WriteOutcome, Fault> {
    if admission == Admission::Duplicate {
        ledger::note_repeat(db, tenant_id, batch)?;
    }
    let settled = ledger_rules::settle(batch, admission, unstorable);
    // No entry: a repeat, of which neither the ledger nor the account may count anything again.
    if let Some(entry_id) = settled.entry {
        let dead_lettered = dead_letters.add(tenant_id, batch, settled.put_aside)?;
        ledger.settle(db, (tenant_id, entry_id), batch, settled.stored, dead_lettered)?;
    }
    Ok(settled.outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_encoder_is_a_fault_of_the_data() {
        let mut encoder = Encoder::new();
        let failed: Result<(), Fault> = encode(&mut encoder, |_| panic!("on purpose"));
        assert!(failed.is_err_and(|fault| fault.data_cause().is_some()));
    }
}
