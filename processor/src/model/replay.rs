//! Stored logs, judged again.
//!
//! At most [`LOGS_MAX`] logs of a window are read, a page at a time. Of a window with more,
//! stretches of equal length, evenly apart, stand for it, so that all hours of a day are seen.

use std::{sync::Arc, time::Duration};

use logweir_analysis::{Detector, LogScore, ReceivedLog};
use logweir_core::{
    filter::{Expression, Filter, Term, TextField},
    identity::{Service, Tenant},
    record::StoredLog,
};
use logweir_storage::{
    AggregateQuery, GroupBy, ReadLogs, SearchLimits, SearchQuery, StorageError, TimeRange,
};

/// Logs read for a training or a comparison.
pub(crate) const LOGS_MAX: u64 = 100_000;
/// Stretches that stand for a window with more logs.
const STRETCHES: u32 = 50;
const PAGE_LOGS: usize = 1_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// Which logs to judge again.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) tenant: Tenant,
    /// Only this service.
    pub(crate) service: Option<Service>,
    pub(crate) range: TimeRange,
}

impl Window {
    /// How many logs it holds, about: counted by whole hours.
    async fn count(&self, storage: &dyn ReadLogs) -> Result<u64, StorageError> {
        // From the hourly buckets and not by a search: it only decides whether a window is read
        // whole, and the logs of a week would have to be read to be counted exactly.
        let before_end = self.range.to - Duration::from_nanos(1);
        let query = AggregateQuery {
            range: TimeRange {
                from: self.range.from.floor(HOUR),
                to: before_end.floor(HOUR) + HOUR,
            },
            bucket_seconds: HOUR.as_secs() as u32,
            group_by: GroupBy::Nothing,
            service: self.service.clone(),
        };
        let series = storage.aggregate(&self.tenant, query).await?;
        Ok(series.iter().flat_map(|series| &series.points).map(|point| point.total).sum())
    }

    /// The stretches to read, oldest first, and how many logs of each.
    fn stretches(&self, logs: u64) -> (Vec<TimeRange>, u64) {
        if logs <= LOGS_MAX {
            return (vec![self.range], LOGS_MAX);
        }
        let TimeRange { from, to } = self.range;
        // The first logs of each fiftieth of the window, and not the first 100,000: of a busy week
        // those would be one morning, and the model would find every night unusual.
        let width = to.since(from) / STRETCHES;
        let stretch = |number: u32| TimeRange {
            from: from + number * width,
            to: from + (number + 1) * width,
        };
        ((0..STRETCHES).map(stretch).collect(), LOGS_MAX / u64::from(STRETCHES))
    }

    fn filter(&self) -> Filter {
        let expression = match &self.service {
            None => Expression::default(),
            Some(service) => Expression::Term(Term::Text(TextField::Service, service.to_string())),
        };
        Filter { expression }
    }
}

/// What is done with each log of a window.
pub(crate) trait Judge: Send + 'static {
    fn judge(&mut self, tenant: &Tenant, log: &StoredLog);
}

/// Hands the logs of a window to a judge, in order of time, on threads for computing.
pub(crate) async fn replay<J: Judge>(
    storage: &Arc<dyn ReadLogs>,
    window: &Window,
    mut judge: J,
) -> Result<J, StorageError> {
    let (stretches, logs_max) = window.stretches(window.count(storage.as_ref()).await?);
    for range in stretches {
        let (mut cursor, mut left) = (None, logs_max);
        while left > 0 {
            let page_size = PAGE_LOGS.min(usize::try_from(left).unwrap_or(PAGE_LOGS));
            let query = SearchQuery {
                filter: window.filter(),
                range,
                cursor,
                page_size,
                limits: SearchLimits::NONE,
            };
            let page = storage.export(&window.tenant, query).await?;
            left = left.saturating_sub(page.logs.len() as u64);
            // A page at a time, so that memory holds a thousand logs, and on a thread for
            // computing, so that heartbeats on the async pool go on.
            let tenant = window.tenant.clone();
            let judging = tokio::task::spawn_blocking(move || {
                page.logs.iter().for_each(|log| judge.judge(&tenant, log));
                judge
            });
            judge = judging.await.map_err(|error| StorageError::Broken(Box::new(error)))?;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(judge)
}

/// A detector that takes a stored log for a new one: its time is when it was received, so that old
/// logs teach as they did then.
pub(crate) fn observe(detector: &mut Detector, tenant: &Tenant, log: &StoredLog) -> LogScore {
    let record = &log.scored.record;
    detector.observe(&ReceivedLog {
        tenant,
        service: &log.service,
        instance: &log.instance,
        received_at: record.time,
        record,
        level: log.scored.level,
    })
}
