//! An incident: one thing that is wrong, from the first doubt to its end, and what is known about
//! it.

use std::{collections::BTreeMap, fmt};

use logweir_core::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rule::Severity;

/// Entries of a timeline; the first and the newest are kept. It is stored and shown with every
/// incident.
pub const TIMELINE_MAX: usize = 200;
/// Probable causes, sample logs, instances and traces that an incident carries, each.
pub const EVIDENCE_MAX: usize = 10;

/// What an incident is told apart by: the rule and its labels, the service among them.
pub type Labels = BTreeMap<String, String>;

/// The state of an incident. It only goes forward: what is wrong again gets a new incident. What
/// people do with it is beside it, in its [`Overlays`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Its rule is breached, but not yet for as long as the rule asks. Nobody is told.
    Pending,
    /// Its rule has been breached for long enough.
    Firing,
    /// It fires, and somebody has said that they see to it.
    Acknowledged,
    /// Its rule is no longer breached, or somebody closed it.
    Resolved,
}

impl IncidentState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Firing, Self::Acknowledged, Self::Resolved];

    /// Its stable name, as stored and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }

    /// The state of a name; none if this version has none of it.
    pub fn of(name: &str) -> Option<Self> {
        // None and no error: a newer version may have stored it.
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Firing, whether somebody sees to it or not.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Firing | Self::Acknowledged)
    }
}

impl fmt::Display for IncidentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why people are not told of an incident, whatever its state.
// Each by itself, as several may hold at once and each may end alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overlays {
    /// A silence covers it.
    pub silenced: bool,
    /// Another incident explains it.
    pub inhibited: bool,
    /// A mute time covers it.
    pub muted: bool,
    /// Somebody snoozed it: they are told again at this moment.
    #[serde(rename = "snoozed_until_unix_nano")]
    pub snoozed_until: Option<Timestamp>,
    /// It comes and goes too often to be told each time.
    pub flapping: bool,
}

impl Overlays {
    /// Whether anything keeps it from being told now.
    pub fn is_suppressed(&self, now: Timestamp) -> bool {
        let is_snoozed = self.snoozed_until.is_some_and(|until| now < until);
        // Flapping is not among them: what comes and goes is told, but seldom.
        self.silenced || self.inhibited || self.muted || is_snoozed
    }
}

/// What happened to an incident.
// The names are stored in timelines: one that is renamed could not be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// First seen.
    Pending,
    /// It fires.
    Firing,
    /// It got worse, or nobody acknowledged it in time.
    Escalated,
    /// It got less bad.
    Eased,
    /// Somebody sees to it.
    Acknowledged,
    /// Somebody no longer sees to it.
    Unacknowledged,
    /// Somebody snoozed it.
    Snoozed,
    /// A silence covers it.
    Silenced,
    /// Another incident explains it.
    Inhibited,
    /// A mute time covers it.
    Muted,
    /// Nothing suppresses it any longer.
    Audible,
    /// It comes and goes too often.
    Flapping,
    /// A person wrote something.
    Note,
    /// It is over.
    Resolved,
}

/// An entry of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// When it happened.
    #[serde(rename = "at_unix_nano")]
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// Who did it; empty for what alerting did by itself.
    #[serde(default)]
    pub actor: String,
    /// More about it for people, in one line; may be empty.
    #[serde(default)]
    pub text: String,
}

/// A measured number, against what is expected of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// What is measured, such as `errors/min`.
    pub name: String,
    /// The number over the window in which it was worst.
    pub now: f64,
    /// Expected at this time; none if not known.
    pub normal: Option<f64>,
    /// The threshold that it passed; none if it is not compared with one.
    pub threshold: Option<f64>,
    /// Number of logs that it rests on.
    pub support: u64,
}

/// A pattern whose logs grew more than those of others when an incident began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbableCause {
    /// The template's id, in hexadecimal.
    pub template_id: String,
    /// The pattern.
    pub pattern: String,
    /// Its level's name.
    pub level: String,
    /// Logs of it in the incident's window.
    pub count_now: u64,
    /// Logs of it that are expected in as long a time, by the hour before.
    pub count_before: f64,
    /// Its share, 0 to 1, of all logs (or of the latency) that came on top of what is expected.
    pub share: f64,
    /// Whether there was no log of it in the hour before.
    pub is_new: bool,
}

/// A deploy shortly before an incident began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployMark {
    /// When the version was first seen.
    #[serde(rename = "at_unix_nano")]
    pub at: Timestamp,
    /// The service that was deployed.
    pub service: String,
    /// The version that came in.
    pub version: String,
}

/// A log that shows what an incident is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleLog {
    /// Its id in hexadecimal; empty where logs have none.
    #[serde(default)]
    pub log_id: String,
    /// Event time.
    #[serde(rename = "at_unix_nano")]
    pub at: Timestamp,
    /// Its level's name.
    pub level: String,
    /// The message as logged, cut to a kilobyte.
    pub message: String,
    /// The trace's id in hexadecimal; empty without.
    #[serde(default)]
    pub trace_id: String,
    /// The instance that logged it; empty if not known.
    #[serde(default)]
    pub instance: String,
}

/// What is known about an incident.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// One sentence: what is wrong, how much, against what.
    pub summary: String,
    /// The measured numbers, the one that says most first.
    pub measured: Vec<Measured>,
    /// When it began, by event time.
    #[serde(rename = "started_unix_nano")]
    pub started_at: Timestamp,
    /// The patterns that may be the cause, the most probable first.
    pub probable_causes: Vec<ProbableCause>,
    /// Deploys of the service in the half hour before it began.
    pub deploys: Vec<DeployMark>,
    /// Logs of the probable causes, or else the newest.
    pub sample_logs: Vec<SampleLog>,
    /// The instances that logged the samples.
    pub instances: Vec<String>,
    /// The traces of the samples, in hexadecimal.
    pub trace_ids: Vec<String>,
    /// Address of the page about it; empty if none is configured.
    pub link: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Unique and the same after a restart: of tenant, rule, labels and the event time at which
    /// it began.
    pub id: String,
    /// The tenant whose logs it is about.
    pub tenant: String,
    /// The rule's name.
    pub rule: String,
    /// The rule's kind, such as `error_rate`.
    pub kind: String,
    /// The service; empty where it is about the system itself.
    pub service: String,
    /// What it is told apart by, `rule` and `service` included.
    pub labels: Labels,
    /// How bad it is, at its worst so far.
    pub severity: Severity,
    /// Its state.
    pub state: IncidentState,
    /// Why people are not told of it at the moment.
    #[serde(default)]
    pub overlays: Overlays,
    /// When its rule was first breached.
    #[serde(rename = "pending_unix_nano")]
    pub pending_at: Timestamp,
    /// When it fired; none while it is pending.
    #[serde(rename = "firing_unix_nano")]
    pub firing_at: Option<Timestamp>,
    /// When it was resolved; none until then.
    #[serde(rename = "resolved_unix_nano")]
    pub resolved_at: Option<Timestamp>,
    /// Who sees to it; empty for nobody.
    #[serde(default)]
    pub acknowledged_by: String,
    /// Levels of escalation that it went through.
    #[serde(default)]
    pub escalation_level: u32,
    /// Incidents of one service that began at about the same time have the same group.
    pub group: String,
    /// The rule's channels; empty for the default ones.
    #[serde(default)]
    pub channels: Vec<String>,
    /// The rule's runbook: what a person should do, or an address; may be empty.
    #[serde(default)]
    pub runbook: String,
    /// What is known about it.
    #[serde(default)]
    pub evidence: Evidence,
    /// What happened to it, oldest first; at most [`TIMELINE_MAX`] entries.
    #[serde(default)]
    pub timeline: Vec<TimelineEntry>,
}

impl Incident {
    /// Adds to the timeline, which stays bounded: of what is in its middle the oldest goes.
    pub fn note(&mut self, at: Timestamp, event: Event, actor: &str, text: &str) {
        // How it began and what happened last is what people ask for.
        if self.timeline.len() >= TIMELINE_MAX {
            // Not the oldest of all, which says how it began.
            self.timeline.remove(TIMELINE_MAX / 2);
        }
        let (actor, text) = (actor.to_owned(), text.to_owned());
        self.timeline.push(TimelineEntry { at, event, actor, text });
    }
}
