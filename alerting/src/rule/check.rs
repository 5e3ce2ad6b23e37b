//! How each rule is checked, and what it asks about.

use logweir_incident::{
    incident::Incident,
    rule::{Direction, Rule, RuleKind, Threshold},
    suppression::matches_text,
};

use super::measure::{Quantity, Query};

/// How a rule is checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Check {
    /// A number against a threshold: `query` is the place of its query among those that rules
    /// share.
    Threshold { query: usize, threshold: Threshold, is_down: bool },
    /// By a detector, or in a way of its own.
    Special,
    /// By how the system itself does, and for no service.
    System,
}

impl Check {
    /// The check of a rule of this kind. Its query is added to `queries` unless it is there.
    pub(super) fn of(kind: &RuleKind, queries: &mut Vec<Query>) -> Self {
        let (quantity, window_seconds, threshold, is_down) = match *kind {
            RuleKind::ErrorRate { window_seconds, threshold } => {
                (Quantity::ErrorShare, window_seconds, threshold, false)
            }
            RuleKind::ErrorCount { window_seconds, threshold } => {
                (Quantity::Errors, window_seconds, threshold, false)
            }
            RuleKind::Volume { window_seconds, direction, threshold } => {
                (Quantity::Logs, window_seconds, threshold, direction == Direction::Down)
            }
            RuleKind::Latency { window_seconds, percentile, threshold } => {
                (Quantity::LatencyMs(percentile), window_seconds, threshold, false)
            }
            RuleKind::AnomalyCount { window_seconds, threshold } => {
                (Quantity::Anomalies, window_seconds, threshold, false)
            }
            RuleKind::ProcessorSilence { .. }
            | RuleKind::DeadLetters { .. }
            | RuleKind::SdkLoss { .. }
            | RuleKind::ClockOff { .. }
            | RuleKind::DiskShare { .. }
            | RuleKind::RulesLate { .. }
            | RuleKind::QueueLag { .. } => return Self::System,
            _ => return Self::Special,
        };
        // A detector decides; only of anomalies, which have no detector, "unusual" is a number.
        if threshold == Threshold::Unusual && quantity != Quantity::Anomalies {
            return Self::Special;
        }
        let query = Query { quantity, window_seconds };
        // Few different ones, even of thousands of rules: they are looked through rather than
        // hashed.
        let known = queries.iter().position(|other| *other == query);
        let query = known.unwrap_or_else(|| {
            queries.push(query);
            queries.len() - 1
        });
        Self::Threshold { query, threshold, is_down }
    }
}

/// Whether a rule holds for a service.
pub(super) fn selects(rule: &Rule, service: &str) -> bool {
    rule.services.is_empty() || rule.services.iter().any(|name| matches_text(name, service))
}

/// Whether a rule still asks what an incident of its name answers.
pub(super) fn asks_about(rule: &Rule, incident: &Incident) -> bool {
    // An incident of logs that a sender lost, or of its clock, names the service, though no service
    // is selected by such a rule.
    let names_service =
        matches!(rule.measure, RuleKind::SdkLoss { .. } | RuleKind::ClockOff { .. });
    let is_system = incident.service.is_empty() || names_service;
    incident.kind == kind_of(&rule.measure) && (is_system || selects(rule, &incident.service))
}

/// The series of a rule and a service. The unit separator cannot be part of either name.
pub(super) fn series(rule: &str, service: &str) -> String {
    format!("{rule}\u{1f}{service}")
}

/// The kind that incidents carry. A volume's two directions are told apart.
pub(super) fn kind_of(kind: &RuleKind) -> &'static str {
    match kind {
        RuleKind::Volume { direction: Direction::Down, .. } => "volume_down",
        RuleKind::Volume { direction: Direction::Up, .. } => "volume_up",
        other => other.name(),
    }
}
