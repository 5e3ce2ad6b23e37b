//! The names of what tenants share, as quotas have them on the wire. What each is, how large, and
//! what exceeding it gets, stands in the table of `ARCHITECTURE.md`.

use std::time::Duration;

use thiserror::Error;

use crate::identity::Tenant;

/// A tenant uses all of its share of something that all tenants use. It passes by itself, with what
/// the tenant gives back.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    // Without the amounts: what a tenant may hold at present tells it what others hold.
    "{tenant} uses all of its share of {} for now: wait for answers",
    .resource.name()
)]
pub struct OverShare {
    /// Of what.
    pub resource: SharedResource,
    /// Whose share.
    pub tenant: Tenant,
    /// What it holds.
    pub held: u64,
    /// What it may hold at present.
    pub share: u64,
    /// When to try again.
    pub retry_after: Duration,
}

/// What a tenant holds of something that all tenants use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldShare {
    /// Of what.
    pub resource: SharedResource,
    /// What it holds.
    pub held: u64,
    /// What it may hold while nobody else holds any.
    pub held_max: u64,
}

/// Something bounded that all tenants use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedResource {
    /// Bytes of requests that are being read or wait for their answer.
    InFlightBytes,
    /// Batches that wait in this process until they are stored, or the broker has them.
    QueueBatches,
    /// Their bytes.
    QueueBytes,
    /// Live tails that are open.
    Tails,
    /// Connections to the server.
    Connections,
    /// Bytes of answers that were made and not sent.
    UnsentBytes,
}

impl SharedResource {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InFlightBytes => "in_flight_bytes",
            Self::QueueBatches => "queue_batches",
            Self::QueueBytes => "queue_bytes",
            Self::Tails => "tails",
            Self::Connections => "connections",
            Self::UnsentBytes => "unsent_bytes",
        }
    }
}
