//! What goes on beside writing and reading, in small steps: old entries of the ledger are folded
//! into their producers, silent producers forgotten, old logs deleted, dead letters kept within their
//! quota, and partitions made ahead.
//! One of all processes does it at a time.

use std::{collections::BTreeSet, time::Duration};

use deadpool_postgres::{Object, Transaction};
use logweir_core::{limits::PRODUCER_RETENTION, timestamp::Timestamp};
use metrics::counter;
use tokio_postgres::{IsolationLevel, types::Type};

use super::dead_letters;
use crate::{
    StorageError,
    disk_share::DeadLetterQuota,
    postgres::{
        PostgresStorage, READ_WITHIN,
        errors::Fault,
        locks::{self, Lock},
        partitions,
        schema::Layout,
        timescale,
        values::Timestamptz,
        write::{ledger, producers},
    },
};

/// Entries of the ledger that a step folds.
// The rows of their producers are locked meanwhile, and writers of the same producers wait.
const FOLDED_PER_STEP: i64 = 2_000;
/// Silent producers that a step forgets.
const PRODUCERS_PER_STEP: i64 = 2_000;
/// Logs of the shared old partition that a step deletes.
// About as many as a write has, so that it takes a similar time.
const DELETED_LOGS_PER_STEP: i64 = 20_000;
/// Dead letters beyond the quota that a step deletes.
const DEAD_LETTERS_PER_STEP: i64 = 20_000;
/// How often the accounts of producers are added up anew, which goes over all of them.
const PRODUCERS_SUMMED_EVERY: Duration = Duration::from_secs(24 * 3_600);
/// How often dead letters are counted, which goes over all that the quotas leave.
const DEAD_LETTERS_COUNTED_EVERY: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// Longest time in which the database says whether it takes logs.
const PROBED_WITHIN: Duration = Duration::from_secs(8);
/// Old logs may be many: the server gives such a statement 50 s, less than `READ_WITHIN`.
const PATIENT: &str = "SET LOCAL statement_timeout = 50000";

impl PostgresStorage {
    /// One bounded step of each. Whether there is more to do at once.
    pub(crate) async fn upkeep(&self, now: Timestamp) -> Result<bool, StorageError> {
        // None waits for another to succeed. Deleting comes first: when the disk is full, the rest
        // needs the room that it makes.
        let retained = self.one_step(now, Step::Retain).await;
        let put_in_quota = self.one_step(now, Step::DeadLetters).await;
        let ahead = match self.layout {
            Layout::Partitions { .. } => {
                self.ensure(&self.days.unknown(partitions::ahead(now))).await
            }
            Layout::Timescale => Ok(()),
        };
        let folded = self.one_step(now, Step::Fold).await;
        let summed = self.one_step(now, Step::Sum).await;
        let unlisted = self.one_step(now, Step::Unlist).await;
        let more = || Ok(retained? | put_in_quota? | folded? | summed? | unlisted?);
        ahead.and_then(|()| more()).map_err(|fault| self.told(fault))
    }

    async fn one_step(&self, now: Timestamp, step: Step) -> Result<bool, Fault> {
        let work = async |connection: &mut Object| {
            let begin =
                connection.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
            let mut db = begin.start().await?;
            db.batch_execute(&self.writing).await?;
            db.batch_execute(PATIENT).await?;
            // Not waited for: if another process is at it, this one has nothing to do.
            if !locks::try_take(&db, Lock::Maintain).await? {
                return Ok(false);
            }
            let more = match step {
                Step::Retain => self.retain(&mut db, now).await?,
                Step::DeadLetters => self.put_in_quota(&db, now).await?,
                Step::Fold => fold(&db, now, self.config.ledger_age).await?,
                Step::Sum => self.sum_producers(&db, now).await?,
                Step::Unlist => producers::unlist(&db).await?,
            };
            db.commit().await?;
            Ok(more)
        };
        self.on_connection(None, READ_WITHIN, work).await
    }

    /// Deletes dead letters beyond the quota of their tenants.
    async fn put_in_quota(&self, db: &Transaction<'_>, now: Timestamp) -> Result<bool, Fault> {
        if !self.dead_letters_checked.lapsed(DEAD_LETTERS_COUNTED_EVERY, now) {
            return Ok(false);
        }
        // No limit of the disk is known here: what a database may take is its administrator's.
        let quota = DeadLetterQuota::of(0);
        let more = dead_letters::delete_beyond(db, &quota, now, DEAD_LETTERS_PER_STEP).await?;
        if !more {
            self.dead_letters_checked.note(now);
        }
        Ok(more)
    }

    /// Adds the accounts of producers up anew, now and then.
    async fn sum_producers(&self, db: &Transaction<'_>, now: Timestamp) -> Result<bool, Fault> {
        if self.producers_summed.lapsed(PRODUCERS_SUMMED_EVERY, now) {
            producers::sum_anew(db).await?;
            self.producers_summed.note(now);
        }
        Ok(false)
    }

    /// Deletes logs that are too old.
    async fn retain(&self, db: &mut Transaction<'_>, now: Timestamp) -> Result<bool, Fault> {
        let age = self.config.retention_age;
        match self.layout {
            Layout::Timescale if self.features.columnstore => {
                timescale::set_retention(db, age).await?;
                if self.policies_checked.lapsed(HOUR, now) {
                    self.check_policies(db, now).await?;
                    self.policies_checked.note(now);
                }
                Ok(false)
            }
            Layout::Timescale => {
                self.drop_chunks(db, now).await?;
                Ok(false)
            }
            Layout::Partitions { first_day } => {
                let Some(age) = age else { return Ok(false) };
                let cutoff = now - age;
                self.retain_days(db, first_day, cutoff, now).await
            }
        }
    }

    async fn drop_chunks(&self, db: &Transaction<'_>, now: Timestamp) -> Result<(), Fault> {
        let Some(age) = self.config.retention_age else { return Ok(()) };
        let cutoff = now - age;
        timescale::drop_chunks(db, cutoff.as_unix_seconds()).await
    }

    /// Tells of policies that fail, and does what cannot wait for them: the disk must not fill up.
    async fn check_policies(&self, db: &Transaction<'_>, now: Timestamp) -> Result<(), Fault> {
        let failed = timescale::failed_policies(db).await?;
        for policy in &failed {
            counter!("logweir_storage_failed_policies_total").increment(1);
            tracing::warn!(
                "TimescaleDB's {policy} failed when it ran last; see timescaledb_information.job_errors. \
                 Until it succeeds old logs are dropped here, and chunks stay as they were written"
            );
        }
        match failed.is_empty() {
            true => Ok(()),
            false => self.drop_chunks(db, now).await,
        }
    }

    async fn retain_days(
        &self,
        db: &mut Transaction<'_>,
        first_day: i64,
        cutoff: Timestamp,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        // The days ahead are never dropped, even by a retention of hours: upkeep would make them
        // again at once, and drop them again.
        let ahead = partitions::ahead(now);
        let days: BTreeSet<i64> = partitions::list(db).await?.difference(&ahead).copied().collect();
        for &day in days.range(..partitions::day_of(cutoff)) {
            if partitions::drop_day(db, day).await? {
                self.days.forget();
                counter!("logweir_storage_partitions_expired_total").increment(1);
                tracing::info!(day = %partitions::date(day), "the logs of a day are past their age");
                // Each in a transaction of its own, so that its lock is held for a moment only.
                return Ok(true);
            }
        }
        if !self.backfill_checked.lapsed(HOUR, now) {
            return Ok(false);
        }
        let deleted = delete_backfill(db, first_day, cutoff).await?;
        if deleted == Deleted::All {
            self.backfill_checked.note(now);
        }
        Ok(deleted == Deleted::Some)
    }

    /// Whether writes would be taken now.
    pub(crate) async fn probe(&self) -> Result<(), StorageError> {
        let probe = async |connection: &mut Object| {
            let db = connection.transaction().await?;
            // As a write does; nothing of it stays. A standby, or a server without room for the log
            // of what it writes, refuses. An id of its own: nobody waits for another's probe.
            db.batch_execute(
                "SET LOCAL statement_timeout = 5000;
                 INSERT INTO batches (tenant, batch_id, checksum, committed_at, stored, dead_lettered)
                 VALUES ('', gen_random_uuid(), 0, 'epoch', 0, 0)",
            )
            .await?;
            db.rollback().await?;
            Ok(())
        };
        self.on_connection(None, PROBED_WITHIN, probe).await.map_err(|fault| self.told(fault))
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Retain,
    DeadLetters,
    Fold,
    Sum,
    Unlist,
}

/// Folds old entries of the ledger and forgets silent producers. Whether there is more to do.
async fn fold(db: &Transaction<'_>, now: Timestamp, age: Duration) -> Result<bool, Fault> {
    let more = ledger::fold(db, now - age, FOLDED_PER_STEP).await?;
    let silent_since = now - PRODUCER_RETENTION;
    Ok(more | producers::forget_silent(db, silent_since, PRODUCERS_PER_STEP).await?)
}

/// How far a step of deletion came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deleted {
    /// Nothing that is too old is left.
    All,
    /// There is more, for a step at once.
    Some,
    /// Somebody reads it; the next round tries again.
    Nothing,
}

/// Deletes old logs of the one partition that holds those of many days.
async fn delete_backfill(
    db: &mut Transaction<'_>,
    first_day: i64,
    cutoff: Timestamp,
) -> Result<Deleted, Fault> {
    let (cutoff, _) = Timestamptz::of(cutoff);
    if cutoff >= partitions::start_of(first_day) {
        let row = db.query_typed_one("SELECT EXISTS (SELECT FROM logs_backfill)", &[]).await?;
        // Looked at first: TRUNCATE locks out searches even where there is nothing to delete.
        let is_empty = !row.try_get::<_, bool>(0)? || partitions::empty_backfill(db).await?;
        return Ok(if is_empty { Deleted::All } else { Deleted::Nothing });
    }
    // PostgreSQL has no DELETE with a LIMIT. By the place of the rows, since `logs` has no key.
    let deleted = db
        .execute_typed(
            "DELETE FROM logs_backfill WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM logs_backfill WHERE time < $1 LIMIT $2))",
            &[(&cutoff, Type::TIMESTAMPTZ), (&DELETED_LOGS_PER_STEP, Type::INT8)],
        )
        .await?;
    counter!("logweir_storage_logs_expired_total", "reason" => "age").increment(deleted);
    Ok(if deleted as i64 == DELETED_LOGS_PER_STEP { Deleted::Some } else { Deleted::All })
}
