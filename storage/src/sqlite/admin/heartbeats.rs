//! Which processes live.

use std::time::Duration;

use logweir_core::{identity::Tenant, timestamp::Timestamp};

use rusqlite::{Connection, Row, params};
use serde::de::DeserializeOwned;

use crate::sqlite::read::rows;
use crate::{HEARTBEAT_KEPT, Heartbeat, LiveProcess, sqlite::errors::Fault};

/// Notes that a process lives now, and forgets those long silent.
pub(crate) fn beat(db: &Connection, heartbeat: &Heartbeat, now: Timestamp) -> rusqlite::Result<()> {
    let bulk_tenants: Vec<&str> = heartbeat.bulk_tenants.iter().map(Tenant::as_str).collect();
    db.prepare_cached(
        "INSERT OR REPLACE INTO heartbeats (process_id, kind, host, version, started_unix_nano,
             partitions, committed_unix_nano, regular_committed_unix_nano, bulk_tenants, load,
             beaten_unix_nano)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        heartbeat.process_id,
        heartbeat.kind,
        heartbeat.host,
        heartbeat.version,
        heartbeat.started_at.as_unix_nanos(),
        serde_json::json!(heartbeat.partitions).to_string(),
        heartbeat.committed_through.map(Timestamp::as_unix_nanos),
        heartbeat.regular_committed_through.map(Timestamp::as_unix_nanos),
        serde_json::json!(bulk_tenants).to_string(),
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
                committed_unix_nano, regular_committed_unix_nano, bulk_tenants, load, beaten_unix_nano
         FROM heartbeats WHERE beaten_unix_nano >= ?1 ORDER BY process_id",
    )?;
    let mut rows = select.query([(now - age_max).as_unix_nanos()])?;
    let mut live = Vec::new();
    while let Some(row) = rows.next()? {
        let beaten_at = rows::timestamp(row, 10)?;
        let names = list::<String>(row, 8)?.into_iter();
        let bulk_tenants = names.map(|name| tenant(&name)).collect::<Result<_, _>>()?;
        live.push(LiveProcess {
            heartbeat: Heartbeat {
                process_id: row.get(0)?,
                kind: row.get(1)?,
                host: row.get(2)?,
                version: row.get(3)?,
                started_at: rows::timestamp(row, 4)?,
                partitions: list(row, 5)?,
                committed_through: rows::maybe_timestamp(row, 6)?,
                regular_committed_through: rows::maybe_timestamp(row, 7)?,
                bulk_tenants,
                load: row.get(9)?,
            },
            age: now.since(beaten_at),
        });
    }
    Ok(live)
}

fn tenant(name: &str) -> Result<Tenant, Fault> {
    Tenant::new(name).map_err(|error| Fault::corrupt(format!("tenant {name:?}: {error}")))
}

/// A list kept as JSON.
fn list<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<Vec<T>, Fault> {
    serde_json::from_str(row.get_ref(column)?.as_str().unwrap_or_default())
        .map_err(|error| Fault::corrupt(format!("a list of a heartbeat: {error}")))
}

/// Forgets a process that has ended.
pub(crate) fn forget(db: &Connection, process_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM heartbeats WHERE process_id = ?1")?.execute([process_id])?;
    Ok(())
}
