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

/// A notification about a shop whose database pool ran dry at night.
pub fn notification(kind: NotificationKind) -> Notification {
    let fired = STARTED + Duration::from_secs(9);
    let mut incident = Incident {
        // No real id: real ones have twenty digits, so that no lookup finds an incident.
        id: "4f1c9a7be2d03586".into(),
        tenant: "default".into(),
        rule: "error-spike".into(),
        kind: "error_count".into(),
        service: "checkout".into(),
        labels: BTreeMap::from([("service".to_owned(), "checkout".to_owned())]),
        severity: Severity::Critical,
        state: IncidentState::Firing,
        overlays: Overlays::default(),
        pending_at: STARTED + Duration::from_secs(5),
        firing_at: Some(fired),
        resolved_at: None,
        acknowledged_by: String::new(),
        escalation_level: 0,
        group: "checkout".into(),
        channels: Vec::new(),
        runbook: "https://wiki.example.com/checkout/errors".into(),
        evidence: evidence(),
        timeline: Vec::new(),
    };
    // Some time after it fired, so that "for 2 min" shows what a duration looks like.
    let mut at = STARTED + Duration::from_secs(125);
    if kind == NotificationKind::Resolved {
        at = STARTED + Duration::from_secs(29 * 60 + 12);
        incident.state = IncidentState::Resolved;
        incident.resolved_at = Some(at);
    }
    // As a real incident counts: whoever tests a channel must not see two openings.
    let sequence = if kind == NotificationKind::Opened { 1 } else { 2 };
    Notification::new(kind, sequence, at, &incident)
}

fn evidence() -> Evidence {
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
        at: STARTED + Duration::from_secs(after),
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
        started_at: STARTED,
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
            at: STARTED - Duration::from_secs(68),
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
        link: "https://logs.example.com/incidents/4f1c9a7be2d03586".into(),
    }
}
