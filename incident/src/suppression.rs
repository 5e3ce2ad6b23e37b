//! Who does not want to know what, and when: silences, mute times and inhibition. Pure.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use logweir_core::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::incident::Incident;

const MINUTE_SECONDS: i64 = 60;
const DAY_MINUTES: i64 = 1_440;
const WEEK_DAYS: i64 = 7;
/// The place in a week, from 0 for Monday, of 1970-01-01, which was a Thursday.
const EPOCH_WEEKDAY: i64 = 3;
/// How much later than its consequence a cause may be noticed: each rule needs its own time.
const CONSEQUENCE_AFTER: Duration = Duration::from_secs(600);

/// Labels and the values that they must have; `*` stands for any text within a value. `severity` is
/// a label of every incident that has none of this name.
pub type Matchers = BTreeMap<String, String>;

/// A silence: people are not told of some incidents for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Unique within the tenant.
    pub id: String,
    /// All must match; none matches everything.
    pub matchers: Matchers,
    /// When it begins, inclusive.
    #[serde(rename = "from_unix_nano")]
    pub from: Timestamp,
    /// When it ends, exclusive.
    #[serde(rename = "to_unix_nano")]
    pub to: Timestamp,
    /// Who made it.
    pub author: String,
    /// Why it was made.
    pub comment: String,
    /// Whether it also covers incidents that become critical meanwhile.
    #[serde(default)]
    pub hides_critical: bool,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// A time of the week at which people are not told of some incidents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuteTime {
    /// Unique within the policy.
    pub name: String,
    /// All must match; none matches everything.
    #[serde(default)]
    pub matchers: Matchers,
    /// The days on which it begins; empty for every day.
    #[serde(default)]
    pub weekdays: Vec<Weekday>,
    /// Its beginning in minutes after midnight, inclusive; `22:00` in a file.
    #[serde(rename = "from", with = "minute_of_day")]
    pub from_minute: u16,
    /// Its end in minutes after midnight, exclusive; if it is not above `from_minute` it lies on
    /// the next day.
    #[serde(rename = "to", with = "minute_of_day")]
    pub to_minute: u16,
    /// The time zone, in minutes east of UTC.
    #[serde(default)]
    pub utc_offset_minutes: i32,
}

/// Incidents that explain others, of which people are then not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inhibition {
    /// The incidents that explain.
    pub source: Matchers,
    /// The incidents that are explained.
    pub target: Matchers,
    /// Names of labels that both must have with the same value.
    #[serde(default)]
    pub equal: Vec<String>,
}

/// All that keeps a tenant's people from being told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Suppression {
    /// Silences, past ones included.
    pub silences: Vec<Silence>,
    /// Mute times.
    pub mute_times: Vec<MuteTime>,
    /// Inhibitions, the built-in ones not included.
    pub inhibitions: Vec<Inhibition>,
}

impl Suppression {
    /// The silence that covers an incident; none if none does.
    pub fn silence_of(&self, incident: &Incident, now: Timestamp) -> Option<&Silence> {
        self.silences.iter().find(|silence| {
            (silence.from..silence.to).contains(&now) && matches(&silence.matchers, incident)
        })
    }

    /// Whether a mute time covers an incident.
    pub fn is_muted(&self, incident: &Incident, now: Timestamp) -> bool {
        self.mute_times.iter().any(|mute| mute.covers(now) && matches(&mute.matchers, incident))
    }

    /// Whether an incident that fires, or did so lately, explains another.
    pub fn inhibits(&self, source: &Incident, target: &Incident) -> bool {
        source.id != target.id
            // What is only pending may be nothing, and must not hide what is known.
            && source.firing_at.is_some()
            && (explains(source, target)
                || self.inhibitions.iter().any(|inhibition| inhibition.holds(source, target)))
    }
}

impl Inhibition {
    fn holds(&self, source: &Incident, target: &Incident) -> bool {
        let is_equal = |name: &String| label(source, name) == label(target, name);
        matches(&self.source, source)
            && matches(&self.target, target)
            && self.equal.iter().all(is_equal)
            // Two that match both sides must not hide each other.
            && !(matches(&self.source, target) && matches(&self.target, source)
                && (target.pending_at, &target.id) < (source.pending_at, &source.id))
    }
}

impl MuteTime {
    /// Whether a moment lies in it.
    pub fn covers(&self, now: Timestamp) -> bool {
        let minute = now.as_unix_seconds().div_euclid(MINUTE_SECONDS);
        let minute = minute + i64::from(self.utc_offset_minutes);
        let (day, minute) = (minute.div_euclid(DAY_MINUTES), minute.rem_euclid(DAY_MINUTES));
        let (from, to) = (i64::from(self.from_minute), i64::from(self.to_minute));
        // What goes over midnight belongs to the day that it began on.
        let (is_in, began) = if from < to {
            ((from..to).contains(&minute), day)
        } else {
            (minute >= from || minute < to, if minute < to { day - 1 } else { day })
        };
        let weekday = (began + EPOCH_WEEKDAY).rem_euclid(WEEK_DAYS);
        is_in && (self.weekdays.is_empty() || self.weekdays.iter().any(|d| *d as i64 == weekday))
    }
}

mod minute_of_day {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    pub(super) fn serialize<S: Serializer>(minute: &u16, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:02}:{:02}", minute / 60, minute % 60))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
        let text = String::deserialize(from)?;
        let parts = text.split_once(':');
        let numbers = parts.and_then(|(hour, minute)| Some((two(hour)?, two(minute)?)));
        match numbers {
            Some((hour @ 0..24, minute @ 0..60)) => Ok(hour * 60 + minute),
            _ => Err(D::Error::custom(format!("{text:?} is no time of day: write \"22:00\""))),
        }
    }

    // Exactly two digits: `parse` alone would take a sign, and `7:5` for five past seven.
    fn two(text: &str) -> Option<u16> {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_number)
    }
}

/// What the built-in rules explain of each other: the cause is told, not what follows from it.
fn explains(source: &Incident, target: &Incident) -> bool {
    const FOLLOWS: [(&str, &[&str]); 5] = [
        ("error_rate", &["new_pattern", "volume_up"]),
        ("new_pattern", &["volume_up"]),
        ("service_silence", &["volume_down", "latency"]),
        ("processor_silence", &["queue_lag", "service_silence", "volume_down"]),
        ("queue_lag", &["service_silence", "volume_down"]),
    ];
    let is_same = source.service == target.service || source.service.is_empty();
    let is_built_in = |incident: &Incident| incident.labels.contains_key("built_in");
    // Only among built-in rules: what somebody set by themselves they want to hear of.
    let follows = FOLLOWS
        .iter()
        .any(|(cause, all)| *cause == source.kind && all.contains(&target.kind.as_str()));
    // What came first by far is no consequence. A cause may be noticed later than what follows from
    // it, but not by much: each rule has its own window.
    let is_in_time = source.pending_at <= target.pending_at + CONSEQUENCE_AFTER;
    is_same && follows && is_in_time && is_built_in(source) && is_built_in(target)
}

/// Whether an incident has all these labels; its severity counts as one.
pub fn matches(matchers: &Matchers, incident: &Incident) -> bool {
    matchers.iter().all(|(name, pattern)| {
        label(incident, name).is_some_and(|value| matches_text(pattern, &value))
    })
}

fn label<'a>(incident: &'a Incident, name: &str) -> Option<Cow<'a, str>> {
    match incident.labels.get(name) {
        Some(value) => Some(value.into()),
        // A label of this name that a rule sets goes before.
        None => (name == "severity").then(|| incident.severity.to_string().into()),
    }
}

/// Whether a text is as a pattern says, where `*` stands for any text.
pub fn matches_text(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    // Each part is taken where it is found first: the last one alone is bound to a place, the end.
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        let Some(found) = left.find(part) else { return false };
        left = &left[found + part.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("pay*", "payments", true),
            ("*ents", "payments", true),
            ("p*m*s", "payments", true),
            ("pay", "payments", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches_text(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_it_began_on() {
        /// 2026-01-05T00:00:00Z, a Monday.
        const MONDAY: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);
        let mute = MuteTime {
            name: "night".to_owned(),
            matchers: Matchers::new(),
            weekdays: vec![Weekday::Monday],
            from_minute: 22 * 60,
            to_minute: 6 * 60,
            utc_offset_minutes: 0,
        };
        for (hour, expected) in [(0, false), (21, false), (22, true), (29, true), (30, false)] {
            let time = MONDAY + Duration::from_secs(hour * 3_600);
            assert_eq!(mute.covers(time), expected, "{hour}");
        }
    }
}
