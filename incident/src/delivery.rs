//! One notification on its way to one channel.

use logweir_core::timestamp::Timestamp;
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
    #[serde(rename = "created_unix_nano")]
    pub created_at: Timestamp,
    /// How often sending it was begun.
    pub attempts: u32,
    /// Not to be tried before.
    #[serde(rename = "not_before_unix_nano")]
    pub not_before: Timestamp,
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
    pub const fn new(notification: Notification, now: Timestamp) -> Self {
        Self {
            id: 0,
            notification,
            created_at: now,
            attempts: 0,
            not_before: now,
            message_key: None,
            is_plain: false,
            is_handed_over: false,
            follows_hand_over: false,
            thread: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{example, incident::Event, notification::NotificationKind};

    /// Other versions read what waits, and receivers of webhooks the incident in it.
    #[test]
    fn moments_are_stored_under_the_names_that_they_always_had() {
        const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_937_679);
        let mut notification = example::notification(NotificationKind::Resolved);
        notification.incident.overlays.snoozed_until = Some(NOW);
        notification.incident.note(NOW, Event::Note, "", "");
        let delivery = serde_json::to_value(Delivery::new(notification, NOW)).unwrap();
        for name in [
            "/created_unix_nano",
            "/not_before_unix_nano",
            "/notification/at_unix_nano",
            "/notification/incident/pending_unix_nano",
            "/notification/incident/firing_unix_nano",
            "/notification/incident/resolved_unix_nano",
            "/notification/incident/overlays/snoozed_until_unix_nano",
            "/notification/incident/evidence/started_unix_nano",
            "/notification/incident/evidence/deploys/0/at_unix_nano",
            "/notification/incident/evidence/sample_logs/0/at_unix_nano",
            "/notification/incident/timeline/0/at_unix_nano",
        ] {
            let nanos = delivery.pointer(name).and_then(Value::as_i64);
            assert!(nanos.is_some_and(|nanos| nanos > 0), "{name}: {delivery}");
        }
    }
}
