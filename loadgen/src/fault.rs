//! Named faults, and how a person writes them.

use std::{fmt, str::FromStr, time::Duration};

use logweir_core::timestamp::parse_duration;
use serde::{Deserialize, Serialize};

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

/// The names in arguments: the same as serde gives them above, which stand in the truth's file.
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

/// A fault as given: `KIND@START+LENGTH:SERVICE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// When, counted from the beginning.
    pub start: Duration,
    /// For how long.
    pub length: Duration,
    /// The service that it befalls.
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
}
