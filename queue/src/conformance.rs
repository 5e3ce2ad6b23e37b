//! The suites that implementations of the queue port pass.

use std::{collections::BTreeSet, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use logweir_core::{
    identity::{BatchId, Service, Tenant},
    record::{Batch, Record, Resource},
    timestamp::Timestamp,
};

use crate::{Consumer, Delivery, PublishError, Publisher};

/// Opens a fresh queue bounded in batches and bytes.
pub trait OpenQueue: AsyncFn(usize, usize) -> (Arc<dyn Publisher>, Box<dyn Consumer>) {}

impl<F: AsyncFn(usize, usize) -> (Arc<dyn Publisher>, Box<dyn Consumer>)> OpenQueue for F {}

/// A fresh queue that keeps batches, bounded in bytes.
#[async_trait]
pub trait KeepingQueue {
    /// The publisher's end.
    fn publisher(&self) -> Arc<dyn Publisher>;

    /// A consumer that takes from all of it. Dropping one is the death of its process.
    async fn consumer(&self) -> Box<dyn Consumer>;
}

/// Checks what the crate's documentation promises of every queue; panics where it is broken.
pub async fn check_queue(open: impl OpenQueue) {
    what_is_published_arrives_once(&open).await;
    receiving_may_be_given_up_at_any_moment(&open).await;
    a_closed_queue_refuses(&open).await;
}

/// Checks a queue that keeps nothing itself, so that publishing waits for the settlement.
pub async fn check_waiting_queue(open: impl OpenQueue) {
    publishing_waits_for_the_acknowledgement(&open).await;
    a_requeue_names_its_cause(&open).await;
    an_unsettled_delivery_is_requeued(&open).await;
    a_tenant_at_its_share_is_refused_at_once_and_another_is_taken(&open).await;
    a_flood_waits_behind_itself(&open).await;
    an_oversized_batch_passes_alone(&open).await;
    closing_drains(&open).await;
    a_vanished_consumer_refuses(&open).await;
}

/// Checks a queue that keeps batches itself, so that they outlive their consumers. `open` takes the
/// bound in bytes, which need not be kept to the byte.
pub async fn check_keeping_queue<Q: KeepingQueue>(open: impl AsyncFn(usize) -> Q) {
    publishing_waits_for_no_consumer(&open(1 << 20).await).await;
    a_requeued_batch_comes_again_in_time(&open(1 << 20).await).await;
    an_unsettled_batch_comes_again(&open(1 << 20).await).await;
    deaths_are_counted(&open(1 << 20).await).await;
    a_full_queue_refuses_until_there_is_room(&open(64 << 10).await).await;
}

fn batch(number: u8, message_bytes: usize) -> Batch {
    Batch {
        tenant: Tenant::default(),
        batch_id: BatchId([number; 16]),
        checksum: 0,
        received_at: Timestamp::EPOCH,
        producer: None,
        resource: Resource::of(Service::new("conformance").expect("the name is valid")),
        records: vec![Record { message: "x".repeat(message_bytes), ..Record::default() }],
        rejected: Vec::new(),
    }
}

/// Acknowledges a delivery and gives its batch's number.
fn settle(delivery: Option<Delivery>) -> u8 {
    let (received, settlement) = delivery.expect("the queue is open").into_parts();
    let number = received.batch_id.0[0];
    assert_eq!(received, batch(number, number.into()), "it arrives as it was published");
    settlement.acknowledge();
    number
}

async fn publish_all(publisher: &dyn Publisher, numbers: impl Iterator<Item = u8>) {
    for number in numbers {
        assert_eq!(publisher.publish(batch(number, number.into())).await, Ok(()));
    }
}

async fn what_is_published_arrives_once(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(100, 1 << 20).await;
    assert!(consumer.try_receive().is_none(), "it is empty");
    let receive = async {
        let mut numbers = BTreeSet::new();
        for _ in 1..=60 {
            assert!(numbers.insert(settle(consumer.receive().await)), "each is delivered once");
        }
    };
    let (odd, even) = ((1..60).step_by(2), (2..=60).step_by(2));
    tokio::join!(publish_all(&*publisher, odd), publish_all(&*publisher, even), receive);
    assert!(consumer.try_receive().is_none(), "nothing else is delivered");
}

/// Each call is polled once and, if it has nothing then, given up a moment later, when it may have
/// been woken.
async fn receiving_may_be_given_up_at_any_moment(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(100, 1 << 20).await;
    let receive = async {
        let mut numbers = BTreeSet::new();
        while numbers.len() < 40 {
            let mut receiving = consumer.receive();
            match poll_fn(|context| Poll::Ready(receiving.as_mut().poll(context))).await {
                Poll::Ready(delivery) => assert!(numbers.insert(settle(delivery))),
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
    };
    tokio::join!(publish_all(&*publisher, 1..=20), publish_all(&*publisher, 21..=40), receive);
}

async fn a_closed_queue_refuses(open: &impl OpenQueue) {
    let (publisher, _consumer) = open(10, 1 << 20).await;
    assert_eq!(publisher.check_ready(), Ok(()));
    publisher.close();
    assert_eq!(publisher.check_ready(), Err(PublishError::Closed));
    assert_eq!(publisher.publish(batch(1, 10)).await, Err(PublishError::Closed));
}

async fn publishing_waits_for_the_acknowledgement(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(10, 1 << 20).await;
    let mut publishing = publisher.publish(batch(1, 10));
    let delivery = tokio::select! {
        biased;
        early = &mut publishing => panic!("published before it was settled: {early:?}"),
        delivery = consumer.receive() => delivery.expect("the queue is open"),
    };
    let (received, settlement) = delivery.into_parts();
    assert_eq!(received, batch(1, 10), "the batch arrives as it was published");
    settlement.acknowledge();
    assert_eq!(publishing.await, Ok(()));
    assert!(consumer.try_receive().is_none(), "it is delivered once");
}

async fn a_requeue_names_its_cause(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(10, 1 << 20).await;
    let settle = async {
        let (_, settlement) = consumer.receive().await.expect("the queue is open").into_parts();
        settlement.requeue("disk full", Duration::from_secs(5));
    };
    let (published, ()) = tokio::join!(publisher.publish(batch(1, 10)), settle);
    let retry_after = Duration::from_secs(5);
    assert_eq!(published, Err(PublishError::NotDurable { cause: "disk full".into(), retry_after }));
}

async fn an_unsettled_delivery_is_requeued(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(10, 1 << 20).await;
    let give_up = async { drop(consumer.receive().await) };
    let (published, ()) = tokio::join!(publisher.publish(batch(1, 10)), give_up);
    assert!(matches!(published, Err(PublishError::NotDurable { .. })), "{published:?}");
}

async fn a_tenant_at_its_share_is_refused_at_once_and_another_is_taken(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(2, 1 << 20).await;
    let (own, other) = (Tenant::default(), other_tenant());
    let of_other = |number| Batch { tenant: other_tenant(), ..batch(number, 10) };
    let (first, second) = (publisher.publish(batch(1, 10)), publisher.publish(batch(2, 10)));
    let third = publisher.publish(of_other(3));
    let beyond = async {
        let refused = publisher.publish(batch(4, 10)).await;
        assert!(matches!(refused, Err(PublishError::OverShare(_))), "{refused:?}");
        assert!(refused.is_err_and(|error| !error.retry_after().is_zero()));
        assert!(publisher.check_room(&own).is_err());
        let full = publisher.publish(of_other(4)).await;
        assert!(matches!(full, Err(PublishError::OverShare(_))), "{full:?}");
        assert!(matches!(publisher.check_ready(), Err(PublishError::Full { .. })));
        // What was taken but not settled still counts.
        let (_, taken) = consumer.receive().await.expect("the queue is open").into_parts();
        assert!(publisher.publish(batch(4, 10)).await.is_err());
        taken.acknowledge();
        assert_eq!(publisher.check_ready(), Ok(()));
        for _ in 0..2 {
            consumer.receive().await.expect("the queue is open").into_parts().1.acknowledge();
        }
        assert_eq!((publisher.check_room(&own), publisher.check_room(&other)), (Ok(()), Ok(())));
    };
    let (first, second, third, ()) = tokio::join!(first, second, third, beyond);
    assert_eq!((first, second, third), (Ok(()), Ok(()), Ok(())));
}

async fn a_flood_waits_behind_itself(open: &impl OpenQueue) {
    // Large enough that a turn is worth less than two of them.
    const LARGE_BYTES: usize = 200 << 10;
    let (publisher, mut consumer) = open(100, 64 << 20).await;
    let flood = (1..=50).map(|number| publisher.publish(batch(number, LARGE_BYTES)));
    let flood = join_all(flood);
    let lone = publisher.publish(Batch { tenant: other_tenant(), ..batch(51, 10) });
    let receive = async {
        let mut numbers = Vec::new();
        while numbers.len() < 51 {
            let (received, settlement) =
                consumer.receive().await.expect("the queue is open").into_parts();
            numbers.push(received.batch_id.0[0]);
            settlement.acknowledge();
        }
        numbers
    };
    let (_, _, order) = tokio::join!(flood, lone, receive);
    let place = order.iter().position(|number| *number == 51).expect("each is delivered");
    assert!(place <= 2, "{order:?}");
}

fn other_tenant() -> Tenant {
    Tenant::new("other").expect("the name is valid")
}

async fn an_oversized_batch_passes_alone(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(10, 4_000).await;
    let beyond = async {
        assert!(publisher.publish(batch(2, 10)).await.is_err(), "no room beside it");
        consumer.receive().await.expect("the queue is open").into_parts().1.acknowledge();
    };
    let (large, ()) = tokio::join!(publisher.publish(batch(1, 10_000)), beyond);
    assert_eq!(large, Ok(()));
}

async fn closing_drains(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(10, 1 << 20).await;
    let drain = async {
        publisher.close();
        assert_eq!(publisher.publish(batch(2, 10)).await, Err(PublishError::Closed));
        consumer.receive().await.expect("it was taken before").into_parts().1.acknowledge();
        assert!(consumer.receive().await.is_none(), "closed and empty");
    };
    let (published, ()) = tokio::join!(publisher.publish(batch(1, 10)), drain);
    assert_eq!(published, Ok(()));
}

async fn a_vanished_consumer_refuses(open: &impl OpenQueue) {
    let (publisher, consumer) = open(10, 1 << 20).await;
    let (published, ()) = tokio::join!(publisher.publish(batch(1, 10)), async { drop(consumer) });
    assert!(published.is_err());
    assert!(publisher.check_ready().is_err());
}

async fn publishing_waits_for_no_consumer(queue: &impl KeepingQueue) {
    let publisher = queue.publisher();
    publish_all(&*publisher, 1..=20).await;
    let mut consumer = queue.consumer().await;
    let mut numbers = BTreeSet::new();
    while numbers.len() < 20 {
        assert!(numbers.insert(settle(consumer.receive().await)), "each is delivered once");
    }
    assert!(consumer.try_receive().is_none(), "nothing else is delivered");
}

async fn a_requeued_batch_comes_again_in_time(queue: &impl KeepingQueue) {
    publish_all(&*queue.publisher(), 1..=2).await;
    let mut consumer = queue.consumer().await;
    let retry_after = Duration::from_millis(300);
    let first = consumer.receive().await.expect("the queue is open");
    let (batch, settlement) = first.into_parts();
    let requeued = batch.batch_id.0[0];
    let asked = tokio::time::Instant::now();
    settlement.requeue("storage is away", retry_after);
    assert_ne!(settle(consumer.receive().await), requeued, "others need not wait");
    let again = consumer.receive().await.expect("the queue is open");
    assert!(asked.elapsed() >= retry_after, "not before the time asked for");
    assert_eq!(again.delivery_count(), 0, "a requeue says nothing against the batch");
    assert_eq!(settle(Some(again)), requeued);
    assert!(consumer.try_receive().is_none(), "once acknowledged it is gone");
}

async fn an_unsettled_batch_comes_again(queue: &impl KeepingQueue) {
    publish_all(&*queue.publisher(), 1..=1).await;
    let mut consumer = queue.consumer().await;
    drop(consumer.receive().await.expect("the queue is open"));
    assert_eq!(settle(consumer.receive().await), 1);
}

/// Each consumer dies with what it was handed out.
async fn deaths_are_counted(queue: &impl KeepingQueue) {
    publish_all(&*queue.publisher(), 1..=1).await;
    for deaths in 0..3 {
        let mut consumer = queue.consumer().await;
        let delivery = consumer.receive().await.expect("the queue is open");
        assert_eq!(delivery.delivery_count(), deaths);
        std::mem::forget(delivery);
    }
    let mut consumer = queue.consumer().await;
    let delivery = consumer.receive().await.expect("the queue is open");
    assert_eq!(delivery.delivery_count(), 3);
    assert_eq!(settle(Some(delivery)), 1);
}

async fn a_full_queue_refuses_until_there_is_room(queue: &impl KeepingQueue) {
    let publisher = queue.publisher();
    let mut published = 0_usize;
    let refused = loop {
        match publisher.publish(noise(published)).await {
            Ok(()) => published += 1,
            Err(refused) => break refused,
        }
        assert!(published < 10_000, "the bound is not kept");
    };
    assert!(matches!(refused, PublishError::Full { .. }), "{refused:?}");
    assert!(!refused.retry_after().is_zero());
    let mut consumer = queue.consumer().await;
    for _ in 0..published {
        consumer.receive().await.expect("the queue is open").into_parts().1.acknowledge();
    }
    while let Err(refused) = publisher.publish(noise(published)).await {
        assert!(matches!(refused, PublishError::Full { .. }), "{refused:?}");
        tokio::task::yield_now().await;
    }
}

/// A batch of 4 KB that cannot be compressed much.
fn noise(number: usize) -> Batch {
    let mut state = number as u64 + 1;
    let mut digits = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    let mut batch = batch(0, 0);
    batch.batch_id.0[..8].copy_from_slice(&(number as u64).to_be_bytes());
    batch.records[0].message = (0..512).map(|_| digits()).collect();
    batch
}
