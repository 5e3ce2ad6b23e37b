//! The model of sessions: what it learns from a batch of them, and how it scores one.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{
    calibration::{Aspect, Calibration, Surprises},
    counts::{Bag, CountSurprise, Counts, ExpectedCount, bag},
    grams::{END, Grams, Recent, Surprise},
    hash::{IdMap, mix},
    reason::SequenceReason,
};
use crate::model::{ModelError, Reader};

const MAGIC: [u8; 4] = *b"LWSQ";
const VERSION: u8 = 1;

/// What a model is trained with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SequenceParameters {
    /// Share of normal sessions that may be called anomalies.
    pub contamination: f64,
    /// Parts into which the training sessions are cut: each is scored by a model of the others,
    /// and the threshold follows from what comes out.
    pub folds: usize,
    /// Contexts (an event, or two or three in a row) kept; about 100 bytes each.
    pub contexts_max: usize,
    /// Different events kept; about 1 kB each with their partners.
    pub events_max: usize,
    /// Sessions without which there is a score, but no decision.
    pub sessions_min: usize,
}

impl Default for SequenceParameters {
    fn default() -> Self {
        Self {
            contamination: 0.001,
            folds: 10,
            contexts_max: 65_536,
            events_max: 16_384,
            sessions_min: 50,
        }
    }
}

/// What a model was made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SequenceMetrics {
    /// Sessions learned.
    pub sessions: u64,
    /// Different events among them.
    pub events: usize,
    /// Contexts kept.
    pub contexts: usize,
    /// Share of the training sessions that a model of the others called anomalies.
    pub alarm_share: f64,
}

/// What is said about a session.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceScore {
    /// The share of normal sessions that are less unusual: 0 is usual, close to 1 was never seen.
    pub score: f64,
    /// Whether the session is so unusual that alarms of its kind stay within the budget.
    pub is_anomaly: bool,
    /// Why, the strongest first; empty unless it is an anomaly.
    pub reasons: Vec<SequenceReason>,
}

/// Knows what sessions look like.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceModel {
    pub(super) parameters: SequenceParameters,
    /// In how many sessions of its scope an event was.
    events: IdMap<u32>,
    /// Sessions of each scope.
    scopes: IdMap<u32>,
    pub(super) grams: Grams,
    pub(super) counts: Counts,
    pub(super) calibration: Calibration,
}

/// The surprises of a session and where they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SessionSurprises {
    pub(super) scope: u64,
    pub(super) event: (f32, u64),
    pub(super) transition: (Surprise, Recent, u64),
    pub(super) counts: Option<CountSurprise>,
    /// How often the transition was learned already.
    pub(super) learned: u32,
}

impl SessionSurprises {
    pub(super) fn surprises(&self) -> Surprises {
        let counts = self.counts.map_or(0.0, |found| found.nats);
        [self.event.0, self.transition.0.nats, counts]
    }
}

impl SequenceModel {
    /// Knows nothing yet.
    pub fn new(parameters: SequenceParameters) -> Self {
        Self {
            events: IdMap::default(),
            scopes: IdMap::default(),
            grams: Grams::new(parameters.contexts_max),
            counts: Counts::default(),
            calibration: Calibration::default(),
            parameters,
        }
    }

    /// Learns from sessions, in the order in which they were. An event is a template's id, or a
    /// hash of whatever names it. A few anomalies among the sessions do no harm.
    pub fn train<S: AsRef<[u64]>>(sessions: &[S], parameters: SequenceParameters) -> Self {
        let mut model = Self::new(parameters);
        let mut bags: HashMap<Vec<(u64, u32)>, u32> = HashMap::new();
        for session in sessions {
            let bag = bag(session.as_ref());
            model.learn(session.as_ref(), &bag);
            *bags.entry(bag).or_default() += 1;
        }
        model.counts = Counts::fit(bags.iter().map(|(bag, sessions)| (0, &bag[..], *sessions)));
        let surprises = model.cross_validate(sessions);
        model.calibration = Calibration::fit(&surprises, model.parameters.contamination);
        model
    }

    /// Scores each part of the sessions by what the others teach. Neighbours are taken out
    /// together, since they are alike.
    fn cross_validate<S: AsRef<[u64]>>(&mut self, sessions: &[S]) -> Vec<Surprises> {
        let part = sessions.len().div_ceil(self.parameters.folds.max(2)).max(1);
        let mut surprises = Vec::with_capacity(sessions.len());
        for part in sessions.chunks(part) {
            let bags: Vec<_> = part.iter().map(|session| bag(session.as_ref())).collect();
            for (session, bag) in part.iter().zip(&bags) {
                self.forget(session.as_ref(), bag);
            }
            let scored = part.iter().zip(&bags);
            surprises.extend(
                scored.map(|(session, bag)| self.findings(session.as_ref(), bag).surprises()),
            );
            for (session, bag) in part.iter().zip(&bags) {
                self.learn(session.as_ref(), bag);
                self.counts.change(bag, 1);
            }
        }
        surprises
    }

    /// Scores a session that is over.
    pub fn score(&self, session: &[u64]) -> SequenceScore {
        let findings = self.findings(session, &bag(session));
        let (rarity, _) = self.calibration.rarest(&findings.surprises());
        let is_anomaly = self.is_ready() && self.calibration.is_anomaly(rarity);
        SequenceScore {
            score: self.calibration.score(rarity),
            is_anomaly,
            reasons: if is_anomaly { self.reasons(&findings) } else { Vec::new() },
        }
    }

    /// What it was made of.
    pub fn metrics(&self) -> SequenceMetrics {
        SequenceMetrics {
            sessions: self.scopes.values().map(|sessions| u64::from(*sessions)).sum(),
            events: self.events.len(),
            contexts: self.grams.len(),
            alarm_share: self.calibration.alarm_share(),
        }
    }

    /// What it was trained with.
    pub fn parameters(&self) -> &SequenceParameters {
        &self.parameters
    }

    /// Whether there is enough history for a decision.
    pub(super) fn is_ready(&self) -> bool {
        self.calibration.sessions() as usize >= self.parameters.sessions_min.max(1)
    }

    /// The part of one event in what is new to a context.
    pub(super) fn share(&self) -> f32 {
        1.0 / (self.events.len() + 1) as f32
    }

    fn findings(&self, session: &[u64], bag: &Bag) -> SessionSurprises {
        SessionSurprises {
            scope: 0,
            event: self.rarest_event(0, bag),
            transition: self.worst_transition(session),
            counts: self.counts.worst(bag),
            learned: 0,
        }
    }

    /// The event that the fewest sessions of a scope had, and how surprising that is.
    pub(super) fn rarest_event(&self, scope: u64, bag: &Bag) -> (f32, u64) {
        let with = |event: u64| self.events.get(&scoped(scope, event)).copied().unwrap_or(0);
        let rarest = bag.iter().map(|(event, _)| (with(*event), *event)).min();
        let Some((sessions, event)) = rarest else { return (0.0, END) };
        let all = self.scopes.get(&scope).copied().unwrap_or(0);
        (-((sessions as f32 + 0.5) / (all as f32 + 1.0)).min(1.0).ln(), event)
    }

    fn worst_transition(&self, session: &[u64]) -> (Surprise, Recent, u64) {
        let share = self.share();
        let mut recent = Recent::start(0);
        let mut worst = (Surprise { nats: 0.0, order: 0 }, recent, END);
        for &event in session.iter().chain(&[END]) {
            let surprise = self.grams.surprise(&recent, event, share);
            if surprise.nats > worst.0.nats {
                worst = (surprise, recent, event);
            }
            recent.push(event);
        }
        worst
    }

    fn learn(&mut self, session: &[u64], bag: &Bag) {
        let mut recent = Recent::start(0);
        for &event in session.iter().chain(&[END]) {
            self.grams.learn(&recent, event);
            recent.push(event);
        }
        self.learn_events(0, bag);
    }

    /// Counts a session of a scope and the events in it.
    pub(super) fn learn_events(&mut self, scope: u64, bag: &Bag) {
        for (event, _) in bag {
            let key = scoped(scope, *event);
            if self.events.len() < self.parameters.events_max || self.events.contains_key(&key) {
                let sessions = self.events.entry(key).or_default();
                *sessions = sessions.saturating_add(1);
            }
        }
        if self.scopes.len() < self.parameters.events_max || self.scopes.contains_key(&scope) {
            let sessions = self.scopes.entry(scope).or_default();
            *sessions = sessions.saturating_add(1);
        }
    }

    /// Halves the counts of sessions, so that what was long ago weighs less and makes room.
    pub(super) fn age_events(&mut self) {
        for counts in [&mut self.events, &mut self.scopes] {
            counts.retain(|_, sessions| {
                *sessions /= 2;
                *sessions > 0
            });
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len().max(self.scopes.len()) >= self.parameters.events_max
    }

    fn forget(&mut self, session: &[u64], bag: &Bag) {
        let mut recent = Recent::start(0);
        for &event in session.iter().chain(&[END]) {
            self.grams.forget(&recent, event);
            recent.push(event);
        }
        self.counts.change(bag, -1);
        for (event, _) in bag {
            if let Some(sessions) = self.events.get_mut(event) {
                *sessions = sessions.saturating_sub(1);
            }
        }
        if let Some(sessions) = self.scopes.get_mut(&0) {
            *sessions = sessions.saturating_sub(1);
        }
    }

    /// Every aspect that is an anomaly by itself, the rarest first.
    pub(super) fn reasons(&self, findings: &SessionSurprises) -> Vec<SequenceReason> {
        let mut found: Vec<(f32, SequenceReason)> = Vec::new();
        let surprises = findings.surprises();
        for aspect in [Aspect::Event, Aspect::Transition, Aspect::Counts] {
            let mut alone = Surprises::default();
            alone[aspect as usize] = surprises[aspect as usize];
            let (rarity, _) = self.calibration.rarest(&alone);
            if self.calibration.is_anomaly(rarity) {
                found.extend(self.reason(aspect, findings).map(|reason| (rarity, reason)));
            }
        }
        found.sort_by(|one, other| other.0.total_cmp(&one.0));
        found.into_iter().map(|(_, reason)| reason).collect()
    }

    fn reason(&self, aspect: Aspect, findings: &SessionSurprises) -> Option<SequenceReason> {
        match aspect {
            Aspect::Event => Some(self.event(findings.scope, findings.event.1)),
            Aspect::Transition => {
                let (surprise, recent, event) = &findings.transition;
                Some(self.transition(*surprise, recent, *event, findings.learned))
            }
            Aspect::Counts => findings.counts.map(|found| self.count(&found)),
        }
    }

    fn event(&self, scope: u64, event: u64) -> SequenceReason {
        let sessions = self.events.get(&scoped(scope, event)).copied().unwrap_or(0);
        let total = self.scopes.get(&scope).copied().unwrap_or(0);
        SequenceReason::Event { event, sessions, total }
    }

    /// Why a transition is unusual that was learned so many times meanwhile.
    pub(super) fn transition(
        &self,
        surprise: Surprise,
        recent: &Recent,
        event: u64,
        learned: u32,
    ) -> SequenceReason {
        let followed = self.grams.followed(recent, surprise.order, event);
        SequenceReason::Transition {
            after: recent.last(followed.order.into()),
            event,
            seen: followed.count.saturating_sub(learned),
            usual: followed.usual.filter(|(usual, _)| *usual != event),
            total: followed.total.saturating_sub(learned),
        }
    }

    fn count(&self, found: &CountSurprise) -> SequenceReason {
        let CountSurprise { event, count, given, given_count, .. } = *found;
        match self.counts.usual(found) {
            ExpectedCount::Count(usual, sessions, total) => {
                SequenceReason::Count { event, count, given, given_count, usual, sessions, total }
            }
            ExpectedCount::Order(usual, sessions, total) => {
                SequenceReason::Balance { event, count, given, given_count, usual, sessions, total }
            }
        }
    }

    /// The model as bytes; the same model gives the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        let parameters = &self.parameters;
        bytes.extend(parameters.contamination.to_bits().to_le_bytes());
        let sizes = [
            parameters.folds,
            parameters.contexts_max,
            parameters.events_max,
            parameters.sessions_min,
        ];
        sizes.iter().for_each(|size| bytes.extend((*size as u64).to_le_bytes()));
        for counts in [&self.events, &self.scopes] {
            let mut counts: Vec<_> = counts.iter().collect();
            counts.sort_unstable();
            bytes.extend((counts.len() as u32).to_le_bytes());
            for (key, sessions) in counts {
                bytes.extend(key.to_le_bytes());
                bytes.extend(sessions.to_le_bytes());
            }
        }
        self.grams.encode(&mut bytes);
        self.counts.encode(&mut bytes);
        self.calibration.encode(&mut bytes);
        bytes
    }

    /// Reads what [`SequenceModel::encode`] wrote.
    ///
    /// # Errors
    ///
    /// If the bytes are of another kind or version, or damaged so that it shows.
    pub fn decode(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut reader = Reader::open(bytes, MAGIC, VERSION, "sequence")?;
        let contamination = f64::from_bits(reader.u64()?);
        let mut sizes = [0_usize; 4];
        for size in &mut sizes {
            *size = usize::try_from(reader.u64()?).map_err(|_| reader.corrupt())?;
        }
        let [folds, contexts_max, events_max, sessions_min] = sizes;
        let parameters =
            SequenceParameters { contamination, folds, contexts_max, events_max, sessions_min };
        if !(0.0..=1.0).contains(&contamination) {
            return Err(reader.corrupt());
        }
        let mut read = || -> Result<IdMap<u32>, ModelError> {
            let length = reader.u32()?;
            (0..length).map(|_| Ok((reader.u64()?, reader.u32()?))).collect()
        };
        let (events, scopes) = (read()?, read()?);
        if events.len().max(scopes.len()) > events_max {
            return Err(reader.corrupt());
        }
        let grams = Grams::decode(&mut reader)?;
        let counts = Counts::decode(&mut reader)?;
        let calibration = Calibration::decode(&mut reader)?;
        reader.end()?;
        Ok(Self { parameters, events, scopes, grams, counts, calibration })
    }
}

fn scoped(scope: u64, event: u64) -> u64 {
    if scope == 0 { event } else { mix(scope, event) }
}
