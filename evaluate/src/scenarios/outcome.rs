//! Which faults were found, and which incidents were false.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;
use logweir_incident::incident::Incident;
use logweir_loadgen::{fault::FaultKind, truth::TruthEntry};
use serde::Serialize;

use super::list::Scenario;
use crate::replay::Played;

/// An incident that fires so long after the end of a fault is still about it.
const AFTER: Duration = Duration::from_secs(120);

/// What one play showed.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: &'static str,
    /// Logs a second of each service.
    pub rate: f64,
    /// What it was played with.
    pub seed: u64,
    /// Days of event time, of each service.
    pub service_days: f64,
    /// What became of each fault.
    pub faults: Vec<FaultOutcome>,
    /// Incidents that people were told of without a cause.
    pub false_incidents: Vec<FalseIncident>,
}

/// What became of a fault.
#[derive(Debug, Clone, Serialize)]
pub struct FaultOutcome {
    /// The service that it befell.
    pub service: String,
    /// What went wrong.
    pub kind: FaultKind,
    /// The rule that found it first; none if it was missed.
    pub rule: Option<String>,
    /// Seconds from the first log that was changed or left out to the incident's firing.
    pub delay_seconds: Option<f64>,
    /// Incidents that people were told about it.
    pub told: usize,
    /// Whether the pattern of the changed logs is the first probable cause; none if it has none, or
    /// was missed.
    pub is_cause_first: Option<bool>,
}

/// An incident that nothing caused, or one that says the wrong thing.
#[derive(Debug, Clone, Serialize)]
pub struct FalseIncident {
    /// The service that it is about.
    pub service: String,
    /// The rule that found it.
    pub rule: String,
    /// When it fired, RFC 3339.
    pub firing: String,
    /// After the beginning of the play.
    pub after_hours: f64,
    /// What it says.
    pub summary: String,
}

/// Judges a play. Incidents that nobody was told of, as another explains them, do not count.
pub(super) fn outcome(
    scenario: &Scenario,
    (rate, seed): (f64, u64),
    (start, end): (Timestamp, Timestamp),
    truth: &[TruthEntry],
    played: &Played,
) -> Outcome {
    let told = played.incidents.iter().filter(|incident| played.told.contains_key(&incident.id));
    let told: Vec<(Timestamp, &Incident)> =
        told.filter_map(|incident| Some((incident.firing_at?, incident))).collect();
    // A restart does no harm: nobody need be told, and whoever is was told in error.
    let faults: Vec<&TruthEntry> =
        truth.iter().filter(|truth| truth.kind != FaultKind::Restart).collect();
    let is_about = |truth: &TruthEntry, at: Timestamp, incident: &Incident| {
        incident.service == truth.service
            && scenario.fits.contains(&incident.kind.as_str())
            && (truth.start..=truth.end + AFTER).contains(&at)
    };
    let of_fault = |truth: &&TruthEntry| {
        let found: Vec<&(Timestamp, &Incident)> =
            told.iter().filter(|(at, incident)| is_about(truth, *at, incident)).collect();
        let first = found.first();
        // At a low rate the first log that shows the fault comes long after it began, and no rule
        // could have known before.
        let began = truth.first.unwrap_or(truth.start);
        FaultOutcome {
            service: truth.service.clone(),
            kind: truth.kind,
            rule: first.map(|(_, incident)| incident.rule.clone()),
            delay_seconds: first.map(|(at, _)| at.nanos_since(began) as f64 / 1e9),
            told: found.len(),
            is_cause_first: first
                .filter(|_| !truth.pattern.is_empty())
                .map(|(_, incident)| is_cause_first(&truth.pattern, incident)),
        }
    };
    let is_false = |(at, incident): &&(Timestamp, &Incident)| {
        !faults.iter().any(|truth| is_about(truth, *at, incident))
    };
    let false_incident = |(at, incident): &(Timestamp, &Incident)| FalseIncident {
        service: incident.service.clone(),
        rule: incident.rule.clone(),
        firing: at.to_rfc3339(),
        after_hours: at.nanos_since(start) as f64 / 3.6e12,
        summary: incident.evidence.summary.clone(),
    };
    let services = scenario.services as f64;
    Outcome {
        scenario: scenario.name,
        rate,
        seed,
        service_days: end.nanos_since(start) as f64 / 86_400e9 * services,
        faults: faults.iter().map(of_fault).collect(),
        false_incidents: told.iter().filter(is_false).map(false_incident).collect(),
    }
}

/// Whether the words of the true pattern are those of the first probable cause.
fn is_cause_first(pattern: &str, incident: &Incident) -> bool {
    // Each run of words by itself: between them the detector may have other wildcards than the
    // truth, such as two for an address with a port.
    incident.evidence.probable_causes.first().is_some_and(|cause| {
        let words = pattern.split("<*>").map(str::trim);
        words.filter(|words| !words.is_empty()).all(|words| cause.pattern.contains(words))
    })
}
