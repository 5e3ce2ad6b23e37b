//! What a rule would have found in the stored past, before it wakes anybody.
//!
//! The engine is given the buckets of storage one after the other, each when it was complete: what
//! happened is seen ten seconds late at most. Of what the system was like itself nothing is kept.

use std::{collections::BTreeMap, iter::successors, mem::take, time::Duration};

use logweir_core::{filter::Filter, identity::Tenant, timestamp::Timestamp};
use logweir_incident::{
    incident::{Evidence, Incident},
    job::{Preview, PreviewRule},
    rule::{Rule, RuleKind},
};
use logweir_storage::{
    AggregateQuery, GroupBy, KeepAlerts, ReadLogs, SearchLimits, SearchQuery, StorageError,
    TemplateSummary, TimeRange,
};

use crate::{
    detector::{
        new_pattern::NEW_AGE_MAX,
        window::{BUCKET_SECONDS, BUCKET_WIDTH, Bucket},
    },
    incident::Incidents,
    observe::{HOUR, NEW_PATTERNS_MAX, buckets, learn_past, matches::counted, new_pattern},
    rule::{
        engine::{Engine, LATENESS},
        observations::{Observations, RuleMatches},
    },
};

/// Logs that a rule's filter is counted over, the newest: they are in memory all at once.
const MATCHES_MAX: usize = 20_000;
/// Logs of a page, which storage hands out in one piece.
const PAGE_LOGS: usize = 1_000;
/// Incidents of an answer, those that fired first. A rule with more is too loud to be kept.
const INCIDENTS_MAX: usize = 1_000;
/// A bucket of which less lies in the range is left out.
const BUCKET_PART_MIN: Duration = Duration::from_secs(1);

/// Why a rule cannot be previewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PreviewError {
    /// It is about the system, of which nothing is kept.
    #[error("what rule {0:?} is about is not kept: it cannot be previewed, only tried")]
    NotKept(String),
    /// The rule's filter cannot be read.
    #[error("the filter is not understood: {0}")]
    Filter(String),
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Replays a rule through a range; a day before it teaches what is normal. It computes for long and
/// belongs on a thread that may block; it can be stopped between any two buckets.
pub(crate) async fn preview(
    (read, alerts): (&dyn ReadLogs, &dyn KeepAlerts),
    tenant: &Tenant,
    asked: PreviewRule,
) -> Result<Preview, PreviewError> {
    let PreviewRule { rule, from, to } = asked;
    let range = TimeRange { from, to };
    // Refused, rather than answered with "it would not have fired", which nobody knows.
    if is_of_system(&rule.measure) {
        return Err(PreviewError::NotKept(rule.name));
    }
    let mut past = Past::read((read, alerts), tenant, &rule, range).await?;
    let from = past.from;
    let mut engine = Engine::new(tenant.as_str(), vec![rule], Incidents::default());
    learn_past((read, alerts), tenant, &mut engine, from).await?;
    let mut found: BTreeMap<String, Incident> = BTreeMap::new();
    let mut hour = from;
    while hour < to {
        // An hour at a time: a week of buckets of many services would not fit into memory.
        let end = to.min(hour + HOUR);
        let part = TimeRange { from: hour, to: end.previous() };
        let mut steps = past.steps(read, tenant, part).await?;
        let starts = successors(Some(hour), |start| Some(*start + BUCKET_WIDTH));
        for start in starts.take_while(|start| *start + BUCKET_PART_MIN <= end) {
            let step = steps.remove(&start).unwrap_or_default();
            past.play(&mut engine, step, start);
            take_fired(engine.incidents_mut(), &mut found);
            // Whoever stops the process is heeded here.
            tokio::task::yield_now().await;
        }
        hour = end;
    }
    Ok(answer(found, from))
}

fn answer(found: BTreeMap<String, Incident>, from: Timestamp) -> Preview {
    let mut incidents: Vec<Incident> = found.into_values().map(without_examples).collect();
    // By time, as the map has them by id.
    incidents.sort_by_key(|incident| incident.firing_at);
    let truncated = incidents.len() > INCIDENTS_MAX;
    incidents.truncate(INCIDENTS_MAX);
    Preview { incidents, truncated, from }
}

/// Whoever tries a rule wants to know when it fires: the rest would make the answer large.
fn without_examples(mut incident: Incident) -> Incident {
    let Evidence { summary, measured, started_at, link, .. } = incident.evidence;
    incident.evidence = Evidence { summary, measured, started_at, link, ..Evidence::default() };
    incident.timeline.clear();
    incident
}

const fn is_of_system(kind: &RuleKind) -> bool {
    matches!(
        kind,
        RuleKind::ProcessorSilence { .. }
            | RuleKind::DeadLetters { .. }
            | RuleKind::SdkLoss { .. }
            | RuleKind::ClockOff { .. }
            | RuleKind::DiskShare { .. }
            | RuleKind::RulesLate { .. }
            | RuleKind::QueueLag { .. }
    )
}

fn take_fired(incidents: &mut Incidents, found: &mut BTreeMap<String, Incident>) {
    for id in incidents.take_changed() {
        let fired = incidents.get(&id).filter(|known| known.firing_at.is_some());
        if let Some(incident) = fired {
            found.insert(id, incident.clone());
        }
    }
}

/// What of the past the rule looks at, beside the services' buckets.
struct Past {
    from: Timestamp,
    rule: String,
    matches: BTreeMap<Timestamp, Vec<(String, Bucket)>>,
    patterns: BTreeMap<String, Pattern>,
}

/// A pattern that was new in the range.
struct Pattern {
    summary: TemplateSummary,
    counted: u64,
}

/// What came with one bucket of ten seconds.
#[derive(Default)]
struct Step {
    buckets: Vec<(String, Bucket)>,
    /// Logs of new patterns, by id.
    patterns: Vec<(String, u64)>,
}

impl Past {
    async fn read(
        (read, alerts): (&dyn ReadLogs, &dyn KeepAlerts),
        tenant: &Tenant,
        rule: &Rule,
        range: TimeRange,
    ) -> Result<Self, PreviewError> {
        let from = range.from.floor(BUCKET_WIDTH);
        let mut past = Self {
            from,
            rule: rule.name.clone(),
            matches: BTreeMap::new(),
            patterns: BTreeMap::new(),
        };
        // Only what this rule looks at: of every other kind the buckets say all.
        match &rule.measure {
            RuleKind::NewPattern { .. } => {
                let since = from - NEW_AGE_MAX;
                let new = alerts.new_templates(tenant, since, NEW_PATTERNS_MAX).await?;
                let entry = |summary: TemplateSummary| {
                    (summary.template_id.to_string(), Pattern { summary, counted: 0 })
                };
                past.patterns = new.into_iter().map(entry).collect();
            }
            RuleKind::MatchCount { filter, .. } => {
                let parsed = Filter::parse(filter, range.to);
                let filter = parsed.map_err(|error| PreviewError::Filter(error.to_string()))?;
                past.count(read, tenant, filter, range).await?;
            }
            _ => {}
        }
        Ok(past)
    }

    /// Counts what a filter matches, newest first, as far back as is possible.
    async fn count(
        &mut self,
        read: &dyn ReadLogs,
        tenant: &Tenant,
        filter: Filter,
        range: TimeRange,
    ) -> Result<(), StorageError> {
        let mut logs = Vec::new();
        let mut cursor = None;
        loop {
            let filter = filter.clone();
            let query = SearchQuery {
                filter,
                range,
                cursor,
                page_size: PAGE_LOGS,
                limits: SearchLimits::NONE,
            };
            let page = read.search(tenant, query).await?;
            logs.extend(page.logs);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
            if logs.len() >= MATCHES_MAX {
                let oldest = logs.last().map_or(Timestamp::EPOCH, |log| log.scored.record.time);
                // Its own bucket is not whole.
                self.from = oldest.floor(BUCKET_WIDTH) + BUCKET_WIDTH;
                break;
            }
        }
        for ((start, service), bucket) in counted(&logs) {
            self.matches.entry(start).or_default().push((service, bucket));
        }
        Ok(())
    }

    /// What an hour brought, by the beginning of each bucket.
    async fn steps(
        &self,
        read: &dyn ReadLogs,
        tenant: &Tenant,
        range: TimeRange,
    ) -> Result<BTreeMap<Timestamp, Step>, StorageError> {
        let mut steps: BTreeMap<Timestamp, Step> = BTreeMap::new();
        for (service, buckets) in buckets(read, tenant, range).await? {
            for bucket in buckets {
                let step = steps.entry(bucket.start).or_default();
                step.buckets.push((service.clone(), bucket));
            }
        }
        if self.patterns.is_empty() {
            return Ok(steps);
        }
        let query = AggregateQuery {
            range,
            bucket_seconds: BUCKET_SECONDS,
            group_by: GroupBy::Template,
            service: None,
        };
        for series in read.aggregate(tenant, query).await? {
            if self.patterns.contains_key(&series.group) {
                for point in series.points {
                    let step = steps.entry(point.start).or_default();
                    step.patterns.push((series.group.clone(), point.total));
                }
            }
        }
        Ok(steps)
    }

    fn play(&mut self, engine: &mut Engine, step: Step, start: Timestamp) {
        let now = start + BUCKET_WIDTH;
        let matches = self.matches.get_mut(&start).map(take).unwrap_or_default();
        let rule_matches =
            |(service, bucket)| RuleMatches { rule: self.rule.clone(), service, bucket };
        let mut seen = Observations {
            buckets: step.buckets,
            matches: matches.into_iter().map(rule_matches).collect(),
            ..Observations::default()
        };
        for (id, logs) in step.patterns {
            let Some(pattern) = self.patterns.get_mut(&id) else { continue };
            // Storage has the count of today: what it was then is added up bucket by bucket.
            pattern.counted += logs;
            let mut so_far = new_pattern(pattern.summary.clone());
            so_far.count = pattern.counted;
            so_far.last_seen = so_far.last_seen.min(now.previous());
            // As old as the engine takes patterns to be new; later it would only forget them.
            if now.since(so_far.first_seen) < NEW_AGE_MAX {
                seen.new_patterns.push((pattern.summary.service.to_string(), so_far));
            }
        }
        // Without evidence: the answer leaves it out, and to find it would take most of the time.
        engine.evaluate(now + LATENESS, seen, |_| None);
    }
}
