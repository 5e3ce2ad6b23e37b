//! How fast one service of one tenant may send: logs and bytes, by token buckets (GCRA).
//!
//! A batch takes from both buckets or from neither. One larger than a whole burst is charged as a
//! burst, so that it is not refused for ever. Buckets that are full again are forgotten, so that
//! names that are no longer used take no memory.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use logweir_core::identity::{Service, Tenant};
use parking_lot::Mutex;

use crate::{config::RateConfig, status::Refusal};

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The rate limits of every service.
pub(crate) struct RateLimits {
    /// Of logs and of bytes; none: without limit.
    quotas: [(&'static str, Option<NonZeroU32>); 2],
    burst: Duration,
    /// When each bucket of a service will be full again.
    full_at: Mutex<HashMap<(Tenant, Service), [Instant; 2]>>,
}

impl RateLimits {
    pub(crate) fn new(config: &RateConfig) -> Self {
        let quotas = [
            ("logs_per_second", NonZeroU32::new(config.logs_per_second)),
            ("bytes_per_second", NonZeroU32::new(config.bytes_per_second)),
        ];
        let burst = Duration::from_secs(config.burst_seconds.max(1).into());
        Self { quotas, burst, full_at: Mutex::default() }
    }

    /// Takes what a batch costs, or says when there will be enough.
    pub(crate) fn check(
        &self,
        tenant: &Tenant,
        service: &Service,
        [logs, bytes]: [usize; 2],
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.quotas.iter().all(|(_, per_second)| per_second.is_none()) {
            return Ok(());
        }
        // GCRA keeps one instant instead of a count and a time (ITU-T I.371, annex A): a batch
        // moves it on by the time that its cost takes to earn, and may come while it lies no
        // further ahead than a burst. There is nothing to refill while nobody sends.
        let mut services = self.full_at.lock();
        let full_at = services.entry((tenant.clone(), service.clone())).or_insert([now; 2]);
        let mut after = *full_at;
        let mut refused = None;
        for (((quota, per_second), full_at), cost) in
            self.quotas.into_iter().zip(&mut after).zip([logs, bytes])
        {
            let Some(per_second) = per_second else { continue };
            *full_at = now.max(*full_at) + self.time_to_earn(cost, per_second);
            let wait = full_at.saturating_duration_since(now + self.burst);
            // The longer wait of the two: at the shorter one the batch would be refused again.
            refused = refused.max((!wait.is_zero()).then_some((wait, quota)));
        }
        if let Some((retry_after, quota)) = refused {
            return Err(Refusal::RateLimited {
                quota,
                subject: format!("{tenant}/{service}"),
                retry_after,
            });
        }
        // Only now: a refused batch that had paid would make its own retry come too early.
        *full_at = after;
        Ok(())
    }

    /// How long the quota takes to allow so much, a burst at most.
    fn time_to_earn(&self, cost: usize, per_second: NonZeroU32) -> Duration {
        let nanos = (cost as u128).saturating_mul(NANOS_PER_SECOND) / u128::from(per_second.get());
        u64::try_from(nanos).map_or(self.burst, Duration::from_nanos).min(self.burst)
    }

    /// Forgets buckets that are full again.
    pub(crate) fn forget_idle(&self, now: Instant) {
        // A token for any service may name a new one in each batch: without this the map would
        // grow with every name ever sent. A full bucket and none at all allow the same.
        self.full_at.lock().retain(|_, full_at| full_at.iter().any(|at| *at > now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        limits: RateLimits,
        now: Instant,
    }

    impl Bench {
        fn new(logs_per_second: u32, bytes_per_second: u32) -> Self {
            let config = RateConfig { logs_per_second, bytes_per_second, burst_seconds: 2 };
            Self { limits: RateLimits::new(&config), now: Instant::now() }
        }

        fn send(&self, service: &str, logs: usize, bytes: usize) -> Result<(), Refusal> {
            self.send_as("default", service, logs, bytes)
        }

        fn send_as(
            &self,
            tenant: &str,
            service: &str,
            logs: usize,
            bytes: usize,
        ) -> Result<(), Refusal> {
            let (tenant, service) = (Tenant::new(tenant).unwrap(), Service::new(service).unwrap());
            self.limits.check(&tenant, &service, [logs, bytes], self.now)
        }

        /// The quota that refuses a batch, and for how long.
        fn refused(&self, logs: usize, bytes: usize) -> (&'static str, Duration) {
            match self.send("a", logs, bytes) {
                Err(Refusal::RateLimited { quota, retry_after, .. }) => (quota, retry_after),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn waiting_as_told_is_enough() {
        let mut bench = Bench::new(100, 0);
        let mut accepted = 0;
        let mut waited = Duration::ZERO;
        while waited < Duration::from_secs(60) {
            if bench.send("a", 50, 1).is_err() {
                let (quota, retry_after) = bench.refused(50, 1);
                assert_eq!(quota, "logs_per_second");
                bench.now += retry_after;
                waited += retry_after;
                bench.send("a", 50, 1).unwrap();
            }
            accepted += 50;
        }
        let allowed = 100.0 * waited.as_secs_f64() + 200.0;
        assert!((f64::from(accepted) / allowed - 1.0).abs() < 0.05, "{accepted} of {allowed}");
    }

    #[test]
    fn others_are_not_affected() {
        let bench = Bench::new(100, 0);
        assert!(bench.send("a", 200, 1).is_ok());
        assert!(bench.send("a", 1, 1).is_err());
        assert!(bench.send("b", 200, 1).is_ok());
        assert!(bench.send_as("x", "a", 200, 1).is_ok());
    }

    #[test]
    fn bytes_are_a_quota_of_their_own() {
        let mut bench = Bench::new(0, 64_000);
        assert!(bench.send("a", 1, 128_000).is_ok());
        assert_eq!(bench.refused(1, 64_000), ("bytes_per_second", Duration::from_secs(1)));
        assert!(bench.send("a", 1, 64_000).unwrap_err().to_string().contains("default/a"));
        bench.now += Duration::from_secs(1);
        assert!(bench.send("a", 1, 64_000).is_ok());
    }

    #[test]
    fn what_one_quota_refuses_costs_nothing_of_the_other() {
        let bench = Bench::new(100, 1_000);
        assert!(bench.send("a", 100, 2_000).is_ok());
        for _ in 0..10 {
            assert_eq!(bench.refused(100, 1_000).0, "bytes_per_second");
        }
        assert!(bench.send("a", 100, 0).is_ok());
    }

    #[test]
    fn of_two_waits_the_longer_is_told() {
        let mut bench = Bench::new(100, 1_000);
        assert!(bench.send("a", 200, 2_000).is_ok());
        assert_eq!(bench.refused(150, 1_000), ("logs_per_second", Duration::from_millis(1_500)));
        assert_eq!(bench.refused(100, 1_500), ("bytes_per_second", Duration::from_millis(1_500)));
        bench.now += Duration::from_millis(1_500);
        assert!(bench.send("a", 150, 1_500).is_ok());
    }

    #[test]
    fn a_batch_beyond_the_burst_gets_its_turn() {
        let mut bench = Bench::new(10, 0);
        assert!(bench.send("a", usize::MAX, 1).is_ok());
        assert!(bench.send("a", usize::MAX, 1).is_err());
        bench.now += Duration::from_secs(2);
        assert!(bench.send("a", usize::MAX, 1).is_ok());
    }

    #[test]
    fn idle_services_are_forgotten_once_full_again() {
        let mut bench = Bench::new(10, 1_000);
        for number in 0..1_000 {
            bench.send(&number.to_string(), 20, 1).unwrap();
        }
        bench.now += Duration::from_millis(1_999);
        bench.limits.forget_idle(bench.now);
        assert_eq!(bench.limits.full_at.lock().len(), 1_000);
        bench.now += Duration::from_millis(1);
        bench.limits.forget_idle(bench.now);
        assert_eq!(bench.limits.full_at.lock().len(), 0);
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let bench = Bench::new(0, 0);
        for _ in 0..10 {
            assert!(bench.send("a", usize::MAX, usize::MAX).is_ok());
        }
    }
}
