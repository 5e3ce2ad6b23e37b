//! Upkeep is invisible.

use std::time::Duration;

use logweir_core::{
    identity::Tenant,
    record::{RejectedRecord, ScoredBatch},
};

use super::{
    NOW, StorageUnderTest,
    reading::FILTERS,
    sample::{
        HOUR, SECOND, batch, by, maintain, newest_first, query, rejected, search_all, store, tenant,
    },
};
use crate::{SearchQuery, WriteOutcome};

pub(super) async fn upkeep_changes_no_answer(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let mut batches = Vec::new();
    for number in 0..70 {
        let name = ["payments", "orders", "users"][number as usize % 3];
        let written =
            batch(number, name, 5 + number as u32 * 7 % 90, (70 - number as u32) * 20 * SECOND);
        store(&*storage, std::slice::from_ref(&written)).await;
        batches.push(written);
    }
    let mut before = Vec::new();
    for filter in FILTERS {
        before.push(search_all(&*storage, &tenant(), filter, 100).await);
    }
    let services = storage.list_services(&tenant()).await.unwrap();
    let cursor = storage.search(&tenant(), query("", 500)).await.unwrap().next;

    maintain(&*storage, NOW).await;

    assert_eq!(before[0], newest_first(&batches));
    for (filter, before) in FILTERS.iter().zip(&before) {
        assert_eq!(&search_all(&*storage, &tenant(), filter, 100).await, before, "{filter:?}");
    }
    let page = storage.search(&tenant(), SearchQuery { cursor, ..query("", 500) }).await.unwrap();
    assert_eq!(page.logs, before[0][500..1_000]);
    for log in before[0].iter().step_by(200) {
        assert_eq!(storage.get(&tenant(), log.id, 0).await.unwrap().log, *log);
    }
    assert_eq!(storage.list_services(&tenant()).await.unwrap(), services);
    assert_eq!(
        storage.write(vec![batches[0].clone()].into()).await.unwrap(),
        [WriteOutcome::Duplicate]
    );
}

pub(super) async fn a_folded_batch_is_still_known(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let batches: Vec<_> = (1..=9)
        .map(|n| by(1, n, n * 3, batch(n, "payments", 3, Duration::ZERO)))
        .filter(|b| b.checksum % 2 == 0)
        .collect();
    store(&*storage, &batches).await;
    let report = storage.delivery_report(&tenant(), None).await.unwrap();
    maintain(&*storage, NOW + 49 * HOUR).await;
    drop(storage);
    let storage = test.open().await;
    for batch in &batches {
        assert_eq!(
            storage.write(vec![batch.clone()].into()).await.unwrap(),
            [WriteOutcome::Duplicate]
        );
    }
    assert_eq!(storage.delivery_report(&tenant(), None).await.unwrap(), report);
    // One that never came is still taken.
    let missing = report[0].missing_sequences[0].0;
    store(&*storage, &[by(1, missing, 27, batch(100, "payments", 3, Duration::ZERO))]).await;
    // After 90 days of silence the producer is forgotten.
    maintain(&*storage, NOW + 140 * HOUR).await;
    maintain(&*storage, NOW + 91 * 24 * HOUR).await;
    assert_eq!(storage.delivery_report(&tenant(), None).await.unwrap(), []);
}

/// A log with such a reason was acknowledged, and is not stored for all that.
const OWED: [&str; 4] = ["processing_failed", "quarantined", "unreadable_message", "unstorable"];

pub(super) async fn old_dead_letters_leave_but_those_of_acknowledged_logs(
    test: &impl StorageUnderTest,
) {
    let storage = test.open().await;
    let mut written = batch(1, "payments", 2, Duration::ZERO);
    written.rejected = vec![rejected(2)];
    written.rejected.extend(
        (3..)
            .zip(OWED)
            .map(|(index, reason)| RejectedRecord { reason: reason.into(), ..rejected(index) }),
    );
    store(&*storage, std::slice::from_ref(&written)).await;
    let other = ScoredBatch { checksum: 7, rejected: Vec::new(), ..written.clone() };
    assert_eq!(storage.write(vec![other].into()).await.unwrap(), [WriteOutcome::Conflict]);
    let (letters, total) = storage.list_dead_letters(&tenant(), None, 100).await.unwrap();
    assert_eq!((letters.len(), total), (7, 7));

    let quarter = 90 * 24 * HOUR;
    maintain(&*storage, NOW + quarter - HOUR).await;
    assert_eq!(storage.list_dead_letters(&tenant(), None, 100).await.unwrap().1, 7);
    maintain(&*storage, NOW + quarter + HOUR).await;
    let (left, total) = storage.list_dead_letters(&tenant(), None, 100).await.unwrap();
    assert_eq!((left.as_slice(), total), (&letters[..6], 6), "its sender was told of the oldest");
    // Replayed, a log is stored.
    let ids: Vec<u64> = left.iter().map(|letter| letter.dead_letter_id).collect();
    storage.mark_replayed(&tenant(), &ids[2..], NOW).await.unwrap();
    maintain(&*storage, NOW + quarter + 2 * HOUR).await;
    let (left, total) = storage.list_dead_letters(&tenant(), None, 100).await.unwrap();
    assert_eq!((left.as_slice(), total), (&letters[..2], 2));
    let usage = storage.usage(&tenant()).await.unwrap();
    assert_eq!((usage.dead_letters, usage.expired_dead_letters), (2, 5));
    let stranger = Tenant::new("stranger").unwrap();
    assert_eq!(storage.usage(&stranger).await.unwrap().dead_letters, 0);
    assert_eq!(search_all(&*storage, &tenant(), "", 100).await, newest_first([&written]));
}
