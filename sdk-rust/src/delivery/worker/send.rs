//! Which batch is sent next, and what its response means for it.

use std::time::{Duration, Instant};

use logweir_proto::v1;
use tokio::task::{Id, JoinError};

use super::{state::Worker, track::Tracked};
use crate::{
    config::Config,
    delivery::{
        batch::{self, EncodedBatch},
        transport::SendOutcome,
    },
    error::DropReason,
    platform,
    record::MESSAGE_BYTES_MAX,
};

/// Of so many sends one goes to what waits on disk, even if there is anything newer.
const BACKLOG_TURN: u64 = 4;
/// No server's limit is taken to be lower: it must take a single log.
const BATCH_BYTES_FLOOR: usize = MESSAGE_BYTES_MAX;

/// What a person is told of a batch that was refused for good.
fn refusal_text(endpoints: &str, code: tonic::Code, message: &str) -> String {
    // What does not know the call is hardly a Logweir server.
    let advice = match code {
        tonic::Code::Unimplemented => "; is this a Logweir server? check LOGWEIR_ENDPOINT",
        _ => "",
    };
    format!("{endpoints} refused a batch for good ({message}){advice}")
}

impl Worker {
    pub(super) fn start_sends(&mut self, now: Instant) {
        while self.tasks.len() < self.config.in_flight {
            let Some(mut tracked) = self.next_to_send() else { return };
            let Some((batch, deadline)) = self.prepare(&mut tracked, now) else { continue };
            let sender = self.sender.clone();
            let task = self.tasks.spawn(async move { sender.send(&batch, Some(deadline)).await });
            self.in_flight.insert(task.id(), tracked);
        }
    }

    /// What is newest in line first, but what waits on disk has its share, so that neither starves
    /// the other; one place is always free of dead processes' batches.
    fn next_to_send(&mut self) -> Option<Tracked> {
        let adopted = self.in_flight.values().filter(|tracked| tracked.tag.is_none()).count();
        let adopted_may = adopted < self.config.in_flight.saturating_sub(1).max(1);
        // Counted also when a line is empty: the share is one of sends tried, which needs no memory
        // of what was sent.
        self.turns += 1;
        let preferred = match self.turns % (2 * BACKLOG_TURN) {
            0 if adopted_may => self.adopted.pop_front(),
            BACKLOG_TURN => self.backlog.pop_front(),
            _ => None,
        };
        preferred
            .or_else(|| self.live.pop_front())
            .or_else(|| self.backlog.pop_front())
            .or_else(|| if adopted_may { self.adopted.pop_front() } else { None })
    }

    /// The batch's bytes and its deadline; none if it was given up.
    fn prepare(&mut self, tracked: &mut Tracked, now: Instant) -> Option<(EncodedBatch, Instant)> {
        let batch = match (&tracked.batch, tracked.frame, &mut self.spool) {
            (Some(batch), _, _) => Ok(batch.clone()),
            (None, Some(frame), Some(spool)) => spool.read(frame),
            (None, _, _) => Err(std::io::ErrorKind::NotFound.into()),
        };
        let batch = match batch {
            Ok(batch) => batch,
            // Read failures after a takeover are no faults of the disk: the other process has the
            // batch.
            Err(_) if self.is_spool_taken() => {
                self.leave_to_adopter(tracked);
                self.replace_taken_spool();
                return None;
            }
            Err(error) => {
                self.spool_failed(&error);
                self.give_up(tracked.clone(), DropReason::InternalSdkError);
                return None;
            }
        };
        // It stays in memory while it is sent, so that a split or a repair needs no second read.
        tracked.batch = Some(batch.clone());
        let deadline = self.deadline(tracked, &batch, now);
        if deadline <= now {
            self.give_up(tracked.clone(), DropReason::Expired);
            return None;
        }
        Some((batch, deadline))
    }

    /// When it is given up. Only a dead process's batch is as old as the machine's clock says,
    /// which may have jumped.
    fn deadline(&self, tracked: &Tracked, batch: &EncodedBatch, now: Instant) -> Instant {
        let age_max = match (tracked.frame, &self.spool) {
            (Some(_), Some(spool)) => spool.options().age_max,
            _ => self.config.memory_age_max,
        };
        match (tracked.cut_at, tracked.frame) {
            (Some(cut_at), _) => cut_at + age_max,
            (None, Some(_)) => {
                // No monotonic clock reaches back into a process that is dead.
                let age = platform::now_unix_nano().saturating_sub(batch.created_unix_nano);
                let age = Duration::from_nanos(u64::try_from(age).unwrap_or(0));
                now + age_max.saturating_sub(age)
            }
            (None, None) => now + age_max,
        }
    }

    pub(super) fn handle_outcome(&mut self, done: Result<(Id, SendOutcome), JoinError>) {
        let (id, outcome) = match done {
            Ok((id, outcome)) => (id, Some(outcome)),
            // The task panicked or was aborted: its batch is still counted, and must not stay open
            // for ever.
            Err(error) => (error.id(), None),
        };
        let Some(tracked) = self.in_flight.remove(&id) else { return };
        match outcome {
            Some(SendOutcome::Accepted { rejected, .. }) => self.accepted(tracked, &rejected),
            Some(SendOutcome::TooLarge { .. }) => self.split(tracked),
            Some(SendOutcome::Refused { code, reason, bad_records, message }) => {
                let message = refusal_text(&self.config.endpoints, code, &message);
                self.refused(tracked, reason, &bad_records, &message);
            }
            Some(SendOutcome::OutOfTime { .. }) => self.give_up(tracked, DropReason::Expired),
            None => self.give_up(tracked, DropReason::InternalSdkError),
        }
    }

    fn accepted(&mut self, tracked: Tracked, rejected: &[v1::RejectedRecord]) {
        // A server that names more logs than it was sent must not make the counts negative.
        let rejected_count = (rejected.len() as u64).min(tracked.records());
        let sent = tracked.records() - rejected_count;
        {
            let mut progress = self.shared.progress.lock();
            if tracked.tag.is_some() {
                progress.sent += sent;
                progress.rejected += rejected_count;
            } else {
                progress.adopted_sent += sent;
                progress.adopted_dropped += rejected_count;
            }
        }
        for record in rejected {
            self.notify_rejected(&record.reason, &record.message);
        }
        self.complete(&tracked);
    }

    /// Resends a batch without the logs that the server named, once; gives it up otherwise.
    fn refused(&mut self, tracked: Tracked, reason: DropReason, bad: &[u32], message: &str) {
        // Positions beyond the batch are a fault of the server, and repair nothing.
        let count = bad.iter().filter(|at| u64::from(**at) < tracked.records()).count() as u64;
        // Once only: a server that always finds another log would have the batch sent for ever.
        let is_repairable = !tracked.is_repaired && count > 0 && count < tracked.records();
        let whole = tracked.batch.as_ref().filter(|_| is_repairable);
        let Some(rest) = whole.and_then(|whole| batch::without(whole, bad, reason)) else {
            self.notify_fault("batch", message);
            return self.give_up(tracked, reason);
        };
        self.count_drop(&tracked, reason, count);
        let rest = Tracked { is_repaired: true, ..tracked.successor(rest) };
        self.replace(tracked, [rest]);
    }

    /// Splits a batch that is too large, or gives it up if it is a single log.
    fn split(&mut self, tracked: Tracked) {
        let Some([first, second]) = tracked.batch.as_ref().and_then(batch::halves) else {
            return self.give_up(tracked, DropReason::TooLarge);
        };
        // The second half of a half was moved already, and counts once.
        if tracked.tag.is_some() && !tracked.is_moved {
            self.moved += u64::from(second.record_count);
        }
        self.learn_limit(&first);
        let first = tracked.successor(first);
        let second = Tracked { is_moved: true, ..tracked.successor(second) };
        self.replace(tracked, [first, second]);
    }

    /// From now on no batch is larger than the half of one that was too large, so that splitting,
    /// and a producer for each second half, stays rare.
    fn learn_limit(&mut self, half: &EncodedBatch) {
        let Config { batch_records, batch_bytes, .. } = &mut self.config;
        *batch_records = (*batch_records).min(half.record_count as usize);
        *batch_bytes = half.encoded_len().max(BATCH_BYTES_FLOOR).min(*batch_bytes);
    }

    /// Puts batches at the head of the line in the place of one that cannot be sent as it is. They
    /// are in the spool before it leaves it.
    fn replace<const COUNT: usize>(&mut self, old: Tracked, new: [Tracked; COUNT]) {
        let new = new.map(|tracked| self.put_into_spool(tracked));
        for tracked in &new {
            self.begin(tracked);
        }
        self.complete(&old);
        // At the head and in their order: they are the oldest in the line.
        for tracked in new.into_iter().rev() {
            self.live.push_front(tracked);
        }
        self.evict_from_spool();
    }
}
