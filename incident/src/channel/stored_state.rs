//! What is known of a channel's destination from the calls that were made.

use serde::{Deserialize, Serialize};

use super::{Breaker, RateLimiter};

/// What is known of a channel's destination. Kept between evaluations, so that neither a restart
/// nor another leader forgets that a destination is down.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelState {
    /// The circuit breaker: whether to call it.
    pub breaker: Breaker,
    /// The rate limiter: how fast it may be called.
    // The field's name is stored.
    pub pace: RateLimiter,
    /// What went wrong last, in words; empty if nothing.
    pub last_error: String,
}
