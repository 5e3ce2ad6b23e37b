//! How long to wait before trying again.

use std::{error::Error, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::warn;

/// How long a start waits for something that does not answer, and between two tries.
// A database that is started together with it may need half a minute. A fixed pause is enough: each
// process starts once, and what it waits for is there in the end or it ends.
const START_PATIENCE: Duration = Duration::from_secs(60);
const START_PAUSE: Duration = Duration::from_millis(500);

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
    /// The wait before try number `attempt` (from 1 for the first retry), with `random` in
    /// `0.0..1.0`.
    pub fn delay(self, attempt: u32, random: f64) -> Duration {
        // Shifted by 20 at most: a million times the first bound is beyond any cap, and 32 would
        // panic. The share is of the whole bound, so that those who failed together come apart.
        let bound = self.first.saturating_mul(1_u32 << attempt.saturating_sub(1).min(20));
        bound.min(self.max).mul_f64(random.clamp(0.0, 1.0))
    }
}

/// Tries what a process cannot start without until it succeeds, fails for good, or a minute has
/// passed: what the process needs may start after it, or go while it starts.
pub async fn at_start<T, E, F>(
    what: &str,
    may_pass: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        match attempt().await {
            Err(error) if may_pass(&error) && begun.elapsed() < START_PATIENCE => {
                if !std::mem::replace(&mut is_told, true) {
                    let error: &dyn Error = &error;
                    warn!(error, "{what} does not answer yet; trying for {START_PATIENCE:?}");
                }
                sleep(START_PAUSE).await;
            }
            settled => return settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, thiserror::Error)]
    #[error("attempt {0} failed")]
    struct Failed(u32);

    /// What comes of attempts of which the first so many fail, and how many there were.
    async fn attempts(failing: u32, may_pass: bool) -> (Result<u32, Failed>, u32) {
        let mut count = 0;
        let outcome = at_start(
            "it",
            |_| may_pass,
            || {
                count += 1;
                std::future::ready(if count <= failing { Err(Failed(count)) } else { Ok(count) })
            },
        );
        (outcome.await, count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_tries_for_a_minute_what_may_pass() {
        assert_eq!(attempts(0, true).await, (Ok(1), 1));
        assert_eq!(attempts(3, true).await, (Ok(4), 4));
        assert_eq!(attempts(u32::MAX, true).await, (Err(Failed(121)), 121), "every half second");
        assert_eq!(attempts(3, false).await, (Err(Failed(1)), 1));
    }

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
