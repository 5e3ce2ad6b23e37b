//! Logs that could not be stored, kept until someone replays or discards them.

use deadpool_postgres::Transaction;
use logweir_core::{
    identity::{BatchId, Tenant},
    timestamp::Timestamp,
    wire,
};
use metrics::counter;
use tokio_postgres::{Row, types::Type};

use crate::{
    DeadLetter, TenantUsage,
    disk_share::DeadLetterQuota,
    postgres::{
        errors::Fault,
        read::rows,
        statement::{Statement, Value},
        values::Id,
    },
};

const SELECT: &str = "SELECT number, created_unix_nano, batch_id, record_index, resource, record,
        reason, detail, replayed_unix_nano FROM dead_letters WHERE tenant = ";

/// Newest first, with the count of all.
pub(crate) async fn list(
    db: &Transaction<'_>,
    tenant: &Tenant,
    before: Option<u64>,
    limit: usize,
) -> Result<(Vec<DeadLetter>, u64), Fault> {
    let total = total(db, tenant).await?;
    // Ids come from a caller. One that no row can have is beyond all of them.
    let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let found = of(tenant, SELECT)
        .text(" AND number < ")
        .value(Value::Long(before))
        .text(" ORDER BY number DESC LIMIT ")
        .value(at_most(limit))
        .rows(db)
        .await?;
    Ok((read_all(&found)?, total))
}

/// How many there are, and how many were deleted for the quota.
pub(crate) async fn usage(db: &Transaction<'_>, tenant: &Tenant) -> Result<TenantUsage, Fault> {
    let row = of(tenant, "SELECT dead_letters FROM expired_dead_letters WHERE tenant = ")
        .rows(db)
        .await?;
    let expired_dead_letters = row.first().map_or(Ok(0), |row| rows::count(row, 0))?;
    Ok(TenantUsage {
        dead_letters: total(db, tenant).await?,
        expired_dead_letters,
        ..TenantUsage::default()
    })
}

async fn total(db: &Transaction<'_>, tenant: &Tenant) -> Result<u64, Fault> {
    let total = of(tenant, "SELECT count(*) FROM dead_letters WHERE tenant = ").rows(db).await?;
    total.first().map_or(Ok(0), |row| rows::count(row, 0))
}

/// Those named, or all never replayed; oldest first.
pub(crate) async fn take(
    db: &Transaction<'_>,
    tenant: &Tenant,
    ids: &[u64],
    limit: usize,
) -> Result<Vec<DeadLetter>, Fault> {
    let statement = if ids.is_empty() {
        of(tenant, SELECT).text(" AND replayed_unix_nano IS NULL")
    } else {
        named(of(tenant, SELECT), ids)
    };
    let statement = statement.text(" ORDER BY number LIMIT ").value(at_most(limit));
    read_all(&statement.rows(db).await?)
}

/// Notes that they were replayed.
pub(crate) async fn mark_replayed(
    db: &Transaction<'_>,
    tenant: &Tenant,
    ids: &[u64],
    now: Timestamp,
) -> Result<(), Fault> {
    let statement = Statement::new("UPDATE dead_letters SET replayed_unix_nano = ")
        .value(Value::unix_nano(now))
        .text(" WHERE tenant = ")
        .value(Value::Text(tenant.to_string()));
    named(statement, ids).execute(db).await?;
    Ok(())
}

/// Deletes those named, or all; how many there were.
pub(crate) async fn discard(
    db: &Transaction<'_>,
    tenant: &Tenant,
    ids: Option<&[u64]>,
) -> Result<u64, Fault> {
    let all = of(tenant, "DELETE FROM dead_letters WHERE tenant = ");
    let statement = match ids {
        Some(ids) => named(all, ids),
        None => all,
    };
    Ok(statement.execute(db).await?)
}

/// Deletes the oldest dead letters that are owed to nobody, of the tenants that have more of them than
/// the quota, or older ones; a bounded number. Whether there is more to do.
pub(crate) async fn delete_beyond(
    db: &Transaction<'_>,
    quota: &DeadLetterQuota,
    now: Timestamp,
    dead_letters_max: i64,
) -> Result<bool, Fault> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    // Counted anew each time: a count that is kept would be a row that all writers of a tenant wait
    // for. What is counted is little, since the quota bounds it.
    let row = db
        .query_typed_one(
            "WITH deleted AS (
             DELETE FROM dead_letters WHERE dead_letter_id IN (
                 SELECT dead_letter_id FROM (
                     SELECT dead_letter_id, created_unix_nano, count(*) OVER newest AS letters,
                         sum(octet_length(resource) + octet_length(record) + octet_length(detail))
                             OVER newest AS bytes
                     FROM dead_letters WHERE NOT is_owed
                     WINDOW newest AS (PARTITION BY tenant ORDER BY number DESC)) AS ranked
                 WHERE letters > $1 OR bytes > $2 OR created_unix_nano < $3
                 ORDER BY dead_letter_id LIMIT $4)
             RETURNING tenant),
             noted AS (
             INSERT INTO expired_dead_letters SELECT tenant, count(*) FROM deleted GROUP BY tenant
             ON CONFLICT (tenant) DO UPDATE SET dead_letters = expired_dead_letters.dead_letters + excluded.dead_letters)
             SELECT count(*) FROM deleted",
            &[
                (&signed(quota.dead_letters_max), Type::INT8),
                (&signed(quota.bytes_max), Type::INT8),
                (&(now - quota.age_max).as_unix_nanos(), Type::INT8),
                (&dead_letters_max, Type::INT8),
            ],
        )
        .await?;
    let deleted = rows::count(&row, 0)?;
    counter!("logweir_storage_dead_letters_expired_total", "reason" => "quota").increment(deleted);
    Ok(deleted == dead_letters_max.unsigned_abs())
}

fn of(tenant: &Tenant, until_tenant: &str) -> Statement {
    Statement::new(until_tenant).value(Value::Text(tenant.to_string()))
}

/// Ids too large for any row are of none.
fn named(statement: Statement, ids: &[u64]) -> Statement {
    let ids = ids.iter().filter_map(|id| i64::try_from(*id).ok()).collect();
    statement.text(" AND number = ANY(").value(Value::Longs(ids)).text(")")
}

fn at_most(limit: usize) -> Value {
    Value::Long(i64::try_from(limit).unwrap_or(i64::MAX))
}

fn read_all(found: &[Row]) -> Result<Vec<DeadLetter>, Fault> {
    found.iter().map(read).collect()
}

fn read(row: &Row) -> Result<DeadLetter, Fault> {
    let damaged = |error: wire::WireError| Fault::corrupt(format!("a dead letter: {error}"));
    let index = rows::index(rows::get(row, 3)?)?;
    Ok(DeadLetter {
        dead_letter_id: rows::count(row, 0)?,
        created_at: rows::timestamp(row, 1)?,
        batch_id: BatchId(rows::get::<Id>(row, 2)?.0),
        resource: wire::decode_resource(rows::get(row, 4)?).map_err(damaged)?,
        record: wire::decode_record(index, rows::get(row, 5)?).map_err(damaged)?,
        reason: rows::get(row, 6)?,
        detail: rows::get(row, 7)?,
        replayed_at: rows::maybe_timestamp(row, 8)?,
    })
}
