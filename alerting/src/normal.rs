//! What is normal for one service, learnt from its own past: rates, shares and latencies in rows of
//! five minutes, eight days long.
//!
//! Nothing is learnt until it is five minutes old, and nothing while an incident says that it is not
//! normal, so that a fault does not excuse itself. After six hours it is the new normal.
//!
//! A level is taken from the last hour and the same time of earlier days of the same kind, working
//! days or weekends; a verdict must hold against each that is known. How restless a service is shows
//! in its ceilings: the highest levels that were credibly reached in a week of health.

use std::collections::VecDeque;

use crate::{
    statistics::median,
    window::{BUCKET_SECONDS, LATENCY_BUCKETS, Row, latency_place, mean_place, quantile_place},
};

/// Seconds of a row.
pub(crate) const SPAN_SECONDS: i64 = 300;
/// Rows of a day.
pub(crate) const DAY_SPANS: i64 = 86_400 / SPAN_SECONDS;
const SPANS_MAX: usize = 8 * DAY_SPANS as usize;
/// Seconds until something is learnt.
pub(crate) const LEARN_DELAY_SECONDS: i64 = 300;
/// Rows that make "recently".
const RECENT_SPANS: usize = 12;
/// Rows to either side of the same time of another day: of a rate, and of a share.
const RATE_REACH: i64 = 3;
const SHARE_REACH: i64 = 6;
/// Logs that the whole day's share is worth where a time of day has few.
const SHARE_PRIOR_LOGS: f64 = 200.0;
/// How much of the latencies of a row are left a row later: half in twelve hours.
const LATENCY_FADE: f32 = 0.995_2;
/// Ten-minute slots that a ceiling waits before it counts: three hours.
const SLOTS: usize = 18;
const SLOT_SECONDS: i64 = 600;
const CEILING_DAYS: usize = 8;
const DAY_SECONDS: i64 = 86_400;

/// Shares that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    Errors,
    Slow,
    VerySlow,
    /// Anomalies that are no errors.
    Odd,
}

impl Share {
    pub(crate) const ALL: [Self; 4] = [Self::Errors, Self::Slow, Self::VerySlow, Self::Odd];
}

/// What is not to be learnt now, as it is not normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Abnormal {
    pub(crate) errors: bool,
    pub(crate) latency: bool,
    pub(crate) volume: bool,
}

impl Abnormal {
    /// Whether anomalies are to be expected.
    pub(crate) const fn is_odd(self) -> bool {
        self.errors || self.latency
    }
}

/// Five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Span {
    index: i64,
    total: f32,
    timed: f32,
    /// By [`Share`].
    hits: [f32; 4],
    abnormal: Abnormal,
}

impl Span {
    fn of(&self, share: Share) -> Option<(f64, f64)> {
        let (hits, total, is_abnormal) = match share {
            Share::Errors => (self.hits[0], self.total, self.abnormal.errors),
            Share::Slow => (self.hits[1], self.timed, self.abnormal.latency),
            Share::VerySlow => (self.hits[2], self.timed, self.abnormal.latency),
            Share::Odd => (self.hits[3], self.total, self.abnormal.is_odd()),
        };
        (!is_abnormal).then_some((f64::from(hits), f64::from(total)))
    }
}

/// What is usual at this time.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Usual {
    /// Rows learnt so far.
    pub(crate) spans: usize,
    /// Logs a second: in the middle, and what must be fallen below or exceeded at least.
    pub(crate) rate: f64,
    pub(crate) rate_low: f64,
    pub(crate) rate_high: f64,
    /// Earlier days of this kind that are known at this time.
    pub(crate) days: usize,
    /// Whether the rates are those of the last hour, with what happened at this time of the other
    /// kind of day: on a first weekend, once it is an hour old.
    pub(crate) is_guess: bool,
    /// By [`Share`].
    pub(crate) shares: [f64; 4],
    /// Errors a second.
    pub(crate) errors_per_second: f64,
    /// Latencies above these places are slow, and very slow.
    pub(crate) slow_from: [usize; 2],
    /// Milliseconds: median, and 95 in a hundred are below.
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    /// Mean and standard deviation of the latencies' places.
    pub(crate) latency_places: (f64, f64),
}

impl Usual {
    /// Less than a day is known.
    pub(crate) const fn is_young(&self) -> bool {
        self.spans < DAY_SPANS as usize - 24
    }
}

/// The highest level that was credibly reached in health, over a week. What is fresh waits: a slow
/// rise must not raise it under its own feet.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Ceiling {
    slots: [f32; SLOTS],
    newest_slot: i64,
    days: [f32; CEILING_DAYS],
    newest_day: i64,
}

impl Ceiling {
    /// While a service is young, what is ten minutes old counts already.
    pub(crate) fn limit(&self, is_young: bool) -> f64 {
        let days = self.days.iter().copied().fold(0.0, f32::max);
        if !is_young {
            return days.into();
        }
        let newest = self.newest_slot.rem_euclid(SLOTS as i64) as usize;
        let fresh = self.slots.iter().enumerate().filter(|(place, _)| *place != newest);
        fresh.map(|(_, level)| *level).fold(days, f32::max).into()
    }

    pub(crate) fn learn(&mut self, seconds: i64, level: f64) {
        let slot = seconds.div_euclid(SLOT_SECONDS);
        if slot > self.newest_slot {
            for step in (self.newest_slot + 1..=slot).rev().take(SLOTS) {
                let place = step.rem_euclid(SLOTS as i64) as usize;
                self.commit(seconds, self.slots[place]);
                self.slots[place] = 0.0;
            }
            self.newest_slot = slot;
        }
        let place = &mut self.slots[slot.rem_euclid(SLOTS as i64) as usize];
        *place = place.max(level as f32);
    }

    fn commit(&mut self, seconds: i64, level: f32) {
        let day = seconds.div_euclid(DAY_SECONDS);
        for step in (self.newest_day + 1..=day).rev().take(CEILING_DAYS) {
            self.days[step.rem_euclid(CEILING_DAYS as i64) as usize] = 0.0;
        }
        self.newest_day = self.newest_day.max(day);
        let place = &mut self.days[day.rem_euclid(CEILING_DAYS as i64) as usize];
        *place = place.max(level);
    }

    /// What waits belonged to a fault.
    pub(crate) fn forget_fresh(&mut self) {
        self.slots = [0.0; SLOTS];
    }
}

/// What is normal for a service.
#[derive(Debug, Clone)]
pub(crate) struct Normal {
    spans: VecDeque<Span>,
    open: Span,
    /// Start of the first bucket that is not learnt yet; none before the first log.
    next_seconds: Option<i64>,
    latencies: Vec<f32>,
    usual: Usual,
}

impl Default for Normal {
    fn default() -> Self {
        Self {
            spans: VecDeque::new(),
            open: Span::default(),
            next_seconds: None,
            latencies: vec![0.0; LATENCY_BUCKETS],
            usual: Usual { slow_from: [LATENCY_BUCKETS; 2], ..Usual::default() },
        }
    }
}

impl Normal {
    pub(crate) const fn usual(&self) -> &Usual {
        &self.usual
    }

    /// The first bucket that is still to be learnt.
    pub(crate) const fn next_seconds(&self) -> Option<i64> {
        self.next_seconds
    }

    /// Begins with the next whole row after a first log.
    pub(crate) fn begin(&mut self, first_seconds: i64) {
        let start = (first_seconds.div_euclid(SPAN_SECONDS) + 1) * SPAN_SECONDS;
        self.open = Span { index: start / SPAN_SECONDS, ..Span::default() };
        self.next_seconds = Some(start);
    }

    /// Learns a bucket; none if nothing was logged in it.
    pub(crate) fn learn(&mut self, start_seconds: i64, row: Option<&Row>, abnormal: Abnormal) {
        let index = start_seconds.div_euclid(SPAN_SECONDS);
        if index != self.open.index {
            self.close();
            self.open = Span { index, ..Span::default() };
        }
        self.next_seconds = Some(start_seconds + BUCKET_SECONDS);
        let mark = &mut self.open.abnormal;
        mark.errors |= abnormal.errors;
        mark.latency |= abnormal.latency;
        mark.volume |= abnormal.volume;
        let Some(row) = row else { return };
        self.open.total += row.total as f32;
        self.open.hits[0] += row.errors as f32;
        self.open.hits[3] += row.odd() as f32;
        for &(bucket, count) in &row.latencies {
            let (place, count) = (latency_place(bucket), count as f32);
            self.open.timed += count;
            for (hits, from) in self.open.hits[1..3].iter_mut().zip(self.usual.slow_from) {
                *hits += if place > from { count } else { 0.0 };
            }
            if !abnormal.latency {
                self.latencies[place] += count;
            }
        }
    }

    /// Errors and logs from a moment on, as far as they are learnt.
    pub(crate) fn errors_since(&self, seconds: i64) -> (f64, f64) {
        let spans = self.range(seconds.div_euclid(SPAN_SECONDS)..i64::MAX).chain([&self.open]);
        let add = |sum: (f64, f64), span: &Span| {
            (sum.0 + f64::from(span.hits[0]), sum.1 + f64::from(span.total))
        };
        spans.fold((0.0, 0.0), add)
    }

    /// The latency below which a share of all usually lies, milliseconds.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        let place = quantile_place(&self.latencies, quantile);
        place.map_or(0.0, crate::window::latency_ms)
    }

    fn close(&mut self) {
        self.spans.push_back(self.open);
        if self.spans.len() > SPANS_MAX {
            self.spans.pop_front();
        }
        self.latencies.iter_mut().for_each(|count| *count *= LATENCY_FADE);
        // What is learnt now is asked for after the delay.
        self.usual = self.usual_at(self.open.index + 1 + LEARN_DELAY_SECONDS / SPAN_SECONDS);
    }

    fn usual_at(&self, index: i64) -> Usual {
        let mut recent: Vec<f64> = self
            .spans
            .iter()
            .rev()
            .filter(|span| !span.abnormal.volume)
            .take(RECENT_SPANS)
            .map(|span| f64::from(span.total) / SPAN_SECONDS as f64)
            .collect();
        let rate = median(&mut recent);
        let (mut lows, mut highs) = self.rates_of_days(index);
        let days = lows.len();
        let guess = if days == 0 { self.change_on_other_days(index) } else { None };
        if let Some((fall, rise)) = guess {
            (lows, highs) = (vec![rate * fall], vec![rate * rise]);
        }
        let is_known = !lows.is_empty();
        let low = if days >= 3 { median(&mut lows) } else { least(&lows) };
        let high = if days >= 3 { median(&mut highs) } else { most(&highs) };
        let place = |quantile| quantile_place(&self.latencies, quantile);
        let milliseconds = |quantile| place(quantile).map_or(0.0, crate::window::latency_ms);
        let errors = self.pooled(Share::Errors, i64::MIN..i64::MAX);
        let known = self.spans.iter().filter(|span| !span.abnormal.errors).count();
        Usual {
            spans: self.spans.len(),
            rate,
            rate_low: if is_known { rate.min(low) } else { rate },
            rate_high: if is_known { rate.max(high) } else { rate },
            days,
            is_guess: guess.is_some(),
            shares: Share::ALL.map(|share| self.share_at(share, index)),
            errors_per_second: errors.0 / (known.max(1) as f64 * SPAN_SECONDS as f64),
            slow_from: [0.9, 0.99].map(|q| place(q).unwrap_or(LATENCY_BUCKETS)),
            p50_ms: milliseconds(0.5),
            p95_ms: milliseconds(0.95),
            latency_places: mean_place(&self.latencies).unwrap_or_default(),
        }
    }

    /// By how much the rate falls and rises around this time on the day before, which was of another
    /// kind; none unless the last two hours are all of this kind.
    fn change_on_other_days(&self, index: i64) -> Option<(f64, f64)> {
        let is_settled = is_weekend(index - 2 * RECENT_SPANS as i64) == is_weekend(index);
        let same = index - DAY_SPANS;
        if !is_settled || is_weekend(same) == is_weekend(index) {
            return None;
        }
        let (low, high) = self.extremes(same - SHARE_REACH..same + SHARE_REACH + 1)?;
        (low > 0.0).then(|| (low / high, high / low))
    }

    /// About the lowest and the highest rate of some rows.
    fn extremes(&self, indices: std::ops::Range<i64>) -> Option<(f64, f64)> {
        let spans = self.range(indices).filter(|span| !span.abnormal.volume);
        let mut rates: Vec<f64> =
            spans.map(|span| f64::from(span.total) / SPAN_SECONDS as f64).collect();
        rates.sort_unstable_by(f64::total_cmp);
        (rates.len() >= 3).then(|| (rates[1], rates[rates.len() - 2]))
    }

    /// About the lowest and highest rates around this time on each earlier day of this kind.
    fn rates_of_days(&self, index: i64) -> (Vec<f64>, Vec<f64>) {
        let days = (1..=7).map(|day| index - day * DAY_SPANS);
        let alike = days.filter(|same| is_weekend(*same) == is_weekend(index));
        let near = |same: i64| self.extremes(same - RATE_REACH..same + RATE_REACH + 1);
        alike.filter_map(near).unzip()
    }

    /// The share that is usual now: of the last day, and not below what it was at this time of day.
    fn share_at(&self, share: Share, index: i64) -> f64 {
        let (hits, total) = self.pooled(share, index - DAY_SPANS - 24..i64::MAX);
        let day = (hits + 0.5) / (total + 10.0).max(100.0);
        let mut highest = day;
        for back in 1..=7 {
            let same = index - back * DAY_SPANS;
            let (hits, total) = self.pooled(share, same - SHARE_REACH..same + SHARE_REACH + 1);
            let prior = SHARE_PRIOR_LOGS;
            highest = highest.max((hits + day * prior) / (total + prior));
        }
        highest
    }

    fn pooled(&self, share: Share, indices: std::ops::Range<i64>) -> (f64, f64) {
        let spans = self.range(indices).filter_map(|span| span.of(share));
        spans.fold((0.0, 0.0), |sum, (hits, total)| (sum.0 + hits, sum.1 + total))
    }

    fn range(&self, indices: std::ops::Range<i64>) -> impl Iterator<Item = &Span> {
        let from = self.spans.partition_point(|span| span.index < indices.start);
        let to = self.spans.partition_point(|span| span.index < indices.end);
        self.spans.range(from..to.max(from))
    }
}

/// Whether a row lies on a Saturday or Sunday, UTC. 1970-01-01 was a Thursday.
fn is_weekend(index: i64) -> bool {
    matches!((index.div_euclid(DAY_SPANS) + 4).rem_euclid(7), 0 | 6)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::MAX, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-05T00:00:00Z, a Monday.
    const MONDAY: i64 = 1_767_571_200;

    fn learn_hours(normal: &mut Normal, from: i64, hours: i64, total: u64, errors: u64) {
        for start in (from..from + hours * 3_600).step_by(10) {
            let latencies = vec![(10, total)];
            let row = Row { start_seconds: start, total, errors, latencies, ..Row::default() };
            normal.learn(start, Some(&row), Abnormal::default());
        }
    }

    #[test]
    fn rates_and_shares_are_those_of_the_past() {
        let mut normal = Normal::default();
        normal.begin(MONDAY - 1);
        learn_hours(&mut normal, MONDAY, 25, 100, 2);
        let usual = normal.usual();
        assert!((usual.rate - 10.0).abs() < 0.1 && (usual.rate_low - 10.0).abs() < 0.1);
        assert!((usual.shares[0] - 0.02).abs() < 0.001, "{}", usual.shares[0]);
        assert_eq!((usual.days, usual.is_young()), (1, false));
    }

    #[test]
    fn a_first_weekend_has_no_days_to_compare() {
        let mut normal = Normal::default();
        normal.begin(MONDAY + 3 * DAY_SECONDS - 1);
        learn_hours(&mut normal, MONDAY + 3 * DAY_SECONDS, 50, 100, 0);
        assert_eq!(normal.usual().days, 0);
    }

    #[test]
    fn what_is_abnormal_teaches_nothing() {
        let mut normal = Normal::default();
        normal.begin(MONDAY - 1);
        learn_hours(&mut normal, MONDAY, 3, 100, 1);
        let from = MONDAY + 3 * 3_600;
        for start in (from..from + 3_600).step_by(10) {
            let row = Row { start_seconds: start, total: 100, errors: 90, ..Row::default() };
            normal.learn(start, Some(&row), Abnormal { errors: true, ..Abnormal::default() });
        }
        assert!(normal.usual().shares[0] < 0.012, "{}", normal.usual().shares[0]);
    }

    #[test]
    fn a_ceiling_waits_and_fades() {
        let mut ceiling = Ceiling::default();
        ceiling.learn(MONDAY, 0.3);
        assert_eq!(ceiling.limit(false), 0.0);
        ceiling.learn(MONDAY + 4 * 3_600, 0.1);
        assert!((ceiling.limit(false) - 0.3).abs() < 1e-6);
        ceiling.learn(MONDAY + 10 * DAY_SECONDS, 0.1);
        assert!(ceiling.limit(false) < 0.3);
    }
}
