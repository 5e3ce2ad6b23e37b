//! The record of what faults did, which a detector is judged by.

use std::{fs, io, path::Path, time::Duration};

use logweir_core::timestamp::{parse_rfc3339, rfc3339};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::fault::{Fault, FaultKind};

/// Times of changed logs that are kept of a fault; beyond, they are only counted.
const TIMES_MAX: usize = 2_000_000;

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
    parse_rfc3339(&text).map_err(D::Error::custom)
}

/// Writes faults and what they touched to a file, a JSON object a line.
pub fn write(path: &Path, truth: &[TruthEntry]) -> io::Result<()> {
    let mut text = String::new();
    for entry in truth {
        text.push_str(&serde_json::to_string(entry)?);
        text.push('\n');
    }
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

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
