//! A forked child. Alone in its file: a fork copies whatever else the process does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;

use fork::Fork;
use logweir_sdk::{Client, Level, Record};
use support::{Answer, PATIENCE, Server, client_of};

fn emit(client: &Client, texts: [&str; 2]) {
    texts.into_iter().for_each(|text| client.emit(Record::new(Level::Info, text)));
}

#[test]
fn a_child_is_another_producer_and_leaves_the_parents_logs_to_it() {
    let server = Server::ruled(|batch, _| {
        let is_first = batch.records.iter().any(|record| record.message == "under way");
        is_first.then_some(Answer::Hold)
    });
    let root = tempfile::TempDir::new().unwrap();
    let client = client_of(&server).batch_records(2).spool_dir(root.path()).build().unwrap();
    emit(&client, ["under way", "with it"]);
    server.wait_until("the batch", |seen| !seen.attempts.is_empty());
    client.emit(Record::new(Level::Info, "in the queue"));
    match fork::fork().unwrap() {
        Fork::Child => {
            let silent = client.flush(PATIENCE);
            emit(&client, ["of the child", "last words"]);
            let report = client.shutdown(PATIENCE);
            drop(client);
            let is_good = silent.is_complete() && silent.sent == 0 && report.sent == 2;
            std::process::exit(if is_good { 0 } else { 1 });
        }
        Fork::Parent(child) => {
            let ended = fork::waitpid(child).unwrap();
            assert_eq!(ended, 0);
        }
    }
    server.open_gate();
    let report = client.shutdown(PATIENCE);
    assert_eq!((report.sent, report.dropped.total()), (3, 0));
    let expected = ["in the queue", "last words", "of the child", "under way", "with it"];
    assert_eq!(server.seen(|seen| seen.messages()), expected);
    assert_eq!(server.seen(|seen| seen.missing(0)), 0);
    let named = |name: fn(&logweir_sdk::v1::Batch) -> Vec<u8>| {
        server.seen(|seen| seen.stored.values().map(name).collect::<HashSet<_>>().len())
    };
    assert_eq!(named(|batch| batch.producer.as_ref().unwrap().producer_id.clone()), 2);
    assert_eq!(named(|batch| batch.resource.as_ref().unwrap().instance.clone().into_bytes()), 2);
}
