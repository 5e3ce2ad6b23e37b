//! Reads from storage what an evaluation takes in, and the [`evidence`] of what fires.

pub(crate) mod evidence;
pub(crate) mod matches;

use std::{collections::BTreeMap, time::Duration};

use logweir_core::{
    identity::{Service, Tenant},
    timestamp::Timestamp,
};
use logweir_storage::{
    AggregatePoint, AggregateQuery, GroupBy, KeepAlerts, LiveProcess, ReadLogs, StorageError,
    TemplateSummary, TimeRange,
};
use metrics::counter;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::matches::{FilterTurns, MATCHES_MIN, filters};
use crate::{
    dependencies::Dependencies,
    detector::{
        new_pattern::{NEW_AGE_MAX, NewPattern},
        window::{BUCKET_SECONDS, BUCKET_WIDTH, Bucket},
    },
    rule::{
        engine::Engine,
        late::LATE_MAX,
        observations::{Observations, Watermarks},
        self_monitoring::{ServiceClock, SystemReport},
    },
};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
/// How far back from what was evaluated is read anew with each evaluation, for logs that came late.
const LATE: Duration = Duration::from_secs(180);
/// How often as much is read anew as may come late at all: to read it each time would take five
/// times as long.
const FAR_LOOK_EVERY: Duration = Duration::from_secs(20);
/// Logs may be stamped ahead of this machine's clock.
const AHEAD_MAX: Duration = Duration::from_secs(60);
/// How far back is read at the beginning, to know what is expected.
const HISTORY_HOURS: u32 = 24;
/// New patterns of a tenant that are looked at.
pub(crate) const NEW_PATTERNS_MAX: usize = 1_000;
/// How long an evaluation of a tenant may look for logs that match its rules' filters.
const MATCHING_MAX: Duration = Duration::from_millis(500);
/// Processors older than this are no longer known.
const PROCESSORS_KNOWN: Duration = Duration::from_secs(300);
/// A processor that has been silent for longer reads no partition.
const ALIVE_MAX: Duration = Duration::from_secs(15);

/// Has the engine learn from the day before a moment what is expected.
pub(crate) async fn learn_past(
    (read, alerts): (&dyn ReadLogs, &dyn KeepAlerts),
    tenant: &Tenant,
    engine: &mut Engine,
    until: Timestamp,
) -> Result<(), StorageError> {
    // An hour at a time, as a day of buckets of many services would not fit into memory; up to
    // where the first evaluation reads by itself.
    for hour in (0..HISTORY_HOURS).rev() {
        let to = until - LATE - HOUR * hour;
        let range = TimeRange { from: to - HOUR, to };
        for (service, buckets) in buckets(read, tenant, range).await? {
            for bucket in buckets {
                engine.learn_bucket(&service, bucket);
            }
        }
    }
    let since = until - HOUR * HISTORY_HOURS;
    let new = alerts.new_templates(tenant, since, NEW_PATTERNS_MAX).await?;
    // Younger ones are evaluated.
    let is_past = |of: &TemplateSummary| of.first_seen < until - NEW_AGE_MAX;
    for template in new.into_iter().rev().filter(is_past) {
        let service = template.service.clone();
        engine.learn_pattern(service.as_str(), &new_pattern(template));
    }
    Ok(())
}

/// What is new since the last evaluation.
pub(crate) async fn observe(
    dependencies: &Dependencies,
    tenant: &Tenant,
    engine: &Mutex<Engine>,
    turns: &mut FilterTurns,
    now: Timestamp,
) -> Result<Observations, StorageError> {
    // Through when logs are known is asked first: what comes after is read or not, and not
    // evaluated.
    let processes = dependencies.administer.live_processes(PROCESSORS_KNOWN).await?;
    let owners = Owners::of(&processes);
    let last_seen = last_seen(dependencies, tenant).await?;
    let watermark = |service: &String| owners.watermark(dependencies, tenant, service, now);
    let watermarks: Watermarks =
        last_seen.keys().map(|service| (service.clone(), watermark(service))).collect();
    // Locked for a moment only: what follows waits for storage.
    let (wanted, is_far, filters) = {
        let engine = engine.lock();
        let is_far = is_far_look(engine.evaluated_at(), now);
        (engine.wanted_from(&watermarks, now), is_far, filters(engine.rules()))
    };
    let buckets_from = wanted - if is_far { LATE_MAX } else { LATE };
    let matches_from = wanted.min(now - if is_far { LATE } else { MATCHES_MIN });
    let new =
        dependencies.alerts.new_templates(tenant, now - NEW_AGE_MAX, NEW_PATTERNS_MAX).await?;
    let begun = Instant::now();
    let is_over = || begun.elapsed() >= MATCHING_MAX;
    let matched =
        turns.look(&*dependencies.read, tenant, filters, (matches_from, now), is_over).await?;
    counter!("logweir_alerting_rules_late_total").increment(matched.unseen.len() as u64);
    Ok(Observations {
        buckets: new_buckets(dependencies, tenant, &last_seen, (buckets_from, now)).await?,
        new_patterns: new
            .into_iter()
            .map(|template| (template.service.to_string(), new_pattern(template)))
            .collect(),
        matches: matched.matches,
        unseen: matched.unseen,
        system: Some(SystemReport {
            clocks: clocks(&watermarks, last_seen),
            rules_late_seconds: matched.late.as_secs_f64(),
            ..report(dependencies, tenant, &processes, now).await?
        }),
        watermarks,
    })
}

/// Whether an evaluation is the first within its twenty seconds.
fn is_far_look(evaluated_at: Timestamp, now: Timestamp) -> bool {
    now.floor(FAR_LOOK_EVERY) != evaluated_at.floor(FAR_LOOK_EVERY)
}

/// The newest log of each service, and through when its logs are known: a pipeline that lags is not
/// to pass for a clock that is slow.
fn clocks(watermarks: &Watermarks, last_seen: BTreeMap<String, Timestamp>) -> Vec<ServiceClock> {
    let clock = |(service, newest): (String, Timestamp)| {
        let known_through = watermarks.get(&service).copied().flatten()?;
        Some(ServiceClock { service, newest, known_through })
    };
    last_seen.into_iter().filter_map(clock).collect()
}

/// The buckets that may have changed, each with the time of the service's newest log in it.
async fn new_buckets(
    dependencies: &Dependencies,
    tenant: &Tenant,
    last_seen: &BTreeMap<String, Timestamp>,
    (from, now): (Timestamp, Timestamp),
) -> Result<Vec<(String, Bucket)>, StorageError> {
    let range = TimeRange { from, to: now + AHEAD_MAX };
    let mut found = Vec::new();
    for (service, buckets) in buckets(&*dependencies.read, tenant, range).await? {
        for mut bucket in buckets {
            let end = (bucket.start + BUCKET_WIDTH).previous();
            let last = last_seen.get(&service).copied().unwrap_or(end);
            // Storage knows the newest log of a service, not of each bucket: in all others it is
            // taken to have come at the end.
            bucket.last_seen = last.clamp(bucket.start, end);
            found.push((service.clone(), bucket));
        }
    }
    Ok(found)
}

pub(crate) fn new_pattern(template: TemplateSummary) -> NewPattern {
    NewPattern {
        template_id: template.template_id.to_string(),
        pattern: template.pattern,
        level: template.level as u8,
        first_seen: template.first_seen,
        last_seen: template.last_seen,
        count: template.count,
    }
}

/// The newest log of each service.
async fn last_seen(
    dependencies: &Dependencies,
    tenant: &Tenant,
) -> Result<BTreeMap<String, Timestamp>, StorageError> {
    let services = dependencies.read.list_services(tenant).await?.into_iter();
    Ok(services.map(|of| (of.service.to_string(), of.last_seen)).collect())
}

/// What services logged in a range, in buckets, ascending.
pub(crate) async fn buckets(
    read: &dyn ReadLogs,
    tenant: &Tenant,
    range: TimeRange,
) -> Result<BTreeMap<String, Vec<Bucket>>, StorageError> {
    let range = TimeRange {
        from: range.from.floor(BUCKET_WIDTH),
        to: range.to.floor(BUCKET_WIDTH) + BUCKET_WIDTH,
    };
    let query = AggregateQuery {
        range,
        bucket_seconds: BUCKET_SECONDS,
        group_by: GroupBy::Service,
        service: None,
    };
    let series = read.aggregate(tenant, query).await?.into_iter();
    Ok(series.map(|of| (of.group, of.points.into_iter().map(bucket).collect())).collect())
}

fn bucket(point: AggregatePoint) -> Bucket {
    Bucket {
        start: point.start,
        total: point.total,
        errors: point.errors,
        anomalies: point.anomalies,
        latencies: point.latencies,
        last_seen: (point.start + BUCKET_WIDTH).previous(),
    }
}

/// Which processor reads a partition, and through when it has committed.
struct Owners<'a>(BTreeMap<u16, &'a LiveProcess>);

impl<'a> Owners<'a> {
    fn of(processes: &'a [LiveProcess]) -> Self {
        let alive = processes.iter().filter(|process| process.age <= ALIVE_MAX);
        let of = |process: &'a LiveProcess| {
            process.heartbeat.partitions.iter().map(move |partition| (*partition, process))
        };
        Self(alive.flat_map(of).collect())
    }

    /// Through when a service's logs are known; none while nobody reads them.
    fn watermark(
        &self,
        dependencies: &Dependencies,
        tenant: &Tenant,
        service: &str,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let service = Service::new(service).ok()?;
        let partition = (dependencies.partition_of)(tenant, &service, dependencies.partitions);
        let owner = self.0.get(&partition)?;
        let pause = Duration::from_secs(dependencies.config.start_pause_seconds.into());
        let is_fresh = now < owner.heartbeat.started_at + pause;
        // After a restart everybody sends what they had kept back: until it has come, silence says
        // nothing.
        if is_fresh && owner.heartbeat.kind == "standalone" {
            return None;
        }
        let committed = owner.heartbeat.committed_of(tenant)?;
        // It reported so a while ago; of what came since nothing is known, but where it was up to
        // date then it is taken to be now.
        Some((committed + owner.age).min(now))
    }
}

/// How the system itself does. Processors and lag are the default tenant's business: it is the one
/// of whoever runs the installation.
async fn report(
    dependencies: &Dependencies,
    tenant: &Tenant,
    processes: &[LiveProcess],
    now: Timestamp,
) -> Result<SystemReport, StorageError> {
    let mut report = SystemReport { at: now, ..SystemReport::default() };
    let usage = dependencies.administer.usage(tenant).await?;
    report.dead_letters = usage.dead_letters + usage.expired_dead_letters;
    report.disk_share_percent =
        usage.disk_share_bytes.map(|share| usage.disk_bytes as f64 * 100.0 / share.max(1) as f64);
    let totals = dependencies.read.producer_totals(tenant, None).await?.into_iter();
    report.sdk_lost = totals.map(|of| (of.service.to_string(), of.dropped)).collect();
    if *tenant != Tenant::default() {
        return Ok(report);
    }
    let processors = processes.iter().filter(|process| !process.heartbeat.partitions.is_empty());
    for process in processors {
        let seen_at = now - process.age;
        let heartbeat = &process.heartbeat;
        let name = format!("{} on {}", heartbeat.process_id, heartbeat.host);
        report.processors.push((name, seen_at));
        if let Some(committed) = heartbeat.committed_through {
            // As of its last heartbeat: a processor that is silent is another rule's matter.
            let lag = seen_at.since(committed).as_secs_f64();
            report
                .queue_lag_seconds
                .extend(heartbeat.partitions.iter().map(|partition| (partition.to_string(), lag)));
        }
    }
    Ok(report)
}
