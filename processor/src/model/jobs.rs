//! The jobs that servers ask for, a few at a time in each process, and of a tenant one in all.
//!
//! A job ends with its answer or with why it cannot be done, or when nobody waits for it any more. One
//! that fails for a passing fault of storage is not ended: when its lease is over, whoever comes
//! takes it again.

use std::{panic::resume_unwind, sync::Arc, time::Duration};

use logweir_core::{
    identity::{Service, Tenant},
    job::{JobFailure, JobRequest, Trained},
};
use logweir_storage::{Job, JobKind, PassJobs, StorageError, TimeRange};
use metrics::{counter, histogram};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    clusters::{Asked, of_anomalies, of_patterns},
    compare::compare,
    job_context::{Failure, Tools, json},
    replay::Window,
    train::train,
};
use crate::maintenance;

/// How long a job belongs to the process that took it, from the last time that it said so: then another
/// process may begin it anew.
const LEASE: Duration = Duration::from_secs(60);
/// Jobs that a process does at a time: several, so that one tenant's long one holds no other up.
const JOBS_AT_WORK_MAX: usize = 4;
/// How often a process says that it still works on a job, and learns whether somebody waits for it.
const KEPT_EVERY: Duration = Duration::from_secs(2);

/// Does jobs.
pub(crate) struct Workshop {
    pub(crate) jobs: Arc<dyn PassJobs>,
    pub(crate) tools: Tools,
    /// Between two looks for a job.
    pub(crate) pause: Duration,
    pub(crate) stop: CancellationToken,
}

impl Workshop {
    /// Until the process is to stop; a job at hand is left to another then.
    pub(crate) async fn run(self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = Arc::new(self).work() => {}
        }
    }

    async fn work(self: Arc<Self>) {
        // Tasks, which go on while the next job is looked for: a future that nobody asks would keep
        // what it holds or is given, a connection, for which the look then waits for ever.
        let mut at_work = JoinSet::new();
        let mut is_failing = false;
        loop {
            let mut pause = self.pause;
            // A place first and then the job: one that is taken must not wait.
            if at_work.len() < JOBS_AT_WORK_MAX {
                let taken = self.take().await;
                maintenance::report("taking a job", &taken, &mut is_failing);
                match taken {
                    Ok(Some(job)) => {
                        at_work.spawn(Arc::clone(&self).finish(job));
                        // At once the next: after a night several tenants' trainings wait.
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => pause = pause.max(error.retry_after()),
                }
            }
            tokio::select! {
                // The next of its tenant may be taken at once.
                Some(ended) = at_work.join_next() => {
                    // They are aborted only when the process stops.
                    let done = ended.unwrap_or_else(|error| resume_unwind(error.into_panic()));
                    maintenance::report("a job", &done, &mut is_failing);
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn take(&self) -> Result<Option<Job>, StorageError> {
        self.jobs.take_job(JobKind::Detection, (self.tools.clock)(), LEASE).await
    }

    /// Ends once nobody waits for a job any more.
    async fn unwanted(&self, job: &Job) {
        loop {
            tokio::time::sleep(KEPT_EVERY).await;
            match self.jobs.keep_job(job.job_id, (self.tools.clock)() + LEASE).await {
                Ok(true) => {}
                Err(error) if error.is_retryable() => {}
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Works on a job while somebody waits for it. An error leaves it to whoever takes it when its
    /// lease is over.
    async fn finish(self: Arc<Self>, job: Job) -> Result<(), StorageError> {
        let begun = Instant::now();
        let answered = tokio::select! {
            answered = self.tools.answer(&job.tenant, &job.request) => answered,
            () = self.unwanted(&job) => {
                counter!("logweir_processor_jobs_total", "outcome" => "cancelled").increment(1);
                return Ok(());
            }
        };
        let answer = match answered {
            Ok(answer) => Ok(answer),
            // The caller is not told of a fault that passes: the job is taken again and succeeds.
            Err(Failure::Storage(error)) if error.is_retryable() => return Err(error),
            Err(failure) => {
                warn!(job = job.job_id, "a job cannot be done: {failure}");
                Err(json(&JobFailure {
                    not_found: matches!(failure, Failure::Storage(StorageError::NotFound(_))),
                    is_retryable: false,
                    message: failure.to_string(),
                }))
            }
        };
        let outcome = if answer.is_ok() { "done" } else { "failed" };
        counter!("logweir_processor_jobs_total", "outcome" => outcome).increment(1);
        histogram!("logweir_processor_job_seconds").record(begun.elapsed().as_secs_f64());
        self.jobs.finish_job(job.job_id, answer).await
    }
}

impl Tools {
    async fn answer(&self, tenant: &Tenant, request: &str) -> Result<String, Failure> {
        match serde_json::from_str(request)? {
            JobRequest::TrainModel { service, from, to } => {
                let service = (!service.is_empty()).then(|| Service::new(&service)).transpose()?;
                let range = TimeRange { from, to };
                let window = Window { tenant: tenant.clone(), service, range };
                let model = train(self, &window).await?;
                info!(model = model.model_id, rows = model.made.rows, "a model was trained");
                Ok(json(&Trained { model_id: model.model_id }))
            }
            JobRequest::CompareModels { first, second, from, to } => {
                let range = TimeRange { from, to };
                Ok(json(&compare(self, tenant, (first, second), range).await?))
            }
            JobRequest::ListClusters { service, from, to, anomalies, limit } => {
                let service = (!service.is_empty()).then(|| Service::new(&service)).transpose()?;
                let range = TimeRange { from, to };
                let asked = Asked { tenant: tenant.clone(), service, range, limit: limit as usize };
                let found = if anomalies {
                    of_anomalies(&*self.read, &asked).await
                } else {
                    of_patterns(&*self.read, &asked).await
                };
                Ok(json(&found?))
            }
        }
    }
}
