//! Numbered migrations; the number of the last one applied is in `schema_version`. All of them run
//! in one transaction, under a lock that ends with it, so that any number of processes may start at
//! once. A database that has the number but not the tables, because a program that was never
//! released made it or somebody changed it, is refused when it is opened: every write to it would
//! fail for ever.

use std::collections::BTreeSet;

use logweir_core::timestamp::Timestamp;

use deadpool_postgres::Transaction;
use tokio_postgres::types::Type;

use super::{
    errors::Fault,
    locks::{self, Lock},
    partitions, timescale,
    values::Timestamptz,
};
use crate::StorageError;

/// The version that this program knows.
pub(super) const KNOWN: u32 = 12;

const INITIAL: &str = include_str!("../../migrations/postgres/0001_initial.sql");
/// What was changed since, from the second version on.
const CHANGES: [&str; KNOWN as usize - 1] = [
    include_str!("../../migrations/postgres/0002_template_aliases.sql"),
    include_str!("../../migrations/postgres/0003_models.sql"),
    include_str!("../../migrations/postgres/0004_findings.sql"),
    include_str!("../../migrations/postgres/0005_alerts.sql"),
    include_str!("../../migrations/postgres/0006_job_kinds.sql"),
    include_str!("../../migrations/postgres/0007_incident_tracking.sql"),
    include_str!("../../migrations/postgres/0008_tenants.sql"),
    include_str!("../../migrations/postgres/0009_producers.sql"),
    include_str!("../../migrations/postgres/0010_numbers.sql"),
    include_str!("../../migrations/postgres/0011_bulk.sql"),
    include_str!("../../migrations/postgres/0012_repeats.sql"),
];
const INDEXES: &str = include_str!("../../migrations/postgres/0001_indexes.sql");

/// Servers older than PostgreSQL 14 are refused.
// It is the first with `date_bin`, by which counts are put into the buckets of a query.
const SERVER_VERSION_MIN: i32 = 140_000;

/// All that statements depend on, a line each: columns with type and constraint, and indices with
/// their columns. The same for every layout of `logs`.
const SHAPE: &str = "
    SELECT 'column ' || t.relname || '.' || c.attname || ' ' || format_type(c.atttypid, c.atttypmod)
               || CASE WHEN c.attnotnull THEN ' NOT NULL' ELSE '' END
    FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid
    WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p')
          AND NOT t.relispartition AND c.attnum > 0 AND NOT c.attisdropped
    UNION ALL
    SELECT CASE WHEN i.indisunique THEN 'unique index ' ELSE 'index ' END || n.relname || ' ON '
               || t.relname || ' ' || (SELECT string_agg(pg_get_indexdef(n.oid, key, true), ','
                                                         ORDER BY key)
                                       FROM generate_series(1, i.indnkeyatts) AS key)
    FROM pg_class t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class n ON n.oid = i.indexrelid
    WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p')
          AND NOT t.relispartition";

/// What [`SHAPE`] finds in a database that this program has made.
pub(super) const KNOWN_SHAPE: &str = include_str!("../../migrations/postgres/shape.txt");

/// How `logs` is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// A partition for each day; logs of days before this number, counted from 1970, lie in one.
    Partitions { first_day: i64 },
    /// A hypertable.
    Timescale,
}

/// Brings the database to the known version and makes sure that it has the shape of that version.
pub(super) async fn prepare(db: &Transaction<'_>, now: Timestamp) -> Result<Layout, Fault> {
    check_server(db).await?;
    // Looked at without the lock first, so that the ordinary start waits for nobody.
    if version(db).await? != Some(KNOWN) {
        locks::wait(db, Lock::Migrate).await?;
        migrate(db, now).await?;
    }
    check(db).await?;
    layout(db).await
}

async fn check_server(db: &Transaction<'_>) -> Result<(), Fault> {
    let row = db
        .query_typed_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')",
            &[],
        )
        .await?;
    let unusable = |cause: String| {
        let place = "this PostgreSQL".to_owned();
        Fault::Answer(StorageError::Unusable { place, source: cause.into() })
    };
    let (version, encoding): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    if version < SERVER_VERSION_MIN {
        return Err(unusable(format!("it has version {}; use 14 or later", version / 10_000)));
    }
    // In another encoding a log with a character that it lacks could not be stored, years after the
    // database was made.
    if encoding != "UTF8" {
        let cause = format!("its encoding is {encoding}; create the database with ENCODING 'UTF8'");
        return Err(unusable(cause));
    }
    Ok(())
}

/// None if there is no schema yet. The catalogue is read as a table: looking a name up may answer
/// from what was so before the lock was waited for.
async fn version(db: &Transaction<'_>) -> Result<Option<u32>, Fault> {
    let exists = db
        .query_typed_one(
            "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'schema_version'
                                AND relnamespace = current_schema()::regnamespace)",
            &[],
        )
        .await?;
    if !exists.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let row = db.query_typed_opt("SELECT version FROM schema_version", &[]).await?;
    let version: Option<i32> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(version.map(i32::unsigned_abs))
}

/// Under the lock; another process may have been here before.
async fn migrate(db: &Transaction<'_>, now: Timestamp) -> Result<(), Fault> {
    match version(db).await? {
        Some(found @ 1..=KNOWN) => change(db, found, KNOWN).await,
        Some(found) => Err(StorageError::NewerSchema { found, known: KNOWN }.into()),
        None => {
            create(db, now).await?;
            change(db, 1, KNOWN).await
        }
    }
}

/// Brings an older schema to a newer version.
pub(super) async fn change(db: &Transaction<'_>, found: u32, wanted: u32) -> Result<(), Fault> {
    for (number, sql) in (2_i32..).zip(CHANGES) {
        if number.unsigned_abs() <= found || number.unsigned_abs() > wanted {
            continue;
        }
        db.batch_execute(sql).await?;
        let version = (&number as _, Type::INT4);
        db.execute_typed("UPDATE schema_version SET version = $1", &[version]).await?;
        tracing::info!(version = number, "the database's tables are changed");
    }
    Ok(())
}

pub(super) async fn create(db: &Transaction<'_>, now: Timestamp) -> Result<(), Fault> {
    db.batch_execute(INITIAL).await?;
    let layout = if timescale::is_there(db).await? { "timescaledb" } else { "partitions" };
    let first_day = partitions::first_day(now);
    db.execute_typed(
        "INSERT INTO schema_version (version, layout, backfill_before) VALUES ($1, $2, $3)",
        &[
            (&1_i32, Type::INT4),
            (&layout, Type::TEXT),
            (&partitions::start_of(first_day), Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    if layout == "timescaledb" {
        timescale::create(db).await?;
    } else {
        partitions::create(db, first_day).await?;
    }
    // After the layout: an index of a partitioned table or a hypertable is passed on to its parts.
    db.batch_execute(INDEXES).await?;
    tracing::info!(layout, "the database has its tables now");
    Ok(())
}

/// Compares with what the migrations make of an empty database. What somebody added is let be.
async fn check(db: &Transaction<'_>) -> Result<(), Fault> {
    let found = shape(db).await?;
    match KNOWN_SHAPE.lines().find(|line| !found.contains(*line)) {
        None => Ok(()),
        Some(missing) => Err(StorageError::OtherSchema { missing: missing.to_owned() }.into()),
    }
}

pub(super) async fn shape(db: &Transaction<'_>) -> Result<BTreeSet<String>, Fault> {
    let rows = db.query_typed(SHAPE, &[]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

async fn layout(db: &Transaction<'_>) -> Result<Layout, Fault> {
    let row = db.query_typed_one("SELECT layout, backfill_before FROM schema_version", &[]).await?;
    match row.try_get(0)? {
        "timescaledb" => Ok(Layout::Timescale),
        "partitions" => {
            let first: Timestamptz = row.try_get(1)?;
            Ok(Layout::Partitions { first_day: partitions::day_of(first.with_nanos(0)) })
        }
        other => Err(Fault::corrupt(format!("the layout {other:?} in schema_version"))),
    }
}
