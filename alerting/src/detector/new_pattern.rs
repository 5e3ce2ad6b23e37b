//! Patterns that never occurred before.
//!
//! The worse its level, the fewer logs of a new pattern it takes. A service whose vocabulary still
//! grows, or whose messages do not fall into patterns, has new ones all the time; there, many more
//! logs are asked for.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use logweir_core::{record::Level, timestamp::Timestamp};
use logweir_incident::{incident::Measured, rule::Severity};

use super::{
    detection::{Confidence, Detection, format_number, format_percent},
    window::{BUCKET_WIDTH, Buckets},
};

/// How long a pattern counts as new.
pub const NEW_AGE_MAX: Duration = Duration::from_secs(900);
/// New patterns of a service that are looked at; of more its vocabulary says nothing.
const NEW_MAX: usize = 1_000;
/// How long a new pattern says that the next is no surprise.
const MEMORY: Duration = Duration::from_secs(86_400);
/// New patterns in that time that make the next one no surprise.
const GROWING_PATTERNS: usize = 3;
/// So many times the logs, and this share of all logs, are asked for then.
const GROWING_FACTOR: u64 = 10;
const GROWING_SHARE_MIN: f64 = 0.05;
/// History without which every pattern is new.
const HISTORY_MIN: Duration = Duration::from_secs(2 * 3_600);
/// The same for levels below the rule's, without any new pattern in between: a harmless log is
/// worth a word only where nothing ever changes.
const CALM_MIN: Duration = Duration::from_secs(12 * 3_600);
/// Logs of an error that was new in the past, from which on it counts as one.
const HITS_RECALLED: u32 = 3;
/// The least time between a pattern's first and newest log: one cause may log several times at
/// once.
const SPREAD_MIN: Duration = Duration::from_millis(500);

/// A pattern that is new, as counted so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPattern {
    /// The template's id, in hexadecimal.
    pub template_id: String,
    /// The pattern.
    pub pattern: String,
    /// Number of its highest level, 1 to 6.
    pub level: u8,
    /// Its first log.
    pub first_seen: Timestamp,
    /// Its newest log.
    pub last_seen: Timestamp,
    /// Logs since the first.
    pub count: u64,
}

/// The new patterns of a service.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewPatterns {
    patterns: BTreeMap<String, NewPattern>,
    /// When new patterns came up that had enough logs, ascending.
    came: VecDeque<Timestamp>,
    /// The templates that are in `came`.
    counted: HashSet<String>,
    /// Since when the service is known.
    first_seen: Option<Timestamp>,
}

impl NewPatterns {
    pub(crate) fn put(&mut self, pattern: NewPattern) {
        self.first_seen.get_or_insert(pattern.first_seen);
        // One that is known is renewed even then, or its count would stand still.
        if self.patterns.len() < NEW_MAX || self.patterns.contains_key(&pattern.template_id) {
            self.patterns.insert(pattern.template_id.clone(), pattern);
        }
    }

    /// Knows the service since this moment at least.
    pub(crate) fn known_since(&mut self, time: Timestamp) {
        let first = self.first_seen.get_or_insert(time);
        *first = time.min(*first);
    }

    /// Takes in a pattern that was new in the past, ascending by its first log: those that come now
    /// are the less of a surprise.
    pub(crate) fn recall(&mut self, pattern: &NewPattern) {
        let level = Level::from_number(pattern.level).unwrap_or_default();
        self.known_since(pattern.first_seen);
        // How many other logs there were is not known any more; its share is taken to be large
        // enough.
        if is_many(pattern, level, 1.0, HITS_RECALLED) {
            self.came.push_back(pattern.first_seen);
            self.counted.insert(pattern.template_id.clone());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    fn forget(&mut self, at: Timestamp) {
        self.patterns.retain(|_, pattern| at.since(pattern.first_seen) <= NEW_AGE_MAX);
        while self.came.front().is_some_and(|came| at.since(*came) > MEMORY) {
            self.came.pop_front();
        }
        // Bounded: at worst a pattern is counted twice.
        if self.counted.len() > NEW_MAX {
            self.counted.clear();
        }
    }

    /// The worst of the new patterns that have enough logs.
    pub(crate) fn detect(
        &mut self,
        buckets: &Buckets,
        at: Timestamp,
        level_min: Level,
        hits_min: u32,
    ) -> Option<Detection> {
        self.forget(at);
        let age = at.since(self.first_seen?);
        let newest = self.came.back().copied();
        let is_calm = age >= CALM_MIN && newest.is_none_or(|came| at.since(came) >= CALM_MIN);
        // Those of the last minutes may be of the same fault, and are no sign of a growing
        // vocabulary.
        let came_lately = self.came.iter().filter(|came| at.since(**came) > NEW_AGE_MAX).count();
        let is_growing = came_lately >= GROWING_PATTERNS;
        let mut worst: Option<(&NewPattern, f64)> = None;
        for pattern in self.patterns.values() {
            let level = Level::from_number(pattern.level).unwrap_or_default();
            let share = share_since(pattern, buckets);
            if !is_many(pattern, level, share, hits_min) {
                continue;
            }
            // In the first hours every pattern is new, and none says that the vocabulary grows.
            if age >= HISTORY_MIN && self.counted.insert(pattern.template_id.clone()) {
                self.came.push_back(at);
            }
            let is_surprise = !is_growing
                || pattern.count >= u64::from(hits_min) * GROWING_FACTOR
                    && share >= GROWING_SHARE_MIN;
            let is_known = if level < level_min { is_calm } else { age >= HISTORY_MIN };
            let is_worse = worst.is_none_or(|(other, _)| {
                (pattern.level, pattern.count) > (other.level, other.count)
            });
            if is_known && is_surprise && is_worse {
                worst = Some((pattern, share));
            }
        }
        worst.map(|(pattern, share)| detection(pattern, share))
    }
}

/// The pattern's share of all logs since its first.
fn share_since(pattern: &NewPattern, buckets: &Buckets) -> f64 {
    let since = pattern.first_seen.floor(BUCKET_WIDTH);
    // By whole buckets, the first one included: it is as if the pattern were a little rarer than it
    // is.
    let newer = buckets.newest_first().take_while(|bucket| bucket.start >= since);
    let logs: u64 = newer.map(|bucket| bucket.total).sum();
    pattern.count as f64 / logs.max(1) as f64
}

/// The least share of all logs that a new pattern must have, by its level: a service that logs a
/// lot may log anything once.
const FATAL_SHARE_MIN: f64 = 0.001;
const ERROR_SHARE_MIN: f64 = 0.003;
const WARN_SHARE_MIN: f64 = 0.02;
const HARMLESS_SHARE_MIN: f64 = 0.05;
/// So many times the logs of an error are asked for where the level is harmless.
const HARMLESS_FACTOR: u64 = 10;

/// Whether a new pattern has enough logs, and a large enough share of all, to count by its level: a
/// fatal error may be the only log of the day. Chosen with `logweir evaluate scenarios`.
fn is_many(pattern: &NewPattern, level: Level, share: f64, hits_min: u32) -> bool {
    let hits = u64::from(hits_min);
    let (needed, share_min) = match level {
        Level::Fatal => (hits.saturating_sub(1).max(1), FATAL_SHARE_MIN),
        Level::Error => (hits, ERROR_SHARE_MIN),
        Level::Warn => (hits + 1, WARN_SHARE_MIN),
        _ => (hits * HARMLESS_FACTOR, HARMLESS_SHARE_MIN),
    };
    let spread = pattern.last_seen.since(pattern.first_seen);
    pattern.count >= needed && share >= share_min && spread >= SPREAD_MIN
}

fn detection(pattern: &NewPattern, share: f64) -> Detection {
    let level = Level::from_number(pattern.level).unwrap_or_default();
    let severity = match level {
        Level::Fatal => Severity::Critical,
        Level::Error | Level::Warn => Severity::Warning,
        _ => Severity::Info,
    };
    Detection {
        confidence: Confidence::Certain,
        severity,
        summary: format!(
            "a pattern that never occurred before, {} times, {} of logs: {} {}",
            format_number(pattern.count as f64),
            format_percent(share),
            level.as_str(),
            pattern.pattern
        ),
        measured: vec![Measured {
            name: "logs of a new pattern".to_owned(),
            now: pattern.count as f64,
            normal: Some(0.0),
            threshold: None,
            support: pattern.count,
        }],
        started_at: pattern.first_seen,
    }
}
