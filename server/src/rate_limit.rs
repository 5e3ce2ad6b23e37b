//! How fast one service of one tenant may send: logs and bytes, by token buckets (GCRA).
//!
//! A batch larger than a whole burst is charged as a burst, so that it is not refused for ever.
//! Buckets that are full again are forgotten, so that names that are no longer used take no memory.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};
use logweir_core::identity::{Service, Tenant};

use crate::{config::RateConfig, status::Refusal};

/// Bytes are counted in units of this many, to keep the bucket exact at high rates.
const BYTES_PER_UNIT: u32 = 64;

type Key = (Tenant, Service);

/// The rate limits of every service.
pub(crate) struct RateLimits<C: Clock = DefaultClock> {
    logs: Option<Bucket<C>>,
    bytes: Option<Bucket<C>>,
}

struct Bucket<C: Clock> {
    quota_name: &'static str,
    burst: NonZeroU32,
    clock: C,
    limiter: RateLimiter<Key, DashMapStateStore<Key>, C, NoOpMiddleware<C::Instant>>,
}

impl<C: Clock + Clone> RateLimits<C> {
    pub(crate) fn new(config: &RateConfig, clock: C) -> Self {
        let bucket = |quota_name, per_second: u32| {
            let rate = NonZeroU32::new(per_second)?;
            let burst = rate.saturating_mul(NonZeroU32::new(config.burst_seconds)?);
            let quota = Quota::per_second(rate).allow_burst(burst);
            let limiter = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
            Some(Bucket { quota_name, burst, clock: clock.clone(), limiter })
        };
        Self {
            logs: bucket("logs_per_second", config.logs_per_second),
            bytes: bucket("bytes_per_second", config.bytes_per_second.div_ceil(BYTES_PER_UNIT)),
        }
    }

    /// Takes what a batch costs, or says when there will be enough.
    pub(crate) fn check(
        &self,
        tenant: &Tenant,
        service: &Service,
        logs: usize,
        bytes: usize,
    ) -> Result<(), Refusal> {
        if self.logs.is_none() && self.bytes.is_none() {
            return Ok(());
        }
        let key = (tenant.clone(), service.clone());
        let units = bytes.div_ceil(BYTES_PER_UNIT as usize);
        for (bucket, cost) in [(&self.logs, logs), (&self.bytes, units)] {
            let Some(bucket) = bucket else { continue };
            bucket.take(&key, cost).map_err(|retry_after| Refusal::RateLimited {
                quota: bucket.quota_name,
                subject: format!("{tenant}/{service}"),
                retry_after,
            })?;
        }
        Ok(())
    }

    /// Forgets buckets that are full again.
    pub(crate) fn forget_idle(&self) {
        for bucket in [&self.logs, &self.bytes].into_iter().flatten() {
            bucket.limiter.retain_recent();
        }
    }
}

impl<C: Clock> Bucket<C> {
    fn take(&self, key: &Key, cost: usize) -> Result<(), Duration> {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX).min(self.burst.get());
        let Some(cost) = NonZeroU32::new(cost) else { return Ok(()) };
        let taken = self.limiter.check_key_n(key, cost).expect("the cost is at most a burst");
        taken.map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limits(logs: u32, bytes: u32) -> (RateLimits<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let config =
            RateConfig { logs_per_second: logs, bytes_per_second: bytes, burst_seconds: 2 };
        (RateLimits::new(&config, clock.clone()), clock)
    }

    fn service(name: &str) -> Service {
        Service::new(name).unwrap()
    }

    #[test]
    fn waiting_as_told_is_enough() {
        let (limits, clock) = limits(100, 0);
        let tenant = Tenant::default();
        let mut accepted = 0;
        let mut waited = Duration::ZERO;
        while waited < Duration::from_secs(60) {
            match limits.check(&tenant, &service("a"), 50, 1) {
                Ok(()) => accepted += 50,
                Err(Refusal::RateLimited { quota, retry_after, .. }) => {
                    assert_eq!(quota, "logs_per_second");
                    clock.advance(retry_after);
                    waited += retry_after;
                    assert!(limits.check(&tenant, &service("a"), 50, 1).is_ok());
                    accepted += 50;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        let allowed = 100.0 * waited.as_secs_f64() + 200.0;
        assert!((f64::from(accepted) / allowed - 1.0).abs() < 0.05, "{accepted} of {allowed}");
    }

    #[test]
    fn others_are_not_affected() {
        let (limits, _) = limits(100, 0);
        assert!(limits.check(&Tenant::default(), &service("a"), 200, 1).is_ok());
        assert!(limits.check(&Tenant::default(), &service("a"), 1, 1).is_err());
        assert!(limits.check(&Tenant::default(), &service("b"), 200, 1).is_ok());
        assert!(limits.check(&Tenant::new("x").unwrap(), &service("a"), 200, 1).is_ok());
    }

    #[test]
    fn bytes_are_a_quota_of_their_own() {
        let (limits, clock) = limits(0, 64_000);
        let tenant = Tenant::default();
        assert!(limits.check(&tenant, &service("a"), 1, 128_000).is_ok());
        let refusal = limits.check(&tenant, &service("a"), 1, 64_000).unwrap_err();
        let Refusal::RateLimited { quota, retry_after, subject } = refusal else { panic!() };
        assert_eq!((quota, subject.as_str()), ("bytes_per_second", "default/a"));
        assert_eq!(retry_after, Duration::from_secs(1));
        clock.advance(retry_after);
        assert!(limits.check(&tenant, &service("a"), 1, 64_000).is_ok());
    }

    #[test]
    fn a_batch_beyond_the_burst_gets_its_turn() {
        let (limits, clock) = limits(10, 0);
        assert!(limits.check(&Tenant::default(), &service("a"), 10_000, 1).is_ok());
        assert!(limits.check(&Tenant::default(), &service("a"), 10_000, 1).is_err());
        clock.advance(Duration::from_secs(2));
        assert!(limits.check(&Tenant::default(), &service("a"), 10_000, 1).is_ok());
    }

    #[test]
    fn idle_services_are_forgotten() {
        let (limits, clock) = limits(10, 1_000);
        for number in 0..1_000 {
            limits.check(&Tenant::default(), &service(&number.to_string()), 1, 1).unwrap();
        }
        clock.advance(Duration::from_secs(10));
        limits.forget_idle();
        assert_eq!(limits.logs.as_ref().unwrap().limiter.len(), 0);
        assert_eq!(limits.bytes.as_ref().unwrap().limiter.len(), 0);
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let (limits, _) = limits(0, 0);
        for _ in 0..10 {
            assert!(
                limits.check(&Tenant::default(), &service("a"), usize::MAX, usize::MAX).is_ok()
            );
        }
    }
}
