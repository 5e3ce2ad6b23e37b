//! Which of a partition's two queues a batch waits in: what tenants send that send much is apart from
//! what the others send, so that a flood waits behind itself and not before others. Pure but for the
//! times it is given.
//!
//! A tenant sends much, to a partition and through a server, from when it exceeds a rate and its burst,
//! as a policer of one rate finds (RFC 2697, without the excess burst), until it has not done so for a
//! while. All of its batches go one way meanwhile and keep their order. When it ends and much is still
//! waiting, what comes next overtakes that. Nothing is refused here: rates that are refused beyond are
//! the server's.
//!
//! Processors must know whose batches wait with the bulk before they have fetched any, or they would
//! take the tenant for silent. So batches go on being regular, and say what follows, until the broker
//! has confirmed one that does.

use std::{collections::HashMap, time::Duration};

use logweir_core::{identity::Tenant, timestamp::Timestamp};
use tokio::time::Instant;

/// What a tenant may send to a partition in a second through one server and be ordinary, in the unit of
/// `Message::cost`: some ten thousand logs, about a tenth of what one processor stores.
const ORDINARY_COST_PER_SECOND: u64 = 256 << 10;
/// What it may send at once after having sent less: four seconds of that.
const BURST: Duration = Duration::from_secs(4);
/// How long a tenant must have kept within the rate to be ordinary again.
const BULK_LASTS: Duration = Duration::from_secs(60);
/// How long a processor knows of a tenant's bulk by its last batch there: the next one comes within
/// [`BULK_LASTS`], by clocks that differ and with what it takes to read and to compress a batch.
const BULK_KNOWN_FOR: Duration = Duration::from_secs(90);
/// Senders remembered before those that are silent are forgotten.
const SENDERS_KEPT: usize = 4_096;

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

/// How each tenant sends through this server, to each partition.
#[derive(Default)]
pub(super) struct Policer {
    senders: HashMap<(Tenant, u16), Sender>,
}

struct Sender {
    /// When it has its whole burst again.
    full_at: Instant,
    /// Until when it is one that sends much, unless it exceeds the rate again.
    bulk_until: Instant,
    /// Whether a batch is in the regular queue that says so.
    is_said: bool,
}

/// Where a batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policed {
    pub(super) class: TrafficClass,
    /// Whether the tenant's next batches may go where bulk waits, though this one does not.
    pub(super) bulk_follows: bool,
}

impl Policer {
    /// Counts a batch of this cost.
    pub(super) fn police(
        &mut self,
        tenant: &Tenant,
        partition: u16,
        cost: u64,
        now: Instant,
    ) -> Policed {
        let key = (tenant.clone(), partition);
        if self.senders.len() >= SENDERS_KEPT && !self.senders.contains_key(&key) {
            self.senders.retain(|_, sender| now < sender.full_at.max(sender.bulk_until));
        }
        let new = || Sender { full_at: now, bulk_until: now, is_said: false };
        let sender = self.senders.entry(key).or_insert_with(new);
        sender.is_said &= now < sender.bulk_until;
        let takes = Duration::from_secs_f64(cost as f64 / ORDINARY_COST_PER_SECOND as f64);
        let full_at = sender.full_at.max(now) + takes;
        if full_at <= now + BURST {
            sender.full_at = full_at;
        } else {
            sender.bulk_until = now + BULK_LASTS;
        }
        match (now < sender.bulk_until, sender.is_said) {
            (true, true) => Policed { class: TrafficClass::Bulk, bulk_follows: false },
            (bulk_follows, _) => Policed { class: TrafficClass::Regular, bulk_follows },
        }
    }

    /// The broker has confirmed a batch that says that bulk follows.
    pub(super) fn said(&mut self, tenant: &Tenant, partition: u16) {
        if let Some(sender) = self.senders.get_mut(&(tenant.clone(), partition)) {
            sender.is_said = true;
        }
    }
}

/// The tenants of which a consumer knows that batches wait, or may wait, with the bulk.
#[derive(Default)]
pub(super) struct BulkTenants {
    /// When a server took the last batch that says so.
    last: HashMap<Tenant, Timestamp>,
}

impl BulkTenants {
    /// A batch of a tenant was bulk, or said that bulk follows.
    pub(super) fn note(&mut self, tenant: &Tenant, received_at: Timestamp) {
        let last = self.last.entry(tenant.clone()).or_insert(received_at);
        *last = (*last).max(received_at);
    }

    /// Those of which some may wait while the bulk is stored through this time, by name.
    pub(super) fn waiting(&mut self, through: Timestamp) -> Vec<Tenant> {
        self.last.retain(|_, last| *last + BULK_KNOWN_FOR > through);
        let mut names: Vec<_> = self.last.keys().cloned().collect();
        names.sort();
        names
    }
}

/// Whether whoever began to read a queue of bulk then knows all of its tenants, once it is stored
/// through this time.
pub(super) fn knows_all(began: Timestamp, through: Timestamp) -> bool {
    through > began + BULK_KNOWN_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn regular(bulk_follows: bool) -> Policed {
        Policed { class: TrafficClass::Regular, bulk_follows }
    }

    #[test]
    fn who_exceeds_the_rate_goes_apart_until_it_has_not_for_a_while() {
        let (mut policer, begin) = (Policer::default(), Instant::now());
        let [flood, calm] = ["flood", "calm"].map(|name| Tenant::new(name).unwrap());
        let second = ORDINARY_COST_PER_SECOND;
        let mut of_flood = |cost, now| policer.police(&flood, 0, cost, now);
        for _ in 0..BURST.as_secs() {
            assert_eq!(of_flood(second, begin), regular(false));
        }
        assert_eq!(of_flood(1_000, begin), regular(true));
        assert_eq!(of_flood(10, begin), regular(true), "nobody has confirmed that it is said");
        policer.said(&flood, 0);
        let bulk = Policed { class: TrafficClass::Bulk, bulk_follows: false };
        assert_eq!(policer.police(&flood, 0, 10, begin), bulk);
        assert_eq!(policer.police(&flood, 1, 10, begin), regular(false), "another partition");
        assert_eq!(policer.police(&calm, 0, second, begin), regular(false), "another's is its own");
        let later = begin + BULK_LASTS - SECOND;
        assert_eq!(policer.police(&flood, 0, second * 5, later), bulk, "it exceeds it again");
        assert_eq!(policer.police(&flood, 0, 10, begin + BULK_LASTS), bulk);
        let over = later + BULK_LASTS;
        assert_eq!(policer.police(&flood, 0, 10, over), regular(false));
        assert_eq!(policer.police(&flood, 0, second * 5, over), regular(true), "it is said anew");
    }

    #[test]
    fn silent_senders_are_forgotten() {
        let (mut policer, begin) = (Policer::default(), Instant::now());
        let name = |number: usize| Tenant::new(&format!("t{number}")).unwrap();
        for number in 0..=SENDERS_KEPT {
            policer.police(&name(number), 0, 1_000, begin);
        }
        assert_eq!(policer.senders.len(), SENDERS_KEPT + 1, "all of them send");
        policer.police(&name(SENDERS_KEPT + 1), 0, 1_000, begin + SECOND);
        assert_eq!(policer.senders.len(), 1);
    }

    #[test]
    fn a_tenant_is_known_until_its_bulk_is_stored_and_no_more_can_follow() {
        let mut tenants = BulkTenants::default();
        let [early, late] = ["early", "late"].map(|name| Tenant::new(name).unwrap());
        let at = |seconds| Timestamp::EPOCH + SECOND * seconds;
        tenants.note(&late, at(20));
        tenants.note(&early, at(10));
        tenants.note(&late, at(15));
        assert_eq!(tenants.waiting(at(99)), [early, late.clone()]);
        assert_eq!(tenants.waiting(at(100)), [late]);
        assert_eq!(tenants.waiting(at(110)), []);
        assert!(!knows_all(at(10), at(100)) && knows_all(at(10), at(101)));
    }
}
