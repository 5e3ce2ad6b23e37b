//! What lies in the broker, and what it says when that differs.

use logweir_core::runtime::tasks::Tasks;
use logweir_queue::{RabbitConfig, RabbitError};
use testkit::RabbitMq;

use super::harness::{config, publisher};

async fn refusal(config: &RabbitConfig) -> RabbitError {
    match logweir_queue::publisher(config, &Tasks::new()).await {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_differ_are_named_with_the_difference() {
    let broker = RabbitMq::start().await;
    let before = config(&broker);
    publisher(&before).await;
    publisher(&before).await;
    let after = RabbitConfig { partition_bytes_max: 1 << 20, ..before.clone() };
    let RabbitError::Topology { what, difference } = refusal(&after).await else {
        panic!("it is another error")
    };
    assert_eq!(what, "queue logweir.batches.0");
    assert!(difference.contains("x-max-length-bytes"), "{difference}");
    assert!(difference.contains("1048576"), "{difference}");
    let after = RabbitConfig { deliveries_max: 7, ..before };
    assert!(refusal(&after).await.to_string().contains("x-delivery-limit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_said_without_the_password() {
    let broker = RabbitMq::start().await;
    let good = config(&broker);
    let wrong = RabbitConfig {
        url: good.url.replace("amqp://logweir:", "amqp://logweir:no"),
        ..good.clone()
    };
    let error = refusal(&wrong).await;
    assert!(matches!(error, RabbitError::Refused { .. }), "{error}");
    let elsewhere = RabbitConfig { url: format!("{}_not_there", good.url), ..good.clone() };
    let error = refusal(&elsewhere).await;
    assert!(matches!(error, RabbitError::Refused { .. }), "{error}");
    let nobody = "amqp://u:secret@127.0.0.1:1/v".to_owned();
    let error = refusal(&RabbitConfig { url: nobody, start_ms_max: 0, ..good.clone() }).await;
    assert!(matches!(error, RabbitError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1") && !error.to_string().contains("secret"));
    let none = RabbitConfig { url: "localhost".into(), ..good };
    assert!(matches!(refusal(&none).await, RabbitError::Url(_)));
}
