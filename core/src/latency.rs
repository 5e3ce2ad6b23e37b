//! Latencies counted in logarithmic buckets: in storage, in alerting and in what is shown, the same
//! ones. Pure.

use std::ops::Range;

/// Ratio of the bounds of a latency bucket. Its geometric middle is within 4.9 % of any value in
/// it.
// Logarithmic, because the same share of an error matters at 1 ms and at 1 minute, and additive,
// which kept percentiles would not be. Stored counts depend on it: a change needs a migration.
pub const BUCKET_GROWTH: f64 = 1.1;

/// The lowest bucket: latencies of about a nanosecond, and all below.
pub const BUCKET_MIN: i32 = -145;
/// The highest bucket: latencies of about a day, and all above.
pub const BUCKET_MAX: i32 = 193;
/// How many buckets there are.
pub const BUCKETS: usize = (BUCKET_MAX - BUCKET_MIN + 1) as usize;

/// The bucket of a latency in milliseconds: logarithmic, from about a nanosecond (which takes all
/// below) to about a day (which takes all above).
pub fn bucket_of(latency_ms: f64) -> i32 {
    if latency_ms <= 0.0 {
        return BUCKET_MIN;
    }
    let bucket = (latency_ms.ln() / BUCKET_GROWTH.ln()).floor();
    (bucket as i32).clamp(BUCKET_MIN, BUCKET_MAX)
}

/// The bounds of a latency bucket in milliseconds.
pub fn bucket_bounds(bucket: i32) -> Range<f64> {
    let from = if bucket <= BUCKET_MIN { 0.0 } else { BUCKET_GROWTH.powi(bucket) };
    from..BUCKET_GROWTH.powi(bucket + 1)
}

/// The latency in milliseconds below which the share `quantile` (0 to 1) of the counted logs lies,
/// from `(bucket, count)` in ascending order; none without logs.
pub fn percentile(buckets: &[(i32, u64)], quantile: f64) -> Option<f64> {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    // The nearest rank: the value that so many logs do not exceed. The first, for quantile 0.
    let rank = ((total as f64 * quantile).ceil() as u64).max(1);
    let mut below = 0;
    let found = buckets.iter().find(|(_, count)| {
        below += count;
        below >= rank
    });
    found.map(|&(bucket, _)| match bucket_bounds(bucket) {
        // The lowest bucket has no geometric middle; a latency of 0 is what mostly lies in it.
        bounds if bounds.start == 0.0 => 0.0,
        bounds => (bounds.start * bounds.end).sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lies_in_its_bucket() {
        for latency in [1e-3, 0.5, 1.0, 1.1, 210.0, 1_320.0, 3.6e6] {
            let bounds = bucket_bounds(bucket_of(latency));
            assert!(
                bounds.start <= latency * 1.000_001 && latency < bounds.end * 1.000_001,
                "{latency}"
            );
        }
        assert_eq!(bucket_of(0.0), BUCKET_MIN);
        assert_eq!(bucket_of(f64::MAX), BUCKET_MAX);
    }

    #[test]
    fn percentiles_are_within_five_per_cent() {
        let mut counts = std::collections::BTreeMap::new();
        for latency in 1..=1_000 {
            *counts.entry(bucket_of(f64::from(latency))).or_insert(0) += 1;
        }
        let buckets: Vec<(i32, u64)> = counts.into_iter().collect();
        for (quantile, expected) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let found = percentile(&buckets, quantile).unwrap();
            assert!((found / expected - 1.0_f64).abs() < 0.05, "{quantile}: {found}");
        }
        assert_eq!(percentile(&[], 0.5), None);
    }
}
