//! What a detector found, and numbers for people.

use logweir_core::timestamp::Timestamp;
use logweir_incident::{incident::Measured, rule::Severity};

/// How sure a detector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// It may be: an incident becomes pending, and nobody is told.
    Possible,
    /// Too little to begin with, but enough to go on: it keeps up an incident that fires.
    Sustained,
    /// It is: an incident fires once it has been so for as long as its rule asks.
    Certain,
}

/// Something unusual about a service, or a number past a rule's threshold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Detection {
    pub(crate) confidence: Confidence,
    pub(crate) severity: Severity,
    pub(crate) measured: Vec<Measured>,
    /// One line for people: what is wrong, how much, against what.
    pub(crate) summary: String,
    /// When it began, event time, as far as the buckets tell.
    pub(crate) started_at: Timestamp,
}

/// A number against what is expected, as an incident shows it; `support` are the logs that it rests
/// on.
pub(crate) fn measured(
    name: &str,
    now: f64,
    expected: f64,
    threshold: Option<f64>,
    support: f64,
) -> Measured {
    Measured {
        name: name.to_owned(),
        now,
        normal: Some(expected),
        threshold,
        support: support as u64,
    }
}

/// A number for a person: two or three digits that count.
pub(crate) fn format_number(number: f64) -> String {
    // Fewer digits the larger it is: nobody needs to know that 412.7 errors came.
    match number.abs() {
        large if large >= 10.0 => format!("{number:.0}"),
        middle if middle >= 1.0 => format!("{number:.1}"),
        small if small >= 0.01 => format!("{number:.2}"),
        tiny if tiny > 0.0 => format!("{number:.4}"),
        _ => "0".to_owned(),
    }
}

/// A share of 0 to 1 as a percentage.
pub(crate) fn format_percent(share: f64) -> String {
    format!("{} %", format_number(share * 100.0))
}
