//! What was written comes back: as logs, in pages, and as counts.

use std::{collections::BTreeMap, time::Duration};

use logweir_core::{
    filter::Filter,
    identity::LogId,
    latency::{bucket_of, percentile},
    record::{Attribute, ScoredBatch, StoredLog, Value},
    timestamp::Timestamp,
};

use super::{
    NOW, StorageUnderTest,
    sample::{
        HOUR, SECOND, batch, batch_until, empty_batch, maintain, newest_first, push, query,
        search_all, service, store, tenant,
    },
};
use crate::{
    AggregatePoint, AggregateQuery, AggregateSeries, GroupBy, SearchLimits, SearchQuery, Storage,
    StorageError, TimeRange,
};

/// A few services over a few hours, in several writes.
pub(super) fn history() -> Vec<Vec<ScoredBatch>> {
    vec![
        vec![batch(1, "payments", 300, Duration::ZERO), batch(2, "orders", 200, Duration::ZERO)],
        vec![batch(3, "payments", 100, 2 * HOUR), batch(4, "users", 50, 90 * SECOND)],
        vec![batch(5, "orders", 120, 30 * SECOND), batch(6, "payments", 80, 26 * HOUR)],
    ]
}

pub(super) async fn store_history(storage: &dyn Storage) -> Vec<ScoredBatch> {
    let history = history();
    for batches in &history {
        store(storage, batches).await;
    }
    history.concat()
}

pub(super) const FILTERS: [&str; 14] = [
    "",
    "service:payments",
    "service:payments level>=error",
    "level:debug",
    "anomaly:true",
    "\"did request\" orders",
    "user_id=3 path:/orders/2",
    "service:nobody",
    "service:payments or service:users",
    "-level:info -service:orders",
    "latency>50",
    "instance:users-1 environment:production",
    "did -anomaly:true score<0.5",
    "wordthatneverwas",
];

pub(super) async fn logs_come_back_as_they_were(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let batches = store_history(&*storage).await;
    drop(storage);
    let storage = test.open().await;
    let all = newest_first(&batches);
    for text in FILTERS {
        let filter = Filter::parse(text, NOW).unwrap();
        let mut expected = all.clone();
        expected.retain(|log| filter.matches(log));
        assert_eq!(search_all(&*storage, &tenant(), text, 1_000).await, expected, "{text:?}");
    }
    let trace = all.iter().find_map(|log| log.scored.record.trace_id).unwrap();
    let digits: String = trace.iter().map(|byte| format!("{byte:02x}")).collect();
    let by_trace = format!("trace:{digits}");
    assert!(!search_all(&*storage, &tenant(), &by_trace, 100).await.is_empty());
}

/// What some database or coding might take for a mark of its own, or have no room for.
pub(super) async fn odd_values_come_back_as_they_were(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let texts = [
        "",
        "\0",
        "a\0b",
        "\r\n\t\u{1b}[0m",
        "\u{10ffff}\u{feff}",
        "'\\N\"%_<*>",
        "null",
        "e\u{301}",
    ];
    let mut written = empty_batch(1, "payments");
    written.resource.instance = "a\0b".into();
    written.resource.environment = "\u{10ffff}".into();
    for (index, text) in (0..).zip(texts) {
        push(
            &mut written,
            index,
            [NOW, Timestamp::EPOCH, Timestamp::from_unix_nanos(1)][index as usize % 3],
        );
        let record = &mut written.records[index as usize].record;
        record.message = text.into();
        record.logger = text.into();
        record.latency_ms = Some([0.0, 1e-300, f64::MAX][index as usize % 3]);
        record.attributes = vec![
            Attribute::new(format!("key {text}"), Value::String(text.into())),
            Attribute::new("json", Value::Json(" {\"b\": 1.0, \"a\": 1e400}".into())),
            Attribute::new("least", Value::Int(i64::MIN)),
            Attribute::new("infinite", Value::Double(f64::NEG_INFINITY)),
            Attribute::new("small", Value::Double(-0.0)),
            Attribute::new("least", Value::Bool(true)),
        ];
    }
    store(&*storage, std::slice::from_ref(&written)).await;
    let expected = newest_first([&written]);
    assert_eq!(search_all(&*storage, &tenant(), "", 3).await, expected);
    maintain(&*storage, NOW).await;
    assert_eq!(search_all(&*storage, &tenant(), "", 100).await, expected);
}

/// Logs on which the terms of a filter differ: words within words, numbers in many forms, values
/// that a database may hold in a form of its own.
fn varied() -> ScoredBatch {
    let messages = [
        "Connection REFUSED by peer",
        "connection: 'refused'",
        "it was refusedly so",
        "die gr\u{f6}\u{df}e GR\u{d6}SSE",
        "100% of _users_ \\ done",
        "a\0b refused",
        "",
        "“ÉCOLE” 用户admin登录失败, http://h.example:80/x",
    ];
    let values = [
        Value::Int(42),
        Value::Int(-42),
        Value::Int(i64::MAX),
        Value::Double(42.0),
        Value::Double(41.999_999),
        Value::Double(1e300),
        Value::Double(f64::INFINITY),
        Value::String("42".into()),
        Value::String("+042.0".into()),
        Value::String("41.99999999999999999999".into()),
        Value::String("4.2e1".into()),
        Value::String("a \"quoted\" \\ text\n".into()),
        Value::String("a\0b".into()),
        Value::String("true".into()),
        Value::String(String::new()),
        Value::Bool(true),
        Value::Json("null".into()),
        Value::Json("{\"a\": [1, \"x\"]}".into()),
        Value::Json("42".into()),
        Value::Json("{\"a\": {\"b.c\": 42, \"d\": [\"re\\u0064\", 7.5]}}".into()),
        Value::Json("[\"blue \\u00c9t\\u00e9\", {\"a\": null}, 42]".into()),
        Value::Json("18446744073709551615".into()),
        Value::Double(1e-7),
        Value::String("École supérieure 登录".into()),
    ];
    let mut batch = empty_batch(1, "payments");
    for (index, value) in (0..).zip(values) {
        push(&mut batch, index, NOW - Duration::from_nanos(250) * index);
        let record = &mut batch.records[index as usize].record;
        record.message = messages[index as usize % messages.len()].into();
        record.logger = ["app.db", "app\0", ""][index as usize % 3].into();
        record.attributes.push(Attribute::new("v", value.clone()));
        record.attributes.push(Attribute::new("v.w", Value::Int(index.into())));
        record.attributes.push(Attribute::new("a \"key\"", value));
        if index % 3 == 0 {
            record.latency_ms = None;
        }
    }
    batch
}

const TERMS: [&str; 92] = [
    "refused",
    "\"connection refused\"",
    "*fuse*",
    "refuse*",
    "*fused",
    "GR\u{d6}SSE",
    "gr\u{f6}\u{df}e",
    "\"a b\"",
    "_users_",
    "100",
    "service:payments",
    "service:\"no service\"",
    "instance:payments-1",
    "environment:\"a\0b\"",
    "logger:app.db",
    "logger:\"app\0\"",
    "logger:\"app\u{fffd}\"",
    "logger:\"\"",
    "level>=error",
    "level<info",
    "level:warn",
    "latency>50",
    "latency<=48.25",
    "score>=0.9995",
    "score<0.9",
    "anomaly:true",
    "anomaly:false",
    "time<2023-11-14T22:13:19.999999250Z",
    "time>=2023-11-14T22:13:19.999997500Z",
    "time:2023-11-14T22:13:19.999999500Z",
    "template:0",
    "trace:efefefefefefefefefefefefefefefef",
    "span:eeeeeeeeeeeeeeee",
    "v=42",
    "v=42.0",
    "v=\"+42\"",
    "v>41",
    "v<=42",
    "v>a",
    "v=true",
    "v=TRUE",
    "v=inf",
    "v=\"\"",
    "v=null",
    "v=\"{\\\"a\\\": [1, \\\"x\\\"]}\"",
    "\"a \\\"key\\\"\"=\"a \\\"quoted\\\" \\\\ text\n\"",
    "v=\"a\0b\"",
    "nothere=42",
    "école",
    "ÉC*",
    "*cole",
    "\"école 用户\"",
    "用户",
    "*登录*",
    "admin",
    "\"admin 登录\"",
    "http://h.example:80/x",
    "h.example:80",
    "service:pay*",
    "service:*ments",
    "service:shop*",
    "instance:*",
    "instance:p*_1",
    "environment:*o*",
    "logger:*",
    "logger:app*",
    "logger:\"app*\"",
    "latency:*",
    "trace:*",
    "span:*",
    "level:*",
    "v:*",
    "v=4*",
    "v=*e*",
    "v=*\u{fffd}*",
    "v=42*",
    "nothere:*",
    "v:42",
    "v.w>9",
    "v.w=*",
    "v.a.b.c=42.0",
    "v.a.d=red",
    "v.a.d>7",
    "v.a.d=*d",
    "v.a=null",
    "v=*Été",
    "v>18446744073709551614",
    "any:42",
    "any:école",
    "any:red",
    "any:0000001",
    "any:\"blue été\"",
];

/// Each term alone, negated, and with others.
pub(super) async fn filters_hold_for_the_same_logs(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let batch = varied();
    let all = newest_first([&batch]);
    store(&*storage, &[batch]).await;
    let mut held = 0;
    for (place, term) in TERMS.iter().enumerate() {
        let other = TERMS[(place * 7 + 5) % TERMS.len()];
        let third = TERMS[(place * 11 + 3) % TERMS.len()];
        for text in [
            term.to_string(),
            format!("-{term}"),
            format!("{term} or {other}"),
            format!("-({term} {other})"),
            format!("-({term} or {other}) or -(-{third} {other})"),
        ] {
            let filter = Filter::parse(&text, NOW);
            let filter = filter.unwrap_or_else(|error| panic!("{}", error.pointed(&text)));
            let mut expected = all.clone();
            expected.retain(|log| filter.matches(log));
            assert_eq!(search_all(&*storage, &tenant(), &text, 7).await, expected, "{text}");
            held += usize::from(!expected.is_empty() && expected.len() < all.len());
        }
    }
    assert!(held > TERMS.len(), "most filters tell logs apart");
}

async fn export_all(storage: &dyn Storage, filter: &str, page_size: usize) -> Vec<StoredLog> {
    let mut query = query(filter, page_size);
    let mut logs = Vec::new();
    loop {
        let page = storage.export(&tenant(), query.clone()).await.unwrap();
        logs.extend(page.logs);
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return logs,
        }
    }
}

pub(super) async fn pages_are_complete_and_in_order(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let batches = store_history(&*storage).await;
    let mut all = newest_first(&batches);
    for page_size in [1, 7, 100, all.len(), 5_000] {
        let searched = search_all(&*storage, &tenant(), "", page_size).await;
        assert_eq!(searched, all, "pages of {page_size}");
    }
    let range = TimeRange { from: NOW - 100 * SECOND, to: NOW };
    let page = storage.search(&tenant(), SearchQuery { range, ..query("", 5_000) }).await.unwrap();
    let in_range = |log: &&StoredLog| (range.from..range.to).contains(&log.id.time);
    assert!(page.logs.iter().eq(all.iter().filter(in_range)));
    all.reverse();
    for page_size in [3, 5_000] {
        assert_eq!(export_all(&*storage, "", page_size).await, all, "pages of {page_size}");
    }
}

/// All pages together, and how many of them met the limits.
async fn in_parts(
    storage: &dyn Storage,
    is_export: bool,
    mut query: SearchQuery,
) -> (Vec<StoredLog>, usize) {
    let (mut logs, mut partial) = (Vec::new(), 0);
    loop {
        let page = match is_export {
            true => storage.export(&tenant(), query.clone()).await.unwrap(),
            false => storage.search(&tenant(), query.clone()).await.unwrap(),
        };
        partial += usize::from(page.is_partial);
        logs.extend(page.logs);
        let Some(next) = page.next else { return (logs, partial) };
        let goes_on = |last| if is_export { next > last } else { next < last };
        assert!(query.cursor.is_none_or(goes_on), "no two pages end at the same place");
        query.cursor = Some(next);
    }
}

pub(super) async fn limits_only_cut_pages_short(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    store_history(&*storage).await;
    let none = SearchLimits::NONE;
    let limits = [
        SearchLimits { work: Duration::ZERO, ..none },
        SearchLimits { bytes: 0, ..none },
        SearchLimits { bytes: 3_000, ..none },
        SearchLimits { bytes: 40_000, ..none },
        none,
    ];
    for text in FILTERS.into_iter().step_by(3) {
        let whole = search_all(&*storage, &tenant(), text, 1_000).await;
        let oldest_first: Vec<StoredLog> = whole.iter().rev().cloned().collect();
        for (limits, page_size) in limits.into_iter().flat_map(|one| [(one, 70), (one, 1_000)]) {
            let query = SearchQuery { limits, ..query(text, page_size) };
            let (found, partial) = in_parts(&*storage, false, query.clone()).await;
            assert_eq!(found, whole, "{text:?} {limits:?} {page_size}");
            let (found, _) = in_parts(&*storage, true, query).await;
            assert_eq!(found, oldest_first, "{text:?} {limits:?} {page_size}");
            // One page has room for all logs, so that only the limits can cut it short.
            if text.is_empty() && page_size > whole.len() {
                let must_end = limits.bytes == 0 || limits.work.is_zero();
                assert!(partial > 0 || !must_end, "{limits:?}");
            }
            assert!(partial == 0 || limits != none);
        }
    }
}

pub(super) async fn pages_stay_stable_while_data_comes_in(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let batches = store_history(&*storage).await;
    let first = storage.search(&tenant(), query("", 100)).await.unwrap();
    let cursor = first.next.unwrap();
    // Both newer and older than the place where the reader is.
    let late = [batch_until(10, "payments", 50, NOW + 60 * SECOND), batch(11, "orders", 40, HOUR)];
    store(&*storage, &late).await;
    let mut seen = first.logs;
    let mut query = SearchQuery { cursor: Some(cursor), ..query("", 100) };
    loop {
        let page = storage.search(&tenant(), query.clone()).await.unwrap();
        seen.extend(page.logs);
        let Some(next) = page.next else { break };
        query.cursor = Some(next);
    }
    let mut expected = newest_first(batches.iter().chain(&late[1..]));
    assert!(seen.windows(2).all(|pair| pair[0].id > pair[1].id), "in order, none twice");
    expected.retain(|log| seen.iter().any(|seen| seen.id == log.id) || log.id < cursor);
    assert_eq!(seen, expected);
}

pub(super) async fn a_log_has_its_neighbours(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let batches = store_history(&*storage).await;
    let mut of_service = newest_first(&batches);
    of_service.retain(|log| log.service.as_str() == "payments");
    of_service.reverse();
    for place in [0, 1, 200, of_service.len() - 1] {
        let found = storage.get(&tenant(), of_service[place].id, 3).await.unwrap();
        assert_eq!(found.log, of_service[place]);
        assert_eq!(found.before, of_service[place.saturating_sub(3)..place]);
        let end = (place + 4).min(of_service.len());
        assert_eq!(found.after, of_service[place + 1..end]);
    }
    let unknown = LogId { index: 9_999, ..of_service[0].id };
    assert!(matches!(storage.get(&tenant(), unknown, 0).await, Err(StorageError::NotFound(_))));
}

fn aggregate(range: TimeRange, bucket_seconds: u32, group_by: GroupBy) -> AggregateQuery {
    AggregateQuery { range, bucket_seconds, group_by, service: None }
}

/// What `aggregate` is to answer, counted from the logs themselves. Without latencies.
fn recount(logs: &[StoredLog], query: &AggregateQuery) -> BTreeMap<String, Vec<AggregatePoint>> {
    let width = query.bucket_seconds * SECOND;
    let mut counted: BTreeMap<(String, Timestamp), AggregatePoint> = BTreeMap::new();
    for log in logs {
        let time = log.id.time;
        if !(query.range.from..query.range.to).contains(&time) {
            continue;
        }
        let group = match query.group_by {
            GroupBy::Nothing => String::new(),
            GroupBy::Service => log.service.to_string(),
            GroupBy::Level => log.scored.level.to_string(),
            GroupBy::Template => log.scored.template_id.to_string(),
        };
        let start = time.floor(width);
        let point = counted.entry((group, start)).or_default();
        point.start = start;
        point.total += 1;
        point.errors += u64::from(log.scored.level.is_error());
        point.anomalies += u64::from(log.scored.is_anomaly);
    }
    let mut series: BTreeMap<String, Vec<AggregatePoint>> = BTreeMap::new();
    for ((group, _), point) in counted {
        series.entry(group).or_default().push(point);
    }
    series
}

fn without_latency(series: Vec<AggregateSeries>) -> BTreeMap<String, Vec<AggregatePoint>> {
    let strip = |point| AggregatePoint { latency_ms: None, latencies: Vec::new(), ..point };
    let totals: Vec<u64> =
        series.iter().map(|series| series.points.iter().map(|point| point.total).sum()).collect();
    assert!(totals.is_sorted_by(|a, b| a >= b), "largest group first");
    series.into_iter().map(|s| (s.group, s.points.into_iter().map(strip).collect())).collect()
}

pub(super) async fn counters_equal_a_recount(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let batches = store_history(&*storage).await;
    let logs = newest_first(&batches);
    let start = (NOW - 30 * HOUR).floor(HOUR);
    let part = TimeRange { from: start + 27 * HOUR, to: start + 31 * HOUR };
    for (range, bucket_seconds) in [
        (part, 10),
        (part, 60),
        (part, 3_600),
        (TimeRange::ALL, 60),
        (TimeRange::ALL, 3_600),
        (TimeRange::ALL, 86_400),
    ] {
        for group_by in [GroupBy::Nothing, GroupBy::Service, GroupBy::Level, GroupBy::Template] {
            let query = aggregate(range, bucket_seconds, group_by);
            let mut expected = logs.clone();
            if group_by == GroupBy::Template && bucket_seconds % 3_600 != 0 {
                expected.retain(|log| log.scored.level.is_error());
            }
            let found = storage.aggregate(&tenant(), query.clone()).await.unwrap();
            assert_eq!(without_latency(found), recount(&expected, &query), "{query:?}");
        }
    }
    latencies_equal_a_recount(&*storage, &logs).await;
    for summary in storage.list_services(&tenant()).await.unwrap() {
        let mut of_service = logs.clone();
        of_service.retain(|log| log.service == summary.service);
        let count =
            |holds: fn(&StoredLog) -> bool| of_service.iter().filter(|l| holds(l)).count() as u64;
        assert_eq!(summary.total, of_service.len() as u64);
        assert_eq!(summary.errors, count(|log| log.scored.level.is_error()));
        assert_eq!(summary.anomalies, count(|log| log.scored.is_anomaly));
        assert_eq!(summary.last_seen, of_service[0].id.time);
        let oldest = of_service.last().unwrap().id.time;
        assert_eq!(summary.first_seen, oldest.floor(HOUR));
    }
}

async fn latencies_equal_a_recount(storage: &dyn Storage, logs: &[StoredLog]) {
    let mut query = aggregate(TimeRange::ALL, 3_600, GroupBy::Service);
    query.service = Some(service("payments"));
    let mut counted: BTreeMap<Timestamp, (f64, BTreeMap<i32, u64>)> = BTreeMap::new();
    for log in logs.iter().filter(|log| log.service.as_str() == "payments") {
        if let Some(latency_ms) = log.scored.record.latency_ms {
            let column = counted.entry(log.id.time.floor(HOUR)).or_default();
            column.0 += latency_ms;
            *column.1.entry(bucket_of(latency_ms)).or_default() += 1;
        }
    }
    let cells: Vec<(Timestamp, i32, u64)> = counted
        .iter()
        .flat_map(|(start, (_, column))| {
            column.iter().map(|(bucket, count)| (*start, *bucket, *count))
        })
        .collect();
    let found = storage.latency_heatmap(&tenant(), query.clone()).await.unwrap();
    let found: Vec<_> =
        found.iter().map(|cell| (cell.start, cell.latency_bucket, cell.count)).collect();
    assert_eq!(found, cells);
    let series = storage.aggregate(&tenant(), query).await.unwrap();
    assert_eq!(series.len(), 1);
    for point in &series[0].points {
        let (sum, column) = &counted[&point.start];
        let buckets: Vec<(i32, u64)> =
            column.iter().map(|(bucket, count)| (*bucket, *count)).collect();
        let count: u64 = column.values().sum();
        let latency = point.latency_ms.unwrap();
        assert!((latency.average - sum / count as f64).abs() < 1e-6);
        assert_eq!(Some(latency.p50), percentile(&buckets, 0.5));
        assert_eq!(Some(latency.p99), percentile(&buckets, 0.99));
    }
}

pub(super) async fn templates_are_counted(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let batches = store_history(&*storage).await;
    let logs = newest_first(&batches);
    let listed = storage.list_templates(&tenant(), None, TimeRange::ALL, 1_000).await.unwrap();
    let mut counts: BTreeMap<_, u64> = BTreeMap::new();
    logs.iter().for_each(|log| *counts.entry(log.scored.template_id).or_default() += 1);
    assert_eq!(listed.len(), counts.len());
    assert!(listed.is_sorted_by(|a, b| a.count >= b.count), "most frequent first");
    for summary in &listed {
        let of_template = logs.iter().filter(|log| log.scored.template_id == summary.template_id);
        let of_template: Vec<&StoredLog> = of_template.collect();
        assert_eq!(summary.count, of_template.len() as u64);
        assert_eq!(summary.last_seen, of_template[0].id.time);
        assert_eq!(summary.first_seen, of_template.last().unwrap().id.time);
        assert_eq!(Some(summary.level), of_template.iter().map(|log| log.scored.level).max());
        assert_eq!(summary.service, of_template[0].service);
        assert!(summary.pattern.starts_with(summary.service.as_str()));
    }
    let mut loaded = storage.load_templates().await.unwrap();
    loaded.sort_by_key(|(template, _)| template.template_id);
    let loaded: Vec<_> =
        loaded.into_iter().map(|(template, count)| (template.template_id, count)).collect();
    assert_eq!(loaded, counts.into_iter().collect::<Vec<_>>());
    let only = service("users");
    let of_users = storage.list_templates(&tenant(), Some(&only), TimeRange::ALL, 2).await.unwrap();
    assert!(of_users.len() == 2 && of_users.iter().all(|summary| summary.service == only));
    trends_compare_with_the_day_before(&*storage).await;
}

/// 24 logs in each of the 24 hours before, then 48 in the last full hour.
async fn trends_compare_with_the_day_before(storage: &dyn Storage) {
    let hour = NOW.floor(HOUR);
    let mut written = empty_batch(100, "steady");
    for hours_ago in 1..=25 {
        for number in 0..if hours_ago == 1 { 48 } else { 24 } {
            // The same level every time, so that all have one template.
            let index = written.records.len() as u32;
            push(&mut written, index, hour - hours_ago * HOUR + number * SECOND);
        }
    }
    let pattern = written.records[0].template_id;
    written.records.iter_mut().for_each(|log| log.template_id = pattern);
    store(storage, &[written]).await;
    let range = TimeRange { from: hour - HOUR, to: NOW };
    let only = service("steady");
    let listed = storage.list_templates(&tenant(), Some(&only), range, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].count, listed[0].trend), (48, Some(2.0)));
}

pub(super) async fn too_many_points_are_refused(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let mut written = empty_batch(1, "payments");
    for index in 0..10_001 {
        push(&mut written, index, NOW - index * 10 * SECOND);
    }
    assert_eq!(written.records.len(), 10_001);
    store(&*storage, &[written]).await;
    let narrow = aggregate(TimeRange::ALL, 10, GroupBy::Nothing);
    let refused = storage.aggregate(&tenant(), narrow).await;
    assert!(matches!(refused, Err(StorageError::LimitExceeded(_))));
    let wide = aggregate(TimeRange::ALL, 20, GroupBy::Nothing);
    assert_eq!(storage.aggregate(&tenant(), wide).await.unwrap()[0].points.len(), 5_001);
}
