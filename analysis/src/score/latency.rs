//! How unusual a latency is for its pattern.
//!
//! A histogram of logarithmic buckets (four to an octave) whose counts fade with a half-life of an
//! hour of event time, so that it follows a shift of level. 600 bytes each, whatever comes in.
//!
//! Beyond the highest latency seen there is no count to go by; there the tail is continued as a
//! power law. Latencies are known to have such tails, and one log that is ten times slower than all
//! of a few hundred others must not need a thousand others to be called unusual.

use super::decay::{Decay, HALF_LIFE_LATENCY_SECONDS};

const BUCKETS: usize = 136;
const BUCKETS_PER_OCTAVE: f64 = 4.0;
/// Bucket 0 takes everything below 2⁻¹⁰ ms, about a microsecond; the last everything over 3 days.
const LOWEST_OCTAVE: f64 = -10.0;
/// Weight below which a distribution says nothing.
const WEIGHT_MIN: f32 = 10.0;
/// Weight below which it says nothing about what lies beyond all that was seen.
const WEIGHT_BEYOND_MIN: f32 = 50.0;
/// Exponent of the power law beyond the highest latency seen.
const TAIL_EXPONENT: i32 = 4;
/// Counts below this weight have faded.
const FADED: f32 = 0.5;

/// Where a latency lies in its pattern's distribution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LatencyRank {
    /// The chance of one as high or higher; rather too high than too low. 1 while little is known.
    pub(crate) at_least: f64,
    /// The same with half of its equals, which is even from 0 to 1 for usual latencies.
    pub(crate) middle: f64,
}

/// The distribution of a pattern's latency.
#[derive(Debug, Clone)]
pub(crate) struct LatencyHistogram {
    weights: [f32; BUCKETS],
    total: f32,
    decay: Decay,
}

impl LatencyHistogram {
    pub(crate) fn new(time_unix_nano: i64) -> Self {
        let decay = Decay::new(HALF_LIFE_LATENCY_SECONDS, time_unix_nano);
        Self { weights: [0.0; BUCKETS], total: 0.0, decay }
    }

    /// The chance of a latency as high as this; none while too little is known.
    pub(crate) fn tail(&self, latency_ms: f64) -> Option<LatencyRank> {
        let unit = self.decay.last_weight() as f32;
        if self.total < WEIGHT_MIN * unit {
            return None;
        }
        let bucket = bucket(latency_ms);
        let above: f32 = self.weights[bucket + 1..].iter().sum();
        let within = self.weights[bucket];
        let total = self.total + unit;
        let middle = f64::from((above + within * 0.5 + unit * 0.5) / total);
        if self.total < WEIGHT_BEYOND_MIN * unit {
            return Some(LatencyRank { at_least: 1.0, middle });
        }
        let seen = f64::from((above + within + unit) / total);
        let faded = FADED * unit;
        if above + within >= faded {
            return Some(LatencyRank { at_least: seen, middle });
        }
        let highest = self.weights.iter().rposition(|&weight| weight >= faded).unwrap_or(bucket);
        let octaves = bucket.saturating_sub(highest) as f64 / BUCKETS_PER_OCTAVE;
        let beyond = (-octaves * f64::from(TAIL_EXPONENT)).exp2();
        Some(LatencyRank { at_least: seen * beyond, middle: middle * beyond })
    }

    /// Adds what another has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        let factor = (self.decay.last_weight() / other.decay.last_weight()) as f32;
        self.weights.iter_mut().zip(&other.weights).for_each(|(own, more)| *own += more * factor);
        self.total += other.total * factor;
    }

    /// Learns a latency.
    pub(crate) fn learn(&mut self, latency_ms: f64, time_unix_nano: i64) {
        if let Some(factor) = self.decay.rescale(time_unix_nano) {
            self.weights.iter_mut().for_each(|weight| *weight *= factor as f32);
            self.total *= factor as f32;
        }
        let weight = self.decay.weight(time_unix_nano) as f32;
        self.weights[bucket(latency_ms)] += weight;
        self.total += weight;
    }

    /// The latency in milliseconds below which this share lies.
    pub(crate) fn percentile(&self, quantile: f64) -> f64 {
        let mut below = 0.0;
        let rank = self.total * quantile as f32;
        let found = self.weights.iter().position(|weight| {
            below += weight;
            below >= rank
        });
        let middle = found.unwrap_or(BUCKETS - 1) as f64 + 0.5;
        (middle / BUCKETS_PER_OCTAVE + LOWEST_OCTAVE).exp2()
    }
}

/// Buckets from the number's own exponent and the top of its fraction, corrected for the
/// logarithm's curve: exact to a few per cent of a bucket, and no logarithm to compute.
fn bucket(latency_ms: f64) -> usize {
    if latency_ms <= 0.0 {
        return 0;
    }
    let bits = latency_ms.to_bits();
    let octave = ((bits >> 52) & 0x7ff) as f64 - 1023.0;
    let fraction = (bits & ((1 << 52) - 1)) as f64 / (1_u64 << 52) as f64;
    let log = octave + fraction * (1.339_849_999 - 0.339_849_999 * fraction);
    ((log - LOWEST_OCTAVE) * BUCKETS_PER_OCTAVE).clamp(0.0, (BUCKETS - 1) as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn learned(latencies: impl IntoIterator<Item = f64>) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::new(0);
        for (n, latency) in latencies.into_iter().enumerate() {
            histogram.learn(latency, n as i64 * SECOND / 100);
        }
        histogram
    }

    #[test]
    fn few_latencies_say_nothing() {
        assert!(learned([10.0; 8]).tail(1_000.0).is_none());
        assert_eq!(learned([10.0; 40]).tail(1_000.0).map(|tail| tail.at_least), Some(1.0));
        assert!(learned([10.0; 60]).tail(1_000.0).is_some_and(|tail| tail.at_least < 1e-6));
    }

    #[test]
    fn the_tail_falls_with_the_distance() {
        let histogram = learned((0..1_000).map(|n| 10.0 + f64::from(n % 100)));
        let tails: Vec<f64> = [5.0, 60.0, 100.0, 200.0, 1_000.0]
            .iter()
            .map(|&l| histogram.tail(l).unwrap().at_least)
            .collect();
        assert!(tails.is_sorted_by(|a, b| a > b), "{tails:?}");
        assert!(tails[0] > 0.99 && (0.4..0.7).contains(&tails[1]) && tails[3] < 0.001, "{tails:?}");
    }

    #[test]
    fn percentiles_are_within_a_bucket() {
        let histogram = learned((1..=1_000).map(f64::from));
        for (quantile, expected) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = histogram.percentile(quantile) / expected;
            assert!((0.8..1.25).contains(&found), "{quantile}: {found}");
        }
    }

    #[test]
    fn it_follows_a_shift_of_level() {
        let mut histogram = learned([10.0; 1_000]);
        assert!(histogram.tail(100.0).unwrap().at_least < 1e-5);
        for n in 0..1_000 {
            histogram.learn(100.0, 3_600 * SECOND + n * SECOND);
        }
        assert!(histogram.tail(100.0).unwrap().at_least > 0.5);
    }

    #[test]
    fn merged_it_is_as_if_all_had_been_one() {
        let mut merged = learned((0..500).map(|n| 10.0 + f64::from(n)));
        merged.merge(&learned((500..1_000).map(|n| 10.0 + f64::from(n))));
        let whole = learned((0..1_000).map(|n| 10.0 + f64::from(n)));
        assert!((merged.percentile(0.9) / whole.percentile(0.9) - 1.0).abs() < 0.01);
        let (one, other) = (merged.tail(900.0).unwrap(), whole.tail(900.0).unwrap());
        assert!((one.middle / other.middle - 1.0).abs() < 0.05);
    }

    #[test]
    fn years_of_silence_and_odd_values_do_no_harm() {
        let mut histogram = learned([10.0; 100]);
        histogram.learn(f64::MAX, i64::MAX);
        histogram.learn(0.0, i64::MIN);
        histogram.learn(f64::MIN_POSITIVE, 0);
        assert!(histogram.total.is_finite());
        assert!(histogram.percentile(0.5).is_finite());
    }
}
