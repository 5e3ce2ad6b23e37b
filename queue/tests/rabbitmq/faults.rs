//! What befalls the broker. The oracle: what was published `Ok` is an obligation.

#![allow(clippy::disallowed_methods, reason = "the publishers of a test are awaited by the test")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use lapin::{Connection, ConnectionProperties, options::QueueDeleteOptions};
use logweir_queue::{PublishError, Publisher, RabbitConfig};
use testkit::RabbitMq;
use tokio::time::{Instant, timeout};

use super::harness::{
    batch, config, consumer, deliver, drain, number, publisher, queues_are_durable, receive,
};

async fn delete_queues(config: &RabbitConfig) {
    let connecting = Connection::connect(&config.url, ConnectionProperties::default());
    let channel = connecting
        .await
        .expect("the broker answers")
        .create_channel()
        .await
        .expect("the broker answers");
    for partition in 0..config.partitions {
        let queue = format!("{}.batches.{partition}", config.prefix).into();
        channel
            .queue_delete(queue, QueueDeleteOptions::default())
            .await
            .expect("the broker answers");
    }
}

/// Publishes each number once; what was confirmed.
async fn publish_some(publisher: Arc<dyn Publisher>, numbers: std::ops::Range<u64>) -> Vec<u64> {
    let mut confirmed = Vec::new();
    for number in numbers {
        match publisher.publish(batch(number)).await {
            Ok(()) => confirmed.push(number),
            Err(error) => {
                assert_ne!(error, PublishError::Closed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    confirmed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_loses_nothing_that_was_confirmed() {
    let broker = RabbitMq::private().await;
    let config = config(&broker);
    let publisher = publisher(&config).await;
    queues_are_durable(&broker).await;
    let (mut consumer, _) = consumer(&config).await;
    let publishing = (0..8).map(|worker| {
        let numbers = worker * 10_000..worker * 10_000 + 600;
        tokio::spawn(publish_some(Arc::clone(&publisher), numbers))
    });
    let publishing: Vec<_> = publishing.collect();
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let (batch, settlement) = receive(&mut *consumer).await.into_parts();
        seen.insert(number(&batch));
        settlement.acknowledge();
    }
    let in_hand = receive(&mut *consumer).await;
    broker.kill().await;
    broker.restart().await;
    // Of an earlier connection: harmless.
    seen.insert(number(in_hand.batch()));
    in_hand.into_parts().1.acknowledge();
    let confirmed: Vec<Vec<u64>> =
        join_all(publishing).await.into_iter().map(Result::unwrap).collect();
    let owed: BTreeSet<u64> =
        confirmed.into_iter().flatten().filter(|number| !seen.contains(number)).collect();
    assert!(owed.len() > 100, "the test published too little: {}", owed.len());
    drain(&mut *consumer, owed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_confirmed_is_published_again_while_somebody_waits() {
    let broker = RabbitMq::private().await;
    let mut config = config(&broker);
    config.confirm_ms_max = 60_000;
    let publisher = publisher(&config).await;
    queues_are_durable(&broker).await;
    deliver(&*publisher, 0).await;
    broker.pause().await;
    let waiting = {
        let publisher = Arc::clone(&publisher);
        tokio::spawn(async move { join_all((1..=20).map(|n| publisher.publish(batch(n)))).await })
    };
    broker.kill().await;
    broker.restart().await;
    let answers = waiting.await.expect("the broker answers");
    // Those that came too late to be taken were refused; none waits for ever.
    let confirmed = (1..=20).zip(&answers).filter(|(_, answer)| answer.is_ok());
    let owed: BTreeSet<u64> = confirmed.map(|(number, _)| number).chain([0]).collect();
    assert!(owed.len() > 1, "{answers:?}");
    drain(&mut *consumer(&config).await.0, owed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_refuses_at_once_and_one_that_hangs_in_time() {
    let broker = RabbitMq::private().await;
    let mut config = config(&broker);
    config.confirm_ms_max = 1_000;
    let publisher = publisher(&config).await;
    queues_are_durable(&broker).await;
    broker.pause().await;
    let asked = Instant::now();
    let refused = publisher.publish(batch(1)).await;
    assert!(matches!(refused, Err(PublishError::NotDurable { .. })), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_secs(2));
    broker.kill().await;
    let asked = Instant::now();
    while publisher.check_ready().is_ok() {
        assert!(asked.elapsed() < Duration::from_secs(5), "the end of the connection is noticed");
        tokio::task::yield_now().await;
    }
    let asked = Instant::now();
    let refused = publisher.publish(batch(2)).await;
    assert!(matches!(refused, Err(PublishError::NotDurable { .. })), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_millis(100), "at once");
    broker.restart().await;
    timeout(Duration::from_secs(10), deliver(&*publisher, 3)).await.expect("it connects again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_of_the_broker_refuses_within_a_second() {
    let broker = RabbitMq::private().await;
    let config = config(&broker);
    let publisher = publisher(&config).await;
    deliver(&*publisher, 1).await;
    broker.block().await;
    // The broker tells a connection when it publishes next, and may store what came with that: `Ok`
    // is right until the first refusal.
    let mut owed = BTreeSet::from([1]);
    let mut number = 2;
    while publisher.check_ready().is_ok() {
        let asked = Instant::now();
        let answer = publisher.publish(batch(number)).await;
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        match answer {
            Ok(()) => assert!(owed.insert(number)),
            Err(error) => assert!(matches!(error, PublishError::Full { .. }), "{error:?}"),
        }
        number += 1;
    }
    for answer in
        join_all((number..number + 8).map(|number| publisher.publish(batch(number)))).await
    {
        assert!(matches!(answer, Err(PublishError::Full { .. })), "{answer:?}");
    }
    assert!(matches!(publisher.check_ready(), Err(PublishError::Full { .. })));
    // Consuming goes on.
    drain(&mut *consumer(&config).await.0, owed).await;
    broker.unblock().await;
    timeout(Duration::from_secs(10), deliver(&*publisher, number + 8))
        .await
        .expect("it takes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_for_a_deleted_queue_is_not_ok_unless_it_is_stored() {
    let broker = RabbitMq::start().await;
    let config = config(&broker);
    let publisher = publisher(&config).await;
    for round in 0..5_u64 {
        let publish = (0..200).map(|number| {
            let (publisher, number) = (Arc::clone(&publisher), round * 1_000 + number);
            async move { (number, publisher.publish(batch(number)).await) }
        });
        // Before or after it is deleted, or between both.
        let (_, ()) = tokio::join!(join_all(publish), delete_queues(&config));
        let after = (200..300).map(|number| {
            let (publisher, number) = (Arc::clone(&publisher), round * 1_000 + number);
            async move { (number, publisher.publish(batch(number)).await) }
        });
        let after = join_all(after).await;
        let owed = after.into_iter().filter(|(_, answer)| answer.is_ok());
        let owed: BTreeSet<u64> = owed.map(|(number, _)| number).collect();
        drain(&mut *consumer(&config).await.0, owed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_queue_was_deleted_comes_back() {
    let broker = RabbitMq::start().await;
    let config = config(&broker);
    let publisher = publisher(&config).await;
    let (mut consumer, _) = consumer(&config).await;
    deliver(&*publisher, 1).await;
    drain(&mut *consumer, BTreeSet::from([1])).await;
    delete_queues(&config).await;
    deliver(&*publisher, 2).await;
    drain(&mut *consumer, BTreeSet::from([2])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_consumer_connects_again() {
    let broker = RabbitMq::start().await;
    let mut config = config(&broker);
    (config.silence_ms_max, config.lag_interval_ms) = (1_000, 100);
    let publisher = publisher(&config).await;
    let (mut consumer, partitions) = consumer(&config).await;
    deliver(&*publisher, 1).await;
    drain(&mut *consumer, BTreeSet::from([1])).await;
    // The broker forgets the consumers without telling them.
    let vhost = broker.vhost();
    broker
        .evaluate(&format!(
            r#"[begin
                Name = rabbit_misc:r(<<"{vhost}">>, queue, <<"logweir.batches.", N>>),
                {{ok, Queue}} = rabbit_amqqueue:lookup(Name),
                Forget = fun(Consumer) ->
                    Id = {{element(2, Consumer), element(1, Consumer)}},
                    Cancel = rabbit_fifo:make_checkout(Id, cancel, #{{}}),
                    {{ok, _, _}} = ra:process_command(amqqueue:get_pid(Queue), Cancel)
                end,
                lists:foreach(Forget, rabbit_amqqueue:consumers(Queue))
            end || N <- "01"]"#
        ))
        .await;
    deliver(&*publisher, 2).await;
    drain(&mut *consumer, BTreeSet::from([2])).await;
    assert_eq!(partitions.in_hand(), 0);
}
