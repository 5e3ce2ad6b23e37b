//! What the sending thread holds, how it counts, and what it tells a person.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::{Id, JoinSet},
};

use super::{
    track::{Outstanding, Tracked},
    waiter::Waiter,
};
use crate::{
    config::{Config, Rejection},
    delivery::{
        batch::Batcher,
        shared::{Command, Shared},
        spool::Spool,
        transport::{SendOutcome, Sender},
    },
    platform,
};

/// Logs moved under one hold of the queue's lock: a microsecond or so.
pub(super) const CHUNK: usize = 64;
/// Drops, faults and rejections are told this often, so that a lasting one does not fill a log.
pub(super) const NOTICE_INTERVAL: Duration = Duration::from_secs(60);
/// Most kinds of rejections told apart.
const REJECTIONS_MAX: usize = 64;

/// When the rejections of one kind were told last, and how many came since.
pub(super) struct LastNotice {
    pub(super) at: Instant,
    pub(super) since: u64,
}

/// What the sending thread holds. One loop owns it.
pub(crate) struct Worker {
    pub(super) config: Config,
    pub(super) shared: Arc<Shared>,
    pub(super) sender: Sender,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) batcher: Batcher,
    pub(super) spool: Option<Spool>,
    pub(super) next_sync: Option<Instant>,
    /// When the spool's owner shows next that it lives.
    pub(super) next_renewal: Option<Instant>,
    /// When what is in memory alone is written to the spool.
    pub(super) next_write: Option<Instant>,
    /// When the spools of dead processes are looked for next.
    pub(super) next_adoption: Option<Instant>,
    /// First connections, made at the first log; none before.
    pub(super) handshakes: Option<JoinSet<()>>,
    pub(super) tasks: JoinSet<SendOutcome>,
    pub(super) in_flight: HashMap<Id, Tracked>,
    /// Batches in memory that wait for their turn, oldest first.
    pub(super) live: VecDeque<Tracked>,
    /// Own batches on disk alone that wait for their turn.
    pub(super) backlog: VecDeque<Tracked>,
    /// Batches of dead processes, on disk alone.
    pub(super) adopted: VecDeque<Tracked>,
    /// Own logs that are in the accounts of other producers, because their batch was split.
    pub(super) moved: u64,
    pub(super) outstanding: Outstanding,
    pub(super) waiters: Vec<Waiter>,
    /// Logs before this position are not kept waiting for others.
    pub(super) forced_through: u64,
    pub(super) batch_due: Option<Instant>,
    pub(super) drops_notified_at: Option<Instant>,
    /// When faults were told last, by what they concern.
    pub(super) faults_notified_at: HashMap<&'static str, Instant>,
    pub(super) rejections: HashMap<String, LastNotice>,
    pub(super) turns: u64,
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
            handshakes: None,
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
            drops_notified_at: None,
            faults_notified_at: HashMap::new(),
            rejections: HashMap::new(),
            turns: 0,
        }
    }

    /// Whether the last write to the spool succeeded.
    pub(super) fn spool_works(&self) -> bool {
        self.shared.spool_works.load(Ordering::Relaxed)
    }

    pub(super) fn set_spool_works(&self, works: bool) {
        self.shared.spool_works.store(works, Ordering::Relaxed);
    }

    pub(super) fn notify_drops(&mut self, now: Instant) {
        let is_due = self.drops_notified_at.is_none_or(|at| now >= at + NOTICE_INTERVAL);
        if !is_due || !self.shared.queue.lock().has_untold_drops() {
            return;
        }
        let dropped = self.shared.queue.lock().take_drop_notice();
        self.drops_notified_at = Some(now);
        (self.config.notice)(&format!("logs dropped so far: {dropped}"));
    }

    /// Counts a rejection, and tells it if it was not told within the minute.
    pub(super) fn notify_rejected(&mut self, reason: &str, message: &str) {
        let now = platform::now();
        if let Some(last) = self.rejections.get_mut(reason) {
            last.since += 1;
            if now < last.at + NOTICE_INTERVAL {
                return;
            }
        // Names of rules come from the server: a faulty one must not fill memory.
        } else if self.rejections.len() >= REJECTIONS_MAX {
            return;
        }
        let last = self.rejections.insert(reason.to_owned(), LastNotice { at: now, since: 0 });
        let count = last.map_or(1, |last| last.since);
        let rejection = Rejection { reason: reason.into(), message: message.into(), count };
        match self.config.on_rejected.clone() {
            Some(call) => {
                platform::catch_panic(|| call(&rejection));
            }
            None => (self.config.notice)(&format!(
                "the server rejected {count} logs, {reason}: {message}"
            )),
        }
    }

    /// Says what may go wrong again and again, each kind at most once a minute.
    pub(super) fn notify_fault(&mut self, kind: &'static str, text: &str) {
        let now = platform::now();
        let notified_at = self.faults_notified_at.get(kind);
        if notified_at.is_none_or(|at| now >= *at + NOTICE_INTERVAL) {
            self.faults_notified_at.insert(kind, now);
            (self.config.notice)(text);
        }
    }
}
