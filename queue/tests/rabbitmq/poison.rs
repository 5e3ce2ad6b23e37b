//! Messages that cannot be read, and batches that come again and again.

use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use logweir_queue::RabbitConfig;
use testkit::{Proxy, RabbitMq};

use super::harness::{config, consumer, deliver, number, publisher, receive};

async fn publish_raw(config: &RabbitConfig, queue: &str, body: &[u8]) {
    let connection = Connection::connect(&config.url, ConnectionProperties::default())
        .await
        .expect("the broker answers");
    let channel = connection.create_channel().await.expect("the broker answers");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("the broker answers");
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let sent = channel.basic_publish("".into(), queue.into(), options, body, properties);
    assert!(sent.await.expect("the broker answers").await.expect("the broker answers").is_ack());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_batch_comes_as_rejected_logs() {
    let broker = RabbitMq::start().await;
    let config = config(&broker);
    let publisher = publisher(&config).await;
    publish_raw(&config, "logweir.batches.0", b"not a batch").await;
    let (mut consumer, _) = consumer(&config).await;
    let (batch, settlement) = receive(&mut *consumer).await.into_parts();
    assert!(batch.records.is_empty());
    assert_eq!(batch.rejected[0].reason, "unreadable_message");
    assert_eq!(batch.rejected[0].record.message, hex::encode("not a batch"));
    settlement.acknowledge();
    deliver(&*publisher, 5).await;
    assert_eq!(number(receive(&mut *consumer).await.batch()), 5, "the others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_broker_gave_up_comes_quarantined() {
    let broker = RabbitMq::start().await;
    let config = RabbitConfig { deliveries_max: 2, ..config(&broker) };
    deliver(&*publisher(&config).await, 5).await;
    for deaths in 0..3 {
        let (mut consumer, _) = consumer(&config).await;
        let delivery = receive(&mut *consumer).await;
        assert_eq!(delivery.delivery_count(), deaths);
        std::mem::forget(delivery);
    }
    let (mut consumer, _) = consumer(&config).await;
    let (batch, settlement) = receive(&mut *consumer).await.into_parts();
    assert_eq!((number(&batch), batch.records.len()), (5, 0));
    assert_eq!(batch.rejected[0].reason, "quarantined");
    assert_eq!(batch.rejected[0].record.message, "log 5");
    settlement.acknowledge();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_its_process_outlives_says_nothing_against_a_batch() {
    let broker = RabbitMq::start().await;
    let direct = config(&broker);
    deliver(&*publisher(&direct).await, 5).await;
    let network = Proxy::start(format!("127.0.0.1:{}", broker.port()), 1);
    let far = RabbitConfig { url: network.url(&direct.url), ..direct.clone() };
    let (mut living, _) = consumer(&far).await;
    for _ in 0..4 {
        let delivery = receive(&mut *living).await;
        assert_eq!(delivery.delivery_count(), 0, "the process lives");
        std::mem::forget(delivery);
        network.reset();
    }
    drop(living);
    let (mut other, _) = consumer(&direct).await;
    let delivery = receive(&mut *other).await;
    assert_eq!(delivery.delivery_count(), 4, "for another each may have been a death");
}
