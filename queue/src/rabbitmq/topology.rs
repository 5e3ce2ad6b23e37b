//! What lies in the broker. Every process declares all of it whenever it connects, so that nothing
//! has to be set up by hand and what somebody deleted comes back.
//!
//! - `PREFIX.batches.0` … and `PREFIX.batches.0.bulk` … are durable quorum queues: a confirmed batch is
//!   on the disks of a majority. What tenants send that send much waits in the bulk ones.
//!   `overflow=reject-publish` refuses what does not fit, where the default would drop the oldest.
//!   Behind `delivery-limit` a batch goes to the dead letters with `at-least-once`, where the default
//!   could lose it on the way; that strategy needs `reject-publish`.
//! - `PREFIX.dead-letters` is a fan-out exchange and a quorum queue. Its own delivery limit is out of
//!   reach, for behind it the broker drops.
//! - `PREFIX.live` and `PREFIX.live-readers` are fan-out exchanges of the live feed; their queues
//!   belong to one connection each and vanish with it.
//!
//! # RabbitMQ 3.10 to 4.x
//!
//! The same arguments work in all of them; what they do without differs, so that all are given:
//! - `x-delivery-limit`: none by default before 4.0, 20 since. -1 for none exists since 4.0 only.
//! - `x-dead-letter-strategy=at-least-once` exists since 3.10, with the feature flag `stream_queue`,
//!   which a new node has.
//! - `x-queue-leader-locator=balanced` exists since 3.10; before it was `least-leaders`.
//! - Which event counts as a delivery: in 3.x every return, since 4.3 not `basic.nack`.
//! - `max_message_size` is 128 MiB in 3.x and 16 MiB in 4.x by default.
//!
//! RabbitMQ 3.10 notes on its disk which quorum queues it has a few seconds after they were
//! declared. A broker that is killed in the first seconds of a queue's life forgets what is in it,
//! and the queue takes nothing until it is deleted (then it is declared anew). So, having started
//! with an empty broker, wait some seconds before testing what a crash does.
//!
//! A queue that exists with other arguments is an error that names the difference as the broker
//! does (it compares the arguments that change what the queue does); see [`RabbitError::Topology`].

use lapin::{
    Channel, Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

use super::{
    RabbitConfig, RabbitError,
    response_timeout::{answered, declared},
    traffic_class::TrafficClass,
};

/// So often is no dead letter handed out.
// A number and not -1, which means "no limit" since RabbitMQ 4.0 only; without any, 4.0 takes 20,
// and a queue without dead letters of its own drops what goes beyond.
const DEAD_LETTER_DELIVERIES_MAX: u32 = 1_000_000_000;

/// The names in the broker.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(config: &RabbitConfig) -> Self {
        Self { prefix: config.prefix.clone() }
    }

    pub(super) fn batches(&self, partition: u16, class: TrafficClass) -> ShortString {
        let end = match class {
            TrafficClass::Regular => "",
            TrafficClass::Bulk => ".bulk",
        };
        format!("{}.batches.{partition}{end}", self.prefix).into()
    }

    /// The exchange and the queue.
    pub(super) fn dead_letters(&self) -> ShortString {
        format!("{}.dead-letters", self.prefix).into()
    }

    /// Where processors show what they stored.
    pub(super) fn live(&self) -> ShortString {
        format!("{}.live", self.prefix).into()
    }

    /// Where servers say that they have readers.
    pub(super) fn live_readers(&self) -> ShortString {
        format!("{}.live-readers", self.prefix).into()
    }
}

/// Declares the partitions and the dead letters. An error names what differs.
pub(super) async fn declare(
    connection: &Connection,
    config: &RabbitConfig,
) -> Result<(), RabbitError> {
    let names = Names::new(config);
    let channel = answered(connection.create_channel()).await?;
    // Dead letters first, so that no partition ever refers to an exchange that is not there.
    declare_exchange(&channel, names.dead_letters(), true).await?;
    let dead_letters = dead_letters_arguments(config);
    declare_queue(&channel, names.dead_letters(), dead_letters).await?;
    let (queue, exchange) = (names.dead_letters(), names.dead_letters());
    let options = QueueBindOptions::default();
    answered(channel.queue_bind(queue, exchange, "".into(), options, FieldTable::default()))
        .await?;
    for partition in 0..config.partitions {
        for class in TrafficClass::ALL {
            let arguments = batches_arguments(config, &names);
            declare_queue(&channel, names.batches(partition, class), arguments).await?;
        }
    }
    // A channel of its own, since the broker closes the one on which a declaration differs.
    answered(channel.close(200, "declared".into())).await
}

/// Declares the exchanges of the live feed.
pub(super) async fn declare_live(channel: &Channel, names: &Names) -> Result<(), RabbitError> {
    declare_exchange(channel, names.live(), false).await?;
    declare_exchange(channel, names.live_readers(), false).await
}

async fn declare_queue(
    channel: &Channel,
    name: ShortString,
    arguments: FieldTable,
) -> Result<(), RabbitError> {
    let what = format!("queue {name}");
    let answer = channel.queue_declare(name, QueueDeclareOptions::durable(), arguments);
    declared(&what, answer).await.map(drop)
}

async fn declare_exchange(
    channel: &Channel,
    name: ShortString,
    durable: bool,
) -> Result<(), RabbitError> {
    let what = format!("exchange {name}");
    let options = ExchangeDeclareOptions { durable, ..ExchangeDeclareOptions::default() };
    let kind = ExchangeKind::Fanout;
    declared(&what, channel.exchange_declare(name, kind, options, FieldTable::default())).await
}

fn batches_arguments(config: &RabbitConfig, names: &Names) -> FieldTable {
    let mut arguments = quorum_arguments(config.partition_bytes_max, config.deliveries_max);
    arguments.insert("x-dead-letter-exchange".into(), text(names.dead_letters().as_str()));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments
}

fn dead_letters_arguments(config: &RabbitConfig) -> FieldTable {
    quorum_arguments(config.dead_letters_bytes_max, DEAD_LETTER_DELIVERIES_MAX)
}

fn quorum_arguments(bytes_max: u64, deliveries_max: u32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    // In a cluster all leaders would otherwise be on the node that the first process met.
    arguments.insert("x-queue-leader-locator".into(), text("balanced"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-max-length-bytes".into(), number(bytes_max));
    arguments.insert("x-delivery-limit".into(), number(deliveries_max.into()));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn number(value: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX))
}
