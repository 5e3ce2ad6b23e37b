//! A tenant's notification policy: when nobody wants to know, what explains what, and how often people
//! are reminded.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{
    keeper::Telling,
    quiet::{Inhibition, Matchers, MuteTime},
};

/// Mute times, and inhibitions, of a policy.
const ENTRIES_MAX: usize = 100;
/// The least time between reminders.
const SECONDS_MIN: u32 = 60;
/// The longest: 30 days.
const SECONDS_MAX: u32 = 30 * 86_400;
const LEVELS_MAX: u32 = 100;
/// No place on earth is further from UTC.
const UTC_OFFSET_MINUTES_MAX: u32 = 14 * 60;

/// What holds for all incidents of a tenant; what is left out is as if nothing were set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How often people are told.
    pub reminders: Telling,
    /// When nobody wants to know.
    pub mute_times: Vec<MuteTime>,
    /// What explains what, beside what the built-in rules explain of each other.
    pub inhibitions: Vec<Inhibition>,
}

impl Policy {
    /// What is wrong with it, and what to do.
    pub fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.reminder_mistakes(&mut found);
        let entries =
            [("mute_times", self.mute_times.len()), ("inhibitions", self.inhibitions.len())];
        for (what, count) in entries.into_iter().filter(|(_, count)| *count > ENTRIES_MAX) {
            found.push(format!("{what} has {count} entries; use at most {ENTRIES_MAX}"));
        }
        let mut names = HashSet::new();
        for mute in &self.mute_times {
            let name = &mute.name;
            if name.trim().is_empty() || !names.insert(name) {
                found.push(format!("mute time {name:?}: each needs a name of its own"));
            }
            if mute.utc_offset_minutes.unsigned_abs() > UTC_OFFSET_MINUTES_MAX {
                let offset = mute.utc_offset_minutes;
                found.push(format!(
                    "mute time {name:?}: {offset} minutes from UTC; use -840 to 840"
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

    fn reminder_mistakes(&self, found: &mut Vec<String>) {
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
        if reminders.escalations_max > LEVELS_MAX {
            let levels = reminders.escalations_max;
            found.push(format!("escalations_max is {levels}; use at most {LEVELS_MAX}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::parse_policy;

    #[test]
    fn a_policy_is_read_and_its_mistakes_are_told() {
        let good = "\
reminders: {repeat_seconds: 3600}
mute_times:
  - {name: nights, matchers: {severity: warning}, weekdays: [saturday, sunday], from: '22:00', to: '07:30'}
inhibitions:
  - {source: {service: database}, target: {service: 'shop*'}, equal: [region]}
";
        let policy = parse_policy("policy.yaml", good).unwrap();
        assert_eq!(policy.reminders.repeat_seconds, 3_600);
        assert_eq!(policy.reminders.escalate_seconds, Telling::default().escalate_seconds);
        let mute = &policy.mute_times[0];
        assert_eq!((mute.from_minute, mute.to_minute), (22 * 60, 7 * 60 + 30));
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);

        for (text, told) in [
            ("mute_times: [{name: a, from: '25:00', to: '01:00'}]", "\"25:00\" is no time of day"),
            ("mute_times: [{name: a, from: '1:00', to: '01:00'}]", "\"1:00\" is no time of day"),
            ("mute_times: [{name: '', from: '00:00', to: '01:00'}]", "needs a name"),
            ("inhibitions: [{source: {}, target: {a: b}}]", "would hide everything"),
            ("reminders: {repeat_seconds: 1}", "repeat_seconds is 1; use 60 to"),
            ("reminder: {}", "reminder"),
        ] {
            let told_of = parse_policy("policy.yaml", text).unwrap_err();
            assert!(told_of.iter().any(|of| of.to_string().contains(told)), "{text}: {told_of:?}");
        }
    }
}
