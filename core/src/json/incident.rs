//! Incidents.

use std::collections::BTreeMap;

use logweir_proto::v1;
use serde::Serialize;

use super::{known_moment, level_name, moment};

/// An incident; in lists the details are left out.
#[derive(Serialize)]
pub struct Incident<'a> {
    incident_id: &'a str,
    rule: &'a str,
    kind: &'a str,
    service: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    severity: &'static str,
    state: &'static str,
    silenced: bool,
    inhibited: bool,
    muted: bool,
    flapping: bool,
    snoozed_until: Option<String>,
    started: Option<String>,
    pending: Option<String>,
    firing: Option<String>,
    resolved: Option<String>,
    acknowledged_by: &'a str,
    escalation_level: u32,
    summary: &'a str,
    measured: Vec<Measured<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    probable_causes: Vec<Cause<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deploys: Vec<Deploy<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sample_logs: Vec<Sample<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    instances: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    trace_ids: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    timeline: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deliveries: Vec<Delivery<'a>>,
    link: &'a str,
    runbook: &'a str,
}

#[derive(Serialize)]
struct Measured<'a> {
    name: &'a str,
    now: f64,
    normal: Option<f64>,
    threshold: Option<f64>,
    support: u64,
}

#[derive(Serialize)]
struct Cause<'a> {
    template_id: &'a str,
    pattern: &'a str,
    level: &'static str,
    count_now: u64,
    count_before: f64,
    share: f64,
    is_new: bool,
}

#[derive(Serialize)]
struct Deploy<'a> {
    time: String,
    service: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct Sample<'a> {
    log_id: &'a str,
    time: String,
    level: &'static str,
    message: &'a str,
    trace_id: &'a str,
    instance: &'a str,
}

#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    event: &'a str,
    actor: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct Delivery<'a> {
    created: String,
    channel: &'a str,
    kind: &'a str,
    state: &'static str,
    attempts: u32,
    text: &'a str,
}

impl<'a> Incident<'a> {
    /// The form of an incident.
    pub fn new(incident: &'a v1::Incident) -> Self {
        let overlays = incident.overlays.unwrap_or_default();
        let labels = incident.labels.iter();
        Self {
            incident_id: &incident.incident_id,
            rule: &incident.rule,
            kind: &incident.kind,
            service: &incident.service,
            labels: labels.map(|(label, value)| (label.as_str(), value.as_str())).collect(),
            severity: severity_name(incident.severity()),
            state: state_name(incident.state()),
            silenced: overlays.silenced,
            inhibited: overlays.inhibited,
            muted: overlays.muted,
            flapping: overlays.flapping,
            snoozed_until: known_moment(overlays.snoozed_until_unix_nano),
            started: known_moment(incident.started_unix_nano),
            pending: known_moment(incident.pending_unix_nano),
            firing: known_moment(incident.firing_unix_nano),
            resolved: known_moment(incident.resolved_unix_nano),
            acknowledged_by: &incident.acknowledged_by,
            escalation_level: incident.escalation_level,
            summary: &incident.summary,
            measured: incident.measured.iter().map(Measured::new).collect(),
            probable_causes: incident.probable_causes.iter().map(Cause::new).collect(),
            deploys: incident.deploys.iter().map(Deploy::new).collect(),
            sample_logs: incident.sample_logs.iter().map(Sample::new).collect(),
            instances: &incident.instances,
            trace_ids: &incident.trace_ids,
            timeline: incident.timeline.iter().map(Entry::new).collect(),
            deliveries: incident.deliveries.iter().map(Delivery::new).collect(),
            link: &incident.link,
            runbook: &incident.runbook,
        }
    }
}

impl<'a> Measured<'a> {
    fn new(measured: &'a v1::Measured) -> Self {
        let v1::Measured { name, now, normal, threshold, support } = measured;
        Self { name, now: *now, normal: *normal, threshold: *threshold, support: *support }
    }
}

impl<'a> Cause<'a> {
    fn new(cause: &'a v1::ProbableCause) -> Self {
        Self {
            template_id: &cause.template_id,
            pattern: &cause.pattern,
            level: level_name(cause.level()),
            count_now: cause.count_now,
            count_before: cause.count_before,
            share: cause.share,
            is_new: cause.is_new,
        }
    }
}

impl<'a> Deploy<'a> {
    fn new(deploy: &'a v1::Deploy) -> Self {
        let v1::Deploy { service, version, time_unix_nano, .. } = deploy;
        Self { time: moment(*time_unix_nano), service, version }
    }
}

impl<'a> Sample<'a> {
    fn new(log: &'a v1::SampleLog) -> Self {
        Self {
            log_id: &log.log_id,
            time: moment(log.time_unix_nano),
            level: level_name(log.level()),
            message: &log.message,
            trace_id: &log.trace_id,
            instance: &log.instance,
        }
    }
}

impl<'a> Entry<'a> {
    fn new(entry: &'a v1::TimelineEntry) -> Self {
        let v1::TimelineEntry { time_unix_nano, event, actor, text } = entry;
        Self { time: moment(*time_unix_nano), event, actor, text }
    }
}

impl<'a> Delivery<'a> {
    fn new(delivery: &'a v1::AlertDelivery) -> Self {
        Self {
            created: moment(delivery.created_unix_nano),
            channel: &delivery.channel,
            kind: &delivery.kind,
            state: delivery_state_name(delivery.state()),
            attempts: delivery.attempts,
            text: &delivery.text,
        }
    }
}

/// A severity's name, as rules spell it.
pub fn severity_name(severity: v1::Severity) -> &'static str {
    match severity {
        v1::Severity::Unspecified => "-",
        v1::Severity::Info => "info",
        v1::Severity::Warning => "warning",
        v1::Severity::Critical => "critical",
    }
}

/// The name of where an incident is in its life.
pub fn state_name(state: v1::IncidentState) -> &'static str {
    match state {
        v1::IncidentState::Unspecified => "-",
        v1::IncidentState::Pending => "pending",
        v1::IncidentState::Firing => "firing",
        v1::IncidentState::Acknowledged => "acknowledged",
        v1::IncidentState::Resolved => "resolved",
    }
}

/// The name of where a notification is on its way.
pub fn delivery_state_name(state: v1::AlertDeliveryState) -> &'static str {
    match state {
        v1::AlertDeliveryState::Unspecified => "-",
        v1::AlertDeliveryState::Waiting => "waiting",
        v1::AlertDeliveryState::Sent => "sent",
        v1::AlertDeliveryState::GivenUp => "given_up",
    }
}
