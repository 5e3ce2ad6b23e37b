//! The tables of blocks: a row for pruning, a row per service in it, the word filter and the body.

use logweir_core::{
    identity::Service,
    record::{Record, Value},
};
use rusqlite::{Connection, Transaction, params};

use super::{faults::Fault, ids::Ids, merge::is_settled};
use crate::block::{BlockError, Effort, EncodedBlock, Encoder, Row};

/// Set in a content mask if an anomaly occurs; the bits below are the levels.
pub(super) const ANOMALY_BIT: u8 = 1 << 7;

/// A block that is ready to be added.
pub(super) struct NewBlock {
    encoded: EncodedBlock,
    text_bytes: usize,
    parts: Vec<Part>,
}

/// What a block holds of one service.
struct Part {
    service: Service,
    logs: u32,
    time_min: i64,
    time_max: i64,
    content_mask: u8,
}

impl NewBlock {
    /// Encodes rows, at least one; those of a service lie side by side.
    pub(super) fn encode(
        encoder: &mut Encoder,
        rows: &[Row<'_>],
        effort: Effort,
    ) -> Result<Self, BlockError> {
        Ok(Self {
            encoded: encoder.encode(rows, effort)?,
            text_bytes: rows.iter().map(|row| text_bytes(&row.scored.record)).sum(),
            parts: rows.chunk_by(|a, b| a.service == b.service).map(Part::of).collect(),
        })
    }

    /// Bytes on the disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        (self.encoded.body.len() + self.encoded.word_filter.len()) as u64
    }
}

/// Bytes of a log before compression, about.
pub(super) fn text_bytes(record: &Record) -> usize {
    let attributes = record.attributes.iter().map(|attribute| {
        let value = match &attribute.value {
            Value::String(text) | Value::Json(text) => text.len(),
            Value::Int(_) | Value::Double(_) | Value::Bool(_) => 8,
        };
        attribute.key.len() + value
    });
    record.message.len() + record.logger.len() + attributes.sum::<usize>()
}

/// Adds a block whose logs have been merged `generation` times.
pub(super) fn insert(
    db: &Transaction<'_>,
    ids: &mut Ids,
    tenant_id: i64,
    generation: u32,
    block: &NewBlock,
) -> Result<(), Fault> {
    let summary = &block.encoded.summary;
    let content_mask = summary.level_mask | if summary.has_anomaly { ANOMALY_BIT } else { 0 };
    let block_id = db
        .prepare_cached(
            "INSERT INTO blocks (tenant_id, generation, logs, text_bytes, disk_bytes,
                                 time_min_unix_nano, time_max_unix_nano, content_mask, is_settled)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .insert(params![
            tenant_id,
            generation,
            summary.rows,
            block.text_bytes,
            block.disk_bytes(),
            summary.time_min_unix_nano,
            summary.time_max_unix_nano,
            content_mask,
            is_settled(generation, summary.rows.into(), block.text_bytes as u64),
        ])?;
    let mut insert_part =
        db.prepare_cached("INSERT INTO block_services VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for part in &block.parts {
        let service_id = ids.service(db, tenant_id, &part.service)?;
        insert_part.execute(params![
            block_id,
            service_id,
            part.logs,
            part.time_min,
            part.time_max,
            part.content_mask,
        ])?;
    }
    db.prepare_cached("INSERT INTO block_words (block_id, words) VALUES (?1, ?2)")?
        .execute(params![block_id, block.encoded.word_filter])?;
    db.prepare_cached("INSERT INTO block_bodies (block_id, body) VALUES (?1, ?2)")?
        .execute(params![block_id, block.encoded.body])?;
    Ok(())
}

impl Part {
    fn of(rows: &[Row<'_>]) -> Self {
        let mut part = Self {
            service: rows[0].service.clone(),
            logs: rows.len() as u32,
            time_min: i64::MAX,
            time_max: i64::MIN,
            content_mask: 0,
        };
        for row in rows {
            let time = row.scored.record.time_unix_nano;
            part.time_min = part.time_min.min(time);
            part.time_max = part.time_max.max(time);
            part.content_mask |= 1 << row.scored.level as u8;
            if row.scored.is_anomaly {
                part.content_mask |= ANOMALY_BIT;
            }
        }
        part
    }
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
