//! The `tracing` layer, from the macro to the server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use logweir_sdk::{
    Level, TraceContext,
    v1::{self, attribute::Value},
};
use support::{PATIENCE, Server, client_of};
use tracing::{debug_span, error, info, info_span, warn};
use tracing_subscriber::prelude::*;

/// What the server gets of what `body` logs.
fn logged(body: impl FnOnce()) -> Vec<v1::LogRecord> {
    let server = Server::scripted([]);
    let client = client_of(&server).build().unwrap();
    let subscriber = tracing_subscriber::registry().with(logweir_sdk::layer(client.clone()));
    tracing::subscriber::with_default(subscriber, body);
    assert!(client.flush(PATIENCE).is_complete());
    server.seen(|seen| seen.attempts.iter().flat_map(|batch| batch.records.clone()).collect())
}

fn attribute(record: &v1::LogRecord, key: &str) -> Option<Value> {
    record.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()
}

#[test]
fn an_event_becomes_a_record() {
    let records = logged(|| {
        warn!(target: "shop::cart", user = 7, rate = 0.5, ok = true, name = "bob", "took {} steps", 3);
        error!(big = u64::MAX, debug = ?vec![1, 2]);
    });
    let [first, second] = &records[..] else { panic!("{records:?}") };
    assert_eq!((first.level(), first.message.as_str()), (Level::Warn, "took 3 steps"));
    assert_eq!(first.logger, "shop::cart");
    assert_eq!(attribute(first, "user"), Some(Value::IntValue(7)));
    assert_eq!(attribute(first, "rate"), Some(Value::DoubleValue(0.5)));
    assert_eq!(attribute(first, "ok"), Some(Value::BoolValue(true)));
    assert_eq!(attribute(first, "name"), Some(Value::StringValue("bob".into())));
    assert!(first.time_unix_nano > 0 && first.latency_ms.is_none());
    assert_eq!(second.level(), Level::Error);
    assert!(
        second.message.starts_with("event "),
        "an event without a message is named by its place"
    );
    assert_eq!(attribute(second, "big"), Some(Value::StringValue(u64::MAX.to_string())));
    assert_eq!(attribute(second, "debug"), Some(Value::StringValue("[1, 2]".into())));
}

#[test]
fn fields_of_spans_are_inherited_and_the_inner_one_wins() {
    let records = logged(|| {
        let outer = info_span!("request", id = 1, user = "outer", late = tracing::field::Empty);
        let _outer = outer.enter();
        let _inner = debug_span!("step", user = "inner", step = 2).entered();
        outer.record("late", 9);
        info!(step = 3, "done");
    });
    let keys: Vec<&str> = records[0].attributes.iter().map(|a| a.key.as_str()).collect();
    assert_eq!(keys, ["id", "user", "late", "step"]);
    assert_eq!(attribute(&records[0], "user"), Some(Value::StringValue("inner".into())));
    assert_eq!(attribute(&records[0], "step"), Some(Value::IntValue(3)));
    assert_eq!(attribute(&records[0], "late"), Some(Value::IntValue(9)));
}

#[test]
fn latency_and_trace_ids_have_their_fields() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let records = logged(|| {
        let _span =
            info_span!("request", trace_id = trace, span_id = %"b7ad6b7169203331").entered();
        info!(latency_ms = 12.5, "a");
        info!(duration_ms = 7, "b");
        info!(latency_ms = "slow", trace_id = "nonsense", "c");
    });
    assert_eq!(records[0].latency_ms, Some(12.5));
    assert_eq!(records[1].latency_ms, Some(7.0));
    for record in &records[..2] {
        assert_eq!(record.trace_id[..2], [0x0a, 0xf7]);
        assert_eq!(record.span_id.len(), 8);
        assert_eq!(record.attributes, []);
    }
    assert_eq!((records[2].latency_ms, records[2].trace_id.len()), (None, 0));
    assert_eq!(attribute(&records[2], "latency_ms"), Some(Value::StringValue("slow".into())));
    assert_eq!(attribute(&records[2], "trace_id"), Some(Value::StringValue("nonsense".into())));
}

#[test]
fn what_is_logged_within_a_request_is_of_its_trace() {
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let here = TraceContext::within(Some(caller));
    let records = logged(|| here.span().in_scope(|| info!("inside")));
    let caller = TraceContext::parse(caller).unwrap();
    assert_eq!(records[0].trace_id, caller.trace_id);
    assert_eq!(records[0].span_id, here.span_id);
    assert!(here.span_id != caller.span_id && records[0].attributes.is_empty());
    let begun = TraceContext::within(Some("nonsense"));
    assert_ne!(begun.trace_id, TraceContext::within(None).trace_id);
}

#[test]
fn the_crates_that_sending_goes_through_are_left_out() {
    let records = logged(|| {
        for _ in 0..3 {
            info!(target: "h2::client", "frame");
            info!(target: "tonic", "call");
            info!(target: "logweir_sdk::worker", "batch");
        }
        info!(target: "h2o", "kept");
    });
    let messages: Vec<&str> = records.iter().map(|record| record.message.as_str()).collect();
    assert_eq!(messages, ["kept"]);
}

#[test]
fn one_line_sends_what_the_whole_program_logs() {
    // The only test here that sets the program's own subscriber, and with it catches what sending
    // itself logs on its thread.
    let server = Server::scripted([]);
    let client = client_of(&server).build().unwrap();
    tracing_subscriber::registry().with(logweir_sdk::layer(client.clone())).init();
    for round in 0..3 {
        info!(round, "hello");
        assert!(client.flush(PATIENCE).is_complete());
    }
    let late = logweir_sdk::init("late").unwrap_err();
    assert!(late.to_string().contains("already"), "{late}");
    let messages = server.seen(support::Seen::messages);
    assert_eq!(messages.iter().filter(|message| *message == "hello").count(), 3);
    let foreign = messages.iter().filter(|message| *message != "hello").count();
    // Tests of this program that run beside this one have subscribers of their own.
    assert_eq!(foreign, 0, "{messages:?}");
}
