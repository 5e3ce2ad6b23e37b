//! Lists of what is known: templates with their counts, and the producers' accounts.

use std::collections::HashMap;

use logweir_core::{
    identity::{BatchId, ProducerId, Service, TemplateId, Tenant},
    record::{Account, Level, Template},
    timestamp::Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::aggregate::service_of;
use crate::sqlite::read::rows;
use crate::sqlite::{errors::Fault, ids::find_tenant, write::producers::Dropped};
use crate::{
    ProducerReport, ProducerTotals, TemplateSummary,
    producer_totals::{FIGURES, Figures},
    query::{PRODUCERS_MAX, TimeRange},
    ranges::{MISSING_RANGES_MAX, RangeSet},
    time_buckets::{Trend, seconds},
};

/// Every template of every tenant with its count.
pub(crate) fn load_templates(db: &Connection) -> Result<Vec<(Template, u64)>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT t.template_id, s.name, t.pattern, tenants.name, coalesce(totals.total, 0),
                t.merged_into, t.is_merger
         FROM templates t LEFT JOIN template_totals totals USING (template_key)
              JOIN services s USING (service_id) JOIN tenants ON tenants.tenant_id = t.tenant_id",
    )?;
    let mut rows = select.query([])?;
    let mut templates = Vec::new();
    while let Some(row) = rows.next()? {
        let tenant: String = row.get(3)?;
        let tenant = Tenant::new(&tenant).map_err(|error| Fault::corrupt(error.to_string()))?;
        let template = Template {
            template_id: TemplateId(row.get::<_, i64>(0)? as u64),
            tenant,
            service: service_of(row, 1)?,
            pattern: row.get(2)?,
            merged_into: row.get::<_, Option<i64>>(5)?.map(|id| TemplateId(id as u64)),
            is_merger: row.get(6)?,
        };
        templates.push((template, row.get(4)?));
    }
    Ok(templates)
}

/// The most frequent templates in a range, which is widened to whole hours.
pub(crate) fn list_templates(
    db: &Connection,
    tenant: &Tenant,
    service: Option<&Service>,
    range: TimeRange,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<TemplateSummary>, Fault> {
    let snapshot = db.unchecked_transaction()?;
    let Some(tenant_id) = find_tenant(&snapshot, tenant)? else { return Ok(Vec::new()) };
    // Without bounds the totals say it all: they also count hours that are gone.
    let counts = if range == TimeRange::ALL {
        // Always true: both texts must name the same parameters, or binding them fails.
        "SELECT template_key, total FROM template_totals WHERE ?1 <= ?2
               AND template_key IN (SELECT template_key FROM templates WHERE tenant_id = ?3)"
    } else {
        "SELECT template_key, sum(total) AS total FROM template_buckets
         WHERE width_seconds = 3600 AND start_unix_seconds > ?1 - 3600 AND start_unix_seconds < ?2
               AND template_key IN (SELECT template_key FROM templates WHERE tenant_id = ?3)
         GROUP BY template_key"
    };
    let (from, to) = if range == TimeRange::ALL { (0, 0) } else { seconds(range) };
    // Summed by merged pattern before the limit is applied: a pattern whose parts are each too rare
    // for the list may belong on it as a whole.
    let mut select = snapshot.prepare_cached(&format!(
        "SELECT t.template_id, s.name, t.pattern, found.total, found.first, found.last, found.level,
                t.template_key
         FROM (SELECT coalesce(merger.template_key, own.template_key) AS template_key,
                      sum(counts.total) AS total, min(totals.first_seen_unix_nano) AS first,
                      max(totals.last_seen_unix_nano) AS last, max(totals.level) AS level
               FROM ({counts}) AS counts JOIN templates own USING (template_key)
                    JOIN template_totals totals USING (template_key)
                    LEFT JOIN templates merger ON merger.tenant_id = own.tenant_id
                                              AND merger.template_id = own.merged_into
               WHERE own.tenant_id = ?3 GROUP BY 1) AS found
              JOIN templates t USING (template_key) JOIN services s USING (service_id)
         WHERE ?4 IS NULL OR s.name = ?4
         ORDER BY found.total DESC, t.template_id LIMIT ?5"
    ))?;
    let name = service.map(Service::as_str);
    let mut rows = select.query(params![from, to, tenant_id, name, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((row.get(7)?, template_summary(row)?));
    }
    let trends = trends(&snapshot, tenant_id, Trend::ending(range.to.min(now)))?;
    Ok(found
        .into_iter()
        .map(|(key, summary): (i64, _)| TemplateSummary {
            trend: trends.get(&key).copied(),
            ..summary
        })
        .collect())
}

pub(crate) fn template_summary(row: &Row<'_>) -> Result<TemplateSummary, Fault> {
    let level = Level::from_number(row.get(6)?);
    Ok(TemplateSummary {
        template_id: TemplateId(row.get::<_, i64>(0)? as u64),
        service: service_of(row, 1)?,
        pattern: row.get(2)?,
        count: row.get(3)?,
        first_seen: rows::timestamp(row, 4)?,
        last_seen: rows::timestamp(row, 5)?,
        level: level.ok_or_else(|| Fault::corrupt("the level of a template"))?,
        trend: None,
    })
}

/// The trend of each template that occurred in the 24 hours before the last one, by its key.
fn trends(db: &Connection, tenant_id: i64, trend: Trend) -> Result<HashMap<i64, f64>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT coalesce(merger.template_key, own.template_key),
                sum(total) FILTER (WHERE start_unix_seconds = ?2),
                sum(total) FILTER (WHERE start_unix_seconds < ?2)
         FROM template_buckets JOIN templates own USING (template_key)
              LEFT JOIN templates merger ON merger.tenant_id = own.tenant_id
                                        AND merger.template_id = own.merged_into
         WHERE width_seconds = 3600 AND start_unix_seconds >= ?1 AND start_unix_seconds <= ?2
               AND own.tenant_id = ?3
         GROUP BY 1",
    )?;
    let mut rows = select.query([trend.first, trend.last, tenant_id])?;
    let mut trends = HashMap::new();
    while let Some(row) = rows.next()? {
        let (newest, before): (Option<f64>, Option<f64>) = (row.get(1)?, row.get(2)?);
        // Without a history there is no trend: of a new pattern it would be a division by zero.
        if let Some(before) = before {
            trends.insert(row.get(0)?, Trend::of(newest.unwrap_or(0.0), before));
        }
    }
    Ok(trends)
}

/// The producers' accounts, most recently heard of first.
pub(crate) fn delivery_report(
    db: &Connection,
    tenant: &Tenant,
    service: Option<&Service>,
) -> Result<Vec<ProducerReport>, Fault> {
    let snapshot = db.unchecked_transaction()?;
    let Some(tenant_id) = find_tenant(&snapshot, tenant)? else { return Ok(Vec::new()) };
    // An empty service: a row that was made for a batch of which nothing came (see the ledger).
    let mut select = snapshot.prepare_cached(
        "SELECT producer_id, service, instance, sequence, emitted, dropped, rejected_seen, queued,
                spooled, stored, dead_lettered, committed_sequences, last_received_unix_nano
         FROM producers
         WHERE is_listed = 1 AND tenant_id = ?1 AND service <> '' AND (?2 IS NULL OR service = ?2)
         ORDER BY last_received_unix_nano DESC, producer_key LIMIT ?3",
    )?;
    let name = service.map(Service::as_str);
    let mut rows = select.query(params![tenant_id, name, PRODUCERS_MAX])?;
    let mut reports = Vec::new();
    while let Some(row) = rows.next()? {
        reports.push(producer_report(row)?);
    }
    Ok(reports)
}

/// The accounts of all producers added up, by service.
pub(crate) fn producer_totals(
    db: &Connection,
    tenant: &Tenant,
    service: Option<&Service>,
) -> Result<Vec<ProducerTotals>, Fault> {
    let snapshot = db.unchecked_transaction()?;
    let Some(tenant_id) = find_tenant(&snapshot, tenant)? else { return Ok(Vec::new()) };
    let mut select = snapshot.prepare_cached(&format!(
        "SELECT service, {} FROM producer_totals
         WHERE tenant_id = ?1 AND (?2 IS NULL OR service = ?2) AND producers > 0 ORDER BY service",
        FIGURES.join(", ")
    ))?;
    let mut rows = select.query(params![tenant_id, service.map(Service::as_str)])?;
    let mut totals = Vec::new();
    while let Some(row) = rows.next()? {
        let mut figures = Figures::default();
        for (column, figure) in (1..).zip(&mut figures) {
            *figure = row.get(column)?;
        }
        totals.push(ProducerTotals::of(service_of(row, 0)?, figures));
    }
    Ok(totals)
}

pub(crate) fn repeated_logs(db: &Connection, tenant: &Tenant) -> Result<u64, Fault> {
    let select = "SELECT logs FROM repeats JOIN tenants USING (tenant_id) WHERE name = ?1";
    let logs = db.prepare_cached(select)?.query_row([tenant.as_str()], |row| row.get(0));
    Ok(logs.optional()?.unwrap_or(0))
}

pub(crate) fn ledger_checksums(
    db: &Connection,
    tenant: &Tenant,
    batch_ids: &[BatchId],
) -> Result<HashMap<BatchId, u64>, Fault> {
    let select = "SELECT checksum FROM batches JOIN tenants USING (tenant_id)
                  WHERE name = ?1 AND batch_id = ?2";
    let mut statement = db.prepare_cached(select)?;
    let mut known = HashMap::new();
    for batch_id in batch_ids {
        let checksum = statement.query_row((tenant.as_str(), batch_id.0), |row| row.get(0));
        if let Some(checksum) = checksum.optional()? {
            known.insert(*batch_id, i64::cast_unsigned(checksum));
        }
    }
    Ok(known)
}

fn producer_report(row: &Row<'_>) -> Result<ProducerReport, Fault> {
    let bits = |column| row.get(column).map(|number: i64| number as u64);
    let committed: RangeSet = row.get(11)?;
    Ok(ProducerReport {
        producer_id: ProducerId(row.get(0)?),
        service: service_of(row, 1)?,
        instance: row.get(2)?,
        sequence: bits(3)?,
        account: Account {
            emitted: bits(4)?,
            dropped: row.get::<_, Dropped>(5)?.0,
            rejected: bits(6)?,
            queued: bits(7)?,
            spooled: bits(8)?,
        },
        stored: bits(9)?,
        rejected: bits(10)?,
        missing_sequences: committed.missing(MISSING_RANGES_MAX),
        last_received: rows::timestamp(row, 12)?,
    })
}
