//! The whole way of a notification, from the incidents of a tenant to the outboxes of its channels:
//! **suppress → repeat → route → outbox**, each stage in the file of its name.
//!
//! Two things that belong to it happen elsewhere, since they need more than one evaluation.
//! Incidents of one service that begin within ten minutes are of one group from their beginning
//! (`incident`), and what waits for a channel at the same time is put into one message by the
//! channel's worker ([`plan`]).
//!
//! [`plan`]: super::plan

use logweir_core::{identity::Tenant, timestamp::Timestamp};
use logweir_incident::notification::Notification;
use logweir_storage::{KeepAlerts, NewDelivery, StorageError};
use parking_lot::Mutex;

use super::{
    outbox::new_delivery::new_delivery,
    policy::NotificationPolicy,
    repeat,
    route::{Routes, channels_told, route},
    suppress::suppress,
};
use crate::{incident::Incidents, rule::engine::Engine};

/// The notifications that are due now, whoever is then told of them. They count as told from now
/// on.
pub fn due(
    incidents: &mut Incidents,
    policy: &NotificationPolicy,
    now: Timestamp,
) -> Vec<Notification> {
    // Suppressed first, or what a silence covers would be told in the moment in which it fires.
    suppress(incidents, &policy.suppression, now);
    let due = repeat::due(incidents, policy, now);
    incidents.forget(now);
    due
}

/// The tenant that is told, and how.
pub(crate) struct Pipeline<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) engine: &'a Mutex<Engine>,
    pub(crate) policy: &'a NotificationPolicy,
    pub(crate) routes: &'a Routes,
    pub(crate) alerts: &'a dyn KeepAlerts,
}

impl Pipeline<'_> {
    /// What is to be written into outboxes, in the transaction that stores the incidents. What is
    /// due joins the `backlog`, which keeps what an earlier transaction failed to store; whoever
    /// has stored the deliveries clears it.
    pub(crate) async fn run(
        &self,
        backlog: &mut Vec<Notification>,
        now: Timestamp,
    ) -> Result<Vec<NewDelivery>, StorageError> {
        backlog.extend(due(self.engine.lock().incidents_mut(), self.policy, now));
        // Asked after `due`, which knows what ends, and before the commit: a fault in between costs
        // nothing.
        let told = channels_told(self.alerts, self.tenant, backlog).await?;
        let routed = route(backlog, self.routes, &told).into_iter();
        let outbox = |(channel, notification): (String, &Notification)| {
            new_delivery(&channel, notification.clone(), now)
        };
        Ok(routed.map(outbox).collect())
    }
}
