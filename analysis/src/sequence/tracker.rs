//! Sessions as their logs come: learned, scored, closed.
//!
//! Every log's transition is scored at once, and then learned. A session's events and counts are
//! scored when it closes: a trace when it has been silent for a while, a window of an instance
//! when it is full, either when it is too long. A session alarms once.
//!
//! Everything is scored before it is learned, so the history to which surprises are compared is
//! honest, and what stays changed stops to alarm by itself. Partners for counts are found anew
//! after 64 sessions, 128 and so on, from a sample of different sessions; in between, a session
//! that came often is no surprise even if its counts still are.
//!
//! Memory is bounded by [`TrackerConfig`]; above its bounds, sessions of whoever holds most (see
//! [`Shares`]) are dropped unscored, rare
//! contexts forgotten, and alarms that nobody fetched lost: all of it counted.

use super::{
    calibration::Aspect,
    counts::{Bag, CountSurprise, Counts},
    grams::{END, Recent, Surprise},
    hash::{IdMap, mix},
    model::{SequenceModel, SequenceParameters, SequenceScore, SessionSurprises},
};
use crate::shares::Shares;

/// Sessions after which partners are looked for the first time.
const REFIT_SESSIONS_MIN: u64 = 64;
/// Sessions between two looks, once there have been as many.
const REFIT_SESSIONS_MAX: u64 = 32_768;
/// Sessions between two settings of the threshold.
const SETTLE_SESSIONS: u64 = 64;
/// Different events of a session that are counted; of more, a session's counts are not scored.
const BAG_EVENTS_MAX: usize = 64;

/// How often the transition at hand was learned when its session is scored: once, as it came. Taken
/// off in reasons, which say what was there before.
const LEARNED: u32 = 1;
/// Open sessions of an account, among which the one silent for the longest makes room.
const CANDIDATES: usize = 8;

/// Bounds of a [`SequenceTracker`].
#[derive(Debug, Clone, PartialEq)]
pub struct TrackerConfig {
    /// What the model is trained with.
    pub model: SequenceParameters,
    /// Sessions that an account may have open if it is alone, about 500 bytes each; all together a
    /// third more.
    pub sessions_max: usize,
    /// Silence after which a session is over.
    pub idle_nanos: i64,
    /// Logs of a trace, above which it is scored in parts.
    pub trace_logs_max: u32,
    /// Logs of a window.
    pub window_logs: u32,
    /// Different closed sessions kept as the sample that partners are found in.
    pub sample_max: usize,
    /// Alarms kept until they are fetched, divided among accounts as sessions are.
    pub alarms_max: usize,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            // A share of a thousandth means little before some hundred sessions.
            model: SequenceParameters { sessions_min: 500, ..SequenceParameters::default() },
            sessions_max: 16_384,
            idle_nanos: 60_000_000_000,
            trace_logs_max: 512,
            window_logs: 64,
            sample_max: 1_024,
            alarms_max: 256,
        }
    }
}

/// What a session is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// The logs of a trace: it has a beginning and, when it has been silent, an end.
    Trace,
    /// The logs of an instance, a window after the other.
    Window,
}

/// A log as the tracker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceLog {
    /// Whose share of open sessions is taken: a small number, from 0 on.
    pub account: usize,
    /// Whose sessions are alike: a hash of the tenant for traces, of tenant and service for
    /// windows.
    pub scope: u64,
    /// A hash of the scope and the trace's id, or the instance's.
    pub session: u64,
    /// What the session is made of.
    pub kind: SessionKind,
    /// The log's template.
    pub event: u64,
    /// When it was received, which no sender's clock disturbs.
    pub received_unix_nano: i64,
}

/// A session that was unusual as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedSession<O> {
    /// What the caller gave to tell it by when it began.
    pub owner: O,
    /// The scope that its logs were given.
    pub scope: u64,
    /// The session that its logs were given.
    pub session: u64,
    /// When its first log was received.
    pub first_unix_nano: i64,
    /// When its last log was received.
    pub last_unix_nano: i64,
    /// How many it had.
    pub logs: u32,
    /// What is said about it.
    pub scored: SequenceScore,
}

/// What a tracker holds, and what its bounds cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrackerStats {
    /// Sessions open.
    pub sessions: usize,
    /// Contexts known.
    pub contexts: usize,
    /// Sessions scored.
    pub scored: u64,
    /// Sessions dropped for lack of room.
    pub dropped: u64,
    /// Alarms that nobody fetched in time.
    pub alarms_lost: u64,
}

/// Follows sessions, each with whatever says whose it is. See the module's documentation.
#[derive(Debug)]
pub struct SequenceTracker<O> {
    config: TrackerConfig,
    model: SequenceModel,
    sessions: Vec<Session<O>>,
    by_key: IdMap<usize>,
    free: Vec<usize>,
    /// Where the open sessions of each account are.
    of_account: Vec<Vec<usize>>,
    shares: Shares,
    /// The session that is looked at next for whether it is over.
    hand: usize,
    now_unix_nano: i64,
    sample: IdMap<Sampled>,
    /// Different sessions that found no room in the sample since it was aged.
    unsampled: usize,
    fits: u32,
    refit_after: u64,
    /// The least surprise of a transition that alarms at once.
    transition_min: f32,
    alarms: Vec<ClosedSession<O>>,
    alarm_shares: Shares,
    stats: TrackerStats,
}

#[derive(Debug)]
struct Session<O> {
    owner: O,
    account: usize,
    /// Its place among the account's.
    place: usize,
    key: u64,
    scope: u64,
    kind: SessionKind,
    is_open: bool,
    has_alarmed: bool,
    is_bag_full: bool,
    logs: u32,
    first_unix_nano: i64,
    last_unix_nano: i64,
    recent: Recent,
    worst: (Surprise, Recent, u64),
    bag: Vec<(u64, u32)>,
}

/// A closed session like which others were.
#[derive(Debug)]
struct Sampled {
    scope: u64,
    bag: Box<Bag>,
    sessions: u32,
    /// By the counts of that fit.
    found: Option<CountSurprise>,
    fit: u32,
}

impl<O: Clone> SequenceTracker<O> {
    /// Knows nothing yet.
    pub fn new(config: TrackerConfig) -> Self {
        let model = SequenceModel::new(config.model.clone());
        Self::start(config, model, REFIT_SESSIONS_MIN)
    }

    /// Goes on with a model that was stored.
    pub fn resume(config: TrackerConfig, mut model: SequenceModel) -> Self {
        model.parameters = config.model.clone();
        Self::start(config, model, REFIT_SESSIONS_MAX)
    }

    fn start(config: TrackerConfig, model: SequenceModel, refit_after: u64) -> Self {
        let mut tracker = Self {
            shares: Shares::new(config.sessions_max.max(1)),
            alarm_shares: Shares::new(config.alarms_max),
            of_account: Vec::new(),
            config,
            model,
            sessions: Vec::new(),
            by_key: IdMap::default(),
            free: Vec::new(),
            hand: 0,
            now_unix_nano: i64::MIN,
            sample: IdMap::default(),
            unsampled: 0,
            fits: 0,
            refit_after,
            transition_min: f32::MAX,
            alarms: Vec::new(),
            stats: TrackerStats::default(),
        };
        tracker.set_threshold();
        tracker
    }

    /// Learns from a log; says so if its step is unusual for a session that has not alarmed yet.
    /// `owner` is asked when a session begins.
    pub fn observe(
        &mut self,
        log: SequenceLog,
        owner: impl FnOnce() -> O,
    ) -> Option<SequenceScore> {
        // One look for each log keeps up with sessions that open as fast as logs come, and needs no
        // timer: time goes on with the logs.
        self.now_unix_nano = self.now_unix_nano.max(log.received_unix_nano);
        self.close_idle();
        let at = self.enter(&log, owner);
        let share = self.model.share();
        let session = &mut self.sessions[at];
        let recent = session.recent;
        let surprise = self.model.grams.observe(&recent, log.event, share);
        session.add(&log, surprise);
        let is_unusual = surprise.nats >= self.transition_min && !session.has_alarmed;
        session.has_alarmed |= is_unusual;
        let logs_max = match session.kind {
            SessionKind::Trace => self.config.trace_logs_max,
            SessionKind::Window => self.config.window_logs,
        };
        let is_long = session.logs >= logs_max;
        let scored = is_unusual.then(|| self.step(surprise, &recent, log.event));
        if is_long {
            self.score(at);
            self.sessions[at].restart();
        }
        scored
    }

    /// Closes every session that is over at this time.
    pub fn advance(&mut self, now_unix_nano: i64) {
        self.now_unix_nano = self.now_unix_nano.max(now_unix_nano);
        for _ in 0..self.sessions.len() {
            self.close_idle();
        }
    }

    /// The sessions that closed and were unusual, since this was last asked.
    pub fn alarms(&mut self) -> Vec<ClosedSession<O>> {
        self.alarm_shares = Shares::new(self.config.alarms_max);
        std::mem::take(&mut self.alarms)
    }

    /// What was learned; to be stored, and compared with others.
    pub fn model(&self) -> &SequenceModel {
        &self.model
    }

    /// What it holds, and what its bounds cost so far.
    pub fn stats(&self) -> TrackerStats {
        let (sessions, contexts) = (self.by_key.len(), self.model.grams.len());
        TrackerStats { sessions, contexts, ..self.stats }
    }

    #[cfg(test)]
    pub(super) fn open(&self, account: usize) -> usize {
        self.of_account.get(account).map_or(0, Vec::len)
    }

    /// Each log looks at one session, so that all are looked at in turn.
    fn close_idle(&mut self) {
        self.hand = if self.hand + 1 < self.sessions.len() { self.hand + 1 } else { 0 };
        let Some(session) = self.sessions.get(self.hand) else { return };
        let silent = self.now_unix_nano.saturating_sub(session.last_unix_nano);
        if session.is_open && silent > self.config.idle_nanos {
            // A window that was cut short by silence is not scored: it has fewer logs than the
            // others, and its counts would all look too low.
            if session.kind == SessionKind::Trace {
                self.end(self.hand);
                self.score(self.hand);
            }
            self.remove(self.hand);
        }
    }

    fn end(&mut self, at: usize) {
        let share = self.model.share();
        let session = &mut self.sessions[at];
        let surprise = self.model.grams.observe(&session.recent, END, share);
        if surprise.nats > session.worst.0.nats {
            session.worst = (surprise, session.recent, END);
        }
    }

    fn enter(&mut self, log: &SequenceLog, owner: impl FnOnce() -> O) -> usize {
        if let Some(&at) = self.by_key.get(&log.session) {
            return at;
        }
        let mut session = Session::new(log, owner());
        if !self.shares.admits(log.account, 1) {
            self.stats.dropped += 1;
            self.remove(self.silent(self.shares.victim(log.account)));
        }
        if self.of_account.len() <= log.account {
            self.of_account.resize_with(log.account + 1, Vec::new);
        }
        self.shares.change(log.account, 0, 1);
        session.place = self.of_account[log.account].len();
        let at = match self.free.pop() {
            Some(at) => {
                // Its memory is used again: sessions come and go by the thousand.
                session.bag = std::mem::take(&mut self.sessions[at].bag);
                session.bag.clear();
                self.sessions[at] = session;
                at
            }
            None => {
                self.sessions.push(session);
                self.sessions.len() - 1
            }
        };
        self.by_key.insert(log.session, at);
        self.of_account[log.account].push(at);
        at
    }

    /// The session of an account that was silent for the longest, of a few.
    fn silent(&self, account: usize) -> usize {
        // Other ones each time, as the hand goes on. The oldest of all would take a walk over all
        // of them for each new session in a flood.
        let open = &self.of_account[account];
        let candidates = (0..CANDIDATES).map(|step| open[(self.hand + step) % open.len()]);
        let oldest = candidates.min_by_key(|&at| self.sessions[at].last_unix_nano);
        oldest.unwrap_or(open[0])
    }

    fn remove(&mut self, at: usize) {
        let Session { account, place, key, .. } = self.sessions[at];
        self.sessions[at].is_open = false;
        self.by_key.remove(&key);
        self.free.push(at);
        self.shares.change(account, 1, 0);
        self.of_account[account].swap_remove(place);
        if let Some(&moved) = self.of_account[account].get(place) {
            self.sessions[moved].place = place;
        }
    }

    #[cold]
    fn step(&self, surprise: Surprise, recent: &Recent, event: u64) -> SequenceScore {
        let rarity = self.model.calibration.rarity(Aspect::Transition, surprise.nats);
        SequenceScore {
            score: self.model.calibration.score(rarity),
            is_anomaly: true,
            reasons: vec![self.model.transition(surprise, recent, event, LEARNED)],
        }
    }

    /// Scores a session as a whole, then learns from it.
    fn score(&mut self, at: usize) {
        let scope = self.sessions[at].scope;
        self.sessions[at].bag.sort_unstable();
        let counts = if self.sessions[at].is_bag_full { None } else { self.sampled(at) };
        let session = &self.sessions[at];
        let findings = SessionSurprises {
            scope,
            event: self.model.rarest_event(scope, &session.bag),
            transition: session.worst,
            counts,
            learned: LEARNED,
        };
        let (rarity, _) = self.model.calibration.observe(&findings.surprises());
        let is_anomaly = self.model.is_ready() && self.model.calibration.is_anomaly(rarity);
        // A step of it that alarmed has told of it already.
        if is_anomaly && !session.has_alarmed {
            self.alarm(at, rarity, &findings);
        }
        self.model.learn_events(scope, &self.sessions[at].bag);
        self.stats.scored += 1;
        if self.stats.scored >= self.refit_after {
            self.refit();
        } else if self.stats.scored.is_multiple_of(SETTLE_SESSIONS) {
            self.set_threshold();
        }
    }

    #[cold]
    fn alarm(&mut self, at: usize, rarity: f32, findings: &SessionSurprises) {
        let score = self.model.calibration.score(rarity);
        let reasons = self.model.reasons(findings);
        let session = &mut self.sessions[at];
        session.has_alarmed = true;
        if !self.alarm_shares.admits(session.account, 1) {
            self.stats.alarms_lost += 1;
            return;
        }
        self.alarm_shares.change(session.account, 0, 1);
        self.alarms.push(ClosedSession {
            owner: session.owner.clone(),
            scope: session.scope,
            session: session.key,
            first_unix_nano: session.first_unix_nano,
            last_unix_nano: session.last_unix_nano,
            logs: session.logs,
            scored: SequenceScore { score, is_anomaly: true, reasons },
        });
    }

    /// What is most surprising in a session's counts, which are part of the sample from now on.
    fn sampled(&mut self, at: usize) -> Option<CountSurprise> {
        let session = &self.sessions[at];
        let key = session.bag.iter().fold(mix(0, session.scope), |key, (event, count)| {
            mix(mix(key, *event), u64::from(*count))
        });
        let all = self.model.calibration.sessions();
        let (counts, fit) = (&self.model.counts, self.fits);
        if let Some(known) = self.sample.get_mut(&key) {
            if known.fit != fit {
                (known.found, known.fit) = (counts.worst(&session.bag), fit);
            }
            // However unlikely its counts look, a session that came in one of a hundred is no more
            // surprising than that.
            let frequency = ((all + 1) as f32 / known.sessions as f32).ln().max(0.0);
            known.sessions = known.sessions.saturating_add(1);
            return known
                .found
                .map(|found| CountSurprise { nats: found.nats.min(frequency), ..found });
        }
        let found = counts.worst(&session.bag);
        if self.sample.len() < self.config.sample_max {
            let (scope, bag) = (session.scope, session.bag.clone().into());
            let sampled = Sampled { scope, bag, sessions: 1, found, fit };
            self.sample.insert(key, sampled);
        } else {
            self.unsampled += 1;
            if self.unsampled > self.config.sample_max / 2 {
                self.age_sample();
            }
        }
        found
    }

    /// Halves how often each came: what came once makes room.
    fn age_sample(&mut self) {
        self.unsampled = 0;
        self.sample.retain(|_, known| {
            known.sessions /= 2;
            known.sessions > 0
        });
    }

    /// Finds partners anew, and lets what is old weigh less.
    fn refit(&mut self) {
        let sample = self.sample.values();
        let sample = sample.map(|known| (known.scope, &known.bag[..], known.sessions));
        self.model.counts = Counts::fit(sample);
        self.fits = self.fits.wrapping_add(1);
        if self.sample.len() >= self.config.sample_max / 2 {
            self.age_sample();
        }
        if self.model.is_full() {
            self.model.age_events();
        }
        self.model.calibration.age();
        // After as many sessions as there have been: what is known doubles between two looks, so
        // that all of them together cost no more than twice the last.
        self.refit_after = self.stats.scored + self.stats.scored.min(REFIT_SESSIONS_MAX);
        self.set_threshold();
    }

    fn set_threshold(&mut self) {
        self.model.calibration.set_threshold(self.config.model.contamination);
        let is_ready = self.model.is_ready();
        let least = || self.model.calibration.least(Aspect::Transition);
        self.transition_min = if is_ready { least() } else { f32::MAX };
    }
}

impl<O> Session<O> {
    fn new(log: &SequenceLog, owner: O) -> Self {
        let recent = match log.kind {
            SessionKind::Trace => Recent::start(log.scope),
            SessionKind::Window => Recent::unknown(log.scope),
        };
        Self {
            owner,
            account: log.account,
            place: 0,
            key: log.session,
            scope: log.scope,
            kind: log.kind,
            is_open: true,
            has_alarmed: false,
            is_bag_full: false,
            logs: 0,
            first_unix_nano: log.received_unix_nano,
            last_unix_nano: log.received_unix_nano,
            recent,
            worst: (Surprise { nats: 0.0, order: 0 }, recent, 0),
            bag: Vec::new(),
        }
    }

    fn add(&mut self, log: &SequenceLog, surprise: Surprise) {
        if self.logs == 0 {
            self.first_unix_nano = log.received_unix_nano;
        }
        self.logs += 1;
        self.last_unix_nano = self.last_unix_nano.max(log.received_unix_nano);
        if surprise.nats > self.worst.0.nats {
            self.worst = (surprise, self.recent, log.event);
        }
        self.recent.push(log.event);
        if let Some((_, count)) = self.bag.iter_mut().find(|(event, _)| *event == log.event) {
            *count += 1;
        } else if self.bag.len() < BAG_EVENTS_MAX {
            self.bag.push((log.event, 1));
        } else {
            self.is_bag_full = true;
        }
    }

    /// Begins the next part; what came last is still known.
    fn restart(&mut self) {
        self.logs = 0;
        self.has_alarmed = false;
        self.is_bag_full = false;
        self.worst = (Surprise { nats: 0.0, order: 0 }, self.recent, 0);
        self.bag.clear();
    }
}
