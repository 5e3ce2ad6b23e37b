//! Counts over time, from the tables of buckets: no log is read.

use std::{collections::HashMap, hash::Hash};

use logweir_core::{
    identity::{Service, TemplateId, Tenant},
    record::Level,
};
use rusqlite::{Connection, Row, params};

use crate::{
    AggregateSeries, HeatmapCell, ServiceSummary,
    histogram::Histogram,
    query::{AggregateQuery, GroupBy},
    sqlite::{
        errors::Fault,
        ids::{find_service, find_tenant},
    },
    time_buckets::{Groups, Heatmap, Logs, Span},
};

/// Which rows of a table of buckets a query reads.
struct Slice {
    span: Span,
    tenant_id: i64,
    service_id: Option<i64>,
    /// The services that count, by id.
    services: HashMap<i64, String>,
}

impl Slice {
    /// Nothing if the tenant or the service is not known.
    fn of(db: &Connection, tenant: &Tenant, query: &AggregateQuery) -> Result<Option<Self>, Fault> {
        let span = Span::of(query)?;
        let Some(tenant_id) = find_tenant(db, tenant)? else { return Ok(None) };
        let service_id = match &query.service {
            None => None,
            Some(service) => match find_service(db, tenant_id, service)? {
                Some(service_id) => Some(service_id),
                None => return Ok(None),
            },
        };
        let services = services(db, tenant_id, service_id)?;
        Ok(Some(Self { span, tenant_id, service_id, services }))
    }
}

fn services(
    db: &Connection,
    tenant_id: i64,
    service_id: Option<i64>,
) -> rusqlite::Result<HashMap<i64, String>> {
    db.prepare_cached(
        "SELECT service_id, name FROM services
         WHERE tenant_id = ?1 AND (?2 IS NULL OR service_id = ?2)",
    )?
    .query_map(params![tenant_id, service_id], |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}

/// Counts per time bucket and group, largest group first.
pub(crate) fn aggregate(
    db: &Connection,
    tenant: &Tenant,
    query: &AggregateQuery,
) -> Result<Vec<AggregateSeries>, Fault> {
    let snapshot = db.unchecked_transaction()?;
    let Some(slice) = Slice::of(&snapshot, tenant, query)? else { return Ok(Vec::new()) };
    match query.group_by {
        GroupBy::Template => by_template(&snapshot, &slice),
        GroupBy::Level => {
            let mut groups = Groups::new(slice.span);
            add_counts(&snapshot, &slice, &mut groups, |_, level| level)?;
            Ok(groups.into_series(|level| level.to_string()))
        }
        GroupBy::Service => {
            let name = |service| slice.services.get(&service).cloned().unwrap_or_default();
            Ok(with_latencies(&snapshot, &slice, |service| service)?.into_series(name))
        }
        GroupBy::Nothing => {
            Ok(with_latencies(&snapshot, &slice, |_| ())?.into_series(|()| String::new()))
        }
    }
}

fn with_latencies<K: Hash + Eq>(
    db: &Connection,
    slice: &Slice,
    group: impl Fn(i64) -> K,
) -> Result<Groups<K>, Fault> {
    let mut groups = Groups::new(slice.span);
    add_counts(db, slice, &mut groups, |service, _| group(service))?;
    each_latency(db, slice, |row| {
        let sums = (row.get(2)?, row.get(3)?);
        Ok(groups.add_latencies(group(row.get(1)?), row.get(0)?, sums, &histogram(row)?)?)
    })?;
    Ok(groups)
}

fn add_counts<K: Hash + Eq>(
    db: &Connection,
    slice: &Slice,
    groups: &mut Groups<K>,
    group: impl Fn(i64, Level) -> K,
) -> Result<(), Fault> {
    let mut select = db.prepare_cached(
        "SELECT start_unix_seconds, service_id, level, total, anomalies FROM service_buckets
         WHERE width_seconds = ?1 AND start_unix_seconds >= ?2 AND start_unix_seconds < ?3",
    )?;
    let mut rows = select.query(params![slice.span.width, slice.span.from, slice.span.to])?;
    while let Some(row) = rows.next()? {
        let service_id = row.get(1)?;
        if !slice.services.contains_key(&service_id) {
            continue;
        }
        let level = Level::from_number(row.get(2)?);
        let level = level.ok_or_else(|| Fault::corrupt("the level of a service bucket"))?;
        let logs = Logs::of_level(level, row.get(3)?, row.get(4)?);
        groups.add(group(service_id, level), row.get(0)?, logs)?;
    }
    Ok(())
}

/// Runs `read` for each row of latencies of the services that count: start, service id, count, sum
/// and counts.
fn each_latency(
    db: &Connection,
    slice: &Slice,
    mut read: impl FnMut(&Row<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut select = db.prepare_cached(
        "SELECT start_unix_seconds, service_id, count, sum_ms, counts FROM latency_buckets
         WHERE width_seconds = ?1 AND start_unix_seconds >= ?2 AND start_unix_seconds < ?3",
    )?;
    let mut rows = select.query(params![slice.span.width, slice.span.from, slice.span.to])?;
    while let Some(row) = rows.next()? {
        if slice.services.contains_key(&row.get(1)?) {
            read(row)?;
        }
    }
    Ok(())
}

fn histogram(row: &Row<'_>) -> Result<Histogram, Fault> {
    let mut histogram = Histogram::default();
    if histogram.merge_bytes(row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?) {
        Ok(histogram)
    } else {
        Err(Fault::corrupt("the counts of a latency bucket"))
    }
}

/// Full counts in hours; below that errors alone are kept.
fn by_template(db: &Connection, slice: &Slice) -> Result<Vec<AggregateSeries>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT b.start_unix_seconds, coalesce(t.merged_into, t.template_id), b.total, b.errors, b.anomalies
         FROM template_buckets b JOIN templates t USING (template_key)
         WHERE b.width_seconds = ?1 AND b.start_unix_seconds >= ?2 AND b.start_unix_seconds < ?3
           AND t.tenant_id = ?4 AND (?5 IS NULL OR t.service_id = ?5)",
    )?;
    let Span { width, from, to, .. } = slice.span;
    let mut rows = select.query(params![width, from, to, slice.tenant_id, slice.service_id])?;
    let mut groups = Groups::new(slice.span);
    while let Some(row) = rows.next()? {
        let logs = Logs { total: row.get(2)?, errors: row.get(3)?, anomalies: row.get(4)? };
        groups.add(TemplateId(row.get::<_, i64>(1)? as u64), row.get(0)?, logs)?;
    }
    Ok(groups.into_series(|template_id| template_id.to_string()))
}

/// Logs per time and latency bucket.
pub(crate) fn latency_heatmap(
    db: &Connection,
    tenant: &Tenant,
    query: &AggregateQuery,
) -> Result<Vec<HeatmapCell>, Fault> {
    let snapshot = db.unchecked_transaction()?;
    let Some(slice) = Slice::of(&snapshot, tenant, query)? else { return Ok(Vec::new()) };
    let mut heatmap = Heatmap::new(slice.span);
    each_latency(&snapshot, &slice, |row| Ok(heatmap.add(row.get(0)?, &histogram(row)?)?))?;
    Ok(heatmap.into_cells()?)
}

/// The services that have stored logs, by name.
pub(crate) fn list_services(
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
pub(crate) fn service_of(row: &Row<'_>, column: usize) -> Result<Service, Fault> {
    let name: String = row.get(column)?;
    Service::new(&name).map_err(|error| Fault::corrupt(error.to_string()))
}
