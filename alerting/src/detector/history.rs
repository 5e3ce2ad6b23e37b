//! What is known of one service: its last hour in buckets, its baseline, and how much it
//! varied in health.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;

use super::{
    baseline::{Abnormal, Baseline, LEARN_DELAY},
    ratio::{PerRatio, Ratio, Tally},
    statistics::{count_high, count_low, ratio_excess, ratio_low},
    weekly_peak::WeeklyPeak,
    window::{BUCKET_SECONDS, BUCKET_WIDTH, Bucket, Buckets, SlowFrom, Sums},
};

/// Full buckets of each window that is looked at, besides the open one: ten seconds to a quarter of
/// an hour. A busy service shows a fault in the short ones, a quiet one only in the long ones.
pub(crate) const WINDOWS: [u32; 5] = [1, 3, 6, 30, 90];
/// Places in [`WINDOWS`], of those windows that detectors name.
pub(crate) const HALF_MINUTE: usize = 1;
pub(crate) const ONE_MINUTE: usize = 2;
pub(crate) const FIVE_MINUTES: usize = 3;
pub(crate) const QUARTER_HOUR: usize = 4;

/// Five-minute rows that must be known before ratios are compared with them: an hour.
pub(crate) const SPANS_MIN: usize = 12;
/// Standard deviations within which a healthy level counts as credible: one in a hundred is not, so
/// that a few logs do not make a peak.
const CREDIBLE_DEVIATIONS: f64 = 2.5;
/// Buckets that are kept say no more than an hour; beyond that the baseline's rows are asked.
const BUCKETS_SECONDS: u32 = 3_600;

/// A service as the detectors know it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceHistory {
    pub(crate) buckets: Buckets,
    pub(crate) baseline: Baseline,
    /// The newest log, event time.
    pub(crate) last_seen: Timestamp,
    /// The highest ratio that was credibly reached in each window.
    pub(crate) ratio_peaks: PerRatio<[WeeklyPeak; WINDOWS.len()]>,
    /// How far chance, or what looks like it, carried each ratio away from what is expected, in
    /// standard deviations.
    pub(crate) deviation_peaks: PerRatio<[WeeklyPeak; WINDOWS.len()]>,
    /// How many times the expected rate was above what was logged.
    pub(crate) drop_peaks: [WeeklyPeak; WINDOWS.len()],
    /// How many times what was logged was above the expected rate.
    pub(crate) surge_peaks: [WeeklyPeak; WINDOWS.len()],
    /// The longest silence, in logs that were expected meanwhile.
    pub(crate) silence_peak: WeeklyPeak,
    /// The bucket in which peaks were last learnt.
    learnt_bucket: Timestamp,
    /// Until when incidents were last kept up. A window that reaches back before that would find
    /// the same again.
    pub(crate) sustained_until: SustainedUntil,
    abnormal_until: AbnormalUntil,
}

/// Until when an incident of each kind was last kept up, event time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SustainedUntil {
    pub(crate) errors: Timestamp,
    pub(crate) latency: Timestamp,
}

/// Until when something was last abnormal, event time. A window that reaches back before that
/// teaches nothing.
#[derive(Debug, Clone, Copy, Default)]
struct AbnormalUntil {
    errors: Timestamp,
    latency: Timestamp,
    volume: Timestamp,
}

impl AbnormalUntil {
    fn note(&mut self, abnormal: Abnormal, at: Timestamp) {
        if abnormal.errors {
            self.errors = at;
        }
        if abnormal.latency {
            self.latency = at;
        }
        if abnormal.volume {
            self.volume = at;
        }
    }

    fn of(&self, ratio: Ratio) -> Timestamp {
        match ratio {
            Ratio::Errors => self.errors,
            Ratio::Slow | Ratio::VerySlow => self.latency,
            // Both errors and slow logs are anomalies, so that either fault moves their ratio.
            Ratio::Anomalies => self.errors.max(self.latency),
        }
    }
}

/// The sums over each of [`WINDOWS`] that end at a moment.
pub(crate) struct WindowSums {
    pub(crate) at: Timestamp,
    pub(crate) sums: [Sums; WINDOWS.len()],
}

impl ServiceHistory {
    /// Takes in a bucket as counted so far.
    pub(crate) fn put(&mut self, bucket: Bucket) {
        if self.baseline.next().is_none() {
            self.baseline.begin(bucket.start);
        }
        self.last_seen = self.last_seen.max(bucket.last_seen);
        self.buckets.put(bucket);
    }

    /// Learns what is old enough, and sums up what is new.
    pub(crate) fn pass(&mut self, at: Timestamp, abnormal: Abnormal) -> WindowSums {
        let is_old = |next: &Timestamp| *next + BUCKET_WIDTH + LEARN_DELAY <= at;
        // Gaps are learnt as well: a service that logs nothing at night has a rate of 0 then.
        while let Some(next) = self.baseline.next().filter(is_old) {
            self.baseline.learn(next, self.buckets.at(next), abnormal);
        }
        // After learning, which may move what counts as slow.
        let slow_from = self.baseline.expected().slow_from;
        let sums = self.buckets.sums(at, WINDOWS, slow_from);
        let windows = WindowSums { at, sums };
        self.abnormal_until.note(abnormal, at);
        // Once in each bucket: five looks at the same logs would not make chance any rarer.
        let bucket = at.floor(BUCKET_WIDTH);
        if bucket != self.learnt_bucket && self.baseline.expected().spans > 0 {
            self.learnt_bucket = bucket;
            self.learn_peaks(&windows);
        }
        windows
    }

    fn learn_peaks(&mut self, windows: &WindowSums) {
        let at = windows.at;
        for (window, sums) in windows.sums.iter().enumerate() {
            // A window that reaches back into a fault would teach the fault.
            let from = at - sums.length();
            for ratio in Ratio::ALL {
                if from >= self.abnormal_until.of(ratio) {
                    self.learn_ratio(ratio, window, sums, at);
                }
            }
            if from >= self.abnormal_until.volume {
                self.learn_volume(window, sums, at);
            }
        }
        if self.last_seen >= self.abnormal_until.volume {
            let gap = at.since(self.last_seen).as_secs_f64();
            self.silence_peak.learn(at, gap * self.baseline.expected().rate);
        }
    }

    fn learn_ratio(&mut self, ratio: Ratio, window: usize, sums: &Sums, at: Timestamp) {
        let expected = self.baseline.expected();
        // The credible level, not the measured one: three errors among four logs are no level of 75
        // %.
        let tally = ratio.of(sums);
        let level = ratio_low(tally, CREDIBLE_DEVIATIONS);
        self.ratio_peaks[ratio][window].learn(at, level);
        // What is expected of the first hour is too rough to say what chance is.
        if expected.spans >= SPANS_MIN {
            let chance = ratio_excess(tally, expected.ratios[ratio]);
            self.deviation_peaks[ratio][window].learn(at, chance);
        }
    }

    fn learn_volume(&mut self, window: usize, sums: &Sums, at: Timestamp) {
        let expected = self.baseline.expected();
        let drop = expected.rate_low * sums.seconds / count_high(sums.total, CREDIBLE_DEVIATIONS);
        self.drop_peaks[window].learn(at, drop);
        // Of less than one expected log a single one would count as a surge.
        let logs = (expected.rate_high * sums.seconds).max(1.0);
        let surge = count_low(sums.total, CREDIBLE_DEVIATIONS) / logs;
        self.surge_peaks[window].learn(at, surge);
    }

    /// Forgets what was learnt of the last hours, since it belonged to a fault.
    pub(crate) fn forget_fresh(&mut self, what: Abnormal) {
        for peaks in [&mut self.ratio_peaks, &mut self.deviation_peaks] {
            for ratio in Ratio::ALL {
                let is_forgotten = match ratio {
                    Ratio::Errors => what.errors,
                    Ratio::Slow | Ratio::VerySlow => what.latency,
                    Ratio::Anomalies => what.explains_anomalies(),
                };
                if is_forgotten {
                    peaks[ratio].iter_mut().for_each(WeeklyPeak::forget_fresh);
                }
            }
        }
        if what.volume {
            let all = self.drop_peaks.iter_mut().chain(&mut self.surge_peaks);
            all.chain([&mut self.silence_peak]).for_each(WeeklyPeak::forget_fresh);
        }
    }

    /// Whether its ratios can be compared with a baseline.
    pub(crate) fn is_known(&self) -> bool {
        self.baseline.expected().spans >= SPANS_MIN
    }

    /// Errors and logs of the last seconds, however many.
    pub(crate) fn errors_over(&self, at: Timestamp, seconds: u32) -> Tally {
        if seconds <= BUCKETS_SECONDS {
            let buckets = (seconds / BUCKET_SECONDS).saturating_sub(1);
            let [sums] = self.buckets.sums(at, [buckets], SlowFrom::default());
            return Ratio::Errors.of(&sums);
        }
        self.baseline.errors_since(at - Duration::from_secs(seconds.into()))
    }
}
