//! What is written into the outboxes of channels: notifications that are new, and those that waited
//! for a channel which is gone.

use logweir_core::timestamp::Timestamp;
use logweir_incident::{delivery::Delivery, notification::Notification};
use logweir_storage::{AlertChanges, DeliveryState, DeliveryUpdate, NewDelivery, StoredDelivery};

use super::port::GIVE_UP_AFTER;
use crate::notify::route::Routes;

/// A notification for a channel.
pub(crate) fn new_delivery(
    channel: &str,
    notification: Notification,
    now: Timestamp,
) -> NewDelivery {
    NewDelivery { channel: channel.to_owned(), notification, created_at: now }
}

/// What waited for a channel that is gone, for those that are there; what waited for over a day is
/// given up.
pub(crate) fn rerouted(
    channel: &str,
    waiting: &[StoredDelivery],
    routes: &Routes,
    now: Timestamp,
) -> AlertChanges {
    let mut changes = AlertChanges::default();
    // After a day nobody wants to be told that something was wrong yesterday.
    let is_new = |of: &StoredDelivery| now.since(of.created_at) < GIVE_UP_AFTER;
    for stored in waiting {
        if is_new(stored)
            && let Some(Delivery { mut notification, .. }) = stored.delivery.clone()
        {
            notification.text = format!("its channel {channel} is gone");
            let channels = routes.channels_of(&notification.channels).into_iter();
            changes
                .deliveries
                .extend(channels.map(|to| new_delivery(to, notification.clone(), now)));
        }
        changes.updates.push(DeliveryUpdate {
            delivery_id: stored.delivery_id,
            state: DeliveryState::GivenUp,
            delivery: None,
            thread: None,
        });
    }
    changes
}
