//! Storage in PostgreSQL: rows, because people query them with SQL; with TimescaleDB where it is
//! there, with partitions by day elsewhere.
//!
//! Any number of processes may have it open. Everything works through PgBouncer in transaction
//! mode: no state of a session, no statement by name that outlives its transaction, only locks that
//! end with one. A lost connection is `Unavailable`; the next call takes another one.
//!
//! Limits: [`PostgresConfig`]. A call waits 5 s at most for a connection to come free. A server
//! that does not answer is taken for dead, whatever the network says: after 20 s for what writes,
//! 60 s for what reads or deletes old logs. The server does the same to a process that is silent in
//! the middle of a transaction, whose locks would keep others from writing the same batches.

mod admin;
mod alerts;
mod config;
mod errors;
mod locks;
mod partitions;
mod port;
mod read;
mod schema;
mod statement;
mod template_aliases;
#[cfg(test)]
mod tests;
mod texts;
mod timescale;
mod tls;
mod values;
mod write;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{Object, Pool};
use logweir_core::{runtime::clock::Clock, timestamp::Timestamp};
use metrics::counter;
use tokio::time::timeout;

pub use self::config::PostgresConfig;
use self::{errors::Fault, partitions::KnownDays, schema::Layout, timescale::Features};
use crate::StorageError;

/// Longest work on a connection that writes; a dead server is noticed by then.
// More than the 15 s after which the server itself ends a statement, so that its error arrives
// first and says more than silence does.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);
/// The same where much may have to be read, or deleted.
// Here the server ends a statement after 30 s, and after 50 s one that deletes old logs.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// PostgreSQL as storage.
pub struct PostgresStorage {
    pool: Pool,
    clock: Clock,
    config: PostgresConfig,
    /// The database as a person knows it, without secrets.
    place: Arc<str>,
    layout: Layout,
    features: Features,
    /// What a transaction that writes begins with.
    writing: String,
    days: KnownDays,
    backfill_checked: LastDone,
    policies_checked: LastDone,
    dead_letters_checked: LastDone,
    producers_summed: LastDone,
}

impl PostgresStorage {
    /// Connects and brings the schema to the version that this program knows; any number of
    /// processes may do so at once.
    pub async fn open(config: &PostgresConfig, clock: Clock) -> Result<Self, StorageError> {
        let (pool, place) = config.pool()?;
        let told = |fault: Fault| fault.into_storage_error(&place);
        let (layout, features, server) = prepare(&pool, clock()).await.map_err(told)?;
        tracing::info!(place = %place, ?layout, ?features, "storage is PostgreSQL");
        Ok(Self {
            pool,
            clock,
            config: config.clone(),
            place,
            layout,
            features,
            writing: writing(features, &server),
            days: KnownDays::default(),
            backfill_checked: LastDone::default(),
            policies_checked: LastDone::default(),
            dead_letters_checked: LastDone::default(),
            producers_summed: LastDone::default(),
        })
    }

    /// Works on a connection of the pool's. If the answer does not come in time its server is taken
    /// for dead, and so are those of the connections that nobody uses at the moment: the next call
    /// makes a new one.
    async fn on_connection<T>(
        &self,
        answered_within: Duration,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut connection = self.pool.get().await?;
        if let Ok(done) = timeout(answered_within, work(&mut connection)).await {
            return done;
        }
        // Dropped like that it is closed and does not go back: the next to use it would read the
        // late answer to this work as one to its own. The idle ones lead to the same silent server.
        drop(Object::take(connection));
        self.pool.retain(|_, _| false);
        counter!("logweir_storage_silences_total").increment(1);
        Err(Fault::passing(&format!("the database did not answer within {answered_within:?}")))
    }

    /// What a fault is to a caller.
    fn told(&self, fault: Fault) -> StorageError {
        fault.into_storage_error(&self.place)
    }
}

/// The layout, what TimescaleDB offers, and the rest that is to be known of the server.
async fn prepare(pool: &Pool, now: Timestamp) -> Result<(Layout, Features, Server), Fault> {
    let mut connection = pool.get().await?;
    let db = connection.transaction().await?;
    db.batch_execute(ABANDONED).await?;
    let layout = schema::prepare(&db, now).await?;
    let features = match layout {
        Layout::Timescale => Features::of(&db).await?,
        Layout::Partitions { .. } => Features::default(),
    };
    let row = db
        .query_typed_one(
            "SELECT current_setting('synchronous_commit') IN ('off', 'local'),
                    EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression'
                                                         AND 'lz4' = ANY(enumvals))",
            &[],
        )
        .await?;
    let server = Server { commits_late: row.try_get(0)?, has_lz4: row.try_get(1)? };
    db.commit().await?;
    Ok((layout, features, server))
}

/// What is to be known of the server.
struct Server {
    /// It answers before a commit is on disk, unless told otherwise.
    commits_late: bool,
    /// It can compress long values by LZ4, several times quicker than by its own method.
    has_lz4: bool,
}

/// The server ends a transaction from which it hears nothing: one whose machine has gone, or stands
/// still, would keep its locks, and everybody waiting for them, until TCP finds out after hours.
const ABANDONED: &str = "SET LOCAL idle_in_transaction_session_timeout = 15000";

/// A statement that writes waits and works for less than its caller does. Whatever the database's
/// default is, a commit is answered when it is on disk.
fn writing(features: Features, server: &Server) -> String {
    // SET LOCAL throughout: what is set for a session would be left on a connection of PgBouncer's
    // for whoever gets it next. Settings that a server does not know are left out: it refuses them.
    let mut writing = format!("{ABANDONED}; SET LOCAL statement_timeout = 15000");
    if server.commits_late {
        writing.push_str("; SET LOCAL synchronous_commit = on");
    }
    if server.has_lz4 {
        writing.push_str("; SET LOCAL default_toast_compression = lz4");
    }
    if features.direct_compression {
        writing.push_str("; SET LOCAL timescaledb.enable_direct_compress_copy = on");
    }
    writing
}

/// When something was done last that is done from time to time.
#[derive(Debug, Default)]
struct LastDone(AtomicI64);

impl LastDone {
    fn lapsed(&self, period: Duration, now: Timestamp) -> bool {
        let last = Timestamp::from_unix_nanos(self.0.load(Ordering::Relaxed));
        // Both ways: a clock that was set back must not put it off for as long.
        now.since(last).max(last.since(now)) >= period
    }

    fn note(&self, now: Timestamp) {
        self.0.store(now.as_unix_nanos(), Ordering::Relaxed);
    }
}
