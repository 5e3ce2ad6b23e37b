//! Logs that could not be stored, kept until someone replays or discards them.

use logweir_core::{
    identity::BatchId,
    record::{RejectedRecord, ScoredBatch},
    timestamp::Timestamp,
    wire,
};
use rusqlite::{
    CachedStatement, Connection, OptionalExtension, Row, Transaction, params, types::Value,
};

use crate::sqlite::read::rows;
use crate::{
    DeadLetter,
    sqlite::{admin::numbers, errors::Fault},
};

const COLUMNS: &str = "number, created_unix_nano, batch_id, record_index, resource, record,
                       reason, detail, replayed_unix_nano";

/// Puts logs aside.
pub(crate) struct DeadLetters<'a> {
    db: &'a Transaction<'a>,
    insert: CachedStatement<'a>,
    now: Timestamp,
}

impl<'a> DeadLetters<'a> {
    pub(crate) fn new(db: &'a Transaction<'a>, now: Timestamp) -> rusqlite::Result<Self> {
        let insert = db.prepare_cached(
            "INSERT INTO dead_letters (tenant_id, created_unix_nano, batch_id, record_index, resource,
                                       record, reason, detail, number)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        Ok(Self { db, insert, now })
    }

    /// Puts logs of a batch aside; how many.
    pub(crate) fn add(
        &mut self,
        tenant_id: i64,
        batch: &ScoredBatch,
        rejected: Vec<RejectedRecord>,
    ) -> rusqlite::Result<u32> {
        let count = rejected.len() as u32;
        if count == 0 {
            return Ok(0);
        }
        // Once for all of them: a whole batch in conflict may be 10,000 letters of one resource.
        let resource = wire::encode_resource(&batch.resource);
        let first = numbers::take(self.db, tenant_id, "dead_letters", count)?;
        for (number, RejectedRecord { record, reason, detail }) in (first..).zip(rejected) {
            self.insert.execute(params![
                tenant_id,
                self.now.as_unix_nanos(),
                batch.batch_id.0,
                record.index,
                resource,
                wire::encode_record(&record),
                reason,
                detail,
                number,
            ])?;
        }
        Ok(count)
    }
}

/// Newest first, with the count of all.
pub(crate) fn list(
    db: &Connection,
    tenant_id: i64,
    before: Option<u64>,
    limit: usize,
) -> Result<(Vec<DeadLetter>, u64), Fault> {
    let total = db
        .prepare_cached("SELECT dead_letters FROM tenant_usage WHERE tenant_id = ?1")?
        .query_row([tenant_id], |row| row.get::<_, u64>(0))?;
    // Ids come from a caller. One that no row can have is beyond all of them.
    let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM dead_letters WHERE tenant_id = ?1 AND number < ?2
         ORDER BY number DESC LIMIT ?3"
    ))?;
    let mut rows = select.query(params![tenant_id, before, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok((found, total))
}

/// Those named, or all never replayed; oldest first.
pub(crate) fn take(
    db: &Connection,
    tenant_id: i64,
    ids: &[u64],
    limit: usize,
) -> Result<Vec<DeadLetter>, Fault> {
    let mut found = Vec::new();
    if ids.is_empty() {
        let mut select = db.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM dead_letters WHERE tenant_id = ?1 AND replayed_unix_nano IS NULL
             ORDER BY number LIMIT ?2"
        ))?;
        let mut rows = select.query(params![tenant_id, limit])?;
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        return Ok(found);
    }
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM dead_letters WHERE tenant_id = ?1 AND number = ?2"
    ))?;
    // One look-up for each, since the caller bounds their number and SQLite has no list parameter.
    for id in ascending(ids) {
        if found.len() == limit {
            break;
        }
        let letter = select.query_row(params![tenant_id, id], |row| Ok(read(row))).optional()?;
        found.extend(letter.transpose()?);
    }
    Ok(found)
}

/// Notes that they were replayed.
pub(crate) fn mark_replayed(
    db: &Connection,
    tenant_id: i64,
    ids: &[u64],
    now: Timestamp,
) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached(
        "UPDATE dead_letters SET replayed_unix_nano = ?3 WHERE tenant_id = ?1 AND number = ?2",
    )?;
    for id in ascending(ids) {
        update.execute(params![tenant_id, id, now.as_unix_nanos()])?;
    }
    Ok(())
}

/// Deletes those named, or all; how many there were.
pub(crate) fn discard(
    db: &Connection,
    tenant_id: i64,
    ids: Option<&[u64]>,
) -> rusqlite::Result<u64> {
    let Some(ids) = ids else {
        let all = db.execute("DELETE FROM dead_letters WHERE tenant_id = ?1", [tenant_id])?;
        return Ok(all as u64);
    };
    let mut delete =
        db.prepare_cached("DELETE FROM dead_letters WHERE tenant_id = ?1 AND number = ?2")?;
    let mut deleted = 0;
    for id in ascending(ids) {
        deleted += delete.execute(params![tenant_id, id])? as u64;
    }
    Ok(deleted)
}

/// Each id once; those too large for any row are of none.
fn ascending(ids: &[u64]) -> Vec<Value> {
    let mut ids: Vec<i64> = ids.iter().filter_map(|id| i64::try_from(*id).ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(Value::from).collect()
}

fn read(row: &Row<'_>) -> Result<DeadLetter, Fault> {
    let damaged = |error: wire::WireError| Fault::corrupt(format!("a dead letter: {error}"));
    let index = row.get(3)?;
    Ok(DeadLetter {
        dead_letter_id: row.get(0)?,
        created_at: rows::timestamp(row, 1)?,
        batch_id: BatchId(row.get(2)?),
        resource: wire::decode_resource(row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?)
            .map_err(damaged)?,
        record: wire::decode_record(
            index,
            row.get_ref(5)?.as_blob().map_err(rusqlite::Error::from)?,
        )
        .map_err(damaged)?,
        reason: row.get(6)?,
        detail: row.get(7)?,
        replayed_at: rows::maybe_timestamp(row, 8)?,
    })
}
