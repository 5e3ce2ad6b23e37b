//! What one tenant sends keeps what another sends waiting for a turn and no longer.

use std::{collections::BTreeSet, time::Duration};

use logweir_core::{
    identity::{Service, Tenant},
    record::{Batch, Record},
    runtime::clock::now,
};
use logweir_queue::RabbitConfig;
use rand::{RngExt as _, distr::Alphanumeric};
use testkit::RabbitMq;

use super::harness::{batch, config, consumer, number, publisher, receive};

/// A flood's batches, each of a size that compression does not change much.
const FLOOD: u64 = 40;
const BYTES: usize = 384 << 10;
/// The number of the batch that comes behind all of them.
const CALM: u64 = 1_000;

fn of(tenant: &str, number: u64, bytes: usize) -> Batch {
    let letters = rand::rng().sample_iter(Alphanumeric).take(bytes).map(char::from);
    let mut batch = batch(number);
    batch.tenant = Tenant::new(tenant).expect("a name");
    batch.resource.service = Service::new("same-partition").expect("a name");
    batch.received_at = now();
    batch.records = vec![Record { message: letters.collect(), ..Record::default() }];
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_waits_behind_itself_and_holds_nobody_elses_watermark() {
    let broker = RabbitMq::start().await;
    // A consumer that sees little at a time: what waits behind a flood would come last.
    let config = RabbitConfig {
        partitions: 1,
        prefetch_batches_max: 4,
        lag_interval_ms: 100,
        ..config(&broker)
    };
    let publisher = publisher(&config).await;
    for number in 0..FLOOD {
        publisher.publish(of("flood", number, BYTES)).await.expect("it is taken");
    }
    publisher.publish(of("calm", CALM, 10)).await.expect("it is taken");
    let (mut consumer, partitions) = consumer(&config).await;
    let (mut stored, mut waiting) = (BTreeSet::new(), None);
    while !stored.contains(&CALM) {
        let (batch, settlement) = receive(&mut *consumer).await.into_parts();
        stored.insert(number(&batch));
        // The first is kept for long, as storage that is slow would keep it.
        match &waiting {
            None => waiting = Some((batch, settlement)),
            Some(_) => settlement.acknowledge(),
        }
    }
    assert!(stored.len() < FLOOD as usize / 2, "{} came before it", stored.len());
    let flood = Tenant::new("flood").expect("a name");
    assert_eq!(partitions.committed(now()).bulk_tenants, [flood]);
    let (first, settlement) = waiting.expect("one was kept");
    let committed = partitions.committed(now());
    let through = [committed.regular[&0], committed.bulk[&0]].into_iter().flatten().min();
    assert!(through <= Some(first.received_at), "what is in hand holds it");
    settlement.acknowledge();
    while stored.len() <= FLOOD as usize {
        let (batch, settlement) = receive(&mut *consumer).await.into_parts();
        stored.insert(number(&batch));
        settlement.acknowledge();
    }
    // Once the broker has been asked again, all is known to have come; and in some minutes that the
    // flood is over, if nothing more does.
    let later = now() + Duration::from_secs(600);
    let is_known = || {
        let committed = partitions.committed(later);
        let through = |known: Option<&Option<_>>| known.copied().flatten() == Some(later);
        through(committed.regular.get(&0))
            && through(committed.bulk.get(&0))
            && committed.bulk_tenants.is_empty()
    };
    while !is_known() {
        tokio::task::yield_now().await;
    }
}
