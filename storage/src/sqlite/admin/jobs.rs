//! Jobs between processes, or between the parts of one.

use std::time::Duration;

use async_trait::async_trait;
use logweir_core::{identity::Tenant, timestamp::Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::models::{signed, tenant_of};
use crate::sqlite::{SqliteStorage, errors::Fault, write::writer::Writer};
use crate::{
    JOB_ATTEMPTS_MAX, JOBS_OPEN_MAX, Job, JobKind, JobState, NewJob, PassJobs, StorageError,
    jobs::{JOB_ABANDONED, JOB_CANCELLED, JOB_TOO_LATE, JOBS_KEPT, job_state, too_many_jobs},
};

#[async_trait]
impl PassJobs for SqliteStorage {
    async fn insert_job(&self, tenant: &Tenant, job: NewJob) -> Result<Option<u64>, StorageError> {
        self.change(tenant, move |db, tenant_id| insert(db, tenant_id, &job)).await
    }

    async fn take_job(
        &self,
        kind: JobKind,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Job>, StorageError> {
        // Mostly there is none, and looking does not keep the writer.
        let is_there =
            self.readers.run_own(move |db, _| Ok(next(db, kind, now)?.is_some())).await?;
        if !is_there {
            return Ok(None);
        }
        let leased = now + lease;
        let take = move |writer: &mut Writer| writer.free(|db, _| take(db, kind, now, leased));
        self.writer.run(take).await
    }

    async fn keep_job(&self, job_id: u64, leased_until: Timestamp) -> Result<bool, StorageError> {
        let keep = move |writer: &mut Writer| {
            writer.free(|db, _| {
                let kept = db
                    .prepare_cached(
                        "UPDATE jobs SET leased_unix_nano = ?2 WHERE job_id = ?1 AND state = 'taken'",
                    )?
                    .execute(params![signed(job_id), leased_until.as_unix_nanos()])?;
                Ok(kept > 0)
            })
        };
        self.writer.run(keep).await
    }

    async fn finish_job(
        &self,
        job_id: u64,
        answer: Result<String, String>,
    ) -> Result<(), StorageError> {
        let finish = move |writer: &mut Writer| {
            writer.free(|db, _| {
                let (state, answer) = match &answer {
                    Ok(answer) => ("done", answer),
                    Err(why) => ("failed", why),
                };
                db.prepare_cached(
                    "UPDATE jobs SET state = ?2, answer = ?3 WHERE job_id = ?1 AND state = 'taken'",
                )?
                .execute(params![signed(job_id), state, answer])?;
                Ok(())
            })
        };
        self.writer.run(finish).await
    }

    async fn cancel_job(&self, tenant: &Tenant, job_id: u64) -> Result<(), StorageError> {
        self.change(tenant, move |db, tenant_id| cancel(db, tenant_id, job_id)).await
    }

    async fn job_state(&self, tenant: &Tenant, job_id: u64) -> Result<JobState, StorageError> {
        let state = move |db: &Connection, tenant_id: i64| -> Result<Option<JobState>, Fault> {
            let select = "SELECT state, answer FROM jobs WHERE tenant_id = ?1 AND job_id = ?2";
            let found: Option<(String, String)> = db
                .prepare_cached(select)?
                .query_row(params![tenant_id, signed(job_id)], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            Ok(found.map(|(state, answer)| job_state(&state, answer)))
        };
        let found = self.list(tenant, state).await?;
        found.ok_or_else(|| StorageError::NotFound(format!("job {job_id}")))
    }
}

fn insert(db: &Connection, tenant_id: i64, job: &NewJob) -> Result<Option<u64>, Fault> {
    // Before counting: jobs that nobody began in time must not count as open, or a tenant could ask
    // for nothing any more while no process takes jobs.
    clear(db, job.created_at)?;
    let open: usize = db
        .prepare_cached(
            "SELECT count(*) FROM jobs
             WHERE tenant_id = ?1 AND kind = ?2 AND state IN ('waiting', 'taken')",
        )?
        .query_row(params![tenant_id, job.kind.as_str()], |row| row.get(0))?;
    if open >= JOBS_OPEN_MAX {
        return Err(too_many_jobs(job.kind).into());
    }
    let inserted: Option<i64> = db
        .prepare_cached(
            "INSERT INTO jobs (tenant_id, kind, unique_key, request, state, created_unix_nano,
                 begin_before_unix_nano, leased_unix_nano, attempts, answer)
             VALUES (?1, ?2, ?3, ?4, 'waiting', ?5, ?6, 0, 0, '')
             ON CONFLICT DO NOTHING RETURNING job_id",
        )?
        .query_row(
            params![
                tenant_id,
                job.kind.as_str(),
                job.unique_key,
                job.request,
                job.created_at.as_unix_nanos(),
                job.begin_before.map(Timestamp::as_unix_nanos),
            ],
            |row| row.get(0),
        )
        .optional()?;
    Ok(inserted.map(i64::unsigned_abs))
}

/// Forgets old answers, and ends what nobody began, or ended, in time.
fn clear(db: &Connection, now: Timestamp) -> Result<(), Fault> {
    let old = now - JOBS_KEPT;
    db.prepare_cached(
        "DELETE FROM jobs WHERE created_unix_nano < ?1 AND state IN ('done', 'failed')",
    )?
    .execute([old.as_unix_nanos()])?;
    db.prepare_cached(
        "UPDATE jobs SET state = 'failed', answer = ?2
         WHERE (state = 'waiting' OR state = 'taken' AND leased_unix_nano < ?1)
               AND begin_before_unix_nano <= ?1",
    )?
    .execute(params![now.as_unix_nanos(), JOB_TOO_LATE])?;
    Ok(())
}

fn cancel(db: &Connection, tenant_id: i64, job_id: u64) -> Result<(), Fault> {
    let of = params![tenant_id, signed(job_id)];
    db.prepare_cached(
        "DELETE FROM jobs WHERE tenant_id = ?1 AND job_id = ?2 AND state = 'waiting'",
    )?
    .execute(of)?;
    // One that was taken is kept: its tenant has had its turn.
    db.prepare_cached(
        "UPDATE jobs SET state = 'failed', answer = ?3
         WHERE tenant_id = ?1 AND job_id = ?2 AND state = 'taken'",
    )?
    .execute(params![tenant_id, signed(job_id), JOB_CANCELLED])?;
    Ok(())
}

/// The oldest job that somebody should begin, and how often it was begun: of the tenant whose last
/// one was begun before that of the others, and of which none is worked on.
fn next(db: &Connection, kind: JobKind, now: Timestamp) -> rusqlite::Result<Option<(i64, u32)>> {
    db.prepare_cached(
        "SELECT job_id, attempts FROM jobs
         WHERE kind = ?1 AND state IN ('waiting', 'taken')
               AND (state = 'waiting' OR leased_unix_nano < ?2)
               AND ifnull(begin_before_unix_nano > ?2, TRUE)
               AND NOT EXISTS (SELECT 1 FROM jobs at_work
                               WHERE at_work.kind = ?1 AND at_work.tenant_id = jobs.tenant_id
                                     AND at_work.state = 'taken' AND at_work.leased_unix_nano >= ?2)
         ORDER BY (SELECT max(turns.leased_unix_nano) FROM jobs turns
                   WHERE turns.kind = ?1 AND turns.tenant_id = jobs.tenant_id), job_id LIMIT 1",
    )?
    .query_row(params![kind.as_str(), now.as_unix_nanos()], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

fn take(
    db: &Connection,
    kind: JobKind,
    now: Timestamp,
    leased_until: Timestamp,
) -> Result<Option<Job>, Fault> {
    while let Some((job_id, attempts)) = next(db, kind, now)? {
        // Who took it has died each time: a job that ends its process would go on ending them.
        if attempts >= JOB_ATTEMPTS_MAX {
            db.prepare_cached("UPDATE jobs SET state = 'failed', answer = ?2 WHERE job_id = ?1")?
                .execute(params![job_id, JOB_ABANDONED])?;
            continue;
        }
        db.prepare_cached(
            "UPDATE jobs SET state = 'taken', leased_unix_nano = ?2, attempts = attempts + 1
             WHERE job_id = ?1",
        )?
        .execute(params![job_id, leased_until.as_unix_nanos()])?;
        let mut select = db.prepare_cached(
            "SELECT name, request FROM jobs JOIN tenants USING (tenant_id) WHERE job_id = ?1",
        )?;
        let mut rows = select.query([job_id])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (tenant, request) = (tenant_of(row, 0)?, row.get(1)?);
        return Ok(Some(Job { job_id: job_id.unsigned_abs(), tenant, request }));
    }
    Ok(None)
}
