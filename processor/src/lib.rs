//! Between queue and storage: completes logs, finds their templates, scores them and writes them.
//!
//! [`start`] runs two kinds of tasks: the pipeline, which ends when the queue is closed and empty,
//! and the upkeep (retention and merging in storage, refreshing the deploys), which ends when the
//! process is to stop.
//!
//! Nothing here decides what is durable or stored once: a batch is acknowledged after storage has
//! committed it, and requeued if that failed; a processor that dies leaves batches unacknowledged.

mod config;
mod enrich;
mod pipeline;
mod score;
mod upkeep;

use std::sync::Arc;

use logweir_core::{
    limits::Limits,
    runtime::{
        clock::Clock,
        tasks::{Fate, Tasks},
    },
};
use logweir_detect::Detector;
use logweir_queue::{Consumer, LiveFeed};
use logweir_storage::{Administer, StorageError, WriteLogs};

pub use self::config::{ProcessorConfig, ServiceInfo};
use self::{
    enrich::{DeployMarks, Enricher},
    pipeline::Pipeline,
    score::Scorer,
};

/// What a processor works with.
pub struct Parts {
    /// Its settings.
    pub config: ProcessorConfig,
    /// The limits that derived attributes keep to.
    pub limits: Limits,
    /// Where batches come from.
    pub consumer: Box<dyn Consumer>,
    /// Where logs go.
    pub write: Arc<dyn WriteLogs>,
    /// Whose upkeep it sees to.
    pub administer: Arc<dyn Administer>,
    /// Where stored logs are shown.
    pub live_feed: LiveFeed,
    /// The time.
    pub clock: Clock,
}

/// Learns from storage which templates are known, then starts the tasks. An error is storage's.
pub async fn start(parts: Parts, tasks: &Tasks) -> Result<(), StorageError> {
    let Parts { config, limits, consumer, write, administer, live_feed, clock } = parts;
    let mut detector = Detector::new(config.detector());
    detector.preload(write.load_templates().await?);
    let marks = DeployMarks::default();
    let scorer = Scorer::new(Enricher::new(&config, limits), detector, marks.clone());
    let pipeline = Pipeline::new(&config, consumer, scorer, write, live_feed);
    tasks.spawn("processor pipeline", Fate::Essential, pipeline.run());
    let (stop, refresh) = (tasks.stop_token(), config.deploys_refresh());
    let deploys = upkeep::refresh_deploys(Arc::clone(&administer), marks, refresh, stop);
    tasks.spawn("processor deploys", Fate::Essential, deploys);
    let maintain =
        upkeep::maintain(administer, clock, config.maintenance_pause(), tasks.stop_token());
    tasks.spawn("processor maintenance", Fate::Essential, maintain);
    Ok(())
}
