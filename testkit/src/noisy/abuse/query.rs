//! What is done by asking for logs.

use std::time::Duration;

use logweir_proto::v1::{
    AggregateLogsRequest, DeliveryReportRequest, ExportLogsRequest, GroupBy, LatencyHeatmapRequest,
    ListTemplatesRequest, SearchLogsRequest, ServiceStatsRequest, TailLogsRequest, TimeRange,
    query_service_client::QueryServiceClient,
};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};

use super::{abuser::Abuser, ingest};
use crate::noisy::{
    batch,
    client::{ANSWER_BYTES_MAX, reason, stream_channel},
};

const SEARCHERS: usize = 16;
const CONNECTIONS: usize = 4;
/// Two fewer than a filter may have.
const TERMS: usize = 98;
/// More than one tenant is given.
const TAILS: usize = 1_400;
/// Fewer than a connection may have.
const TAILS_OF_CONNECTION: usize = 200;
/// The widest, as they are dearest: seven days.
const STATS_MINUTES: u32 = 10_080;
/// Kinds of them.
const REPORTS: u64 = 5;
const RANGE: Duration = Duration::from_secs(7 * 86_400);
/// The finest of which a series may have enough for a week.
const BUCKET_SECONDS: u32 = 120;

/// One that no log matches and every log must be looked at for, term after term.
pub(super) fn long_filter() -> String {
    let terms: Vec<String> = (0..TERMS).map(|term| format!("-any:*zq{term}x*")).collect();
    let filter = terms.join(" ");
    debug_assert!(filter.len() <= 4_096 && !filter.is_empty());
    filter
}

pub(super) async fn search_substrings(abuser: &Abuser) {
    abuser
        .repeat(CONNECTIONS, SEARCHERS, |abuser, channel, _| {
            search(abuser, channel, "*zqxj*".to_owned())
        })
        .await;
}

pub(super) async fn search_with_long_filters(abuser: &Abuser) {
    // And nothing matches in the end, or the first page would be full at once.
    let filter = format!("{} *zqxj*", long_filter());
    abuser
        .repeat(CONNECTIONS, SEARCHERS, move |abuser, channel, _| {
            search(abuser, channel, filter.clone())
        })
        .await;
}

async fn search(abuser: Abuser, channel: Channel, filter: String) -> Result<(), Status> {
    let search = SearchLogsRequest { filter, ..SearchLogsRequest::default() };
    QueryServiceClient::new(channel).search_logs(abuser.request(search)).await.map(drop)
}

pub(super) async fn tail_dearly(abuser: &Abuser) {
    let mut running = JoinSet::new();
    let channels: Vec<Channel> = (0..TAILS.div_ceil(TAILS_OF_CONNECTION))
        .map(|_| stream_channel(&abuser.endpoint))
        .collect();
    for number in 0..TAILS {
        let (abuser, channel) = (abuser.clone(), channels[number % channels.len()].clone());
        running.spawn(async move {
            // A filter of its own each, so that none is matched for another.
            let filter = format!("{} -any:*tail{number}*", long_filter());
            let ended = tail(&abuser, channel, filter).await;
            abuser.tally.note(&ended);
        });
    }
    ingest::trickle(abuser).await;
    running.join_all().await;
}

async fn tail(abuser: &Abuser, channel: Channel, filter: String) -> Result<(), Status> {
    let mut client = QueryServiceClient::new(channel);
    let tail = client.tail_logs(abuser.request(TailLogsRequest { filter })).await?;
    abuser.tally.add("tails opened", 1);
    let mut tail = tail.into_inner();
    while let Some(part) = tail.message().await? {
        abuser.tally.add("logs seen", part.logs.len() as u64);
        abuser.tally.add("logs skipped", part.skipped);
    }
    Ok(())
}

pub(super) async fn export(abuser: &Abuser) {
    abuser
        .repeat(CONNECTIONS, SEARCHERS, |abuser, _, _| async move {
            let client = QueryServiceClient::new(stream_channel(&abuser.endpoint));
            let mut client = client.max_decoding_message_size(ANSWER_BYTES_MAX);
            let export = ExportLogsRequest::default();
            let mut parts = client.export_logs(abuser.request(export)).await?.into_inner();
            while let Some(part) = parts.message().await? {
                abuser.tally.add("logs exported", part.logs.len() as u64);
            }
            Ok(())
        })
        .await;
}

pub(super) async fn report(abuser: &Abuser) {
    abuser
        .repeat(CONNECTIONS, SEARCHERS, |abuser, channel, number| async move {
            let answer = ask_for_report(&abuser, channel, number).await;
            if let Err(status) = &answer {
                abuser.tally.add(&format!("of report {} {}", number % REPORTS, reason(status)), 1);
            }
            answer
        })
        .await;
}

async fn ask_for_report(abuser: &Abuser, channel: Channel, number: u64) -> Result<(), Status> {
    let client = QueryServiceClient::new(channel);
    let mut client = client.max_decoding_message_size(ANSWER_BYTES_MAX);
    let from_unix_nano = batch::before_now(RANGE).cast_signed();
    let range = Some(TimeRange { from_unix_nano, to_unix_nano: 0 });
    match number % REPORTS {
        0 => {
            let report = DeliveryReportRequest::default();
            client.delivery_report(abuser.request(report)).await.map(drop)
        }
        1 => {
            let window_minutes = STATS_MINUTES;
            let stats = ServiceStatsRequest { window_minutes, ..Default::default() };
            client.service_stats(abuser.request(stats)).await.map(drop)
        }
        2 => {
            let (group_by, bucket_seconds) = (GroupBy::Template.into(), 3_600);
            let counts =
                AggregateLogsRequest { range, group_by, bucket_seconds, ..Default::default() };
            client.aggregate_logs(abuser.request(counts)).await.map(drop)
        }
        3 => {
            let templates = ListTemplatesRequest { limit: 10_000, ..Default::default() };
            client.list_templates(abuser.request(templates)).await.map(drop)
        }
        _ => {
            let bucket_seconds = BUCKET_SECONDS;
            let heat = LatencyHeatmapRequest { range, bucket_seconds, ..Default::default() };
            client.latency_heatmap(abuser.request(heat)).await.map(drop)
        }
    }
}
