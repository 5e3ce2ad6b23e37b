//! What every kind of channel does, whoever it reaches.

use async_trait::async_trait;
use logweir_incident::channel::RateLimit;

use super::{
    call_steps::CallSteps,
    message::Message,
    outcome::{Receipt, SendError},
};

/// How much a kind of channel may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLimits {
    /// How fast it may be called.
    pub rate: RateLimit,
    /// Incidents that may wait at once; more are told in one message. None for machines, which want
    /// each by itself.
    pub digest_over: Option<usize>,
}

/// A way to tell people. An implementation neither waits nor tries again: whoever calls it decides
/// when.
#[async_trait]
pub trait Channel: Send + Sync {
    /// How much it may be used.
    fn limits(&self) -> ChannelLimits;

    /// Sends a message, within the time-outs of its network, and notes each step. When it returns
    /// an error, `may_have_arrived` says whether the message may be there all the same.
    async fn send(
        &self,
        message: &Message<'_>,
        steps: &mut CallSteps,
    ) -> Result<Receipt, SendError>;
}
