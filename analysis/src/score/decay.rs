//! Counts that fade with event time, without touching them as time goes by.
//!
//! Instead of shrinking what was counted, what is counted later weighs more (Cormode et al.,
//! "Forward decay: a practical time decay model for streaming systems", ICDE 2009). Shares are the
//! same, and late arrivals weigh what they would have weighed in time. Now and then all weights are
//! scaled down, so that they stay within what a float holds.

/// Half-life of a pattern's share of its service's logs: long enough to know a nightly job.
pub(crate) const HALF_LIFE_RARITY_SECONDS: f64 = 86_400.0;
/// Half-life of a latency: short enough to follow a new level within an hour or two.
pub(crate) const HALF_LIFE_LATENCY_SECONDS: f64 = 3_600.0;

const HALF_LIVES_MAX: f64 = 16.0;
const NANOS_PER_SECOND: f64 = 1e9;

/// The weight of a count at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decay {
    half_life_nanos: f64,
    /// When a count weighs 1.
    start_unix_nano: i64,
    /// Weights change little within a second: the last one serves for it.
    second: i64,
    last: f64,
}

impl Decay {
    pub(crate) fn new(half_life_seconds: f64, start_unix_nano: i64) -> Self {
        let half_life_nanos = half_life_seconds * NANOS_PER_SECOND;
        Self {
            half_life_nanos,
            start_unix_nano,
            second: start_unix_nano / 1_000_000_000,
            last: 1.0,
        }
    }

    /// The weight of a count at this time.
    pub(crate) fn weight(&mut self, time_unix_nano: i64) -> f64 {
        let second = time_unix_nano / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.last = self.half_lives(time_unix_nano).clamp(-64.0, 64.0).exp2();
        }
        self.last
    }

    /// The weight asked for last.
    pub(crate) fn last_weight(&self) -> f64 {
        self.last
    }

    /// If weights have grown large by this time: by which factor to multiply all that is counted.
    pub(crate) fn rescale(&mut self, time_unix_nano: i64) -> Option<f64> {
        let half_lives = self.half_lives(time_unix_nano);
        if half_lives < HALF_LIVES_MAX {
            return None;
        }
        *self = Self::new(self.half_life_nanos / NANOS_PER_SECOND, time_unix_nano);
        Some((-half_lives).max(-64.0).exp2())
    }

    fn half_lives(&self, time_unix_nano: i64) -> f64 {
        time_unix_nano.saturating_sub(self.start_unix_nano) as f64 / self.half_life_nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_life_later_a_count_weighs_twice() {
        let mut decay = Decay::new(10.0, 0);
        assert_eq!(decay.weight(0), 1.0);
        assert_eq!(decay.weight(10_000_000_000), 2.0);
        assert_eq!(decay.weight(-10_000_000_000), 0.5);
    }

    #[test]
    fn weights_are_scaled_down_before_they_grow_large() {
        let mut decay = Decay::new(10.0, 0);
        assert_eq!(decay.rescale(100_000_000_000), None);
        assert_eq!(decay.rescale(200_000_000_000), Some((-20.0_f64).exp2()));
        assert_eq!(decay.weight(200_000_000_000), 1.0);
    }
}
