//! Named faults and the record of what they did.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::moment::{parse_duration, parse_moment, rfc3339};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Four in ten logs become errors of one pattern.
    ErrorBurst,
    /// Latencies are five times as long.
    LatencyShift,
    /// No logs at all.
    Silence,
    /// One log in ten follows a pattern that never occurred before.
    NewPattern,
    /// One log in five becomes one of the usual errors.
    ErrorRise,
    /// Three logs in four become one usual, harmless pattern.
    Flood,
    /// Of logs with a latency one in twenty takes thirty times as long.
    LatencySpikes,
    /// One log in fifty carries a dump of 2,000 bytes.
    LongMessage,
    /// One log in fifty comes from a region that does not exist.
    OddValue,
    /// More and more logs become one of the usual errors, in the end four in ten.
    ErrorRamp,
    /// There are four times as many errors, one in twenty logs at least, all on top of one pattern.
    LevelShift,
    /// Latencies grow, to five times at the end.
    LatencyRamp,
    /// The commonest pattern with a latency takes six times as long.
    LatencyOne,
    /// Four in five logs are missing.
    VolumeDrop,
    /// Three times as many logs.
    VolumeSurge,
    /// Five seconds without logs, then one log in two is one of the messages of a start. Harmless.
    Restart,
}

const KINDS: [(&str, FaultKind); 16] = [
    ("error-burst", FaultKind::ErrorBurst),
    ("latency-shift", FaultKind::LatencyShift),
    ("silence", FaultKind::Silence),
    ("new-pattern", FaultKind::NewPattern),
    ("error-rise", FaultKind::ErrorRise),
    ("flood", FaultKind::Flood),
    ("latency-spikes", FaultKind::LatencySpikes),
    ("long-message", FaultKind::LongMessage),
    ("odd-value", FaultKind::OddValue),
    ("error-ramp", FaultKind::ErrorRamp),
    ("level-shift", FaultKind::LevelShift),
    ("latency-ramp", FaultKind::LatencyRamp),
    ("latency-one", FaultKind::LatencyOne),
    ("volume-drop", FaultKind::VolumeDrop),
    ("volume-surge", FaultKind::VolumeSurge),
    ("restart", FaultKind::Restart),
];

/// Times of changed logs that are kept of a fault; beyond, they are only counted.
const TIMES_MAX: usize = 2_000_000;

/// A fault as given: `KIND@START+LENGTH:SERVICE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// When, counted from the beginning.
    pub start: Duration,
    /// For how long.
    pub length: Duration,
    /// Where.
    pub service: String,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || {
            format!(
                "{text:?} is no fault: write KIND@START+LENGTH:SERVICE, such as error-burst@10m+2m:payments"
            )
        };
        let (kind, rest) = text.split_once('@').ok_or_else(form)?;
        let (start, rest) = rest.split_once('+').ok_or_else(form)?;
        let (length, service) = rest.split_once(':').ok_or_else(form)?;
        let kind = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, kind)| *kind);
        let kind = kind
            .ok_or_else(|| format!("{text:?}: use {}", KINDS.map(|(name, _)| name).join(", ")))?;
        let (start, length) = (parse_duration(start)?, parse_duration(length)?);
        Ok(Self { kind, start, length, service: service.to_owned() })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// A fault in event time, and what it touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruthEntry {
    /// What went wrong.
    pub kind: FaultKind,
    /// Where.
    pub service: String,
    /// From when.
    #[serde(serialize_with = "as_rfc3339", deserialize_with = "from_rfc3339")]
    pub start: i64,
    /// Until when.
    #[serde(serialize_with = "as_rfc3339", deserialize_with = "from_rfc3339")]
    pub end: i64,
    /// Logs changed, or, in a silence, left out.
    pub logs: u64,
    /// When the changed logs were, nanoseconds after `start`; no two logs of a service share a
    /// moment. Only the first two million.
    pub after_nanos: Vec<i64>,
    /// The pattern that the changed logs have in common, with `<*>` for parameters; empty if none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pattern: String,
    /// The first log that was changed or left out.
    #[serde(skip)]
    pub first_unix_nano: Option<i64>,
}

impl TruthEntry {
    /// Places a fault in time.
    pub fn new(fault: &Fault, start_unix_nano: i64) -> Self {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let start = start_unix_nano.saturating_add(nanos(fault.start));
        Self {
            kind: fault.kind,
            service: fault.service.clone(),
            start,
            end: start.saturating_add(nanos(fault.length)),
            logs: 0,
            after_nanos: Vec::new(),
            pattern: String::new(),
            first_unix_nano: None,
        }
    }

    /// How much of it has passed, from 0 to 1.
    pub fn progress(&self, unix_nano: i64) -> f64 {
        (unix_nano - self.start) as f64 / (self.end - self.start).max(1) as f64
    }

    /// Counts a log that it touched.
    pub fn touched(&mut self, unix_nano: i64) {
        self.logs += 1;
        self.first_unix_nano.get_or_insert(unix_nano);
    }

    /// Counts a log that it changed.
    pub fn changed(&mut self, unix_nano: i64) {
        self.touched(unix_nano);
        if self.after_nanos.len() < TIMES_MAX {
            self.after_nanos.push(unix_nano - self.start);
        }
    }

    /// Whether it touches a service at a moment.
    pub fn covers(&self, service: &str, unix_nano: i64) -> bool {
        (self.start..self.end).contains(&unix_nano) && self.service == service
    }
}

fn as_rfc3339<S: Serializer>(unix_nano: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*unix_nano))
}

fn from_rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_moment(&text, 0).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_as_it_is_written() {
        let fault: Fault = "error-burst@10m+2m:payments".parse().unwrap();
        assert_eq!(fault.kind, FaultKind::ErrorBurst);
        assert_eq!((fault.start.as_secs(), fault.length.as_secs()), (600, 120));
        for bad in ["", "x@1m+1m:s", "silence@1m:s", "silence@1x+1m:s"] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_truth_is_one_json_object() {
        let fault: Fault = "silence@1s+1s:a".parse().unwrap();
        let mut entry = TruthEntry::new(&fault, 1_767_571_200_000_000_000);
        entry.changed(entry.start + 5);
        assert!(entry.covers("a", entry.start) && !entry.covers("a", entry.end));
        let json = serde_json::to_string(&entry).unwrap();
        let expected = r#"{"kind":"silence","service":"a","start":"2026-01-05T00:00:01.000000000Z","end":"2026-01-05T00:00:02.000000000Z","logs":1,"after_nanos":[5]}"#;
        assert_eq!(json, expected);
        assert_eq!(entry.first_unix_nano, Some(entry.start + 5));
        entry.first_unix_nano = None;
        assert_eq!(serde_json::from_str::<TruthEntry>(&json).unwrap(), entry);
    }
}
