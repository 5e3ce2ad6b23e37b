//! The last hour of a service in buckets of ten seconds, and the sums over windows that end now.
//!
//! Latencies are counted in places: the latency buckets of storage, whose bounds grow by a tenth
//! each, numbered from 0. A place is thus the logarithm of a latency.

use std::{collections::VecDeque, time::Duration};

use logweir_core::{
    latency::{BUCKET_GROWTH, BUCKET_MIN, BUCKETS},
    timestamp::Timestamp,
};

/// The quantile that is the median.
pub(crate) const MEDIAN: f64 = 0.5;
/// The quantile below which 95 in a hundred lie.
pub(crate) const P95: f64 = 0.95;
/// Seconds of a minute, by which rates are shown to people.
pub(crate) const MINUTE_SECONDS: f64 = 60.0;
/// Width of a bucket, seconds.
pub const BUCKET_SECONDS: u32 = 10;
/// The same.
pub const BUCKET_WIDTH: Duration = Duration::from_secs(BUCKET_SECONDS as u64);
/// Buckets that are kept: an hour, and the one that is open.
pub const BUCKETS_MAX: usize = 361;

/// The places from which on a latency counts as slow, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlowFrom {
    /// Nine in ten are expected to be at most as slow.
    pub slow: usize,
    /// 99 in a hundred are expected to be at most as slow.
    pub very_slow: usize,
}

/// The place of a latency bucket.
pub(crate) fn latency_place(bucket: i32) -> usize {
    usize::try_from(bucket - BUCKET_MIN).unwrap_or(0).min(BUCKETS - 1)
}

/// The middle of the latency bucket at a place, milliseconds.
pub(crate) fn latency_ms(place: usize) -> f64 {
    let bucket = i32::try_from(place).unwrap_or(0) + BUCKET_MIN;
    // The geometric middle, half a step above the lower bound: the bounds grow by a factor.
    BUCKET_GROWTH.powi(bucket) * BUCKET_GROWTH.sqrt()
}

/// What a service logged in ten seconds, as counted so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bucket {
    /// Its start, a multiple of ten seconds.
    pub start: Timestamp,
    /// All logs.
    pub total: u64,
    /// Logs that are errors.
    pub errors: u64,
    /// Logs that detection calls anomalies.
    pub anomalies: u64,
    /// Latency buckets of storage with the logs in each, ascending.
    pub latencies: Vec<(i32, u64)>,
    /// The newest log, event time.
    pub last_seen: Timestamp,
}

impl Bucket {
    /// Anomalies that cannot all be errors: at least so many are none, whichever they are.
    pub(crate) fn non_error_anomalies(&self) -> u64 {
        self.anomalies.saturating_sub(self.errors)
    }
}

/// Sums over the buckets of a window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// What the window really covers, the open bucket as far as it has come.
    pub seconds: f64,
    /// All logs.
    pub total: f64,
    /// Logs that are errors.
    pub errors: f64,
    /// Logs that detection calls anomalies.
    pub anomalies: f64,
    /// Anomalies that cannot all be errors, bucket by bucket.
    pub non_error_anomalies: f64,
    /// Logs with a latency.
    pub timed: f64,
    /// Logs slower than nine in ten are expected to be.
    pub slow: f64,
    /// Logs slower than 99 in a hundred are expected to be.
    pub very_slow: f64,
}

impl Sums {
    /// The sums of one bucket.
    pub(crate) fn of(bucket: &Bucket, slow_from: SlowFrom) -> Self {
        let mut sums = Self { seconds: BUCKET_WIDTH.as_secs_f64(), ..Self::default() };
        sums.add(bucket, slow_from);
        sums
    }

    /// The length of the window.
    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn add(&mut self, bucket: &Bucket, slow_from: SlowFrom) {
        self.total += bucket.total as f64;
        self.errors += bucket.errors as f64;
        self.anomalies += bucket.anomalies as f64;
        self.non_error_anomalies += bucket.non_error_anomalies() as f64;
        for &(latency, count) in &bucket.latencies {
            let place = latency_place(latency);
            self.timed += count as f64;
            self.slow += if place > slow_from.slow { count as f64 } else { 0.0 };
            self.very_slow += if place > slow_from.very_slow { count as f64 } else { 0.0 };
        }
    }
}

/// The last buckets of a service.
#[derive(Debug, Clone, Default)]
pub struct Buckets {
    /// Ascending by start, with gaps where nothing was logged.
    buckets: VecDeque<Bucket>,
}

impl Buckets {
    /// Takes a bucket in, in place of what was known of it. One that is older than all is refused
    /// once there is no room.
    pub fn put(&mut self, bucket: Bucket) {
        match self.buckets.binary_search_by_key(&bucket.start, |bucket| bucket.start) {
            Ok(found) => self.buckets[found] = bucket,
            Err(place) => self.buckets.insert(place, bucket),
        }
        // The oldest goes, which is the one put in if that is older than all others.
        if self.buckets.len() > BUCKETS_MAX {
            self.buckets.pop_front();
        }
    }

    /// The bucket that starts at a moment, if anything was logged in it.
    pub fn at(&self, start: Timestamp) -> Option<&Bucket> {
        let found = self.buckets.binary_search_by_key(&start, |bucket| bucket.start);
        found.ok().map(|found| &self.buckets[found])
    }

    /// All buckets, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().rev()
    }

    /// Sums over windows of so many full buckets, ascending, and the open one, that end at a
    /// moment.
    pub fn sums<const N: usize>(
        &self,
        until: Timestamp,
        full_buckets: [u32; N],
        slow_from: SlowFrom,
    ) -> [Sums; N] {
        let open = until.floor(BUCKET_WIDTH);
        let mut result = [Sums::default(); N];
        let mut sums = Sums::default();
        let mut buckets = self.newest_first().skip_while(|bucket| bucket.start > open).peekable();
        for (result, full) in result.iter_mut().zip(full_buckets) {
            let from = open - BUCKET_WIDTH * full;
            while let Some(bucket) = buckets.next_if(|bucket| bucket.start >= from) {
                sums.add(bucket, slow_from);
            }
            // The windows lie within each other: each goes on with the sums of the shorter one.
            *result = Sums { seconds: until.since(from).as_secs_f64(), ..sums };
        }
        result
    }

    /// The latency below which a share lies in the last so many buckets, milliseconds.
    pub(crate) fn latency_ms(&self, until: Timestamp, full_buckets: u32, quantile: f64) -> f64 {
        let counts = self.latencies(until, full_buckets);
        quantile_place(&counts, quantile).map_or(0.0, latency_ms)
    }

    /// Logs per latency place over the last so many buckets.
    pub fn latencies(&self, until: Timestamp, full_buckets: u32) -> Vec<f32> {
        let from = until - BUCKET_WIDTH * (full_buckets + 1);
        let mut counts = vec![0.0; BUCKETS];
        // What lies after the moment is not of its window: where logs came late it has passed.
        let buckets = self.newest_first().skip_while(|bucket| bucket.start > until);
        for bucket in buckets.take_while(|bucket| bucket.start > from) {
            for &(latency, count) in &bucket.latencies {
                counts[latency_place(latency)] += count as f32;
            }
        }
        counts
    }
}

/// The place below or at which a share of the counted latencies lies; none without any.
pub(crate) fn quantile_place(counts: &[f32], quantile: f64) -> Option<usize> {
    let total: f64 = counts.iter().map(|count| f64::from(*count)).sum();
    let mut below = 0.0;
    counts.iter().position(|count| {
        below += f64::from(*count);
        total > 0.0 && below >= total * quantile && below > 0.0
    })
}

/// Mean and standard deviation of the places of latencies.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct MeanPlace {
    pub(crate) mean: f64,
    pub(crate) deviation: f64,
}

/// The mean of the places of counted latencies; none without any.
pub(crate) fn mean_place(counts: &[f32]) -> Option<MeanPlace> {
    let sums = counts.iter().enumerate().fold([0.0; 3], |[count, sum, squares], (place, logs)| {
        let (place, logs) = (place as f64, f64::from(*logs));
        [count + logs, sum + logs * place, squares + logs * place * place]
    });
    let [count, sum, squares] = sums;
    // In one pass: the variance is the mean of the squares less the square of the mean, which
    // rounding may push below nothing.
    let mean = sum / count;
    let deviation = (squares / count - mean * mean).max(0.0).sqrt();
    (count > 0.0).then_some(MeanPlace { mean, deviation })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(start: i64, total: u64) -> Bucket {
        let start = Timestamp::from_unix_seconds(start);
        Bucket { start, total, latencies: vec![(0, total)], ..Bucket::default() }
    }

    #[test]
    fn windows_end_in_the_open_bucket() {
        let mut rows = Buckets::default();
        for start in [0, 10, 20, 40] {
            rows.put(row(start, 5));
        }
        rows.put(row(40, 7));
        let place = latency_place(0);
        let [short, long] = rows.sums(
            Timestamp::from_unix_seconds(43),
            [1, 3],
            SlowFrom { slow: place - 1, very_slow: place },
        );
        assert_eq!(
            (short.seconds, short.total, short.slow, short.very_slow),
            (13.0, 7.0, 7.0, 0.0)
        );
        assert_eq!((long.seconds, long.total), (33.0, 17.0));
        let [now] = rows.sums(
            Timestamp::from_unix_seconds(25),
            [0],
            SlowFrom { slow: place, very_slow: place },
        );
        assert_eq!((now.seconds, now.total), (5.0, 5.0));
    }

    #[test]
    fn latencies_are_those_of_the_window() {
        let mut rows = Buckets::default();
        [0, 10, 20, 40].into_iter().for_each(|start| rows.put(row(start, 5)));
        let total =
            |second| rows.latencies(Timestamp::from_unix_seconds(second), 1).iter().sum::<f32>();
        assert_eq!((total(29), total(43), total(60)), (10.0, 5.0, 0.0));
    }

    #[test]
    fn a_quantile_is_a_bucket() {
        let mut counts = vec![0.0; BUCKETS];
        assert_eq!(quantile_place(&counts, 0.5), None);
        counts[10] = 9.0;
        counts[20] = 1.0;
        assert_eq!(quantile_place(&counts, 0.9), Some(10));
        assert_eq!(quantile_place(&counts, 0.95), Some(20));
    }
}
