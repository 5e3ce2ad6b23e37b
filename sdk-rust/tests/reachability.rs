//! What a person is told of a server that cannot be reached, and when.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use logweir_sdk::{Client, Level, Record};
use parking_lot::Mutex;
use support::{PATIENCE, Server, client_of, quick};

type LastNotice = Arc<Mutex<Vec<String>>>;

/// A client of some address, and what it says.
fn client(address: &str) -> (Client, LastNotice) {
    let said = LastNotice::default();
    let sink = Arc::clone(&said);
    let client = Client::builder()
        .endpoint(address)
        .token("secret")
        .retry(quick())
        .on_notice(move |text| sink.lock().push(text.to_owned()))
        .build()
        .unwrap();
    (client, said)
}

/// Waits for the first line with something in it.
fn wait_for(said: &LastNotice, what: &str) -> String {
    wait_for_nth(said, what, 0)
}

fn wait_for_nth(said: &LastNotice, what: &str, skipped: usize) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = said.lock().iter().filter(|text| text.contains(what)).nth(skipped).cloned();
        if let Some(text) = found {
            return text;
        }
        assert!(Instant::now() < deadline, "{what:?} is not said: {:?}", said.lock());
        std::thread::yield_now();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn an_outage_is_said_with_its_cause_once_and_so_is_its_end() {
    let address = free_address();
    let (client, said) = client(&address.to_string());
    client.emit(Record::new(Level::Info, "early"));
    let expected = format!(
        "cannot reach http://{address} (Connection refused (os error 111)); \
         logs are kept in memory and sent when it is back"
    );
    assert_eq!(wait_for(&said, "cannot reach"), expected);
    // Through some more attempts.
    assert_eq!(client.flush(Duration::from_millis(200)).pending, 1);
    let server = Server::at(address);
    assert_eq!(client.flush(PATIENCE).sent, 1);
    let back = wait_for(&said, "is back after");
    assert!(back.starts_with(&format!("http://{address} is back after ")), "{back}");
    assert_eq!(said.lock().len(), 2);
    drop(server);
    client.emit(Record::new(Level::Info, "late"));
    client.flush(Duration::ZERO);
    assert_eq!(wait_for_nth(&said, "cannot reach", 1), expected);
    client.shutdown(Duration::ZERO);
}

#[test]
fn a_listener_that_hangs_is_told_from_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, said) = client(&listener.local_addr().unwrap().to_string());
    client.emit(Record::new(Level::Info, "x"));
    assert!(wait_for(&said, "cannot reach").contains("(no answer so far)"));
    client.shutdown(Duration::ZERO);
}

#[test]
fn a_name_that_does_not_exist_is_said() {
    let (client, said) = client("http://nowhere.invalid:4317");
    client.emit(Record::new(Level::Info, "x"));
    let text = wait_for(&said, "cannot reach");
    assert!(text.starts_with("cannot reach http://nowhere.invalid:4317 ("), "{text}");
    client.shutdown(Duration::ZERO);
}

#[test]
fn who_ends_before_an_answer_hears_of_the_silence() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, said) = client(&listener.local_addr().unwrap().to_string());
    client.emit(Record::new(Level::Info, "x"));
    client.shutdown(Duration::ZERO);
    let said = said.lock();
    assert!(said.iter().any(|text| text.contains("cannot reach")), "{said:?}");
    assert!(said.iter().any(|text| text == "logs dropped so far: shutdown_timeout 1"), "{said:?}");
}

#[test]
fn a_server_that_answers_is_no_news() {
    let server = Server::scripted([]);
    let said = LastNotice::default();
    let sink = Arc::clone(&said);
    let client = client_of(&server).on_notice(move |text| sink.lock().push(text.to_owned()));
    let client = client.build().unwrap();
    client.emit(Record::new(Level::Info, "x"));
    assert_eq!(client.shutdown(PATIENCE).sent, 1);
    assert_eq!(*said.lock(), Vec::<String>::new());
}
