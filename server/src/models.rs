//! Models: listed and promoted in storage, trained and compared by processors, which are asked by a
//! job and answered for here.

use std::sync::Arc;

use logweir_core::{
    job::{Cluster, Clusters, Comparison, Differing, JobRequest, Trained},
    runtime::clock::Clock,
    timestamp::NANOS_PER_DAY,
};
use logweir_proto::v1::{self, model_service_server::ModelService};
use logweir_storage::{Feedback, JobKind, Model, ModelKind, ModelState, Storage, TimeRange};
use tonic::{Request, Response, Status};

use crate::{
    auth::layer,
    jobs::Jobs,
    query::{bounded, log_id, service, time_range},
    response_size::cut,
    status::Refusal,
};

const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1_000;
const CLUSTERS_DEFAULT: u32 = 20;
const CLUSTERS_MAX: u32 = 100;

/// Handles the model service.
pub(crate) struct ModelHandler {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Clock,
    pub(crate) jobs: Jobs,
}

#[tonic::async_trait]
impl ModelService for ModelHandler {
    async fn list_models(
        &self,
        request: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        let caller = layer::caller(&request)?;
        let limit = bounded("limit", request.into_inner().limit, LIST_DEFAULT, LIST_MAX)?;
        let found = self.storage.list_models(&caller.tenant, limit as usize).await;
        let brief = |found| v1::Model { statistics: String::new(), ..model(found) };
        let (models, truncated) = cut(found.map_err(Refusal::from)?.into_iter().map(brief));
        Ok(Response::new(v1::ListModelsResponse { models, truncated }))
    }

    async fn get_model(
        &self,
        request: Request<v1::GetModelRequest>,
    ) -> Result<Response<v1::GetModelResponse>, Status> {
        let caller = layer::caller(&request)?;
        let id = request.into_inner().model_id;
        let found = self.storage.get_model(&caller.tenant, id).await.map_err(Refusal::from)?;
        Ok(Response::new(v1::GetModelResponse { model: Some(model(found)) }))
    }

    async fn train_model(
        &self,
        request: Request<v1::TrainModelRequest>,
    ) -> Result<Response<v1::TrainModelResponse>, Status> {
        let caller = layer::administrator(&request)?;
        let asked = request.into_inner();
        service(&asked.service)?;
        let TimeRange { from_unix_nano, to_unix_nano } = self.range(asked.range)?;
        let job = JobRequest::TrainModel { service: asked.service, from_unix_nano, to_unix_nano };
        let Trained { model_id } = self.jobs.ask(&caller.tenant, JobKind::Detection, &job).await?;
        let trained = self.storage.get_model(&caller.tenant, model_id).await;
        let trained = model(trained.map_err(Refusal::from)?);
        Ok(Response::new(v1::TrainModelResponse { model: Some(trained) }))
    }

    async fn compare_models(
        &self,
        request: Request<v1::CompareModelsRequest>,
    ) -> Result<Response<v1::CompareModelsResponse>, Status> {
        let caller = layer::administrator(&request)?;
        let asked = request.into_inner();
        let TimeRange { from_unix_nano, to_unix_nano } = self.range(asked.range)?;
        let (first, second) = (asked.first_model_id, asked.second_model_id);
        let job = JobRequest::CompareModels { first, second, from_unix_nano, to_unix_nano };
        let found: Comparison = self.jobs.ask(&caller.tenant, JobKind::Detection, &job).await?;
        let logs = |logs: Vec<Differing>| logs.into_iter().map(differing).collect();
        Ok(Response::new(v1::CompareModelsResponse {
            logs: found.logs,
            first_anomalies: found.first_anomalies,
            second_anomalies: found.second_anomalies,
            both: found.both,
            only_first: logs(found.only_first),
            only_second: logs(found.only_second),
        }))
    }

    async fn give_feedback(
        &self,
        request: Request<v1::GiveFeedbackRequest>,
    ) -> Result<Response<v1::GiveFeedbackResponse>, Status> {
        let caller = layer::administrator(&request)?;
        let v1::GiveFeedbackRequest { log_id: id, is_anomaly } = request.into_inner();
        let log_id = log_id("log_id", &id)?;
        let found = self.storage.get(&caller.tenant, log_id, 0).await.map_err(Refusal::from)?.log;
        let (service, template_id) = (found.service, found.scored.template_id);
        let answer = v1::GiveFeedbackResponse {
            service: service.to_string(),
            template_id: template_id.to_string(),
        };
        let given_by = caller.token_id().to_owned();
        let given_unix_nano = (self.clock)();
        let said = Feedback { log_id, service, template_id, is_anomaly, given_by, given_unix_nano };
        self.storage.give_feedback(&caller.tenant, said).await.map_err(Refusal::from)?;
        Ok(Response::new(answer))
    }

    async fn list_clusters(
        &self,
        request: Request<v1::ListClustersRequest>,
    ) -> Result<Response<v1::ListClustersResponse>, Status> {
        let caller = layer::caller(&request)?;
        let asked = request.into_inner();
        service(&asked.service)?;
        let limit = bounded("limit", asked.limit, CLUSTERS_DEFAULT, CLUSTERS_MAX)?;
        let TimeRange { from_unix_nano, to_unix_nano } = self.range(asked.range)?;
        let (service, anomalies) = (asked.service, asked.anomalies);
        let job =
            JobRequest::ListClusters { service, from_unix_nano, to_unix_nano, anomalies, limit };
        let Clusters { clusters, total, logs } =
            self.jobs.ask(&caller.tenant, JobKind::Detection, &job).await?;
        let clusters = clusters.into_iter().map(cluster).collect();
        Ok(Response::new(v1::ListClustersResponse { clusters, total, logs }))
    }

    async fn promote_model(
        &self,
        request: Request<v1::PromoteModelRequest>,
    ) -> Result<Response<v1::PromoteModelResponse>, Status> {
        let caller = layer::administrator(&request)?;
        let id = request.into_inner().model_id;
        let promoted = self.storage.promote_model(&caller.tenant, id, (self.clock)()).await;
        let promoted = model(promoted.map_err(Refusal::from)?);
        Ok(Response::new(v1::PromoteModelResponse { model: Some(promoted) }))
    }

    async fn roll_back_model(
        &self,
        request: Request<v1::RollBackModelRequest>,
    ) -> Result<Response<v1::RollBackModelResponse>, Status> {
        let caller = layer::administrator(&request)?;
        let service = service(&request.into_inner().service)?;
        let kind = ModelKind::IsolationForest;
        let back = self.storage.roll_back_model(&caller.tenant, kind, service.as_ref()).await;
        let model = back.map_err(Refusal::from)?.map(model);
        Ok(Response::new(v1::RollBackModelResponse { model }))
    }
}

impl ModelHandler {
    /// The last day if nothing is said.
    fn range(&self, range: Option<v1::TimeRange>) -> Result<TimeRange, Refusal> {
        let mut range = time_range(range)?;
        if range.to_unix_nano == i64::MAX {
            range.to_unix_nano = (self.clock)().saturating_add(1).max(range.from_unix_nano + 1);
        }
        if range.from_unix_nano == 0 {
            range.from_unix_nano = range.to_unix_nano.saturating_sub(NANOS_PER_DAY).max(0);
        }
        Ok(range)
    }
}

fn differing(log: Differing) -> v1::DifferingLog {
    let Differing { id, service, message, reasons } = log;
    v1::DifferingLog { id, service, message, reasons }
}

fn cluster(found: Cluster) -> v1::Cluster {
    let Cluster { logs, patterns, services, representative, sample_ids } = found;
    v1::Cluster { logs, patterns, services, representative, sample_ids }
}

fn model(found: Model) -> v1::Model {
    let Model { model_id, made, state, activated_unix_nano, checksum, bytes } = found;
    let state = match state {
        ModelState::Candidate => v1::ModelState::Candidate,
        ModelState::Active => v1::ModelState::Active,
        ModelState::Retired => v1::ModelState::Retired,
    };
    v1::Model {
        model_id,
        kind: made.kind.as_str().to_owned(),
        service: made.scope.map_or_else(String::new, |service| service.to_string()),
        state: state.into(),
        parameters: made.parameters,
        trained_on: Some(v1::TimeRange {
            from_unix_nano: made.trained_from_unix_nano,
            to_unix_nano: made.trained_to_unix_nano,
        }),
        rows: made.rows,
        statistics: made.statistics,
        metrics: made.metrics,
        created_unix_nano: made.created_unix_nano,
        activated_unix_nano: activated_unix_nano.unwrap_or(0),
        checksum: format!("{checksum:016x}"),
        bytes,
    }
}
