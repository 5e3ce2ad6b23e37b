//! What may be in a queue at once: batches and bytes, and of each a share for every tenant.

use std::time::Duration;

use logweir_core::{
    fairness::{
        permits::{Refused, TenantPermit, TenantPermits},
        resource::{HeldShare, OverShare, SharedResource},
        threshold::Threshold,
    },
    identity::Tenant,
};

use metrics::gauge;

use crate::PublishError;

/// How long a refused publisher is asked to wait: about the time of a few commits.
const FULL_RETRY_AFTER: Duration = Duration::from_millis(200);
/// One tenant may hold so many times what it leaves: 80 % alone, 44 % each of two.
const SHARE_ALPHA: u64 = 4;
/// Whoever is let in before the size of its batch is known must find this part of the bytes free:
/// with the default bounds about one of the largest batches.
const ORDINARY_BATCH_PART: u64 = 16;

/// The bounds, and what counts against them. Clones share one account.
#[derive(Clone)]
pub(crate) struct Room {
    batches: TenantPermits,
    bytes: TenantPermits,
    rules: [Threshold; 2],
    bytes_max: u64,
    gauges: [&'static str; 2],
}

/// A batch's room, given back when it is dropped.
pub(crate) struct Place {
    room: Room,
    batch: TenantPermit,
    bytes: TenantPermit,
}

impl Room {
    /// Room of which one tenant alone may have so many batches and bytes, one batch at least. What
    /// all have is shown by these gauges.
    pub(crate) fn new(batches_max: usize, bytes_max: usize, gauges: [&'static str; 2]) -> Self {
        let (batches_max, bytes_max) = (batches_max.max(1) as u64, bytes_max.max(1) as u64);
        let rules = [batches_max, bytes_max].map(|max| Threshold::for_one(max, SHARE_ALPHA));
        let [batches, bytes] = rules.map(TenantPermits::new);
        Self { batches, bytes, rules, bytes_max, gauges }
    }

    /// The most batches that all tenants together can have in it.
    pub(crate) fn batches_total(&self) -> usize {
        self.rules[0].total as usize
    }

    /// Takes room for a batch. One that is larger than a whole share counts as that, so that it is
    /// not refused for ever.
    pub(crate) fn take(&self, tenant: &Tenant, bytes: usize) -> Result<Place, PublishError> {
        let batch = self.batches.try_take(tenant, 1);
        let batch = batch.map_err(|why| refused(SharedResource::QueueBatches, tenant, why))?;
        let bytes = self.bytes.try_take(tenant, (bytes as u64).min(self.bytes_max));
        let bytes = bytes.map_err(|why| refused(SharedResource::QueueBytes, tenant, why))?;
        self.report();
        Ok(Place { room: self.clone(), batch, bytes })
    }

    /// Whether an ordinary batch of the tenant would have room now.
    pub(crate) fn check(&self, tenant: &Tenant) -> Result<(), PublishError> {
        let batch = self.batches.check(tenant, 1);
        batch.map_err(|why| refused(SharedResource::QueueBatches, tenant, why))?;
        let bytes = self.bytes.check(tenant, self.bytes_max / ORDINARY_BATCH_PART);
        bytes.map_err(|why| refused(SharedResource::QueueBytes, tenant, why))
    }

    /// Whether a tenant that has nothing here would find room now.
    pub(crate) fn check_newcomer(&self) -> Result<(), PublishError> {
        for (resource, permits) in [
            (SharedResource::QueueBatches, &self.batches),
            (SharedResource::QueueBytes, &self.bytes),
        ] {
            if permits.load() >= 1.0 {
                return Err(full(resource));
            }
        }
        Ok(())
    }

    /// What a tenant has in it.
    pub(crate) fn held_shares(&self, tenant: &Tenant) -> [HeldShare; 2] {
        [
            self.batches.held_share(SharedResource::QueueBatches, tenant),
            self.bytes.held_share(SharedResource::QueueBytes, tenant),
        ]
    }

    fn report(&self) {
        let [batches, bytes] = self.gauges;
        gauge!(batches).set(self.batches.held_by_all() as f64);
        gauge!(bytes).set(self.bytes.held_by_all() as f64);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.batch.shrink_to(0);
        self.bytes.shrink_to(0);
        self.room.report();
    }
}

fn refused(resource: SharedResource, tenant: &Tenant, why: Refused) -> PublishError {
    match why {
        Refused::OverShare { held, share } => {
            let (tenant, retry_after) = (tenant.clone(), FULL_RETRY_AFTER);
            OverShare { resource, tenant, held, share, retry_after }.into()
        }
        Refused::Full => full(resource),
    }
}

fn full(resource: SharedResource) -> PublishError {
    let what = format!("no {} are left", resource.name());
    PublishError::Full { what, retry_after: FULL_RETRY_AFTER }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(batches_max: usize, bytes_max: usize) -> Room {
        Room::new(batches_max, bytes_max, ["batches", "bytes"])
    }

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    #[test]
    fn both_bounds_hold_until_a_place_is_given_back() {
        let (room, a) = (room(2, 100), tenant("a"));
        let first = room.take(&a, 60).unwrap();
        assert!(matches!(
            room.take(&a, 41),
            Err(PublishError::OverShare(OverShare { held: 60, .. }))
        ));
        assert_eq!(room.batches.held_by_all(), 1, "half of a place is none");
        let [_, bytes] = room.held_shares(&a);
        assert_eq!((bytes.held, bytes.held_max), (60, 100));
        let second = room.take(&a, 40).unwrap();
        let refused = room.take(&a, 0).map(drop).unwrap_err();
        assert!(matches!(refused, PublishError::OverShare(OverShare { held: 2, share: 2, .. })));
        drop((first, second));
        room.take(&a, 100).unwrap();
    }

    #[test]
    fn what_is_larger_than_a_share_passes_alone() {
        let (room, a) = (room(2, 100), tenant("a"));
        let large = room.take(&a, 1_000).unwrap();
        assert!(room.take(&a, 1).is_err());
        drop(large);
        let _small = room.take(&a, 1).unwrap();
        assert!(room.take(&a, 1_000).is_err());
    }

    #[test]
    fn one_at_its_share_leaves_room_for_another() {
        let (room, a, b) = (room(10, 160), tenant("a"), tenant("b"));
        let _held = room.take(&b, 155).unwrap();
        assert!(room.check(&b).is_err(), "an ordinary batch takes a sixteenth");
        assert!(room.take(&b, 5).is_ok());
        assert_eq!((room.check(&a), room.check_newcomer()), (Ok(()), Ok(())));
        let _rest = room.take(&a, 45).unwrap();
        assert!(matches!(room.check_newcomer(), Err(PublishError::Full { .. })));
    }
}
