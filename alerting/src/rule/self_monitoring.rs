//! How the installation itself does: processors, dead letters, logs lost before they were sent,
//! lag, and services whose clocks are off.

use std::collections::{BTreeMap, VecDeque};

use logweir_incident::{
    incident::Measured,
    render::text::span,
    rule::{RuleKind, Severity},
};

use crate::detector::detection::{Confidence, Detection, format_number};

const SECOND: i64 = 1_000_000_000;
/// How far back counters are kept.
const KEPT_NANOS: i64 = 3_600 * SECOND;
/// A processor that is gone for so long was taken away on purpose.
const FORGOTTEN_NANOS: i64 = 24 * 3_600 * SECOND;

/// What is known about the system at a moment. A total that sinks (a dead letter was replayed, a
/// sender is forgotten) says nothing.
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
    /// The services whose logs are known through a moment.
    pub clocks: Vec<ServiceClock>,
}

/// What a service's newest log says of its clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceClock {
    /// The service.
    pub service: String,
    /// The time of its newest log, as the service says.
    pub newest_unix_nano: i64,
    /// Through when its logs are known.
    pub known_unix_nano: i64,
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
        // The first total says nothing of when it grew: a new leader must not tell old losses as
        // new.
        let grown = total.saturating_sub(self.total.replace(total).unwrap_or(total));
        if grown > 0 {
            self.growth.push_back((at, grown));
        }
    }

    fn grown(&self, now: i64, window_seconds: u32) -> u64 {
        // Counted from when it was seen to grow: when a log was lost only its sender knows.
        let from = now - i64::from(window_seconds) * SECOND;
        let recent = self.growth.iter().rev().take_while(|(at, _)| *at > from);
        recent.fold(0, |sum, (_, grown)| sum.saturating_add(*grown))
    }
}

/// How far back the newest logs of a service tell of its clock.
const CLOCK_NANOS: i64 = 600 * SECOND;
/// Newest logs that must agree before a clock is called off, and the time they must be spread over:
/// a file of old logs comes within seconds.
const CLOCK_LOGS_MIN: usize = 5;
const CLOCK_SPREAD_NANOS: i64 = 60 * SECOND;
/// How far they may be apart: those of a sender that catches up come nearer and nearer.
const CLOCK_AGREE_NANOS: i64 = 30 * SECOND;
/// Between two logs that are kept: few, as there may be ten thousand services.
const CLOCK_STEP_NANOS: i64 = 10 * SECOND;

/// How far the times of a service's newest logs were from when they became known.
#[derive(Debug, Clone, Default)]
struct Clock {
    newest_unix_nano: Option<i64>,
    /// When it was seen, and by how much the log's time was behind; negative if it was ahead.
    behind: VecDeque<(i64, i64)>,
}

impl Clock {
    fn put(&mut self, at: i64, seen: &ServiceClock) {
        while self.behind.front().is_some_and(|(first, _)| at - first > CLOCK_NANOS) {
            self.behind.pop_front();
        }
        // The first says nothing of when it came.
        let newest = self.newest_unix_nano.replace(seen.newest_unix_nano);
        let is_new = newest.is_some_and(|newest| newest < seen.newest_unix_nano);
        let is_due = self.behind.back().is_none_or(|(last, _)| at - last >= CLOCK_STEP_NANOS);
        if is_new && is_due {
            self.behind.push_back((at, seen.known_unix_nano - seen.newest_unix_nano));
        }
    }

    /// By how much the service's logs are behind when they come, or ahead; none where they do not
    /// agree.
    fn behind_nanos(&self) -> Option<i64> {
        let ((first, _), (last, newest)) = (self.behind.front()?, self.behind.back()?);
        let all = || self.behind.iter().map(|(_, behind)| *behind);
        let apart = all().max()? - all().min()?;
        let agrees = self.behind.len() >= CLOCK_LOGS_MIN
            && last - first >= CLOCK_SPREAD_NANOS
            && apart <= CLOCK_AGREE_NANOS;
        agrees.then_some(*newest)
    }
}

/// What is known about the system.
#[derive(Debug, Clone, Default)]
pub(crate) struct SelfMonitoring {
    processors: BTreeMap<String, i64>,
    dead_letters: Counter,
    sdk_lost: BTreeMap<String, Counter>,
    queue_lag_seconds: BTreeMap<String, f64>,
    clocks: BTreeMap<String, Clock>,
}

impl SelfMonitoring {
    pub(crate) fn put(&mut self, report: SystemReport) {
        let at = report.at_unix_nano;
        self.processors = report.processors.into_iter().collect();
        // Who is long gone is silent for good, which nobody need be told each day anew.
        self.processors.retain(|_, last| at - *last <= FORGOTTEN_NANOS);
        self.dead_letters.put(at, report.dead_letters);
        for (service, total) in report.sdk_lost {
            self.sdk_lost.entry(service).or_default().put(at, total);
        }
        // As it is now: a partition that nobody reads any longer must not be behind for ever.
        self.queue_lag_seconds = report.queue_lag_seconds.into_iter().collect();
        for seen in report.clocks {
            self.clocks.entry(seen.service.clone()).or_default().put(at, &seen);
        }
    }

    /// What a rule finds about each of its subjects: a service's name, or nothing for the
    /// installation as a whole. A subject with nothing found is named, so that its incident ends.
    pub(crate) fn detect(&self, rule: &RuleKind, now: i64) -> Vec<(String, Option<Detection>)> {
        let whole = |found| vec![(String::new(), found)];
        match *rule {
            RuleKind::ProcessorSilence { silence_seconds } => {
                whole(self.silent_processors(silence_seconds, now))
            }
            RuleKind::DeadLetters { window_seconds, count } => {
                whole(self.new_dead_letters(window_seconds, count, now))
            }
            // By service: the one whose sender loses logs is whom it concerns.
            RuleKind::SdkLoss { window_seconds, count } => {
                let lost = |(service, counter): (&String, &Counter)| {
                    (service.clone(), logs_lost(counter, window_seconds, count, now))
                };
                self.sdk_lost.iter().map(lost).collect()
            }
            RuleKind::QueueLag { lag_seconds } => whole(self.worst_lag(lag_seconds, now)),
            RuleKind::ClockOff { off_seconds } => {
                let off = |(service, clock): (&String, &Clock)| {
                    (service.clone(), clock_off(clock, off_seconds, now))
                };
                self.clocks.iter().map(off).collect()
            }
            _ => Vec::new(),
        }
    }

    fn silent_processors(&self, silence_seconds: u32, now: i64) -> Option<Detection> {
        let is_silent = |last: i64| now - last > i64::from(silence_seconds) * SECOND;
        let silent = self.processors.iter().filter(|(_, last)| is_silent(**last));
        let names: Vec<&str> = silent.map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        let summary = format!("no heartbeat of {}", names.join(", "));
        let count = names.len() as f64;
        Some(detection(Severity::Critical, "silent processors", count, summary, now))
    }

    fn new_dead_letters(&self, window_seconds: u32, count: u64, now: i64) -> Option<Detection> {
        let grown = self.dead_letters.grown(now, window_seconds);
        (grown > count).then(|| {
            let summary = format!("{grown} new dead letters: see `logweir dead-letters list`");
            detection(Severity::Warning, "dead letters", grown as f64, summary, now)
        })
    }

    fn worst_lag(&self, lag_seconds: u32, now: i64) -> Option<Detection> {
        // One incident for all partitions: mostly it is one processor that is slow.
        let worst = self.queue_lag_seconds.iter().max_by(|a, b| a.1.total_cmp(b.1));
        let (partition, lag) = worst.filter(|(_, lag)| **lag > f64::from(lag_seconds))?;
        let summary = format!("processing of {partition} is {} s behind", format_number(*lag));
        Some(detection(Severity::Critical, "lag s", *lag, summary, now))
    }
}

fn logs_lost(counter: &Counter, window_seconds: u32, count: u64, now: i64) -> Option<Detection> {
    let grown = counter.grown(now, window_seconds);
    (grown > count).then(|| {
        let summary = format!("{grown} logs were given up before they were sent");
        detection(Severity::Warning, "logs lost", grown as f64, summary, now)
    })
}

fn clock_off(clock: &Clock, off_seconds: u32, now: i64) -> Option<Detection> {
    let behind = clock.behind_nanos()?;
    (behind.abs() >= i64::from(off_seconds) * SECOND).then(|| {
        let off = span(behind.abs());
        let summary = if behind > 0 {
            format!(
                "logs come {off} after their own time: set the sender's clock or time zone, or \
                 find what holds them back; rules see them late, beyond 15 min hardly"
            )
        } else {
            format!(
                "logs are {off} ahead of the time at which they come: set the sender's clock or \
                 time zone; rules see them only then"
            )
        };
        detection(Severity::Warning, "clock off s", (behind.abs() / SECOND) as f64, summary, now)
    })
}

fn detection(severity: Severity, name: &str, now: f64, summary: String, at: i64) -> Detection {
    let measured =
        Measured { name: name.to_owned(), now, normal: Some(0.0), ..Measured::default() };
    Detection {
        confidence: Confidence::Certain,
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

    /// Looks every ten seconds at a service whose newest log is so many seconds behind each time;
    /// what is said of its clock in the end.
    fn said_of_clock(behind_seconds: impl Iterator<Item = i64>) -> Option<String> {
        let mut system = SelfMonitoring::default();
        let mut now = 1_000_000 * SECOND;
        for behind in behind_seconds {
            now += 10 * SECOND;
            let clock = ServiceClock {
                service: "shop".to_owned(),
                newest_unix_nano: now - behind * SECOND,
                known_unix_nano: now,
            };
            let report = SystemReport { at_unix_nano: now, ..SystemReport::default() };
            system.put(SystemReport { clocks: vec![clock], ..report });
        }
        let (service, found) =
            system.detect(&RuleKind::ClockOff { off_seconds: 60 }, now).remove(0);
        assert_eq!(service, "shop");
        found.map(|found| found.summary)
    }

    #[test]
    fn a_clock_is_off_if_all_logs_say_so_for_a_while() {
        let steady = |behind: i64| std::iter::repeat_n(behind, 20);
        let said = said_of_clock((0..20).map(|n| 240 + n % 3)).expect("it is behind");
        assert!(said.contains("logs come 4 min"), "{said}");
        let said = said_of_clock(steady(-3_600)).expect("it is ahead");
        assert!(said.contains("1 h") && said.contains("ahead"), "{said}");
        for (behind, why) in [
            (steady(20).collect::<Vec<_>>(), "it is little"),
            (vec![300; 5], "too few logs, of too short a time"),
            ((0..20).map(|n| 600 - 8 * n).collect(), "a sender that catches up"),
            ((0..20).map(|n| 100 + 10 * n).collect(), "nothing new comes"),
        ] {
            assert_eq!(said_of_clock(behind.into_iter()), None, "{why}");
        }
    }
}
