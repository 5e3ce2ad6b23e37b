//! A fuzzer of others against the real binary: schemathesis reads the OpenAPI document that the server
//! serves, makes requests of it that keep its rules and that break them, and looks whether each answer is
//! as the document says. `make sdks` prepares it; seed as in `faults.rs`.

#![allow(clippy::disallowed_methods, reason = "a test is told by its environment what to do")]

mod support;

use std::process::{Command, Stdio};

use support::{
    Process, client,
    oracle::{Form, form},
    succeeded, token,
};

const LOG: &str = r#"{"level":"error","message":"payment 7 failed in 12 ms","service":"shop"}"#;
/// Requests of each kind that are made of an operation.
const EXAMPLES: &str = "40";
const EXAMPLES_LONG: &str = "2000";
/// No schema says what a filter is, or that a range begins before it ends: what keeps the schema's rules
/// may still be refused.
const CHECK_NOT: &str = "positive_data_acceptance";

/// By its interpreter and not by the script of its name: in the first line of the script stands where the
/// folder was when it was made, and a build folder may be moved.
fn fuzzer() -> Command {
    let own = std::env::current_exe().expect("it is this one");
    // It lies in `TARGET/debug/deps`.
    let target = own.ancestors().nth(3).expect("it lies in deps");
    let python = target.join("sdks/schemathesis/bin/python");
    assert!(python.exists(), "schemathesis is missing: run `make sdks`");
    let mut fuzzer = Command::new(python);
    fuzzer.args(["-m", "schemathesis.cli"]);
    fuzzer
}

#[test]
fn every_request_is_answered_as_the_document_says() {
    let Form { seed, is_long } = form();
    let data_dir = tempfile::tempdir().expect("a folder");
    let token = token(data_dir.path(), "*", "admin");
    let server = Process::standalone(data_dir.path());
    let file = data_dir.path().join("logs.ndjson");
    std::fs::write(&file, LOG).expect("a file");
    let journal = data_dir.path().join("journal");
    let [file, journal] = [&file, &journal].map(|path| path.to_str().expect("names are text"));
    succeeded(&client(&server, &token, &["send", file, "--journal", journal]));
    let mut command = fuzzer();
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // What it keeps between runs lies beside the data.
    command.current_dir(data_dir.path()).args([
        "run",
        "--no-color",
        "--phases=examples,coverage,fuzzing",
    ]);
    // The tail answers by another protocol.
    command.arg(format!("{}/api/openapi.json", server.endpoint));
    command.args(["--header", &format!("Authorization: Bearer {token}")]);
    command.args(["--exclude-checks", CHECK_NOT, "--exclude-path", "/ws/logs"]);
    command.args(["--max-examples", if is_long { EXAMPLES_LONG } else { EXAMPLES }]);
    command.args(["--seed", &seed.to_string(), "--generation-database", "none"]);
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "seed {seed}: {said}");
}
