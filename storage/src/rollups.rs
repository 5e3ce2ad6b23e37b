//! What is counted of the logs of a transaction: gathered in memory first, so that each row of the
//! counting tables is touched once, by ascending key.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use logweir_core::{
    identity::TemplateId,
    latency::bucket_of,
    record::{Level, ScoredBatch, ScoredRecord, Template},
    timestamp::Timestamp,
};

use crate::{
    histogram::Histogram,
    time_buckets::{FINE_SECONDS, HOUR_SECONDS, bucket_start},
};

/// A latency is counted as this at most, milliseconds: 31 years, more than anything takes. A few
/// near the largest number there is would make the sum of their bucket, and so every average that
/// it is in, infinite for good.
const COUNTED_LATENCY_MS_MAX: f64 = 1e12;

/// The counts of one tenant.
#[derive(Default)]
pub(crate) struct Derived<'a> {
    /// By start and number of the service, 10 seconds wide; hours are added up from these.
    services: HashMap<(i64, i64), ServiceCounts>,
    /// By start and template, an hour wide.
    templates: HashMap<(i64, TemplateId), (&'a Template, TemplateCounts)>,
    /// By start and template, 10 seconds wide, errors only: all and anomalies.
    template_errors: HashMap<(i64, TemplateId), (u64, u64)>,
}

/// What is counted of a service in a bucket.
#[derive(Clone, Default)]
pub(crate) struct ServiceCounts {
    /// By level less one: all and anomalies.
    pub(crate) levels: [(u64, u64); 6],
    pub(crate) latency: Latency,
    pub(crate) last_seen: Timestamp,
}

/// Of the logs that have a latency.
#[derive(Clone, Default)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) sum_ms: f64,
    pub(crate) min_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) histogram: Histogram,
}

/// What is counted of a template.
#[derive(Clone, Copy)]
pub(crate) struct TemplateCounts {
    pub(crate) total: u64,
    pub(crate) errors: u64,
    pub(crate) anomalies: u64,
    pub(crate) level: Level,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

impl<'a> Derived<'a> {
    /// Counts a log that is stored.
    pub(crate) fn observe(
        &mut self,
        service: i64,
        batch: &'a ScoredBatch,
        log: &ScoredRecord,
    ) -> Result<(), &'static str> {
        let time = log.record.time;
        let fine = bucket_start(time, FINE_SECONDS);
        self.services.entry((fine, service)).or_default().observe(log);
        let counts = TemplateCounts::of(log);
        match self.templates.entry((bucket_start(time, HOUR_SECONDS), log.template_id)) {
            Entry::Occupied(mut known) => known.get_mut().1.add(&counts),
            Entry::Vacant(place) => {
                let template = batch.templates.get(&log.template_id).ok_or(TEMPLATE_MISSING)?;
                place.insert((&**template, counts));
            }
        }
        if log.level.is_error() {
            let counts = self.template_errors.entry((fine, log.template_id)).or_default();
            counts.0 += 1;
            counts.1 += u64::from(log.is_anomaly);
        }
        Ok(())
    }

    /// The rows to add, by key.
    pub(crate) fn finish(self) -> Counts<'a> {
        let mut hours: HashMap<(i64, i64), ServiceCounts> = HashMap::new();
        // From the narrow buckets and not log by log: there are far fewer, and the two widths
        // cannot disagree.
        for (&(start, service), counts) in &self.services {
            let hour = start.div_euclid(HOUR_SECONDS) * HOUR_SECONDS;
            hours.entry((hour, service)).or_default().add(counts);
        }
        let mut totals: BTreeMap<TemplateId, (&'a Template, TemplateCounts)> = BTreeMap::new();
        for (&(_, template_id), (template, counts)) in &self.templates {
            let total = totals.entry(template_id).or_insert((*template, TemplateCounts::NONE));
            total.1.add(counts);
        }
        Counts {
            services: by_key(self.services),
            service_hours: by_key(hours),
            template_totals: totals.into_values().collect(),
            templates: by_key(self.templates.into_iter().map(|(key, of)| (key, of.1)).collect()),
            template_errors: by_key(self.template_errors),
        }
    }
}

/// Rows by start, and number of the service or id of the template, ascending.
pub(crate) type Sorted<K, T> = Vec<((i64, K), T)>;

/// What is to be added to the tables.
pub(crate) struct Counts<'a> {
    /// 10 seconds wide.
    pub(crate) services: Sorted<i64, ServiceCounts>,
    /// An hour wide.
    pub(crate) service_hours: Sorted<i64, ServiceCounts>,
    /// All hours, by id.
    pub(crate) template_totals: Vec<(&'a Template, TemplateCounts)>,
    /// An hour wide.
    pub(crate) templates: Sorted<TemplateId, TemplateCounts>,
    /// 10 seconds wide, errors only: all and anomalies.
    pub(crate) template_errors: Sorted<TemplateId, (u64, u64)>,
}

/// The rows of a map by ascending key.
pub(crate) fn by_key<K: Ord + Copy, T>(map: HashMap<(i64, K), T>) -> Sorted<K, T> {
    let mut rows: Sorted<K, T> = map.into_iter().collect();
    // Writers of the same rows then lock them in the same order and never wait in a circle; in
    // SQLite neighbouring rows are on the same page.
    rows.sort_unstable_by_key(|(key, _)| *key);
    rows
}

/// A batch brings the pattern of every template that it names.
pub(crate) const TEMPLATE_MISSING: &str = "its template did not come with its batch";

impl ServiceCounts {
    fn observe(&mut self, log: &ScoredRecord) {
        let level = &mut self.levels[log.level as usize - 1];
        level.0 += 1;
        level.1 += u64::from(log.is_anomaly);
        self.last_seen = self.last_seen.max(log.record.time);
        if let Some(latency_ms) = log.record.latency_ms {
            self.latency.observe(latency_ms);
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, others) in self.levels.iter_mut().zip(&other.levels) {
            mine.0 += others.0;
            mine.1 += others.1;
        }
        self.latency.add(&other.latency);
        self.last_seen = self.last_seen.max(other.last_seen);
    }

    pub(crate) fn total(&self) -> u64 {
        self.levels.iter().map(|level| level.0).sum()
    }

    pub(crate) fn errors(&self) -> u64 {
        Level::ALL.iter().zip(&self.levels).filter(|(l, _)| l.is_error()).map(|(_, c)| c.0).sum()
    }

    pub(crate) fn anomalies(&self) -> u64 {
        self.levels.iter().map(|level| level.1).sum()
    }
}

impl Latency {
    fn observe(&mut self, latency_ms: f64) {
        let latency_ms = latency_ms.min(COUNTED_LATENCY_MS_MAX);
        // The default of 0 ms stands for "none yet" and would stay the least of all.
        if self.count == 0 {
            (self.min_ms, self.max_ms) = (latency_ms, latency_ms);
        }
        self.count += 1;
        self.sum_ms += latency_ms;
        self.min_ms = self.min_ms.min(latency_ms);
        self.max_ms = self.max_ms.max(latency_ms);
        self.histogram.add(bucket_of(latency_ms), 1);
    }

    fn add(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        self.count += other.count;
        self.sum_ms += other.sum_ms;
        self.min_ms = self.min_ms.min(other.min_ms);
        self.max_ms = self.max_ms.max(other.max_ms);
        self.histogram.merge(&other.histogram);
    }
}

impl TemplateCounts {
    const NONE: Self = Self {
        total: 0,
        errors: 0,
        anomalies: 0,
        level: Level::Trace,
        first: Timestamp::MAX,
        last: Timestamp::MIN,
    };

    fn of(log: &ScoredRecord) -> Self {
        Self {
            total: 1,
            errors: u64::from(log.level.is_error()),
            anomalies: u64::from(log.is_anomaly),
            level: log.level,
            first: log.record.time,
            last: log.record.time,
        }
    }

    fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.errors += other.errors;
        self.anomalies += other.anomalies;
        self.level = self.level.max(other.level);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_latency_makes_a_sum_infinite() {
        let mut latency = Latency::default();
        [1e308, f64::MAX, 2.0].into_iter().for_each(|latency_ms| latency.observe(latency_ms));
        assert_eq!((latency.count, latency.max_ms), (3, COUNTED_LATENCY_MS_MAX));
        assert!(latency.sum_ms <= 3.0 * COUNTED_LATENCY_MS_MAX);
    }
}
