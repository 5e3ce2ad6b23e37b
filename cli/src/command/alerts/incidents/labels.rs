//! The words for what is known of an incident, and their colours.

use logweir_core::timestamp::Timestamp;
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
    match incident.state() {
        v1::IncidentState::Unspecified => ("-", Tone::Plain),
        v1::IncidentState::Pending => ("pending", Tone::Dim),
        v1::IncidentState::Firing => ("firing", Tone::Bad),
        v1::IncidentState::Acknowledged => ("acknowledged", Tone::Warning),
        v1::IncidentState::Resolved => ("resolved", Tone::Good),
    }
}

pub(super) fn severity(incident: &v1::Incident) -> (&'static str, Tone) {
    match incident.severity() {
        v1::Severity::Unspecified => ("-", Tone::Plain),
        v1::Severity::Info => ("info", Tone::Plain),
        v1::Severity::Warning => ("warning", Tone::Warning),
        v1::Severity::Critical => ("critical", Tone::Bad),
    }
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

pub(super) fn level(level: v1::Level) -> &'static str {
    match level {
        v1::Level::Unspecified => "-",
        v1::Level::Trace => "TRACE",
        v1::Level::Debug => "DEBUG",
        v1::Level::Info => "INFO",
        v1::Level::Warn => "WARN",
        v1::Level::Error => "ERROR",
        v1::Level::Fatal => "FATAL",
    }
}

pub(super) fn delivery_state(delivery: &v1::AlertDelivery) -> (&'static str, Tone) {
    match delivery.state() {
        v1::AlertDeliveryState::Unspecified => ("-", Tone::Plain),
        v1::AlertDeliveryState::Waiting => ("waiting", Tone::Warning),
        v1::AlertDeliveryState::Sent => ("sent", Tone::Good),
        v1::AlertDeliveryState::GivenUp => ("given_up", Tone::Bad),
    }
}
