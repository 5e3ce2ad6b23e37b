//! Where people are told: one file per kind of channel, behind one trait.
//!
//! A channel sends one message and reports what came of it; it neither waits nor tries again, which
//! is [`crate::notify::worker`]'s work. What a destination answers is sorted here, once, into what
//! the breaker and the schedule understand. Errors carry the provider's own words, cut and cleaned,
//! and never an address's path, a password or a token.

mod contract;
mod message;
mod outcome;

pub mod email;
pub mod slack;
pub mod webhook;

mod acknowledgement;
pub mod address;
mod call_steps;
mod connect;
mod heartbeat_url;
mod http;
mod slack_errors;

use std::sync::Arc;

use logweir_core::runtime::clock::Clock;
use logweir_incident::{
    channel::{ChannelConfig, ChannelKind},
    job::TestReport,
    notification::Notification,
};

pub use self::{
    call_steps::CallSteps,
    connect::{Network, Resolve, SystemResolver},
    contract::{Channel, ChannelLimits},
    heartbeat_url::HeartbeatUrl,
    message::{Form, Message},
    outcome::{Failure, Receipt, SendError, WORDS_BYTES_MAX},
};
use self::{email::Email, slack::Slack, webhook::Webhook};

/// Makes a channel of its settings; an error says in words what is wrong with them. Nothing is
/// called.
pub fn build(
    config: &ChannelConfig,
    network: &Network,
    clock: &Clock,
) -> Result<Arc<dyn Channel>, String> {
    // Settings are checked where they are made; these may have been stored by an earlier version.
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
    let mut steps = CallSteps::default();
    let message = Message { is_test: true, ..Message::new(notification) };
    let sent = channel.send(&message, &mut steps).await;
    let succeeded = sent.is_ok();
    let words = match sent {
        Ok(receipt) => receipt.words,
        Err(error) => error.text,
    };
    TestReport { succeeded, steps: steps.into_vec(), words }
}
