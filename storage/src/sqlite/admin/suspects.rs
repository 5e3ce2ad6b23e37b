//! Batches that may end who tries them.

use logweir_core::identity::{BatchId, Tenant};
use rusqlite::{Connection, params};

use crate::TRIAL_KEPT;

/// Notes a trial, and forgets those long ago. How often one was noted before.
pub(crate) fn begin(
    db: &Connection,
    tenant: &Tenant,
    batch_id: BatchId,
    now_unix_nano: i64,
) -> rusqlite::Result<u32> {
    let before = db
        .prepare_cached(
            "INSERT INTO trials (tenant, batch_id, begun, begun_unix_nano) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT DO UPDATE SET begun = begun + 1, begun_unix_nano = ?3
             RETURNING begun - 1",
        )?
        .query_row(params![tenant.as_str(), batch_id.0, now_unix_nano], |row| row.get(0))?;
    let forgotten = now_unix_nano.saturating_sub(TRIAL_KEPT.as_nanos() as i64);
    db.prepare_cached("DELETE FROM trials WHERE begun_unix_nano < ?1")?.execute([forgotten])?;
    Ok(before)
}

/// Forgets a batch's trials.
pub(crate) fn end(db: &Connection, tenant: &Tenant, batch_id: BatchId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM trials WHERE tenant = ?1 AND batch_id = ?2")?
        .execute(params![tenant.as_str(), batch_id.0])?;
    Ok(())
}
