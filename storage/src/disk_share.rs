//! How the disk is shared between tenants, and what of dead letters is kept: pure.
//!
//! The share is max-min fair ("water filling", as links are shared: Bertsekas and Gallager, *Data
//! Networks*, 6.5.2): there is one level; who takes more than it gives back down to it, who takes
//! less gives nothing. A tenant that takes no more than its equal part of the limit so loses nothing
//! whatever the others do, and what it leaves of its part is theirs.

use std::time::Duration;

/// The number of a tenant in the database.
pub(crate) type TenantId = i64;

/// What each must give back so that all together take no more than the limit; who gives nothing is
/// left out.
pub(crate) fn excess(used: &[(TenantId, u64)], limit: u64) -> Vec<(TenantId, u64)> {
    let Some(level) = level(used.iter().map(|(_, used)| *used).collect(), limit) else {
        return Vec::new();
    };
    let over = |&(tenant, used): &(TenantId, u64)| Some((tenant, used.checked_sub(level)?));
    used.iter().filter_map(over).filter(|(_, excess)| *excess > 0).collect()
}

/// The most that one may take of the limit, the others being as they are.
pub(crate) fn share(used: &[(TenantId, u64)], of: TenantId, limit: u64) -> u64 {
    let others = used.iter().filter(|(tenant, _)| *tenant != of).map(|(_, used)| *used);
    level(others.chain([u64::MAX]).collect(), limit).unwrap_or(limit)
}

/// The most that one may take so that all together keep to the limit; none if they do already.
fn level(mut used: Vec<u64>, limit: u64) -> Option<u64> {
    used.sort_unstable();
    let (mut left, mut sharers) = (limit, used.len() as u64);
    for used in used {
        let equal_part = left / sharers;
        if used > equal_part {
            return Some(equal_part);
        }
        left -= used;
        sharers -= 1;
    }
    None
}

/// Adds to what each is known to take its part of what belongs to nobody (indices, half-filled
/// pages), in proportion, so that together they take the total.
pub(crate) fn spread(used: &[(TenantId, u64)], total: u64) -> Vec<(TenantId, u64)> {
    let known: u128 = used.iter().map(|(_, used)| u128::from(*used)).sum();
    let part = |used: u64| u128::from(used) * u128::from(total) / known.max(1);
    used.iter().map(|&(tenant, used)| (tenant, part(used).try_into().unwrap_or(total))).collect()
}

/// What is kept of a tenant's dead letters that are owed to nobody: their senders were told, or they
/// were replayed. Those of acknowledged logs leave only with the tenant's logs, oldest first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadLetterQuota {
    pub(crate) dead_letters_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) age_max: Duration,
}

impl DeadLetterQuota {
    /// As many as a person will ever look at, and long enough to notice; 0 is no limit of the disk.
    pub(crate) const fn of(disk_bytes_max: u64) -> Self {
        let of_disk = disk_bytes_max / Self::PART_OF_DISK;
        let is_small = disk_bytes_max > 0 && of_disk < Self::BYTES_MAX;
        Self {
            dead_letters_max: 100_000,
            bytes_max: if is_small { of_disk } else { Self::BYTES_MAX },
            age_max: Duration::from_secs(90 * 24 * 3_600),
        }
    }

    /// A twentieth of the default limit of the disk, and of any smaller one.
    const BYTES_MAX: u64 = 1 << 30;
    const PART_OF_DISK: u64 = 20;

    /// Whether so many are too many, or too large.
    pub(crate) const fn is_exceeded(&self, dead_letters: u64, bytes: u64) -> bool {
        dead_letters > self.dead_letters_max || bytes > self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenants(used: &[u64]) -> Vec<(TenantId, u64)> {
        (1..).zip(used.iter().copied()).collect()
    }

    fn kept(used: &[(TenantId, u64)], limit: u64) -> Vec<u64> {
        let excess = excess(used, limit);
        let given =
            |tenant| excess.iter().find(|(of, _)| *of == tenant).map_or(0, |(_, given)| *given);
        used.iter().map(|(tenant, used)| used - given(*tenant)).collect()
    }

    #[test]
    fn the_largest_give_first() {
        assert_eq!(excess(&tenants(&[20, 200]), 100), [(2, 120)]);
        assert_eq!(excess(&tenants(&[60, 200]), 100), [(1, 10), (2, 150)]);
        assert_eq!(excess(&tenants(&[10, 30, 40, 50]), 100), [(3, 10), (4, 20)]);
        assert_eq!(excess(&tenants(&[50, 50]), 100), []);
        assert_eq!(excess(&[], 0), []);
    }

    #[test]
    fn what_belongs_to_nobody_is_spread_by_share() {
        assert_eq!(spread(&tenants(&[1, 3]), 8), tenants(&[2, 6]));
        assert_eq!(spread(&tenants(&[0, 0]), 8), tenants(&[0, 0]));
        assert_eq!(spread(&tenants(&[u64::MAX]), 5), tenants(&[5]));
    }

    #[test]
    fn dead_letters_take_a_twentieth_of_a_small_disk_and_a_gibibyte_of_a_large_one() {
        let bytes_max = |disk| DeadLetterQuota::of(disk).bytes_max;
        assert_eq!(
            [bytes_max(100), bytes_max(20 << 30), bytes_max(1 << 40), bytes_max(0)],
            [5, 1 << 30, 1 << 30, 1 << 30]
        );
        let quota = DeadLetterQuota::of(2_000);
        assert!(!quota.is_exceeded(100_000, 100));
        assert!(quota.is_exceeded(100_001, 100) && quota.is_exceeded(1, 101));
    }

    fn some_use() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(
            prop_oneof![0_u64..50, 0_u64..100_000, any::<u64>().prop_map(|n| n >> 8)],
            1..20,
        )
    }

    proptest! {
        #[test]
        fn what_stays_fits(used in some_use(), limit in 0_u64..1_000_000) {
            let stays: u128 = kept(&tenants(&used), limit).into_iter().map(u128::from).sum();
            prop_assert!(stays <= limit.into());
        }

        #[test]
        fn nobody_gives_of_an_equal_part(used in some_use(), limit in 0_u64..1_000_000) {
            let equal_part = limit / used.len() as u64;
            for (used, kept) in used.iter().zip(kept(&tenants(&used), limit)) {
                prop_assert!(kept >= equal_part.min(*used));
            }
        }

        #[test]
        fn no_more_is_given_than_must_be(used in some_use(), limit in 0_u64..1_000_000) {
            let stays = kept(&tenants(&used), limit);
            let total: u128 = stays.iter().copied().map(u128::from).sum();
            let givers = stays.iter().zip(&used).filter(|(kept, used)| kept < used).count();
            // One byte more for each that gives would be over the limit.
            prop_assert!(givers == 0 || total + givers as u128 > limit.into());
        }

        #[test]
        fn one_more_never_leaves_another_more(
            used in some_use(), more in any::<u32>(), limit in 0_u64..1_000_000,
        ) {
            let before = kept(&tenants(&used), limit);
            let after = kept(&tenants(&[&used[..], &[more.into()]].concat()), limit);
            for (before, after) in before.iter().zip(after) {
                prop_assert!(after <= *before);
            }
        }

        #[test]
        fn who_takes_more_than_its_share_gives_the_rest(used in some_use(), limit in 0_u64..1_000_000) {
            let tenants = tenants(&used);
            for ((tenant, used), kept) in tenants.iter().zip(kept(&tenants, limit)) {
                prop_assert_eq!(kept, share(&tenants, *tenant, limit).min(*used));
            }
        }

        #[test]
        fn one_alone_gives_what_is_over_the_limit(used: u64, limit: u64) {
            let over = used.saturating_sub(limit);
            let expected = if over > 0 { vec![(1, over)] } else { Vec::new() };
            prop_assert_eq!(excess(&tenants(&[used]), limit), expected);
            prop_assert_eq!(spread(&tenants(&[used.max(1)]), limit), tenants(&[limit]));
        }

        #[test]
        fn spreading_keeps_the_total_and_the_order(used in some_use(), total in 0_u64..1_000_000) {
            let spread = spread(&tenants(&used), total);
            let sum: u64 = spread.iter().map(|(_, used)| used).sum();
            let is_known = used.iter().any(|used| *used > 0);
            prop_assert!(sum <= total && (!is_known || sum + used.len() as u64 > total));
        }
    }
}
