//! How fast a tenant, and one service of it, may send: logs and bytes, by token buckets (GCRA).
//!
//! A request takes from all of its buckets or from none. One larger than a whole burst comes when its
//! buckets are full, so that it is not refused for ever, and the next waits until all of it is earned.
//! Buckets that are full again are forgotten, so that names that are no longer used take no memory.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use logweir_core::identity::{Service, Tenant};
use parking_lot::Mutex;
use tracing::info;

use crate::{config::RateConfig, status::Refusal};

const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// A request is paid off by then, however large.
const EARNED_WITHIN_MAX: Duration = Duration::from_secs(3_600);

/// The rate limits of every tenant and service.
pub(crate) struct RateLimits {
    tenant: Quotas,
    service: Quotas,
    burst: Duration,
    /// When each bucket of a sender will be full again.
    full_at: Mutex<HashMap<Sender, [Instant; 2]>>,
}

/// Of logs and of bytes; none: without limit.
type Quotas = [(&'static str, Option<NonZeroU32>); 2];

/// A tenant with all its services, or one of them.
type Sender = (Tenant, Option<Service>);

/// How long to wait, and for which quota.
type Wait = (Duration, &'static str);

impl RateLimits {
    pub(crate) fn new(config: &RateConfig) -> Self {
        Self {
            tenant: [
                ("tenant_logs_per_second", NonZeroU32::new(config.tenant_logs_per_second)),
                ("tenant_bytes_per_second", NonZeroU32::new(config.tenant_bytes_per_second)),
            ],
            service: [
                ("logs_per_second", NonZeroU32::new(config.logs_per_second)),
                ("bytes_per_second", NonZeroU32::new(config.bytes_per_second)),
            ],
            burst: Duration::from_secs(config.burst_seconds.max(1).into()),
            full_at: Mutex::default(),
        }
    }

    /// Tells what limits there are.
    pub(crate) fn tell(&self) {
        for (quota, per_second) in self.limits() {
            info!(quota, per_second, "senders are limited");
        }
    }

    /// Every limit there is, by the name of its quota.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (&'static str, NonZeroU32)> {
        let quotas = self.tenant.into_iter().chain(self.service);
        quotas.filter_map(|(quota, per_second)| Some((quota, per_second?)))
    }

    /// Takes what a request costs of each service that it is for, each named once, or says when there
    /// will be enough.
    pub(crate) fn check(
        &self,
        tenant: &Tenant,
        costs: &[(&Service, [usize; 2])],
        now: Instant,
    ) -> Result<(), Refusal> {
        let total = costs.iter().fold([0; 2], |[logs, bytes]: [usize; 2], (_, cost)| {
            [logs.saturating_add(cost[0]), bytes.saturating_add(cost[1])]
        });
        let whole = (self.tenant, (tenant.clone(), None), total);
        let services = costs.iter().map(|(service, cost)| {
            (self.service, (tenant.clone(), Some((*service).clone())), *cost)
        });
        let senders = std::iter::once(whole).chain(services);
        let limited = senders.filter(|(quotas, ..)| is_limited(quotas));
        let mut full_at = self.full_at.lock();
        let mut paid = Vec::with_capacity(2);
        let mut refused = None;
        for (quotas, sender, cost) in limited {
            let before = full_at.get(&sender).copied().unwrap_or([now; 2]);
            let (after, wait) = self.charge(quotas, before, cost, now);
            // The longest wait of all: at a shorter one the batch would be refused again.
            refused = refused.max(wait.map(|wait| (wait, name(&sender))));
            paid.push((sender, after));
        }
        if let Some(((retry_after, quota), subject)) = refused {
            return Err(Refusal::RateLimited { quota, subject, retry_after });
        }
        // Only now: a refused batch that had paid would make its own retry come too early.
        full_at.extend(paid);
        Ok(())
    }

    /// When a sender's buckets are full again once it has paid, and how long it must wait to.
    fn charge(
        &self,
        quotas: Quotas,
        full_at: [Instant; 2],
        cost: [usize; 2],
        now: Instant,
    ) -> ([Instant; 2], Option<Wait>) {
        // GCRA keeps one instant instead of a count and a time (ITU-T I.371, annex A): a batch
        // moves it on by the time that its cost takes to earn, and may come while it lies no
        // further ahead than a burst. There is nothing to refill while nobody sends. One that costs
        // more than a burst comes when the bucket is full, and what comes next waits for all of it.
        let mut after = full_at;
        let mut longest = None;
        for (((quota, per_second), full_at), cost) in quotas.into_iter().zip(&mut after).zip(cost) {
            let Some(per_second) = per_second else { continue };
            let (begin, earned) = (now.max(*full_at), time_to_earn(cost, per_second));
            let wait = (begin + earned.min(self.burst)).saturating_duration_since(now + self.burst);
            *full_at = begin + earned;
            longest = longest.max((!wait.is_zero()).then_some((wait, quota)));
        }
        (after, longest)
    }

    /// Forgets buckets that are full again.
    pub(crate) fn forget_idle(&self, now: Instant) {
        // A token for any service may name a new one in each batch: without this the map would
        // grow with every name ever sent. A full bucket and none at all allow the same.
        self.full_at.lock().retain(|_, full_at| full_at.iter().any(|at| *at > now));
    }
}

/// How long a quota takes to allow so much.
fn time_to_earn(cost: usize, per_second: NonZeroU32) -> Duration {
    let nanos = (cost as u128).saturating_mul(NANOS_PER_SECOND) / u128::from(per_second.get());
    u64::try_from(nanos).map_or(EARNED_WITHIN_MAX, Duration::from_nanos).min(EARNED_WITHIN_MAX)
}

fn is_limited(quotas: &Quotas) -> bool {
    quotas.iter().any(|(_, per_second)| per_second.is_some())
}

fn name((tenant, service): &Sender) -> String {
    service.as_ref().map_or_else(|| tenant.to_string(), |service| format!("{tenant}/{service}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unlimited() -> RateConfig {
        RateConfig {
            logs_per_second: 0,
            bytes_per_second: 0,
            tenant_logs_per_second: 0,
            tenant_bytes_per_second: 0,
            burst_seconds: 2,
        }
    }

    struct Bench {
        limits: RateLimits,
        now: Instant,
    }

    impl Bench {
        fn new(logs_per_second: u32, bytes_per_second: u32) -> Self {
            Self::with(RateConfig { logs_per_second, bytes_per_second, ..unlimited() })
        }

        fn with(config: RateConfig) -> Self {
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
            self.limits.check(&tenant, &[(&service, [logs, bytes])], self.now)
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
    fn a_tenants_services_share_its_quota() {
        let bench = Bench::with(RateConfig { tenant_logs_per_second: 100, ..unlimited() });
        assert!(bench.send("a", 150, 1).is_ok());
        let refused = bench.send("b", 100, 1).unwrap_err();
        assert_eq!(refused.retry_after(), Some(Duration::from_millis(500)));
        let text = refused.to_string();
        assert!(text.contains("tenant_logs_per_second of default is used up"), "{text}");
        assert!(bench.send("b", 50, 1).is_ok());
        assert!(bench.send_as("x", "a", 200, 1).is_ok());
    }

    #[test]
    fn what_the_tenants_quota_refuses_costs_nothing_of_its_services() {
        let config =
            RateConfig { logs_per_second: 100, tenant_logs_per_second: 150, ..unlimited() };
        let bench = Bench::with(config);
        assert!(bench.send("a", 200, 1).is_ok());
        assert!(bench.send("b", 200, 1).is_err());
        assert!(bench.send("b", 100, 1).is_ok());
        assert!(bench.send("a", 1, 1).is_err());
    }

    #[test]
    fn a_request_for_several_services_pays_for_all_or_none() {
        let config =
            RateConfig { logs_per_second: 100, tenant_logs_per_second: 250, ..unlimited() };
        let bench = Bench::with(config);
        let [a, b] = ["a", "b"].map(|name| Service::new(name).unwrap());
        let send = |costs: [usize; 2]| {
            let costs = [(&a, [costs[0], 1]), (&b, [costs[1], 1])];
            bench.limits.check(&Tenant::default(), &costs, bench.now)
        };
        assert!(send([150, 150]).is_ok());
        assert!(send([50, 51]).unwrap_err().to_string().contains("default/b"));
        assert!(send([50, 50]).is_ok());
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
        for (cost, earned) in [(100, Duration::from_secs(10)), (usize::MAX, EARNED_WITHIN_MAX)] {
            assert!(bench.send("a", cost, 1).is_ok());
            // And not what a burst takes, or who sends large ones would have many times the rate.
            let (_, wait) = bench.refused(cost, 1);
            assert_eq!(wait, earned);
            bench.now += wait - Duration::from_nanos(1);
            assert!(bench.send("a", cost, 1).is_err());
            bench.now += Duration::from_nanos(1);
        }
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
