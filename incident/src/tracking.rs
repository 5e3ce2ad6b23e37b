//! What the process that leads must remember of an incident beside what people see of it: enough
//! that the next leader neither misses a transition nor tells one twice.

use logweir_core::timestamp::Timestamp;

use crate::{incident::Incident, rule::Severity};

/// What is remembered of an incident beside itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tracking {
    /// What the rule tells apart, such as each service: of one series at most one incident is open.
    /// Empty for an incident that nobody follows any longer.
    pub series: String,
    /// Since when the rule holds without a break, event time; none while it is only doubted.
    pub breach_since: Option<Timestamp>,
    /// When the rule last held, event time.
    pub last_breach: Timestamp,
    /// Number of the last notification; 0 if nobody was told.
    pub sequence: u32,
    /// When people were last told; 1970 if nobody was.
    pub notified_at: Timestamp,
    /// How bad it was when people were last told.
    pub notified_severity: Severity,
    /// Reminders since then.
    pub reminders: u32,
    /// Whether an acknowledgement or a change for the better is still to be told.
    pub is_changed: bool,
    /// Whether its end was told, or need not be.
    pub is_closed: bool,
    /// How long the rule must not hold before it is resolved, seconds.
    pub keep_firing_seconds: u32,
}

/// An incident, and what is remembered of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedIncident {
    /// What people see.
    pub incident: Incident,
    /// What the leader remembers.
    pub tracking: Tracking,
}
