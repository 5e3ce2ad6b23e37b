//! One notification on its way to one channel.

use serde::{Deserialize, Serialize};

use crate::notification::Notification;

/// A notification that waits for a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The id that the outbox gave it; 0 before it is stored.
    pub id: i64,
    /// What is to be told.
    // As it was called by earlier versions, whose deliveries may still wait.
    #[serde(alias = "notice")]
    pub notification: Notification,
    /// When it was stored.
    pub created_unix_nano: i64,
    /// How often sending it was begun.
    pub attempts: u32,
    /// Not to be tried before.
    pub not_before_unix_nano: i64,
    /// The key of the message in which it may have arrived already; that message is repeated as it
    /// was.
    pub message_key: Option<String>,
    /// Whether its full form was refused.
    pub is_plain: bool,
    /// Whether the fallback channel has it too.
    pub is_handed_over: bool,
    /// Whether an earlier notification of its incident went to the fallback channel: then so must
    /// this.
    pub follows_hand_over: bool,
    /// What the channel returned for the incident's first message.
    pub thread: Option<String>,
}

impl Delivery {
    /// A notification that is to be told as soon as may be.
    pub const fn new(notification: Notification, now_unix_nano: i64) -> Self {
        Self {
            id: 0,
            notification,
            created_unix_nano: now_unix_nano,
            attempts: 0,
            not_before_unix_nano: now_unix_nano,
            message_key: None,
            is_plain: false,
            is_handed_over: false,
            follows_hand_over: false,
            thread: None,
        }
    }
}
