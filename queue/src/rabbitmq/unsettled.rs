//! What a consumer has fetched and not settled: waiting to be handed out, held until a time that a
//! requeue asked for, or settled and not yet told to the broker. Pure but for the instants it is
//! given.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

/// A fetched message of a subscription.
pub(super) trait Fetched {
    /// Which subscription it came by.
    fn subscription(&self) -> u64;
}

/// What becomes of a message that is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    /// It is stored.
    Acknowledge,
    /// Another consumer is to have it.
    Return,
}

/// All messages of one consumer between their arrival and the word to the broker. Every message is
/// in one of the lists, or handed out and only counted.
pub(super) struct Unsettled<M> {
    /// Subscriptions that fetch; messages of any other go back.
    live: BTreeSet<u64>,
    waiting: VecDeque<Arc<M>>,
    delayed: BTreeMap<(Instant, u64), Arc<M>>,
    next_number: u64,
    handed_out: usize,
    settled: Vec<(Arc<M>, Disposition)>,
}

impl<M: Fetched> Unsettled<M> {
    pub(super) fn new() -> Self {
        Self {
            live: BTreeSet::new(),
            waiting: VecDeque::new(),
            delayed: BTreeMap::new(),
            next_number: 0,
            handed_out: 0,
            settled: Vec::new(),
        }
    }

    /// A subscription begins.
    pub(super) fn begin(&mut self, subscription: u64) {
        self.live.insert(subscription);
    }

    /// A message came. That of a subscription which has ended goes back.
    pub(super) fn add(&mut self, message: M) {
        let message = Arc::new(message);
        if self.live.contains(&message.subscription()) {
            self.waiting.push_back(message);
        } else {
            self.settled.push((message, Disposition::Return));
        }
    }

    /// Hands out the next message, first those whose time has come.
    pub(super) fn take(&mut self, now: Instant) -> Option<Arc<M>> {
        let message = match self.delayed.first_entry() {
            Some(entry) if entry.key().0 <= now => entry.remove(),
            _ => self.waiting.pop_front()?,
        };
        self.handed_out += 1;
        Some(message)
    }

    /// When a delayed message may be handed out, if there is one.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// A handed out message is stored.
    pub(super) fn acknowledge(&mut self, message: Arc<M>) {
        self.handed_out -= 1;
        self.settled.push((message, Disposition::Acknowledge));
    }

    /// A handed out message comes again, not before `due`; from another consumer if the
    /// subscription has ended.
    pub(super) fn requeue(&mut self, message: Arc<M>, due: Instant) {
        self.handed_out -= 1;
        if self.live.contains(&message.subscription()) {
            // Two may be due at the same instant; without a number one would replace the other.
            self.next_number += 1;
            self.delayed.insert((due, self.next_number), message);
        } else {
            self.settled.push((message, Disposition::Return));
        }
    }

    /// A subscription ends: what is not handed out goes back; what is handed out may still be
    /// acknowledged.
    pub(super) fn end(&mut self, subscription: u64) {
        self.live.remove(&subscription);
        let ended = |message: &Arc<M>| message.subscription() == subscription;
        let (back, stay) = self.waiting.drain(..).partition::<Vec<_>, _>(ended);
        self.waiting = stay.into();
        let due: Vec<_> = self.delayed.extract_if(.., |_, message| ended(message)).collect();
        let back = back.into_iter().chain(due.into_iter().map(|(_, message)| message));
        self.settled.extend(back.map(|message| (message, Disposition::Return)));
    }

    /// The connection is lost, and with it all subscriptions: the broker hands everything out
    /// again.
    pub(super) fn lose(&mut self) {
        // `handed_out` stays: those batches are still being stored, and will be settled.
        self.live.clear();
        self.waiting.clear();
        self.delayed.clear();
        self.settled.clear();
    }

    /// What is to be told to the broker.
    pub(super) fn take_settled(&mut self) -> Vec<(Arc<M>, Disposition)> {
        std::mem::take(&mut self.settled)
    }

    /// Messages that were handed out and are not settled.
    pub(super) fn handed_out(&self) -> usize {
        self.handed_out
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Message {
        subscription: u64,
        name: &'static str,
    }

    impl Fetched for Message {
        fn subscription(&self) -> u64 {
            self.subscription
        }
    }

    fn held(messages: &[(u64, &'static str)]) -> Unsettled<Message> {
        let mut held = Unsettled::new();
        for &(subscription, name) in messages {
            held.begin(subscription);
            held.add(Message { subscription, name });
        }
        held
    }

    fn settled(held: &mut Unsettled<Message>) -> Vec<(&'static str, Disposition)> {
        held.take_settled().into_iter().map(|(message, outcome)| (message.name, outcome)).collect()
    }

    #[test]
    fn a_requeued_message_comes_again_when_its_time_has_come() {
        let now = Instant::now();
        let mut held = held(&[(1, "a"), (1, "b")]);
        let a = held.take(now).unwrap();
        let due = now + Duration::from_secs(1);
        held.requeue(a, due);
        assert_eq!((held.next_due(), held.handed_out()), (Some(due), 0));
        assert_eq!(held.take(now).unwrap().name, "b");
        assert!(held.take(now).is_none());
        assert_eq!(held.take(due).unwrap().name, "a");
        assert_eq!(settled(&mut held), []);
    }

    #[test]
    fn what_an_ended_subscription_left_goes_back() {
        let now = Instant::now();
        let mut held =
            held(&[(1, "stored"), (1, "requeued"), (1, "late"), (1, "waits"), (2, "other")]);
        let [stored, requeued, late] = [(); 3].map(|()| held.take(now).unwrap());
        held.requeue(late, now + Duration::from_secs(9));
        held.end(1);
        held.acknowledge(stored);
        held.requeue(requeued, now);
        held.add(Message { subscription: 1, name: "on its way" });
        assert_eq!(
            settled(&mut held),
            [
                ("waits", Disposition::Return),
                ("late", Disposition::Return),
                ("stored", Disposition::Acknowledge),
                ("requeued", Disposition::Return),
                ("on its way", Disposition::Return),
            ]
        );
        assert_eq!(held.take(now).unwrap().name, "other");
        assert_eq!(held.handed_out(), 1);
    }

    #[test]
    fn a_lost_connection_forgets_all_but_what_is_handed_out() {
        let now = Instant::now();
        let mut held = held(&[(1, "a"), (1, "b"), (1, "c")]);
        let (a, b) = (held.take(now).unwrap(), held.take(now).unwrap());
        held.requeue(b, now);
        held.lose();
        assert!(held.take(now + Duration::from_secs(60)).is_none());
        held.acknowledge(a);
        assert_eq!((held.handed_out(), settled(&mut held).len()), (0, 1));
    }
}
