//! Patterns, or anomalies, in groups that say nearly the same.
//!
//! Of a range with more than [`PATTERNS_MAX`] patterns the most frequent are grouped, of one with
//! more than [`ANOMALIES_MAX`] anomalies the newest.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use logweir_analysis::{PATTERNS_MAX, cluster};
use logweir_core::{
    filter::{Expression, Filter, Term, TextField},
    identity::{LogId, Service, TemplateId, Tenant},
    job::{Cluster, Clusters},
    record::StoredLog,
};
use logweir_storage::{ReadLogs, SearchLimits, SearchQuery, StorageError, TimeRange};

const ANOMALIES_MAX: usize = 5_000;
const PAGE_LOGS: usize = 1_000;
/// Templates read to show the patterns of anomalies.
const TEMPLATES_READ_MAX: usize = 10_000;
const SAMPLES_MAX: usize = 3;
const SERVICES_MAX: usize = 10;
/// Characters of the message that stands for a pattern that is not known.
const MESSAGE_CHARS: usize = 512;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) tenant: Tenant,
    pub(super) service: Option<Service>,
    pub(super) range: TimeRange,
    /// How many groups, the largest first.
    pub(super) limit: usize,
}

/// A pattern with its logs.
#[derive(Debug, Clone, PartialEq)]
struct Pattern {
    template_id: TemplateId,
    service: String,
    text: String,
    logs: u64,
    samples: Vec<LogId>,
}

/// Groups the patterns of a range.
pub(super) async fn of_patterns(
    storage: &dyn ReadLogs,
    asked: &Asked,
) -> Result<Clusters, StorageError> {
    let service = asked.service.as_ref();
    let found = storage.list_templates(&asked.tenant, service, asked.range, PATTERNS_MAX).await?;
    let patterns = found.into_iter().map(|template| Pattern {
        template_id: template.template_id,
        service: template.service.to_string(),
        text: template.pattern,
        logs: template.count,
        samples: Vec::new(),
    });
    let (mut clusters, leaders) = grouped(patterns.collect(), asked.limit).await?;
    // Samples are looked for only of the groups that are shown: a search for each of thousands of
    // patterns would take minutes.
    for (cluster, leader) in clusters.clusters.iter_mut().zip(leaders) {
        let with_pattern = Expression::Term(Term::Template(leader));
        let page = search(storage, asked, with_pattern, None, SAMPLES_MAX).await?;
        cluster.sample_ids = page.iter().map(|log| log.id.to_string()).collect();
    }
    Ok(clusters)
}

/// Groups the anomalies of a range.
pub(super) async fn of_anomalies(
    storage: &dyn ReadLogs,
    asked: &Asked,
) -> Result<Clusters, StorageError> {
    let mut found: HashMap<TemplateId, Pattern> = HashMap::new();
    let (mut cursor, mut seen) = (None, 0);
    while seen < ANOMALIES_MAX {
        let anomalies = Expression::Term(Term::Anomaly(true));
        let page = search(storage, asked, anomalies, cursor, PAGE_LOGS).await?;
        seen += page.len();
        cursor = page.last().map(|log| log.id);
        page.iter().for_each(|log| count(&mut found, log));
        if page.len() < PAGE_LOGS {
            break;
        }
    }
    let service = asked.service.as_ref();
    let range = asked.range;
    for known in storage.list_templates(&asked.tenant, service, range, TEMPLATES_READ_MAX).await? {
        if let Some(pattern) = found.get_mut(&known.template_id) {
            pattern.text = known.pattern;
        }
    }
    // A map has no order, and what is left out above the bound depends on it: sorted, so that the
    // same logs always give the same groups.
    let mut patterns: Vec<Pattern> = found.into_values().collect();
    patterns.sort_unstable_by_key(|pattern| (std::cmp::Reverse(pattern.logs), pattern.template_id));
    Ok(grouped(patterns, asked.limit).await?.0)
}

fn count(found: &mut HashMap<TemplateId, Pattern>, log: &StoredLog) {
    let template_id = log.scored.template_id;
    let pattern = found.entry(template_id).or_insert_with(|| Pattern {
        template_id,
        service: log.service.to_string(),
        text: log.scored.record.message.chars().take(MESSAGE_CHARS).collect(),
        logs: 0,
        samples: Vec::new(),
    });
    pattern.logs += 1;
    if pattern.samples.len() < SAMPLES_MAX {
        pattern.samples.push(log.id);
    }
}

/// The newest logs of which a condition holds.
async fn search(
    storage: &dyn ReadLogs,
    asked: &Asked,
    condition: Expression,
    cursor: Option<LogId>,
    page_size: usize,
) -> Result<Vec<StoredLog>, StorageError> {
    let of_service = asked
        .service
        .as_ref()
        .map(|service| Expression::Term(Term::Text(TextField::Service, service.to_string())));
    let conditions = std::iter::once(condition).chain(of_service).collect();
    let filter = Filter { expression: Expression::And(conditions) };
    let query =
        SearchQuery { filter, range: asked.range, cursor, page_size, limits: SearchLimits::NONE };
    Ok(storage.search(&asked.tenant, query).await?.logs)
}

/// The largest groups, and the template with the most logs of each.
async fn grouped(
    patterns: Vec<Pattern>,
    limit: usize,
) -> Result<(Clusters, Vec<TemplateId>), StorageError> {
    let group = move || {
        let texts: Vec<&str> = patterns.iter().map(|pattern| &*pattern.text).collect();
        let numbers = cluster(&texts);
        sum_up(patterns, numbers, limit)
    };
    let grouping = tokio::task::spawn_blocking(group);
    grouping.await.map_err(|error| StorageError::Broken(Box::new(error)))
}

fn sum_up(patterns: Vec<Pattern>, groups: Vec<usize>, limit: usize) -> (Clusters, Vec<TemplateId>) {
    let mut members: BTreeMap<usize, Vec<Pattern>> = BTreeMap::new();
    for (pattern, group) in patterns.into_iter().zip(groups) {
        members.entry(group).or_default().push(pattern);
    }
    let mut found: Vec<(Cluster, TemplateId)> = members.into_values().filter_map(one).collect();
    // Groups come in the order of their first pattern, so equal ones stay in an order.
    found.sort_by_key(|(cluster, _)| std::cmp::Reverse(cluster.logs));
    let total = found.len() as u64;
    let logs = found.iter().map(|(cluster, _)| cluster.logs).sum();
    found.truncate(limit);
    let (clusters, leaders) = found.into_iter().unzip();
    (Clusters { clusters, total, logs }, leaders)
}

fn one(mut members: Vec<Pattern>) -> Option<(Cluster, TemplateId)> {
    members.sort_by_key(|pattern| std::cmp::Reverse(pattern.logs));
    let leader = members.first()?.clone();
    let services: BTreeSet<&str> = members.iter().map(|pattern| &*pattern.service).collect();
    let samples = members.iter().flat_map(|pattern| &pattern.samples).take(SAMPLES_MAX);
    let cluster = Cluster {
        logs: members.iter().map(|pattern| pattern.logs).sum(),
        patterns: members.len() as u64,
        services: services.into_iter().take(SERVICES_MAX).map(str::to_owned).collect(),
        sample_ids: samples.map(ToString::to_string).collect(),
        representative: leader.text,
    };
    Some((cluster, leader.template_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_summed_up_and_the_largest_come_first() {
        let pattern = |id: u64, service: &str, text: &str, logs: u64| Pattern {
            template_id: TemplateId(id),
            service: service.into(),
            text: text.into(),
            logs,
            samples: Vec::new(),
        };
        let patterns = vec![
            pattern(1, "shop", "alone", 5),
            pattern(2, "shop", "pay a", 3),
            pattern(3, "billing", "pay b", 4),
        ];
        let (found, leaders) = sum_up(patterns.clone(), vec![1, 0, 0], 10);
        assert_eq!((found.total, found.logs), (2, 12));
        let [first, second] = &found.clusters[..] else { panic!("{found:?}") };
        assert_eq!((first.logs, first.patterns, &*first.representative), (7, 2, "pay b"));
        assert_eq!(first.services, ["billing", "shop"]);
        assert_eq!((second.logs, leaders), (5, vec![TemplateId(3), TemplateId(1)]));
        let (cut, _) = sum_up(patterns, vec![1, 0, 0], 1);
        assert_eq!((cut.clusters.len(), cut.total), (1, 2));
    }
}
