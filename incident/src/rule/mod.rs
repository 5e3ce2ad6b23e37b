//! What is watched, and when it is worth an incident. A rule holds for every service that it
//! selects, each by itself.

mod validate;

use std::{collections::BTreeMap, fmt};

use logweir_core::record::Level;
use serde::{Deserialize, Serialize};

/// Bytes of a rule's name at most: it is part of every incident's labels, and of lines of text.
pub const NAME_BYTES_MAX: usize = 128;
/// Rules that a tenant may have, and rules that all files together may.
pub const RULES_MAX: usize = 10_000;
/// Series of a rule that may be in an incident at once; what is beyond is counted and not told.
pub const INCIDENTS_PER_RULE_MAX: usize = 500;

/// How bad an incident is, ascending.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look today.
    #[default]
    Warning,
    /// Worth waking somebody.
    Critical,
}

impl Severity {
    /// Every severity, ascending.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// Its stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity of a name; none if this version has none of it.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The direction in which a volume must change to be a breach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More than there should be.
    Up,
    /// Less than there should be.
    Down,
}

/// What a measured number is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Threshold {
    /// A number in the kind's own unit.
    Absolute(f64),
    /// So many times what is expected of this service at this time. Never passed without enough
    /// history.
    Relative(f64),
    /// A detector decides, by what is expected of the service, how much it varies in health, and
    /// chance.
    Unusual,
}

/// What a rule measures. Every window ends now.
// The names of kinds and fields are stored, and written in files: they are not renamed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RuleKind {
    /// Share of errors among the logs, 0 to 1.
    ErrorRate {
        /// Length of the window, seconds.
        window_seconds: u32,
        /// What the share, 0 to 1, is compared with.
        threshold: Threshold,
    },
    /// Errors in the window.
    ErrorCount {
        /// Length of the window, seconds.
        window_seconds: u32,
        /// What the count is compared with.
        threshold: Threshold,
    },
    /// Logs in the window.
    Volume {
        /// Length of the window, seconds.
        window_seconds: u32,
        /// Whether more or less than the threshold is a breach.
        direction: Direction,
        /// What the count is compared with.
        threshold: Threshold,
    },
    /// A percentile of the latencies.
    Latency {
        /// Length of the window, seconds.
        window_seconds: u32,
        /// The percentile, 0 to 1, such as 0.95.
        percentile: f64,
        /// What the latency in milliseconds is compared with.
        threshold: Threshold,
    },
    /// Logs that detection calls anomalies.
    AnomalyCount {
        /// Length of the window, seconds.
        window_seconds: u32,
        /// What the count is compared with.
        threshold: Threshold,
    },
    /// A pattern that never occurred before.
    NewPattern {
        /// Patterns at or above this level; those below count only where nothing ever changes.
        #[serde(with = "level_name")]
        level: Level,
        /// Logs of a new pattern that are needed; more for warnings, fewer for fatal errors.
        hits: u32,
    },
    /// Logs that match a filter.
    MatchCount {
        /// The filter, in the language of the search.
        filter: String,
        /// Length of the window, seconds.
        window_seconds: u32,
        /// What the count is compared with.
        threshold: Threshold,
    },
    /// A service that logged steadily has fallen silent.
    ServiceSilence {
        /// Seconds of silence at least; a service whose usual gaps are long is given longer.
        silence_seconds: u32,
    },
    /// A processor has stopped to report.
    ProcessorSilence {
        /// Seconds since its last heartbeat.
        silence_seconds: u32,
    },
    /// How fast a service's error budget goes, in two windows at once.
    BurnRate {
        /// The promised share of logs that are no errors, such as 0.999.
        objective: f64,
        /// Length of the long window, seconds: it says that the burn matters.
        long_window_seconds: u32,
        /// Length of the short window, seconds: it says that the burn still goes on.
        short_window_seconds: u32,
        /// So many times faster than the budget would just last is a breach.
        factor: f64,
    },
    /// New dead letters: logs that could not be stored.
    DeadLetters {
        /// Length of the window, seconds.
        window_seconds: u32,
        /// More than so many in the window are a breach.
        count: u64,
    },
    /// Logs that a sending process had to give up.
    SdkLoss {
        /// Length of the window, seconds.
        window_seconds: u32,
        /// More than so many in the window are a breach.
        count: u64,
    },
    /// How far the processing is behind.
    QueueLag {
        /// More than so many seconds are a breach.
        lag_seconds: u32,
    },
    /// What a tenant takes of the disk has grown past a part of its share, all of which it may take
    /// before its oldest logs are deleted.
    DiskShare {
        /// Per cent of the share.
        percent: u32,
    },
    /// How late a tenant's rules are evaluated that count what matches a filter: with each evaluation
    /// only so much time is spent on them, and they take turns.
    RulesLate {
        /// More than so many seconds are a breach.
        late_seconds: u32,
    },
    /// A service whose logs are all behind or ahead of the time at which they come.
    ClockOff {
        /// So many seconds or more are a breach.
        off_seconds: u32,
    },
}

impl RuleKind {
    /// Its stable name, as in files and in incidents.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ErrorRate { .. } => "error_rate",
            Self::ErrorCount { .. } => "error_count",
            Self::Volume { .. } => "volume",
            Self::Latency { .. } => "latency",
            Self::AnomalyCount { .. } => "anomaly_count",
            Self::NewPattern { .. } => "new_pattern",
            Self::MatchCount { .. } => "match_count",
            Self::ServiceSilence { .. } => "service_silence",
            Self::ProcessorSilence { .. } => "processor_silence",
            Self::BurnRate { .. } => "burn_rate",
            Self::DeadLetters { .. } => "dead_letters",
            Self::SdkLoss { .. } => "sdk_loss",
            Self::QueueLag { .. } => "queue_lag",
            Self::DiskShare { .. } => "disk_share",
            Self::RulesLate { .. } => "rules_late",
            Self::ClockOff { .. } => "clock_off",
        }
    }
}

/// A rule: what is watched, and what an incident of it is like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique within the tenant; incidents refer to it.
    pub name: String,
    /// What is measured, over which window, and what it is compared with.
    pub measure: RuleKind,
    /// Services that it holds for, by name or with `*`; empty for all. Of no meaning to rules about
    /// the system itself.
    #[serde(default)]
    pub services: Vec<String>,
    /// Whether it is evaluated.
    // Whoever writes a rule into a file wants it to run.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// How bad a breach is; a detector may say otherwise.
    #[serde(default)]
    pub severity: Severity,
    /// With fewer logs in the window it is never breached.
    #[serde(default)]
    pub minimum_support: u64,
    /// Seconds that it must be breached before an incident fires.
    #[serde(default)]
    pub for_seconds: u32,
    /// Seconds that it must not be breached before an incident is resolved.
    #[serde(default = "keep_firing_seconds")]
    pub keep_firing_seconds: u32,
    /// An incident that fires goes on down to this share of the threshold, so that a value which
    /// moves around the threshold makes one incident and not many.
    #[serde(default = "recovery_share")]
    pub recovery_share: f64,
    /// Labels of its incidents, besides `service` and `rule`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Names of the channels that are told; empty for the default ones.
    #[serde(default)]
    pub channels: Vec<String>,
    /// What a person should do, or the address of a page that says so; may be empty.
    #[serde(default)]
    pub runbook: String,
}

const fn yes() -> bool {
    true
}

/// Five minutes: what stays away for less has mostly not been mended.
const KEEP_FIRING_SECONDS: u32 = 300;
/// A fifth below the threshold: a value that only trembles around it does not come so far down.
const RECOVERY_SHARE: f64 = 0.8;

// Functions, as serde asks for a path to one.
const fn keep_firing_seconds() -> u32 {
    KEEP_FIRING_SECONDS
}

const fn recovery_share() -> f64 {
    RECOVERY_SHARE
}

impl Rule {
    /// A rule with the defaults that a file leaves out.
    pub fn new(name: &str, measure: RuleKind) -> Self {
        Self {
            name: name.to_owned(),
            measure,
            services: Vec::new(),
            enabled: yes(),
            severity: Severity::default(),
            // Nothing is asked for beyond the threshold: who wants to be sure says so.
            minimum_support: 0,
            for_seconds: 0,
            keep_firing_seconds: keep_firing_seconds(),
            recovery_share: recovery_share(),
            labels: BTreeMap::new(),
            channels: Vec::new(),
            runbook: String::new(),
        }
    }
}

/// A level by its name, in any of the usual spellings.
mod level_name {
    use logweir_core::record::Level;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
    pub(super) fn serialize<S: Serializer>(
        level: &Level,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        // In lower case like every other word of a rule, though levels are shown in capitals.
        serializer.serialize_str(&level.as_str().to_ascii_lowercase())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Level, D::Error> {
        let text = String::deserialize(from)?;
        let unknown =
            |()| D::Error::custom(format!("{text:?} is no level: use warn, error or fatal"));
        // In the spellings that logs themselves have: nobody should have to look this one up.
        text.parse().map_err(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_the_same_after_json() {
        let rule = Rule::new("new", RuleKind::NewPattern { level: Level::Error, hits: 3 });
        let json = serde_json::to_string(&rule).unwrap();
        assert!(json.contains(r#""kind":"new_pattern","level":"error""#), "{json}");
        assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
    }
}
