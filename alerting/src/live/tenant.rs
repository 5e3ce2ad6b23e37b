//! The alerting of one tenant, while this process leads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use logweir_core::{
    identity::Tenant,
    runtime::tasks::{Fate, Tasks},
};
use logweir_storage::{AlertChanges, NewDelivery, StorageError, StoredIncident};
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Parts,
    action::Action,
    evidence,
    outbox::{StoredOutbox, channel_state, json, new_delivery, state_name},
    settings::{Routes, Settings},
    watch,
};
use crate::{
    channel::{ChannelConfig, Network, build},
    deliver::Worker,
    engine::Engine,
    incident::{Incident, IncidentState},
    keeper::Keeper,
};

/// The name under which the open incidents are kept.
const KEEPER: &str = "keeper";

pub(super) struct TenantAlerts {
    tenant: Tenant,
    epoch: i64,
    engine: Engine,
    settings: Settings,
    routes: Arc<Routes>,
    workers: BTreeMap<String, Running>,
    /// What is not committed yet.
    unsaved: Unsaved,
    knows_the_past: bool,
}

#[derive(Default)]
struct Unsaved {
    incidents: BTreeSet<String>,
    deliveries: Vec<NewDelivery>,
    states: Vec<(String, String)>,
    actions_done: Vec<i64>,
}

impl Unsaved {
    fn is_empty(&self) -> bool {
        self.incidents.is_empty()
            && self.deliveries.is_empty()
            && self.states.is_empty()
            && self.actions_done.is_empty()
    }
}

/// A channel's worker.
struct Running {
    config: ChannelConfig,
    routes: Arc<Routes>,
    wake: Arc<Notify>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl TenantAlerts {
    /// Takes up what was committed.
    pub(super) async fn load(
        parts: &Parts,
        tenant: &Tenant,
        epoch: i64,
    ) -> Result<Self, StorageError> {
        let states: BTreeMap<String, String> =
            parts.alerts.alert_states(tenant).await?.into_iter().collect();
        let keeper = states.get(KEEPER).map(|body| serde_json::from_str::<Keeper>(body));
        let keeper = match keeper.transpose() {
            Ok(keeper) => keeper.unwrap_or_default(),
            Err(error) => {
                warn!(%tenant, "the open incidents cannot be read, and begin anew: {error}");
                Keeper::default()
            }
        };
        let settings = Settings::of(std::iter::empty(), &[]);
        Ok(Self {
            tenant: tenant.clone(),
            epoch,
            engine: Engine::new(tenant.as_str(), settings.rules.clone(), keeper),
            routes: Arc::new(Routes::of(&settings)),
            settings,
            workers: BTreeMap::new(),
            unsaved: Unsaved::default(),
            knows_the_past: false,
        })
    }

    /// Has engine and workers follow what is set.
    pub(super) fn take_settings(
        &mut self,
        parts: &Parts,
        settings: Settings,
        network: &Network,
        tasks: &Tasks,
        stop: &CancellationToken,
    ) {
        if settings.rules != self.settings.rules {
            self.engine.set_rules(settings.rules.clone());
        }
        self.engine.set_quiet(settings.quiet.clone());
        self.engine.set_telling(settings.telling.clone());
        let routes = Routes::of(&settings);
        if routes != *self.routes {
            self.routes = Arc::new(routes);
        }
        let routes = Arc::clone(&self.routes);
        self.workers.retain(|name, running| {
            settings.channels.get(name) == Some(&running.config)
                && Arc::ptr_eq(&running.routes, &routes)
        });
        for (name, config) in &settings.channels {
            if !self.workers.contains_key(name) {
                let running = self.employ(parts, config, network, tasks, stop.child_token());
                self.workers.insert(name.clone(), running);
            }
        }
        self.settings = settings;
    }

    fn employ(
        &self,
        parts: &Parts,
        config: &ChannelConfig,
        network: &Network,
        tasks: &Tasks,
        stop: CancellationToken,
    ) -> Running {
        let wake = Arc::new(Notify::new());
        match build(config, network, &parts.clock) {
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
                tasks.spawn("alerting channel", Fate::MayEnd, worker.run(stop.clone()));
            }
            Err(why) => {
                let channel = &config.name;
                warn!(tenant = %self.tenant, channel, "nobody can be told through it: {why}");
            }
        }
        Running { config: config.clone(), routes: Arc::clone(&self.routes), wake, stop }
    }

    /// One evaluation; false if this process leads no longer.
    pub(super) async fn evaluate(
        &mut self,
        parts: &Parts,
        actions: Vec<(i64, String)>,
    ) -> Result<bool, StorageError> {
        let now = (parts.clock)();
        if !self.knows_the_past {
            watch::replay(parts, &self.tenant, &mut self.engine, now).await?;
            self.knows_the_past = true;
        }
        watch::observe(parts, &self.tenant, &mut self.engine, now).await?;
        for (id, body) in actions {
            if !self.unsaved.actions_done.contains(&id) {
                self.act(parts, &body, now).await?;
                self.unsaved.actions_done.push(id);
            }
        }
        for request in self.engine.evaluate(now) {
            info!(tenant = %self.tenant, incident = request.incident_id, service = request.service,
                  kind = request.kind, "an incident fires");
            counter!("logweir_alerting_incidents_total").increment(1);
            // An incident is told without evidence rather than late.
            match evidence::find(parts, &self.tenant, &request).await {
                Ok(found) => self.engine.attach(&request.incident_id, found),
                Err(error) => warn!("an incident has no evidence: {error}"),
            }
        }
        for notice in self.engine.tell(now) {
            for channel in self.routes.told(&notice.channels) {
                self.unsaved.deliveries.push(new_delivery(channel, notice.clone(), now));
            }
        }
        self.unsaved.incidents.extend(self.engine.take_touched());
        self.commit(parts).await
    }

    async fn act(&mut self, parts: &Parts, body: &str, now: i64) -> Result<(), StorageError> {
        let action: Action = match serde_json::from_str(body) {
            Ok(action) => action,
            Err(error) => {
                warn!(tenant = %self.tenant, "an action is not understood: {error}");
                return Ok(());
            }
        };
        let keeper = self.engine.keeper_mut();
        let is_done = match &action {
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
                let states = parts.alerts.alert_states(&self.tenant).await?.into_iter().collect();
                let mut state = channel_state(&states, channel);
                state.breaker.reset();
                self.unsaved.states.push((state_name(channel), json(&state)));
                true
            }
        };
        if !is_done {
            info!(tenant = %self.tenant, ?action, "nothing is left to do: the incident is over");
        }
        Ok(())
    }

    async fn commit(&mut self, parts: &Parts) -> Result<bool, StorageError> {
        if self.unsaved.is_empty() {
            return Ok(true);
        }
        let keeper = self.engine.keeper();
        let incidents = self.unsaved.incidents.iter().filter_map(|id| keeper.get(id));
        let mut states = self.unsaved.states.clone();
        states.push((KEEPER.to_owned(), json(keeper)));
        let changes = AlertChanges {
            incidents: incidents.map(stored).collect(),
            deliveries: self.unsaved.deliveries.clone(),
            updates: Vec::new(),
            states,
            actions_done: self.unsaved.actions_done.clone(),
        };
        let leads = parts.alerts.commit_alerts(self.epoch, &self.tenant, changes).await?.is_some();
        if leads {
            self.unsaved = Unsaved::default();
            self.workers.values().for_each(|running| running.wake.notify_one());
        }
        Ok(leads)
    }
}

fn stored(incident: &Incident) -> StoredIncident {
    let is_over = incident.state == IncidentState::Resolved;
    StoredIncident {
        incident_id: incident.id.clone(),
        state: incident.state.to_string(),
        service: incident.service.clone(),
        began_unix_nano: incident.pending_unix_nano,
        resolved_unix_nano: incident.resolved_unix_nano.filter(|_| is_over),
        body: json(incident),
    }
}
