//! How long to wait before trying again.

use std::time::Duration;

/// Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", AWS
/// Architecture Blog, 2015): a random share of a bound that doubles up to a cap.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Bound of the first wait.
    pub first: Duration,
    /// Bound of any wait.
    pub max: Duration,
}

impl Backoff {
    /// The wait before try number `attempt` (from 1 for the first retry), with `random` in `0.0..1.0`.
    pub fn delay(self, attempt: u32, random: f64) -> Duration {
        let bound = self.first.saturating_mul(1_u32 << attempt.saturating_sub(1).min(20));
        bound.min(self.max).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(30) };
        for (attempt, bound_ms) in [(1, 200), (2, 400), (5, 3_200), (9, 30_000), (u32::MAX, 30_000)]
        {
            assert_eq!(backoff.delay(attempt, 1.0).as_millis(), bound_ms, "{attempt}");
            assert_eq!(backoff.delay(attempt, 0.0), Duration::ZERO);
        }
    }
}
