//! What storage needs done beside the logs: retention, merging, and reading the deploys. A step
//! that fails is tried again after the usual pause; the first of several in a row is logged.

use std::{sync::Arc, time::Duration};

use logweir_core::{identity::Tenant, runtime::clock::Clock};
use logweir_storage::{Administer, Deploy, StorageError};
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::enrich::DeployMarks;

/// Deploys read of a tenant; older ones no longer mark logs.
const DEPLOYS_PER_TENANT_MAX: usize = 1_000;

/// Storage's own steps, one after the other while there is something to do.
pub(crate) async fn maintain(
    storage: Arc<dyn Administer>,
    clock: Clock,
    pause: Duration,
    stop: CancellationToken,
) {
    let mut is_failing = false;
    while !stop.is_cancelled() {
        let done = storage.maintain(clock()).await;
        report("maintenance", &done, &mut is_failing);
        let more = done.unwrap_or(false);
        if more {
            // A commit of logs that waits goes first.
            tokio::task::yield_now().await;
        } else if stopped_within(pause, &stop).await {
            return;
        }
    }
}

/// Reads the deploys of the tenants that have sent logs.
pub(crate) async fn refresh_deploys(
    storage: Arc<dyn Administer>,
    marks: DeployMarks,
    pause: Duration,
    stop: CancellationToken,
) {
    let mut is_failing = false;
    loop {
        let read = read_deploys(&*storage, &marks.tenants()).await;
        report("reading deploys", &read, &mut is_failing);
        // All or none: after an error in the middle the marks of some tenants would be missing, so
        // those read before stay.
        if let Ok(deploys) = read {
            marks.replace(deploys);
        }
        if stopped_within(pause, &stop).await {
            return;
        }
    }
}

async fn read_deploys(
    storage: &dyn Administer,
    tenants: &[Tenant],
) -> Result<Vec<(Tenant, Deploy)>, StorageError> {
    let mut deploys = Vec::new();
    for tenant in tenants {
        let found = storage.list_deploys(tenant, None, DEPLOYS_PER_TENANT_MAX).await?;
        deploys.extend(found.into_iter().map(|deploy| (tenant.clone(), deploy)));
    }
    Ok(deploys)
}

/// Counts a failure, and tells the first of several in a row.
pub(crate) fn report<T>(
    what: &'static str,
    outcome: &Result<T, StorageError>,
    is_failing: &mut bool,
) {
    if let Err(error) = outcome {
        counter!("logweir_processor_upkeep_failures_total", "what" => what).increment(1);
        // Only the first of several: a database that is away for an hour would else fill the log
        // with a line every second from each of these tasks. The counter goes on.
        if !*is_failing {
            warn!(error = error as &dyn std::error::Error, "{what} failed; it is tried again");
        }
    }
    *is_failing = outcome.is_err();
}

async fn stopped_within(pause: Duration, stop: &CancellationToken) -> bool {
    tokio::time::timeout(pause, stop.cancelled()).await.is_ok()
}

#[cfg(test)]
mod tests {
    use logweir_core::{identity::Service, runtime::clock::system_clock, timestamp::Timestamp};
    use logweir_storage::{SqliteConfig, SqliteStorage};

    use super::*;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_unix_nanos(nanos)
    }

    #[tokio::test]
    async fn the_deploys_of_watched_tenants_become_marks() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path());
        let storage = Arc::new(SqliteStorage::open(&config, system_clock()).unwrap());
        let service = Service::new("a").unwrap();
        for (tenant, version) in [("watched", "1"), ("watched", "2"), ("other", "3")] {
            let deploy = Deploy {
                service: service.clone(),
                version: version.into(),
                time: at(version.parse().unwrap()),
                note: String::new(),
            };
            storage.insert_deploy(&Tenant::new(tenant).unwrap(), deploy).await.unwrap();
        }
        let marks = DeployMarks::default();
        let tenant = Tenant::new("watched").unwrap();
        marks.watch(&tenant);
        let stopped = CancellationToken::new();
        stopped.cancel();
        refresh_deploys(storage, marks.clone(), Duration::from_secs(1), stopped).await;
        let current = marks.current();
        assert_eq!(current.len(), 1);
        assert_eq!(current[&(tenant, service)], [(at(2), "2".to_owned()), (at(1), "1".to_owned())]);
    }
}
