//! The tables of blocks: a row for pruning, a row per service in it, the word filter and the body.

use rusqlite::{Connection, Transaction, params};

use super::{admin::merge::is_settled, errors::Fault, ids::Ids};
use crate::block::EncodedBlock;

/// Set in a content mask if an anomaly occurs; the bits below are the levels.
pub(super) const ANOMALY_BIT: u8 = 1 << 7;

const fn content_mask(level_mask: u8, has_anomaly: bool) -> u8 {
    if has_anomaly { level_mask | ANOMALY_BIT } else { level_mask }
}

/// Bytes of a block on the disk.
pub(super) const fn disk_bytes(block: &EncodedBlock) -> u64 {
    (block.body.len() + block.word_filter.len()) as u64
}

/// Where a block comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) tenant_id: i64,
    /// How often its logs have been merged.
    pub(super) generation: u32,
    pub(super) now_unix_nano: i64,
}

/// Adds a block.
pub(super) fn insert(
    db: &Transaction<'_>,
    ids: &mut Ids,
    Origin { tenant_id, generation, now_unix_nano }: Origin,
    block: &EncodedBlock,
) -> Result<(), Fault> {
    let summary = &block.summary;
    let block_id = db
        .prepare_cached(
            "INSERT INTO blocks (tenant_id, generation, logs, text_bytes, disk_bytes, made_unix_seconds,
                                 time_min_unix_nano, time_max_unix_nano, content_mask, is_settled)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .insert(params![
            tenant_id,
            generation,
            summary.rows,
            summary.text_bytes,
            disk_bytes(block),
            now_unix_nano.div_euclid(1_000_000_000),
            summary.time_min_unix_nano,
            summary.time_max_unix_nano,
            content_mask(summary.level_mask, summary.has_anomaly),
            is_settled(generation, summary.rows.into(), summary.text_bytes),
        ])?;
    let mut insert_part =
        db.prepare_cached("INSERT INTO block_services VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for part in &summary.parts {
        let service_id = ids.service(db, tenant_id, &part.service)?;
        insert_part.execute(params![
            block_id,
            service_id,
            part.rows,
            part.time_min_unix_nano,
            part.time_max_unix_nano,
            content_mask(part.level_mask, part.has_anomaly),
        ])?;
    }
    db.prepare_cached("INSERT INTO block_words (block_id, words) VALUES (?1, ?2)")?
        .execute(params![block_id, block.word_filter])?;
    db.prepare_cached("INSERT INTO block_bodies (block_id, body) VALUES (?1, ?2)")?
        .execute(params![block_id, block.body])?;
    Ok(())
}

/// Deletes a block; whether it was there.
pub(super) fn delete(db: &Connection, block_id: i64) -> rusqlite::Result<bool> {
    let deleted =
        db.prepare_cached("DELETE FROM blocks WHERE block_id = ?1")?.execute([block_id])?;
    for sql in [
        "DELETE FROM block_services WHERE block_id = ?1",
        "DELETE FROM block_words WHERE block_id = ?1",
        "DELETE FROM block_bodies WHERE block_id = ?1",
    ] {
        db.prepare_cached(sql)?.execute([block_id])?;
    }
    Ok(deleted == 1)
}
