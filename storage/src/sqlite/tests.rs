mod producers;
mod readers;
mod retention;

use std::path::Path;

use logweir_core::{identity::BatchId, record::ScoredBatch, timestamp::Timestamp, wire};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::*;
use crate::{
    SearchLimits, Storage,
    conformance::{
        NOW, StorageUnderTest, check_storage, migrated,
        sample::{
            HOUR, SECOND, batch, by, maintain, newest_first, push, query, rejected, search_all,
            service, store, tenant,
        },
    },
    sqlite::read::readers::Caller,
};

struct InDirectory(TempDir);

impl InDirectory {
    fn fresh() -> Self {
        Self(TempDir::new().unwrap())
    }
}

#[async_trait]
impl StorageUnderTest for InDirectory {
    async fn open(&self) -> Arc<dyn Storage> {
        Arc::new(open(self.0.path()).unwrap())
    }
}

fn open(directory: &Path) -> Result<SqliteStorage, StorageError> {
    SqliteStorage::open(&SqliteConfig::new(directory), clock())
}

fn clock() -> Clock {
    Arc::new(|| NOW)
}

fn count(directory: &TempDir, sql: &str) -> i64 {
    let db = Connection::open(directory.path().join("logweir.db")).unwrap();
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn it_is_a_storage() {
    check_storage(InDirectory::fresh).await;
}

#[tokio::test]
async fn a_second_process_is_kept_out_but_may_administer() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    assert!(matches!(open(directory.path()), Err(StorageError::InUse { .. })));
    let config = SqliteConfig::new(directory.path());
    let beside = SqliteStorage::open_for_administration(&config, clock()).unwrap();
    let token = TokenRecord {
        token_id: "t".into(),
        service: "*".parse().unwrap(),
        role: logweir_core::identity::Role::Admin,
        issued_at: Timestamp::from_unix_nanos(1),
        expires_at: Timestamp::from_unix_nanos(2),
        revoked_at: None,
    };
    beside.insert_token(&tenant(), token.clone()).await.unwrap();
    store(&storage, &[batch(1, "payments", 3, Duration::ZERO)]).await;
    assert_eq!(storage.list_tokens(&tenant()).await.unwrap(), [token]);
    drop(storage);
    open(directory.path()).unwrap();
}

#[tokio::test]
async fn a_write_goes_to_the_disk_about_once() {
    let written_bytes = || -> u64 {
        let io = std::fs::read_to_string("/proc/self/io").unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        line.unwrap().parse().unwrap()
    };
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let batches: Vec<_> = (1..=200)
        .map(|number| batch(number, &format!("service-{number}"), 20, Duration::ZERO))
        .collect();
    let before = written_bytes();
    store(&storage, &batches).await;
    let written = written_bytes() - before;
    let kept: u64 = ["logweir.db", "logweir.db-wal"]
        .map(|name| std::fs::metadata(directory.path().join(name)).unwrap().len())
        .iter()
        .sum();
    assert!(written < 2 * kept, "{written} bytes written for {kept}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let directory = TempDir::new().unwrap();
    drop(open(directory.path()).unwrap());
    let db = Connection::open(directory.path().join("logweir.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    let refused = open(directory.path());
    assert!(matches!(refused, Err(StorageError::NewerSchema { found: 99, .. })));
}

/// A database as an earlier version made it, with one tenant.
fn of_version(version: usize) -> (TempDir, Connection) {
    let directory = TempDir::new().unwrap();
    let db = Connection::open(directory.path().join("logweir.db")).unwrap();
    for sql in &schema::MIGRATIONS[..version] {
        db.execute_batch(sql).unwrap();
    }
    db.pragma_update(None, "user_version", version as u32).unwrap();
    db.execute("INSERT INTO tenants (tenant_id, name) VALUES (1, ?1)", [tenant().as_str()])
        .unwrap();
    (directory, db)
}

/// Each block reaches back to one log of long ago, as of a sender with a wrong clock: all of them are
/// passed with each page.
#[tokio::test]
async fn a_page_with_limits_gets_on_however_many_blocks_it_must_pass_again() {
    const BLOCKS: u32 = 40;
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    for number in 0..BLOCKS {
        let mut sent = batch(number.into(), "payments", 5, SECOND * 10 * number);
        push(&mut sent, 5, Timestamp::from_unix_seconds(1) + SECOND * number);
        store(&storage, &[sent]).await;
    }
    let bytes = count(&directory, "SELECT max(length(body)) FROM block_bodies").unsigned_abs();
    for of_page in [Order::NewestFirst, Order::OldestFirst] {
        let (mut pages, mut logs) = (0, 0);
        let limits = SearchLimits { bytes: bytes * 10, ..SearchLimits::NONE };
        let mut asked = SearchQuery { limits, ..query("", 1_000) };
        loop {
            let page = storage.page(&tenant(), asked.clone(), of_page).await.unwrap();
            (pages, logs) = (pages + 1, logs + page.logs.len());
            let Some(next) = page.next else { break };
            asked.cursor = Some(next);
        }
        assert_eq!(logs, BLOCKS as usize * 6);
        assert!(pages > 1 && pages <= BLOCKS / 4, "{pages} pages of {BLOCKS} blocks");
    }
}

/// The sixth version was the last that kept what alerting remembers as one text.
#[tokio::test]
async fn what_the_version_before_knew_of_alerting_is_taken_up() {
    let (directory, db) = of_version(6);
    let before = migrated::before();
    for row in before.incidents {
        let insert = "INSERT INTO incidents VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)";
        db.execute(insert, row).unwrap();
    }
    for row in before.states {
        db.execute("INSERT INTO alert_states VALUES (1, ?1, ?2)", row).unwrap();
    }
    db.execute_batch("INSERT INTO jobs VALUES (7, 1, NULL, '{}', 'waiting', 5, 0, 0, '')").unwrap();
    drop(db);
    migrated::check_taken_up(&open(directory.path()).unwrap(), "\0", 7).await;
}

/// The tenth version numbered dead letters over all tenants. The id of a replay derives from the number.
#[tokio::test]
async fn dead_letters_keep_the_numbers_that_they_had_and_new_ones_get_none_of_them() {
    let (directory, db) = of_version(10);
    let record = wire::encode_record(&rejected(0).record);
    let insert = "INSERT INTO dead_letters (dead_letter_id, tenant_id, created_unix_nano, batch_id,
                      record_index, resource, record, reason, detail)
                  VALUES (?1, 1, 1, zeroblob(16), 0, ?2, ?3, '', '')";
    let resource = wire::encode_resource(&batch(1, "payments", 1, Duration::ZERO).resource);
    for id in [5, 9, 30] {
        db.execute(insert, params![id, resource, record]).unwrap();
    }
    db.execute("DELETE FROM dead_letters WHERE dead_letter_id = 30", []).unwrap();
    drop(db);
    let storage = open(directory.path()).unwrap();
    let new = ScoredBatch { rejected: vec![rejected(0)], ..batch(2, "shop", 1, Duration::ZERO) };
    store(&storage, &[new]).await;
    let (letters, _) = storage.list_dead_letters(&tenant(), None, 10).await.unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter.dead_letter_id).collect();
    assert_eq!(ids, [31, 9, 5]);
}

/// The ninth version was the last that did not add the accounts of producers up.
#[tokio::test]
async fn the_accounts_that_the_version_before_kept_are_added_up() {
    let (directory, db) = of_version(9);
    for (key, (service, emitted, dropped, queued, spooled, stored, dead_lettered)) in
        (1..).zip(migrated::PRODUCERS)
    {
        db.execute(
            "INSERT INTO producers VALUES (?1, 1, randomblob(16), ?2, '', '', 1, ?3, ?4, 0, ?5, ?6, ?7,
                 ?8, x'', x'', 1)",
            params![key, service, emitted, dropped, queued, spooled, stored, dead_lettered],
        )
        .unwrap();
    }
    drop(db);
    migrated::check_summed(&open(directory.path()).unwrap()).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = open(&file.join("data")).err().unwrap();
    assert!(matches!(refused, StorageError::Unusable { .. }) && !refused.is_retryable());
    assert!(refused.to_string().contains("file/data"));
}

/// SQLite reports a limit on pages as it reports a disk without room.
#[tokio::test]
async fn a_full_disk_loses_nothing_and_passes_by_itself() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let first = by(1, 1, 100, batch(1, "payments", 100, Duration::ZERO));
    store(&storage, std::slice::from_ref(&first)).await;
    storage.check_ready().await.unwrap();
    let limit = |pages_max| {
        storage.writer.run(move |writer| {
            writer.limit_pages(pages_max);
            Ok(())
        })
    };
    limit(Some(1)).await.unwrap();
    let second = by(1, 2, 5_100, batch(2, "payments", 5_000, Duration::ZERO));
    for _ in 0..2 {
        let refused = storage.write(vec![second.clone()].into()).await.unwrap_err();
        assert!(matches!(refused, StorageError::DiskFull { .. }), "{refused:?}");
        assert!(matches!(storage.check_ready().await, Err(StorageError::DiskFull { .. })));
    }
    assert_eq!(search_all(&storage, &tenant(), "", 1_000).await, newest_first([&first]));
    // Deleting is possible all the while.
    storage.maintain(NOW).await.unwrap();

    limit(None).await.unwrap();
    storage.check_ready().await.unwrap();
    store(&storage, std::slice::from_ref(&second)).await;
    assert_eq!(search_all(&storage, &tenant(), "", 1_000).await, newest_first([&first, &second]));
    let report = storage.delivery_report(&tenant(), None).await.unwrap();
    assert_eq!((report[0].stored, report[0].missing()), (5_100, 0));
    assert!(directory.path().join("reserve").exists());
}

#[tokio::test]
async fn writes_wait_for_the_reserve() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let make_full = |writer: &mut Writer| {
        let full: Result<(), StorageError> = writer.add(|_, _| Err(Fault::DiskFull));
        assert!(matches!(full, Err(StorageError::DiskFull { .. })));
        Ok(())
    };
    storage.writer.run(make_full).await.unwrap();
    assert!(!directory.path().join("reserve").exists(), "given up");
    // A directory in its place stands for a disk that has no room for it.
    std::fs::create_dir(directory.path().join("reserve")).unwrap();
    storage.write(vec![batch(1, "payments", 3, Duration::ZERO)].into()).await.unwrap_err();
    storage.check_ready().await.unwrap_err();
    std::fs::remove_dir(directory.path().join("reserve")).unwrap();
    store(&storage, &[batch(1, "payments", 3, Duration::ZERO)]).await;
}

#[tokio::test]
async fn a_fault_that_stays_is_told_and_over_when_its_cause_is() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let db = Connection::open(directory.path().join("logweir.db")).unwrap();
    db.execute_batch("ALTER TABLE blocks RENAME COLUMN logs TO gone").unwrap();
    for _ in 0..2 {
        let failed =
            storage.write(vec![batch(1, "payments", 3, Duration::ZERO)].into()).await.unwrap_err();
        assert!(matches!(failed, StorageError::Broken(_)) && !failed.is_retryable(), "{failed:?}");
        let unready = storage.check_ready().await;
        assert!(matches!(unready, Err(StorageError::OtherSchema { .. })), "{unready:?}");
    }
    db.execute_batch("ALTER TABLE blocks RENAME COLUMN gone TO logs").unwrap();
    storage.check_ready().await.unwrap();
    store(&storage, &[batch(1, "payments", 3, Duration::ZERO)]).await;
}

#[tokio::test]
async fn damage_is_told_until_a_write_succeeds() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let damaged = |writer: &mut Writer| {
        let damaged = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        writer.add(|_, _| Err(rusqlite::Error::SqliteFailure(damaged, None).into()))
    };
    let failed: Result<(), StorageError> = storage.writer.run(damaged).await;
    assert!(matches!(failed, Err(StorageError::Corrupt(_))), "{failed:?}");
    for _ in 0..2 {
        assert!(matches!(storage.check_ready().await, Err(StorageError::Corrupt(_))));
    }
    store(&storage, &[batch(1, "payments", 3, Duration::ZERO)]).await;
    storage.check_ready().await.unwrap();
}

#[tokio::test]
async fn a_defect_in_a_write_leaves_nothing_and_the_next_one_works() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let panics = |writer: &mut Writer| {
        writer.add(|db, tools| {
            tools.ids.service(db, 1, &service("ghost"))?;
            panic!("on purpose")
        })
    };
    let ended: Result<(), StorageError> = storage.writer.run(panics).await;
    assert!(matches!(ended, Err(StorageError::Unavailable(_))));
    store(&storage, &[batch(1, "payments", 3, Duration::ZERO)]).await;
    assert_eq!(count(&directory, "SELECT count(*) FROM services"), 1);
}

const REPEATED: [WriteOutcome; 1] = [WriteOutcome::Duplicate];

async fn reasons(storage: &SqliteStorage) -> Vec<String> {
    let (letters, _) = storage.list_dead_letters(&tenant(), None, 100).await.unwrap();
    letters.into_iter().rev().map(|letter| letter.reason).collect()
}

/// Every other sequence never comes, until more gaps are left than are remembered.
#[tokio::test]
async fn a_sequence_that_is_forgotten_is_put_aside_and_neither_lost_nor_doubled() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let odd = |n: u64| by(1, n, n, batch(n, "payments", 1, Duration::ZERO));
    let batches: Vec<_> = (0..1_100).map(|n| odd(n * 2 + 1)).collect();
    store(&storage, &batches).await;
    maintain(&storage, NOW + 49 * HOUR).await;
    let report = storage.delivery_report(&tenant(), None).await.unwrap();
    assert_eq!(report[0].missing_sequences[0], (202, 202), "what is forgotten is not missing");
    let aside = WriteOutcome::Stored { stored: 0, dead_lettered: 1, put_aside: vec![0] };
    for (repeat, outcome) in [(odd(1), aside.clone()), (odd(203), WriteOutcome::Duplicate)] {
        assert_eq!(storage.write(vec![repeat.clone()].into()).await.unwrap(), [outcome]);
        assert_eq!(storage.write(vec![repeat].into()).await.unwrap(), REPEATED);
    }
    assert_eq!(storage.write(vec![odd(2)].into()).await.unwrap(), [aside], "new, but who knows");
    store(&storage, &[odd(202)]).await;
    assert_eq!(reasons(&storage).await, ["sequence_forgotten", "sequence_forgotten"]);
    assert_eq!(storage.list_services(&tenant()).await.unwrap()[0].total, 1_101);
}

/// When ids that tell their age were common.
const YEAR_2026: Timestamp = Timestamp::from_unix_seconds(1_780_000_000);

fn minted(unix_nano: i64) -> BatchId {
    let mut bytes = [0x70; 16];
    bytes[..6].copy_from_slice(&(unix_nano / 1_000_000).to_be_bytes()[2..]);
    bytes[8] = 0x80;
    BatchId(bytes)
}

#[tokio::test]
async fn another_batch_of_a_folded_sequence_is_put_aside_and_a_repeat_is_not() {
    let directory = TempDir::new().unwrap();
    let open_at = |now: Timestamp| {
        SqliteStorage::open(&SqliteConfig::new(directory.path()), Arc::new(move || now)).unwrap()
    };
    let storage = open_at(YEAR_2026);
    let mut first = by(1, 1, 3, batch(1, "payments", 3, Duration::ZERO));
    (first.batch_id, first.received_at) = (minted(YEAR_2026.as_unix_nanos()), YEAR_2026);
    store(&storage, std::slice::from_ref(&first)).await;
    let later = YEAR_2026 + 49 * HOUR;
    maintain(&storage, later).await;
    drop(storage);
    let storage = open_at(later);
    assert_eq!(storage.write(vec![first].into()).await.unwrap(), REPEATED);
    let mut other = by(1, 1, 5, batch(2, "payments", 2, Duration::ZERO));
    other.batch_id = minted((later - HOUR).as_unix_nanos());
    let aside = WriteOutcome::Stored { stored: 0, dead_lettered: 2, put_aside: vec![0, 1] };
    assert_eq!(storage.write(vec![other.clone()].into()).await.unwrap(), [aside]);
    assert_eq!(storage.write(vec![other].into()).await.unwrap(), REPEATED);
    assert_eq!(reasons(&storage).await, ["sequence_reused", "sequence_reused"]);
    let report = storage.delivery_report(&tenant(), None).await.unwrap();
    assert_eq!((report[0].stored, report[0].rejected, report[0].missing()), (3, 2, 0));
}

#[tokio::test]
async fn logs_past_their_age_go_and_their_counts_stay() {
    let directory = TempDir::new().unwrap();
    let mut config = SqliteConfig::new(directory.path());
    config.retention_age = Some(Duration::from_secs(24 * 3_600));
    let storage = SqliteStorage::open(&config, clock()).unwrap();
    let (old, new) =
        (batch(1, "payments", 20, 25 * HOUR), batch(2, "payments", 30, Duration::ZERO));
    store(&storage, &[old]).await;
    store(&storage, std::slice::from_ref(&new)).await;
    maintain(&storage, NOW).await;
    assert_eq!(search_all(&storage, &tenant(), "", 1_000).await, newest_first([&new]));
    assert_eq!(storage.list_services(&tenant()).await.unwrap()[0].total, 50);
    for table in ["blocks", "block_services", "block_words", "block_bodies"] {
        assert_eq!(count(&directory, &format!("SELECT count(*) FROM {table}")), 1, "{table}");
    }
}

/// Random letters, so that they take room.
fn bulky(number: u64) -> ScoredBatch {
    let mut bulky = batch(number, "payments", 200, (1_000 - number as u32) * HOUR);
    let mut state = number;
    for log in &mut bulky.records {
        log.record.message = (0..2_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'a' + (state >> 59) as u8 % 26)
            })
            .collect();
    }
    bulky
}

#[tokio::test]
async fn the_oldest_logs_go_when_there_are_too_many() {
    let directory = TempDir::new().unwrap();
    let mut config = SqliteConfig::new(directory.path());
    config.disk_bytes_max = 4 << 20;
    let storage = SqliteStorage::open(&config, clock()).unwrap();
    for number in 1..=40 {
        store(&storage, &[bulky(number)]).await;
    }
    let size = || std::fs::metadata(directory.path().join("logweir.db")).unwrap().len();
    maintain(&storage, NOW).await;
    assert!(size() <= config.disk_bytes_max, "{}", size());
    let left = search_all(&storage, &tenant(), "", 1_000).await;
    assert!(!left.is_empty() && left.len() < 8_000, "{}", left.len());
    let newest = newest_first([&bulky(40)]);
    assert_eq!(left[..200], newest);
    assert!(!storage.maintain(NOW).await.unwrap());
}

#[tokio::test]
async fn merging_leaves_few_blocks() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    for number in 0..100 {
        store(&storage, &[batch(number, ["a", "b", "c"][number as usize % 3], 60, Duration::ZERO)])
            .await;
    }
    assert_eq!(count(&directory, "SELECT count(*) FROM blocks"), 100);
    maintain(&storage, NOW).await;
    assert!(count(&directory, "SELECT count(*) FROM blocks") <= 8);
    assert_eq!(count(&directory, "SELECT sum(logs) FROM blocks"), 6_000);
    assert_eq!(count(&directory, "SELECT sum(logs) FROM block_services"), 6_000);
}

#[tokio::test]
async fn tenants_take_turns_in_merging() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    for number in 0..400 {
        let name = ["a", "b", "c", "d"][number as usize % 4];
        let tenant = Tenant::new(name).unwrap();
        let written = ScoredBatch { tenant, ..batch(number, "payments", 1, Duration::ZERO) };
        store(&storage, &[written]).await;
    }
    for turns in 1..=4 {
        assert!(storage.maintain(NOW).await.unwrap());
        let merged = "SELECT count(DISTINCT tenant_id) FROM blocks WHERE generation > 0";
        assert_eq!(count(&directory, merged), turns);
    }
}

#[tokio::test]
async fn a_merge_whose_input_is_gone_is_dropped() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    for number in 0..20 {
        store(&storage, &[batch(number, "payments", 10, Duration::ZERO)]).await;
    }
    let merge = |db: &Connection, _: &Caller| maintain::merge(db, &AtomicI64::new(0), NOW);
    let merge = storage.readers.run_own(merge).await.unwrap().unwrap();
    let work = move |writer: &mut Writer| {
        writer.free(|db, tools| {
            blocks::delete(db, 1)?;
            maintain::finish(db, &mut tools.ids, &merge)
        })
    };
    storage.writer.run(work).await.unwrap();
    assert_eq!(count(&directory, "SELECT count(*) FROM blocks"), 19);
    assert_eq!(count(&directory, "SELECT sum(logs) FROM blocks"), 190);
}

/// With no time for a snapshot at all, a search lets go after every step that brings it on.
#[tokio::test]
async fn a_search_over_many_snapshots_finds_the_same() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let mut batches = Vec::new();
    for number in 0..12 {
        // Some overlap in time, some do not.
        let written = batch(number, "payments", 40, number as u32 / 3 * 30 * SECOND);
        store(&storage, std::slice::from_ref(&written)).await;
        batches.push(written);
    }
    let files = Files::create(directory.path()).unwrap();
    let db = files.open_reader().unwrap();
    let waiting = Arc::new(());
    let caller = Caller::new(&waiting, Duration::ZERO);
    let mut expected = newest_first(&batches);
    for page_size in [50, 1_000] {
        let query = query("", page_size);
        let page =
            search::search(&db, &caller, &tenant(), query.clone(), Order::NewestFirst).unwrap();
        assert_eq!(page.logs, expected[..page_size.min(480)]);
    }
    expected.reverse();
    let page = search::search(&db, &caller, &tenant(), query("", 300), Order::OldestFirst).unwrap();
    assert_eq!(page.logs, expected[..300]);
}

/// Blocks that were looked at, and such that were not, become one block in the middle of a search.
#[tokio::test]
async fn a_search_finds_the_same_while_blocks_are_merged() {
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let directory = TempDir::new().unwrap();
        let storage = open(directory.path()).unwrap();
        let of_number = |number| batch(number, "payments", 20, number as u32 * 8 * SECOND);
        let batches: Vec<_> = (0..40).map(of_number).collect();
        for written in &batches {
            store(&storage, std::slice::from_ref(written)).await;
        }
        let mut expected = newest_first(&batches);
        if order == Order::OldestFirst {
            expected.reverse();
        }
        let db = Files::create(directory.path()).unwrap().open_reader().unwrap();
        let waiting = Arc::new(());
        let caller = Caller::new(&waiting, Duration::ZERO);
        let mut walk = search::Walk::new(tenant(), query("", 1_000), order);
        for _ in 0..4 {
            assert_eq!(walk.go_on(&db, &caller).unwrap(), None);
        }
        let blocks = || count(&directory, "SELECT count(*) FROM blocks");
        let before = blocks();
        maintain(&storage, NOW + HOUR).await;
        assert!(blocks() < before, "blocks were merged");
        let page = loop {
            if let Some(page) = walk.go_on(&db, &caller).unwrap() {
                break page;
            }
        };
        assert_eq!(page.logs, expected);
    }
}

#[tokio::test]
async fn a_damaged_block_is_an_error_and_others_are_read() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let (old, new) =
        (batch(1, "payments", 20, 25 * HOUR), batch(2, "payments", 30, Duration::ZERO));
    store(&storage, &[old]).await;
    store(&storage, std::slice::from_ref(&new)).await;
    let db = Connection::open(directory.path().join("logweir.db")).unwrap();
    db.execute("UPDATE block_bodies SET body = x'00' WHERE block_id = 1", []).unwrap();
    let first = storage.search(&tenant(), query("", 10)).await.unwrap();
    assert_eq!(first.logs, newest_first([&new])[..10]);
    let all = storage.search(&tenant(), query("", 100)).await;
    assert!(matches!(all, Err(StorageError::Corrupt(what)) if what.contains("block 1")));
}

#[tokio::test]
async fn a_damaged_block_does_not_keep_others_from_being_merged() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    for number in 0..20 {
        store(&storage, &[batch(number, "payments", 10, Duration::ZERO)]).await;
    }
    let db = Connection::open(directory.path().join("logweir.db")).unwrap();
    db.execute("UPDATE block_bodies SET body = x'00' WHERE block_id = 3", []).unwrap();
    maintain(&storage, NOW).await;
    assert_eq!(count(&directory, "SELECT count(*) FROM blocks"), 2);
    assert_eq!(count(&directory, "SELECT sum(logs) FROM blocks"), 200);
}

#[tokio::test]
async fn a_silent_process_is_dead_and_in_the_end_forgotten() {
    let directory = TempDir::new().unwrap();
    let now = Arc::new(std::sync::atomic::AtomicI64::new(NOW.as_unix_nanos()));
    let clock = Arc::clone(&now);
    let clock: Clock = Arc::new(move || {
        Timestamp::from_unix_nanos(clock.load(std::sync::atomic::Ordering::Relaxed))
    });
    let storage = SqliteStorage::open(&SqliteConfig::new(directory.path()), clock).unwrap();
    let beat = |process_id: &str| {
        storage.beat(Heartbeat {
            process_id: process_id.into(),
            kind: "processor".into(),
            host: String::new(),
            version: String::new(),
            started_at: Timestamp::EPOCH,
            partitions: Vec::new(),
            committed_through: None,
            regular_committed_through: None,
            bulk_tenants: Vec::new(),
            load: 0.0,
        })
    };
    beat("a").await.unwrap();
    now.fetch_add(7_000_000_000, std::sync::atomic::Ordering::Relaxed);
    beat("b").await.unwrap();
    let live = storage.live_processes(Duration::from_secs(6)).await.unwrap();
    assert!(live.len() == 1 && live[0].heartbeat.process_id == "b", "{live:?}");
    let live = storage.live_processes(Duration::from_secs(7)).await.unwrap();
    assert_eq!((live.len(), live[0].age), (2, Duration::from_secs(7)));
    now.fetch_add(24 * 3_600_000_000_000, std::sync::atomic::Ordering::Relaxed);
    beat("b").await.unwrap();
    assert_eq!(storage.live_processes(Duration::MAX).await.unwrap().len(), 1);
}
