//! `logweir send` against a server that does not take what it sends.

mod support;

use std::{fs, process::Output};

use support::{Process, client, token};
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
