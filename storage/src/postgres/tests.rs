use std::time::Duration;

use futures::FutureExt as _;
use logweir_core::{
    identity::Tenant,
    record::{ScoredBatch, StoredLog},
    timestamp::Timestamp,
    wire,
};
use testkit::{Faults, PgBouncer, Postgres, Proxy};
use tokio_postgres::{NoTls, types::ToSql};

use super::*;
use crate::{
    Administer, ReadLogs, WriteLogs, WriteOutcome,
    conformance::{
        NOW, migrated,
        sample::{SECOND, batch, by, newest_first, push, rejected, search_all, tenant},
    },
    disk_share::DeadLetterQuota,
};

const DAY: Duration = Duration::from_secs(86_400);

fn clock() -> Clock {
    Arc::new(|| NOW)
}

async fn open(url: &str) -> Result<PostgresStorage, StorageError> {
    PostgresStorage::open(&PostgresConfig::new(url), clock()).await
}

/// A way to the database that is not this program's.
async fn psql(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    #[allow(clippy::disallowed_methods, reason = "a test; it ends with the client")]
    tokio::spawn(connection);
    client
}

async fn number(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn write(storage: &PostgresStorage, batches: &[ScoredBatch]) -> Vec<WriteOutcome> {
    storage.write(batches.into()).await.unwrap()
}

async fn all(storage: &PostgresStorage) -> Vec<StoredLog> {
    search_all(storage, &tenant(), "", 1_000).await
}

async fn maintain(storage: &PostgresStorage, now: Timestamp) {
    while storage.upkeep(now).await.unwrap() {}
}

#[tokio::test]
async fn processes_that_start_at_once_make_one_schema() {
    let server = Postgres::start().await;
    let url = server.url();
    let opened = futures::future::join_all((0..8).map(|_| open(&url))).await;
    for storage in &opened {
        storage.as_ref().unwrap().probe().await.unwrap();
    }
    let client = psql(&url).await;
    assert_eq!(number(&client, "SELECT count(*) FROM schema_version").await, 1);
}

#[tokio::test]
async fn the_shape_is_the_one_that_is_checked() {
    let server = Postgres::start().await;
    let storage = open(&server.url()).await.unwrap();
    let mut connection = storage.pool.get().await.unwrap();
    let db = connection.transaction().await.unwrap();
    let found: Vec<String> = schema::shape(&db).await.unwrap().into_iter().collect();
    assert_eq!(found.join("\n") + "\n", schema::KNOWN_SHAPE);
}

#[tokio::test]
async fn a_newer_schema_and_another_shape_are_refused() {
    let server = Postgres::start().await;
    let url = server.url();
    drop(open(&url).await.unwrap());
    let client = psql(&url).await;
    client
        .batch_execute("CREATE TABLE notes (text text); CREATE INDEX own ON services (total)")
        .await
        .unwrap();
    drop(open(&url).await.unwrap());
    client.batch_execute("ALTER TABLE templates DROP COLUMN pattern_exact").await.unwrap();
    let refused = open(&url).await.err().unwrap();
    assert!(
        matches!(&refused, StorageError::OtherSchema { missing } if missing == "column templates.pattern_exact bytea"),
        "{refused:?}"
    );
    client.batch_execute("UPDATE schema_version SET version = 99").await.unwrap();
    let refused = open(&url).await.err().unwrap();
    assert!(
        matches!(refused, StorageError::NewerSchema { found: 99, known: schema::KNOWN }),
        "{refused:?}"
    );
}

/// A database as an earlier version made it.
async fn of_version(version: u32) -> (Postgres, tokio_postgres::Client) {
    let server = Postgres::start().await;
    let (pool, _) = PostgresConfig::new(server.url()).pool().unwrap();
    let mut connection = pool.get().await.unwrap();
    let db = connection.transaction().await.unwrap();
    schema::create(&db, NOW).await.unwrap();
    schema::change(&db, 1, version).await.unwrap();
    db.commit().await.unwrap();
    let client = psql(&server.url()).await;
    (server, client)
}

/// The eighth version was the last that did not add the accounts of producers up.
#[tokio::test]
async fn the_accounts_that_the_version_before_kept_are_added_up() {
    let (server, client) = of_version(8).await;
    let url = server.url();
    let tenant = tenant().to_string();
    for (service, emitted, dropped, queued, spooled, stored, dead_lettered) in migrated::PRODUCERS {
        let insert = "INSERT INTO producers (tenant, producer_id, service, instance, sdk, sequence,
                          emitted, dropped, rejected_seen, queued, spooled, stored, dead_lettered,
                          committed_sequences, folded_sequences, last_received_unix_nano)
                      VALUES ($1, gen_random_uuid(), $2, '', '', 1, $3, $4, 0, $5, $6, $7, $8, '', '', 1)";
        let row: [&(dyn ToSql + Sync); 8] =
            [&tenant, &service, &emitted, &dropped, &queued, &spooled, &stored, &dead_lettered];
        client.execute(insert, &row).await.unwrap();
    }
    let storage = open(&url).await.unwrap();
    migrated::check_summed(&storage).await;
    // A process of that version goes on changing accounts until it is exchanged.
    let update = "UPDATE producers SET stored = stored + 1, last_received_unix_nano = $1";
    client.execute(update, &[&NOW.as_unix_nanos()]).await.unwrap();
    maintain(&storage, NOW).await;
    let stored = "SELECT (SELECT sum(stored) FROM producers WHERE service <> '')
                      = (SELECT sum(stored) FROM producer_totals)";
    assert!(client.query_one(stored, &[]).await.unwrap().get::<_, bool>(0));
}

/// The ninth version numbered dead letters over all tenants. The id of a replay derives from the
/// number. A process of that version goes on writing until it is exchanged.
#[tokio::test]
async fn dead_letters_keep_the_numbers_that_they_had_and_new_ones_get_none_of_them() {
    let (server, client) = of_version(9).await;
    let record = wire::encode_record(&rejected(0).record);
    let resource = wire::encode_resource(&batch(1, "payments", 1, Duration::ZERO).resource);
    let tenant = tenant();
    let insert = async || {
        let insert =
            "INSERT INTO dead_letters (tenant, batch_id, record_index, resource, record, reason,
                          detail, created_unix_nano)
                      VALUES ($1, gen_random_uuid(), 0, $2, $3, '', '', 1)";
        let row: [&(dyn ToSql + Sync); 3] = [&tenant.as_str(), &resource, &record];
        client.execute(insert, &row).await.unwrap();
    };
    for _ in 0..3 {
        insert().await;
    }
    client.execute("DELETE FROM dead_letters WHERE dead_letter_id = 3", &[]).await.unwrap();
    let storage = open(&server.url()).await.unwrap();
    let new = ScoredBatch { rejected: vec![rejected(0)], ..batch(2, "shop", 1, Duration::ZERO) };
    write(&storage, &[new]).await;
    insert().await;
    let (letters, _) = storage.list_dead_letters(&tenant, None, 10).await.unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter.dead_letter_id).collect();
    assert_eq!(ids, [1_000_005, 1_000_004, 2, 1]);
}

/// The fifth version was the last that kept what alerting remembers as one text.
#[tokio::test]
async fn what_the_version_before_knew_of_alerting_is_taken_up() {
    let (server, client) = of_version(5).await;
    let url = server.url();
    let tenant = tenant().to_string();
    let before = migrated::before();
    for (id, state, service, began, resolved, body) in &before.incidents {
        let insert = "INSERT INTO incidents VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let row: [&(dyn ToSql + Sync); 7] = [&tenant, id, state, service, began, resolved, body];
        client.execute(insert, &row).await.unwrap();
    }
    for (name, body) in &before.states {
        let insert = "INSERT INTO alert_states VALUES ($1, $2, $3)";
        client.execute(insert, &[&tenant, name, body]).await.unwrap();
    }
    let insert = "INSERT INTO jobs (tenant, request, state, created_unix_nano, leased_unix_nano,
                      attempts, answer)
                  VALUES ($1, '{}', 'waiting', 5, 0, 0, '') RETURNING job_id";
    let job_id: i64 = client.query_one(insert, &[&tenant]).await.unwrap().get(0);
    let storage = open(&url).await.unwrap();
    migrated::check_taken_up(&storage, "\u{fffd}", job_id.unsigned_abs()).await;
}

/// Each holds what the other wants next, again and again: in the one order there is no circle.
#[tokio::test]
async fn writers_of_the_same_services_never_lock_each_other_out() {
    let server = Postgres::start().await;
    let url = server.url();
    let storages = [open(&url).await.unwrap(), open(&url).await.unwrap()];
    let names = ["payments", "orders", "users", "carts"];
    let writer = async |of: u64| {
        for round in 0..25_u64 {
            let number = of * 1_000 + round * 10;
            // Half of the batches are the other's too; each comes in an order of its own.
            let mut batches: Vec<ScoredBatch> = (0..4)
                .map(|n| {
                    by(
                        of as u8,
                        round * 4 + n + 1,
                        0,
                        batch(number + n, names[n as usize], 40, n as u32 * 7 * SECOND),
                    )
                })
                .collect();
            batches.push(by(
                9,
                round + 1,
                0,
                batch(900_000 + round, "payments", 10, Duration::ZERO),
            ));
            batches.rotate_left(((of + round) % 5) as usize);
            let outcomes = write(&storages[of as usize % 2], &batches).await;
            assert_eq!(outcomes.len(), 5);
        }
    };
    tokio::join!(writer(1), writer(2), writer(3), writer(4));
    let expected = 4 * 25 * 160 + 25 * 10;
    let client = psql(&url).await;
    for sql in [
        "SELECT count(*) FROM logs",
        "SELECT sum(total)::bigint FROM services",
        "SELECT sum(total)::bigint FROM service_buckets WHERE width_seconds = 10",
        "SELECT sum(total)::bigint FROM service_buckets WHERE width_seconds = 3600",
        "SELECT sum(total)::bigint FROM templates",
        "SELECT sum(total)::bigint FROM template_buckets WHERE width_seconds = 3600",
        "SELECT sum(stored)::bigint FROM producers",
        "SELECT sum(stored)::bigint FROM batches",
    ] {
        assert_eq!(number(&client, sql).await, expected, "{sql}");
    }
    let latencies = "SELECT count(*) FROM logs WHERE latency_ms IS NOT NULL";
    let latencies = number(&client, latencies).await;
    for sql in [
        "SELECT sum(count)::bigint FROM latency_buckets WHERE width_seconds = 10",
        "SELECT sum(count)::bigint FROM latency_counts WHERE width_seconds = 3600",
    ] {
        assert_eq!(number(&client, sql).await, latencies, "{sql}");
    }
}

/// The machine of a processor may go without a word, and its locks must not stay.
#[tokio::test]
async fn an_abandoned_transaction_is_ended_by_the_server() {
    let server = Postgres::start().await;
    let storage = open(&server.url()).await.unwrap();
    let mut connection = storage.pool.get().await.unwrap();
    let db = connection.transaction().await.unwrap();
    db.batch_execute(&storage.writing).await.unwrap();
    let limit = "SELECT extract(epoch FROM
                     current_setting('idle_in_transaction_session_timeout')::interval)::bigint";
    let limit: i64 = db.query_one(limit, &[]).await.unwrap().get(0);
    assert!((1..=20).contains(&limit), "{limit} s");
}

/// What a database refuses is found log by log, and takes nothing along.
#[tokio::test]
async fn a_log_that_the_database_refuses_is_put_aside_alone() {
    let server = Postgres::start().await;
    let url = server.url();
    let storage = open(&url).await.unwrap();
    let client = psql(&url).await;
    client
        .batch_execute("ALTER TABLE logs ADD CONSTRAINT no_poison CHECK (message <> 'poison')")
        .await
        .unwrap();
    let mut bad = by(1, 2, 100, batch(2, "payments", 100, Duration::ZERO));
    for index in [0, 57, 99] {
        bad.records[index].record.message = "poison".into();
    }
    let good = by(1, 1, 40, batch(1, "orders", 40, Duration::ZERO));
    let outcomes = write(&storage, &[bad.clone(), good.clone()]).await;
    let stored = WriteOutcome::Stored { stored: 97, dead_lettered: 3, put_aside: vec![0, 57, 99] };
    assert_eq!(outcomes, [stored, WriteOutcome::stored(40, 0)]);
    assert_eq!(write(&storage, &[bad.clone()]).await, [WriteOutcome::Duplicate]);
    bad.records.retain(|log| log.record.message != "poison");
    assert_eq!(all(&storage).await, newest_first([&bad, &good]));
    let letters = "SELECT count(*) FROM dead_letters WHERE reason = 'unstorable' AND detail LIKE '%no_poison%'";
    assert_eq!(number(&client, letters).await, 3);
    assert_eq!(number(&client, "SELECT sum(total)::bigint FROM services").await, 137);
}

#[tokio::test]
async fn a_day_that_was_dropped_meanwhile_is_made_again() {
    let server = Postgres::start().await;
    let url = server.url();
    let storage = open(&url).await.unwrap();
    let first = batch(1, "payments", 5, 3 * DAY);
    write(&storage, std::slice::from_ref(&first)).await;
    let client = psql(&url).await;
    client.batch_execute("DROP TABLE logs_20231111").await.unwrap();
    let second = batch(2, "payments", 5, 3 * DAY);
    write(&storage, std::slice::from_ref(&second)).await;
    assert_eq!(all(&storage).await, newest_first([&second]));
}

#[tokio::test]
async fn old_days_go_and_history_lies_in_one_partition() {
    let server = Postgres::start().await;
    let url = server.url();
    let kept = PostgresConfig {
        retention_age: Some(Duration::from_secs(10 * 86_400)),
        ..PostgresConfig::new(&url)
    };
    let storage = PostgresStorage::open(&kept, clock()).await.unwrap();
    let mut ages: Vec<ScoredBatch> = Vec::new();
    for (number, days) in [0, 5, 9, 12, 80, 95, 400].into_iter().enumerate() {
        ages.push(batch(number as u64, "payments", 3, days * DAY));
    }
    write(&storage, &ages).await;
    let client = psql(&url).await;
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'logs'::regclass";
    assert_eq!(number(&client, "SELECT count(*) FROM logs_backfill").await, 6);
    assert_eq!(number(&client, partitions).await, 6);
    maintain(&storage, NOW).await;
    assert_eq!(all(&storage).await, newest_first(&ages[..3]));
    assert_eq!(number(&client, "SELECT sum(total)::bigint FROM services").await, 21);
    // Three that hold logs, two made ahead, and the one for history.
    assert_eq!(number(&client, partitions).await, 6);
}

/// Such as a full disk, from which only deleting leads out.
#[tokio::test]
async fn what_stands_in_the_way_of_new_days_keeps_no_old_ones() {
    let server = Postgres::start().await;
    let url = server.url();
    let kept = PostgresConfig {
        retention_age: Some(Duration::from_secs(10 * 86_400)),
        ..PostgresConfig::new(&url)
    };
    let storage = PostgresStorage::open(&kept, clock()).await.unwrap();
    let (young, old) = (batch(1, "payments", 3, Duration::ZERO), batch(2, "payments", 3, 80 * DAY));
    write(&storage, &[young.clone(), old]).await;
    let tomorrow = partitions::date(partitions::day_of(NOW) + 1).replace('-', "");
    psql(&url).await.batch_execute(&format!("CREATE TABLE logs_{tomorrow} ()")).await.unwrap();
    storage.upkeep(NOW).await.unwrap_err();
    assert_eq!(all(&storage).await, newest_first([&young]));
}

#[tokio::test]
async fn history_that_somebody_reads_goes_in_the_next_round() {
    let server = Postgres::start().await;
    let url = server.url();
    let kept = PostgresConfig {
        retention_age: Some(Duration::from_secs(10 * 86_400)),
        ..PostgresConfig::new(&url)
    };
    let storage = PostgresStorage::open(&kept, clock()).await.unwrap();
    let young = batch(1, "payments", 3, Duration::ZERO);
    write(&storage, &[young.clone(), batch(2, "payments", 3, 400 * DAY)]).await;
    let (client, mut reader) = (psql(&url).await, psql(&url).await);
    let reading = reader.transaction().await.unwrap();
    reading.batch_execute("SELECT FROM logs_backfill").await.unwrap();
    maintain(&storage, NOW).await;
    assert_eq!(number(&client, "SELECT count(*) FROM logs_backfill").await, 3);
    reading.rollback().await.unwrap();
    maintain(&storage, NOW).await;
    assert_eq!(all(&storage).await, newest_first([&young]));
}

#[tokio::test]
async fn history_goes_row_by_row_while_some_of_it_is_kept() {
    let server = Postgres::start().await;
    let kept = PostgresConfig {
        retention_age: Some(Duration::from_secs(200 * 86_400)),
        ..PostgresConfig::new(server.url())
    };
    let storage = PostgresStorage::open(&kept, clock()).await.unwrap();
    let young = batch(1, "payments", 3, 150 * DAY);
    write(&storage, &[young.clone(), batch(2, "payments", 3, 400 * DAY)]).await;
    maintain(&storage, NOW).await;
    assert_eq!(all(&storage).await, newest_first([&young]));
}

#[tokio::test]
async fn dead_letters_beyond_their_quota_leave_oldest_first() {
    let server = Postgres::start().await;
    let url = server.url();
    let storage = open(&url).await.unwrap();
    let (a, b) = (Tenant::new("a").unwrap(), Tenant::new("b").unwrap());
    for (number, tenant, letters) in [(1, &a, 10), (2, &b, 10), (3, &b, 5)] {
        let mut refused = batch(number, "payments", 2, Duration::ZERO);
        refused.tenant = tenant.clone();
        refused.templates.clear();
        refused.records.clear();
        refused.rejected = (0..letters).map(rejected).collect();
        write(&storage, &[refused]).await;
    }
    let quota = DeadLetterQuota { dead_letters_max: 12, ..DeadLetterQuota::of(0) };
    let of_few_bytes = DeadLetterQuota { bytes_max: 500, ..quota };
    let mut connection = storage.pool.get().await.unwrap();
    for (quota, of_a, of_b) in [(quota, 10, 12), (of_few_bytes, 4, 4)] {
        // Two at a time, until there is nothing more to do.
        let mut more = true;
        while more {
            let db = connection.transaction().await.unwrap();
            more = admin::dead_letters::delete_beyond(&db, &quota, NOW, 2).await.unwrap();
            db.commit().await.unwrap();
        }
        for (tenant, left, were) in [(&a, of_a, 10), (&b, of_b, 15)] {
            let usage = storage.usage(tenant).await.unwrap();
            assert_eq!((usage.dead_letters, usage.expired_dead_letters), (left, were - left));
        }
    }
    let (left, _) = storage.list_dead_letters(&b, None, 100).await.unwrap();
    let left: Vec<u32> = left.iter().map(|letter| letter.record.index).collect();
    assert_eq!(left, [4, 3, 2, 1]);
}

/// A tenant's name, and a text that a text column cannot hold, in every place.
#[tokio::test]
async fn what_text_cannot_hold_is_shown_and_kept() {
    let server = Postgres::start().await;
    let url = server.url();
    let storage = open(&url).await.unwrap();
    let mut odd = by(1, 1, 1, batch(1, "payments", 0, Duration::ZERO));
    odd.tenant = Tenant::new("other").unwrap();
    odd.resource.instance = "a\0b".into();
    push(&mut odd, 0, NOW);
    odd.records[0].anomaly_reasons = vec!["odd".into(), "\0".into()];
    odd.producer.as_mut().unwrap().account.dropped = vec![("a\0".into(), 1)];
    write(&storage, std::slice::from_ref(&odd)).await;
    assert_eq!(search_all(&storage, &odd.tenant, "", 10).await, newest_first([&odd]));
    let client = psql(&url).await;
    let shown = "SELECT count(*) FROM logs WHERE instance = 'a\u{fffd}b' AND anomaly_reasons[2] = '\u{fffd}'";
    assert_eq!(number(&client, shown).await, 1);
    let report = storage.delivery_report(&odd.tenant, None).await.unwrap();
    assert_eq!(report[0].account, odd.producer.unwrap().account);
}

/// The ledger is what tells: the same batches are written again and add nothing.
#[tokio::test]
async fn a_server_that_is_killed_loses_nothing_and_doubles_nothing() {
    let server = Postgres::private().await;
    let storage = open(&server.url()).await.unwrap();
    let first = by(1, 1, 50, batch(1, "payments", 50, Duration::ZERO));
    write(&storage, std::slice::from_ref(&first)).await;
    server.kill().await;
    let second = by(1, 2, 100, batch(2, "payments", 50, Duration::ZERO));
    let refused = storage.write([second.clone()].into()).await.unwrap_err();
    assert!(matches!(refused, StorageError::Unavailable(_)), "{refused:?}");
    assert!(storage.probe().await.unwrap_err().is_retryable());
    server.restart().await;
    let outcomes = write(&storage, &[first.clone(), second.clone()]).await;
    assert_eq!(outcomes, [WriteOutcome::Duplicate, WriteOutcome::stored(50, 0)]);
    assert_eq!(all(&storage).await, newest_first([&first, &second]));
    storage.probe().await.unwrap();
}

#[tokio::test]
async fn what_is_cut_off_is_there_whole_or_not_at_all() {
    let server = Postgres::start().await;
    drop(open(&server.url()).await.unwrap());
    let proxy = Proxy::start(format!("127.0.0.1:{}", server.port()), 7);
    let storage = open(&proxy.url(&server.url())).await.unwrap();
    let mut batches = Vec::new();
    let mut cut = 0;
    for number in 1..=40 {
        let written = by(1, number, number * 30, batch(number, "payments", 30, Duration::ZERO));
        proxy.set(Faults { cut_question: 0.01, cut_answer: 0.01, ..Faults::default() });
        while let Err(error) = storage.write([written.clone()].into()).await {
            assert!(error.is_retryable(), "{error:?}");
            cut += 1;
        }
        batches.push(written);
    }
    proxy.set(Faults::default());
    assert!(cut > 0, "nothing was cut");
    assert_eq!(all(&storage).await, newest_first(&batches));
    let client = psql(&server.url()).await;
    assert_eq!(number(&client, "SELECT sum(total)::bigint FROM services").await, 1_200);
    assert_eq!(number(&client, "SELECT stored FROM producers").await, 1_200);
}

/// No network says that they are gone: connections stay open, and nothing comes.
#[tokio::test]
async fn silent_servers_are_given_up_together_and_the_next_one_is_asked() {
    let server = Postgres::start().await;
    let proxy = Proxy::start(format!("127.0.0.1:{}", server.port()), 7);
    let storage = open(&proxy.url(&server.url())).await.unwrap();
    let first = batch(1, "payments", 50, Duration::ZERO);
    write(&storage, std::slice::from_ref(&first)).await;
    let two = (storage.pool.get().await.unwrap(), storage.pool.get().await.unwrap());
    drop(two);
    proxy.lose();
    tokio::time::pause();
    let second = batch(2, "payments", 50, Duration::ZERO);
    let refused = storage.write([second.clone()].into()).await.unwrap_err();
    assert!(matches!(refused, StorageError::Unavailable(_)), "{refused:?}");
    tokio::time::resume();
    write(&storage, std::slice::from_ref(&second)).await;
    assert_eq!(all(&storage).await, newest_first([&first, &second]));
}

/// Its transaction would keep the batch from everybody.
#[tokio::test]
async fn a_process_that_went_silent_in_a_transaction_keeps_no_locks() {
    let server = Postgres::start().await;
    let storage = open(&server.url()).await.unwrap();
    let proxy = Proxy::start(format!("127.0.0.1:{}", server.port()), 7);
    let silent = psql(&proxy.url(&server.url())).await;
    let first = batch(1, "payments", 50, Duration::ZERO);
    silent.batch_execute(&format!("BEGIN; {}", storage.writing)).await.unwrap();
    // For a shorter time than processes are given.
    silent.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 200").await.unwrap();
    let sql =
        "INSERT INTO batches (tenant, batch_id, checksum, committed_at, stored, dead_lettered)
               VALUES ($1, $2, 0, 'epoch', 0, 0)";
    let id = values::Id(first.batch_id.0);
    silent.execute(sql, &[&first.tenant.as_str(), &id]).await.unwrap();
    proxy.lose();
    assert_eq!(write(&storage, std::slice::from_ref(&first)).await, [WriteOutcome::stored(50, 0)]);
}

#[tokio::test]
async fn a_full_disk_is_told_and_passes_by_itself() {
    if !testkit::may_mount() {
        return;
    }
    let server = Postgres::on_disk(200 << 20, "max_wal_size = 64MB\nmin_wal_size = 32MB").await;
    let storage = open(&server.url()).await.unwrap();
    let first = batch(1, "payments", 50, Duration::ZERO);
    write(&storage, std::slice::from_ref(&first)).await;
    server.fill_disk().await;
    let large = batch(2, "payments", 50_000, Duration::ZERO);
    let refused = storage.write([large.clone()].into()).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    server.free_disk().await;
    server.restart().await;
    while storage.write([large.clone()].into()).await.is_err_and(|error| error.is_retryable()) {}
    assert_eq!(all(&storage).await.len(), 50_050);
}

/// Its statements have names that several processes give alike.
#[tokio::test]
async fn several_processes_share_pgbouncers_connections() {
    let server = Postgres::start().await;
    let pool = PgBouncer::start(&server).await;
    let url = pool.url();
    let storages = futures::future::join_all((0..3).map(|_| open(&url))).await;
    let storages: Vec<PostgresStorage> = storages.into_iter().map(Result::unwrap).collect();
    let writer = async |of: u64| {
        for round in 0..20 {
            let number = of * 1_000 + round;
            let written = by(of as u8, round + 1, 0, batch(number, "payments", 20, Duration::ZERO));
            let storage = &storages[(of % 3) as usize];
            assert_eq!(write(storage, &[written]).await, [WriteOutcome::stored(20, 0)]);
            storage.upkeep(NOW).await.unwrap();
        }
    };
    tokio::join!(writer(1), writer(2), writer(3), writer(4), writer(5), writer(6));
    assert_eq!(all(&storages[0]).await.len(), 6 * 20 * 20);
}

#[tokio::test]
async fn connections_are_encrypted_and_the_server_known() {
    let server = Postgres::private_tls().await;
    let (plain, _) =
        server.url().split_once('?').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let root = server.ca_file();
    let root = root.display();
    for parameters in
        ["sslmode=require".to_owned(), format!("sslmode=verify-full&sslrootcert={root}")]
    {
        let storage = open(&format!("{plain}?{parameters}")).await.unwrap();
        let connection = storage.pool.get().await.unwrap();
        let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = connection.query_typed_one(encrypted, &[]).await.unwrap();
        assert!(row.get::<_, bool>(0), "{parameters}");
    }
    let unknown = open(&format!("{plain}?sslmode=verify-full")).await.err().unwrap();
    assert!(matches!(unknown, StorageError::Unusable { .. }), "{unknown:?}");
}

#[tokio::test]
async fn who_may_not_is_told_without_secrets() {
    let server = Postgres::start().await;
    let url = server.url();
    let (before, after) = url.split_once('@').unwrap();
    let (user, secret) = before.rsplit_once(':').unwrap();
    let wrong = open(&format!("{user}:{secret}x@{after}")).await.err().unwrap();
    assert!(matches!(wrong, StorageError::Unusable { .. }), "{wrong:?}");
    let missing = open(&format!("{url}_not")).await.err().unwrap();
    assert!(matches!(missing, StorageError::Unusable { .. }), "{missing:?}");
    let nobody = open("postgres://127.0.0.1:1/none").await.err().unwrap();
    for told in [&wrong, &missing, &nobody] {
        assert!(!format!("{told} {told:?}").contains(secret), "{told:?}");
    }
    assert!(nobody.is_retryable(), "{nobody:?}");
}

#[tokio::test]
async fn what_one_tenant_asks_for_keeps_neither_another_nor_the_process_waiting() {
    let server = Postgres::start().await;
    let storage = open(&server.url()).await.unwrap();
    let other = Tenant::new("other").unwrap();
    let places = || storage.places.take(&other, 1).now_or_never();
    let held: Vec<_> = std::iter::from_fn(places).collect();
    assert_eq!(held.len(), 3, "of the four for calls of tenants, out of sixteen");
    assert!(storage.list_services(&other).now_or_never().is_none(), "one more waits");
    storage.list_services(&tenant()).await.unwrap();
    storage.list_tokens(&tenant()).await.unwrap();
    storage.revoked_token_ids(NOW).await.unwrap();
    assert_eq!(storage.list_tokens(&other).await.unwrap(), [], "control is before data");
    drop(held);
    storage.list_services(&other).await.unwrap();
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_ended() {
    let server = Postgres::start().await;
    let (storage, client) = (open(&server.url()).await.unwrap(), psql(&server.url()).await);
    let at_work = async |expected| {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
        let look = async { while number(&client, sql).await != expected {} };
        // What does not come for so long does not come.
        timeout(Duration::from_secs(60), look).await.unwrap();
    };
    let tenant = tenant();
    let asked = storage.snapshot(&tenant, async |db| {
        Ok(db.batch_execute("SET LOCAL statement_timeout = 0; SELECT pg_sleep(3600)").await?)
    });
    tokio::select! {
        ended = asked => panic!("it ended: {ended:?}"),
        () = at_work(1) => {}
    }
    assert_eq!(storage.pool.status().size, 0, "the connection is not for the next caller");
    assert_eq!(storage.places.held_by_all(), 1, "the server may be at work for a while");
    at_work(0).await;
    storage.list_services(&tenant).await.unwrap();
}
