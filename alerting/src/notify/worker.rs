//! One worker for each channel: load what waits, decide, record, send, record.
//!
//! Workers share nothing, so that a channel which is dead or slow delays no other. The order of the
//! records is the promise: a message is recorded as begun before a byte of it is sent, and as ended
//! before the next is looked at. A store that does not answer in between is asked until it does;
//! only losing the lead ends that, and then the next leader repeats the message under the same key.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use logweir_core::{
    runtime::{clock::Clock, retry::Backoff},
    timestamp::Timestamp,
};
use logweir_incident::channel::{
    Breaker, BreakerState, ChannelState,
    breaker::{CallResult, RATE_LIMIT_PAUSE_MAX},
};
use metrics::counter;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    channel::{CallSteps, Channel, Failure, Form, Message, Receipt, SendError},
    notify::outbox::{Change, Finished, Outbox, OutboxError, Outcome, Queue, Started},
    notify::plan::{Plan, PlannedMessage, plan},
};

/// Between tries of one message.
pub const RETRY: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(300) };
/// Between tries of a store that does not answer.
const STORE_RETRY: Backoff =
    Backoff { first: Duration::from_millis(200), max: Duration::from_secs(5) };
/// How often the outbox is looked at although the worker was not woken: another process may have
/// written to it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of a lead that is about to end, what is not used: clocks differ in pace.
const LEAD_MARGIN: Duration = Duration::from_millis(500);
/// The shortest pause after a store that did not answer: chance may draw none at all, and the
/// worker would ask in a loop.
const STORE_PAUSE_MIN: Duration = Duration::from_millis(10);

/// Sends what waits for one channel.
pub struct Worker {
    /// The channel's name.
    pub name: String,
    /// The channel.
    pub channel: Arc<dyn Channel>,
    /// Where what waits for the channel is kept.
    pub outbox: Arc<dyn Outbox>,
    /// The time.
    pub clock: Clock,
    /// Notified when something was written to the outbox.
    pub wake: Arc<Notify>,
    /// Draws from 0.0 to 1.0, for the pauses between tries.
    pub random: fn() -> f64,
}

impl Worker {
    /// Works until stopped, or until another process leads.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                step = self.look() => step,
            };
            let pause = match step {
                Ok(Step::Did) => Duration::ZERO,
                Ok(Step::Wait(pause)) => pause.min(LOOK_EVERY),
                Ok(Step::Send(planned, state)) => match self.tell(*planned, state, &stop).await {
                    Ok(()) => Duration::ZERO,
                    Err(OutboxError::NotLeading) => return,
                    Err(error) => self.store_pause(&error, &mut failures),
                },
                Err(OutboxError::NotLeading) => return,
                Err(error) => self.store_pause(&error, &mut failures),
            };
            // The store answered: the next failure is a first one again.
            if pause.is_zero() {
                failures = 0;
                continue;
            }
            // A wish to stop comes first, or a busy outbox would keep a worker for ever.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    fn store_pause(&self, error: &OutboxError, failures: &mut u32) -> Duration {
        *failures += 1;
        warn!(channel = self.name, %error, "the outbox does not answer");
        STORE_RETRY.delay(*failures, (self.random)()).max(STORE_PAUSE_MIN)
    }

    async fn look(&self) -> Result<Step, OutboxError> {
        let queue = self.outbox.load(&self.name).await?;
        let now = (self.clock)();
        match plan(&queue, self.channel.limits(), now) {
            Plan::Idle => Ok(Step::Wait(LOOK_EVERY)),
            Plan::Wait(until) => Ok(Step::Wait(until.since(now).max(Duration::from_nanos(1)))),
            Plan::HandOver { ids, to, reason } => {
                info!(channel = self.name, to, count = ids.len(), "told elsewhere: {reason}");
                self.outbox.hand_over(&self.name, &ids, &to, &reason).await?;
                Ok(Step::Did)
            }
            Plan::GiveUp(ids) => {
                warn!(channel = self.name, count = ids.len(), "not told within 24 h: given up");
                let finished = given_up(ids, &queue);
                count("given_up");
                self.outbox.finish(&self.name, &finished).await?;
                Ok(Step::Did)
            }
            Plan::Send(planned) => Ok(Step::Send(planned, queue.state)),
        }
    }

    /// Sends one message. It is not broken off when the process is to stop: it ends within the
    /// channel's time-outs, and then its outcome is known.
    async fn tell(
        &self,
        planned: PlannedMessage,
        state: ChannelState,
        stop: &CancellationToken,
    ) -> Result<(), OutboxError> {
        // Before the lease is asked for: the time that the answer takes is not ours to use.
        let asked = Instant::now();
        let state = begin(state, self.channel.limits(), (self.clock)());
        let (ids, message_key) = (planned.ids.clone(), planned.key.clone());
        let started = Started { ids, message_key, state: state.clone() };
        let leads = self.outbox.start(&self.name, &started).await?;
        let not_after = asked + leads.saturating_sub(LEAD_MARGIN);
        let message = Message {
            notification: &planned.notification,
            key: &planned.key,
            thread: planned.thread.as_deref(),
            form: planned.form,
            is_test: false,
            not_after: Some(not_after),
        };
        let sent = self.channel.send(&message, &mut CallSteps::default()).await;
        let now = (self.clock)();
        let finished = end(&planned, state, sent, (self.channel.limits(), now, (self.random)()));
        self.record(&finished, stop).await?;
        self.report(&planned, &finished);
        Ok(())
    }

    /// What is counted is recorded: whoever watches the metric may rely on that.
    fn report(&self, planned: &PlannedMessage, finished: &Finished) {
        match &finished.outcome {
            Outcome::Sent { .. } => count("sent"),
            Outcome::Retry { error, .. } => {
                count("failed");
                warn!(channel = self.name, key = planned.key, error, "not told yet");
            }
            Outcome::GivenUp { error } => {
                count("given_up");
                warn!(channel = self.name, key = planned.key, error, "given up");
            }
        }
        if let Some(change) = &finished.change {
            warn!(channel = self.name, from = %change.from, to = %change.to, "breaker");
        }
    }

    /// The answer is known: until it is recorded, or another process leads, nothing else matters. A
    /// process that is to stop tries once: the message is then repeated, under the same key.
    async fn record(
        &self,
        finished: &Finished,
        stop: &CancellationToken,
    ) -> Result<(), OutboxError> {
        let mut failures = 0;
        loop {
            match self.outbox.finish(&self.name, finished).await {
                Err(error @ OutboxError::Unavailable(_)) if !stop.is_cancelled() => {
                    sleep(self.store_pause(&error, &mut failures)).await;
                }
                ended => return ended,
            }
        }
    }
}

enum Step {
    Did,
    Wait(Duration),
    Send(Box<PlannedMessage>, ChannelState),
}

/// Without the channel's name: a tenant chose it, and whoever reads the metrics needs no token.
fn count(outcome: &'static str) {
    counter!("logweir_notifications_total", "outcome" => outcome).increment(1);
}

/// The channel's state once a message is about to be sent: the breaker and the rate limit count it.
pub fn begin(
    mut state: ChannelState,
    limits: crate::channel::ChannelLimits,
    now: Timestamp,
) -> ChannelState {
    state.breaker.begin();
    state.pace.take(limits.rate, now);
    state
}

/// What to record when a message came to its end; `random` is from 0.0 to 1.0.
pub fn end(
    planned: &PlannedMessage,
    mut state: ChannelState,
    sent: Result<Receipt, SendError>,
    (limits, now, random): (crate::channel::ChannelLimits, Timestamp, f64),
) -> Finished {
    let before = state.breaker.clone();
    state.pace.answered(limits.rate, now);
    let result = match &sent {
        Ok(_) => Some(CallResult::Well),
        Err(error) => error.call_result(),
    };
    if let Some(result) = result {
        state.breaker.end(result, now);
    }
    state.last_error = sent.as_ref().err().map(|error| error.text.clone()).unwrap_or_default();
    // After the breaker has counted the call, and with the error that it will be explained by.
    let change = change(&before, &state, now);
    let outcome = match sent {
        Ok(receipt) => Outcome::Sent { thread: receipt.thread, words: receipt.words },
        Err(error) => failed(planned, error, now, random),
    };
    Finished { ids: planned.ids.clone(), outcome, state, change }
}

/// A message that was refused in its plain form too is given up; everything else is tried again.
fn failed(planned: &PlannedMessage, error: SendError, now: Timestamp, random: f64) -> Outcome {
    let is_rejected = error.failure == Failure::Rejected;
    if is_rejected && planned.form == Form::Plain {
        return Outcome::GivenUp { error: error.text };
    }
    let pause = match error.failure {
        // Its plain form is another message: there is nothing to wait for.
        Failure::Rejected => Duration::ZERO,
        // Nothing was sent, and nothing of the destination is known: its own pauses do not grow.
        Failure::TooLate => RETRY.first,
        _ => {
            let wanted = error.pause().unwrap_or_default().min(RATE_LIMIT_PAUSE_MAX);
            RETRY.delay(planned.attempts + 1, random).max(wanted)
        }
    };
    Outcome::Retry {
        not_before: now + pause,
        may_have_arrived: error.may_have_arrived || planned.may_have_arrived,
        is_plain: is_rejected || planned.form == Form::Plain,
        error: error.text,
    }
}

fn given_up(ids: Vec<i64>, queue: &Queue) -> Finished {
    let last = &queue.state.last_error;
    let error = format!("not told within 24 h; the last error was: {last}");
    let outcome = Outcome::GivenUp { error };
    Finished { ids, outcome, state: queue.state.clone(), change: None }
}

/// The breaker's change, if other channels are to be told: it opened, the channel is set wrongly,
/// or it is well again. Not each probe.
fn change(before: &Breaker, state: &ChannelState, at: Timestamp) -> Option<Change> {
    let (from, to) = (before.state, state.breaker.state);
    let since = before.down_since.or(state.breaker.down_since);
    let since = since.unwrap_or(at);
    let is_new = match (from, to) {
        (BreakerState::Closed, BreakerState::Open { .. }) => true,
        (BreakerState::HalfOpen { .. }, BreakerState::Closed) => true,
        // A probe that finds it still wrong is no news.
        (_, BreakerState::Misconfigured { .. }) => from.name() != "half_open",
        _ => false,
    };
    let reason = || state.last_error.clone();
    is_new.then(|| Change { at, since, from, to, reason: reason() })
}
