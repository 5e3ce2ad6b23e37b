//! Which small blocks to merge, and how to cut what comes of it: pure.
//!
//! A write makes one block over all its services, of whatever size the moment gives. Merging a run
//! of them, in the order of arrival, sorts the logs by service and cuts blocks in which a large
//! service is alone and small ones share; all but the last of them have their size and stay as they
//! are. Runs are of blocks of about one size, so each merge multiplies it, and a log is merged once
//! under load, when writes are large, and a few times only where it is cheap.

use logweir_core::identity::LogId;

/// Blocks that make a run worth merging, and the most in one.
// The first is the factor by which a merge makes blocks larger, and so says how often a log is
// merged: log16 of what a settled block has over what a write has, three times at most (see the
// test).
const RUN_BLOCKS_MIN: usize = 16;
const RUN_BLOCKS_MAX: usize = 64;
/// So many logs are worth merging however few the blocks are, and so many if the oldest has waited.
// Under load a write has 20,000 logs: four of them make a run, and three once the load is over.
// Fewer would be sorted by service into blocks too small to stay, and be merged again.
const RUN_LOGS_MIN: u64 = 64 << 10;
const WAITED_LOGS_MIN: u64 = 48 << 10;
const WAITED_SECONDS: i64 = 30;
/// A merge has no more than this in memory.
// Just enough for four writes of 20,000. Twice as much was tried: it held twice the memory.
const RUN_LOGS_MAX: u64 = 80 << 10;
const RUN_TEXT_BYTES_MAX: u64 = 16 << 20;
/// A service is alone in its blocks from this size on; so large, a merged block stays as it is.
const ALONE_LOGS_MIN: usize = 2 << 10;
const SETTLED_TEXT_BYTES: u64 = 4 << 20;
/// Merged blocks are cut at this size.
// Smaller than what a write may make: showing one match decompresses its whole block.
const BLOCK_LOGS_MAX: usize = 16 << 10;

/// Whether a block is not to be merged any more.
pub(crate) const fn is_settled(generation: u32, logs: u64, text_bytes: u64) -> bool {
    // A fresh block never stays, whatever its size: its services are mixed, so that a search for
    // one of them opens it for a few rows.
    generation > 0 && (logs >= ALONE_LOGS_MIN as u64 || text_bytes >= SETTLED_TEXT_BYTES)
}

/// A block that is not settled, as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) block_id: i64,
    /// How often its logs have been merged.
    pub(crate) generation: u32,
    pub(crate) logs: u64,
    pub(crate) text_bytes: u64,
    pub(crate) made_unix_seconds: i64,
}

impl Candidate {
    /// Which blocks it may be merged with, those of its step: 0 as written, then a step for every
    /// 16-fold in logs.
    // Without steps the leftovers of each merge would be merged again with the next one's, and a
    // log of a small service as often as there are merges.
    fn step(&self) -> u32 {
        let by_size = || 1 + self.logs.checked_ilog(RUN_BLOCKS_MIN as u64).unwrap_or(0);
        if self.generation == 0 { 0 } else { by_size() }
    }
}

/// The blocks to merge next, of one tenant's, given in order of arrival: the oldest run of the
/// lowest step that is worth it.
pub(crate) fn choose(candidates: &[Candidate], now_unix_seconds: i64) -> Vec<Candidate> {
    let steps = candidates.iter().map(Candidate::step).max().map_or(0, |step| step + 1);
    (0..steps)
        .map(|step| run(candidates, step, now_unix_seconds))
        .find(|run| !run.is_empty())
        .unwrap_or_default()
}

fn run(candidates: &[Candidate], step: u32, now_unix_seconds: i64) -> Vec<Candidate> {
    let (mut run, mut logs, mut text_bytes) = (Vec::new(), 0, 0);
    let mut is_cut = false;
    for candidate in candidates.iter().filter(|candidate| candidate.step() == step) {
        let is_full = run.len() == RUN_BLOCKS_MAX
            || logs + candidate.logs > RUN_LOGS_MAX
            || text_bytes + candidate.text_bytes > RUN_TEXT_BYTES_MAX;
        // A run that ended because it is full is worth merging, whatever it has: it cannot grow by
        // waiting, and would keep all blocks behind it from being merged.
        if is_full && !run.is_empty() {
            is_cut = true;
            break;
        }
        logs += candidate.logs;
        text_bytes += candidate.text_bytes;
        run.push(*candidate);
    }
    let has_waited = run
        .first()
        .is_some_and(|oldest| now_unix_seconds - oldest.made_unix_seconds >= WAITED_SECONDS);
    let logs_min = if has_waited { WAITED_LOGS_MIN } else { RUN_LOGS_MIN };
    let is_worth_it = is_cut || run.len() >= RUN_BLOCKS_MIN || logs >= logs_min;
    if is_worth_it { run } else { Vec::new() }
}

/// Where a log of a run lies. Ordered as the merged blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Its service's position among the names of the run.
    pub(crate) service: u32,
    pub(crate) id: LogId,
    pub(crate) block: u32,
    pub(crate) row: u32,
}

/// Sorts the logs of a run, large services first, then by service and time, and cuts them: each
/// part becomes a block.
pub(crate) fn cut(places: &mut [Place], services: usize) -> Vec<&[Place]> {
    let mut counts = vec![0; services];
    places.iter().for_each(|place| counts[place.service as usize] += 1);
    let is_small = |place: &Place| counts[place.service as usize] < ALONE_LOGS_MIN;
    // Unstable is enough: block and row make every place different.
    places.sort_unstable_by_key(|place| (is_small(place), *place));
    let (large, small) = places.split_at(places.partition_point(|place| !is_small(place)));
    let mut parts = Vec::new();
    for alone in large.chunk_by(|a, b| a.service == b.service) {
        // Cut evenly and not at the limit: the rest would often be too small to stay as it is.
        let count = alone.len().div_ceil(BLOCK_LOGS_MAX);
        parts.extend(alone.chunks(alone.len().div_ceil(count)));
    }
    let (mut start, mut end) = (0, 0);
    // A small service is never cut: its search would open two blocks for fewer logs than fill one.
    for service in small.chunk_by(|a, b| a.service == b.service) {
        if end - start + service.len() > BLOCK_LOGS_MAX {
            parts.push(&small[start..end]);
            start = end;
        }
        end += service.len();
    }
    if start < end {
        parts.push(&small[start..end]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use logweir_core::{identity::BatchId, timestamp::Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn fresh(block_id: i64, logs: u64) -> Candidate {
        Candidate { block_id, generation: 0, logs, text_bytes: logs * 150, made_unix_seconds: 100 }
    }

    fn chosen(candidates: &[Candidate]) -> Vec<i64> {
        choose(candidates, 110).iter().map(|candidate| candidate.block_id).collect()
    }

    #[test]
    fn few_small_blocks_wait() {
        let blocks: Vec<Candidate> = (0..15).map(|id| fresh(id, 50)).collect();
        assert_eq!(chosen(&blocks), [0_i64; 0]);
        assert_eq!(chosen(&[]), [0_i64; 0]);
    }

    #[test]
    fn a_run_begins_with_the_oldest() {
        let blocks: Vec<Candidate> = (0..100).map(|id| fresh(id, 50)).collect();
        assert_eq!(chosen(&blocks), (0..64).collect::<Vec<_>>());
    }

    #[test]
    fn large_writes_are_merged_by_their_size() {
        let blocks: Vec<Candidate> = (0..20).map(|id| fresh(id, 20_000)).collect();
        assert_eq!(chosen(&blocks[..3]), [0_i64; 0]);
        assert_eq!(chosen(&blocks), (0..4).collect::<Vec<_>>());
    }

    #[test]
    fn what_has_waited_is_merged_sooner() {
        let blocks: Vec<Candidate> = (0..4).map(|id| fresh(id, 20_000)).collect();
        let chosen = |count: usize, now| choose(&blocks[..count], now).len();
        assert_eq!((chosen(3, 129), chosen(2, 130), chosen(3, 130)), (0, 0, 3));
    }

    #[test]
    fn what_has_its_size_stays() {
        assert!(is_settled(1, 5_000, 0) && is_settled(1, 10, 5 << 20));
        assert!(!is_settled(0, 20_000, 5 << 20) && !is_settled(1, 1_000, 100_000));
    }

    /// Writes come in for long; how often is a log merged, and how many blocks are left?
    fn merges_per_log(sizes: impl Iterator<Item = u64>, services: u64) -> (f64, usize) {
        let mut blocks: Vec<Candidate> = Vec::new();
        let (mut written, mut merged, mut settled, mut next_id) = (0, 0, 0, 0);
        for logs in sizes {
            next_id += 1;
            blocks.push(fresh(next_id, logs));
            written += logs;
            loop {
                let run = choose(&blocks, 110);
                if run.is_empty() {
                    break;
                }
                blocks.retain(|block| !run.contains(block));
                let logs: u64 = run.iter().map(|block| block.logs).sum();
                merged += logs;
                let is_alone = logs / services >= ALONE_LOGS_MIN as u64;
                let parts = if is_alone { services } else { logs.div_ceil(BLOCK_LOGS_MAX as u64) };
                for _ in 0..parts {
                    next_id += 1;
                    let block = Candidate { generation: 1, ..fresh(next_id, logs / parts) };
                    if is_settled(1, block.logs, block.text_bytes) {
                        settled += 1;
                    } else {
                        blocks.push(block);
                    }
                }
            }
        }
        (merged as f64 / written as f64, blocks.len() + settled)
    }

    #[test]
    fn a_log_is_merged_a_few_times_at_most() {
        for (size, services, merges_max) in
            [(20_000, 20, 1.0), (20_000, 1, 1.0), (1_000, 20, 1.0), (50, 20, 2.0), (1, 5, 3.0)]
        {
            let writes = (2_000_000 / size).min(40_000);
            let (merges, blocks) =
                merges_per_log(std::iter::repeat_n(size, writes as usize), services);
            assert!(merges <= merges_max, "{size} x {services}: {merges}");
            let many = (writes * size) as usize / ALONE_LOGS_MIN;
            assert!(blocks <= many + 100, "{size} x {services}: {blocks} blocks");
        }
    }

    fn place(service: u32, time: Timestamp) -> Place {
        let id = LogId { time, batch_id: BatchId([1; 16]), index: 0 };
        Place { service, id, block: 0, row: time.as_unix_nanos() as u32 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn cutting_keeps_every_log_and_the_sizes(
            counts in prop::collection::vec(prop_oneof![1_usize..50, 1_000_usize..5_000, 20_000_usize..40_000], 1..12),
        ) {
            let mut places: Vec<Place> = Vec::new();
            for (service, count) in (0..).zip(&counts) {
                places.extend((0..*count).map(|time| place(service, Timestamp::from_unix_nanos(time as i64))));
            }
            let mut expected = places.clone();
            places.reverse();
            let parts = cut(&mut places, counts.len());
            let mut kept = parts.concat();
            kept.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(kept, expected);
            let unsettled = parts.iter().filter(|part| part.len() < ALONE_LOGS_MIN).count();
            prop_assert!(unsettled <= 1);
            let mut alone: BTreeMap<u32, usize> = BTreeMap::new();
            for part in &parts {
                prop_assert!(!part.is_empty() && part.len() <= BLOCK_LOGS_MAX);
                let services: BTreeSet<u32> = part.iter().map(|place| place.service).collect();
                if services.len() == 1 {
                    *alone.entry(part[0].service).or_default() += part.len();
                }
            }
            for (service, count) in (0..).zip(&counts).filter(|(_, count)| **count >= ALONE_LOGS_MIN) {
                prop_assert_eq!(alone.get(&service), Some(count));
            }
        }
    }
}
