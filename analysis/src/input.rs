//! A log as it comes to be scored.

use logweir_core::{
    identity::{Service, Tenant},
    record::{Level, Record},
};

/// A log as a detector meets it.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedLog<'a> {
    /// Whose.
    pub tenant: &'a Tenant,
    /// Its service.
    pub service: &'a Service,
    /// The service's instance; empty if it has no name.
    pub instance: &'a str,
    /// When it was received, nanoseconds since 1970-01-01 UTC.
    pub received_unix_nano: i64,
    /// The log.
    pub record: &'a Record,
    /// Its level, given or derived.
    pub level: Level,
}
