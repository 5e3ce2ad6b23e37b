//! Where each batch is until it is settled, and what it counts as.

use std::{collections::BTreeMap, time::Instant};

use super::Worker;
use crate::{batch::EncodedBatch, error::DropReason, spool::FrameRef};

/// A batch that is not settled.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    /// None while it is on disk alone.
    pub(super) batch: Option<EncodedBatch>,
    /// Where it is on disk, if it is.
    pub(super) frame: Option<FrameRef>,
    pub(super) record_count: u32,
    /// When it was cut, as a running number; none for a dead process's batch.
    pub(super) tag: Option<u64>,
    /// The same by a clock that never jumps.
    pub(super) cut_at: Option<Instant>,
    /// It is in the account of a producer of its own, and counts as moved in ours.
    pub(super) is_moved: bool,
    /// Logs were taken out of it on the server's word.
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

/// This process's unsettled batches, by tag.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    tags_given: u64,
    /// Logs in the spool that another process took over: nobody here waits for them.
    left_to_adopter: u64,
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

    /// Whether every batch below a mark is settled.
    pub(super) fn is_settled_below(&self, mark: u64) -> bool {
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
        if count.batches == 0 {
            self.by_tag.remove(&tag);
        }
    }
}

impl Worker {
    /// Takes a new batch on: into the spool if there is one, and into the line.
    pub(super) fn track(&mut self, tracked: Tracked) {
        let tracked = self.put_into_spool(tracked);
        self.begin(&tracked);
        self.live.push_back(tracked);
        self.leave_surplus_on_disk();
        self.evict_from_spool();
    }

    /// Puts batches at the head of the line in the place of one that cannot be sent as it is. They
    /// are in the spool before it leaves it.
    pub(super) fn replace<const COUNT: usize>(&mut self, old: Tracked, new: [Tracked; COUNT]) {
        let new = new.map(|tracked| self.put_into_spool(tracked));
        for tracked in &new {
            self.begin(tracked);
        }
        self.settle(&old);
        for tracked in new.into_iter().rev() {
            self.live.push_front(tracked);
        }
        self.evict_from_spool();
    }

    /// Counts a batch as given up.
    pub(super) fn give_up(&mut self, tracked: Tracked, reason: DropReason) {
        self.count_drop(&tracked, reason, tracked.records());
        self.settle(&tracked);
    }

    pub(super) fn count_drop(&mut self, tracked: &Tracked, reason: DropReason, count: u64) {
        if tracked.tag.is_none() {
            self.shared.progress.lock().adopted_dropped += count;
            return;
        }
        self.shared.queue.lock().count_drop(reason, count);
        if tracked.is_moved {
            self.moved -= count;
        }
    }

    /// A batch is done with, one way or the other.
    pub(super) fn settle(&mut self, tracked: &Tracked) {
        self.end(tracked);
        let (Some(frame), Some(spool)) = (tracked.frame, &mut self.spool) else { return };
        if let Err(error) = spool.acknowledge(frame) {
            self.spool_failed(&error);
        }
    }

    fn put_into_spool(&mut self, mut tracked: Tracked) -> Tracked {
        self.replace_taken_spool();
        let (Some(spool), Some(batch)) = (&mut self.spool, &tracked.batch) else { return tracked };
        match spool.append(batch) {
            Ok(frame) => {
                tracked.frame = Some(frame);
                self.set_spool_works(true);
            }
            Err(error) => self.write_failed(&error),
        }
        tracked
    }

    fn begin(&mut self, tracked: &Tracked) {
        match tracked.tag {
            Some(tag) => self.outstanding.add(tag, tracked.records(), tracked.frame.is_some()),
            None => self.shared.progress.lock().adopted_waiting += tracked.records(),
        }
        self.publish();
    }

    fn end(&mut self, tracked: &Tracked) {
        match tracked.tag {
            Some(tag) => self.outstanding.remove(tag, tracked.records(), tracked.frame.is_some()),
            None => self.shared.progress.lock().adopted_waiting -= tracked.records(),
        }
        self.publish();
    }

    /// A batch on disk alone that another process took over with the spool.
    pub(super) fn leave_to_adopter(&mut self, tracked: &Tracked) {
        if tracked.tag.is_some() {
            self.outstanding.left_to_adopter += tracked.records();
        }
        self.end(tracked);
    }

    fn publish(&self) {
        let mut progress = self.shared.progress.lock();
        progress.in_memory = self.outstanding.in_memory();
        progress.spooled = self.outstanding.spooled();
    }

    /// Keeps in memory what will be sent next, and no more. What is not on disk stays.
    pub(super) fn leave_surplus_on_disk(&mut self) {
        while self.live.len() > self.config.in_flight {
            let on_disk = self.live.iter().position(|tracked| tracked.frame.is_some());
            let Some(mut tracked) = on_disk.and_then(|at| self.live.remove(at)) else { return };
            tracked.batch = None;
            self.backlog.push_back(tracked);
        }
    }

    /// Gives up what a full spool has no room for. What is in memory as well is sent all the same.
    pub(super) fn evict_from_spool(&mut self) {
        while let Some(segment) = self.spool.as_mut().and_then(|spool| spool.evict()) {
            let is_gone =
                |tracked: &Tracked| tracked.frame.is_some_and(|frame| frame.segment == segment);
            let mut gone = Vec::new();
            for line in [&mut self.backlog, &mut self.adopted] {
                let (out, kept): (Vec<_>, Vec<_>) = line.drain(..).partition(is_gone);
                *line = kept.into();
                gone.extend(out);
            }
            for tracked in gone {
                self.give_up(tracked, DropReason::CacheOverflow);
            }
            self.keep_in_memory(is_gone);
        }
        self.publish();
    }

    /// Goes on without the spool for batches whose frames there are gone.
    pub(super) fn keep_in_memory(&mut self, is_gone: impl Fn(&Tracked) -> bool) {
        let in_memory = self.live.iter_mut().chain(self.in_flight.values_mut());
        for tracked in in_memory.filter(|tracked| tracked.frame.is_some() && is_gone(tracked)) {
            if let Some(tag) = tracked.tag {
                self.outstanding.remove(tag, tracked.records(), true);
                self.outstanding.add(tag, tracked.records(), false);
            }
            tracked.frame = None;
        }
        self.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_settle_in_any_order() {
        let mut outstanding = Outstanding::default();
        let (first, second) = (outstanding.next_tag(), outstanding.next_tag());
        outstanding.add(first, 10, false);
        outstanding.add(second, 5, true);
        outstanding.add(second, 3, false);
        let mark = outstanding.mark();
        assert_eq!(outstanding.records_below(mark), (13, 5));
        outstanding.remove(second, 5, true);
        outstanding.remove(second, 3, false);
        assert!(!outstanding.is_settled_below(mark));
        assert!(outstanding.is_settled_below(first));
        outstanding.remove(first, 10, false);
        assert!(outstanding.is_settled_below(mark));
        assert_eq!((outstanding.in_memory(), outstanding.spooled()), (0, 0));
    }
}
