//! Shares of a service's logs that are unusual right now: errors, slow logs, anomalies.
//!
//! A share is unusual if chance explains it neither from what is expected, nor from somewhat more than
//! that: so it is both certain and large enough to matter. "Somewhat more" grows with how restless the
//! service was in a week of health.
//!
//! The numbers below were chosen with `logweir evaluate scenarios` for few false incidents, by other
//! seeds than those whose results `docs/alerting.md` reports.

use std::ops::{Index, IndexMut};

use logweir_incident::rule::Severity;

use super::{
    baseline::Expected,
    detection::{Confidence, Detection, format_number, format_percent, measured},
    history::{
        FIVE_MINUTES, HALF_MINUTE, ONE_MINUTE, QUARTER_HOUR, ServiceHistory, WINDOWS, WindowSums,
    },
    statistics::{share_deviance, share_excess},
    window::{BUCKET_SECONDS, LATENCY_BUCKET_GROWTH, Sums, latency_ms, mean_place, quantile_place},
};

/// Standard deviations from what is expected that certainty about errors takes. Far more than one
/// comparison would need: every service is compared every two seconds, in five windows.
const CERTAIN_ERRORS: f64 = 4.5;
/// The same about latency, where two shares are asked and tails are heavy.
const CERTAIN_LATENCY: f64 = 4.8;
/// Standard deviations from what is expected that make an incident pending.
const POSSIBLE: f64 = 3.5;
/// Shares that cannot be told from what is expected by so few hits make nothing pending.
const POSSIBLE_HITS_MIN: f64 = 3.0;
/// So many times more is asked for while less than a day is known.
pub(super) const YOUNG_FACTOR: f64 = 1.5;
/// Standard deviations from the level that matters: about one in thirty by chance, on top of certainty.
pub(super) const BEYOND: f64 = 1.8;
/// How far above the healthy ceiling a level must be.
pub(super) const CEILING_FACTOR: f64 = 1.3;
/// How far above what chance was seen to do in health.
const CHANCE_FACTOR: f64 = 1.1;
/// Where it was seen to do more than this, which chance alone does not in a week, the service is
/// restless, and so many times the difference is asked for on top.
const RESTLESS_FROM: f64 = 4.2;
const RESTLESS_FACTOR: f64 = 1.2;
/// No line lies higher: of a share that is always near 1 something must be left to find.
const LINE_MAX: f64 = 0.97;
/// What fires goes on down to this part of the line, from so many hits on.
const SUSTAINED_SHARE: f64 = 0.8;
const SUSTAINED_HITS_MIN: f64 = 2.0;
/// Logs in a window that make its share worth looking at by itself.
const LOGS_MIN: f64 = 20.0;

/// Errors a second must be so many times what is expected, or the share of errors so many times: few
/// logs at night make the share of a steady trickle of errors rise, which by itself is no fault.
const MORE_ERRORS_FACTOR: f64 = 1.3;
const LARGER_SHARE_FACTOR: f64 = 4.0;
/// A share of errors is critical from here on, if it is so many times what is expected and rests on
/// so many errors.
const CRITICAL_SHARE: f64 = 0.2;
const CRITICAL_FACTOR: f64 = 3.0;
const CRITICAL_HITS_MIN: f64 = 8.0;

/// Standard deviations that latencies must have where many logs are anomalies.
const SLOWER_DEVIATIONS: f64 = 3.5;
/// So many times the expected latency is felt by people: in the middle of the distribution and in its
/// mean, and at its 95th percentile.
const FELT_FACTOR: f64 = 1.3;
const FELT_P95_FACTOR: f64 = 1.4;
const NANOS: i64 = 1_000_000_000;

/// Shares of logs that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Errors, of all logs.
    Errors,
    /// Logs slower than nine in ten are expected to be, of those with a latency.
    Slow,
    /// Logs slower than 99 in a hundred are expected to be, of those with a latency.
    VerySlow,
    /// Anomalies that are no errors, of all logs.
    Anomalies,
}

/// A value for each share.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct PerShare<T>(pub(crate) [T; Share::ALL.len()]);

impl<T> Index<Share> for PerShare<T> {
    type Output = T;

    fn index(&self, share: Share) -> &T {
        &self.0[share as usize]
    }
}

impl<T> IndexMut<Share> for PerShare<T> {
    fn index_mut(&mut self, share: Share) -> &mut T {
        &mut self.0[share as usize]
    }
}

/// How large a share must be to matter, however certain it is that it is larger than expected.
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

impl Share {
    pub(crate) const ALL: [Self; 4] = [Self::Errors, Self::Slow, Self::VerySlow, Self::Anomalies];

    /// Logs that count, and logs of which they are a share.
    pub(crate) fn of(self, sums: &Sums) -> (f64, f64) {
        match self {
            Self::Errors => (sums.errors, sums.total),
            Self::Slow => (sums.slow, sums.timed),
            Self::VerySlow => (sums.very_slow, sums.timed),
            Self::Anomalies => (sums.non_error_anomalies, sums.total),
        }
    }

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

/// A share that is above its line in one window.
struct Exceedance {
    /// The place in [`WINDOWS`].
    window: usize,
    confidence: Confidence,
    /// The share from which on it matters.
    line: f64,
}

impl ServiceHistory {
    /// Whether its share of errors is unusual.
    pub(crate) fn error_spike(
        &mut self,
        windows: &WindowSums,
        is_active: bool,
    ) -> Option<Detection> {
        let found = self.errors_detected(windows, is_active);
        if is_active && found.is_some() {
            self.sustained_until.errors_unix_nano = windows.at_unix_nano;
        }
        found
    }

    fn errors_detected(&self, windows: &WindowSums, is_active: bool) -> Option<Detection> {
        let found = self.exceedance(Share::Errors, windows, is_active)?;
        let expected = self.baseline.expected();
        let expected_share = expected.shares[Share::Errors];
        let sums = &windows.sums[found.window];
        let per_second = sums.errors / sums.seconds;
        let share = sums.errors / sums.total.max(1.0);
        let is_more = per_second >= MORE_ERRORS_FACTOR * expected.errors_per_second
            || share >= LARGER_SHARE_FACTOR * expected_share;
        if !is_active && !is_more {
            return None;
        }
        let is_critical = share >= CRITICAL_SHARE
            && share >= CRITICAL_FACTOR * expected_share
            && sums.errors >= CRITICAL_HITS_MIN;
        let (now, normal) = (per_second * 60.0, expected.errors_per_second * 60.0);
        Some(Detection {
            confidence: found.confidence,
            severity: if is_critical { Severity::Critical } else { Severity::Warning },
            summary: format!(
                "errors/min: {}, normal {}; {} of logs are errors, normal {}",
                format_number(now),
                format_number(normal),
                format_percent(share),
                format_percent(expected_share)
            ),
            measured: vec![
                measured("errors/min", now, normal, None, sums.total),
                measured("error share", share, expected_share, Some(found.line), sums.total),
            ],
            started_unix_nano: self.share_began(Share::Errors, windows, &found),
        })
    }

    /// Whether its latencies are unusual.
    pub(crate) fn latency_shift(
        &mut self,
        windows: &WindowSums,
        is_active: bool,
    ) -> Option<Detection> {
        let found = self.slowness_detected(windows, is_active);
        if is_active && found.is_some() {
            self.sustained_until.latency_unix_nano = windows.at_unix_nano;
        }
        found
    }

    fn slowness_detected(&self, windows: &WindowSums, is_active: bool) -> Option<Detection> {
        let asked = [Share::Slow, Share::VerySlow, Share::Anomalies].into_iter();
        let found = asked.filter_map(|share| {
            let found = self.exceedance(share, windows, is_active)?;
            let is_slowness = share != Share::Anomalies || self.is_slower(windows, found.window);
            is_slowness.then_some((share, found))
        });
        // The first of the surest: that slow logs are many is easier to understand than that anomalies are.
        let (share, found) =
            found.reduce(
                |best, other| {
                    if other.1.confidence > best.1.confidence { other } else { best }
                },
            )?;
        let expected = self.baseline.expected();
        let counts = self.buckets.latencies(windows.at_unix_nano, WINDOWS[found.window]);
        let now = |quantile| quantile_place(&counts, quantile).map_or(0.0, latency_ms);
        let (p50, p95) = (now(0.5), now(0.95));
        let sums = &windows.sums[found.window];
        // More slow logs than expected, but none that is slow enough to be felt.
        let is_felt = p50 >= FELT_FACTOR * expected.p50_ms
            || p95 >= FELT_P95_FACTOR * expected.p95_ms
            || share == Share::Anomalies && self.slowdown(&counts).factor >= FELT_FACTOR;
        if !is_active && !is_felt {
            return None;
        }
        let anomalies = if share == Share::Anomalies {
            let now = sums.non_error_anomalies / sums.total;
            let normal = format_percent(expected.shares[Share::Anomalies]);
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
            started_unix_nano: self.share_began(share, windows, &found),
        })
    }

    /// Whether many anomalies of a window have to do with slowness.
    fn is_slower(&self, windows: &WindowSums, window: usize) -> bool {
        let sums = &windows.sums[window];
        let shares = &self.baseline.expected().shares;
        let is_more = |share: Share| {
            let (hits, total) = share.of(sums);
            share_deviance(hits, total, shares[share]) >= SLOWER_DEVIATIONS
        };
        let counts = || self.buckets.latencies(windows.at_unix_nano, WINDOWS[window]);
        is_more(Share::Slow)
            || is_more(Share::VerySlow)
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
            factor: LATENCY_BUCKET_GROWTH.powf(places),
            deviations: places / expected.deviation.max(1.0) * logs.sqrt(),
        }
    }

    /// The shortest of the windows that are surest of a share.
    fn exceedance(
        &self,
        share: Share,
        windows: &WindowSums,
        is_active: bool,
    ) -> Option<Exceedance> {
        if !self.is_known() {
            return None;
        }
        let sustained = &self.sustained_until;
        let held = match share {
            Share::Errors => sustained.errors_unix_nano,
            Share::Slow | Share::VerySlow | Share::Anomalies => sustained.latency_unix_nano,
        };
        let mut best: Option<Exceedance> = None;
        let count = windows_asked(share, windows, is_active);
        for (window, sums) in windows.sums.iter().enumerate().take(count) {
            // The last incident has accounted for what is in this window, and in all longer ones.
            if !is_active && windows.at_unix_nano - sums.nanos() < held {
                break;
            }
            let Some(found) = self.exceedance_in(share, window, sums, is_active) else { continue };
            if best.as_ref().is_none_or(|best| found.confidence > best.confidence) {
                best = Some(found);
            }
        }
        best
    }

    fn exceedance_in(
        &self,
        share: Share,
        window: usize,
        sums: &Sums,
        is_active: bool,
    ) -> Option<Exceedance> {
        let expected = self.baseline.expected();
        let (hits, total) = share.of(sums);
        let young = if expected.is_young() { YOUNG_FACTOR } else { 1.0 };
        let line = self.line(share, window, expected);
        let deviations = share_excess(hits, total, expected.shares[share]);
        let certain = self.certain_deviations(share, window, expected);
        let is_sure = hits >= share.effect_size_min().hits_min && deviations >= certain;
        let confidence = if is_sure && share_deviance(hits, total, line) >= BEYOND {
            Confidence::Certain
        } else if is_active && is_sustained(share, window, (hits, total), line) {
            Confidence::Sustained
        } else if hits >= POSSIBLE_HITS_MIN
            && deviations >= POSSIBLE * young
            && hits >= line * total
        {
            Confidence::Possible
        } else {
            return None;
        };
        Some(Exceedance { window, confidence, line })
    }

    /// The share from which on it matters: well above what is expected, and above what the service
    /// reached in health.
    fn line(&self, share: Share, window: usize, expected: &Expected) -> f64 {
        let effect = share.effect_size_min();
        let normal = expected.shares[share];
        let factor = if window >= FIVE_MINUTES { effect.factor_long } else { effect.factor };
        let ceiling = self.share_ceilings[share][window].limit(expected.is_young());
        let line = (normal * factor).max(normal + effect.excess).max(ceiling * CEILING_FACTOR);
        let young = if expected.is_young() { YOUNG_FACTOR } else { 1.0 };
        (line * young).min(LINE_MAX)
    }

    /// The standard deviations from what is expected that certainty takes: more for a service whose
    /// share was seen to stray further in health than chance explains.
    fn certain_deviations(&self, share: Share, window: usize, expected: &Expected) -> f64 {
        let young = if expected.is_young() { YOUNG_FACTOR } else { 1.0 };
        let certain = if share == Share::Errors { CERTAIN_ERRORS } else { CERTAIN_LATENCY };
        let seen = self.chance_ceilings[share][window].limit(expected.is_young());
        let restless = RESTLESS_FACTOR * (seen - RESTLESS_FROM).max(0.0);
        (certain * young).max(seen * CHANCE_FACTOR + restless)
    }

    /// The start of the first of those buckets above the line that follow each other without a
    /// break. Buckets with few logs are taken together.
    fn share_began(&self, share: Share, windows: &WindowSums, found: &Exceedance) -> i64 {
        let slow_from = self.baseline.expected().slow_from;
        let seconds = windows.at_unix_nano.div_euclid(NANOS);
        let is_short = found.window < FIVE_MINUTES;
        let window_seconds = if is_short { 0 } else { WINDOWS[found.window] * BUCKET_SECONDS };
        let mut began = seconds - window_seconds;
        let (mut hits, mut total) = (0.0, 0.0);
        for bucket in self.buckets.newest_first() {
            let (bucket_hits, bucket_total) = share.of(&Sums::of(bucket, slow_from));
            hits += bucket_hits;
            total += bucket_total;
            if bucket_hits > 0.0 && hits >= found.line * total {
                began = began.min(bucket.start_seconds);
            }
            // Too few to say that it was over here: the next older bucket joins in.
            if total < LOGS_MIN {
                continue;
            }
            if hits < found.line * total {
                break;
            }
            (hits, total) = (0.0, 0.0);
        }
        began * NANOS
    }
}

/// How much slower latencies are than expected.
struct Slowdown {
    /// So many times, by the geometric mean.
    factor: f64,
    /// How far from what is expected that is, in standard deviations.
    deviations: f64,
}

/// How many of the windows are looked at, from the shortest. What fires is kept up by the last minute,
/// or as long as it takes to have some logs: a long window would keep it up long after it is over.
fn windows_asked(share: Share, windows: &WindowSums, is_active: bool) -> usize {
    if !is_active {
        return WINDOWS.len();
    }
    let has_logs = |sums: &Sums| share.of(sums).1 >= LOGS_MIN;
    let first = windows.sums.iter().skip(ONE_MINUTE).position(has_logs);
    first.map_or(WINDOWS.len(), |after_minute| ONE_MINUTE + after_minute + 1)
}

/// Whether what fires goes on: by the shortest window that has enough logs, from a minute on. Errors
/// are clear sooner than latencies, and half a minute is enough of them.
fn is_sustained(share: Share, window: usize, (hits, total): (f64, f64), line: f64) -> bool {
    let shortest = if share == Share::Errors { HALF_MINUTE } else { ONE_MINUTE };
    let has_logs = total >= LOGS_MIN;
    (shortest..QUARTER_HOUR).contains(&window)
        && has_logs
        && hits >= SUSTAINED_HITS_MIN
        && hits >= line * SUSTAINED_SHARE * total
}
