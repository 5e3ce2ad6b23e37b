//! Takes batches from the queue, those that come close together as one group.
//!
//! A batch that was handed out before and never settled may be what ended its processor, or may
//! only have been fetched along with that. So from its [`SUSPECT_FROM`]th time on it is taken
//! alone, and what becomes of it then decides: see [`crate::suspect`].

use std::{sync::Arc, time::Duration};

use logweir_core::{identity::Tenant, record::Batch};
use logweir_queue::{Consumer, Delivery, Settlement};
use tokio::time::{Instant, timeout_at};

use crate::{config::ProcessorConfig, progress::Progress};

// A restart or a lost connection hands everything that was fetched out again, once or twice without
// any guilt of the batch; and batches one by one drain several times slower than groups.
/// How often a batch was handed out before when it is first taken alone.
pub(crate) const SUSPECT_FROM: u32 = 3;

/// Logs of several tenants within this time: who sends once in a while waits for no large group.
const SEVERAL_WITHIN: Duration = Duration::from_secs(10);
// In one process a batch that comes waits for the group that is being scored, for the one that is being
// written, and for its own. Smaller ones cost throughput, for each is a transaction.
/// While several tenants send, a group closes at this part of its bounds, …
const SEVERAL_PART: usize = 10;
/// … or once it takes this long to be scored, or to be written, by what logs took lately: rejected logs
/// and new patterns take several times what others do.
const SEVERAL_TIME: Duration = Duration::from_millis(10);
/// Fewer rows tell little, and a group is not made smaller.
const PACE_ROWS_MIN: usize = 500;

/// Forms groups.
pub(crate) struct Intake {
    consumer: Box<dyn Consumer>,
    progress: Arc<Progress>,
    rows_max: usize,
    bytes_max: usize,
    age_max: Duration,
    /// Whether senders wait until their batches are stored. Where the broker has answered them
    /// already, small groups would gain them nothing.
    is_awaited: bool,
    senders: Senders,
    pace: Pace,
    /// What came behind the last group and had no place in it: it begins the next one.
    held: Option<Delivery>,
}

/// What is written in one transaction.
pub(crate) struct Group {
    pub(crate) batches: Vec<Batch>,
    pub(crate) settlements: Vec<Settlement>,
    /// Whether it is one batch that may end who processes it.
    pub(crate) is_suspect: bool,
    /// When its first batch came.
    pub(crate) taken: Instant,
    pub(crate) size: Size,
}

/// How much is in a group, or in a batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Size {
    /// Rejected logs are written too, as dead letters.
    pub(crate) rows: usize,
    bytes: usize,
}

impl Size {
    fn of(batch: &Batch) -> Self {
        Self { rows: batch.records.len() + batch.rejected.len(), bytes: batch.heap_bytes() }
    }

    const fn and(self, more: Self) -> Self {
        Self { rows: self.rows + more.rows, bytes: self.bytes + more.bytes }
    }

    /// Whether it is less in both.
    const fn is_below(self, bounds: Self) -> bool {
        self.rows < bounds.rows && self.bytes < bounds.bytes
    }

    /// Whether it is more in neither.
    const fn is_within(self, bounds: Self) -> bool {
        self.rows <= bounds.rows && self.bytes <= bounds.bytes
    }
}

impl Intake {
    pub(crate) fn new(
        config: &ProcessorConfig,
        consumer: Box<dyn Consumer>,
        progress: Arc<Progress>,
        is_awaited: bool,
    ) -> Self {
        Self {
            is_awaited,
            consumer,
            progress,
            rows_max: config.group_rows_max,
            bytes_max: config.group_bytes_max,
            age_max: config.group_age(),
            senders: Senders::default(),
            pace: Pace::default(),
            held: None,
        }
    }

    /// The next group: the first batch that comes, and those that come soon after it. Within its bounds,
    /// unless one batch alone is larger: a small one of somebody who waits for it does not wait for a
    /// large one of another as well.
    pub(crate) async fn take(&mut self) -> Option<Group> {
        let first = match self.held.take() {
            Some(held) => held,
            None => self.first().await?,
        };
        let mut group = Group::new(is_suspect(&first));
        let size = Size::of(first.batch());
        self.add(&mut group, first, size);
        let deadline = group.taken + self.age_max;
        while !group.is_suspect {
            let bounds = self.bounds(&group);
            if !group.size.is_below(bounds) {
                break;
            }
            // What is there already is taken without a timer: under load thousands of small batches
            // a second would arm one each.
            let next = match self.consumer.try_receive() {
                Some(delivery) => Some(delivery),
                None => timeout_at(deadline, self.consumer.receive()).await.ok().flatten(),
            };
            let Some(next) = next else { break };
            let size = Size::of(next.batch());
            if is_suspect(&next) || !group.size.and(size).is_within(bounds) {
                self.held = Some(next);
                break;
            }
            self.add(&mut group, next, size);
        }
        Some(group)
    }

    async fn first(&mut self) -> Option<Delivery> {
        if let Some(delivery) = self.consumer.try_receive() {
            return Some(delivery);
        }
        // Idle only while nothing was there: the heartbeat then says that everything received until
        // now is committed, and rules about silent services can be evaluated.
        self.progress.set_idle(true);
        let received = self.consumer.receive().await;
        self.progress.set_idle(false);
        received
    }

    /// At what size a group is full.
    fn bounds(&self, group: &Group) -> Size {
        let is_shared = self.is_awaited && self.senders.are_several(group.taken);
        if !is_shared {
            return Size { rows: self.rows_max, bytes: self.bytes_max };
        }
        let rows_in_time = self.pace.rows_within(SEVERAL_TIME);
        Size {
            rows: rows_in_time.min(self.rows_max.div_ceil(SEVERAL_PART)),
            bytes: self.bytes_max.div_ceil(SEVERAL_PART),
        }
    }

    /// How long a group took to be scored, or to be written.
    pub(crate) fn note_pace(&mut self, stage: Stage, rows: usize, took: Duration) {
        self.pace.note(stage, rows, took);
    }

    fn add(&mut self, group: &mut Group, delivery: Delivery, size: Size) {
        let (batch, settlement) = delivery.into_parts();
        self.senders.note(&batch.tenant, group.taken);
        self.progress.taken(batch.received_at);
        group.size = group.size.and(size);
        group.batches.push(batch);
        group.settlements.push(settlement);
    }
}

/// What a group goes through.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    Scoring,
    Writing,
}

/// How long groups take lately in each stage.
#[derive(Default)]
struct Pace([StagePace; 2]);

/// Times in seconds.
struct StagePace {
    /// What a group takes whatever is in it, as of a commit: the least that any took. Smaller groups would
    /// not take less of it.
    fixed: f64,
    /// What a row takes beside that.
    row: f64,
}

impl Default for StagePace {
    fn default() -> Self {
        Self { fixed: f64::INFINITY, row: 0.0 }
    }
}

impl Pace {
    fn note(&mut self, stage: Stage, rows: usize, took: Duration) {
        let (of_stage, took) = (&mut self.0[stage as usize], took.as_secs_f64());
        of_stage.fixed = of_stage.fixed.min(took);
        if rows >= PACE_ROWS_MIN {
            // It rises at once and falls over a few groups: where logs of both kinds come, what is dear
            // must not follow what was cheap.
            let (row, last) = (&mut of_stage.row, (took - of_stage.fixed) / rows as f64);
            *row = last.max(*row + (last - *row) / 4.0);
        }
    }

    /// Rows that take no longer than this in the slower stage.
    fn rows_within(&self, time: Duration) -> usize {
        let slower = self.0[0].row.max(self.0[1].row);
        ((time.as_secs_f64() / slower) as usize).max(PACE_ROWS_MIN)
    }
}

/// Whether batches came of several tenants lately.
#[derive(Default)]
struct Senders {
    /// Whose batch came last.
    last: Option<Tenant>,
    /// When a batch came of another tenant than the one before it.
    changed: Option<Instant>,
}

impl Senders {
    fn note(&mut self, tenant: &Tenant, now: Instant) {
        if self.last.as_ref() == Some(tenant) {
            return;
        }
        if self.last.replace(tenant.clone()).is_some() {
            self.changed = Some(now);
        }
    }

    fn are_several(&self, now: Instant) -> bool {
        self.changed.is_some_and(|at| now.saturating_duration_since(at) <= SEVERAL_WITHIN)
    }
}

impl Group {
    fn new(is_suspect: bool) -> Self {
        let (batches, settlements) = (Vec::new(), Vec::new());
        Self { batches, settlements, is_suspect, taken: Instant::now(), size: Size::default() }
    }
}

fn is_suspect(delivery: &Delivery) -> bool {
    delivery.delivery_count() >= SUSPECT_FROM
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::pending};

    use async_trait::async_trait;
    use logweir_core::{
        identity::{BatchId, Service, Tenant},
        record::{Record, Resource},
        timestamp::Timestamp,
    };
    use logweir_queue::Receipt;

    use super::*;

    /// Hands out batches: of a tenant, with so many logs, handed out so many times before.
    struct Scripted(VecDeque<(&'static str, usize, u32)>);

    struct Unsettled;

    impl Receipt for Unsettled {
        fn acknowledge(self: Box<Self>) {}

        fn requeue(self: Box<Self>, _: String, _: Duration) {}
    }

    #[async_trait]
    impl Consumer for Scripted {
        async fn receive(&mut self) -> Option<Delivery> {
            match self.try_receive() {
                Some(delivery) => Some(delivery),
                None => pending().await,
            }
        }

        fn try_receive(&mut self) -> Option<Delivery> {
            let (tenant, logs, times) = self.0.pop_front()?;
            let batch = Batch {
                tenant: Tenant::new(tenant).unwrap(),
                batch_id: BatchId([1; 16]),
                checksum: 1,
                received_at: Timestamp::from_unix_nanos(1),
                producer: None,
                resource: Resource::of(Service::new("a").unwrap()),
                records: vec![Record::default(); logs],
                rejected: Vec::new(),
            };
            Some(Delivery::new(batch, Box::new(Unsettled)).with_delivery_count(times))
        }
    }

    #[test]
    fn several_tenants_are_noted_for_a_while() {
        let (mut senders, begin) = (Senders::default(), Instant::now());
        let (a, b) = (Tenant::new("a").unwrap(), Tenant::new("b").unwrap());
        let mut note = |tenant: &Tenant, seconds| {
            let now = begin + Duration::from_secs(seconds);
            senders.note(tenant, now);
            senders.are_several(now)
        };
        assert!(!note(&a, 0) && !note(&a, 1));
        assert!(note(&b, 2) && note(&b, 12));
        assert!(!note(&b, 13), "the other is silent");
        assert!(note(&a, 60));
    }

    #[test]
    fn a_group_is_as_large_as_the_slower_stage_takes_in_time() {
        let (mut pace, time) = (Pace::default(), Duration::from_millis(20));
        assert!(pace.rows_within(time) > 1_000_000, "nothing is known yet");
        let commit = Duration::from_millis(12);
        for _ in 0..40 {
            pace.note(Stage::Scoring, 1, Duration::ZERO);
            pace.note(Stage::Scoring, 1_000, time / 4);
            pace.note(Stage::Writing, 50, commit);
            pace.note(Stage::Writing, 1_000, commit + time);
        }
        assert!((990..=1_010).contains(&pace.rows_within(time)), "{}", pace.rows_within(time));
        pace.note(Stage::Scoring, 1_000, Duration::from_secs(1));
        assert_eq!(pace.rows_within(time), PACE_ROWS_MIN, "once is enough");
        for _ in 0..40 {
            pace.note(Stage::Scoring, 1_000, time / 4);
        }
        assert!(pace.rows_within(time) > 900, "and is forgotten");
    }

    async fn groups(batches: &[(&'static str, usize, u32)], count: usize) -> Vec<(usize, bool)> {
        let consumer = Box::new(Scripted(batches.iter().copied().collect()));
        let progress = Arc::new(Progress::new());
        let mut intake = Intake::new(&ProcessorConfig::default(), consumer, progress, true);
        let mut groups = Vec::new();
        for _ in 0..count {
            let group = intake.take().await.unwrap();
            groups.push((group.batches.len(), group.is_suspect));
        }
        groups
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_ended_a_processor_is_taken_alone() {
        let batches = [0, 2, 3, 9, 0, 4].map(|times| ("a", 1, times));
        let groups = groups(&batches, 5).await;
        assert_eq!(groups, [(2, false), (1, true), (1, true), (1, false), (1, true)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_batch_of_one_does_not_wait_for_a_large_one_of_another() {
        let (small, large) = (("a", 50, 0), ("b", 5_000, 0));
        let sent = [small, large, small, large, small, small, large];
        let counts = groups(&sent, 5).await.into_iter().map(|(batches, _)| batches);
        assert_eq!(
            counts.collect::<Vec<_>>(),
            [2, 1, 1, 2, 1],
            "the first is not known to be shared"
        );
        let of_one = sent.map(|(_, logs, _)| ("a", logs, 0));
        assert_eq!(groups(&of_one, 1).await, [(7, false)], "who sends alone waits for its own");
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_is_within_its_bounds() {
        let sent = [("a", 19_999, 0), ("a", 1, 0), ("a", 19_999, 0), ("a", 2, 0), ("a", 30_000, 0)];
        let alone = (1, false);
        assert_eq!(groups(&sent, 4).await, [(2, false), alone, alone, alone]);
    }
}
