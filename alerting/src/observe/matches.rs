//! Counts the logs that the filters of a tenant's rules match. Each is a search, so with each
//! evaluation only so much time is spent on them: filters take turns, the one first that was looked at
//! longest ago, and rules with the same filter share a look.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use logweir_core::{filter::Filter, identity::Tenant, record::StoredLog, timestamp::Timestamp};
use logweir_incident::rule::{Rule, RuleKind};
use logweir_storage::{ReadLogs, SearchLimits, SearchQuery, StorageError, TimeRange};

use crate::{
    detector::window::{BUCKET_WIDTH, Bucket},
    rule::{late::LATE_MAX, observations::RuleMatches},
};

/// Logs that a filter is counted over, the newest: a page of storage, and one more for each bucket
/// that has passed since it was looked at last.
const MATCHES_MAX: usize = 1_000;
/// How far back they are looked for at least, so that the buckets before the open one are seen
/// whole once more. Further with each far look.
pub(super) const MATCHES_MIN: Duration = Duration::from_secs(40);

/// The rules of each filter, by name.
pub(super) type Filters = BTreeMap<String, Vec<String>>;

/// The filters that rules count the matches of.
pub(super) fn filters(rules: &[Rule]) -> Filters {
    let mut filters = Filters::new();
    for rule in rules.iter().filter(|rule| rule.enabled) {
        if let RuleKind::MatchCount { filter, .. } = &rule.measure {
            filters.entry(filter.clone()).or_default().push(rule.name.clone());
        }
    }
    filters
}

/// What the filters matched.
#[derive(Debug, Default)]
pub(super) struct Matched {
    pub(super) matches: Vec<RuleMatches>,
    /// The names of rules whose filters wait for their turn.
    pub(super) unseen: BTreeSet<String>,
    /// How long the one of them that waits longest has waited.
    pub(super) late: Duration,
}

/// Whose turn it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct FilterTurns {
    /// The filters, the one whose turn is next first, and when each was looked at last, or was first
    /// there.
    line: VecDeque<(String, Timestamp)>,
}

impl FilterTurns {
    /// Looks at filters until `is_over`, at one at least.
    pub(super) async fn look(
        &mut self,
        read: &dyn ReadLogs,
        tenant: &Tenant,
        filters: Filters,
        (from, now): (Timestamp, Timestamp),
        is_over: impl Fn() -> bool,
    ) -> Result<Matched, StorageError> {
        self.follow(&filters, now);
        let mut matched = Matched::default();
        let mut left = self.line.len();
        while let Some((filter, since)) = self.line.front_mut().filter(|_| left > 0) {
            // One that has waited is looked for as far back as it was not looked at.
            let from = from.min(*since - MATCHES_MIN).max(now - LATE_MAX);
            let pages_max = 1 + now.since(*since).as_secs() / BUCKET_WIDTH.as_secs();
            let found = buckets(read, tenant, filter, (from, now), pages_max).await?;
            let rules = filters.get(filter).into_iter().flatten();
            matched.matches.extend(rules.flat_map(|rule| of_rule(rule, &found)));
            *since = now;
            self.line.rotate_left(1);
            left -= 1;
            if is_over() {
                break;
            }
        }
        for (filter, since) in self.line.iter().take(left) {
            matched.unseen.extend(filters.get(filter).into_iter().flatten().cloned());
            matched.late = matched.late.max(now.since(*since));
        }
        Ok(matched)
    }

    /// Those that are new stand behind the others.
    fn follow(&mut self, filters: &Filters, now: Timestamp) {
        self.line.retain(|(filter, _)| filters.contains_key(filter));
        let known: BTreeSet<&str> = self.line.iter().map(|(filter, _)| filter.as_str()).collect();
        let is_new = |filter: &&String| !known.contains(filter.as_str());
        let new: Vec<_> =
            filters.keys().filter(is_new).map(|filter| (filter.clone(), now)).collect();
        self.line.extend(new);
    }
}

fn of_rule(rule: &str, found: &[(String, Bucket)]) -> Vec<RuleMatches> {
    let matches = |(service, bucket): &(String, Bucket)| RuleMatches {
        rule: rule.to_owned(),
        service: service.clone(),
        bucket: bucket.clone(),
    };
    found.iter().map(matches).collect()
}

/// The newest logs that match, so many pages of them at most, counted by service and bucket.
async fn buckets(
    read: &dyn ReadLogs,
    tenant: &Tenant,
    filter: &str,
    (from, now): (Timestamp, Timestamp),
    pages_max: u64,
) -> Result<Vec<(String, Bucket)>, StorageError> {
    // What is no filter any more was one when the rule was set, by an earlier version.
    let Ok(filter) = Filter::parse(filter, now) else { return Ok(Vec::new()) };
    let range = TimeRange { from, to: Timestamp::MAX };
    let mut query = SearchQuery {
        filter,
        range,
        cursor: None,
        page_size: MATCHES_MAX,
        limits: SearchLimits::NONE,
    };
    let mut found = Vec::new();
    for _ in 0..pages_max {
        let page = read.search(tenant, query.clone()).await?;
        found.extend(page.logs);
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    Ok(counted(&found).into_iter().map(|((_, service), bucket)| (service, bucket)).collect())
}

/// Logs in buckets, of each service.
pub(crate) fn counted(logs: &[StoredLog]) -> BTreeMap<(Timestamp, String), Bucket> {
    let mut buckets: BTreeMap<(Timestamp, String), Bucket> = BTreeMap::new();
    for log in logs {
        let time = log.scored.record.time;
        let start = time.floor(BUCKET_WIDTH);
        let bucket = buckets.entry((start, log.service.to_string())).or_default();
        bucket.start = start;
        bucket.total += 1;
        bucket.last_seen = bucket.last_seen.max(time);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use logweir_incident::rule::Threshold;
    use logweir_storage::{SqliteConfig, SqliteStorage};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);

    fn rule(name: &str, filter: &str) -> Rule {
        let measure = RuleKind::MatchCount {
            filter: filter.to_owned(),
            window_seconds: 60,
            threshold: Threshold::Absolute(1.0),
        };
        Rule::new(name, measure)
    }

    #[tokio::test]
    async fn filters_take_turns_and_it_is_known_which_rules_wait() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path());
        let storage = SqliteStorage::open(&config, Arc::new(|| START)).unwrap();
        let mut rules: Vec<Rule> =
            (0..5).map(|number| rule(&format!("r{number}"), &format!("w{number}"))).collect();
        rules.push(rule("twin", "w1"));
        rules.push(Rule { enabled: false, ..rule("off", "w9") });
        let mut turns = FilterTurns::default();
        let mut seen = Vec::new();
        for second in 0..5 {
            // Time for two of them.
            let asked = Cell::new(0);
            let is_over = || asked.replace(asked.get() + 1) == 1;
            let now = START + SECOND * second;
            let (tenant, filters) = (Tenant::default(), filters(&rules));
            let found = turns.look(&storage, &tenant, filters, (now, now), is_over).await.unwrap();
            let is_seen = |rule: &&Rule| rule.enabled && !found.unseen.contains(&rule.name);
            let names: Vec<&str> = rules.iter().filter(is_seen).map(|rule| &*rule.name).collect();
            seen.push((names.join(" "), found.late.as_secs()));
        }
        let expected =
            [("r0 r1 twin", 0), ("r2 r3", 1), ("r0 r4", 2), ("r1 r2 twin", 2), ("r3 r4", 2)];
        assert_eq!(seen, expected.map(|(names, late)| (names.to_owned(), late)));
    }
}
