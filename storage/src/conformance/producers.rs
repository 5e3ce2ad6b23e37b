//! The producers' accounts: their sums by service, and which of them a report lists.

use std::{collections::BTreeMap, time::Duration};

use logweir_core::{
    identity::{ProducerId, Tenant},
    record::{Account, ScoredBatch},
};

use super::{
    NOW, StorageUnderTest,
    sample::{HOUR, batch, by, empty_batch, maintain, search_all, service, store, tenant},
};
use crate::{
    PRODUCERS_MAX, ProducerReport, ProducerTotals, Storage, WriteOutcome,
    producer_totals::{ACCOUNT_FIGURE_MAX, LISTED_OF_SERVICE_MAX},
};

async fn listed(storage: &dyn Storage) -> Vec<ProducerReport> {
    storage.delivery_report(&tenant(), None).await.unwrap()
}

async fn sums(storage: &dyn Storage) -> Vec<ProducerTotals> {
    storage.producer_totals(&tenant(), None).await.unwrap()
}

/// The same sums, by hand.
fn added_up(reports: &[ProducerReport]) -> Vec<ProducerTotals> {
    let mut sums: BTreeMap<String, ProducerTotals> = BTreeMap::new();
    let add = |sum: &mut u64, figure: u64| {
        *sum += figure.min(ACCOUNT_FIGURE_MAX.unsigned_abs());
    };
    for of in reports {
        let name = of.service.to_string();
        let sum =
            sums.entry(name).or_insert_with(|| ProducerTotals::of(of.service.clone(), [0; 8]));
        sum.producers += 1;
        add(&mut sum.emitted, of.account.emitted);
        add(&mut sum.dropped, of.account.dropped_total());
        add(&mut sum.queued, of.account.queued);
        add(&mut sum.spooled, of.account.spooled);
        add(&mut sum.stored, of.stored);
        add(&mut sum.rejected, of.rejected);
        add(&mut sum.missing, of.missing().max(0).unsigned_abs());
    }
    sums.into_values().collect()
}

/// With an account that has something of everything.
fn with_account(mut batch: ScoredBatch, dropped: &[(&str, u64)]) -> ScoredBatch {
    if let Some(producer) = &mut batch.producer {
        let dropped = dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count));
        producer.account = Account {
            dropped: dropped.collect(),
            queued: 2,
            spooled: 1,
            ..producer.account.clone()
        };
    }
    batch
}

pub(super) async fn sums_are_those_of_the_accounts(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let first = with_account(
        by(1, 1, 20, batch(1, "payments", 5, Duration::ZERO)),
        &[("buffer_full", 3), ("too_large", 4)],
    );
    // Stored more than it said: that does not make up for what the other one lacks.
    let ahead = by(2, 1, 3, batch(2, "payments", 5, Duration::ZERO));
    let absurd = by(3, 1, u64::MAX, batch(3, "orders", 2, Duration::ZERO));
    store(&*storage, &[first.clone(), ahead, absurd]).await;
    assert_eq!(sums(&*storage).await, added_up(&listed(&*storage).await));
    // Repeats and conflicts; one goes over to another service; at the same time.
    let mut other = by(1, 7, 90, batch(4, "payments", 1, Duration::ZERO));
    other.batch_id = first.batch_id;
    let moved = by(1, 2, 40, batch(5, "orders", 3, Duration::ZERO));
    let absurd = with_account(
        by(4, 1, u64::MAX - 1, batch(6, "orders", 2, Duration::ZERO)),
        &[("buffer_full", u64::MAX), ("too_large", 9)],
    );
    let (repeated, added) = tokio::join!(
        storage.write(vec![first, other].into()),
        storage.write(vec![moved, absurd].into())
    );
    assert_eq!(repeated.unwrap(), [WriteOutcome::Duplicate, WriteOutcome::Conflict]);
    assert_eq!(added.unwrap(), [WriteOutcome::stored(3, 0), WriteOutcome::stored(2, 0)]);
    let of_all = sums(&*storage).await;
    assert_eq!(of_all, added_up(&listed(&*storage).await));
    assert_eq!(of_all.iter().map(|of| of.producers).sum::<u64>(), 4);
    let orders = storage.producer_totals(&tenant(), Some(&service("orders"))).await.unwrap();
    assert_eq!(orders, of_all[..1]);
    // What said something absurd goes over too, and leaves nothing of it behind.
    let gone = by(3, 2, 2, batch(7, "payments", 1, Duration::ZERO));
    store(&*storage, &[gone]).await;
    assert_eq!(sums(&*storage).await, added_up(&listed(&*storage).await));
    maintain(&*storage, NOW + 91 * 24 * HOUR).await;
    assert_eq!(sums(&*storage).await, []);
}

pub(super) async fn repeats_of_senders_without_an_account_are_counted(
    test: &impl StorageUnderTest,
) {
    let storage = test.open().await;
    let sent = batch(1, "payments", 5, Duration::ZERO);
    let later = |seconds| {
        let received_at = sent.received_at + Duration::from_secs(seconds);
        ScoredBatch { received_at, ..sent.clone() }
    };
    let with_account = by(1, 1, 5, batch(2, "payments", 5, Duration::ZERO));
    let again = ScoredBatch { received_at: later(1).received_at, ..with_account.clone() };
    assert_eq!(storage.repeated_logs(&tenant()).await.unwrap(), 0);
    for (written, repeated) in [
        (vec![sent.clone(), with_account], 0),
        // By the queue once more.
        (vec![sent.clone()], 0),
        (vec![later(1)], 5),
        (vec![later(1), sent.clone(), again], 5),
        (vec![later(2)], 10),
    ] {
        storage.write(written.into()).await.unwrap();
        assert_eq!(storage.repeated_logs(&tenant()).await.unwrap(), repeated);
    }
    assert_eq!(storage.repeated_logs(&Tenant::new("other").unwrap()).await.unwrap(), 0);
    assert_eq!(search_all(&*storage, &tenant(), "", 100).await.len(), 10);
}

pub(super) async fn the_ledger_tells_what_it_has(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let [first, second, other] = [1, 2, 3].map(|id| batch(id, "payments", 2, Duration::ZERO));
    storage.write(vec![first.clone(), second.clone()].into()).await.unwrap();
    let ids = [first.batch_id, second.batch_id, other.batch_id];
    let known = storage.ledger_checksums(&tenant(), &ids).await.unwrap();
    let expected = [&first, &second].map(|batch| (batch.batch_id, batch.checksum));
    assert_eq!(known, expected.into());
    let foreign = storage.ledger_checksums(&Tenant::new("other").unwrap(), &ids).await.unwrap();
    assert!(foreign.is_empty());
    assert!(storage.ledger_checksums(&tenant(), &[]).await.unwrap().is_empty());
}

pub(super) async fn many_reasons_are_kept_as_few(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let names: Vec<String> = (0..64).map(|number| format!("{number:064}")).collect();
    let reasons: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(1..).collect();
    let sent = with_account(by(1, 1, 9_999, empty_batch(1, "payments")), &reasons);
    store(&*storage, std::slice::from_ref(&sent)).await;
    let report = listed(&*storage).await;
    let kept = &report[0].account;
    assert_eq!(kept.dropped.len(), 16);
    assert_eq!((kept.dropped_total(), kept.dropped[0].1), (64 * 65 / 2, 64));
    assert_eq!(kept.dropped[15], ("other".to_owned(), 49 * 50 / 2));
    assert_eq!(sums(&*storage).await, added_up(&report));
}

/// The first batch of a producer with this number.
fn first_of(number: u64) -> ScoredBatch {
    let mut sent = with_account(
        by(0, 1, 10, batch(number, "payments", 1, Duration::ZERO)),
        &[("a", 1), ("b", 1)],
    );
    // An id of version 4: one of version 7 says when it was minted, and would be too young.
    sent.batch_id.0[6] = 0x40;
    let mut id = [7; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    sent.producer.as_mut().unwrap().producer_id = ProducerId(id);
    sent
}

async fn assert_known(storage: &dyn Storage, sent: &[ScoredBatch]) {
    let outcomes = storage.write(sent.into()).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == WriteOutcome::Duplicate), "{outcomes:?}");
}

pub(super) async fn idle_producers_leave_the_list_and_stay_known(test: &impl StorageUnderTest) {
    const { assert!(LISTED_OF_SERVICE_MAX < PRODUCERS_MAX) };
    let storage = test.open().await;
    let sent: Vec<ScoredBatch> = (1..=LISTED_OF_SERVICE_MAX as u64 + 3).map(first_of).collect();
    let other = by(1, 1, 1, batch(5_000, "orders", 1, 10 * HOUR));
    store(&*storage, &sent).await;
    store(&*storage, &[other]).await;
    let of_all = sums(&*storage).await;
    assert_eq!(of_all, added_up(&listed(&*storage).await));

    maintain(&*storage, NOW + HOUR).await;
    let is_listed = async |sent: &ScoredBatch| {
        let id = sent.producer.as_ref().unwrap().producer_id;
        listed(&*storage).await.iter().any(|of| of.producer_id == id)
    };
    assert_eq!(listed(&*storage).await.len(), LISTED_OF_SERVICE_MAX + 1);
    assert!(!is_listed(&sent[2]).await && is_listed(&sent[3]).await, "the idlest are not listed");
    assert_eq!(sums(&*storage).await, of_all, "the sums are of all");
    assert_known(&*storage, &sent).await;
    // By its sequence alone, once the entries of the ledger are gone.
    maintain(&*storage, NOW + 49 * HOUR).await;
    assert_known(&*storage, &sent).await;
    assert_eq!(sums(&*storage).await, of_all);

    let mut back = ScoredBatch { producer: sent[0].producer.clone(), ..first_of(9_000) };
    back.producer.as_mut().unwrap().sequence = 2;
    store(&*storage, std::slice::from_ref(&back)).await;
    assert!(is_listed(&back).await);
    let mut expected = of_all;
    expected[1].stored += 1;
    expected[1].missing -= 1;
    assert_eq!(sums(&*storage).await, expected, "nothing of it is counted twice");
    assert_known(&*storage, &[sent[0].clone(), back]).await;
}
