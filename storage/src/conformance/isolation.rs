//! A tenant sees nothing of another, whatever it asks.

use std::time::Duration;

use logweir_core::{
    identity::{LogId, Tenant},
    record::ScoredBatch,
    timestamp::Timestamp,
};

use super::{
    NOW, StorageUnderTest,
    administering::{deploy, token},
    sample::{batch, by, query, rejected, search_all, service, store, tenant},
};
use crate::{AggregateQuery, GroupBy, Storage, StorageError, TimeRange, WriteOutcome};

fn other() -> Tenant {
    Tenant::new("other").unwrap()
}

fn written() -> ScoredBatch {
    let mut written = by(1, 1, 31, batch(1, "payments", 30, Duration::ZERO));
    written.rejected.push(rejected(30));
    written
}

pub(super) async fn a_tenant_sees_nothing_of_another(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let written = written();
    store(&*storage, std::slice::from_ref(&written)).await;
    storage.insert_token(&tenant(), token("t1", "*", NOW)).await.unwrap();
    storage.insert_deploy(&tenant(), deploy("payments", "1.0", NOW)).await.unwrap();
    let id = search_all(&*storage, &tenant(), "", 100).await[0].id;

    sees_nothing(&*storage, id).await;
    super::models::sees_no_models(&*storage, &other()).await;
    changes_nothing(&*storage).await;

    // The same ids of batch, producer and service are its own.
    let own = ScoredBatch { tenant: other(), ..batch(1, "payments", 2, Duration::ZERO) };
    let outcomes = storage.write(vec![by(1, 1, 2, own.clone()), written].into()).await.unwrap();
    let stored = WriteOutcome::stored(2, 0);
    assert_eq!(outcomes, [stored, WriteOutcome::Duplicate]);
    assert_eq!(search_all(&*storage, &other(), "service:payments", 100).await.len(), 2);
    assert_eq!(search_all(&*storage, &tenant(), "service:payments", 100).await.len(), 30);
    for (tenant, total) in [(tenant(), 30), (other(), 2)] {
        assert_eq!(storage.list_services(&tenant).await.unwrap()[0].total, total);
        let report = storage.delivery_report(&tenant, None).await.unwrap();
        assert_eq!((report.len(), report[0].stored, report[0].missing()), (1, total, 0));
        for group_by in [GroupBy::Nothing, GroupBy::Service, GroupBy::Level, GroupBy::Template] {
            let series = storage.aggregate(&tenant, hourly(group_by)).await.unwrap();
            let count: u64 = series.iter().flat_map(|s| &s.points).map(|point| point.total).sum();
            assert_eq!(count, total, "{group_by:?}");
        }
        let templates = storage.list_templates(&tenant, None, TimeRange::ALL, 100).await.unwrap();
        assert_eq!(templates.iter().map(|template| template.count).sum::<u64>(), total);
    }
}

fn hourly(group_by: GroupBy) -> AggregateQuery {
    AggregateQuery { range: TimeRange::ALL, bucket_seconds: 3_600, group_by, service: None }
}

async fn sees_nothing(storage: &dyn Storage, id: LogId) {
    let (other, payments) = (other(), service("payments"));
    assert_eq!(search_all(storage, &other, "", 100).await, []);
    assert_eq!(storage.export(&other, query("", 100)).await.unwrap().logs, []);
    assert!(matches!(storage.get(&other, id, 5).await, Err(StorageError::NotFound(_))));
    for service in [None, Some(payments.clone())] {
        for group_by in [GroupBy::Nothing, GroupBy::Service, GroupBy::Level, GroupBy::Template] {
            let query = AggregateQuery { service: service.clone(), ..hourly(group_by) };
            assert_eq!(storage.aggregate(&other, query).await.unwrap(), []);
        }
        let query = AggregateQuery { service: service.clone(), ..hourly(GroupBy::Nothing) };
        assert_eq!(storage.latency_heatmap(&other, query).await.unwrap(), []);
        let service = service.as_ref();
        assert_eq!(storage.list_templates(&other, service, TimeRange::ALL, 100).await.unwrap(), []);
        assert_eq!(storage.delivery_report(&other, service).await.unwrap(), []);
        assert_eq!(storage.producer_totals(&other, service).await.unwrap(), []);
        assert_eq!(storage.list_deploys(&other, service, 100).await.unwrap(), []);
    }
    assert_eq!(storage.list_services(&other).await.unwrap(), []);
    assert_eq!(storage.list_tokens(&other).await.unwrap(), []);
    assert_eq!(storage.list_dead_letters(&other, None, 100).await.unwrap(), (vec![], 0));
}

async fn changes_nothing(storage: &dyn Storage) {
    let other = other();
    let (letters, _) = storage.list_dead_letters(&tenant(), None, 100).await.unwrap();
    let ids = [letters[0].dead_letter_id];
    assert_eq!(storage.take_dead_letters(&other, &ids, 100).await.unwrap(), []);
    assert_eq!(storage.take_dead_letters(&other, &[], 100).await.unwrap(), []);
    storage.mark_replayed(&other, &ids, NOW).await.unwrap();
    assert_eq!(storage.discard_dead_letters(&other, Some(&ids)).await.unwrap(), 0);
    assert_eq!(storage.discard_dead_letters(&other, None).await.unwrap(), 0);
    let refused = storage.revoke_token(&other, "t1", NOW).await;
    assert!(matches!(refused, Err(StorageError::NotFound(_))));
    assert_eq!(storage.list_dead_letters(&tenant(), None, 100).await.unwrap(), (letters, 1));
    assert_eq!(storage.list_tokens(&tenant()).await.unwrap()[0].revoked_at, None);
    assert_eq!(storage.revoked_token_ids(Timestamp::EPOCH).await.unwrap(), [""; 0]);
}
