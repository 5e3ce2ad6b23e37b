//! When logs leave the queue as a batch.

use std::time::Instant;

use logweir_proto::v1;

use super::{
    state::{CHUNK, Worker},
    track::Tracked,
};
use crate::{delivery::queue::Room, platform};

impl Worker {
    /// Whatever must not wait for a full batch any longer.
    pub(super) fn force_what_is_due(&mut self, now: Instant) {
        let mut queue = self.shared.queue.lock();
        if queue.take_urgent() || self.batch_due.is_some_and(|due| due <= now) {
            self.forced_through = queue.next_position();
            self.batch_due = None;
        }
        let oldest = queue.oldest().map(|(position, _)| position);
        drop(queue);
        match oldest {
            None => self.batch_due = None,
            Some(position) if position < self.forced_through => {}
            Some(_) if self.batch_due.is_none() => {
                // Spread by a tenth, so that many processes that start together do not send
                // together.
                let share = 0.9 + 0.2 * platform::random_share();
                self.batch_due = Some(now + self.config.batch_delay.mul_f64(share));
            }
            Some(_) => {}
        }
    }

    pub(super) fn cut_batches(&mut self, now: Instant) {
        while self.may_cut() && self.has_cause_to_cut() {
            self.cut_batch();
            // A batch that can go out at once does not go to disk alone.
            self.start_sends(now);
        }
    }

    /// A batch is cut when it can go out at once, or to disk as all before it did.
    fn may_cut(&self) -> bool {
        let is_on_disk = |tracked: &Tracked| tracked.frame.is_some();
        self.tasks.len() + self.live.len() < self.config.in_flight
            // With a spool memory stays bounded by the disk; a batch that is not on it yet would
            // break the order in which they are sent after a restart.
            || self.spool_works() && self.live.iter().all(is_on_disk)
    }

    fn has_cause_to_cut(&self) -> bool {
        let queue = self.shared.queue.lock();
        let is_due = |(position, _)| position < self.forced_through;
        queue.has_a_batch() || queue.oldest().is_some_and(is_due)
    }

    pub(super) fn cut_batch(&mut self) {
        let mut room = Room { records: self.config.batch_records, bytes: self.config.batch_bytes };
        let mut records = Vec::with_capacity(self.config.batch_records.min(CHUNK));
        // The account is taken with the last of the logs, so that it is true of exactly this batch.
        let account = loop {
            let mut queue = self.shared.queue.lock();
            if !queue.take(&mut room, CHUNK, &mut records) {
                break self.account(&queue);
            }
        };
        self.build(records, account);
    }

    pub(super) fn build(&mut self, mut records: Vec<v1::LogRecord>, account: v1::Account) {
        // Here and not at the call, which must stay cheap: only what is sent has to be redacted.
        for record in &mut records {
            self.config.redaction.apply(&mut record.attributes);
        }
        let now = platform::now_unix_nano();
        let batch = self.batcher.build(records, account, now, &platform::random_bytes());
        let tag = self.outstanding.next_tag();
        self.track(Tracked::own(batch, tag, platform::now()));
    }

    /// Takes a new batch on: into the spool if there is one, and into the line.
    fn track(&mut self, tracked: Tracked) {
        let tracked = self.put_into_spool(tracked);
        self.begin(&tracked);
        self.live.push_back(tracked);
        // First to disk, then out of memory, then out of a full disk: in any other order a batch
        // could be in neither place.
        self.leave_surplus_on_disk();
        self.evict_from_spool();
    }
}
