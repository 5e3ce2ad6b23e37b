//! An outbox in memory, a network that may reach the loopback address, and notifications to send.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use logweir_alerting::{
    channel::address::AddressPolicy,
    channel::{Network, SystemResolver},
    notify::outbox::{
        Change, DELIVERIES_MAX, Finished, Outbox, OutboxError, Outcome, Queue, Started,
    },
};
use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    channel::{Breaker, ChannelState},
    delivery::Delivery,
    example,
    incident::{Incident, IncidentState},
    notification::{Notification, NotificationKind},
    rule::Severity,
};
use tokio::sync::Notify;

/// A network that may reach the listeners of a test, and waits for none of them for long.
pub(crate) fn network(authority: &str) -> Network {
    let networks_allowed = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let policy = AddressPolicy { networks_allowed, ..AddressPolicy::default() };
    let mut network = Network::new(policy, Arc::new(SystemResolver), authority.as_bytes()).unwrap();
    // Tests wait for it to pass where a listener is silent; on a busy machine a shorter one would
    // pass where a listener answers.
    network.call_timeout = Duration::from_millis(700);
    network
}

/// A notification about the incident of this id.
pub(crate) fn notification(
    id: &str,
    kind: NotificationKind,
    severity: Severity,
    at: Timestamp,
) -> Notification {
    let made_up = example::notification(kind).incident;
    let incident = Incident {
        id: id.into(),
        service: format!("service-{id}"),
        severity,
        firing_at: Some(at),
        ..made_up
    };
    // As the engine numbers them: the key has the number in it.
    let sequence = if kind == NotificationKind::Opened { 1 } else { 2 };
    Notification::new(kind, sequence, at, &incident)
}

#[derive(Default)]
struct Inside {
    state: ChannelState,
    waiting: BTreeMap<i64, Delivery>,
    threads: BTreeMap<String, String>,
    handed_over: BTreeSet<String>,
    record: Record,
    fallbacks: Vec<String>,
    leads: Option<Duration>,
}

/// What an outbox saw.
#[derive(Clone, Default)]
pub(crate) struct Record {
    /// The message's key and the notifications' keys in it, as begun.
    pub(crate) begun: Vec<(String, Vec<String>)>,
    /// The notifications' keys, in the order in which they were done.
    pub(crate) sent: Vec<String>,
    pub(crate) given_up: Vec<String>,
    pub(crate) handed_over: Vec<String>,
    pub(crate) changes: Vec<Change>,
}

/// What waits for one channel, in memory.
#[derive(Default)]
pub(crate) struct MemoryOutbox {
    inside: Mutex<Inside>,
    pub(crate) changed: Notify,
}

impl MemoryOutbox {
    pub(crate) fn new() -> Arc<Self> {
        let outbox = Self::default();
        outbox.inside.lock().unwrap().leads = Some(Duration::from_secs(60));
        Arc::new(outbox)
    }

    pub(crate) fn lead(&self, leads: Option<Duration>) {
        self.inside.lock().unwrap().leads = leads;
    }

    pub(crate) fn fall_back_to(&self, channel: &str) {
        self.inside.lock().unwrap().fallbacks = vec![channel.into()];
    }

    pub(crate) fn add(&self, notification: Notification) {
        let mut inside = self.inside.lock().unwrap();
        // Ids only grow, also where all that waited is done.
        let id = inside.record.begun.len() as i64 * 1_000_000 + inside.waiting.len() as i64;
        let id = inside.waiting.keys().last().map_or(id, |last| id.max(last + 1));
        let created_at = notification.at;
        let delivery = Delivery {
            id,
            notification,
            created_at,
            attempts: 0,
            not_before: created_at,
            message_key: None,
            is_plain: false,
            is_handed_over: false,
            follows_hand_over: false,
            thread: None,
        };
        inside.waiting.insert(id, delivery);
    }

    pub(crate) fn record(&self) -> Record {
        self.inside.lock().unwrap().record.clone()
    }

    pub(crate) fn breaker(&self) -> Breaker {
        self.inside.lock().unwrap().state.breaker.clone()
    }

    /// Waits until what it saw is as the test wants it.
    pub(crate) async fn wait(&self, enough: impl Fn(&Record) -> bool) -> Record {
        loop {
            // Before the record is looked at, or a change in between would be missed.
            let changed = self.changed.notified();
            let record = self.record();
            if enough(&record) {
                return record;
            }
            changed.await;
        }
    }

    pub(crate) fn load_now(&self) -> Queue {
        let inside = self.inside.lock().unwrap();
        let mut deliveries: Vec<Delivery> = inside.waiting.values().cloned().collect();
        for delivery in &mut deliveries {
            let incident = &delivery.notification.incident.id;
            delivery.thread = inside.threads.get(incident).cloned();
            delivery.follows_hand_over = inside.handed_over.contains(incident);
        }
        // As the port promises: what may have arrived comes first.
        deliveries.sort_by_key(|delivery| (delivery.message_key.is_none(), delivery.id));
        deliveries.truncate(DELIVERIES_MAX);
        Queue { state: inside.state.clone(), deliveries, fallbacks: inside.fallbacks.clone() }
    }

    pub(crate) fn start_now(&self, started: &Started) -> Result<Duration, OutboxError> {
        let mut inside = self.inside.lock().unwrap();
        let leads = inside.leads.ok_or(OutboxError::NotLeading)?;
        inside.state = started.state.clone();
        let mut keys = Vec::new();
        for id in &started.ids {
            let delivery = inside.waiting.get_mut(id).unwrap();
            delivery.attempts += 1;
            delivery.message_key = Some(started.message_key.clone());
            keys.push(delivery.notification.key.clone());
        }
        inside.record.begun.push((started.message_key.clone(), keys));
        Ok(leads)
    }

    pub(crate) fn finish_now(&self, finished: &Finished) -> Result<(), OutboxError> {
        let mut inside = self.inside.lock().unwrap();
        inside.leads.ok_or(OutboxError::NotLeading)?;
        inside.state = finished.state.clone();
        inside.record.changes.extend(finished.change.clone());
        for id in &finished.ids {
            match &finished.outcome {
                Outcome::Sent { thread, .. } => {
                    let delivery = inside.waiting.remove(id).unwrap();
                    if let Some(thread) = thread {
                        let incident = delivery.notification.incident.id.clone();
                        inside.threads.entry(incident).or_insert_with(|| thread.clone());
                    }
                    inside.record.sent.push(delivery.notification.key);
                }
                Outcome::GivenUp { .. } => {
                    let delivery = inside.waiting.remove(id).unwrap();
                    inside.record.given_up.push(delivery.notification.key);
                }
                Outcome::Retry { not_before, may_have_arrived, is_plain, .. } => {
                    let delivery = inside.waiting.get_mut(id).unwrap();
                    delivery.not_before = *not_before;
                    delivery.is_plain = *is_plain;
                    // It certainly did not arrive: the next message may put it together with
                    // others.
                    if !may_have_arrived {
                        delivery.message_key = None;
                    }
                }
            }
        }
        // Unlocked first: whoever wakes looks at the record at once.
        drop(inside);
        self.changed.notify_waiters();
        Ok(())
    }

    pub(crate) fn hand_over_now(&self, ids: &[i64]) {
        let mut inside = self.inside.lock().unwrap();
        for id in ids {
            let delivery = inside.waiting.get_mut(id).unwrap();
            delivery.is_handed_over = true;
            let (key, incident) =
                (delivery.notification.key.clone(), &delivery.notification.incident);
            let (incident, state) = (incident.id.clone(), incident.state);
            inside.record.handed_over.push(key);
            // What follows an incident's end does not exist.
            if state != IncidentState::Resolved {
                inside.handed_over.insert(incident);
            }
        }
        drop(inside);
        self.changed.notify_waiters();
    }
}

#[async_trait]
impl Outbox for MemoryOutbox {
    async fn load(&self, _: &str) -> Result<Queue, OutboxError> {
        Ok(self.load_now())
    }

    async fn start(&self, _: &str, started: &Started) -> Result<Duration, OutboxError> {
        self.start_now(started)
    }

    async fn finish(&self, _: &str, finished: &Finished) -> Result<(), OutboxError> {
        self.finish_now(finished)
    }

    async fn hand_over(&self, _: &str, ids: &[i64], _: &str, _: &str) -> Result<(), OutboxError> {
        self.hand_over_now(ids);
        Ok(())
    }
}
