//! Says every two seconds that this process lives and how it is doing, and takes its share of the
//! queue's partitions: all living processors know of each other by these heartbeats and come to the
//! same answer on their own.
//!
//! A processor that dies is missed after six seconds, and its partitions are taken over with the
//! next heartbeat of the others, so within ten. One that ends in order says so, and is not waited
//! for. Two that read the same partition for a while do no harm: storage takes each batch once.
//!
//! While storage cannot be asked, everybody keeps what he has; and once it can, nobody judges by
//! the heartbeats until all have had time for one, since until then all but the first seem dead.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use logweir_core::{
    runtime::{
        clock::Clock,
        identity::{BEAT_EVERY, DEAD_AFTER, ProcessIdentity},
    },
    timestamp::Timestamp,
};
use logweir_queue::{Committed, Partitions, owned};
use logweir_storage::{Administer, Heartbeat, LiveProcess, StorageError};
use metrics::{counter, gauge};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::progress::Progress;

const NANOS_PER_SECOND: f64 = 1e9;

/// What a heartbeat is made of.
pub(crate) struct Membership {
    pub(crate) identity: ProcessIdentity,
    pub(crate) administer: Arc<dyn Administer>,
    /// What to share with the other processors; none: this one reads everything.
    pub(crate) partitions: Option<Partitions>,
    /// How many partitions the queue has.
    pub(crate) partition_count: u16,
    pub(crate) progress: Arc<Progress>,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

impl Membership {
    pub(crate) async fn run(self) {
        let mut ticks = interval(BEAT_EVERY);
        // After a pause (a paused machine, a slow answer) one heartbeat is enough; by default all
        // that were missed would be sent at once, by every process together.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trust = Trust::default();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.live(&mut trust).await {
                counter!("logweir_heartbeats_failed_total").increment(1);
                if trust.missed() {
                    warn!(%error, "storage does not know that this process lives");
                }
            }
        }
        if let Err(error) = self.administer.forget_process(&self.identity.process_id).await {
            warn!(%error, "the other processors will wait before they take over");
        }
    }

    /// Says how this process is doing, looks who else lives, and takes its share; a new share is
    /// said at once.
    async fn live(&self, trust: &mut Trust) -> Result<(), StorageError> {
        // First itself, then the others: two processors that start at once then see each other, one
        // of them at the latest with its next heartbeat.
        self.administer.beat(self.heartbeat()).await?;
        let living = self.administer.live_processes(DEAD_AFTER).await?;
        if trust.heard(Instant::now()) && self.take_share(&living) {
            self.administer.beat(self.heartbeat()).await?;
        }
        Ok(())
    }

    fn heartbeat(&self) -> Heartbeat {
        let partitions = self.assigned();
        let now = (self.clock)();
        let Committed { regular, bulk, bulk_tenants } = self.committed(&partitions, now);
        for partition in &partitions {
            let of = |known: &BTreeMap<u16, Option<Timestamp>>| known.get(partition).copied();
            report_lag(*partition, of(&regular).into_iter().chain(of(&bulk)).flatten().min(), now);
        }
        // The least of all: rules are evaluated up to it, and a rule over all services needs every
        // partition to be that far. Nothing committed yet: nothing from before the start is known to be.
        let least = |known: BTreeMap<u16, Option<Timestamp>>| {
            known.into_values().map(|at| at.unwrap_or(self.identity.started_at)).min()
        };
        let regular_committed_through = least(regular);
        let committed_through = regular_committed_through.into_iter().chain(least(bulk)).min();
        let load = self.progress.take_load();
        gauge!("logweir_processor_load").set(load);
        gauge!("logweir_processor_partitions").set(partitions.len() as f64);
        if let Some(committed) = committed_through {
            gauge!("logweir_processor_committed_unix_seconds")
                .set(committed.as_unix_nanos() as f64 / NANOS_PER_SECOND);
        }
        Heartbeat {
            process_id: self.identity.process_id.clone(),
            kind: self.identity.kind.to_owned(),
            host: self.identity.host.clone(),
            version: self.identity.version().to_owned(),
            started_at: self.identity.started_at,
            partitions: partitions.into_iter().collect(),
            committed_through,
            regular_committed_through,
            bulk_tenants,
            load,
        }
    }

    fn committed(&self, partitions: &BTreeSet<u16>, now: Timestamp) -> Committed {
        if let Some(of_broker) = &self.partitions {
            return of_broker.committed();
        }
        let known = self.progress.committed(now);
        let regular = partitions.iter().map(|partition| (*partition, known)).collect();
        Committed { regular, bulk: BTreeMap::new(), bulk_tenants: Vec::new() }
    }

    fn assigned(&self) -> BTreeSet<u16> {
        match &self.partitions {
            Some(partitions) => partitions.assigned(),
            None => (0..self.partition_count).collect(),
        }
    }

    /// Reads this processor's share of the partitions from now on; whether it changed.
    fn take_share(&self, living: &[LiveProcess]) -> bool {
        let Some(partitions) = &self.partitions else { return false };
        let share = share(&self.identity, living, self.partition_count);
        let before = partitions.assigned();
        if share == before {
            return false;
        }
        info!(partitions = ?share, "the partitions of this processor changed");
        // A gauge keeps its last value for ever: the lag of a partition that another reads now
        // would be shown by both.
        for given_up in before.difference(&share) {
            report_lag(*given_up, None, Timestamp::EPOCH);
        }
        counter!("logweir_processor_reassignments_total").increment(1);
        partitions.assign(share);
        true
    }
}

/// The partitions of one processor among those that live, by rendezvous hashing. It always counts
/// itself: its own heartbeat may be older than [`DEAD_AFTER`] after a pause, though it lives.
fn share(identity: &ProcessIdentity, living: &[LiveProcess], partitions: u16) -> BTreeSet<u16> {
    let of_kind = living.iter().filter(|process| process.heartbeat.kind == identity.kind);
    let mut ids: BTreeSet<String> =
        of_kind.map(|process| process.heartbeat.process_id.clone()).collect();
    ids.insert(identity.process_id.clone());
    owned(&identity.process_id, &ids, partitions)
}

fn report_lag(partition: u16, committed_through: Option<Timestamp>, now: Timestamp) {
    let behind = committed_through.map_or(Duration::ZERO, |committed| now.since(committed));
    gauge!("logweir_processor_lag_seconds", "partition" => partition.to_string())
        .set(behind.as_secs_f64());
}

/// Whether the heartbeats of others tell who lives.
#[derive(Default)]
struct Trust {
    /// Whether storage could not be asked.
    missing: bool,
    /// Since when it answers again.
    since: Option<Instant>,
}

impl Trust {
    /// Storage cannot be asked: whether that is new.
    fn missed(&mut self) -> bool {
        let is_new = !self.missing || self.since.is_some();
        (self.missing, self.since) = (true, None);
        is_new
    }

    /// Storage answered: whether the answer can be trusted.
    fn heard(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        // After an outage all heartbeats are old, and the first processor to get through would take
        // every partition. As long as a process may be silent, nobody's share changes.
        let settling = if self.missing { DEAD_AFTER } else { Duration::ZERO };
        let trusted = now.duration_since(since) >= settling;
        if trusted {
            self.missing = false;
        }
        trusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(process_id: &str) -> ProcessIdentity {
        let (process_id, host) = (process_id.to_owned(), "h".to_owned());
        ProcessIdentity {
            process_id,
            kind: "processor",
            host,
            started_at: Timestamp::from_unix_nanos(1),
        }
    }

    fn alive(process_id: &str, kind: &str) -> LiveProcess {
        let heartbeat = Heartbeat {
            process_id: process_id.into(),
            kind: kind.into(),
            host: "h".into(),
            version: "1".into(),
            started_at: Timestamp::from_unix_nanos(1),
            partitions: Vec::new(),
            committed_through: None,
            regular_committed_through: None,
            bulk_tenants: Vec::new(),
            load: 0.0,
        };
        LiveProcess { heartbeat, age: Duration::ZERO }
    }

    #[test]
    fn processors_share_the_partitions_and_servers_have_none() {
        let living = [alive("a", "processor"), alive("b", "processor"), alive("s", "server")];
        let shares = ["a", "b"].map(|id| share(&identity(id), &living, 4));
        assert_eq!(shares[0].len(), 2);
        assert_eq!(&shares[0] | &shares[1], (0..4).collect());
        let alone = share(&identity("c"), &[], 4);
        assert_eq!(alone, (0..4).collect(), "who asks lives");
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_outage_all_have_time_for_a_heartbeat() {
        let mut trust = Trust::default();
        assert!(trust.heard(Instant::now()), "at the start the others beat already");
        assert!(trust.missed() && !trust.missed(), "it is told once");
        let back = Instant::now();
        assert!(!trust.heard(back));
        assert!(!trust.heard(back + BEAT_EVERY));
        trust.missed();
        let back = back + BEAT_EVERY * 2;
        assert!(!trust.heard(back));
        assert!(trust.heard(back + DEAD_AFTER));
        assert!(trust.heard(back + DEAD_AFTER + BEAT_EVERY));
    }
}
