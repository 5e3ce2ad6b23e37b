//! What has just been stored, for live tails: best effort, and it never delays a commit.
//!
//! Each tenant that is read has a feed of its own: what another stores wakes none of its readers, and
//! what these are told that they missed is their own tenant's. A reader that is too slow loses whole
//! groups, oldest first, and is told how many logs they held. Where the logs come from other
//! processes, it is also told how many were lost on the way. For the slow readers of a tenant
//! together at most [`GROUPS_MAX`] groups of about [`GROUP_BYTES_MAX`] are kept.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use logweir_core::{identity::Tenant, record::StoredLog};
use parking_lot::Mutex;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};

/// Groups of a tenant kept for readers that lag.
const GROUPS_MAX: usize = 64;
/// The same once feeds of [`LARGE_FEEDS_MAX`] tenants are read: 8 MiB each instead of 32.
const GROUPS_OF_MANY_MAX: usize = 16;
const LARGE_FEEDS_MAX: usize = 8;
/// A group is closed by the log that reaches this size; so it is larger by one log at most.
// By bytes and not by batches: 64 groups of a batch each were some hundred megabytes with large
// ones and milliseconds with small ones. So they are 32 MiB.
const GROUP_BYTES_MAX: usize = 512 << 10;

/// What is published for one tenant by one transaction, or a part of it.
#[derive(Debug, Clone)]
struct Group {
    tenant: Tenant,
    logs: Arc<[StoredLog]>,
    /// Logs of the tenant published before these.
    published_before: u64,
    /// Logs of the tenant lost on the way here before these.
    lost_before: u64,
}

/// The writing end, held by the processor; readers subscribe to it. Cheap to clone.
#[derive(Clone, Default)]
pub struct LiveFeed(Arc<Feeds>);

#[derive(Default)]
struct Feeds {
    state: Mutex<State>,
    readers: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    tenants: HashMap<Tenant, TenantFeed>,
    /// For who reads all of them.
    all: Option<broadcast::Sender<Group>>,
}

#[derive(Default)]
struct TenantFeed {
    /// None while nobody reads it.
    sender: Option<broadcast::Sender<Group>>,
    published: u64,
    lost: u64,
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub struct LiveFeedEvent {
    /// Logs in the order of their commit.
    pub logs: Arc<[StoredLog]>,
    /// Logs of the tenant passed over just before these because the reader was too slow.
    pub skipped: u64,
    /// Logs of the tenant lost on the way to this process just before these.
    pub gap: u64,
}

/// The reading end: one tenant's logs from the subscription on.
pub struct LiveFeedReader {
    tenant: Tenant,
    receiver: broadcast::Receiver<Group>,
    seen_until: u64,
    seen_lost: u64,
    // Not kept alive by its readers: once the writing end is gone they end.
    feeds: Weak<Feeds>,
}

/// All tenants' logs from the subscription on.
pub(crate) struct AllReader {
    receiver: broadcast::Receiver<Group>,
    feeds: Weak<Feeds>,
}

/// What whoever reads all tenants gets.
pub(crate) struct Shown {
    pub(crate) tenant: Tenant,
    pub(crate) logs: Arc<[StoredLog]>,
    /// Logs of the tenant published before these, whether they were received or not.
    pub(crate) published_before: u64,
}

impl LiveFeed {
    /// Whether publishing for a tenant reaches anybody; if not, its logs need not even be copied.
    pub fn is_read(&self, tenant: &Tenant) -> bool {
        let state = self.0.state.lock();
        let own = state.tenants.get(tenant).is_some_and(TenantFeed::is_read);
        own || is_read(&state.all)
    }

    /// Shows committed logs to the readers of a tenant. Called by one task, in order of commit.
    pub fn publish(&self, tenant: Tenant, logs: Vec<StoredLog>) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for log in logs {
            bytes += log.scored.record.heap_bytes();
            group.push(log);
            if bytes >= GROUP_BYTES_MAX {
                self.send(&tenant, std::mem::take(&mut group), 0);
                bytes = 0;
            }
        }
        if !group.is_empty() {
            self.send(&tenant, group, 0);
        }
    }

    /// Shows what another process stored, behind logs of the tenant that were lost on the way.
    pub(crate) fn relay(&self, tenant: &Tenant, logs: Vec<StoredLog>, lost: u64) {
        if !logs.is_empty() || lost > 0 {
            self.send(tenant, logs, lost);
        }
    }

    fn send(&self, tenant: &Tenant, logs: Vec<StoredLog>, lost: u64) {
        let mut state = self.0.state.lock();
        let State { tenants, all } = &mut *state;
        let feed = tenants.entry(tenant.clone()).or_default();
        feed.lost += lost;
        let group = Group {
            tenant: tenant.clone(),
            logs: logs.into(),
            published_before: feed.published,
            lost_before: feed.lost,
        };
        feed.published += group.logs.len() as u64;
        for sender in [&feed.sender, all].into_iter().flatten() {
            // Without readers there is nobody to tell.
            drop(sender.send(group.clone()));
        }
    }

    /// Reads what a tenant stores from now on.
    pub fn subscribe(&self, tenant: Tenant) -> LiveFeedReader {
        let mut state = self.0.state.lock();
        let groups_max =
            if state.feeds_read() < LARGE_FEEDS_MAX { GROUPS_MAX } else { GROUPS_OF_MANY_MAX };
        let feed = state.tenants.entry(tenant.clone()).or_default();
        let sender = feed.sender.get_or_insert_with(|| broadcast::channel(groups_max).0);
        let (receiver, seen_until, seen_lost) = (sender.subscribe(), feed.published, feed.lost);
        drop(state);
        self.0.readers.send_modify(|readers| *readers += 1);
        LiveFeedReader { tenant, receiver, seen_until, seen_lost, feeds: Arc::downgrade(&self.0) }
    }

    /// Reads what all tenants store from now on. Also tells how many logs of each tenant that was ever
    /// read here were published before.
    // Both in one: logs published between them would be in no count and reach no reader.
    pub(crate) fn subscribe_all(&self) -> (AllReader, Vec<(Tenant, u64)>) {
        let mut state = self.0.state.lock();
        let sender = state.all.get_or_insert_with(|| broadcast::channel(GROUPS_MAX).0);
        let receiver = sender.subscribe();
        let tenants = state.tenants.iter();
        let published = tenants.map(|(tenant, feed)| (tenant.clone(), feed.published)).collect();
        drop(state);
        self.0.readers.send_modify(|readers| *readers += 1);
        (AllReader { receiver, feeds: Arc::downgrade(&self.0) }, published)
    }

    /// How many readers there are.
    pub(crate) fn readers(&self) -> watch::Receiver<usize> {
        self.0.readers.subscribe()
    }
}

impl State {
    fn feeds_read(&self) -> usize {
        self.tenants.values().filter(|feed| feed.is_read()).count()
    }
}

impl TenantFeed {
    fn is_read(&self) -> bool {
        is_read(&self.sender)
    }
}

// Asked of the sender: of two readers that leave at once, each may see the other still there.
fn is_read(sender: &Option<broadcast::Sender<Group>>) -> bool {
    sender.as_ref().is_some_and(|sender| sender.receiver_count() > 0)
}

/// Ends a feed with its last reader, who is just leaving.
fn end_unread(sender: &mut Option<broadcast::Sender<Group>>) {
    sender.take_if(|sender| sender.receiver_count() <= 1);
}

impl LiveFeedReader {
    /// The next logs of the tenant, or none of them and what was lost; none once the feed is gone.
    /// May be cancelled.
    pub async fn next(&mut self) -> Option<LiveFeedEvent> {
        let group = next_group(&mut self.receiver).await?;
        // Groups come in the order of their counts, so what is between two of them was missed.
        let skipped = group.published_before - self.seen_until;
        let gap = group.lost_before - self.seen_lost;
        self.seen_until = group.published_before + group.logs.len() as u64;
        self.seen_lost = group.lost_before;
        Some(LiveFeedEvent { logs: group.logs, skipped, gap })
    }
}

impl AllReader {
    /// The next logs of any tenant. May be cancelled.
    pub(crate) async fn next(&mut self) -> Option<Shown> {
        let Group { tenant, logs, published_before, .. } = next_group(&mut self.receiver).await?;
        Some(Shown { tenant, logs, published_before })
    }
}

/// None once the feed is gone.
async fn next_group(receiver: &mut broadcast::Receiver<Group>) -> Option<Group> {
    loop {
        match receiver.recv().await {
            Ok(group) => return Some(group),
            Err(RecvError::Closed) => return None,
            // The channel counts groups; how many logs were missed, the next group tells.
            Err(RecvError::Lagged(_)) => {}
        }
    }
}

impl Drop for LiveFeedReader {
    fn drop(&mut self) {
        let Some(feeds) = self.feeds.upgrade() else { return };
        if let Some(feed) = feeds.state.lock().tenants.get_mut(&self.tenant) {
            end_unread(&mut feed.sender);
        }
        feeds.readers.send_modify(|readers| *readers -= 1);
    }
}

impl Drop for AllReader {
    fn drop(&mut self) {
        let Some(feeds) = self.feeds.upgrade() else { return };
        end_unread(&mut feeds.state.lock().all);
        feeds.readers.send_modify(|readers| *readers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use logweir_core::{
        identity::{BatchId, LogId, Service, TemplateId},
        record::{Level, Record, ScoredRecord},
        timestamp::Timestamp,
    };

    use super::*;

    fn other() -> Tenant {
        Tenant::new("other").unwrap()
    }

    fn log(index: u32) -> StoredLog {
        StoredLog {
            id: LogId { time: Timestamp::from_unix_nanos(1), batch_id: BatchId([1; 16]), index },
            received_at: Timestamp::from_unix_nanos(1),
            service: Service::new("a").unwrap(),
            instance: String::new(),
            environment: String::new(),
            scored: ScoredRecord {
                record: Record { index, ..Record::default() },
                level: Level::Info,
                template_id: TemplateId(1),
                anomaly_score: 0.0,
                is_anomaly: false,
                anomaly_reasons: Vec::new(),
            },
        }
    }

    #[tokio::test]
    async fn a_reader_sees_its_own_tenant_from_now_on() {
        let feed = LiveFeed::default();
        assert!(!feed.is_read(&Tenant::default()));
        feed.publish(Tenant::default(), vec![log(0)]);
        let mut reader = feed.subscribe(Tenant::default());
        assert!(feed.is_read(&Tenant::default()) && !feed.is_read(&other()));
        feed.publish(other(), vec![log(1)]);
        feed.publish(Tenant::default(), vec![log(2)]);
        drop(feed);
        let event = reader.next().await.unwrap();
        assert_eq!((event.logs[0].id.index, event.skipped), (2, 0));
        assert!(reader.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_logs_it_missed() {
        let feed = LiveFeed::default();
        let mut reader = feed.subscribe(Tenant::default());
        let groups = GROUPS_MAX as u32 + 10;
        for index in 0..groups {
            feed.publish(Tenant::default(), vec![log(index), log(index)]);
        }
        let (mut seen, mut skipped) = (0, 0);
        while seen + skipped < u64::from(groups) * 2 {
            let event = reader.next().await.unwrap();
            seen += event.logs.len() as u64;
            skipped += event.skipped;
        }
        assert_eq!((seen, skipped), (GROUPS_MAX as u64 * 2, 20));
    }

    #[tokio::test]
    async fn what_others_store_is_not_counted_as_missed() {
        let feed = LiveFeed::default();
        let (mut reader, _other) = (feed.subscribe(Tenant::default()), feed.subscribe(other()));
        for index in 0..GROUPS_MAX as u32 * 2 {
            feed.publish(other(), vec![log(index), log(index)]);
            feed.publish(Tenant::default(), vec![log(index)]);
        }
        let first = reader.next().await.unwrap();
        assert_eq!((first.logs[0].id.index, first.skipped), (GROUPS_MAX as u32, GROUPS_MAX as u64));
    }

    #[tokio::test]
    async fn a_loss_on_the_way_is_told_once_with_logs_or_without() {
        let feed = LiveFeed::default();
        let mut reader = feed.subscribe(Tenant::default());
        feed.relay(&other(), vec![log(1)], 5);
        feed.relay(&Tenant::default(), vec![log(2)], 2);
        feed.relay(&Tenant::default(), Vec::new(), 0);
        feed.relay(&Tenant::default(), Vec::new(), 3);
        let event = reader.next().await.unwrap();
        assert_eq!((event.logs.len(), event.gap, event.skipped), (1, 2, 0));
        let event = reader.next().await.unwrap();
        assert_eq!((event.logs.len(), event.gap), (0, 3));
        // Who comes later is told of nothing before.
        let mut late = feed.subscribe(Tenant::default());
        feed.relay(&Tenant::default(), vec![log(3)], 0);
        assert_eq!(late.next().await.unwrap().gap, 0);
    }

    #[tokio::test]
    async fn who_reads_all_learns_of_each_tenant_how_many_came_before() {
        let feed = LiveFeed::default();
        feed.publish(other(), vec![log(0)]);
        let (mut all, published) = feed.subscribe_all();
        assert_eq!(published, [(other(), 1)]);
        feed.publish(other(), vec![log(1), log(2)]);
        feed.publish(Tenant::default(), vec![log(3)]);
        feed.publish(other(), vec![log(4)]);
        let mut before = Vec::new();
        for _ in 0..3 {
            before.push(all.next().await.unwrap().published_before);
        }
        assert_eq!(before, [1, 0, 3]);
    }

    #[test]
    fn readers_are_counted_and_an_unread_feed_ends() {
        let feed = LiveFeed::default();
        let readers = feed.readers();
        let (first, second) =
            (feed.subscribe(Tenant::default()), feed.subscribe(Tenant::default()));
        let (all, _) = feed.subscribe_all();
        assert_eq!(*readers.borrow(), 3);
        drop((first, all));
        assert_eq!((*readers.borrow(), feed.is_read(&Tenant::default())), (1, true));
        assert!(!feed.is_read(&other()));
        drop(second);
        assert_eq!((*readers.borrow(), feed.is_read(&Tenant::default())), (0, false));
    }

    #[tokio::test]
    async fn large_transactions_come_in_parts() {
        let feed = LiveFeed::default();
        let mut reader = feed.subscribe(Tenant::default());
        let large = |index| {
            let mut large = log(index);
            large.scored.record.message = "x".repeat(64 << 10);
            large
        };
        feed.publish(Tenant::default(), (0..100).map(large).collect());
        drop(feed);
        let mut indices = Vec::new();
        while let Some(event) = reader.next().await {
            assert!(event.logs.len() <= GROUP_BYTES_MAX / (64 << 10));
            indices.extend(event.logs.iter().map(|log| log.id.index));
        }
        assert_eq!(indices, (0..100).collect::<Vec<_>>());
    }
}
