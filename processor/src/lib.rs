//! Between queue and storage: completes logs, finds their templates, scores them and writes them.
//!
//! [`start`] runs these tasks: the pipeline, which ends when the queue hands out no more; and those
//! that end when the process is to stop: the upkeep (retention and merging in storage, refreshing
//! the deploys), the membership (heartbeats, and which partitions to read), and what has to do with
//! models: reading those that are active, doing the jobs that servers ask for, and the daily
//! training.
//!
//! Nothing here decides what is durable or stored once: a batch is acknowledged after storage has
//! committed it, and requeued if that failed; a processor that dies leaves batches unacknowledged.

mod config;
mod enrich;
mod findings;
mod intake;
mod maintenance;
mod membership;
mod model;
mod pipeline;
mod progress;
mod score;
mod suspect;
mod write;

use std::{collections::HashMap, sync::Arc};

use logweir_analysis::Detector;
use logweir_core::{
    limits::Limits,
    runtime::{
        clock::Clock,
        identity::ProcessIdentity,
        retry::at_start,
        tasks::{Fate, Tasks},
    },
};
use logweir_queue::{Consumer, LiveFeed, Partitions};
use logweir_storage::{
    Administer, KeepFindings, KeepModels, PassJobs, ReadLogs, StorageError, WriteLogs,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    config::{ProcessorConfig, ServiceInfo},
    score::Scorer,
};
use self::{
    enrich::{DeployMarks, Enricher},
    findings::Findings,
    intake::Intake,
    membership::Membership,
    model::{ActiveModels, Said, Tools, Workshop},
    pipeline::Pipeline,
    progress::Progress,
    suspect::Trials,
    write::Writer,
};

/// What a processor works with.
pub struct Parts {
    /// Its settings.
    pub config: ProcessorConfig,
    /// The limits that derived attributes keep to.
    pub limits: Limits,
    /// The identity under which it sends heartbeats and is given partitions.
    pub identity: ProcessIdentity,
    /// Where batches come from.
    pub consumer: Box<dyn Consumer>,
    /// The consumer's choice of partitions, where processors share them. Such a queue keeps what is
    /// not acknowledged; without one the publishers keep it.
    pub partitions: Option<Partitions>,
    /// How many partitions the queue has.
    pub partition_count: u16,
    /// Where logs go.
    pub write: Arc<dyn WriteLogs>,
    /// Storage's administration: retention and merging, heartbeats, deploys, trials of suspects.
    pub administer: Arc<dyn Administer>,
    /// What models are trained on.
    pub read: Arc<dyn ReadLogs>,
    /// Where models are kept.
    pub models: Arc<dyn KeepModels>,
    /// Where findings are kept.
    pub findings: Arc<dyn KeepFindings>,
    /// Where servers leave jobs: trainings, comparisons, clusters.
    pub jobs: Arc<dyn PassJobs>,
    /// Where stored logs are shown.
    pub live_feed: LiveFeed,
    /// The time.
    pub clock: Clock,
}

/// Learns from storage which templates are known, then starts the tasks, unless the process is to
/// stop before. An error is storage's.
pub async fn start(parts: Parts, tasks: &Tasks) -> Result<(), StorageError> {
    let config = &parts.config;
    let mut detector = Detector::new(config.detector());
    // Before the first batch is taken: with an empty catalogue every pattern would look new, and a
    // restart would raise an alarm for each.
    let load = || parts.write.load_templates();
    let templates = at_start("the database", StorageError::is_retryable, load);
    let Some(templates) = tasks.stop_token().run_until_cancelled(templates).await else {
        return Ok(());
    };
    detector.preload(templates?);
    let marks = DeployMarks::default();
    let models = (ActiveModels::default(), Said::default());
    start_models(&parts, &marks, &models, tasks);
    let enricher = Enricher::new(config, parts.limits);
    let (findings, noticed) = Findings::open();
    let keep = findings::keep(parts.findings, noticed, tasks.stop_token());
    tasks.spawn("processor findings", Fate::Essential, keep);
    let scorer = Scorer::new(enricher, detector, marks.clone(), models, findings);
    let progress = Arc::new(Progress::new());
    // Only a queue that is shared between processes answers before a batch is stored.
    let is_awaited = parts.partitions.is_none();
    let intake = Intake::new(config, parts.consumer, Arc::clone(&progress), is_awaited);
    let writer = Writer {
        storage: parts.write,
        live_feed: parts.live_feed,
        progress: Arc::clone(&progress),
        // Only a queue that is shared between processes keeps what is not acknowledged.
        holds: parts.partitions.is_some(),
        stop: tasks.stop_token(),
        waiting: HashMap::new(),
    };
    let trials = Trials { administer: Arc::clone(&parts.administer), stop: tasks.stop_token() };
    let pipeline = Pipeline::new(intake, scorer, writer, trials);
    // Not stopped like the others: it ends when the queue hands out no more, so that what was taken
    // is still written and acknowledged.
    tasks.spawn("processor pipeline", Fate::Essential, pipeline.run());
    let membership = Membership {
        identity: parts.identity,
        administer: Arc::clone(&parts.administer),
        partitions: parts.partitions,
        partition_count: parts.partition_count,
        progress,
        clock: Arc::clone(&parts.clock),
        stop: tasks.stop_token(),
    };
    tasks.spawn("processor membership", Fate::Essential, membership.run());
    let (stop, refresh) = (tasks.stop_token(), config.deploys_refresh());
    let deploys =
        maintenance::refresh_deploys(Arc::clone(&parts.administer), marks, refresh, stop.clone());
    let maintain = maintenance::maintain(
        parts.administer,
        parts.clock,
        config.maintenance_pause(),
        stop.clone(),
    );
    tasks.spawn("processor deploys", Fate::Essential, until_stopped(stop.clone(), deploys));
    tasks.spawn("processor maintenance", Fate::Essential, until_stopped(stop, maintain));
    Ok(())
}

/// The tasks that have to do with models.
fn start_models(parts: &Parts, marks: &DeployMarks, models: &(ActiveModels, Said), tasks: &Tasks) {
    let config = &parts.config;
    let refresh = model::refresh(
        Arc::clone(&parts.models),
        models.clone(),
        Arc::clone(&parts.clock),
        config.model_age_max(),
        config.models_refresh(),
        tasks.stop_token(),
    );
    let refresh = until_stopped(tasks.stop_token(), refresh);
    tasks.spawn("processor models", Fate::Essential, refresh);
    let tools = Tools {
        read: Arc::clone(&parts.read),
        models: Arc::clone(&parts.models),
        detector: config.detector(),
        clock: Arc::clone(&parts.clock),
    };
    let (jobs, pause, stop) = (Arc::clone(&parts.jobs), config.jobs_pause(), tasks.stop_token());
    tasks.spawn("processor jobs", Fate::Essential, Workshop { jobs, tools, pause, stop }.run());
    if config.training_daily {
        let daily = model::train_daily(
            Arc::clone(&parts.jobs),
            Arc::clone(&parts.models),
            marks.clone(),
            config.training_hour_utc,
            Arc::clone(&parts.clock),
            tasks.stop_token(),
        );
        let daily = until_stopped(tasks.stop_token(), daily);
        tasks.spawn("processor training", Fate::Essential, daily);
    }
}

/// Whoever is to stop does not wait for a database that does not answer.
async fn until_stopped(stop: CancellationToken, work: impl Future<Output = ()>) {
    stop.run_until_cancelled(work).await;
}
