//! A training once a day, at an hour when little happens: of each tenant that has sent logs, and of
//! each of its services that has an active model. However many processors ask, storage takes the
//! first. What is trained is a candidate: nothing changes until somebody promotes it.

use std::{sync::Arc, time::Duration};

use logweir_core::{
    identity::Tenant, job::JobRequest, runtime::clock::Clock, timestamp::Timestamp,
};
use logweir_storage::{JobKind, KeepModels, NewJob, PassJobs, StorageError};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::job_context::json;
use crate::{enrich::DeployMarks, maintenance};

/// How often the clock is looked at: so late may a training begin.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Services of a tenant that are trained; the others keep what they have.
const SERVICES_MAX: usize = 32;

/// Asks until the process is to stop. Times before its start are not made up for.
pub(crate) async fn train_daily(
    jobs: Arc<dyn PassJobs>,
    models: Arc<dyn KeepModels>,
    tenants: DeployMarks,
    hour_utc: u8,
    clock: Clock,
    stop: CancellationToken,
) {
    let (mut asked, mut is_failing) = (last_due(clock(), hour_utc), false);
    while tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await.is_err() {
        let now = clock();
        let due = last_due(now, hour_utc);
        if due <= asked {
            continue;
        }
        let tenants = tenants.tenants();
        let outcome = ask(jobs.as_ref(), models.as_ref(), &tenants, due, now).await;
        maintenance::report("asking for the daily training", &outcome, &mut is_failing);
        // Asked again a minute later after a fault; what was stored before it is not stored twice.
        if outcome.is_ok() {
            asked = due;
        }
    }
}

/// The newest time at or before now at which a training was due.
fn last_due(now: Timestamp, hour_utc: u8) -> Timestamp {
    let offset = u32::from(hour_utc % 24) * HOUR;
    (now - offset).floor(DAY) + offset
}

async fn ask(
    jobs: &dyn PassJobs,
    models: &dyn KeepModels,
    tenants: &[Tenant],
    due_at: Timestamp,
    now: Timestamp,
) -> Result<(), StorageError> {
    let active = models.active_models().await?;
    for tenant in tenants {
        let of_tenant = active.iter().filter(|(owner, _)| owner == tenant);
        let named = of_tenant.filter_map(|(_, model)| model.made.scope.as_ref());
        let services = named.take(SERVICES_MAX).map(ToString::to_string);
        for service in std::iter::once(String::new()).chain(services) {
            // Every processor asks at about the same time; storage keeps the first job of a key and
            // nobody need be elected.
            let key = format!("daily training {} {service}", due_at.as_unix_nanos());
            let request = JobRequest::TrainModel { service, from: due_at - DAY, to: due_at };
            let job = NewJob::new(JobKind::Detection, json(&request), now);
            match jobs.insert_job(tenant, NewJob { unique_key: Some(key), ..job }).await {
                // That is this tenant's own queue: the others are trained all the same.
                Err(StorageError::LimitExceeded(cause)) => {
                    warn!(%tenant, %cause, "a daily training is left out");
                    break;
                }
                asked => asked?,
            };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use logweir_core::runtime::clock::system_clock;
    use logweir_storage::{JOBS_OPEN_MAX, SqliteConfig, SqliteStorage};

    use super::*;

    #[test]
    fn it_is_due_once_a_day_at_the_hour() {
        let noon = Timestamp::EPOCH + 20_000 * DAY + 12 * HOUR;
        for (now, hour, due) in [
            (noon, 3, noon - 9 * HOUR),
            (noon, 12, noon),
            (noon - Duration::from_nanos(1), 12, noon - DAY),
            (noon, 13, noon - 23 * HOUR),
        ] {
            assert_eq!(last_due(now, hour), due, "{hour}");
        }
    }

    #[tokio::test]
    async fn a_tenant_whose_jobs_are_all_open_keeps_nobody_else_from_training() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path());
        let storage = SqliteStorage::open(&config, system_clock()).unwrap();
        let [full, other] = ["full", "other"].map(|name| Tenant::new(name).unwrap());
        for _ in 0..JOBS_OPEN_MAX {
            let job = NewJob::new(JobKind::Detection, "{}".to_owned(), Timestamp::EPOCH);
            storage.insert_job(&full, job).await.unwrap();
        }
        let due = Timestamp::EPOCH + DAY;
        ask(&storage, &storage, &[full, other.clone()], due, due).await.unwrap();
        let mut taken = Vec::new();
        while let Some(job) = storage.take_job(JobKind::Detection, due, LOOK_EVERY).await.unwrap() {
            taken.push(job.tenant);
        }
        assert!(taken.contains(&other));
    }

    #[tokio::test]
    async fn processors_that_ask_for_the_same_day_get_one_training() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path());
        let storage = SqliteStorage::open(&config, system_clock()).unwrap();
        let tenants = [Tenant::default(), Tenant::new("other").unwrap()];
        for days in [1, 1, 2] {
            let due = Timestamp::EPOCH + days * DAY;
            ask(&storage, &storage, &tenants, due, due).await.unwrap();
        }
        let (mut taken, now) = (0, Timestamp::EPOCH + 3 * DAY);
        while let Some(job) = storage.take_job(JobKind::Detection, now, LOOK_EVERY).await.unwrap() {
            storage.finish_job(job.job_id, Ok("{}".to_owned())).await.unwrap();
            taken += 1;
        }
        assert_eq!(taken, 4, "two tenants, two days");
    }
}
