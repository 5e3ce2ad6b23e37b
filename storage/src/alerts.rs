//! The part of the port that has to do with alerting: who leads, what was set, incidents, and what
//! waits to be told.
//!
//! - **One leads.** [`KeepAlerts::lead`] gives the lead to one process at a time, for a while, with an
//!   epoch that grows with each that takes over, and with each lead that had run out. [`KeepAlerts::commit_alerts`] checks the epoch and
//!   that the lead has not run out, in its own transaction: who was paused and wakes up changes
//!   nothing. The time is the database's where several machines share one.
//! - **Together.** A commit is one transaction: an incident and what is to be told of it are there
//!   both or not at all.
//! - **Once.** A notification of a channel is stored once, by its key, however often it is written.
//! - **Understood or left alone.** What this version does not understand stays stored and takes
//!   nothing else along.
//! - **Bounded.** Resolved incidents and deliveries that are done are forgotten after
//!   [`ALERTS_KEPT`].

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use logweir_core::{
    identity::{Service, Tenant},
    timestamp::Timestamp,
};
use logweir_incident::{
    action::Action,
    channel::ChannelState,
    delivery::Delivery,
    incident::{Incident, IncidentState},
    notification::Notification,
    rule::Severity,
    setting::{Setting, SettingKind, StoredSetting},
    tracking::{TrackedIncident, Tracking},
};
use serde::{Serialize, de::DeserializeOwned};
use tracing::warn;

use crate::{StorageError, TemplateSummary, TimeRange};

/// How long resolved incidents and deliveries that are done are kept.
pub const ALERTS_KEPT: Duration = Duration::from_secs(90 * 86_400);
/// How the ids of incidents begin of which only the deliveries are stored: those about a channel
/// that fails.
// By this prefix their deliveries are found when they are old, since no incident has their age.
pub const DELIVERED_ONLY: &str = "channel-";
/// Actions of a tenant that wait; more are refused.
// A leader takes them every two seconds, so that so many mean that none leads.
pub const ACTIONS_WAITING_MAX: usize = 1_000;

/// An incident as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredIncident {
    /// Unique within the tenant.
    pub incident_id: String,
    /// How far it is between pending and resolved.
    pub state: IncidentState,
    /// The service; empty if it is about the system itself.
    pub service: String,
    /// First seen.
    pub began_at: Timestamp,
    /// When it was over; none while it is not.
    pub resolved_at: Option<Timestamp>,
    /// All that is known of it; none if this version does not understand what another stored.
    pub incident: Option<Incident>,
}

/// A notification for a channel that is not stored yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDelivery {
    /// The channel's name.
    pub channel: String,
    /// What to say; its key is the delivery's.
    pub notification: Notification,
    /// When it was written.
    pub created_at: Timestamp,
}

/// What somebody wants done that the leader has not taken account of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingAction {
    /// Its id, ascending.
    pub action_id: i64,
    /// The tenant whose incidents or settings it concerns.
    pub tenant: Tenant,
    /// What somebody wants done; none if this version does not understand it.
    pub action: Option<Action>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// It is to be sent.
    Waiting,
    /// It arrived.
    Sent,
    /// It was given up.
    GivenUp,
}

crate::models::names!(DeliveryState {
    Waiting = "waiting",
    Sent = "sent",
    GivenUp = "given_up"
});

/// A stored delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDelivery {
    /// Its id, ascending.
    pub delivery_id: i64,
    /// The channel's name.
    pub channel: String,
    /// The incident's id.
    pub incident_id: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// What to say and what was tried, with the thread of the incident's first message; none if
    /// this version does not understand what another stored.
    pub delivery: Option<Delivery>,
    /// What became of it.
    pub state: DeliveryState,
}

/// A change of a stored delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryUpdate {
    /// The delivery that changed.
    pub delivery_id: i64,
    /// What became of it.
    pub state: DeliveryState,
    /// What was tried; none leaves it as it is.
    pub delivery: Option<Delivery>,
    /// What the channel answered, to be used in later messages about the incident.
    pub thread: Option<String>,
}

/// What the leader changes, at once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AlertChanges {
    /// Incidents, new or changed.
    pub incidents: Vec<TrackedIncident>,
    /// What is remembered of incidents that are otherwise as they were, by id.
    pub tracking: Vec<(String, Tracking)>,
    /// Incidents that were never more than pending, and came to nothing.
    pub dropped: Vec<String>,
    /// Notifications to be told.
    pub deliveries: Vec<NewDelivery>,
    /// Deliveries that changed.
    pub updates: Vec<DeliveryUpdate>,
    /// What is known of channels' destinations, by the channel's name.
    pub channels: Vec<(String, ChannelState)>,
    /// Actions that were taken account of.
    pub actions_done: Vec<i64>,
}

/// Which incidents are asked for. Those that are only pending are never listed: most of them come
/// to nothing, and nobody was told of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IncidentQuery {
    /// Only this service.
    pub service: Option<Service>,
    /// Only those that are not resolved.
    pub is_open: bool,
    /// When they began.
    pub range: Option<TimeRange>,
    /// At most so many.
    pub limit: usize,
}

/// Keeps what alerting knows.
#[async_trait]
pub trait KeepAlerts: Send + Sync {
    /// Every tenant that has sent logs or set something, by name.
    async fn list_tenants(&self) -> Result<Vec<Tenant>, StorageError>;
    /// Templates whose first log is not older, newest first, at most `limit`; counts are of all
    /// their logs, and merged patterns are left out.
    async fn new_templates(
        &self,
        tenant: &Tenant,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError>;
    /// Takes the lead, or keeps it, for so long from now on; the epoch, or none while another
    /// leads.
    async fn lead(&self, holder: &str, lease: Duration) -> Result<Option<i64>, StorageError>;
    /// Gives the lead up, so that another may take it at once.
    async fn resign(&self, holder: &str) -> Result<(), StorageError>;
    /// Sets something, in place of what was set under its kind and name.
    async fn put_setting(&self, tenant: &Tenant, setting: Setting) -> Result<(), StorageError>;
    /// Removes something that was set; whether it was there.
    async fn delete_setting(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
        name: &str,
    ) -> Result<bool, StorageError>;
    /// What a tenant has set of a kind, by name.
    async fn list_settings(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
    ) -> Result<Vec<StoredSetting>, StorageError>;
    /// How many a tenant has set of a kind, but for one of this name.
    async fn count_other_settings(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
        name: &str,
    ) -> Result<u64, StorageError>;
    /// All that a tenant has set, by kind and name.
    async fn list_all_settings(&self, tenant: &Tenant) -> Result<Vec<StoredSetting>, StorageError>;
    /// Leaves what somebody wants done for the leader. `LimitExceeded` if [`ACTIONS_WAITING_MAX`]
    /// wait.
    async fn insert_action(&self, tenant: &Tenant, action: &Action) -> Result<(), StorageError>;
    /// What is to be done, at most `limit`: tenants by turns, and of each in order.
    async fn list_actions(&self, limit: usize) -> Result<Vec<WaitingAction>, StorageError>;
    /// Stores changes if the epoch still leads; for how long it does at least, or none if it does
    /// not: then nothing is stored.
    async fn commit_alerts(
        &self,
        epoch: i64,
        tenant: &Tenant,
        changes: AlertChanges,
    ) -> Result<Option<Duration>, StorageError>;
    /// Incidents, those that began last first.
    async fn list_incidents(
        &self,
        tenant: &Tenant,
        query: IncidentQuery,
    ) -> Result<Vec<StoredIncident>, StorageError>;
    /// An incident.
    async fn get_incident(
        &self,
        tenant: &Tenant,
        incident_id: &str,
    ) -> Result<StoredIncident, StorageError>;
    /// The channels for which something waits, by name; whether or not they are still set.
    async fn waiting_channels(&self, tenant: &Tenant) -> Result<Vec<String>, StorageError>;
    /// What waits for a channel, oldest first, at most `limit`.
    async fn waiting_deliveries(
        &self,
        tenant: &Tenant,
        channel: &str,
        limit: usize,
    ) -> Result<Vec<StoredDelivery>, StorageError>;
    /// What is told of an incident through any channel, oldest first.
    async fn deliveries_of(
        &self,
        tenant: &Tenant,
        incident_id: &str,
    ) -> Result<Vec<StoredDelivery>, StorageError>;
    /// What a leader must take up: incidents that are not over or whose end is not told, and those
    /// that were resolved since a moment. Those that nobody follows are left out.
    async fn tracked_incidents(
        &self,
        tenant: &Tenant,
        since: Timestamp,
    ) -> Result<Vec<TrackedIncident>, StorageError>;
    /// What is known of channels' destinations, by the channel's name; nothing of one that was
    /// never called, or that this version does not understand.
    async fn channel_states(
        &self,
        tenant: &Tenant,
    ) -> Result<BTreeMap<String, ChannelState>, StorageError>;
}

pub(crate) fn no_incident(incident_id: &str) -> StorageError {
    StorageError::NotFound(format!("incident {incident_id}"))
}

pub(crate) fn too_many_actions() -> StorageError {
    StorageError::LimitExceeded(format!(
        "{ACTIONS_WAITING_MAX} actions wait: see that an alerting process runs"
    ))
}

/// What is left of a lead.
pub(crate) fn lead_left(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|left| !left.is_zero())
}

pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data is JSON")
}

/// What was stored as JSON; none, with a warning, if this version does not understand it.
// Not an error: one row that a newer version wrote would otherwise stop the alerts of its tenant.
pub(crate) fn understood<T: DeserializeOwned>(what: &str, name: &str, json: &str) -> Option<T> {
    let read = serde_json::from_str(json);
    read.inspect_err(|error| warn!(what, name, "what is stored is not understood: {error}")).ok()
}

/// A stored setting; none, with a warning, if this version has no such kind.
pub(crate) fn stored_setting(kind: &str, name: String, json: &str) -> Option<StoredSetting> {
    let Some(kind) = SettingKind::of(kind) else {
        warn!(kind, name, "a setting of a kind that this version does not know");
        return None;
    };
    let setting = Setting::from_json(kind, json).inspect_err(|error| {
        warn!(kind = kind.as_str(), name, "a setting is not understood: {error}");
    });
    Some(StoredSetting { kind, name, setting: setting.ok() })
}

pub(crate) fn incident_state(name: &str) -> Result<IncidentState, StorageError> {
    let unknown = || StorageError::Corrupt(format!("{name:?} is no state of an incident"));
    IncidentState::of(name).ok_or_else(unknown)
}

pub(crate) fn severity(name: &str) -> Result<Severity, StorageError> {
    let unknown = || StorageError::Corrupt(format!("{name:?} is no severity"));
    Severity::of(name).ok_or_else(unknown)
}

/// When an incident was over, as it is stored: none while its state says that it is not.
pub(crate) fn resolved(incident: &Incident) -> Option<Timestamp> {
    incident.resolved_at.filter(|_| incident.state == IncidentState::Resolved)
}
