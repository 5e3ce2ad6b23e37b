//! The rate limit of a channel: so many calls at once, then one every so often.
//!
//! It is the generic cell rate algorithm (ITU-T I.371), a bucket kept as one moment. The moment is
//! kept with the outbox, so that neither a restart nor another leader calls sooner.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// How fast a destination may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Time between calls in the long run.
    pub every: Duration,
    /// Calls that may come at once after a quiet time; at least 1.
    pub burst: u32,
}

/// How much of a rate limit is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RateLimiter {
    /// When the bucket is empty again (the theoretical arrival time of the algorithm).
    rested_at: Timestamp,
}

impl RateLimiter {
    /// When the next call may be made. A clock that was set back holds a channel up no longer than
    /// a full bucket takes to empty.
    pub fn ready_at(self, limit: RateLimit, now: Timestamp) -> Timestamp {
        // All calls of a burst but one may come before their time.
        let spare = limit.every.saturating_mul(limit.burst.max(1) - 1);
        // After a clock was set back the moment lies far ahead, and would silence the channel for
        // as long.
        let at_most = now + spare + limit.every;
        self.rested_at.min(at_most) - spare
    }

    /// Counts a call.
    pub fn take(&mut self, limit: RateLimit, now: Timestamp) {
        // A bucket that has been empty for long saves nothing up.
        let rested = self.rested_at.max(now);
        self.rested_at = rested + limit.every;
    }

    /// The answer to a call has come: where calls may not come together, the time to the next
    /// counts from here, since the call may have reached its destination as late as this.
    pub fn answered(&mut self, limit: RateLimit, now: Timestamp) {
        if limit.burst <= 1 {
            self.rested_at = now + limit.every;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::EPOCH;

    /// Calls as soon as allowed, `count` times from second 0; gives the seconds.
    fn calls(limit: RateLimit, count: usize) -> Vec<i64> {
        let mut pace = RateLimiter::default();
        let mut now = START;
        let mut at = Vec::new();
        for _ in 0..count {
            now = pace.ready_at(limit, now).max(now);
            pace.take(limit, now);
            at.push(now.as_unix_seconds());
        }
        at
    }

    #[test]
    fn a_burst_and_then_one_every_so_often() {
        let limit = RateLimit { every: Duration::from_secs(3), burst: 4 };
        assert_eq!(calls(limit, 7), [0, 0, 0, 0, 3, 6, 9]);
        let strict = RateLimit { every: Duration::from_secs(1), burst: 1 };
        assert_eq!(calls(strict, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn without_a_burst_the_time_counts_from_the_answer() {
        let limit = RateLimit { every: Duration::from_secs(1), burst: 1 };
        let mut pace = RateLimiter::default();
        pace.take(limit, START);
        let answered = START + 5 * limit.every;
        pace.answered(limit, answered);
        assert_eq!(pace.ready_at(limit, answered), answered + limit.every);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_up_no_longer_than_the_bucket() {
        let limit = RateLimit { every: Duration::from_secs(1), burst: 1 };
        let mut pace = RateLimiter::default();
        // The call was counted while the clock was eleven days ahead.
        pace.take(limit, START + 1_000_000 * limit.every);
        assert_eq!(pace.ready_at(limit, START), START + limit.every);
    }
}
