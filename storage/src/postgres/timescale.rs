//! TimescaleDB, where the database has it: what it offers, and the policies that it runs.

use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio_postgres::types::Type;

use super::errors::Fault;

const CREATE: &str = include_str!("../../migrations/postgres/0001_timescaledb.sql");
const COLUMNSTORE: &str = include_str!("../../migrations/postgres/0001_columnstore.sql");

/// COPY straight into columns lost data before this version.
const DIRECT_COMPRESSION_MIN: (u32, u32) = (2, 26);

/// Whether this database has the extension, which is created if that is all that is missing.
pub(super) async fn is_there(db: &Transaction<'_>) -> Result<bool, Fault> {
    let row = db
        .query_typed_one(
            "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'),
                    EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'),
                    EXISTS (SELECT FROM pg_settings WHERE name = 'shared_preload_libraries'
                                                         AND setting LIKE '%timescaledb%')
                        AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
            &[],
        )
        .await?;
    let (is_there, is_available, may_create): (bool, bool, bool) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if is_there {
        return Ok(true);
    }
    if is_available && may_create {
        db.batch_execute("CREATE EXTENSION timescaledb").await?;
        return Ok(true);
    }
    if is_available {
        tracing::warn!(
            "TimescaleDB is installed, but not in this database: logs go into plain partitions; to use \
             it, CREATE EXTENSION timescaledb in an empty database before the first start"
        );
    }
    Ok(false)
}

/// In a new database.
pub(super) async fn create(db: &Transaction<'_>) -> Result<(), Fault> {
    db.batch_execute(CREATE).await?;
    if Features::of(db).await?.columnstore {
        db.batch_execute(COLUMNSTORE).await?;
    } else {
        tracing::warn!(
            "this TimescaleDB has no columnstore (its licence is apache): logs are not compressed"
        );
    }
    Ok(())
}

/// What it offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// Chunks of columns, and policies.
    pub(super) columnstore: bool,
    /// COPY straight into columns.
    pub(super) direct_compression: bool,
}

impl Features {
    pub(super) async fn of(db: &Transaction<'_>) -> Result<Self, Fault> {
        let row = db
            .query_typed_one(
                "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
                        current_setting('timescaledb.license', true),
                        EXISTS (SELECT FROM pg_settings
                                WHERE name = 'timescaledb.enable_direct_compress_copy')",
                &[],
            )
            .await?;
        let version: Option<String> = row.try_get(0)?;
        let licence: Option<String> = row.try_get(1)?;
        let has_setting: bool = row.try_get(2)?;
        let columnstore = licence.as_deref() == Some("timescale");
        let is_new = version.is_some_and(|version| parse(&version) >= DIRECT_COMPRESSION_MIN);
        Ok(Self { columnstore, direct_compression: columnstore && has_setting && is_new })
    }
}

/// Major and minor number.
fn parse(version: &str) -> (u32, u32) {
    let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Makes the policy by which it drops old chunks say what the configuration says.
pub(super) async fn set_retention(
    db: &Transaction<'_>,
    age: Option<Duration>,
) -> Result<(), Fault> {
    let wanted = age.map(|age| age.as_secs() as i64);
    let row = db
        .query_typed_opt(
            "SELECT extract(epoch FROM (config->>'drop_after')::interval)::bigint
             FROM timescaledb_information.jobs
             WHERE proc_name = 'policy_retention' AND hypertable_name = 'logs'
                   AND hypertable_schema = current_schema()",
            &[],
        )
        .await?;
    let found: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
    if found == wanted {
        return Ok(());
    }
    db.batch_execute("SELECT remove_retention_policy('logs', if_exists => true)").await?;
    if let Some(seconds) = wanted {
        db.execute_typed(
            "SELECT add_retention_policy('logs', make_interval(secs => $1))",
            &[(&(seconds as f64), Type::FLOAT8)],
        )
        .await?;
    }
    Ok(())
}

/// The policies of `logs` whose last run failed.
pub(super) async fn failed_policies(db: &Transaction<'_>) -> Result<Vec<String>, Fault> {
    let rows = db
        .query_typed(
            "SELECT j.proc_name::text
             FROM timescaledb_information.jobs j JOIN timescaledb_information.job_stats s USING (job_id)
             WHERE j.hypertable_name = 'logs' AND j.hypertable_schema = current_schema()
                   AND s.last_run_status = 'Failed'",
            &[],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Drops old chunks where no policy does.
pub(super) async fn drop_chunks(db: &Transaction<'_>, seconds: i64) -> Result<(), Fault> {
    db.execute_typed(
        "SELECT drop_chunks('logs', older_than => to_timestamp($1))",
        &[(&(seconds as f64), Type::FLOAT8)],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse("2.26.1") >= DIRECT_COMPRESSION_MIN);
        assert!(parse("2.9.3") < DIRECT_COMPRESSION_MIN);
        assert!(parse("3.0-dev") >= DIRECT_COMPRESSION_MIN);
        assert_eq!(parse("odd"), (0, 0));
    }
}
