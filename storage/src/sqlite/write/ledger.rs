//! The ledger of batches in its table.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use logweir_core::{
    identity::{BatchId, ProducerId},
    record::{Producer, ScoredBatch},
    timestamp::Timestamp,
};
use rusqlite::{Connection, params};

use super::producers::{ProducerRow, load, save_totals};
use crate::{
    ledger_rules::{Admission, Past, conflict_id, is_minted_lately, report_reuse},
    producer_totals::TotalChanges,
    ranges::Membership,
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
    totals: TotalChanges<i64>,
    /// Entries made, by tenant.
    entered: BTreeMap<i64, i64>,
}

impl Ledger {
    pub(crate) fn new(now: Timestamp, age: Duration) -> Self {
        let totals = TotalChanges::default();
        Self { now, age, producers: HashMap::new(), totals, entered: BTreeMap::new() }
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
                                  producer_key, sequence, stored, dead_lettered, received_unix_nano)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
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
            batch.received_at.as_unix_nanos(),
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
            self.totals.subtract(tenant_id, &producer.account);
            producer.account.note(batch, sent, stored, dead_lettered);
            self.totals.add(tenant_id, &producer.account);
        }
        Ok(())
    }

    /// Writes the accounts that changed, by key, their sums, and what the entries take.
    pub(crate) fn save(self, db: &Connection) -> rusqlite::Result<()> {
        for (tenant_id, entries) in &self.entered {
            note_entries(db, *tenant_id, *entries)?;
        }
        save_totals(db, &self.totals)?;
        let mut rows: Vec<ProducerRow> =
            self.producers.into_values().filter(|row| row.changed).collect();
        // `folded` is not written: it belongs to upkeep, and what was read here only answers
        // questions.
        rows.sort_unstable_by_key(|row| row.key);
        rows.iter().try_for_each(|row| row.save(db, true))
    }
}

/// Counts a repeat of a sender without an account. What the queue hands out once more is none.
pub(crate) fn note_repeat(
    db: &Connection,
    tenant_id: i64,
    batch: &ScoredBatch,
) -> rusqlite::Result<()> {
    if batch.producer.is_some() {
        return Ok(());
    }
    let later = db
        .prepare_cached(
            "UPDATE batches SET received_unix_nano = ?3
             WHERE tenant_id = ?1 AND batch_id = ?2 AND ifnull(received_unix_nano, 0) < ?3",
        )?
        .execute(params![tenant_id, batch.batch_id.0, batch.received_at.as_unix_nanos()])?;
    if later > 0 {
        db.prepare_cached(
            "INSERT INTO repeats (tenant_id, logs) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET logs = logs + excluded.logs",
        )?
        .execute(params![tenant_id, batch.records.len() + batch.rejected.len()])?;
    }
    Ok(())
}

/// Adds entries of the ledger to what a tenant takes of the disk; fewer than none were folded.
pub(crate) fn note_entries(db: &Connection, tenant_id: i64, entries: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE tenant_usage SET row_bytes = row_bytes + ?2 WHERE tenant_id = ?1")?
        .execute(params![tenant_id, entries * ENTRY_BYTES])?;
    Ok(())
}
