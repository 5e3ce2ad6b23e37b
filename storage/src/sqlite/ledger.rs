//! What makes delivery once: the ledger of batches and the producers' accounts.
//!
//! Of a batch whose entry was folded only its producer's sequence is left, so that a repeat is told
//! by that alone. This holds because a producer gives each sequence to one batch only. Where it can
//! be seen that one did not, or where the sequence is forgotten, the batch may be new and may be a
//! repeat: it is put aside whole, so that it is neither lost in silence nor stored twice.

use std::{collections::HashMap, time::Duration};

use logweir_core::{
    identity::{BatchId, ProducerId},
    record::{Account, Producer, ScoredBatch},
};
use metrics::counter;
use rusqlite::{
    Connection, OptionalExtension, ToSql, params,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::faults::Fault;
use crate::ranges::{Membership, RangeSet};

/// What the ledger says of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Not seen before.
    New { entry_id: i64 },
    /// Committed before.
    Duplicate,
    /// The id was used with other content. No entry if this content was put aside before.
    Conflict { entry_id: Option<i64> },
    /// It cannot be told whether it was committed before.
    Doubtful { entry_id: i64, doubt: Doubt },
}

/// Why it cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Its sequence was folded long ago, but its id was minted lately.
    SequenceReused,
    /// Its producer left too many gaps to be remembered.
    SequenceForgotten,
}

/// The ledger and the accounts in the course of one transaction.
pub(super) struct Ledger {
    now_unix_nano: i64,
    /// How long an entry is kept until it is folded.
    age: Duration,
    producers: HashMap<(i64, ProducerId), ProducerRow>,
}

impl Ledger {
    pub(super) fn new(now_unix_nano: i64, age: Duration) -> Self {
        Self { now_unix_nano, age, producers: HashMap::new() }
    }

    /// Enters a batch unless it was committed before.
    pub(super) fn admit(
        &mut self,
        db: &Connection,
        tenant_id: i64,
        batch: &ScoredBatch,
    ) -> Result<Admission, Fault> {
        let minted_lately = self.is_minted_lately(batch.batch_id);
        let (mut producer, mut doubt, mut is_reused) = (None, None, false);
        if let Some(sent) = &batch.producer {
            let known = self.producer(db, tenant_id, sent)?;
            match known.folded.find(sent.sequence) {
                Membership::In if minted_lately => doubt = Some(Doubt::SequenceReused),
                Membership::In => return Ok(Admission::Duplicate),
                Membership::Forgotten => doubt = Some(Doubt::SequenceForgotten),
                Membership::Out => {}
            }
            is_reused = known.committed.find(sent.sequence) == Membership::In;
            producer = Some((known.key, sent.sequence));
        }
        if let Some(entry_id) = self.enter(db, tenant_id, batch.batch_id, batch, producer)? {
            if is_reused {
                report_reuse(batch);
            }
            return Ok(match doubt {
                Some(doubt) => Admission::Doubtful { entry_id, doubt },
                None => Admission::New { entry_id },
            });
        }
        let known: i64 = db
            .prepare_cached("SELECT checksum FROM batches WHERE tenant_id = ?1 AND batch_id = ?2")?
            .query_row(params![tenant_id, batch.batch_id.0], |row| row.get(0))?;
        if known as u64 == batch.checksum {
            return Ok(Admission::Duplicate);
        }
        // The content that conflicts has an entry of its own, so that its repeats add nothing.
        let id = conflict_id(batch.batch_id, batch.checksum);
        Ok(Admission::Conflict { entry_id: self.enter(db, tenant_id, id, batch, producer)? })
    }

    /// Whether the id says that it is younger than anything folded. Half of the age is left for the
    /// clocks of senders.
    fn is_minted_lately(&self, batch_id: BatchId) -> bool {
        batch_id.minted_unix_ms().is_some_and(|minted_unix_ms| {
            let age_ms = i128::from(self.now_unix_nano / 1_000_000) - i128::from(minted_unix_ms);
            age_ms < (self.age.as_millis() / 2) as i128
        })
    }

    fn enter(
        &self,
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
            self.now_unix_nano.div_euclid(1_000_000_000),
            producer.map(|(key, _)| key),
            producer.map(|(_, sequence)| sequence as i64),
            batch.records.len(),
            batch.rejected.len(),
        ])?;
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
    pub(super) fn settle(
        &mut self,
        db: &Connection,
        (tenant_id, entry_id): (i64, i64),
        batch: &ScoredBatch,
        stored: u32,
        dead_lettered: u32,
    ) -> rusqlite::Result<()> {
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
            producer.note(batch, sent, stored, dead_lettered);
        }
        Ok(())
    }

    /// Writes the accounts that changed, by key.
    pub(super) fn save(self, db: &Connection) -> rusqlite::Result<()> {
        let mut rows: Vec<ProducerRow> =
            self.producers.into_values().filter(|row| row.changed).collect();
        rows.sort_unstable_by_key(|row| row.key);
        rows.iter().try_for_each(|row| row.save(db))
    }
}

/// Two batches of one sequence: told while the first is in the ledger.
fn report_reuse(batch: &ScoredBatch) {
    let Some(sent) = &batch.producer else { return };
    counter!("logweir_storage_sequences_reused_total").increment(1);
    // Counted only: there may be one with every batch.
    tracing::debug!(tenant = %batch.tenant, producer_id = %sent.producer_id, sequence = sent.sequence,
        sdk = sent.sdk, "a producer gave one sequence to two batches: later on they would be taken \
        for one and the same");
}

fn conflict_id(batch_id: BatchId, checksum: u64) -> BatchId {
    BatchId(xxh3_128_with_seed(&batch_id.0, checksum).to_be_bytes())
}

/// A row of `producers`.
struct ProducerRow {
    key: i64,
    sequence: u64,
    service: String,
    instance: String,
    sdk: String,
    account: Account,
    stored: u64,
    dead_lettered: u64,
    committed: RangeSet,
    folded: RangeSet,
    last_received_unix_nano: i64,
    changed: bool,
}

impl ProducerRow {
    fn note(&mut self, batch: &ScoredBatch, sent: &Producer, stored: u32, dead_lettered: u32) {
        self.changed = true;
        self.stored += u64::from(stored);
        self.dead_lettered += u64::from(dead_lettered);
        self.committed.insert(sent.sequence);
        self.last_received_unix_nano = self.last_received_unix_nano.max(batch.received_unix_nano);
        if sent.sequence >= self.sequence {
            self.sequence = sent.sequence;
            self.account.clone_from(&sent.account);
            self.sdk.clone_from(&sent.sdk);
            batch.resource.service.as_str().clone_into(&mut self.service);
            self.instance.clone_from(&batch.resource.instance);
        }
    }

    fn save(&self, db: &Connection) -> rusqlite::Result<()> {
        db.prepare_cached(
            "UPDATE producers SET service = ?2, instance = ?3, sdk = ?4, sequence = ?5, emitted = ?6,
                 dropped = ?7, rejected_seen = ?8, queued = ?9, spooled = ?10, stored = ?11,
                 dead_lettered = ?12, committed_sequences = ?13, last_received_unix_nano = ?14
             WHERE producer_key = ?1",
        )?
        .execute(params![
            self.key,
            self.service,
            self.instance,
            self.sdk,
            self.sequence as i64,
            self.account.emitted as i64,
            dropped_to_json(&self.account.dropped),
            self.account.rejected as i64,
            self.account.queued as i64,
            self.account.spooled as i64,
            self.stored as i64,
            self.dead_lettered as i64,
            self.committed,
            self.last_received_unix_nano,
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
            let bits = |column| row.get(column).map(|number: i64| number as u64);
            Ok(ProducerRow {
                key: row.get(0)?,
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
                folded: row.get(13)?,
                last_received_unix_nano: row.get(14)?,
                changed: false,
            })
        })
        .optional()?;
    match found {
        Some(row) => Ok(row),
        None => create(db, tenant_id, sent),
    }
}

fn create(db: &Connection, tenant_id: i64, sent: &Producer) -> Result<ProducerRow, Fault> {
    let key = db
        .prepare_cached(
            "INSERT INTO producers (tenant_id, producer_id, service, instance, sdk, sequence, emitted,
                 dropped, rejected_seen, queued, spooled, stored, dead_lettered,
                 committed_sequences, folded_sequences, last_received_unix_nano)
             VALUES (?1, ?2, '', '', '', 0, 0, '[]', 0, 0, 0, 0, 0, x'', x'', 0)",
        )?
        .insert(params![tenant_id, sent.producer_id.0])?;
    Ok(ProducerRow {
        key,
        sequence: 0,
        service: String::new(),
        instance: String::new(),
        sdk: String::new(),
        account: Account::default(),
        stored: 0,
        dead_lettered: 0,
        committed: RangeSet::default(),
        folded: RangeSet::default(),
        last_received_unix_nano: 0,
        changed: false,
    })
}

fn dropped_to_json(dropped: &[(String, u64)]) -> String {
    serde_json::json!(dropped).to_string()
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
pub(super) struct Dropped(pub(super) Vec<(String, u64)>);

impl FromSql for Dropped {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let dropped = serde_json::from_str(value.as_str()?);
        dropped.map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}
