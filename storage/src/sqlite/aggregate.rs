//! Counts over time, from the tables of buckets: no log is read.

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use logweir_core::{
    identity::{Service, TemplateId, Tenant},
    record::Level,
};
use rusqlite::{Connection, Row, params};

use super::{
    derived::{FINE_SECONDS, HOUR_SECONDS},
    faults::Fault,
    histogram::Histogram,
    ids::{find_service, find_tenant},
};
use crate::{
    AggregatePoint, AggregateSeries, HeatmapCell, LatencySummary, ServiceSummary, StorageError,
    query::{
        AggregateQuery, CELLS_MAX, GroupBy, POINTS_MAX, SERIES_MAX, TimeRange, latency_percentile,
    },
};

const NANOS: i64 = 1_000_000_000;

/// Which rows of a table of buckets a query reads.
struct Slice {
    width: i64,
    from: i64,
    to: i64,
    bucket: i64,
    tenant_id: i64,
    service_id: Option<i64>,
}

impl Slice {
    /// Nothing if the tenant or the service is not known.
    fn of(db: &Connection, tenant: &Tenant, query: &AggregateQuery) -> Result<Option<Self>, Fault> {
        let bucket = i64::from(query.bucket_seconds);
        if bucket == 0 || bucket % FINE_SECONDS != 0 {
            let message = format!("bucket_seconds is {bucket}; use a multiple of {FINE_SECONDS}");
            return Err(StorageError::LimitExceeded(message).into());
        }
        let Some(tenant_id) = find_tenant(db, tenant)? else { return Ok(None) };
        let service_id = match &query.service {
            None => None,
            Some(service) => match find_service(db, tenant_id, service)? {
                Some(service_id) => Some(service_id),
                None => return Ok(None),
            },
        };
        let (from, to) = seconds(query.range);
        let whole = |time: i64| time % HOUR_SECONDS == 0 || is_open_end(time);
        let hours = bucket % HOUR_SECONDS == 0 && whole(from) && whole(to);
        let width = if hours { HOUR_SECONDS } else { FINE_SECONDS };
        Ok(Some(Self { width, from, to, bucket, tenant_id, service_id }))
    }

    fn bucket_start_nanos(&self, start: i64) -> i64 {
        (start.div_euclid(self.bucket) * self.bucket).saturating_mul(NANOS)
    }

    /// The services that count, by id.
    fn services(&self, db: &Connection) -> rusqlite::Result<HashMap<i64, String>> {
        db.prepare_cached(
            "SELECT service_id, name FROM services
             WHERE tenant_id = ?1 AND (?2 IS NULL OR service_id = ?2)",
        )?
        .query_map(params![self.tenant_id, self.service_id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
    }
}

/// A range in whole seconds, widened.
pub(super) fn seconds(range: TimeRange) -> (i64, i64) {
    let to = range.to_unix_nano;
    let up = i64::from(to.rem_euclid(NANOS) != 0);
    (range.from_unix_nano.div_euclid(NANOS), to.div_euclid(NANOS) + up)
}

/// Whether a time in seconds stands for no bound at all.
fn is_open_end(time: i64) -> bool {
    time <= i64::MIN / NANOS || time >= i64::MAX / NANOS
}

/// The points of every group, by a number that stands for it.
#[derive(Default)]
struct Groups {
    groups: HashMap<i64, BTreeMap<i64, Counts>>,
    cells: usize,
}

#[derive(Default)]
struct Counts {
    point: AggregatePoint,
    latency_count: u64,
    latency_sum_ms: f64,
    histogram: Histogram,
}

impl Groups {
    fn at(&mut self, group: i64, start_unix_nano: i64) -> Result<&mut Counts, Fault> {
        let points = self.groups.entry(group).or_default();
        let is_full = points.len() >= POINTS_MAX || self.cells >= CELLS_MAX;
        match points.entry(start_unix_nano) {
            Entry::Occupied(counts) => Ok(counts.into_mut()),
            Entry::Vacant(_) if is_full => Err(too_many()),
            Entry::Vacant(place) => {
                self.cells += 1;
                let point = AggregatePoint { start_unix_nano, ..AggregatePoint::default() };
                Ok(place.insert(Counts { point, ..Counts::default() }))
            }
        }
    }

    fn into_series(self, name: impl Fn(i64) -> String) -> Vec<AggregateSeries> {
        let finish =
            |counts: Counts| AggregatePoint { latency_ms: counts.latency(), ..counts.point };
        let series = self.groups.into_iter().map(|(group, points)| {
            let points: Vec<AggregatePoint> = points.into_values().map(finish).collect();
            let total: u64 = points.iter().map(|point| point.total).sum();
            (total, AggregateSeries { group: name(group), points })
        });
        let mut series: Vec<(u64, AggregateSeries)> = series.collect();
        series.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.group.cmp(&y.group)));
        series.truncate(SERIES_MAX);
        series.into_iter().map(|(_, series)| series).collect()
    }
}

impl Counts {
    fn latency(&self) -> Option<LatencySummary> {
        let buckets = self.histogram.as_slice();
        Some(LatencySummary {
            average: self.latency_sum_ms / self.latency_count as f64,
            p50: latency_percentile(buckets, 0.50)?,
            p95: latency_percentile(buckets, 0.95)?,
            p99: latency_percentile(buckets, 0.99)?,
        })
    }
}

fn too_many() -> Fault {
    let message = format!(
        "the range has over {POINTS_MAX} buckets in a series, or {CELLS_MAX} in all: \
         use wider buckets or a shorter range"
    );
    StorageError::LimitExceeded(message).into()
}

/// Counts per time bucket and group, largest group first.
pub(super) fn aggregate(
    db: &Connection,
    tenant: &Tenant,
    query: &AggregateQuery,
) -> Result<Vec<AggregateSeries>, Fault> {
    let snapshot = db.unchecked_transaction()?;
    let Some(slice) = Slice::of(&snapshot, tenant, query)? else { return Ok(Vec::new()) };
    let services = slice.services(&snapshot)?;
    let mut groups = Groups::default();
    match query.group_by {
        GroupBy::Template => add_templates(&snapshot, &slice, &mut groups)?,
        GroupBy::Level => {
            add_counts(&snapshot, &slice, &services, &mut groups, |_, level| level.into())?
        }
        GroupBy::Service => {
            add_counts(&snapshot, &slice, &services, &mut groups, |service, _| service)?;
            add_latencies(&snapshot, &slice, &services, &mut groups, |service| service)?;
        }
        GroupBy::Nothing => {
            add_counts(&snapshot, &slice, &services, &mut groups, |_, _| 0)?;
            add_latencies(&snapshot, &slice, &services, &mut groups, |_| 0)?;
        }
    }
    Ok(groups.into_series(|group| match query.group_by {
        GroupBy::Nothing => String::new(),
        GroupBy::Template => TemplateId(group as u64).to_string(),
        GroupBy::Service => services.get(&group).cloned().unwrap_or_default(),
        GroupBy::Level => {
            u8::try_from(group).ok().and_then(Level::from_number).map_or("", Level::as_str).into()
        }
    }))
}

fn add_counts(
    db: &Connection,
    slice: &Slice,
    services: &HashMap<i64, String>,
    groups: &mut Groups,
    group: impl Fn(i64, u8) -> i64,
) -> Result<(), Fault> {
    let mut select = db.prepare_cached(
        "SELECT start_unix_seconds, service_id, level, total, anomalies FROM service_buckets
         WHERE width_seconds = ?1 AND start_unix_seconds >= ?2 AND start_unix_seconds < ?3",
    )?;
    let mut rows = select.query(params![slice.width, slice.from, slice.to])?;
    while let Some(row) = rows.next()? {
        let service_id = row.get(1)?;
        if !services.contains_key(&service_id) {
            continue;
        }
        let number = row.get(2)?;
        let level = Level::from_number(number);
        let level = level.ok_or_else(|| Fault::corrupt("the level of a service bucket"))?;
        let total: u64 = row.get(3)?;
        let start = slice.bucket_start_nanos(row.get(0)?);
        let point = &mut groups.at(group(service_id, number), start)?.point;
        point.total += total;
        point.errors += if level.is_error() { total } else { 0 };
        point.anomalies += row.get::<_, u64>(4)?;
    }
    Ok(())
}

fn add_latencies(
    db: &Connection,
    slice: &Slice,
    services: &HashMap<i64, String>,
    groups: &mut Groups,
    group: impl Fn(i64) -> i64,
) -> Result<(), Fault> {
    each_latency(db, slice, services, |row| {
        let start = slice.bucket_start_nanos(row.get(0)?);
        let counts = groups.at(group(row.get(1)?), start)?;
        counts.latency_count += row.get::<_, u64>(2)?;
        counts.latency_sum_ms += row.get::<_, f64>(3)?;
        merge_counts(&mut counts.histogram, row)
    })
}

/// Runs `read` for each row of latencies of the services that count: start, service id, count, sum
/// and counts.
fn each_latency(
    db: &Connection,
    slice: &Slice,
    services: &HashMap<i64, String>,
    mut read: impl FnMut(&Row<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut select = db.prepare_cached(
        "SELECT start_unix_seconds, service_id, count, sum_ms, counts FROM latency_buckets
         WHERE width_seconds = ?1 AND start_unix_seconds >= ?2 AND start_unix_seconds < ?3",
    )?;
    let mut rows = select.query(params![slice.width, slice.from, slice.to])?;
    while let Some(row) = rows.next()? {
        if services.contains_key(&row.get(1)?) {
            read(row)?;
        }
    }
    Ok(())
}

fn merge_counts(histogram: &mut Histogram, row: &Row<'_>) -> Result<(), Fault> {
    let bytes = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
    if histogram.merge_bytes(bytes) {
        Ok(())
    } else {
        Err(Fault::corrupt("the counts of a latency bucket"))
    }
}

/// Full counts in hours; below that errors alone are kept.
fn add_templates(db: &Connection, slice: &Slice, groups: &mut Groups) -> Result<(), Fault> {
    let mut select = db.prepare_cached(
        "SELECT b.start_unix_seconds, t.template_id, b.total, b.errors, b.anomalies
         FROM template_buckets b JOIN templates t USING (template_key)
         WHERE b.width_seconds = ?1 AND b.start_unix_seconds >= ?2 AND b.start_unix_seconds < ?3
           AND t.tenant_id = ?4 AND (?5 IS NULL OR t.service_id = ?5)",
    )?;
    let mut rows = select.query(params![
        slice.width,
        slice.from,
        slice.to,
        slice.tenant_id,
        slice.service_id
    ])?;
    while let Some(row) = rows.next()? {
        let start = slice.bucket_start_nanos(row.get(0)?);
        let point = &mut groups.at(row.get(1)?, start)?.point;
        point.total += row.get::<_, u64>(2)?;
        point.errors += row.get::<_, u64>(3)?;
        point.anomalies += row.get::<_, u64>(4)?;
    }
    Ok(())
}

/// Logs per time and latency bucket.
pub(super) fn latency_heatmap(
    db: &Connection,
    tenant: &Tenant,
    query: &AggregateQuery,
) -> Result<Vec<HeatmapCell>, Fault> {
    let snapshot = db.unchecked_transaction()?;
    let Some(slice) = Slice::of(&snapshot, tenant, query)? else { return Ok(Vec::new()) };
    let mut columns: BTreeMap<i64, Histogram> = BTreeMap::new();
    each_latency(&snapshot, &slice, &slice.services(&snapshot)?, |row| {
        let start = slice.bucket_start_nanos(row.get(0)?);
        if columns.len() >= POINTS_MAX && !columns.contains_key(&start) {
            return Err(too_many());
        }
        merge_counts(columns.entry(start).or_default(), row)
    })?;
    let mut cells = Vec::new();
    for (start_unix_nano, histogram) in columns {
        for &(latency_bucket, count) in histogram.as_slice() {
            cells.push(HeatmapCell { start_unix_nano, latency_bucket, count });
        }
    }
    if cells.len() > CELLS_MAX { Err(too_many()) } else { Ok(cells) }
}

/// The services that have stored logs, by name.
pub(super) fn list_services(
    db: &Connection,
    tenant: &Tenant,
) -> Result<Vec<ServiceSummary>, Fault> {
    let snapshot = db.unchecked_transaction()?;
    let Some(tenant_id) = find_tenant(&snapshot, tenant)? else { return Ok(Vec::new()) };
    let mut select = snapshot.prepare_cached(
        "SELECT name, total, errors, anomalies, first_seen_unix_nano, last_seen_unix_nano
         FROM services WHERE tenant_id = ?1 AND total > 0 ORDER BY name",
    )?;
    let mut rows = select.query([tenant_id])?;
    let mut services = Vec::new();
    while let Some(row) = rows.next()? {
        services.push(ServiceSummary {
            service: service_of(row, 0)?,
            total: row.get(1)?,
            errors: row.get(2)?,
            anomalies: row.get(3)?,
            first_seen_unix_nano: row.get(4)?,
            last_seen_unix_nano: row.get(5)?,
        });
    }
    Ok(services)
}

/// A column that holds the name of a service.
pub(super) fn service_of(row: &Row<'_>, column: usize) -> Result<Service, Fault> {
    let name: String = row.get(column)?;
    Service::new(&name).map_err(|error| Fault::corrupt(error.to_string()))
}
