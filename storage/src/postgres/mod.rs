//! Storage in PostgreSQL: rows, because people query them with SQL; with TimescaleDB where it is
//! there, with partitions by day elsewhere.
//!
//! Any number of processes may have it open. Everything works through PgBouncer in transaction
//! mode: no state of a session, no statement by name that outlives its transaction, only locks that
//! end with one. A lost connection is `Unavailable`; the next call takes another one.
//!
//! Limits: [`PostgresConfig`]. Calls of tenants take turns at half of the connections, so that one
//! that asks for much keeps neither another tenant nor the process itself from the rest. A call waits 5 s
//! at most for its turn, and 5 s for a connection to come free. A server
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
use logweir_core::{
    fairness::{
        permits::{TenantPermit, TenantPermits},
        threshold::Threshold,
    },
    identity::Tenant,
    runtime::clock::Clock,
    timestamp::Timestamp,
};
use metrics::counter;
use tokio::{runtime::Handle, time::timeout};

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

/// The part of the connections that calls of tenants use. Each may keep a core of the database busy for
/// as long as it lasts, beside what writes.
const PLACES_PART: usize = 4;
/// One tenant alone has three quarters of those.
const PLACES_ALPHA: u64 = 3;

/// PostgreSQL as storage.
pub struct PostgresStorage {
    pool: Pool,
    /// Who may use a connection for a tenant. What a process does for itself needs no place.
    places: TenantPermits,
    clock: Clock,
    config: PostgresConfig,
    /// The database as a person knows it, without secrets.
    database: Arc<str>,
    layout: Layout,
    features: Features,
    /// What a transaction that writes begins with.
    writing: String,
    /// What one that reads begins with.
    reading: String,
    /// How long the server may go on with a statement whose caller has left.
    abandoned_ends_within: Duration,
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
        // Two at least, so that there is one for whoever comes beside the first.
        let total = (config.connections_max / PLACES_PART).max(2) as u64;
        Ok(Self {
            pool,
            places: TenantPermits::new(Threshold { total, alpha: PLACES_ALPHA }),
            clock,
            config: config.clone(),
            database: place,
            layout,
            features,
            writing: writing(features, &server),
            reading: reading(&server),
            abandoned_ends_within: if server.notices_who_left {
                NOTICED_WITHIN
            } else {
                LONGEST_STATEMENT
            },
            days: KnownDays::default(),
            backfill_checked: LastDone::default(),
            policies_checked: LastDone::default(),
            dead_letters_checked: LastDone::default(),
            producers_summed: LastDone::default(),
        })
    }

    /// A place for a call of a tenant, in its turn.
    async fn place(&self, tenant: &Tenant) -> Result<TenantPermit, Fault> {
        let place = timeout(config::CONNECT_TIMEOUT, self.places.take(tenant, 1)).await;
        place
            .map_err(|_| Fault::passing("this tenant's calls use all connections that it may have"))
    }

    /// Works on a connection of the pool's, for a tenant at its place. If the answer does not come in
    /// time its server is taken for dead, and so are those of the connections that nobody uses at the
    /// moment: the next call makes a new one.
    async fn on_connection<T>(
        &self,
        place: Option<TenantPermit>,
        answered_within: Duration,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let connection = Some(self.pool.get().await?);
        let mut at_work = AtWork { connection, place, ends_within: self.abandoned_ends_within };
        let connection = at_work.connection.as_mut().expect("it was just put there");
        if let Ok(done) = timeout(answered_within, work(connection)).await {
            at_work.give_back();
            return done;
        }
        // The idle ones lead to the same silent server.
        drop(at_work);
        self.pool.retain(|_, _| false);
        counter!("logweir_storage_silences_total").increment(1);
        Err(Fault::passing(&format!("the database did not answer within {answered_within:?}")))
    }

    /// What a fault is to a caller.
    fn told(&self, fault: Fault) -> StorageError {
        fault.into_storage_error(&self.database)
    }
}

/// A connection that is closed, and does not go back to the pool, unless the work on it came to its end:
/// the next to use it would wait for the rest of that work, of which nobody wants the answer.
struct AtWork {
    connection: Option<Object>,
    place: Option<TenantPermit>,
    /// How long the server may go on with a statement whose caller has left.
    ends_within: Duration,
}

impl AtWork {
    fn give_back(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        drop(Object::take(connection));
        // The server is still at work for a while, and so is the place taken: who asks and leaves, again
        // and again, would else have it at work on more than anybody may.
        if let (Some(place), Ok(runtime)) = (self.place.take(), Handle::try_current()) {
            let ends_within = self.ends_within;
            runtime.spawn(async move {
                tokio::time::sleep(ends_within).await;
                drop(place);
            });
        }
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
    let (commits_late, has_lz4) = (row.try_get(0)?, row.try_get(1)?);
    db.commit().await?;
    // In a transaction of its own, which a server that cannot ends.
    let db = connection.transaction().await?;
    let notices_who_left = db.batch_execute(NOTICING_WHO_LEFT).await.is_ok();
    db.rollback().await?;
    Ok((layout, features, Server { commits_late, has_lz4, notices_who_left }))
}

/// What is to be known of the server.
struct Server {
    /// It answers before a commit is on disk, unless told otherwise.
    commits_late: bool,
    /// It can compress long values by LZ4, several times quicker than by its own method.
    has_lz4: bool,
    /// It can end a statement whose caller has gone.
    notices_who_left: bool,
}

/// The server ends a statement within a second of its caller's leaving (PostgreSQL 14 or later, where
/// the operating system can tell): many that ask and leave would else keep it at work.
const NOTICING_WHO_LEFT: &str = "SET LOCAL client_connection_check_interval = 1000";
/// With some time for what is not interrupted at once.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);
/// After which the server ends a statement of a tenant's whoever waits for it.
const LONGEST_STATEMENT: Duration = Duration::from_secs(30);

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
    if server.notices_who_left {
        writing.push_str("; ");
        writing.push_str(NOTICING_WHO_LEFT);
    }
    writing
}

/// A reading statement is ended after 30 s: what is asked needs less by far, so something is wrong.
/// Compiling statements costs more than it gains for ones as short as these, and the server's other
/// processors are for other calls.
fn reading(server: &Server) -> String {
    let mut reading = "SET LOCAL statement_timeout = 30000; SET LOCAL jit = off; \
                       SET LOCAL max_parallel_workers_per_gather = 0"
        .to_owned();
    if server.notices_who_left {
        reading.push_str("; ");
        reading.push_str(NOTICING_WHO_LEFT);
    }
    reading
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
