//! The one suite that every implementation of the queue port passes.

use std::{sync::Arc, time::Duration};

use logweir_core::{
    identity::{BatchId, Service, Tenant},
    record::{Batch, Record, Resource},
};

use crate::{Consumer, PublishError, Publisher};

/// Opens a fresh queue bounded in batches and bytes.
pub trait OpenQueue: Fn(usize, usize) -> (Arc<dyn Publisher>, Box<dyn Consumer>) {}

impl<F: Fn(usize, usize) -> (Arc<dyn Publisher>, Box<dyn Consumer>)> OpenQueue for F {}

/// Checks the contract in the crate's documentation; panics where it is broken.
pub async fn check_queue(open: impl OpenQueue) {
    publishing_waits_for_the_acknowledgement(&open).await;
    a_requeue_names_its_cause(&open).await;
    an_unsettled_delivery_is_requeued(&open).await;
    a_full_queue_refuses_at_once(&open).await;
    an_oversized_batch_passes_alone(&open).await;
    closing_drains(&open).await;
    a_vanished_consumer_refuses(&open).await;
}

fn batch(number: u8, message_bytes: usize) -> Batch {
    Batch {
        tenant: Tenant::default(),
        batch_id: BatchId([number; 16]),
        checksum: 0,
        received_unix_nano: 0,
        producer: None,
        resource: Resource::of(Service::new("conformance").expect("the name is valid")),
        records: vec![Record { message: "x".repeat(message_bytes), ..Record::default() }],
        rejected: Vec::new(),
    }
}

async fn publishing_waits_for_the_acknowledgement(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(10, 1 << 20);
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
    let (publisher, mut consumer) = open(10, 1 << 20);
    let settle = async {
        let (_, settlement) = consumer.receive().await.expect("the queue is open").into_parts();
        settlement.requeue("disk full", Duration::from_secs(5));
    };
    let (published, ()) = tokio::join!(publisher.publish(batch(1, 10)), settle);
    let retry_after = Duration::from_secs(5);
    assert_eq!(published, Err(PublishError::NotDurable { cause: "disk full".into(), retry_after }));
}

async fn an_unsettled_delivery_is_requeued(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(10, 1 << 20);
    let give_up = async { drop(consumer.receive().await) };
    let (published, ()) = tokio::join!(publisher.publish(batch(1, 10)), give_up);
    assert!(matches!(published, Err(PublishError::NotDurable { .. })), "{published:?}");
}

async fn a_full_queue_refuses_at_once(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(2, 1 << 20);
    let (first, second) = (publisher.publish(batch(1, 10)), publisher.publish(batch(2, 10)));
    let beyond = async {
        assert!(matches!(publisher.check_ready(), Err(PublishError::Full { .. })));
        let refused = publisher.publish(batch(3, 10)).await;
        assert!(matches!(refused, Err(PublishError::Full { .. })), "{refused:?}");
        assert!(refused.is_err_and(|error| !error.retry_after().is_zero()));
        // What was taken but not settled still counts.
        let (_, taken) = consumer.receive().await.expect("the queue is open").into_parts();
        assert!(publisher.publish(batch(3, 10)).await.is_err());
        taken.acknowledge();
        assert_eq!(publisher.check_ready(), Ok(()));
        consumer.receive().await.expect("the queue is open").into_parts().1.acknowledge();
    };
    let (first, second, ()) = tokio::join!(first, second, beyond);
    assert_eq!((first, second), (Ok(()), Ok(())));
}

async fn an_oversized_batch_passes_alone(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(10, 4_000);
    let beyond = async {
        assert!(publisher.publish(batch(2, 10)).await.is_err(), "no room beside it");
        consumer.receive().await.expect("the queue is open").into_parts().1.acknowledge();
    };
    let (large, ()) = tokio::join!(publisher.publish(batch(1, 10_000)), beyond);
    assert_eq!(large, Ok(()));
}

async fn closing_drains(open: &impl OpenQueue) {
    let (publisher, mut consumer) = open(10, 1 << 20);
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
    let (publisher, consumer) = open(10, 1 << 20);
    let (published, ()) = tokio::join!(publisher.publish(batch(1, 10)), async { drop(consumer) });
    assert!(published.is_err());
    assert!(publisher.check_ready().is_err());
}
