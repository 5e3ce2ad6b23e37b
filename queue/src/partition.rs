//! Which queue a batch goes to, and which process takes from which queue. Pure, so that every
//! process comes to the same answer without asking the others.
//!
//! All batches of a service lie in one partition, so that one processor mostly sees all its logs.
//! So one service is never processed faster than one processor can. Nothing but speed depends on
//! it: a batch that two processes see is stored once all the same.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use logweir_core::identity::{Service, Tenant};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The partition of a service, below `partitions`.
pub fn partition_of(tenant: &Tenant, service: &Service, partitions: u16) -> u16 {
    let mut hash = Xxh3::new();
    hash.update(tenant.as_str().as_bytes());
    // No name contains it.
    hash.update(&[0]);
    hash.update(service.as_str().as_bytes());
    // Part of the stored format: with another hash, batches of a service that wait already would be
    // in one queue and new ones in another, read by two processors.
    let partition = hash.digest() % u64::from(partitions.max(1));
    u16::try_from(partition).expect("a remainder is smaller than its divisor")
}

/// The partitions that one of the living processes owns: each partition has exactly one owner, no
/// process has more than its share rounded up, and few change hands when one comes or goes.
///
/// Rendezvous hashing (Thaler and Ravishankar, 1998) with a cap: pairs of process and partition are
/// taken by their score, highest first, while the process has room.
pub fn owned(process_id: &str, live_ids: &BTreeSet<String>, partitions: u16) -> BTreeSet<u16> {
    // Without a cap, four partitions on two processors often fall three to one.
    let share_max = usize::from(partitions).div_ceil(live_ids.len().max(1));
    let pair = |process, partition| (Reverse(score(process, partition)), process, partition);
    let of_process = |process| (0..partitions).map(move |partition| pair(process, partition));
    let mut pairs: Vec<_> = live_ids.iter().map(String::as_str).flat_map(of_process).collect();
    // Process and partition are part of the key, so that equal scores have one order everywhere.
    pairs.sort_unstable();
    let mut owner_of: BTreeMap<u16, &str> = BTreeMap::new();
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, process, partition) in pairs {
        let share = shares.entry(process).or_default();
        if *share < share_max && !owner_of.contains_key(&partition) {
            *share += 1;
            owner_of.insert(partition, process);
        }
    }
    let mine = owner_of.into_iter().filter(|(_, owner)| *owner == process_id);
    mine.map(|(partition, _)| partition).collect()
}

fn score(process: &str, partition: u16) -> u64 {
    let mut key = process.as_bytes().to_vec();
    key.extend(partition.to_le_bytes());
    xxh3_64(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processes(count: usize) -> BTreeSet<String> {
        (0..count).map(|number| format!("processor-{number}")).collect()
    }

    fn owners(live: &BTreeSet<String>, partitions: u16) -> BTreeMap<u16, String> {
        let mut owners = BTreeMap::new();
        for process in live {
            let share = owned(process, live, partitions);
            assert!(share.len() <= usize::from(partitions).div_ceil(live.len()), "{live:?}");
            for partition in share {
                assert!(owners.insert(partition, process.clone()).is_none(), "it has one owner");
            }
        }
        assert_eq!(owners.len(), usize::from(partitions), "every partition is owned: {live:?}");
        owners
    }

    #[test]
    fn every_partition_has_one_owner_and_nobody_too_many() {
        for partitions in [1, 2, 4, 7, 16, 64] {
            for count in [1, 2, 3, 5, 20] {
                owners(&processes(count), partitions);
            }
        }
    }

    #[test]
    fn few_partitions_move_when_a_process_joins_or_leaves() {
        let partitions = 64;
        for count in 2..10 {
            let live = processes(count);
            let before = owners(&live, partitions);
            for leaving in &live {
                let mut left = live.clone();
                left.remove(leaving);
                let after = owners(&left, partitions);
                let moved = before.iter().filter(|(at, owner)| after[*at] != **owner).count();
                let orphaned = before.values().filter(|owner| *owner == leaving).count();
                // Those of the one that left must move; the caps move some others.
                assert!(moved <= orphaned * 2 + 4, "{count}: {moved} moved, {orphaned} orphaned");
            }
        }
    }

    #[test]
    fn nobody_alive_owns_nothing_and_a_stranger_neither() {
        assert!(owned("a", &BTreeSet::new(), 4).is_empty());
        assert!(owned("stranger", &processes(2), 4).is_empty());
        assert!(owned("a", &processes(2), 0).is_empty());
    }

    #[test]
    fn a_service_keeps_its_partition_and_services_spread() {
        let tenant = Tenant::default();
        let mut counts = BTreeMap::new();
        for number in 0..400 {
            let service = Service::new(&format!("service-{number}")).unwrap();
            let partition = partition_of(&tenant, &service, 4);
            assert_eq!(partition, partition_of(&tenant, &service, 4));
            *counts.entry(partition).or_insert(0) += 1;
        }
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(counts.values().all(|count| (60..140).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_partition_is_part_of_the_format() {
        let (tenant, service) = (Tenant::default(), Service::new("payments").unwrap());
        let (other, joined) = (Tenant::new("defaultp").unwrap(), Service::new("ayments").unwrap());
        assert_eq!(partition_of(&tenant, &service, u16::MAX), 28_019);
        assert_ne!(
            partition_of(&tenant, &service, u16::MAX),
            partition_of(&other, &joined, u16::MAX)
        );
    }
}
