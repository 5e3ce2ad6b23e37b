//! Durations counted in buckets, for quantiles of any number of them in bounded memory. Pure.

use std::time::Duration;

/// Buckets are 2 % wide: 2^(1/35) is 1.02.
const BUCKETS_PER_DOUBLING: f64 = 35.0;
/// From a microsecond to an hour: 2^32 microseconds.
const DOUBLINGS: usize = 32;

/// Durations counted in buckets that are 2 % wide, from a microsecond to an hour.
pub(crate) struct Quantiles {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { counts: vec![0; DOUBLINGS * BUCKETS_PER_DOUBLING as usize], total: 0 }
    }
}

impl Quantiles {
    pub(crate) fn add(&mut self, duration: Duration) {
        let micros = (duration.as_secs_f64() * 1e6).max(1.0);
        let bucket = (micros.log2() * BUCKETS_PER_DOUBLING) as usize;
        let last = self.counts.len() - 1;
        self.counts[bucket.min(last)] += 1;
        self.total += 1;
    }

    /// The duration that this share is not above, milliseconds; 0 of none.
    pub(crate) fn milliseconds(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank.max(1)
        });
        // The middle of the bucket: at most 1 % off.
        bucket.map_or(0.0, |bucket| ((bucket as f64 + 0.5) / BUCKETS_PER_DOUBLING).exp2() / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut quantiles = Quantiles::default();
        for ms in 1..=1_000 {
            quantiles.add(Duration::from_millis(ms));
        }
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = quantiles.milliseconds(share);
            assert!((found / expected - 1.0).abs() < 0.02, "{found}");
        }
    }
}
