//! The first program of the README, as it stands there, against a real server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use logweir_sdk::v1::{self, attribute::Value};
use support::Server;

const CHILD: &str = "LOGWEIR_TEST_README";

mod first {
    include!("readme/first.rs");

    pub(super) fn run() {
        main().unwrap();
    }
}

/// Does nothing unless the test below starts it in a process of its own.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test below tells its child by the environment")]
fn program_of_the_readme() {
    if std::env::var(CHILD).is_ok() {
        return first::run();
    }
    let readme = include_str!("../README.md");
    assert!(readme.contains(include_str!("readme/first.rs")), "the README has another");
}

fn attribute<'a>(record: &'a v1::LogRecord, key: &str) -> &'a Value {
    let found = record.attributes.iter().find(|attribute| attribute.key == key);
    found.unwrap().value.as_ref().unwrap()
}

#[test]
fn the_program_of_the_readme_sends_its_logs() {
    let server = Server::scripted([]);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "program_of_the_readme", "--nocapture"])
        .env(CHILD, "1")
        .env("LOGWEIR_ENDPOINT", server.url())
        .env("LOGWEIR_TOKEN", "secret")
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "nothing went wrong");
    let batches: Vec<v1::Batch> = server.seen(|seen| seen.attempts.clone());
    assert_eq!(batches[0].resource.as_ref().unwrap().service, "shop");
    let records: Vec<&v1::LogRecord> = batches.iter().flat_map(|batch| &batch.records).collect();
    let messages: Vec<&str> = records.iter().map(|record| record.message.as_str()).collect();
    assert_eq!(messages, ["order placed", "payment failed"]);
    assert_eq!(attribute(records[0], "order"), &Value::IntValue(42));
    assert_eq!(records[0].latency_ms, Some(12.5));
    assert_eq!(attribute(records[1], "password"), &Value::StringValue("[redacted]".into()));
}
