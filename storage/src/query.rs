//! What a reader may ask, as values; every implementation translates it. Also the latency buckets,
//! which are part of the stored format.

use std::time::Duration;

use logweir_core::{
    filter::Filter,
    identity::{LogId, Service},
    record::StoredLog,
    timestamp::Timestamp,
};

/// Groups of an aggregation that are answered; the smallest are left out.
// Limits of an answer, so that no question can take a process's memory: a point is about 100 bytes
// besides its latencies, hence 100 MB and more for the million below.
pub const SERIES_MAX: usize = 1_000;
/// Time buckets of a group, or of a heatmap.
pub const POINTS_MAX: usize = 10_000;
/// Points over all groups, and cells of a heatmap: bounds memory.
pub const CELLS_MAX: usize = 1_000_000;
/// Accounts in a report; those heard of longest ago are left out.
pub const PRODUCERS_MAX: usize = 10_000;

/// A span of event time in nanoseconds since 1970-01-01 UTC: from inclusive, to exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// First nanosecond.
    pub from: Timestamp,
    /// First nanosecond after it.
    pub to: Timestamp,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { from: Timestamp::MIN, to: Timestamp::MAX };
}

/// Which end of time a walk through the logs begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    NewestFirst,
    OldestFirst,
}

impl Order {
    /// The cursor of a walk that has found everything before this time, in its order, and goes on
    /// with it.
    pub(crate) const fn cursor_before(self, time: Timestamp) -> LogId {
        match self {
            Self::NewestFirst => LogId::first_of(time.next()),
            Self::OldestFirst => LogId::last_of(time.previous()),
        }
    }

    /// Leaves of a range what may come after a cursor.
    pub(crate) fn narrow(self, range: &mut TimeRange, cursor: LogId) {
        let time = cursor.time;
        match self {
            Self::NewestFirst if cursor == LogId::first_of(time) => range.to = range.to.min(time),
            Self::NewestFirst => range.to = range.to.min(time.next()),
            Self::OldestFirst if cursor == LogId::last_of(time) => {
                range.from = range.from.max(time.next());
            }
            Self::OldestFirst => range.from = range.from.max(time),
        }
    }
}

/// How much a search may take before it ends with what it has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchLimits {
    /// Time at work; waiting for a turn does not count.
    pub work: Duration,
    /// Bytes of logs that are read, as they are stored. Where a database server looks for matches by
    /// itself, of what it sends.
    pub bytes: u64,
}

impl SearchLimits {
    /// As much as it takes.
    pub const NONE: Self = Self { work: Duration::MAX, bytes: u64::MAX };

    /// Whether a search that has this left must end after working so much longer.
    pub(crate) fn are_met_after(self, work: Duration) -> bool {
        self.work <= work || self.bytes == 0
    }
}

/// A page of a search or an export.
#[derive(Debug, Clone)]
pub struct SearchQuery {
    /// What must hold.
    pub filter: Filter,
    /// Event time searched.
    pub range: TimeRange,
    /// The last id that was shown; the page goes on after it.
    pub cursor: Option<LogId>,
    /// Matches wanted, at least 1.
    pub page_size: usize,
    /// When to end before the page is full. More is taken where that is needed to get on: what a page
    /// must pass again to come to where the last one ended does not count, and no two pages of a
    /// search end at the same place.
    pub limits: SearchLimits,
}

/// Matches, and where to go on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchPage {
    /// The matches in order.
    pub logs: Vec<StoredLog>,
    /// The cursor of the next page, if there may be more: the last id, or where a search ended that
    /// met its limits.
    pub next: Option<LogId>,
    /// Whether it met its limits before the page was full; there may be no logs at all, and more on
    /// the next page.
    pub is_partial: bool,
}

/// By what to split counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// One series.
    #[default]
    Nothing,
    /// Per service.
    Service,
    /// Per level.
    Level,
    /// Per template.
    Template,
}

/// Counts per time bucket.
#[derive(Debug, Clone)]
pub struct AggregateQuery {
    /// Event time counted, already widened to whole buckets.
    pub range: TimeRange,
    /// Width of a time bucket in seconds, a multiple of 10.
    pub bucket_seconds: u32,
    /// By what to split.
    pub group_by: GroupBy,
    /// Only this service.
    pub service: Option<Service>,
}
