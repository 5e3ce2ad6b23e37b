//! Lists of what is known: templates with their counts, and the producers' accounts.

use std::{collections::HashMap, pin::pin};

use deadpool_postgres::Transaction;
use futures::TryStreamExt;
use logweir_core::{
    identity::{BatchId, ProducerId, Service, Tenant},
    record::{Account, Template},
    timestamp::Timestamp,
};
use tokio_postgres::{Row, types::Type};

use super::rows;
use crate::postgres::{
    errors::Fault,
    statement::{Statement, Value},
    values::{Id, Timestamptz},
};
use crate::{
    ProducerReport, ProducerTotals, TemplateSummary,
    producer_totals::{FIGURES, Figures},
    query::{PRODUCERS_MAX, TimeRange},
    ranges::{MISSING_RANGES_MAX, RangeSet},
    time_buckets::{HOUR_SECONDS, Trend, seconds},
};

/// Every template of every tenant with its count.
pub(crate) async fn load_templates(db: &Transaction<'_>) -> Result<Vec<(Template, u64)>, Fault> {
    let statement = Statement::new(
        "SELECT template_id, service, pattern, pattern_exact, tenant, total, merged_into, is_merger
         FROM templates",
    );
    let mut found = pin!(statement.stream(db).await?);
    let mut templates = Vec::new();
    while let Some(row) = found.try_next().await? {
        let tenant = Tenant::new(rows::get(&row, 4)?);
        let template = Template {
            template_id: rows::template_id(rows::get(&row, 0)?),
            tenant: tenant.map_err(|error| Fault::corrupt(error.to_string()))?,
            service: rows::service(rows::get(&row, 1)?)?,
            pattern: pattern(&row)?,
            merged_into: rows::get::<Option<i64>>(&row, 6)?.map(rows::template_id),
            is_merger: rows::get(&row, 7)?,
        };
        templates.push((template, rows::count(&row, 5)?));
    }
    Ok(templates)
}

/// In the third column, unless it is one that text cannot hold: then in the fourth.
fn pattern(row: &Row) -> Result<String, Fault> {
    match rows::get::<Option<Vec<u8>>>(row, 3)? {
        Some(exact) => {
            String::from_utf8(exact).map_err(|error| Fault::corrupt(format!("a pattern: {error}")))
        }
        None => rows::get(row, 2),
    }
}

/// The most frequent templates in a range, which is widened to whole hours.
pub(crate) async fn list_templates(
    db: &Transaction<'_>,
    tenant: &Tenant,
    service: Option<&Service>,
    range: TimeRange,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<TemplateSummary>, Fault> {
    let found = most_frequent(tenant, service, range, limit).rows(db).await?;
    let mut ids = Vec::with_capacity(found.len());
    let mut templates = Vec::with_capacity(found.len());
    for row in &found {
        ids.push(rows::get(row, 0)?);
        templates.push(template_summary(row)?);
    }
    let trend = Trend::ending(range.to.min(now));
    let trends = trends(db, tenant, ids, trend).await?;
    for template in &mut templates {
        template.trend = trends.get(&(template.template_id.0 as i64)).copied();
    }
    Ok(templates)
}

fn most_frequent(
    tenant: &Tenant,
    service: Option<&Service>,
    range: TimeRange,
    limit: usize,
) -> Statement {
    // A row for each pattern, under the one that it was merged into.
    const FOUND: &str = "SELECT t.template_id, t.service, t.pattern, t.pattern_exact, \
         found.first, found.last, found.level, found.count
         FROM (SELECT coalesce(merger.template_id, own.template_id) AS template_id,
                      min(own.first_seen_unix_nano) AS first, max(own.last_seen_unix_nano) AS last,
                      max(own.level) AS level, sum(counts.count)::bigint AS count FROM (";
    // Summed by merged pattern before the limit is applied: a pattern whose parts are each too rare
    // for the list may belong on it as a whole.
    let tenant = Value::Text(tenant.to_string());
    // Without bounds the totals say it all: they also count hours that are gone.
    let statement = if range == TimeRange::ALL {
        Statement::new(FOUND)
            .text("SELECT template_id, total AS count FROM templates WHERE total > 0 AND tenant = ")
            .value(tenant.clone())
    } else {
        let (from, to) = seconds(range);
        Statement::new(FOUND)
            .text(
                "SELECT template_id, sum(total)::bigint AS count
                 FROM template_buckets WHERE tenant = ",
            )
            .value(tenant.clone())
            .text(" AND width_seconds = 3600 AND start_at > ")
            .value(Value::Time(Timestamptz::of_seconds(from.saturating_sub(HOUR_SECONDS))))
            .text(" AND start_at < ")
            .value(Value::Time(Timestamptz::of_seconds(to)))
            .text(" GROUP BY template_id")
    };
    let mut statement = statement
        .text(
            ") counts JOIN templates own USING (template_id)
                 LEFT JOIN templates merger ON merger.tenant = own.tenant
                                           AND merger.template_id = own.merged_into
             WHERE own.tenant = ",
        )
        .value(tenant.clone());
    if let Some(service) = service {
        statement = statement.text(" AND own.service = ").value(Value::Text(service.to_string()));
    }
    statement
        .text(" GROUP BY 1) found JOIN templates t USING (template_id) WHERE t.tenant = ")
        .value(tenant)
        .text(" ORDER BY found.count DESC, t.template_id LIMIT ")
        .value(Value::Long(i64::try_from(limit).unwrap_or(i64::MAX)))
}

/// Id, service, pattern, its bytes, first and last log, level, count.
pub(crate) fn template_summary(row: &Row) -> Result<TemplateSummary, Fault> {
    Ok(TemplateSummary {
        template_id: rows::template_id(rows::get(row, 0)?),
        service: rows::service(rows::get(row, 1)?)?,
        pattern: pattern(row)?,
        count: rows::count(row, 7)?,
        first_seen: rows::timestamp(row, 4)?,
        last_seen: rows::timestamp(row, 5)?,
        level: rows::level(rows::get(row, 6)?)?,
        trend: None,
    })
}

/// The trends of those of the templates that occurred in the 24 hours before the last one, by id.
async fn trends(
    db: &Transaction<'_>,
    tenant: &Tenant,
    ids: Vec<i64>,
    trend: Trend,
) -> Result<HashMap<i64, f64>, Fault> {
    let last = Value::Time(Timestamptz::of_seconds(trend.last));
    let tenant = Value::Text(tenant.to_string());
    let found = Statement::new(
        "SELECT coalesce(own.merged_into, own.template_id), (sum(b.total) FILTER (WHERE start_at = ",
    )
        .value(last.clone())
        .text("))::bigint, (sum(b.total) FILTER (WHERE start_at < ")
        .value(last.clone())
        .text(
            "))::bigint FROM template_buckets b JOIN templates own USING (tenant, template_id)
             WHERE tenant = ",
        )
        .value(tenant)
        .text(" AND width_seconds = 3600 AND start_at >= ")
        .value(Value::Time(Timestamptz::of_seconds(trend.first)))
        .text(" AND start_at <= ")
        .value(last)
        .text(" AND coalesce(own.merged_into, own.template_id) = ANY(")
        .value(Value::Longs(ids))
        .text(") GROUP BY 1")
        .rows(db)
        .await?;
    let mut trends = HashMap::new();
    for row in &found {
        let (newest, before): (Option<i64>, Option<i64>) = (rows::get(row, 1)?, rows::get(row, 2)?);
        if let Some(before) = before {
            trends.insert(rows::get(row, 0)?, Trend::of(newest.unwrap_or(0) as f64, before as f64));
        }
    }
    Ok(trends)
}

/// The producers' accounts, most recently heard of first.
pub(crate) async fn delivery_report(
    db: &Transaction<'_>,
    tenant: &Tenant,
    service: Option<&Service>,
) -> Result<Vec<ProducerReport>, Fault> {
    let mut statement = Statement::new(
        "SELECT producer_id, service, instance, sequence, emitted, dropped, rejected_seen, queued,
                spooled, stored, dead_lettered, committed_sequences, last_received_unix_nano
         FROM producers WHERE is_listed AND service <> '' AND tenant = ",
    )
    .value(Value::Text(tenant.to_string()));
    if let Some(service) = service {
        statement = statement.text(" AND service = ").value(Value::Text(service.to_string()));
    }
    let found = statement
        .text(" ORDER BY last_received_unix_nano DESC, producer_id LIMIT ")
        .value(Value::Long(PRODUCERS_MAX as i64))
        .rows(db)
        .await?;
    found.iter().map(producer_report).collect()
}

/// The accounts of all producers added up, by service.
pub(crate) async fn producer_totals(
    db: &Transaction<'_>,
    tenant: &Tenant,
    service: Option<&Service>,
) -> Result<Vec<ProducerTotals>, Fault> {
    let select = format!(
        "SELECT service, {} FROM producer_totals
         WHERE tenant = $1 AND ($2 IS NULL OR service = $2) AND producers > 0 ORDER BY service",
        FIGURES.join(", ")
    );
    let name = service.map(Service::as_str);
    let values = [(&tenant.as_str() as _, Type::TEXT), (&name as _, Type::TEXT)];
    db.query_typed(&select, &values).await?.iter().map(totals_of_service).collect()
}

pub(crate) async fn repeated_logs(db: &Transaction<'_>, tenant: &Tenant) -> Result<u64, Fault> {
    let select = "SELECT logs FROM repeats WHERE tenant = $1";
    let rows = db.query_typed(select, &[(&tenant.as_str() as _, Type::TEXT)]).await?;
    Ok(rows.first().map_or(Ok(0), |row| rows::get::<i64>(row, 0))?.cast_unsigned())
}

pub(crate) async fn ledger_checksums(
    db: &Transaction<'_>,
    tenant: &Tenant,
    batch_ids: &[BatchId],
) -> Result<HashMap<BatchId, u64>, Fault> {
    let ids: Vec<Id> = batch_ids.iter().map(|batch_id| Id(batch_id.0)).collect();
    let rows = db
        .query_typed(
            "SELECT batch_id, checksum FROM batches WHERE tenant = $1 AND batch_id = ANY($2)",
            &[(&tenant.as_str(), Type::TEXT), (&ids, Type::UUID_ARRAY)],
        )
        .await?;
    let entry = |row: &Row| {
        let checksum = rows::get::<i64>(row, 1)?.cast_unsigned();
        Ok((BatchId(rows::get::<Id>(row, 0)?.0), checksum))
    };
    rows.iter().map(entry).collect()
}

fn totals_of_service(row: &Row) -> Result<ProducerTotals, Fault> {
    let mut figures = Figures::default();
    for (column, figure) in (1..).zip(&mut figures) {
        *figure = rows::get(row, column)?;
    }
    Ok(ProducerTotals::of(rows::service(rows::get(row, 0)?)?, figures))
}

fn producer_report(row: &Row) -> Result<ProducerReport, Fault> {
    let bits = |column| rows::get::<i64>(row, column).map(|number| number as u64);
    let damaged = || Fault::corrupt("the account of a producer");
    let dropped: &str = rows::get(row, 5)?;
    let committed = RangeSet::from_bytes(rows::get(row, 11)?).ok_or_else(damaged)?;
    Ok(ProducerReport {
        producer_id: ProducerId(rows::get::<Id>(row, 0)?.0),
        service: rows::service(rows::get(row, 1)?)?,
        instance: rows::get(row, 2)?,
        sequence: bits(3)?,
        account: Account {
            emitted: bits(4)?,
            dropped: serde_json::from_str(dropped).map_err(|_| damaged())?,
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
