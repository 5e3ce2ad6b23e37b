//! Evaluates one tenant while this process leads: what was seen, what people asked for, what is
//! told, and the one commit of it all.

use std::{collections::BTreeSet, panic::resume_unwind, sync::Arc, time::Duration};

use logweir_core::{identity::Tenant, timestamp::Timestamp};
use logweir_incident::{
    action::Action,
    channel::{BreakerState, ChannelState},
    incident::{Evidence, Incident, IncidentState},
    notification::Notification,
};
use logweir_storage::{AlertChanges, NewDelivery, StorageError, WaitingAction};
use metrics::counter;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    task::{JoinError, spawn_blocking},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    settings::Settings,
    workers::{ChannelWorkers, WorkerStarter},
};
use crate::{
    dependencies::Dependencies,
    incident::{HISTORY, Incidents},
    notify::{
        channel_change::channel_changed,
        outbox::{Change, DELIVERIES_MAX, new_delivery::rerouted},
        pipeline::Pipeline,
        route::Routes,
    },
    observe::{self, evidence, matches::FilterTurns},
    rule::{
        engine::{Engine, Evaluation, EvidenceRequest},
        observations::Observations,
    },
};

/// How often open incidents are committed while all that changes is until when they hold: who takes
/// over has that much less to evaluate again than the time that such a commit saves.
const COMMIT_OPEN_EVERY: Duration = Duration::from_secs(30);
/// How long all the evidence of one evaluation may take to find.
const EVIDENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Rules, incidents and channels of a tenant.
pub(super) struct TenantEvaluator {
    tenant: Tenant,
    /// The leader's epoch, under which all is committed.
    epoch: i64,
    /// Locked for as long as an evaluation computes, which is on another thread.
    engine: Arc<Mutex<Engine>>,
    filter_turns: FilterTurns,
    settings: Settings,
    routes: Arc<Routes>,
    workers: ChannelWorkers,
    /// What is not committed yet.
    unsaved: Unsaved,
    /// The ids of stored incidents that are no more than pending.
    pending: BTreeSet<String>,
    /// When the open incidents were last committed.
    open_committed_at: Timestamp,
    /// Whether something may wait for a channel that is gone.
    has_orphans: bool,
    /// Services and incidents for which there was no room, as far as the metrics have them.
    refused_told: [u64; 2],
}

/// What the next commit is to store. It grows while commits fail.
#[derive(Default)]
struct Unsaved {
    /// Ids of incidents that have changed.
    incidents: BTreeSet<String>,
    notifications: Vec<Notification>,
    /// States of channels' destinations, by the channel's name.
    channels: Vec<(String, ChannelState)>,
    /// Ids of actions that were taken account of.
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

impl TenantEvaluator {
    /// Takes up what was committed, and learns from the last day what is expected.
    pub(super) async fn load(
        dependencies: &Dependencies,
        tenant: &Tenant,
        epoch: i64,
        settings: &Settings,
    ) -> Result<Self, StorageError> {
        // The incidents of a day, resolved ones too: how often a series fired says what is its
        // nature.
        let now = (dependencies.clock)();
        let since = now - HISTORY;
        let stored = dependencies.alerts.tracked_incidents(tenant, since).await?;
        let pending = stored.iter().map(|of| &of.incident).filter(|of| is_pending(of));
        let pending = pending.map(|incident| incident.id.clone()).collect();
        let incidents = Incidents::restore(stored, now);
        let mut engine = Engine::new(tenant.as_str(), settings.rules.clone(), incidents);
        let past = (&*dependencies.read, &*dependencies.alerts);
        observe::learn_past(past, tenant, &mut engine, now).await?;
        Ok(Self {
            tenant: tenant.clone(),
            epoch,
            engine: Arc::new(Mutex::new(engine)),
            filter_turns: FilterTurns::default(),
            routes: Arc::new(Routes::of(&settings.channels)),
            settings: settings.clone(),
            workers: ChannelWorkers::new(tenant.clone(), epoch),
            unsaved: Unsaved::default(),
            pending,
            open_committed_at: Timestamp::MIN,
            has_orphans: true,
            refused_told: [0; 2],
        })
    }

    /// Has rules, routes and workers follow what is set.
    pub(super) fn take_settings(
        &mut self,
        starter: &WorkerStarter,
        settings: Settings,
        stop: &CancellationToken,
    ) {
        // Only then: to set rules throws away what the engine derived from them.
        if settings.rules != self.settings.rules {
            self.engine.lock().set_rules(settings.rules.clone());
        }
        let routes = Routes::of(&settings.channels);
        // A new `Arc` is what has the workers start anew.
        if routes != *self.routes {
            self.has_orphans = true;
            self.routes = Arc::new(routes);
        }
        self.workers.follow(starter, &settings.channels, &self.routes, stop);
        self.settings = settings;
    }

    /// One evaluation; false if this process leads no longer.
    pub(super) async fn evaluate(
        &mut self,
        dependencies: &Dependencies,
        actions: Vec<WaitingAction>,
    ) -> Result<bool, StorageError> {
        let now = (dependencies.clock)();
        if self.has_orphans && !self.reroute(dependencies, now).await? {
            return Ok(false);
        }
        // Before the actions: where storage does not answer nothing has changed yet.
        let mut turns = self.filter_turns.clone();
        let seen =
            observe::observe(dependencies, &self.tenant, &self.engine, &mut turns, now).await?;
        self.take_actions(dependencies, actions, now).await?;
        let find = evidence_finder(dependencies, &self.tenant);
        let evaluation = evaluate_on_thread(&self.engine, now, seen, find).await;
        // Only now: what was looked at in vain is looked at again.
        self.filter_turns = turns;
        self.count_refused(&evaluation);
        let pipeline = Pipeline {
            tenant: &self.tenant,
            engine: &self.engine,
            policy: &self.settings.policy,
            routes: &self.routes,
            alerts: &*dependencies.alerts,
        };
        let deliveries = pipeline.run(&mut self.unsaved.notifications, now).await?;
        self.commit(dependencies, deliveries, now).await
    }

    /// Over all tenants: the metrics need no token, and a tenant's name there would tell anybody who
    /// is there and how they do.
    fn count_refused(&mut self, evaluation: &Evaluation) {
        let refused = [
            ("services", evaluation.services_refused),
            ("incidents", evaluation.incidents_refused),
        ];
        for ((what, count), told) in refused.into_iter().zip(&mut self.refused_told) {
            counter!("logweir_alerting_refused_total", "what" => what)
                .increment(count.saturating_sub(*told));
            *told = count;
        }
    }

    /// What waits for a channel that is gone is told through those that are there, and says so;
    /// false if this process leads no longer.
    async fn reroute(
        &mut self,
        dependencies: &Dependencies,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        if self.settings.channels.is_empty() {
            // It waits for the next channel that is set.
            return Ok(true);
        }
        for channel in dependencies.alerts.waiting_channels(&self.tenant).await? {
            // In portions: thousands may wait for a channel that was down for long.
            while !self.settings.channels.contains_key(&channel) {
                let waiting = dependencies
                    .alerts
                    .waiting_deliveries(&self.tenant, &channel, DELIVERIES_MAX)
                    .await?;
                if waiting.is_empty() {
                    break;
                }
                let changes = rerouted(&channel, &waiting, &self.routes, now);
                let alerts = &dependencies.alerts;
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

    /// Takes account of what people asked for, each once however often the commit of it fails.
    async fn take_actions(
        &mut self,
        dependencies: &Dependencies,
        actions: Vec<WaitingAction>,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        for WaitingAction { action_id, action, .. } in actions {
            // It is listed until the commit that marks it as done.
            if self.unsaved.actions_done.contains(&action_id) {
                continue;
            }
            match action {
                Some(Action::ResetChannel { channel }) => {
                    self.reset_channel(dependencies, &channel, now).await?;
                }
                Some(action) => self.act(&action, now),
                // This version does not understand it.
                None => {}
            }
            self.unsaved.actions_done.push(action_id);
        }
        Ok(())
    }

    /// What people do with an incident.
    fn act(&self, action: &Action, now: Timestamp) {
        let mut engine = self.engine.lock();
        let incidents = engine.incidents_mut();
        let is_done = match action {
            Action::Acknowledge { incident_id, actor } => {
                incidents.acknowledge(incident_id, actor, now)
            }
            Action::Unacknowledge { incident_id, actor } => {
                incidents.unacknowledge(incident_id, actor, now)
            }
            Action::Resolve { incident_id, actor, text } => {
                incidents.resolve(incident_id, actor, text, now)
            }
            Action::Snooze { incident_id, actor, until } => {
                incidents.snooze(incident_id, actor, *until, now)
            }
            Action::Note { incident_id, actor, text } => {
                incidents.note(incident_id, actor, text, now)
            }
            Action::ResetChannel { .. } => true,
        };
        if !is_done {
            info!(tenant = %self.tenant, ?action, "nothing is left to do: the incident is over");
        }
    }

    /// A channel's breaker begins anew, and others are told that the channel is called again.
    async fn reset_channel(
        &mut self,
        dependencies: &Dependencies,
        channel: &str,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let mut states = dependencies.alerts.channel_states(&self.tenant).await?;
        let mut state = states.remove(channel).unwrap_or_default();
        if let Some(since) = state.breaker.down_since {
            let (from, to) = (state.breaker.state, BreakerState::Closed);
            let reason = "it was set anew, or a test of it got through".to_owned();
            let change = Change { at: now, since, from, to, reason };
            self.unsaved.notifications.push(channel_changed(&self.tenant, channel, &change));
        }
        state.breaker.reset();
        // Stored with the notification that says so, or a fault in between would leave one of both.
        self.unsaved.channels.push((channel.to_owned(), state));
        Ok(())
    }

    /// Stores all that changed in one transaction, and wakes the workers; false if this process
    /// leads no longer. What could not be stored is tried again with the next evaluation.
    async fn commit(
        &mut self,
        dependencies: &Dependencies,
        deliveries: Vec<NewDelivery>,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        // That an incident goes on changes with every evaluation. Were that committed each time, a
        // quiet installation with one open incident would write every two seconds.
        let is_due = now.since(self.open_committed_at) >= COMMIT_OPEN_EVERY;
        let (changes, pending) = {
            let mut engine = self.engine.lock();
            self.unsaved.incidents.extend(engine.incidents_mut().take_changed());
            // Where nothing is open there is nothing whose time would have to be stored.
            let is_active = || engine.incidents().iter().any(|of| of.state.is_active());
            if self.unsaved.is_empty() && !(is_due && is_active()) {
                return Ok(true);
            }
            let changes = self.changes(engine.incidents(), deliveries, is_due);
            let pending = self.pending_after(engine.incidents(), &changes);
            (changes, pending)
        };
        let leads =
            dependencies.alerts.commit_alerts(self.epoch, &self.tenant, changes).await?.is_some();
        if leads {
            if is_due {
                self.open_committed_at = now;
            }
            self.pending = pending;
            self.unsaved = Unsaved::default();
            self.workers.wake();
        }
        Ok(leads)
    }

    /// What is to be stored: what changed, and from time to time also until when the open incidents
    /// hold, and what is only pending.
    fn changes(
        &self,
        incidents: &Incidents,
        deliveries: Vec<NewDelivery>,
        is_due: bool,
    ) -> AlertChanges {
        let mut whole = self.unsaved.incidents.clone();
        let mut tracking = Vec::new();
        for (incident, remembered) in incidents.open_tracking().filter(|_| is_due) {
            if is_pending(incident) {
                whole.insert(incident.id.clone());
            } else if !whole.contains(&incident.id) {
                tracking.push((incident.id.clone(), remembered.clone()));
            }
        }
        let is_gone = |id: &&String| incidents.get(id).is_none();
        AlertChanges {
            incidents: whole.iter().filter_map(|id| incidents.stored(id)).collect(),
            tracking,
            dropped: self.pending.iter().filter(is_gone).cloned().collect(),
            deliveries,
            updates: Vec::new(),
            channels: self.unsaved.channels.clone(),
            actions_done: self.unsaved.actions_done.clone(),
        }
    }

    /// The stored incidents that are no more than pending once these changes are stored.
    fn pending_after(&self, incidents: &Incidents, changes: &AlertChanges) -> BTreeSet<String> {
        let written = changes.incidents.iter().map(|of| &of.incident.id);
        let is_still = |id: &&String| incidents.get(id).is_some_and(is_pending);
        self.pending.iter().chain(written).filter(is_still).cloned().collect()
    }
}

fn is_pending(incident: &Incident) -> bool {
    incident.state == IncidentState::Pending
}

/// Evaluates on a thread that may block: with many rules and services it computes for longer than
/// other tasks can wait, the renewal of the lease among them.
async fn evaluate_on_thread(
    engine: &Arc<Mutex<Engine>>,
    now: Timestamp,
    seen: Observations,
    find: impl FnMut(&EvidenceRequest) -> Option<Evidence> + Send + 'static,
) -> Evaluation {
    let engine = Arc::clone(engine);
    let evaluated = spawn_blocking(move || engine.lock().evaluate(now, seen, find)).await;
    match evaluated.map_err(JoinError::try_into_panic) {
        Ok(evaluation) => evaluation,
        // A defect in a rule is no different for having happened on another thread.
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime ends, and this task with it.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// Finds evidence in storage, all of it within [`EVIDENCE_TIMEOUT`]: an incident is told without
/// evidence rather than late. It blocks its thread.
fn evidence_finder(
    dependencies: &Dependencies,
    tenant: &Tenant,
) -> impl FnMut(&EvidenceRequest) -> Option<Evidence> + Send + 'static {
    let (dependencies, tenant, runtime) = (dependencies.clone(), tenant.clone(), Handle::current());
    let mut until = None;
    move |request| {
        info!(%tenant, incident = request.incident_id, service = request.service,
              kind = request.kind, "an incident fires");
        counter!("logweir_alerting_incidents_total").increment(1);
        // From the first request on: all of one evaluation share the time.
        let until = *until.get_or_insert_with(|| Instant::now() + EVIDENCE_TIMEOUT);
        let find =
            async { timeout_at(until, evidence::find(&dependencies, &tenant, request)).await };
        match runtime.block_on(find) {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                warn!("an incident has no evidence: {error}");
                None
            }
            Err(_) => {
                warn!("an incident has no evidence: it was not found in time");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use logweir_incident::rule::{Rule, RuleKind, Threshold};

    use super::*;
    use crate::{detector::window::Bucket, leader::while_renewing};

    const START: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);

    /// On one thread: the evaluation does not end before the lease was renewed three times
    /// meanwhile.
    #[tokio::test]
    async fn an_evaluation_that_takes_long_does_not_hold_up_the_renewal_of_the_lease() {
        let (renewals, renewed) = mpsc::sync_channel(0);
        let renew = async move {
            loop {
                // Whoever waits for it may not do so yet.
                while renewals.try_send(()).is_err() {
                    tokio::task::yield_now().await;
                }
            }
        };
        let measure =
            RuleKind::ErrorCount { window_seconds: 10, threshold: Threshold::Absolute(1.0) };
        let rules = vec![Rule { for_seconds: 0, ..Rule::new("errors", measure) }];
        let engine = Engine::new("t", rules, Incidents::default());
        let engine = Arc::new(Mutex::new(engine));
        let bucket = Bucket { start: START, total: 90, errors: 90, ..Bucket::default() };
        let find = move |_: &EvidenceRequest| {
            for _ in 0..3 {
                renewed.recv_timeout(Duration::from_secs(60)).expect("the lease is renewed");
            }
            None
        };
        let now = START + Duration::from_secs(11);
        let seen = Observations::bucket("shop", bucket);
        let evaluation = evaluate_on_thread(&engine, now, seen, find);
        let evaluation = while_renewing::<Evaluation>(renew, evaluation).await;
        assert_eq!(evaluation.fired.len(), 1);
    }
}
