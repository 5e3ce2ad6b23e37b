//! What waits for a channel, and the port through which a worker sees and changes it.
//!
//! A delivery is one notification for one channel, written in the incident's own transaction. Its
//! life: before a message is sent, the attempt is recorded with the message's key; after the
//! answer, what came of it. A process that is killed in between leaves a delivery that was begun
//! and not ended: whoever comes next sends the same message with the same key again. So nothing is
//! missed, and a repeat can be told.
//!
//! Several notifications may go in one message. A message that may have arrived is repeated as it
//! was, with the same notifications under the same key; only what has certainly not arrived is put
//! together anew.

use std::time::Duration;

use async_trait::async_trait;
use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    channel::{BreakerState, ChannelState},
    delivery::Delivery,
};

/// Deliveries that are looked at together. What waits beyond them is counted.
pub const DELIVERIES_MAX: usize = 1_000;
/// After so long a delivery is given up, and that is itself told.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What waits for a channel, as its worker looks at it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Queue {
    /// What is known of the channel's destination.
    pub state: ChannelState,
    /// At most [`DELIVERIES_MAX`]: those with a `message_key` first, then oldest first; of one
    /// incident always in the order of the notifications' sequence.
    pub deliveries: Vec<Delivery>,
    /// The channels that could be told instead, the first choice first; those that are down are
    /// left out.
    pub fallbacks: Vec<String>,
}

/// That a message is about to be sent, to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// The deliveries in it.
    pub ids: Vec<i64>,
    /// The message's key, which a repeat has too.
    pub message_key: String,
    /// The channel's state from now on.
    pub state: ChannelState,
}

/// What came of sending a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It got through: its deliveries are done.
    Sent {
        /// For later messages about the incident.
        thread: Option<String>,
        /// What the provider returned, for people.
        words: String,
    },
    /// It did not get through, and is tried again.
    Retry {
        /// It is not tried before this moment.
        not_before: Timestamp,
        /// Whether it may have arrived: then its deliveries keep the message's key, else they lose
        /// it.
        may_have_arrived: bool,
        /// Whether to send it in the plain form.
        is_plain: bool,
        /// What went wrong, for people.
        error: String,
    },
    /// It is given up. That is told through another channel.
    GivenUp {
        /// What went wrong, for people.
        error: String,
    },
}

/// That a message was sent or was not, to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The deliveries in it.
    pub ids: Vec<i64>,
    /// What came of it.
    pub outcome: Outcome,
    /// The channel's state from now on.
    pub state: ChannelState,
    /// The breaker's change, if other channels are to be told of it.
    pub change: Option<Change>,
}

/// A channel went down or came back, which other channels are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When it changed.
    pub at: Timestamp,
    /// Since when it is or was not well.
    pub since: Timestamp,
    /// The breaker's state before.
    pub from: BreakerState,
    /// The breaker's state from then on.
    pub to: BreakerState,
    /// Why it changed, for people.
    pub reason: String,
}

/// Why the outbox did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// Another process leads now: stop, and send nothing.
    #[error("another process leads; this one sends nothing more")]
    NotLeading,
    /// The store does not answer: try again.
    #[error("the outbox cannot be reached, try again: {0}")]
    Unavailable(String),
}

/// Keeps what waits for channels. Every method checks that the process still leads, in the same
/// transaction.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// What waits for a channel.
    async fn load(&self, channel: &str) -> Result<Queue, OutboxError>;

    /// Records that a message is about to be sent, and counts the attempt. Returns how long this
    /// process leads at least from now; nothing is sent after that.
    async fn start(&self, channel: &str, started: &Started) -> Result<Duration, OutboxError>;

    /// Records what came of it. Doing so twice is the same as once.
    async fn finish(&self, channel: &str, finished: &Finished) -> Result<(), OutboxError>;

    /// Writes deliveries of the same notifications, under the same keys, for another channel, with
    /// the reason as their text, and marks these as handed over. They stay here, too.
    async fn hand_over(
        &self,
        channel: &str,
        ids: &[i64],
        to: &str,
        reason: &str,
    ) -> Result<(), OutboxError>;
}
