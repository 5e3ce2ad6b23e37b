//! The rules that work with nothing configured. They carry the label `built_in`.

use logweir_core::record::Level;

use crate::rule::{Direction, Rule, RuleKind, Severity, Threshold};

/// The built-in rules, in the order in which one explains the others.
pub fn rules() -> Vec<Rule> {
    let unusual = Threshold::Unusual;
    let volume = |direction| RuleKind::Volume { window_seconds: 60, direction, threshold: unusual };
    vec![
        // The shortest silence that may count; the detector asks for more of a service with longer
        // gaps.
        rule(
            "service silent",
            RuleKind::ServiceSilence { silence_seconds: 12 },
            Severity::Critical,
        ),
        rule(
            "error spike",
            RuleKind::ErrorRate { window_seconds: 60, threshold: unusual },
            WARNING,
        ),
        rule(
            "latency shift",
            RuleKind::Latency { window_seconds: 60, percentile: 0.95, threshold: unusual },
            WARNING,
        ),
        // From warnings on, and three times: a pattern that occurs once may never occur again.
        rule("new error pattern", RuleKind::NewPattern { level: Level::Warn, hits: 3 }, WARNING),
        rule("volume drop", volume(Direction::Down), WARNING),
        // More than usual is mostly good news.
        rule("volume surge", volume(Direction::Up), Severity::Info),
        // Fifteen heartbeats: long after others have taken its partitions over.
        rule(
            "processor silent",
            RuleKind::ProcessorSilence { silence_seconds: 30 },
            Severity::Critical,
        ),
        // A single one is a log that somebody does not see.
        rule("dead letters", RuleKind::DeadLetters { window_seconds: 300, count: 0 }, WARNING),
        rule(
            "logs lost before sending",
            RuleKind::SdkLoss { window_seconds: 300, count: 0 },
            WARNING,
        ),
        rule("queue lag", RuleKind::QueueLag { lag_seconds: 60 }, Severity::Critical),
        // Early enough to choose what is to be deleted, before the oldest is.
        rule("disk share", RuleKind::DiskShare { percent: 90 }, WARNING),
        // Of a minute what happens is still news.
        rule("rules late", RuleKind::RulesLate { late_seconds: 60 }, WARNING),
        // Machines that keep their time at all are within a second of each other.
        rule("clock off", RuleKind::ClockOff { off_seconds: 60 }, WARNING),
    ]
}

const WARNING: Severity = Severity::Warning;

fn rule(name: &str, measure: RuleKind, severity: Severity) -> Rule {
    let mut rule = Rule::new(name, measure);
    rule.severity = severity;
    rule.labels.insert("built_in".to_owned(), "true".to_owned());
    rule
}
