//! How the installation itself does: processors, dead letters, logs lost before they were sent,
//! lag, and services whose clocks are off.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    incident::Measured,
    render::text::span,
    rule::{RuleKind, Severity},
};

use crate::detector::detection::{Confidence, Detection, format_number};

/// How far back counters are kept.
const KEPT: Duration = Duration::from_secs(3_600);
/// A processor that is gone for so long was taken away on purpose.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// What is known about the system at a moment. A total that sinks (a dead letter was replayed, a
/// sender is forgotten) says nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SystemReport {
    /// When.
    pub at: Timestamp,
    /// Processors by name, with their last heartbeat. One that said good-bye is left out.
    pub processors: Vec<(String, Timestamp)>,
    /// Dead letters so far, those that were deleted as too many or too old included.
    pub dead_letters: u64,
    /// What the tenant takes of the disk, of what it may take before its oldest logs are deleted;
    /// none where size is not limited.
    pub disk_share_percent: Option<f64>,
    /// Logs given up by senders so far, by service.
    pub sdk_lost: Vec<(String, u64)>,
    /// How long the filter of a rule waits for its turn, of the one that waits longest.
    pub rules_late_seconds: f64,
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
    pub newest: Timestamp,
    /// Through when its logs are known.
    pub known_through: Timestamp,
}

/// By how much a total has grown, and when.
#[derive(Debug, Clone, Default)]
struct Counter {
    total: Option<u64>,
    growth: VecDeque<(Timestamp, u64)>,
}

impl Counter {
    fn put(&mut self, at: Timestamp, total: u64) {
        while self.growth.front().is_some_and(|(first, _)| at.since(*first) > KEPT) {
            self.growth.pop_front();
        }
        // The first total says nothing of when it grew: a new leader must not tell old losses as
        // new.
        let grown = total.saturating_sub(self.total.replace(total).unwrap_or(total));
        if grown > 0 {
            self.growth.push_back((at, grown));
        }
    }

    fn grown(&self, now: Timestamp, window_seconds: u32) -> u64 {
        // Counted from when it was seen to grow: when a log was lost only its sender knows.
        let from = now - Duration::from_secs(window_seconds.into());
        let recent = self.growth.iter().rev().take_while(|(at, _)| *at > from);
        recent.fold(0, |sum, (_, grown)| sum.saturating_add(*grown))
    }
}

/// Between two looks at the disk that are kept.
const DISK_STEP: Duration = Duration::from_secs(60);

/// What a tenant took of its share of the disk, in per cent, now and as long as counters are kept.
#[derive(Debug, Clone, Default)]
struct DiskShare {
    now: Option<f64>,
    before: VecDeque<(Timestamp, f64)>,
}

impl DiskShare {
    fn put(&mut self, at: Timestamp, percent: Option<f64>) {
        while self.before.front().is_some_and(|(first, _)| at.since(*first) > KEPT) {
            self.before.pop_front();
        }
        let is_due = self.before.back().is_none_or(|(last, _)| at.since(*last) >= DISK_STEP);
        if let Some(percent) = percent.filter(|_| is_due) {
            self.before.push_back((at, percent));
        }
        self.now = percent;
    }

    /// What it is, if it was below so many per cent and is no more.
    fn grown_past(&self, percent: f64) -> Option<f64> {
        // Who keeps logs by size is at its share for good, and need not be told again and again.
        let was_below = self.before.iter().any(|(_, before)| *before < percent);
        self.now.filter(|now| *now >= percent && was_below)
    }
}

/// How far back the newest logs of a service tell of its clock.
const CLOCK_KEPT: Duration = Duration::from_secs(600);
/// Newest logs that must agree before a clock is called off, and the time they must be spread over:
/// a file of old logs comes within seconds.
const CLOCK_LOGS_MIN: usize = 5;
const CLOCK_SPREAD: Duration = Duration::from_secs(60);
/// How far they may be apart: those of a sender that catches up come nearer and nearer.
const CLOCK_AGREE: Duration = Duration::from_secs(30);
/// Between two logs that are kept: few, as there may be ten thousand services.
const CLOCK_STEP: Duration = Duration::from_secs(10);

/// How far the times of a service's newest logs were from when they became known.
#[derive(Debug, Clone, Default)]
struct Clock {
    newest: Option<Timestamp>,
    /// When it was seen, and by how many nanoseconds the log's time was behind; negative if it was
    /// ahead.
    behind: VecDeque<(Timestamp, i64)>,
}

impl Clock {
    fn put(&mut self, at: Timestamp, seen: &ServiceClock) {
        while self.behind.front().is_some_and(|(first, _)| at.since(*first) > CLOCK_KEPT) {
            self.behind.pop_front();
        }
        // The first says nothing of when it came.
        let newest = self.newest.replace(seen.newest);
        let is_new = newest.is_some_and(|newest| newest < seen.newest);
        let is_due = self.behind.back().is_none_or(|(last, _)| at.since(*last) >= CLOCK_STEP);
        if is_new && is_due {
            self.behind.push_back((at, seen.known_through.nanos_since(seen.newest)));
        }
    }

    /// By how much the service's logs are behind when they come, or ahead; none where they do not
    /// agree.
    fn behind_nanos(&self) -> Option<i64> {
        let ((first, _), (last, newest)) = (self.behind.front()?, self.behind.back()?);
        let all = || self.behind.iter().map(|(_, behind)| *behind);
        let apart = Duration::from_nanos(all().max()?.abs_diff(all().min()?));
        let agrees = self.behind.len() >= CLOCK_LOGS_MIN
            && last.since(*first) >= CLOCK_SPREAD
            && apart <= CLOCK_AGREE;
        agrees.then_some(*newest)
    }
}

/// What is known about the system.
#[derive(Debug, Clone, Default)]
pub(crate) struct SelfMonitoring {
    processors: BTreeMap<String, Timestamp>,
    dead_letters: Counter,
    sdk_lost: BTreeMap<String, Counter>,
    queue_lag_seconds: BTreeMap<String, f64>,
    disk_share: DiskShare,
    rules_late_seconds: f64,
    clocks: BTreeMap<String, Clock>,
}

impl SelfMonitoring {
    pub(crate) fn put(&mut self, report: SystemReport) {
        let at = report.at;
        self.processors = report.processors.into_iter().collect();
        // Who is long gone is silent for good, which nobody need be told each day anew.
        self.processors.retain(|_, last| at.since(*last) <= FORGOTTEN_AFTER);
        self.dead_letters.put(at, report.dead_letters);
        self.disk_share.put(at, report.disk_share_percent);
        self.rules_late_seconds = report.rules_late_seconds;
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
    pub(crate) fn detect(
        &self,
        rule: &RuleKind,
        now: Timestamp,
    ) -> Vec<(String, Option<Detection>)> {
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
            RuleKind::DiskShare { percent } => whole(self.full_disk(percent, now)),
            RuleKind::RulesLate { late_seconds } => whole(self.late_rules(late_seconds, now)),
            RuleKind::ClockOff { off_seconds } => {
                let off = |(service, clock): (&String, &Clock)| {
                    (service.clone(), clock_off(clock, off_seconds, now))
                };
                self.clocks.iter().map(off).collect()
            }
            _ => Vec::new(),
        }
    }

    fn silent_processors(&self, silence_seconds: u32, now: Timestamp) -> Option<Detection> {
        let silence = Duration::from_secs(silence_seconds.into());
        let is_silent = |last: Timestamp| now.since(last) > silence;
        let silent = self.processors.iter().filter(|(_, last)| is_silent(**last));
        let names: Vec<&str> = silent.map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        let summary = format!("no heartbeat of {}", names.join(", "));
        let count = names.len() as f64;
        Some(detection(Severity::Critical, "silent processors", count, summary, now))
    }

    fn new_dead_letters(
        &self,
        window_seconds: u32,
        count: u64,
        now: Timestamp,
    ) -> Option<Detection> {
        let grown = self.dead_letters.grown(now, window_seconds);
        (grown > count).then(|| {
            let summary = format!("{grown} new dead letters: see `logweir dead-letters list`");
            detection(Severity::Warning, "dead letters", grown as f64, summary, now)
        })
    }

    fn full_disk(&self, percent: u32, now: Timestamp) -> Option<Detection> {
        let taken = self.disk_share.grown_past(percent.into())?;
        let summary = format!(
            "logs and dead letters take {taken:.0} % of their share of the disk; at 100 % the oldest \
             are deleted: raise retention.disk_bytes_max, or log less"
        );
        Some(detection(Severity::Warning, "share of the disk %", taken, summary, now))
    }

    fn late_rules(&self, late_seconds: u32, now: Timestamp) -> Option<Detection> {
        let late = self.rules_late_seconds;
        (late > f64::from(late_seconds)).then(|| {
            let summary = format!(
                "rules that count what matches a filter are evaluated {} s late: there are too many, \
                 or their filters take long",
                format_number(late)
            );
            detection(Severity::Warning, "late s", late, summary, now)
        })
    }

    fn worst_lag(&self, lag_seconds: u32, now: Timestamp) -> Option<Detection> {
        // One incident for all partitions: mostly it is one processor that is slow.
        let worst = self.queue_lag_seconds.iter().max_by(|a, b| a.1.total_cmp(b.1));
        let (partition, lag) = worst.filter(|(_, lag)| **lag > f64::from(lag_seconds))?;
        let summary = format!("processing of {partition} is {} s behind", format_number(*lag));
        Some(detection(Severity::Critical, "lag s", *lag, summary, now))
    }
}

fn logs_lost(
    counter: &Counter,
    window_seconds: u32,
    count: u64,
    now: Timestamp,
) -> Option<Detection> {
    let grown = counter.grown(now, window_seconds);
    (grown > count).then(|| {
        let summary = format!("{grown} logs were given up before they were sent");
        detection(Severity::Warning, "logs lost", grown as f64, summary, now)
    })
}

fn clock_off(clock: &Clock, off_seconds: u32, now: Timestamp) -> Option<Detection> {
    let behind = clock.behind_nanos()?;
    let off = Duration::from_nanos(behind.unsigned_abs());
    (off >= Duration::from_secs(off_seconds.into())).then(|| {
        let shown = span(off);
        let summary = if behind > 0 {
            format!(
                "logs come {shown} after their own time: set the sender's clock or time zone, or \
                 find what holds them back; rules see them late, beyond 15 min hardly"
            )
        } else {
            format!(
                "logs are {shown} ahead of the time at which they come: set the sender's clock or \
                 time zone; rules see them only then"
            )
        };
        detection(Severity::Warning, "clock off s", off.as_secs_f64(), summary, now)
    })
}

fn detection(
    severity: Severity,
    name: &str,
    now: f64,
    summary: String,
    at: Timestamp,
) -> Detection {
    let measured =
        Measured { name: name.to_owned(), now, normal: Some(0.0), ..Measured::default() };
    Detection {
        confidence: Confidence::Certain,
        severity,
        summary,
        measured: vec![measured],
        started_at: at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_counts_and_only_growth_is_kept() {
        let at = Timestamp::from_unix_seconds;
        let mut counter = Counter::default();
        for (second, total) in [(0, 10), (2, 10), (4, 13), (6, 1), (8, 2)] {
            counter.put(at(second), total);
        }
        assert_eq!(counter.grown(at(8), 60), 4, "three came, and after the clearing one");
        assert_eq!(counter.grown(at(8), 4), 1);
        assert_eq!(counter.growth.len(), 2);
        counter.put(at(8) + 2 * KEPT, 2);
        assert!(counter.growth.is_empty());
    }

    #[test]
    fn a_disk_is_told_of_when_it_fills_and_not_for_being_full() {
        let mut system = SelfMonitoring::default();
        let mut told = Vec::new();
        for (minute, percent) in [95.0, 96.0, 80.0, 91.0, 99.0].into_iter().enumerate() {
            let at = Timestamp::from_unix_seconds(1_000_000 + minute as i64 * 60);
            let disk_share_percent = Some(percent);
            system.put(SystemReport { at, disk_share_percent, ..SystemReport::default() });
            let found = system.detect(&RuleKind::DiskShare { percent: 90 }, at).remove(0).1;
            told.push(found.map(|found| found.measured[0].now));
        }
        assert_eq!(told, [None, None, None, Some(91.0), Some(99.0)]);
        let later = Timestamp::from_unix_seconds(1_000_000) + 2 * KEPT;
        let disk_share_percent = Some(99.0);
        system.put(SystemReport { at: later, disk_share_percent, ..SystemReport::default() });
        let found = system.detect(&RuleKind::DiskShare { percent: 90 }, later).remove(0).1;
        assert_eq!(found, None, "it is what keeping by size looks like");
    }

    /// Looks every ten seconds at a service whose newest log is so many seconds behind each time;
    /// what is said of its clock in the end.
    fn said_of_clock(behind_seconds: impl Iterator<Item = i64>) -> Option<String> {
        let mut system = SelfMonitoring::default();
        let mut second = 1_000_000;
        for behind in behind_seconds {
            second += 10;
            let clock = ServiceClock {
                service: "shop".to_owned(),
                newest: Timestamp::from_unix_seconds(second - behind),
                known_through: Timestamp::from_unix_seconds(second),
            };
            let at = Timestamp::from_unix_seconds(second);
            let report = SystemReport { at, ..SystemReport::default() };
            system.put(SystemReport { clocks: vec![clock], ..report });
        }
        let now = Timestamp::from_unix_seconds(second);
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
