//! The counts of a transaction's logs on their way into the tables.

use std::collections::HashMap;

use logweir_core::{identity::TemplateId, record::Level, timestamp::Timestamp};
use rusqlite::{Connection, OptionalExtension, Params, params};

use crate::{
    histogram::Histogram,
    rollups::{Counts, Latency, ServiceCounts, Sorted, TemplateCounts, by_key},
    sqlite::{errors::Fault, ids::Ids},
    time_buckets::{FINE_SECONDS, HOUR_SECONDS},
};

/// Bytes that a row of a table of buckets takes, about; the migration that made `tenant_usage` and
/// the triggers that count rows that are deleted reckon with as many.
const SERVICE_BUCKET_BYTES: i64 = 64;
const LATENCY_BUCKET_BYTES: i64 = 128;
const TEMPLATE_BUCKET_BYTES: i64 = 64;

/// Adds everything to the tables.
pub(crate) fn save(
    db: &Connection,
    ids: &mut Ids,
    tenant_id: i64,
    counts: Counts<'_>,
) -> Result<(), Fault> {
    let mut added = AddedRows::default();
    save_services(db, &mut added, FINE_SECONDS, &counts.services)?;
    save_services(db, &mut added, HOUR_SECONDS, &counts.service_hours)?;
    save_service_totals(db, &counts.service_hours)?;
    // Totals first: this is where a template that is new gets its key, which the buckets need.
    let mut keys: HashMap<TemplateId, i64> = HashMap::new();
    for (template, counts) in &counts.template_totals {
        let key = ids.template(db, tenant_id, template)?;
        keys.insert(template.template_id, key);
        add_template_total(db, tenant_id, key, counts)?;
    }
    save_template_errors(db, &mut added, &with_keys(counts.template_errors, &keys))?;
    save_templates(db, &mut added, &with_keys(counts.templates, &keys))?;
    added.save(db, tenant_id)?;
    Ok(())
}

/// Rows that were added to the tables of buckets: they count as what the tenant takes of the disk.
// By a trigger each would cost a statement more, and SQLite would keep a journal of every statement
// on such a table so that it can be taken back alone.
#[derive(Default)]
struct AddedRows {
    bytes: i64,
    /// Of those, the buckets of 10 seconds.
    fine: i64,
}

impl AddedRows {
    fn note(&mut self, width: i64, bytes: i64) {
        self.bytes += bytes;
        self.fine += i64::from(width == FINE_SECONDS);
    }

    fn save(&self, db: &Connection, tenant_id: i64) -> rusqlite::Result<()> {
        if self.bytes > 0 {
            db.prepare_cached(
                "UPDATE tenant_usage SET row_bytes = row_bytes + ?2, fine_buckets = fine_buckets + ?3
                 WHERE tenant_id = ?1",
            )?
            .execute([tenant_id, self.bytes, self.fine])?;
        }
        Ok(())
    }
}

/// Runs `update`, and `insert` with the same values where it found no row. Whether it inserted.
// Most rows are there already, and an upsert does not tell.
fn update_or_insert(
    db: &Connection,
    (update, insert): (&str, &str),
    values: impl Params + Copy,
) -> rusqlite::Result<bool> {
    if db.prepare_cached(update)?.execute(values)? > 0 {
        return Ok(false);
    }
    db.prepare_cached(insert)?.execute(values)?;
    Ok(true)
}

/// By the key of the template in place of its id, ascending.
fn with_keys<T>(rows: Sorted<TemplateId, T>, keys: &HashMap<TemplateId, i64>) -> Sorted<i64, T> {
    let with_key =
        |((start, template_id), counts)| Some(((start, *keys.get(&template_id)?), counts));
    by_key(rows.into_iter().filter_map(with_key).collect())
}

/// Adds to the buckets of one width: a row for each level that occurs, and the latencies.
fn save_services(
    db: &Connection,
    added: &mut AddedRows,
    width: i64,
    rows: &Sorted<i64, ServiceCounts>,
) -> Result<(), Fault> {
    let statements = (
        "UPDATE service_buckets SET total = total + ?5, anomalies = anomalies + ?6
         WHERE width_seconds = ?1 AND start_unix_seconds = ?2 AND service_id = ?3 AND level = ?4",
        "INSERT INTO service_buckets VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    );
    for ((start, service_id), counts) in rows {
        for (level, (total, anomalies)) in Level::ALL.iter().zip(&counts.levels) {
            let values = params![width, start, service_id, *level as u8, total, anomalies];
            if *total > 0 && update_or_insert(db, statements, values)? {
                added.note(width, SERVICE_BUCKET_BYTES);
            }
        }
    }
    // After all of the other table, and only for services that measure latencies: an empty row
    // would bring a minimum of 0 ms into the merge.
    for ((start, service_id), counts) in rows {
        if counts.latency.count > 0 {
            save_latency(db, added, (width, *start, *service_id), &counts.latency)?;
        }
    }
    Ok(())
}

fn save_latency(
    db: &Connection,
    added: &mut AddedRows,
    key: (i64, i64, i64),
    latency: &Latency,
) -> Result<(), Fault> {
    // SQL cannot add up the packed counts, so they are read, merged here and written back. Nothing
    // can come between: there is one writer, and it is inside its transaction.
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
    if read.is_none() {
        added.note(key.0, LATENCY_BUCKET_BYTES);
    }
    histogram.merge(&latency.histogram);
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
        latency.count,
        latency.sum_ms,
        latency.min_ms,
        latency.max_ms,
        histogram.to_bytes(),
    ])?;
    Ok(())
}

/// Adds to what is known of each service ever. From the hours, because there are few of them; the
/// first sight is therefore the start of an hour.
fn save_service_totals(
    db: &Connection,
    hours: &Sorted<i64, ServiceCounts>,
) -> rusqlite::Result<()> {
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
            Timestamp::from_unix_seconds(*start).as_unix_nanos(),
            counts.last_seen.as_unix_nanos(),
        ])?;
    }
    Ok(())
}

/// The buckets of 10 seconds hold errors alone: rows for every template and 10 seconds would be
/// very many, and it is errors whose moment is asked for.
fn save_template_errors(
    db: &Connection,
    added: &mut AddedRows,
    rows: &Sorted<i64, (u64, u64)>,
) -> rusqlite::Result<()> {
    for ((start, template_key), (errors, anomalies)) in rows {
        let key = (FINE_SECONDS, *start, *template_key);
        add_template_bucket(db, added, key, [*errors, *errors, *anomalies])?;
    }
    Ok(())
}

fn save_templates(
    db: &Connection,
    added: &mut AddedRows,
    rows: &Sorted<i64, TemplateCounts>,
) -> rusqlite::Result<()> {
    for ((start, template_key), counts) in rows {
        let key = (HOUR_SECONDS, *start, *template_key);
        add_template_bucket(db, added, key, [counts.total, counts.errors, counts.anomalies])?;
    }
    Ok(())
}

fn add_template_bucket(
    db: &Connection,
    added: &mut AddedRows,
    (width, start, template_key): (i64, i64, i64),
    [total, errors, anomalies]: [u64; 3],
) -> rusqlite::Result<()> {
    let statements = (
        "UPDATE template_buckets SET total = total + ?4, errors = errors + ?5, anomalies = anomalies + ?6
         WHERE width_seconds = ?1 AND start_unix_seconds = ?2 AND template_key = ?3",
        "INSERT INTO template_buckets VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    );
    let values = params![width, start, template_key, total, errors, anomalies];
    if update_or_insert(db, statements, values)? {
        added.note(width, TEMPLATE_BUCKET_BYTES);
    }
    Ok(())
}

fn add_template_total(
    db: &Connection,
    tenant_id: i64,
    key: i64,
    added: &TemplateCounts,
) -> rusqlite::Result<()> {
    let statements = (
        // The first sight mostly stays as it is. To set it, even to what it is, writes its index.
        "UPDATE template_totals SET total = total + ?2, level = max(level, ?3),
             last_seen_unix_nano = max(last_seen_unix_nano, ?5)
         WHERE template_key = ?1 AND tenant_id = ?6 AND first_seen_unix_nano <= ?4",
        "INSERT INTO template_totals VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET total = total + excluded.total, level = max(level, excluded.level),
             first_seen_unix_nano = min(first_seen_unix_nano, excluded.first_seen_unix_nano),
             last_seen_unix_nano = max(last_seen_unix_nano, excluded.last_seen_unix_nano)",
    );
    let (first, last) = (added.first.as_unix_nanos(), added.last.as_unix_nanos());
    let values = params![key, added.total, added.level as u8, first, last, tenant_id];
    update_or_insert(db, statements, values)?;
    Ok(())
}
