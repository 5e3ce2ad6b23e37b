//! What is deleted, in small steps: what is too old; dead letters beyond their quota; and when the
//! database is over its limit, what is oldest of the tenants that are over their share of it. Pages
//! that are free then go back to the disk.
//!
//! Nothing else deletes a log, and no log of a tenant goes for the size of another.

use std::{cmp::Reverse, time::Duration};

use logweir_core::{runtime::fault, timestamp::Timestamp};
use metrics::{counter, gauge};
use rusqlite::{Connection, Transaction, params};

use crate::{
    StorageError, TenantUsage,
    disk_share::{self, DeadLetterQuota, TenantId},
    sqlite::{blocks, errors::Fault, write::writer::Writer},
};

/// How much one step deletes, in rows or blocks.
// Each is a transaction of the one writing thread, and writes wait behind it: small enough to be
// over soon, and to commit within the reserve while the disk is full.
const BLOCKS_PER_STEP: usize = 64;
const DEAD_LETTERS_PER_STEP: usize = 2_000;
const BUCKETS_PER_STEP: u64 = 20_000;
/// Free pages given back in a step: each is a page to move.
const VACUUMED_PAGES_PER_STEP: u32 = 1_024;
/// Free pages below this share of the file are left for new data.
// Every merge frees pages that the next write fills. Giving those back at once would move pages for
// nothing, and make the file shrink and grow all the time.
const FREE_SHARE_MAX: f64 = 0.25;
const FREE_BYTES_MIN: u64 = 64 << 20;

/// What is kept how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    pub(crate) ledger_age: Duration,
    pub(crate) age: Option<Duration>,
    pub(crate) disk_bytes_max: u64,
    pub(crate) dead_letters: DeadLetterQuota,
}

/// One step of each kind of deletion. Whether there is more to do.
pub(crate) fn retain(
    writer: &mut Writer,
    now: Timestamp,
    retention: &Retention,
) -> Result<bool, StorageError> {
    let mut more = false;
    if let Some(age) = retention.age {
        let deleted = delete(writer, "age", |db| delete_old_logs(db, now - age))?;
        more |= deleted.blocks == BLOCKS_PER_STEP;
    }
    let quota = retention.dead_letters;
    let deleted = delete(writer, "quota", |db| delete_dead_letters_beyond(db, &quota, now))?;
    more |= deleted.dead_letters >= DEAD_LETTERS_PER_STEP;
    if retention.disk_bytes_max > 0 {
        more |= share_disk(writer, retention.disk_bytes_max)?;
    }
    more |= vacuum(writer, retention)?;
    gauge!("logweir_storage_disk_bytes").set(writer.files().disk_bytes() as f64);
    Ok(more)
}

/// What a step deleted.
#[derive(Debug, Clone, Copy, Default)]
struct Deleted {
    blocks: usize,
    logs: u64,
    dead_letters: usize,
    buckets: usize,
    /// Of blocks and dead letters.
    bytes: u64,
}

impl Deleted {
    const fn is_nothing(&self) -> bool {
        self.blocks + self.dead_letters + self.buckets == 0
    }
}

/// Runs a step of deletion and counts what it deleted, by the reason.
fn delete(
    writer: &mut Writer,
    reason: &'static str,
    step: impl FnOnce(&Transaction<'_>) -> Result<Deleted, Fault>,
) -> Result<Deleted, StorageError> {
    let deleted = writer.free(|db, _| {
        let deleted = step(db)?;
        if !deleted.is_nothing() {
            fault::step("retain_before_commit");
        }
        Ok(deleted)
    })?;
    if !deleted.is_nothing() {
        fault::step("retain_after_commit");
        counter!("logweir_storage_logs_expired_total", "reason" => reason).increment(deleted.logs);
        counter!("logweir_storage_dead_letters_expired_total", "reason" => reason)
            .increment(deleted.dead_letters as u64);
    }
    Ok(deleted)
}

/// Deletes the oldest blocks that end before a time, of all tenants.
fn delete_old_logs(db: &Transaction<'_>, cutoff: Timestamp) -> Result<Deleted, Fault> {
    let mut select = db.prepare_cached(
        "SELECT time_max_unix_nano, block_id, disk_bytes, logs FROM blocks
         WHERE time_max_unix_nano < ?1 ORDER BY time_max_unix_nano LIMIT ?2",
    )?;
    let mut deleted = Deleted::default();
    for block in select
        .query_map(params![cutoff.as_unix_nanos(), BLOCKS_PER_STEP], Oldest::block)?
        .collect::<Result<Vec<_>, _>>()?
    {
        block.delete(db, &mut deleted)?;
    }
    Ok(deleted)
}

/// Deletes the oldest dead letters that are owed to nobody, of the tenants that have more of them
/// than the quota, or older ones.
fn delete_dead_letters_beyond(
    db: &Transaction<'_>,
    quota: &DeadLetterQuota,
    now: Timestamp,
) -> Result<Deleted, Fault> {
    let cutoff = (now - quota.age_max).as_unix_nanos();
    let mut deleted = Deleted::default();
    for usage in Usage::of_all(db)? {
        let (dead_letters, bytes) = (
            usage.dead_letters - usage.owed_dead_letters,
            usage.dead_letter_bytes - usage.owed_dead_letter_bytes,
        );
        let before = deleted;
        let is_beyond = |time, deleted: &Deleted| {
            let dead_letters = dead_letters - (deleted.dead_letters - before.dead_letters) as u64;
            time < cutoff || quota.is_exceeded(dead_letters, bytes - (deleted.bytes - before.bytes))
        };
        if dead_letters > 0 {
            delete_dead_letters(db, usage.tenant_id, &mut deleted, is_beyond)?;
            note_expired(db, usage.tenant_id, deleted.dead_letters - before.dead_letters)?;
        }
    }
    Ok(deleted)
}

/// Deletes dead letters of a tenant that are owed to nobody, oldest first, while that is wanted of
/// the next one by its time and what was deleted before it.
fn delete_dead_letters(
    db: &Transaction<'_>,
    tenant_id: TenantId,
    deleted: &mut Deleted,
    is_wanted: impl Fn(i64, &Deleted) -> bool,
) -> Result<(), Fault> {
    let mut select = db.prepare_cached(
        "SELECT created_unix_nano, dead_letter_id, disk_bytes FROM dead_letters
         WHERE tenant_id = ?1 AND is_owed = 0 ORDER BY dead_letter_id",
    )?;
    let mut rows = select.query([tenant_id])?;
    let mut last = None;
    while deleted.dead_letters < DEAD_LETTERS_PER_STEP
        && let Some(row) = rows.next()?
    {
        if !is_wanted(row.get(0)?, deleted) {
            break;
        }
        last = Some(row.get::<_, i64>(1)?);
        deleted.bytes += row.get::<_, u64>(2)?;
        deleted.dead_letters += 1;
    }
    drop(rows);
    if let Some(last) = last {
        db.prepare_cached(
            "DELETE FROM dead_letters WHERE tenant_id = ?1 AND is_owed = 0 AND dead_letter_id <= ?2",
        )?
        .execute(params![tenant_id, last])?;
    }
    Ok(())
}

/// Adds to the dead letters of a tenant that were deleted so far: their number tells of new ones only
/// together with it.
fn note_expired(
    db: &Transaction<'_>,
    tenant_id: TenantId,
    dead_letters: usize,
) -> Result<(), Fault> {
    if dead_letters > 0 {
        db.prepare_cached(
            "UPDATE tenant_usage SET expired_dead_letters = expired_dead_letters + ?2 WHERE tenant_id = ?1",
        )?
        .execute(params![tenant_id, dead_letters])?;
    }
    Ok(())
}

/// Where the database is over its limit: a step of deletion in the tenant that is over its share by
/// the most, or where that one has nothing left to give, in the next. Whether there is more to do.
fn share_disk(writer: &mut Writer, disk_bytes_max: u64) -> Result<bool, StorageError> {
    let space = writer.run_plain(Space::of)?;
    // Used pages and not the file's length: deleting frees pages first and shortens the file later,
    // so that going by its length would delete everything before it got shorter.
    let used_bytes = space.used_bytes();
    if used_bytes <= disk_bytes_max {
        return Ok(false);
    }
    let usage = writer.run_plain(Usage::of_all)?;
    let mut excess = disk_share::excess(&parts(&usage, used_bytes), disk_bytes_max);
    // One step in one tenant, and then all is looked at anew: by then it may be another that is over
    // its share by the most.
    excess.sort_by_key(|(_, bytes)| Reverse(*bytes));
    for (tenant_id, bytes) in excess {
        if !delete(writer, "disk", |db| evict(db, tenant_id, bytes))?.is_nothing() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes what a tenant can best do without, until so many bytes are free: dead letters that are
/// owed to nobody; logs and the dead letters of acknowledged ones, oldest first; buckets.
fn evict(db: &Transaction<'_>, tenant_id: TenantId, bytes: u64) -> Result<Deleted, Fault> {
    let mut deleted = Deleted::default();
    delete_dead_letters(db, tenant_id, &mut deleted, |_, deleted| deleted.bytes < bytes)?;
    if deleted.dead_letters < DEAD_LETTERS_PER_STEP {
        for oldest in oldest_of(db, tenant_id)? {
            // No more than asked for: a full step of 64 blocks may be much of a small database.
            if deleted.bytes >= bytes {
                break;
            }
            oldest.delete(db, &mut deleted)?;
        }
    }
    note_expired(db, tenant_id, deleted.dead_letters)?;
    if deleted.is_nothing() {
        deleted.buckets = delete_oldest_buckets(db, tenant_id)?;
    }
    Ok(deleted)
}

/// A block, or the dead letter of an acknowledged log.
struct Oldest {
    time_unix_nano: i64,
    id: i64,
    bytes: u64,
    /// None if it is a dead letter.
    logs: Option<u64>,
}

impl Oldest {
    fn block(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { logs: row.get(3)?, ..Self::dead_letter(row)? })
    }

    fn dead_letter(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { time_unix_nano: row.get(0)?, id: row.get(1)?, bytes: row.get(2)?, logs: None })
    }

    fn delete(&self, db: &Transaction<'_>, deleted: &mut Deleted) -> Result<(), Fault> {
        deleted.bytes += self.bytes;
        if let Some(logs) = self.logs {
            blocks::delete(db, self.id)?;
            deleted.blocks += 1;
            deleted.logs += logs;
        } else {
            db.prepare_cached("DELETE FROM dead_letters WHERE dead_letter_id = ?1")?
                .execute([self.id])?;
            deleted.dead_letters += 1;
        }
        Ok(())
    }
}

/// The oldest blocks of a tenant and dead letters of its acknowledged logs, no more than a step
/// deletes.
fn oldest_of(db: &Transaction<'_>, tenant_id: TenantId) -> Result<Vec<Oldest>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT time_max_unix_nano, block_id, disk_bytes, logs FROM blocks WHERE tenant_id = ?1
         ORDER BY time_max_unix_nano LIMIT ?2",
    )?;
    let blocks = select.query_map(params![tenant_id, BLOCKS_PER_STEP], Oldest::block)?;
    let blocks: Vec<Oldest> = blocks.collect::<Result<_, _>>()?;
    let mut select = db.prepare_cached(
        "SELECT created_unix_nano, dead_letter_id, disk_bytes FROM dead_letters
         WHERE tenant_id = ?1 AND is_owed = 1 ORDER BY dead_letter_id LIMIT ?2",
    )?;
    let dead_letters =
        select.query_map(params![tenant_id, DEAD_LETTERS_PER_STEP], Oldest::dead_letter)?;
    let dead_letters: Vec<Oldest> = dead_letters.collect::<Result<_, _>>()?;
    // Behind the end of a list that is full may come what is older than the rest of the other.
    let ends = [(&blocks, BLOCKS_PER_STEP), (&dead_letters, DEAD_LETTERS_PER_STEP)]
        .into_iter()
        .filter(|(list, step)| list.len() == *step)
        .filter_map(|(list, _)| Some(list.last()?.time_unix_nano));
    let end = ends.min().unwrap_or(i64::MAX);
    let mut oldest: Vec<Oldest> = blocks
        .into_iter()
        .chain(dead_letters)
        .filter(|oldest| oldest.time_unix_nano <= end)
        .collect();
    oldest.sort_by_key(|oldest| oldest.time_unix_nano);
    Ok(oldest)
}

/// Deletes the oldest rows of 10 seconds of a tenant of which no logs are left to delete; hours stay.
fn delete_oldest_buckets(db: &Transaction<'_>, tenant_id: TenantId) -> Result<usize, Fault> {
    let buckets: u64 = db.query_row(
        "SELECT max(fine_buckets, 0) FROM tenant_usage WHERE tenant_id = ?1",
        [tenant_id],
        |row| row.get(0),
    )?;
    // That is little, and looking for them goes through the rows of all tenants.
    if buckets < BUCKETS_PER_STEP {
        return Ok(0);
    }
    let mut deleted = 0;
    for (table, of_tenant) in [
        ("service_buckets", "service_id IN (SELECT service_id FROM services WHERE tenant_id = ?2)"),
        ("latency_buckets", "service_id IN (SELECT service_id FROM services WHERE tenant_id = ?2)"),
        (
            "template_buckets",
            "template_key IN (SELECT template_key FROM templates WHERE tenant_id = ?2)",
        ),
    ] {
        // SQLite has no DELETE with a LIMIT here, so the start of the row at the limit is looked up
        // first. With fewer rows than a step there is none, and nothing is deleted.
        deleted += db.execute(
            &format!(
                "DELETE FROM {table} WHERE width_seconds = 10 AND {of_tenant} AND start_unix_seconds <=
                     (SELECT start_unix_seconds FROM {table} WHERE width_seconds = 10 AND {of_tenant}
                      ORDER BY start_unix_seconds LIMIT 1 OFFSET ?1)"
            ),
            params![BUCKETS_PER_STEP, tenant_id],
        )?;
    }
    Ok(deleted)
}

/// What a tenant takes, and what of the disk it may take.
pub(crate) fn usage(
    db: &Connection,
    tenant_id: TenantId,
    disk_bytes_max: u64,
) -> Result<TenantUsage, Fault> {
    let all = Usage::of_all(db)?;
    let Some(own) = all.iter().find(|usage| usage.tenant_id == tenant_id) else {
        return Ok(TenantUsage::default());
    };
    let counts = TenantUsage {
        dead_letters: own.dead_letters,
        expired_dead_letters: own.expired_dead_letters,
        ..TenantUsage::default()
    };
    if disk_bytes_max == 0 {
        return Ok(counts);
    }
    let parts = parts(&all, Space::of(db)?.used_bytes());
    let disk_bytes = parts.iter().find(|(of, _)| *of == tenant_id).map_or(0, |(_, bytes)| *bytes);
    let disk_share_bytes = Some(disk_share::share(&parts, tenant_id, disk_bytes_max));
    Ok(TenantUsage { own_bytes: own.bytes(), disk_bytes, disk_share_bytes, ..counts })
}

/// The parts of tenants in what is used of the database.
fn parts(usage: &[Usage], used_bytes: u64) -> Vec<(TenantId, u64)> {
    let known: Vec<_> = usage.iter().map(|usage| (usage.tenant_id, usage.bytes())).collect();
    disk_share::spread(&known, used_bytes)
}

/// What a tenant is known to take.
struct Usage {
    tenant_id: TenantId,
    block_bytes: u64,
    dead_letters: u64,
    dead_letter_bytes: u64,
    owed_dead_letters: u64,
    owed_dead_letter_bytes: u64,
    expired_dead_letters: u64,
    row_bytes: u64,
}

impl Usage {
    fn of_all(db: &Connection) -> rusqlite::Result<Vec<Self>> {
        db.prepare_cached(
            // A program of an earlier version that runs while the tables are migrated does not count
            // the buckets that it adds, which are subtracted when they are deleted.
            "SELECT tenant_id, block_bytes, dead_letters, dead_letter_bytes, owed_dead_letters,
                    owed_dead_letter_bytes, expired_dead_letters, max(row_bytes, 0) FROM tenant_usage",
        )?
        .query_map([], |row| {
            Ok(Self {
                tenant_id: row.get(0)?,
                block_bytes: row.get(1)?,
                dead_letters: row.get(2)?,
                dead_letter_bytes: row.get(3)?,
                owed_dead_letters: row.get(4)?,
                owed_dead_letter_bytes: row.get(5)?,
                expired_dead_letters: row.get(6)?,
                row_bytes: row.get(7)?,
            })
        })?
        .collect()
    }

    const fn bytes(&self) -> u64 {
        self.block_bytes + self.dead_letter_bytes + self.row_bytes
    }
}

/// How the database's file is used.
#[derive(Debug, Clone, Copy)]
struct Space {
    page_bytes: u64,
    pages: u64,
    free_pages: u64,
}

impl Space {
    fn of(db: &Connection) -> rusqlite::Result<Self> {
        let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        Ok(Self {
            page_bytes: pragma("page_size")?,
            pages: pragma("page_count")?,
            free_pages: pragma("freelist_count")?,
        })
    }

    const fn used_bytes(&self) -> u64 {
        (self.pages - self.free_pages) * self.page_bytes
    }

    /// Whether there are more free pages than new data will soon fill.
    fn is_loose(&self, disk_bytes_max: u64) -> bool {
        let free = self.free_pages * self.page_bytes;
        let is_over = disk_bytes_max > 0 && self.pages * self.page_bytes > disk_bytes_max;
        let is_much = free > FREE_BYTES_MIN
            && free as f64 > (self.pages * self.page_bytes) as f64 * FREE_SHARE_MAX;
        self.free_pages > 0 && (is_over || is_much)
    }
}

/// Gives free pages back to the disk. Whether there is more to do.
fn vacuum(writer: &mut Writer, retention: &Retention) -> Result<bool, StorageError> {
    let space = writer.run_plain(Space::of)?;
    if !space.is_loose(retention.disk_bytes_max) {
        return Ok(false);
    }
    writer.run_plain(|db| {
        // The pragma moves a page with each row that is read from it.
        let mut vacuum =
            db.prepare(&format!("PRAGMA incremental_vacuum({VACUUMED_PAGES_PER_STEP})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    })?;
    let after = writer.run_plain(Space::of)?;
    // No page less means that it cannot be done now, as on a full disk: asking again at once
    // would spin.
    let more = after.free_pages < space.free_pages && after.is_loose(retention.disk_bytes_max);
    if !more {
        // The file itself shrinks when the write-ahead log is copied into it.
        writer.run_plain(|db| db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))?;
    }
    Ok(more)
}
