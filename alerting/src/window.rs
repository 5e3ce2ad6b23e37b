//! The last minutes of a service in buckets of ten seconds, and the sums over windows that end now.
//!
//! Rules share these sums: they are made once for a service and evaluation, however many rules ask.

use std::collections::VecDeque;

/// Width of a bucket.
pub const BUCKET_SECONDS: i64 = 10;
/// Buckets that are kept: an hour.
pub const BUCKETS_MAX: usize = 361;
/// Latency buckets that are told apart; see `logweir_storage::query::latency_bucket`.
pub const LATENCY_BUCKETS: usize = 339;
/// Of the first of them.
pub const LATENCY_BUCKET_MIN: i32 = -145;
/// Ratio of the bounds of a latency bucket.
pub(crate) const LATENCY_BUCKET_GROWTH: f64 = 1.1;

/// The place of a latency bucket.
pub(crate) fn latency_place(bucket: i32) -> usize {
    usize::try_from(bucket - LATENCY_BUCKET_MIN).unwrap_or(0).min(LATENCY_BUCKETS - 1)
}

/// The middle of the latency bucket at a place, milliseconds.
pub(crate) fn latency_ms(place: usize) -> f64 {
    let bucket = i32::try_from(place).unwrap_or(0) + LATENCY_BUCKET_MIN;
    LATENCY_BUCKET_GROWTH.powi(bucket) * LATENCY_BUCKET_GROWTH.sqrt()
}

/// What a service logged in a bucket, so far. A later row of the same bucket takes its place.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Start in seconds since 1970, a multiple of ten.
    pub start_seconds: i64,
    /// Logs.
    pub total: u64,
    /// Of these errors.
    pub errors: u64,
    /// Of these called anomalies.
    pub anomalies: u64,
    /// Logs per latency bucket, ascending.
    pub latencies: Vec<(i32, u64)>,
    /// The newest log.
    pub last_seen_unix_nano: i64,
}

impl Row {
    /// Anomalies that cannot all be errors.
    pub(crate) fn odd(&self) -> u64 {
        self.anomalies.saturating_sub(self.errors)
    }
}

/// Sums over a window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// What the window really covers, the open bucket as far as it has come.
    pub seconds: f64,
    /// Logs.
    pub total: f64,
    /// Of these errors.
    pub errors: f64,
    /// Of these called anomalies.
    pub anomalies: f64,
    /// Anomalies that cannot all be errors, bucket by bucket.
    pub odd: f64,
    /// Logs with a latency.
    pub timed: f64,
    /// Of these slower than nine in ten usually are.
    pub slow: f64,
    /// Of these slower than 99 in a hundred usually are.
    pub very_slow: f64,
}

impl Sums {
    /// Of one bucket.
    pub(crate) fn of(row: &Row, slow_from: [usize; 2]) -> Self {
        let mut sums = Self { seconds: BUCKET_SECONDS as f64, ..Self::default() };
        sums.add(row, slow_from);
        sums
    }

    fn add(&mut self, row: &Row, slow_from: [usize; 2]) {
        self.total += row.total as f64;
        self.errors += row.errors as f64;
        self.anomalies += row.anomalies as f64;
        self.odd += row.odd() as f64;
        for &(bucket, count) in &row.latencies {
            let place = latency_place(bucket);
            self.timed += count as f64;
            self.slow += if place > slow_from[0] { count as f64 } else { 0.0 };
            self.very_slow += if place > slow_from[1] { count as f64 } else { 0.0 };
        }
    }
}

/// The last buckets of a service.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Ascending by start, with gaps where nothing was logged.
    rows: VecDeque<Row>,
}

impl Rows {
    /// Takes a row in, in the place of what it replaces. One that is older than all is refused once
    /// there is no room.
    pub fn put(&mut self, row: Row) {
        match self.rows.binary_search_by_key(&row.start_seconds, |row| row.start_seconds) {
            Ok(found) => self.rows[found] = row,
            Err(place) => self.rows.insert(place, row),
        }
        if self.rows.len() > BUCKETS_MAX {
            self.rows.pop_front();
        }
    }

    /// The row of a bucket.
    pub fn at(&self, start_seconds: i64) -> Option<&Row> {
        let found = self.rows.binary_search_by_key(&start_seconds, |row| row.start_seconds);
        found.ok().map(|found| &self.rows[found])
    }

    /// The rows from one moment on, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().rev()
    }

    /// Sums over windows of so many full buckets, ascending, and the open one, that end at a moment.
    pub fn sums<const N: usize>(
        &self,
        until_unix_nano: i64,
        full_buckets: [i64; N],
        slow_from: [usize; 2],
    ) -> [Sums; N] {
        let until = until_unix_nano as f64 / 1e9;
        let open = until_unix_nano.div_euclid(BUCKET_SECONDS * 1_000_000_000) * BUCKET_SECONDS;
        let mut result = [Sums::default(); N];
        let mut sums = Sums::default();
        let mut rows = self.newest_first().skip_while(|row| row.start_seconds > open).peekable();
        for (result, buckets) in result.iter_mut().zip(full_buckets) {
            let from = open - buckets * BUCKET_SECONDS;
            while let Some(row) = rows.next_if(|row| row.start_seconds >= from) {
                sums.add(row, slow_from);
            }
            *result = Sums { seconds: until - from as f64, ..sums };
        }
        result
    }

    /// The latency below which a share lies in the last so many buckets, milliseconds.
    pub(crate) fn latency_ms(&self, until_unix_nano: i64, full_buckets: i64, quantile: f64) -> f64 {
        let counts = self.latencies(until_unix_nano, full_buckets);
        quantile_place(&counts, quantile).map_or(0.0, latency_ms)
    }

    /// Logs per latency place over the last so many buckets.
    pub fn latencies(&self, until_unix_nano: i64, full_buckets: i64) -> Vec<f32> {
        let from = until_unix_nano.div_euclid(1_000_000_000) - (full_buckets + 1) * BUCKET_SECONDS;
        let mut counts = vec![0.0; LATENCY_BUCKETS];
        for row in self.newest_first().take_while(|row| row.start_seconds > from) {
            for &(bucket, count) in &row.latencies {
                counts[latency_place(bucket)] += count as f32;
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

/// Mean and standard deviation of the places of counted latencies; none without any.
pub(crate) fn mean_place(counts: &[f32]) -> Option<(f64, f64)> {
    let sums = counts.iter().enumerate().fold([0.0; 3], |[count, sum, squares], (place, logs)| {
        let (place, logs) = (place as f64, f64::from(*logs));
        [count + logs, sum + logs * place, squares + logs * place * place]
    });
    let [count, sum, squares] = sums;
    let mean = sum / count;
    (count > 0.0).then(|| (mean, (squares / count - mean * mean).max(0.0).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(start_seconds: i64, total: u64) -> Row {
        Row { start_seconds, total, latencies: vec![(0, total)], ..Row::default() }
    }

    #[test]
    fn windows_end_in_the_open_bucket() {
        let mut rows = Rows::default();
        for start in [0, 10, 20, 40] {
            rows.put(row(start, 5));
        }
        rows.put(row(40, 7));
        let place = latency_place(0);
        let [short, long] = rows.sums(43_000_000_000, [1, 3], [place - 1, place]);
        assert_eq!(
            (short.seconds, short.total, short.slow, short.very_slow),
            (13.0, 7.0, 7.0, 0.0)
        );
        assert_eq!((long.seconds, long.total), (33.0, 17.0));
        let [now] = rows.sums(25_000_000_000, [0], [place, place]);
        assert_eq!((now.seconds, now.total), (5.0, 5.0));
    }

    #[test]
    fn a_quantile_is_a_bucket() {
        let mut counts = vec![0.0; LATENCY_BUCKETS];
        assert_eq!(quantile_place(&counts, 0.5), None);
        counts[10] = 9.0;
        counts[20] = 1.0;
        assert_eq!(quantile_place(&counts, 0.9), Some(10));
        assert_eq!(quantile_place(&counts, 0.95), Some(20));
    }
}
