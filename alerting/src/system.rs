//! How the system itself does: processors, dead letters, lost logs, lag.

use std::collections::{BTreeMap, VecDeque};

use logweir_incident::{
    incident::Measured,
    rule::{RuleKind, Severity},
};

use crate::judge::{Finding, Sureness, figure};

const SECOND: i64 = 1_000_000_000;
/// How far back counters are kept.
const KEPT_NANOS: i64 = 3_600 * SECOND;
/// A processor that is gone for so long was taken away on purpose.
const FORGOTTEN_NANOS: i64 = 24 * 3_600 * SECOND;

/// What is known about the system at a moment. A total that sinks (a dead letter was replayed, a sender
/// is forgotten) says nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SystemReport {
    /// When.
    pub at_unix_nano: i64,
    /// Processors by name, with their last heartbeat. One that said good-bye is left out.
    pub processors: Vec<(String, i64)>,
    /// Dead letters so far.
    pub dead_letters: u64,
    /// Logs given up by senders so far, by service.
    pub sdk_lost: Vec<(String, u64)>,
    /// Seconds that the processing is behind, by partition.
    pub queue_lag_seconds: Vec<(String, f64)>,
}

/// By how much a total has grown, and when.
#[derive(Debug, Clone, Default)]
struct Counter {
    total: Option<u64>,
    growth: VecDeque<(i64, u64)>,
}

impl Counter {
    fn put(&mut self, at: i64, total: u64) {
        while self.growth.front().is_some_and(|(first, _)| at - first > KEPT_NANOS) {
            self.growth.pop_front();
        }
        let grown = total.saturating_sub(self.total.replace(total).unwrap_or(total));
        if grown > 0 {
            self.growth.push_back((at, grown));
        }
    }

    fn grown(&self, now: i64, window_seconds: u32) -> u64 {
        let from = now - i64::from(window_seconds) * SECOND;
        let recent = self.growth.iter().rev().take_while(|(at, _)| *at > from);
        recent.fold(0, |sum, (_, grown)| sum.saturating_add(*grown))
    }
}

/// What is known about the system.
#[derive(Debug, Clone, Default)]
pub(crate) struct System {
    processors: BTreeMap<String, i64>,
    dead_letters: Counter,
    sdk_lost: BTreeMap<String, Counter>,
    queue_lag_seconds: BTreeMap<String, f64>,
}

impl System {
    pub(crate) fn put(&mut self, report: SystemReport) {
        let at = report.at_unix_nano;
        self.processors = report.processors.into_iter().collect();
        self.processors.retain(|_, last| at - *last <= FORGOTTEN_NANOS);
        self.dead_letters.put(at, report.dead_letters);
        for (service, total) in report.sdk_lost {
            self.sdk_lost.entry(service).or_default().put(at, total);
        }
        self.queue_lag_seconds = report.queue_lag_seconds.into_iter().collect();
    }

    /// What a rule says of each of its subjects: a service's name, or nothing.
    pub(crate) fn judge(&self, rule: &RuleKind, now: i64) -> Vec<(String, Option<Finding>)> {
        match *rule {
            RuleKind::ProcessorSilence { silence_seconds } => {
                let silent = self
                    .processors
                    .iter()
                    .filter(|(_, last)| now - **last > i64::from(silence_seconds) * SECOND);
                let names: Vec<&str> = silent.map(|(name, _)| name.as_str()).collect();
                let found = (!names.is_empty()).then(|| {
                    let summary = format!("no heartbeat of {}", names.join(", "));
                    finding(
                        Severity::Critical,
                        "silent processors",
                        names.len() as f64,
                        summary,
                        now,
                    )
                });
                vec![(String::new(), found)]
            }
            RuleKind::DeadLetters { window_seconds, count } => {
                let grown = self.dead_letters.grown(now, window_seconds);
                let found = (grown > count).then(|| {
                    let summary =
                        format!("{grown} new dead letters: see `logweir dead-letters list`");
                    finding(Severity::Warning, "dead letters", grown as f64, summary, now)
                });
                vec![(String::new(), found)]
            }
            RuleKind::SdkLoss { window_seconds, count } => {
                let judge = |(service, counter): (&String, &Counter)| {
                    let grown = counter.grown(now, window_seconds);
                    let found = (grown > count).then(|| {
                        let summary = format!("{grown} logs were given up before they were sent");
                        finding(Severity::Warning, "logs lost", grown as f64, summary, now)
                    });
                    (service.clone(), found)
                };
                self.sdk_lost.iter().map(judge).collect()
            }
            RuleKind::QueueLag { lag_seconds } => {
                let worst = self.queue_lag_seconds.iter().max_by(|a, b| a.1.total_cmp(b.1));
                let found = worst.filter(|(_, lag)| **lag > f64::from(lag_seconds));
                let found = found.map(|(partition, lag)| {
                    let summary = format!("processing of {partition} is {} s behind", figure(*lag));
                    finding(Severity::Critical, "lag s", *lag, summary, now)
                });
                vec![(String::new(), found)]
            }
            _ => Vec::new(),
        }
    }
}

fn finding(severity: Severity, name: &str, now: f64, summary: String, at: i64) -> Finding {
    let measured =
        Measured { name: name.to_owned(), now, normal: Some(0.0), ..Measured::default() };
    Finding {
        sureness: Sureness::Certain,
        severity,
        summary,
        measured: vec![measured],
        started_unix_nano: at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_counts_and_only_growth_is_kept() {
        let mut counter = Counter::default();
        for (second, total) in [(0, 10), (2, 10), (4, 13), (6, 1), (8, 2)] {
            counter.put(second * SECOND, total);
        }
        assert_eq!(counter.grown(8 * SECOND, 60), 4, "three came, and after the clearing one");
        assert_eq!(counter.grown(8 * SECOND, 4), 1);
        assert_eq!(counter.growth.len(), 2);
        counter.put(8 * SECOND + 2 * KEPT_NANOS, 2);
        assert!(counter.growth.is_empty());
    }
}
