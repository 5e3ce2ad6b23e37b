//! The counts of a transaction's logs on their way into the tables: a statement for each table, its
//! rows by ascending key, so that writers of the same services wait for each other but never in a
//! circle.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use logweir_core::{
    identity::{Service, Tenant},
    record::Level,
    timestamp::Timestamp,
};
use tokio_postgres::types::Type;

use crate::{
    postgres::{errors::Fault, texts::readable, values::Timestamptz},
    rollups::{Counts, Latency, ServiceCounts},
    time_buckets::{FINE_SECONDS, HOUR_SECONDS},
};

/// PostgreSQL refuses a sum that is not finite; absurd latencies add up to no more than this.
// A sender's 1e308 twice would otherwise be an error of the data that no single log is to blame
// for, so that bisection finds nothing and the write fails for ever. Two of these still add up.
const SUM_MAX: f64 = 1e300;

/// The counts of a tenant, whose services are numbered by their position in `services`.
pub(crate) struct Counted<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) counts: Counts<'a>,
}

/// Adds everything to the tables; tenants and services ascending.
pub(crate) async fn save(
    db: &Transaction<'_>,
    services: &[(&Tenant, &Service)],
    counted: &[Counted<'_>],
) -> Result<(), Fault> {
    if counted.is_empty() {
        return Ok(());
    }
    // Sent at once, so that five statements cost about one round trip. `biased`, because all
    // writers must lock the tables in the same order.
    let results = tokio::join!(
        biased;
        save_services(db, services, counted),
        save_latencies(db, services, counted),
        save_service_totals(db, services, counted),
        save_templates(db, counted),
        save_template_buckets(db, counted),
    );
    // In the order in which they ran: after the first that fails the others say only that.
    results.0.and(results.1).and(results.2).and(results.3).and(results.4)
}

/// A row of counts of a service, of either width.
type ServiceRow<'a> = (i32, Timestamptz, &'a Tenant, &'a Service, &'a ServiceCounts);

fn service_rows<'a>(
    services: &'a [(&Tenant, &Service)],
    counted: &'a [Counted<'_>],
) -> impl Iterator<Item = ServiceRow<'a>> {
    counted.iter().flat_map(move |Counted { tenant, counts }| {
        let fine = counts.services.iter().map(|row| (FINE_SECONDS, row));
        let hours = counts.service_hours.iter().map(|row| (HOUR_SECONDS, row));
        fine.chain(hours).map(move |(width, ((start, service), counts))| {
            let start = Timestamptz::of_seconds(*start);
            (width as i32, start, *tenant, services[*service as usize].1, counts)
        })
    })
}

async fn save_services(
    db: &Transaction<'_>,
    services: &[(&Tenant, &Service)],
    counted: &[Counted<'_>],
) -> Result<(), Fault> {
    let (mut tenants, mut widths, mut starts, mut names) = (vec![], vec![], vec![], vec![]);
    let (mut levels, mut totals, mut anomalies) = (vec![], vec![], vec![]);
    for (width, start, tenant, service, counts) in service_rows(services, counted) {
        for (level, (total, anomalous)) in Level::ALL.iter().zip(&counts.levels) {
            if *total > 0 {
                tenants.push(tenant.as_str());
                widths.push(width);
                starts.push(start);
                names.push(service.as_str());
                levels.push(*level as i16);
                totals.push(*total as i64);
                anomalies.push(*anomalous as i64);
            }
        }
    }
    db.execute_typed(
        "INSERT INTO service_buckets AS known
             (tenant, width_seconds, start_at, service, level, total, anomalies)
         SELECT * FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::text[], $5::smallint[],
                              $6::bigint[], $7::bigint[])
         ON CONFLICT (tenant, width_seconds, start_at, service, level) DO UPDATE SET
             total = known.total + excluded.total, anomalies = known.anomalies + excluded.anomalies",
        &[
            (&tenants, Type::TEXT_ARRAY),
            (&widths, Type::INT4_ARRAY),
            (&starts, Type::TIMESTAMPTZ_ARRAY),
            (&names, Type::TEXT_ARRAY),
            (&levels, Type::INT2_ARRAY),
            (&totals, Type::INT8_ARRAY),
            (&anomalies, Type::INT8_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

async fn save_latencies(
    db: &Transaction<'_>,
    services: &[(&Tenant, &Service)],
    counted: &[Counted<'_>],
) -> Result<(), Fault> {
    let (mut tenants, mut widths, mut starts, mut names) = (vec![], vec![], vec![], vec![]);
    let (mut totals, mut sums, mut least, mut most) = (vec![], vec![], vec![], vec![]);
    // Of all rows one after the other; of each row its first and its last. PostgreSQL has no
    // arrays of arrays of different lengths, so each row's part is cut out of one by positions.
    let (mut buckets, mut counts, mut firsts, mut lasts) = (vec![], vec![], vec![], vec![]);
    for (width, start, tenant, service, of) in service_rows(services, counted) {
        let Latency { count, sum_ms, min_ms, max_ms, histogram } = &of.latency;
        if *count == 0 {
            continue;
        }
        tenants.push(tenant.as_str());
        widths.push(width);
        starts.push(start);
        names.push(service.as_str());
        totals.push(*count as i64);
        sums.push(sum_ms.min(SUM_MAX));
        least.push(*min_ms);
        most.push(*max_ms);
        firsts.push(buckets.len() as i32 + 1);
        for (bucket, count) in histogram.as_slice() {
            buckets.push(*bucket as i16);
            counts.push(*count as i64);
        }
        lasts.push(buckets.len() as i32);
    }
    db.execute_typed(
        "INSERT INTO latency_buckets AS known
             (tenant, width_seconds, start_at, service, count, sum_ms, min_ms, max_ms, buckets, counts)
         SELECT tenant, width, start_at, service, count, sum, least, most,
                ($11::smallint[])[first:last], ($12::bigint[])[first:last]
         FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::text[], $5::bigint[], $6::float8[],
                     $7::float8[], $8::float8[], $9::int[], $10::int[])
              AS new (tenant, width, start_at, service, count, sum, least, most, first, last)
         ON CONFLICT (tenant, width_seconds, start_at, service) DO UPDATE SET
             count = known.count + excluded.count,
             sum_ms = least(known.sum_ms, 1e300) + excluded.sum_ms,
             min_ms = least(known.min_ms, excluded.min_ms),
             max_ms = greatest(known.max_ms, excluded.max_ms),
             (buckets, counts) =
                 (SELECT array_agg(bucket ORDER BY bucket), array_agg(count ORDER BY bucket)
                  FROM (SELECT bucket, sum(count)::bigint AS count
                        FROM (SELECT * FROM unnest(known.buckets, known.counts)
                              UNION ALL SELECT * FROM unnest(excluded.buckets, excluded.counts))
                             AS u (bucket, count)
                        GROUP BY bucket) AS added)",
        &[
            (&tenants, Type::TEXT_ARRAY),
            (&widths, Type::INT4_ARRAY),
            (&starts, Type::TIMESTAMPTZ_ARRAY),
            (&names, Type::TEXT_ARRAY),
            (&totals, Type::INT8_ARRAY),
            (&sums, Type::FLOAT8_ARRAY),
            (&least, Type::FLOAT8_ARRAY),
            (&most, Type::FLOAT8_ARRAY),
            (&firsts, Type::INT4_ARRAY),
            (&lasts, Type::INT4_ARRAY),
            (&buckets, Type::INT2_ARRAY),
            (&counts, Type::INT8_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

/// Total, errors, anomalies, first and last of a service.
type Totals = (i64, i64, i64, Timestamp, Timestamp);

async fn save_service_totals(
    db: &Transaction<'_>,
    services: &[(&Tenant, &Service)],
    counted: &[Counted<'_>],
) -> Result<(), Fault> {
    let mut of_services: BTreeMap<i64, Totals> = BTreeMap::new();
    for ((start, service), counts) in counted.iter().flat_map(|of| &of.counts.service_hours) {
        let of = of_services.entry(*service).or_insert((0, 0, 0, Timestamp::MAX, Timestamp::MIN));
        of.0 += counts.total() as i64;
        of.1 += counts.errors() as i64;
        of.2 += counts.anomalies() as i64;
        of.3 = of.3.min(Timestamp::from_unix_seconds(*start));
        of.4 = of.4.max(counts.last_seen);
    }
    let column = |of: fn(&Totals) -> i64| -> Vec<i64> { of_services.values().map(of).collect() };
    let of = || of_services.keys().map(|service| services[*service as usize]);
    let tenants: Vec<&str> = of().map(|(tenant, _)| tenant.as_str()).collect();
    let names: Vec<&str> = of().map(|(_, service)| service.as_str()).collect();
    db.execute_typed(
        "INSERT INTO services AS known (tenant, service, total, errors, anomalies,
                                        first_seen_unix_nano, last_seen_unix_nano)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
                              $6::bigint[], $7::bigint[])
         ON CONFLICT (tenant, service) DO UPDATE SET
             total = known.total + excluded.total, errors = known.errors + excluded.errors,
             anomalies = known.anomalies + excluded.anomalies,
             first_seen_unix_nano = least(known.first_seen_unix_nano, excluded.first_seen_unix_nano),
             last_seen_unix_nano = greatest(known.last_seen_unix_nano, excluded.last_seen_unix_nano)",
        &[
            (&tenants, Type::TEXT_ARRAY),
            (&names, Type::TEXT_ARRAY),
            (&column(|of| of.0), Type::INT8_ARRAY),
            (&column(|of| of.1), Type::INT8_ARRAY),
            (&column(|of| of.2), Type::INT8_ARRAY),
            (&column(|of| of.3.as_unix_nanos()), Type::INT8_ARRAY),
            (&column(|of| of.4.as_unix_nanos()), Type::INT8_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

async fn save_templates(db: &Transaction<'_>, counted: &[Counted<'_>]) -> Result<(), Fault> {
    let rows = || counted.iter().flat_map(|of| &of.counts.template_totals);
    let tenants: Vec<&str> = counted
        .iter()
        .flat_map(|of| of.counts.template_totals.iter().map(|_| of.tenant.as_str()))
        .collect();
    let ids: Vec<i64> = rows().map(|(template, _)| template.template_id.0 as i64).collect();
    let names: Vec<&str> = rows().map(|(template, _)| template.service.as_str()).collect();
    let patterns: Vec<_> = rows().map(|(template, _)| readable(&template.pattern)).collect();
    let shown: Vec<&str> = patterns.iter().map(|pattern| &**pattern).collect();
    let exact: Vec<Option<&[u8]>> = rows()
        .map(|(template, _)| template.pattern.contains('\0').then_some(template.pattern.as_bytes()))
        .collect();
    let totals: Vec<i64> = rows().map(|(_, counts)| counts.total as i64).collect();
    let levels: Vec<i16> = rows().map(|(_, counts)| counts.level as i16).collect();
    let first: Vec<i64> = rows().map(|(_, counts)| counts.first.as_unix_nanos()).collect();
    let last: Vec<i64> = rows().map(|(_, counts)| counts.last.as_unix_nanos()).collect();
    let mergers: Vec<bool> = rows().map(|(template, _)| template.is_merger).collect();
    let aliases: Vec<Option<i64>> =
        rows().map(|(template, _)| template.merged_into.map(|id| id.0 as i64)).collect();
    db.execute_typed(
        "INSERT INTO templates AS known (tenant, template_id, service, pattern, pattern_exact, total,
                                         level, first_seen_unix_nano, last_seen_unix_nano,
                                         merged_into, is_merger)
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bytea[],
                              $6::bigint[], $7::smallint[], $8::bigint[], $9::bigint[],
                              $10::bigint[], $11::boolean[])
         ON CONFLICT (tenant, template_id) DO UPDATE SET
             total = known.total + excluded.total, level = greatest(known.level, excluded.level),
             first_seen_unix_nano = least(known.first_seen_unix_nano, excluded.first_seen_unix_nano),
             last_seen_unix_nano = greatest(known.last_seen_unix_nano, excluded.last_seen_unix_nano)",
        &[
            (&tenants, Type::TEXT_ARRAY),
            (&ids, Type::INT8_ARRAY),
            (&names, Type::TEXT_ARRAY),
            (&shown, Type::TEXT_ARRAY),
            (&exact, Type::BYTEA_ARRAY),
            (&totals, Type::INT8_ARRAY),
            (&levels, Type::INT2_ARRAY),
            (&first, Type::INT8_ARRAY),
            (&last, Type::INT8_ARRAY),
            (&aliases, Type::INT8_ARRAY),
            (&mergers, Type::BOOL_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

async fn save_template_buckets(db: &Transaction<'_>, counted: &[Counted<'_>]) -> Result<(), Fault> {
    let (mut tenants, mut widths, mut starts, mut ids) = (vec![], vec![], vec![], vec![]);
    let (mut totals, mut errors, mut anomalies) = (vec![], vec![], vec![]);
    for Counted { tenant, counts } in counted {
        let fine = counts
            .template_errors
            .iter()
            .map(|(key, (errors, anomalies))| (FINE_SECONDS, key, *errors, *errors, *anomalies));
        let hours = counts.templates.iter().map(|(key, counts)| {
            (HOUR_SECONDS, key, counts.total, counts.errors, counts.anomalies)
        });
        for (width, (start, template_id), total, failed, anomalous) in fine.chain(hours) {
            tenants.push(tenant.as_str());
            widths.push(width as i32);
            starts.push(Timestamptz::of_seconds(*start));
            ids.push(template_id.0 as i64);
            totals.push(total as i64);
            errors.push(failed as i64);
            anomalies.push(anomalous as i64);
        }
    }
    db.execute_typed(
        "INSERT INTO template_buckets AS known
             (tenant, width_seconds, start_at, template_id, total, errors, anomalies)
         SELECT * FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::bigint[], $5::bigint[],
                              $6::bigint[], $7::bigint[])
         ON CONFLICT (tenant, width_seconds, start_at, template_id) DO UPDATE SET
             total = known.total + excluded.total, errors = known.errors + excluded.errors,
             anomalies = known.anomalies + excluded.anomalies",
        &[
            (&tenants, Type::TEXT_ARRAY),
            (&widths, Type::INT4_ARRAY),
            (&starts, Type::TIMESTAMPTZ_ARRAY),
            (&ids, Type::INT8_ARRAY),
            (&totals, Type::INT8_ARRAY),
            (&errors, Type::INT8_ARRAY),
            (&anomalies, Type::INT8_ARRAY),
        ],
    )
    .await?;
    Ok(())
}
