//! The transaction of a write, in the order that the contract gives: ledger, logs, what is derived
//! from them, producers, dead letters. Any two transactions lock rows in the same order.

pub(crate) mod copy;
pub(crate) mod ledger;
pub(crate) mod producers;
pub(crate) mod rollups;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    pin::pin,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::{Object, Transaction};
use futures::SinkExt;
use logweir_core::{
    identity::{BatchId, Service, Tenant},
    record::{RejectedRecord, ScoredBatch, Template},
    runtime::fault,
    timestamp::Timestamp,
    wire,
};
use metrics::{counter, histogram};
use tokio_postgres::{IsolationLevel, types::Type};

use self::{
    copy::{COPY, HEADER, Incoming, TRAILER},
    ledger::Settled,
    rollups::Counted,
};
use crate::{
    StorageError, WriteLogs, WriteOutcome,
    bisect::Bisection,
    ledger_rules::{self, Admission},
    postgres::{
        PostgresStorage, READ_WITHIN, WRITTEN_WITHIN, errors::Fault, partitions, read::reports,
        schema::Layout, template_aliases, texts::readable, values::Id,
    },
    rollups::Derived,
};

/// Bytes of a COPY that are sent to the server at a time.
// Large enough that a message's head and the switch between tasks do not count, small enough that
// the server works on the first rows while the rest is still being put together.
const CHUNK_BYTES: usize = 64 << 10;

#[async_trait]
impl WriteLogs for PostgresStorage {
    async fn write(
        &self,
        batches: std::sync::Arc<[ScoredBatch]>,
    ) -> Result<Vec<WriteOutcome>, StorageError> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let started = std::time::Instant::now();
        let mut written = self.write_once(&batches).await;
        if written.as_ref().is_err_and(Fault::lacks_partition) {
            // Retention dropped it after it was seen. Once more and not in a loop: should it be
            // dropped again, the queue brings the batches back, and nothing of them is stored.
            self.days.forget();
            written = self.write_once(&batches).await;
        }
        let outcomes = written.map_err(|fault| {
            counter!("logweir_storage_failed_transactions_total").increment(1);
            self.told(fault)
        })?;
        fault::step("write_after_commit");
        ledger_rules::count(&batches, &outcomes);
        histogram!("logweir_storage_write_seconds").record(started.elapsed().as_secs_f64());
        Ok(outcomes)
    }

    async fn save_templates(&self, templates: Vec<Arc<Template>>) -> Result<(), StorageError> {
        let save = async |connection: &mut Object| {
            let begin =
                connection.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
            let db = begin.read_only(false).start().await?;
            db.batch_execute(&self.writing).await?;
            template_aliases::save(&db, &templates).await?;
            Ok(db.commit().await?)
        };
        self.on_connection(None, WRITTEN_WITHIN, save).await.map_err(|fault| self.told(fault))
    }

    async fn load_templates(&self) -> Result<Vec<(Template, u64)>, StorageError> {
        let load = async |connection: &mut Object| {
            let db = connection.build_transaction().read_only(true).start().await?;
            reports::load_templates(&db).await
        };
        self.on_connection(None, READ_WITHIN, load).await.map_err(|fault| self.told(fault))
    }
}

impl PostgresStorage {
    async fn write_once(&self, batches: &[ScoredBatch]) -> Result<Vec<WriteOutcome>, Fault> {
        // In a transaction of its own, before: attaching a partition takes locks that should not be
        // held while 20,000 rows are copied.
        self.ensure_days(batches).await?;
        let work = async |connection: &mut Object| {
            // Said in so many words, whatever the database's default is: the ledger rests on each
            // statement seeing what others have committed meanwhile. Under REPEATABLE READ a batch
            // that was folded in between would be taken for new and stored twice.
            let begin =
                connection.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
            let mut db = begin.read_only(false).start().await?;
            db.batch_execute(&self.writing).await?;
            let now = (self.clock)();
            let outcomes = write_batches(&mut db, batches, now, self.config.ledger_age).await?;
            fault::step("write_before_commit");
            // If the answer is lost it may have succeeded: the ledger then knows the batches.
            db.commit().await?;
            Ok(outcomes)
        };
        self.on_connection(None, WRITTEN_WITHIN, work).await
    }

    /// Makes the partitions of the logs' days that are not known to be there.
    async fn ensure_days(&self, batches: &[ScoredBatch]) -> Result<(), Fault> {
        let Layout::Partitions { first_day } = self.layout else { return Ok(()) };
        let days = days(batches, first_day);
        self.ensure(&self.days.unknown(days)).await
    }

    /// Makes the partitions of these days, in a transaction of its own.
    pub(in crate::postgres) async fn ensure(&self, days: &BTreeSet<i64>) -> Result<(), Fault> {
        if days.is_empty() {
            return Ok(());
        }
        let work = async |connection: &mut Object| {
            let db = connection.transaction().await?;
            db.batch_execute(&self.writing).await?;
            partitions::ensure(&db, days).await?;
            db.commit().await?;
            Ok(())
        };
        self.on_connection(None, WRITTEN_WITHIN, work).await?;
        self.days.remember(days);
        Ok(())
    }
}

/// The days of logs from a day on.
fn days(batches: &[ScoredBatch], first_day: i64) -> BTreeSet<i64> {
    let logs = batches.iter().flat_map(|batch| &batch.records);
    let days = logs.map(|scored| partitions::day_of(scored.record.time));
    days.filter(|day| *day >= first_day).collect()
}

/// What is known of a batch in the course of a transaction.
struct Entry<'a> {
    batch: &'a ScoredBatch,
    admission: Admission<BatchId>,
    unstorable: Vec<RejectedRecord>,
}

/// Commits nothing itself: the caller does. One outcome for each batch, in order.
async fn write_batches(
    db: &mut Transaction<'_>,
    batches: &[ScoredBatch],
    now: Timestamp,
    ledger_age: std::time::Duration,
) -> Result<Vec<WriteOutcome>, Fault> {
    // The same order of tables in every transaction (ledger, logs, buckets, templates, producers),
    // or two writers that share a service and a producer could each hold what the other waits for.
    let admissions = ledger::admit(db, batches, now, ledger_age).await?;
    let entry = |(batch, admission)| Entry { batch, admission, unstorable: Vec::new() };
    let mut entries: Vec<Entry<'_>> = batches.iter().zip(admissions).map(entry).collect();
    fault::step("write_after_ledger");
    let services = services(&entries);
    let logs = take_storable(&mut entries, &services);
    let at_fault = store(db, &logs).await?;
    let counted = count(&services, &logs, &at_fault)?;
    for (position, detail) in at_fault {
        let Placed { entry, log, .. } = logs[position];
        entries[entry].unstorable.push(ledger_rules::unstorable(&log.scored.record, detail));
    }
    let names: Vec<_> = services.keys().copied().collect();
    rollups::save(db, &names, &counted).await?;
    let outcomes = settle(db, entries, now).await?;
    fault::step("write_after_rows");
    Ok(outcomes)
}

/// The services of admitted logs, ascending, each with its position.
type Services<'a> = BTreeMap<(&'a Tenant, &'a Service), i64>;

fn services<'a>(entries: &[Entry<'a>]) -> Services<'a> {
    let admitted = entries.iter().filter(|entry| matches!(entry.admission, Admission::New { .. }));
    let mut services: Services<'a> =
        admitted.map(|entry| ((&entry.batch.tenant, &entry.batch.resource.service), 0)).collect();
    services.values_mut().zip(0..).for_each(|(number, position)| *number = position);
    services
}

/// A log on its way, with the position of its batch and of its service.
#[derive(Clone, Copy)]
struct Placed<'a> {
    entry: usize,
    service: i64,
    log: Incoming<'a>,
}

/// The admitted logs by tenant, service and time, without those that can be seen not to be
/// storable.
fn take_storable<'a>(entries: &mut [Entry<'a>], services: &Services<'a>) -> Vec<Placed<'a>> {
    let mut logs = Vec::new();
    for (entry, Entry { batch, admission, unstorable }) in entries.iter_mut().enumerate() {
        let key = (&batch.tenant, &batch.resource.service);
        let (Admission::New { .. }, Some(&service)) = (*admission, services.get(&key)) else {
            continue;
        };
        // What can be seen beforehand need not be found by bisection, each step of which is a COPY.
        for scored in &batch.records {
            let log = Incoming { batch, scored };
            match log.fault() {
                Some(detail) => unstorable.push(ledger_rules::unstorable(&scored.record, detail)),
                None => logs.push(Placed { entry, service, log }),
            }
        }
    }
    // B-trees that lead with the service are then filled in order, page after page; and
    // TimescaleDB's direct compression makes one batch of columns for each service, not for each
    // change from one to another.
    logs.sort_by_key(|placed| (placed.service, placed.log.scored.record.time));
    logs
}

/// Stores logs; the positions of those that the database refuses, ascending, with the cause.
async fn store(
    db: &mut Transaction<'_>,
    logs: &[Placed<'_>],
) -> Result<Vec<(usize, String)>, Fault> {
    if logs.is_empty() || in_savepoint(db, true, logs).await?.is_none() {
        return Ok(Vec::new());
    }
    let mut bisection = Bisection::new(logs.len());
    while let Some(part) = bisection.next() {
        bisection.tell(in_savepoint(db, false, &logs[part]).await?);
    }
    let at_fault = bisection.finish();
    if let Some(cause) = in_savepoint(db, true, &without(logs, &at_fault)).await? {
        // Each was stored and taken back, apart. Together they are not to blame one by one.
        return Err(Fault::Data(cause));
    }
    Ok(at_fault)
}

fn without<'a>(logs: &[Placed<'a>], at_fault: &[(usize, String)]) -> Vec<Placed<'a>> {
    let mut bad = at_fault.iter().map(|(position, _)| *position).peekable();
    let good = logs.iter().enumerate().filter(|(position, _)| bad.next_if_eq(position).is_none());
    good.map(|(_, log)| *log).collect()
}

/// Stores logs in a savepoint and keeps them if that is wanted. Returns the cause if the values at
/// hand are to blame for its failure; any other failure is an error, which ends the transaction.
async fn in_savepoint(
    db: &mut Transaction<'_>,
    keep: bool,
    logs: &[Placed<'_>],
) -> Result<Option<String>, Fault> {
    let part = db.transaction().await?;
    match copy(&part, logs).await {
        Ok(()) if keep => {
            part.commit().await?;
            Ok(None)
        }
        Ok(()) => {
            part.rollback().await?;
            Ok(None)
        }
        Err(fault) => {
            let Some(cause) = fault.data_cause() else { return Err(fault) };
            part.rollback().await?;
            Ok(Some(cause))
        }
    }
}

async fn copy(db: &Transaction<'_>, logs: &[Placed<'_>]) -> Result<(), Fault> {
    if logs.is_empty() {
        return Ok(());
    }
    // The statement has a name, which is let go before the transaction ends.
    let mut sink = pin!(db.copy_in::<_, Bytes>(COPY).await?);
    let mut chunk = HEADER.to_vec();
    for placed in logs {
        placed.log.put(&mut chunk);
        if chunk.len() >= CHUNK_BYTES {
            let full = mem::replace(&mut chunk, Vec::with_capacity(CHUNK_BYTES + (4 << 10)));
            sink.send(full.into()).await?;
        }
    }
    chunk.extend_from_slice(TRAILER);
    sink.send(chunk.into()).await?;
    let copied = sink.finish().await?;
    if copied != logs.len() as u64 {
        // A trigger or a rule of somebody's: the counters would not agree with the rows.
        let cause = format!("{copied} of {} rows were kept: drop the triggers of logs", logs.len());
        return Err(Fault::Answer(StorageError::Broken(cause.into())));
    }
    Ok(())
}

/// Counts the logs that were stored, of each tenant.
fn count<'a>(
    services: &Services<'a>,
    logs: &[Placed<'a>],
    at_fault: &[(usize, String)],
) -> Result<Vec<Counted<'a>>, Fault> {
    let mut bad = at_fault.iter().map(|(position, _)| *position).peekable();
    let mut tenants: BTreeMap<&Tenant, Derived<'_>> = BTreeMap::new();
    // Made before the logs are counted, from the services in order: a tenant of whose logs none
    // could be stored is there with empty counts.
    for (tenant, _) in services.keys() {
        tenants.entry(tenant).or_default();
    }
    for (position, Placed { service, log, .. }) in logs.iter().enumerate() {
        if bad.next_if_eq(&position).is_some() {
            continue;
        }
        if let Some(derived) = tenants.get_mut(&log.batch.tenant) {
            derived.observe(*service, log.batch, log.scored).map_err(Fault::data)?;
        }
    }
    let counted = tenants.into_iter().map(|(tenant, of)| Counted { tenant, counts: of.finish() });
    Ok(counted.collect())
}

/// Puts aside what is to be put aside, notes the rest with the producers, and tells what became of
/// every batch.
async fn settle(
    db: &Transaction<'_>,
    entries: Vec<Entry<'_>>,
    now: Timestamp,
) -> Result<Vec<WriteOutcome>, Fault> {
    let (mut outcomes, mut settled, mut letters) = (Vec::new(), Vec::new(), Vec::new());
    let mut repeats = Vec::new();
    for Entry { batch, admission, mut unstorable } in entries {
        // They were found in two ways, of which one goes by service and time.
        unstorable.sort_by_key(|rejected| rejected.record.index);
        if admission == Admission::Duplicate {
            repeats.push(batch);
        }
        let of = ledger_rules::settle(batch, admission, unstorable);
        if let Some(entry) = of.entry {
            let dead_lettered = of.put_aside.len() as u32;
            settled.push(Settled { batch, entry, stored: of.stored, dead_lettered });
            letters.extend(of.put_aside.into_iter().map(|rejected| (batch, rejected)));
        }
        outcomes.push(of.outcome);
    }
    // In the order in which upkeep locks them: batches before producers.
    let repeats = ledger::mark_repeats(db, &repeats).await?;
    ledger::note(db, &settled).await?;
    put_aside(db, &letters, now).await?;
    ledger::correct(db, &settled).await?;
    // Last, and mostly of nothing: a tenant's count is a row that others wait for.
    ledger::add_repeats(db, repeats).await?;
    Ok(outcomes)
}

/// Adds dead letters, in this order.
async fn put_aside(
    db: &Transaction<'_>,
    letters: &[(&ScoredBatch, RejectedRecord)],
    now: Timestamp,
) -> Result<(), Fault> {
    if letters.is_empty() {
        return Ok(());
    }
    let mut resources = Vec::with_capacity(letters.len());
    // Encoded once for each batch: a whole batch in conflict may be 10,000 letters of one resource.
    for of_batch in letters.chunk_by(|a, b| std::ptr::eq(a.0, b.0)) {
        let resource = Bytes::from(wire::encode_resource(&of_batch[0].0.resource));
        resources.resize(resources.len() + of_batch.len(), resource);
    }
    let resources: Vec<&[u8]> = resources.iter().map(|resource| &resource[..]).collect();
    let tenants: Vec<&str> = letters.iter().map(|(batch, _)| batch.tenant.as_str()).collect();
    let batches: Vec<Id> = letters.iter().map(|(batch, _)| Id(batch.batch_id.0)).collect();
    let indices: Vec<i32> = letters.iter().map(|(_, letter)| letter.record.index as i32).collect();
    let records: Vec<Vec<u8>> =
        letters.iter().map(|(_, letter)| wire::encode_record(&letter.record)).collect();
    let reasons: Vec<_> = letters.iter().map(|(_, letter)| readable(&letter.reason)).collect();
    let reasons: Vec<&str> = reasons.iter().map(|reason| &**reason).collect();
    let details: Vec<_> = letters.iter().map(|(_, letter)| readable(&letter.detail)).collect();
    let details: Vec<&str> = details.iter().map(|detail| &**detail).collect();
    // One of a tenant after the other, in the order that all processors keep: what a tenant's last
    // number is stays locked until the end of the transaction. And all of a tenant's at once: a
    // change of the same row for each would take as long as the square of their number.
    db.execute_typed(
        "WITH taken AS MATERIALIZED (
             SELECT tenant, take_numbers(tenant, 'dead_letters', count) AS first
             FROM (SELECT tenant, count(*) AS count FROM unnest($1::text[]) AS tenant
                   GROUP BY tenant ORDER BY tenant COLLATE \"C\" OFFSET 0) AS counted)
         INSERT INTO dead_letters (tenant, batch_id, record_index, resource, record, reason, detail,
                                   created_unix_nano, number)
         SELECT put.tenant, batch_id, record_index, resource, record, reason, detail, $8,
                first - 1 + row_number() OVER (PARTITION BY put.tenant ORDER BY place)
         FROM unnest($1::text[], $2::uuid[], $3::int[], $4::bytea[], $5::bytea[], $6::text[], $7::text[])
              WITH ORDINALITY
              AS put (tenant, batch_id, record_index, resource, record, reason, detail, place)
              JOIN taken ON taken.tenant = put.tenant
         ORDER BY place",
        &[
            (&tenants, Type::TEXT_ARRAY),
            (&batches, Type::UUID_ARRAY),
            (&indices, Type::INT4_ARRAY),
            (&resources, Type::BYTEA_ARRAY),
            (&records, Type::BYTEA_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
            (&details, Type::TEXT_ARRAY),
            (&now.as_unix_nanos(), Type::INT8),
        ],
    )
    .await?;
    Ok(())
}
