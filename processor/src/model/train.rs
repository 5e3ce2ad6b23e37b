//! Training: a pure function of the logs of a window.

use logweir_analysis::{
    Detector, DetectorConfig, FEATURE_NAMES, FeatureStatistics, Features, ForestModel,
    ForestParameters,
};
use logweir_core::{identity::Tenant, record::StoredLog};
use logweir_storage::{KeepModels, Model, ModelKind, ModelState, NewModel, StorageError};
use serde::Serialize;

use super::{
    job_context::{Failure, Tools, json, scope},
    replay::{Judge, Window, observe, replay},
};

/// Models looked through for the active one.
const MODELS_LISTED_MAX: usize = 10_000;

/// How a model did on the logs that it was trained on.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Metrics {
    /// Logs read.
    logs: u64,
    /// Those that are anomalies with it.
    anomalies: u64,
    anomaly_share: f64,
    /// Population stability index of the feature that has changed most since the active model was
    /// trained, its name, and that model.
    drift: Option<f64>,
    drift_feature: Option<&'static str>,
    drift_from: Option<u64>,
}

/// Judges and counts.
struct Counter {
    detector: Detector,
    logs: u64,
    anomalies: u64,
}

impl Counter {
    fn new(config: &DetectorConfig) -> Self {
        Self { detector: Detector::new(config.clone()), logs: 0, anomalies: 0 }
    }
}

impl Judge for Counter {
    fn judge(&mut self, tenant: &Tenant, log: &StoredLog) {
        self.logs += 1;
        self.anomalies += u64::from(observe(&mut self.detector, tenant, log).is_anomaly);
    }
}

/// Trains a forest on the logs of a window and keeps it as a candidate.
pub(super) async fn train(tools: &Tools, window: &Window) -> Result<Model, Failure> {
    let scope = scope(&window.tenant, window.service.as_ref());
    let read = replay(&tools.read, window, Counter::new(&tools.detector)).await?;
    let rows = read.detector.sample(&scope);
    let parameters = ForestParameters::default();
    let (growing, given) = (rows.clone(), parameters.clone());
    let grow = tokio::task::spawn_blocking(move || ForestModel::train(&growing, &given));
    let forest = grow.await.map_err(|error| StorageError::Broken(Box::new(error)))??;
    let body = forest.encode();
    let statistics = json(forest.statistics());
    let mut judge = Counter::new(&tools.detector);
    judge.detector.install(scope, Some(forest.into()));
    let judged = replay(&tools.read, window, judge).await?;
    let mut metrics = Metrics {
        logs: judged.logs,
        anomalies: judged.anomalies,
        anomaly_share: judged.anomalies as f64 / judged.logs.max(1) as f64,
        drift: None,
        drift_feature: None,
        drift_from: None,
    };
    if let Some(active) = active(&*tools.models, window).await? {
        metrics.compare(&active, &rows);
    }
    let model = NewModel {
        kind: ModelKind::IsolationForest,
        scope: window.service.clone(),
        parameters: json(&parameters),
        trained_from_unix_nano: window.range.from_unix_nano,
        trained_to_unix_nano: window.range.to_unix_nano,
        rows: rows.len() as u64,
        statistics,
        metrics: json(&metrics),
        created_unix_nano: (tools.clock)(),
    };
    Ok(tools.models.insert_model(&window.tenant, model, body).await?)
}

impl Metrics {
    fn compare(&mut self, active: &Model, rows: &[Features]) {
        // What an older program wrote may have other features.
        let Ok(before) = serde_json::from_str::<FeatureStatistics>(&active.made.statistics) else {
            return;
        };
        let (drift, feature) = greatest(before.stability_index(rows));
        self.drift = Some(drift);
        self.drift_feature = Some(feature);
        self.drift_from = Some(active.model_id);
    }
}

/// The greatest index, and whose it is.
pub(crate) fn greatest<const N: usize>(indices: [f64; N]) -> (f64, &'static str) {
    let named = indices.into_iter().zip(FEATURE_NAMES);
    named.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, ""))
}

async fn active(models: &dyn KeepModels, window: &Window) -> Result<Option<Model>, StorageError> {
    let models = models.list_models(&window.tenant, MODELS_LISTED_MAX).await?;
    let is_active =
        |model: &Model| model.state == ModelState::Active && model.made.scope == window.service;
    Ok(models.into_iter().find(is_active))
}
