//! A tenant's notification policy: when nobody wants to know, what explains what, and how often
//! people are reminded.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::suppression::{Inhibition, Matchers, MuteTime};

/// Mute times that a policy may have, and inhibitions that it may.
const ENTRIES_MAX: usize = 100;
/// The least time between reminders.
const SECONDS_MIN: u32 = 60;
/// The longest time between reminders: 30 days.
const SECONDS_MAX: u32 = 30 * 86_400;
/// Levels of escalation that a policy may ask for; each is a message.
const LEVELS_MAX: u32 = 100;
/// Minutes of an offset from UTC: no place on earth is further, Kiritimati lies at +14 hours.
const UTC_OFFSET_MINUTES_MAX: u32 = 14 * 60;

/// How often people are reminded of an incident that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reminders {
    /// Seconds until the first reminder; each further one takes twice as long once acknowledged.
    pub repeat_seconds: u32,
    /// Seconds between reminders at most.
    pub repeat_seconds_max: u32,
    /// Seconds until a critical incident that nobody acknowledges goes up a level of escalation.
    pub escalate_seconds: u32,
    /// Levels of escalation that an incident goes through at most.
    pub escalations_max: u32,
    /// Seconds between digests of an incident that flaps.
    pub flap_seconds: u32,
}

impl Default for Reminders {
    fn default() -> Self {
        Self {
            // Twice in a working day.
            repeat_seconds: 4 * 3_600,
            repeat_seconds_max: 24 * 3_600,
            // Long enough to wake up, sit down and acknowledge.
            escalate_seconds: 600,
            escalations_max: 3,
            flap_seconds: 1_800,
        }
    }
}

/// What holds for all incidents of a tenant; what is left out is as if nothing were set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How often people are told.
    pub reminders: Reminders,
    /// Times of the week at which people are not told.
    pub mute_times: Vec<MuteTime>,
    /// Which incidents explain which others, beside what the built-in rules explain of each other.
    pub inhibitions: Vec<Inhibition>,
}

impl Policy {
    /// What is wrong with it, and what to do.
    pub fn validate(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.validate_reminders(&mut found);
        let entries =
            [("mute_times", self.mute_times.len()), ("inhibitions", self.inhibitions.len())];
        for (what, count) in entries.into_iter().filter(|(_, count)| *count > ENTRIES_MAX) {
            found.push(format!("{what} has {count} entries; use at most {ENTRIES_MAX}"));
        }
        let mut names = HashSet::new();
        // By its name a person finds the mute time that kept an incident from being told.
        for mute in &self.mute_times {
            let name = &mute.name;
            if name.trim().is_empty() || !names.insert(name) {
                found.push(format!("mute time {name:?}: each needs a name of its own"));
            }
            if mute.utc_offset_minutes.unsigned_abs() > UTC_OFFSET_MINUTES_MAX {
                let offset = mute.utc_offset_minutes;
                let max = UTC_OFFSET_MINUTES_MAX;
                found.push(format!(
                    "mute time {name:?}: {offset} minutes from UTC; use -{max} to {max}"
                ));
            }
        }
        let is_empty = |matchers: &Matchers| matchers.is_empty();
        if self.inhibitions.iter().any(|of| is_empty(&of.source) || is_empty(&of.target)) {
            let message = "an inhibition without `source` or `target` would hide everything: \
                           name labels, such as `service`";
            found.push(message.to_owned());
        }
        found
    }

    fn validate_reminders(&self, found: &mut Vec<String>) {
        let reminders = &self.reminders;
        let seconds = [
            ("repeat_seconds", reminders.repeat_seconds),
            ("repeat_seconds_max", reminders.repeat_seconds_max),
            ("escalate_seconds", reminders.escalate_seconds),
            ("flap_seconds", reminders.flap_seconds),
        ];
        for (name, value) in seconds {
            if !(SECONDS_MIN..=SECONDS_MAX).contains(&value) {
                found.push(format!("{name} is {value}; use {SECONDS_MIN} to {SECONDS_MAX}"));
            }
        }
        // 0 is allowed: then nothing escalates.
        if reminders.escalations_max > LEVELS_MAX {
            let levels = reminders.escalations_max;
            found.push(format!("escalations_max is {levels}; use at most {LEVELS_MAX}"));
        }
    }
}
