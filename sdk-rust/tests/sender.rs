//! The lower-level sender, for programs that keep ids and sequences themselves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use logweir_sdk::{
    ConfigError, DropReason, EncodedBatch, RetryPolicy, SendOptions, SendOutcome, Sender, Token, v1,
};
use support::{Answer, PATIENCE, Server, quick, status, with_reason};
use tonic::Code;

fn batch() -> EncodedBatch {
    let record = |message: &str| v1::LogRecord { message: message.into(), ..Default::default() };
    let producer =
        v1::Producer { producer_id: vec![3; 16], sequence: 17, ..v1::Producer::default() };
    let batch = v1::Batch {
        batch_id: vec![5; 16],
        producer: Some(producer),
        resource: None,
        records: vec![record("a"), record("b")],
    };
    EncodedBatch::new(batch, 0)
}

fn sender(server: &Server) -> Sender {
    let retry = RetryPolicy { hold_on_refused_token: false, ..quick() };
    let options = SendOptions { retry, ..SendOptions::default() };
    Sender::connect(&server.url(), Token::Text("secret".into()), options).unwrap()
}

async fn send(script: impl IntoIterator<Item = Answer>) -> (SendOutcome, Server) {
    let server = Server::scripted(script);
    let outcome = sender(&server).send(&batch(), Some(Instant::now() + PATIENCE)).await;
    (outcome, server)
}

#[tokio::test]
async fn a_complete_batch_goes_as_it_is() {
    let (outcome, server) = send([status(Code::Unavailable)]).await;
    assert_eq!(outcome, SendOutcome::Accepted { accepted: 2, rejected: Vec::new() });
    let stored = server.seen(|seen| seen.stored[&vec![5; 16]].clone());
    assert_eq!(stored.producer.unwrap().sequence, 17);
    assert_eq!((batch().batch_id(), batch().sequence(), batch().record_count()), ([5; 16], 17, 2));
}

#[tokio::test]
async fn rejections_and_final_refusals_are_told() {
    let (outcome, _) = send([Answer::Reject(vec![1])]).await;
    let SendOutcome::Accepted { accepted: 1, rejected } = outcome else { panic!("{outcome:?}") };
    assert_eq!((rejected[0].index, rejected[0].reason.as_str()), (1, "bad_record"));
    let (outcome, _) = send([with_reason(Code::ResourceExhausted, "BATCH_TOO_LARGE")]).await;
    assert!(matches!(outcome, SendOutcome::TooLarge { .. }));
    let (outcome, server) =
        send([status(Code::Unauthenticated), status(Code::Unauthenticated)]).await;
    let SendOutcome::Refused { code, reason, message, .. } = outcome else { panic!() };
    assert_eq!((code, reason), (Code::Unauthenticated, DropReason::AuthFailed));
    assert!(message.contains("scripted"));
    assert_eq!(server.seen(|seen| seen.attempts.len()), 2, "it was read again once");
}

#[tokio::test]
async fn a_deadline_ends_it() {
    let server = Server::ruled(|_, _| Some(status(Code::Unavailable)));
    let deadline = Instant::now() + Duration::from_millis(40);
    let outcome = sender(&server).send(&batch(), Some(deadline)).await;
    assert!(matches!(outcome, SendOutcome::OutOfTime { .. }), "{outcome:?}");
    let held = Server::ruled(|_, _| Some(Answer::Hold));
    let deadline = Instant::now() + Duration::from_millis(40);
    let outcome = sender(&held).send(&batch(), Some(deadline)).await;
    assert!(matches!(outcome, SendOutcome::OutOfTime { .. }), "{outcome:?}");
}

#[tokio::test]
async fn an_abandoned_probe_blocks_nobody() {
    let server = Server::scripted((0..6).map(|_| status(Code::Unavailable)).chain([Answer::Hold]));
    let sender = sender(&server);
    let held = batch();
    {
        let probe = sender.send(&held, None);
        tokio::pin!(probe);
        let seven = async {
            while server.seen(|seen| seen.attempts.len()) < 7 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            outcome = &mut probe => panic!("{outcome:?}"),
            () = seven => {}
        }
    }
    let outcome = sender.send(&held, Some(Instant::now() + PATIENCE)).await;
    assert!(matches!(outcome, SendOutcome::Accepted { .. }), "{outcome:?}");
}

#[tokio::test]
async fn wrong_addresses_and_tokens_fail_at_once() {
    let connect = |list: &str, token: &str| {
        Sender::connect(list, Token::Text(token.into()), SendOptions::default())
    };
    assert!(matches!(connect("", "x"), Err(ConfigError::Endpoint(_))));
    assert!(matches!(connect("http://a:1", "x\ny"), Err(ConfigError::Token)));
}
