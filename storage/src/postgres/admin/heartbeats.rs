//! Which processes live, by the database's clock: theirs may differ.

use std::time::Duration;

use deadpool_postgres::Transaction;
use logweir_core::identity::Tenant;
use tokio_postgres::Row;

use crate::{
    HEARTBEAT_KEPT, Heartbeat, LiveProcess,
    postgres::{
        errors::Fault,
        read::rows,
        statement::{Statement, Value},
    },
};

/// Notes that a process lives now, and forgets those long silent.
pub(crate) async fn beat(db: &Transaction<'_>, heartbeat: &Heartbeat) -> Result<(), Fault> {
    let values = [
        Value::Text(heartbeat.process_id.clone()),
        Value::Text(heartbeat.kind.clone()),
        Value::Text(heartbeat.host.clone()),
        Value::Text(heartbeat.version.clone()),
        Value::unix_nano(heartbeat.started_at),
        Value::Ints(heartbeat.partitions.iter().map(|partition| i32::from(*partition)).collect()),
        Value::maybe_unix_nano(heartbeat.committed_through),
        Value::maybe_unix_nano(heartbeat.regular_committed_through),
        Value::Texts(heartbeat.bulk_tenants.iter().map(Tenant::to_string).collect()),
        Value::Double(heartbeat.load),
    ];
    // clock_timestamp() and not now(), which is the start of the transaction: a heartbeat that
    // waited for a lock would be older than it is, and its process taken for dead.
    let mut insert = Statement::new(
        "INSERT INTO heartbeats (process_id, kind, host, version, started_unix_nano, partitions,
             committed_unix_nano, regular_committed_unix_nano, bulk_tenants, load, beaten_at) SELECT ",
    );
    for value in values {
        insert = insert.value(value).text(", ");
    }
    insert
        .text(
            "clock_timestamp() ON CONFLICT (process_id) DO UPDATE SET kind = excluded.kind,
                 host = excluded.host, version = excluded.version,
                 started_unix_nano = excluded.started_unix_nano, partitions = excluded.partitions,
                 committed_unix_nano = excluded.committed_unix_nano,
                 regular_committed_unix_nano = excluded.regular_committed_unix_nano,
                 bulk_tenants = excluded.bulk_tenants, load = excluded.load,
                 beaten_at = excluded.beaten_at",
        )
        .execute(db)
        .await?;
    Statement::new(
        "DELETE FROM heartbeats WHERE beaten_at < clock_timestamp() - make_interval(secs => ",
    )
    .value(Value::Double(HEARTBEAT_KEPT.as_secs_f64()))
    .text(")")
    .execute(db)
    .await?;
    Ok(())
}

/// Those whose last word is not older, by id.
pub(crate) async fn live(
    db: &Transaction<'_>,
    age_max: Duration,
) -> Result<Vec<LiveProcess>, Fault> {
    let found = Statement::new(
        "SELECT process_id, kind, host, version, started_unix_nano, partitions,
             committed_unix_nano, regular_committed_unix_nano, bulk_tenants, load,
             extract(epoch FROM clock_timestamp() - beaten_at)::double precision
         FROM heartbeats ORDER BY process_id",
    )
    .rows(db)
    .await?;
    let mut live = Vec::with_capacity(found.len());
    for row in &found {
        let process = process(row)?;
        if process.age <= age_max {
            live.push(process);
        }
    }
    Ok(live)
}

fn process(row: &Row) -> Result<LiveProcess, Fault> {
    let partitions: Vec<i32> = rows::get(row, 5)?;
    let partition = |number| {
        u16::try_from(number).map_err(|_| Fault::corrupt(format!("there is no partition {number}")))
    };
    let bulk_tenants: Vec<String> = rows::get(row, 8)?;
    let tenant = |name: &String| {
        Tenant::new(name).map_err(|error| Fault::corrupt(format!("tenant {name:?}: {error}")))
    };
    Ok(LiveProcess {
        heartbeat: Heartbeat {
            process_id: rows::get(row, 0)?,
            kind: rows::get(row, 1)?,
            host: rows::get(row, 2)?,
            version: rows::get(row, 3)?,
            started_at: rows::timestamp(row, 4)?,
            partitions: partitions.into_iter().map(partition).collect::<Result<_, _>>()?,
            committed_through: rows::maybe_timestamp(row, 6)?,
            regular_committed_through: rows::maybe_timestamp(row, 7)?,
            bulk_tenants: bulk_tenants.iter().map(tenant).collect::<Result<_, _>>()?,
            load: rows::get(row, 9)?,
        },
        age: Duration::try_from_secs_f64(rows::get(row, 10)?).unwrap_or_default(),
    })
}

/// Forgets a process that has ended.
pub(crate) async fn forget(db: &Transaction<'_>, process_id: &str) -> Result<(), Fault> {
    Statement::new("DELETE FROM heartbeats WHERE process_id = ")
        .value(Value::Text(process_id.to_owned()))
        .execute(db)
        .await?;
    Ok(())
}
