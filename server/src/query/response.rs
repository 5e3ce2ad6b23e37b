//! Responses of the query service, made from what storage returns.

use logweir_core::{identity::LogId, record::StoredLog, timestamp::Timestamp, wire};
use logweir_proto::v1;
use logweir_storage::{
    AggregatePoint, AggregateSeries, Finding, FindingKind, LogWithNeighbours, ProducerReport,
    ProducerTotals, SearchPage, ServiceSummary, TemplateSummary,
};
use prost::Message;

use crate::{
    config::ServiceConfig,
    response_size::{RESPONSE_BYTES_MAX, cut, cut_at},
};

/// A page as far as it fits.
pub(crate) fn search_page(page: SearchPage) -> v1::SearchLogsResponse {
    // Logs are up to 64 KiB, so a page may not fit one response. The next page then begins after the
    // last log that did and not where storage stopped, or what was cut is skipped.
    let found = page.logs.len();
    let ids: Vec<LogId> = page.logs.iter().map(|log| log.id).collect();
    let (logs, _) = cut(page.logs.into_iter().map(wire::log_entry_to_wire));
    let is_cut = logs.len() < found;
    let next = if is_cut { Some(ids[logs.len() - 1]) } else { page.next };
    let searched_back_to = next.filter(|_| page.is_partial && !is_cut).map(|id| id.time);
    v1::SearchLogsResponse {
        logs,
        next_page_token: next.map_or_else(String::new, |id| id.to_string()),
        partial: searched_back_to.is_some(),
        searched_back_to_unix_nano: searched_back_to.map_or(0, Timestamp::as_unix_nanos),
    }
}

/// A log, and the nearest of its neighbours if not all fit.
pub(crate) fn log_with_neighbours(found: LogWithNeighbours) -> v1::GetLogResponse {
    let entries = |logs: Vec<StoredLog>| logs.into_iter().map(wire::log_entry_to_wire);
    let log = wire::log_entry_to_wire(found.log);
    // Half of what is left for each side, so that long logs before it do not take the room of those
    // after it. Cut from the far end: what people look for lies next to the log.
    let share = RESPONSE_BYTES_MAX.saturating_sub(log.encoded_len()) / 2;
    let (mut before, fewer_before) = cut_at(share, 0, entries(found.before).rev());
    before.reverse();
    let (after, fewer_after) = cut_at(share, 0, entries(found.after));
    v1::GetLogResponse { log: Some(log), before, after, truncated: fewer_before || fewer_after }
}

pub(crate) fn series(series: AggregateSeries) -> v1::Series {
    let points = series.points.into_iter().map(point).collect();
    v1::Series { group: series.group, points }
}

fn point(point: AggregatePoint) -> v1::AggregatePoint {
    let latency = point.latency_ms;
    v1::AggregatePoint {
        start_unix_nano: point.start.as_unix_nanos(),
        total: point.total,
        errors: point.errors,
        anomalies: point.anomalies,
        latency_average_ms: latency.map(|latency| latency.average),
        latency_p50_ms: latency.map(|latency| latency.p50),
        latency_p95_ms: latency.map(|latency| latency.p95),
        latency_p99_ms: latency.map(|latency| latency.p99),
    }
}

/// A service's only bucket as its statistics.
pub(crate) fn service_stat(series: AggregateSeries) -> Option<v1::ServiceStat> {
    let point = series.points.into_iter().next()?;
    let error_rate = if point.total == 0 { 0.0 } else { point.errors as f64 / point.total as f64 };
    Some(v1::ServiceStat {
        service: series.group,
        total: point.total,
        errors: point.errors,
        error_rate,
        anomalies: point.anomalies,
        latency_average_ms: point.latency_ms.map(|latency| latency.average),
        latency_p95_ms: point.latency_ms.map(|latency| latency.p95),
    })
}

pub(crate) fn service(summary: ServiceSummary, known: ServiceConfig) -> v1::ServiceSummary {
    v1::ServiceSummary {
        service: summary.service.to_string(),
        total: summary.total,
        errors: summary.errors,
        anomalies: summary.anomalies,
        first_seen_unix_nano: summary.first_seen.as_unix_nanos(),
        last_seen_unix_nano: summary.last_seen.as_unix_nanos(),
        region: known.region,
        owner: known.owner,
    }
}

/// A finding.
pub(crate) fn finding(found: Finding) -> v1::Finding {
    let kind = match found.kind {
        FindingKind::UnusualSession => v1::FindingKind::UnusualSession,
        FindingKind::ModelDrift => v1::FindingKind::ModelDrift,
    };
    v1::Finding {
        kind: kind.into(),
        service: found.service.map_or_else(String::new, |service| service.to_string()),
        subject: found.subject,
        from_unix_nano: found.from.as_unix_nanos(),
        to_unix_nano: found.to.as_unix_nanos(),
        logs: found.logs,
        score: found.score,
        reasons: found.reasons,
    }
}

pub(crate) fn template(summary: TemplateSummary) -> v1::TemplateSummary {
    v1::TemplateSummary {
        template_id: summary.template_id.to_string(),
        service: summary.service.to_string(),
        pattern: summary.pattern,
        count: summary.count,
        first_seen_unix_nano: summary.first_seen.as_unix_nanos(),
        last_seen_unix_nano: summary.last_seen.as_unix_nanos(),
        level: wire::level_to_wire(summary.level).into(),
        trend: summary.trend,
    }
}

/// The sums first: whoever is cut from the list is in them.
pub(crate) fn delivery_report(
    listed: Vec<ProducerReport>,
    sums: Vec<ProducerTotals>,
) -> v1::DeliveryReportResponse {
    let known: u64 = sums.iter().map(|of| of.producers).sum();
    let (totals, is_cut) = cut(sums.into_iter().map(totals));
    let used: usize = totals.iter().map(Message::encoded_len).sum();
    let left = RESPONSE_BYTES_MAX.saturating_sub(used);
    let (producers, _) = cut_at(left, 0, listed.into_iter().map(producer));
    let truncated = is_cut || (producers.len() as u64) < known;
    v1::DeliveryReportResponse { producers, truncated, totals, repeated_logs: 0 }
}

fn totals(of: ProducerTotals) -> v1::ProducerTotals {
    v1::ProducerTotals {
        service: of.service.to_string(),
        producers: of.producers,
        emitted: of.emitted,
        stored: of.stored,
        rejected: of.rejected,
        dropped: of.dropped,
        queued: of.queued,
        spooled: of.spooled,
        missing: of.missing,
    }
}

fn producer(report: ProducerReport) -> v1::ProducerReport {
    let missing_sequences = report.missing_sequences.iter();
    v1::ProducerReport {
        producer_id: report.producer_id.to_string(),
        service: report.service.to_string(),
        instance: report.instance.clone(),
        sequence: report.sequence,
        stored: report.stored,
        rejected: report.rejected,
        missing: report.missing(),
        missing_sequences: missing_sequences
            .map(|&(first, last)| v1::SequenceRange { first, last })
            .collect(),
        last_received_unix_nano: report.last_received.as_unix_nanos(),
        account: Some(wire::account_to_wire(report.account)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_rate_of_nothing_is_zero() {
        let point = AggregatePoint { total: 8, errors: 2, ..AggregatePoint::default() };
        let stat = |point| {
            let series = AggregateSeries { group: "a".into(), points: vec![point] };
            service_stat(series).unwrap().error_rate
        };
        assert_eq!(stat(point), 0.25);
        assert_eq!(stat(AggregatePoint::default()), 0.0);
    }
}
