//! `logweir send`: what it does at its ends, and with a server that does not take what it sends.

mod support;

use std::{
    fs,
    io::Write,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use support::{Process, client, logweir, succeeded, token};
use tempfile::TempDir;

/// Sends a log with a token; what came of it, and what was said.
fn send(server: &Process, token: &str, service: &str) -> (Output, String) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("shop.log"), "INFO paid\n").expect("the file can be written");
    let arguments = ["send", &path("shop.log"), "--journal", &path("journal")];
    let output = client(server, token, &[&arguments[..], &["--service", service]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn a_refused_token_ends_it_and_is_said_once_with_what_to_do() {
    let (data_dir, other) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let server = Process::standalone(data_dir.path());
    for (token, advice) in [
        (token(other.path(), "*", "ingest"), "logweir token issue"),
        (token(data_dir.path(), "*", "viewer"), "logweir token issue"),
        (token(data_dir.path(), "orders", "ingest"), "use that service's token"),
    ] {
        let (output, said) = send(&server, &token, "shop");
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains(advice), "{said}");
        assert!(said.lines().count() == 1 && !said.contains("held"), "{said}");
    }
    let (output, said) = send(&server, &token(data_dir.path(), "shop", "ingest"), "shop");
    assert_eq!(output.status.code(), Some(0), "{said}");
}

#[test]
fn what_would_be_stored_is_shown_without_a_server() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("shop-2026-01-02.log");
    let text = "2026-01-02 03:04:05 - cart - ERROR - no room\n\tat cart\n{\"msg\":\"next\"}\n";
    fs::write(&path, text).expect("the file can be written");
    let run = |options: &[&str]| {
        let mut command = logweir();
        command.args(["send", "--dry-run", "--timezone", "America/New_York"]).args(options);
        command.arg(&path).output().expect("it runs")
    };
    let shown = succeeded(&run(&[]));
    assert!(shown.contains("2026-01-02 08:04:05.000Z ERROR shop no room"), "{shown}");
    assert!(shown.contains("\n    several lines\n"), "{shown}");
    assert!(shown.contains("\n    json, no time: that of the line before\n"), "{shown}");
    assert_eq!(succeeded(&run(&["--json"])).lines().count(), 2);
    assert_eq!(run(&["no-such-file"]).status.code(), Some(5), "a file that is not there");
    let summary = {
        let data_dir = TempDir::new().expect("a folder");
        let server = Process::standalone(data_dir.path());
        let token = token(data_dir.path(), "*", "admin");
        let path = path.display().to_string();
        let journal = folder.path().join("journal").display().to_string();
        succeeded(&client(&server, &token, &["send", &path, "--journal", &journal]))
    };
    assert!(summary.contains("read as 1 json, 1 text; 1 of several lines"), "{summary}");
}

/// Waits until so many lines are stored.
fn until_stored(server: &Process, token: &str, lines: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let export = ["export", "--from", "1970-01-02T00:00:00Z", "--json"];
    while succeeded(&client(server, token, &export)).lines().count() < lines {
        assert!(Instant::now() < deadline, "{lines} lines are not stored");
    }
}

#[test]
fn standard_input_is_sent_while_it_stays_open_and_the_rest_when_it_is_asked_to_end() {
    let (data_dir, state) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let server = Process::standalone(data_dir.path());
    let token = token(data_dir.path(), "*", "admin");
    let mut sending = logweir();
    sending.args(["send", "-", "--service", "shop"]).env("XDG_STATE_HOME", state.path());
    sending.env("LOGWEIR_ENDPOINT", &server.endpoint).env("LOGWEIR_TOKEN", &token);
    let piped = sending.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut sending = piped.spawn().expect("the binary starts");
    let mut input = sending.stdin.take().expect("stdin is piped");
    input.write_all(b"INFO one\nINFO two\nINFO without an end").expect("it reads");
    until_stored(&server, &token, 2);
    let id = rustix::process::Pid::from_child(&sending);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
    let output = sending.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("3 logs sent, 3 accepted"), "{said}");
    drop(input);
}

#[test]
fn two_at_once_send_different_files_and_not_the_same() {
    let folder = TempDir::new().expect("a folder");
    let server = Process::standalone(&folder.path().join("data"));
    let token = token(&folder.path().join("data"), "*", "admin");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("a.log"), "INFO one\n").expect("it can be written");
    fs::write(path("b.log"), "INFO two\n").expect("it can be written");
    let send = |more: &[&str]| {
        let mut sending = logweir();
        sending.args(["send", "--service", "shop", "--journal", &path("journal")]).args(more);
        sending.env("LOGWEIR_ENDPOINT", &server.endpoint).env("LOGWEIR_TOKEN", &token);
        sending
    };
    let follower = send(&["--follow", &path("a.log")]).stderr(Stdio::null()).spawn();
    let mut follower = follower.expect("the binary starts");
    until_stored(&server, &token, 1);
    let other = send(&[&path("b.log")]).output().expect("it runs");
    assert_eq!(other.status.code(), Some(0), "{other:?}");
    until_stored(&server, &token, 2);
    let same = send(&[&path("a.log")]).output().expect("it runs");
    assert_eq!(same.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&same.stderr).contains("another `logweir send`"));
    follower.kill().expect("it runs");
    follower.wait().expect("it ends");
    let again = send(&[&path("a.log"), &path("b.log")]).output().expect("it runs");
    assert!(succeeded(&again).starts_with("0 logs sent"), "{again:?}");
}
