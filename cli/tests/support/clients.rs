//! The programs that send while faults befall a cluster.

#![allow(clippy::disallowed_methods, reason = "the clients of a test are supervised by the test")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use logweir_sdk::{EncodedBatch, SendOutcome, Sender};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{interval, timeout},
};

use super::oracle::{Oracle, Sending};

/// Programs that send each batch until it is acknowledged, and such that give up soon.
const WRITERS: usize = 8;
const QUITTERS: usize = 2;
/// One batch in so many holds a log that the processors choke on.
const POISON_EVERY: u32 = 50;

/// What the clients share.
pub(crate) struct Clients {
    pub(crate) oracle: Oracle,
    sender: Sender,
    /// Up to which number logs are sent for now.
    allowed: watch::Sender<u64>,
}

impl Clients {
    pub(crate) fn new(sender: Sender) -> Arc<Self> {
        Arc::new(Self { oracle: Oracle::default(), sender, allowed: watch::Sender::new(0) })
    }

    /// Starts all of them; they send once they may.
    pub(crate) fn start(self: &Arc<Self>, seed: u64) -> Vec<JoinHandle<()>> {
        let writers = (0..WRITERS).map(|n| tokio::spawn(self.clone().write(n, seed)));
        let quitters = (0..QUITTERS).map(|n| tokio::spawn(self.clone().quit(n, seed)));
        writers.chain(quitters).collect()
    }

    /// Lets them send so many more logs, and does not wait for it.
    pub(crate) fn allow(&self, logs: u64) {
        self.allowed.send_replace(self.oracle.numbers() + logs);
    }

    /// Lets them send more and more logs for a time, so many each tenth of a second at most.
    pub(crate) async fn send_during(&self, time: Duration, logs: u64) {
        let sending = async {
            let mut ticks = interval(Duration::from_millis(100));
            loop {
                ticks.tick().await;
                self.allow(logs);
            }
        };
        timeout(time, sending).await.expect_err("it goes on for ever");
    }

    /// Has them end, and waits until they have.
    pub(crate) async fn end(&self, running: Vec<JoinHandle<()>>) {
        self.oracle.end();
        self.allowed.send_replace(u64::MAX);
        for client in running {
            client.await.expect("every batch is acknowledged in the end");
        }
    }

    /// Waits until so many more logs are under way.
    pub(crate) async fn send(&self, logs: u64) {
        let target = self.oracle.numbers() + logs;
        self.allowed.send_modify(|allowed| *allowed = (*allowed).max(target));
        self.oracle.until(target).await;
    }

    /// Waits until each log that is under way is acknowledged or given up, if no more are allowed.
    pub(crate) async fn answered(&self) {
        self.oracle.until_answered(self.oracle.numbers()).await;
    }

    /// Waits until more may be sent; whether it may.
    async fn may_send(&self) -> bool {
        let mut allowed = self.allowed.subscribe();
        let more = allowed.wait_for(|allowed| *allowed > self.oracle.numbers());
        drop(more.await.expect("it outlives the clients"));
        !self.oracle.has_ended()
    }

    async fn write(self: Arc<Self>, writer: usize, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed ^ (writer as u64 + 1));
        let mut sending = Sending::new(&format!("service-{writer}"), [writer as u8 + 1; 16]);
        while self.may_send().await {
            let count = random.random_range(1..200);
            let (first, mut batch) = sending.batch(&self.oracle, count);
            if random.random_ratio(1, POISON_EVERY) {
                self.oracle.poison(first, &mut batch, random.random_range(0..count as usize));
            }
            match self.sender.send(&EncodedBatch::new(batch, 0), None).await {
                SendOutcome::Accepted { accepted, .. } => assert_eq!(u64::from(accepted), count),
                refused => panic!("not to be refused for good: {refused:?}"),
            }
            self.oracle.note(first, count, true);
        }
    }

    async fn quit(self: Arc<Self>, writer: usize, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed ^ (writer as u64 + 1_000));
        while self.may_send().await {
            let count = random.random_range(1..200);
            let (first, batch) = self.oracle.batch("quitter", count);
            let deadline = Instant::now() + Duration::from_millis(random.random_range(0..30));
            let outcome = self.sender.send(&EncodedBatch::new(batch, 0), Some(deadline)).await;
            let accepted = matches!(outcome, SendOutcome::Accepted { .. });
            self.oracle.note(first, count, accepted);
        }
    }
}
