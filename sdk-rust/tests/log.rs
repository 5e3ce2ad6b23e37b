//! The logger for the `log` crate, from the macro to the server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use logweir_sdk::{
    Level,
    v1::{self, attribute::Value},
};
use support::{PATIENCE, Server, client_of};

#[test]
fn what_is_logged_arrives_with_its_pairs() {
    let server = Server::scripted([]);
    let client = client_of(&server).build().unwrap();
    log::set_boxed_logger(Box::new(logweir_sdk::log::Logger::new(client.clone()))).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    log::warn!(
        target: "shop::cart",
        user = 7, rate = 0.5, ok = true, name = "bob", big = u64::MAX, latency_ms = 12,
        trace_id = "0af7651916cd43dd8448eb211c80319c", span_id = "b7ad6b7169203331";
        "took {} steps", 3
    );
    log::debug!("plain");
    log::trace!("not wanted");
    assert!(client.flush(PATIENCE).is_complete());
    let records: Vec<v1::LogRecord> =
        server.seen(|seen| seen.attempts.iter().flat_map(|batch| batch.records.clone()).collect());
    let [first, second] = &records[..] else { panic!("{records:?}") };
    assert_eq!((first.level(), first.message.as_str()), (Level::Warn, "took 3 steps"));
    assert_eq!((first.logger.as_str(), first.latency_ms), ("shop::cart", Some(12.0)));
    assert_eq!((first.trace_id[..2].to_vec(), first.span_id.len()), (vec![0x0a, 0xf7], 8));
    let pairs: Vec<(&str, Value)> = first
        .attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), attribute.value.clone().unwrap()))
        .collect();
    let expected = [
        ("user", Value::IntValue(7)),
        ("rate", Value::DoubleValue(0.5)),
        ("ok", Value::BoolValue(true)),
        ("name", Value::StringValue("bob".into())),
        ("big", Value::StringValue(u64::MAX.to_string())),
    ];
    assert_eq!(pairs, expected);
    assert_eq!((second.level(), second.message.as_str()), (Level::Debug, "plain"));
    let late = logweir_sdk::log::init("late").unwrap_err();
    assert!(late.to_string().contains("already"), "{late}");
}
