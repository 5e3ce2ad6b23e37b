//! Whether a service logs unusually many errors.

use logweir_incident::rule::Severity;

use super::{
    detection::{Detection, format_number, format_percent, measured},
    history::{ServiceHistory, WindowSums},
    ratio::Ratio,
    window::MINUTE_SECONDS,
};

/// Errors a second must be so many times what is expected, or the ratio of errors so many times:
/// few logs at night make the ratio of a steady trickle of errors rise, which by itself is no
/// fault.
const MORE_ERRORS_FACTOR: f64 = 1.3;
const LARGER_RATIO_FACTOR: f64 = 4.0;
/// A ratio of errors is critical from here on, if it is so many times what is expected and rests on
/// so many errors.
const CRITICAL_RATIO: f64 = 0.2;
const CRITICAL_FACTOR: f64 = 3.0;
const CRITICAL_HITS_MIN: f64 = 8.0;

impl ServiceHistory {
    /// Whether its ratio of errors is unusual.
    pub(crate) fn error_spike(
        &mut self,
        windows: &WindowSums,
        is_active: bool,
    ) -> Option<Detection> {
        let found = self.errors_detected(windows, is_active);
        // Remembered only while an incident is kept up, so that the windows of the next one begin
        // after it.
        if is_active && found.is_some() {
            self.sustained_until.errors = windows.at;
        }
        found
    }

    fn errors_detected(&self, windows: &WindowSums, is_active: bool) -> Option<Detection> {
        let found = self.exceedance(Ratio::Errors, windows, is_active)?;
        let expected = self.baseline.expected();
        let expected_ratio = expected.ratios[Ratio::Errors];
        let sums = &windows.sums[found.window];
        let per_second = sums.errors / sums.seconds;
        let ratio = sums.errors / sums.total.max(1.0);
        let is_more = per_second >= MORE_ERRORS_FACTOR * expected.errors_per_second
            || ratio >= LARGER_RATIO_FACTOR * expected_ratio;
        // Asked of what begins only: what fires goes on until its ratio has sunk, whatever the
        // traffic does.
        if !is_active && !is_more {
            return None;
        }
        let is_critical = ratio >= CRITICAL_RATIO
            && ratio >= CRITICAL_FACTOR * expected_ratio
            && sums.errors >= CRITICAL_HITS_MIN;
        // By the minute: errors a second are mostly numbers below one, which people do not read.
        let now = per_second * MINUTE_SECONDS;
        let normal = expected.errors_per_second * MINUTE_SECONDS;
        Some(Detection {
            confidence: found.confidence,
            severity: if is_critical { Severity::Critical } else { Severity::Warning },
            summary: format!(
                "errors/min: {}, normal {}; {} of logs are errors, normal {}",
                format_number(now),
                format_number(normal),
                format_percent(ratio),
                format_percent(expected_ratio)
            ),
            measured: vec![
                measured("errors/min", now, normal, None, sums.total),
                measured("error share", ratio, expected_ratio, Some(found.line), sums.total),
            ],
            started_at: self.began(windows, &found),
        })
    }
}
