//! What a server asks of alerting, and the answers, as they pass through storage in JSON.
//!
//! A server replays no past and calls nobody outside: it stores a job, whichever alerting process
//! comes first does it, and the server waits for the answer.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{incident::Incident, rule::Rule};

/// The longest past that a rule is replayed through: a week, of which storage's buckets are read
/// within minutes.
pub const PREVIEW_MAX: Duration = Duration::from_secs(7 * 86_400);

/// What is to be done for a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
// By name, so that an older process says that it does not understand a new job instead of doing
// another.
#[serde(tag = "job", rename_all = "snake_case")]
pub enum AlertingJob {
    /// Replay a rule through stored logs. Answered by a [`Preview`].
    PreviewRule(PreviewRule),
    /// Send a test message through a stored channel. Answered by a [`TestReport`].
    TestChannel(TestChannel),
}

/// A rule, and the past that it is to be replayed through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewRule {
    /// The rule, whether or not it is stored.
    pub rule: Rule,
    /// Event time of the logs: from inclusive.
    #[serde(rename = "from_unix_nano")]
    pub from: Timestamp,
    /// To exclusive, at most [`PREVIEW_MAX`] later.
    #[serde(rename = "to_unix_nano")]
    pub to: Timestamp,
}

/// What a rule would have found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Preview {
    /// Incidents that fired, those that began first first, without timeline and examples.
    pub incidents: Vec<Incident>,
    /// Whether there were more.
    pub truncated: bool,
    /// From when on the past was replayed: later than asked where there was too much to count.
    #[serde(rename = "from_unix_nano")]
    pub from: Timestamp,
}

/// A channel that is to be tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestChannel {
    /// The channel's name.
    pub channel: String,
}

/// A test of a channel, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReport {
    /// Whether the message got through.
    pub succeeded: bool,
    /// What was done, up to the step that failed.
    pub steps: Vec<TestStep>,
    /// The provider's words, or what went wrong and what to do.
    pub words: String,
}

/// One step of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestStep {
    /// `dns`, `connect`, `tls`, `authentication` or `answer`.
    pub name: String,
    /// Whether it went well.
    pub succeeded: bool,
    /// What came of it, in words.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{RuleKind, Threshold};

    #[test]
    fn a_job_is_the_same_after_json() {
        let measure =
            RuleKind::ErrorRate { window_seconds: 60, threshold: Threshold::Absolute(0.05) };
        let rule = Rule::new("errors", measure);
        let (from, to) = (Timestamp::EPOCH, Timestamp::MAX);
        let preview = AlertingJob::PreviewRule(PreviewRule { rule, from, to });
        let json = serde_json::to_string(&preview).unwrap();
        let moments = r#""from_unix_nano":0,"to_unix_nano":9223372036854775807"#;
        assert!(json.contains(moments), "{json}");
        let answer = serde_json::to_string(&Preview::default()).unwrap();
        assert!(answer.contains(r#""from_unix_nano":0"#), "{answer}");
        let test = AlertingJob::TestChannel(TestChannel { channel: "hook".to_owned() });
        for job in [preview, test] {
            let json = serde_json::to_string(&job).unwrap();
            assert_eq!(serde_json::from_str::<AlertingJob>(&json).unwrap(), job, "{json}");
        }
    }
}
