//! The conversations of `proto/vectors/accounts.json`, with a real server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::sync_channel},
};

use logweir_sdk::{Client, ClientBuilder, Compression, DropCounts, Level, Record, v1};
use parking_lot::Mutex;
use serde_json::Value;
use support::{Answer, PATIENCE, Seen, Server, client_of};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn level(value: &Value) -> Level {
    Level::from_str_name(&format!("LEVEL_{}", value.as_str().unwrap())).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn status(answer: &Value) -> Status {
    let names = [
        ("UNAVAILABLE", Code::Unavailable),
        ("ABORTED", Code::Aborted),
        ("FAILED_PRECONDITION", Code::FailedPrecondition),
        ("INTERNAL", Code::Internal),
        ("INVALID_ARGUMENT", Code::InvalidArgument),
        ("PERMISSION_DENIED", Code::PermissionDenied),
        ("UNAUTHENTICATED", Code::Unauthenticated),
        ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    ];
    let (_, code) = names.into_iter().find(|(name, _)| answer["code"] == *name).unwrap();
    let mut details = ErrorDetails::new();
    if let Some(delay) = answer["retry_delay_ms"].as_u64() {
        details.set_retry_info(Some(std::time::Duration::from_millis(delay)));
    }
    if let Some(reason) = answer["reason"].as_str() {
        details.set_error_info(reason, "logweir", std::collections::HashMap::new());
    }
    for position in answer["bad_records"].as_array().into_iter().flatten() {
        details.add_bad_request_violation(format!("batch.records[{position}].message"), "bad");
    }
    Status::with_error_details(code, "scripted", details)
}

fn answer(value: &Value) -> Answer {
    let (kind, given) = value.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "refuse" => Answer::Refuse(status(given)),
        "store_then_refuse" => Answer::StoreThenRefuse(status(given)),
        "reject" => Answer::Reject(list(given).iter().map(|at| number(at) as u32).collect()),
        other => panic!("{other}"),
    }
}

fn server(answers: &[Value]) -> Server {
    if let Some(most) = answers.iter().find_map(|answer| answer["too_large_over"].as_u64()) {
        return Server::ruled(move |batch, _| {
            let is_large = batch.records.len() as u64 > most;
            is_large.then(|| support::with_reason(Code::ResourceExhausted, "BATCH_TOO_LARGE"))
        });
    }
    Server::scripted(answers.iter().map(answer))
}

/// The client's settings, and whether it must not send before all is emitted.
fn client(server: &Server, settings: &Value) -> (ClientBuilder, bool) {
    let builder = client_of(server).compression(Compression::None).in_flight(1);
    let mut is_paused = false;
    let settings = settings.as_object().unwrap().iter();
    let builder = settings.fold(builder, |builder, (name, value)| match name.as_str() {
        "sample_rates" => value.as_object().unwrap().iter().fold(builder, |builder, entry| {
            builder.sample_rate(level(&entry.0.as_str().into()), entry.1.as_f64().unwrap())
        }),
        "queue_records" => builder.queue_records(number(value) as usize),
        "batch_records" => builder.batch_records(number(value) as usize),
        "is_paused" => {
            is_paused = value.as_bool().unwrap();
            builder
        }
        other => panic!("{other}"),
    });
    (builder, is_paused)
}

/// Emits, and at the first drop waits until `until_paused` returns.
fn emit(client: &Client, logs: &[Value], until_paused: impl Fn()) {
    let mut has_dropped = false;
    let each = logs.iter().flat_map(|entry| {
        std::iter::repeat_n(level(&entry["level"]), number(&entry["count"]) as usize)
    });
    for (position, level) in each.enumerate() {
        client.emit(Record::new(level, format!("log {position:04}")));
        if !has_dropped && client.stats().dropped.total() > 0 {
            has_dropped = true;
            until_paused();
        }
    }
}

fn by_name(dropped: &DropCounts) -> BTreeMap<String, u64> {
    dropped.iter().map(|(reason, count)| (reason.to_string(), count)).collect()
}

fn counts(value: &Value) -> BTreeMap<String, u64> {
    let entries = value.as_object().unwrap().iter();
    entries.map(|(name, count)| (name.clone(), number(count))).collect()
}

/// The account with the highest sequence of the client's own producer: the first that was seen.
fn own_account(seen: &Seen) -> v1::Account {
    let id = |batch: &v1::Batch| batch.producer.clone().unwrap().producer_id;
    let own = id(&seen.attempts[0]);
    let stored = seen.stored.values().filter(|batch| id(batch) == own);
    let producers = stored.map(|batch| batch.producer.clone().unwrap());
    producers.max_by_key(|producer| producer.sequence).unwrap().account.unwrap()
}

fn check(case: &Value) {
    let name = &case["name"];
    let server = server(list(&case["answers"]));
    let (builder, is_paused) = client(&server, &case["settings"]);
    // The sending thread says a drop before it cuts a batch: there it is held.
    let (gate, (enter, entered)) = (Arc::new(Mutex::new(())), sync_channel(1));
    let for_thread = Arc::clone(&gate);
    let builder = builder.on_notice(move |_| {
        enter.try_send(()).ok();
        drop(for_thread.lock());
    });
    let held = is_paused.then(|| gate.lock());
    let client = builder.build().unwrap();
    emit(&client, list(&case["emit"]), || {
        if is_paused {
            entered.recv().unwrap();
        }
    });
    drop(held);
    assert!(client.flush(PATIENCE).is_complete(), "{name}");

    let (stats, expected) = (client.stats(), &case["stats"]);
    let found = [stats.emitted, stats.sent, stats.rejected];
    assert_eq!(found, ["emitted", "sent", "rejected"].map(|n| number(&expected[n])), "{name}");
    assert_eq!(by_name(&stats.dropped), counts(&expected["dropped"]), "{name}");
    assert_eq!(stats.emitted, stats.sent + stats.rejected + stats.dropped.total(), "{name}");
    let stored = server.seen(Seen::stored_records) as u64;
    assert_eq!(stored, number(&case["stored"]), "{name}");
    assert_eq!(server.seen(|seen| seen.missing(stats.rejected)), 0, "{name}");
    if let Some(attempts) = case["attempts"].as_u64() {
        assert_eq!(server.seen(|seen| seen.attempts.len()) as u64, attempts, "{name}");
    }
    if !case["account"].is_null() {
        let (account, expected) = (server.seen(own_account), &case["account"]);
        let dropped = account.dropped.into_iter().map(|drop| (drop.reason, drop.count));
        assert_eq!(account.emitted, number(&expected["emitted"]), "{name}");
        assert_eq!(account.rejected, number(&expected["rejected"]), "{name}");
        assert_eq!(dropped.collect::<BTreeMap<_, _>>(), counts(&expected["dropped"]), "{name}");
    }
}

#[test]
fn every_conversation_ends_with_the_account_balanced() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/vectors/accounts.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    list(&cases["cases"]).iter().for_each(check);
}
