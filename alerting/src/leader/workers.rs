//! The workers of a tenant's channels, while this process leads.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use logweir_core::{
    identity::Tenant,
    runtime::tasks::{Fate, Tasks},
};
use logweir_incident::channel::ChannelConfig;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    channel::{Network, build},
    dependencies::Dependencies,
    notify::{outbox::storage::StoredOutbox, route::Routes, worker::Worker},
};

/// What every worker is started with, whatever its tenant and channel.
#[derive(Clone)]
pub(super) struct WorkerStarter {
    pub(super) dependencies: Dependencies,
    /// How channels are reached.
    pub(super) network: Network,
    pub(super) tasks: Tasks,
    /// Knows the workers that still send, of this leader's time or an earlier one.
    pub(super) running: TaskTracker,
}

/// The workers of all channels of a tenant.
pub(super) struct ChannelWorkers {
    tenant: Tenant,
    /// The leader's epoch, under which they write.
    epoch: i64,
    /// By the channel's name.
    running: BTreeMap<String, Running>,
    /// Of each channel: of two workers the later waits until the earlier has recorded its answer.
    turns: BTreeMap<String, Arc<AsyncMutex<()>>>,
}

/// A channel's worker.
struct Running {
    config: ChannelConfig,
    routes: Arc<Routes>,
    /// Notified when something was written to its outbox.
    wake: Arc<Notify>,
    stop: CancellationToken,
    /// As long as it works; none if the channel could not be made.
    alive: Option<Weak<()>>,
}

impl Running {
    /// One that has ended by itself is replaced.
    fn has_ended(&self) -> bool {
        self.alive.as_ref().is_some_and(|alive| alive.strong_count() == 0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl ChannelWorkers {
    /// Of a tenant whose channels have no worker yet.
    pub(super) const fn new(tenant: Tenant, epoch: i64) -> Self {
        Self { tenant, epoch, running: BTreeMap::new(), turns: BTreeMap::new() }
    }

    /// Tells all of them that something was written to an outbox.
    pub(super) fn wake(&self) {
        self.running.values().for_each(|running| running.wake.notify_one());
    }

    /// Stops the workers of channels that have changed or are gone, and starts those that are
    /// missing; they end with `stop`.
    pub(super) fn follow(
        &mut self,
        starter: &WorkerStarter,
        channels: &BTreeMap<String, ChannelConfig>,
        routes: &Arc<Routes>,
        stop: &CancellationToken,
    ) {
        // Dropping one stops it. A worker knows its settings from its start, so a change means a
        // new one.
        self.running.retain(|name, running| {
            channels.get(name) == Some(&running.config)
                && Arc::ptr_eq(&running.routes, routes)
                && !running.has_ended()
        });
        // A worker that was stopped may still be recording its answer.
        self.turns.retain(|name, turn| channels.contains_key(name) || Arc::strong_count(turn) > 1);
        for (name, config) in channels {
            if !self.running.contains_key(name) {
                let running = self.start(starter, config, routes, stop.child_token());
                self.running.insert(name.clone(), running);
            }
        }
    }

    fn start(
        &mut self,
        starter: &WorkerStarter,
        config: &ChannelConfig,
        routes: &Arc<Routes>,
        stop: CancellationToken,
    ) -> Running {
        let wake = Arc::new(Notify::new());
        let alive = match self.worker(starter, config, routes, &wake) {
            Ok(worker) => Some(self.spawn(starter, worker, stop.clone())),
            // Kept as running all the same, so that it is tried and logged again only after a
            // change.
            Err(why) => {
                let channel = &config.name;
                warn!(tenant = %self.tenant, channel, "nobody can be told through it: {why}");
                None
            }
        };
        Running { config: config.clone(), routes: Arc::clone(routes), wake, stop, alive }
    }

    fn worker(
        &self,
        starter: &WorkerStarter,
        config: &ChannelConfig,
        routes: &Arc<Routes>,
        wake: &Arc<Notify>,
    ) -> Result<Worker, String> {
        let dependencies = &starter.dependencies;
        let channel = build(config, &starter.network, &dependencies.clock)?;
        let outbox = StoredOutbox {
            storage: Arc::clone(&dependencies.alerts),
            tenant: self.tenant.clone(),
            epoch: self.epoch,
            routes: Arc::clone(routes),
            clock: Arc::clone(&dependencies.clock),
            loaded: Mutex::new(HashMap::new()),
        };
        Ok(Worker {
            name: config.name.clone(),
            channel,
            outbox: Arc::new(outbox),
            clock: Arc::clone(&dependencies.clock),
            wake: Arc::clone(wake),
            random: rand::random::<f64>,
        })
    }

    /// Has a worker work once it is its turn; what is returned lives as long as it works.
    fn spawn(
        &mut self,
        starter: &WorkerStarter,
        worker: Worker,
        stop: CancellationToken,
    ) -> Weak<()> {
        let turn = Arc::clone(self.turns.entry(worker.name.clone()).or_default());
        let alive = Arc::new(());
        let lives = Arc::downgrade(&alive);
        let work = async move {
            // Both are held to the end, however it comes: `has_ended` looks at the first, the next
            // worker waits for the second.
            let _alive = alive;
            let _turn = turn.lock().await;
            worker.run(stop).await;
        };
        let work = starter.running.track_future(work);
        starter.tasks.spawn("alerting channel", Fate::MayEnd, work);
        lives
    }
}
