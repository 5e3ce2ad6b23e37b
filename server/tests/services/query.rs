//! Reading back what was sent.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, TryStreamExt};
use logweir_proto::v1;
use logweir_queue::QueueLimits;
use logweir_server::{ServerConfig, ServiceConfig};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Bench, NOW, batch, messages, reason, with_token};

/// The time until now, the newest log included.
fn last(time: Duration) -> v1::TimeRange {
    v1::TimeRange {
        from_unix_nano: (NOW - time).as_unix_nanos(),
        to_unix_nano: NOW.next().as_unix_nanos(),
    }
}

fn search(filter: &str) -> v1::SearchLogsRequest {
    v1::SearchLogsRequest { filter: filter.into(), ..Default::default() }
}

#[tokio::test]
async fn pages_follow_each_other() {
    let bench = Bench::new().await;
    bench.send(batch(1, &["a", "b", "c", "d", "e"])).await.unwrap();
    let mut request = v1::SearchLogsRequest { page_size: 2, ..search("service:payments") };
    let mut seen = Vec::new();
    loop {
        let answer = bench.query().search_logs(with_token(&bench.admin(), request.clone())).await;
        let page = answer.unwrap().into_inner();
        seen.extend(messages(&page.logs).into_iter().map(str::to_owned));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, ["e", "d", "c", "b", "a"]);
}

#[tokio::test]
async fn an_answer_stays_below_what_clients_take() {
    let bench = Bench::new().await;
    let long = "x".repeat(60_000);
    for id in 1..=2 {
        bench.send(batch(id, &[long.as_str(); 50])).await.unwrap();
    }
    let mut request = v1::SearchLogsRequest { page_size: 1_000, ..search("") };
    let mut pages = Vec::new();
    loop {
        let answer = bench.query().search_logs(with_token(&bench.admin(), request.clone())).await;
        let page = answer.unwrap().into_inner();
        pages.push(page.logs.len());
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!((pages.len(), pages.iter().sum::<usize>()), (2, 100));
    let request = with_token(&bench.admin(), v1::ExportLogsRequest::default());
    let parts: Vec<_> =
        bench.query().export_logs(request).await.unwrap().into_inner().try_collect().await.unwrap();
    let exported: usize = parts.iter().map(|part: &v1::ExportLogsResponse| part.logs.len()).sum();
    assert_eq!((parts.len(), exported), (2, 100));
}

#[tokio::test]
async fn a_bad_question_is_pointed_at() {
    let bench = Bench::new().await;
    let range = |from, to| Some(v1::TimeRange { from_unix_nano: from, to_unix_nano: to });
    for (request, field) in [
        (search("level>=nonsense"), "filter"),
        (v1::SearchLogsRequest { page_size: 1_001, ..search("") }, "page_size"),
        (v1::SearchLogsRequest { page_token: "zz".into(), ..search("") }, "page_token"),
        (v1::SearchLogsRequest { range: range(5, 4), ..search("") }, "range"),
    ] {
        let answer = bench.query().search_logs(with_token(&bench.admin(), request)).await;
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let request = status.get_details_bad_request().unwrap();
        assert_eq!(request.field_violations[0].field, field);
        assert_eq!(field == "filter", status.message().contains('^'), "{status}");
    }
}

#[tokio::test]
async fn an_export_is_oldest_first() {
    let bench = Bench::new().await;
    bench.send(batch(1, &["a", "b", "c"])).await.unwrap();
    let request = v1::ExportLogsRequest { filter: "-b".into(), range: None };
    let request = with_token(&bench.admin(), request);
    let mut parts = bench.query().export_logs(request).await.unwrap().into_inner();
    assert_eq!(messages(&parts.next().await.unwrap().unwrap().logs), ["a", "c"]);
    assert!(parts.next().await.is_none());
}

#[tokio::test]
async fn a_tail_shows_what_matches_as_it_is_stored() {
    let mut bench = Bench::new().await;
    bench.send(batch(1, &["too early"])).await.unwrap();
    let request = with_token(&bench.admin(), v1::TailLogsRequest { filter: "wanted".into() });
    let mut tail = bench.query().tail_logs(request).await.unwrap().into_inner();
    bench.send(batch(2, &["not this", "wanted one"])).await.unwrap();
    bench.send(batch(3, &["wanted two"])).await.unwrap();
    for expected in ["wanted one", "wanted two"] {
        let part = tail.message().await.unwrap().unwrap();
        assert_eq!((messages(&part.logs), part.skipped), (vec![expected], 0));
    }
    bench.tasks.stop();
    let end = tail.message().await.unwrap_err();
    assert_eq!((end.code(), reason(&end)), (Code::Unavailable, "STOPPING".into()));
    bench.served().await;
}

#[tokio::test]
async fn counts_come_by_bucket_service_and_level() {
    let bench = Bench::new().await;
    let mut sent = batch(1, &["a", "b", "c", "d"]);
    sent.records[3].level = v1::Level::Error.into();
    sent.records[3].latency_ms = Some(100.0);
    bench.send(sent).await.unwrap();
    let request = v1::AggregateLogsRequest {
        range: Some(last(Duration::from_secs(3_600))),
        group_by: v1::GroupBy::Level.into(),
        ..Default::default()
    };
    let request = with_token(&bench.admin(), request);
    let series = bench.query().aggregate_logs(request).await.unwrap().into_inner().series;
    let total = |series: &v1::Series| series.points.iter().map(|point| point.total).sum::<u64>();
    let totals: Vec<_> = series.iter().map(|s| (s.group.as_str(), total(s))).collect();
    assert_eq!(totals, [("INFO", 3), ("ERROR", 1)]);

    let request = v1::ServiceStatsRequest { window_minutes: 1, service: String::new() };
    let request = with_token(&bench.admin(), request);
    let stats = bench.query().service_stats(request).await.unwrap().into_inner().stats;
    let [stat] = stats.as_slice() else { panic!("{stats:?}") };
    assert_eq!((stat.service.as_str(), stat.total, stat.errors), ("payments", 4, 1));
    assert_eq!((stat.error_rate, stat.latency_average_ms), (0.25, Some(100.0)));

    let request = v1::LatencyHeatmapRequest {
        range: Some(last(Duration::from_secs(1))),
        ..Default::default()
    };
    let request = with_token(&bench.admin(), request);
    let cells = bench.query().latency_heatmap(request).await.unwrap().into_inner().cells;
    let [cell] = cells.as_slice() else { panic!("{cells:?}") };
    assert!(cell.count == 1 && (cell.latency_from_ms..cell.latency_to_ms).contains(&100.0));
}

#[tokio::test]
async fn too_many_buckets_are_refused() {
    let bench = Bench::new().await;
    let request = with_token(&bench.admin(), v1::AggregateLogsRequest::default());
    let status = bench.query().aggregate_logs(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("the limit is 10000"), "{status}");
}

#[tokio::test]
async fn services_templates_and_accounts_are_listed() {
    let known = ServiceConfig { region: "eu".into(), owner: "team-pay".into() };
    let services = BTreeMap::from([("payments".to_owned(), known)]);
    let config = ServerConfig { services, ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    let producer = v1::Producer {
        producer_id: vec![9; 16],
        sequence: 1,
        account: Some(v1::Account { emitted: 3, ..Default::default() }),
        ..Default::default()
    };
    bench.send(v1::Batch { producer: Some(producer), ..batch(1, &["a", "b"]) }).await.unwrap();
    let request = with_token(&bench.admin(), v1::ListServicesRequest {});
    let found = bench.query().list_services(request).await.unwrap().into_inner().services;
    assert_eq!(
        (found[0].total, found[0].region.as_str(), found[0].owner.as_str()),
        (2, "eu", "team-pay")
    );
    let request = with_token(&bench.admin(), v1::ListTemplatesRequest::default());
    let found = bench.query().list_templates(request).await.unwrap().into_inner().templates;
    assert_eq!((found[0].count, found[0].pattern.as_str()), (2, "any"));
    let request = with_token(&bench.admin(), v1::DeliveryReportRequest::default());
    let found = bench.query().delivery_report(request).await.unwrap().into_inner();
    assert_eq!((found.producers[0].stored, found.producers[0].missing), (2, 1));
    let sums = &found.totals[0];
    assert_eq!((sums.producers, sums.emitted, sums.stored, sums.missing), (1, 3, 2, 1));
    assert!(!found.truncated);
}

#[tokio::test]
async fn a_log_is_found_by_its_id_among_its_neighbours() {
    let bench = Bench::new().await;
    bench.send(batch(1, &["a", "b", "c"])).await.unwrap();
    let id = bench.stored().await[1].id.clone();
    let get =
        |id: String, neighbours| with_token(&bench.admin(), v1::GetLogRequest { id, neighbours });
    let found = bench.query().get_log(get(id.clone(), 5)).await.unwrap().into_inner();
    assert_eq!(found.log.unwrap().record.unwrap().message, "b");
    assert_eq!((messages(&found.before), messages(&found.after)), (vec!["a"], vec!["c"]));
    for (id, neighbours, code) in [
        ("zz".to_owned(), 0, Code::InvalidArgument),
        (id, 101, Code::InvalidArgument),
        ("0".repeat(56), 0, Code::NotFound),
    ] {
        assert_eq!(bench.query().get_log(get(id, neighbours)).await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn large_neighbours_are_left_out_from_the_farthest_and_it_is_said() {
    let bench = Bench::new().await;
    let message = |number| format!("{number:03} {}", "x".repeat(60_000));
    for id in 0..4_u8 {
        let long: Vec<String> = (0..40).map(message).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        bench.send(batch(id, &long)).await.unwrap();
    }
    let stored = bench.query().search_logs(with_token(&bench.admin(), search("020"))).await;
    let id = stored.unwrap().into_inner().logs[0].id.clone();
    let get = |neighbours| {
        let request = v1::GetLogRequest { id: id.clone(), neighbours };
        let (mut client, request) = (bench.query(), with_token(&bench.admin(), request));
        async move { client.get_log(request).await.unwrap().into_inner() }
    };
    let few = get(10).await;
    assert_eq!((few.before.len(), few.after.len(), few.truncated), (10, 10, false));
    let many = get(60).await;
    assert!(many.truncated && (20..60).contains(&many.before.len()));
    assert_eq!(many.before.last(), few.before.last());
    assert_eq!(many.after.first(), few.after.first());
}
