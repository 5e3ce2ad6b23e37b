//! What every request to alerting works with: the settings in storage, and the checks of what
//! people send.

use std::{sync::Arc, time::Duration};

use logweir_core::{identity::Tenant, runtime::clock::Clock};
use logweir_incident::{
    action::Action,
    setting::{Setting, SettingKind, StoredSetting},
};
use logweir_storage::{Storage, StorageError};

use crate::{jobs::Jobs, status::Refusal};

/// Bytes of a rule or of a channel's settings.
const DEFINITION_BYTES_MAX: usize = 64 << 10;
/// Bytes of a free text that a person adds: a comment, a note, why something was resolved.
pub(super) const TEXT_BYTES_MAX: usize = 1_024;
/// How long somebody should wait when the leader is behind.
const ACTION_RETRY: Duration = Duration::from_secs(30);

/// Handles the alert service: rules, channels, silences, the policy and incidents.
pub(crate) struct AlertHandler {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Clock,
    /// Has alerting preview rules and test channels.
    pub(crate) jobs: Jobs,
}

impl AlertHandler {
    /// What a tenant has set of a kind, by name.
    pub(super) async fn settings(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
    ) -> Result<Vec<StoredSetting>, Refusal> {
        Ok(self.storage.list_settings(tenant, kind).await?)
    }

    /// How many there are of a kind, but for one of this name.
    pub(super) async fn count_others(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
        name: &str,
    ) -> Result<usize, Refusal> {
        let others = self.storage.count_other_settings(tenant, kind, name).await?;
        Ok(usize::try_from(others).unwrap_or(usize::MAX))
    }

    pub(super) async fn put(&self, tenant: &Tenant, setting: Setting) -> Result<(), Refusal> {
        Ok(self.storage.put_setting(tenant, setting).await?)
    }

    /// Deletes a setting; whether it was there.
    pub(super) async fn delete(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
        name: &str,
    ) -> Result<bool, Refusal> {
        Ok(self.storage.delete_setting(tenant, kind, name).await?)
    }

    /// Leaves something for the leader.
    pub(super) async fn ask(&self, tenant: &Tenant, action: &Action) -> Result<(), Refusal> {
        // Storage bounds what waits for the leader. That passes once one leads again, so the caller
        // is told to come back, and not that the request was wrong.
        match self.storage.insert_action(tenant, action).await {
            Err(StorageError::LimitExceeded(message)) => Err(Refusal::Unavailable {
                reason: "ACTIONS_WAIT",
                message,
                retry_after: ACTION_RETRY,
            }),
            other => Ok(other?),
        }
    }
}

/// What somebody sent as JSON.
pub(super) fn parsed<T: serde::de::DeserializeOwned>(
    field: &str,
    json: &str,
) -> Result<T, Refusal> {
    check_length(field, json, DEFINITION_BYTES_MAX)?;
    serde_json::from_str(json)
        .map_err(|error| Refusal::invalid(field, format!("is not understood: {error}")))
}

pub(super) fn check_length(field: &str, text: &str, bytes_max: usize) -> Result<(), Refusal> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    Err(Refusal::invalid(field, format!("has {} bytes, the limit is {bytes_max}", text.len())))
}

/// How many settings there are but for one of this name.
pub(super) fn others(stored: &[StoredSetting], name: &str) -> usize {
    stored.iter().filter(|of| of.name != name).count()
}

/// Refuses a new setting where `count_max` are stored already; one that replaces a stored setting
/// of its name is always possible.
pub(super) fn check_room(what: &str, others: usize, count_max: usize) -> Result<(), Refusal> {
    if others < count_max {
        return Ok(());
    }
    let message = format!("there are {count_max} {what} already: delete one first");
    Err(Refusal::FailedPrecondition(message))
}
