//! Incidents and their deliveries, translated from how they are stored to the messages of the
//! contract.

use logweir_core::{record::Level, timestamp::Timestamp, wire::level_to_wire};
use logweir_incident::{
    incident::{
        Evidence, Incident, IncidentState, Measured, Overlays, ProbableCause, SampleLog,
        TimelineEntry,
    },
    rule::Severity,
};
use logweir_proto::v1;
use logweir_storage::{DeliveryState, StoredDelivery, StoredIncident};
use serde_json::Value;

use crate::status::Refusal;

/// An incident without its details. One that this version does not understand is shown by what is
/// known of any.
pub(super) fn brief(stored: StoredIncident) -> v1::Incident {
    match stored.incident {
        Some(incident) => without_details(wire(incident)),
        // Shown all the same: an incident that vanished from the list after a downgrade would look
        // resolved. These columns are stored beside the value and need no version.
        None => v1::Incident {
            incident_id: stored.incident_id,
            service: stored.service,
            pending_unix_nano: stored.began_at.as_unix_nanos(),
            resolved_unix_nano: stored.resolved_at.map_or(0, Timestamp::as_unix_nanos),
            summary: "this version of the server cannot read it".to_owned(),
            ..v1::Incident::default()
        },
    }
}

/// An incident that is stored nowhere.
pub(super) fn previewed(incident: Incident) -> v1::Incident {
    without_details(wire(incident))
}

fn without_details(incident: v1::Incident) -> v1::Incident {
    v1::Incident {
        probable_causes: Vec::new(),
        deploys: Vec::new(),
        sample_logs: Vec::new(),
        instances: Vec::new(),
        trace_ids: Vec::new(),
        timeline: Vec::new(),
        ..incident
    }
}

/// An incident with its details but without its deliveries, which storage keeps apart.
pub(super) fn full(stored: StoredIncident) -> Result<v1::Incident, Refusal> {
    let StoredIncident { incident_id, incident, .. } = stored;
    let unreadable = || {
        Refusal::DataLoss(format!(
            "incident {incident_id} cannot be read: another version of the server stored it, or it \
             is damaged"
        ))
    };
    incident.map(wire).ok_or_else(unreadable)
}

fn wire(incident: Incident) -> v1::Incident {
    let Evidence { summary, measured, started_at, probable_causes, .. } = incident.evidence;
    let Evidence { deploys, sample_logs, instances, trace_ids, link, .. } = incident.evidence;
    let deploys = deploys.into_iter().map(|deploy| v1::Deploy {
        service: deploy.service,
        version: deploy.version,
        time_unix_nano: deploy.at.as_unix_nanos(),
        note: String::new(),
    });
    v1::Incident {
        incident_id: incident.id,
        rule: incident.rule,
        kind: incident.kind,
        service: incident.service,
        labels: incident.labels.into_iter().collect(),
        severity: severity(incident.severity).into(),
        state: state(incident.state).into(),
        overlays: Some(overlays(incident.overlays)),
        pending_unix_nano: incident.pending_at.as_unix_nanos(),
        firing_unix_nano: incident.firing_at.map_or(0, Timestamp::as_unix_nanos),
        resolved_unix_nano: incident.resolved_at.map_or(0, Timestamp::as_unix_nanos),
        started_unix_nano: started_at.as_unix_nanos(),
        acknowledged_by: incident.acknowledged_by,
        escalation_level: incident.escalation_level,
        summary,
        measured: measured.into_iter().map(self::measured).collect(),
        probable_causes: probable_causes.into_iter().map(cause).collect(),
        deploys: deploys.collect(),
        sample_logs: sample_logs.into_iter().map(sample_log).collect(),
        instances,
        trace_ids,
        timeline: incident.timeline.into_iter().map(entry).collect(),
        deliveries: Vec::new(),
        link,
        runbook: incident.runbook,
    }
}

const fn severity(severity: Severity) -> v1::Severity {
    match severity {
        Severity::Info => v1::Severity::Info,
        Severity::Warning => v1::Severity::Warning,
        Severity::Critical => v1::Severity::Critical,
    }
}

const fn state(state: IncidentState) -> v1::IncidentState {
    match state {
        IncidentState::Pending => v1::IncidentState::Pending,
        IncidentState::Firing => v1::IncidentState::Firing,
        IncidentState::Acknowledged => v1::IncidentState::Acknowledged,
        IncidentState::Resolved => v1::IncidentState::Resolved,
    }
}

fn overlays(overlays: Overlays) -> v1::Overlays {
    v1::Overlays {
        silenced: overlays.silenced,
        inhibited: overlays.inhibited,
        muted: overlays.muted,
        snoozed_until_unix_nano: overlays.snoozed_until.map_or(0, Timestamp::as_unix_nanos),
        flapping: overlays.flapping,
    }
}

fn measured(measured: Measured) -> v1::Measured {
    let Measured { name, now, normal, threshold, support } = measured;
    v1::Measured { name, now, normal, threshold, support }
}

/// Levels are kept by name.
fn level(name: &str) -> i32 {
    name.parse::<Level>().map_or(v1::Level::Unspecified, level_to_wire).into()
}

fn cause(cause: ProbableCause) -> v1::ProbableCause {
    v1::ProbableCause {
        level: level(&cause.level),
        template_id: cause.template_id,
        pattern: cause.pattern,
        count_now: cause.count_now,
        count_before: cause.count_before,
        share: cause.share,
        is_new: cause.is_new,
    }
}

fn sample_log(log: SampleLog) -> v1::SampleLog {
    v1::SampleLog {
        log_id: log.log_id,
        time_unix_nano: log.at.as_unix_nanos(),
        level: level(&log.level),
        message: log.message,
        trace_id: log.trace_id,
        instance: log.instance,
    }
}

fn entry(entry: TimelineEntry) -> v1::TimelineEntry {
    let event = match serde_json::to_value(entry.event) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    };
    v1::TimelineEntry {
        time_unix_nano: entry.at.as_unix_nanos(),
        event,
        actor: entry.actor,
        text: entry.text,
    }
}

/// One notification on its way to one channel: waiting, sent or given up.
pub(super) fn delivery(stored: &StoredDelivery) -> v1::AlertDelivery {
    let state = match stored.state {
        DeliveryState::Waiting => v1::AlertDeliveryState::Waiting,
        DeliveryState::Sent => v1::AlertDeliveryState::Sent,
        DeliveryState::GivenUp => v1::AlertDeliveryState::GivenUp,
    };
    let known = stored.delivery.as_ref();
    let kind = known.map_or("", |known| known.notification.kind.name());
    v1::AlertDelivery {
        channel: stored.channel.clone(),
        kind: kind.to_owned(),
        state: state.into(),
        created_unix_nano: stored.created_at.as_unix_nanos(),
        attempts: known.map_or(0, |known| known.attempts),
        text: known.map_or_else(String::new, |known| known.notification.text.clone()),
    }
}
