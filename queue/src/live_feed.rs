//! What has just been stored, for live tails: best effort, and it never delays a commit.
//!
//! A reader that is too slow loses whole groups, oldest first, and is told how many logs they held.
//! Where the logs come from other processes, it is also told how many were lost on the way. For all
//! slow readers together at most [`GROUPS_MAX`] groups of about [`GROUP_BYTES_MAX`] are kept.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use logweir_core::{identity::Tenant, record::StoredLog};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};

/// Groups kept for readers that lag.
const GROUPS_MAX: usize = 64;
/// A group is closed by the log that reaches this size; so it is larger by one log at most.
// By bytes and not by batches: 64 groups of a batch each were some hundred megabytes with large
// ones and milliseconds with small ones. So they are 32 MiB.
const GROUP_BYTES_MAX: usize = 512 << 10;

/// What is published for one tenant by one transaction, or a part of it.
#[derive(Debug, Clone)]
struct Group {
    /// None tells all of them what was lost.
    tenant: Option<Tenant>,
    logs: Arc<[StoredLog]>,
    /// Logs published before these, of all tenants.
    published_before: u64,
    /// Logs lost on the way here before these, of all tenants.
    lost_before: u64,
}

/// The writing end, held by the processor; readers subscribe to it. Cheap to clone.
#[derive(Clone)]
pub struct LiveFeed {
    sender: broadcast::Sender<Group>,
    published: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    readers: Arc<watch::Sender<usize>>,
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub struct LiveFeedEvent {
    /// Logs in the order of their commit.
    pub logs: Arc<[StoredLog]>,
    /// Logs of any tenant passed over just before these because the reader was too slow.
    pub skipped: u64,
    /// Logs of any tenant lost on the way to this process just before these.
    pub gap: u64,
}

/// The reading end: one tenant's logs from the subscription on.
pub struct LiveFeedReader {
    tenant: Tenant,
    groups: Groups,
}

/// All tenants' logs from the subscription on.
pub(crate) struct Groups {
    receiver: broadcast::Receiver<Group>,
    readers: Arc<watch::Sender<usize>>,
    lagged: bool,
    seen_until: u64,
    seen_lost: u64,
    /// What was missed and not told so far.
    skipped: u64,
    gap: u64,
}

impl Default for LiveFeed {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(GROUPS_MAX);
        Self { sender, published: Arc::default(), lost: Arc::default(), readers: Arc::default() }
    }
}

impl LiveFeed {
    /// Whether publishing reaches anybody; if not, the logs need not even be copied.
    pub fn has_readers(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Shows committed logs to the readers of a tenant. Called by one task, in order of commit.
    pub fn publish(&self, tenant: Tenant, logs: Vec<StoredLog>) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for log in logs {
            bytes += log.scored.record.heap_bytes();
            group.push(log);
            if bytes >= GROUP_BYTES_MAX {
                self.send(Some(tenant.clone()), std::mem::take(&mut group));
                bytes = 0;
            }
        }
        if !group.is_empty() {
            self.send(Some(tenant), group);
        }
    }

    /// Shows what another process stored, behind logs that were lost on the way.
    pub(crate) fn relay(&self, tenant: Tenant, logs: Vec<StoredLog>, lost: u64) {
        self.lost.fetch_add(lost, Ordering::Relaxed);
        if !logs.is_empty() {
            self.send(Some(tenant), logs);
        } else if lost > 0 {
            self.send(None, logs);
        }
    }

    fn send(&self, tenant: Option<Tenant>, logs: Vec<StoredLog>) {
        let count = logs.len() as u64;
        let published_before = self.published.fetch_add(count, Ordering::Relaxed);
        let lost_before = self.lost.load(Ordering::Relaxed);
        let group = Group { tenant, logs: logs.into(), published_before, lost_before };
        // Without readers there is nobody to tell.
        drop(self.sender.send(group));
    }

    /// Reads what a tenant stores from now on.
    pub fn subscribe(&self, tenant: Tenant) -> LiveFeedReader {
        LiveFeedReader { tenant, groups: self.subscribe_all() }
    }

    /// Reads what all tenants store from now on.
    pub(crate) fn subscribe_all(&self) -> Groups {
        // Subscribed before the counts are read: a group sent in between is received, and what it
        // says of earlier ones is subtracted without going below zero.
        let receiver = self.sender.subscribe();
        self.readers.send_modify(|readers| *readers += 1);
        Groups {
            receiver,
            readers: Arc::clone(&self.readers),
            lagged: false,
            seen_until: self.published.load(Ordering::Relaxed),
            seen_lost: self.lost.load(Ordering::Relaxed),
            skipped: 0,
            gap: 0,
        }
    }

    /// How many readers there are.
    pub(crate) fn readers(&self) -> watch::Receiver<usize> {
        self.readers.subscribe()
    }
}

impl Groups {
    /// The next logs of any tenant, or of none if there is only a loss to tell; none once the feed
    /// is gone. May be cancelled.
    async fn next(&mut self) -> Option<(Option<Tenant>, Arc<[StoredLog]>)> {
        loop {
            match self.receiver.recv().await {
                Err(RecvError::Closed) => return None,
                // The channel counts groups; how many logs were missed, the next group tells.
                Err(RecvError::Lagged(_)) => self.lagged = true,
                Ok(group) => {
                    if std::mem::take(&mut self.lagged) {
                        self.skipped += group.published_before.saturating_sub(self.seen_until);
                    }
                    self.gap += group.lost_before.saturating_sub(self.seen_lost);
                    self.seen_lost = group.lost_before;
                    self.seen_until = group.published_before + group.logs.len() as u64;
                    return Some((group.tenant, group.logs));
                }
            }
        }
    }

    /// The next logs with their tenant. May be cancelled.
    pub(crate) async fn next_of_any(&mut self) -> Option<(Tenant, LiveFeedEvent)> {
        loop {
            if let (Some(tenant), logs) = self.next().await? {
                return Some((tenant, self.event(logs)));
            }
        }
    }

    fn event(&mut self, logs: Arc<[StoredLog]>) -> LiveFeedEvent {
        let (skipped, gap) = (std::mem::take(&mut self.skipped), std::mem::take(&mut self.gap));
        LiveFeedEvent { logs, skipped, gap }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.readers.send_modify(|readers| *readers -= 1);
    }
}

impl LiveFeedReader {
    /// The next logs of the tenant, or none of them and what was lost; none once the feed is gone.
    /// May be cancelled.
    pub async fn next(&mut self) -> Option<LiveFeedEvent> {
        loop {
            match self.groups.next().await? {
                (Some(tenant), _) if tenant != self.tenant => {}
                (_, logs) => return Some(self.groups.event(logs)),
            }
        }
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
        assert!(!feed.has_readers());
        feed.publish(Tenant::default(), vec![log(0)]);
        let mut reader = feed.subscribe(Tenant::default());
        assert!(feed.has_readers());
        feed.publish(Tenant::new("other").unwrap(), vec![log(1)]);
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
    async fn a_loss_on_the_way_is_told_once_with_logs_or_without() {
        let feed = LiveFeed::default();
        let mut reader = feed.subscribe(Tenant::default());
        feed.relay(Tenant::new("other").unwrap(), vec![log(1)], 5);
        feed.relay(Tenant::default(), vec![log(2)], 2);
        feed.relay(Tenant::default(), Vec::new(), 0);
        feed.relay(Tenant::default(), Vec::new(), 3);
        let event = reader.next().await.unwrap();
        assert_eq!((event.logs.len(), event.gap, event.skipped), (1, 7, 0));
        let event = reader.next().await.unwrap();
        assert_eq!((event.logs.len(), event.gap), (0, 3));
        // Who comes later is told of nothing before.
        let mut late = feed.subscribe(Tenant::default());
        feed.relay(Tenant::default(), vec![log(3)], 0);
        assert_eq!(late.next().await.unwrap().gap, 0);
    }

    #[test]
    fn readers_are_counted() {
        let feed = LiveFeed::default();
        let readers = feed.readers();
        let (first, second) = (feed.subscribe(Tenant::default()), feed.subscribe_all());
        assert_eq!(*readers.borrow(), 2);
        drop((first, second));
        assert_eq!((*readers.borrow(), feed.has_readers()), (0, false));
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
