//! Counts of what was found, missed and raised in error; and some anomalies to look at.

use std::collections::BTreeMap;

use logweir_core::{record::ScoredRecord, timestamp::Timestamp};
use serde::{Serialize, Serializer};

/// Counts by kind.
#[derive(Default)]
pub(super) struct Tally {
    logs: u64,
    anomalies: u64,
    false_alarms: u64,
    /// Logs on which judging failed.
    pub(super) failed: u64,
    /// Logs of each kind, and how many of them were found.
    kinds: BTreeMap<String, (u64, u64)>,
}

/// The counts of a whole evaluation, as `evaluate anomalies` prints them.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Logs judged.
    pub logs: u64,
    /// Logs called anomalies.
    pub anomalies: u64,
    /// Logs on which judging failed.
    pub failed: u64,
    /// How long it took.
    pub seconds: f64,
    /// The result where the truth is known.
    #[serde(flatten)]
    pub truth: Option<Found>,
}

/// The result where the truth is known, log by log.
#[derive(Debug, Serialize)]
pub struct Found {
    /// Share of the anomalies raised that are real.
    pub precision: f64,
    /// Share of the real anomalies that were raised.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
    /// Anomalies raised that are not real, of a thousand logs.
    pub false_alarms_per_1000: f64,
    /// How many of each kind of anomaly were found, by the kind's name.
    pub kinds: Vec<FoundKind>,
}

/// How many of one kind of anomaly were found. A false alarm has no kind.
#[derive(Debug, Serialize)]
pub struct FoundKind {
    /// Its name.
    pub kind: String,
    /// Logs of this kind.
    pub logs: u64,
    /// Those of them that were found.
    pub found: u64,
    /// The share that was found, from 0 to 1.
    pub recall: f64,
}

impl Tally {
    /// Counts a log.
    pub(super) fn add(&mut self, kind: Option<&str>, is_anomaly: bool) {
        self.logs += 1;
        self.anomalies += u64::from(is_anomaly);
        let Some(kind) = kind else {
            self.false_alarms += u64::from(is_anomaly);
            return;
        };
        // `entry` alone would copy the kind's name for each of millions of logs.
        let (logs, found) = match self.kinds.get_mut(kind) {
            Some(counts) => (&mut counts.0, &mut counts.1),
            None => {
                let counts = self.kinds.entry(kind.to_owned()).or_default();
                (&mut counts.0, &mut counts.1)
            }
        };
        *logs += 1;
        *found += u64::from(is_anomaly);
    }

    /// What was counted so far; what was found only where the truth is known.
    pub(super) fn summary(&self, is_truth_known: bool, seconds: f64) -> Summary {
        let Self { logs, anomalies, failed, .. } = *self;
        let truth = is_truth_known.then(|| self.found());
        Summary { logs, anomalies, failed, seconds, truth }
    }

    fn found(&self) -> Found {
        let kinds: Vec<FoundKind> = self
            .kinds
            .iter()
            .map(|(kind, &(logs, found))| FoundKind {
                kind: kind.clone(),
                logs,
                found,
                recall: share(found, logs),
            })
            .collect();
        let real: u64 = kinds.iter().map(|kind| kind.logs).sum();
        let found: u64 = kinds.iter().map(|kind| kind.found).sum();
        Found {
            precision: share(found, found + self.false_alarms),
            recall: share(found, real),
            // By counts, as 2PR/(P+R) divides by zero where nothing was found.
            f1: share(2 * found, found + self.false_alarms + real),
            false_alarms_per_1000: 1_000.0 * self.false_alarms as f64 / self.logs.max(1) as f64,
            kinds,
        }
    }
}

/// The share that a part has of a whole, from 0 to 1. It is 1 where the whole is 0: with no anomaly
/// nothing was missed, and with none raised nothing was raised in error.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// An anomaly as a person sees it.
#[derive(Debug, Serialize)]
pub struct Example {
    /// Its event time, written as RFC 3339.
    #[serde(serialize_with = "as_rfc3339")]
    pub time: Timestamp,
    /// Its service.
    pub service: String,
    /// Its level.
    pub level: &'static str,
    /// Its message.
    pub message: String,
    /// From 0 to 1.
    pub anomaly_score: f32,
    /// Why it is an anomaly.
    pub anomaly_reasons: Vec<String>,
    /// What it is in truth; none if it is none, or if the truth is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

impl Example {
    pub(super) fn new(service: &str, scored: &ScoredRecord, kind: Option<&str>) -> Self {
        Self {
            time: scored.record.time,
            service: service.to_owned(),
            level: scored.level.as_str(),
            message: scored.record.message.clone(),
            anomaly_score: scored.anomaly_score,
            anomaly_reasons: scored.anomaly_reasons.clone(),
            kind: kind.map(str::to_owned),
        }
    }
}

fn as_rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339())
}

/// Examples from a stream of unknown length, evenly chosen: when there are twice as many as asked
/// for, every other one goes.
pub(super) struct Examples {
    wanted: usize,
    step: u64,
    offered: u64,
    kept: Vec<Example>,
}

impl Examples {
    pub(super) fn new(wanted: usize) -> Self {
        Self { wanted, step: 1, offered: 0, kept: Vec::new() }
    }

    /// Offers an anomaly.
    pub(super) fn offer(&mut self, example: impl FnOnce() -> Example) {
        // Made only where it is kept: an example copies the log's message.
        if self.wanted > 0 && self.offered.is_multiple_of(self.step) {
            self.kept.push(example());
            if self.kept.len() > 2 * self.wanted {
                let mut number = 0;
                self.kept.retain(|_| {
                    number += 1;
                    number % 2 == 1
                });
                self.step *= 2;
            }
        }
        self.offered += 1;
    }

    /// As many as asked for, if there were as many.
    pub(super) fn into_chosen(self) -> Vec<Example> {
        let (kept, wanted) = (self.kept.len(), self.wanted.min(self.kept.len()));
        let is_chosen = |at: &usize| (0..wanted).any(|number| number * kept / wanted == *at);
        let numbered = self.kept.into_iter().enumerate();
        numbered.filter(|(at, _)| is_chosen(at)).map(|(_, example)| example).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_measured_against_all_that_is_real_and_all_that_was_raised() {
        let mut tally = Tally::default();
        for (kind, is_anomaly) in
            [(Some("a"), true), (Some("a"), false), (Some("b"), true), (None, true), (None, false)]
        {
            tally.add(kind, is_anomaly);
        }
        let found = tally.summary(true, 1.0).truth.unwrap();
        assert_eq!((found.precision, found.recall, found.f1), (2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0));
        assert_eq!(found.false_alarms_per_1000, 200.0);
        assert_eq!((found.kinds[0].recall, found.kinds[1].recall), (0.5, 1.0));
        assert!(tally.summary(false, 1.0).truth.is_none());
    }

    #[test]
    fn examples_are_as_many_as_asked_for_and_from_all_over() {
        let mut examples = Examples::new(5);
        for number in 0..1_000 {
            let scored = ScoredRecord {
                record: logweir_core::record::Record::default(),
                level: logweir_core::record::Level::Info,
                template_id: logweir_core::identity::TemplateId(number),
                anomaly_score: number as f32,
                is_anomaly: true,
                anomaly_reasons: Vec::new(),
            };
            examples.offer(|| Example::new("a", &scored, None));
        }
        let scores: Vec<f32> =
            examples.into_chosen().into_iter().map(|example| example.anomaly_score).collect();
        assert_eq!(scores.len(), 5);
        assert!(scores.is_sorted() && scores[4] > 700.0, "{scores:?}");
    }
}
