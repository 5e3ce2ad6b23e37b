//! The batches that are outstanding: where each is, and how many logs wait in them.

use std::{collections::BTreeMap, time::Instant};

use crate::delivery::{batch::EncodedBatch, spool::FrameRef};

/// A batch that is outstanding: neither accepted nor given up so far.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    /// None while it is on disk alone.
    pub(super) batch: Option<EncodedBatch>,
    /// Where it is on disk, if it is.
    pub(super) frame: Option<FrameRef>,
    pub(super) record_count: u32,
    /// A number that rises with each batch cut; none for a dead process's batch.
    pub(super) tag: Option<u64>,
    /// When it was cut, by a clock that never jumps.
    pub(super) cut_at: Option<Instant>,
    /// It is in the account of a producer of its own, and counts as moved in ours.
    pub(super) is_moved: bool,
    /// Logs that the server named as faulty were taken out of it.
    pub(super) is_repaired: bool,
}

impl Tracked {
    pub(super) fn own(batch: EncodedBatch, tag: u64, cut_at: Instant) -> Self {
        Self {
            record_count: batch.record_count,
            batch: Some(batch),
            frame: None,
            tag: Some(tag),
            cut_at: Some(cut_at),
            is_moved: false,
            is_repaired: false,
        }
    }

    pub(super) fn adopted(frame: FrameRef, record_count: u32) -> Self {
        Self {
            batch: None,
            frame: Some(frame),
            record_count,
            tag: None,
            cut_at: None,
            is_moved: false,
            is_repaired: false,
        }
    }

    /// A batch that takes this one's place.
    pub(super) fn successor(&self, batch: EncodedBatch) -> Self {
        let record_count = batch.record_count;
        Self { batch: Some(batch), frame: None, record_count, ..self.clone() }
    }

    pub(super) fn records(&self) -> u64 {
        u64::from(self.record_count)
    }
}

#[derive(Debug, Default)]
struct Count {
    batches: u64,
    in_memory: u64,
    spooled: u64,
}

impl Count {
    fn records(&mut self, is_spooled: bool) -> &mut u64 {
        if is_spooled { &mut self.spooled } else { &mut self.in_memory }
    }
}

/// This process's outstanding batches, by tag.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    tags_given: u64,
    /// Logs in the spool that another process took over: nobody here waits for them.
    pub(super) left_to_adopter: u64,
    by_tag: BTreeMap<u64, Count>,
    all: Count,
}

impl Outstanding {
    pub(super) fn next_tag(&mut self) -> u64 {
        self.tags_given += 1;
        self.tags_given
    }

    /// A tag above all given so far.
    pub(super) fn mark(&self) -> u64 {
        self.tags_given + 1
    }

    pub(super) fn spooled(&self) -> u64 {
        self.all.spooled + self.left_to_adopter
    }

    pub(super) fn in_memory(&self) -> u64 {
        self.all.in_memory
    }

    /// Whether every batch below a mark is done with.
    pub(super) fn is_complete_below(&self, mark: u64) -> bool {
        self.by_tag.first_key_value().is_none_or(|(tag, _)| *tag >= mark)
    }

    /// Logs below a mark in memory, and in the spool.
    pub(super) fn records_below(&self, mark: u64) -> (u64, u64) {
        let sum = |(memory, spool), (_, count): (&u64, &Count)| {
            (memory + count.in_memory, spool + count.spooled)
        };
        self.by_tag.range(..mark).fold((0, 0), sum)
    }

    pub(super) fn add(&mut self, tag: u64, records: u64, is_spooled: bool) {
        let count = self.by_tag.entry(tag).or_default();
        count.batches += 1;
        *count.records(is_spooled) += records;
        *self.all.records(is_spooled) += records;
    }

    pub(super) fn remove(&mut self, tag: u64, records: u64, is_spooled: bool) {
        let Some(count) = self.by_tag.get_mut(&tag) else { return };
        count.batches -= 1;
        *count.records(is_spooled) -= records;
        *self.all.records(is_spooled) -= records;
        // Batches without logs count too: a waiter waits for the account that they carry.
        if count.batches == 0 {
            self.by_tag.remove(&tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_done_with_in_any_order() {
        let mut outstanding = Outstanding::default();
        let (first, second) = (outstanding.next_tag(), outstanding.next_tag());
        outstanding.add(first, 10, false);
        outstanding.add(second, 5, true);
        outstanding.add(second, 3, false);
        let mark = outstanding.mark();
        assert_eq!(outstanding.records_below(mark), (13, 5));
        outstanding.remove(second, 5, true);
        outstanding.remove(second, 3, false);
        assert!(!outstanding.is_complete_below(mark));
        assert!(outstanding.is_complete_below(first));
        outstanding.remove(first, 10, false);
        assert!(outstanding.is_complete_below(mark));
        assert_eq!((outstanding.in_memory(), outstanding.spooled()), (0, 0));
    }
}
