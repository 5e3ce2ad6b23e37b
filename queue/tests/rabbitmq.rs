//! The queue in RabbitMQ, against a real broker.

mod rabbitmq {
    pub(crate) mod bench;
}

use std::sync::Arc;

use async_trait::async_trait;
use logweir_core::runtime::tasks::Tasks;
use logweir_queue::{
    Consumer, KeepingQueue, Publisher, RabbitConfig, check_keeping_queue, check_queue,
};
use rabbitmq::bench::{all, config};
use testkit::RabbitMq;

/// Every queue of a suite gets names of its own.
fn fresh(broker: &RabbitMq) -> RabbitConfig {
    RabbitConfig { prefix: format!("q{}", uuid::Uuid::new_v4().simple()), ..config(broker) }
}

struct Kept {
    config: RabbitConfig,
    publisher: Arc<dyn Publisher>,
}

#[async_trait]
impl KeepingQueue for Kept {
    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::clone(&self.publisher)
    }

    async fn consumer(&self) -> Box<dyn Consumer> {
        let (consumer, partitions) =
            logweir_queue::consumer(&self.config, &Tasks::new()).await.unwrap();
        partitions.assign(all(&self.config));
        consumer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_of_every_queue() {
    let broker = RabbitMq::start().await;
    check_queue(async |unconfirmed_batches_max, unconfirmed_bytes_max| {
        let config =
            RabbitConfig { unconfirmed_batches_max, unconfirmed_bytes_max, ..fresh(&broker) };
        let tasks = Tasks::new();
        let publisher = logweir_queue::publisher(&config, &tasks).await.unwrap();
        let (consumer, partitions) = logweir_queue::consumer(&config, &tasks).await.unwrap();
        partitions.assign(all(&config));
        (publisher, consumer)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_of_a_queue_that_keeps_batches() {
    let broker = RabbitMq::start().await;
    check_keeping_queue(async |partition_bytes_max| {
        let partition_bytes_max = partition_bytes_max as u64;
        let config = RabbitConfig { partition_bytes_max, ..fresh(&broker) };
        let publisher = logweir_queue::publisher(&config, &Tasks::new()).await.unwrap();
        Kept { config, publisher }
    })
    .await;
}
