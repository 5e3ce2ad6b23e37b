//! Plain PostgreSQL: `logs` in a partition for each day in UTC. Partitions are made ahead by
//! upkeep, and on demand before a write that needs them; retention drops whole ones. History from
//! more than 90 days before the first start lies in one partition, so that their number stays
//! small.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use deadpool_postgres::Transaction;
use logweir_core::timestamp::Timestamp;
use tokio_postgres::error::SqlState;

use super::{
    errors::Fault,
    locks::{self, Lock},
    values::Timestamptz,
};

/// Days before the first start that get partitions of their own when logs of them come in.
// Each partition has three indexes and costs every search some planning; a sender that ships years
// of old logs would otherwise make thousands.
const BACKFILL_DAYS: i64 = 90;
/// Days after today whose partitions are made ahead.
// One is what the next midnight needs; two leave upkeep a day to fail in. A write that lacks one
// makes it by itself, but all writers would then wait for that at the same moment.
const DAYS_AHEAD: i64 = 2;

const CREATE: &str = include_str!("../../migrations/postgres/0001_partitions.sql");

/// The number of a day, from 1970-01-01.
pub(super) const fn day_of(time: Timestamp) -> i64 {
    time.as_unix_seconds().div_euclid(86_400)
}

pub(super) const fn start_of(day: i64) -> Timestamptz {
    Timestamptz::of_seconds(day.saturating_mul(86_400))
}

/// The first day that gets a partition of its own in a new database.
pub(super) const fn first_day(now: Timestamp) -> i64 {
    day_of(now) - BACKFILL_DAYS
}

/// The days that are to be there at any time.
pub(super) fn ahead(now: Timestamp) -> BTreeSet<i64> {
    let today = day_of(now);
    (today..=today + DAYS_AHEAD).collect()
}

/// The days that are known to have a partition.
#[derive(Debug, Default)]
pub(super) struct KnownDays(Mutex<BTreeSet<i64>>);

impl KnownDays {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are not known.
    pub(super) fn unknown(&self, mut days: BTreeSet<i64>) -> BTreeSet<i64> {
        let known = self.lock();
        days.retain(|day| !known.contains(day));
        days
    }

    pub(super) fn remember(&self, days: &BTreeSet<i64>) {
        self.lock().extend(days);
    }

    /// One of them was dropped.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }
}

/// In a new database.
pub(super) async fn create(db: &Transaction<'_>, first_day: i64) -> Result<(), Fault> {
    let date = date(first_day);
    db.batch_execute(CREATE).await?;
    db.batch_execute(&format!(
        "CREATE TABLE logs_backfill PARTITION OF logs FOR VALUES FROM (MINVALUE) TO ('{date} 00:00+00')"
    ))
    .await?;
    Ok(())
}

/// Makes those of the days' partitions that are missing. They are attached, which other processes'
/// reading and writing does not wait for.
pub(super) async fn ensure(db: &Transaction<'_>, days: &BTreeSet<i64>) -> Result<(), Fault> {
    // Two processes that make the same day would have one fail with "already exists", and a write
    // with it. What is there is read under the lock, since another may have made it meanwhile.
    locks::wait(db, Lock::Partition).await?;
    let there = list(db).await?;
    for &day in days.difference(&there) {
        // CREATE TABLE … PARTITION OF would be one statement, but locks all of `logs` exclusively:
        // it waits for every search, and everything else waits behind it.
        let (name, from, to) = (name(day), date(day), date(day + 1));
        db.batch_execute(&format!(
            "CREATE TABLE {name} (LIKE logs INCLUDING ALL);
             ALTER TABLE logs ATTACH PARTITION {name}
                 FOR VALUES FROM ('{from} 00:00+00') TO ('{to} 00:00+00')"
        ))
        .await?;
        tracing::debug!(partition = name, "a day has its partition now");
    }
    Ok(())
}

/// The days that have a partition.
pub(super) async fn list(db: &Transaction<'_>) -> Result<BTreeSet<i64>, Fault> {
    let rows = db
        .query_typed(
            "SELECT to_date(substr(relname, 6), 'YYYYMMDD') - DATE '1970-01-01'
             FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
             WHERE inhparent = 'logs'::regclass AND relname ~ '^logs_[0-9]{8}$'",
            &[],
        )
        .await?;
    let day = |row: &tokio_postgres::Row| row.try_get::<_, i32>(0).map(i64::from);
    Ok(rows.iter().map(day).collect::<Result<_, _>>()?)
}

/// Drops a day's logs. False if somebody reads them just now.
pub(super) async fn drop_day(db: &mut Transaction<'_>, day: i64) -> Result<bool, Fault> {
    without_waiting_long(db, &format!("DROP TABLE IF EXISTS {}", name(day))).await
}

/// Empties the partition that holds the days before the first of their own. False if somebody reads
/// it just now.
pub(super) async fn empty_backfill(db: &mut Transaction<'_>) -> Result<bool, Fault> {
    without_waiting_long(db, "TRUNCATE logs_backfill").await
}

/// Runs what locks a partition against everybody, unless somebody reads it for longer.
async fn without_waiting_long(db: &mut Transaction<'_>, statement: &str) -> Result<bool, Fault> {
    // A savepoint, so that a lock that is not to be had ends the attempt and not the whole step.
    let part = db.transaction().await?;
    // Reading and writing wait for this behind those who read now: so not for long.
    part.batch_execute("SET LOCAL lock_timeout = 500").await?;
    match part.batch_execute(statement).await {
        Ok(()) => part.commit().await?,
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

fn name(day: i64) -> String {
    let (year, month, day) = civil(day);
    format!("logs_{year:04}{month:02}{day:02}")
}

/// Such as 2023-11-14.
pub(super) fn date(day: i64) -> String {
    let (year, month, day) = civil(day);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of the Gregorian calendar. Years are counted from March here, so that the
/// day that some have more comes last.
const fn civil(day: i64) -> (i64, i64, i64) {
    // From 0000-03-01, in cycles of 400 years.
    let day = day + 719_468;
    let (cycle, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = cycle * 400 + year;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        for (day, expected) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (19_675, (2023, 11, 14)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (day_of(Timestamp::MAX), (2262, 4, 11)),
            (day_of(Timestamp::MIN), (1677, 9, 21)),
        ] {
            assert_eq!(civil(day), expected, "{day}");
        }
        assert_eq!(name(19_675), "logs_20231114");
    }
}
