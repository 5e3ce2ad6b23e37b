//! Jobs between processes.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use logweir_core::{identity::Tenant, timestamp::Timestamp};

use super::models::{signed, tenant_of};
use crate::postgres::{
    PostgresStorage,
    errors::Fault,
    locks::{self, Lock},
    read::rows,
    statement::{Statement, Value},
};
use crate::{
    JOB_ATTEMPTS_MAX, JOBS_OPEN_MAX, Job, JobKind, JobState, NewJob, PassJobs, StorageError,
    jobs::{JOB_ABANDONED, JOB_CANCELLED, JOB_TOO_LATE, JOBS_KEPT, job_state, too_many_jobs},
};

#[async_trait]
impl PassJobs for PostgresStorage {
    async fn insert_job(&self, tenant: &Tenant, job: NewJob) -> Result<Option<u64>, StorageError> {
        self.change(tenant, async |db| insert(db, tenant, job).await).await
    }

    async fn take_job(
        &self,
        kind: JobKind,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Job>, StorageError> {
        let leased = now + lease;
        self.own_change(async |db| take(db, kind, now, leased).await).await
    }

    async fn keep_job(&self, job_id: u64, leased_until: Timestamp) -> Result<bool, StorageError> {
        self.own_change(async |db| {
            let kept = Statement::new("UPDATE jobs SET leased_unix_nano = ")
                .value(Value::unix_nano(leased_until))
                .text(" WHERE state = 'taken' AND job_id = ")
                .value(signed(job_id))
                .execute(db)
                .await?;
            Ok(kept > 0)
        })
        .await
    }

    async fn finish_job(
        &self,
        job_id: u64,
        answer: Result<String, String>,
    ) -> Result<(), StorageError> {
        let (state, answer) = match answer {
            Ok(answer) => ("done", answer),
            Err(why) => ("failed", why),
        };
        self.own_change(async |db| {
            Statement::new("UPDATE jobs SET state = ")
                .value(Value::Text(state.to_owned()))
                .text(", answer = ")
                .value(Value::Text(answer.replace('\0', "\u{fffd}")))
                .text(" WHERE state = 'taken' AND job_id = ")
                .value(signed(job_id))
                .execute(db)
                .await?;
            Ok(())
        })
        .await
    }

    async fn cancel_job(&self, tenant: &Tenant, job_id: u64) -> Result<(), StorageError> {
        self.change(tenant, async |db| cancel(db, tenant, job_id).await).await
    }

    async fn job_state(&self, tenant: &Tenant, job_id: u64) -> Result<JobState, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new("SELECT state, answer FROM jobs WHERE tenant = ")
                .value(Value::Text(tenant.to_string()))
                .text(" AND job_id = ")
                .value(signed(job_id))
                .rows(db)
                .await?;
            let not_found = || StorageError::NotFound(format!("job {job_id}"));
            let row = found.first().ok_or_else(not_found)?;
            Ok(job_state(rows::get(row, 0)?, rows::get(row, 1)?))
        })
        .await
    }
}

async fn insert(db: &Transaction<'_>, tenant: &Tenant, job: NewJob) -> Result<Option<u64>, Fault> {
    // Before counting: jobs that nobody began in time must not count as open, or a tenant could ask
    // for nothing any more while no process takes jobs.
    clear(db, job.created_at).await?;
    if open(db, tenant, job.kind).await? >= JOBS_OPEN_MAX as u64 {
        return Err(too_many_jobs(job.kind).into());
    }
    let insert = Statement::new(
        "INSERT INTO jobs (tenant, kind, request, state, created_unix_nano, leased_unix_nano,
             attempts, answer, unique_key, begin_before_unix_nano) SELECT ",
    )
    .value(Value::Text(tenant.to_string()))
    .text(", ")
    .value(Value::Text(job.kind.as_str().to_owned()))
    .text(", ")
    .value(Value::Text(job.request))
    .text(", 'waiting', ")
    .value(Value::unix_nano(job.created_at))
    .text(", 0, 0, '', ");
    let insert = match job.unique_key {
        Some(key) => insert.value(Value::Text(key)).text(", "),
        None => insert.text("NULL, "),
    };
    let insert = match job.begin_before {
        Some(before) => insert.value(Value::unix_nano(before)),
        None => insert.text("NULL"),
    };
    let inserted = insert.text(" ON CONFLICT DO NOTHING RETURNING job_id").rows(db).await?;
    inserted.first().map(|row| rows::count(row, 0)).transpose()
}

/// Forgets old answers, and ends what nobody began, or ended, in time.
async fn clear(db: &Transaction<'_>, now: Timestamp) -> Result<(), Fault> {
    let old = now - JOBS_KEPT;
    Statement::new("DELETE FROM jobs WHERE state IN ('done', 'failed') AND created_unix_nano < ")
        .value(Value::unix_nano(old))
        .execute(db)
        .await?;
    Statement::new("UPDATE jobs SET state = 'failed', answer = ")
        .value(Value::Text(JOB_TOO_LATE.to_owned()))
        .text(" WHERE (state = 'waiting' OR state = 'taken' AND leased_unix_nano < ")
        .value(Value::unix_nano(now))
        .text(") AND begin_before_unix_nano <= ")
        .value(Value::unix_nano(now))
        .execute(db)
        .await?;
    Ok(())
}

/// How many jobs of a tenant and kind wait or are worked on.
async fn open(db: &Transaction<'_>, tenant: &Tenant, kind: JobKind) -> Result<u64, Fault> {
    let open = Statement::new(
        "SELECT count(*) FROM jobs WHERE state IN ('waiting', 'taken') AND tenant = ",
    )
    .value(Value::Text(tenant.to_string()))
    .text(" AND kind = ")
    .value(Value::Text(kind.as_str().to_owned()))
    .rows(db)
    .await?;
    open.first().map_or(Ok(0), |row| rows::count(row, 0))
}

async fn cancel(db: &Transaction<'_>, tenant: &Tenant, job_id: u64) -> Result<(), Fault> {
    // In this order: the first waits for a process that is about to take the job, and the second then
    // finds it taken. One that was taken is kept: its tenant has had its turn.
    Statement::new("DELETE FROM jobs WHERE state = 'waiting' AND tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND job_id = ")
        .value(signed(job_id))
        .execute(db)
        .await?;
    Statement::new("UPDATE jobs SET state = 'failed', answer = ")
        .value(Value::Text(JOB_CANCELLED.to_owned()))
        .text(" WHERE state = 'taken' AND tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND job_id = ")
        .value(signed(job_id))
        .execute(db)
        .await?;
    Ok(())
}

/// Takes the oldest job of the tenant whose last one was begun before that of the others, and of
/// which none is worked on.
async fn take(
    db: &Transaction<'_>,
    kind: JobKind,
    now: Timestamp,
    leased_until: Timestamp,
) -> Result<Option<Job>, Fault> {
    // Two processes that look at once would each take one of the same tenant.
    locks::wait(db, Lock::TakeJob).await?;
    let is_due = |statement: Statement| {
        statement
            .text("kind = ")
            .value(Value::Text(kind.as_str().to_owned()))
            .text(" AND (state = 'waiting' OR state = 'taken' AND leased_unix_nano < ")
            .value(Value::unix_nano(now))
            .text(") AND coalesce(begin_before_unix_nano > ")
            .value(Value::unix_nano(now))
            .text(", true)")
    };
    let taken = is_due(
        Statement::new(
            "UPDATE jobs SET state = 'taken', attempts = attempts + 1, leased_unix_nano = ",
        )
        .value(Value::unix_nano(leased_until))
        .text(
            " WHERE job_id = (SELECT job_id FROM jobs WHERE NOT EXISTS (
                  SELECT FROM jobs at_work WHERE at_work.kind = jobs.kind
                      AND at_work.tenant = jobs.tenant AND at_work.state = 'taken'
                      AND at_work.leased_unix_nano >= ",
        )
        .value(Value::unix_nano(now))
        .text(") AND attempts < ")
        .value(Value::Int(JOB_ATTEMPTS_MAX as i32))
        .text(" AND "),
    )
    .text(
        " ORDER BY (SELECT max(turns.leased_unix_nano) FROM jobs turns
                    WHERE turns.kind = jobs.kind AND turns.tenant = jobs.tenant), job_id
          LIMIT 1 FOR UPDATE OF jobs) RETURNING job_id, tenant, request",
    )
    .rows(db)
    .await?;
    if let Some(row) = taken.first() {
        let (tenant, request) = (tenant_of(row, 1)?, rows::get(row, 2)?);
        return Ok(Some(Job { job_id: rows::count(row, 0)?, tenant, request }));
    }
    // Only when there is nothing to take: what was begun too often keeps no other job waiting.
    is_due(
        Statement::new("UPDATE jobs SET state = 'failed', answer = ")
            .value(Value::Text(JOB_ABANDONED.to_owned()))
            .text(" WHERE attempts >= ")
            .value(Value::Int(JOB_ATTEMPTS_MAX as i32))
            .text(" AND "),
    )
    .execute(db)
    .await?;
    Ok(None)
}
