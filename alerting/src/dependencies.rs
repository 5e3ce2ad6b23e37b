//! What alerting is given by whoever starts it.

use std::sync::Arc;

use logweir_core::{
    identity::{Service, Tenant},
    runtime::clock::Clock,
};
use logweir_storage::{Administer, KeepAlerts, PassJobs, ReadLogs};

use crate::config::AlertingConfig;

/// What alerting works with.
#[derive(Clone)]
pub struct Dependencies {
    /// The settings of alerting.
    pub config: AlertingConfig,
    /// Who this process is, to others that would lead.
    pub holder: String,
    /// The logs that are watched.
    pub read: Arc<dyn ReadLogs>,
    /// The same for what a tenant asks for, in that tenant's turn.
    pub read_for_tenants: Arc<dyn ReadLogs>,
    /// Which processes live, and what was deployed.
    pub administer: Arc<dyn Administer>,
    /// Settings, incidents and deliveries.
    pub alerts: Arc<dyn KeepAlerts>,
    /// What servers ask for.
    pub jobs: Arc<dyn PassJobs>,
    /// The partition of the queue that a service's logs go through.
    pub partition_of: fn(&Tenant, &Service, u16) -> u16,
    /// Partitions of the queue.
    pub partitions: u16,
    /// Tells the time.
    pub clock: Clock,
}
