//! Whether a service is unusually slow.

use logweir_core::latency::BUCKET_GROWTH;
use logweir_incident::rule::Severity;

use super::{
    detection::{Detection, format_number, format_percent, measured},
    exceedance::Exceedance,
    history::{ServiceHistory, WINDOWS, WindowSums},
    ratio::Ratio,
    statistics::ratio_deviance,
    window::{MEDIAN, P95, latency_ms, mean_place, quantile_place},
};

/// Standard deviations that latencies must have where many logs are anomalies.
const SLOWER_DEVIATIONS: f64 = 3.5;
/// So many times the expected latency is felt by people: in the middle of the distribution and in
/// its mean, and at its 95th percentile.
const FELT_FACTOR: f64 = 1.3;
const FELT_P95_FACTOR: f64 = 1.4;

impl ServiceHistory {
    /// Whether its latencies are unusual.
    pub(crate) fn latency_shift(
        &mut self,
        windows: &WindowSums,
        is_active: bool,
    ) -> Option<Detection> {
        let found = self.slowness_detected(windows, is_active);
        // Remembered only while an incident is kept up, so that the windows of the next one begin
        // after it.
        if is_active && found.is_some() {
            self.sustained_until.latency = windows.at;
        }
        found
    }

    fn slowness_detected(&self, windows: &WindowSums, is_active: bool) -> Option<Detection> {
        let asked = [Ratio::Slow, Ratio::VerySlow, Ratio::Anomalies].into_iter();
        // Not every anomaly is a slow log: their ratio counts only where latencies have grown as
        // well.
        let found = asked.filter_map(|ratio| {
            let found = self.exceedance(ratio, windows, is_active)?;
            let is_slowness = ratio != Ratio::Anomalies || self.is_slower(windows, found.window);
            is_slowness.then_some(found)
        });
        // The first of the surest: that slow logs are many is easier to understand than that
        // anomalies are.
        let surer = |best: Exceedance, other: Exceedance| {
            if other.confidence > best.confidence { other } else { best }
        };
        let found = found.reduce(surer)?;
        let is_by_anomalies = found.ratio == Ratio::Anomalies;
        let expected = self.baseline.expected();
        let counts = self.buckets.latencies(windows.at, WINDOWS[found.window]);
        let now = |quantile| quantile_place(&counts, quantile).map_or(0.0, latency_ms);
        let (p50, p95) = (now(MEDIAN), now(P95));
        let sums = &windows.sums[found.window];
        // More slow logs than expected, but none that is slow enough to be felt.
        let is_felt = p50 >= FELT_FACTOR * expected.p50_ms
            || p95 >= FELT_P95_FACTOR * expected.p95_ms
            || is_by_anomalies && self.slowdown(&counts).factor >= FELT_FACTOR;
        if !is_active && !is_felt {
            return None;
        }
        let anomalies = if is_by_anomalies {
            let now = sums.non_error_anomalies / sums.total;
            let normal = format_percent(expected.ratios[Ratio::Anomalies]);
            format!("; {} of logs are anomalies, normal {normal}", format_percent(now))
        } else {
            String::new()
        };
        Some(Detection {
            confidence: found.confidence,
            severity: Severity::Warning,
            summary: format!(
                "latency p95: {} ms, normal {} ms; p50 {} ms, normal {} ms{anomalies}",
                format_number(p95),
                format_number(expected.p95_ms),
                format_number(p50),
                format_number(expected.p50_ms)
            ),
            measured: vec![
                measured("latency p95 ms", p95, expected.p95_ms, None, sums.timed),
                measured("latency p50 ms", p50, expected.p50_ms, None, sums.timed),
            ],
            started_at: self.began(windows, &found),
        })
    }

    /// Whether many anomalies of a window have to do with slowness.
    fn is_slower(&self, windows: &WindowSums, window: usize) -> bool {
        let sums = &windows.sums[window];
        let ratios = &self.baseline.expected().ratios;
        let is_more =
            |ratio: Ratio| ratio_deviance(ratio.of(sums), ratios[ratio]) >= SLOWER_DEVIATIONS;
        let counts = || self.buckets.latencies(windows.at, WINDOWS[window]);
        is_more(Ratio::Slow)
            || is_more(Ratio::VerySlow)
            || self.slowdown(&counts()).deviations >= SLOWER_DEVIATIONS
    }

    fn slowdown(&self, counts: &[f32]) -> Slowdown {
        let expected = self.baseline.expected().latency_places;
        let Some(now) = mean_place(counts) else {
            return Slowdown { factor: 1.0, deviations: 0.0 };
        };
        let logs: f64 = counts.iter().map(|count| f64::from(*count)).sum();
        let places = now.mean - expected.mean;
        Slowdown {
            // A step of one place is a step of so much in latency: the mean of the places is the
            // logarithm of the geometric mean.
            factor: BUCKET_GROWTH.powf(places),
            // The deviation of a mean of so many logs; of less than a place latencies were never
            // told apart.
            deviations: places / expected.deviation.max(1.0) * logs.sqrt(),
        }
    }
}

/// How much slower latencies are than expected.
struct Slowdown {
    /// So many times, by the geometric mean.
    factor: f64,
    /// How far from what is expected that is, in standard deviations.
    deviations: f64,
}
