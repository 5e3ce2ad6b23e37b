//! Models: listed and promoted in storage, trained and compared by processors, which are asked by a
//! job and answered for here.

use std::{sync::Arc, time::Duration};

use logweir_core::{
    job::{Cluster, Clusters, Comparison, Differing, JobRequest, Trained},
    runtime::clock::Clock,
    timestamp::Timestamp,
};
use logweir_proto::v1::{self, model_service_server::ModelService};
use logweir_storage::{Feedback, JobKind, Model, ModelKind, ModelState, Storage, TimeRange};
use tonic::{Request, Response, Status};

use crate::{
    auth::layer,
    jobs::{Jobs, Waits},
    query::{bounded, log_id, service, time_range},
    response_size::cut,
    status::Refusal,
};

const DAY: Duration = Duration::from_secs(86_400);
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
        // The distribution of the features is kilobytes for each version: a list of a thousand
        // would not fit a response. `GetModel` has it.
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
        let TimeRange { from, to } = self.range(asked.range)?;
        // The name was checked here though the processor reads it: its answer may take minutes.
        let job = JobRequest::TrainModel { service: asked.service, from, to };
        let waits = if asked.keep_running { Waits::Nobody } else { Waits::Caller };
        let Trained { model_id } =
            self.jobs.ask(&caller.tenant, JobKind::Detection, &job, waits).await?;
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
        let TimeRange { from, to } = self.range(asked.range)?;
        let (first, second) = (asked.first_model_id, asked.second_model_id);
        let job = JobRequest::CompareModels { first, second, from, to };
        let found: Comparison =
            self.jobs.ask(&caller.tenant, JobKind::Detection, &job, Waits::Caller).await?;
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
        // Feedback holds for the log's pattern. Service and pattern come from the stored log and
        // not from the caller, who could else mute any pattern by the id of some log.
        let found = self.storage.get(&caller.tenant, log_id, 0).await.map_err(Refusal::from)?.log;
        let (service, template_id) = (found.service, found.scored.template_id);
        let answer = v1::GiveFeedbackResponse {
            service: service.to_string(),
            template_id: template_id.to_string(),
        };
        let given_by = caller.token_id().to_owned();
        let given_at = (self.clock)();
        let said = Feedback { log_id, service, template_id, is_anomaly, given_by, given_at };
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
        let TimeRange { from, to } = self.range(asked.range)?;
        let (service, anomalies) = (asked.service, asked.anomalies);
        let job = JobRequest::ListClusters { service, from, to, anomalies, limit };
        let Clusters { clusters, total, logs } =
            self.jobs.ask(&caller.tenant, JobKind::Detection, &job, Waits::Caller).await?;
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
    /// The range that was asked for; its end is now and its beginning a day earlier where the
    /// caller left them out.
    fn range(&self, range: Option<v1::TimeRange>) -> Result<TimeRange, Refusal> {
        let mut range = time_range(range)?;
        if range.to == Timestamp::MAX {
            range.to = (self.clock)().next().max(range.from.next());
        }
        if range.from == Timestamp::EPOCH {
            range.from = (range.to - DAY).max(Timestamp::EPOCH);
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
    let Model { model_id, made, state, activated_at, checksum, bytes } = found;
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
            from_unix_nano: made.trained_from.as_unix_nanos(),
            to_unix_nano: made.trained_to.as_unix_nanos(),
        }),
        rows: made.rows,
        statistics: made.statistics,
        metrics: made.metrics,
        created_unix_nano: made.created_at.as_unix_nanos(),
        activated_unix_nano: activated_at.map_or(0, Timestamp::as_unix_nanos),
        checksum: format!("{checksum:016x}"),
        bytes,
    }
}
