//! The words for what is known of an incident, and their colours.

use logweir_core::{
    json::{delivery_state_name, severity_name, state_name},
    timestamp::Timestamp,
};
use logweir_proto::v1;

use crate::output::Tone;

/// When an incident began: by its logs' own time where that is known, else when it was noticed.
pub(super) fn began(incident: &v1::Incident) -> Timestamp {
    Timestamp::from_unix_nanos(match incident.started_unix_nano {
        0 => incident.pending_unix_nano,
        started => started,
    })
}

pub(super) fn state(incident: &v1::Incident) -> (&'static str, Tone) {
    let tone = match incident.state() {
        v1::IncidentState::Unspecified => Tone::Plain,
        v1::IncidentState::Pending => Tone::Dim,
        v1::IncidentState::Firing => Tone::Bad,
        v1::IncidentState::Acknowledged => Tone::Warning,
        v1::IncidentState::Resolved => Tone::Good,
    };
    (state_name(incident.state()), tone)
}

pub(super) fn severity(incident: &v1::Incident) -> (&'static str, Tone) {
    let tone = match incident.severity() {
        v1::Severity::Unspecified | v1::Severity::Info => Tone::Plain,
        v1::Severity::Warning => Tone::Warning,
        v1::Severity::Critical => Tone::Bad,
    };
    (severity_name(incident.severity()), tone)
}

/// Why nobody is told, if so.
pub(super) fn quiet(incident: &v1::Incident) -> Vec<&'static str> {
    let overlays = incident.overlays.unwrap_or_default();
    let reasons = [
        (overlays.silenced, "silenced"),
        (overlays.inhibited, "explained by another"),
        (overlays.muted, "muted"),
        (overlays.snoozed_until_unix_nano != 0, "snoozed"),
        (overlays.flapping, "flapping"),
    ];
    reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
}

pub(super) fn delivery_state(delivery: &v1::AlertDelivery) -> (&'static str, Tone) {
    let tone = match delivery.state() {
        v1::AlertDeliveryState::Unspecified => Tone::Plain,
        v1::AlertDeliveryState::Waiting => Tone::Warning,
        v1::AlertDeliveryState::Sent => Tone::Good,
        v1::AlertDeliveryState::GivenUp => Tone::Bad,
    };
    (delivery_state_name(delivery.state()), tone)
}
