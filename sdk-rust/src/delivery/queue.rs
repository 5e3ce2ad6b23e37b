//! The logs that wait in memory for their batch: bounded in number and in bytes.
//!
//! One lock, held for a few dozen instructions, guards the queue and the counters of what came in
//! and what was dropped, so that an account taken under it always balances. At the bounds the drop
//! policy decides who goes; every drop is counted by its reason.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use logweir_proto::v1::{Level, LogRecord};

use crate::{
    error::{DropCounts, DropReason},
    record::{LEVELS, level_index},
};

/// Who goes when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DropPolicy {
    /// The oldest log of the lowest level present, the new one included; a tenth of the queue is
    /// kept for ERROR and FATAL.
    #[default]
    SeverityAware,
    /// The new log.
    Newest,
    /// The oldest log of any level.
    Oldest,
}

impl DropPolicy {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "severity_aware" => Some(Self::SeverityAware),
            "newest" => Some(Self::Newest),
            "oldest" => Some(Self::Oldest),
            _ => None,
        }
    }
}

/// How much may wait, and what wakes the sending thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueBounds {
    pub(crate) records_max: usize,
    pub(crate) bytes_max: usize,
    /// So many logs, or bytes, are enough for a batch and wake the sending thread.
    pub(crate) wake_records: usize,
    pub(crate) wake_bytes: usize,
    /// A log of this level is not kept waiting.
    pub(crate) urgent: Level,
    pub(crate) policy: DropPolicy,
}

/// A log in the queue.
pub(crate) struct Queued {
    pub(crate) record: LogRecord,
    pub(crate) at: Instant,
    /// Bytes in memory.
    pub(crate) memory_bytes: usize,
    /// Bytes on the wire.
    pub(crate) wire_bytes: usize,
    /// Its number in order of arrival, given by the queue.
    pub(crate) position: u64,
}

/// What became of a push. The evicted are freed by the caller, outside the lock.
#[derive(Default)]
pub(crate) struct Pushed {
    #[allow(clippy::vec_box, reason = "moved as they are, without a copy under the lock")]
    pub(crate) evicted: Vec<Box<Queued>>,
    pub(crate) wake: bool,
}

/// What may still go into a batch.
pub(crate) struct Room {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

/// Lanes of the queue, one for each level.
const LANES: usize = LEVELS;
/// Lanes below this hold what is less than an error.
const ERROR_LANE: usize = 4;
/// A tenth is kept for errors.
const RESERVED_DIVISOR: usize = 10;

#[derive(Clone, Copy, Default)]
struct Load {
    records: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.records -= 1;
        self.bytes -= bytes;
    }

    fn exceeds(self, records_max: usize, bytes_max: usize) -> bool {
        self.records > records_max || self.bytes > bytes_max
    }
}

/// The queue: a lane per level, each in order of arrival.
pub(crate) struct Queue {
    bounds: QueueBounds,
    lanes: [VecDeque<Box<Queued>>; LANES],
    all: Load,
    below_error: Load,
    next_position: u64,
    emitted: u64,
    emitted_after_close: u64,
    dropped: DropCounts,
    closed: bool,
    urgent_waiting: bool,
    has_untold_drops: bool,
}

impl Queue {
    pub(crate) fn new(bounds: QueueBounds) -> Self {
        Self {
            bounds,
            lanes: Default::default(),
            all: Load::default(),
            below_error: Load::default(),
            next_position: 0,
            emitted: 0,
            emitted_after_close: 0,
            dropped: DropCounts::default(),
            closed: false,
            urgent_waiting: false,
            has_untold_drops: false,
        }
    }

    /// Takes a log in, and whoever must go for it out. `reason` is what an overflow counts as.
    pub(crate) fn push(&mut self, mut queued: Box<Queued>, reason: DropReason) -> Pushed {
        let mut pushed = Pushed::default();
        if self.closed {
            self.emitted_after_close += 1;
            pushed.evicted.push(queued);
            return pushed;
        }
        self.emitted += 1;
        let lane = level_index(queued.record.level);
        // One log may need the room of several smaller ones.
        while self.is_full_for(lane, queued.memory_bytes) {
            let Some(victim) = self.victim(lane, queued.memory_bytes) else {
                pushed.wake |= self.count_drop(reason, 1);
                pushed.evicted.push(queued);
                return pushed;
            };
            // The caller frees it outside of the lock.
            pushed.evicted.extend(self.pop(victim));
            pushed.wake |= self.count_drop(reason, 1);
        }
        // Given here and not by the caller: only under the lock is the order of arrival known.
        queued.position = self.next_position;
        self.next_position += 1;
        // Before the log is counted: whether it is the first decides.
        pushed.wake |= self.wakes(&queued);
        self.all.add(queued.memory_bytes);
        if lane < ERROR_LANE {
            self.below_error.add(queued.memory_bytes);
        }
        self.lanes[lane].push_back(queued);
        pushed
    }

    /// Counts a log that the program gave up itself: it is no news to anybody.
    pub(crate) fn give_up(&mut self, reason: DropReason) {
        if self.closed {
            self.emitted_after_close += 1;
        } else {
            self.emitted += 1;
            self.dropped.add(reason, 1);
        }
    }

    /// Moves logs in order of arrival into `records`, at most `chunk` of them, so that the lock is
    /// held briefly. True if more would fit.
    pub(crate) fn take(
        &mut self,
        room: &mut Room,
        chunk: usize,
        records: &mut Vec<LogRecord>,
    ) -> bool {
        for _ in 0..chunk {
            // The oldest of all lanes, so that a batch has its logs in order of arrival.
            let Some(lane) = self.first_lane() else { return false };
            let fits = self.lanes[lane].front().is_some_and(|first| first.wire_bytes <= room.bytes);
            // A log larger than a whole batch goes alone.
            if room.records == 0 || !(fits || records.is_empty()) {
                return false;
            }
            let Some(first) = self.pop(lane) else { return false };
            room.records -= 1;
            // A single log may be larger than the room.
            room.bytes = room.bytes.saturating_sub(first.wire_bytes);
            records.push(first.record);
        }
        true
    }

    /// Gives up the logs that came before `limit`, at most `chunk` of them. True if there are more.
    #[allow(clippy::vec_box, reason = "moved as they are, without a copy under the lock")]
    pub(crate) fn expire(
        &mut self,
        limit: Instant,
        chunk: usize,
        out: &mut Vec<Box<Queued>>,
    ) -> bool {
        for _ in 0..chunk {
            let old =
                |lane: &usize| self.lanes[*lane].front().is_some_and(|first| first.at <= limit);
            let Some(lane) = self.first_lane().filter(old) else { return false };
            out.extend(self.pop(lane));
            self.count_drop(DropReason::Expired, 1);
        }
        true
    }

    /// Gives up everything that waits.
    pub(crate) fn clear(&mut self, reason: DropReason) -> [VecDeque<Box<Queued>>; LANES] {
        self.count_drop(reason, self.all.records as u64);
        self.all = Load::default();
        self.below_error = Load::default();
        // Handed out, so that the caller frees them outside of the lock.
        std::mem::take(&mut self.lanes)
    }

    /// From now on logs are counted, and no more.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Counts logs given up. True if this is the first since the last [`Self::take_drop_notice`].
    pub(crate) fn count_drop(&mut self, reason: DropReason, count: u64) -> bool {
        self.dropped.add(reason, count);
        count > 0 && !std::mem::replace(&mut self.has_untold_drops, true)
    }

    pub(crate) fn has_untold_drops(&self) -> bool {
        self.has_untold_drops
    }

    pub(crate) fn take_drop_notice(&mut self) -> DropCounts {
        self.has_untold_drops = false;
        self.dropped
    }

    pub(crate) fn take_urgent(&mut self) -> bool {
        std::mem::take(&mut self.urgent_waiting)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.records
    }

    pub(crate) fn has_a_batch(&self) -> bool {
        self.all.records >= self.bounds.wake_records || self.all.bytes >= self.bounds.wake_bytes
    }

    /// The position that the next log will get.
    pub(crate) fn next_position(&self) -> u64 {
        self.next_position
    }

    /// Position and age of the log that waits longest.
    pub(crate) fn oldest(&self) -> Option<(u64, Instant)> {
        let first = self.lanes[self.first_lane()?].front()?;
        Some((first.position, first.at))
    }

    /// How many wait that came before `position`.
    pub(crate) fn len_before(&self, position: u64) -> u64 {
        let count = |lane: &VecDeque<Box<Queued>>| lane.partition_point(|q| q.position < position);
        self.lanes.iter().map(count).sum::<usize>() as u64
    }

    pub(crate) fn emitted(&self) -> u64 {
        self.emitted
    }

    pub(crate) fn emitted_after_close(&self) -> u64 {
        self.emitted_after_close
    }

    pub(crate) fn dropped(&self) -> DropCounts {
        self.dropped
    }

    fn is_full_for(&self, lane: usize, memory_bytes: usize) -> bool {
        let QueueBounds { records_max, bytes_max, policy, .. } = self.bounds;
        let with =
            |load: Load| Load { records: load.records + 1, bytes: load.bytes + memory_bytes };
        // A flood of lesser logs must not push out the errors that explain it.
        let reserved = policy == DropPolicy::SeverityAware && lane < ERROR_LANE;
        let share = |max: usize| max - max / RESERVED_DIVISOR;
        with(self.all).exceeds(records_max, bytes_max)
            || reserved && with(self.below_error).exceeds(share(records_max), share(bytes_max))
    }

    /// The lane whose oldest log goes for a new one; none if the new one itself goes.
    fn victim(&self, lane: usize, memory_bytes: usize) -> Option<usize> {
        // Not even an empty queue would have room for it.
        if memory_bytes > self.bounds.bytes_max {
            return None;
        }
        match self.bounds.policy {
            DropPolicy::Newest => None,
            DropPolicy::Oldest => self.first_lane(),
            // Never a higher level than the new log's own: then the new one goes.
            DropPolicy::SeverityAware => (0..=lane).find(|lane| !self.lanes[*lane].is_empty()),
        }
    }

    fn first_lane(&self) -> Option<usize> {
        let position = |lane: usize| Some((self.lanes[lane].front()?.position, lane));
        (0..LANES).filter_map(position).min().map(|(_, lane)| lane)
    }

    fn pop(&mut self, lane: usize) -> Option<Box<Queued>> {
        let queued = self.lanes[lane].pop_front()?;
        self.all.remove(queued.memory_bytes);
        if lane < ERROR_LANE {
            self.below_error.remove(queued.memory_bytes);
        }
        Some(queued)
    }

    /// Wakes are rare on purpose: when waiting begins, when a batch is full, when it is urgent.
    fn wakes(&mut self, queued: &Queued) -> bool {
        let QueueBounds { wake_records, wake_bytes, urgent, .. } = self.bounds;
        let Load { records, bytes } = self.all;
        // Only the log that crosses the bound wakes: each wake costs a call of the system.
        let fills_bytes = bytes < wake_bytes && bytes + queued.memory_bytes >= wake_bytes;
        let is_urgent = queued.record.level >= urgent as i32;
        let wakes_urgently = is_urgent && !self.urgent_waiting;
        self.urgent_waiting |= is_urgent;
        records == 0 || records + 1 == wake_records || fills_bytes || wakes_urgently
    }
}

/// How long logs may wait, as the instant before which they are too old.
pub(crate) fn expiry_limit(now: Instant, age_max: Duration) -> Option<Instant> {
    now.checked_sub(age_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Level::{Debug, Error, Fatal, Info, Warn};
    use proptest::prelude::*;

    fn bounds(policy: DropPolicy, records_max: usize, bytes_max: usize) -> QueueBounds {
        let (wake_records, wake_bytes) = (4, 1 << 20);
        QueueBounds { records_max, bytes_max, wake_records, wake_bytes, urgent: Fatal, policy }
    }

    fn push(queue: &mut Queue, level: Level, message: &str, memory_bytes: usize) -> Pushed {
        let record =
            LogRecord { level: level.into(), message: message.into(), ..LogRecord::default() };
        let at = crate::platform::now();
        let queued = Queued { record, at, memory_bytes, wire_bytes: memory_bytes, position: 0 };
        queue.push(Box::new(queued), DropReason::QueueOverflow)
    }

    fn drain(queue: &mut Queue) -> Vec<String> {
        let (mut room, mut records) = (Room { records: usize::MAX, bytes: usize::MAX }, Vec::new());
        while queue.take(&mut room, 3, &mut records) {}
        records.into_iter().map(|record| record.message).collect()
    }

    /// Pushes levels into a queue of ten and names, by number, who is left.
    fn check(policy: DropPolicy, levels: &[Level], left: &[usize]) {
        let mut queue = Queue::new(bounds(policy, 10, 1 << 20));
        for (number, level) in levels.iter().enumerate() {
            push(&mut queue, *level, &number.to_string(), 1);
        }
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        assert_eq!(drain(&mut queue), left, "{policy:?} {levels:?}");
        let dropped = (levels.len() - left.len()) as u64;
        assert_eq!(queue.dropped().get(DropReason::QueueOverflow), dropped);
        assert_eq!(queue.emitted(), levels.len() as u64);
    }

    #[test]
    fn the_lowest_level_goes_first_and_a_tenth_is_for_errors() {
        use DropPolicy::SeverityAware;
        check(SeverityAware, &[Info; 9], &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        check(SeverityAware, &[Info; 10], &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let mixed = [Info, Debug, Info, Info, Info, Info, Info, Info, Info, Warn, Error, Error];
        check(SeverityAware, &mixed, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        let mut errors_first = vec![Error; 10];
        errors_first.extend([Info, Error, Fatal]);
        check(SeverityAware, &errors_first, &[2, 3, 4, 5, 6, 7, 8, 9, 11, 12]);
    }

    #[test]
    fn the_other_policies_look_at_age_alone() {
        let levels = [Error, Info, Info, Info, Info, Info, Info, Info, Info, Info, Info, Fatal];
        check(DropPolicy::Newest, &levels, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        check(DropPolicy::Oldest, &levels, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn a_log_larger_than_the_queue_evicts_nobody() {
        let mut queue = Queue::new(bounds(DropPolicy::SeverityAware, 10, 100));
        push(&mut queue, Info, "small", 10);
        push(&mut queue, Error, "huge", 101);
        assert_eq!(drain(&mut queue), ["small"]);
        assert_eq!(queue.dropped().total(), 1);
    }

    #[test]
    fn the_sender_is_woken_at_the_first_a_full_batch_and_an_urgent_log() {
        let mut queue = Queue::new(bounds(DropPolicy::SeverityAware, 100, 1 << 20));
        let levels = [Info, Info, Info, Info, Info, Fatal, Fatal];
        let woken: Vec<bool> =
            levels.iter().map(|level| push(&mut queue, *level, "", 1).wake).collect();
        assert_eq!(woken, [true, false, false, true, false, true, false]);
        assert!(queue.take_urgent() && !queue.take_urgent());
    }

    #[test]
    fn a_closed_queue_counts_and_no_more() {
        let mut queue = Queue::new(bounds(DropPolicy::SeverityAware, 10, 100));
        queue.close();
        push(&mut queue, Info, "late", 1);
        assert_eq!((queue.len(), queue.emitted(), queue.emitted_after_close()), (0, 0, 1));
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_the_account_balances(
            policy in prop_oneof![
                Just(DropPolicy::SeverityAware), Just(DropPolicy::Newest), Just(DropPolicy::Oldest)
            ],
            steps in proptest::collection::vec((1_i32..=6, 1_usize..60, proptest::bool::ANY), 0..300),
        ) {
            let mut queue = Queue::new(bounds(policy, 20, 400));
            let mut taken = Vec::new();
            for (level, memory_bytes, takes) in steps {
                push(&mut queue, Level::try_from(level).unwrap(), "", memory_bytes);
                prop_assert!(queue.all.records <= 20 && queue.all.bytes <= 400);
                if takes {
                    queue.take(&mut Room { records: 3, bytes: 80 }, 64, &mut taken);
                }
                let accounted_for = queue.len() as u64 + queue.dropped().total() + taken.len() as u64;
                prop_assert_eq!(queue.emitted(), accounted_for);
                prop_assert_eq!(queue.len_before(u64::MAX), queue.len() as u64);
            }
        }
    }
}
