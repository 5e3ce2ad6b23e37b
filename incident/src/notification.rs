//! What people are told of an incident. A notification stands for one transition of one incident:
//! whatever is repeated or taken up after a restart has the same key, so that a receiver can tell.

use logweir_core::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::incident::Incident;

/// Which transition of an incident a notification stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    /// It fires.
    Opened,
    /// It changed: less bad, acknowledged, or known better. Worth an edit, not a sound.
    Updated,
    /// It got worse, or nobody sees to it: worth a sound.
    Escalated,
    /// It still fires.
    Reminder,
    /// It is over. Only where its opening was told.
    Resolved,
    /// Many at once, or one that comes and goes.
    Digest,
}

impl NotificationKind {
    /// Its stable name, as in keys and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Escalated => "escalated",
            Self::Reminder => "reminder",
            Self::Resolved => "resolved",
            Self::Digest => "digest",
        }
    }
}

/// What people are to be told, once, whatever the channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// The same for the same transition, whenever it is made: of the incident, the kind and its
    /// number. At most 128 bytes of printable ASCII.
    pub key: String,
    /// Which transition it stands for.
    pub kind: NotificationKind,
    /// When it became due.
    #[serde(rename = "at_unix_nano")]
    pub at: Timestamp,
    /// Counts up within an incident; a channel tells a lower one first or not at all.
    pub sequence: u32,
    /// The incident as it was then.
    pub incident: Incident,
    /// The other incidents of a digest, the worst of them; empty otherwise.
    // Notifications wait in storage across updates: what came later may be missing in them.
    #[serde(default)]
    pub others: Vec<Incident>,
    /// How many incidents a digest stands for, those that were left out included; 1 otherwise.
    pub count: u64,
    /// Channels to tell; empty for the default ones.
    #[serde(default)]
    pub channels: Vec<String>,
    /// One sentence for people that says why now, such as "not acknowledged for 10 min".
    #[serde(default)]
    pub text: String,
}

impl Notification {
    /// The notification of a transition, for the channels of the incident's rule.
    pub fn new(kind: NotificationKind, sequence: u32, at: Timestamp, incident: &Incident) -> Self {
        Self {
            key: key(&incident.id, kind, sequence),
            kind,
            at,
            sequence,
            incident: incident.clone(),
            others: Vec::new(),
            count: 1,
            channels: incident.channels.clone(),
            text: String::new(),
        }
    }
}

/// The key of a transition.
pub fn key(incident_id: &str, kind: NotificationKind, sequence: u32) -> String {
    // The sequence tells two reminders of one incident apart; the kind is for whoever reads keys in
    // a log.
    format!("{incident_id}-{sequence}-{}", kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_transitions_apart() {
        assert_eq!(key("ab12", NotificationKind::Opened, 1), "ab12-1-opened");
        assert_ne!(
            key("ab12", NotificationKind::Reminder, 2),
            key("ab12", NotificationKind::Reminder, 3)
        );
    }
}
