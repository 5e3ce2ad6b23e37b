//! Counts over time, from the tables of buckets: no log is read. The database adds up counts; the
//! histograms of latencies are added up here, which costs it less.

use std::{hash::Hash, pin::pin};

use deadpool_postgres::Transaction;
use futures::TryStreamExt;
use logweir_core::{
    identity::{Service, Tenant},
    record::Level,
};
use tokio_postgres::Row;

use super::rows;
use crate::postgres::{
    errors::Fault,
    statement::{Statement, Value},
    values::Timestamp,
};
use crate::{
    AggregateSeries, HeatmapCell, ServiceSummary,
    histogram::Histogram,
    query::{AggregateQuery, GroupBy},
    time_buckets::{Groups, Heatmap, Logs, Span},
};

/// Which rows of a table of buckets a query reads.
struct Slice<'a> {
    span: Span,
    tenant: &'a Tenant,
    service: Option<&'a Service>,
}

impl Slice<'_> {
    /// Goes on after `tenant = ` with the other bounds.
    fn bound(&self, statement: Statement) -> Statement {
        statement
            .value(Value::Text(self.tenant.to_string()))
            .text(" AND width_seconds = ")
            .value(Value::Int(self.span.width as i32))
            .text(" AND start_at >= ")
            .value(Value::Time(Timestamp::of_seconds(self.span.from)))
            .text(" AND start_at < ")
            .value(Value::Time(Timestamp::of_seconds(self.span.to)))
    }

    fn of_service(&self, statement: Statement) -> Statement {
        match self.service {
            Some(service) => {
                statement.text(" AND service = ").value(Value::Text(service.to_string()))
            }
            None => statement,
        }
    }

    /// `SELECT` and the start of the query's bucket that a row falls into, by which to group.
    fn select(&self) -> Statement {
        Statement::new("SELECT date_bin(make_interval(secs => ")
            .value(Value::Double(self.span.bucket as f64))
            .text("), start_at, 'epoch') AS bucket")
    }
}

/// Counts per time bucket and group, largest group first.
pub(crate) async fn aggregate(
    db: &Transaction<'_>,
    tenant: &Tenant,
    query: &AggregateQuery,
) -> Result<Vec<AggregateSeries>, Fault> {
    let slice = Slice { span: Span::of(query)?, tenant, service: query.service.as_ref() };
    let mut groups = Groups::new(slice.span);
    match query.group_by {
        GroupBy::Template => {
            add_templates(db, &slice, &mut groups).await?;
        }
        GroupBy::Level => {
            let level = |row: &Row| Ok(rows::level(rows::get(row, 4)?)?.to_string());
            add_counts(db, &slice, "level", &mut groups, level).await?;
        }
        GroupBy::Service => {
            add_counts(db, &slice, "service", &mut groups, |row| rows::get(row, 4)).await?;
            add_latencies(db, &slice, &mut groups, |row| rows::get(row, 1)).await?;
        }
        GroupBy::Nothing => {
            add_counts(db, &slice, "1", &mut groups, |_| Ok(String::new())).await?;
            add_latencies(db, &slice, &mut groups, |_| Ok(String::new())).await?;
        }
    }
    Ok(groups.into_series(|group| group))
}

/// Adds rows of: start, total, errors, anomalies, group.
async fn add<K: Hash + Eq>(
    db: &Transaction<'_>,
    statement: Statement,
    groups: &mut Groups<K>,
    group: impl Fn(&Row) -> Result<K, Fault>,
) -> Result<(), Fault> {
    let mut found = pin!(statement.stream(db).await?);
    while let Some(row) = found.try_next().await? {
        let logs = Logs {
            total: rows::count(&row, 1)?,
            errors: rows::count(&row, 2)?,
            anomalies: rows::count(&row, 3)?,
        };
        groups.add(group(&row)?, start(&row)?, logs)?;
    }
    Ok(())
}

/// The second in the first column.
fn start(row: &Row) -> Result<i64, Fault> {
    Ok(rows::get::<Timestamp>(row, 0)?.seconds())
}

async fn add_counts<K: Hash + Eq>(
    db: &Transaction<'_>,
    slice: &Slice<'_>,
    column: &'static str,
    groups: &mut Groups<K>,
    group: impl Fn(&Row) -> Result<K, Fault>,
) -> Result<(), Fault> {
    let statement = slice
        .select()
        .text(", sum(total)::bigint, coalesce(sum(total) FILTER (WHERE level >= ")
        .value(Value::Small(Level::Error as i16))
        .text("), 0)::bigint, sum(anomalies)::bigint, ")
        .text(column)
        .text(" FROM service_buckets WHERE tenant = ");
    let statement = slice.of_service(slice.bound(statement)).text(" GROUP BY bucket, 5");
    add(db, statement, groups, group).await
}

/// Full counts in hours; below that errors alone are kept.
async fn add_templates(
    db: &Transaction<'_>,
    slice: &Slice<'_>,
    groups: &mut Groups<String>,
) -> Result<(), Fault> {
    let statement = slice.select().text(
        ", sum(counts.total)::bigint, sum(errors)::bigint, sum(anomalies)::bigint,
           coalesce(merged_into, template_id)
         FROM template_buckets counts LEFT JOIN templates USING (tenant, template_id)
         WHERE tenant = ",
    );
    let mut statement = slice.bound(statement);
    if let Some(service) = slice.service {
        statement = statement
            .text(" AND template_id IN (SELECT template_id FROM templates WHERE tenant = ")
            .value(Value::Text(slice.tenant.to_string()))
            .text(" AND service = ")
            .value(Value::Text(service.to_string()))
            .text(")");
    }
    let group = |row: &Row| Ok(rows::template_id(rows::get(row, 4)?).to_string());
    add(db, statement.text(" GROUP BY bucket, 5"), groups, group).await
}

async fn add_latencies<K: Hash + Eq>(
    db: &Transaction<'_>,
    slice: &Slice<'_>,
    groups: &mut Groups<K>,
    group: impl Fn(&Row) -> Result<K, Fault>,
) -> Result<(), Fault> {
    let mut found = pin!(latencies(slice).stream(db).await?);
    while let Some(row) = found.try_next().await? {
        let sums = (rows::count(&row, 2)?, rows::get(&row, 3)?);
        groups.add_latencies(group(&row)?, start(&row)?, sums, &histogram(&row)?)?;
    }
    Ok(())
}

/// Start, service, count, sum, latency buckets and the count of each.
fn latencies(slice: &Slice<'_>) -> Statement {
    let statement = Statement::new(
        "SELECT start_at, service, count, sum_ms, buckets, counts FROM latency_buckets WHERE tenant = ",
    );
    slice.of_service(slice.bound(statement))
}

fn histogram(row: &Row) -> Result<Histogram, Fault> {
    let (buckets, counts): (Vec<i16>, Vec<i64>) = (rows::get(row, 4)?, rows::get(row, 5)?);
    let mut histogram = Histogram::default();
    for (bucket, count) in buckets.into_iter().zip(counts) {
        let count = u64::try_from(count);
        histogram.add(
            bucket.into(),
            count.map_err(|_| Fault::corrupt("the counts of a latency bucket"))?,
        );
    }
    Ok(histogram)
}

/// Logs per time and latency bucket.
pub(crate) async fn latency_heatmap(
    db: &Transaction<'_>,
    tenant: &Tenant,
    query: &AggregateQuery,
) -> Result<Vec<HeatmapCell>, Fault> {
    let slice = Slice { span: Span::of(query)?, tenant, service: query.service.as_ref() };
    let mut heatmap = Heatmap::new(slice.span);
    let mut found = pin!(latencies(&slice).stream(db).await?);
    while let Some(row) = found.try_next().await? {
        heatmap.add(start(&row)?, &histogram(&row)?)?;
    }
    Ok(heatmap.into_cells()?)
}

/// The services that have stored logs, by name.
pub(crate) async fn list_services(
    db: &Transaction<'_>,
    tenant: &Tenant,
) -> Result<Vec<ServiceSummary>, Fault> {
    let found = Statement::new(
        "SELECT service, total, errors, anomalies, first_seen_unix_nano, last_seen_unix_nano
         FROM services WHERE total > 0 AND tenant = ",
    )
    .value(Value::Text(tenant.to_string()))
    .text(" ORDER BY service")
    .rows(db)
    .await?;
    let summary = |row| -> Result<ServiceSummary, Fault> {
        Ok(ServiceSummary {
            service: rows::service(rows::get(row, 0)?)?,
            total: rows::count(row, 1)?,
            errors: rows::count(row, 2)?,
            anomalies: rows::count(row, 3)?,
            first_seen_unix_nano: rows::get(row, 4)?,
            last_seen_unix_nano: rows::get(row, 5)?,
        })
    };
    found.iter().map(summary).collect()
}
