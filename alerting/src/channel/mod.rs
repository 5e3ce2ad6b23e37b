//! Where people are told: one file per kind of channel, behind one trait.
//!
//! A channel sends one message and reports what came of it; it neither waits nor tries again, which is
//! [`crate::notify::worker`]'s work. What a destination answers is sorted here, once, into what the breaker
//! and the schedule understand. Errors carry the provider's own words, cut and cleaned, and never an
//! address's path, a password or a token.

pub mod address;
pub mod email;
pub mod slack;
pub mod webhook;

mod connect;
mod http;
mod ping;
mod step;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use logweir_core::runtime::clock::Clock;
use logweir_incident::{
    channel::{ChannelConfig, ChannelKind, RateLimit, breaker::CallResult},
    job::TestReport,
    notification::Notification,
};

pub use connect::{Network, Resolve, SystemResolver};
pub use ping::Ping;
pub use step::Steps;

use self::{email::Email, slack::Slack, webhook::Webhook};

/// Bytes of a provider's response that are shown to people.
pub const WORDS_BYTES_MAX: usize = 512;

/// The form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// With markup, worded as set for the channel.
    #[default]
    Full,
    /// Text alone: the full form was refused.
    Plain,
}

/// One message to send.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What it is about.
    pub notification: &'a Notification,
    /// The same whenever the same is sent again, so that receivers can tell a repeat.
    pub key: &'a str,
    /// What the channel returned when the incident was opened on it.
    pub thread: Option<&'a str>,
    /// The form to send it in.
    pub form: Form,
    /// Whether it says that it is only a test.
    pub is_test: bool,
    /// Nothing may be sent after this moment: this process may no longer be the one that sends.
    pub not_after: Option<Instant>,
}

impl<'a> Message<'a> {
    /// A message that says `notification` by itself.
    pub fn new(notification: &'a Notification) -> Self {
        let (form, key) = (Form::Full, notification.key.as_str());
        Self { notification, key, thread: None, form, is_test: false, not_after: None }
    }
}

/// The destination took the message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// What later messages about the incident need, to edit it and to stand below it.
    pub thread: Option<String>,
    /// What the destination said, or what is worth knowing of it.
    pub words: String,
}

/// Why a message did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The name does not exist.
    Unresolved,
    /// It does not answer, or says that it fails: try again, not before the pause if it named one.
    Failing {
        /// How long to wait at least.
        pause: Option<Duration>,
    },
    /// It was called too often.
    RateLimited {
        /// How long it wants not to be called, if it said.
        pause: Option<Duration>,
    },
    /// Address, name or password is wrong: a person must look.
    Misconfigured,
    /// It finds fault with this message: trying the same again is useless.
    Rejected,
    /// This process may no longer be the leader, and must not send.
    TooLate,
}

/// A message did not get through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SendError {
    /// What kind of failure it is.
    pub failure: Failure,
    /// What happened, in words, the provider's own included; no secrets.
    pub text: String,
    /// Whether the destination may have taken the message all the same. It is then repeated with the
    /// same key and the same content.
    pub may_have_arrived: bool,
}

impl SendError {
    pub(crate) fn new(failure: Failure, text: impl fmt::Display) -> Self {
        Self { failure, text: text.to_string(), may_have_arrived: false }
    }

    /// As the breaker takes it; none where it says nothing about the destination.
    pub const fn answered(&self) -> Option<CallResult> {
        Some(match self.failure {
            Failure::Unresolved => CallResult::Unresolved,
            Failure::Failing { .. } => CallResult::Failed,
            Failure::RateLimited { pause } => CallResult::RateLimited { pause },
            Failure::Misconfigured => CallResult::Misconfigured,
            Failure::Rejected => CallResult::Well,
            Failure::TooLate => return None,
        })
    }

    /// How long the destination wants to be left alone.
    pub const fn pause(&self) -> Option<Duration> {
        match self.failure {
            Failure::Failing { pause } | Failure::RateLimited { pause } => pause,
            _ => None,
        }
    }
}

/// How much a kind of channel may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLimits {
    /// How fast it may be called.
    pub rate: RateLimit,
    /// Incidents that may wait at once; more are told in one message. None for machines, which want
    /// each by itself.
    pub digest_over: Option<usize>,
}

/// A way to tell people.
#[async_trait]
pub trait Channel: Send + Sync {
    /// How much it may be used.
    fn limits(&self) -> ChannelLimits;

    /// Sends a message, within the time-outs of its network, and notes each step. When it returns an
    /// error, `may_have_arrived` says whether the message may be there all the same.
    async fn send(&self, message: &Message<'_>, steps: &mut Steps) -> Result<Receipt, SendError>;
}

/// Makes a channel of its settings. What is wrong with them is said in words; nothing is called.
pub fn build(
    config: &ChannelConfig,
    network: &Network,
    clock: &Clock,
) -> Result<Arc<dyn Channel>, String> {
    config.check()?;
    let (templates, network) = (config.templates.clone(), network.clone());
    Ok(match config.kind.clone() {
        ChannelKind::Slack(slack) => Arc::new(Slack::new(slack, templates, network)?),
        ChannelKind::Email(email) => Arc::new(Email::new(email, templates, network)?),
        ChannelKind::Webhook(webhook) => {
            Arc::new(Webhook::new(webhook, templates, network, Arc::clone(clock))?)
        }
    })
}

/// Sends a message that says it is a test.
pub async fn test_channel(channel: &dyn Channel, notification: &Notification) -> TestReport {
    let mut steps = Steps::default();
    let message = Message { is_test: true, ..Message::new(notification) };
    let sent = channel.send(&message, &mut steps).await;
    let succeeded = sent.is_ok();
    let words = match sent {
        Ok(receipt) => receipt.words,
        Err(error) => error.text,
    };
    TestReport { succeeded, steps: steps.into_vec(), words }
}
