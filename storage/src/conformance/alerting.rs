//! What alerting knows.

use std::time::Duration;

use logweir_core::identity::Tenant;

use super::{
    NOW_UNIX_NANO, StorageUnderTest,
    sample::{SECOND, batch, service, store, tenant},
};
use crate::{
    ACTIONS_WAITING_MAX, ALERTS_KEPT, AlertChanges, AlertSetting, DeliveryState, DeliveryUpdate,
    IncidentQuery, NewDelivery, StorageError, StoredDelivery, StoredIncident, TimeRange,
};

const LEASE: Duration = Duration::from_secs(600);

fn incident(id: &str, state: &str, began_unix_nano: i64) -> StoredIncident {
    StoredIncident {
        incident_id: id.into(),
        state: state.into(),
        service: "payments".into(),
        began_unix_nano,
        resolved_unix_nano: (state == "resolved").then_some(began_unix_nano + SECOND),
        body: format!(r#"{{"id":"{id}"}}"#),
    }
}

fn delivery(channel: &str, incident_id: &str, sequence: u32) -> NewDelivery {
    NewDelivery {
        channel: channel.into(),
        key: format!("{incident_id}-{sequence}"),
        incident_id: incident_id.into(),
        sequence,
        created_unix_nano: NOW_UNIX_NANO,
        body: "{}".into(),
    }
}

pub(super) async fn new_patterns_are_found(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    assert_eq!(storage.list_tenants().await.unwrap(), []);
    let first = batch(1, "payments", 3, 0);
    let second = batch(2, "payments", 3, 60 * SECOND);
    store(&*storage, &[first, second]).await;
    assert_eq!(storage.list_tenants().await.unwrap(), [tenant()]);
    let all = storage.list_templates(&tenant(), None, TimeRange::ALL, 100).await.unwrap();
    let oldest = all.iter().map(|template| template.first_seen_unix_nano).min().unwrap();
    let found = storage.new_templates(&tenant(), oldest, 100).await.unwrap();
    assert_eq!(found.len(), all.len());
    for template in &found {
        let same = all.iter().find(|of| of.template_id == template.template_id).unwrap();
        assert_eq!((template.count, &template.pattern), (same.count, &same.pattern));
        assert_eq!(template.first_seen_unix_nano, same.first_seen_unix_nano);
    }
    assert_eq!(storage.new_templates(&tenant(), i64::MAX, 100).await.unwrap(), []);
    assert_eq!(storage.new_templates(&tenant(), oldest, 1).await.unwrap().len(), 1);
    let other = Tenant::new("other").unwrap();
    assert_eq!(storage.new_templates(&other, 0, 100).await.unwrap(), []);
}

pub(super) async fn one_process_leads_at_a_time(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let changes =
        || AlertChanges { incidents: vec![incident("a", "firing", 5)], ..AlertChanges::default() };
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
    let put = async |tenant: &Tenant, kind: &str, name: &str, body: Option<&str>| {
        storage.put_setting(tenant, kind, name, body.map(str::to_owned)).await.unwrap();
    };
    assert_eq!(storage.list_settings().await.unwrap(), []);
    put(&tenant(), "rule", "b", Some("1")).await;
    put(&tenant(), "channel", "c", Some("2")).await;
    put(&tenant(), "rule", "a", Some("3")).await;
    put(&other, "rule", "a", Some("4")).await;
    put(&tenant(), "rule", "b", Some("5")).await;
    put(&tenant(), "channel", "c", None).await;
    put(&tenant(), "channel", "never", None).await;
    let set = |tenant: Tenant, name: &str, body: &str| {
        let (kind, name, body) = ("rule".into(), name.into(), body.into());
        (tenant, AlertSetting { kind, name, body })
    };
    let expected = [set(tenant(), "a", "3"), set(tenant(), "b", "5"), set(other, "a", "4")];
    assert_eq!(storage.list_settings().await.unwrap(), expected);
}

pub(super) async fn actions_wait_for_the_leader(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let epoch = storage.lead("leader", LEASE).await.unwrap().unwrap();
    for number in 0..ACTIONS_WAITING_MAX {
        storage.insert_action(&tenant(), number.to_string()).await.unwrap();
    }
    let refused = storage.insert_action(&tenant(), "one more".into()).await;
    assert!(matches!(refused, Err(StorageError::LimitExceeded(_))));
    let other = Tenant::new("other").unwrap();
    storage.insert_action(&other, "of another".into()).await.unwrap();
    let waiting = storage.list_actions(2).await.unwrap();
    let bodies: Vec<&str> = waiting.iter().map(|(_, _, body)| &**body).collect();
    assert_eq!(bodies, ["0", "1"]);
    let actions_done = waiting.iter().map(|(_, id, _)| *id).collect();
    let changes = AlertChanges { actions_done, ..AlertChanges::default() };
    storage.commit_alerts(epoch, &other, changes.clone()).await.unwrap();
    assert_eq!(storage.list_actions(2).await.unwrap(), waiting, "they are another tenant's");
    storage.commit_alerts(epoch, &tenant(), changes).await.unwrap();
    let left = storage.list_actions(ACTIONS_WAITING_MAX + 1).await.unwrap();
    assert_eq!((left.len(), &*left[0].2), (ACTIONS_WAITING_MAX - 1, "2"));
    assert_eq!(left.last().map(|(whose, _, _)| whose), Some(&other));
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
            incident("a", "firing", NOW_UNIX_NANO),
            incident("b", "pending", NOW_UNIX_NANO),
        ],
        deliveries: vec![
            delivery("slack", "a", 1),
            delivery("mail", "a", 1),
            delivery("slack", "b", 1),
        ],
        states: vec![("slack".into(), "1".into())],
        ..AlertChanges::default()
    };
    commit(&tenant(), new.clone()).await;
    // Written again, as after a commit whose answer was lost.
    commit(&tenant(), new).await;
    let other = Tenant::new("other").unwrap();
    let foreign = AlertChanges {
        incidents: vec![incident("a", "firing", NOW_UNIX_NANO)],
        deliveries: vec![delivery("slack", "a", 1)],
        states: vec![("slack".into(), "9".into())],
        ..AlertChanges::default()
    };
    commit(&other, foreign).await;

    assert_eq!(storage.waiting_channels(&tenant()).await.unwrap(), ["mail", "slack"]);
    assert_eq!(storage.waiting_channels(&other).await.unwrap(), ["slack"]);
    let waiting =
        async |channel: &str| storage.waiting_deliveries(&tenant(), channel, 9).await.unwrap();
    let slack = waiting("slack").await;
    let expected = [delivery("slack", "a", 1), delivery("slack", "b", 1)];
    assert_eq!(slack.iter().map(|stored| stored.delivery.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(storage.waiting_deliveries(&tenant(), "slack", 1).await.unwrap(), slack[..1]);

    let sent = DeliveryUpdate {
        delivery_id: slack[0].delivery_id,
        state: DeliveryState::Sent,
        body: "sent".into(),
        thread: Some("t1".into()),
    };
    let tried = DeliveryUpdate {
        delivery_id: slack[1].delivery_id,
        state: DeliveryState::Waiting,
        body: "tried".into(),
        thread: None,
    };
    let changes = AlertChanges {
        incidents: vec![incident("a", "resolved", NOW_UNIX_NANO)],
        deliveries: vec![delivery("slack", "a", 2)],
        updates: vec![sent, tried],
        states: vec![("slack".into(), "2".into()), ("mail".into(), "3".into())],
        ..AlertChanges::default()
    };
    commit(&tenant(), changes).await;
    let slack = waiting("slack").await;
    let shown: Vec<_> = slack.iter().map(|s| (&*s.delivery.body, s.thread.as_deref())).collect();
    assert_eq!(shown, [("tried", None), ("{}", Some("t1"))], "a thread is an incident's");
    let states = |told: &[StoredDelivery]| -> Vec<DeliveryState> {
        told.iter().map(|stored| stored.state).collect()
    };
    let told = storage.deliveries_of(&tenant(), "a").await.unwrap();
    assert_eq!(
        states(&told),
        [DeliveryState::Sent, DeliveryState::Waiting, DeliveryState::Waiting]
    );
    assert_eq!(
        storage.alert_states(&tenant()).await.unwrap(),
        [("mail".to_owned(), "3".to_owned()), ("slack".to_owned(), "2".to_owned())]
    );
    assert_eq!(storage.waiting_deliveries(&other, "slack", 9).await.unwrap().len(), 1);
}

pub(super) async fn incidents_are_found_and_old_ones_forgotten(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let epoch = storage.lead("leader", LEASE).await.unwrap().unwrap();
    let old = NOW_UNIX_NANO - ALERTS_KEPT.as_nanos() as i64 - 10 * SECOND;
    let mut elsewhere = incident("c", "firing", NOW_UNIX_NANO + 2);
    elsewhere.service = "orders".into();
    let (open, over) = (incident("a", "firing", old), incident("b", "resolved", NOW_UNIX_NANO));
    let first = AlertChanges {
        incidents: vec![open.clone(), over.clone(), elsewhere.clone()],
        deliveries: vec![
            delivery("slack", "a", 1),
            NewDelivery { created_unix_nano: old, ..delivery("slack", "channel-1", 1) },
        ],
        ..AlertChanges::default()
    };
    storage.commit_alerts(epoch, &tenant(), first).await.unwrap().unwrap();
    let list = async |query: IncidentQuery| {
        storage.list_incidents(&tenant(), IncidentQuery { limit: 9, ..query }).await.unwrap()
    };
    let all = IncidentQuery::default;
    assert_eq!(list(all()).await, [elsewhere.clone(), over.clone(), open.clone()]);
    let payments = IncidentQuery { service: Some(service("payments")), ..all() };
    assert_eq!(list(payments).await, [over.clone(), open.clone()]);
    let open_ones = IncidentQuery { is_open: true, ..all() };
    assert_eq!(list(open_ones).await, [elsewhere.clone(), open.clone()], "however old");
    let range = TimeRange { from_unix_nano: NOW_UNIX_NANO, to_unix_nano: NOW_UNIX_NANO + 1 };
    assert_eq!(
        list(IncidentQuery { range: Some(range), ..all() }).await,
        std::slice::from_ref(&over)
    );
    assert_eq!(storage.get_incident(&tenant(), "b").await.unwrap(), over);
    let missing = storage.get_incident(&Tenant::new("other").unwrap(), "b").await;
    assert!(matches!(missing, Err(StorageError::NotFound(_))), "{missing:?}");

    let told = storage.waiting_deliveries(&tenant(), "slack", 9).await.unwrap();
    let given_up = |of: &StoredDelivery| DeliveryUpdate {
        delivery_id: of.delivery_id,
        state: DeliveryState::GivenUp,
        body: "{}".into(),
        thread: None,
    };
    let ended = AlertChanges {
        incidents: vec![incident("a", "resolved", old)],
        updates: told.iter().map(given_up).collect(),
        ..AlertChanges::default()
    };
    storage.commit_alerts(epoch, &tenant(), ended).await.unwrap().unwrap();
    assert_eq!(list(all()).await, [elsewhere, over]);
    for of in ["a", "channel-1"] {
        assert_eq!(storage.deliveries_of(&tenant(), of).await.unwrap(), []);
    }
}
