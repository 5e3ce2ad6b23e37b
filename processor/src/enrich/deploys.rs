//! Deploy marks: which version went live shortly before a log.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use logweir_core::{
    identity::{Service, Tenant},
    timestamp::Timestamp,
};
use logweir_storage::Deploy;
use parking_lot::Mutex;
use std::sync::Arc;

/// How long after a deploy its logs are marked: an hour.
const MARKED_FOR: Duration = Duration::from_secs(3_600);
/// Marks kept of a service; an hour holds fewer.
const MARKS_PER_SERVICE_MAX: usize = 32;
/// Tenants whose deploys are watched; the logs of others get no mark.
const TENANTS_MAX: usize = 1_000;

/// Marks by tenant and service, newest first.
pub(crate) type Marks = HashMap<(Tenant, Service), Vec<(Timestamp, String)>>;

/// The marks known, and for which tenants they are to be read. Shared by the pipeline, which reads
/// marks and names tenants, and the task that refreshes them.
#[derive(Clone, Default)]
pub(crate) struct DeployMarks {
    marks: Arc<Mutex<Arc<Marks>>>,
    tenants: Arc<Mutex<BTreeSet<Tenant>>>,
}

impl DeployMarks {
    /// The marks as of the last refresh.
    pub(crate) fn current(&self) -> Arc<Marks> {
        Arc::clone(&self.marks.lock())
    }

    /// Asks for the marks of a tenant from the next refresh on.
    pub(crate) fn watch(&self, tenant: &Tenant) {
        let mut tenants = self.tenants.lock();
        // Looked up before it is copied: this runs for every batch, and the tenant is mostly known.
        if !tenants.contains(tenant) && tenants.len() < TENANTS_MAX {
            tenants.insert(tenant.clone());
        }
    }

    /// The tenants asked for.
    pub(crate) fn tenants(&self) -> Vec<Tenant> {
        self.tenants.lock().iter().cloned().collect()
    }

    /// Replaces all marks.
    pub(crate) fn replace(&self, deploys: impl IntoIterator<Item = (Tenant, Deploy)>) {
        let mut marks = Marks::new();
        for (tenant, deploy) in deploys {
            let of_service = marks.entry((tenant, deploy.service)).or_default();
            of_service.push((deploy.time, deploy.version));
        }
        for of_service in marks.values_mut() {
            of_service.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
            of_service.truncate(MARKS_PER_SERVICE_MAX);
        }
        *self.marks.lock() = Arc::new(marks);
    }
}

/// The version that went live last at or before a time, if that was within the hour.
pub(super) fn version_at(marks: &[(Timestamp, String)], time: Timestamp) -> Option<&str> {
    let (deployed_at, version) = marks.iter().find(|(deployed_at, _)| *deployed_at <= time)?;
    (time.since(*deployed_at) <= MARKED_FOR).then_some(version.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_unix_nanos(nanos)
    }

    #[test]
    fn a_log_gets_the_newest_version_of_the_last_hour() {
        let marks = DeployMarks::default();
        let (tenant, service) = (Tenant::default(), Service::new("a").unwrap());
        let deploy = |time, version: &str| {
            let (service, version) = (service.clone(), version.to_owned());
            (tenant.clone(), Deploy { service, version, time, note: String::new() })
        };
        marks.replace([deploy(at(1_000), "1"), deploy(at(2_000), "2")]);
        let current = marks.current();
        let of_service = &current[&(tenant.clone(), service.clone())];
        for (time, expected) in [
            (at(999), None),
            (at(1_000), Some("1")),
            (at(1_999), Some("1")),
            (at(2_000), Some("2")),
            (at(2_000) + MARKED_FOR, Some("2")),
            (at(2_001) + MARKED_FOR, None),
        ] {
            assert_eq!(version_at(of_service, time), expected, "{time:?}");
        }
    }

    #[test]
    fn the_number_of_watched_tenants_is_bounded() {
        let marks = DeployMarks::default();
        for number in 0..TENANTS_MAX + 10 {
            marks.watch(&Tenant::new(&format!("t{number}")).unwrap());
        }
        assert_eq!(marks.tenants().len(), TENANTS_MAX);
    }
}
