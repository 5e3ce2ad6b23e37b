//! Counts over time, whatever tables they come from: how wide the stored buckets are, which of them
//! answer a query, and the series and heatmaps that add up from them.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    hash::Hash,
};

use logweir_core::{latency::percentile, record::Level, timestamp::NANOS_PER_SECOND};

use crate::{
    AggregatePoint, AggregateSeries, HeatmapCell, LatencySummary, StorageError,
    histogram::Histogram,
    query::{AggregateQuery, CELLS_MAX, POINTS_MAX, SERIES_MAX, TimeRange},
};

/// The two widths of stored buckets.
pub(crate) const FINE_SECONDS: i64 = 10;
pub(crate) const HOUR_SECONDS: i64 = 3_600;

/// Start of the bucket that a time falls into.
pub(crate) const fn bucket_start(time_unix_nano: i64, width_seconds: i64) -> i64 {
    time_unix_nano.div_euclid(NANOS_PER_SECOND).div_euclid(width_seconds) * width_seconds
}

/// A range in whole seconds, widened.
pub(crate) fn seconds(range: TimeRange) -> (i64, i64) {
    let to = range.to_unix_nano;
    let up = i64::from(to.rem_euclid(NANOS_PER_SECOND) != 0);
    (range.from_unix_nano.div_euclid(NANOS_PER_SECOND), to.div_euclid(NANOS_PER_SECOND) + up)
}

/// Whether a time in seconds stands for no bound at all.
const fn is_open_end(time: i64) -> bool {
    time <= i64::MIN / NANOS_PER_SECOND || time >= i64::MAX / NANOS_PER_SECOND
}

/// Which stored buckets a query reads: those of one width that start in a range of seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) width: i64,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// Width of the query's buckets.
    pub(crate) bucket: i64,
}

impl Span {
    /// The widest stored buckets that make up those of the query.
    pub(crate) fn of(query: &AggregateQuery) -> Result<Self, StorageError> {
        let bucket = i64::from(query.bucket_seconds);
        if bucket == 0 || bucket % FINE_SECONDS != 0 {
            let message = format!("bucket_seconds is {bucket}; use a multiple of {FINE_SECONDS}");
            return Err(StorageError::LimitExceeded(message));
        }
        let (from, to) = seconds(query.range);
        let whole = |time: i64| time % HOUR_SECONDS == 0 || is_open_end(time);
        let hours = bucket % HOUR_SECONDS == 0 && whole(from) && whole(to);
        let width = if hours { HOUR_SECONDS } else { FINE_SECONDS };
        Ok(Self { width, from, to, bucket })
    }

    fn start_unix_nano(&self, start: i64) -> i64 {
        (start.div_euclid(self.bucket) * self.bucket).saturating_mul(NANOS_PER_SECOND)
    }
}

/// Logs of a stored bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logs {
    pub(crate) total: u64,
    pub(crate) errors: u64,
    pub(crate) anomalies: u64,
}

impl Logs {
    /// Of one level.
    pub(crate) const fn of_level(level: Level, total: u64, anomalies: u64) -> Self {
        Self { total, errors: if level.is_error() { total } else { 0 }, anomalies }
    }
}

/// The points of every group, by what tells groups apart.
pub(crate) struct Groups<K> {
    span: Span,
    groups: HashMap<K, BTreeMap<i64, Counts>>,
    cells: usize,
}

#[derive(Default)]
struct Counts {
    point: AggregatePoint,
    latency_count: u64,
    latency_sum_ms: f64,
    histogram: Histogram,
}

impl<K: Hash + Eq> Groups<K> {
    pub(crate) fn new(span: Span) -> Self {
        Self { span, groups: HashMap::new(), cells: 0 }
    }

    fn at(&mut self, group: K, start: i64) -> Result<&mut Counts, StorageError> {
        let start_unix_nano = self.span.start_unix_nano(start);
        let points = self.groups.entry(group).or_default();
        let is_full = points.len() >= POINTS_MAX || self.cells >= CELLS_MAX;
        match points.entry(start_unix_nano) {
            Entry::Occupied(counts) => Ok(counts.into_mut()),
            Entry::Vacant(_) if is_full => Err(too_many()),
            Entry::Vacant(place) => {
                self.cells += 1;
                let point = AggregatePoint { start_unix_nano, ..AggregatePoint::default() };
                Ok(place.insert(Counts { point, ..Counts::default() }))
            }
        }
    }

    /// Counts the logs of a stored bucket that starts at this second.
    pub(crate) fn add(&mut self, group: K, start: i64, logs: Logs) -> Result<(), StorageError> {
        let point = &mut self.at(group, start)?.point;
        point.total += logs.total;
        point.errors += logs.errors;
        point.anomalies += logs.anomalies;
        Ok(())
    }

    /// Counts the latencies of a stored bucket that starts at this second.
    pub(crate) fn add_latencies(
        &mut self,
        group: K,
        start: i64,
        (count, sum_ms): (u64, f64),
        histogram: &Histogram,
    ) -> Result<(), StorageError> {
        let counts = self.at(group, start)?;
        counts.latency_count += count;
        counts.latency_sum_ms += sum_ms;
        counts.histogram.merge(histogram);
        Ok(())
    }

    /// The series, largest group first.
    pub(crate) fn into_series(self, name: impl Fn(K) -> String) -> Vec<AggregateSeries> {
        let finish = |counts: Counts| AggregatePoint {
            latency_ms: counts.latency(),
            latencies: counts.histogram.into_inner(),
            ..counts.point
        };
        let series = self.groups.into_iter().map(|(group, points)| {
            let points: Vec<AggregatePoint> = points.into_values().map(finish).collect();
            let total: u64 = points.iter().map(|point| point.total).sum();
            (total, AggregateSeries { group: name(group), points })
        });
        let mut series: Vec<(u64, AggregateSeries)> = series.collect();
        series.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.group.cmp(&y.group)));
        series.truncate(SERIES_MAX);
        series.into_iter().map(|(_, series)| series).collect()
    }
}

impl Counts {
    fn latency(&self) -> Option<LatencySummary> {
        let buckets = self.histogram.as_slice();
        Some(LatencySummary {
            average: self.latency_sum_ms / self.latency_count as f64,
            p50: percentile(buckets, 0.50)?,
            p95: percentile(buckets, 0.95)?,
            p99: percentile(buckets, 0.99)?,
        })
    }
}

/// Latencies per time bucket.
pub(crate) struct Heatmap {
    span: Span,
    columns: BTreeMap<i64, Histogram>,
}

impl Heatmap {
    pub(crate) const fn new(span: Span) -> Self {
        Self { span, columns: BTreeMap::new() }
    }

    /// Counts the latencies of a stored bucket that starts at this second.
    pub(crate) fn add(&mut self, start: i64, histogram: &Histogram) -> Result<(), StorageError> {
        let start = self.span.start_unix_nano(start);
        if self.columns.len() >= POINTS_MAX && !self.columns.contains_key(&start) {
            return Err(too_many());
        }
        self.columns.entry(start).or_default().merge(histogram);
        Ok(())
    }

    /// The cells by time, then latency.
    pub(crate) fn into_cells(self) -> Result<Vec<HeatmapCell>, StorageError> {
        let mut cells = Vec::new();
        for (start_unix_nano, histogram) in self.columns {
            for &(latency_bucket, count) in histogram.as_slice() {
                cells.push(HeatmapCell { start_unix_nano, latency_bucket, count });
            }
        }
        if cells.len() > CELLS_MAX { Err(too_many()) } else { Ok(cells) }
    }
}

/// How often a template occurs in the last full hour, against the hours before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trend {
    /// Starts of the first hour that counts and of the last one.
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl Trend {
    /// Hours before the last one.
    const HOURS: i64 = 24;

    pub(crate) fn ending(end_unix_nano: i64) -> Self {
        let last = bucket_start(end_unix_nano, HOUR_SECONDS).saturating_sub(HOUR_SECONDS);
        Self { first: last.saturating_sub(Self::HOURS * HOUR_SECONDS), last }
    }

    /// The last hour ÷ the mean of those before.
    pub(crate) fn of(last: f64, before: f64) -> f64 {
        last / (before / Self::HOURS as f64)
    }
}

fn too_many() -> StorageError {
    StorageError::LimitExceeded(format!(
        "the range has over {POINTS_MAX} buckets in a series, or {CELLS_MAX} in all: \
         use wider buckets or a shorter range"
    ))
}
