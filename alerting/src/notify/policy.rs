//! When the people of a tenant want to be told, and how often.

use logweir_incident::{policy::Reminders, suppression::Suppression};

/// A tenant's notification policy, with the silences that hold besides it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NotificationPolicy {
    /// Who does not want to know what.
    pub suppression: Suppression,
    /// How often people are reminded.
    pub reminders: Reminders,
}
