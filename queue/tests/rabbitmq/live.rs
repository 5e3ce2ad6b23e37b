//! The live feed between processes.

use logweir_core::{
    identity::{LogId, TemplateId, Tenant},
    record::{Level, ScoredRecord, StoredLog},
    runtime::tasks::Tasks,
    timestamp::Timestamp,
};
use logweir_queue::{LiveFeed, follow_live_feed, relay_live_feed};
use testkit::RabbitMq;

use super::harness::{batch, config};

fn log(number: u64) -> StoredLog {
    let batch = batch(number);
    StoredLog {
        id: LogId { time: Timestamp::from_unix_nanos(1), batch_id: batch.batch_id, index: 0 },
        received_at: Timestamp::from_unix_nanos(1),
        service: batch.resource.service,
        instance: String::new(),
        environment: String::new(),
        scored: ScoredRecord {
            record: batch.records[0].clone(),
            level: Level::Info,
            template_id: TemplateId(1),
            anomaly_score: 0.0,
            is_anomaly: false,
            anomaly_reasons: Vec::new(),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_shown_is_counted() {
    const LOGS: u64 = 5_000;
    let broker = RabbitMq::start().await;
    let (config, tasks) = (config(&broker), Tasks::new());
    let (processor, server) = (LiveFeed::default(), LiveFeed::default());
    relay_live_feed(&config, &processor, &tasks).expect("the address is one");
    follow_live_feed(&config, &server, &tasks).expect("the address is one");
    let mut reader = server.subscribe(Tenant::default());
    while !processor.is_read(&Tenant::default()) {
        tokio::task::yield_now().await;
    }
    // More at once than any feed keeps.
    for number in 0..LOGS {
        processor.publish(Tenant::default(), vec![log(number)]);
    }
    let (mut shown, mut missed) = (0, 0);
    while shown + missed < LOGS {
        let event = reader.next().await.expect("the feed is there");
        shown += event.logs.len() as u64;
        missed += event.gap + event.skipped;
    }
    assert_eq!(shown + missed, LOGS);
    assert!(shown > 0 && missed > 0, "{shown} shown, {missed} missed");
}
