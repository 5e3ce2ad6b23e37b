//! A training once a day, at an hour when little happens: of each tenant that has sent logs, and of
//! each of its services that has an active model. However many processors ask, storage takes the first.
//! What is trained is a candidate: nothing changes until somebody promotes it.

use std::{sync::Arc, time::Duration};

use logweir_core::{
    identity::Tenant,
    job::JobRequest,
    runtime::clock::Clock,
    timestamp::{NANOS_PER_DAY, NANOS_PER_HOUR},
};
use logweir_storage::{JobKind, KeepModels, NewJob, PassJobs, StorageError};
use tokio_util::sync::CancellationToken;

use super::job_context::json;
use crate::{enrich::DeployMarks, maintenance};

const LOOK_EVERY: Duration = Duration::from_secs(60);
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
        if outcome.is_ok() {
            asked = due;
        }
    }
}

/// The newest time at or before now at which a training was due.
fn last_due(now_unix_nano: i64, hour_utc: u8) -> i64 {
    let offset = i64::from(hour_utc % 24) * NANOS_PER_HOUR;
    (now_unix_nano - offset).div_euclid(NANOS_PER_DAY) * NANOS_PER_DAY + offset
}

async fn ask(
    jobs: &dyn PassJobs,
    models: &dyn KeepModels,
    tenants: &[Tenant],
    due_unix_nano: i64,
    now_unix_nano: i64,
) -> Result<(), StorageError> {
    let active = models.active_models().await?;
    for tenant in tenants {
        let of_tenant = active.iter().filter(|(owner, _)| owner == tenant);
        let named = of_tenant.filter_map(|(_, model)| model.made.scope.as_ref());
        let services = named.take(SERVICES_MAX).map(ToString::to_string);
        for service in std::iter::once(String::new()).chain(services) {
            let key = format!("daily training {due_unix_nano} {service}");
            let request = JobRequest::TrainModel {
                service,
                from_unix_nano: due_unix_nano - NANOS_PER_DAY,
                to_unix_nano: due_unix_nano,
            };
            let job = NewJob::new(JobKind::Detection, json(&request), now_unix_nano);
            jobs.insert_job(tenant, NewJob { unique_key: Some(key), ..job }).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use logweir_core::runtime::clock::system_clock;
    use logweir_storage::{SqliteConfig, SqliteStorage};

    use super::*;

    #[test]
    fn it_is_due_once_a_day_at_the_hour() {
        let noon = 20_000 * NANOS_PER_DAY + 12 * NANOS_PER_HOUR;
        for (now, hour, due) in [
            (noon, 3, noon - 9 * NANOS_PER_HOUR),
            (noon, 12, noon),
            (noon - 1, 12, noon - NANOS_PER_DAY),
            (noon, 13, noon - 23 * NANOS_PER_HOUR),
        ] {
            assert_eq!(last_due(now, hour), due, "{hour}");
        }
    }

    #[tokio::test]
    async fn processors_that_ask_for_the_same_day_get_one_training() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path());
        let storage = SqliteStorage::open(&config, system_clock()).unwrap();
        let tenants = [Tenant::default(), Tenant::new("other").unwrap()];
        for due in [NANOS_PER_DAY, NANOS_PER_DAY, 2 * NANOS_PER_DAY] {
            ask(&storage, &storage, &tenants, due, due).await.unwrap();
        }
        let mut taken = 0;
        while storage
            .take_job(JobKind::Detection, 3 * NANOS_PER_DAY, LOOK_EVERY)
            .await
            .unwrap()
            .is_some()
        {
            taken += 1;
        }
        assert_eq!(taken, 4, "two tenants, two days");
    }
}
