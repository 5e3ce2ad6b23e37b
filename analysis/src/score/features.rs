//! The numbers about a log that the isolation forest sees, their distribution, and its drift.

use serde::{Deserialize, Serialize};

/// How many numbers there are.
pub const FEATURE_COUNT: usize = 7;
/// What they are, in their order.
pub const FEATURE_NAMES: [&str; FEATURE_COUNT] =
    ["hour", "weekday", "recent share", "recent errors", "length", "latency", "rarity"];
/// Bins of a feature's distribution, of equal size in what was trained on.
const BINS: usize = 10;
/// Stands for a share of nothing, of which no logarithm can be taken.
const SHARE_MIN: f64 = 1e-4;

/// The numbers about a log, all finite.
///
/// Hour of day and weekday (Monday is 0) in UTC; the pattern's share of the service's last logs and
/// the level's, as logarithms; length in bytes and latency in ms as logarithms, −1 for no latency;
/// and the pattern's share of all logs as a logarithm with its sign turned.
pub type Features = [f32; FEATURE_COUNT];

/// How a set of logs is distributed, feature by feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureStatistics {
    /// Logs.
    pub rows: u64,
    /// Of every feature in the order of [`FEATURE_NAMES`].
    pub features: Vec<FeatureSummary>,
}

/// The distribution of a feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSummary {
    /// Mean.
    pub mean: f32,
    /// The quantiles 0, 0.1, …, 1.
    pub quantiles: Vec<f32>,
}

impl FeatureStatistics {
    /// The statistics of these logs; all zero for none.
    pub fn of(rows: &[Features]) -> Self {
        let summary = |feature: usize| {
            let mut values: Vec<f32> = rows.iter().map(|row| row[feature]).collect();
            values.sort_unstable_by(f32::total_cmp);
            let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
            let quantile = |bin: usize| {
                let rank = bin * values.len().saturating_sub(1) / BINS;
                values.get(rank).copied().unwrap_or(0.0)
            };
            let mean = (sum / values.len().max(1) as f64) as f32;
            FeatureSummary { mean, quantiles: (0..=BINS).map(quantile).collect() }
        };
        let features = (0..FEATURE_COUNT).map(summary).collect();
        Self { rows: rows.len() as u64, features }
    }

    /// The population stability index of each feature in other logs: under 0.1 nothing has changed,
    /// above 0.25 much has (the usual rule of thumb of credit scoring). 0 for no logs.
    pub fn stability_index(&self, rows: &[Features]) -> [f64; FEATURE_COUNT] {
        std::array::from_fn(|feature| {
            let summary = self.features.get(feature);
            summary.map_or(0.0, |summary| summary.stability_index(rows, feature))
        })
    }
}

impl FeatureSummary {
    /// Bins whose borders fall together, as those of a feature of few values do, are one.
    fn stability_index(&self, rows: &[Features], feature: usize) -> f64 {
        if rows.is_empty() || self.quantiles.len() != BINS + 1 {
            return 0.0;
        }
        let mut borders: Vec<f32> = self.quantiles[1..BINS].to_vec();
        borders.dedup();
        let mut expected = vec![0.0; borders.len() + 1];
        let (lowest, highest) = (self.quantiles[0], self.quantiles[BINS]);
        for pair in self.quantiles.windows(2) {
            // A bin of one value lies where the value lies.
            let middle = if pair[0] == pair[1] { pair[0] } else { f32::midpoint(pair[0], pair[1]) };
            expected[bin(&borders, middle)] += 1.0 / BINS as f64;
        }
        let mut actual = vec![0.0; borders.len() + 1];
        for row in rows {
            let value = row[feature].clamp(lowest.min(row[feature]), highest.max(row[feature]));
            actual[bin(&borders, value)] += 1.0 / rows.len() as f64;
        }
        let part = |(expected, actual): (&f64, &f64)| {
            let (expected, actual) = (expected.max(SHARE_MIN), actual.max(SHARE_MIN));
            (actual - expected) * (actual / expected).ln()
        };
        expected.iter().zip(&actual).map(part).sum()
    }
}

/// Border values belong to the bin below.
fn bin(borders: &[f32], value: f32) -> usize {
    borders.partition_point(|border| *border < value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, shift: f32) -> Vec<Features> {
        let row = |n: usize| {
            let value = (n * 7_919 % 1_009) as f32 / 1_009.0;
            std::array::from_fn(|feature| match feature {
                0 => (n % 24) as f32,
                1 => 3.0,
                _ => value + shift,
            })
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn statistics_say_where_the_values_lie() {
        let statistics = FeatureStatistics::of(&rows(10_000, 0.0));
        let summary = &statistics.features[4];
        assert!((summary.mean - 0.5).abs() < 0.01 && (summary.quantiles[5] - 0.5).abs() < 0.01);
        assert_eq!(FeatureStatistics::of(&[]).features[0].mean, 0.0);
    }

    #[test]
    fn the_stability_index_is_small_until_something_changes() {
        let statistics = FeatureStatistics::of(&rows(10_000, 0.0));
        let same = statistics.stability_index(&rows(5_000, 0.0));
        assert!(same.iter().all(|index| *index < 0.05), "{same:?}");
        let moved = statistics.stability_index(&rows(5_000, 0.5));
        assert!(moved[1] < 0.05 && moved[4] > 0.25, "{moved:?}");
        assert_eq!(statistics.stability_index(&[]), [0.0; FEATURE_COUNT]);
    }
}
