//! Which processes live.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::{HEARTBEAT_KEPT, Heartbeat, LiveProcess, sqlite::errors::Fault};

/// Notes that a process lives now, and forgets those long silent.
pub(crate) fn beat(
    db: &Connection,
    heartbeat: &Heartbeat,
    now_unix_nano: i64,
) -> rusqlite::Result<()> {
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
        heartbeat.started_unix_nano,
        serde_json::json!(heartbeat.partitions).to_string(),
        heartbeat.committed_unix_nano,
        heartbeat.load,
        now_unix_nano,
    ])?;
    let forgotten = now_unix_nano.saturating_sub(HEARTBEAT_KEPT.as_nanos() as i64);
    db.prepare_cached("DELETE FROM heartbeats WHERE beaten_unix_nano < ?1")?
        .execute([forgotten])?;
    Ok(())
}

/// Those whose last word is not older, by id.
pub(crate) fn live(
    db: &Connection,
    age_max: Duration,
    now_unix_nano: i64,
) -> Result<Vec<LiveProcess>, Fault> {
    let age_max = i64::try_from(age_max.as_nanos()).unwrap_or(i64::MAX);
    let mut select = db.prepare_cached(
        "SELECT process_id, kind, host, version, started_unix_nano, partitions,
                committed_unix_nano, load, beaten_unix_nano
         FROM heartbeats WHERE beaten_unix_nano >= ?1 ORDER BY process_id",
    )?;
    let mut rows = select.query([now_unix_nano.saturating_sub(age_max)])?;
    let mut live = Vec::new();
    while let Some(row) = rows.next()? {
        let partitions = serde_json::from_str(row.get_ref(5)?.as_str().unwrap_or_default())
            .map_err(|error| Fault::corrupt(format!("a heartbeat's partitions: {error}")))?;
        let beaten_unix_nano: i64 = row.get(8)?;
        let age = u64::try_from(now_unix_nano.saturating_sub(beaten_unix_nano)).unwrap_or(0);
        live.push(LiveProcess {
            heartbeat: Heartbeat {
                process_id: row.get(0)?,
                kind: row.get(1)?,
                host: row.get(2)?,
                version: row.get(3)?,
                started_unix_nano: row.get(4)?,
                partitions,
                committed_unix_nano: row.get(6)?,
                load: row.get(7)?,
            },
            age: Duration::from_nanos(age),
        });
    }
    Ok(live)
}

/// Forgets a process that has ended.
pub(crate) fn forget(db: &Connection, process_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM heartbeats WHERE process_id = ?1")?.execute([process_id])?;
    Ok(())
}
