//! The jobs that servers ask for: replaying a rule through the past, and testing a channel. Any
//! alerting process does them, whether or not it leads.
//!
//! A job ends with its answer or with why it came to nothing, and whether to ask again: somebody
//! waits for it, and would rather ask again at once than hear of it when a lease is over.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use logweir_core::{
    identity::Tenant,
    job::JobFailure,
    runtime::{
        clock::Clock,
        tasks::{Fate, Tasks},
    },
};
use logweir_incident::{
    channel::ChannelConfig,
    example,
    job::{AlertingJob, Preview, PreviewRule, TestChannel, TestReport},
    notification::NotificationKind,
    setting::{SettingKind, StoredSetting},
};
use logweir_storage::{Job, JobKind, KeepAlerts, PassJobs, ReadLogs, StorageError};
use metrics::counter;
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    channel::{Network, build, test_channel},
    simulate::preview::{PreviewError, preview},
};

/// Rules that are previewed at a time, of different tenants: each reads days of the past.
const PREVIEWS_MAX: usize = 2;
/// Channels that are tested at a time, of different tenants: each holds a connection to somewhere
/// else.
const TESTS_MAX: usize = 4;
/// How long a job belongs to the process that took it, from the last time that it said so: then another
/// process may begin it anew.
const LEASE: Duration = Duration::from_secs(60);
/// How often a process says that it still works on a job, and learns whether somebody waits for it.
const KEPT_EVERY: Duration = Duration::from_secs(2);
/// Between two looks for a job while there is none.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What jobs need: storage, the network, the time.
#[derive(Clone)]
pub struct JobDependencies {
    /// The past that rules are replayed through.
    pub read: Arc<dyn ReadLogs>,
    /// Where the channels are kept.
    pub alerts: Arc<dyn KeepAlerts>,
    /// Where jobs come from and answers go.
    pub jobs: Arc<dyn PassJobs>,
    /// How channels are reached.
    pub network: Network,
    /// The time.
    pub clock: Clock,
}

/// Starts to take jobs, until the tasks are asked to stop; whoever waits for a job at hand is told then
/// to ask again.
pub fn start(dependencies: &JobDependencies, tasks: &Tasks) {
    let kinds = [
        ("alerting previews", JobKind::RulePreview, PREVIEWS_MAX),
        ("alerting tests", JobKind::ChannelTest, TESTS_MAX),
    ];
    for (name, kind, at_once) in kinds {
        let (dependencies, of_jobs) = (dependencies.clone(), tasks.clone());
        let taker = Taker { dependencies, kind, at_once, tasks: of_jobs };
        let stop = tasks.stop_token();
        tasks.spawn(name, Fate::Essential, async move {
            stop.run_until_cancelled(taker.run()).await;
        });
    }
}

/// Takes the jobs of one kind.
struct Taker {
    dependencies: JobDependencies,
    kind: JobKind,
    at_once: usize,
    tasks: Tasks,
}

impl Taker {
    async fn run(self) {
        let room = Arc::new(Semaphore::new(self.at_once));
        let mut is_failing = false;
        loop {
            // A place first and then the job: a job that is taken has its lease, and must not wait.
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let now = (self.dependencies.clock)();
            let taken = self.dependencies.jobs.take_job(self.kind, now, LEASE).await;
            if let Err(error) = &taken
                && !is_failing
            {
                warn!("jobs of alerting wait for storage: {error}");
            }
            is_failing = taken.is_err();
            // Storage that fails is asked no more often than one that has nothing.
            let Ok(Some(job)) = taken else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            let stop = self.tasks.stop_token().child_token();
            let worker = Worker { dependencies: self.dependencies.clone(), stop };
            self.tasks.spawn("alerting job", Fate::MayEnd, async move {
                // Given back when the job ends, however it does.
                let _place = place;
                worker.finish(self.kind, job).await;
            });
        }
    }
}

/// Why a job came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Preview(PreviewError),
    #[error("there is no channel {0:?}")]
    NoChannel(String),
    #[error("channel {name:?} cannot be used: {why}")]
    Channel { name: String, why: String },
    #[error("the job is not understood: run the same version everywhere")]
    Unknown(#[from] serde_json::Error),
    #[error("nobody waits for it any more, or the alerting process that did it stops: ask again")]
    Interrupted,
    #[error(
        "it is a defect of Logweir that this cannot be done: report it with the log of alerting"
    )]
    Panicked,
}

impl Failure {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_retryable(),
            Self::Interrupted => true,
            _ => false,
        }
    }
}

impl From<PreviewError> for Failure {
    fn from(error: PreviewError) -> Self {
        match error {
            PreviewError::Storage(error) => Self::Storage(error),
            other => Self::Preview(other),
        }
    }
}

/// Does one job.
struct Worker {
    dependencies: JobDependencies,
    /// Cancelled when the process is to stop, or nobody waits for the job any more.
    stop: CancellationToken,
}

impl Worker {
    /// Does the job, unless the process is to stop, and stores the answer or why there is none.
    async fn finish(&self, kind: JobKind, job: Job) {
        let answering = async {
            tokio::select! {
                answered = self.answer(&job) => answered,
                () = self.unwanted(&job) => Err(Failure::Interrupted),
            }
        };
        let answered = outcome(answering, &self.stop).await;
        // What computes on a thread of its own ends too.
        self.stop.cancel();
        let answer = answered.map_err(|failure| {
            warn!(job = job.job_id, "a job came to nothing: {}", failure.message);
            json(&failure)
        });
        let outcome = if answer.is_ok() { "done" } else { "failed" };
        counter!("logweir_alerting_jobs_total", "kind" => kind.as_str(), "outcome" => outcome)
            .increment(1);
        // Nobody else could be told: the server that asked looks for the answer in storage alone.
        if let Err(error) = self.dependencies.jobs.finish_job(job.job_id, answer).await {
            warn!(job = job.job_id, "the answer to a job could not be stored: {error}");
        }
    }

    /// Ends once nobody waits for a job any more.
    async fn unwanted(&self, job: &Job) {
        loop {
            tokio::time::sleep(KEPT_EVERY).await;
            let until = (self.dependencies.clock)() + LEASE;
            match self.dependencies.jobs.keep_job(job.job_id, until).await {
                Ok(true) => {}
                Err(error) if error.is_retryable() => {}
                Ok(false) | Err(_) => return,
            }
        }
    }

    async fn answer(&self, job: &Job) -> Result<String, Failure> {
        match serde_json::from_str(&job.request)? {
            AlertingJob::PreviewRule(asked) => {
                Ok(json(&self.preview(job.tenant.clone(), asked).await?))
            }
            AlertingJob::TestChannel(asked) => Ok(json(&self.test(&job.tenant, asked).await?)),
        }
    }

    /// On a thread of its own: a week of the past is computed through without a pause.
    async fn preview(&self, tenant: Tenant, asked: PreviewRule) -> Result<Preview, Failure> {
        let (read, alerts) =
            (Arc::clone(&self.dependencies.read), Arc::clone(&self.dependencies.alerts));
        let (runtime, stop) = (Handle::current(), self.stop.clone());
        let played = spawn_blocking(move || {
            // A handle, as this thread is none of the runtime's own and storage is asked from it.
            let preview = preview((&*read, &*alerts), &tenant, asked);
            runtime.block_on(stop.run_until_cancelled(preview))
        });
        match played.await {
            Ok(Some(played)) => Ok(played?),
            Ok(None) => Err(Failure::Interrupted),
            Err(error) if error.is_panic() => Err(Failure::Panicked),
            Err(_) => Err(Failure::Interrupted),
        }
    }

    async fn test(&self, tenant: &Tenant, asked: TestChannel) -> Result<TestReport, Failure> {
        let name = asked.channel;
        let config = self.channel(tenant, &name).await?;
        let channel = build(&config, &self.dependencies.network, &self.dependencies.clock)
            .map_err(|why| Failure::Channel { name, why })?;
        // Of this moment and with a key of its own, or a mail program would show the second test as
        // the first, and a pager leave it out.
        let now = (self.dependencies.clock)();
        let notification = example::notification_at(NotificationKind::Opened, now);
        Ok(test_channel(&*channel, &notification).await)
    }

    async fn channel(&self, tenant: &Tenant, name: &str) -> Result<ChannelConfig, Failure> {
        // Looked up anew and not taken along in the job, which would store the channel's secrets
        // twice.
        let stored = self.dependencies.alerts.list_settings(tenant, SettingKind::Channel).await?;
        let found = stored.iter().filter_map(StoredSetting::channel).find(|of| of.name == name);
        found.cloned().ok_or_else(|| Failure::NoChannel(name.to_owned()))
    }
}

/// The answer of a job, or why there is none; also if it panics, or the process is to stop before.
async fn outcome(
    answering: impl Future<Output = Result<String, Failure>>,
    stop: &CancellationToken,
) -> Result<String, JobFailure> {
    // A panic is a defect that this job met: it must not end whatever else the process does.
    let answering = AssertUnwindSafe(answering).catch_unwind();
    let answered = match stop.run_until_cancelled(answering).await {
        Some(Ok(answered)) => answered,
        Some(Err(_)) => Err(Failure::Panicked),
        None => Err(Failure::Interrupted),
    };
    answered.map_err(|failure| JobFailure {
        not_found: matches!(failure, Failure::NoChannel(_)),
        is_retryable: failure.is_retryable(),
        message: failure.to_string(),
    })
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data is JSON")
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// Whether the failure names something that is not there, and whether to ask again.
    async fn failed(
        answering: impl Future<Output = Result<String, Failure>>,
        stop: &CancellationToken,
    ) -> (bool, bool) {
        let failure = outcome(answering, stop).await.expect_err("it fails");
        (failure.not_found, failure.is_retryable)
    }

    #[tokio::test]
    async fn a_failure_says_whether_to_ask_again() {
        let stop = CancellationToken::new();
        let answer = outcome(ready(Ok("1".to_owned())), &stop).await;
        assert_eq!(answer, Ok("1".to_owned()));
        let no_channel = ready(Err(Failure::NoChannel("hook".into())));
        assert_eq!(failed(no_channel, &stop).await, (true, false));
        let away = StorageError::Unavailable("away".into());
        assert_eq!(failed(ready(Err(away.into())), &stop).await, (false, true));
        let broken = StorageError::NotFound("model 7".into());
        assert_eq!(failed(ready(Err(broken.into())), &stop).await, (false, false));
        assert_eq!(failed(async { panic!("a defect") }, &stop).await, (false, false));
        stop.cancel();
        assert_eq!(failed(pending(), &stop).await, (false, true));
    }
}
