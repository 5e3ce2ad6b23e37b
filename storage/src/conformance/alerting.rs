//! What alerting knows.

use std::time::Duration;

use logweir_core::{identity::Tenant, timestamp::Timestamp};
use logweir_incident::{
    action::Action,
    channel::ChannelState,
    delivery::Delivery,
    example,
    incident::{Incident, IncidentState},
    notification::{Notification, NotificationKind},
    rule::{Rule, RuleKind, Severity},
    setting::{Setting, SettingKind, StoredSetting},
    suppression::Silence,
    tracking::{TrackedIncident, Tracking},
};

use super::{
    NOW, StorageUnderTest,
    sample::{SECOND, at, batch, service, store, tenant},
};
use crate::{
    ACTIONS_WAITING_MAX, ALERTS_KEPT, AlertChanges, DeliveryState, DeliveryUpdate, IncidentQuery,
    NewDelivery, StorageError, StoredDelivery, StoredIncident, TimeRange, WaitingAction,
};

const LEASE: Duration = Duration::from_secs(600);

fn incident(id: &str, state: IncidentState, began_at: Timestamp) -> TrackedIncident {
    let incident = Incident {
        id: id.into(),
        service: "payments".into(),
        state,
        pending_at: began_at,
        resolved_at: (state == IncidentState::Resolved).then_some(began_at + SECOND),
        ..example::notification(NotificationKind::Opened).incident
    };
    let tracking = Tracking {
        series: format!("rule of {id}"),
        is_closed: state == IncidentState::Resolved,
        ..Tracking::default()
    };
    TrackedIncident { incident, tracking }
}

/// As it is read.
fn read(tracked: &TrackedIncident) -> StoredIncident {
    let incident = tracked.incident.clone();
    StoredIncident {
        incident_id: incident.id.clone(),
        state: incident.state,
        service: incident.service.clone(),
        began_at: incident.pending_at,
        resolved_at: incident.resolved_at,
        incident: Some(incident),
    }
}

fn delivery(channel: &str, incident_id: &str, sequence: u32) -> NewDelivery {
    let incident = incident(incident_id, IncidentState::Firing, NOW).incident;
    let kind = NotificationKind::Opened;
    NewDelivery {
        channel: channel.into(),
        notification: Notification::new(kind, sequence, NOW, &incident),
        created_at: NOW,
    }
}

fn state(last_error: &str) -> ChannelState {
    ChannelState { last_error: last_error.into(), ..ChannelState::default() }
}

pub(super) async fn new_patterns_are_found(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    assert_eq!(storage.list_tenants().await.unwrap(), []);
    let first = batch(1, "payments", 3, Duration::ZERO);
    let second = batch(2, "payments", 3, 60 * SECOND);
    store(&*storage, &[first, second]).await;
    assert_eq!(storage.list_tenants().await.unwrap(), [tenant()]);
    let all = storage.list_templates(&tenant(), None, TimeRange::ALL, 100).await.unwrap();
    let oldest = all.iter().map(|template| template.first_seen).min().unwrap();
    let found = storage.new_templates(&tenant(), oldest, 100).await.unwrap();
    assert_eq!(found.len(), all.len());
    for template in &found {
        let same = all.iter().find(|of| of.template_id == template.template_id).unwrap();
        assert_eq!((template.count, &template.pattern), (same.count, &same.pattern));
        assert_eq!(template.first_seen, same.first_seen);
    }
    assert_eq!(storage.new_templates(&tenant(), Timestamp::MAX, 100).await.unwrap(), []);
    assert_eq!(storage.new_templates(&tenant(), oldest, 1).await.unwrap().len(), 1);
    let other = Tenant::new("other").unwrap();
    assert_eq!(storage.new_templates(&other, Timestamp::EPOCH, 100).await.unwrap(), []);
}

pub(super) async fn one_process_leads_at_a_time(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let changes = || AlertChanges {
        incidents: vec![incident("a", IncidentState::Firing, at(5))],
        ..AlertChanges::default()
    };
    let commit = async |epoch| storage.commit_alerts(epoch, &tenant(), changes()).await.unwrap();
    let stored = async || {
        let query = IncidentQuery { limit: 9, ..IncidentQuery::default() };
        storage.list_incidents(&tenant(), query).await.unwrap().len()
    };
    assert_eq!(commit(1).await, None, "nobody leads");
    let first = storage.lead("first", LEASE).await.unwrap().unwrap();
    assert_eq!(storage.lead("second", LEASE).await.unwrap(), None);
    assert_eq!(storage.lead("first", LEASE).await.unwrap(), Some(first), "it keeps the lead");
    assert_eq!(commit(first + 1).await, None);
    assert_eq!(stored().await, 0);
    let left = commit(first).await.unwrap();
    assert!(left <= LEASE && left > LEASE / 2, "{left:?}");
    assert_eq!(stored().await, 1);

    storage.resign("second").await.unwrap();
    assert_eq!(storage.lead("second", LEASE).await.unwrap(), None, "it had nothing to give up");
    storage.resign("first").await.unwrap();
    assert_eq!(commit(first).await, None, "it gave the lead up");
    let second = storage.lead("second", LEASE).await.unwrap().unwrap();
    assert!(second > first);
    assert_eq!((commit(first).await, storage.lead("first", LEASE).await.unwrap()), (None, None));
    assert!(commit(second).await.is_some());
    storage.resign("second").await.unwrap();
    let again = storage.lead("first", Duration::ZERO).await.unwrap().unwrap();
    assert!(again > second);
    assert_eq!(commit(again).await, None, "its time is over");
    let renewed = storage.lead("first", LEASE).await.unwrap().unwrap();
    assert!(renewed > again, "who let the lead run out has lost it");
}

pub(super) async fn what_was_set_is_kept_until_it_is_removed(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let other = Tenant::new("other").unwrap();
    let rule = |name: &str, lag_seconds| Rule::new(name, RuleKind::QueueLag { lag_seconds });
    let silence = Silence {
        id: "c".into(),
        matchers: [("service".to_owned(), "pay*".to_owned())].into(),
        from: at(1),
        to: at(2),
        author: "anna".into(),
        comment: "works".into(),
        hides_critical: false,
    };
    let put = async |tenant: &Tenant, setting: Setting| {
        storage.put_setting(tenant, setting).await.unwrap();
    };
    let delete = async |kind, name: &str| storage.delete_setting(&tenant(), kind, name).await;
    assert_eq!(storage.list_all_settings(&tenant()).await.unwrap(), []);
    assert_eq!(storage.list_tenants().await.unwrap(), []);
    put(&tenant(), Setting::Rule(rule("b", 1))).await;
    put(&tenant(), Setting::Silence(silence)).await;
    put(&tenant(), Setting::Rule(rule("a", 3))).await;
    put(&other, Setting::Rule(rule("a", 4))).await;
    put(&tenant(), Setting::Rule(rule("b", 5))).await;
    assert!(delete(SettingKind::Silence, "c").await.unwrap());
    assert!(!delete(SettingKind::Silence, "c").await.unwrap(), "it is gone");
    assert!(!delete(SettingKind::Channel, "never").await.unwrap());
    assert!(!delete(SettingKind::Silence, "a").await.unwrap(), "it is a rule");
    let set = |rule: Rule| StoredSetting {
        kind: SettingKind::Rule,
        name: rule.name.clone(),
        setting: Some(Setting::Rule(rule)),
    };
    let own = [set(rule("a", 3)), set(rule("b", 5))];
    assert_eq!(storage.list_settings(&tenant(), SettingKind::Rule).await.unwrap(), own);
    assert_eq!(storage.list_settings(&tenant(), SettingKind::Silence).await.unwrap(), []);
    let others = async |kind, name: &str| storage.count_other_settings(&tenant(), kind, name).await;
    assert_eq!(others(SettingKind::Rule, "a").await.unwrap(), 1);
    assert_eq!(others(SettingKind::Rule, "c").await.unwrap(), 2);
    assert_eq!(others(SettingKind::Silence, "a").await.unwrap(), 0);
    assert_eq!(storage.list_all_settings(&tenant()).await.unwrap(), own);
    assert_eq!(storage.list_all_settings(&other).await.unwrap(), [set(rule("a", 4))]);
    let mut tenants = [tenant(), other];
    tenants.sort_unstable();
    assert_eq!(storage.list_tenants().await.unwrap(), tenants);
}

pub(super) async fn actions_wait_for_the_leader(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let epoch = storage.lead("leader", LEASE).await.unwrap().unwrap();
    let reset = |channel: &str| Action::ResetChannel { channel: channel.into() };
    for number in 0..ACTIONS_WAITING_MAX {
        storage.insert_action(&tenant(), &reset(&number.to_string())).await.unwrap();
    }
    let refused = storage.insert_action(&tenant(), &reset("one more")).await;
    assert!(matches!(refused, Err(StorageError::LimitExceeded(_))));
    let other = Tenant::new("other").unwrap();
    storage.insert_action(&other, &reset("of another")).await.unwrap();
    let waiting = storage.list_actions(3).await.unwrap();
    let asked = |waiting: &[WaitingAction]| -> Vec<Action> {
        waiting.iter().map(|of| of.action.clone().unwrap()).collect()
    };
    assert_eq!(asked(&waiting), [reset("0"), reset("of another"), reset("1")], "by turns");
    let of_tenant = waiting.iter().filter(|of| of.tenant == tenant());
    let actions_done = of_tenant.map(|of| of.action_id).collect();
    let changes = AlertChanges { actions_done, ..AlertChanges::default() };
    storage.commit_alerts(epoch, &other, changes.clone()).await.unwrap();
    assert_eq!(storage.list_actions(3).await.unwrap(), waiting, "they are another tenant's");
    storage.commit_alerts(epoch, &tenant(), changes).await.unwrap();
    let left = storage.list_actions(ACTIONS_WAITING_MAX + 1).await.unwrap();
    assert_eq!((left.len(), &asked(&left)[0]), (ACTIONS_WAITING_MAX - 1, &reset("2")));
    assert_eq!(left[1].tenant, other);
}

pub(super) async fn a_leader_takes_up_what_another_remembered(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let epoch = storage.lead("leader", LEASE).await.unwrap().unwrap();
    let commit = async |changes: AlertChanges| {
        storage.commit_alerts(epoch, &tenant(), changes).await.unwrap().unwrap();
    };
    let firing = incident("a", IncidentState::Firing, NOW);
    let pending = incident("b", IncidentState::Pending, NOW);
    let over = incident("c", IncidentState::Resolved, NOW - 9 * SECOND);
    let long_over = incident("d", IncidentState::Resolved, NOW - 99 * SECOND);
    let mut untold = incident("e", IncidentState::Resolved, NOW - 99 * SECOND);
    untold.tracking.is_closed = false;
    let mut unfollowed = incident("f", IncidentState::Firing, NOW);
    unfollowed.tracking.series.clear();
    let all = [&firing, &pending, &over, &long_over, &untold, &unfollowed];
    let incidents = all.into_iter().cloned().collect();
    commit(AlertChanges { incidents, ..AlertChanges::default() }).await;
    let tracked = async || {
        let since = NOW - 60 * SECOND;
        storage.tracked_incidents(&tenant(), since).await.unwrap()
    };
    assert_eq!(tracked().await, [firing.clone(), pending.clone(), over.clone(), untold.clone()]);
    let listed = IncidentQuery { is_open: true, limit: 9, ..IncidentQuery::default() };
    let listed = storage.list_incidents(&tenant(), listed).await.unwrap();
    let listed: Vec<&str> = listed.iter().map(|of| &*of.incident_id).collect();
    assert_eq!(listed, ["a", "f"], "what is only pending is nobody's business");

    let tracking = Tracking {
        breach_since: Some(at(-5)),
        last_breach: Timestamp::MAX,
        sequence: u32::MAX,
        notified_at: at(7),
        notified_severity: Severity::Critical,
        reminders: 3,
        is_changed: true,
        keep_firing_seconds: 300,
        ..firing.tracking.clone()
    };
    commit(AlertChanges {
        tracking: vec![("a".into(), tracking.clone())],
        dropped: vec!["a".into(), "b".into()],
        ..AlertChanges::default()
    })
    .await;
    let held = TrackedIncident { tracking, ..firing };
    assert_eq!(tracked().await, [held, over, untold], "what fires is not dropped");
    let other = Tenant::new("other").unwrap();
    assert_eq!(storage.tracked_incidents(&other, Timestamp::EPOCH).await.unwrap(), []);
}

pub(super) async fn an_incident_and_what_is_told_of_it_are_there_together(
    test: &impl StorageUnderTest,
) {
    let storage = test.open().await;
    let epoch = storage.lead("leader", LEASE).await.unwrap().unwrap();
    let commit = async |tenant: &Tenant, changes: AlertChanges| {
        storage.commit_alerts(epoch, tenant, changes).await.unwrap().unwrap();
    };
    let new = AlertChanges {
        incidents: vec![
            incident("a", IncidentState::Firing, NOW),
            incident("b", IncidentState::Pending, NOW),
        ],
        deliveries: vec![
            delivery("slack", "a", 1),
            delivery("mail", "a", 1),
            delivery("slack", "b", 1),
        ],
        channels: vec![("slack".into(), state("1"))],
        ..AlertChanges::default()
    };
    commit(&tenant(), new.clone()).await;
    // Written again, as after a commit whose answer was lost.
    commit(&tenant(), new).await;
    let other = Tenant::new("other").unwrap();
    let foreign = AlertChanges {
        incidents: vec![incident("a", IncidentState::Firing, NOW)],
        deliveries: vec![delivery("slack", "a", 1)],
        channels: vec![("slack".into(), state("9"))],
        ..AlertChanges::default()
    };
    commit(&other, foreign).await;

    assert_eq!(storage.waiting_channels(&tenant()).await.unwrap(), ["mail", "slack"]);
    assert_eq!(storage.waiting_channels(&other).await.unwrap(), ["slack"]);
    let slack = storage.waiting_deliveries(&tenant(), "slack", 9).await.unwrap();
    let expected = [delivery("slack", "a", 1), delivery("slack", "b", 1)]
        .map(|new| (new.channel, Some(Delivery::new(new.notification, new.created_at))));
    let without_id = |of: &StoredDelivery| {
        let delivery = of.delivery.clone().map(|delivery| Delivery { id: 0, ..delivery });
        (of.channel.clone(), delivery)
    };
    assert_eq!(slack.iter().map(without_id).collect::<Vec<_>>(), expected);
    let ids = |of: &StoredDelivery| (of.delivery.as_ref().unwrap().id, of.incident_id.clone());
    assert_eq!(ids(&slack[1]), (slack[1].delivery_id, "b".to_owned()));
    assert_eq!(storage.waiting_deliveries(&tenant(), "slack", 1).await.unwrap(), slack[..1]);
    what_became_of_deliveries_is_kept(&*storage, epoch, &slack).await;
    assert_eq!(storage.waiting_deliveries(&other, "slack", 9).await.unwrap().len(), 1);
}

/// One delivery was sent, one was tried in vain, and the incident goes on in the first one's thread.
async fn what_became_of_deliveries_is_kept(
    storage: &dyn crate::Storage,
    epoch: i64,
    slack: &[StoredDelivery],
) {
    let sent = DeliveryUpdate {
        delivery_id: slack[0].delivery_id,
        state: DeliveryState::Sent,
        delivery: None,
        thread: Some("t1".into()),
    };
    let tried = DeliveryUpdate {
        delivery_id: slack[1].delivery_id,
        state: DeliveryState::Waiting,
        delivery: slack[1].delivery.clone().map(|of| Delivery { attempts: 2, ..of }),
        thread: None,
    };
    let changes = AlertChanges {
        incidents: vec![incident("a", IncidentState::Resolved, NOW)],
        deliveries: vec![delivery("slack", "a", 2)],
        updates: vec![sent, tried],
        channels: vec![("slack".into(), state("2")), ("mail".into(), state("3"))],
        ..AlertChanges::default()
    };
    storage.commit_alerts(epoch, &tenant(), changes).await.unwrap().unwrap();
    let slack = storage.waiting_deliveries(&tenant(), "slack", 9).await.unwrap();
    let known = slack.iter().filter_map(|of| of.delivery.as_ref());
    let shown: Vec<_> = known.map(|of| (of.attempts, of.thread.as_deref())).collect();
    assert_eq!(shown, [(2, None), (0, Some("t1"))], "a thread is an incident's");
    let states = |told: &[StoredDelivery]| -> Vec<DeliveryState> {
        told.iter().map(|stored| stored.state).collect()
    };
    let told = storage.deliveries_of(&tenant(), "a").await.unwrap();
    assert_eq!(
        states(&told),
        [DeliveryState::Sent, DeliveryState::Waiting, DeliveryState::Waiting]
    );
    assert_eq!(
        storage.channel_states(&tenant()).await.unwrap(),
        [("mail".to_owned(), state("3")), ("slack".to_owned(), state("2"))].into()
    );
}

pub(super) async fn incidents_are_found_and_old_ones_forgotten(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let epoch = storage.lead("leader", LEASE).await.unwrap().unwrap();
    let old = NOW - ALERTS_KEPT - 10 * SECOND;
    let mut elsewhere = incident("c", IncidentState::Firing, NOW + Duration::from_nanos(2));
    elsewhere.incident.service = "orders".into();
    let (open, over) =
        (incident("a", IncidentState::Firing, old), incident("b", IncidentState::Resolved, NOW));
    let first = AlertChanges {
        incidents: vec![open.clone(), over.clone(), elsewhere.clone()],
        deliveries: vec![
            delivery("slack", "a", 1),
            NewDelivery { created_at: old, ..delivery("slack", "channel-1", 1) },
        ],
        ..AlertChanges::default()
    };
    storage.commit_alerts(epoch, &tenant(), first).await.unwrap().unwrap();
    let list = async |query: IncidentQuery| {
        storage.list_incidents(&tenant(), IncidentQuery { limit: 9, ..query }).await.unwrap()
    };
    let all = IncidentQuery::default;
    assert_eq!(list(all()).await, [&elsewhere, &over, &open].map(read));
    let payments = IncidentQuery { service: Some(service("payments")), ..all() };
    assert_eq!(list(payments).await, [&over, &open].map(read));
    let open_ones = IncidentQuery { is_open: true, ..all() };
    assert_eq!(list(open_ones).await, [&elsewhere, &open].map(read), "however old");
    let range = TimeRange { from: NOW, to: NOW + Duration::from_nanos(1) };
    assert_eq!(list(IncidentQuery { range: Some(range), ..all() }).await, [read(&over)]);
    assert_eq!(storage.get_incident(&tenant(), "b").await.unwrap(), read(&over));
    let missing = storage.get_incident(&Tenant::new("other").unwrap(), "b").await;
    assert!(matches!(missing, Err(StorageError::NotFound(_))), "{missing:?}");

    let told = storage.waiting_deliveries(&tenant(), "slack", 9).await.unwrap();
    let given_up = |of: &StoredDelivery| DeliveryUpdate {
        delivery_id: of.delivery_id,
        state: DeliveryState::GivenUp,
        delivery: None,
        thread: None,
    };
    let ended = AlertChanges {
        incidents: vec![incident("a", IncidentState::Resolved, old)],
        updates: told.iter().map(given_up).collect(),
        ..AlertChanges::default()
    };
    storage.commit_alerts(epoch, &tenant(), ended).await.unwrap().unwrap();
    assert_eq!(list(all()).await, [&elsewhere, &over].map(read));
    for of in ["a", "channel-1"] {
        assert_eq!(storage.deliveries_of(&tenant(), of).await.unwrap(), []);
    }
}
