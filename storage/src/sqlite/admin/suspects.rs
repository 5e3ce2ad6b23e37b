//! Batches that may end the process that tries to store them: each trial is noted before it begins,
//! so that the note survives the process.

use logweir_core::{
    identity::{BatchId, Tenant},
    timestamp::Timestamp,
};
use rusqlite::{Connection, params};

use crate::TRIAL_KEPT;

/// Notes a trial, and forgets those long ago. How often one was noted before.
pub(crate) fn begin(
    db: &Connection,
    tenant: &Tenant,
    batch_id: BatchId,
    now: Timestamp,
) -> rusqlite::Result<u32> {
    let before = db
        .prepare_cached(
            "INSERT INTO trials (tenant, batch_id, begun, begun_unix_nano) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT DO UPDATE SET begun = begun + 1, begun_unix_nano = ?3
             RETURNING begun - 1",
        )?
        .query_row(params![tenant.as_str(), batch_id.0, now.as_unix_nanos()], |row| row.get(0))?;
    let forgotten = now - TRIAL_KEPT;
    db.prepare_cached("DELETE FROM trials WHERE begun_unix_nano < ?1")?
        .execute([forgotten.as_unix_nanos()])?;
    Ok(before)
}

/// Forgets a batch's trials.
pub(crate) fn end(db: &Connection, tenant: &Tenant, batch_id: BatchId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM trials WHERE tenant = ?1 AND batch_id = ?2")?
        .execute(params![tenant.as_str(), batch_id.0])?;
    Ok(())
}
