//! Which processes live.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;

use rusqlite::{Connection, params};

use crate::sqlite::read::rows;
use crate::{HEARTBEAT_KEPT, Heartbeat, LiveProcess, sqlite::errors::Fault};

/// Notes that a process lives now, and forgets those long silent.
pub(crate) fn beat(db: &Connection, heartbeat: &Heartbeat, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO heartbeats (process_id, kind, host, version, started_unix_nano,
             partitions, committed_unix_nano, load, beaten_unix_nano)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        heartbeat.process_id,
        heartbeat.kind,
        heartbeat.host,
        heartbeat.version,
        heartbeat.started_at.as_unix_nanos(),
        serde_json::json!(heartbeat.partitions).to_string(),
        heartbeat.committed_through.map(Timestamp::as_unix_nanos),
        heartbeat.load,
        now.as_unix_nanos(),
    ])?;
    let forgotten = now - HEARTBEAT_KEPT;
    db.prepare_cached("DELETE FROM heartbeats WHERE beaten_unix_nano < ?1")?
        .execute([forgotten.as_unix_nanos()])?;
    Ok(())
}

/// Those whose last word is not older, by id.
pub(crate) fn live(
    db: &Connection,
    age_max: Duration,
    now: Timestamp,
) -> Result<Vec<LiveProcess>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT process_id, kind, host, version, started_unix_nano, partitions,
                committed_unix_nano, load, beaten_unix_nano
         FROM heartbeats WHERE beaten_unix_nano >= ?1 ORDER BY process_id",
    )?;
    let mut rows = select.query([(now - age_max).as_unix_nanos()])?;
    let mut live = Vec::new();
    while let Some(row) = rows.next()? {
        let partitions = serde_json::from_str(row.get_ref(5)?.as_str().unwrap_or_default())
            .map_err(|error| Fault::corrupt(format!("a heartbeat's partitions: {error}")))?;
        let beaten_at = rows::timestamp(row, 8)?;
        live.push(LiveProcess {
            heartbeat: Heartbeat {
                process_id: row.get(0)?,
                kind: row.get(1)?,
                host: row.get(2)?,
                version: row.get(3)?,
                started_at: rows::timestamp(row, 4)?,
                partitions,
                committed_through: rows::maybe_timestamp(row, 6)?,
                load: row.get(7)?,
            },
            age: now.since(beaten_at),
        });
    }
    Ok(live)
}

/// Forgets a process that has ended.
pub(crate) fn forget(db: &Connection, process_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM heartbeats WHERE process_id = ?1")?.execute([process_id])?;
    Ok(())
}
