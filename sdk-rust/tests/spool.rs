//! The spool: through restarts, `kill -9`, damage and a full disk.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use logweir_sdk::{Client, ClientBuilder, DropReason, Level, Record, SpoolOptions, SpoolSync};
use support::{Answer, PATIENCE, Seen, Server, client_of, quick, wait_for_stats};
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

fn emit(client: &Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        client.emit(Record::new(Level::Info, format!("{number:06}")));
    }
}

fn spooling(server: &Server, root: &TempDir) -> ClientBuilder {
    client_of(server).spool_dir(root.path()).batch_records(10)
}

fn expected(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{number:06}")).collect()
}

fn files(root: &Path) -> Vec<PathBuf> {
    let inside = |path: PathBuf| match fs::read_dir(&path) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => vec![path],
    };
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(inside).collect()
}

#[test]
fn with_a_server_nothing_stays_behind() {
    let (server, root) = (Server::scripted([]), TempDir::new().unwrap());
    let client = spooling(&server, &root).build().unwrap();
    emit(&client, 0..95);
    let report = client.shutdown(PATIENCE);
    assert_eq!((report.sent, report.spooled), (95, 0));
    assert_eq!(files(root.path()), Vec::<PathBuf>::new());
}

#[test]
fn what_cannot_be_sent_is_sent_by_the_next_start_under_its_own_ids() {
    let root = TempDir::new().unwrap();
    let away = Server::ruled(|_, _| Some(Answer::Hold));
    let client = spooling(&away, &root).build().unwrap();
    emit(&client, 0..95);
    let report = client.flush(Duration::ZERO);
    assert_eq!((report.spooled, report.pending), (95, 0));
    away.wait_until("an attempt", |seen| !seen.attempts.is_empty());
    let report = client.shutdown(Duration::ZERO);
    assert_eq!((report.sent, report.spooled, report.dropped.total()), (0, 95, 0));
    let tried = away.seen(|seen| seen.attempts.clone());

    let back = Server::scripted([]);
    let client = spooling(&back, &root).build().unwrap();
    back.wait_until("the replay", |seen| seen.stored_records() == 95);
    assert_eq!(back.seen(Seen::messages), expected(0..95));
    for batch in tried {
        assert_eq!(back.seen(|seen| seen.stored[&batch.batch_id].clone()), batch);
    }
    assert_eq!(back.seen(|seen| (seen.missing(0), seen.sequences())), (0, (1..=10).collect()));
    wait_for_stats(&client, "the answers", |stats| stats.adopted_waiting == 0);
    let report = client.shutdown(PATIENCE);
    assert_eq!(report.sent, 0, "another's logs are not counted as its own");
    assert_eq!(client.stats().adopted_sent, 95);
    assert_eq!(files(root.path()), Vec::<PathBuf>::new());
}

#[test]
fn an_outage_longer_than_the_queue_loses_nothing() {
    let (server, root) = (Server::ruled(|_, _| Some(Answer::Hold)), TempDir::new().unwrap());
    let client = spooling(&server, &root).queue_records(100).build().unwrap();
    for start in (0..2_000).step_by(50) {
        emit(&client, start..start + 50);
        assert_eq!(client.flush(Duration::ZERO).dropped.total(), 0);
    }
    server.open_gate();
    let report = client.flush(PATIENCE);
    assert_eq!((report.sent, report.spooled, report.dropped.total()), (2_000, 0, 0));
    assert_eq!(server.seen(Seen::messages), expected(0..2_000));
    assert_eq!(server.seen(|seen| seen.missing(0)), 0);
}

#[test]
fn a_backlog_does_not_hold_up_what_is_new() {
    let root = TempDir::new().unwrap();
    let away = Server::ruled(|_, _| Some(Answer::Hold));
    let client = spooling(&away, &root).build().unwrap();
    emit(&client, 0..500);
    client.shutdown(Duration::ZERO);
    let back = Server::ruled(|batch, _| {
        let is_old = batch.records.iter().any(|record| record.message.as_str() < "000500");
        is_old.then_some(Answer::Hold)
    });
    let client = spooling(&back, &root).in_flight(2).build().unwrap();
    back.wait_until("an old batch", |seen| !seen.attempts.is_empty());
    emit(&client, 500..600);
    let report = client.flush(PATIENCE);
    assert_eq!((report.sent, report.is_complete()), (100, true));
    back.open_gate();
    back.wait_until("all", |seen| seen.stored_records() == 600);
}

#[test]
fn a_full_spool_gives_up_the_oldest_and_says_so() {
    let (server, root) = (Server::ruled(|_, _| Some(Answer::Hold)), TempDir::new().unwrap());
    let spool = SpoolOptions { bytes_max: 9 << 20, ..SpoolOptions::new(root.path()) };
    let client = client_of(&server).spool(spool).build().unwrap();
    for number in 0..300 {
        client.emit(Record::new(Level::Info, format!("{number:06}{}", "x".repeat(60_000))));
        client.flush(Duration::ZERO);
    }
    assert!(client.stats().dropped.get(DropReason::CacheOverflow) > 0);
    server.open_gate();
    let report = client.flush(PATIENCE);
    assert!(report.is_complete());
    assert_eq!(report.sent + report.dropped.total(), 300);
    assert_eq!(
        server.seen(|seen| (seen.stored_records() as u64, seen.missing(0))),
        (report.sent, 0)
    );
}

#[test]
fn a_spool_smaller_than_what_is_under_way_keeps_memory_bounded() {
    let (server, root) = (Server::ruled(|_, _| Some(Answer::Hold)), TempDir::new().unwrap());
    let spool = SpoolOptions { bytes_max: 100_000, ..SpoolOptions::new(root.path()) };
    let client = client_of(&server).spool(spool).batch_records(1).queue_records(10);
    let client = client.build().unwrap();
    for _ in 0..500 {
        client.emit(Record::new(Level::Info, "x".repeat(20_000)));
        client.flush(Duration::ZERO);
        let stats = client.stats();
        assert!(stats.in_flight + stats.queued < 20, "{stats:?}");
    }
    server.open_gate();
    let report = client.flush(PATIENCE);
    assert_eq!(report.sent + report.dropped.total(), 500);
    assert_eq!(server.seen(|seen| seen.missing(0)), 0);
}

#[test]
fn what_is_too_old_expires() {
    let root = TempDir::new().unwrap();
    let away = Server::ruled(|_, _| Some(Answer::Hold));
    let client = spooling(&away, &root).build().unwrap();
    emit(&client, 0..20);
    client.shutdown(Duration::ZERO);
    let back = Server::scripted([]);
    let spool = SpoolOptions { age_max: Duration::ZERO, ..SpoolOptions::new(root.path()) };
    let client = client_of(&back).spool(spool).build().unwrap();
    wait_for_stats(&client, "expiry", |stats| stats.adopted_dropped == 20);
    client.shutdown(PATIENCE);
    assert_eq!(back.seen(|seen| seen.attempts.len()), 0);
}

#[test]
fn a_spool_that_cannot_be_used_is_done_without() {
    let server = Server::scripted([]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let client = client_of(&server).spool_dir(file.path().join("below")).build().unwrap();
    emit(&client, 0..30);
    assert_eq!(client.shutdown(PATIENCE).sent, 30);
    assert_eq!(client.stats().spool_failures, 1);
}

#[test]
fn a_disk_that_failed_once_is_written_again() {
    let (away, root) = (Server::ruled(|_, _| Some(Answer::Hold)), TempDir::new().unwrap());
    let client = spooling(&away, &root).in_flight(1).build().unwrap();
    // The spool is open once a flush is answered.
    client.flush(Duration::ZERO);
    let folder = fs::read_dir(root.path()).unwrap().next().unwrap().unwrap().path();
    let in_the_way = folder.join("0000000000.seg");
    fs::create_dir(&in_the_way).unwrap();
    emit(&client, 0..50);
    wait_for_stats(&client, "a write that fails", |stats| stats.spool_failures == 1);
    fs::remove_dir(in_the_way).unwrap();
    let report = client.shutdown(Duration::ZERO);
    assert_eq!((report.spooled, report.dropped.total()), (50, 0));
}

#[test]
fn a_split_batch_leaves_nothing_behind() {
    let root = TempDir::new().unwrap();
    let server = Server::ruled(|batch, _| {
        let is_large = batch.records.len() > 3;
        is_large.then(|| support::with_reason(Code::ResourceExhausted, "BATCH_TOO_LARGE"))
    });
    let client = spooling(&server, &root).build().unwrap();
    emit(&client, 0..40);
    let report = client.shutdown(PATIENCE);
    assert_eq!((report.sent, report.spooled), (40, 0));
    assert_eq!(server.seen(|seen| seen.missing(0)), 0);
    assert_eq!(files(root.path()), Vec::<PathBuf>::new());
}

/// Copies a spool, as a process that is killed leaves it.
fn copy(from: &Path, to: &Path) {
    for folder in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let copied = to.join(folder.file_name().unwrap());
        fs::create_dir_all(&copied).unwrap();
        for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            fs::copy(&file, copied.join(file.file_name().unwrap())).unwrap();
        }
    }
}

/// Sends what a dead process left, twice: as if the process that took it over was killed after all
/// of it was sent, and before any of it was marked as done with.
fn take_over_twice(server: &Server) {
    let (root, left) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let away = Server::ruled(|_, _| Some(Answer::Hold));
    let client = spooling(&away, &root).build().unwrap();
    emit(&client, 0..10);
    client.shutdown(Duration::ZERO);
    copy(root.path(), left.path());
    for spool in [&root, &left] {
        let client = spooling(server, spool).build().unwrap();
        wait_for_stats(&client, "the answers", |stats| {
            stats.adopted_sent + stats.adopted_dropped == 10
        });
        client.shutdown(PATIENCE);
        assert_eq!(files(spool.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_dead_processs_batch_is_split_the_same_way_each_time() {
    let server = Server::ruled(|batch, _| {
        let is_large = batch.records.len() > 3;
        is_large.then(|| support::with_reason(Code::ResourceExhausted, "BATCH_TOO_LARGE"))
    });
    take_over_twice(&server);
    assert_eq!(server.seen(Seen::messages), expected(0..10));
    assert_eq!(server.seen(|seen| (seen.missing(0), seen.doubled)), (0, 4));
}

#[test]
fn a_dead_processs_batch_is_repaired_the_same_way_each_time() {
    let server = Server::ruled(|batch, _| {
        let at = batch.records.iter().position(|record| record.message == "000003")?;
        let field = format!("batch.records[{at}].message");
        let details = ErrorDetails::with_bad_request_violation(field, "bad");
        let status = Status::with_error_details(Code::InvalidArgument, "bad", details);
        Some(Answer::Refuse(status))
    });
    take_over_twice(&server);
    let left: Vec<String> = expected(0..10).into_iter().filter(|log| log != "000003").collect();
    assert_eq!(server.seen(Seen::messages), left);
    assert_eq!(server.seen(|seen| (seen.missing(0), seen.doubled)), (0, 1));
}

/// Makes every folder look like a dead process's.
fn bury_owners(root: &Path) {
    for folder in fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
        let owner = fs::read_to_string(folder.join("owner")).unwrap();
        let own_id = format!("\"pid\": {},", std::process::id());
        fs::write(folder.join("owner"), owner.replace(&own_id, "\"pid\": 0,")).unwrap();
    }
}

#[test]
fn who_was_taken_for_dead_goes_on_and_nothing_is_lost_or_doubled() {
    let (server, root) = (Server::ruled(|_, _| Some(Answer::Hold)), TempDir::new().unwrap());
    let first = spooling(&server, &root).build().unwrap();
    emit(&first, 0..95);
    assert_eq!(first.flush(Duration::ZERO).spooled, 95);
    bury_owners(root.path());
    let second = spooling(&server, &root).build().unwrap();
    wait_for_stats(&second, "the taking over", |stats| stats.adopted_waiting == 95);
    emit(&first, 95..195);
    assert_eq!(first.flush(Duration::ZERO).dropped.total(), 0);
    wait_for_stats(&first, "the new spool", |stats| stats.spooled == 195);
    server.open_gate();
    assert!(first.flush(PATIENCE).is_complete());
    wait_for_stats(&second, "the answers", |stats| stats.adopted_waiting == 0);
    assert_eq!(server.seen(Seen::messages), expected(0..195));
    assert_eq!(server.seen(|seen| seen.missing(0)), 0);
    let stats = first.stats();
    assert_eq!((stats.sent + stats.spooled, stats.dropped.total()), (195, 0));
    assert!(stats.spooled > 0, "what was on disk alone is the other's");
    assert_eq!(second.stats().adopted_sent, 95);
    first.shutdown(PATIENCE);
    second.shutdown(PATIENCE);
    assert_eq!(files(root.path()), Vec::<PathBuf>::new());
}

#[test]
fn damage_costs_what_is_damaged() {
    let root = TempDir::new().unwrap();
    let away = Server::ruled(|_, _| Some(Answer::Hold));
    let client = spooling(&away, &root).build().unwrap();
    emit(&client, 0..100);
    client.shutdown(Duration::ZERO);
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
    let segment = files(root.path()).into_iter().find(is_segment).unwrap();
    let mut data = fs::read(&segment).unwrap();
    let middle = data.len() / 2;
    data[middle] ^= 0x10;
    fs::write(&segment, data).unwrap();
    let back = Server::scripted([]);
    let client = spooling(&back, &root).build().unwrap();
    back.wait_until("the rest", |seen| seen.stored_records() == 90);
    wait_for_stats(&client, "the answers", |stats| stats.adopted_waiting == 0);
    client.shutdown(PATIENCE);
    assert_eq!(client.stats().spool_damaged, 1);
    let left = files(root.path());
    assert!(left.len() == 1 && left[0].extension().unwrap() == "corrupt", "{left:?}");
}

const CHILD_ROOT: &str = "LOGWEIR_TEST_SPOOL";
const CHILD_ENDPOINT: &str = "LOGWEIR_TEST_ENDPOINT";

/// What the killed process runs: it emits for ever, and says what it has flushed to its spool.
#[allow(clippy::disallowed_methods, reason = "the parent test tells its child by the environment")]
fn child_settings() -> Option<(String, String)> {
    Some((std::env::var(CHILD_ROOT).ok()?, std::env::var(CHILD_ENDPOINT).ok()?))
}

/// Does nothing unless the test below starts it in a process of its own.
#[test]
fn child_that_emits_until_it_is_killed() {
    let Some((root, endpoint)) = child_settings() else {
        assert_eq!(child_settings(), None);
        return;
    };
    let spool = SpoolOptions { sync: SpoolSync::Always, ..SpoolOptions::new(root) };
    let client = Client::builder()
        .endpoint(endpoint)
        .token("secret")
        .retry(quick())
        .in_flight(8)
        .batch_records(50)
        .spool(spool)
        .build()
        .unwrap();
    for start in (0..).step_by(100) {
        emit(&client, start..start + 100);
        let report = client.flush(Duration::from_millis(5));
        assert_eq!(report.dropped.total(), 0);
        if report.pending == 0 {
            println!("safe {}", start + 100);
        }
    }
}

fn start_child(root: &TempDir, server: &Server) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_emits_until_it_is_killed", "--nocapture"])
        .env(CHILD_ROOT, root.path())
        .env(CHILD_ENDPOINT, server.url())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads what the child says until it has said so many times that logs are safe.
fn safe_after(child: &mut Child, times: usize) -> usize {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let safe = lines.map_while(Result::ok).filter_map(|line| {
        // The test harness may begin the line.
        let (_, number) = line.split_once("safe ")?;
        number.parse().ok()
    });
    safe.take(times).last().unwrap()
}

#[test]
fn a_killed_process_loses_nothing_that_was_in_its_spool() {
    // One that answers, one that refuses in between, one that is away.
    let servers = [
        Server::scripted([]),
        Server::scripted((0..200).map(|_| support::status(Code::Unavailable))),
        Server::ruled(|_, _| Some(Answer::Hold)),
    ];
    for server in servers {
        let root = TempDir::new().unwrap();
        let mut child = start_child(&root, &server);
        let safe = safe_after(&mut child, 12);
        child.kill().unwrap();
        child.wait().unwrap();
        server.open_gate();
        let client = client_of(&server).spool_dir(root.path()).build().unwrap();
        server.wait_until("all that was safe", |seen| {
            let messages = seen.messages();
            messages.len() >= safe && messages[..safe] == expected(0..safe)
        });
        client.shutdown(PATIENCE);
        let mut messages = server.seen(Seen::messages);
        let count = messages.len();
        messages.dedup();
        assert_eq!(messages.len(), count, "each log is there once");
    }
}
