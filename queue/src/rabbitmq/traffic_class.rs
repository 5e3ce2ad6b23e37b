//! Which of a partition's two queues a batch waits in: what tenants send that send much is apart from
//! what the others send, so that a flood waits behind itself and not before others. Pure but for the
//! instants it is given.
//!
//! A tenant is one that sends much from when it exceeds a rate and its burst, as a policer of one rate
//! finds (RFC 2697, without the excess burst), until it has not done so for a while: all of its
//! batches go one way meanwhile, so that they keep their order but for when that changes. Nothing is
//! refused here: rates that are refused beyond are the server's.

use std::{collections::HashMap, time::Duration};

use logweir_core::identity::Tenant;
use tokio::time::Instant;

/// What a tenant may send in a second through one server and be ordinary, compressed bytes: some ten
/// thousand logs, about a tenth of what one processor stores.
const ORDINARY_BYTES_PER_SECOND: u64 = 256 << 10;
/// What it may send at once after having sent less: four seconds of that.
const BURST: Duration = Duration::from_secs(4);
/// How long a tenant must have kept within the rate to be ordinary again. Most of what it sent before is
/// stored by then, and what it sends next overtakes little.
pub(super) const BULK_LASTS: Duration = Duration::from_secs(60);
/// Tenants remembered before those that are silent are forgotten.
const TENANTS_KEPT: usize = 1_024;

/// The two kinds of queues of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TrafficClass {
    /// For tenants within an ordinary rate.
    Regular,
    /// For those beyond it.
    Bulk,
}

impl TrafficClass {
    pub(super) const ALL: [Self; 2] = [Self::Regular, Self::Bulk];

    /// As metrics name it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Bulk => "bulk",
        }
    }
}

/// How each tenant sends through this server.
#[derive(Default)]
pub(super) struct Policer {
    tenants: HashMap<Tenant, Sender>,
}

struct Sender {
    /// When it has its whole burst again.
    full_at: Instant,
    /// Until when it is one that sends much, unless it exceeds the rate again.
    bulk_until: Option<Instant>,
}

/// Where a batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policed {
    pub(super) class: TrafficClass,
    /// Whether the tenant's next batches go where bulk waits, though this one does not.
    pub(super) bulk_follows: bool,
}

impl Policer {
    /// Counts a batch of so many bytes.
    pub(super) fn police(&mut self, tenant: &Tenant, bytes: usize, now: Instant) -> Policed {
        if self.tenants.len() >= TENANTS_KEPT && !self.tenants.contains_key(tenant) {
            self.tenants.retain(|_, sender| !sender.is_forgotten(now));
        }
        let new = || Sender { full_at: now, bulk_until: None };
        let sender = self.tenants.entry(tenant.clone()).or_insert_with(new);
        let was_bulk = sender.is_bulk(now);
        let cost = Duration::from_secs_f64(bytes as f64 / ORDINARY_BYTES_PER_SECOND as f64);
        let full_at = sender.full_at.max(now) + cost;
        if full_at <= now + BURST {
            sender.full_at = full_at;
        } else {
            sender.bulk_until = Some(now + BULK_LASTS);
        }
        // The one that exceeds the rate still goes with the others: it says in time what follows.
        let class = if was_bulk { TrafficClass::Bulk } else { TrafficClass::Regular };
        Policed { class, bulk_follows: !was_bulk && sender.is_bulk(now) }
    }
}

impl Sender {
    fn is_bulk(&self, now: Instant) -> bool {
        self.bulk_until.is_some_and(|until| now < until)
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        self.full_at <= now && !self.is_bulk(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_exceeds_the_rate_goes_apart_until_it_has_not_for_a_while() {
        let (mut policer, begin) = (Policer::default(), Instant::now());
        let [flood, calm] = ["flood", "calm"].map(|name| Tenant::new(name).unwrap());
        let second_bytes = ORDINARY_BYTES_PER_SECOND as usize;
        let regular = Policed { class: TrafficClass::Regular, bulk_follows: false };
        for _ in 0..BURST.as_secs() {
            assert_eq!(policer.police(&flood, second_bytes, begin), regular);
        }
        let first = Policed { bulk_follows: true, ..regular };
        assert_eq!(policer.police(&flood, 1_000, begin), first);
        let bulk = Policed { class: TrafficClass::Bulk, bulk_follows: false };
        assert_eq!(policer.police(&flood, 10, begin), bulk);
        assert_eq!(policer.police(&calm, second_bytes, begin), regular, "another's is its own");
        let later = begin + BULK_LASTS - SECOND;
        assert_eq!(policer.police(&flood, second_bytes * 5, later), bulk, "it exceeds it again");
        assert_eq!(policer.police(&flood, 10, begin + BULK_LASTS), bulk);
        assert_eq!(policer.police(&flood, 10, later + BULK_LASTS), regular);
    }

    #[test]
    fn silent_tenants_are_forgotten() {
        let (mut policer, begin) = (Policer::default(), Instant::now());
        let name = |number: usize| Tenant::new(&format!("t{number}")).unwrap();
        for number in 0..TENANTS_KEPT {
            policer.police(&name(number), 1_000, begin);
        }
        policer.police(&name(TENANTS_KEPT), 1_000, begin);
        assert_eq!(policer.tenants.len(), TENANTS_KEPT + 1, "all of them send");
        policer.police(&name(TENANTS_KEPT + 1), 1_000, begin + SECOND);
        assert_eq!(policer.tenants.len(), 1);
    }
}
