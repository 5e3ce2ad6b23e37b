//! The part of the port that has to do with alerting: who leads, what was set, incidents, and what
//! waits to be told. What is in the bodies is alerting's own, JSON.
//!
//! - **One leads.** [`KeepAlerts::lead`] gives the lead to one process at a time, for a while, with an
//!   epoch that grows with each that takes over, and with each lead that had run out. [`KeepAlerts::commit_alerts`] checks the epoch and
//!   that the lead has not run out, in its own transaction: who was paused and wakes up changes
//!   nothing. The time is the database's where several machines share one.
//! - **Together.** A commit is one transaction: an incident and what is to be told of it are there
//!   both or not at all.
//! - **Once.** A notice of a channel is stored once, by its key, however often it is written.
//! - **Bounded.** Resolved incidents and deliveries that are done are forgotten after
//!   [`ALERTS_KEPT`].

use std::time::Duration;

use async_trait::async_trait;
use logweir_core::identity::{Service, Tenant};

use crate::{StorageError, TemplateSummary, TimeRange};

/// How long resolved incidents and deliveries that are done are kept.
pub const ALERTS_KEPT: Duration = Duration::from_secs(90 * 86_400);
/// How the ids of incidents begin of which only the deliveries are stored.
pub const DELIVERED_ONLY: &str = "channel-";
/// Actions of a tenant that wait; more are refused.
pub const ACTIONS_WAITING_MAX: usize = 1_000;

/// Something that was set: a rule, a channel, a silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertSetting {
    /// What it is, such as `rule`.
    pub kind: String,
    /// Unique among those of its kind.
    pub name: String,
    /// JSON.
    pub body: String,
}

/// An incident as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredIncident {
    /// Unique within the tenant.
    pub incident_id: String,
    /// Where in its life, such as `firing`.
    pub state: String,
    /// The service; empty if it is about the system itself.
    pub service: String,
    /// First seen, nanoseconds since 1970-01-01 UTC.
    pub began_unix_nano: i64,
    /// When it was over; none while it is not.
    pub resolved_unix_nano: Option<i64>,
    /// JSON.
    pub body: String,
}

/// A notice for a channel that is not stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// The channel's name.
    pub channel: String,
    /// The notice's.
    pub key: String,
    /// The incident's id.
    pub incident_id: String,
    /// Within the incident.
    pub sequence: u32,
    /// When it was written.
    pub created_unix_nano: i64,
    /// JSON.
    pub body: String,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Its id, ascending.
    pub delivery_id: i64,
    /// What was said when it was stored; the body is the newest.
    pub delivery: NewDelivery,
    /// What became of it.
    pub state: DeliveryState,
    /// What the channel answered to the incident's first message; none if it said nothing.
    pub thread: Option<String>,
}

/// A change of a stored delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryUpdate {
    /// Which.
    pub delivery_id: i64,
    /// What became of it.
    pub state: DeliveryState,
    /// JSON.
    pub body: String,
    /// What the channel answered, to be used in later messages about the incident.
    pub thread: Option<String>,
}

/// What the leader changes, at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertChanges {
    /// Incidents, new or changed.
    pub incidents: Vec<StoredIncident>,
    /// Notices to be told.
    pub deliveries: Vec<NewDelivery>,
    /// Deliveries that changed.
    pub updates: Vec<DeliveryUpdate>,
    /// States that are kept from one moment to the next, by name, JSON.
    pub states: Vec<(String, String)>,
    /// Actions that were taken account of.
    pub actions_done: Vec<i64>,
}

/// Which incidents are asked for.
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
    /// Every tenant that has sent logs.
    async fn list_tenants(&self) -> Result<Vec<Tenant>, StorageError>;
    /// Templates whose first log is not older, newest first, at most `limit`; counts are of all their
    /// logs, and merged patterns are left out.
    async fn new_templates(
        &self,
        tenant: &Tenant,
        since_unix_nano: i64,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError>;
    /// Takes the lead, or keeps it, for so long from now on; the epoch, or none while another leads.
    async fn lead(&self, holder: &str, lease: Duration) -> Result<Option<i64>, StorageError>;
    /// Gives the lead up, so that another may take it at once.
    async fn resign(&self, holder: &str) -> Result<(), StorageError>;
    /// Sets something; none removes it.
    async fn put_setting(
        &self,
        tenant: &Tenant,
        kind: &str,
        name: &str,
        body: Option<String>,
    ) -> Result<(), StorageError>;
    /// All that was set, by tenant, kind and name.
    async fn list_settings(&self) -> Result<Vec<(Tenant, AlertSetting)>, StorageError>;
    /// Leaves what somebody wants done for the leader, JSON. `LimitExceeded` if
    /// [`ACTIONS_WAITING_MAX`] wait.
    async fn insert_action(&self, tenant: &Tenant, body: String) -> Result<(), StorageError>;
    /// What is to be done, in order, at most `limit`.
    async fn list_actions(&self, limit: usize) -> Result<Vec<(Tenant, i64, String)>, StorageError>;
    /// Stores changes if the epoch still leads; for how long it does at least, or none if it does not:
    /// then nothing is stored.
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
    /// The states of a tenant, by name.
    async fn alert_states(&self, tenant: &Tenant) -> Result<Vec<(String, String)>, StorageError>;
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
