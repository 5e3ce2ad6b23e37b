//! The alert service: what is set is stored here and taken up by the process that leads; what is
//! known is read from storage; what somebody wants done with an incident is left for the leader.

mod channels;
mod handler;
mod incident_wire;
mod incidents;
mod policy;
mod rules;
mod silences;

use logweir_proto::v1::{self, alert_service_server::AlertService};
use tonic::{Request, Response, Status};

pub(crate) use self::handler::AlertHandler;
use crate::{
    auth::{Caller, layer},
    status::Refusal,
};

impl AlertHandler {
    /// Incidents, those that began last first; over gRPC and by the JSON API.
    pub(crate) async fn incidents(
        &self,
        caller: &Caller,
        asked: v1::ListIncidentsRequest,
    ) -> Result<v1::ListIncidentsResponse, Refusal> {
        incidents::list(self, &caller.tenant, asked).await
    }
}

#[tonic::async_trait]
impl AlertService for AlertHandler {
    async fn list_rules(
        &self,
        request: Request<v1::ListRulesRequest>,
    ) -> Result<Response<v1::ListRulesResponse>, Status> {
        let caller = layer::caller(&request)?;
        Ok(Response::new(rules::list(self, &caller.tenant).await?))
    }

    async fn put_rule(
        &self,
        request: Request<v1::PutRuleRequest>,
    ) -> Result<Response<v1::PutRuleResponse>, Status> {
        let caller = layer::administrator(&request)?;
        let asked = request.into_inner();
        Ok(Response::new(rules::put(self, &caller.tenant, &asked.definition).await?))
    }

    async fn delete_rule(
        &self,
        request: Request<v1::DeleteRuleRequest>,
    ) -> Result<Response<v1::DeleteRuleResponse>, Status> {
        let caller = layer::administrator(&request)?;
        rules::delete(self, &caller.tenant, &request.into_inner().name).await?;
        Ok(Response::new(v1::DeleteRuleResponse {}))
    }

    async fn preview_rule(
        &self,
        request: Request<v1::PreviewRuleRequest>,
    ) -> Result<Response<v1::PreviewRuleResponse>, Status> {
        let caller = layer::caller(&request)?;
        let asked = request.into_inner();
        Ok(Response::new(rules::try_out(self, &caller.tenant, asked).await?))
    }

    async fn list_channels(
        &self,
        request: Request<v1::ListChannelsRequest>,
    ) -> Result<Response<v1::ListChannelsResponse>, Status> {
        let caller = layer::caller(&request)?;
        Ok(Response::new(channels::list(self, &caller.tenant).await?))
    }

    async fn put_channel(
        &self,
        request: Request<v1::PutChannelRequest>,
    ) -> Result<Response<v1::PutChannelResponse>, Status> {
        let caller = layer::administrator(&request)?;
        let asked = request.into_inner();
        Ok(Response::new(channels::put(self, &caller.tenant, &asked.config).await?))
    }

    async fn delete_channel(
        &self,
        request: Request<v1::DeleteChannelRequest>,
    ) -> Result<Response<v1::DeleteChannelResponse>, Status> {
        let caller = layer::administrator(&request)?;
        channels::delete(self, &caller.tenant, &request.into_inner().name).await?;
        Ok(Response::new(v1::DeleteChannelResponse {}))
    }

    async fn test_channel(
        &self,
        request: Request<v1::TestChannelRequest>,
    ) -> Result<Response<v1::TestChannelResponse>, Status> {
        let caller = layer::administrator(&request)?;
        let name = request.into_inner().name;
        Ok(Response::new(channels::test(self, &caller.tenant, &name).await?))
    }

    async fn list_silences(
        &self,
        request: Request<v1::ListSilencesRequest>,
    ) -> Result<Response<v1::ListSilencesResponse>, Status> {
        let caller = layer::caller(&request)?;
        Ok(Response::new(silences::list(self, &caller.tenant).await?))
    }

    async fn put_silence(
        &self,
        request: Request<v1::PutSilenceRequest>,
    ) -> Result<Response<v1::PutSilenceResponse>, Status> {
        let caller = layer::administrator(&request)?;
        let asked = request.into_inner().silence.unwrap_or_default();
        Ok(Response::new(silences::put(self, &caller, asked).await?))
    }

    async fn delete_silence(
        &self,
        request: Request<v1::DeleteSilenceRequest>,
    ) -> Result<Response<v1::DeleteSilenceResponse>, Status> {
        let caller = layer::administrator(&request)?;
        silences::delete(self, &caller.tenant, &request.into_inner().silence_id).await?;
        Ok(Response::new(v1::DeleteSilenceResponse {}))
    }

    async fn get_notification_policy(
        &self,
        request: Request<v1::GetNotificationPolicyRequest>,
    ) -> Result<Response<v1::GetNotificationPolicyResponse>, Status> {
        let caller = layer::caller(&request)?;
        Ok(Response::new(policy::get(self, &caller.tenant).await?))
    }

    async fn put_notification_policy(
        &self,
        request: Request<v1::PutNotificationPolicyRequest>,
    ) -> Result<Response<v1::PutNotificationPolicyResponse>, Status> {
        let caller = layer::administrator(&request)?;
        let asked = request.into_inner();
        Ok(Response::new(policy::put(self, &caller.tenant, &asked.definition).await?))
    }

    async fn list_incidents(
        &self,
        request: Request<v1::ListIncidentsRequest>,
    ) -> Result<Response<v1::ListIncidentsResponse>, Status> {
        let caller = layer::caller(&request)?;
        Ok(Response::new(self.incidents(&caller, request.into_inner()).await?))
    }

    async fn get_incident(
        &self,
        request: Request<v1::GetIncidentRequest>,
    ) -> Result<Response<v1::GetIncidentResponse>, Status> {
        let caller = layer::caller(&request)?;
        let id = request.into_inner().incident_id;
        Ok(Response::new(incidents::get(self, &caller.tenant, &id).await?))
    }

    async fn act_on_incident(
        &self,
        request: Request<v1::ActOnIncidentRequest>,
    ) -> Result<Response<v1::ActOnIncidentResponse>, Status> {
        let caller = layer::administrator(&request)?;
        Ok(Response::new(incidents::act(self, &caller, request.into_inner()).await?))
    }
}
