//! An incident: one thing that is wrong, from the first doubt to its end, and what is known about it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::rule::Severity;

/// Entries of a timeline; the first and the newest are kept.
pub const TIMELINE_MAX: usize = 200;
/// Probable causes, sample logs, instances and traces that an incident carries, each.
pub const EVIDENCE_MAX: usize = 10;

/// What an incident is told apart by: the rule and its labels, the service among them.
pub type Labels = BTreeMap<String, String>;

/// Where it is in its life. It only goes forward: who is wrong again gets a new incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// It holds, but not yet for as long as the rule asks. Nobody is told.
    Pending,
    /// It holds.
    Firing,
    /// It holds, and somebody has said that they see to it.
    Acknowledged,
    /// It no longer holds, or somebody closed it.
    Resolved,
}

impl IncidentState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Firing, Self::Acknowledged, Self::Resolved];

    /// Its stable name.
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

/// Why nobody is told, whatever the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overlays {
    /// Somebody silenced incidents like it.
    pub silenced: bool,
    /// Another incident explains it.
    pub inhibited: bool,
    /// At this time of the week nobody wants to know.
    pub muted: bool,
    /// Somebody wants to hear of it later: not before this moment.
    pub snoozed_until_unix_nano: Option<i64>,
    /// It comes and goes too often to be told each time.
    pub flapping: bool,
}

impl Overlays {
    /// Whether anything keeps it from being told now.
    pub fn is_quiet(&self, now_unix_nano: i64) -> bool {
        let is_snoozed = self.snoozed_until_unix_nano.is_some_and(|until| now_unix_nano < until);
        self.silenced || self.inhibited || self.muted || is_snoozed
    }
}

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// First seen.
    Pending,
    /// It fires.
    Firing,
    /// It got worse.
    Escalated,
    /// It got less bad.
    Eased,
    /// Somebody sees to it.
    Acknowledged,
    /// Somebody no longer does.
    Unacknowledged,
    /// Somebody wants to hear of it later.
    Snoozed,
    /// A silence covers it.
    Silenced,
    /// Another incident explains it.
    Inhibited,
    /// A mute time covers it.
    Muted,
    /// Nothing keeps it quiet any longer.
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
    /// When.
    pub at_unix_nano: i64,
    /// What.
    pub event: Event,
    /// Who; empty for the engine.
    #[serde(default)]
    pub actor: String,
    /// More, in words.
    #[serde(default)]
    pub text: String,
}

/// A number now, against what is normal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// What is measured, such as `errors/min`.
    pub name: String,
    /// Now.
    pub now: f64,
    /// Usual at this time; none if not known.
    pub normal: Option<f64>,
    /// Where the rule draws the line.
    pub threshold: Option<f64>,
    /// Logs that it rests on.
    pub support: u64,
}

/// A pattern that grew more than others when it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbableCause {
    /// The template's id, in hexadecimal.
    pub template_id: String,
    /// The pattern.
    pub pattern: String,
    /// Its level's name.
    pub level: String,
    /// Logs of it in the window.
    pub count_now: u64,
    /// Logs of it that are usual in as long a time.
    pub count_before: f64,
    /// Share of what came on top.
    pub share: f64,
    /// Whether it never occurred before.
    pub is_new: bool,
}

/// A version that came in at about the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployMark {
    /// When.
    pub at_unix_nano: i64,
    /// Of what.
    pub service: String,
    /// Which.
    pub version: String,
}

/// A log that shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleLog {
    /// Its id in hexadecimal; empty where logs have none.
    #[serde(default)]
    pub log_id: String,
    /// Event time.
    pub at_unix_nano: i64,
    /// Its level's name.
    pub level: String,
    /// As logged, cut.
    pub message: String,
    /// Its trace; empty without.
    #[serde(default)]
    pub trace_id: String,
    /// Who logged it; empty if not known.
    #[serde(default)]
    pub instance: String,
}

/// What is known about an incident.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// One sentence: what is wrong, how much, against what.
    pub summary: String,
    /// The numbers.
    pub measured: Vec<Measured>,
    /// When it began, by event time.
    pub started_unix_nano: i64,
    /// Most probable first.
    pub probable_causes: Vec<ProbableCause>,
    /// In the window before it began.
    pub deploys: Vec<DeployMark>,
    /// Of the probable causes.
    pub sample_logs: Vec<SampleLog>,
    /// Who logged it, as far as known.
    pub instances: Vec<String>,
    /// In hexadecimal.
    pub trace_ids: Vec<String>,
    /// Where to look on; empty if no address is set.
    pub link: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Unique and the same after a restart: of tenant, rule, labels and the event time at which
    /// it began.
    pub id: String,
    /// Whose logs.
    pub tenant: String,
    /// The rule's name.
    pub rule: String,
    /// The rule's kind, such as `error_rate`.
    pub kind: String,
    /// The service; empty where it is about the system itself.
    pub service: String,
    /// What it is told apart by, `rule` and `service` included.
    pub labels: Labels,
    /// How bad.
    pub severity: Severity,
    /// Where in its life.
    pub state: IncidentState,
    /// Why nobody is told.
    #[serde(default)]
    pub overlays: Overlays,
    /// First seen.
    pub pending_unix_nano: i64,
    /// When it fired.
    pub firing_unix_nano: Option<i64>,
    /// When it was over.
    pub resolved_unix_nano: Option<i64>,
    /// Who sees to it; empty for nobody.
    #[serde(default)]
    pub acknowledged_by: String,
    /// Levels of escalation that it went through.
    #[serde(default)]
    pub escalation_level: u32,
    /// Incidents with one group are told together.
    pub group: String,
    /// The rule's channels; empty for the default ones.
    #[serde(default)]
    pub channels: Vec<String>,
    /// The rule's runbook.
    #[serde(default)]
    pub runbook: String,
    /// What is known.
    #[serde(default)]
    pub evidence: Evidence,
    /// What happened, ascending.
    #[serde(default)]
    pub timeline: Vec<TimelineEntry>,
}

impl Incident {
    /// Adds to the timeline, which stays bounded: of what is in its middle the oldest goes.
    pub fn note(&mut self, at_unix_nano: i64, event: Event, actor: &str, text: &str) {
        if self.timeline.len() >= TIMELINE_MAX {
            self.timeline.remove(TIMELINE_MAX / 2);
        }
        let (actor, text) = (actor.to_owned(), text.to_owned());
        self.timeline.push(TimelineEntry { at_unix_nano, event, actor, text });
    }
}
