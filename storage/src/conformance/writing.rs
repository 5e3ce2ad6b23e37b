//! Once, whole, and with what was put aside.

use std::time::Duration;

use logweir_core::record::{Account, ScoredBatch};

use super::{
    StorageUnderTest,
    sample::{
        batch, batch_id, by, empty_batch, newest_first, push, rejected, search_all, store, tenant,
    },
};
use crate::{DeadLetter, ProducerReport, Storage, WriteOutcome};

const DUPLICATE: [WriteOutcome; 1] = [WriteOutcome::Duplicate];
const CONFLICT: [WriteOutcome; 1] = [WriteOutcome::Conflict];

async fn dead_letters(storage: &dyn Storage) -> Vec<DeadLetter> {
    let (letters, total) = storage.list_dead_letters(&tenant(), None, 1_000).await.unwrap();
    assert_eq!(letters.len() as u64, total);
    letters
}

async fn report(storage: &dyn Storage) -> ProducerReport {
    let mut reports = storage.delivery_report(&tenant(), None).await.unwrap();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

async fn total(storage: &dyn Storage) -> u64 {
    storage.list_services(&tenant()).await.unwrap().iter().map(|service| service.total).sum()
}

pub(super) async fn a_batch_is_stored_once(test: &impl StorageUnderTest) {
    let written = batch(1, "payments", 50, Duration::ZERO);
    let storage = test.open().await;
    store(&*storage, std::slice::from_ref(&written)).await;
    assert_eq!(storage.write(vec![written.clone()].into()).await.unwrap(), DUPLICATE);
    drop(storage);
    let storage = test.open().await;
    assert_eq!(storage.write(vec![written.clone()].into()).await.unwrap(), DUPLICATE);
    assert_eq!(search_all(&*storage, &tenant(), "", 1_000).await, newest_first([&written]));
    assert_eq!(total(&*storage).await, 50);
}

pub(super) async fn a_batch_twice_in_a_call_is_stored_once(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let (first, second) =
        (batch(1, "payments", 10, Duration::ZERO), batch(2, "orders", 20, Duration::ZERO));
    let outcomes =
        storage.write(vec![first.clone(), second.clone(), first.clone()].into()).await.unwrap();
    assert_eq!(
        outcomes,
        [WriteOutcome::stored(10, 0), WriteOutcome::stored(20, 0), WriteOutcome::Duplicate,]
    );
    assert_eq!(search_all(&*storage, &tenant(), "", 7).await, newest_first([&first, &second]));
    assert_eq!(storage.write([].into()).await.unwrap(), []);
}

/// As when senders repeat to several processes what they had no answer for.
pub(super) async fn repeats_at_the_same_time_are_stored_once(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let batches: Vec<ScoredBatch> = (1..=8)
        .map(|n| {
            by(1, n, n * 5, batch(n, ["payments", "orders"][n as usize % 2], 5, Duration::ZERO))
        })
        .collect();
    let turned = |by: usize| {
        let mut turned = batches.clone();
        turned.rotate_left(by);
        turned.into()
    };
    let reversed = batches.iter().rev().cloned().collect();
    let (a, b, c, d) = tokio::join!(
        storage.write(turned(0)),
        storage.write(turned(3)),
        storage.write(turned(6)),
        storage.write(reversed),
    );
    let outcomes: Vec<WriteOutcome> = [a, b, c, d].into_iter().flat_map(Result::unwrap).collect();
    let stored = outcomes.iter().filter(|outcome| **outcome == WriteOutcome::stored(5, 0)).count();
    let repeats = outcomes.iter().filter(|outcome| **outcome == WriteOutcome::Duplicate).count();
    assert_eq!((stored, repeats), (8, 24));
    assert_eq!(search_all(&*storage, &tenant(), "", 1_000).await, newest_first(&batches));
    assert_eq!(total(&*storage).await, 40);
    let report = report(&*storage).await;
    assert_eq!((report.stored, report.missing(), report.missing_sequences), (40, 0, vec![]));
}

pub(super) async fn other_content_under_the_same_id_is_put_aside_once(
    test: &impl StorageUnderTest,
) {
    let storage = test.open().await;
    let first = by(1, 1, 10, batch(1, "payments", 10, Duration::ZERO));
    store(&*storage, std::slice::from_ref(&first)).await;
    let mut other = by(1, 2, 13, batch(2, "payments", 3, Duration::ZERO));
    other.batch_id = first.batch_id;
    other.rejected.push(rejected(3));
    assert_eq!(storage.write(vec![other.clone()].into()).await.unwrap(), CONFLICT);
    assert_eq!(storage.write(vec![other.clone()].into()).await.unwrap(), CONFLICT);
    let letters = dead_letters(&*storage).await;
    let reasons: Vec<&str> = letters.iter().rev().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["batch_conflict", "batch_conflict", "batch_conflict", "message_too_large"]
    );
    assert_eq!(letters[3].record, other.records[0].record);
    assert!(letters.iter().all(|letter| letter.batch_id == batch_id(1)));
    assert_eq!(search_all(&*storage, &tenant(), "", 1_000).await, newest_first([&first]));
    let report = report(&*storage).await;
    assert_eq!((report.stored, report.rejected, report.sequence), (10, 4, 2));
}

pub(super) async fn rejected_records_are_put_aside(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let mut written = by(1, 1, 7, batch(1, "payments", 5, Duration::ZERO));
    written.rejected = vec![rejected(5), rejected(6)];
    store(&*storage, std::slice::from_ref(&written)).await;
    assert_eq!(storage.write(vec![written.clone()].into()).await.unwrap(), DUPLICATE);
    let letters = dead_letters(&*storage).await;
    assert_eq!(letters.len(), 2);
    let newest = &letters[0];
    assert_eq!(newest.record, written.rejected[1].record);
    assert_eq!(newest.resource, written.resource);
    assert_eq!((newest.reason.as_str(), newest.replayed_at), ("message_too_large", None));
    assert_eq!(newest.detail, written.rejected[1].detail);
    assert!(letters[1].dead_letter_id < newest.dead_letter_id);
    let report = report(&*storage).await;
    assert_eq!((report.stored, report.rejected, report.missing()), (5, 2, 0));
}

/// A latency that is not a number: storage cannot hold it.
fn poisoned(mut batch: ScoredBatch, indices: &[usize]) -> ScoredBatch {
    for index in indices {
        batch.records[*index].record.latency_ms = Some(f64::NAN);
    }
    batch
}

pub(super) async fn poison_takes_nothing_along(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let good = by(1, 1, 40, batch(1, "orders", 40, Duration::ZERO));
    let bad = poisoned(by(1, 2, 140, batch(2, "payments", 100, Duration::ZERO)), &[0, 57, 99]);
    let all_bad = poisoned(by(1, 3, 141, batch(3, "users", 1, Duration::ZERO)), &[0]);
    let outcomes =
        storage.write(vec![good.clone(), bad.clone(), all_bad.clone()].into()).await.unwrap();
    assert_eq!(
        outcomes,
        [
            WriteOutcome::stored(40, 0),
            WriteOutcome::Stored { stored: 97, dead_lettered: 3, put_aside: vec![0, 57, 99] },
            WriteOutcome::Stored { stored: 0, dead_lettered: 1, put_aside: vec![0] },
        ]
    );
    assert_eq!(storage.write(vec![bad.clone()].into()).await.unwrap(), DUPLICATE);
    let mut letters = dead_letters(&*storage).await;
    letters.reverse();
    assert!(
        letters.iter().all(|letter| letter.reason == "unstorable" && !letter.detail.is_empty())
    );
    let places: Vec<_> = letters.iter().map(|l| (l.batch_id, l.record.index)).collect();
    assert_eq!(places, [(batch_id(2), 0), (batch_id(2), 57), (batch_id(2), 99), (batch_id(3), 0)]);
    let mut survivors = bad.clone();
    survivors.records.retain(|log| log.record.latency_ms.is_none_or(f64::is_finite));
    assert_eq!(
        search_all(&*storage, &tenant(), "", 1_000).await,
        newest_first([&good, &survivors])
    );
    assert_eq!(total(&*storage).await, 137);
    let report = report(&*storage).await;
    assert_eq!((report.stored, report.rejected, report.missing()), (137, 4, 0));
}

pub(super) async fn a_batch_without_logs_updates_the_account(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let first = by(1, 1, 4, batch(1, "payments", 4, Duration::ZERO));
    let mut last = by(1, 2, 9, empty_batch(2, "payments"));
    last.producer.as_mut().unwrap().account.dropped = vec![("queue_overflow".into(), 5)];
    store(&*storage, &[first, last.clone()]).await;
    let report = report(&*storage).await;
    assert_eq!((report.sequence, report.stored, report.missing()), (2, 4, 0));
    assert_eq!(report.account, last.producer.unwrap().account);
    assert_eq!(total(&*storage).await, 4);
}

pub(super) async fn accounts_balance(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    // Sequence 2 is late, 4 and 5 never come; the account of 6 says what the producer holds.
    let mut newest = by(1, 6, 100, batch(6, "payments", 10, Duration::ZERO));
    newest.producer.as_mut().unwrap().account =
        Account { emitted: 100, queued: 30, spooled: 20, ..Account::default() };
    store(&*storage, &[by(1, 1, 10, batch(1, "payments", 10, Duration::ZERO)), newest.clone()])
        .await;
    store(&*storage, &[by(1, 3, 30, batch(3, "payments", 10, Duration::ZERO))]).await;
    let now = report(&*storage).await;
    assert_eq!((now.sequence, now.stored), (6, 30));
    assert_eq!(now.missing_sequences, [(2, 2), (4, 5)]);
    assert_eq!(now.missing(), 20);
    assert_eq!(now.account, newest.producer.unwrap().account);
    store(&*storage, &[by(1, 2, 20, batch(2, "payments", 10, Duration::ZERO))]).await;
    let later = report(&*storage).await;
    assert_eq!((later.missing_sequences.clone(), later.missing()), (vec![(4, 5)], 10));
    assert_eq!(later.last_received, super::NOW + Duration::from_nanos(6));
    // Another producer, heard of later, comes first.
    let mut other = by(2, 1, 1, empty_batch(9, "orders"));
    push(&mut other, 0, super::NOW);
    store(&*storage, &[other]).await;
    let reports = storage.delivery_report(&tenant(), None).await.unwrap();
    let services: Vec<&str> = reports.iter().map(|report| report.service.as_str()).collect();
    assert_eq!(services, ["orders", "payments"]);
    let service = super::sample::service("payments");
    assert_eq!(storage.delivery_report(&tenant(), Some(&service)).await.unwrap(), [later]);
}
