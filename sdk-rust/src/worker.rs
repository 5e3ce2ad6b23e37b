//! The sending thread: queue → batch → spool → server, and the account of it all.
//!
//! One loop owns everything but the queue. It sleeps until something happens (a wake, a call, an
//! answer, a moment that was waited for), then takes one turn: expire, cut batches, answer those who
//! wait, send. Without a spool a batch is cut only when it can be sent, so that memory holds no more
//! than the queue and the batches under way. With a spool batches are cut as they fill, and those that
//! cannot be sent at once stay on disk alone.

mod disk;
mod track;
mod wait;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use logweir_proto::v1;
use tokio::{
    sync::mpsc,
    task::{Id, JoinError, JoinSet},
    time::sleep_until,
};

use crate::{
    batch::{self, Batcher, EncodedBatch},
    config::{Config, Rejection},
    error::DropReason,
    platform,
    queue::{Room, expiry_limit},
    record::MESSAGE_BYTES_MAX,
    shared::{Command, Reply, Shared},
    spool::Spool,
    transport::{SendOutcome, Sender},
};
use track::{Outstanding, Tracked};
use wait::Waiter;

/// Logs moved under one hold of the queue's lock: a microsecond or so.
const CHUNK: usize = 64;
/// Of so many sends one goes to what waits on disk, even if there is anything newer.
const BACKLOG_TURN: u64 = 4;
/// Drops and rejections are said this often.
const NOTICE_INTERVAL: Duration = Duration::from_secs(60);
/// No server's limit is taken to be lower: it must take a single log.
const BATCH_BYTES_FLOOR: usize = MESSAGE_BYTES_MAX;
/// Most kinds of rejections told apart.
const REJECTIONS_MAX: usize = 64;
/// With nothing to wait for, the loop still turns this often.
const IDLE: Duration = Duration::from_secs(3_600);

struct DropNotice {
    at: Instant,
    since: u64,
}

pub(crate) struct Worker {
    config: Config,
    shared: Arc<Shared>,
    sender: Sender,
    commands: mpsc::Receiver<Command>,
    batcher: Batcher,
    spool: Option<Spool>,
    next_sync: Option<Instant>,
    /// When the spool's owner shows next that it lives.
    next_renewal: Option<Instant>,
    /// When what is in memory alone is written to the spool.
    next_write: Option<Instant>,
    /// When the spools of dead processes are looked for next.
    next_adoption: Option<Instant>,
    /// First connections, made at the first log; none before.
    greetings: Option<JoinSet<()>>,
    tasks: JoinSet<SendOutcome>,
    in_flight: HashMap<Id, Tracked>,
    /// Batches in memory that wait for their turn, oldest first.
    live: VecDeque<Tracked>,
    /// Own batches on disk alone that wait for their turn.
    backlog: VecDeque<Tracked>,
    /// Batches of dead processes, on disk alone.
    adopted: VecDeque<Tracked>,
    /// Own logs that are in the accounts of other producers, because their batch was split.
    moved: u64,
    outstanding: Outstanding,
    waiters: Vec<Waiter>,
    /// Logs before this position are not kept waiting for others.
    forced_through: u64,
    batch_due: Option<Instant>,
    drops_said: Option<Instant>,
    /// When faults were said, by what they concern.
    faults_said: HashMap<&'static str, Instant>,
    rejections: HashMap<String, DropNotice>,
    turns: u64,
}

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
    pub(crate) fn new(
        config: Config,
        shared: Arc<Shared>,
        sender: Sender,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let batcher = Batcher::new(platform::random_bytes(), config.resource.clone());
        Self {
            config,
            shared,
            sender,
            commands,
            batcher,
            spool: None,
            next_sync: None,
            next_renewal: None,
            next_write: None,
            next_adoption: None,
            greetings: None,
            tasks: JoinSet::new(),
            in_flight: HashMap::new(),
            live: VecDeque::new(),
            backlog: VecDeque::new(),
            adopted: VecDeque::new(),
            moved: 0,
            outstanding: Outstanding::default(),
            waiters: Vec::new(),
            forced_through: 0,
            batch_due: None,
            drops_said: None,
            faults_said: HashMap::new(),
            rejections: HashMap::new(),
            turns: 0,
        }
    }

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
                Some(done) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.answered(done);
                }
                () = sleep_until(until.into()) => {}
            }
        }
    }

    fn turn(&mut self, now: Instant) {
        self.expire(now);
        self.say_drops(now);
        self.greet_servers();
        self.maintain_spool(now);
        self.force_what_is_due(now);
        self.cut_batches(now);
        self.answer_waiters(now);
        self.start_sends(now);
        // Last, so that what this turn wrote is not left to the next.
        self.sync_spool(now);
    }

    /// Gives up what has waited in memory for too long.
    fn expire(&mut self, now: Instant) {
        let Some(limit) = expiry_limit(now, self.config.memory_age_max) else { return };
        let mut expired = Vec::new();
        while self.shared.queue.lock().expire(limit, CHUNK, &mut expired) {
            expired.clear();
        }
    }

    fn say_drops(&mut self, now: Instant) {
        let is_due = self.drops_said.is_none_or(|said| now >= said + NOTICE_INTERVAL);
        if !is_due || !self.shared.queue.lock().drop_unsaid() {
            return;
        }
        let dropped = self.shared.queue.lock().take_drop_notice();
        self.drops_said = Some(now);
        (self.config.notice)(&format!("logs dropped so far: {dropped}"));
    }

    /// Looks, at the first log, whether the servers can be reached.
    fn greet_servers(&mut self) {
        if self.greetings.is_none() && self.shared.queue.lock().next_position() > 0 {
            let greetings = self.greetings.insert(JoinSet::new());
            self.sender.greetings().for_each(|greeting| {
                greetings.spawn(greeting);
            });
        }
    }

    /// Whatever must not wait for a full batch any longer.
    fn force_what_is_due(&mut self, now: Instant) {
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
                let share = 0.9 + 0.2 * platform::random_share();
                self.batch_due = Some(now + self.config.batch_delay.mul_f64(share));
            }
            Some(_) => {}
        }
    }

    fn cut_batches(&mut self, now: Instant) {
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
            || self.spool_works() && self.live.iter().all(is_on_disk)
    }

    fn has_cause_to_cut(&self) -> bool {
        let queue = self.shared.queue.lock();
        let is_due = |(position, _)| position < self.forced_through;
        queue.has_a_batch() || queue.oldest().is_some_and(is_due)
    }

    fn cut_batch(&mut self) {
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

    fn build(&mut self, mut records: Vec<v1::LogRecord>, account: v1::Account) {
        for record in &mut records {
            self.config.redaction.apply(&mut record.attributes);
        }
        let now = platform::now_unix_nano();
        let batch = self.batcher.build(records, account, now, &platform::random_bytes());
        let tag = self.outstanding.next_tag();
        self.track(Tracked::own(batch, tag, platform::now()));
    }

    fn account(&self, queue: &crate::queue::Queue) -> v1::Account {
        v1::Account {
            emitted: queue.emitted(),
            dropped: batch::drop_counts(queue.dropped(), self.moved),
            rejected: self.shared.progress.lock().rejected,
            queued: queue.len() as u64,
            spooled: self.outstanding.spooled(),
        }
    }

    fn start_sends(&mut self, now: Instant) {
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
        tracked.batch = Some(batch.clone());
        let deadline = self.deadline(tracked, &batch, now);
        if deadline <= now {
            self.give_up(tracked.clone(), DropReason::Expired);
            return None;
        }
        Some((batch, deadline))
    }

    /// When it is given up. Only a dead process's batch is as old as the machine's clock says, which
    /// may have jumped.
    fn deadline(&self, tracked: &Tracked, batch: &EncodedBatch, now: Instant) -> Instant {
        let age_max = match (tracked.frame, &self.spool) {
            (Some(_), Some(spool)) => spool.options().age_max,
            _ => self.config.memory_age_max,
        };
        match (tracked.cut_at, tracked.frame) {
            (Some(cut_at), _) => cut_at + age_max,
            (None, Some(_)) => {
                let age = platform::now_unix_nano().saturating_sub(batch.created_unix_nano);
                let age = Duration::from_nanos(u64::try_from(age).unwrap_or(0));
                now + age_max.saturating_sub(age)
            }
            (None, None) => now + age_max,
        }
    }

    fn answered(&mut self, done: Result<(Id, SendOutcome), JoinError>) {
        let (id, outcome) = match done {
            Ok((id, outcome)) => (id, Some(outcome)),
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
            self.say_rejected(&record.reason, &record.message);
        }
        self.settle(&tracked);
    }

    /// Counts a rejection, and says so if it was not said within the minute.
    fn say_rejected(&mut self, reason: &str, message: &str) {
        let now = platform::now();
        if let Some(said) = self.rejections.get_mut(reason) {
            said.since += 1;
            if now < said.at + NOTICE_INTERVAL {
                return;
            }
        } else if self.rejections.len() >= REJECTIONS_MAX {
            return;
        }
        let said = self.rejections.insert(reason.to_owned(), DropNotice { at: now, since: 0 });
        let count = said.map_or(1, |said| said.since);
        let rejection = Rejection { reason: reason.into(), message: message.into(), count };
        match self.config.on_rejected.clone() {
            Some(call) => {
                platform::survive(|| call(&rejection));
            }
            None => (self.config.notice)(&format!(
                "the server rejected {count} logs, {reason}: {message}"
            )),
        }
    }

    /// Resends a batch without the logs that the server named, once; gives it up otherwise.
    fn refused(&mut self, tracked: Tracked, reason: DropReason, bad: &[u32], message: &str) {
        let count = bad.iter().filter(|at| u64::from(**at) < tracked.records()).count() as u64;
        let is_repairable = !tracked.is_repaired && count > 0 && count < tracked.records();
        let whole = tracked.batch.as_ref().filter(|_| is_repairable);
        let Some(rest) = whole.and_then(|whole| batch::without(whole, bad, reason)) else {
            self.say_fault("batch", message);
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
        if tracked.tag.is_some() && !tracked.is_moved {
            self.moved += u64::from(second.record_count);
        }
        self.learn_limit(&first);
        let first = tracked.successor(first);
        let second = Tracked { is_moved: true, ..tracked.successor(second) };
        self.replace(tracked, [first, second]);
    }

    /// From now on no batch is larger than the half of one that was too large, so that splitting, and
    /// a producer for each second half, stays rare.
    fn learn_limit(&mut self, half: &EncodedBatch) {
        let Config { batch_records, batch_bytes, .. } = &mut self.config;
        *batch_records = (*batch_records).min(half.record_count as usize);
        *batch_bytes = half.encoded_len().max(BATCH_BYTES_FLOOR).min(*batch_bytes);
    }

    /// Says what may go wrong again and again, each kind at most once a minute.
    fn say_fault(&mut self, kind: &'static str, text: &str) {
        let now = platform::now();
        let said = self.faults_said.get(kind);
        if said.is_none_or(|said| now >= *said + NOTICE_INTERVAL) {
            self.faults_said.insert(kind, now);
            (self.config.notice)(text);
        }
    }

    /// When the next turn is due even if nothing happens.
    fn next_moment(&self, now: Instant) -> Instant {
        let queue = self.shared.queue.lock();
        let oldest = queue.oldest().map(|(_, at)| at + self.config.memory_age_max);
        let drops = self.drops_said.filter(|_| queue.drop_unsaid()).map(|at| at + NOTICE_INTERVAL);
        let disk = [self.next_sync, self.next_renewal, self.next_write, self.next_adoption];
        let due = [Some(now + IDLE), self.batch_due, oldest, drops].into_iter().chain(disk);
        let waiters = self.waiters.iter().map(|waiter| waiter.deadline);
        due.flatten().chain(waiters).min().unwrap_or(now)
    }
}
