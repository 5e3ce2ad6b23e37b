//! What is expected of one service, learnt from its own past: rates, ratios and latencies in rows
//! of five minutes, eight days long.
//!
//! Nothing is learnt until it is five minutes old, and nothing while an incident says that it is
//! not normal, so that a fault does not excuse itself. After six hours it is the new baseline.
//!
//! A level is taken from the last hour and the same time of earlier days of the same kind, working
//! days or weekends; a detection must hold against each that is known.

use std::{
    collections::VecDeque,
    ops::{Add as _, Range},
    time::Duration,
};

use logweir_core::{latency::BUCKETS, timestamp::Timestamp};

use super::{
    ratio::{PerRatio, Ratio, Tally},
    statistics::median,
    window::{
        BUCKET_WIDTH, Bucket, MEDIAN, MeanPlace, P95, SlowFrom, latency_ms, latency_place,
        mean_place, quantile_place,
    },
};

/// Days back to which the same time is looked up: one whole week, with a day of each name.
const WEEK_DAYS: i64 = 7;
/// The place in a week, from 0 for Sunday, of 1970-01-01, which was a Thursday.
const EPOCH_WEEKDAY: i64 = 4;
const SUNDAY: i64 = 0;
const SATURDAY: i64 = 6;
/// Length of a row, seconds.
pub(crate) const SPAN_SECONDS: i64 = 300;
/// Rows of a day.
pub(crate) const DAY_SPANS: i64 = 86_400 / SPAN_SECONDS;
const SPANS_MAX: usize = 8 * DAY_SPANS as usize;
/// The time until something is learnt: a fault is found within minutes, and is then kept out.
pub(crate) const LEARN_DELAY: Duration = Duration::from_secs(300);
/// The same in rows.
const LEARN_DELAY_SPANS: i64 = LEARN_DELAY.as_secs() as i64 / SPAN_SECONDS;
/// Rows that make "recently": an hour.
const RECENT_SPANS: usize = 12;
/// Rows of two hours: what is learnt of the last hour lags by another one at most.
const TWO_HOURS_SPANS: i64 = 2 * RECENT_SPANS as i64;
/// Rows to either side of the same time of another day: of a rate, and of a ratio.
const RATE_REACH: i64 = 3;
const RATIO_REACH: i64 = 6;
/// Logs that the whole day's ratio is worth where a time of day has few.
const RATIO_PRIOR_LOGS: f64 = 200.0;
/// How much of the latencies of a row are left a row later: half in twelve hours, which are 144
/// rows.
const LATENCY_FADE: f32 = 0.995_2;
/// Earlier days of the same kind from which on one that went wrong is outvoted.
const MEDIAN_DAYS_MIN: usize = 3;
/// A service counts as known so many rows, two hours, before its first day is full.
const DAY_SPANS_LACKING: usize = 24;
/// Rows around a time without which its lowest and highest rates say nothing: of each the extreme
/// one is left out.
const EXTREMES_MIN: usize = 3;
/// A ratio of so few logs is taken as if it were of more, half a log of them a hit: without any hit
/// the next one must not be infinitely surprising.
const RATIO_HITS_EXTRA: f64 = 0.5;
const RATIO_LOGS_EXTRA: f64 = 10.0;
const RATIO_LOGS_MIN: f64 = 100.0;
/// Quantiles of the latencies above which a log counts as slow, and as very slow.
const SLOW_QUANTILE: f64 = 0.9;
const VERY_SLOW_QUANTILE: f64 = 0.99;

/// What is not to be learnt now, since an incident says that it is unusual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Abnormal {
    pub(crate) errors: bool,
    pub(crate) latency: bool,
    pub(crate) volume: bool,
}

impl Abnormal {
    /// Whether anomalies are to be expected: errors and slow logs are anomalies.
    pub(crate) const fn explains_anomalies(self) -> bool {
        self.errors || self.latency
    }
}

/// A row of the baseline: what was logged in five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Span {
    /// Number of the row since 1970.
    index: i64,
    /// All logs.
    total: f32,
    /// Logs with a latency.
    timed: f32,
    /// Logs that count for each ratio.
    hits: PerRatio<f32>,
    /// What was abnormal at any time in it.
    abnormal: Abnormal,
}

impl Span {
    /// Logs that count for a ratio and logs of which they are one; none if the row was abnormal.
    fn of(&self, ratio: Ratio) -> Option<Tally> {
        let (total, is_abnormal) = match ratio {
            Ratio::Errors => (self.total, self.abnormal.errors),
            Ratio::Slow | Ratio::VerySlow => (self.timed, self.abnormal.latency),
            Ratio::Anomalies => (self.total, self.abnormal.explains_anomalies()),
        };
        let tally = Tally { hits: self.hits[ratio].into(), total: total.into() };
        (!is_abnormal).then_some(tally)
    }
}

/// What is expected at this time.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Expected {
    /// Rows learnt so far.
    pub(crate) spans: usize,
    /// Logs a second in the last hour.
    pub(crate) rate: f64,
    /// Logs a second below which it is unusual, by the last hour and by earlier days.
    pub(crate) rate_low: f64,
    /// Logs a second above which it is unusual, by the last hour and by earlier days.
    pub(crate) rate_high: f64,
    /// Earlier days of this kind that are known at this time.
    pub(crate) days: usize,
    /// Whether the rates are those of the last hour, with what happened at this time of the other
    /// kind of day: on a first weekend, once it is an hour old.
    pub(crate) is_guess: bool,
    /// The expected value of each ratio, 0 to 1.
    pub(crate) ratios: PerRatio<f64>,
    /// Errors a second.
    pub(crate) errors_per_second: f64,
    /// Latencies above these places are slow, and very slow.
    pub(crate) slow_from: SlowFrom,
    /// Median latency, milliseconds.
    pub(crate) p50_ms: f64,
    /// The latency below which 95 in a hundred lie, milliseconds.
    pub(crate) p95_ms: f64,
    /// Mean and deviation of the latencies' places.
    pub(crate) latency_places: MeanPlace,
}

impl Expected {
    /// Less than a day is known.
    pub(crate) const fn is_young(&self) -> bool {
        self.spans < DAY_SPANS as usize - DAY_SPANS_LACKING
    }
}

/// The past of a service, and what it lets expect.
#[derive(Debug, Clone)]
pub(crate) struct Baseline {
    /// Rows that are complete, ascending.
    spans: VecDeque<Span>,
    /// The row that is being filled.
    open: Span,
    /// Start of the first bucket that is not learnt yet; none before the first log.
    next: Option<Timestamp>,
    /// Logs by latency place, faded with age.
    latencies: Vec<f32>,
    expected: Expected,
}

impl Default for Baseline {
    fn default() -> Self {
        // Until latencies are known none is slow.
        let slow_from = SlowFrom { slow: BUCKETS, very_slow: BUCKETS };
        Self {
            spans: VecDeque::new(),
            open: Span::default(),
            next: None,
            latencies: vec![0.0; BUCKETS],
            expected: Expected { slow_from, ..Expected::default() },
        }
    }
}

impl Baseline {
    pub(crate) const fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The first bucket that is still to be learnt.
    pub(crate) const fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// Begins with the next whole row after a first log.
    pub(crate) fn begin(&mut self, first: Timestamp) {
        // A row that began before the first log would show too low a rate.
        let index = span_index(first) + 1;
        self.open = Span { index, ..Span::default() };
        self.next = Some(Timestamp::from_unix_seconds(index * SPAN_SECONDS));
    }

    /// Learns a bucket; none if nothing was logged in it.
    pub(crate) fn learn(&mut self, start: Timestamp, bucket: Option<&Bucket>, abnormal: Abnormal) {
        let index = span_index(start);
        // What is expected is computed once in a row, and not with each of its buckets: this is
        // most of what learning costs.
        if index != self.open.index {
            self.close();
            self.open = Span { index, ..Span::default() };
        }
        self.next = Some(start + BUCKET_WIDTH);
        let mark = &mut self.open.abnormal;
        mark.errors |= abnormal.errors;
        mark.latency |= abnormal.latency;
        mark.volume |= abnormal.volume;
        let Some(bucket) = bucket else { return };
        let open = &mut self.open;
        open.total += bucket.total as f32;
        open.hits[Ratio::Errors] += bucket.errors as f32;
        open.hits[Ratio::Anomalies] += bucket.non_error_anomalies() as f32;
        for &(latency, count) in &bucket.latencies {
            let (place, count) = (latency_place(latency), count as f32);
            open.timed += count;
            if place > self.expected.slow_from.slow {
                open.hits[Ratio::Slow] += count;
            }
            if place > self.expected.slow_from.very_slow {
                open.hits[Ratio::VerySlow] += count;
            }
            // Counted as slow in any case, but no latency of a fault may move what slow is.
            if !abnormal.latency {
                self.latencies[place] += count;
            }
        }
    }

    /// Errors and logs from a moment on, as far as they are learnt.
    pub(crate) fn errors_since(&self, time: Timestamp) -> Tally {
        let spans = self.range(span_index(time)..i64::MAX).chain([&self.open]);
        // Abnormal rows included: a fault burns the error budget like everything else.
        let tally =
            |span: &Span| Tally { hits: span.hits[Ratio::Errors].into(), total: span.total.into() };
        spans.map(tally).fold(Tally::default(), Tally::add)
    }

    /// The latency below which a part of all logs, `quantile` from 0 to 1, is expected to lie,
    /// milliseconds.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        let place = quantile_place(&self.latencies, quantile);
        place.map_or(0.0, latency_ms)
    }

    /// Completes the open row, and computes anew what is expected.
    fn close(&mut self) {
        self.spans.push_back(self.open);
        if self.spans.len() > SPANS_MAX {
            self.spans.pop_front();
        }
        self.latencies.iter_mut().for_each(|count| *count *= LATENCY_FADE);
        // What is learnt now is asked for after the delay.
        self.expected = self.expected_at(self.open.index + 1 + LEARN_DELAY_SPANS);
    }

    fn expected_at(&self, index: i64) -> Expected {
        let mut recent: Vec<f64> = self
            .spans
            .iter()
            .rev()
            .filter(|span| !span.abnormal.volume)
            .take(RECENT_SPANS)
            .map(|span| f64::from(span.total) / SPAN_SECONDS as f64)
            .collect();
        // The median, as a burst of a few minutes in the last hour says nothing about the next.
        let rate = median(&mut recent);
        let (mut lows, mut highs) = self.rates_of_days(index);
        let days = lows.len();
        let guess = if days == 0 { self.change_on_other_days(index) } else { None };
        // A first weekend: nothing is known of its level, but the day's course is much the same on
        // any day.
        if let Some((fall, rise)) = guess {
            (lows, highs) = (vec![rate * fall], vec![rate * rise]);
        }
        // With one or two days either may have been odd: it must be unusual for both. From three on
        // the middle one counts, so that one bad day does not excuse the next.
        let is_known = !lows.is_empty();
        let low = if days >= MEDIAN_DAYS_MIN { median(&mut lows) } else { least(&lows) };
        let high = if days >= MEDIAN_DAYS_MIN { median(&mut highs) } else { most(&highs) };
        let place = |quantile| quantile_place(&self.latencies, quantile);
        let milliseconds = |quantile| place(quantile).map_or(0.0, latency_ms);
        let errors = self.pooled(Ratio::Errors, i64::MIN..i64::MAX);
        // Abnormal rows are in neither: their time must not count either.
        let known = self.spans.iter().filter(|span| !span.abnormal.errors).count();
        Expected {
            spans: self.spans.len(),
            rate,
            rate_low: if is_known { rate.min(low) } else { rate },
            rate_high: if is_known { rate.max(high) } else { rate },
            days,
            is_guess: guess.is_some(),
            ratios: PerRatio(Ratio::ALL.map(|ratio| self.ratio_at(ratio, index))),
            errors_per_second: errors.hits / (known.max(1) as f64 * SPAN_SECONDS as f64),
            slow_from: SlowFrom {
                slow: place(SLOW_QUANTILE).unwrap_or(BUCKETS),
                very_slow: place(VERY_SLOW_QUANTILE).unwrap_or(BUCKETS),
            },
            p50_ms: milliseconds(MEDIAN),
            p95_ms: milliseconds(P95),
            latency_places: mean_place(&self.latencies).unwrap_or_default(),
        }
    }

    /// By how much the rate falls and rises around this time on the day before, which was of
    /// another kind; none unless the last two hours are all of this kind.
    fn change_on_other_days(&self, index: i64) -> Option<(f64, f64)> {
        // While the last hours lie on both kinds of day the hour's rate is of neither.
        let is_settled = is_weekend(index - TWO_HOURS_SPANS) == is_weekend(index);
        let same = index - DAY_SPANS;
        if !is_settled || is_weekend(same) == is_weekend(index) {
            return None;
        }
        let (low, high) = self.extremes(same - RATIO_REACH..same + RATIO_REACH + 1)?;
        (low > 0.0).then(|| (low / high, high / low))
    }

    /// About the lowest and the highest rate of some rows.
    fn extremes(&self, indices: Range<i64>) -> Option<(f64, f64)> {
        // The second lowest and highest: one restart within half an hour is no level.
        let spans = self.range(indices).filter(|span| !span.abnormal.volume);
        let mut rates: Vec<f64> =
            spans.map(|span| f64::from(span.total) / SPAN_SECONDS as f64).collect();
        rates.sort_unstable_by(f64::total_cmp);
        let second = 1;
        let second_last = rates.len().checked_sub(2)?;
        (rates.len() >= EXTREMES_MIN).then(|| (rates[second], rates[second_last]))
    }

    /// About the lowest and highest rates around this time on each earlier day of this kind.
    fn rates_of_days(&self, index: i64) -> (Vec<f64>, Vec<f64>) {
        let days = (1..=WEEK_DAYS).map(|day| index - day * DAY_SPANS);
        let alike = days.filter(|same| is_weekend(*same) == is_weekend(index));
        let near = |same: i64| self.extremes(same - RATE_REACH..same + RATE_REACH + 1);
        alike.filter_map(near).unzip()
    }

    /// The ratio that is expected now: that of the last day and two hours, and not below what it
    /// was at this time of day.
    fn ratio_at(&self, ratio: Ratio, index: i64) -> f64 {
        let last_day = index - DAY_SPANS - TWO_HOURS_SPANS..i64::MAX;
        let tally = self.pooled(ratio, last_day);
        let day =
            (tally.hits + RATIO_HITS_EXTRA) / (tally.total + RATIO_LOGS_EXTRA).max(RATIO_LOGS_MIN);
        // The highest of a week: what is usual at some time of some day, such as the errors of a
        // nightly job, is no surprise at that time.
        let mut highest = day;
        for back in 1..=WEEK_DAYS {
            let same = index - back * DAY_SPANS;
            let tally = self.pooled(ratio, same - RATIO_REACH..same + RATIO_REACH + 1);
            let prior = RATIO_PRIOR_LOGS;
            // Where the hour has few logs the day's ratio counts for most of it.
            highest = highest.max((tally.hits + day * prior) / (tally.total + prior));
        }
        highest
    }

    /// Logs that count for a ratio and logs of which they are one, over the rows that were healthy.
    fn pooled(&self, ratio: Ratio, indices: Range<i64>) -> Tally {
        let spans = self.range(indices).filter_map(|span| span.of(ratio));
        spans.fold(Tally::default(), Tally::add)
    }

    /// The complete rows with these numbers.
    fn range(&self, indices: Range<i64>) -> impl Iterator<Item = &Span> {
        let from = self.spans.partition_point(|span| span.index < indices.start);
        let to = self.spans.partition_point(|span| span.index < indices.end);
        self.spans.range(from..to.max(from))
    }
}

/// The number of the row that a moment lies in.
fn span_index(time: Timestamp) -> i64 {
    time.as_unix_seconds().div_euclid(SPAN_SECONDS)
}

/// Whether a row lies on a Saturday or Sunday, UTC.
fn is_weekend(index: i64) -> bool {
    let weekday = (index.div_euclid(DAY_SPANS) + EPOCH_WEEKDAY).rem_euclid(WEEK_DAYS);
    matches!(weekday, SUNDAY | SATURDAY)
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
    const MONDAY: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn learn_hours(baseline: &mut Baseline, from: Timestamp, hours: u32, total: u64, errors: u64) {
        for start in (0..360 * hours).map(|bucket| from + BUCKET_WIDTH * bucket) {
            let latencies = vec![(10, total)];
            let row = Bucket { start, total, errors, latencies, ..Bucket::default() };
            baseline.learn(start, Some(&row), Abnormal::default());
        }
    }

    #[test]
    fn rates_and_ratios_are_those_of_the_past() {
        let mut baseline = Baseline::default();
        baseline.begin(MONDAY.previous());
        learn_hours(&mut baseline, MONDAY, 25, 100, 2);
        let expected = baseline.expected();
        assert!((expected.rate - 10.0).abs() < 0.1 && (expected.rate_low - 10.0).abs() < 0.1);
        assert!(
            (expected.ratios[Ratio::Errors] - 0.02).abs() < 0.001,
            "{}",
            expected.ratios[Ratio::Errors]
        );
        assert_eq!((expected.days, expected.is_young()), (1, false));
    }

    #[test]
    fn a_first_weekend_has_no_days_to_compare() {
        let mut baseline = Baseline::default();
        baseline.begin((MONDAY + 72 * HOUR).previous());
        learn_hours(&mut baseline, MONDAY + 72 * HOUR, 50, 100, 0);
        assert_eq!(baseline.expected().days, 0);
    }

    #[test]
    fn what_is_abnormal_teaches_nothing() {
        let mut baseline = Baseline::default();
        baseline.begin(MONDAY.previous());
        learn_hours(&mut baseline, MONDAY, 3, 100, 1);
        let from = MONDAY + 3 * HOUR;
        for start in (0..360).map(|bucket| from + BUCKET_WIDTH * bucket) {
            let row = Bucket { start, total: 100, errors: 90, ..Bucket::default() };
            baseline.learn(start, Some(&row), Abnormal { errors: true, ..Abnormal::default() });
        }
        assert!(
            baseline.expected().ratios[Ratio::Errors] < 0.012,
            "{}",
            baseline.expected().ratios[Ratio::Errors]
        );
    }
}
