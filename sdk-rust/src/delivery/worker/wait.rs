//! Those who wait for a flush, and the end.

use std::time::Instant;

use super::{state::Worker, track::Tracked, waiter::Waiter};
use crate::{delivery::shared::Command, error::DropReason, platform, report::FlushReport};

impl Worker {
    pub(super) fn accept(&mut self, command: Command) {
        let (deadline, reply, closes) = match command {
            Command::Flush { deadline, reply } => (deadline, reply, false),
            Command::Shutdown { deadline, reply } => (deadline, reply, true),
        };
        let mut queue = self.shared.queue.lock();
        if closes {
            queue.close();
        }
        let position = queue.next_position();
        drop(queue);
        // A flush must not wait for batches to fill.
        self.forced_through = self.forced_through.max(position);
        let (mark, account_told) = (None, false);
        self.waiters.push(Waiter { position, mark, account_told, closes, deadline, reply });
    }

    /// Replies to those whose logs are done with, or whose time is up. A shutdown is left to
    /// [`Self::finish`].
    pub(super) fn reply_to_waiters(&mut self, now: Instant) {
        let mut waiting = std::mem::take(&mut self.waiters);
        for waiter in &mut waiting {
            self.advance(waiter);
        }
        for waiter in waiting {
            if !waiter.closes && (self.is_over(&waiter) || waiter.deadline <= now) {
                let report = self.report(&waiter);
                (waiter.reply)(report);
            } else {
                self.waiters.push(waiter);
            }
        }
    }

    /// First the logs, then the account, if the server does not know it as it is now.
    fn advance(&mut self, waiter: &mut Waiter) {
        let queue = self.shared.queue.lock();
        let oldest = queue.oldest().map(|(position, _)| position);
        let account = self.account(&queue);
        drop(queue);
        if waiter.mark.is_none() && oldest.is_none_or(|oldest| oldest >= waiter.position) {
            waiter.mark = Some(self.outstanding.mark());
        }
        let Some(mark) = waiter.mark else { return };
        if waiter.account_told || !self.outstanding.is_complete_below(mark) {
            return;
        }
        // Set before the account is sent: the batch that carries it must not make the waiter send
        // another.
        waiter.account_told = true;
        if self.batcher.is_news(&account) {
            self.build(Vec::new(), account);
        }
        // Also when another waiter's account is under way.
        waiter.mark = Some(self.outstanding.mark());
    }

    fn is_over(&self, waiter: &Waiter) -> bool {
        let is_complete = |mark| self.outstanding.is_complete_below(mark);
        waiter.account_told && waiter.mark.is_some_and(is_complete)
    }

    fn report(&self, waiter: &Waiter) -> FlushReport {
        let mark = waiter.mark.unwrap_or_else(|| self.outstanding.mark());
        let (in_memory, spooled) = self.outstanding.records_below(mark);
        let queue = self.shared.queue.lock();
        let progress = self.shared.progress.lock();
        FlushReport {
            sent: progress.sent,
            rejected: progress.rejected,
            dropped: queue.dropped(),
            spooled,
            pending: in_memory + queue.len_before(waiter.position),
        }
    }

    /// Whether a shutdown has done what it could.
    pub(super) fn must_finish(&self, now: Instant) -> bool {
        let is_over = |waiter: &Waiter| self.is_over(waiter) || waiter.deadline <= now;
        self.waiters.iter().any(|waiter| waiter.closes && is_over(waiter))
    }

    /// Leaves the rest to the spool or drops it, and replies to everyone.
    pub(super) fn finish(mut self) {
        // Responses that are here already count, although nobody waits for more.
        while let Some(done) = self.tasks.try_join_next_with_id() {
            self.handle_outcome(done);
        }
        // Before what is left is counted: a task that went on could send what is counted as
        // dropped.
        self.tasks.abort_all();
        self.write_what_is_in_memory();
        self.spool_the_queue();
        let in_flight = std::mem::take(&mut self.in_flight).into_values();
        let left: Vec<Tracked> = in_flight.chain(self.live.drain(..)).collect();
        for tracked in left {
            if tracked.frame.is_none() {
                self.give_up(tracked, DropReason::ShutdownTimeout);
            }
        }
        // The logs are freed outside of the lock.
        drop(self.shared.queue.lock().clear(DropReason::ShutdownTimeout));
        if self.handshakes.is_some() {
            self.sender.notify_unreached();
        }
        // After all drops are counted, so that the account on disk is the last word.
        self.spool_the_account();
        if let Some(spool) = self.spool.take()
            && let Err(error) = spool.close()
        {
            self.spool_failed(&error);
        }
        self.notify_last_drops();
        self.reply_to_all();
    }

    fn spool_the_queue(&mut self) {
        while self.spool_works() && self.shared.queue.lock().len() > 0 {
            self.cut_batch();
        }
    }

    /// What the server could not be told now, it learns from the next process.
    fn spool_the_account(&mut self) {
        let account = self.account(&self.shared.queue.lock());
        if self.spool_works() && self.outstanding.spooled() > 0 && self.batcher.is_news(&account) {
            self.build(Vec::new(), account);
        }
    }

    fn notify_last_drops(&mut self) {
        if self.shared.queue.lock().has_untold_drops() {
            // There is no later time to tell them.
            self.drops_notified_at = None;
            self.notify_drops(platform::now());
        }
    }

    fn reply_to_all(&mut self) {
        let queue = self.shared.queue.lock();
        let progress = *self.shared.progress.lock();
        let report = FlushReport {
            sent: progress.sent,
            rejected: progress.rejected,
            dropped: queue.dropped(),
            spooled: progress.spooled,
            pending: 0,
        };
        drop(queue);
        // Before the commands are closed: whoever finds the thread gone reads this.
        *self.shared.last_report.lock() = Some(report);
        self.commands.close();
        while let Ok(Command::Flush { reply, .. } | Command::Shutdown { reply, .. }) =
            self.commands.try_recv()
        {
            reply(report);
        }
        for waiter in self.waiters.drain(..) {
            (waiter.reply)(report);
        }
    }
}
