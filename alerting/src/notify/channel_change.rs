//! That a channel went down or came back, as an incident of its own that other channels are told.

use logweir_core::identity::Tenant;
use logweir_incident::{
    channel::BreakerState,
    incident::{Incident, IncidentState},
    notification::{Notification, NotificationKind},
    rule::Severity,
};
use logweir_storage::DELIVERED_ONLY;

use super::outbox::Change;

/// That a channel went down or came back: of one incident, so that the one ends the other.
pub(crate) fn channel_changed(tenant: &Tenant, channel: &str, change: &Change) -> Notification {
    let is_well = change.to == BreakerState::Closed;
    let (at, since) = (change.at, change.since);
    let summary = match (is_well, change.reason.as_str()) {
        (true, "") => format!("channel {channel} works again"),
        (true, reason) => format!("channel {channel} is called again: {reason}"),
        (false, reason) => format!("channel {channel} cannot be told ({}): {reason}", change.to),
    };
    // Made of the channel and since when it is down, so that the end has the beginning's id.
    let name = xxhash_rust::xxh3::xxh3_64(channel.as_bytes()) as u32;
    let mut incident = Incident {
        id: format!("{DELIVERED_ONLY}{name:08x}-{:x}", since.as_unix_nanos()),
        tenant: tenant.to_string(),
        rule: "channel down".to_owned(),
        kind: "channel_down".to_owned(),
        service: String::new(),
        labels: [("channel".to_owned(), channel.to_owned())].into(),
        severity: Severity::Warning,
        state: if is_well { IncidentState::Resolved } else { IncidentState::Firing },
        overlays: logweir_incident::incident::Overlays::default(),
        pending_at: since,
        firing_at: Some(since),
        resolved_at: is_well.then_some(at),
        acknowledged_by: String::new(),
        escalation_level: 0,
        group: format!("channel-{channel}"),
        channels: Vec::new(),
        runbook: String::new(),
        evidence: logweir_incident::incident::Evidence::default(),
        timeline: Vec::new(),
    };
    incident.evidence.summary = summary;
    incident.evidence.started_at = since;
    let (kind, sequence) =
        if is_well { (NotificationKind::Resolved, 2) } else { (NotificationKind::Opened, 1) };
    Notification::new(kind, sequence, at, &incident)
}
