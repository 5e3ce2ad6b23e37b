//! What people do about incidents and channels, on its way to the process that leads.

use logweir_core::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// What somebody wants done; stored as JSON until the leader takes account of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
// By name and not by place, so that a leader of another version reads what it knows and skips the
// rest.
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Somebody sees to it: no escalation any more, fewer reminders.
    Acknowledge {
        /// The incident's id.
        incident_id: String,
        /// Who did so.
        actor: String,
    },
    /// Nobody sees to it after all.
    Unacknowledge {
        /// The incident's id.
        incident_id: String,
        /// Who said so.
        actor: String,
    },
    /// Somebody says that it is over.
    Resolve {
        /// The incident's id.
        incident_id: String,
        /// Who said so.
        actor: String,
        /// Why, in the person's words; may be empty.
        text: String,
    },
    /// Nobody is to be told of it for a while.
    Snooze {
        /// The incident's id.
        incident_id: String,
        /// Who did so.
        actor: String,
        /// Until when.
        #[serde(rename = "until_unix_nano")]
        until: Timestamp,
    },
    /// Somebody wrote something into its timeline.
    Note {
        /// The incident's id.
        incident_id: String,
        /// Who did so.
        actor: String,
        /// What they wrote.
        text: String,
    },
    /// A channel's settings changed or a test of it succeeded: its breaker begins anew.
    ResetChannel {
        /// The channel's name.
        channel: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_the_same_after_json() {
        let action = Action::Snooze {
            incident_id: "ab12".to_owned(),
            actor: "anna".to_owned(),
            until: Timestamp::from_unix_nanos(5),
        };
        let json = serde_json::to_string(&action).unwrap();
        let expected =
            r#"{"action":"snooze","incident_id":"ab12","actor":"anna","until_unix_nano":5}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Action>(&json).unwrap(), action);
    }
}
