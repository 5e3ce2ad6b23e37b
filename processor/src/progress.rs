//! How far a processor has come: through which receive time it has committed, and how busy it is.
//!
//! Of each partition that it reads, everything received before the oldest batch in hand is
//! committed; and everything at all while nothing is in hand and nothing waits. As several servers
//! stamp batches by their own clocks and partitions are only roughly in their order, the watermark
//! is as good as the servers' clocks agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use logweir_core::{
    identity::{Service, Tenant},
    record::Batch,
    timestamp::Timestamp,
};
use logweir_queue::partition_of;
use parking_lot::Mutex;
use tokio::time::Instant;

/// What is in hand and what was committed. Shared by pipeline and heartbeat.
pub(crate) struct Progress {
    partitions: u16,
    state: Mutex<State>,
}

struct State {
    by_partition: BTreeMap<u16, Partition>,
    /// Whether the pipeline waits for a batch, so that none is fetched and not taken.
    is_idle: bool,
    busy: Duration,
    asked: Instant,
}

#[derive(Default)]
struct Partition {
    /// Batches in hand by receive time.
    in_hand: BTreeMap<Timestamp, usize>,
    /// The newest receive time that was settled.
    settled_at: Option<Timestamp>,
}

/// A batch in hand.
#[derive(Debug, Clone)]
pub(crate) struct InHand {
    partition: u16,
    received_at: Timestamp,
}

impl Progress {
    /// Of a queue with so many partitions.
    pub(crate) fn new(partitions: u16) -> Self {
        let (by_partition, busy, asked) = (BTreeMap::new(), Duration::ZERO, Instant::now());
        let state = Mutex::new(State { by_partition, is_idle: false, busy, asked });
        Self { partitions, state }
    }

    /// Where a batch counts: its partition and receive time, which are needed after its content was
    /// handed on.
    pub(crate) fn place(
        &self,
        tenant: &Tenant,
        service: &Service,
        received_at: Timestamp,
    ) -> InHand {
        InHand { partition: partition_of(tenant, service, self.partitions), received_at }
    }

    pub(crate) fn taken(&self, batch: &Batch) {
        let place = self.place(&batch.tenant, &batch.resource.service, batch.received_at);
        let mut state = self.state.lock();
        let partition = state.by_partition.entry(place.partition).or_default();
        *partition.in_hand.entry(place.received_at).or_default() += 1;
    }

    /// Batches are committed, or given back; then somebody takes them again.
    pub(crate) fn settled(&self, places: &[InHand], committed: bool) {
        let mut state = self.state.lock();
        for place in places {
            let partition = state.by_partition.entry(place.partition).or_default();
            if let Some(count) = partition.in_hand.get_mut(&place.received_at) {
                *count -= 1;
                if *count == 0 {
                    partition.in_hand.remove(&place.received_at);
                }
            }
            // What was given back moves nothing on: it is still to be committed, by whoever.
            if committed {
                let newest = &mut partition.settled_at;
                *newest = (*newest).max(Some(place.received_at));
            }
        }
    }

    pub(crate) fn set_idle(&self, is_idle: bool) {
        self.state.lock().is_idle = is_idle;
    }

    pub(crate) fn add_busy(&self, busy: Duration) {
        self.state.lock().busy += busy;
    }

    /// The share of time spent writing since the last call, 0 to 1.
    pub(crate) fn take_load(&self) -> f64 {
        let mut state = self.state.lock();
        let busy = std::mem::take(&mut state.busy);
        let elapsed = std::mem::replace(&mut state.asked, Instant::now()).elapsed();
        // A write that began before the last call is counted when it ends, so one interval may hold
        // more than its own length.
        if elapsed.is_zero() { 0.0 } else { busy.div_duration_f64(elapsed).min(1.0) }
    }

    /// Through which receive time a partition is committed, if that is known; `waiting` batches of
    /// it were not fetched yet.
    pub(crate) fn committed(
        &self,
        partition: u16,
        waiting: u32,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let state = self.state.lock();
        let known = state.by_partition.get(&partition);
        let oldest = known.and_then(|known| known.in_hand.first_key_value());
        // A silent partition must not hold back the watermark of the installation: with nothing in
        // hand and nothing waiting it is committed up to now, though its last log is hours old.
        match oldest {
            Some((oldest, _)) => Some(*oldest),
            None if state.is_idle && waiting == 0 => Some(now),
            None => known.and_then(|known| known.settled_at),
        }
    }

    /// Forgets what was read of partitions that others read now, but for what is in hand.
    pub(crate) fn keep(&self, partitions: &BTreeSet<u16>) {
        let keeps =
            |at: &u16, known: &mut Partition| partitions.contains(at) || !known.in_hand.is_empty();
        self.state.lock().by_partition.retain(keeps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_nanos(1_000);

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_unix_nanos(nanos)
    }

    fn place(received_at: Timestamp) -> InHand {
        InHand { partition: 0, received_at }
    }

    fn take(progress: &Progress, received_at: Timestamp) -> InHand {
        let mut state = progress.state.lock();
        let partition = state.by_partition.entry(0).or_default();
        *partition.in_hand.entry(received_at).or_default() += 1;
        place(received_at)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_in_hand_holds_the_watermark() {
        let progress = Progress::new(1);
        assert_eq!(progress.committed(0, 0, NOW), None, "nothing is known yet");
        let (late, early, twin) =
            (take(&progress, at(20)), take(&progress, at(10)), take(&progress, at(10)));
        assert_eq!(progress.committed(0, 0, NOW), Some(at(10)));
        progress.settled(&[early], true);
        assert_eq!(progress.committed(0, 0, NOW), Some(at(10)));
        progress.settled(&[twin], false);
        assert_eq!(progress.committed(0, 0, NOW), Some(at(20)));
        progress.settled(&[late], true);
        assert_eq!(progress.committed(0, 0, NOW), Some(at(20)), "more may have been fetched");
        progress.set_idle(true);
        assert_eq!(progress.committed(0, 3, NOW), Some(at(20)), "three wait");
        assert_eq!(progress.committed(0, 0, NOW), Some(NOW));
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_read_is_forgotten_but_for_what_is_in_hand() {
        let progress = Progress::new(1);
        let in_hand = take(&progress, at(10));
        progress.keep(&BTreeSet::new());
        assert_eq!(progress.committed(0, 0, NOW), Some(at(10)));
        progress.settled(&[in_hand], true);
        progress.keep(&BTreeSet::from([0]));
        assert_eq!(progress.committed(0, 0, NOW), Some(at(10)));
        progress.keep(&BTreeSet::new());
        assert_eq!(progress.committed(0, 0, NOW), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_load_is_the_share_of_time_since_the_last_look() {
        let progress = Progress::new(1);
        progress.add_busy(Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(progress.take_load(), 0.25);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(progress.take_load(), 0.0);
        progress.add_busy(Duration::from_secs(9));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(progress.take_load(), 1.0);
    }
}
