//! The models that are active, as the pipeline's detector uses them; and what people said.
//!
//! A model that is damaged, of another version or too old is not used: what the detector learns by
//! itself serves in its place, and a warning and a metric say so. While storage cannot be read,
//! what was read last holds.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use logweir_analysis::{Detector, ForestModel, ModelScope};
use logweir_core::{identity::Tenant, runtime::clock::Clock, timestamp::Timestamp};
use logweir_storage::{Finding, FindingKind, KeepModels, Model, StorageError};
use metrics::gauge;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    feedback::{Said, Weights},
    job_context::scope,
    train::greatest,
};
use crate::maintenance;

/// How often drift is measured, and the share of anomalies.
const MEASURED_EVERY: Duration = Duration::from_secs(60);
// The usual reading of the index, from credit scoring (Siddiqi, Credit Risk Scorecards, 2006):
// below 0.1 nothing has changed, from 0.25 on the population is another one.
/// From this population stability index on, much has changed since the training.
const DRIFT_HIGH: f64 = 0.25;
/// Fewer logs than this say nothing about drift.
const DRIFT_ROWS_MIN: usize = 500;

/// A model in use.
#[derive(Debug)]
pub(crate) struct Loaded {
    tenant: Tenant,
    model: Model,
    scope: ModelScope,
    forest: Arc<ForestModel>,
}

/// Whose model, and its id there.
type ModelKey = (Tenant, u64);
type Models = HashMap<ModelKey, Arc<Loaded>>;

/// The active models. Shared by the pipeline, which uses them, and the task that reads them.
#[derive(Clone, Default)]
pub(crate) struct ActiveModels(Arc<Mutex<Arc<Models>>>);

impl ActiveModels {
    fn current(&self) -> Arc<Models> {
        Arc::clone(&self.0.lock())
    }

    /// Reads what has become active; `unusable` models were warned about before.
    async fn refresh(
        &self,
        storage: &dyn KeepModels,
        oldest: Timestamp,
        unusable: &mut Vec<ModelKey>,
    ) -> Result<(), StorageError> {
        let known = self.current();
        let mut models = Models::new();
        let mut refused = Vec::new();
        for (tenant, model) in storage.active_models().await? {
            let is_same = |loaded: &&Arc<Loaded>| loaded.model.checksum == model.checksum;
            let key = (tenant, model.model_id);
            let loaded = match known.get(&key).filter(is_same) {
                Some(loaded) if model.made.created_at >= oldest => Ok(Arc::clone(loaded)),
                _ => load(storage, &key.0, &model, oldest).await?.map(Arc::new),
            };
            match loaded {
                Ok(loaded) => drop(models.insert(key, loaded)),
                Err(why) => {
                    if !unusable.contains(&key) {
                        let (tenant, id) = &key;
                        warn!(%tenant, model = id, "an active model is not used: {why}");
                    }
                    refused.push(key);
                }
            }
        }
        gauge!("logweir_models_unusable").set(refused.len() as f64);
        gauge!("logweir_models_in_use").set(models.len() as f64);
        *unusable = refused;
        // Only what changed is put in place: whoever uses the models installs them anew for it.
        let is_known = |(key, loaded): (&ModelKey, &Arc<Loaded>)| {
            known.get(key).is_some_and(|before| Arc::ptr_eq(before, loaded))
        };
        if models.len() != known.len() || !models.iter().all(is_known) {
            *self.0.lock() = Arc::new(models);
        }
        Ok(())
    }
}

/// A model, or why it cannot be used; an error if storage cannot be read at the moment.
async fn load(
    storage: &dyn KeepModels,
    tenant: &Tenant,
    model: &Model,
    oldest: Timestamp,
) -> Result<Result<Loaded, String>, StorageError> {
    if model.made.created_at < oldest {
        return Ok(Err("it is too old: train another, and promote it".to_owned()));
    }
    // A passing fault leaves all models as they are; a damaged one is left out, for it would fail
    // the same way with every look.
    let body = match storage.load_model(tenant, model.model_id).await {
        Ok(body) => body,
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => return Ok(Err(error.to_string())),
    };
    Ok(match ForestModel::decode(&body) {
        Ok(forest) => {
            let scope = scope(tenant, model.made.scope.as_ref());
            let tenant = tenant.clone();
            Ok(Loaded { tenant, model: model.clone(), scope, forest: Arc::new(forest) })
        }
        Err(error) => Err(error.to_string()),
    })
}

/// Reads again and again which models are active, and what people said. Models older than `age_max`
/// are not used.
pub(crate) async fn refresh(
    storage: Arc<dyn KeepModels>,
    (models, said): (ActiveModels, Said),
    clock: Clock,
    age_max: Duration,
    pause: Duration,
    stop: CancellationToken,
) {
    let (mut unusable, mut models_fail, mut said_fails) = (Vec::new(), false, false);
    loop {
        let oldest = clock() - age_max;
        let refreshed = models.refresh(storage.as_ref(), oldest, &mut unusable).await;
        maintenance::report("reading models", &refreshed, &mut models_fail);
        let refreshed = said.refresh(storage.as_ref()).await;
        maintenance::report("reading feedback", &refreshed, &mut said_fails);
        if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

/// What a detector has been given of the active models, and how they fare.
#[derive(Default)]
pub(crate) struct InUse {
    active: ActiveModels,
    said: Said,
    given: Arc<Models>,
    heard: Arc<Weights>,
    measured_at: Timestamp,
    /// Models from whose training the logs have drifted away.
    drifting: BTreeSet<ModelKey>,
    logs: u64,
    anomalies: u64,
}

impl InUse {
    pub(crate) fn new(active: ActiveModels, said: Said) -> Self {
        Self { active, said, ..Self::default() }
    }

    /// Has the detector use what is active now, and what was said.
    pub(crate) fn follow(&mut self, detector: &mut Detector) {
        let said = self.said.current();
        if !Arc::ptr_eq(&said, &self.heard) {
            detector.set_feedback(Weights::clone(&said));
            self.heard = said;
        }
        let current = self.active.current();
        if Arc::ptr_eq(&current, &self.given) {
            return;
        }
        // First those that are gone, then those that are there: a model that replaces another has
        // the same scope, and the other order would take the new one away again.
        let gone = self.given.iter().filter(|(key, _)| !current.contains_key(key));
        for (_, loaded) in gone {
            detector.install(loaded.scope.clone(), None);
        }
        for ((tenant, id), loaded) in current.iter() {
            detector.install(loaded.scope.clone(), Some(Arc::clone(&loaded.forest)));
            info!(%tenant, model = id, scope = ?loaded.scope, "a model judges from now on");
        }
        self.given = current;
        self.measured_at = Timestamp::EPOCH;
    }

    /// Counts what was judged, and measures now and then; the drifts that began.
    pub(crate) fn note(
        &mut self,
        logs: u64,
        anomalies: u64,
        detector: &Detector,
        now: Timestamp,
    ) -> Vec<(Tenant, Finding)> {
        self.logs += logs;
        self.anomalies += anomalies;
        if now.since(self.measured_at) < MEASURED_EVERY {
            return Vec::new();
        }
        self.measured_at = now;
        let share = self.anomalies as f64 / self.logs.max(1) as f64;
        gauge!("logweir_detector_anomaly_share").set(share);
        (self.logs, self.anomalies) = (0, 0);
        let mut begun = Vec::new();
        let (mut age_greatest, mut drift_greatest) = (0.0_f64, 0.0_f64);
        for (key, loaded) in self.given.iter() {
            let rows = detector.sample(&loaded.scope);
            let age = now.since(loaded.model.made.created_at).as_secs_f64();
            age_greatest = age_greatest.max(age);
            if rows.len() < DRIFT_ROWS_MIN {
                continue;
            }
            let (drift, feature) = greatest(loaded.forest.statistics().stability_index(&rows));
            drift_greatest = drift_greatest.max(drift);
            // A finding is made when drift begins and not every minute that it lasts.
            if drift <= DRIFT_HIGH {
                self.drifting.remove(key);
            } else if self.drifting.insert(key.clone()) {
                begun.push(drifted(loaded, rows.len() as u64, (drift, feature), now));
            }
        }
        // Of all models together: the metrics need no token, and a tenant's name there would tell
        // anybody who is there and how they do. The tenant itself has the finding.
        gauge!("logweir_model_age_seconds").set(age_greatest);
        gauge!("logweir_model_drift").set(drift_greatest);
        begun
    }
}

fn drifted(
    loaded: &Loaded,
    rows: u64,
    (drift, feature): (f64, &str),
    now: Timestamp,
) -> (Tenant, Finding) {
    let reason = format!(
        "logs have changed much since model {} was trained (stability index {drift:.2} of {feature}): \
         train another",
        loaded.model.model_id
    );
    warn!(tenant = %loaded.tenant, model = loaded.model.model_id, "{reason}");
    let finding = Finding {
        kind: FindingKind::ModelDrift,
        service: loaded.model.made.scope.clone(),
        subject: loaded.model.model_id.to_string(),
        from: loaded.model.made.created_at,
        to: now,
        logs: rows,
        score: drift.min(1.0),
        reasons: vec![reason],
    };
    (loaded.tenant.clone(), finding)
}

#[cfg(test)]
mod tests {
    use logweir_analysis::{FEATURE_COUNT, ForestParameters};
    use logweir_core::runtime::clock::system_clock;
    use logweir_storage::{ModelKind, NewModel, SqliteConfig, SqliteStorage};

    use super::*;

    fn new_model(created_at: Timestamp) -> NewModel {
        NewModel {
            kind: ModelKind::IsolationForest,
            scope: None,
            parameters: "{}".into(),
            trained_from: Timestamp::EPOCH,
            trained_to: Timestamp::from_unix_nanos(1),
            rows: 100,
            statistics: "{}".into(),
            metrics: "{}".into(),
            created_at,
        }
    }

    fn body() -> Vec<u8> {
        let rows: Vec<_> = (0..100_u16).map(|row| [f32::from(row); FEATURE_COUNT]).collect();
        ForestModel::train(&rows, &ForestParameters::default()).unwrap().encode()
    }

    #[tokio::test]
    async fn what_is_active_is_used_unless_it_is_damaged_or_too_old() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path());
        let storage = SqliteStorage::open(&config, system_clock()).unwrap();
        let tenant = Tenant::default();
        let mut damaged = body();
        damaged.truncate(90);
        let mut ids = Vec::new();
        for (created, body) in [(10, body()), (10, damaged), (1, body()), (10, body())] {
            let model = storage
                .insert_model(&tenant, new_model(Timestamp::from_unix_nanos(created)), body)
                .await
                .unwrap();
            ids.push(model.model_id);
        }
        let models = ActiveModels::default();
        let mut detector = Detector::new(logweir_analysis::DetectorConfig::default());
        let mut in_use = InUse::new(models.clone(), Said::default());
        let mut unusable = Vec::new();
        for (number, is_usable) in [(0, true), (1, false), (2, false), (3, true)] {
            storage
                .promote_model(&tenant, ids[number], Timestamp::from_unix_nanos(20))
                .await
                .unwrap();
            models.refresh(&storage, Timestamp::from_unix_nanos(5), &mut unusable).await.unwrap();
            let expected = if is_usable { vec![ids[number]] } else { Vec::new() };
            let current = models.current();
            assert_eq!(current.keys().map(|(_, id)| *id).collect::<Vec<_>>(), expected, "{number}");
            assert_eq!(unusable.is_empty(), is_usable, "{number}");
            in_use.follow(&mut detector);
            in_use.note(10, 1, &detector, Timestamp::from_unix_nanos(100));
        }
        storage.roll_back_model(&tenant, ModelKind::IsolationForest, None).await.unwrap();
        models.refresh(&storage, Timestamp::from_unix_nanos(5), &mut unusable).await.unwrap();
        assert_eq!(unusable, [(tenant, ids[2])], "the one before is too old");
    }

    #[tokio::test]
    async fn models_that_stay_active_are_not_put_in_place_again() {
        let at = Timestamp::from_unix_nanos;
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path());
        let storage = SqliteStorage::open(&config, system_clock()).unwrap();
        // Of many tenants: the order of two maps with the same few keys is mostly the same.
        for tenant in 0..8 {
            let tenant = Tenant::new(&format!("tenant-{tenant}")).unwrap();
            let model = storage.insert_model(&tenant, new_model(at(10)), body()).await.unwrap();
            storage.promote_model(&tenant, model.model_id, at(20)).await.unwrap();
        }
        let models = ActiveModels::default();
        models.refresh(&storage, at(5), &mut Vec::new()).await.unwrap();
        let first = models.current();
        assert_eq!(first.len(), 8);
        models.refresh(&storage, at(5), &mut Vec::new()).await.unwrap();
        assert!(Arc::ptr_eq(&first, &models.current()));
    }
}
