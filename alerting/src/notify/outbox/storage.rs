//! The outbox of one channel, in storage.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use logweir_core::{identity::Tenant, runtime::clock::Clock};
use logweir_incident::{channel::BreakerState, delivery::Delivery, notification::Notification};
use logweir_storage::{AlertChanges, DeliveryState, DeliveryUpdate, KeepAlerts, StorageError};
use parking_lot::Mutex;

use super::{
    new_delivery::new_delivery,
    port::{DELIVERIES_MAX, Finished, Outbox, OutboxError, Outcome, Queue, Started},
};
use crate::notify::{channel_change::channel_changed, route::Routes};

/// What waits for the channels of a tenant, while this process leads.
pub(crate) struct StoredOutbox {
    pub(crate) storage: Arc<dyn KeepAlerts>,
    pub(crate) tenant: Tenant,
    pub(crate) epoch: i64,
    pub(crate) routes: Arc<Routes>,
    pub(crate) clock: Clock,
    /// As they were loaded last, by id: what is recorded builds on them.
    pub(crate) loaded: Mutex<HashMap<i64, Delivery>>,
}

#[async_trait]
impl Outbox for StoredOutbox {
    async fn load(&self, channel: &str) -> Result<Queue, OutboxError> {
        let states = self.storage.channel_states(&self.tenant).await.map_err(unavailable)?;
        let found = self.storage.waiting_deliveries(&self.tenant, channel, DELIVERIES_MAX).await;
        let mut deliveries: Vec<Delivery> =
            found.map_err(unavailable)?.into_iter().filter_map(|of| of.delivery).collect();
        follow(&mut deliveries);
        // What may have arrived first: it is to be repeated before anything else about its
        // incident.
        deliveries.sort_by_key(|delivery| (delivery.message_key.is_none(), delivery.id));
        // The worker only ever records what it loaded last.
        let mut loaded = self.loaded.lock();
        loaded.clear();
        loaded.extend(deliveries.iter().map(|delivery| (delivery.id, delivery.clone())));
        Ok(Queue {
            state: states.get(channel).cloned().unwrap_or_default(),
            // One that asked for a pause or is set wrongly could not tell anybody either.
            fallbacks: self.routes.fallbacks(channel, |other| {
                let state = states.get(other).map(|state| state.breaker.state).unwrap_or_default();
                matches!(state, BreakerState::Closed | BreakerState::HalfOpen { .. })
            }),
            deliveries,
        })
    }

    async fn start(&self, channel: &str, started: &Started) -> Result<Duration, OutboxError> {
        let updates = self.updates(&started.ids, |delivery| {
            // Before a byte is sent: if the process dies now, the next one repeats the message by
            // this key.
            delivery.attempts += 1;
            delivery.message_key = Some(started.message_key.clone());
            (DeliveryState::Waiting, None)
        });
        self.commit(AlertChanges {
            updates,
            channels: vec![(channel.to_owned(), started.state.clone())],
            ..AlertChanges::default()
        })
        .await
    }

    async fn finish(&self, channel: &str, finished: &Finished) -> Result<(), OutboxError> {
        let updates = self.updates(&finished.ids, |delivery| match &finished.outcome {
            Outcome::Sent { thread, .. } => (DeliveryState::Sent, thread.clone()),
            Outcome::GivenUp { .. } => (DeliveryState::GivenUp, None),
            Outcome::Retry { not_before, may_have_arrived, is_plain, .. } => {
                delivery.not_before = *not_before;
                delivery.is_plain |= *is_plain;
                // It certainly did not arrive: it may join others in another message.
                if !may_have_arrived {
                    delivery.message_key = None;
                }
                (DeliveryState::Waiting, None)
            }
        });
        let mut deliveries = Vec::new();
        let now = (self.clock)();
        let others = || self.routes.fallbacks(channel, |_| true);
        if let Some(change) = &finished.change {
            let notification = channel_changed(&self.tenant, channel, change);
            deliveries
                .extend(others().iter().map(|to| new_delivery(to, notification.clone(), now)));
        }
        if let Outcome::GivenUp { error } = &finished.outcome {
            let given_up = self.given_up(channel, &finished.ids, error);
            // One other channel is enough: all of them would tell the same person several times.
            let to = others().into_iter().next();
            deliveries.extend(to.into_iter().flat_map(|to| {
                given_up
                    .iter()
                    .map(move |notification| new_delivery(&to, notification.clone(), now))
            }));
        }
        let channels = vec![(channel.to_owned(), finished.state.clone())];
        self.commit(AlertChanges { updates, deliveries, channels, ..AlertChanges::default() })
            .await
            .map(drop)
    }

    async fn hand_over(
        &self,
        _channel: &str,
        ids: &[i64],
        to: &str,
        reason: &str,
    ) -> Result<(), OutboxError> {
        let now = (self.clock)();
        let mut deliveries = Vec::new();
        let updates = self.updates(ids, |delivery| {
            let mut notification = delivery.notification.clone();
            notification.text = reason.to_owned();
            deliveries.push(new_delivery(to, notification, now));
            delivery.is_handed_over = true;
            (DeliveryState::Waiting, None)
        });
        let changes = AlertChanges { updates, deliveries, ..AlertChanges::default() };
        self.commit(changes).await.map(drop)
    }
}

impl StoredOutbox {
    /// Changes loaded deliveries.
    fn updates(
        &self,
        ids: &[i64],
        mut change: impl FnMut(&mut Delivery) -> (DeliveryState, Option<String>),
    ) -> Vec<DeliveryUpdate> {
        let mut loaded = self.loaded.lock();
        let mut update = |id: &i64| {
            let delivery = loaded.get_mut(id)?;
            let (state, thread) = change(delivery);
            Some(DeliveryUpdate {
                delivery_id: *id,
                state,
                delivery: Some(delivery.clone()),
                thread,
            })
        };
        ids.iter().filter_map(&mut update).collect()
    }

    fn given_up(&self, channel: &str, ids: &[i64], error: &str) -> Vec<Notification> {
        let loaded = self.loaded.lock();
        let notifications = ids.iter().filter_map(|id| loaded.get(id)).map(|delivery| {
            let mut notification = delivery.notification.clone();
            notification.text = format!("could not be told through {channel}: {error}");
            notification
        });
        notifications.collect()
    }

    async fn commit(&self, changes: AlertChanges) -> Result<Duration, OutboxError> {
        let committed = self.storage.commit_alerts(self.epoch, &self.tenant, changes).await;
        committed.map_err(unavailable)?.ok_or(OutboxError::NotLeading)
    }
}

/// What follows something that another channel was told, goes there too.
fn follow(deliveries: &mut [Delivery]) {
    let mut handed_over: Vec<String> = Vec::new();
    for delivery in deliveries {
        let incident = &delivery.notification.incident.id;
        delivery.follows_hand_over |= handed_over.contains(incident);
        if delivery.is_handed_over {
            handed_over.push(incident.clone());
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn unavailable(error: StorageError) -> OutboxError {
    OutboxError::Unavailable(error.to_string())
}
