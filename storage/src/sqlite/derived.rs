//! What is counted of the logs of a transaction: gathered in memory first, so that each row of the
//! counting tables is touched once, by ascending key.

use std::collections::{HashMap, hash_map::Entry};

use logweir_core::{
    identity::TemplateId,
    record::{Level, ScoredBatch, ScoredRecord, Template},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{faults::Fault, ids::Ids};
use crate::{
    buckets::{FINE_SECONDS, HOUR_SECONDS, bucket_start},
    histogram::Histogram,
    query::latency_bucket,
};

const NANOS: i64 = 1_000_000_000;

/// The counts of one tenant.
#[derive(Default)]
pub(super) struct Derived<'a> {
    /// By start and service, 10 seconds wide; hours are added up from these.
    services: HashMap<(i64, i64), ServiceCounts>,
    /// By start and template, an hour wide.
    templates: HashMap<(i64, TemplateId), (&'a Template, TemplateCounts)>,
    /// By start and template, 10 seconds wide, errors only: all and anomalies.
    template_errors: HashMap<(i64, TemplateId), (u64, u64)>,
}

#[derive(Clone, Default)]
struct ServiceCounts {
    /// By level less one: all and anomalies.
    levels: [(u64, u64); 6],
    latency: Latency,
    last_seen_unix_nano: i64,
}

#[derive(Clone, Default)]
struct Latency {
    count: u64,
    sum_ms: f64,
    min_ms: f64,
    max_ms: f64,
    histogram: Histogram,
}

#[derive(Clone, Copy)]
struct TemplateCounts {
    total: u64,
    errors: u64,
    anomalies: u64,
    level: Level,
    first_unix_nano: i64,
    last_unix_nano: i64,
}

impl<'a> Derived<'a> {
    /// Counts a log that is stored.
    pub(super) fn observe(
        &mut self,
        service_id: i64,
        batch: &'a ScoredBatch,
        log: &ScoredRecord,
    ) -> Result<(), Fault> {
        let time = log.record.time_unix_nano;
        let fine = bucket_start(time, FINE_SECONDS);
        self.services.entry((fine, service_id)).or_default().observe(log);
        let counts = TemplateCounts::of(log);
        match self.templates.entry((bucket_start(time, HOUR_SECONDS), log.template_id)) {
            Entry::Occupied(mut known) => known.get_mut().1.add(&counts),
            Entry::Vacant(place) => {
                let template =
                    batch.templates.get(&log.template_id).ok_or_else(template_missing)?;
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

    /// Adds everything to the tables.
    pub(super) fn save(self, db: &Connection, ids: &mut Ids, tenant_id: i64) -> Result<(), Fault> {
        let mut hours: HashMap<(i64, i64), ServiceCounts> = HashMap::new();
        for (&(start, service_id), counts) in &self.services {
            let hour = start.div_euclid(HOUR_SECONDS) * HOUR_SECONDS;
            hours.entry((hour, service_id)).or_default().add(counts);
        }
        let hours = by_key(hours);
        save_services(db, FINE_SECONDS, &by_key(self.services))?;
        save_services(db, HOUR_SECONDS, &hours)?;
        save_service_totals(db, &hours)?;
        let mut keys: HashMap<TemplateId, i64> = HashMap::new();
        let mut templates = HashMap::new();
        for ((start, template_id), (template, counts)) in self.templates {
            let key = ids.template(db, tenant_id, template)?;
            keys.insert(template_id, key);
            templates.insert((start, key), counts);
        }
        let with_key =
            |((start, template_id), counts)| Some(((start, *keys.get(&template_id)?), counts));
        let errors = self.template_errors.into_iter().filter_map(with_key).collect();
        save_template_errors(db, &by_key(errors))?;
        let templates = by_key(templates);
        save_templates(db, &templates)?;
        save_template_totals(db, &templates)?;
        Ok(())
    }
}

/// A batch brings the pattern of every template that it names.
pub(super) fn template_missing() -> Fault {
    Fault::Data("its template did not come with its batch".into())
}

type Sorted<T> = Vec<((i64, i64), T)>;

fn by_key<T>(map: HashMap<(i64, i64), T>) -> Sorted<T> {
    let mut rows: Sorted<T> = map.into_iter().collect();
    rows.sort_unstable_by_key(|(key, _)| *key);
    rows
}

impl ServiceCounts {
    fn observe(&mut self, log: &ScoredRecord) {
        let level = &mut self.levels[log.level as usize - 1];
        level.0 += 1;
        level.1 += u64::from(log.is_anomaly);
        self.last_seen_unix_nano = self.last_seen_unix_nano.max(log.record.time_unix_nano);
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
        self.last_seen_unix_nano = self.last_seen_unix_nano.max(other.last_seen_unix_nano);
    }

    fn total(&self) -> u64 {
        self.levels.iter().map(|level| level.0).sum()
    }

    fn errors(&self) -> u64 {
        Level::ALL.iter().zip(&self.levels).filter(|(l, _)| l.is_error()).map(|(_, c)| c.0).sum()
    }

    fn anomalies(&self) -> u64 {
        self.levels.iter().map(|level| level.1).sum()
    }
}

impl Latency {
    fn observe(&mut self, latency_ms: f64) {
        if self.count == 0 {
            (self.min_ms, self.max_ms) = (latency_ms, latency_ms);
        }
        self.count += 1;
        self.sum_ms += latency_ms;
        self.min_ms = self.min_ms.min(latency_ms);
        self.max_ms = self.max_ms.max(latency_ms);
        self.histogram.add(latency_bucket(latency_ms), 1);
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
    fn of(log: &ScoredRecord) -> Self {
        Self {
            total: 1,
            errors: u64::from(log.level.is_error()),
            anomalies: u64::from(log.is_anomaly),
            level: log.level,
            first_unix_nano: log.record.time_unix_nano,
            last_unix_nano: log.record.time_unix_nano,
        }
    }

    fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.errors += other.errors;
        self.anomalies += other.anomalies;
        self.level = self.level.max(other.level);
        self.first_unix_nano = self.first_unix_nano.min(other.first_unix_nano);
        self.last_unix_nano = self.last_unix_nano.max(other.last_unix_nano);
    }
}

fn save_services(db: &Connection, width: i64, rows: &Sorted<ServiceCounts>) -> Result<(), Fault> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO service_buckets VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET total = total + excluded.total,
                                   anomalies = anomalies + excluded.anomalies",
    )?;
    for ((start, service_id), counts) in rows {
        for (level, (total, anomalies)) in Level::ALL.iter().zip(&counts.levels) {
            if *total > 0 {
                upsert.execute(params![
                    width,
                    start,
                    service_id,
                    *level as u8,
                    total,
                    anomalies
                ])?;
            }
        }
    }
    for ((start, service_id), counts) in rows {
        if counts.latency.count > 0 {
            save_latency(db, (width, *start, *service_id), &counts.latency)?;
        }
    }
    Ok(())
}

fn save_latency(db: &Connection, key: (i64, i64, i64), added: &Latency) -> Result<(), Fault> {
    let mut select = db.prepare_cached(
        "SELECT counts FROM latency_buckets
         WHERE width_seconds = ?1 AND start_unix_seconds = ?2 AND service_id = ?3",
    )?;
    let mut histogram = Histogram::default();
    let read = select
        .query_row(key, |row| Ok(histogram.merge_bytes(row.get_ref(0)?.as_blob()?)))
        .optional()?;
    if read == Some(false) {
        return Err(Fault::corrupt("the counts of a latency bucket"));
    }
    histogram.merge(&added.histogram);
    db.prepare_cached(
        "INSERT INTO latency_buckets VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE SET count = count + excluded.count, sum_ms = sum_ms + excluded.sum_ms,
             min_ms = min(min_ms, excluded.min_ms), max_ms = max(max_ms, excluded.max_ms),
             counts = excluded.counts",
    )?
    .execute(params![
        key.0,
        key.1,
        key.2,
        added.count,
        added.sum_ms,
        added.min_ms,
        added.max_ms,
        histogram.to_bytes(),
    ])?;
    Ok(())
}

fn save_service_totals(db: &Connection, hours: &Sorted<ServiceCounts>) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached(
        "UPDATE services SET total = total + ?2, errors = errors + ?3, anomalies = anomalies + ?4,
             first_seen_unix_nano = min(first_seen_unix_nano, ?5),
             last_seen_unix_nano = max(last_seen_unix_nano, ?6)
         WHERE service_id = ?1",
    )?;
    for ((start, service_id), counts) in hours {
        update.execute(params![
            service_id,
            counts.total(),
            counts.errors(),
            counts.anomalies(),
            start.saturating_mul(NANOS),
            counts.last_seen_unix_nano,
        ])?;
    }
    Ok(())
}

fn save_template_errors(db: &Connection, rows: &Sorted<(u64, u64)>) -> rusqlite::Result<()> {
    for ((start, template_key), (errors, anomalies)) in rows {
        add_template_bucket(
            db,
            (FINE_SECONDS, *start, *template_key),
            *errors,
            *errors,
            *anomalies,
        )?;
    }
    Ok(())
}

fn save_templates(db: &Connection, rows: &Sorted<TemplateCounts>) -> rusqlite::Result<()> {
    for ((start, template_key), counts) in rows {
        let key = (HOUR_SECONDS, *start, *template_key);
        add_template_bucket(db, key, counts.total, counts.errors, counts.anomalies)?;
    }
    Ok(())
}

fn add_template_bucket(
    db: &Connection,
    (width, start, template_key): (i64, i64, i64),
    total: u64,
    errors: u64,
    anomalies: u64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO template_buckets VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET total = total + excluded.total, errors = errors + excluded.errors,
                                   anomalies = anomalies + excluded.anomalies",
    )?
    .execute(params![width, start, template_key, total, errors, anomalies])?;
    Ok(())
}

fn save_template_totals(db: &Connection, hours: &Sorted<TemplateCounts>) -> rusqlite::Result<()> {
    let mut totals: HashMap<(i64, i64), TemplateCounts> = HashMap::new();
    for ((_, template_key), counts) in hours {
        match totals.entry((*template_key, 0)) {
            Entry::Occupied(mut known) => known.get_mut().add(counts),
            Entry::Vacant(place) => {
                place.insert(*counts);
            }
        }
    }
    let mut upsert = db.prepare_cached(
        "INSERT INTO template_totals VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET total = total + excluded.total, level = max(level, excluded.level),
             first_seen_unix_nano = min(first_seen_unix_nano, excluded.first_seen_unix_nano),
             last_seen_unix_nano = max(last_seen_unix_nano, excluded.last_seen_unix_nano)",
    )?;
    for ((template_key, _), counts) in by_key(totals) {
        upsert.execute(params![
            template_key,
            counts.total,
            counts.level as u8,
            counts.first_unix_nano,
            counts.last_unix_nano,
        ])?;
    }
    Ok(())
}
