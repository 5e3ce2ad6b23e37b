//! The queue in RabbitMQ, against a real broker. `faults.rs` has what befalls the broker.

mod faults;
pub(crate) mod harness;
mod live;
mod partitions;
mod poison;
mod tenants;
mod topology;

use std::sync::Arc;

use async_trait::async_trait;
use logweir_queue::{
    Consumer, KeepingQueue, Publisher, RabbitConfig, check_keeping_queue, check_queue,
};
use testkit::RabbitMq;

/// Every queue of a suite gets names of its own.
fn fresh(broker: &RabbitMq) -> RabbitConfig {
    let prefix = format!("q{}", uuid::Uuid::new_v4().simple());
    RabbitConfig { prefix, ..harness::config(broker) }
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
        harness::consumer(&self.config).await.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_of_every_queue() {
    let broker = RabbitMq::start().await;
    check_queue(async |unconfirmed_batches_max, unconfirmed_bytes_max| {
        let config =
            RabbitConfig { unconfirmed_batches_max, unconfirmed_bytes_max, ..fresh(&broker) };
        (harness::publisher(&config).await, harness::consumer(&config).await.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_of_a_queue_that_keeps_batches() {
    let broker = RabbitMq::start().await;
    check_keeping_queue(async |partition_bytes_max| {
        let partition_bytes_max = partition_bytes_max as u64;
        let config = RabbitConfig { partition_bytes_max, ..fresh(&broker) };
        let publisher = harness::publisher(&config).await;
        Kept { config, publisher }
    })
    .await;
}
