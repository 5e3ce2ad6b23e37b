//! Finding logs: walks through time in stretches chosen by the stored buckets, a statement for
//! each, and stops as soon as the page is full or its limits are met. Rows come one by one and only
//! matches are kept, so a page of logs is all that it holds. Every statement has its own snapshot: a
//! long search hinders no vacuum, and logs that come in meanwhile may only appear where it has not
//! been yet.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use deadpool_postgres::Transaction;
use futures::TryStreamExt;
use logweir_core::{
    filter::{Expression, Filter, Required, Term, TextField},
    identity::{LogId, Service, TemplateId, Tenant},
    record::{Level, StoredLog},
    timestamp::Timestamp,
};

use super::{
    filter::{Condition, is_exact},
    rows,
    search_range::{Crowd, Stretch},
};
use crate::postgres::{
    errors::Fault,
    statement::{Statement, Value},
    template_aliases,
    values::{Id, Timestamptz},
};
use crate::{
    LogWithNeighbours, StorageError,
    query::{Order, SearchLimits, SearchPage, SearchQuery, TimeRange},
    template_aliases::of_logs,
    time_buckets::{FINE_SECONDS, HOUR_SECONDS, bucket_start, seconds},
};

/// Rows that a stretch may hold in vain: about 0.1 s of the database's time.
// A statement is not stopped when its caller goes, so that this is also how long the server works
// for nobody.
const STRETCH_ROWS_MAX: u64 = 250_000;
/// More than these of a stretch in vain, and the next one is small.
const PASSED_ROWS_MAX: u64 = 8_000;
/// The first stretch of a search whose condition lets rows pass in vain.
const DOUBTFUL_ROWS_MIN: u64 = 2_000;
/// A stretch that took longer, and the next one is small too: limits are looked at between stretches,
/// and a statement that takes too long comes to nothing.
const STRETCH_TIME_MAX: Duration = Duration::from_secs(1);
/// Hours looked ahead at first.
const HOURS_AHEAD: i64 = 8;
/// By how much the next stretch, and the hours looked ahead, are larger.
// Years without a match are crossed in a handful of statements, while one in the next hour is found
// by a small one.
const GROWTH: u64 = 8;
/// Most rows of a statement; where more are needed the next one goes on.
// Where no index gives rows in this order, the server has as many in memory while it sorts, and
// sends the first only after the last is read.
const ROWS_MAX: u64 = 20_000;

/// A page of matches in the order given.
pub(crate) async fn search(
    db: &Transaction<'_>,
    tenant: &Tenant,
    query: &SearchQuery,
    order: Order,
) -> Result<SearchPage, Fault> {
    let expanded = template_aliases::expanded(db, tenant, &query.filter).await?;
    let filter = expanded.as_ref().unwrap_or(&query.filter);
    let required = filter.required();
    let mut range = query.range;
    range.from = range.from.max(required.time.0);
    range.to = range.to.min(required.time.1);
    let mut page = Page::new(order, query);
    page.narrow_to_cursor(&mut range);
    let Some(services) = services(db, tenant, &required).await? else { return Ok(page.finish()) };
    let scope = Scope {
        tenant,
        filter,
        condition: Condition::of(filter),
        is_exact: is_exact(filter),
        levels: levels(&required),
        anomalies_only: required.anomaly == Some(true),
        template: required.template,
        service: services,
        trace: required.trace,
        range,
        order,
    };
    if scope.condition == Condition::Never {
        return Ok(page.finish());
    }
    if let Some(trace) = required.trace {
        // New partitions have no statistics, and for what seems to be a small table the planner
        // reads all of it rather than the index by trace.
        db.batch_execute("SET LOCAL enable_seqscan = off").await?;
        if let Some(part) = span(db, trace, range).await? {
            scope.read(db, part, &[], &mut page).await?;
        }
    } else {
        walk(db, &scope, &mut page).await?;
    }
    let mut page = page.finish();
    template_aliases::show(db, tenant, of_logs(&page.logs), &mut page.logs).await?;
    Ok(page)
}

/// One log with those around it.
pub(crate) async fn get(
    db: &Transaction<'_>,
    tenant: &Tenant,
    id: LogId,
    neighbours: usize,
) -> Result<LogWithNeighbours, Fault> {
    let found = find(db, tenant, id).await?;
    let mut log = found.ok_or_else(|| StorageError::NotFound(format!("log {id}")))?;
    template_aliases::show(db, tenant, of_logs([&log]), [&mut log]).await?;
    if neighbours == 0 {
        return Ok(LogWithNeighbours { log, before: Vec::new(), after: Vec::new() });
    }
    let service = Term::Text(TextField::Service, log.service.to_string());
    let query = SearchQuery {
        filter: Filter { expression: Expression::Term(service) },
        range: TimeRange::ALL,
        cursor: Some(id),
        page_size: neighbours,
        limits: SearchLimits::NONE,
    };
    let mut before = search(db, tenant, &query, Order::NewestFirst).await?.logs;
    before.reverse();
    let after = search(db, tenant, &query, Order::OldestFirst).await?.logs;
    Ok(LogWithNeighbours { log, before, after })
}

async fn find(
    db: &Transaction<'_>,
    tenant: &Tenant,
    id: LogId,
) -> Result<Option<StoredLog>, Fault> {
    // The services with logs in these 10 seconds are named because the index leads with the
    // service, and so do TimescaleDB's columns: by time alone all of them would be decompressed.
    let Ok(index) = i32::try_from(id.index) else { return Ok(None) };
    let (time, time_nanos) = Timestamptz::of(id.time);
    let start = bucket_start(id.time, FINE_SECONDS);
    let statement = Statement::new("SELECT ")
        .text(rows::LOG)
        .text(" FROM logs WHERE tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND service = ANY(ARRAY(SELECT service FROM service_buckets WHERE tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND width_seconds = 10 AND start_at = ")
        .value(Value::Time(Timestamptz::of_seconds(start)))
        .text(")) AND time = ")
        .value(Value::Time(time))
        .text(" AND time_nanos = ")
        .value(Value::Small(time_nanos))
        .text(" AND batch_id = ")
        .value(Value::Id(Id(id.batch_id.0)))
        .text(" AND record_index = ")
        .value(Value::Int(index))
        .text(" LIMIT 1");
    statement.rows(db).await?.first().map(rows::log).transpose()
}

/// The matches found so far, in order.
struct Page {
    order: Order,
    size: usize,
    cursor: Option<LogId>,
    logs: Vec<StoredLog>,
    limits: SearchLimits,
    started: Instant,
    /// Where the search met its limits.
    ended_at: Option<LogId>,
}

impl Page {
    fn new(order: Order, query: &SearchQuery) -> Self {
        Self {
            order,
            size: query.page_size.max(1),
            cursor: query.cursor,
            logs: Vec::new(),
            limits: query.limits,
            started: Instant::now(),
            ended_at: None,
        }
    }

    fn narrow_to_cursor(&self, range: &mut TimeRange) {
        if let Some(cursor) = self.cursor {
            self.order.narrow(range, cursor);
        }
    }

    /// Matches still wanted: one more than fit, which tells that there are more.
    fn wanted(&self) -> u64 {
        (self.size + 1 - self.logs.len()) as u64
    }

    /// Whether nothing more is to be read.
    fn is_done(&self) -> bool {
        self.wanted() == 0 || self.ended_at.is_some()
    }

    /// Ends the search if its limits are met, everything up to an id being found.
    fn end_if_limits_are_met(&mut self, reached: LogId) {
        if self.limits.are_met_after(self.started.elapsed()) {
            self.ended_at = Some(reached);
        }
    }

    fn finish(mut self) -> SearchPage {
        let has_more = self.logs.len() > self.size;
        self.logs.truncate(self.size);
        let next = self.logs.last().map(|log| log.id).filter(|_| has_more);
        let is_partial = next.is_none() && self.ended_at.is_some();
        SearchPage { logs: self.logs, next: next.or(self.ended_at), is_partial }
    }
}

/// What is searched for, and whose.
struct Scope<'a> {
    tenant: &'a Tenant,
    filter: &'a Filter,
    condition: Condition,
    is_exact: bool,
    levels: Option<Vec<i16>>,
    anomalies_only: bool,
    template: Option<TemplateId>,
    service: Option<Service>,
    trace: Option<[u8; 16]>,
    range: TimeRange,
    order: Order,
}

/// Nothing if all may match.
fn levels(required: &Required<'_>) -> Option<Vec<i16>> {
    let may = |level: &Level| required.level_mask & 1 << *level as u8 != 0;
    let levels = Level::ALL.into_iter().filter(may).map(|level| level as i16);
    (required.level_mask != Required::ALL_LEVELS).then(|| levels.collect())
}

/// The one service that matches have, if there is one; nothing if no match can be.
async fn services(
    db: &Transaction<'_>,
    tenant: &Tenant,
    required: &Required<'_>,
) -> Result<Option<Option<Service>>, Fault> {
    if let Some(name) = required.service {
        return Ok(Service::new(name).ok().map(Some));
    }
    // A template is of one service, which leads to its logs; no index has templates.
    let Some(template_id) = required.template else { return Ok(Some(None)) };
    let rows = Statement::new("SELECT service FROM templates WHERE tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND template_id = ")
        .value(Value::Long(template_id.0 as i64))
        .rows(db)
        .await?;
    let found = rows.first().map(|row| rows::service(rows::get(row, 0)?));
    Ok(found.transpose()?.map(Some))
}

/// When within a range a trace was, of whatever tenant. With TimescaleDB's columns this reads two
/// of them; a trace is short, and so the rest is read of little time.
async fn span(
    db: &Transaction<'_>,
    trace: [u8; 16],
    range: TimeRange,
) -> Result<Option<TimeRange>, Fault> {
    let statement = Statement::new("SELECT min(time), max(time) FROM ");
    let rows = traced(statement, "time", trace, range).rows(db).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (first, last): (Option<Timestamptz>, Option<Timestamptz>) =
        (rows::get(row, 0)?, rows::get(row, 1)?);
    let bounds = first.zip(last).map(|(first, last)| TimeRange {
        from: range.from.max(first.with_nanos(0)),
        to: range.to.min(last.with_nanos(999).next()),
    });
    Ok(bounds)
}

/// Goes on with a table of the rows of a trace. The index of traces leads to them, and no other
/// can: among further conditions the database, which knows little of new rows, may choose another
/// index.
fn traced(statement: Statement, columns: &str, trace: [u8; 16], range: TimeRange) -> Statement {
    // OFFSET 0 keeps the planner from merging this into the query around it.
    let (from, to) = bounds(range);
    statement
        .text(&format!("(SELECT {columns} FROM logs WHERE trace_id = "))
        .value(Value::Bytes(trace.to_vec()))
        .text(" AND time >= ")
        .value(from)
        .text(" AND time <= ")
        .value(to)
        .text(" OFFSET 0) AS traced")
}

/// Of a column of time, both inclusive, widened to microseconds.
fn bounds(range: TimeRange) -> (Value, Value) {
    let time = |time| Value::Time(Timestamptz::of(time).0);
    (time(range.from), time(range.to - Duration::from_nanos(1)))
}

async fn walk(db: &Transaction<'_>, scope: &Scope<'_>, page: &mut Page) -> Result<(), Fault> {
    let mut range = scope.range;
    let mut rows = if scope.is_exact { 0 } else { DOUBTFUL_ROWS_MIN };
    let mut hours = HOURS_AHEAD;
    while range.from < range.to {
        let wanted = page.wanted().max(rows);
        let Some(stretch) = next_stretch(db, scope, range, hours, wanted).await? else {
            return Ok(());
        };
        let part = TimeRange {
            from: range.from.max(Timestamp::from_unix_seconds(stretch.from)),
            to: range.to.min(Timestamp::from_unix_seconds(stretch.to)),
        };
        let services = match scope.service {
            Some(_) => Vec::new(),
            None => services_in(db, scope, &stretch).await?,
        };
        let begun = Instant::now();
        let read = scope.read(db, part, &services, page).await?;
        let is_slow = begun.elapsed() > STRETCH_TIME_MAX;
        let reached = match scope.order {
            Order::NewestFirst => LogId::first_of(part.from),
            Order::OldestFirst => LogId::last_of(part.to.previous()),
        };
        scope.order.narrow(&mut range, reached);
        if !page.is_done() && range.from < range.to {
            page.end_if_limits_are_met(reached);
        }
        if page.is_done() {
            return Ok(());
        }
        // Rows passed in vain cost more than rows that the database looks through alone.
        rows = if read > PASSED_ROWS_MAX || is_slow {
            DOUBTFUL_ROWS_MIN
        } else {
            wanted.saturating_mul(GROWTH).min(STRETCH_ROWS_MAX)
        };
        // Somewhat over a year: each of these is a row of the answer.
        hours = (hours * GROWTH as i64).min(10_000);
    }
    Ok(())
}

/// The next stretch with logs that may match; nothing if there are no more.
async fn next_stretch(
    db: &Transaction<'_>,
    scope: &Scope<'_>,
    range: TimeRange,
    hours: i64,
    wanted: u64,
) -> Result<Option<Stretch>, Fault> {
    let crowds = scope.crowds(db, range, HOUR_SECONDS, hours).await?;
    let Some(stretch) = Stretch::over(&crowds, HOUR_SECONDS, wanted) else { return Ok(None) };
    // Of templates there are no counts per 10 seconds, but of errors.
    if scope.template.is_some() || !stretch.is_crowded(wanted) {
        return Ok(Some(stretch));
    }
    let hour = TimeRange {
        from: range.from.max(Timestamp::from_unix_seconds(stretch.from)),
        to: range.to.min(Timestamp::from_unix_seconds(stretch.to)),
    };
    let crowds = scope.crowds(db, hour, FINE_SECONDS, HOUR_SECONDS / FINE_SECONDS).await?;
    Ok(Some(Stretch::over(&crowds, FINE_SECONDS, wanted).unwrap_or(stretch)))
}

/// The services with logs in a stretch that may match: the index of logs begins with them.
async fn services_in(
    db: &Transaction<'_>,
    scope: &Scope<'_>,
    stretch: &Stretch,
) -> Result<Vec<String>, Fault> {
    let statement = Statement::new("SELECT DISTINCT service FROM service_buckets WHERE tenant = ");
    let statement = scope.of_buckets(statement, stretch.width, stretch.from, stretch.to);
    let rows = statement.rows(db).await?;
    rows.iter().map(|row| rows::get(row, 0)).collect()
}

impl Scope<'_> {
    /// The first buckets of a width in the range that have logs that may match, in order.
    async fn crowds(
        &self,
        db: &Transaction<'_>,
        range: TimeRange,
        width: i64,
        limit: i64,
    ) -> Result<Vec<Crowd>, Fault> {
        let (from, to) = seconds(range);
        let from = from.div_euclid(width) * width;
        let counted = if self.anomalies_only { "anomalies" } else { "total" };
        let table = if self.template.is_some() { "template_buckets" } else { "service_buckets" };
        let statement =
            format!("SELECT start_at, sum({counted})::bigint FROM {table} WHERE tenant = ");
        let statement = self.of_buckets(Statement::new(&statement), width, from, to);
        let order = self.direction();
        let rows = statement
            .text(&format!(" GROUP BY start_at ORDER BY start_at {order} LIMIT "))
            .value(Value::Long(limit))
            .rows(db)
            .await?;
        let crowd = |row| -> Result<Crowd, Fault> {
            let start: Timestamptz = rows::get(row, 0)?;
            Ok(Crowd { start: start.seconds(), logs: rows::count(row, 1)? })
        };
        rows.iter().map(crowd).collect()
    }

    /// Goes on after `tenant = ` with what buckets must be that have logs that may match.
    fn of_buckets(&self, statement: Statement, width: i64, from: i64, to: i64) -> Statement {
        let mut statement = statement
            .value(Value::Text(self.tenant.to_string()))
            .text(" AND width_seconds = ")
            .value(Value::Int(width as i32))
            .text(" AND start_at >= ")
            .value(Value::Time(Timestamptz::of_seconds(from)))
            .text(" AND start_at < ")
            .value(Value::Time(Timestamptz::of_seconds(to)));
        if self.anomalies_only {
            statement = statement.text(" AND anomalies > 0");
        }
        if let Some(template_id) = self.template {
            let id = Value::Long(template_id.0 as i64);
            return statement.text(" AND template_id = ").value(id);
        }
        if let Some(levels) = &self.levels {
            statement =
                statement.text(" AND level = ANY(").value(Value::Smalls(levels.clone())).text(")");
        }
        if let Some(service) = &self.service {
            statement = statement.text(" AND service = ").value(Value::Text(service.to_string()));
        }
        statement
    }

    const fn direction(&self) -> &'static str {
        match self.order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        }
    }

    /// Takes the matches of a part of the range into the page, until it is full; how many rows it
    /// read. Without services, and without one that is required, of all.
    async fn read(
        &self,
        db: &Transaction<'_>,
        part: TimeRange,
        services: &[String],
        page: &mut Page,
    ) -> Result<u64, Fault> {
        let mut read = 0;
        let mut after = page.cursor;
        let mut limit = if self.is_exact { 0 } else { DOUBTFUL_ROWS_MIN };
        loop {
            limit = page.wanted().max(limit).min(ROWS_MAX);
            let statement = self.statement(part, services, after, limit);
            let mut rows = pin!(statement.stream(db).await?);
            let mut count = 0;
            while let Some(row) = rows.try_next().await? {
                count += 1;
                let bytes = row.raw_size_bytes() as u64;
                page.limits.bytes = page.limits.bytes.saturating_sub(bytes);
                let log = rows::log(&row)?;
                // Of every row, whether or not it matches: the next statement goes on after it.
                after = Some(log.id);
                let time = log.id.time;
                // The column has microseconds, so that some rows just outside of the bounds come.
                let is_in = (part.from..part.to).contains(&time);
                if is_in && self.filter.matches(&log) {
                    page.logs.push(log);
                    if page.wanted() == 0 {
                        return Ok(read + count);
                    }
                }
            }
            read += count;
            if count < limit {
                return Ok(read);
            }
            if let Some(reached) = after {
                page.end_if_limits_are_met(reached);
            }
            if page.is_done() {
                return Ok(read);
            }
            limit *= GROWTH;
        }
    }

    /// The candidates after an id, in order.
    fn statement(
        &self,
        part: TimeRange,
        services: &[String],
        after: Option<LogId>,
        limit: u64,
    ) -> Statement {
        let (from, to) = bounds(part);
        let mut statement = Statement::new("SELECT ").text(rows::LOG).text(" FROM ");
        statement = match self.trace {
            Some(trace) => traced(statement, "*", trace, part),
            None => statement.text("logs"),
        };
        statement = statement
            .text(" WHERE tenant = ")
            .value(Value::Text(self.tenant.to_string()))
            .text(" AND time >= ")
            .value(from)
            .text(" AND time <= ")
            .value(to);
        if let Some(service) = &self.service {
            statement = statement.text(" AND service = ").value(Value::Text(service.to_string()));
        } else if !services.is_empty() {
            let services = Value::Texts(services.to_vec());
            statement = statement.text(" AND service = ANY(").value(services).text(")");
        }
        if let Some(id) = after {
            let (time, time_nanos) = Timestamptz::of(id.time);
            // As one row and not as four conditions joined by OR, which no index would be used for.
            let is_after = match self.order {
                Order::NewestFirst => " AND (time, time_nanos, batch_id, record_index) < (",
                Order::OldestFirst => " AND (time, time_nanos, batch_id, record_index) > (",
            };
            statement = statement
                .text(is_after)
                .value(Value::Time(time))
                .text(", ")
                .value(Value::Small(time_nanos))
                .text(", ")
                .value(Value::Id(Id(id.batch_id.0)))
                .text(", ")
                .value(Value::Int(i32::try_from(id.index).unwrap_or(i32::MAX)))
                .text(")");
        }
        let direction = self.direction();
        let order = ["time", "time_nanos", "batch_id", "record_index"]
            .map(|column| format!("{column} {direction}"))
            .join(", ");
        statement
            .text(" AND ")
            .pieces(self.condition.clone().into_pieces())
            .text(&format!(" ORDER BY {order} LIMIT "))
            .value(Value::Long(limit as i64))
    }
}
