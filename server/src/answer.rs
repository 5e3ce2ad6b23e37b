//! Answers of the readers' door, as they go out.

use logweir_core::wire;
use logweir_proto::v1;
use logweir_storage::{
    AggregatePoint, AggregateSeries, ProducerReport, ServiceSummary, TemplateSummary,
};
use prost::Message;

use crate::{config::ServiceConfig, status::Refusal};

/// An answer is cut before it grows beyond this, for clients take 4 MiB by default.
const ANSWER_BYTES_MAX: usize = 3 << 20;

/// The first of these that fit one answer together; at least one if there is one.
pub(crate) fn first_that_fit<M: Message>(items: impl Iterator<Item = M>) -> Vec<M> {
    let mut bytes = 0;
    let mut fitting = Vec::new();
    let mut items = items.peekable();
    while let Some(item) = items.next_if(|item| {
        bytes += item.encoded_len();
        bytes <= ANSWER_BYTES_MAX || fitting.is_empty()
    }) {
        fitting.push(item);
    }
    fitting
}

/// All of these, or a refusal that asks for less: for answers that mean nothing in part.
pub(crate) fn all_if_they_fit<M: Message>(
    items: impl Iterator<Item = M>,
) -> Result<Vec<M>, Refusal> {
    let mut items = items.peekable();
    let fitting = first_that_fit(&mut items);
    if items.peek().is_none() {
        return Ok(fitting);
    }
    let why = format!(
        "asks for an answer of over {ANSWER_BYTES_MAX} bytes: ask for a shorter range, wider \
         buckets or one service"
    );
    Err(Refusal::invalid("range", why))
}

pub(crate) fn series(series: AggregateSeries) -> v1::Series {
    let points = series.points.into_iter().map(point).collect();
    v1::Series { group: series.group, points }
}

fn point(point: AggregatePoint) -> v1::AggregatePoint {
    let latency = point.latency_ms;
    v1::AggregatePoint {
        start_unix_nano: point.start_unix_nano,
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
        first_seen_unix_nano: summary.first_seen_unix_nano,
        last_seen_unix_nano: summary.last_seen_unix_nano,
        region: known.region,
        owner: known.owner,
    }
}

pub(crate) fn template(summary: TemplateSummary) -> v1::TemplateSummary {
    v1::TemplateSummary {
        template_id: summary.template_id.to_string(),
        service: summary.service.to_string(),
        pattern: summary.pattern,
        count: summary.count,
        first_seen_unix_nano: summary.first_seen_unix_nano,
        last_seen_unix_nano: summary.last_seen_unix_nano,
        level: wire::level_to_wire(summary.level).into(),
        trend: summary.trend,
    }
}

pub(crate) fn producer(report: ProducerReport) -> v1::ProducerReport {
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
        last_received_unix_nano: report.last_received_unix_nano,
        account: Some(wire::account_to_wire(report.account)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_but_never_empty() {
        let entry = |bytes: usize| v1::RejectedRecord {
            message: "x".repeat(bytes),
            ..v1::RejectedRecord::default()
        };
        assert_eq!(first_that_fit([5 << 20, 1].map(entry).into_iter()).len(), 1);
        assert_eq!(first_that_fit([1 << 20; 5].map(entry).into_iter()).len(), 2);
        assert_eq!(first_that_fit([1_000; 5].map(entry).into_iter()).len(), 5);
        assert_eq!(first_that_fit(std::iter::empty::<v1::RejectedRecord>()).len(), 0);
    }

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
