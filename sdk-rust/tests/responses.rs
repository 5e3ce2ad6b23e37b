//! Every kind of answer, from a real server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::{Arc, mpsc::sync_channel},
    time::Duration,
};

use logweir_sdk::{Client, DropReason, FlushReport, Level, Record, Rejection, Token, v1};
use parking_lot::Mutex;
use support::{Answer, PATIENCE, Server, client_of, retry_after, status, with_reason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

fn emit(client: &Client, count: usize) {
    for number in 0..count {
        client.emit(Record::new(Level::Info, format!("log {number:04}")));
    }
}

/// Emits ten logs in one batch to a server with a script, and says what became of them.
fn send_ten(script: impl IntoIterator<Item = Answer>) -> (FlushReport, Server) {
    let server = Server::scripted(script);
    let client = client_of(&server).build().unwrap();
    emit(&client, 10);
    (client.flush(PATIENCE), server)
}

fn ids(server: &Server) -> Vec<Vec<u8>> {
    let data = |seen: &support::Seen| {
        let attempts = seen.attempts.iter().filter(|batch| !batch.records.is_empty());
        attempts.map(|batch| batch.batch_id.clone()).collect()
    };
    server.seen(data)
}

#[test]
fn transient_refusals_are_retried_byte_for_byte() {
    for code in [
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::Aborted,
        Code::DataLoss,
        Code::OutOfRange,
        Code::Internal,
        Code::Unknown,
    ] {
        let (report, server) = send_ten([status(code), status(code)]);
        assert_eq!((report.sent, report.dropped.total(), report.pending), (10, 0, 0), "{code:?}");
        let attempts = server.seen(|seen| seen.attempts.clone());
        assert_eq!(attempts.len(), 3, "{code:?}");
        assert!(attempts.iter().all(|batch| *batch == attempts[0]), "{code:?}");
    }
}

#[test]
fn an_answer_that_is_lost_after_the_commit_stores_nothing_twice() {
    let (report, server) = send_ten([Answer::StoreThenRefuse(Status::unavailable("lost"))]);
    assert_eq!(report.sent, 10);
    assert_eq!(server.seen(|seen| (seen.stored_records(), seen.doubled)), (10, 1));
}

#[test]
fn internal_errors_are_retried_three_times_and_no_more() {
    let (report, server) = send_ten(std::iter::repeat_n(status(Code::Internal), 4));
    assert_eq!((report.sent, report.dropped.get(DropReason::SendError)), (0, 10));
    assert_eq!(ids(&server).len(), 4);
    // The drop reached the server in an account without logs.
    assert_eq!(server.seen(|seen| (seen.last_account().emitted, seen.missing(0))), (10, 0));
}

#[test]
fn refusals_for_good_are_dropped_and_counted() {
    for code in [
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::NotFound,
        Code::AlreadyExists,
        Code::Unimplemented,
        Code::ResourceExhausted,
    ] {
        let (report, server) = send_ten([status(code)]);
        assert_eq!((report.sent, report.dropped.get(DropReason::SendError)), (0, 10), "{code:?}");
        assert_eq!(ids(&server).len(), 1, "{code:?}");
        assert_eq!(server.seen(|seen| seen.missing(0)), 0, "{code:?}");
    }
    let (report, _) = send_ten([with_reason(Code::FailedPrecondition, "EXPIRED")]);
    assert_eq!(report.dropped.get(DropReason::Expired), 10);
}

#[test]
fn the_servers_delay_is_waited_for() {
    let delay = Duration::from_millis(50);
    for code in [Code::ResourceExhausted, Code::Unavailable] {
        let before = std::time::Instant::now();
        let (report, server) = send_ten([retry_after(code, delay)]);
        assert_eq!((report.sent, ids(&server).len()), (10, 2), "{code:?}");
        assert!(before.elapsed() >= delay, "{code:?}");
    }
}

#[test]
fn a_batch_that_is_too_large_is_split_without_a_hole() {
    let server = Server::ruled(|batch, _| {
        let is_large = batch.records.len() > 3;
        is_large.then(|| with_reason(Code::ResourceExhausted, "BATCH_TOO_LARGE"))
    });
    let client = client_of(&server).build().unwrap();
    emit(&client, 10);
    let report = client.flush(PATIENCE);
    assert_eq!((report.sent, report.dropped.total()), (10, 0));
    let expected: Vec<String> = (0..10).map(|number| format!("log {number:04}")).collect();
    assert_eq!(server.seen(|seen| seen.messages()), expected);
    // The two that were split off are each the first of a producer of its own; the account follows.
    assert_eq!(server.seen(|seen| seen.sequences()), [1, 1, 1, 1, 2]);
    assert_eq!(server.seen(|seen| seen.missing(0)), 0);
    let mut ids = ids(&server);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7, "each part has an id of its own");
    let tried = server.seen(|seen| seen.attempts.len());
    emit(&client, 10);
    assert_eq!(client.flush(PATIENCE).sent, 20);
    assert_eq!(server.seen(|seen| seen.attempts.len()), tried + 4, "the limit is known by now");
}

#[test]
fn a_single_log_that_is_too_large_is_dropped() {
    let server = Server::ruled(|batch, _| {
        let is_bad = batch.records.iter().any(|record| record.message.ends_with("0003"));
        is_bad.then(|| with_reason(Code::ResourceExhausted, "BATCH_TOO_LARGE"))
    });
    let client = client_of(&server).build().unwrap();
    emit(&client, 10);
    let report = client.flush(PATIENCE);
    assert_eq!((report.sent, report.dropped.get(DropReason::TooLarge)), (9, 1));
    assert_eq!(server.seen(|seen| seen.missing(0)), 0);
}

#[test]
fn logs_named_by_a_bad_request_are_left_out_and_the_rest_goes_once_more() {
    let details = ErrorDetails::with_bad_request_violation("batch.records[4].message", "not valid");
    let bad = Status::with_error_details(Code::InvalidArgument, "scripted", details);
    let (report, server) = send_ten([Answer::Refuse(bad.clone())]);
    assert_eq!((report.sent, report.dropped.get(DropReason::SendError)), (9, 1));
    let ids = ids(&server);
    assert!(ids.len() == 2 && ids[0] != ids[1]);
    assert_eq!(server.seen(|seen| (seen.missing(0), seen.sequences())), (0, vec![1, 2]));
    let (report, _) = send_ten([Answer::Refuse(bad.clone()), Answer::Refuse(bad)]);
    assert_eq!((report.sent, report.dropped.get(DropReason::SendError)), (0, 10));
}

#[test]
fn rejected_logs_are_counted_and_told_once_a_minute() {
    let server = Server::scripted([
        Answer::Reject(vec![1, 7]),
        // For the account that says so.
        Answer::Accept,
        Answer::Reject(vec![0]),
    ]);
    let told: Arc<Mutex<Vec<Rejection>>> = Arc::default();
    let sink = Arc::clone(&told);
    let client = client_of(&server)
        .on_rejected(move |rejection| sink.lock().push(rejection.clone()))
        .build()
        .unwrap();
    emit(&client, 10);
    assert_eq!(client.flush(PATIENCE).rejected, 2);
    emit(&client, 10);
    let report = client.flush(PATIENCE);
    assert_eq!((report.sent, report.rejected), (17, 3));
    let told = told.lock();
    assert_eq!((told.len(), told[0].reason.as_str(), told[0].count), (1, "bad_record", 1));
    assert_eq!(server.seen(|seen| (seen.last_account().rejected, seen.missing(3))), (3, 0));
}

#[test]
fn a_callback_that_panics_or_flushes_does_no_harm() {
    let server = Server::scripted([Answer::Reject(vec![1])]);
    let (hand_over, handed_over) = sync_channel::<Client>(1);
    let handed_over = Mutex::new(handed_over);
    let client = client_of(&server)
        .on_rejected(move |_| {
            let client = handed_over.lock().recv().unwrap();
            client.flush(PATIENCE);
            client.emit(Record::new(Level::Info, "from the callback"));
            std::panic::resume_unwind(Box::new("on purpose"));
        })
        .build()
        .unwrap();
    hand_over.send(client.clone()).unwrap();
    emit(&client, 10);
    assert_eq!(client.flush(PATIENCE).rejected, 1);
    assert_eq!(client.flush(PATIENCE).sent, 10);
}

#[test]
fn a_new_token_is_read_when_the_old_one_is_refused() {
    let server =
        Server::ruled(|_, token| (token != "Bearer new").then(|| status(Code::Unauthenticated)));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old\n").unwrap();
    let client = client_of(&server).token_from(Token::File(file.path().into())).build().unwrap();
    std::fs::write(file.path(), "new\n").unwrap();
    emit(&client, 10);
    let report = client.flush(PATIENCE);
    assert_eq!((report.sent, report.dropped.total()), (10, 0));
    assert_eq!(server.seen(|seen| seen.tokens[..2].to_vec()), ["Bearer old", "Bearer new"]);
}

#[test]
fn a_refused_token_holds_the_logs_until_it_is_replaced() {
    let server =
        Server::ruled(|_, token| (token != "Bearer new").then(|| status(Code::Unauthenticated)));
    let token = Arc::new(Mutex::new("old"));
    let source = Arc::clone(&token);
    let callback = Token::Callback(Arc::new(move || Some((*source.lock()).to_owned())));
    let client = client_of(&server).token_from(callback).queue_records(20).build().unwrap();
    emit(&client, 10);
    let flushing = std::thread::spawn({
        let client = client.clone();
        move || client.flush(PATIENCE)
    });
    server.wait_until("five refusals", |seen| seen.attempts.len() >= 5);
    emit(&client, 30);
    assert!(client.stats().dropped.get(DropReason::AuthFailed) > 0);
    *token.lock() = "new";
    assert!(flushing.join().unwrap().is_complete());
    let report = client.flush(PATIENCE);
    assert_eq!(report.sent + report.dropped.total(), 40);
    assert_eq!(server.seen(|seen| seen.missing(0)), 0);
}

#[test]
fn a_refused_permission_is_waited_for_once_then_dropped() {
    let (report, server) = send_ten([status(Code::PermissionDenied)]);
    assert_eq!((report.sent, ids(&server).len()), (10, 2));
    let (report, server) =
        send_ten([status(Code::PermissionDenied), status(Code::PermissionDenied)]);
    assert_eq!(report.dropped.get(DropReason::AuthFailed), 10);
    assert_eq!(ids(&server).len(), 2);
}

#[test]
fn a_server_that_comes_back_gets_everything() {
    let server = Server::scripted([]);
    let address = server.address;
    let client = client_of(&server).build().unwrap();
    emit(&client, 10);
    assert_eq!(client.flush(PATIENCE).sent, 10);
    drop(server);
    emit(&client, 10);
    assert_eq!(client.flush(Duration::ZERO).pending, 10);
    let server = Server::at(address);
    let report = client.flush(PATIENCE);
    assert_eq!((report.sent, report.pending), (20, 0));
    assert_eq!(server.seen(|seen| seen.stored_records()), 10);
}

#[test]
fn another_server_of_the_list_takes_over() {
    let (first, second) = (Server::scripted([]), Server::scripted([]));
    let list = format!("{},{}", first.url(), second.url());
    let client = client_of(&first).endpoint(list).batch_records(5).build().unwrap();
    emit(&client, 20);
    assert_eq!(client.flush(PATIENCE).sent, 20);
    let records = |server: &Server| server.seen(|seen| seen.stored_records());
    assert_eq!((records(&first), records(&second)), (10, 10), "they take turns");
    drop(first);
    emit(&client, 20);
    let report = client.flush(PATIENCE);
    assert_eq!((report.sent, records(&second)), (40, 30));
}

#[test]
fn batches_carry_what_the_program_is() {
    let server = Server::scripted([]);
    let client = client_of(&server)
        .service("payments")
        .version("1.2")
        .environment("test")
        .attribute("team", "blue")
        .resource_detection(false)
        .build()
        .unwrap();
    emit(&client, 1);
    client.flush(PATIENCE);
    let batch: v1::Batch = server.seen(|seen| seen.attempts[0].clone());
    let resource = batch.resource.unwrap();
    assert_eq!((resource.service.as_str(), resource.version.as_str()), ("payments", "1.2"));
    assert!(!resource.host.is_empty() && resource.instance.starts_with(&resource.host));
    assert_eq!(resource.attributes.len(), 1);
    let producer = batch.producer.unwrap();
    assert_eq!((producer.producer_id.len(), producer.sequence), (16, 1));
    assert_eq!(producer.sdk_name, "logweir-sdk-rust");
    assert!(batch.records[0].time_unix_nano > 0);
}

#[test]
fn what_goes_wrong_again_and_again_is_said_once() {
    let server = Server::ruled(|_, _| Some(status(Code::InvalidArgument)));
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&said);
    let client = client_of(&server).batch_records(1);
    let client = client.on_notice(move |text| sink.lock().push(text.to_owned())).build().unwrap();
    emit(&client, 20);
    assert_eq!(client.flush(PATIENCE).dropped.total(), 20);
    let refusals = said.lock().iter().filter(|text| text.contains("refused")).count();
    assert_eq!(refusals, 1);
}

#[test]
fn a_server_that_does_not_know_the_call_is_told_with_what_to_check() {
    let server = Server::scripted([status(Code::Unimplemented)]);
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&said);
    let client = client_of(&server).on_notice(move |text| sink.lock().push(text.to_owned()));
    let client = client.build().unwrap();
    emit(&client, 1);
    client.flush(PATIENCE);
    let expected = format!(
        "{} refused a batch for good (scripted Unimplemented); is this a Logweir server? \
         check LOGWEIR_ENDPOINT",
        server.url()
    );
    assert!(said.lock().contains(&expected), "{:?}", said.lock());
}
