//! The record of what faults did, which a detector is judged by.

use std::{fs, io, path::Path};

use logweir_core::timestamp::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::fault::{Fault, FaultKind};

/// Times of changed logs that are kept of a fault; beyond, they are only counted.
const TIMES_MAX: usize = 2_000_000;

/// A fault in event time, and what it touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruthEntry {
    /// What went wrong.
    pub kind: FaultKind,
    /// The service that it befell.
    pub service: String,
    /// The first moment, in event time, whose logs it touches.
    #[serde(serialize_with = "as_rfc3339", deserialize_with = "from_rfc3339")]
    pub start: Timestamp,
    /// The first moment after that whose logs it leaves alone.
    #[serde(serialize_with = "as_rfc3339", deserialize_with = "from_rfc3339")]
    pub end: Timestamp,
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
    pub first: Option<Timestamp>,
}

impl TruthEntry {
    /// Places a fault in time.
    pub fn new(fault: &Fault, start: Timestamp) -> Self {
        let start = start + fault.start;
        Self {
            kind: fault.kind,
            service: fault.service.clone(),
            start,
            end: start + fault.length,
            logs: 0,
            after_nanos: Vec::new(),
            pattern: String::new(),
            first: None,
        }
    }

    /// How much of it has passed, from 0 to 1.
    pub fn progress(&self, time: Timestamp) -> f64 {
        time.nanos_since(self.start) as f64 / self.end.nanos_since(self.start).max(1) as f64
    }

    /// Counts a log that it touched.
    pub fn touched(&mut self, time: Timestamp) {
        self.logs += 1;
        self.first.get_or_insert(time);
    }

    /// Counts a log that it changed.
    pub fn changed(&mut self, time: Timestamp) {
        self.touched(time);
        // A flood of an hour would fill the memory. Whoever reads the truth sees from `logs` that
        // times are missing, and must not take it for whole.
        if self.after_nanos.len() < TIMES_MAX {
            self.after_nanos.push(time.nanos_since(self.start));
        }
    }

    /// Whether it touches a service at a moment.
    pub fn covers(&self, service: &str, time: Timestamp) -> bool {
        (self.start..self.end).contains(&time) && self.service == service
    }
}

fn as_rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339())
}

fn from_rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_truth_is_one_json_object() {
        let fault: Fault = "silence@1s+1s:a".parse().unwrap();
        let mut entry = TruthEntry::new(&fault, Timestamp::from_unix_seconds(1_767_571_200));
        entry.changed(entry.start + Duration::from_nanos(5));
        assert!(entry.covers("a", entry.start) && !entry.covers("a", entry.end));
        let json = serde_json::to_string(&entry).unwrap();
        let expected = r#"{"kind":"silence","service":"a","start":"2026-01-05T00:00:01.000000000Z","end":"2026-01-05T00:00:02.000000000Z","logs":1,"after_nanos":[5]}"#;
        assert_eq!(json, expected);
        assert_eq!(entry.first, Some(entry.start + Duration::from_nanos(5)));
        entry.first = None;
        assert_eq!(serde_json::from_str::<TruthEntry>(&json).unwrap(), entry);
    }
}
