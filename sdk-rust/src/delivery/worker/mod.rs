//! The sending thread: queue → batch → spool → server, and the account of it all.
//!
//! One loop owns everything but the queue. It sleeps until something happens (a wake, a call, a
//! response, a moment that was waited for), then takes one turn: expire, cut batches, reply to
//! those who wait, send. Without a spool a batch is cut only when it can be sent, so that memory
//! holds no more than the queue and the batches under way. With a spool batches are cut as they
//! fill, and those that cannot be sent at once stay on disk alone.
//!
//! The methods of [`Worker`] lie in files by what they do; each uses only those of the files below
//! it: this one, `wait`, `cut`, `send`, `disk`, `account`, `state`.

mod account;
mod cut;
mod disk;
mod send;
mod state;
mod track;
mod wait;
mod waiter;

use std::time::{Duration, Instant};

use tokio::{task::JoinSet, time::sleep_until};

pub(crate) use self::state::Worker;
use self::state::{CHUNK, NOTICE_INTERVAL};
use super::{queue::expiry_limit, shared::Command};
use crate::platform;

/// With nothing to wait for, the loop still turns this often.
const IDLE: Duration = Duration::from_secs(3_600);

impl Worker {
    /// Runs until shutdown.
    pub(crate) async fn run(mut self) {
        self.open_spool();
        let mut is_open = true;
        loop {
            let now = platform::now();
            self.turn(now);
            if self.must_finish(now) {
                return self.finish();
            }
            // Worked out after the turn, which may have brought new deadlines.
            let until = self.next_moment(now);
            tokio::select! {
                () = self.shared.wake.notified() => {}
                command = self.commands.recv(), if is_open => match command {
                    Some(command) => self.accept(command),
                    None => {
                        // Every client is gone, and none could say so.
                        is_open = false;
                        self.accept(Command::Shutdown { deadline: now, reply: Box::new(|_| {}) });
                    }
                },
                // Without the condition an empty set would be ready at once, and the loop would
                // spin.
                Some(done) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.handle_outcome(done);
                }
                () = sleep_until(until.into()) => {}
            }
        }
    }

    fn turn(&mut self, now: Instant) {
        // What is too old goes first, so that it is not cut into a batch that is given up at once.
        self.expire(now);
        self.notify_drops(now);
        self.start_handshakes();
        self.maintain_spool(now);
        // Before batches are cut: this decides which logs no longer wait for others.
        self.force_what_is_due(now);
        self.cut_batches(now);
        // Before the sends: a waiter may add a batch that carries the account alone.
        self.reply_to_waiters(now);
        self.start_sends(now);
        // Last, so that what this turn wrote is not left to the next.
        self.sync_spool(now);
    }

    /// Gives up what has waited in memory for too long.
    fn expire(&mut self, now: Instant) {
        let Some(limit) = expiry_limit(now, self.config.memory_age_max) else { return };
        let mut expired = Vec::new();
        while self.shared.queue.lock().expire(limit, CHUNK, &mut expired) {
            // Freed here and not under the lock, where the program's threads would wait for it.
            expired.clear();
        }
    }

    /// Looks, at the first log, whether the servers can be reached.
    fn start_handshakes(&mut self) {
        if self.handshakes.is_none() && self.shared.queue.lock().next_position() > 0 {
            let handshakes = self.handshakes.insert(JoinSet::new());
            self.sender.handshakes().for_each(|handshake| {
                handshakes.spawn(handshake);
            });
        }
    }

    /// When the next turn is due even if nothing happens.
    fn next_moment(&self, now: Instant) -> Instant {
        let queue = self.shared.queue.lock();
        let oldest = queue.oldest().map(|(_, at)| at + self.config.memory_age_max);
        let drops = self
            .drops_notified_at
            .filter(|_| queue.has_untold_drops())
            .map(|at| at + NOTICE_INTERVAL);
        let disk = [self.next_sync, self.next_renewal, self.next_write, self.next_adoption];
        let due = [Some(now + IDLE), self.batch_due, oldest, drops].into_iter().chain(disk);
        let waiters = self.waiters.iter().map(|waiter| waiter.deadline);
        due.flatten().chain(waiters).min().unwrap_or(now)
    }
}
