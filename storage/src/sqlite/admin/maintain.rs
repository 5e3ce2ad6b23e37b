//! What goes on beside writing and reading, in small steps: old entries of the ledger are folded
//! into their producers, silent producers forgotten, and small blocks merged. What is deleted when is
//! in `retention`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use logweir_core::{
    filter::{Expression, Filter, Term, TextField},
    limits::PRODUCER_RETENTION,
    timestamp::Timestamp,
};
use metrics::counter;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::merge::{Candidate, Place, choose, cut};
use crate::sqlite::{
    blocks::{self, Origin},
    errors::Fault,
    ids::Ids,
    write::{ledger::note_entries, producers::forget_silent},
};
use crate::{
    block::{Block, BlockError, EncodedBlock, Encoder, Window},
    ranges::RangeSet,
};

/// Entries of the ledger that a step folds.
// A transaction of the one writing thread, and writes wait behind it: small enough to be over soon.
const FOLDED_PER_STEP: usize = 2_000;
/// Silent producers that a step forgets.
const PRODUCERS_PER_STEP: usize = 250;

/// Folds old entries of the ledger and forgets silent producers. Whether there is more to do.
pub(crate) fn fold(db: &Transaction<'_>, now: Timestamp, age: Duration) -> Result<bool, Fault> {
    let cutoff = (now - age).as_unix_seconds();
    let mut select = db.prepare_cached(
        "SELECT entry_id, producer_key, sequence, committed_unix_seconds, tenant_id FROM batches
         ORDER BY entry_id LIMIT ?1",
    )?;
    // By the key, which ascends in order of commit: no index on the time is needed, which every
    // write would have to keep up.
    let mut rows = select.query([FOLDED_PER_STEP])?;
    let (mut last, mut count) = (None, 0);
    let mut folded: BTreeMap<i64, i64> = BTreeMap::new();
    let mut sequences: Vec<(i64, u64)> = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(3)? > cutoff {
            break;
        }
        last = Some(row.get::<_, i64>(0)?);
        count += 1;
        *folded.entry(row.get(4)?).or_default() += 1;
        if let (Some(producer), Some(sequence)) = (row.get(1)?, row.get::<_, Option<i64>>(2)?) {
            sequences.push((producer, sequence as u64));
        }
    }
    // Deleted and folded in one transaction. Between the two a repeat would find neither the entry
    // nor the sequence, and be stored twice.
    if let Some(last) = last {
        db.execute("DELETE FROM batches WHERE entry_id <= ?1", [last])?;
    }
    for (tenant_id, entries) in folded {
        note_entries(db, tenant_id, -entries)?;
    }
    sequences.sort_unstable();
    for of_producer in sequences.chunk_by(|a, b| a.0 == b.0) {
        fold_producer(db, of_producer)?;
    }
    let more = forget_silent(db, now - PRODUCER_RETENTION, PRODUCERS_PER_STEP)?;
    Ok(more || count == FOLDED_PER_STEP)
}

fn fold_producer(db: &Transaction<'_>, sequences: &[(i64, u64)]) -> Result<(), Fault> {
    let Some(&(key, _)) = sequences.first() else { return Ok(()) };
    let folded: Option<RangeSet> = db
        .prepare_cached("SELECT folded_sequences FROM producers WHERE producer_key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    // The producer may be forgotten already: there the time of receipt counts, here that of the
    // commit, and the clock may have been set between the two.
    let Some(mut folded) = folded else { return Ok(()) };
    sequences.iter().for_each(|(_, sequence)| folded.insert(*sequence));
    db.prepare_cached("UPDATE producers SET folded_sequences = ?2 WHERE producer_key = ?1")?
        .execute(params![key, folded])?;
    Ok(())
}

/// What comes of looking for blocks to merge.
pub(crate) enum Merge {
    /// A run was merged in memory.
    Merged(Merged),
    /// A block that was to be merged cannot be read.
    Damaged(i64),
}

/// What a merge makes of a run of blocks.
pub(crate) struct Merged {
    origin: Origin,
    inputs: Vec<i64>,
    outputs: Vec<EncodedBlock>,
}

/// Chooses a run of the next tenant that has one and merges it in memory, from a snapshot. Nothing
/// if there is none worth it. `last_tenant` is whose turn it was.
pub(crate) fn merge(
    db: &Connection,
    last_tenant: &AtomicI64,
    now: Timestamp,
) -> Result<Option<Merge>, Fault> {
    let snapshot = db.unchecked_transaction()?;
    let last = last_tenant.load(Ordering::Relaxed);
    // In turn, from the tenant after the last one: by number alone, one that always has something
    // to merge would keep all others waiting.
    let tenants: Vec<i64> = snapshot
        .prepare_cached("SELECT tenant_id FROM tenants ORDER BY tenant_id <= ?1, tenant_id")?
        .query_map([last], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for tenant_id in tenants {
        // Noted before, so that a tenant with a fault does not keep the others waiting.
        last_tenant.store(tenant_id, Ordering::Relaxed);
        let candidates = candidates(&snapshot, tenant_id)?;
        let run = choose(&candidates, now.as_unix_seconds());
        if run.is_empty() {
            continue;
        }
        let inputs: Vec<i64> = run.iter().map(|block| block.block_id).collect();
        let bodies = bodies(&snapshot, &inputs)?;
        let services = services(&snapshot, &inputs)?;
        // Merging takes long, and an open snapshot keeps the write-ahead log from being cut. The
        // bodies are in memory by now, and a block is never changed, only deleted (see `swap`).
        drop(snapshot);
        let mut blocks = Vec::with_capacity(inputs.len());
        for (block_id, body) in inputs.iter().zip(&bodies) {
            match Block::open(body) {
                Ok(block) => blocks.push(block),
                Err(_) => return Ok(Some(Merge::Damaged(*block_id))),
            }
        }
        let outputs = merge_blocks(&blocks, &services)
            .map_err(|error| Fault::corrupt(format!("one of the blocks {inputs:?}: {error}")))?;
        let generation = run.iter().map(|block| block.generation).max().unwrap_or(0) + 1;
        let origin = Origin { tenant_id, generation, now };
        return Ok(Some(Merge::Merged(Merged { origin, inputs, outputs })));
    }
    Ok(None)
}

/// Puts what a merge came to into the database.
pub(crate) fn finish(db: &Transaction<'_>, ids: &mut Ids, merge: &Merge) -> Result<(), Fault> {
    match merge {
        Merge::Merged(merged) => {
            if !swap(db, ids, merged)? {
                tracing::debug!("a merge came to nothing: one of its blocks is gone");
            }
        }
        // Left as it is, so that the others are merged; whoever reads it is told.
        Merge::Damaged(block_id) => {
            tracing::error!(block_id, "a block of logs is damaged; the others are not affected");
            counter!("logweir_storage_damaged_blocks_total").increment(1);
            db.execute("UPDATE blocks SET is_settled = 1 WHERE block_id = ?1", [block_id])?;
        }
    }
    Ok(())
}

/// Blocks that are not settled, oldest first.
fn candidates(db: &Connection, tenant_id: i64) -> rusqlite::Result<Vec<Candidate>> {
    db.prepare_cached(
        "SELECT block_id, generation, logs, text_bytes, made_unix_seconds FROM blocks
         WHERE tenant_id = ?1 AND is_settled = 0 ORDER BY block_id LIMIT 10000",
    )?
    .query_map([tenant_id], |row| {
        Ok(Candidate {
            block_id: row.get(0)?,
            generation: row.get(1)?,
            logs: row.get(2)?,
            text_bytes: row.get(3)?,
            made_unix_seconds: row.get(4)?,
        })
    })?
    .collect()
}

fn bodies(db: &Connection, blocks: &[i64]) -> rusqlite::Result<Vec<Vec<u8>>> {
    let mut select = db.prepare_cached("SELECT body FROM block_bodies WHERE block_id = ?1")?;
    blocks.iter().map(|block_id| select.query_row([block_id], |row| row.get(0))).collect()
}

/// The names of the services in the blocks.
fn services(db: &Connection, blocks: &[i64]) -> rusqlite::Result<BTreeSet<String>> {
    let mut select = db.prepare_cached(
        "SELECT name FROM block_services JOIN services USING (service_id) WHERE block_id = ?1",
    )?;
    let mut names = BTreeSet::new();
    for block_id in blocks {
        for name in select.query_map([block_id], |row| row.get(0))? {
            names.insert(name?);
        }
    }
    Ok(names)
}

/// Only the places of the logs are sorted; the logs themselves are never put together.
fn merge_blocks(
    blocks: &[Block<'_>],
    services: &BTreeSet<String>,
) -> Result<Vec<EncodedBlock>, BlockError> {
    let mut places = Vec::new();
    for (service, name) in (0..).zip(services) {
        let of_service = Term::Text(TextField::Service, name.clone());
        let filter = Filter { expression: Expression::Term(of_service) }.into();
        for (number, block) in (0..).zip(blocks) {
            for row in block.matching(&filter, &Window::ALL, &|| true)? {
                places.push(Place { service, id: block.id(row)?, block: number, row });
            }
        }
    }
    // Logs are found by service, so one of a service that its block is not listed for would be in
    // no output, and be lost when the inputs are deleted.
    if places.len() != blocks.iter().map(Block::row_count).sum::<usize>() {
        return Err(BlockError::Corrupt("it has logs of a service that it is not listed for"));
    }
    let mut encoder = Encoder::new();
    let merge = |part: &[Place]| {
        let places: Vec<(u32, u32)> = part.iter().map(|place| (place.block, place.row)).collect();
        encoder.merge(blocks, &places)
    };
    cut(&mut places, services.len()).into_iter().map(merge).collect()
}

/// Puts merged blocks in the place of their inputs, unless one of those is gone; whether it did.
fn swap(db: &Transaction<'_>, ids: &mut Ids, merged: &Merged) -> Result<bool, Fault> {
    let mut exists = db.prepare_cached("SELECT 1 FROM blocks WHERE block_id = ?1")?;
    // Retention may have deleted an input since it was read: its logs would come back.
    for block_id in &merged.inputs {
        if !exists.exists([block_id])? {
            return Ok(false);
        }
    }
    for block_id in &merged.inputs {
        blocks::delete(db, *block_id)?;
    }
    for block in &merged.outputs {
        blocks::insert(db, ids, merged.origin, block)?;
        counter!("logweir_storage_block_bytes_total", "kind" => "merged")
            .increment(blocks::disk_bytes(block));
    }
    counter!("logweir_storage_merged_blocks_total").increment(merged.inputs.len() as u64);
    Ok(true)
}
