//! What each batch counts as, and the producer's account of it all.

use logweir_proto::v1;

use super::{state::Worker, track::Tracked};
use crate::{
    delivery::{batch, queue::Queue},
    error::DropReason,
};

impl Worker {
    pub(super) fn account(&self, queue: &Queue) -> v1::Account {
        v1::Account {
            emitted: queue.emitted(),
            dropped: batch::drop_counts(queue.dropped(), self.moved),
            rejected: self.shared.progress.lock().rejected,
            queued: queue.len() as u64,
            // What was left to an adopter is included: the server sees it arrive from there.
            spooled: self.outstanding.spooled(),
        }
    }

    pub(super) fn count_drop(&mut self, tracked: &Tracked, reason: DropReason, count: u64) {
        if tracked.tag.is_none() {
            self.shared.progress.lock().adopted_dropped += count;
            return;
        }
        self.shared.queue.lock().count_drop(reason, count);
        if tracked.is_moved {
            // It leaves the other producer's account, too.
            self.moved -= count;
        }
    }

    pub(super) fn begin(&mut self, tracked: &Tracked) {
        match tracked.tag {
            Some(tag) => self.outstanding.add(tag, tracked.records(), tracked.frame.is_some()),
            None => self.shared.progress.lock().adopted_waiting += tracked.records(),
        }
        self.publish();
    }

    pub(super) fn end(&mut self, tracked: &Tracked) {
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

    pub(super) fn publish(&self) {
        let mut progress = self.shared.progress.lock();
        progress.in_memory = self.outstanding.in_memory();
        progress.spooled = self.outstanding.spooled();
    }
}
