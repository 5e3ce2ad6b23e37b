//! Jobs: what one process asks another to do, a row each, with the answer that it waits for.
//!
//! - **By kind.** Whoever does jobs takes those of the kinds that it can do.
//! - **By turns.** Of each tenant one job of a kind is worked on at a time, its oldest first, and
//!   tenants take turns: many jobs of one wait behind themselves.
//! - **By one at a time.** A job is taken under a lease. One whose lease is over is taken again by
//!   whoever comes, [`JOB_ATTEMPTS_MAX`] times in all, and then has failed.
//! - **Until nobody wants it.** One that is cancelled is not begun, and whoever works on it is to stop.
//! - **In time.** A job that names a moment is not begun from then on, also not again: whoever asked
//!   has gone.
//! - **Bounded.** Of a tenant and kind at most [`JOBS_OPEN_MAX`] wait or are worked on. Answers are
//!   kept for two days.

use std::time::Duration;

use async_trait::async_trait;
use logweir_core::{identity::Tenant, timestamp::Timestamp};

use crate::{StorageError, models::names};

/// How often a job is begun.
// A process may die beside a job once or twice; three times it is more likely to die of it.
pub const JOB_ATTEMPTS_MAX: u32 = 3;
/// Jobs of a tenant and kind that wait or are worked on; more are refused.
pub const JOBS_OPEN_MAX: usize = 64;
/// How long answers are kept.
pub(crate) const JOBS_KEPT: Duration = Duration::from_secs(48 * 3_600);
/// Why a job failed that nobody finished.
pub(crate) const JOB_ABANDONED: &str = "whoever worked on it died or took too long, each time";
/// Why a job failed that was begun and is not wanted any more.
pub(crate) const JOB_CANCELLED: &str = "whoever asked for it has gone";
/// Why a job failed that nobody began.
pub(crate) const JOB_TOO_LATE: &str = "nobody began it in time";

/// What sort of job it is. Whoever does jobs takes those of the kinds that it can do; a tenant's
/// waiting jobs of one kind keep none of another from being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Models and clusters of logs: processors do it.
    Detection,
    /// A rule is played through the past: alerting does it.
    RulePreview,
    /// A test message is sent through a channel: alerting does it.
    ChannelTest,
}

names!(JobKind {
    Detection = "detection",
    RulePreview = "rule_preview",
    ChannelTest = "channel_test"
});

/// A job to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Its kind, by which those who can do it find it.
    pub kind: JobKind,
    /// What is to be done, JSON.
    pub request: String,
    /// A name for what is to be done once only, however many ask; none if each asking counts.
    pub unique_key: Option<String>,
    /// When it is asked for.
    pub created_at: Timestamp,
    /// From this moment on it is not begun any more; none: whenever somebody comes.
    pub begin_before: Option<Timestamp>,
}

impl NewJob {
    /// A job that waits until somebody comes, and may be asked for twice.
    pub const fn new(kind: JobKind, request: String, created_at: Timestamp) -> Self {
        Self { kind, request, unique_key: None, created_at, begin_before: None }
    }
}

/// A job that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id, by which its answer is told.
    pub job_id: u64,
    /// The tenant that asked for it, and whose data alone it may use.
    pub tenant: Tenant,
    /// What is to be done, JSON.
    pub request: String,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Nobody has begun it.
    Waiting,
    /// Somebody works on it, or has died of it.
    Running,
    /// Done, with the answer, JSON.
    Done(String),
    /// It cannot be done, and why, JSON, or the text of a job that nobody began or finished.
    Failed(String),
}

/// Passes jobs between processes.
#[async_trait]
pub trait PassJobs: Send + Sync {
    /// Asks for a job; its id. With a key, none if there is one with the key. `LimitExceeded` if
    /// [`JOBS_OPEN_MAX`] of the tenant and kind are open.
    async fn insert_job(&self, tenant: &Tenant, job: NewJob) -> Result<Option<u64>, StorageError>;
    /// Takes a job of a kind that waits, or whose lease is over: tenants by turns, and of each the
    /// oldest one. None of a tenant of which one of the kind is worked on.
    async fn take_job(
        &self,
        kind: JobKind,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Job>, StorageError>;
    /// Says that a job that was taken is still worked on, and belongs to whoever does until then. False
    /// if it is not to be worked on any more: it was cancelled, or another has ended it.
    async fn keep_job(&self, job_id: u64, leased_until: Timestamp) -> Result<bool, StorageError>;
    /// Tells the answer, or why there is none. Nothing happens if the job is finished already.
    async fn finish_job(
        &self,
        job_id: u64,
        answer: Result<String, String>,
    ) -> Result<(), StorageError>;
    /// Ends a job of a tenant that nobody waits for any more: one that waits is gone, and one that is
    /// worked on has failed. Nothing happens if it is finished, or not there.
    async fn cancel_job(&self, tenant: &Tenant, job_id: u64) -> Result<(), StorageError>;
    /// How far a job of a tenant is.
    async fn job_state(&self, tenant: &Tenant, job_id: u64) -> Result<JobState, StorageError>;
}

pub(crate) fn too_many_jobs(kind: JobKind) -> StorageError {
    let who = match kind {
        JobKind::Detection => "a processor",
        JobKind::RulePreview | JobKind::ChannelTest => "an alerting process",
    };
    StorageError::LimitExceeded(format!(
        "{JOBS_OPEN_MAX} jobs are open: wait until some are done, and see that {who} runs"
    ))
}

/// The state as it is stored.
pub(crate) fn job_state(state: &str, answer: String) -> JobState {
    match state {
        "done" => JobState::Done(answer),
        "failed" => JobState::Failed(answer),
        "taken" => JobState::Running,
        _ => JobState::Waiting,
    }
}
