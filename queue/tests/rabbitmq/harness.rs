//! What the tests against a broker share.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use logweir_core::{
    identity::{BatchId, Service, Tenant},
    record::{Batch, Record, Resource},
    runtime::tasks::Tasks,
};
use logweir_queue::{Consumer, Delivery, Partitions, PublishError, Publisher, RabbitConfig};
use testkit::RabbitMq;
use tokio::time::timeout;

/// Two partitions: making a quorum queue takes its time.
pub(crate) fn config(broker: &RabbitMq) -> RabbitConfig {
    RabbitConfig { url: broker.url(), partitions: 2, ..RabbitConfig::default() }
}

/// Waits until the broker would know its queues after a crash. It writes what queues there are to
/// its disk seconds after they were declared; `rabbitmq/topology.rs` says so.
pub(crate) async fn queues_are_durable(broker: &RabbitMq) {
    let synced = broker.evaluate("[ok = dets:sync(Table) || Table <- dets:all()], ok").await;
    assert_eq!(synced, "ok");
}

/// All partitions.
pub(crate) fn all(config: &RabbitConfig) -> BTreeSet<u16> {
    (0..config.partitions).collect()
}

pub(crate) async fn publisher(config: &RabbitConfig) -> Arc<dyn Publisher> {
    logweir_queue::publisher(config, &Tasks::new()).await.expect("the broker answers")
}

/// A consumer of all partitions.
pub(crate) async fn consumer(config: &RabbitConfig) -> (Box<dyn Consumer>, Partitions) {
    let (consumer, partitions) =
        logweir_queue::consumer(config, &Tasks::new()).await.expect("the broker answers");
    partitions.assign(all(config));
    (consumer, partitions)
}

/// A batch of one log, of one of a few services.
pub(crate) fn batch(number: u64) -> Batch {
    let mut batch_id = BatchId([0; 16]);
    batch_id.0[8..].copy_from_slice(&number.to_be_bytes());
    let service = Service::new(&format!("service-{}", number % 7)).expect("a name");
    Batch {
        tenant: Tenant::default(),
        batch_id,
        checksum: number,
        received_unix_nano: 1,
        producer: None,
        resource: Resource::of(service),
        records: vec![Record { message: format!("log {number}"), ..Record::default() }],
        rejected: Vec::new(),
    }
}

pub(crate) fn number(batch: &Batch) -> u64 {
    u64::from_be_bytes(batch.batch_id.0[8..].try_into().expect("eight bytes"))
}

/// Publishes until it is taken, as a sender does.
pub(crate) async fn deliver(publisher: &dyn Publisher, number: u64) {
    while let Err(error) = publisher.publish(batch(number)).await {
        assert_ne!(error, PublishError::Closed);
        tokio::time::sleep(error.retry_after().min(Duration::from_millis(200))).await;
    }
}

/// The next delivery. What hangs for so long is lost.
pub(crate) async fn receive(consumer: &mut dyn Consumer) -> Delivery {
    let received = timeout(Duration::from_secs(60), consumer.receive()).await;
    received.expect("a batch comes").expect("the consumer is open")
}

/// Acknowledges everything that comes until all these numbers have come; how often each came.
pub(crate) async fn drain(consumer: &mut dyn Consumer, mut missing: BTreeSet<u64>) -> usize {
    let mut deliveries = 0;
    while !missing.is_empty() {
        let (batch, settlement) = receive(consumer).await.into_parts();
        missing.remove(&number(&batch));
        settlement.acknowledge();
        deliveries += 1;
    }
    deliveries
}
