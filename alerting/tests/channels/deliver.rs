//! Workers against real listeners.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use logweir_alerting::{
    channel::{Channel, slack::Slack, webhook::Webhook},
    notify::outbox::Outbox,
    notify::worker::Worker,
};
use logweir_core::runtime::{
    clock::{now, system_clock},
    tasks::{Fate, Tasks},
};
use logweir_incident::{
    channel::{SlackConfig, WebhookConfig},
    notification::NotificationKind,
    render::template::Templates,
    rule::Severity,
    secret::Secret,
};
use testkit::{Answer, Call, Receiver};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::harness::{MemoryOutbox, network, notification};

fn slack(receiver: &Receiver) -> Arc<dyn Channel> {
    let config = SlackConfig {
        webhook_url: Secret::new(receiver.url("/services/x")),
        allow_http: true,
        ..SlackConfig::default()
    };
    Arc::new(Slack::new(config, Templates::default(), network("")).unwrap())
}

fn webhook(receiver: &Receiver) -> Arc<dyn Channel> {
    let config = WebhookConfig {
        url: Secret::new(receiver.url("/")),
        signing_secret: Secret::default(),
        bearer_token: Secret::default(),
        allow_http: true,
    };
    Arc::new(Webhook::new(config, Templates::default(), network(""), system_clock()).unwrap())
}

fn worker(channel: Arc<dyn Channel>, outbox: &Arc<MemoryOutbox>, random: fn() -> f64) -> Worker {
    Worker {
        name: "channel".into(),
        channel,
        outbox: Arc::clone(outbox) as Arc<dyn Outbox>,
        clock: system_clock(),
        wake: Arc::new(Notify::new()),
        random,
    }
}

/// The shortest pause that chance can draw, so that no test waits for a longer one.
fn at_once() -> f64 {
    0.0
}

fn open(outbox: &MemoryOutbox, count: usize) {
    for id in 0..count {
        let severity = Severity::Warning;
        outbox.add(notification(&format!("i{id}"), NotificationKind::Opened, severity, now()));
    }
}

fn texts(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.body.as_str()).collect()
}

#[tokio::test]
async fn slack_gets_a_message_a_second() {
    let receiver = Receiver::start(|_| Answer::ok());
    let outbox = MemoryOutbox::new();
    open(&outbox, 3);
    let tasks = Tasks::new();
    let worker = worker(slack(&receiver), &outbox, at_once);
    tasks.spawn("worker", Fate::MayEnd, worker.run(tasks.stop_token()));
    outbox.wait(|record| record.sent.len() == 3).await;
    tasks.stop();
    let calls = receiver.calls();
    assert_eq!(calls.len(), 3);
    for (call, next) in calls.iter().zip(&calls[1..]) {
        assert!(next.at - call.at >= Duration::from_secs(1), "{:?}", next.at - call.at);
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_and_the_message_stays_the_same() {
    // Taken from the end: refused first, then taken.
    let mut answers = vec![Answer::ok(), Answer::Refused(429, Some(2), "rate_limited".into())];
    let receiver = Receiver::start(move |_| answers.pop().unwrap_or_else(Answer::ok));
    let outbox = MemoryOutbox::new();
    open(&outbox, 1);
    let tasks = Tasks::new();
    let worker = worker(slack(&receiver), &outbox, at_once);
    tasks.spawn("worker", Fate::MayEnd, worker.run(tasks.stop_token()));
    outbox.wait(|record| record.sent.len() == 1).await;
    tasks.stop();
    let calls = receiver.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(2));
    assert_eq!(calls[0].body, calls[1].body);
}

#[tokio::test]
async fn a_dead_channel_delays_no_other() {
    let dead = Receiver::start(|_| Answer::TakenInSilence);
    let quick = Receiver::start(|_| Answer::ok());
    let (stuck, fine) = (MemoryOutbox::new(), MemoryOutbox::new());
    let tasks = Tasks::new();
    let mut call_takes_long = network("");
    // Far longer than the test: only a channel that delays another could make the test wait for it.
    call_takes_long.call_timeout = Duration::from_secs(3_600);
    let config = WebhookConfig {
        url: Secret::new(dead.url("/")),
        signing_secret: Secret::default(),
        bearer_token: Secret::default(),
        allow_http: true,
    };
    let stuck_channel =
        Webhook::new(config, Templates::default(), call_takes_long, system_clock()).unwrap();
    let stuck_worker = worker(Arc::new(stuck_channel), &stuck, at_once);
    tasks.spawn("stuck", Fate::MayEnd, stuck_worker.run(tasks.stop_token()));
    open(&stuck, 1);
    // Only once the dead one holds its worker is there something to be delayed by.
    dead.wait(|calls| calls.len() == 1).await;
    open(&fine, 20);
    let fine_worker = worker(webhook(&quick), &fine, at_once);
    tasks.spawn("fine", Fate::MayEnd, fine_worker.run(tasks.stop_token()));
    fine.wait(|record| record.sent.len() == 20).await;
    assert!(stuck.record().sent.is_empty(), "the dead one still hangs");
}

#[tokio::test]
async fn who_is_killed_before_recording_repeats_under_the_same_key() {
    let receiver = Receiver::start(|call| match call.body.is_empty() {
        true => Answer::ok(),
        false => Answer::TakenInSilence,
    });
    let outbox = MemoryOutbox::new();
    open(&outbox, 1);
    for kills in 1..=3 {
        // The worker is dropped while the answer is awaited: nothing of it is left but the record.
        let work = worker(webhook(&receiver), &outbox, at_once).run(CancellationToken::new());
        tokio::select! {
            () = work => panic!("a worker does not end by itself"),
            calls = receiver.wait(|calls| calls.len() >= kills) => assert_eq!(calls.len(), kills),
        }
    }
    let calls = receiver.calls();
    let keys: Vec<_> = calls.iter().map(|call| call.header("idempotency-key")).collect();
    assert_eq!(keys, [Some("i0-1-opened"); 3]);
    assert_eq!(texts(&calls)[0], texts(&calls)[2]);
    assert!(outbox.record().sent.is_empty());
}

#[tokio::test]
async fn who_does_not_lead_ends_and_sends_nothing() {
    let receiver = Receiver::start(|_| Answer::ok());
    let outbox = MemoryOutbox::new();
    open(&outbox, 1);
    outbox.lead(None);
    worker(webhook(&receiver), &outbox, at_once).run(CancellationToken::new()).await;
    assert!(receiver.calls().is_empty());
}

#[tokio::test]
async fn who_leads_no_longer_when_it_would_send_sends_nothing() {
    let receiver = Receiver::start(|_| Answer::ok());
    let outbox = MemoryOutbox::new();
    open(&outbox, 1);
    // Less than the margin that a worker keeps: its lease is over before it could send.
    outbox.lead(Some(Duration::from_millis(1)));
    let tasks = Tasks::new();
    let worker = worker(webhook(&receiver), &outbox, at_once);
    tasks.spawn("worker", Fate::MayEnd, worker.run(tasks.stop_token()));
    outbox.wait(|record| record.begun.len() >= 2).await;
    assert!(receiver.calls().is_empty());
    outbox.lead(Some(Duration::from_secs(60)));
    outbox.wait(|record| record.sent.len() == 1).await;
    assert_eq!(receiver.calls().len(), 1);
}

#[tokio::test]
async fn blocks_that_are_refused_go_in_plain_form() {
    let receiver = Receiver::start(|call| match call.body.contains("\"blocks\"") {
        true => Answer::Refused(400, None, "invalid_blocks".into()),
        false => Answer::ok(),
    });
    let outbox = MemoryOutbox::new();
    open(&outbox, 1);
    let tasks = Tasks::new();
    let worker = worker(slack(&receiver), &outbox, at_once);
    tasks.spawn("worker", Fate::MayEnd, worker.run(tasks.stop_token()));
    outbox.wait(|record| record.sent.len() == 1).await;
    assert_eq!(receiver.calls().len(), 2);
}

#[tokio::test]
async fn what_is_refused_in_plain_form_too_is_given_up() {
    // With status 200: the word alone says that it was not taken.
    let receiver = Receiver::start(|_| Answer::Taken("invalid_payload".into()));
    let outbox = MemoryOutbox::new();
    open(&outbox, 1);
    let tasks = Tasks::new();
    let worker = worker(slack(&receiver), &outbox, at_once);
    tasks.spawn("worker", Fate::MayEnd, worker.run(tasks.stop_token()));
    let record = outbox.wait(|record| !record.given_up.is_empty()).await;
    let calls = receiver.calls();
    let has_blocks: Vec<bool> = calls.iter().map(|call| call.body.contains("\"blocks\"")).collect();
    assert_eq!(has_blocks, [true, false]);
    assert!(record.sent.is_empty());
}

#[tokio::test]
async fn a_wrong_setting_is_reported_once_and_told_elsewhere() {
    let receiver = Receiver::start(|_| Answer::Refused(404, None, "no_service".into()));
    let outbox = MemoryOutbox::new();
    outbox.fall_back_to("mail");
    open(&outbox, 3);
    let tasks = Tasks::new();
    let worker = worker(slack(&receiver), &outbox, at_once);
    let began = Instant::now();
    tasks.spawn("worker", Fate::MayEnd, worker.run(tasks.stop_token()));
    let record = outbox.wait(|record| record.handed_over.len() == 3).await;
    // Far below the two minutes that a channel which is merely down is waited for.
    assert!(began.elapsed() < Duration::from_secs(30), "at once");
    assert_eq!(record.changes.len(), 1);
    assert_eq!(record.changes[0].to.name(), "misconfigured");
    assert!(record.changes[0].reason.contains("no_service"));
    assert_eq!(receiver.calls().len(), 1);
}
