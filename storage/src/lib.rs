//! Where logs rest: the storage port and its implementations.
//!
//! # Contract
//!
//! - **Once.** [`WriteLogs::write`] commits any number of batches in one transaction: first the
//!   ledger row of each batch, then only the logs of batches it newly admitted, then everything
//!   derived from those logs (buckets, latency buckets, templates, producers' accounts), then dead
//!   letters, each table in a fixed order and by ascending keys. A batch seen before adds nothing;
//!   the same id with another checksum goes whole to the dead letters.
//! - **Sequences.** A batch of a producer is remembered by its id for the ledger's age (48 hours) and
//!   by its sequence until the producer has been silent for 90 days, which the server refuses older
//!   ids for. So a producer must never give a sequence to two batches; where it can be seen that it
//!   did, or where so many gaps were left that a sequence is forgotten, the batch goes whole to the
//!   dead letters, as `sequence_reused` or `sequence_forgotten`. A batch without a producer is
//!   remembered for the ledger's age only.
//! - **Durable.** When `write` returns `Ok`, the transaction survives the death of the process and
//!   a power cut. When it returns `Err`, the same batches should be written again; nothing of them is
//!   visible, unless the answer to the commit was lost (a connection that broke, or a process that
//!   died after an fsync failed): then it is there whole and with its ledger, so that writing it
//!   again is right even then.
//! - **Poison.** A log that storage cannot hold (a *data* error, such as a latency that is not
//!   finite) is found by bisection in rolled-back savepoints and dead-lettered with the reason
//!   `unstorable`; the rest of its batch commits with it in the same transaction. Errors of disk,
//!   lock, time or connection never bisect: they fail the write and are retryable.
//! - **Blocking.** No call blocks the async pool.
//! - **Isolation.** Every call names its tenant and sees nothing else. Only `load_templates`,
//!   [`Administer`]'s `revoked_token_ids` and heartbeats, [`KeepModels`]' `active_models` and
//!   `list_feedback`, [`KeepAlerts`]' lead, `list_tenants` and `list_actions`, and the taking of
//!   jobs span tenants: they serve the processes themselves.
//! - **Clock.** Times come from the clock that the storage is given, but for the age of heartbeats: where
//!   several machines share a database, the database's clock tells it.
//! - **Reading.** A reader sees whole transactions only. A page is ordered newest first by
//!   `(time, batch_id, index)`; its cursor is the last id shown, so pages stay stable while data
//!   comes in, and late data may only appear where a reader has not been yet.

mod alerts;
mod bisect;
mod conformance;
mod disk_share;
mod findings;
mod histogram;
mod jobs;
mod ledger_rules;
mod models;
mod postgres;
mod producer_totals;
mod query;
mod ranges;
mod rollups;
mod sqlite;
mod template_aliases;
mod time_buckets;

pub mod block;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use logweir_core::{
    identity::{BatchId, LogId, ProducerId, Role, Service, ServiceScope, TemplateId, Tenant},
    record::{Account, Level, Record, Resource, ScoredBatch, StoredLog, Template},
    timestamp::Timestamp,
};

pub use self::{
    alerts::{
        ACTIONS_WAITING_MAX, ALERTS_KEPT, AlertChanges, DELIVERED_ONLY, DeliveryState,
        DeliveryUpdate, IncidentQuery, KeepAlerts, NewDelivery, StoredDelivery, StoredIncident,
        WaitingAction,
    },
    conformance::{NOW, StorageUnderTest, check_storage},
    findings::{FINDINGS_KEPT, Finding, FindingKind, KeepFindings},
    jobs::{JOB_ATTEMPTS_MAX, JOBS_OPEN_MAX, Job, JobKind, JobState, NewJob, PassJobs},
    models::{
        FEEDBACK_MAX, Feedback, KeepModels, MODELS_KEPT, Model, ModelKind, ModelState, NewModel,
    },
    postgres::{PostgresConfig, PostgresStorage},
    producer_totals::ProducerTotals,
    query::{
        AggregateQuery, CELLS_MAX, GroupBy, POINTS_MAX, PRODUCERS_MAX, SERIES_MAX, SearchLimits,
        SearchPage, SearchQuery, TimeRange,
    },
    sqlite::{SqliteConfig, SqliteStorage},
};

/// Why storage could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No space left, or over the configured size; writes resume alone once there is space.
    #[error("the disk is full: free space in {place}, or lower what retention keeps")]
    DiskFull {
        /// The data directory, or the database.
        place: String,
    },
    /// Another process has the data directory open.
    #[error("another process uses {place}: stop it, or use another data directory")]
    InUse {
        /// The data directory.
        place: String,
    },
    /// The data directory or the database cannot be used at all.
    #[error("{place} cannot be used: check that it is there and that this program may write to it")]
    Unusable {
        /// The data directory, or the database without secrets.
        place: String,
        /// What stands in the way.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A passing fault: a lock, a connection, an I/O error.
    #[error("storage is not available at the moment")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database was written by a newer version of this program.
    #[error(
        "the database has schema version {found}, this program knows up to {known}: \
         start the newer program, or use another database"
    )]
    NewerSchema {
        /// In the database.
        found: u32,
        /// In this program.
        known: u32,
    },
    /// The database has this program's schema version, but not its tables.
    #[error(
        "the database is not as this program makes it (it lacks: {missing}): \
         start the program that wrote it, or use another database"
    )]
    OtherSchema {
        /// The first thing that it lacks.
        missing: String,
    },
    /// A fault that does not pass by itself.
    #[error("storage has failed, and stays so until the cause is removed")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What the caller named does not exist.
    #[error("{0} was not found")]
    NotFound(String),
    /// The request needs more than a limit allows.
    #[error("{0}")]
    LimitExceeded(String),
    /// Stored data cannot be read back; other data is not affected.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
}

impl StorageError {
    /// Whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Unavailable(_))
    }

    /// When to try again. Logs that could not be written are sent again whatever the cause, only
    /// more slowly where a person has to see to it.
    pub const fn retry_after(&self) -> Duration {
        match self {
            Self::Unavailable(_) => Duration::from_secs(1),
            Self::DiskFull { .. } => Duration::from_secs(5),
            _ => Duration::from_secs(10),
        }
    }
}

/// What became of one batch of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Its logs are stored, but those put aside.
    Stored {
        /// Logs stored.
        stored: u32,
        /// Logs dead-lettered, those rejected before included.
        dead_lettered: u32,
        /// Indices of the logs of `records` that storage itself dead-lettered, ascending.
        put_aside: Vec<u32>,
    },
    /// It was stored before; nothing was added.
    Duplicate,
    /// Its id was used before with other content; it went to the dead letters whole.
    Conflict,
}

impl WriteOutcome {
    /// The outcome of a batch of which storage has put nothing aside itself.
    pub const fn stored(stored: u32, dead_lettered: u32) -> Self {
        Self::Stored { stored, dead_lettered, put_aside: Vec::new() }
    }
}

/// The processor's side.
#[async_trait]
pub trait WriteLogs: Send + Sync {
    /// Commits the batches in one transaction; one outcome for each, in order. They are shared, so
    /// that who writes may do so again.
    async fn write(&self, batches: Arc<[ScoredBatch]>) -> Result<Vec<WriteOutcome>, StorageError>;

    /// Notes templates and what they were merged into, whether they are known or not. From then on
    /// readers are shown the merged pattern; what is stored stays as it is.
    async fn save_templates(&self, templates: Vec<Arc<Template>>) -> Result<(), StorageError>;

    /// Every known template of every tenant with its count: what a processor starts from.
    async fn load_templates(&self) -> Result<Vec<(Template, u64)>, StorageError>;
}

/// The readers' side.
#[async_trait]
pub trait ReadLogs: Send + Sync {
    /// A page of matches, newest first.
    async fn search(&self, tenant: &Tenant, query: SearchQuery)
    -> Result<SearchPage, StorageError>;
    /// A page of matches, oldest first; the cursor is the last id shown.
    async fn export(&self, tenant: &Tenant, query: SearchQuery)
    -> Result<SearchPage, StorageError>;
    /// One log with `neighbours` logs of its service on each side, oldest first.
    async fn get(
        &self,
        tenant: &Tenant,
        id: LogId,
        neighbours: usize,
    ) -> Result<LogWithNeighbours, StorageError>;
    /// Counts per time bucket and group, largest group first, at most [`SERIES_MAX`] groups;
    /// `LimitExceeded` over [`POINTS_MAX`] buckets in a group or [`CELLS_MAX`] in all.
    async fn aggregate(
        &self,
        tenant: &Tenant,
        query: AggregateQuery,
    ) -> Result<Vec<AggregateSeries>, StorageError>;
    /// Logs per time and latency bucket, by time, then latency. Ignores `group_by`; `LimitExceeded`
    /// over [`POINTS_MAX`] time buckets or [`CELLS_MAX`] cells.
    async fn latency_heatmap(
        &self,
        tenant: &Tenant,
        query: AggregateQuery,
    ) -> Result<Vec<HeatmapCell>, StorageError>;
    /// The services, by name.
    async fn list_services(&self, tenant: &Tenant) -> Result<Vec<ServiceSummary>, StorageError>;
    /// The most frequent templates in a range.
    async fn list_templates(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError>;
    /// The producers' accounts, most recently heard of first, at most [`PRODUCERS_MAX`]. Of a tenant
    /// or service with many producers, upkeep leaves out those that were silent for longest.
    async fn delivery_report(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
    ) -> Result<Vec<ProducerReport>, StorageError>;
    /// The accounts of all producers added up, by service: also of those that no report lists.
    async fn producer_totals(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
    ) -> Result<Vec<ProducerTotals>, StorageError>;
    /// Logs that senders without an account sent again, and that were not stored again.
    async fn repeated_logs(&self, tenant: &Tenant) -> Result<u64, StorageError>;
    /// The checksums of those of these batches of a tenant that the ledger has an entry of.
    async fn ledger_checksums(
        &self,
        tenant: &Tenant,
        batch_ids: &[BatchId],
    ) -> Result<HashMap<BatchId, u64>, StorageError>;
}

/// The administrators' side.
#[async_trait]
pub trait Administer: Send + Sync {
    /// Records an issued token.
    async fn insert_token(&self, tenant: &Tenant, token: TokenRecord) -> Result<(), StorageError>;
    /// The tokens of a tenant, newest first.
    async fn list_tokens(&self, tenant: &Tenant) -> Result<Vec<TokenRecord>, StorageError>;
    /// Revokes a token from `now` on; revoking again changes nothing.
    async fn revoke_token(
        &self,
        tenant: &Tenant,
        token_id: &str,
        now: Timestamp,
    ) -> Result<TokenRecord, StorageError>;
    /// Ids of revoked tokens of all tenants that have not expired by `now`.
    async fn revoked_token_ids(&self, now: Timestamp) -> Result<Vec<String>, StorageError>;
    /// Dead letters, newest first, with the count of all.
    async fn list_dead_letters(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<DeadLetter>, u64), StorageError>;
    /// Dead letters with their logs: those named, or all never replayed; at most `limit`, oldest
    /// first.
    async fn take_dead_letters(
        &self,
        tenant: &Tenant,
        ids: &[u64],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StorageError>;
    /// Notes that dead letters were replayed.
    async fn mark_replayed(
        &self,
        tenant: &Tenant,
        ids: &[u64],
        now: Timestamp,
    ) -> Result<(), StorageError>;
    /// Deletes those named, or all if `ids` is none; how many there were.
    async fn discard_dead_letters(
        &self,
        tenant: &Tenant,
        ids: Option<&[u64]>,
    ) -> Result<u64, StorageError>;
    /// What a tenant takes of what it shares with others.
    async fn usage(&self, tenant: &Tenant) -> Result<TenantUsage, StorageError>;
    /// Records a deploy.
    async fn insert_deploy(&self, tenant: &Tenant, deploy: Deploy) -> Result<(), StorageError>;
    /// Deploys, newest first.
    async fn list_deploys(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        limit: usize,
    ) -> Result<Vec<Deploy>, StorageError>;
    /// Notes that a process lives; to be called every 2 seconds.
    async fn beat(&self, heartbeat: Heartbeat) -> Result<(), StorageError>;
    /// The processes of all tenants whose last heartbeat is not older, by id.
    async fn live_processes(&self, age_max: Duration) -> Result<Vec<LiveProcess>, StorageError>;
    /// Forgets a process that ends: others need not wait until its last heartbeat is old.
    async fn forget_process(&self, process_id: &str) -> Result<(), StorageError>;
    /// Notes that a batch is about to be tried which may end who tries it. How often that was noted
    /// before and no end of it.
    async fn begin_trial(&self, tenant: &Tenant, batch_id: BatchId) -> Result<u32, StorageError>;
    /// Notes that who tried the batch lives: none of its trials counts any more.
    async fn end_trial(&self, tenant: &Tenant, batch_id: BatchId) -> Result<(), StorageError>;
    /// Retention, folding of old ledger rows and merging of blocks: one bounded step of each.
    /// Whether there is more to do at once.
    async fn maintain(&self, now: Timestamp) -> Result<bool, StorageError>;
    /// Whether writes would be taken now; what readiness reports.
    async fn check_ready(&self) -> Result<(), StorageError>;
}

/// All sides of a storage.
pub trait Storage:
    WriteLogs + ReadLogs + Administer + KeepModels + KeepFindings + KeepAlerts + PassJobs
{
}

impl<T: WriteLogs + ReadLogs + Administer + KeepModels + KeepFindings + KeepAlerts + PassJobs>
    Storage for T
{
}

/// What a tenant takes of what it shares with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TenantUsage {
    /// Its dead letters.
    pub dead_letters: u64,
    /// Those that were deleted for the quota or the disk so far.
    pub expired_dead_letters: u64,
    /// What its rows are known to take, bytes; 0 where size is not limited. What others store changes
    /// nothing of it.
    pub own_bytes: u64,
    /// Its part of the disk, bytes, with a share of what belongs to nobody, such as indices and
    /// half-filled pages, which depends on what others take; 0 where size is not limited.
    pub disk_bytes: u64,
    /// What that may come to before its oldest logs are deleted, bytes; none where size is not
    /// limited.
    pub disk_share_bytes: Option<u64>,
}

/// A log between its neighbours.
#[derive(Debug, Clone, PartialEq)]
pub struct LogWithNeighbours {
    /// The log.
    pub log: StoredLog,
    /// Logs of its service just before it, oldest first.
    pub before: Vec<StoredLog>,
    /// Logs of its service just after it, oldest first.
    pub after: Vec<StoredLog>,
}

/// Counts over time of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateSeries {
    /// The service, level or template id; empty without grouping.
    pub group: String,
    /// Buckets with at least one log, in order of time.
    pub points: Vec<AggregatePoint>,
}

/// What happened in one time bucket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AggregatePoint {
    /// Start of the bucket.
    pub start: Timestamp,
    /// Logs.
    pub total: u64,
    /// Logs at ERROR or above.
    pub errors: u64,
    /// Logs judged anomalies.
    pub anomalies: u64,
    /// Mean, median, 95th and 99th percentile of latency in milliseconds.
    pub latency_ms: Option<LatencySummary>,
    /// Logs per latency bucket, ascending; see [`logweir_core::latency::bucket_of`]. Empty unless
    /// latencies were asked for by service, or of all together.
    pub latencies: Vec<(i32, u64)>,
}

/// Mean and percentiles in milliseconds; percentiles within 5 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencySummary {
    /// Mean.
    pub average: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// One cell of a heatmap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeatmapCell {
    /// Start of the time bucket.
    pub start: Timestamp,
    /// Number of the latency bucket; see [`logweir_core::latency::bucket_bounds`].
    pub latency_bucket: i32,
    /// Logs in the cell.
    pub count: u64,
}

/// A service that has sent logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSummary {
    /// Its name.
    pub service: Service,
    /// Logs stored ever.
    pub total: u64,
    /// Logs at ERROR or above.
    pub errors: u64,
    /// Logs judged anomalies.
    pub anomalies: u64,
    /// Event time of its oldest counted hour.
    pub first_seen: Timestamp,
    /// Event time of its newest log.
    pub last_seen: Timestamp,
}

/// A pattern with its counts.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateSummary {
    /// Its id.
    pub template_id: TemplateId,
    /// Its service.
    pub service: Service,
    /// The message with its variable parts masked.
    pub pattern: String,
    /// Logs in the range.
    pub count: u64,
    /// Event time of the first log.
    pub first_seen: Timestamp,
    /// Event time of the newest log.
    pub last_seen: Timestamp,
    /// The highest level seen.
    pub level: Level,
    /// Last full hour before the end of the range ÷ mean of the 24 hours before it.
    pub trend: Option<f64>,
}

/// The account of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerReport {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its service.
    pub service: Service,
    /// Its instance.
    pub instance: String,
    /// Highest sequence stored.
    pub sequence: u64,
    /// What it said with that sequence.
    pub account: Account,
    /// Its logs that are stored.
    pub stored: u64,
    /// Its logs that were dead-lettered.
    pub rejected: u64,
    /// Sequences up to the highest that have not arrived, first ranges (inclusive), at most 10.
    pub missing_sequences: Vec<(u64, u64)>,
    /// When its newest batch was received.
    pub last_received: Timestamp,
}

impl ProducerReport {
    /// emitted − stored − rejected − dropped − queued − spooled; logs said to be spooled explain
    /// only what has not arrived since. 0 when quiet.
    pub fn missing(&self) -> i64 {
        missing_logs(&self.account, self.stored, self.rejected)
    }
}

fn missing_logs(account: &Account, stored: u64, rejected: u64) -> i64 {
    let gone = [stored, rejected, account.dropped_total(), account.queued];
    // In 128 bits: a producer may count to the end of 64, and a sum of five must not wrap into
    // "nothing is missing".
    let gone: i128 = gone.into_iter().map(i128::from).sum();
    let outstanding = i128::from(account.emitted) - gone;
    // What was spooled when the producer last spoke may have arrived since; counted in full it
    // would make the result negative.
    let spooled = i128::from(account.spooled).min(outstanding.max(0));
    (outstanding - spooled).clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// A token as recorded, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its id.
    pub token_id: String,
    /// The service it may write.
    pub service: ServiceScope,
    /// What it may do.
    pub role: Role,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A log that could not be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its id within its tenant, ascending and never given again.
    pub dead_letter_id: u64,
    /// When it was put aside.
    pub created_at: Timestamp,
    /// The batch it came in.
    pub batch_id: BatchId,
    /// What it had in common with its batch.
    pub resource: Resource,
    /// The log.
    pub record: Record,
    /// A stable name of the cause.
    pub reason: String,
    /// The cause, for a person.
    pub detail: String,
    /// When it was replayed.
    pub replayed_at: Option<Timestamp>,
}

/// How long a process that has not said that it ends is remembered.
// Seconds would do for whoever looks for live ones; a day lets people see what died overnight.
pub(crate) const HEARTBEAT_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How long a trial of which no end was noted is remembered.
// Long, for a batch may wait in a queue that nobody reads: once its trials are forgotten they are
// counted anew, and it ends processors again.
pub(crate) const TRIAL_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// Of this start of the process.
    pub process_id: String,
    /// `server`, `processor`, `standalone` or `alerting`.
    pub kind: String,
    /// The machine.
    pub host: String,
    /// Of the program.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// The partitions of the queue that it reads.
    pub partitions: Vec<u16>,
    /// Receive time through which it has committed everything; none if it commits nothing.
    pub committed_through: Option<Timestamp>,
    /// The same of tenants whose batches do not wait apart with those of tenants that send much; none
    /// where nobody's do.
    pub regular_committed_through: Option<Timestamp>,
    /// The tenants whose batches may wait there.
    pub bulk_tenants: Vec<Tenant>,
    /// The share of its capacity that it uses, 0 to 1.
    pub load: f64,
}

impl Heartbeat {
    /// Receive time through which it has committed everything of a tenant.
    pub fn committed_of(&self, tenant: &Tenant) -> Option<Timestamp> {
        let regular =
            self.regular_committed_through.filter(|_| !self.bulk_tenants.contains(tenant));
        regular.or(self.committed_through)
    }
}

/// A process that lives, as far as is known.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveProcess {
    /// What it said last.
    pub heartbeat: Heartbeat,
    /// How long ago, by the storage's clock.
    pub age: Duration,
}

/// A version going live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// The service.
    pub service: Service,
    /// The version.
    pub version: String,
    /// When.
    pub time: Timestamp,
    /// A remark.
    pub note: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_apart_holds_whose_it_is() {
        let (calm, flood) = (Tenant::default(), Tenant::new("flood").unwrap());
        let at = Timestamp::from_unix_nanos;
        let heartbeat = Heartbeat {
            process_id: String::new(),
            kind: String::new(),
            host: String::new(),
            version: String::new(),
            started_at: at(1),
            partitions: vec![0],
            committed_through: Some(at(5)),
            regular_committed_through: Some(at(9)),
            bulk_tenants: vec![flood.clone()],
            load: 0.0,
        };
        assert_eq!(heartbeat.committed_of(&calm), Some(at(9)));
        assert_eq!(heartbeat.committed_of(&flood), Some(at(5)));
        let one_queue = Heartbeat { regular_committed_through: None, ..heartbeat };
        assert_eq!(one_queue.committed_of(&calm), Some(at(5)));
    }
}
