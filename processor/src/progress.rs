//! How far a processor that reads the queue of its own process has come: through which receive time it
//! has committed; and how busy any processor is. Where batches come from a broker, their consumer knows
//! how far they are.
//!
//! Everything received before the oldest batch in hand is committed; and everything at all while
//! nothing is in hand and nothing waits. But of a tenant that floods older batches may wait behind
//! others' younger ones: some seconds of its own logs come later than this says, and rules look at
//! them again.

use std::{collections::BTreeMap, time::Duration};

use logweir_core::timestamp::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

/// What is in hand and what was committed. Shared by pipeline and heartbeat.
pub(crate) struct Progress(Mutex<State>);

struct State {
    /// Batches in hand by receive time.
    in_hand: BTreeMap<Timestamp, usize>,
    /// The newest receive time that was settled.
    settled_at: Option<Timestamp>,
    /// Whether the pipeline waits for a batch, so that none waits for it.
    is_idle: bool,
    busy: Duration,
    asked: Instant,
}

impl Progress {
    /// Of a pipeline that has taken nothing yet.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            in_hand: BTreeMap::new(),
            settled_at: None,
            is_idle: false,
            busy: Duration::ZERO,
            asked: Instant::now(),
        }))
    }

    /// A batch that was received then is in hand.
    pub(crate) fn taken(&self, received_at: Timestamp) {
        *self.0.lock().in_hand.entry(received_at).or_default() += 1;
    }

    /// Batches are committed, or given back; then somebody takes them again.
    pub(crate) fn settled(&self, received: &[Timestamp], committed: bool) {
        let mut state = self.0.lock();
        for &received_at in received {
            if let Some(count) = state.in_hand.get_mut(&received_at) {
                *count -= 1;
                if *count == 0 {
                    state.in_hand.remove(&received_at);
                }
            }
            // What was given back moves nothing on: it is still to be committed, by whoever.
            if committed {
                state.settled_at = state.settled_at.max(Some(received_at));
            }
        }
    }

    pub(crate) fn set_idle(&self, is_idle: bool) {
        self.0.lock().is_idle = is_idle;
    }

    pub(crate) fn add_busy(&self, busy: Duration) {
        self.0.lock().busy += busy;
    }

    /// The share of time spent writing since the last call, 0 to 1.
    pub(crate) fn take_load(&self) -> f64 {
        let mut state = self.0.lock();
        let busy = std::mem::take(&mut state.busy);
        let elapsed = std::mem::replace(&mut state.asked, Instant::now()).elapsed();
        // A write that began before the last call is counted when it ends, so one interval may hold
        // more than its own length.
        if elapsed.is_zero() { 0.0 } else { busy.div_duration_f64(elapsed).min(1.0) }
    }

    /// Through which receive time all is committed, if that is known.
    pub(crate) fn committed(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.0.lock();
        // Silence must not hold back the watermark: with nothing in hand and nothing waiting all is
        // committed up to now, though the last log is hours old.
        match state.in_hand.first_key_value() {
            Some((oldest, _)) => Some(*oldest),
            None if state.is_idle => Some(now),
            None => state.settled_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_nanos(1_000);

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_unix_nanos(nanos)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_in_hand_holds_the_watermark() {
        let progress = Progress::new();
        assert_eq!(progress.committed(NOW), None, "nothing is known yet");
        for nanos in [20, 10, 10] {
            progress.taken(at(nanos));
        }
        assert_eq!(progress.committed(NOW), Some(at(10)));
        progress.settled(&[at(10)], true);
        assert_eq!(progress.committed(NOW), Some(at(10)));
        progress.settled(&[at(10)], false);
        assert_eq!(progress.committed(NOW), Some(at(20)));
        progress.settled(&[at(20)], true);
        assert_eq!(progress.committed(NOW), Some(at(20)), "more may wait");
        progress.set_idle(true);
        assert_eq!(progress.committed(NOW), Some(NOW));
    }

    #[tokio::test(start_paused = true)]
    async fn the_load_is_the_share_of_time_since_the_last_look() {
        let progress = Progress::new();
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
