//! The ledger of batches and the producers' accounts in their tables.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use logweir_core::{
    identity::{BatchId, ProducerId},
    record::{Account, Producer, ScoredBatch},
    timestamp::Timestamp,
};
use rusqlite::{
    Connection, OptionalExtension, ToSql, params,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use crate::sqlite::read::rows;
use crate::{
    ledger_rules::{
        Admission, Past, ProducerAccount, conflict_id, dropped_to_json, is_minted_lately,
        report_reuse,
    },
    ranges::{Membership, RangeSet},
    sqlite::errors::Fault,
};

/// Bytes that an entry of the ledger takes with its place in the index, about; the migration that
/// made `tenant_usage` reckons with as many.
const ENTRY_BYTES: i64 = 128;

/// The ledger and the accounts in the course of one transaction.
pub(crate) struct Ledger {
    now: Timestamp,
    /// How long an entry is kept until it is folded.
    age: Duration,
    producers: HashMap<(i64, ProducerId), ProducerRow>,
    /// Entries made, by tenant.
    entered: BTreeMap<i64, i64>,
}

impl Ledger {
    pub(crate) fn new(now: Timestamp, age: Duration) -> Self {
        Self { now, age, producers: HashMap::new(), entered: BTreeMap::new() }
    }

    /// Enters a batch unless it was committed before.
    pub(crate) fn admit(
        &mut self,
        db: &Connection,
        tenant_id: i64,
        batch: &ScoredBatch,
    ) -> Result<Admission<i64>, Fault> {
        let is_minted_lately = is_minted_lately(batch.batch_id, self.now, self.age);
        let (mut producer, mut past, mut is_reused) = (None, Past::Unknown, false);
        if let Some(sent) = &batch.producer {
            let known = self.producer(db, tenant_id, sent)?;
            // Asked before the table of batches: of a folded batch only the sequence is left, and a
            // repeat of it would be entered there as new.
            past = Past::of(&known.folded, sent.sequence, is_minted_lately);
            if past == Past::Committed {
                return Ok(Admission::Duplicate);
            }
            is_reused = known.account.committed.find(sent.sequence) == Membership::In;
            producer = Some((known.key, sent.sequence));
        }
        // The insert itself is the question whether the id is known: one look into the index for a
        // new batch, which nearly all are.
        if let Some(entry) = self.enter(db, tenant_id, batch.batch_id, batch, producer)? {
            if is_reused {
                report_reuse(batch);
            }
            return Ok(past.admit(entry));
        }
        let known: i64 = db
            .prepare_cached("SELECT checksum FROM batches WHERE tenant_id = ?1 AND batch_id = ?2")?
            .query_row(params![tenant_id, batch.batch_id.0], |row| row.get(0))?;
        if known as u64 == batch.checksum {
            return Ok(Admission::Duplicate);
        }
        // Other content under a known id. It is entered too, under an id of its own, so that a
        // sender that repeats it does not fill the dead letters with copies.
        let id = conflict_id(batch.batch_id, batch.checksum);
        Ok(Admission::Conflict { entry: self.enter(db, tenant_id, id, batch, producer)? })
    }

    fn enter(
        &mut self,
        db: &Connection,
        tenant_id: i64,
        batch_id: BatchId,
        batch: &ScoredBatch,
        producer: Option<(i64, u64)>,
    ) -> rusqlite::Result<Option<i64>> {
        let mut insert = db.prepare_cached(
            "INSERT INTO batches (tenant_id, batch_id, checksum, committed_unix_seconds,
                                  producer_key, sequence, stored, dead_lettered)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        )?;
        let inserted = insert.execute(params![
            tenant_id,
            batch_id.0,
            batch.checksum as i64,
            self.now.as_unix_seconds(),
            producer.map(|(key, _)| key),
            producer.map(|(_, sequence)| sequence as i64),
            batch.records.len(),
            batch.rejected.len(),
        ])?;
        *self.entered.entry(tenant_id).or_default() += inserted as i64;
        Ok((inserted == 1).then(|| db.last_insert_rowid()))
    }

    fn producer(
        &mut self,
        db: &Connection,
        tenant_id: i64,
        sent: &Producer,
    ) -> Result<&mut ProducerRow, Fault> {
        use std::collections::hash_map::Entry;
        match self.producers.entry((tenant_id, sent.producer_id)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(load(db, tenant_id, sent)?)),
        }
    }

    /// Notes what became of an admitted batch.
    pub(crate) fn settle(
        &mut self,
        db: &Connection,
        (tenant_id, entry_id): (i64, i64),
        batch: &ScoredBatch,
        stored: u32,
        dead_lettered: u32,
    ) -> rusqlite::Result<()> {
        // Entered as if all could be stored, which is nearly always so: no second write of the row.
        let as_entered = (batch.records.len(), batch.rejected.len());
        if (stored as usize, dead_lettered as usize) != as_entered {
            db.prepare_cached(
                "UPDATE batches SET stored = ?2, dead_lettered = ?3 WHERE entry_id = ?1",
            )?
            .execute(params![entry_id, stored, dead_lettered])?;
        }
        if let Some(sent) = &batch.producer
            && let Some(producer) = self.producers.get_mut(&(tenant_id, sent.producer_id))
        {
            producer.changed = true;
            producer.account.note(batch, sent, stored, dead_lettered);
        }
        Ok(())
    }

    /// Writes the accounts that changed, by key, and what the entries take.
    pub(crate) fn save(self, db: &Connection) -> rusqlite::Result<()> {
        for (tenant_id, entries) in &self.entered {
            note_entries(db, *tenant_id, *entries)?;
        }
        let mut rows: Vec<ProducerRow> =
            self.producers.into_values().filter(|row| row.changed).collect();
        // `folded` is not written: it belongs to upkeep, and what was read here only answers
        // questions.
        rows.sort_unstable_by_key(|row| row.key);
        rows.iter().try_for_each(|row| row.save(db))
    }
}

/// Adds entries of the ledger to what a tenant takes of the disk; fewer than none were folded.
pub(crate) fn note_entries(db: &Connection, tenant_id: i64, entries: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE tenant_usage SET row_bytes = row_bytes + ?2 WHERE tenant_id = ?1")?
        .execute(params![tenant_id, entries * ENTRY_BYTES])?;
    Ok(())
}

/// A row of `producers`.
struct ProducerRow {
    key: i64,
    account: ProducerAccount,
    folded: RangeSet,
    changed: bool,
}

impl ProducerRow {
    fn save(&self, db: &Connection) -> rusqlite::Result<()> {
        db.prepare_cached(
            "UPDATE producers SET service = ?2, instance = ?3, sdk = ?4, sequence = ?5, emitted = ?6,
                 dropped = ?7, rejected_seen = ?8, queued = ?9, spooled = ?10, stored = ?11,
                 dead_lettered = ?12, committed_sequences = ?13, last_received_unix_nano = ?14
             WHERE producer_key = ?1",
        )?
        .execute(params![
            self.key,
            self.account.service,
            self.account.instance,
            self.account.sdk,
            self.account.sequence as i64,
            self.account.account.emitted as i64,
            dropped_to_json(&self.account.account.dropped),
            self.account.account.rejected as i64,
            self.account.account.queued as i64,
            self.account.account.spooled as i64,
            self.account.stored as i64,
            self.account.dead_lettered as i64,
            self.account.committed,
            self.account.last_received.as_unix_nanos(),
        ])?;
        Ok(())
    }
}

fn load(db: &Connection, tenant_id: i64, sent: &Producer) -> Result<ProducerRow, Fault> {
    let mut select = db.prepare_cached(
        "SELECT producer_key, sequence, service, instance, sdk, emitted, dropped, rejected_seen,
                queued, spooled, stored, dead_lettered, committed_sequences, folded_sequences,
                last_received_unix_nano
         FROM producers WHERE tenant_id = ?1 AND producer_id = ?2",
    )?;
    let found = select
        .query_row(params![tenant_id, sent.producer_id.0], |row| {
            // SQLite's integers have a sign. A producer may count to the end of 64 bits, so the
            // bits are kept as they are; nothing is ever compared with them in SQL.
            let bits = |column| row.get(column).map(|number: i64| number as u64);
            Ok(ProducerRow {
                key: row.get(0)?,
                account: ProducerAccount {
                    sequence: bits(1)?,
                    service: row.get(2)?,
                    instance: row.get(3)?,
                    sdk: row.get(4)?,
                    account: Account {
                        emitted: bits(5)?,
                        dropped: row.get::<_, Dropped>(6)?.0,
                        rejected: bits(7)?,
                        queued: bits(8)?,
                        spooled: bits(9)?,
                    },
                    stored: bits(10)?,
                    dead_lettered: bits(11)?,
                    committed: row.get(12)?,
                    last_received: rows::timestamp(row, 14)?,
                },
                folded: row.get(13)?,
                changed: false,
            })
        })
        .optional()?;
    match found {
        Some(row) => Ok(row),
        None => create(db, tenant_id, sent),
    }
}

/// Adds the row of a producer that was not heard of, so that the ledger may refer to its key.
fn create(db: &Connection, tenant_id: i64, sent: &Producer) -> Result<ProducerRow, Fault> {
    // An empty service and a time of 0 until its account is saved. Where its first batch comes to
    // nothing they stay: reports pass over the row, and upkeep deletes it like a silent producer.
    let key = db
        .prepare_cached(
            "INSERT INTO producers (tenant_id, producer_id, service, instance, sdk, sequence, emitted,
                 dropped, rejected_seen, queued, spooled, stored, dead_lettered,
                 committed_sequences, folded_sequences, last_received_unix_nano)
             VALUES (?1, ?2, '', '', '', 0, 0, '[]', 0, 0, 0, 0, 0, x'', x'', 0)",
        )?
        .insert(params![tenant_id, sent.producer_id.0])?;
    let (account, folded) = (ProducerAccount::default(), RangeSet::default());
    Ok(ProducerRow { key, account, folded, changed: false })
}

impl ToSql for RangeSet {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_bytes().into())
    }
}

impl FromSql for RangeSet {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let damaged = || FromSqlError::Other("the ranges of sequences are damaged".into());
        Self::from_bytes(value.as_blob()?).ok_or_else(damaged)
    }
}

/// The drops of an account as read from the table.
pub(crate) struct Dropped(pub(crate) Vec<(String, u64)>);

impl FromSql for Dropped {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let dropped = serde_json::from_str(value.as_str()?);
        dropped.map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}
