//! Counts: of services, over time, and of templates.

use logweir_proto::v1;
use serde::Serialize;

use super::{level_name, moment};

/// A service that has sent logs.
#[derive(Serialize)]
pub struct Service<'a> {
    service: &'a str,
    total: u64,
    errors: u64,
    anomalies: u64,
    first_seen: String,
    last_seen: String,
    region: &'a str,
    owner: &'a str,
}

impl<'a> Service<'a> {
    /// The form of a service.
    pub fn new(service: &'a v1::ServiceSummary) -> Self {
        Self {
            service: &service.service,
            total: service.total,
            errors: service.errors,
            anomalies: service.anomalies,
            first_seen: moment(service.first_seen_unix_nano),
            last_seen: moment(service.last_seen_unix_nano),
            region: &service.region,
            owner: &service.owner,
        }
    }
}

/// A service over a window.
#[derive(Serialize)]
pub struct ServiceStat<'a> {
    service: &'a str,
    total: u64,
    errors: u64,
    error_rate: f64,
    anomalies: u64,
    latency_average_ms: Option<f64>,
    latency_p95_ms: Option<f64>,
}

impl<'a> ServiceStat<'a> {
    /// The form of a service's figures.
    pub fn new(stat: &'a v1::ServiceStat) -> Self {
        Self {
            service: &stat.service,
            total: stat.total,
            errors: stat.errors,
            error_rate: stat.error_rate,
            anomalies: stat.anomalies,
            latency_average_ms: stat.latency_average_ms,
            latency_p95_ms: stat.latency_p95_ms,
        }
    }
}

/// What happened in one time bucket, to a group if that is not said around it.
#[derive(Serialize)]
pub struct Point<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    total: u64,
    errors: u64,
    anomalies: u64,
    latency_average_ms: Option<f64>,
    latency_p50_ms: Option<f64>,
    latency_p95_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
}

impl<'a> Point<'a> {
    /// The form of a point.
    pub fn new(group: Option<&'a str>, point: &v1::AggregatePoint) -> Self {
        Self {
            time: moment(point.start_unix_nano),
            group,
            total: point.total,
            errors: point.errors,
            anomalies: point.anomalies,
            latency_average_ms: point.latency_average_ms,
            latency_p50_ms: point.latency_p50_ms,
            latency_p95_ms: point.latency_p95_ms,
            latency_p99_ms: point.latency_p99_ms,
        }
    }
}

/// A pattern of messages.
#[derive(Serialize)]
pub struct Template<'a> {
    template_id: &'a str,
    service: &'a str,
    pattern: &'a str,
    count: u64,
    first_seen: String,
    last_seen: String,
    level: &'static str,
    trend: Option<f64>,
}

impl<'a> Template<'a> {
    /// The form of a template.
    pub fn new(template: &'a v1::TemplateSummary) -> Self {
        Self {
            template_id: &template.template_id,
            service: &template.service,
            pattern: &template.pattern,
            count: template.count,
            first_seen: moment(template.first_seen_unix_nano),
            last_seen: moment(template.last_seen_unix_nano),
            level: level_name(template.level()),
            trend: template.trend,
        }
    }
}
