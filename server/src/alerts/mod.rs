//! Alerting's door: what is set is stored here and taken up by the process that leads; what is known
//! is read from storage; what somebody wants done with an incident is left for the leader.

mod channels;
mod incident_wire;
mod incidents;
mod policy;
mod rules;
mod silences;

use std::{sync::Arc, time::Duration};

use logweir_core::{identity::Tenant, runtime::clock::Clock};
use logweir_incident::{
    action::Action,
    setting::{Setting, SettingKind, StoredSetting},
};
use logweir_proto::v1::{self, alert_service_server::AlertService};
use logweir_storage::{Storage, StorageError};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::{gate, jobs::Jobs, status::Refusal};

/// Bytes of a rule or of a channel's settings.
const DEFINITION_BYTES_MAX: usize = 64 << 10;
/// Bytes of what a person writes.
const TEXT_BYTES_MAX: usize = 1_024;
/// Tests of channels that callers wait for at a time.
pub(crate) const TESTS_MAX: usize = 4;
/// Previews of rules that callers wait for at a time: an alerting process does one after another.
pub(crate) const PREVIEWS_MAX: usize = 1;
/// How long somebody should wait when the leader is behind.
const ACTION_RETRY: Duration = Duration::from_secs(30);

/// The door to rules, channels, silences and incidents.
pub(crate) struct AlertDoor {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Clock,
    /// Has alerting preview rules and test channels.
    pub(crate) jobs: Jobs,
    /// At most [`TESTS_MAX`].
    pub(crate) tests: Semaphore,
    /// At most [`PREVIEWS_MAX`].
    pub(crate) previews: Semaphore,
}

#[tonic::async_trait]
impl AlertService for AlertDoor {
    async fn list_rules(
        &self,
        request: Request<v1::ListRulesRequest>,
    ) -> Result<Response<v1::ListRulesResponse>, Status> {
        let caller = gate::caller(&request)?;
        Ok(Response::new(rules::list(self, &caller.tenant).await?))
    }

    async fn put_rule(
        &self,
        request: Request<v1::PutRuleRequest>,
    ) -> Result<Response<v1::PutRuleResponse>, Status> {
        let caller = gate::administrator(&request)?;
        let asked = request.into_inner();
        Ok(Response::new(rules::put(self, &caller.tenant, &asked.definition).await?))
    }

    async fn delete_rule(
        &self,
        request: Request<v1::DeleteRuleRequest>,
    ) -> Result<Response<v1::DeleteRuleResponse>, Status> {
        let caller = gate::administrator(&request)?;
        rules::delete(self, &caller.tenant, &request.into_inner().name).await?;
        Ok(Response::new(v1::DeleteRuleResponse {}))
    }

    async fn preview_rule(
        &self,
        request: Request<v1::PreviewRuleRequest>,
    ) -> Result<Response<v1::PreviewRuleResponse>, Status> {
        let caller = gate::caller(&request)?;
        let asked = request.into_inner();
        Ok(Response::new(rules::try_out(self, &caller.tenant, asked).await?))
    }

    async fn list_channels(
        &self,
        request: Request<v1::ListChannelsRequest>,
    ) -> Result<Response<v1::ListChannelsResponse>, Status> {
        let caller = gate::caller(&request)?;
        Ok(Response::new(channels::list(self, &caller.tenant).await?))
    }

    async fn put_channel(
        &self,
        request: Request<v1::PutChannelRequest>,
    ) -> Result<Response<v1::PutChannelResponse>, Status> {
        let caller = gate::administrator(&request)?;
        let asked = request.into_inner();
        Ok(Response::new(channels::put(self, &caller.tenant, &asked.config).await?))
    }

    async fn delete_channel(
        &self,
        request: Request<v1::DeleteChannelRequest>,
    ) -> Result<Response<v1::DeleteChannelResponse>, Status> {
        let caller = gate::administrator(&request)?;
        channels::delete(self, &caller.tenant, &request.into_inner().name).await?;
        Ok(Response::new(v1::DeleteChannelResponse {}))
    }

    async fn test_channel(
        &self,
        request: Request<v1::TestChannelRequest>,
    ) -> Result<Response<v1::TestChannelResponse>, Status> {
        let caller = gate::administrator(&request)?;
        let name = request.into_inner().name;
        Ok(Response::new(channels::test(self, &caller.tenant, &name).await?))
    }

    async fn list_silences(
        &self,
        request: Request<v1::ListSilencesRequest>,
    ) -> Result<Response<v1::ListSilencesResponse>, Status> {
        let caller = gate::caller(&request)?;
        Ok(Response::new(silences::list(self, &caller.tenant).await?))
    }

    async fn put_silence(
        &self,
        request: Request<v1::PutSilenceRequest>,
    ) -> Result<Response<v1::PutSilenceResponse>, Status> {
        let caller = gate::administrator(&request)?;
        let asked = request.into_inner().silence.unwrap_or_default();
        Ok(Response::new(silences::put(self, &caller, asked).await?))
    }

    async fn delete_silence(
        &self,
        request: Request<v1::DeleteSilenceRequest>,
    ) -> Result<Response<v1::DeleteSilenceResponse>, Status> {
        let caller = gate::administrator(&request)?;
        silences::delete(self, &caller.tenant, &request.into_inner().silence_id).await?;
        Ok(Response::new(v1::DeleteSilenceResponse {}))
    }

    async fn get_notification_policy(
        &self,
        request: Request<v1::GetNotificationPolicyRequest>,
    ) -> Result<Response<v1::GetNotificationPolicyResponse>, Status> {
        let caller = gate::caller(&request)?;
        Ok(Response::new(policy::get(self, &caller.tenant).await?))
    }

    async fn put_notification_policy(
        &self,
        request: Request<v1::PutNotificationPolicyRequest>,
    ) -> Result<Response<v1::PutNotificationPolicyResponse>, Status> {
        let caller = gate::administrator(&request)?;
        let asked = request.into_inner();
        Ok(Response::new(policy::put(self, &caller.tenant, &asked.definition).await?))
    }

    async fn list_incidents(
        &self,
        request: Request<v1::ListIncidentsRequest>,
    ) -> Result<Response<v1::ListIncidentsResponse>, Status> {
        let caller = gate::caller(&request)?;
        Ok(Response::new(incidents::list(self, &caller.tenant, request.into_inner()).await?))
    }

    async fn get_incident(
        &self,
        request: Request<v1::GetIncidentRequest>,
    ) -> Result<Response<v1::GetIncidentResponse>, Status> {
        let caller = gate::caller(&request)?;
        let id = request.into_inner().incident_id;
        Ok(Response::new(incidents::get(self, &caller.tenant, &id).await?))
    }

    async fn act_on_incident(
        &self,
        request: Request<v1::ActOnIncidentRequest>,
    ) -> Result<Response<v1::ActOnIncidentResponse>, Status> {
        let caller = gate::administrator(&request)?;
        Ok(Response::new(incidents::act(self, &caller, request.into_inner()).await?))
    }
}

impl AlertDoor {
    /// What a tenant has set of a kind, by name.
    async fn settings(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
    ) -> Result<Vec<StoredSetting>, Refusal> {
        Ok(self.storage.list_settings(tenant, kind).await?)
    }

    async fn put(&self, tenant: &Tenant, setting: Setting) -> Result<(), Refusal> {
        Ok(self.storage.put_setting(tenant, setting).await?)
    }

    /// Deletes a setting; whether it was there.
    async fn delete(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
        name: &str,
    ) -> Result<bool, Refusal> {
        Ok(self.storage.delete_setting(tenant, kind, name).await?)
    }

    /// Leaves something for the leader.
    async fn ask(&self, tenant: &Tenant, action: &Action) -> Result<(), Refusal> {
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
fn parsed<T: serde::de::DeserializeOwned>(field: &str, json: &str) -> Result<T, Refusal> {
    check_length(field, json, DEFINITION_BYTES_MAX)?;
    serde_json::from_str(json)
        .map_err(|error| Refusal::invalid(field, format!("is not understood: {error}")))
}

fn check_length(field: &str, text: &str, bytes_max: usize) -> Result<(), Refusal> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    Err(Refusal::invalid(field, format!("has {} bytes, the limit is {bytes_max}", text.len())))
}

/// One more is not possible where so many are, unless it takes the place of one.
fn check_room(
    what: &str,
    stored: &[StoredSetting],
    name: &str,
    count_max: usize,
) -> Result<(), Refusal> {
    if stored.len() < count_max || stored.iter().any(|of| of.name == name) {
        return Ok(());
    }
    let message = format!("there are {count_max} {what} already: delete one first");
    Err(Refusal::FailedPrecondition(message))
}
