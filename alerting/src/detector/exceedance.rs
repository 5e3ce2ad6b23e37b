//! Whether a ratio of a service's logs is above its line: what the detectors of errors and of
//! latencies have in common.
//!
//! A ratio is unusual if chance explains it neither from what is expected, nor from somewhat more
//! than that: so it is both certain and large enough to matter. "Somewhat more" grows with how much
//! the ratio varied in a week of health.
//!
//! The numbers below were chosen with `logweir evaluate scenarios` for few false incidents, by
//! other seeds than those whose results `docs/alerting.md` reports.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;

use super::{
    baseline::Expected,
    detection::Confidence,
    history::{
        FIVE_MINUTES, HALF_MINUTE, ONE_MINUTE, QUARTER_HOUR, ServiceHistory, WINDOWS, WindowSums,
    },
    ratio::{Ratio, Tally},
    statistics::{ratio_deviance, ratio_excess},
    window::{BUCKET_WIDTH, Sums},
};

/// Standard deviations from what is expected that certainty about errors takes. Far more than one
/// comparison would need: every service is compared every two seconds, in five windows.
const CERTAIN_ERRORS: f64 = 4.5;
/// The same about latency, where two ratios are asked and tails are heavy.
const CERTAIN_LATENCY: f64 = 4.8;
/// Standard deviations from what is expected that make an incident pending.
const POSSIBLE: f64 = 3.5;
/// Ratios that rest on fewer hits than this make nothing pending: so few come by chance.
const POSSIBLE_HITS_MIN: f64 = 3.0;
/// How many times more every threshold asks for while less than a day is known.
pub(super) const YOUNG_FACTOR: f64 = 1.5;
/// Standard deviations from the level that matters: about one in thirty by chance, on top of
/// certainty.
pub(super) const BEYOND: f64 = 1.8;
/// How many times the weekly peak a level must exceed.
pub(super) const PEAK_FACTOR: f64 = 1.3;
/// How many times the deviation that chance was seen to make in health certainty must exceed.
const CHANCE_FACTOR: f64 = 1.1;
/// Standard deviations that chance alone does not make within a week. A service that was seen to
/// make more in health varies by nature, and so many times the difference is asked for on top.
const VARIABLE_FROM: f64 = 4.2;
const VARIABLE_FACTOR: f64 = 1.2;
/// No line lies higher: of a ratio that is always near 1 something must be left to find.
const LINE_MAX: f64 = 0.97;
/// The part of the line down to which an incident that fires goes on, and the hits that it takes.
const SUSTAINED_PART: f64 = 0.8;
const SUSTAINED_HITS_MIN: f64 = 2.0;
/// Logs in a window that make its ratio worth looking at by itself.
const LOGS_MIN: f64 = 20.0;
/// To this it is told when something began.
const SECOND: Duration = Duration::from_secs(1);

/// How large a ratio must be to matter, however certain it is that it is larger than expected.
struct EffectSize {
    /// So many times what is expected in short windows.
    factor: f64,
    /// The same in windows of five minutes and more, where chance evens out.
    factor_long: f64,
    /// So much above what is expected.
    excess: f64,
    /// It must rest on so many logs.
    hits_min: f64,
}

impl Ratio {
    const fn effect_size_min(self) -> EffectSize {
        match self {
            Self::Errors => {
                EffectSize { factor: 2.0, factor_long: 1.6, excess: 0.004, hits_min: 4.0 }
            }
            Self::Slow => EffectSize { factor: 1.8, factor_long: 1.5, excess: 0.06, hits_min: 5.0 },
            Self::VerySlow => {
                EffectSize { factor: 3.0, factor_long: 2.5, excess: 0.02, hits_min: 5.0 }
            }
            Self::Anomalies => {
                EffectSize { factor: 3.0, factor_long: 3.0, excess: 0.02, hits_min: 4.0 }
            }
        }
    }
}

/// A ratio that is above its line in one window.
pub(super) struct Exceedance {
    pub(super) ratio: Ratio,
    /// The place in [`WINDOWS`].
    pub(super) window: usize,
    pub(super) confidence: Confidence,
    /// The ratio from which on it matters.
    pub(super) line: f64,
}

impl ServiceHistory {
    /// The shortest of the windows that are surest of a ratio.
    pub(super) fn exceedance(
        &self,
        ratio: Ratio,
        windows: &WindowSums,
        is_active: bool,
    ) -> Option<Exceedance> {
        // Of a service of which less than an hour is known nothing is unusual yet.
        if !self.is_known() {
            return None;
        }
        let sustained = &self.sustained_until;
        let held = match ratio {
            Ratio::Errors => sustained.errors,
            Ratio::Slow | Ratio::VerySlow | Ratio::Anomalies => sustained.latency,
        };
        let mut best: Option<Exceedance> = None;
        let count = windows_asked(ratio, windows, is_active);
        for (window, sums) in windows.sums.iter().enumerate().take(count) {
            // The last incident has accounted for what is in this window, and in all longer ones.
            if !is_active && windows.at - sums.length() < held {
                break;
            }
            // Only a surer window takes the place of a shorter one, which says better when it
            // began.
            let Some(found) = self.exceedance_in(ratio, window, sums, is_active) else { continue };
            if best.as_ref().is_none_or(|best| found.confidence > best.confidence) {
                best = Some(found);
            }
        }
        best
    }

    fn exceedance_in(
        &self,
        ratio: Ratio,
        window: usize,
        sums: &Sums,
        is_active: bool,
    ) -> Option<Exceedance> {
        let expected = self.baseline.expected();
        let tally = ratio.of(sums);
        let young = if expected.is_young() { YOUNG_FACTOR } else { 1.0 };
        let line = self.line(ratio, window, expected);
        let deviations = ratio_excess(tally, expected.ratios[ratio]);
        let certain = self.certain_deviations(ratio, window, expected);
        let is_sure = tally.hits >= ratio.effect_size_min().hits_min && deviations >= certain;
        // Two questions, for with many logs a tiny difference is certain and still of no matter: is
        // it more than expected, and is it more than what matters?
        let confidence = if is_sure && ratio_deviance(tally, line) >= BEYOND {
            Confidence::Certain
        } else if is_active && is_sustained(ratio, window, tally, line) {
            Confidence::Sustained
        } else if tally.hits >= POSSIBLE_HITS_MIN
            && deviations >= POSSIBLE * young
            && tally.hits >= line * tally.total
        {
            Confidence::Possible
        } else {
            return None;
        };
        Some(Exceedance { ratio, window, confidence, line })
    }

    /// The ratio from which on it matters: well above what is expected, and above what the service
    /// reached in health.
    fn line(&self, ratio: Ratio, window: usize, expected: &Expected) -> f64 {
        let effect = ratio.effect_size_min();
        let normal = expected.ratios[ratio];
        // Either of two sizes must be passed: of a ratio near nothing many times is still nothing,
        // and of a large one a small excess is no change.
        let factor = if window >= FIVE_MINUTES { effect.factor_long } else { effect.factor };
        let peak = self.ratio_peaks[ratio][window].limit(expected.is_young());
        let line = (normal * factor).max(normal + effect.excess).max(peak * PEAK_FACTOR);
        let young = if expected.is_young() { YOUNG_FACTOR } else { 1.0 };
        (line * young).min(LINE_MAX)
    }

    /// The standard deviations from what is expected that certainty takes: more for a service whose
    /// ratio was seen to stray further in health than chance explains.
    fn certain_deviations(&self, ratio: Ratio, window: usize, expected: &Expected) -> f64 {
        let young = if expected.is_young() { YOUNG_FACTOR } else { 1.0 };
        let certain = if ratio == Ratio::Errors { CERTAIN_ERRORS } else { CERTAIN_LATENCY };
        // What was seen in a healthy week is the better estimate where logs do not come
        // independently of each other, as retries do: their chance is wider than that of the
        // formula.
        let seen = self.deviation_peaks[ratio][window].limit(expected.is_young());
        let more = VARIABLE_FACTOR * (seen - VARIABLE_FROM).max(0.0);
        (certain * young).max(seen * CHANCE_FACTOR + more)
    }

    /// The start of the first of those buckets above the line that follow each other without a
    /// break. Buckets with few logs are taken together.
    pub(super) fn began(&self, windows: &WindowSums, found: &Exceedance) -> Timestamp {
        let slow_from = self.baseline.expected().slow_from;
        // A long window found what no single bucket shows: it began when the window did, at the
        // latest.
        let is_short = found.window < FIVE_MINUTES;
        let full_buckets = if is_short { 0 } else { WINDOWS[found.window] };
        let mut began = windows.at.floor(SECOND) - BUCKET_WIDTH * full_buckets;
        let mut taken = Tally::default();
        for bucket in self.buckets.newest_first() {
            let bucket_tally = found.ratio.of(&Sums::of(bucket, slow_from));
            taken = taken + bucket_tally;
            if bucket_tally.hits > 0.0 && taken.hits >= found.line * taken.total {
                began = began.min(bucket.start);
            }
            // Too few to say that it was over here: the next older bucket joins in.
            if taken.total < LOGS_MIN {
                continue;
            }
            if taken.hits < found.line * taken.total {
                break;
            }
            taken = Tally::default();
        }
        began
    }
}

/// How many of the windows are looked at, from the shortest. What fires is kept up by the last
/// minute, or as long as it takes to have some logs: a long window would keep it up long after it
/// is over.
fn windows_asked(ratio: Ratio, windows: &WindowSums, is_active: bool) -> usize {
    if !is_active {
        return WINDOWS.len();
    }
    let has_logs = |sums: &Sums| ratio.of(sums).total >= LOGS_MIN;
    let first = windows.sums.iter().skip(ONE_MINUTE).position(has_logs);
    first.map_or(WINDOWS.len(), |after_minute| ONE_MINUTE + after_minute + 1)
}

/// Whether what fires goes on: by the shortest window that has enough logs, from a minute on.
/// Errors are clear sooner than latencies, and half a minute is enough of them.
fn is_sustained(ratio: Ratio, window: usize, tally: Tally, line: f64) -> bool {
    let shortest = if ratio == Ratio::Errors { HALF_MINUTE } else { ONE_MINUTE };
    (shortest..QUARTER_HOUR).contains(&window)
        && tally.total >= LOGS_MIN
        && tally.hits >= SUSTAINED_HITS_MIN
        && tally.hits >= line * SUSTAINED_PART * tally.total
}
