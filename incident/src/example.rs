//! A made-up incident: what a channel is tested with, so that whoever tests it sees what a real one
//! will look like.

use std::{collections::BTreeMap, time::Duration};

use logweir_core::timestamp::Timestamp;

use crate::{
    incident::{
        DeployMark, Evidence, Incident, IncidentState, Measured, Overlays, ProbableCause, SampleLog,
    },
    notification::{Notification, NotificationKind},
    rule::Severity,
};

/// 2026-03-08 02:41:10 UTC.
const STARTED: Timestamp = Timestamp::from_unix_seconds(1_772_937_670);
/// No real id: real ones have twenty digits, so that no lookup finds an incident.
const ID: &str = "4f1c9a7be2d03586";
/// Some time after it fired, so that "for 2 min" shows what a duration looks like.
const TOLD_AFTER: Duration = Duration::from_secs(125);
/// How long it lasted where it is over.
const LASTED: Duration = Duration::from_secs(29 * 60 + 12);

/// A notification about a shop whose database pool ran dry one night, the same each time.
pub fn notification(kind: NotificationKind) -> Notification {
    notification_of(kind, ID, STARTED)
}

/// The same as if it were told now, with an id and so a key of its own: no receiver takes it for
/// one that it has seen.
pub fn notification_at(kind: NotificationKind, now: Timestamp) -> Notification {
    // Sixteen digits in hexadecimal, as the moment has nineteen in decimal.
    let id = format!("{:016x}", now.as_unix_nanos());
    notification_of(kind, &id, now - told_after(kind))
}

/// Time from the beginning of the trouble to the notification.
const fn told_after(kind: NotificationKind) -> Duration {
    match kind {
        NotificationKind::Resolved => LASTED,
        _ => TOLD_AFTER,
    }
}

fn notification_of(kind: NotificationKind, id: &str, started: Timestamp) -> Notification {
    let mut incident = Incident {
        id: id.to_owned(),
        tenant: "default".into(),
        rule: "error-spike".into(),
        kind: "error_count".into(),
        service: "checkout".into(),
        labels: BTreeMap::from([("service".to_owned(), "checkout".to_owned())]),
        severity: Severity::Critical,
        state: IncidentState::Firing,
        overlays: Overlays::default(),
        pending_at: started + Duration::from_secs(5),
        firing_at: Some(started + Duration::from_secs(9)),
        resolved_at: None,
        acknowledged_by: String::new(),
        escalation_level: 0,
        group: "checkout".into(),
        channels: Vec::new(),
        runbook: "https://wiki.example.com/checkout/errors".into(),
        evidence: evidence(id, started),
        timeline: Vec::new(),
    };
    let at = started + told_after(kind);
    if kind == NotificationKind::Resolved {
        incident.state = IncidentState::Resolved;
        incident.resolved_at = Some(at);
    }
    // As a real incident counts: whoever tests a channel must not see two openings.
    let sequence = if kind == NotificationKind::Opened { 1 } else { 2 };
    Notification::new(kind, sequence, at, &incident)
}

fn evidence(id: &str, started: Timestamp) -> Evidence {
    let measured = |name: &str, now, normal, threshold| Measured {
        name: name.into(),
        now,
        normal: Some(normal),
        threshold: Some(threshold),
        support: 5_210,
    };
    let cause = |pattern: &str, count_now, count_before, share, is_new| ProbableCause {
        template_id: "9c1185a5c5e9fc54".into(),
        pattern: pattern.into(),
        level: "ERROR".into(),
        count_now,
        count_before,
        share,
        is_new,
    };
    let sample = |after, message: &str| SampleLog {
        log_id: String::new(),
        at: started + Duration::from_secs(after),
        level: "ERROR".into(),
        message: message.into(),
        // The one that the W3C's specification of trace contexts shows.
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        instance: "checkout-7d9f-2".into(),
    };
    Evidence {
        summary: "errors/min of checkout rose to 80, normally 2 at this time (line at 12)".into(),
        measured: vec![
            measured("errors/min", 80.0, 2.0, 12.0),
            measured("p99 latency ms", 4_120.0, 310.0, 900.0),
        ],
        started_at: started,
        probable_causes: vec![
            // One that grew and one that is new, as they are worded differently.
            cause(
                "timed out after <num> ms waiting for a connection of pool <*>",
                412,
                3.0,
                0.81,
                false,
            ),
            cause("payment <uuid> left pending: no database connection", 37, 0.0, 0.07, true),
        ],
        deploys: vec![DeployMark {
            at: started - Duration::from_secs(68),
            service: "checkout".into(),
            version: "1.4.2".into(),
        }],
        sample_logs: vec![
            sample(3, "timed out after 3000 ms waiting for a connection of pool orders-rw"),
            sample(
                4,
                "payment 6f1e9c02-98a1-4a53-a2f4-0c5a5b0c1d11 left pending: no database connection",
            ),
        ],
        instances: vec!["checkout-7d9f-2".into(), "checkout-7d9f-4".into()],
        trace_ids: vec!["4bf92f3577b34da6a3ce929d0e0e4736".into()],
        link: format!("https://logs.example.com/incidents/{id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_of_its_moment_and_has_a_key_of_its_own() {
        let now = STARTED + Duration::from_secs(86_400);
        let first = notification_at(NotificationKind::Opened, now);
        let second = notification_at(NotificationKind::Opened, now.next());
        assert_ne!(first.key, second.key);
        assert_eq!(first.at, now);
        assert_eq!(first.incident.id.len(), ID.len());
        assert!(first.incident.evidence.link.ends_with(&first.incident.id));
        let over = notification_at(NotificationKind::Resolved, now);
        assert_eq!(over.incident.resolved_at, Some(now));
    }
}
