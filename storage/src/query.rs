//! What a reader may ask, as values; every implementation translates it. Also the latency buckets,
//! which are part of the stored format.

use std::ops::Range;

use logweir_core::{
    filter::Filter,
    identity::{LogId, Service},
    record::StoredLog,
};

/// Groups of an aggregation that are answered; the smallest are left out.
pub const SERIES_MAX: usize = 1_000;
/// Time buckets of a group, or of a heatmap.
pub const POINTS_MAX: usize = 10_000;
/// Points over all groups, and cells of a heatmap: bounds memory.
pub const CELLS_MAX: usize = 1_000_000;
/// Accounts in a report; those heard of longest ago are left out.
pub const PRODUCERS_MAX: usize = 10_000;

/// A span of event time in nanoseconds since 1970-01-01 UTC: from inclusive, to exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// First nanosecond.
    pub from_unix_nano: i64,
    /// First nanosecond after it.
    pub to_unix_nano: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { from_unix_nano: i64::MIN, to_unix_nano: i64::MAX };
}

/// Which end of time a walk through the logs begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    NewestFirst,
    OldestFirst,
}

/// A page of a search or an export.
#[derive(Debug, Clone)]
pub struct SearchQuery {
    /// What must hold.
    pub filter: Filter,
    /// Event time searched.
    pub range: TimeRange,
    /// The last id that was shown; the page goes on after it.
    pub cursor: Option<LogId>,
    /// Matches wanted, at least 1.
    pub page_size: usize,
}

/// Matches, and where to go on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchPage {
    /// The matches in order.
    pub logs: Vec<StoredLog>,
    /// The last id if there are more.
    pub next: Option<LogId>,
}

/// By what to split counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// One series.
    #[default]
    Nothing,
    /// Per service.
    Service,
    /// Per level.
    Level,
    /// Per template.
    Template,
}

/// Counts per time bucket.
#[derive(Debug, Clone)]
pub struct AggregateQuery {
    /// Event time counted, already widened to whole buckets.
    pub range: TimeRange,
    /// Width of a time bucket in seconds, a multiple of 10.
    pub bucket_seconds: u32,
    /// By what to split.
    pub group_by: GroupBy,
    /// Only this service.
    pub service: Option<Service>,
}

/// Ratio of the bounds of a latency bucket. Its geometric middle is within 4.9 % of any value in it.
pub const LATENCY_BUCKET_GROWTH: f64 = 1.1;

pub(crate) const LATENCY_BUCKET_MIN: i32 = -145;
const LATENCY_BUCKET_MAX: i32 = 193;

/// The bucket of a latency in milliseconds: logarithmic, from about a nanosecond (which takes all
/// below) to about a day (which takes all above).
pub fn latency_bucket(latency_ms: f64) -> i32 {
    if latency_ms <= 0.0 {
        return LATENCY_BUCKET_MIN;
    }
    let bucket = (latency_ms.ln() / LATENCY_BUCKET_GROWTH.ln()).floor();
    (bucket as i32).clamp(LATENCY_BUCKET_MIN, LATENCY_BUCKET_MAX)
}

/// The bounds of a latency bucket in milliseconds.
pub fn latency_bucket_bounds(bucket: i32) -> Range<f64> {
    let from = if bucket <= LATENCY_BUCKET_MIN { 0.0 } else { LATENCY_BUCKET_GROWTH.powi(bucket) };
    from..LATENCY_BUCKET_GROWTH.powi(bucket + 1)
}

/// The latency in milliseconds below which the share `quantile` (0 to 1) of the counted logs lies,
/// from `(bucket, count)` in ascending order; none without logs.
pub fn latency_percentile(buckets: &[(i32, u64)], quantile: f64) -> Option<f64> {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    let rank = ((total as f64 * quantile).ceil() as u64).max(1);
    let mut below = 0;
    let found = buckets.iter().find(|(_, count)| {
        below += count;
        below >= rank
    });
    found.map(|&(bucket, _)| match latency_bucket_bounds(bucket) {
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
            let bounds = latency_bucket_bounds(latency_bucket(latency));
            assert!(
                bounds.start <= latency * 1.000_001 && latency < bounds.end * 1.000_001,
                "{latency}"
            );
        }
        assert_eq!(latency_bucket(0.0), LATENCY_BUCKET_MIN);
        assert_eq!(latency_bucket(f64::MAX), LATENCY_BUCKET_MAX);
    }

    #[test]
    fn percentiles_are_within_five_per_cent() {
        let mut counts = std::collections::BTreeMap::new();
        for latency in 1..=1_000 {
            *counts.entry(latency_bucket(f64::from(latency))).or_insert(0) += 1;
        }
        let buckets: Vec<(i32, u64)> = counts.into_iter().collect();
        for (quantile, expected) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let found = latency_percentile(&buckets, quantile).unwrap();
            assert!((found / expected - 1.0_f64).abs() < 0.05, "{quantile}: {found}");
        }
        assert_eq!(latency_percentile(&[], 0.5), None);
    }
}
