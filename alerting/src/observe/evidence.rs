//! The evidence of an incident, from storage: samples of the logs since it began and of the hour
//! before, and what was deployed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use logweir_core::{
    filter::Filter,
    identity::{Service, TemplateId, Tenant},
    record::StoredLog,
    timestamp::Timestamp,
};
use logweir_incident::incident::{DeployMark, EVIDENCE_MAX, Evidence, SampleLog};
use logweir_storage::{SearchLimits, SearchQuery, StorageError, TimeRange};

use crate::{
    dependencies::Dependencies,
    incident::evidence::{LatencyChange, PatternCount, Symptom, probable_causes},
    rule::engine::EvidenceRequest,
};

const SECOND: Duration = Duration::from_secs(1);
/// What belongs to an incident came at most so long before it was noticed, or since it began.
const WINDOW_MIN: Duration = Duration::from_secs(60);
/// How far back before an incident the logs are taken as normal.
const BEFORE: Duration = Duration::from_secs(3_600);
/// Logs that are looked at of the incident's time and of the time before, each; the newest.
const LOGS_MAX: usize = 1_000;
/// Deploys that came so long before it began may have to do with it.
const DEPLOYED_BEFORE: Duration = Duration::from_secs(1_800);
/// Deploys of a service that are looked at, the newest: more in half an hour say nothing.
const DEPLOYS_MAX: usize = 20;
/// Patterns of a service that are looked up: more than a page of logs has.
const PATTERNS_MAX: usize = 2_000;
/// Bytes of a sample's message: what a person reads, and enough for a line of a stack trace or two.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// Logs that show a probable cause.
const SAMPLES_OF_A_CAUSE: usize = 3;

/// Finds out what can be about an incident that begins to fire.
pub(crate) async fn find(
    dependencies: &Dependencies,
    tenant: &Tenant,
    asked: &EvidenceRequest,
) -> Result<Evidence, StorageError> {
    // The link is wanted whatever is found: it is how people get to the incident.
    let link = match dependencies.config.link.trim_end_matches('/') {
        "" => String::new(),
        link => format!("{link}/incidents/{}", asked.incident_id),
    };
    let Ok(service) = Service::new(&asked.service) else {
        return Ok(Evidence { link, ..Evidence::default() });
    };
    let symptom = Symptom::of(&asked.kind);
    // What a rule counts came before it was evaluated, so that "since it began" would be empty.
    let begun = asked.from.min(asked.to - WINDOW_MIN);
    let now = sample(dependencies, tenant, &service, symptom, (begun, Timestamp::MAX)).await?;
    let from = begun - BEFORE;
    let before = sample(dependencies, tenant, &service, symptom, (from, begun)).await?;
    let window = asked.to.since(begun).max(SECOND);
    let patterns = patterns(dependencies, tenant, &service, from).await?;
    // Samples come of the causes, so that people see the logs that the message speaks of.
    let probable_causes = probable_causes(symptom, &counts(&now, &before, window, &patterns));
    let sample_logs = samples(&now, probable_causes.iter().map(|cause| cause.template_id.as_str()));
    let distinct = |text: fn(&SampleLog) -> &String| -> Vec<String> {
        let texts: BTreeSet<&String> = sample_logs.iter().map(text).collect();
        texts.into_iter().filter(|text| !text.is_empty()).take(EVIDENCE_MAX).cloned().collect()
    };
    Ok(Evidence {
        instances: distinct(|log| &log.instance),
        trace_ids: distinct(|log| &log.trace_id),
        deploys: deploys(dependencies, tenant, &service, asked).await?,
        probable_causes,
        sample_logs,
        link,
        ..Evidence::default()
    })
}

/// The newest logs of a span of time, at most [`LOGS_MAX`].
struct Sample {
    logs: Vec<StoredLog>,
    /// The part of the time that they stand for.
    length: Duration,
    patterns: BTreeMap<TemplateId, PatternTotals>,
}

/// The logs of one pattern in a sample.
#[derive(Debug, Clone, Copy, Default)]
struct PatternTotals {
    logs: u64,
    /// Logs with a latency, and the sum of their latencies in milliseconds.
    timed: u64,
    latency_ms: f64,
}

impl PatternTotals {
    fn mean_latency_ms(self) -> Option<f64> {
        (self.timed > 0).then(|| self.latency_ms / self.timed as f64)
    }
}

fn latency_change(now: PatternTotals, before: PatternTotals) -> Option<LatencyChange> {
    let (now_ms, before_ms) = (now.mean_latency_ms()?, before.mean_latency_ms()?);
    Some(LatencyChange { now_ms, before_ms })
}

async fn sample(
    dependencies: &Dependencies,
    tenant: &Tenant,
    service: &Service,
    symptom: Symptom,
    (from, to): (Timestamp, Timestamp),
) -> Result<Sample, StorageError> {
    // Of a busy service a thousand logs are seconds; what matters to errors are warnings and
    // errors.
    let level = if symptom == Symptom::Errors { " level>=warn" } else { "" };
    let text = format!("service:\"{service}\"{level}");
    let filter = Filter::parse(&text, Timestamp::EPOCH)
        .map_err(|error| StorageError::LimitExceeded(format!("{text}: {error}")))?;
    let range = TimeRange { from, to };
    let query = SearchQuery {
        filter,
        range,
        cursor: None,
        page_size: LOGS_MAX,
        limits: SearchLimits::NONE,
    };
    let page = dependencies.read.search(tenant, query).await?;
    // Where there are more logs than a page holds, those of the page stand for the time that they
    // span.
    let newest = page.logs.first().map_or(from, time);
    let oldest = match &page.next {
        Some(_) => page.logs.last().map_or(from, time),
        None => from,
    };
    let end = if to == Timestamp::MAX { newest } else { to };
    let mut patterns: BTreeMap<TemplateId, PatternTotals> = BTreeMap::new();
    for log in &page.logs {
        let totals = patterns.entry(log.scored.template_id).or_default();
        totals.logs += 1;
        if let Some(latency_ms) = log.scored.record.latency_ms {
            totals.latency_ms += latency_ms;
            totals.timed += 1;
        }
    }
    Ok(Sample { length: end.since(oldest).max(SECOND), logs: page.logs, patterns })
}

const fn time(log: &StoredLog) -> Timestamp {
    log.scored.record.time
}

/// The patterns of a service since a moment, by id.
async fn patterns(
    dependencies: &Dependencies,
    tenant: &Tenant,
    service: &Service,
    from: Timestamp,
) -> Result<BTreeMap<TemplateId, String>, StorageError> {
    let range = TimeRange { from, to: Timestamp::MAX };
    let found =
        dependencies.read.list_templates(tenant, Some(service), range, PATTERNS_MAX).await?;
    Ok(found.into_iter().map(|template| (template.template_id, template.pattern)).collect())
}

fn counts(
    now: &Sample,
    before: &Sample,
    window: Duration,
    patterns: &BTreeMap<TemplateId, String>,
) -> Vec<PatternCount> {
    let ids: BTreeSet<TemplateId> =
        now.patterns.keys().chain(before.patterns.keys()).copied().collect();
    let count = |template_id: TemplateId| {
        let current = now.patterns.get(&template_id).copied().unwrap_or_default();
        let usual = before.patterns.get(&template_id).copied().unwrap_or_default();
        // Both are brought to the length of the incident's window, to be comparable.
        let scale =
            |logs: u64, length: Duration| logs as f64 * window.as_secs_f64() / length.as_secs_f64();
        let mut of_it = now
            .logs
            .iter()
            .chain(&before.logs)
            .filter(|log| log.scored.template_id == template_id)
            .peekable();
        let example = of_it.peek().map_or("", |log| &*log.scored.record.message);
        PatternCount {
            template_id: template_id.to_string(),
            pattern: patterns.get(&template_id).map_or(example, String::as_str).to_owned(),
            level: of_it.map(|log| log.scored.level as u8).max().unwrap_or_default(),
            now: scale(current.logs, now.length.min(window)).round() as u64,
            before: scale(usual.logs, before.length),
            is_new: usual.logs == 0,
            latency: latency_change(current, usual),
        }
    };
    ids.into_iter().map(count).collect()
}

/// Logs of the probable causes, or else the newest.
fn samples<'a>(now: &Sample, template_ids: impl Iterator<Item = &'a str>) -> Vec<SampleLog> {
    let of = |template_id: &'a str| {
        let is_it = move |log: &&StoredLog| log.scored.template_id.to_string() == template_id;
        now.logs.iter().filter(is_it).take(SAMPLES_OF_A_CAUSE)
    };
    // A few of each cause rather than many of the first.
    let found: Vec<SampleLog> =
        template_ids.flat_map(of).take(EVIDENCE_MAX).map(sample_log).collect();
    if found.is_empty() {
        return now.logs.iter().take(SAMPLES_OF_A_CAUSE).map(sample_log).collect();
    }
    found
}

fn sample_log(log: &StoredLog) -> SampleLog {
    let record = &log.scored.record;
    // Not within a character, or what is left is no text.
    let end = record.message.floor_char_boundary(MESSAGE_BYTES_MAX);
    SampleLog {
        log_id: log.id.to_string(),
        at: record.time,
        level: log.scored.level.as_str().to_owned(),
        message: record.message[..end].to_owned(),
        trace_id: record.trace_id.map(hex::encode).unwrap_or_default(),
        instance: log.instance.clone(),
    }
}

async fn deploys(
    dependencies: &Dependencies,
    tenant: &Tenant,
    service: &Service,
    asked: &EvidenceRequest,
) -> Result<Vec<DeployMark>, StorageError> {
    let found = dependencies.administer.list_deploys(tenant, Some(service), DEPLOYS_MAX).await?;
    let since = asked.from - DEPLOYED_BEFORE;
    let near = found.into_iter().filter(|deploy| (since..=asked.to).contains(&deploy.time));
    let mark = |deploy: logweir_storage::Deploy| DeployMark {
        at: deploy.time,
        service: deploy.service.to_string(),
        version: deploy.version,
    };
    Ok(near.take(EVIDENCE_MAX).map(mark).collect())
}
