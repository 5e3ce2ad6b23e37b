//! Tokens, dead letters and deploys.

use std::time::Duration;

use logweir_core::{
    identity::{BatchId, Role, ServiceScope, Tenant},
    timestamp::Timestamp,
};

use super::{
    NOW, StorageUnderTest,
    sample::{at, batch, rejected, service, store, tenant},
};
use crate::{Deploy, Heartbeat, StorageError, TokenRecord};

pub(super) fn token(id: &str, scope: &str, issued: Timestamp) -> TokenRecord {
    TokenRecord {
        token_id: id.into(),
        service: scope.parse::<ServiceScope>().unwrap(),
        role: Role::Ingest,
        issued_at: issued,
        expires_at: issued + Duration::from_nanos(1_000),
        revoked_at: None,
    }
}

pub(super) async fn tokens_are_kept_and_revoked(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let (old, new) = (token("old", "*", at(100)), token("new", "payments", at(200)));
    storage.insert_token(&tenant(), old.clone()).await.unwrap();
    storage.insert_token(&tenant(), new.clone()).await.unwrap();
    assert_eq!(storage.list_tokens(&tenant()).await.unwrap(), [new.clone(), old.clone()]);
    let revoked = TokenRecord { revoked_at: Some(at(300)), ..old };
    assert_eq!(storage.revoke_token(&tenant(), "old", at(300)).await.unwrap(), revoked);
    assert_eq!(storage.revoke_token(&tenant(), "old", at(400)).await.unwrap(), revoked);
    let unknown = storage.revoke_token(&tenant(), "other", at(300)).await;
    assert!(matches!(unknown, Err(StorageError::NotFound(_))));
    drop(storage);
    let storage = test.open().await;
    assert_eq!(storage.list_tokens(&tenant()).await.unwrap(), [new, revoked]);
    assert_eq!(storage.revoked_token_ids(at(1_000)).await.unwrap(), ["old"]);
    assert_eq!(storage.revoked_token_ids(at(1_100)).await.unwrap(), [""; 0], "it has expired");
}

pub(super) async fn dead_letters_are_listed_replayed_and_discarded(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let mut written = batch(1, "payments", 1, Duration::ZERO);
    written.rejected = (1..=5).map(rejected).collect();
    store(&*storage, &[written]).await;
    let tenant = tenant();
    let (first_page, total) = storage.list_dead_letters(&tenant, None, 3).await.unwrap();
    let before = Some(first_page[2].dead_letter_id);
    let (second_page, _) = storage.list_dead_letters(&tenant, before, 3).await.unwrap();
    assert_eq!((first_page.len(), second_page.len(), total), (3, 2, 5));
    let ids: Vec<u64> =
        first_page.iter().chain(&second_page).rev().map(|letter| letter.dead_letter_id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b));

    let oldest = storage.take_dead_letters(&tenant, &[], 2).await.unwrap();
    assert_eq!(oldest.iter().map(|letter| letter.record.index).collect::<Vec<_>>(), [1, 2]);
    storage.mark_replayed(&tenant, &ids[..2], NOW).await.unwrap();
    let rest = storage.take_dead_letters(&tenant, &[], 100).await.unwrap();
    assert_eq!(rest.iter().map(|letter| letter.record.index).collect::<Vec<_>>(), [3, 4, 5]);
    let named = storage.take_dead_letters(&tenant, &[ids[4], ids[0], u64::MAX], 100).await.unwrap();
    let replayed: Vec<_> = named.iter().map(|l| (l.record.index, l.replayed_at)).collect();
    assert_eq!(replayed, [(1, Some(NOW)), (5, None)]);

    assert_eq!(storage.discard_dead_letters(&tenant, Some(&ids[3..])).await.unwrap(), 2);
    assert_eq!(storage.discard_dead_letters(&tenant, Some(&ids[3..])).await.unwrap(), 0);
    assert_eq!(storage.discard_dead_letters(&tenant, None).await.unwrap(), 3);
    drop(storage);
    // An id is never used again: a replay's batch id derives from it.
    let storage = test.open().await;
    let mut other = batch(2, "payments", 1, Duration::ZERO);
    other.rejected = vec![rejected(1)];
    store(&*storage, &[other]).await;
    let (letters, total) = storage.list_dead_letters(&tenant, None, 10).await.unwrap();
    assert!(total == 1 && letters[0].dead_letter_id > ids[4]);
}

pub(super) fn deploy(name: &str, version: &str, time: Timestamp) -> Deploy {
    Deploy {
        service: service(name),
        version: version.into(),
        time,
        note: format!("{version} goes live"),
    }
}

pub(super) async fn deploys_are_listed(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let deploys = [
        deploy("payments", "1.0", at(10)),
        deploy("orders", "2.0", at(20)),
        deploy("payments", "1.1", at(30)),
    ];
    for deploy in &deploys {
        storage.insert_deploy(&tenant(), deploy.clone()).await.unwrap();
    }
    let [first, second, third] = deploys;
    let listed = storage.list_deploys(&tenant(), None, 2).await.unwrap();
    assert_eq!(listed, [third.clone(), second]);
    let only = service("payments");
    let listed = storage.list_deploys(&tenant(), Some(&only), 10).await.unwrap();
    assert_eq!(listed, [third, first]);
    assert_eq!(storage.list_services(&tenant()).await.unwrap(), [], "a deploy is no log");
}

pub(super) async fn processes_live_until_they_are_forgotten(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let hour = Duration::from_secs(3_600);
    assert_eq!(storage.live_processes(hour).await.unwrap(), []);
    let first = Heartbeat {
        process_id: "processor-1".into(),
        kind: "processor".into(),
        host: "rack-7".into(),
        version: "0.1.0".into(),
        started_at: NOW + Duration::from_nanos(1),
        partitions: vec![0, 3, u16::MAX],
        committed_through: Some(NOW + Duration::from_nanos(2)),
        regular_committed_through: Some(NOW + Duration::from_nanos(1)),
        bulk_tenants: vec![tenant()],
        load: 0.25,
    };
    let second = Heartbeat {
        process_id: "server-1".into(),
        kind: "server".into(),
        partitions: Vec::new(),
        committed_through: None,
        regular_committed_through: None,
        bulk_tenants: Vec::new(),
        ..first.clone()
    };
    for heartbeat in [&second, &first, &second] {
        storage.beat(heartbeat.clone()).await.unwrap();
    }
    let moved = Heartbeat { partitions: vec![1], load: 0.5, ..first };
    storage.beat(moved.clone()).await.unwrap();
    let live = storage.live_processes(hour).await.unwrap();
    assert!(live.iter().all(|process| process.age < hour), "{live:?}");
    let live: Vec<Heartbeat> = live.into_iter().map(|process| process.heartbeat).collect();
    assert_eq!(live, [moved, second.clone()]);
    storage.forget_process("processor-1").await.unwrap();
    storage.forget_process("processor-1").await.unwrap();
    let live = storage.live_processes(hour).await.unwrap();
    assert!(live.len() == 1 && live[0].heartbeat == second);
}

pub(super) async fn trials_count_until_one_ends(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let (id, other) = (BatchId([1; 16]), BatchId([2; 16]));
    for before in 0..3 {
        assert_eq!(storage.begin_trial(&tenant(), id).await.unwrap(), before);
    }
    drop(storage);
    let storage = test.open().await;
    assert_eq!(storage.begin_trial(&tenant(), id).await.unwrap(), 3, "it outlives who began it");
    assert_eq!(storage.begin_trial(&tenant(), other).await.unwrap(), 0);
    let stranger = Tenant::new("stranger").unwrap();
    assert_eq!(storage.begin_trial(&stranger, id).await.unwrap(), 0);
    storage.end_trial(&tenant(), id).await.unwrap();
    storage.end_trial(&tenant(), id).await.unwrap();
    assert_eq!(storage.begin_trial(&tenant(), id).await.unwrap(), 0);
    assert_eq!(storage.begin_trial(&tenant(), other).await.unwrap(), 1);
}
