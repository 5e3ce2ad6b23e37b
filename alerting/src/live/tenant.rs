//! The alerting of one tenant, while this process leads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use logweir_core::{identity::Tenant, runtime::tasks::Fate};
use logweir_incident::{
    action::Action,
    channel::{BreakerState, ChannelConfig, ChannelState},
    incident::{Incident, IncidentState},
    notification::{Notification, NotificationKind},
    time::nanos,
};
use logweir_storage::{AlertChanges, NewDelivery, StorageError, WaitingAction};
use metrics::counter;
use parking_lot::Mutex;
use tokio::{
    sync::{Mutex as Turn, Notify},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Leader, Parts, evidence,
    outbox::{StoredOutbox, changed, new_delivery, rerouted},
    settings::{Routes, Settings},
    watch,
};
use crate::{
    channel::build,
    deliver::Worker,
    engine::Engine,
    keeper::{HISTORY, Keeper},
    outbox::{Change, DELIVERIES_MAX},
};

/// How often they are committed while all that changes is until when they hold.
const KEEP_NANOS: i64 = 30_000_000_000;
/// How long all the evidence of one evaluation may take to find.
const EVIDENCE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct TenantAlerts {
    tenant: Tenant,
    epoch: i64,
    engine: Engine,
    settings: Settings,
    routes: Arc<Routes>,
    workers: BTreeMap<String, Running>,
    /// Of each channel: of two workers the later waits until the earlier has recorded its answer.
    turns: BTreeMap<String, Arc<Turn<()>>>,
    /// What is not committed yet.
    unsaved: Unsaved,
    /// Stored incidents that are no more than pending.
    pending: BTreeSet<String>,
    /// When the open incidents were last committed.
    kept_unix_nano: i64,
    /// Whether something may wait for a channel that is gone.
    has_orphans: bool,
}

#[derive(Default)]
struct Unsaved {
    incidents: BTreeSet<String>,
    notifications: Vec<Notification>,
    channels: Vec<(String, ChannelState)>,
    actions_done: Vec<i64>,
}

impl Unsaved {
    fn is_empty(&self) -> bool {
        self.incidents.is_empty()
            && self.notifications.is_empty()
            && self.channels.is_empty()
            && self.actions_done.is_empty()
    }
}

/// A channel's worker.
struct Running {
    config: ChannelConfig,
    routes: Arc<Routes>,
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

impl TenantAlerts {
    /// Takes up what was committed, and learns what is normal.
    pub(super) async fn load(
        parts: &Parts,
        tenant: &Tenant,
        epoch: i64,
        settings: &Settings,
    ) -> Result<Self, StorageError> {
        let now = (parts.clock)();
        let since = now.saturating_sub(nanos(HISTORY));
        let stored = parts.alerts.tracked_incidents(tenant, since).await?;
        let pending = stored.iter().map(|of| &of.incident).filter(|of| is_pending(of));
        let pending = pending.map(|incident| incident.id.clone()).collect();
        let keeper = Keeper::restore(stored, now);
        let mut engine = Engine::new(tenant.as_str(), settings.rules.clone(), keeper);
        let past = (&*parts.read, &*parts.alerts);
        watch::replay(past, tenant, &mut engine, now).await?;
        Ok(Self {
            tenant: tenant.clone(),
            epoch,
            engine,
            routes: Arc::new(Routes::of(settings)),
            settings: settings.clone(),
            turns: BTreeMap::new(),
            workers: BTreeMap::new(),
            unsaved: Unsaved::default(),
            pending,
            kept_unix_nano: i64::MIN,
            has_orphans: true,
        })
    }

    /// Has engine and workers follow what is set.
    pub(super) fn take_settings(
        &mut self,
        leader: &Leader,
        settings: Settings,
        stop: &CancellationToken,
    ) {
        if settings.rules != self.settings.rules {
            self.engine.set_rules(settings.rules.clone());
        }
        self.engine.set_suppression(settings.suppression.clone());
        self.engine.set_reminders(settings.reminders.clone());
        let routes = Routes::of(&settings);
        if routes != *self.routes {
            self.has_orphans = true;
            self.routes = Arc::new(routes);
        }
        let routes = Arc::clone(&self.routes);
        self.workers.retain(|name, running| {
            settings.channels.get(name) == Some(&running.config)
                && Arc::ptr_eq(&running.routes, &routes)
                && !running.has_ended()
        });
        self.turns.retain(|name, turn| {
            settings.channels.contains_key(name) || Arc::strong_count(turn) > 1
        });
        for (name, config) in &settings.channels {
            if !self.workers.contains_key(name) {
                let running = self.employ(leader, config, stop.child_token());
                self.workers.insert(name.clone(), running);
            }
        }
        self.settings = settings;
    }

    fn employ(
        &mut self,
        leader: &Leader,
        config: &ChannelConfig,
        stop: CancellationToken,
    ) -> Running {
        let wake = Arc::new(Notify::new());
        let parts = &leader.parts;
        let alive = match build(config, &leader.network, &parts.clock) {
            Ok(channel) => {
                let outbox = StoredOutbox {
                    storage: Arc::clone(&parts.alerts),
                    tenant: self.tenant.clone(),
                    epoch: self.epoch,
                    routes: Arc::clone(&self.routes),
                    clock: Arc::clone(&parts.clock),
                    loaded: Mutex::new(HashMap::new()),
                };
                let worker = Worker {
                    name: config.name.clone(),
                    channel,
                    outbox: Arc::new(outbox),
                    clock: Arc::clone(&parts.clock),
                    wake: Arc::clone(&wake),
                    random: rand::random::<f64>,
                };
                let turn = Arc::clone(self.turns.entry(config.name.clone()).or_default());
                let (alive, stop) = (Arc::new(()), stop.clone());
                let lives = Arc::downgrade(&alive);
                let work = async move {
                    let _alive = alive;
                    let _turn = turn.lock().await;
                    worker.run(stop).await;
                };
                let work = leader.workers.track_future(work);
                leader.tasks.spawn("alerting channel", Fate::MayEnd, work);
                Some(lives)
            }
            Err(why) => {
                let channel = &config.name;
                warn!(tenant = %self.tenant, channel, "nobody can be told through it: {why}");
                None
            }
        };
        Running { config: config.clone(), routes: Arc::clone(&self.routes), wake, stop, alive }
    }

    /// One evaluation; false if this process leads no longer.
    pub(super) async fn evaluate(
        &mut self,
        parts: &Parts,
        actions: Vec<WaitingAction>,
    ) -> Result<bool, StorageError> {
        let now = (parts.clock)();
        if self.has_orphans && !self.reroute(parts, now).await? {
            return Ok(false);
        }
        watch::observe(parts, &self.tenant, &mut self.engine, now).await?;
        for WaitingAction { action_id, action, .. } in actions {
            if self.unsaved.actions_done.contains(&action_id) {
                continue;
            }
            if let Some(action) = action {
                self.act(parts, &action, now).await?;
            }
            self.unsaved.actions_done.push(action_id);
        }
        let until = Instant::now() + EVIDENCE_TIMEOUT;
        for request in self.engine.evaluate(now) {
            info!(tenant = %self.tenant, incident = request.incident_id, service = request.service,
                  kind = request.kind, "an incident fires");
            counter!("logweir_alerting_incidents_total").increment(1);
            // An incident is told without evidence rather than late.
            match timeout_at(until, evidence::find(parts, &self.tenant, &request)).await {
                Ok(Ok(found)) => self.engine.attach(&request.incident_id, found),
                Ok(Err(error)) => warn!("an incident has no evidence: {error}"),
                Err(_) => warn!("an incident has no evidence: it was not found in time"),
            }
        }
        let refused = [
            ("services", self.engine.services_refused()),
            ("incidents", self.engine.incidents_refused()),
        ];
        for (what, count) in refused {
            let tenant = self.tenant.to_string();
            counter!("logweir_alerting_refused_total", "tenant" => tenant, "what" => what)
                .absolute(count);
        }
        self.unsaved.notifications.extend(self.engine.tell(now));
        self.unsaved.incidents.extend(self.engine.take_touched());
        self.commit(parts, now).await
    }

    /// What is to be told, by channel: an end wherever something was told of its incident, or in place
    /// of channels that are gone.
    async fn deliveries(&self, parts: &Parts, now: i64) -> Result<Vec<NewDelivery>, StorageError> {
        let mut new: Vec<NewDelivery> = Vec::new();
        for notification in &self.unsaved.notifications {
            let mut channels: BTreeSet<String> =
                self.routes.told(&notification.channels).into_iter().map(str::to_owned).collect();
            if notification.kind == NotificationKind::Resolved {
                let id = &notification.incident.id;
                let stored = parts.alerts.deliveries_of(&self.tenant, id).await?;
                let stored = stored.into_iter().map(|of| of.channel);
                let just_now = new.iter().filter(|of| of.notification.incident.id == *id);
                let told: BTreeSet<String> =
                    stored.chain(just_now.map(|of| of.channel.clone())).collect();
                let is_there = |name: &&String| self.settings.channels.contains_key(*name);
                let there: BTreeSet<String> = told.iter().filter(is_there).cloned().collect();
                if told.is_empty() || !there.is_empty() {
                    channels = there;
                }
            }
            new.extend(channels.iter().map(|name| new_delivery(name, notification.clone(), now)));
        }
        Ok(new)
    }

    /// What waits for a channel that is gone is told through those that are there, and says so; false
    /// if this process leads no longer.
    async fn reroute(&mut self, parts: &Parts, now: i64) -> Result<bool, StorageError> {
        if self.settings.channels.is_empty() {
            // It waits for the next channel that is set.
            return Ok(true);
        }
        for channel in parts.alerts.waiting_channels(&self.tenant).await? {
            while !self.settings.channels.contains_key(&channel) {
                let waiting =
                    parts.alerts.waiting_deliveries(&self.tenant, &channel, DELIVERIES_MAX).await?;
                if waiting.is_empty() {
                    break;
                }
                let changes = rerouted(&channel, &waiting, &self.routes, now);
                let alerts = &parts.alerts;
                if alerts.commit_alerts(self.epoch, &self.tenant, changes).await?.is_none() {
                    return Ok(false);
                }
                warn!(tenant = %self.tenant, channel, count = waiting.len(),
                      "the channel is gone: what waited for it is told elsewhere");
            }
        }
        self.has_orphans = false;
        Ok(true)
    }

    async fn act(&mut self, parts: &Parts, action: &Action, now: i64) -> Result<(), StorageError> {
        let keeper = self.engine.keeper_mut();
        let is_done = match action {
            Action::Acknowledge { incident_id, actor } => {
                keeper.acknowledge(incident_id, actor, now)
            }
            Action::Unacknowledge { incident_id, actor } => {
                keeper.unacknowledge(incident_id, actor, now)
            }
            Action::Resolve { incident_id, actor, text } => {
                keeper.resolve(incident_id, actor, text, now)
            }
            Action::Snooze { incident_id, actor, until_unix_nano } => {
                keeper.snooze(incident_id, actor, *until_unix_nano, now)
            }
            Action::Note { incident_id, actor, text } => keeper.note(incident_id, actor, text, now),
            Action::ResetChannel { channel } => {
                let mut states = parts.alerts.channel_states(&self.tenant).await?;
                let mut state = states.remove(channel).unwrap_or_default();
                if let Some(since_unix_nano) = state.breaker.down_since_unix_nano {
                    let (from, to) = (state.breaker.state, BreakerState::Closed);
                    let reason = "it was set anew, or a test of it got through".to_owned();
                    let change = Change { at_unix_nano: now, since_unix_nano, from, to, reason };
                    self.unsaved.notifications.push(changed(&self.tenant, channel, &change));
                }
                state.breaker.reset();
                self.unsaved.channels.push((channel.clone(), state));
                true
            }
        };
        if !is_done {
            info!(tenant = %self.tenant, ?action, "nothing is left to do: the incident is over");
        }
        Ok(())
    }

    async fn commit(&mut self, parts: &Parts, now: i64) -> Result<bool, StorageError> {
        let is_active = || self.engine.keeper().incidents().any(|of| of.state.is_active());
        let is_due = now.saturating_sub(self.kept_unix_nano) >= KEEP_NANOS;
        if self.unsaved.is_empty() && !(is_due && is_active()) {
            return Ok(true);
        }
        let changes = self.changes(self.deliveries(parts, now).await?, is_due);
        let pending = self.pending_after(&changes);
        let leads = parts.alerts.commit_alerts(self.epoch, &self.tenant, changes).await?.is_some();
        if leads {
            if is_due {
                self.kept_unix_nano = now;
            }
            self.pending = pending;
            self.unsaved = Unsaved::default();
            self.workers.values().for_each(|running| running.wake.notify_one());
        }
        Ok(leads)
    }

    /// What is to be stored: what changed, and from time to time also until when the open incidents
    /// hold, and what is only pending.
    fn changes(&self, deliveries: Vec<NewDelivery>, is_due: bool) -> AlertChanges {
        let keeper = self.engine.keeper();
        let mut whole = self.unsaved.incidents.clone();
        let mut tracking = Vec::new();
        for (incident, remembered) in keeper.open_tracking().filter(|_| is_due) {
            if is_pending(incident) {
                whole.insert(incident.id.clone());
            } else if !whole.contains(&incident.id) {
                tracking.push((incident.id.clone(), remembered.clone()));
            }
        }
        let is_gone = |id: &&String| keeper.get(id).is_none();
        AlertChanges {
            incidents: whole.iter().filter_map(|id| keeper.stored(id)).collect(),
            tracking,
            dropped: self.pending.iter().filter(is_gone).cloned().collect(),
            deliveries,
            updates: Vec::new(),
            channels: self.unsaved.channels.clone(),
            actions_done: self.unsaved.actions_done.clone(),
        }
    }

    /// The stored incidents that are no more than pending once these changes are stored.
    fn pending_after(&self, changes: &AlertChanges) -> BTreeSet<String> {
        let keeper = self.engine.keeper();
        let written = changes.incidents.iter().map(|of| &of.incident.id);
        let is_still = |id: &&String| keeper.get(id).is_some_and(is_pending);
        self.pending.iter().chain(written).filter(is_still).cloned().collect()
    }
}

fn is_pending(incident: &Incident) -> bool {
    incident.state == IncidentState::Pending
}
