//! What a consumer has fetched and not settled: waiting to be handed out, tenants by turns, held until
//! a time that a requeue asked for, or settled and not yet told to the broker. Pure but for the times
//! it is given.

use std::{collections::BTreeMap, sync::Arc};

use logweir_core::{fairness::queue::FairQueue, identity::Tenant, timestamp::Timestamp};
use tokio::time::Instant;

use super::position::{Look, Position};

/// What a tenant's turn hands out, in the unit of [`Fetched::cost`]: a few ordinary batches.
const TURN: u64 = 64 << 10;

/// A fetched message of a subscription.
pub(super) trait Fetched {
    /// Which subscription it came by.
    fn subscription(&self) -> u64;
    /// Whose it is.
    fn tenant(&self) -> &Tenant;
    /// When a server took it.
    fn received_at(&self) -> Timestamp;
    /// What it costs to process it.
    fn cost(&self) -> u64;
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
    /// Subscriptions that fetch, and how far each is; messages of any other go back.
    live: BTreeMap<u64, Position>,
    waiting: FairQueue<Arc<M>>,
    delayed: BTreeMap<(Instant, u64), Arc<M>>,
    next_number: u64,
    handed_out: usize,
    settled: Vec<(Arc<M>, Disposition)>,
}

impl<M: Fetched> Unsettled<M> {
    pub(super) fn new() -> Self {
        Self {
            live: BTreeMap::new(),
            waiting: FairQueue::new(TURN),
            delayed: BTreeMap::new(),
            next_number: 0,
            handed_out: 0,
            settled: Vec::new(),
        }
    }

    /// A subscription begins.
    pub(super) fn begin(&mut self, subscription: u64) {
        self.live.insert(subscription, Position::default());
    }

    /// A message came. That of a subscription which has ended goes back.
    pub(super) fn add(&mut self, message: M) {
        let message = Arc::new(message);
        if let Some(position) = self.live.get_mut(&message.subscription()) {
            position.fetched(message.received_at());
            self.waiting.push(message.tenant().clone(), message.cost(), message);
        } else {
            self.settled.push((message, Disposition::Return));
        }
    }

    /// Hands out the next message, first those whose time has come.
    pub(super) fn take(&mut self, now: Instant) -> Option<Arc<M>> {
        let message = match self.delayed.first_entry() {
            Some(entry) if entry.key().0 <= now => entry.remove(),
            _ => self.waiting.pop()?,
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
        if let Some(position) = self.live.get_mut(&message.subscription()) {
            position.stored(message.received_at());
        }
        self.settled.push((message, Disposition::Acknowledge));
    }

    /// A handed out message comes again, not before `due`; from another consumer if the
    /// subscription has ended.
    pub(super) fn requeue(&mut self, message: Arc<M>, due: Instant) {
        self.handed_out -= 1;
        if self.live.contains_key(&message.subscription()) {
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
        let back = self.waiting.extract(ended);
        let due: Vec<_> = self.delayed.extract_if(.., |_, message| ended(message)).collect();
        let back = back.into_iter().chain(due.into_iter().map(|(_, message)| message));
        self.settled.extend(back.map(|message| (message, Disposition::Return)));
    }

    /// The connection is lost, and with it all subscriptions: the broker hands everything out
    /// again.
    pub(super) fn lose(&mut self) {
        // `handed_out` stays: those batches are still being stored, and will be settled.
        self.live.clear();
        self.waiting = FairQueue::new(TURN);
        self.delayed.clear();
        self.settled.clear();
    }

    /// Through which receive time all is committed of what a subscription fetches, if that is known.
    pub(super) fn committed(&self, subscription: u64, look: Option<Look>) -> Option<Timestamp> {
        self.live.get(&subscription)?.committed(look)
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
        tenant: Tenant,
        received_at: Timestamp,
        name: &'static str,
    }

    impl Fetched for Message {
        fn subscription(&self) -> u64 {
            self.subscription
        }

        fn tenant(&self) -> &Tenant {
            &self.tenant
        }

        fn received_at(&self) -> Timestamp {
            self.received_at
        }

        fn cost(&self) -> u64 {
            TURN
        }
    }

    fn message(subscription: u64, name: &'static str) -> Message {
        let received_at = Timestamp::from_unix_nanos(1);
        Message { subscription, tenant: Tenant::default(), received_at, name }
    }

    fn held(messages: &[(u64, &'static str)]) -> Unsettled<Message> {
        let mut held = Unsettled::new();
        for &(subscription, name) in messages {
            if !held.live.contains_key(&subscription) {
                held.begin(subscription);
            }
            held.add(message(subscription, name));
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
    fn a_flood_waits_behind_itself_and_the_oldest_of_all_tells_how_far_all_is() {
        let (mut held, now) = (held(&[]), Instant::now());
        held.begin(1);
        let at = Timestamp::from_unix_nanos;
        let sent = [("flood", "first"), ("flood", "second"), ("flood", "third"), ("calm", "calm")];
        for ((tenant, name), nanos) in sent.into_iter().zip(1..) {
            let tenant = Tenant::new(tenant).unwrap();
            held.add(Message { tenant, received_at: at(nanos), ..message(1, name) });
        }
        let (first, calm) = (held.take(now).unwrap(), held.take(now).unwrap());
        assert_eq!((first.name, calm.name), ("first", "calm"));
        held.acknowledge(calm);
        let committed =
            |held: &Unsettled<_>, waiting| held.committed(1, Some(Look { at: at(9), waiting }));
        assert_eq!(committed(&held, 0), Some(at(1)));
        held.requeue(first, now);
        assert_eq!(committed(&held, 0), Some(at(1)), "what comes again is not stored yet");
        while let Some(message) = held.take(now) {
            held.acknowledge(message);
        }
        assert_eq!((committed(&held, 1), committed(&held, 0)), (Some(at(4)), Some(at(9))));
        held.lose();
        assert_eq!(committed(&held, 0), None);
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
        held.add(message(1, "on its way"));
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
