//! Replays given logs through the rules on a simulated clock, to measure the rules by scenarios
//! with a known truth.
//!
//! Logs count as they do from storage, in buckets of ten seconds with the open one included, and
//! are known two seconds after their time.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use logweir_core::{record::Level, timestamp::Timestamp};
use logweir_incident::{
    incident::{EVIDENCE_MAX, Evidence, Incident, SampleLog},
    notification::Notification,
};

use crate::{
    detector::{
        new_pattern::{NEW_AGE_MAX, NewPattern},
        window::{BUCKET_WIDTH, BUCKETS_MAX, Bucket},
    },
    incident::evidence::{LatencyChange, PatternCount, Symptom, probable_causes},
    notify::{pipeline::due, policy::NotificationPolicy},
    rule::{
        engine::{EVALUATE_EVERY, Engine, EvidenceRequest, LATENESS},
        observations::Observations,
    },
};

const SECOND: Duration = Duration::from_secs(1);
/// Buckets of a pattern that are kept to tell now from before: as many as of a service.
const PATTERN_BUCKETS_MAX: usize = BUCKETS_MAX;
/// Logs of a pattern that are kept as samples.
const SAMPLES: usize = 3;
/// Bytes of a sample's message, as in the evidence from storage.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// A log that was matched to its pattern and scored.
#[derive(Debug, Clone)]
pub struct ReplayedLog<'a> {
    /// Event time.
    pub time: Timestamp,
    /// The service that logged it.
    pub service: &'a str,
    /// How serious it is.
    pub level: Level,
    /// The message as logged.
    pub message: &'a str,
    /// Latency in milliseconds; none without.
    pub latency_ms: Option<f64>,
    /// The latency's bucket as storage counts it.
    pub latency_bucket: Option<i32>,
    /// The pattern's id.
    pub template_id: u64,
    /// The pattern.
    pub pattern: &'a str,
    /// Whether detection calls it an anomaly.
    pub is_anomaly: bool,
    /// The trace's id in hexadecimal; empty without.
    pub trace_id: &'a str,
    /// Who logged it; empty if not known.
    pub instance: &'a str,
}

/// Replays logs, which must come by ascending time.
pub struct Replay {
    engine: Engine,
    services: HashMap<String, ServiceReplay>,
    changed: HashSet<String>,
    /// The moment of the next evaluation; none before the first log.
    next: Option<Timestamp>,
    notifications: Vec<Notification>,
    /// Every incident that has fired, as last known.
    fired: BTreeMap<String, Incident>,
}

#[derive(Default)]
struct ServiceReplay {
    open: Bucket,
    done: Option<Bucket>,
    first_seen: Timestamp,
    patterns: HashMap<u64, Pattern>,
    fresh: HashSet<u64>,
}

#[derive(Default)]
struct Pattern {
    text: String,
    level: u8,
    count: u64,
    first_seen: Timestamp,
    last_seen: Timestamp,
    latency_sum_ms: f64,
    latency_count: u64,
    recent: VecDeque<PatternBucket>,
    samples: VecDeque<SampleLog>,
}

#[derive(Default, Clone, Copy)]
struct PatternBucket {
    start: Timestamp,
    count: u64,
    latency_sum_ms: f64,
    latency_count: u64,
}

impl Replay {
    /// A replay through this engine, whose rules and incidents it takes on.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            services: HashMap::new(),
            changed: HashSet::new(),
            next: None,
            notifications: Vec::new(),
            fired: BTreeMap::new(),
        }
    }

    /// Replays a log, and all evaluations that come before it.
    pub fn log(&mut self, log: &ReplayedLog<'_>) {
        self.pass(log.time);
        // Looked up first: a name would be allocated for each log otherwise.
        let service = match self.services.get_mut(log.service) {
            Some(service) => service,
            None => self.services.entry(log.service.to_owned()).or_default(),
        };
        service.add(log);
        if !self.changed.contains(log.service) {
            self.changed.insert(log.service.to_owned());
        }
    }

    /// Evaluates as often as is due until the logs before a moment are known.
    pub fn pass(&mut self, known: Timestamp) {
        // As the leader does: at whole steps of the clock, and late enough that the logs are known.
        let first = known.floor(EVALUATE_EVERY) + EVALUATE_EVERY;
        let mut next = *self.next.get_or_insert(first + LATENESS);
        while next - LATENESS <= known {
            self.evaluate(next);
            next += EVALUATE_EVERY;
        }
        self.next = Some(next);
    }

    fn evaluate(&mut self, now: Timestamp) {
        let mut seen = Observations::default();
        for name in self.changed.drain() {
            let Some(service) = self.services.get_mut(&name) else { continue };
            let buckets = service.done.take().into_iter().chain([service.open.clone()]);
            seen.buckets.extend(buckets.map(|bucket| (name.clone(), bucket)));
            let new = service.new_patterns(now).into_iter();
            seen.new_patterns.extend(new.map(|pattern| (name.clone(), pattern)));
        }
        let services = &self.services;
        self.engine.evaluate(now, seen, |request| {
            let service = services.get(&request.service)?;
            Some(evidence(service, request))
        });
        // Told before it is copied, so that the copy has the timeline to the end.
        let incidents = self.engine.incidents_mut();
        self.notifications.extend(due(incidents, &NotificationPolicy::default(), now));
        for id in incidents.take_changed() {
            if let Some(incident) = incidents.get(&id) {
                self.fired.insert(id, incident.clone());
            }
        }
    }

    /// Every incident that fired, by when it did, and all that was told.
    pub fn finish(self) -> (Vec<Incident>, Vec<Notification>) {
        let mut incidents: Vec<_> = self.fired.into_values().collect();
        // What was pending only is told to nobody, and counts for nothing.
        incidents.retain(|incident| incident.firing_at.is_some());
        incidents.sort_by_key(|incident| (incident.firing_at, incident.id.clone()));
        (incidents, self.notifications)
    }
}

/// What was found out, as it would be from storage.
fn evidence(service: &ServiceReplay, request: &EvidenceRequest) -> Evidence {
    let symptom = Symptom::of(&request.kind);
    let patterns = service.counts(request.from, request.to);
    let probable_causes = probable_causes(symptom, &patterns);
    let sample_logs: Vec<SampleLog> = probable_causes
        .iter()
        .filter_map(|cause| u64::from_str_radix(&cause.template_id, 16).ok())
        .filter_map(|id| service.patterns.get(&id))
        .flat_map(|pattern| pattern.samples.iter().cloned())
        .take(EVIDENCE_MAX)
        .collect();
    let distinct = |text: fn(&SampleLog) -> &str| {
        let mut texts: Vec<String> =
            sample_logs.iter().map(text).filter(|t| !t.is_empty()).map(str::to_owned).collect();
        // In the order of the text, which does not change from run to run.
        texts.sort_unstable();
        texts.dedup();
        texts
    };
    Evidence {
        probable_causes,
        instances: distinct(|log| &log.instance),
        trace_ids: distinct(|log| &log.trace_id),
        sample_logs,
        ..Evidence::default()
    }
}

impl ServiceReplay {
    fn add(&mut self, log: &ReplayedLog<'_>) {
        let start = log.time.floor(BUCKET_WIDTH);
        if self.first_seen == Timestamp::EPOCH {
            self.first_seen = log.time;
        }
        // The bucket before is seen whole once more with the next evaluation, as from storage.
        if start > self.open.start {
            let open = Bucket { start, ..Bucket::default() };
            let done = std::mem::replace(&mut self.open, open);
            self.done = (done.total > 0).then_some(done);
        }
        let row = &mut self.open;
        row.total += 1;
        row.errors += u64::from(log.level.is_error());
        row.anomalies += u64::from(log.is_anomaly);
        row.last_seen = row.last_seen.max(log.time);
        if let Some(bucket) = log.latency_bucket {
            match row.latencies.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
                Ok(found) => {
                    let (_, count) = &mut row.latencies[found];
                    *count += 1;
                }
                Err(place) => row.latencies.insert(place, (bucket, 1)),
            }
        }
        let pattern = self.patterns.entry(log.template_id).or_default();
        if pattern.count == 0 {
            self.fresh.insert(log.template_id);
            pattern.text = log.pattern.to_owned();
            pattern.first_seen = log.time;
        }
        pattern.add(log, start);
    }

    fn new_patterns(&mut self, now: Timestamp) -> Vec<NewPattern> {
        let patterns = &self.patterns;
        let is_new = |pattern: &Pattern| now.since(pattern.first_seen) <= NEW_AGE_MAX;
        // Kept beside all patterns, as few of thousands are new at any time.
        self.fresh.retain(|id| patterns.get(id).is_some_and(is_new));
        let fresh = self.fresh.iter().filter_map(|id| Some((id, patterns.get(id)?)));
        fresh
            .map(|(id, pattern)| NewPattern {
                template_id: format!("{id:016x}"),
                pattern: pattern.text.clone(),
                level: pattern.level,
                first_seen: pattern.first_seen,
                last_seen: pattern.last_seen,
                count: pattern.count,
            })
            .collect()
    }

    fn counts(&self, from: Timestamp, to: Timestamp) -> Vec<PatternCount> {
        let from_bucket = from.floor(BUCKET_WIDTH);
        let window = to.since(from).max(SECOND).as_secs_f64();
        // As if the service had logged evenly since its first log; storage looks at the hour before
        // instead.
        let history = from.since(self.first_seen).max(SECOND).as_secs_f64();
        let mut counts: Vec<PatternCount> = self
            .patterns
            .iter()
            .map(|(id, pattern)| {
                let buckets = pattern.recent.iter().filter(|b| b.start >= from_bucket);
                let now = buckets.fold(PatternBucket::default(), |mut sum, bucket| {
                    sum.count += bucket.count;
                    sum.latency_sum_ms += bucket.latency_sum_ms;
                    sum.latency_count += bucket.latency_count;
                    sum
                });
                let before = pattern.count.saturating_sub(now.count) as f64;
                PatternCount {
                    template_id: format!("{id:016x}"),
                    pattern: pattern.text.clone(),
                    level: pattern.level,
                    now: now.count,
                    before: before / history * window,
                    is_new: before == 0.0,
                    latency: pattern.latency_change(&now),
                }
            })
            .collect();
        // By id, as a map has no order and equal scores would change places from run to run.
        counts.sort_by(|a, b| a.template_id.cmp(&b.template_id));
        counts
    }
}

impl Pattern {
    fn add(&mut self, log: &ReplayedLog<'_>, start: Timestamp) {
        self.level = self.level.max(log.level as u8);
        self.count += 1;
        self.last_seen = log.time;
        if self.recent.back().is_none_or(|bucket| bucket.start != start) {
            if self.recent.len() >= PATTERN_BUCKETS_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back(PatternBucket { start, ..PatternBucket::default() });
        }
        if let Some(bucket) = self.recent.back_mut() {
            bucket.count += 1;
            if let Some(latency_ms) = log.latency_ms {
                bucket.latency_sum_ms += latency_ms;
                bucket.latency_count += 1;
                self.latency_sum_ms += latency_ms;
                self.latency_count += 1;
            }
        }
        self.sample(log);
    }

    /// Keeps the newest, one a second.
    fn sample(&mut self, log: &ReplayedLog<'_>) {
        let newest = self.samples.back().map_or(Timestamp::MIN, |sample| sample.at);
        // A burst would else fill all places with the same moment.
        if log.time - SECOND < newest {
            return;
        }
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        let cut = log.message.floor_char_boundary(MESSAGE_BYTES_MAX);
        self.samples.push_back(SampleLog {
            log_id: String::new(),
            at: log.time,
            level: log.level.as_str().to_owned(),
            message: log.message[..cut].to_owned(),
            trace_id: log.trace_id.to_owned(),
            instance: log.instance.to_owned(),
        });
    }

    /// Its latencies in the last buckets against all before.
    fn latency_change(&self, now: &PatternBucket) -> Option<LatencyChange> {
        let before =
            self.latency_count.checked_sub(now.latency_count).filter(|count| *count > 0)?;
        let before_ms = (self.latency_sum_ms - now.latency_sum_ms) / before as f64;
        (now.latency_count > 0).then(|| {
            let now_ms = now.latency_sum_ms / now.latency_count as f64;
            LatencyChange { now_ms, before_ms }
        })
    }
}
