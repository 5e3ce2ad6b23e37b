//! What one tenant sends keeps what another sends waiting for a turn and no longer.

use std::{collections::BTreeSet, time::Duration};

use logweir_core::{
    identity::{Service, Tenant},
    record::{Batch, Record},
    runtime::clock::now,
    timestamp::Timestamp,
};
use logweir_queue::{Committed, Partitions, RabbitConfig};
use rand::{RngExt as _, distr::Alphanumeric};
use testkit::RabbitMq;
use tokio::time::{interval, timeout};

use super::harness::{batch, config, consumer, number, publisher, receive};

/// A flood's batches, each of a size that compression does not change much.
const FLOOD: u64 = 40;
const BYTES: usize = 384 << 10;
/// The number of the batch that comes behind all of them.
const CALM: u64 = 1_000;

fn of(tenant: &str, number: u64, bytes: usize, received_at: Timestamp) -> Batch {
    let letters = rand::rng().sample_iter(Alphanumeric).take(bytes).map(char::from);
    let mut batch = batch(number);
    batch.tenant = Tenant::new(tenant).expect("a name");
    batch.resource.service = Service::new("same-partition").expect("a name");
    batch.received_at = received_at;
    batch.records = vec![Record { message: letters.collect(), ..Record::default() }];
    batch
}

/// A consumer that sees little at a time: what waits behind a flood would come last.
fn with_short_prefetch(broker: &RabbitMq) -> RabbitConfig {
    let config = config(broker);
    RabbitConfig { partitions: 1, prefetch_batches_max: 4, lag_interval_ms: 100, ..config }
}

/// A flood, and behind it one batch of another tenant, by a server whose clock is ahead.
async fn publish_all(config: &RabbitConfig, ahead: Duration) {
    let publisher = publisher(config).await;
    for number in 0..FLOOD {
        let batch = of("flood", number, BYTES, now() + ahead);
        publisher.publish(batch).await.expect("it is taken");
    }
    publisher.publish(of("calm", CALM, 10, now() + ahead)).await.expect("it is taken");
}

/// What is committed, once that is so. What does not come for so long does not come.
async fn wait_until(partitions: &Partitions, is_so: impl Fn(&Committed) -> bool) -> Committed {
    let mut looks = interval(Duration::from_millis(10));
    let look = async {
        loop {
            looks.tick().await;
            let committed = partitions.committed();
            if is_so(&committed) {
                return committed;
            }
        }
    };
    timeout(Duration::from_secs(60), look).await.expect("it comes to that")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_waits_behind_itself_and_holds_nobody_elses_watermark() {
    let broker = RabbitMq::start().await;
    let config = with_short_prefetch(&broker);
    // As if it were read for long: by then all are known whose batches wait with the bulk.
    publish_all(&config, Duration::from_secs(600)).await;
    let (mut consumer, partitions) = consumer(&config).await;
    let mut stored = BTreeSet::new();
    while !stored.contains(&CALM) {
        let (batch, settlement) = receive(&mut *consumer).await.into_parts();
        stored.insert(number(&batch));
        settlement.acknowledge();
    }
    assert!(stored.len() < FLOOD as usize / 2, "{} came before it", stored.len());
    while stored.len() < FLOOD as usize - 3 {
        let (batch, settlement) = receive(&mut *consumer).await.into_parts();
        stored.insert(number(&batch));
        settlement.acknowledge();
    }
    // One of the last, as storage that is slow would keep it.
    let (kept, settlement) = receive(&mut *consumer).await.into_parts();
    let passes = |through: Option<Timestamp>| through > Some(kept.received_at);
    let committed = wait_until(&partitions, |committed| passes(committed.regular[&0])).await;
    assert!(committed.bulk[&0].is_some() && !passes(committed.bulk[&0]), "{committed:?}");
    assert_eq!(committed.bulk_tenants, [Tenant::new("flood").expect("a name")]);
    settlement.acknowledge();
    stored.insert(number(&kept));
    while stored.len() <= FLOOD as usize {
        let (batch, settlement) = receive(&mut *consumer).await.into_parts();
        stored.insert(number(&batch));
        settlement.acknowledge();
    }
    wait_until(&partitions, |committed| passes(committed.bulk[&0])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_backlog_over_claims_nothing_of_tenants_that_it_cannot_know() {
    let broker = RabbitMq::start().await;
    let config = with_short_prefetch(&broker);
    publish_all(&config, Duration::ZERO).await;
    // Whoever was told whose batches wait with the bulk is gone.
    let (mut before, _) = consumer(&config).await;
    let mut stored = BTreeSet::new();
    while !stored.contains(&CALM) {
        let (batch, settlement) = receive(&mut *before).await.into_parts();
        stored.insert(number(&batch));
        settlement.acknowledge();
    }
    drop(before);
    let began = now();
    let (mut after, partitions) = consumer(&config).await;
    let mut waiting = Vec::new();
    while waiting.len() < 4 {
        waiting.push(receive(&mut *after).await);
    }
    let committed = wait_until(&partitions, |committed| committed.bulk[&0].is_some()).await;
    assert!(committed.bulk[&0] < Some(began), "it is a backlog");
    assert!(committed.regular[&0] <= committed.bulk[&0], "nobody's absence is known");
}
