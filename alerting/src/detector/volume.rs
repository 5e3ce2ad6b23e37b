//! Whether a service is silent, or logs far less or more than is expected at this time.
//!
//! The numbers below were chosen with `logweir evaluate scenarios`, as those of `exceedance` were.

use logweir_incident::rule::Severity;

use super::{
    baseline::Expected,
    detection::{Confidence, Detection, format_number, measured},
    exceedance::{BEYOND, PEAK_FACTOR, YOUNG_FACTOR},
    history::{FIVE_MINUTES, HALF_MINUTE, ONE_MINUTE, ServiceHistory, WindowSums},
    statistics::{count_deviance, count_high},
    window::{MINUTE_SECONDS, SlowFrom},
};

/// Standard deviations from the expected volume that certainty takes. More than of errors: people
/// move a volume more than chance does.
const CERTAIN_VOLUME: f64 = 4.7;

/// The share of what is expected below which a volume is a drop, where several days are known.
const DROP_SHARE: f64 = 0.45;
/// The same where one day is known.
const DROP_SHARE_ONE_DAY: f64 = 0.4;
/// The same where the expectation is a guess from another kind of day.
const DROP_SHARE_GUESS: f64 = 0.3;
/// Windows of a drop: half a minute to five minutes. Shorter ones say too little of a quiet
/// service, and a silence is found by itself.
const DROP_WINDOWS: std::ops::RangeInclusive<usize> = HALF_MINUTE..=FIVE_MINUTES;
/// A drop that fires goes on below so many times its line, and never above this share of what is
/// expected.
const SUSTAINED_DROP_FACTOR: f64 = 1.5;
const SUSTAINED_DROP_SHARE_MAX: f64 = 0.7;
/// Logs that are counted on top, or the deviance of a small count is too great.
const CONTINUITY: f64 = 0.5;

/// How many times what is expected a volume must exceed to be a surge.
const SURGE_FACTOR: f64 = 2.2;
/// How many times the highest that was seen in health it must exceed besides.
const SURGE_PEAK_FACTOR: f64 = 1.4;
/// A surge has at least so many logs: of fewer nobody's disk fills up.
const SURGE_LOGS_MIN: f64 = 100.0;
/// Windows of a surge: a minute and five. A shorter one is a burst, which clients make by sending
/// what they had kept back.
const SURGE_WINDOWS: std::ops::RangeInclusive<usize> = ONE_MINUTE..=FIVE_MINUTES;
/// A surge that fires goes on above this part of its line.
const SUSTAINED_SURGE_SHARE: f64 = 0.8;

/// No silence is shorter, seconds: a restart may take so long.
const SILENCE_SECONDS_MIN: f64 = 12.0;
/// A silence must outlast the longest healthy one by so many times.
const SILENCE_PEAK_FACTOR: f64 = 1.5;
/// A silence is pending from this part of its length on.
const SILENCE_POSSIBLE_SHARE: f64 = 0.5;
/// By chance a gap of `ln(logs in a week) + this` expected logs comes up once in some 150 weeks.
const SILENCE_MARGIN: f64 = 5.0;
/// How much of an expected rate is trusted while no day of this kind was seen: when a first weekend
/// begins nobody knows how quiet it will be.
const UNKNOWN_DAY_TRUST: f64 = 0.5;
/// Full buckets before a silence that say how busy the service was then, and by how many standard
/// deviations they may err.
const BEFORE_SILENCE: [u32; 4] = [3, 6, 30, 60];
const BEFORE_SILENCE_DEVIATIONS: f64 = 2.0;
const WEEK_SECONDS: f64 = 604_800.0;
/// A lower rate counts as this, logs a second: the time between logs is its inverse.
const RATE_MIN: f64 = 1e-9;

impl ServiceHistory {
    /// Whether it is silent, though it should not be.
    pub(crate) fn service_silence(
        &self,
        windows: &WindowSums,
        is_active: bool,
    ) -> Option<Detection> {
        let expected = self.baseline.expected();
        let gap = windows.at.since(self.last_seen).as_secs_f64();
        // The first look at it is before a silence can even be pending.
        if !self.is_known() || gap < SILENCE_SECONDS_MIN * SILENCE_POSSIBLE_SHARE {
            return None;
        }
        let seconds = self.silence_seconds(expected)?;
        let confidence = if gap >= seconds {
            Confidence::Certain
        } else if gap >= SILENCE_POSSIBLE_SHARE * seconds && !is_active {
            Confidence::Possible
        } else {
            return None;
        };
        let normal = expected.rate * MINUTE_SECONDS;
        let between_logs = 1.0 / expected.rate.max(RATE_MIN);
        Some(Detection {
            confidence,
            severity: Severity::Critical,
            summary: format!(
                "silent for {} s; normal are {} logs/min",
                gap as u64,
                format_number(normal)
            ),
            measured: vec![
                measured("logs/min", 0.0, normal, None, 0.0),
                measured("silent s", gap, between_logs, Some(seconds), 0.0),
            ],
            started_at: self.last_seen,
        })
    }

    /// How long a silence must be; none if nothing is expected anyway.
    fn silence_seconds(&self, expected: &Expected) -> Option<f64> {
        let is_known = expected.days > 0 || expected.is_guess || expected.is_young();
        let trust = if is_known { 1.0 } else { UNKNOWN_DAY_TRUST };
        // The lower of what is expected and what was logged last: a service may have become quiet
        // before.
        let rate = (expected.rate_low * trust).min(self.rate_before_silence());
        if rate <= 0.0 {
            return None;
        }
        let young = if expected.is_young() { YOUNG_FACTOR } else { 1.0 };
        // Gaps between independent logs are exponential: the longest of a week is about the
        // logarithm of the number of logs, in units of the mean gap.
        let by_chance = ((WEEK_SECONDS * rate).max(1.0).ln() + SILENCE_MARGIN) * young;
        let in_health = SILENCE_PEAK_FACTOR * self.silence_peak.limit(expected.is_young());
        Some((by_chance.max(in_health) / rate).max(SILENCE_SECONDS_MIN))
    }

    /// The most that the service may have logged a second when it was last heard: it may have
    /// become quiet before it fell silent.
    fn rate_before_silence(&self) -> f64 {
        let until = self.last_seen;
        let sums = self.buckets.sums(until, BEFORE_SILENCE, SlowFrom::default());
        // The smallest: the shortest time before the silence that was quiet decides.
        let rates = sums
            .iter()
            .map(|sums| count_high(sums.total, BEFORE_SILENCE_DEVIATIONS) / sums.seconds);
        rates.fold(f64::MAX, f64::min)
    }

    /// Whether it logs far less than expected.
    pub(crate) fn volume_drop(&self, windows: &WindowSums, is_active: bool) -> Option<Detection> {
        let expected = self.baseline.expected();
        // The less is known of this time of day, the deeper a drop must be.
        let share = match expected.days {
            0 if !expected.is_guess => return None,
            0 => DROP_SHARE_GUESS,
            1 => DROP_SHARE_ONE_DAY,
            _ => DROP_SHARE,
        };
        if expected.rate_low <= 0.0 {
            return None;
        }
        let found = DROP_WINDOWS.filter_map(|window| {
            let confidence = self.drop_in(window, windows, share, is_active)?;
            Some((window, confidence))
        });
        let (window, confidence) = shortest_of_surest(found)?;
        Some(self.volume_detection(windows, window, confidence, Severity::Warning))
    }

    fn drop_in(
        &self,
        window: usize,
        windows: &WindowSums,
        share: f64,
        is_active: bool,
    ) -> Option<Confidence> {
        let sums = &windows.sums[window];
        let peak = self.drop_peaks[window].limit(false);
        // Where the volume fell further than that in health, a drop must go beyond it.
        let line = share.min(1.0 / (PEAK_FACTOR * peak).max(1.0));
        let expected = self.baseline.expected().rate_low * sums.seconds;
        let count = sums.total + CONTINUITY;
        let is_sure = count_deviance(count, expected) <= -CERTAIN_VOLUME;
        let sustained = (line * SUSTAINED_DROP_FACTOR).min(SUSTAINED_DROP_SHARE_MAX);
        if is_sure && count_deviance(count, expected * line) <= -BEYOND {
            Some(Confidence::Certain)
        } else if is_active && sums.total <= expected * sustained {
            Some(Confidence::Sustained)
        } else if is_sure && sums.total <= expected * line {
            Some(Confidence::Possible)
        } else {
            None
        }
    }

    /// Whether it logs far more than expected.
    pub(crate) fn volume_surge(&self, windows: &WindowSums, is_active: bool) -> Option<Detection> {
        let expected = self.baseline.expected();
        if expected.days == 0 && !expected.is_guess || expected.rate_high <= 0.0 {
            return None;
        }
        let found = SURGE_WINDOWS.filter_map(|window| {
            let confidence = self.surge_in(window, windows, is_active)?;
            Some((window, confidence))
        });
        let (window, confidence) = shortest_of_surest(found)?;
        Some(self.volume_detection(windows, window, confidence, Severity::Info))
    }

    fn surge_in(&self, window: usize, windows: &WindowSums, is_active: bool) -> Option<Confidence> {
        let sums = &windows.sums[window];
        let peak = self.surge_peaks[window].limit(false);
        let factor = SURGE_FACTOR.max(SURGE_PEAK_FACTOR * peak);
        let expected = self.baseline.expected().rate_high * sums.seconds;
        let is_sure =
            sums.total >= SURGE_LOGS_MIN && count_deviance(sums.total, expected) >= CERTAIN_VOLUME;
        if is_sure && count_deviance(sums.total, expected * factor) >= BEYOND {
            Some(Confidence::Certain)
        } else if is_active && sums.total >= expected * (SUSTAINED_SURGE_SHARE * factor) {
            Some(Confidence::Sustained)
        } else {
            None
        }
    }

    fn volume_detection(
        &self,
        windows: &WindowSums,
        window: usize,
        confidence: Confidence,
        severity: Severity,
    ) -> Detection {
        let sums = &windows.sums[window];
        let now = sums.total / sums.seconds * MINUTE_SECONDS;
        let normal = self.baseline.expected().rate * MINUTE_SECONDS;
        Detection {
            confidence,
            severity,
            summary: format!("logs/min: {}, normal {}", format_number(now), format_number(normal)),
            measured: vec![measured("logs/min", now, normal, None, sums.total)],
            started_at: windows.at - sums.length(),
        }
    }
}

/// Of windows, ascending, the first of those that are surest.
fn shortest_of_surest(
    found: impl Iterator<Item = (usize, Confidence)>,
) -> Option<(usize, Confidence)> {
    found.reduce(|best, other| {
        let ((_, best_confidence), (_, confidence)) = (best, other);
        if confidence > best_confidence { other } else { best }
    })
}
