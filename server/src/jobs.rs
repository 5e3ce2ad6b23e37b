//! What a server has other processes do: it stores a job, whoever can do it takes it, and the
//! server waits for the answer. A job that nobody waits for any more is cancelled.

use std::{sync::Arc, time::Duration};

use logweir_core::{
    identity::Tenant,
    job::JobFailure,
    runtime::{
        clock::Clock,
        tasks::{Fate, Tasks},
    },
    timestamp::Timestamp,
};
use logweir_storage::{JobKind, JobState, NewJob, Storage, StorageError};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::status::Refusal;

/// How long a caller waits for the answer to a job.
const ANSWER_PATIENCE: Duration = Duration::from_secs(600);
/// How long a job of alerting may wait until it is begun: its takers look twice a second.
const BEGIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long one that asks again should wait.
const JOB_RETRY: Duration = Duration::from_secs(30);
/// Between two looks whether a job is done.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Has other processes do jobs.
pub(crate) struct Jobs {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
}

/// Who waits for the answer to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Only the caller: when it leaves, the job ends.
    Caller,
    /// Nobody need: the job goes on when the caller leaves.
    Nobody,
}

/// Cancels a job when it is dropped.
struct Cancelling<'a> {
    jobs: &'a Jobs,
    tenant: &'a Tenant,
    /// None once there is nothing to cancel.
    job_id: Option<u64>,
}

impl Drop for Cancelling<'_> {
    fn drop(&mut self) {
        let Some(job_id) = self.job_id else { return };
        let (storage, tenant) = (Arc::clone(&self.jobs.storage), self.tenant.clone());
        self.jobs.tasks.spawn("cancelling a job", Fate::MayEnd, async move {
            // Not tried again: it is not begun any more once its caller would have given up.
            if let Err(error) = storage.cancel_job(&tenant, job_id).await {
                tracing::warn!(job_id, %error, "a job that nobody waits for could not be cancelled");
            }
        });
    }
}

impl Jobs {
    /// Has a job done, and waits for its answer.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        tenant: &Tenant,
        kind: JobKind,
        request: &impl Serialize,
        waits: Waits,
    ) -> Result<T, Refusal> {
        let request = serde_json::to_string(request).map_err(|error| unreadable(kind, &error))?;
        let job = new_job(kind, request, waits, (self.clock)());
        let inserted = self.storage.insert_job(tenant, job).await.map_err(not_asked)?;
        let job_id = inserted.ok_or_else(|| Refusal::NotFound("the job".to_owned()))?;
        let mut cancelling =
            Cancelling { jobs: self, tenant, job_id: (waits == Waits::Caller).then_some(job_id) };
        let answer = self.answer_to(tenant, kind, job_id).await?;
        cancelling.job_id = None;
        serde_json::from_str(&answer).map_err(|error| unreadable(kind, &error))
    }

    /// Polls, because the taker is another process and the two share nothing but storage.
    async fn answer_to(
        &self,
        tenant: &Tenant,
        kind: JobKind,
        job_id: u64,
    ) -> Result<String, Refusal> {
        let (asked, stop) = (Instant::now(), self.tasks.stop_token());
        loop {
            let state = match self.storage.job_state(tenant, job_id).await {
                // What storage cannot say for a moment is no reason to end a job that is under way.
                Err(error) if error.is_retryable() && asked.elapsed() < ANSWER_PATIENCE => {
                    JobState::Running
                }
                state => state?,
            };
            if let Some(answer) = answer(kind, state, asked.elapsed())? {
                return Ok(answer);
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Refusal::stopping()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// The bound on a tenant's open jobs passes once some are done: the request is not wrong.
fn not_asked(error: StorageError) -> Refusal {
    match error {
        StorageError::LimitExceeded(message) => {
            Refusal::Unavailable { reason: "JOBS_WAIT", message, retry_after: JOB_RETRY }
        }
        other => other.into(),
    }
}

/// Nobody waits for a preview or a test that begins late, and a late message would only surprise. A
/// model is kept, and so worth training late.
fn new_job(kind: JobKind, request: String, waits: Waits, now: Timestamp) -> NewJob {
    let begin_before = match kind {
        JobKind::Detection if waits == Waits::Nobody => None,
        JobKind::Detection => Some(now + ANSWER_PATIENCE),
        JobKind::RulePreview | JobKind::ChannelTest => Some(now + BEGIN_PATIENCE),
    };
    NewJob { begin_before, ..NewJob::new(kind, request, now) }
}

/// The answer of a job that was asked for so long ago; none while it is worth waiting on.
fn answer(kind: JobKind, state: JobState, waited: Duration) -> Result<Option<String>, Refusal> {
    // A job of alerting that still waits after its time will never begin (see `new_job`): to go on
    // waiting would only hide from the caller that no alerting process runs.
    let patience = match (kind, &state) {
        (JobKind::RulePreview | JobKind::ChannelTest, JobState::Waiting) => BEGIN_PATIENCE,
        _ => ANSWER_PATIENCE,
    };
    match state {
        JobState::Done(answer) => Ok(Some(answer)),
        JobState::Failed(ref why) => Err(failed(kind, why)),
        JobState::Waiting | JobState::Running if waited <= patience => Ok(None),
        JobState::Waiting | JobState::Running => Err(Refusal::Unavailable {
            reason: "JOB_WAITS",
            message: nobody_answers(kind, &state).to_owned(),
            retry_after: JOB_RETRY,
        }),
    }
}

const fn nobody_answers(kind: JobKind, state: &JobState) -> &'static str {
    match kind {
        JobKind::ChannelTest if matches!(state, JobState::Running) => {
            "the test was begun and has not ended: look whether the message is there, and test again"
        }
        JobKind::Detection => {
            "no processor has answered in time, and the job was ended: see that one is running, and ask \
             again; a training goes on by itself if it is asked to keep running"
        }
        JobKind::RulePreview => {
            "no alerting process has previewed the rule. Of a tenant one is previewed at a time: ask \
             again, and see that `logweir alerting` is running, or that `alerting.enabled` is on in `logweir \
             standalone`"
        }
        JobKind::ChannelTest => {
            "no alerting process has tested the channel, and nothing was sent: see that `logweir \
             alerting` is running, or that `alerting.enabled` is on in `logweir standalone`, and \
             test again"
        }
    }
}

fn unreadable(kind: JobKind, error: &serde_json::Error) -> Refusal {
    let who = match kind {
        JobKind::Detection => "the processor's",
        JobKind::RulePreview | JobKind::ChannelTest => "alerting's",
    };
    Refusal::FailedPrecondition(format!(
        "{who} answer is not understood: run the same version everywhere ({error})"
    ))
}

fn failed(kind: JobKind, why: &str) -> Refusal {
    let unavailable =
        |message| Refusal::Unavailable { reason: "JOB_WAITS", message, retry_after: JOB_RETRY };
    match serde_json::from_str::<JobFailure>(why) {
        Ok(failure) if failure.not_found => Refusal::NotFound(failure.message),
        Ok(failure) if failure.is_retryable => unavailable(failure.message),
        Ok(failure) => Refusal::FailedPrecondition(failure.message),
        // Storage itself ends jobs with a plain text: nobody began it in time, or nobody who did
        // ended it. It may do so before the server that asks has lost its patience.
        Err(_) => unavailable(format!("{why}: {}", nobody_answers(kind, &JobState::Waiting))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: JobKind, state: JobState, waited: u64, expected: Result<Option<&str>, &str>) {
        let found = answer(kind, state, Duration::from_secs(waited));
        let found = found.map_err(|refused| refused.to_string());
        match expected {
            Ok(answer) => assert_eq!(found, Ok(answer.map(str::to_owned))),
            Err(part) => {
                assert!(found.as_ref().is_err_and(|told| told.contains(part)), "{found:?}")
            }
        }
    }

    #[test]
    fn a_failure_tells_whether_to_ask_again() {
        let failure = |not_found, is_retryable| {
            let message = "because".to_owned();
            let json = serde_json::to_string(&JobFailure { not_found, is_retryable, message });
            failed(JobKind::RulePreview, &json.unwrap())
        };
        assert!(matches!(failure(false, true), Refusal::Unavailable { .. }));
        assert!(matches!(failure(false, false), Refusal::FailedPrecondition(_)));
        assert!(matches!(failure(true, false), Refusal::NotFound(_)));
        let too_late = failed(JobKind::ChannelTest, "nobody began it in time");
        assert!(matches!(too_late, Refusal::Unavailable { .. }));
    }

    #[test]
    fn too_many_open_jobs_are_a_reason_to_come_back() {
        let refused = not_asked(StorageError::LimitExceeded("64 jobs are open".to_owned()));
        assert!(refused.retry_after().is_some(), "{refused}");
        let refused = not_asked(StorageError::NotFound("tenant".to_owned()));
        assert!(refused.retry_after().is_none(), "{refused}");
    }

    #[test]
    fn what_nobody_begins_is_told_before_what_takes_long() {
        use JobKind::{ChannelTest, Detection, RulePreview};
        use JobState::{Done, Failed, Running, Waiting};
        for kind in [RulePreview, ChannelTest] {
            check(kind, Waiting, 10, Ok(None));
            check(kind, Waiting, 11, Err("`logweir alerting` is running"));
            check(kind, Running, 600, Ok(None));
            check(kind, Done("1".into()), 700, Ok(Some("1")));
            let too_late = Failed("nobody began it in time".into());
            check(kind, too_late, 1, Err("`logweir alerting` is running"));
        }
        check(RulePreview, Running, 601, Err("`logweir alerting` is running"));
        check(ChannelTest, Running, 601, Err("was begun"));
        check(Detection, Waiting, 600, Ok(None));
        check(Detection, Waiting, 601, Err("no processor has answered"));
    }
}
