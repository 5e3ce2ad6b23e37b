//! The spool of the sending thread: opened, kept, lost; and which batches are in it.

use std::time::{Duration, Instant};

use super::{state::Worker, track::Tracked};
use crate::{
    delivery::spool::{Adopted, Spool, SpoolSync},
    error::DropReason,
};

/// The owner of a spool shows so often that it lives.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(30);
/// What could not be written to the spool is written again so much later.
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The spools of dead processes are looked for so often.
const ADOPTION_INTERVAL: Duration = Duration::from_secs(60);

impl Worker {
    pub(super) fn open_spool(&mut self) {
        let Some(options) = self.config.spool.clone() else { return };
        match Spool::open(options) {
            Ok(spool) => {
                self.set_spool_works(true);
                self.spool = Some(spool);
                let now = crate::platform::now();
                self.next_renewal = Some(now + RENEWAL_INTERVAL);
                self.adopt(now);
            }
            Err(error) => {
                self.shared.progress.lock().spool_failures += 1;
                (self.config.notice)(&format!("cannot open the spool, going on without: {error}"));
            }
        }
    }

    pub(super) fn sync_spool(&mut self, now: Instant) {
        let Some(spool) = &mut self.spool else { return };
        let SpoolSync::Interval(interval) = spool.options().sync else { return };
        if !spool.needs_sync() {
            self.next_sync = None;
        // Counted from the first write after the last sync, so that no write waits longer than the
        // interval.
        } else if *self.next_sync.get_or_insert(now + interval) <= now {
            self.next_sync = None;
            if let Err(error) = spool.sync() {
                self.write_failed(&error);
            }
        }
    }

    /// Shows that this process lives, and looks for what the dead have left.
    pub(super) fn maintain_spool(&mut self, now: Instant) {
        if self.next_renewal.is_some_and(|due| due <= now) {
            self.next_renewal = Some(now + RENEWAL_INTERVAL);
            self.replace_taken_spool();
            // A process that was stopped for long may find that it was taken for dead; only a
            // folder that is still its own is renewed.
            if let Some(Err(error)) = self.spool.as_ref().map(Spool::renew) {
                self.spool_failed(&error);
            }
        }
        if self.next_write.is_some_and(|due| due <= now) {
            self.write_what_is_in_memory();
        }
        if self.next_adoption.is_some_and(|due| due <= now) {
            self.adopt(now);
        }
    }

    fn adopt(&mut self, now: Instant) {
        self.next_adoption = Some(now + ADOPTION_INTERVAL);
        let Some(spool) = &mut self.spool else { return };
        let adopted = spool.adopt();
        let mut progress = self.shared.progress.lock();
        progress.spool_damaged = spool.damaged_runs();
        self.adopted.extend(adopted.into_iter().map(|Adopted { frame, record_count }| {
            progress.adopted_waiting += u64::from(record_count);
            Tracked::adopted(frame, record_count)
        }));
    }

    pub(super) fn is_spool_taken(&self) -> bool {
        self.spool.as_ref().is_some_and(Spool::is_taken)
    }

    /// Makes a new spool if the old one was taken over. What is on disk alone is then the other's
    /// to send; what is in memory as well is sent by both, which is harmless.
    pub(super) fn replace_taken_spool(&mut self) {
        let Some(spool) = self.spool.as_mut().filter(|spool| spool.is_taken()) else { return };
        // The new folder comes first: what is counted below refers to the old one.
        let begun = spool.start_over();
        for tracked in self.backlog.split_off(0).into_iter().chain(self.adopted.split_off(0)) {
            self.leave_to_adopter(&tracked);
        }
        self.keep_in_memory(|_| true);
        match begun {
            Ok(()) => {
                self.next_write = Some(crate::platform::now());
                self.notify_fault("taken", "the spool was taken over, going on with a new one");
            }
            Err(error) => self.write_failed(&error),
        }
    }

    pub(super) fn put_into_spool(&mut self, mut tracked: Tracked) -> Tracked {
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

    /// Writes what is in memory alone, up to the first batch that fails: a failure kept it out, or
    /// the spool that it was in was taken over. Until then it holds its place, and no other batch
    /// is cut.
    pub(super) fn write_what_is_in_memory(&mut self) {
        self.replace_taken_spool();
        self.next_write = None;
        let Some(spool) = &mut self.spool else { return };
        let is_unwritten = |tracked: &&mut Tracked| tracked.frame.is_none();
        let mut failure = None;
        for tracked in self.live.iter_mut().chain(self.in_flight.values_mut()).filter(is_unwritten)
        {
            // What is on disk alone is unwritten only if its spool was taken, and is left to the
            // adopter.
            let Some(batch) = &tracked.batch else { continue };
            match spool.append(batch) {
                Ok(frame) => tracked.frame = Some(frame),
                Err(error) => {
                    // A disk that fails once will fail for the next, and each try takes its time.
                    failure = Some(error);
                    break;
                }
            }
            if let Some(tag) = tracked.tag {
                self.outstanding.remove(tag, tracked.records(), false);
                self.outstanding.add(tag, tracked.records(), true);
            }
        }
        match failure {
            Some(error) => self.write_failed(&error),
            None => self.set_spool_works(true),
        }
        self.leave_surplus_on_disk();
        self.evict_from_spool();
    }

    /// Keeps in memory what will be sent next, and no more. What is not on disk stays.
    pub(super) fn leave_surplus_on_disk(&mut self) {
        while self.live.len() > self.config.in_flight {
            // The oldest that is on disk: it is the first to be sent, and to be read back.
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

    /// Counts a batch as given up.
    pub(super) fn give_up(&mut self, tracked: Tracked, reason: DropReason) {
        self.count_drop(&tracked, reason, tracked.records());
        self.complete(&tracked);
    }

    /// A batch is done with, one way or the other.
    pub(super) fn complete(&mut self, tracked: &Tracked) {
        self.end(tracked);
        let (Some(frame), Some(spool)) = (tracked.frame, &mut self.spool) else { return };
        if let Err(error) = spool.acknowledge(frame) {
            self.spool_failed(&error);
        }
    }

    /// From now on logs stay in memory, until a write succeeds.
    fn write_failed(&mut self, error: &std::io::Error) {
        self.set_spool_works(false);
        self.next_write = Some(crate::platform::now() + WRITE_AGAIN_AFTER);
        self.spool_failed(error);
    }

    pub(super) fn spool_failed(&mut self, error: &std::io::Error) {
        let mut progress = self.shared.progress.lock();
        progress.spool_failures += 1;
        if let Some(spool) = &self.spool {
            progress.spool_damaged = spool.damaged_runs();
        }
        drop(progress);
        let consequence = if self.spool_works() { "" } else { ", logs stay in memory" };
        self.notify_fault("spool", &format!("the spool fails{consequence}: {error}"));
    }
}
