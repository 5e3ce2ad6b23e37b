//! Waiting, ending, and the bounds of memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use logweir_sdk::{Client, DropReason, Level, Record, RetryPolicy, SpoolOptions, SpoolSync};
use parking_lot::Mutex;
use support::{Answer, PATIENCE, Server, client_of};

fn info(number: usize) -> Record {
    Record::new(Level::Info, format!("{number:05}"))
}

#[test]
fn a_full_batch_goes_without_a_flush() {
    let server = Server::scripted([]);
    let client = client_of(&server).batch_records(100).build().unwrap();
    (0..250).for_each(|number| client.emit(info(number)));
    server.wait_until("two batches", |seen| seen.stored_records() == 200);
    assert_eq!(client.flush(PATIENCE).sent, 250);
    let sizes =
        server.seen(|seen| seen.attempts.iter().map(|b| b.records.len()).collect::<Vec<_>>());
    assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
}

#[test]
fn batches_keep_to_their_bytes() {
    let server = Server::scripted([]);
    let client = client_of(&server).batch_bytes(10_000).compression(logweir_sdk::Compression::Gzip);
    let client = client.build().unwrap();
    for _ in 0..30 {
        client.emit(Record::new(Level::Info, "x".repeat(3_000)));
    }
    client.emit(Record::new(Level::Info, "y".repeat(50_000)));
    assert_eq!(client.flush(PATIENCE).sent, 31);
    let sizes =
        server.seen(|seen| seen.attempts.iter().map(|b| b.records.len()).collect::<Vec<_>>());
    assert!(sizes.iter().all(|size| *size <= 3), "{sizes:?}");
}

#[test]
fn a_fatal_log_and_a_delay_that_is_over_do_not_wait_for_others() {
    let server = Server::scripted([]);
    let client = client_of(&server).build().unwrap();
    client.emit(info(1));
    client.emit(Record::new(Level::Fatal, "the end"));
    server.wait_until("both", |seen| seen.stored_records() == 2);
    let client = client_of(&server).batch_delay(Duration::from_millis(5)).build().unwrap();
    client.emit(info(2));
    server.wait_until("the third", |seen| seen.stored_records() == 3);
    assert_eq!(client.stats().emitted, 1);
}

#[test]
fn flush_waits_for_what_came_before_and_every_caller_gets_an_answer() {
    let server = Server::ruled(|_, _| Some(Answer::Hold));
    let client = client_of(&server).build().unwrap();
    (0..10).for_each(|number| client.emit(info(number)));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.flush(PATIENCE))
        })
        .collect();
    server.wait_until("the batch", |seen| seen.attempts.len() == 1);
    server.open_gate();
    for caller in callers {
        let report = caller.join().unwrap();
        assert!(report.is_complete());
        assert_eq!(report.sent, 10);
    }
}

#[test]
fn flush_ends_in_time_and_says_what_is_open() {
    let server = Server::ruled(|_, _| Some(Answer::Hold));
    let client = client_of(&server).batch_records(10).build().unwrap();
    (0..45).for_each(|number| client.emit(info(number)));
    server.wait_until("two under way", |seen| seen.attempts.len() == 2);
    let report = client.flush(Duration::ZERO);
    assert_eq!((report.sent, report.pending, report.is_complete()), (0, 45, false));
    assert_eq!(server.seen(|seen| seen.attempts.len()), 2, "the rest waits");
    server.open_gate();
    assert_eq!(client.flush(PATIENCE).sent, 45);
}

#[test]
fn many_threads_lose_nothing() {
    let server = Server::scripted([]);
    let client = client_of(&server).in_flight(8).batch_records(50).build().unwrap();
    thread::scope(|scope| {
        for lane in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for number in 0..2_000 {
                    client.emit(info(lane * 2_000 + number));
                    if number % 500 == 499 {
                        assert!(client.flush(PATIENCE).is_complete());
                    }
                }
            });
        }
    });
    let report = client.shutdown(PATIENCE);
    assert_eq!((report.sent, report.dropped.total()), (8_000, 0));
    let expected: Vec<String> = (0..8_000).map(|number| format!("{number:05}")).collect();
    assert_eq!(server.seen(|seen| seen.messages()), expected);
    let sequences = server.seen(|seen| seen.sequences());
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    assert_eq!(server.seen(|seen| seen.missing(0)), 0);
}

#[test]
fn flush_works_inside_any_runtime() {
    let server = Server::scripted([]);
    let client = client_of(&server).build().unwrap();
    let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let several = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for runtime in [current, several] {
        runtime.block_on(async {
            client.emit(info(1));
            assert!(client.flush(PATIENCE).is_complete());
            client.emit(info(2));
            assert!(client.flush_async(PATIENCE).await.is_complete());
            let inside = client_of(&server).build().unwrap();
            inside.emit(info(3));
            drop(inside);
        });
    }
    assert_eq!(server.seen(|seen| seen.stored_records()), 6);
}

#[test]
fn shutdown_is_final_and_repeatable() {
    let server = Server::scripted([]);
    let client = client_of(&server).build().unwrap();
    (0..10).for_each(|number| client.emit(info(number)));
    let report = client.shutdown(PATIENCE);
    assert_eq!((report.sent, report.is_complete()), (10, true));
    client.emit(info(11));
    assert_eq!(client.shutdown(PATIENCE), report);
    assert_eq!(client.flush(PATIENCE), report);
    let stats = client.stats();
    assert_eq!((stats.emitted, stats.emitted_after_shutdown), (10, 1));
    assert_eq!(server.seen(|seen| seen.stored_records()), 10);
}

#[test]
fn shutdown_without_a_server_ends_in_time_and_counts_what_is_lost() {
    let server = Server::scripted([]);
    let client = client_of(&server).batch_records(10);
    drop(server);
    let client = client.build().unwrap();
    (0..45).for_each(|number| client.emit(info(number)));
    let before = Instant::now();
    let report = client.shutdown(Duration::ZERO);
    assert!(before.elapsed() < Duration::from_secs(2));
    assert_eq!(report.dropped.get(DropReason::ShutdownTimeout), 45);
    assert_eq!((report.sent, report.pending), (0, 0));
}

#[test]
fn the_last_client_that_goes_flushes() {
    let server = Server::scripted([]);
    let client = client_of(&server).build().unwrap();
    client.clone().emit(info(1));
    drop(client);
    assert_eq!(server.seen(|seen| seen.stored_records()), 1);
}

#[test]
fn errors_outlive_an_outage_and_every_drop_reaches_the_server() {
    let server = Server::ruled(|_, _| Some(Answer::Hold));
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&said);
    let client = client_of(&server)
        .queue_records(100)
        .batch_records(10)
        .on_notice(move |text| sink.lock().push(text.to_owned()))
        .build()
        .unwrap();
    for number in 0..1_000 {
        client.emit(info(number));
        if number % 100 == 0 {
            client.emit(Record::new(Level::Error, format!("error {number:05}")));
        }
    }
    let stats = client.stats();
    assert!(stats.queued <= 100 && stats.dropped.get(DropReason::QueueOverflow) >= 800);
    server.open_gate();
    let report = client.flush(PATIENCE);
    assert_eq!(report.sent + report.dropped.total(), 1_010);
    let errors = |seen: &support::Seen| {
        seen.messages().iter().filter(|message| message.starts_with("error")).count()
    };
    assert_eq!(server.seen(errors), 10);
    assert_eq!(server.seen(|seen| seen.missing(0)), 0);
    let said = said.lock();
    assert_eq!(said.len(), 1, "the first drop is said, the rest waits a minute: {said:?}");
    assert!(said[0].contains("queue_overflow"));
}

#[test]
fn memory_is_bounded_in_bytes() {
    let server = Server::ruled(|_, _| Some(Answer::Hold));
    let client = client_of(&server).queue_bytes(1 << 20).in_flight(1).build().unwrap();
    for _ in 0..200 {
        client.emit(Record::new(Level::Info, "x".repeat(60_000)));
    }
    let stats = client.stats();
    assert!(stats.queued <= 17, "{stats:?}");
    server.open_gate();
    let report = client.flush(PATIENCE);
    assert_eq!(report.sent + report.dropped.total(), 200);
}

#[test]
fn what_waits_too_long_in_memory_expires() {
    let server = Server::ruled(|_, _| Some(Answer::Hold));
    let client = client_of(&server).memory_age_max(Duration::from_millis(1)).batch_records(10);
    let client: Client = client.build().unwrap();
    (0..50).for_each(|number| client.emit(info(number)));
    let report = client.flush(PATIENCE);
    assert!(report.is_complete());
    assert_eq!((report.sent, report.dropped.get(DropReason::Expired)), (0, 50));
}

#[test]
fn no_time_is_too_long() {
    let server = Server::scripted([support::status(tonic::Code::Unavailable)]);
    let root = tempfile::TempDir::new().unwrap();
    let spool = SpoolOptions {
        age_max: Duration::MAX,
        sync: SpoolSync::Interval(Duration::MAX),
        ..SpoolOptions::new(root.path())
    };
    let retry = RetryPolicy { server_delay_max: Duration::MAX, ..support::quick() };
    let client = client_of(&server)
        .batch_delay(Duration::MAX)
        .memory_age_max(Duration::MAX)
        .attempt_timeout(Duration::MAX)
        .retry(retry)
        .spool(spool)
        .build()
        .unwrap();
    client.emit(info(1));
    assert_eq!(client.flush(Duration::MAX).sent, 1);
}

#[test]
fn before_send_may_change_and_give_up_what_is_emitted() {
    let server = Server::scripted([]);
    let emits: Arc<Mutex<Option<Client>>> = Arc::default();
    let inner = Arc::clone(&emits);
    let client = client_of(&server)
        .before_send(move |record| {
            match record.message.as_str() {
                "secret" => record.message = "***".into(),
                "panic" => std::panic::resume_unwind(Box::new("on purpose")),
                "more" => inner.lock().as_ref().unwrap().emit(Record::new(Level::Info, "secret")),
                _ => {}
            }
            record.message != "noise"
        })
        .build()
        .unwrap();
    *emits.lock() = Some(client.clone());
    for message in ["secret", "noise", "panic", "more", "plain"] {
        client.emit(Record::new(Level::Info, message));
    }
    *emits.lock() = None;
    let report = client.flush(PATIENCE);
    assert_eq!((report.sent, report.dropped.get(DropReason::BeforeSend)), (4, 2));
    let expected = ["***", "more", "plain", "secret"];
    assert_eq!(
        server.seen(|seen| (seen.messages(), seen.missing(0))),
        (expected.map(String::from).to_vec(), 0)
    );
}
