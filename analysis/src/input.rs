//! A log as it comes to be scored.

use logweir_core::{
    identity::{Service, Tenant},
    record::{Level, Record},
    timestamp::Timestamp,
};

/// A log as a detector meets it.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedLog<'a> {
    /// The tenant that sent it; detectors keep tenants apart.
    pub tenant: &'a Tenant,
    /// The service that wrote it: what is usual is learned for each service.
    pub service: &'a Service,
    /// The service's instance; empty if it has no name.
    pub instance: &'a str,
    /// When it was received.
    pub received_at: Timestamp,
    /// The log.
    pub record: &'a Record,
    /// Its level, given or derived.
    pub level: Level,
}
