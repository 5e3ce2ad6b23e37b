//! What usually follows what: how often an event came after the last one, two and three.
//!
//! Each order scores by itself, and the most surprised one counts: a longer context knows better
//! what must come, a shorter one has seen more. (Multiplying the orders, as smoothing for text
//! does, counts one novelty three times; on sessions of interleaved steps this drowns the rest.)
//! An event that a context never had gets the share of Witten and Bell: how often that context
//! had something new before, spread over all events.
//!
//! After a context with many followers no longer one is asked: there, steps are interleaved by
//! chance, and what chance puts in a row says nothing.

use super::hash::{IdMap, mix};
use crate::model::{ModelError, Reader};

/// Events that a context looks back.
pub(super) const ORDER_MAX: usize = 3;
/// Different followers told apart; of a context with more, none is a surprise.
const FOLLOWERS_MAX: usize = 64;
/// A context with more followers is not looked beyond.
const BRANCHES_MAX: u32 = 16;
/// A context's counts are halved here, so that it follows what changes.
const TOTAL_MAX: u32 = 1 << 20;
/// A context explains for another if it was there at least one in so many times as often.
const CLEARER_SHARE: u32 = 4;
/// Seeds the hash of a context.
const CONTEXT_SEED: u64 = 0x5e90_e4ce_5eed;

/// Begins every session that has a beginning.
pub(super) const START: u64 = 0x7374_6172_745f_6f66;
/// Ends every session that has an end.
pub(super) const END: u64 = 0x656e_645f_6f66_5f61;

/// The last events of a session, latest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Recent {
    /// Keeps the contexts of different scopes apart.
    seed: u64,
    events: [u64; ORDER_MAX],
    length: u8,
}

impl Recent {
    /// Of a session whose beginning is not known.
    pub(super) fn unknown(scope: u64) -> Self {
        Self { seed: mix(CONTEXT_SEED, scope), ..Self::default() }
    }

    /// Of a session that begins here.
    pub(super) fn start(scope: u64) -> Self {
        let mut recent = Self::unknown(scope);
        recent.push(START);
        recent
    }

    pub(super) fn push(&mut self, event: u64) {
        self.events = [event, self.events[0], self.events[1]];
        self.length = (self.length + 1).min(ORDER_MAX as u8);
    }

    /// The latest `order` events, in the order in which they came.
    pub(super) fn last(&self, order: usize) -> Vec<u64> {
        self.events[..order.min(self.length.into())].iter().rev().copied().collect()
    }

    /// The key of each context, shortest first.
    fn keys(&self) -> impl Iterator<Item = u64> {
        let events = self.events;
        let step = move |key: &mut u64, at: usize| {
            *key = mix(*key, events[at]);
            Some(*key)
        };
        (0..usize::from(self.length)).scan(self.seed, step)
    }
}

/// How surprising an event was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Surprise {
    /// Minus the logarithm of its probability.
    pub(super) nats: f32,
    /// Events of the context that was most surprised; 0 if none was known.
    pub(super) order: u8,
}

/// What a context had after it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Continuations {
    /// Events of the context.
    pub(super) order: u8,
    /// How often the context was there.
    pub(super) total: u32,
    /// How often the event in question followed.
    pub(super) count: u32,
    /// What followed most often, and how often.
    pub(super) usual: Option<(u64, u32)>,
}

impl Continuations {
    fn share(&self) -> f64 {
        let usual = self.usual.map_or(0, |(_, count)| count);
        f64::from(usual) / f64::from(self.total.max(1))
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Context {
    total: u32,
    /// Followers whose count is not zero.
    distinct: u32,
    /// Followers that found no room.
    others: u32,
    followers: Vec<(u64, u32)>,
}

impl Context {
    fn probability(&self, event: u64, share: f32) -> f32 {
        let known = self.followers.iter().find(|(follower, _)| *follower == event);
        let count = known.map_or(self.others, |(_, count)| *count);
        let distinct = self.distinct as f32;
        (count as f32 + distinct * share) / (self.total as f32 + distinct)
    }

    fn learn(&mut self, event: u64) {
        if self.total >= TOTAL_MAX {
            self.halve();
        }
        self.total += 1;
        let Some(at) = self.followers.iter().position(|(follower, _)| *follower == event) else {
            if self.followers.len() < FOLLOWERS_MAX {
                self.followers.push((event, 1));
                self.distinct += 1;
            } else {
                self.others += 1;
            }
            return;
        };
        let count = &mut self.followers[at].1;
        self.distinct += u32::from(*count == 0);
        *count += 1;
        // What comes often is found first.
        if at > 0 && self.followers[at].1 > self.followers[at - 1].1 {
            self.followers.swap(at, at - 1);
        }
    }

    fn is_branching(&self) -> bool {
        self.distinct > BRANCHES_MAX
    }

    fn forget(&mut self, event: u64) {
        self.total = self.total.saturating_sub(1);
        match self.followers.iter_mut().find(|(follower, _)| *follower == event) {
            Some((_, count)) if *count > 0 => {
                *count -= 1;
                self.distinct -= u32::from(*count == 0);
            }
            _ => self.others = self.others.saturating_sub(1),
        }
    }

    fn followed(&self, order: u8, event: u64) -> Continuations {
        let count = self.followers.iter().find(|(follower, _)| *follower == event);
        Continuations {
            order,
            total: self.total,
            count: count.map_or(self.others, |(_, count)| *count),
            usual: self.followers.iter().copied().max_by_key(|(_, count)| *count),
        }
    }

    fn halve(&mut self) {
        self.followers.iter_mut().for_each(|(_, count)| *count /= 2);
        self.followers.retain(|(_, count)| *count > 0);
        self.others /= 2;
        self.distinct = self.followers.len() as u32;
        let counted = self.followers.iter().map(|(_, count)| count).sum::<u32>();
        self.total = counted + self.others;
    }
}

/// Counts of what follows what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grams {
    contexts: IdMap<Context>,
    contexts_max: usize,
    /// New contexts turned away since the last ageing.
    refused: usize,
}

impl Grams {
    pub(super) fn new(contexts_max: usize) -> Self {
        Self { contexts: IdMap::default(), contexts_max, refused: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.contexts.len()
    }

    /// How surprising an event is here; `share` is the part of one event in what is new.
    pub(super) fn surprise(&self, recent: &Recent, event: u64, share: f32) -> Surprise {
        let mut least = (f32::MAX, 0);
        for (key, order) in recent.keys().zip(1..) {
            if let Some(context) = self.contexts.get(&key).filter(|context| context.total > 0) {
                let probability = context.probability(event, share);
                if probability < least.0 {
                    least = (probability, order);
                }
                if context.is_branching() {
                    break;
                }
            }
        }
        surprise(least, share)
    }

    /// How surprising an event is, and from now on a little less.
    pub(super) fn observe(&mut self, recent: &Recent, event: u64, share: f32) -> Surprise {
        let mut least = (f32::MAX, 0);
        for (key, order) in recent.keys().zip(1..) {
            let Some(context) = self.contexts.get_mut(&key) else {
                self.admit(key, event);
                // A longer context is new as well; it has its turn when this one comes again.
                break;
            };
            if context.total > 0 {
                let probability = context.probability(event, share);
                if probability < least.0 {
                    least = (probability, order);
                }
            }
            context.learn(event);
            if context.is_branching() {
                break;
            }
        }
        surprise(least, share)
    }

    pub(super) fn learn(&mut self, recent: &Recent, event: u64) {
        for key in recent.keys() {
            match self.contexts.get_mut(&key) {
                Some(context) => context.learn(event),
                None => self.admit(key, event),
            }
        }
    }

    /// Takes back what was learned, as if it had not been.
    pub(super) fn forget(&mut self, recent: &Recent, event: u64) {
        for key in recent.keys() {
            if let Some(context) = self.contexts.get_mut(&key) {
                context.forget(event);
            }
        }
    }

    /// What the most surprised context had after it, or one that knew better what must follow and
    /// was hardly less surprised.
    pub(super) fn followed(&self, recent: &Recent, order: u8, event: u64) -> Continuations {
        let known = recent.keys().zip(1..).filter_map(|(key, order)| {
            let context = self.contexts.get(&key).filter(|context| context.total > 0)?;
            Some(context.followed(order, event))
        });
        let known: Vec<Continuations> = known.collect();
        let Some(most) = known.iter().find(|followed| followed.order == order) else {
            return Continuations { order: 1, total: 0, count: 0, usual: None };
        };
        let is_good = |other: &&Continuations| {
            other.count <= most.count && other.total >= most.total / CLEARER_SHARE
        };
        let clearest = known
            .iter()
            .rev()
            .filter(is_good)
            .max_by(|one, other| one.share().total_cmp(&other.share()));
        clearest.unwrap_or(most).clone()
    }

    fn admit(&mut self, key: u64, event: u64) {
        if self.contexts.len() >= self.contexts_max {
            self.refused += 1;
            if self.refused < self.contexts_max {
                return;
            }
            self.age();
        }
        let context = Context { total: 1, distinct: 1, others: 0, followers: vec![(event, 1)] };
        self.contexts.insert(key, context);
    }

    /// Halves every count: what came once is forgotten, and there is room again.
    fn age(&mut self) {
        self.refused = 0;
        self.contexts.retain(|_, context| {
            context.halve();
            context.total > 0
        });
        let spare = self.contexts.len().saturating_sub(self.contexts_max * 3 / 4);
        if spare > 0 {
            let gone: Vec<u64> = self.contexts.keys().take(spare).copied().collect();
            gone.iter().for_each(|key| drop(self.contexts.remove(key)));
        }
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let mut contexts: Vec<_> = self.contexts.iter().collect();
        contexts.sort_unstable_by_key(|(key, _)| **key);
        bytes.extend((self.contexts_max as u64).to_le_bytes());
        bytes.extend((contexts.len() as u32).to_le_bytes());
        for (key, context) in contexts {
            bytes.extend(key.to_le_bytes());
            bytes.extend(context.others.to_le_bytes());
            bytes.extend((context.followers.len() as u32).to_le_bytes());
            for (event, count) in &context.followers {
                bytes.extend(event.to_le_bytes());
                bytes.extend(count.to_le_bytes());
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ModelError> {
        let contexts_max = usize::try_from(reader.u64()?).map_err(|_| reader.corrupt())?;
        let mut grams = Self::new(contexts_max);
        for _ in 0..reader.u32()? {
            let key = reader.u64()?;
            let others = reader.u32()?;
            let mut context = Context { total: others, others, ..Context::default() };
            for _ in 0..reader.u32()? {
                let follower = (reader.u64()?, reader.u32()?);
                let total = context.total.checked_add(follower.1);
                context.total = total.ok_or_else(|| reader.corrupt())?;
                context.distinct += u32::from(follower.1 > 0);
                context.followers.push(follower);
            }
            if context.followers.len() > FOLLOWERS_MAX || context.total > TOTAL_MAX {
                return Err(reader.corrupt());
            }
            grams.contexts.insert(key, context);
        }
        if grams.contexts.len() > contexts_max { Err(reader.corrupt()) } else { Ok(grams) }
    }
}

fn surprise((probability, order): (f32, u8), share: f32) -> Surprise {
    let probability = if order == 0 { share } else { probability };
    Surprise { nats: -probability.max(f32::MIN_POSITIVE).ln(), order }
}
