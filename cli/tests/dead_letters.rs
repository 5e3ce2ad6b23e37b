//! What cannot be stored, through the real binary: put aside alone, replayed once, discarded.

mod support;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use support::{Process, client, succeeded, token};

const LOGS: usize = 30;
const POISONED: [usize; 3] = [0, 13, 29];
/// Has the processor fail on every record that says `poison`.
const POISON: [(&str, &str); 1] = [("FAILPOINTS", "process_record=return")];

fn write_fixture(path: &Path) {
    let line = |number: usize| {
        let taste = if POISONED.contains(&number) { "poison" } else { "water" };
        format!("2026-01-02T03:04:05.{number:03}Z INFO drink {number} is {taste}\n")
    };
    fs::write(path, (0..LOGS).map(line).collect::<String>()).expect("the fixture can be written");
}

/// The objects that a command prints.
fn objects(server: &Process, token: &str, args: &[&str]) -> Vec<Value> {
    let output = client(server, token, &[args, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).expect("it prints UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
}

/// The messages stored; each must be there once.
fn stored(server: &Process, token: &str) -> BTreeSet<String> {
    let logs = objects(server, token, &["export"]);
    let messages: Vec<_> = logs.iter().map(|log| log["message"].to_string()).collect();
    let set: BTreeSet<_> = messages.iter().cloned().collect();
    assert_eq!(set.len(), messages.len(), "doubled: {messages:?}");
    let counted = objects(server, token, &["services"]);
    assert_eq!(counted[0]["total"].as_u64(), Some(set.len() as u64), "counted once");
    set
}

fn assert_nothing_is_missing(server: &Process, token: &str) {
    for report in objects(server, token, &["report"]) {
        assert_eq!(report["missing"].as_i64(), Some(0), "{report}");
    }
}

#[test]
fn a_poisoned_log_is_put_aside_alone_and_replayed_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data_dir = folder.path().join("data");
    let token = token(&data_dir, "*", "admin");
    let server = Process::standalone_with(&data_dir, "127.0.0.1:0", &POISON);
    let (file, journal) = (folder.path().join("drinks.log"), folder.path().join("journal"));
    write_fixture(&file);
    let (file, journal) = (file.display().to_string(), journal.display().to_string());
    let send = ["send", &file, "--service", "bar", "--journal", &journal];
    succeeded(&client(&server, &token, &send));

    let good = stored(&server, &token);
    assert_eq!(good.len(), LOGS - POISONED.len());
    assert!(!good.iter().any(|message| message.contains("poison")), "{good:?}");
    let letters = objects(&server, &token, &["dead-letters", "list"]);
    let indices: BTreeSet<_> = letters.iter().map(|letter| letter["index"].as_u64()).collect();
    assert_eq!(indices, POISONED.iter().map(|&index| Some(index as u64)).collect());
    let used = |name: &str| {
        let lines = objects(&server, &token, &["tenant", "show"]);
        lines.into_iter().find(|line| line["name"] == name).map(|line| line["used"].as_u64())
    };
    assert_eq!(used("dead_letters"), Some(Some(POISONED.len() as u64)));
    assert!(used("stored_bytes") > Some(Some(0)));
    for letter in &letters {
        let preview = letter["preview"].as_str().expect("a preview");
        assert!(preview.contains("poison"), "{letter}");
        assert_eq!(letter["reason"], "processing_failed", "{letter}");
    }
    assert_nothing_is_missing(&server, &token);

    let replayed = objects(&server, &token, &["dead-letters", "replay", "--all"]);
    let none_stored =
        serde_json::json!({ "replayed": 0, "rejected": POISONED.len(), "waiting": 0 });
    assert_eq!(replayed, [none_stored], "what fails again does not count as stored");
    let waiting = objects(&server, &token, &["dead-letters", "list"]);
    let waiting = waiting.iter().filter(|letter| letter["replayed"].is_null()).count();
    assert_eq!(waiting, POISONED.len(), "what is still poisoned waits for another replay");
    assert_eq!(stored(&server, &token), good);

    server.kill();
    let server = Process::standalone(&data_dir);
    let ids: Vec<_> = letters.iter().map(|letter| letter["dead_letter_id"].to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let by_id = [&["dead-letters", "replay"], &ids[..]];
    for replay in [vec!["dead-letters", "replay", "--all"], by_id.concat()] {
        succeeded(&client(&server, &token, &replay));
        assert_eq!(stored(&server, &token).len(), LOGS, "after {replay:?}");
    }
    assert_nothing_is_missing(&server, &token);

    let discard = |server: &Process, what: &str| {
        let output = client(server, &token, &["dead-letters", "discard", what, "--json"]);
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.code(), text)
    };
    assert_eq!(discard(&server, "--all").0, Some(0));
    assert_eq!(discard(&server, ids[0]), (Some(5), r#"{"discarded":0}"#.to_owned()));
    assert!(objects(&server, &token, &["dead-letters", "list"]).is_empty());
    assert_eq!(stored(&server, &token).len(), LOGS, "discarding takes no stored log along");
}
