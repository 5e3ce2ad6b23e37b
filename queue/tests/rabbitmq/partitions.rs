//! Sharing the partitions.

use std::collections::BTreeSet;

use futures::future::join_all;
use logweir_queue::partition_of;
use testkit::RabbitMq;

use super::harness::{batch, config, consumer, deliver, drain, number, publisher, receive};

#[tokio::test(flavor = "multi_thread")]
async fn each_consumer_gets_the_batches_of_its_partitions() {
    let broker = RabbitMq::start().await;
    let config = config(&broker);
    let publisher = publisher(&config).await;
    join_all((0..60).map(|number| deliver(&*publisher, number))).await;
    for partition in 0..2 {
        let (mut consumer, partitions) = consumer(&config).await;
        partitions.assign(BTreeSet::from([partition]));
        let mine = (0..60).filter(|&at| {
            let batch = batch(at);
            partition_of(&batch.tenant, &batch.resource.service, 2) == partition
        });
        // What was fetched of the other partition in between has gone back.
        drain(&mut *consumer, mine.collect()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_given_up_goes_on_elsewhere() {
    let broker = RabbitMq::start().await;
    let config = config(&broker);
    let publisher = publisher(&config).await;
    join_all((0..100).map(|number| deliver(&*publisher, number))).await;
    let (mut old, old_partitions) = consumer(&config).await;
    let in_hand = [receive(&mut *old).await, receive(&mut *old).await];
    old_partitions.assign(BTreeSet::new());
    let (mut new, _) = consumer(&config).await;
    let stored: BTreeSet<u64> = in_hand.iter().map(|delivery| number(delivery.batch())).collect();
    let others = (0..100).filter(|number| !stored.contains(number)).collect();
    assert_eq!(drain(&mut *new, others).await, 98, "each of the others comes once");
    let [first, second] = in_hand.map(|delivery| delivery.into_parts().1);
    first.acknowledge();
    second.requeue("storage is away", std::time::Duration::from_secs(3_600));
    // The partition has gone, and the batch with it; the time asked for was this consumer's.
    assert!(stored.contains(&number(receive(&mut *new).await.batch())));
    assert!(new.try_receive().is_none(), "the acknowledged one does not come again");
}
