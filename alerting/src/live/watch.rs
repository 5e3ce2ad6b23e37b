//! What the engine is fed with, from storage.

use std::{collections::BTreeMap, time::Duration};

use logweir_core::{
    filter::Filter,
    identity::{Service, Tenant},
    record::StoredLog,
};
use logweir_incident::rule::RuleKind;
use logweir_storage::{
    AggregatePoint, AggregateQuery, GroupBy, KeepAlerts, LiveProcess, ReadLogs, SearchQuery,
    StorageError, TemplateSummary, TimeRange,
};

use super::Parts;
use crate::{
    engine::Engine,
    novelty::{NEW_NANOS, NewPattern},
    system::SystemReport,
    window::{BUCKET_SECONDS, Row},
};

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const HOUR: i64 = 3_600 * SECOND;
/// How far back from what was judged is read anew with each evaluation: what comes later than that is
/// not seen.
const LATE_NANOS: i64 = 180 * SECOND;
/// Logs may be stamped ahead of this machine's clock.
const AHEAD_NANOS: i64 = 60 * SECOND;
/// How far back is read at the beginning, to know what is normal.
const HISTORY_HOURS: i64 = 24;
/// New patterns of a tenant that are looked at.
pub(super) const NEW_PATTERNS_MAX: usize = 1_000;
/// Logs that a rule's filter is counted over, the newest.
const MATCHES_MAX: usize = 1_000;
const MATCHES_NANOS: i64 = 40 * SECOND;
/// Processors older than this are no longer known.
const PROCESSORS_KNOWN: Duration = Duration::from_secs(300);
/// A processor that has been silent for longer reads no partition.
const ALIVE_MAX: Duration = Duration::from_secs(15);

/// Has the engine learn what was normal before a moment.
pub(super) async fn replay(
    (read, alerts): (&dyn ReadLogs, &dyn KeepAlerts),
    tenant: &Tenant,
    engine: &mut Engine,
    until_unix_nano: i64,
) -> Result<(), StorageError> {
    for hour in (0..HISTORY_HOURS).rev() {
        let to_unix_nano = until_unix_nano - LATE_NANOS - hour * HOUR;
        let range = TimeRange { from_unix_nano: to_unix_nano - HOUR, to_unix_nano };
        for (service, rows) in rows(read, tenant, range).await? {
            for row in rows {
                engine.replay(&service, row);
            }
        }
    }
    let since = until_unix_nano - HISTORY_HOURS * HOUR;
    let new = alerts.new_templates(tenant, since, NEW_PATTERNS_MAX).await?;
    // Younger ones are judged.
    let is_past = |of: &TemplateSummary| of.first_seen_unix_nano < until_unix_nano - NEW_NANOS;
    for template in new.into_iter().rev().filter(is_past) {
        let service = template.service.clone();
        engine.replay_pattern(service.as_str(), &new_pattern(template));
    }
    Ok(())
}

/// Feeds what is new.
pub(super) async fn observe(
    parts: &Parts,
    tenant: &Tenant,
    engine: &mut Engine,
    now: i64,
) -> Result<(), StorageError> {
    // Through when logs are known is asked first: what comes after is read or not, and not judged.
    let processes = parts.administer.live_processes(PROCESSORS_KNOWN).await?;
    let owners = Owners::of(&processes);
    let last_seen = last_seen(parts, tenant).await?;
    for service in last_seen.keys() {
        let through = owners.watermark(parts, tenant, service, now);
        engine.set_watermark(service, through);
    }
    let wanted = engine.wanted_from(now);
    let range = TimeRange {
        from_unix_nano: wanted - LATE_NANOS,
        to_unix_nano: now.saturating_add(AHEAD_NANOS),
    };
    for (service, rows) in rows(&*parts.read, tenant, range).await? {
        for mut row in rows {
            let end = (row.start_seconds + BUCKET_SECONDS) * SECOND - 1;
            let last = last_seen.get(&service).copied().unwrap_or(end);
            row.last_seen_unix_nano = last.clamp(row.start_seconds * SECOND, end);
            engine.observe(&service, row);
        }
    }
    let new = parts.alerts.new_templates(tenant, now - NEW_NANOS, NEW_PATTERNS_MAX).await?;
    for template in new {
        let service = template.service.clone();
        engine.observe_pattern(service.as_str(), new_pattern(template));
    }
    matches(parts, tenant, engine, now, wanted).await?;
    let report = report(parts, tenant, &processes, now).await?;
    engine.observe_system(report);
    Ok(())
}

pub(super) fn new_pattern(template: TemplateSummary) -> NewPattern {
    NewPattern {
        template_id: template.template_id.to_string(),
        pattern: template.pattern,
        level: template.level as u8,
        first_unix_nano: template.first_seen_unix_nano,
        last_unix_nano: template.last_seen_unix_nano,
        count: template.count,
    }
}

/// The newest log of each service.
async fn last_seen(parts: &Parts, tenant: &Tenant) -> Result<BTreeMap<String, i64>, StorageError> {
    let services = parts.read.list_services(tenant).await?.into_iter();
    Ok(services.map(|of| (of.service.to_string(), of.last_seen_unix_nano)).collect())
}

/// What services logged in a range, in buckets, ascending.
pub(super) async fn rows(
    read: &dyn ReadLogs,
    tenant: &Tenant,
    range: TimeRange,
) -> Result<BTreeMap<String, Vec<Row>>, StorageError> {
    let width = BUCKET_SECONDS * SECOND;
    let range = TimeRange {
        from_unix_nano: range.from_unix_nano.div_euclid(width) * width,
        to_unix_nano: (range.to_unix_nano.div_euclid(width) + 1) * width,
    };
    let query = AggregateQuery {
        range,
        bucket_seconds: BUCKET_SECONDS as u32,
        group_by: GroupBy::Service,
        service: None,
    };
    let series = read.aggregate(tenant, query).await?.into_iter();
    Ok(series.map(|of| (of.group, of.points.into_iter().map(row).collect())).collect())
}

fn row(point: AggregatePoint) -> Row {
    let start_seconds = point.start_unix_nano.div_euclid(SECOND);
    Row {
        start_seconds,
        total: point.total,
        errors: point.errors,
        anomalies: point.anomalies,
        latencies: point.latencies,
        last_seen_unix_nano: (start_seconds + BUCKET_SECONDS) * SECOND - 1,
    }
}

/// Counts the logs that match the rules' filters, of the newest that do.
async fn matches(
    parts: &Parts,
    tenant: &Tenant,
    engine: &mut Engine,
    now: i64,
    wanted: i64,
) -> Result<(), StorageError> {
    let asked: Vec<(String, String)> = engine
        .rules()
        .iter()
        .filter(|rule| rule.enabled)
        .filter_map(|rule| match &rule.measure {
            RuleKind::MatchCount { filter, .. } => Some((rule.name.clone(), filter.clone())),
            _ => None,
        })
        .collect();
    for (rule, filter) in asked {
        // What is no filter any more was one when the rule was set.
        let Ok(filter) = Filter::parse(&filter, now) else { continue };
        let from_unix_nano = wanted.min(now - MATCHES_NANOS);
        let range = TimeRange { from_unix_nano, to_unix_nano: i64::MAX };
        let query = SearchQuery { filter, range, cursor: None, page_size: MATCHES_MAX };
        let found = parts.read.search(tenant, query).await?.logs;
        for ((_, service), row) in counted(&found) {
            engine.observe_matches(&rule, &service, row);
        }
    }
    Ok(())
}

/// Logs in buckets, of each service.
pub(super) fn counted(logs: &[StoredLog]) -> BTreeMap<(i64, String), Row> {
    let mut rows: BTreeMap<(i64, String), Row> = BTreeMap::new();
    for log in logs {
        let time = log.scored.record.time_unix_nano;
        let start_seconds = time.div_euclid(BUCKET_SECONDS * SECOND) * BUCKET_SECONDS;
        let row = rows.entry((start_seconds, log.service.to_string())).or_default();
        row.start_seconds = start_seconds;
        row.total += 1;
        row.last_seen_unix_nano = row.last_seen_unix_nano.max(time);
    }
    rows
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
    fn watermark(&self, parts: &Parts, tenant: &Tenant, service: &str, now: i64) -> Option<i64> {
        let service = Service::new(service).ok()?;
        let partition = (parts.partition_of)(tenant, &service, parts.partitions);
        let owner = self.0.get(&partition)?;
        let pause = i64::from(parts.config.start_pause_seconds) * SECOND;
        let is_fresh = now.saturating_sub(owner.heartbeat.started_unix_nano) < pause;
        if is_fresh && owner.heartbeat.kind == "standalone" {
            return None;
        }
        let committed = owner.heartbeat.committed_unix_nano?;
        // It said so a while ago; of what came since nothing is known, but where it was up to date
        // then it is taken to be now.
        let age = i64::try_from(owner.age.as_nanos()).unwrap_or(i64::MAX);
        Some(committed.saturating_add(age).min(now))
    }
}

/// How the system itself does. Processors and lag are the default tenant's business: it is the one of
/// whoever runs the installation.
async fn report(
    parts: &Parts,
    tenant: &Tenant,
    processes: &[LiveProcess],
    now: i64,
) -> Result<SystemReport, StorageError> {
    let mut report = SystemReport { at_unix_nano: now, ..SystemReport::default() };
    report.dead_letters = parts.administer.list_dead_letters(tenant, None, 1).await?.1;
    let mut lost: BTreeMap<String, u64> = BTreeMap::new();
    for producer in parts.read.delivery_report(tenant, None).await? {
        *lost.entry(producer.service.to_string()).or_default() += producer.account.dropped_total();
    }
    report.sdk_lost = lost.into_iter().collect();
    if *tenant != Tenant::default() {
        return Ok(report);
    }
    let processors = processes.iter().filter(|process| !process.heartbeat.partitions.is_empty());
    for process in processors {
        let age = i64::try_from(process.age.as_nanos()).unwrap_or(i64::MAX);
        let heartbeat = &process.heartbeat;
        let name = format!("{} on {}", heartbeat.process_id, heartbeat.host);
        report.processors.push((name, now.saturating_sub(age)));
        if let Some(committed) = heartbeat.committed_unix_nano {
            let lag = now.saturating_sub(age).saturating_sub(committed).max(0) as f64 / 1e9;
            report
                .queue_lag_seconds
                .extend(heartbeat.partitions.iter().map(|partition| (partition.to_string(), lag)));
        }
    }
    Ok(report)
}
