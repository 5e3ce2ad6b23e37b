//! What is deleted of whom.

use std::{os::unix::process::ExitStatusExt, process::Command};

use logweir_core::record::StoredLog;

use super::*;
use crate::conformance::sample::rejected;

const LIMIT: u64 = 4 << 20;
/// Bulky batches that take well less than half of the limit, and more than twice of it.
const FEW: u64 = 4;
const MANY: u64 = 25;

fn of(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

fn open_limited(directory: &Path, disk_bytes_max: u64) -> SqliteStorage {
    let config = SqliteConfig { disk_bytes_max, ..SqliteConfig::new(directory) };
    SqliteStorage::open(&config, clock()).unwrap()
}

fn used_bytes(directory: &TempDir) -> u64 {
    let used = "SELECT page_size * (page_count - freelist_count)
                FROM pragma_page_size, pragma_page_count, pragma_freelist_count";
    count(directory, used) as u64
}

/// A step of retention alone: merging would make few large blocks of what these tests look at.
async fn retain_once(storage: &SqliteStorage) -> bool {
    let retention = storage.retention;
    let step = move |writer: &mut Writer| admin::retention::retain(writer, NOW, &retention);
    storage.writer.run(step).await.unwrap()
}

async fn retain(storage: &SqliteStorage) {
    while retain_once(storage).await {}
}

/// Some 250 KB of a tenant's logs.
fn bulk(tenant: &Tenant, number: u64) -> ScoredBatch {
    ScoredBatch { tenant: tenant.clone(), ..bulky(number) }
}

/// As many logs that a server has rejected.
fn refused(tenant: &Tenant, number: u64, letters: u32) -> ScoredBatch {
    let mut refused = batch(number, "payments", 0, Duration::ZERO);
    refused.tenant = tenant.clone();
    refused.rejected = (0..letters).map(rejected).collect();
    for letter in &mut refused.rejected {
        letter.record.message = "x".repeat(1_000);
    }
    refused
}

async fn logs_of(storage: &SqliteStorage, tenant: &Tenant) -> Vec<StoredLog> {
    search_all(storage, tenant, "", 1_000).await
}

async fn letters_of(storage: &SqliteStorage, tenant: &Tenant) -> (Vec<DeadLetter>, u64) {
    storage.list_dead_letters(tenant, None, 10_000).await.unwrap()
}

/// What is kept of the usage is what is there.
fn check_usage(directory: &Path) {
    let db = Connection::open(directory.join("logweir.db")).unwrap();
    let read = || -> Vec<[i64; 8]> {
        let mut select = db
            .prepare(
                "SELECT tenant_id, block_bytes, dead_letters, dead_letter_bytes, owed_dead_letters,
                        owed_dead_letter_bytes, row_bytes, fine_buckets FROM tenant_usage ORDER BY 1",
            )
            .unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            let mut columns = [0; 8];
            for (place, column) in columns.iter_mut().enumerate() {
                *column = row.get(place)?;
            }
            Ok(columns)
        };
        select.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let kept = read();
    // What the migration fills in is a count of everything.
    let migration = schema::MIGRATIONS[8];
    let filled = &migration[migration.find("INSERT INTO tenant_usage").unwrap()..];
    let filled = &filled[..filled.find("CREATE TRIGGER").unwrap()];
    db.execute_batch(&format!("BEGIN; DELETE FROM tenant_usage; {filled}")).unwrap();
    assert_eq!(kept, read());
    db.execute_batch("ROLLBACK").unwrap();
}

/// Both tenants' logs and dead letters, in turn: `a` well below its half of the disk, `b` far above.
async fn fill(storage: &SqliteStorage) {
    let (a, b) = (of("a"), of("b"));
    for number in 1..=MANY {
        if number <= FEW {
            store(storage, &[bulk(&a, number), refused(&a, number + 1_000, 20)]).await;
        }
        store(storage, &[bulk(&b, number), refused(&b, number + 1_000, 200)]).await;
    }
    // Another content under the same id: acknowledged, and not stored.
    let conflict = ScoredBatch { checksum: 7, ..bulk(&b, 1) };
    assert_eq!(storage.write(vec![conflict].into()).await.unwrap(), [WriteOutcome::Conflict]);
}

async fn check_that_b_alone_has_lost(storage: &SqliteStorage, directory: &Path) {
    let (a, b) = (of("a"), of("b"));
    let whole: Vec<_> = (1..=FEW).map(|number| bulk(&a, number)).collect();
    assert_eq!(logs_of(storage, &a).await, newest_first(&whole));
    assert_eq!(letters_of(storage, &a).await.1, FEW * 20);
    let left = logs_of(storage, &b).await;
    let newest: Vec<_> = (1..=MANY).map(|number| bulk(&b, number)).collect();
    assert!(left.len() < newest.len() * 200, "{}", left.len());
    assert_eq!(left, newest_first(&newest)[..left.len()], "the oldest are gone");
    check_usage(directory);
}

#[tokio::test]
async fn a_tenant_loses_only_its_own() {
    let directory = TempDir::new().unwrap();
    let storage = open_limited(directory.path(), LIMIT);
    fill(&storage).await;
    check_usage(directory.path());
    retain(&storage).await;
    check_that_b_alone_has_lost(&storage, directory.path()).await;
    assert!(used_bytes(&directory) <= LIMIT);
    assert!(!logs_of(&storage, &of("b")).await.is_empty(), "it has a share too");
    assert!(!retain_once(&storage).await);
}

/// Buckets, producers and the ledger are no logs, but `b` takes the disk with them all the same.
#[tokio::test]
async fn what_is_no_log_counts_for_who_made_it() {
    let directory = TempDir::new().unwrap();
    let storage = open_limited(directory.path(), LIMIT / 2);
    let (a, b) = (of("a"), of("b"));
    let whole: Vec<_> = (1..FEW).map(|number| bulk(&a, number)).collect();
    store(&storage, &whole).await;
    for number in 0..60 {
        // A minute apart, none shares a bucket with another.
        let mut sparse = batch(number, "payments", 200, Duration::ZERO);
        for (place, log) in (0..).zip(&mut sparse.records) {
            log.record.time = NOW - 60 * (number as u32 * 200 + place) * SECOND;
        }
        let mut sparse = by(number as u8, 1, 200, sparse);
        sparse.tenant = b.clone();
        for template in sparse.templates.values_mut() {
            Arc::make_mut(template).tenant = b.clone();
        }
        store(&storage, &[sparse]).await;
    }
    assert!(used_bytes(&directory) > LIMIT / 2, "{}", used_bytes(&directory));
    retain(&storage).await;
    assert_eq!(logs_of(&storage, &a).await, newest_first(&whole));
    assert!(logs_of(&storage, &b).await.len() < 60 * 200);
    check_usage(directory.path());
    // All of the ledger is folded, and the producers are forgotten.
    maintain(&storage, NOW + 91 * 24 * HOUR).await;
    assert_eq!(count(&directory, "SELECT count(*) FROM batches"), 0);
    check_usage(directory.path());
}

#[tokio::test]
async fn one_alone_loses_its_oldest_blocks_down_to_the_limit() {
    let directory = TempDir::new().unwrap();
    let storage = open_limited(directory.path(), LIMIT);
    let written: Vec<_> = (1..=MANY).map(bulky).collect();
    for batch in &written {
        store(&storage, std::slice::from_ref(batch)).await;
    }
    // What each step is to delete is reckoned as if there were no shares.
    loop {
        let excess = used_bytes(&directory) as i64 - LIMIT as i64;
        let before = "SELECT count(*) FROM blocks";
        let blocks = count(&directory, before);
        let due = format!(
            "SELECT count(*) FROM (SELECT sum(disk_bytes) OVER (ORDER BY time_max_unix_nano) - disk_bytes
                 AS freed FROM blocks ORDER BY time_max_unix_nano LIMIT 64) WHERE freed < {excess}"
        );
        let due = count(&directory, &due);
        retain_once(&storage).await;
        assert_eq!(count(&directory, before), blocks - due);
        if due == 0 {
            break;
        }
    }
    let left = logs_of(&storage, &tenant()).await;
    assert!(!left.is_empty() && left.len() < MANY as usize * 200);
    assert_eq!(left, newest_first(&written)[..left.len()]);
}

#[tokio::test]
async fn dead_letters_beyond_their_quota_leave_oldest_first() {
    let directory = TempDir::new().unwrap();
    let mut storage = open(directory.path()).unwrap();
    let (a, b) = (of("a"), of("b"));
    store(&storage, &[refused(&a, 1, 10), refused(&b, 2, 10), bulk(&b, 3)]).await;
    let conflict = ScoredBatch { checksum: 7, ..bulk(&b, 3) };
    storage.write(vec![conflict].into()).await.unwrap();
    store(&storage, &[refused(&b, 4, 5)]).await;
    maintain(&storage, NOW).await;
    assert_eq!([letters_of(&storage, &a).await.1, letters_of(&storage, &b).await.1], [10, 215]);

    storage.retention.dead_letters.dead_letters_max = 12;
    maintain(&storage, NOW).await;
    let (letters, total) = letters_of(&storage, &b).await;
    let reasons = |reason: &str| letters.iter().filter(|letter| letter.reason == reason).count();
    assert_eq!((total, reasons("batch_conflict"), reasons("message_too_large")), (212, 200, 12));
    let oldest = letters.last().unwrap();
    assert_eq!(oldest.record.index, 3, "three had to go");
    assert_eq!(letters_of(&storage, &a).await.1, 10);

    // What was replayed is stored, and leaves as what its sender was told of.
    let conflicts = letters.iter().filter(|letter| letter.reason == "batch_conflict");
    let ids: Vec<u64> = conflicts.map(|letter| letter.dead_letter_id).collect();
    storage.mark_replayed(&b, &ids[150..], NOW).await.unwrap();
    maintain(&storage, NOW).await;
    assert_eq!(letters_of(&storage, &b).await.1, 162);

    storage.retention.dead_letters.bytes_max = 5_000;
    maintain(&storage, NOW).await;
    assert_eq!([letters_of(&storage, &a).await.1, letters_of(&storage, &b).await.1], [4, 154]);
    check_usage(directory.path());
    assert_eq!(logs_of(&storage, &b).await, newest_first(&[bulk(&b, 3)]));
}

/// Dead letters of acknowledged logs are as old as logs are, and go with them.
#[tokio::test]
async fn dead_letters_of_acknowledged_logs_leave_with_the_logs_of_their_age() {
    let directory = TempDir::new().unwrap();
    let storage = open_limited(directory.path(), LIMIT);
    let received = |ago: u32| {
        let written = bulk(&of("b"), u64::from(ago));
        move |writer: &mut Writer| {
            writer.add(|db, tools| {
                let other = ScoredBatch { checksum: 7, ..written.clone() };
                let now = NOW - (1_000 - ago) * HOUR;
                write::write_batches(db, tools, &[written, other], now, HOUR)
            })
        }
    };
    for ago in 1..=20 {
        storage.writer.run(received(ago)).await.unwrap();
    }
    maintain(&storage, NOW).await;
    let (logs, (letters, total)) =
        (logs_of(&storage, &of("b")).await, letters_of(&storage, &of("b")).await);
    assert!(0 < total && total < 20 * 200);
    let oldest = |times: &mut dyn Iterator<Item = Timestamp>| times.min().unwrap();
    let of_logs = oldest(&mut logs.iter().map(|log| log.id.time));
    let of_letters = oldest(&mut letters.iter().map(|letter| letter.created_at));
    assert!(of_logs.since(of_letters).max(of_letters.since(of_logs)) <= 2 * HOUR);
}

#[tokio::test]
async fn a_directory_of_the_version_before_is_counted_when_it_is_opened() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    fill(&storage).await;
    let counted = "SELECT sum(block_bytes + dead_letter_bytes + owed_dead_letter_bytes + row_bytes)
                   FROM tenant_usage";
    let before = count(&directory, counted);
    drop(storage);
    let db = Connection::open(directory.path().join("logweir.db")).unwrap();
    let triggers = "SELECT group_concat('DROP TRIGGER ' || name, ';') FROM sqlite_schema
                    WHERE type = 'trigger'";
    let triggers: String = db.query_row(triggers, [], |row| row.get(0)).unwrap();
    db.execute_batch(&format!(
        "{triggers}; DROP TABLE tenant_usage; DROP INDEX dead_letters_owed;
         ALTER TABLE dead_letters DROP COLUMN is_owed;
         ALTER TABLE dead_letters DROP COLUMN disk_bytes;
         DROP INDEX producers_listed; ALTER TABLE producers DROP COLUMN is_listed;
         DROP TABLE producer_totals; DROP INDEX jobs_turns; DROP INDEX template_totals_by_first_seen;
         ALTER TABLE template_totals DROP COLUMN tenant_id;
         CREATE INDEX template_totals_by_first_seen ON template_totals (first_seen_unix_nano);
         DROP INDEX dead_letters_by_number; DROP INDEX models_by_number; DROP TABLE last_numbers;
         ALTER TABLE dead_letters DROP COLUMN number; ALTER TABLE models DROP COLUMN number;
         CREATE INDEX dead_letters_by_tenant ON dead_letters (tenant_id, dead_letter_id);
         ALTER TABLE heartbeats DROP COLUMN regular_committed_unix_nano;
         ALTER TABLE heartbeats DROP COLUMN bulk_tenants;
         DROP TABLE repeats; ALTER TABLE batches DROP COLUMN received_unix_nano;
         PRAGMA user_version = 8"
    ))
    .unwrap();
    drop(db);
    let storage = open_limited(directory.path(), LIMIT);
    assert_eq!(count(&directory, counted), before);
    retain(&storage).await;
    check_that_b_alone_has_lost(&storage, directory.path()).await;
}

/// The test runs itself once more as the process that is killed while it deletes.
#[tokio::test]
async fn a_kill_while_deleting_loses_nothing_of_others() {
    const KILLED: &str = "LOGWEIR_TEST_KILLED_IN";
    if let Some(directory) = std::env::var_os(KILLED) {
        let _scenario = fail::FailScenario::setup();
        retain(&open_limited(Path::new(&directory), LIMIT)).await;
        return;
    }
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    fill(&storage).await;
    drop(storage);
    for step in ["retain_before_commit", "retain_after_commit"] {
        for survived in 0..2 {
            let child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "sqlite::tests::retention::a_kill_while_deleting_loses_nothing_of_others",
                ])
                .env(KILLED, directory.path())
                .env("FAILPOINTS", format!("{step}={survived}*off->return"))
                .output()
                .unwrap();
            assert_eq!(child.status.signal(), Some(9), "{child:?}");
            let storage = open(directory.path()).unwrap();
            check_usage(directory.path());
            let whole: Vec<_> = (1..=FEW).map(|number| bulk(&of("a"), number)).collect();
            assert_eq!(logs_of(&storage, &of("a")).await, newest_first(&whole));
        }
    }
    let storage = open_limited(directory.path(), LIMIT);
    retain(&storage).await;
    check_that_b_alone_has_lost(&storage, directory.path()).await;
    assert!(used_bytes(&directory) <= LIMIT);
}

#[tokio::test]
async fn what_a_tenant_is_known_to_take_depends_on_nobody_else() {
    let directory = TempDir::new().unwrap();
    let storage = open_limited(directory.path(), LIMIT);
    let (a, b) = (of("a"), of("b"));
    store(&storage, &[bulk(&a, 1)]).await;
    let before = storage.usage(&a).await.unwrap();
    for number in 1..=FEW {
        store(&storage, &[bulk(&b, number), refused(&b, number + 1_000, 20)]).await;
    }
    let after = storage.usage(&a).await.unwrap();
    assert!(before.own_bytes > 200_000, "{before:?}");
    assert_eq!(after.own_bytes, before.own_bytes);
    assert_ne!(after.disk_bytes, before.disk_bytes, "its part of what belongs to nobody does");
}
