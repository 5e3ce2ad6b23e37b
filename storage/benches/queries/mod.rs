//! What is asked of a storage that holds the made-up logs.

use std::time::Instant;

use logweir_core::{filter::Filter, identity::Tenant, timestamp::Timestamp};
use logweir_storage::{AggregateQuery, GroupBy, ReadLogs, SearchLimits, SearchQuery, TimeRange};

use crate::sample::{HOUR, Made, SERVICES, START, trace};

async fn search(storage: &dyn ReadLogs, name: &str, filter: &str, range: TimeRange) {
    let query = SearchQuery {
        filter: Filter::parse(filter, Timestamp::from_unix_nanos(START)).expect("a good filter"),
        range,
        cursor: None,
        page_size: 100,
        limits: SearchLimits::NONE,
    };
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..5 {
        let started = Instant::now();
        found =
            storage.search(&Tenant::default(), query.clone()).await.expect("an answer").logs.len();
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "{name}: first {:.1} ms, best {:.1} ms, {found} found",
        times[0],
        times.iter().copied().fold(f64::MAX, f64::min)
    );
}

async fn aggregate(
    storage: &dyn ReadLogs,
    group_by: GroupBy,
    bucket_seconds: u32,
    range: TimeRange,
) {
    let query = AggregateQuery { range, bucket_seconds, group_by, service: None };
    let mut best = f64::MAX;
    let mut series = 0;
    for _ in 0..5 {
        let started = Instant::now();
        series =
            storage.aggregate(&Tenant::default(), query.clone()).await.expect("an answer").len();
        best = best.min(started.elapsed().as_secs_f64() * 1e3);
    }
    println!("counts per {bucket_seconds} s by {group_by:?}: {best:.1} ms, {series} series");
}

pub(crate) async fn queries(storage: &dyn ReadLogs, made: &Made, total: u64) {
    let all = TimeRange::ALL;
    let hour = (START / HOUR + 5) * HOUR;
    let range = TimeRange {
        from: Timestamp::from_unix_nanos(hour),
        to: Timestamp::from_unix_nanos(hour + HOUR),
    };
    let errors = "service:service-07 level>=error";
    search(storage, "newest 100 errors of a service", errors, all).await;
    search(storage, "newest 100", "", all).await;
    search(storage, "newest 100 errors", "level>=error", all).await;
    let place = total / 2 / SERVICES * SERVICES + 3;
    let rare = made.log(3, 0, place).record.message;
    let word = rare.split(' ').nth(5).expect("a word");
    search(storage, "a rare word", word, all).await;
    search(storage, "a rare word in an hour", word, range).await;
    search(storage, "a word that is nowhere", "wordthatneverwas", all).await;
    search(storage, "an attribute that is nowhere", "user_id=999999", all).await;
    let trace = trace(place).map(|byte| format!("{byte:02x}")).concat();
    search(storage, "a trace", &format!("trace:{trace}"), all).await;
    aggregate(storage, GroupBy::Service, 60, range).await;
    aggregate(storage, GroupBy::Nothing, 60, range).await;
    aggregate(storage, GroupBy::Template, 3_600, TimeRange::ALL).await;
    let started = Instant::now();
    let listed =
        storage.list_templates(&Tenant::default(), None, range, 100).await.expect("an answer");
    println!(
        "templates of an hour: {:.1} ms, {}",
        started.elapsed().as_secs_f64() * 1e3,
        listed.len()
    );
}
