//! A processor's end: fetches the batches of its partitions, hands them out, and acknowledges what
//! is stored.
//!
//! One task owns the connection, with a channel for each queue of a partition and one for the broker's
//! dead letters. What it fetched waits in [`Unsettled`], bounded by the prefetch, and is handed out by
//! turns of tenants; the batches are read when they are handed out, so that memory holds them
//! compressed for as long as possible.
//!
//! A requeued batch does not go back to the broker while this process keeps the partition: it is
//! held and handed out again when its time has come. So a batch's delivery count tells how often it
//! was *not* settled, because its process or the connection died, and a fault of storage that lasts
//! makes no good batch look like one that kills. Nor does a bad network: connections that this
//! process has outlived are taken off the count. That may clear a batch that killed others; then it
//! kills this process as well, and the next one has outlived nothing.
//!
//! Giving a partition up is to stop fetching, to give back what was not handed out, and to wait for
//! the rest. An acknowledgement whose connection is gone is dropped: the batch comes again, and
//! storage knows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    FutureExt, StreamExt,
    future::join_all,
    stream::{self, BoxStream, SelectAll},
};
use lapin::{
    Acker, BasicProperties, Channel, Connection,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions,
        BasicQosOptions, QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};
use logweir_core::{identity::Tenant, runtime::clock::now, timestamp::Timestamp};
use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    RabbitConfig, RabbitError,
    connection::{Events, Session},
    message,
    position::Look,
    response_timeout::answered,
    topology::Names,
    traffic_class::{BulkTenants, TrafficClass, knows_all},
    unsettled::{Disposition, Fetched, Unsettled},
};
use crate::{Consumer, Delivery, Receipt};

/// The size of a batch before one was seen, bytes: much, for what lies in the queue then
/// may be many large ones, and they come all at once.
const FIRST_MESSAGE_BYTES: f64 = 1_048_576.0;
/// Fewer would leave the processor waiting for the broker after each batch.
const PREFETCH_MIN: u16 = 4;
/// Dead letters of the broker are rare and never urgent.
const DEAD_LETTERS_PREFETCH: u16 = 4;

/// Where batches are fetched from. Dead letters come first in the order: they have their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    DeadLetters,
    Batches(u16, TrafficClass),
}

/// A message as it was fetched.
struct Message {
    subscription: u64,
    source: Source,
    tenant: Tenant,
    received_at: Timestamp,
    properties: BasicProperties,
    body: Vec<u8>,
    delivery_count: u32,
    acker: Acker,
}

impl Fetched for Message {
    fn subscription(&self) -> u64 {
        self.subscription
    }

    fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }

    fn cost(&self) -> u64 {
        message::cost(&self.properties, self.body.len())
    }
}

/// What the consumer's end and the task share.
struct Shared {
    unsettled: Mutex<Unsettled<Message>>,
    arrived: Notify,
    settled: Notify,
    /// The process is to stop: nothing more is handed out.
    stop: CancellationToken,
    /// The consumer is dropped: nobody waits for what is in hand.
    gone: CancellationToken,
    /// The queues of the assigned partitions.
    queues: Mutex<BTreeMap<(u16, TrafficClass), Followed>>,
    bulk_tenants: Mutex<BulkTenants>,
}

/// A queue that is read.
struct Followed {
    subscription: u64,
    /// Since when this process reads it, by whatever subscription.
    since: Timestamp,
    /// As this subscription last saw it.
    look: Option<Look>,
    /// Through when all of it was last known to be committed.
    committed: Option<Timestamp>,
}

/// How far a consumer has come with its partitions, by the times at which servers took the batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Through when everything is committed of tenants that send within an ordinary rate, by partition;
    /// none where that is not known yet.
    pub regular: BTreeMap<u16, Option<Timestamp>>,
    /// The same of those that send more, which waits apart.
    pub bulk: BTreeMap<u16, Option<Timestamp>>,
    /// The tenants of which some may wait there, by name.
    pub bulk_tenants: Vec<Tenant>,
}

/// Which partitions a consumer takes from. Cheap to clone.
#[derive(Clone)]
pub struct Partitions {
    assigned: Arc<watch::Sender<BTreeSet<u16>>>,
    shared: Arc<Shared>,
}

impl Partitions {
    /// Takes from these partitions and no others from now on. What was fetched from one that is
    /// given up goes back to the broker, unless it is in hand: that may still be acknowledged.
    pub fn assign(&self, partitions: BTreeSet<u16>) {
        self.assigned.send_if_modified(|assigned| {
            let changed = *assigned != partitions;
            *assigned = partitions;
            changed
        });
    }

    /// The partitions last assigned.
    pub fn assigned(&self) -> BTreeSet<u16> {
        self.assigned.borrow().clone()
    }

    /// How far the assigned partitions are committed.
    pub fn committed(&self) -> Committed {
        let (mut regular, mut bulk) = (BTreeMap::new(), BTreeMap::new());
        for partition in self.assigned() {
            let of_regular = self.shared.committed((partition, TrafficClass::Regular));
            let of_bulk = self.shared.committed((partition, TrafficClass::Bulk));
            // Where not all tenants of the bulk are known yet, it may have batches of any.
            let knows_all = self.shared.knows_all_bulk(partition, of_bulk);
            regular.insert(partition, if knows_all { of_regular } else { of_regular.min(of_bulk) });
            bulk.insert(partition, of_bulk);
        }
        let mut tenants = self.shared.bulk_tenants.lock();
        if bulk.is_empty() {
            // Whoever takes a partition later learns them anew, and says until then that it does not know.
            *tenants = BulkTenants::default();
        }
        let through = bulk.values().min().copied().flatten().unwrap_or(Timestamp::EPOCH);
        let bulk_tenants = tenants.waiting(through);
        drop(tenants);
        Committed { regular, bulk, bulk_tenants }
    }

    /// Batches handed out and not settled, of any partition.
    pub fn in_hand(&self) -> usize {
        self.shared.unsettled.lock().handed_out()
    }
}

impl Shared {
    fn committed(&self, queue: (u16, TrafficClass)) -> Option<Timestamp> {
        let mut queues = self.queues.lock();
        let followed = queues.get_mut(&queue)?;
        // A new subscription knows nothing at first, and how far the one before it was still holds.
        let known = self.unsettled.lock().committed(followed.subscription, followed.look);
        followed.committed = known.or(followed.committed);
        followed.committed
    }

    /// Also of what was read by an earlier connection.
    fn forget_all_but(&self, sources: &BTreeSet<Source>) {
        self.queues.lock().retain(|(partition, class), _| {
            let is_read = sources.contains(&Source::Batches(*partition, *class));
            if !is_read {
                lag_gauge(*partition, *class).set(0.0);
            }
            is_read
        });
    }

    fn knows_all_bulk(&self, partition: u16, through: Option<Timestamp>) -> bool {
        let queues = self.queues.lock();
        let bulk = queues.get(&(partition, TrafficClass::Bulk));
        bulk.zip(through).is_some_and(|(bulk, through)| knows_all(bulk.since, through))
    }
}

/// The end that the pipeline holds.
pub(super) struct RabbitConsumer {
    shared: Arc<Shared>,
    dead_letters: ShortString,
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn receive(&mut self) -> Option<Delivery> {
        let shared = Arc::clone(&self.shared);
        while !shared.stop.is_cancelled() {
            // What arrives after the look leaves its notification behind and ends the wait below.
            let arrived = shared.arrived.notified();
            if let Some(delivery) = self.try_receive() {
                return Some(delivery);
            }
            let due = shared.unsettled.lock().next_due();
            tokio::select! {
                () = arrived => {}
                () = wait_until(due) => {}
                () = shared.stop.cancelled() => {}
            }
        }
        None
    }

    fn try_receive(&mut self) -> Option<Delivery> {
        if self.shared.stop.is_cancelled() {
            return None;
        }
        let message = self.shared.unsettled.lock().take(Instant::now())?;
        Some(self.delivery(message))
    }
}

/// For ever if there is no such time.
async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl RabbitConsumer {
    fn delivery(&self, message: Arc<Message>) -> Delivery {
        let Message { properties, body, source, delivery_count, .. } = &*message;
        let delivery_count = *delivery_count;
        let batch = match message::decode(properties, body) {
            Ok(batch) => batch,
            // Handed on like any other and not dropped here: once storage has it among the dead
            // letters it is acknowledged, and nothing was lost in silence.
            Err(error) => {
                counter!("logweir_queue_unreadable_total").increment(1);
                error!(
                    bytes = body.len(),
                    "a message is no batch and becomes a dead letter: {error}"
                );
                message::unreadable(properties, body, &error, now())
            }
        };
        let batch = if *source == Source::DeadLetters {
            counter!("logweir_queue_quarantined_total").increment(1);
            error!(batch_id = %batch.batch_id, "the broker gave a batch up; it is quarantined");
            batch.quarantined(&format!("RabbitMQ put it among {}", self.dead_letters))
        } else {
            batch
        };
        let receipt = RabbitReceipt { shared: Arc::clone(&self.shared), message };
        Delivery::new(batch, Box::new(receipt)).with_delivery_count(delivery_count)
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        self.shared.gone.cancel();
    }
}

struct RabbitReceipt {
    shared: Arc<Shared>,
    message: Arc<Message>,
}

impl Receipt for RabbitReceipt {
    fn acknowledge(self: Box<Self>) {
        self.shared.unsettled.lock().acknowledge(self.message);
        self.shared.settled.notify_one();
    }

    fn requeue(self: Box<Self>, _cause: String, retry_after: Duration) {
        counter!("logweir_queue_requeued_total").increment(1);
        self.shared.unsettled.lock().requeue(self.message, Instant::now() + retry_after);
        self.shared.arrived.notify_one();
        self.shared.settled.notify_one();
    }
}

/// The task's side.
pub(super) struct ConsumerSession {
    config: RabbitConfig,
    names: Names,
    shared: Arc<Shared>,
    assigned: watch::Receiver<BTreeSet<u16>>,
    next_subscription: u64,
    /// Connections that were lost while this process lived on.
    outlived: u32,
    /// Average size of the messages of each class lately, bytes.
    message_bytes: BTreeMap<TrafficClass, f64>,
}

impl ConsumerSession {
    pub(super) fn new(
        config: &RabbitConfig,
        stop: CancellationToken,
    ) -> (RabbitConsumer, Partitions, Self) {
        let shared = Arc::new(Shared {
            unsettled: Mutex::new(Unsettled::new()),
            arrived: Notify::new(),
            settled: Notify::new(),
            stop,
            gone: CancellationToken::new(),
            queues: Mutex::default(),
            bulk_tenants: Mutex::default(),
        });
        let (sender, assigned) = watch::channel(BTreeSet::new());
        let names = Names::new(config);
        let dead_letters = names.dead_letters();
        let partitions = Partitions { assigned: Arc::new(sender), shared: Arc::clone(&shared) };
        let session = Self {
            config: config.clone(),
            names,
            shared: Arc::clone(&shared),
            assigned,
            next_subscription: 0,
            outlived: 0,
            message_bytes: BTreeMap::new(),
        };
        (RabbitConsumer { shared, dead_letters }, partitions, session)
    }
}

#[async_trait]
impl Session for ConsumerSession {
    async fn run(&mut self, connection: &Connection) -> Result<(), RabbitError> {
        let mut events = Events::of(connection);
        let mut fetching = Fetching::new(connection);
        let mut check = interval(self.config.lag_interval());
        // After a pause of the process one look is enough; the default makes up for all it missed.
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (stop, shared) = (self.shared.stop.clone(), Arc::clone(&self.shared));
        gauge!("logweir_queue_consumer_connected").set(1.0);
        self.assign(&mut fetching).await?;
        let mut may_change = true;
        loop {
            // Before the question whether to end, so that what was settled last is still told to
            // the broker and not delivered again.
            self.settle(&mut fetching).await?;
            let stopped = stop.is_cancelled() && shared.unsettled.lock().handed_out() == 0;
            if stopped || shared.gone.is_cancelled() {
                return Ok(());
            }
            // In this order: a lost connection and the end of the process come before messages, of
            // which there may always be another.
            tokio::select! {
                biased;
                blocked = events.next() => drop(blocked?),
                () = shared.gone.cancelled() => {}
                () = stop.cancelled(), if !fetching.by_source.is_empty() => {
                    self.take_from(&mut fetching, &BTreeSet::new()).await?;
                }
                changed = self.assigned.changed(), if may_change && !stop.is_cancelled() => {
                    // Once nobody can assign any more, what was assigned stays.
                    may_change = changed.is_ok();
                    self.assign(&mut fetching).await?;
                }
                () = shared.settled.notified() => {}
                _ = check.tick(), if !stop.is_cancelled() => {
                    events.check()?;
                    self.check(&mut fetching).await?;
                }
                Some(item) = fetching.items.next() => self.add(&mut fetching, item)?,
            }
        }
    }

    fn lost(&mut self, _error: &RabbitError) {
        gauge!("logweir_queue_consumer_connected").set(0.0);
        self.outlived = self.outlived.saturating_add(1);
        self.shared.unsettled.lock().lose();
    }

    /// What is in hand cannot be acknowledged without a connection.
    async fn finished(&self) {
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            () = self.shared.gone.cancelled() => {}
        }
    }
}

impl ConsumerSession {
    async fn assign(&mut self, fetching: &mut Fetching<'_>) -> Result<(), RabbitError> {
        let assigned = self.assigned.borrow_and_update().clone();
        info!(partitions = ?assigned, "taking batches");
        // Every processor reads dead letters, whatever its partitions, so that somebody does.
        let partitions = assigned.into_iter().filter(|at| *at < self.config.partitions);
        let queues = partitions.flat_map(|at| TrafficClass::ALL.map(|of| Source::Batches(at, of)));
        let sources = queues.chain([Source::DeadLetters]).collect();
        self.take_from(fetching, &sources).await
    }

    /// Fetches from these sources and gives the others up.
    async fn take_from(
        &mut self,
        fetching: &mut Fetching<'_>,
        sources: &BTreeSet<Source>,
    ) -> Result<(), RabbitError> {
        let given_up: Vec<Source> =
            fetching.by_source.keys().filter(|source| !sources.contains(source)).copied().collect();
        self.shared.forget_all_but(sources);
        // Given up first: somebody else waits for these, and what new ones bring can wait.
        for source in given_up {
            let subscription = fetching.give_up(source).await?;
            self.shared.unsettled.lock().end(subscription);
        }
        for source in sources {
            if !fetching.by_source.contains_key(source) {
                self.next_subscription += 1;
                let subscription = self.next_subscription;
                self.shared.unsettled.lock().begin(subscription);
                self.follow(*source, subscription);
                let prefetch = self.prefetch(*source, sources.len() - 1);
                fetching.subscribe(*source, subscription, self.queue(*source), prefetch).await?;
            }
        }
        Ok(())
    }

    fn follow(&self, source: Source, subscription: u64) {
        let Source::Batches(partition, class) = source else { return };
        let mut queues = self.shared.queues.lock();
        let new = || Followed { subscription, since: now(), look: None, committed: None };
        let followed = queues.entry((partition, class)).or_insert_with(new);
        (followed.subscription, followed.look) = (subscription, None);
    }

    fn queue(&self, source: Source) -> ShortString {
        match source {
            Source::DeadLetters => self.names.dead_letters(),
            Source::Batches(partition, class) => self.names.batches(partition, class),
        }
    }

    /// How many messages of the average size may be fetched of one of so many queues.
    fn prefetch(&self, source: Source, queues: usize) -> u16 {
        let Source::Batches(_, class) = source else { return DEAD_LETTERS_PREFETCH };
        let message_bytes = *self.message_bytes.get(&class).unwrap_or(&FIRST_MESSAGE_BYTES);
        let bytes = self.config.prefetch_bytes_max as f64 / queues.max(1) as f64;
        let max = self.config.prefetch_batches_max.max(1);
        ((bytes / message_bytes) as u16).clamp(PREFETCH_MIN.min(max), max)
    }

    fn add(&mut self, fetching: &mut Fetching<'_>, item: Item) -> Result<(), RabbitError> {
        let Item { source, subscription, tag, delivery } = item;
        let Some(delivery) = delivery else {
            return fetching.ended(source, &tag);
        };
        let delivery = delivery?;
        // An average that forgets: the last 64 messages or so decide, and one large batch does not.
        if let Source::Batches(_, class) = source {
            let average = self.message_bytes.entry(class).or_insert(FIRST_MESSAGE_BYTES);
            *average += (delivery.data.len() as f64 - *average) / 64.0;
        }
        fetching.came(subscription);
        let delivery_count = message::delivery_count(&delivery.properties, delivery.redelivered)
            .saturating_sub(self.outlived);
        let tenant = message::tenant(&delivery.properties);
        let received_at = message::received_at(&delivery.properties);
        let is_bulk = matches!(source, Source::Batches(_, TrafficClass::Bulk));
        if is_bulk || message::bulk_follows(&delivery.properties) {
            self.shared.bulk_tenants.lock().note(&tenant, received_at);
        }
        self.shared.unsettled.lock().add(Message {
            subscription,
            source,
            tenant,
            received_at,
            delivery_count,
            properties: delivery.properties,
            body: delivery.data,
            acker: delivery.acker,
        });
        self.shared.arrived.notify_one();
        Ok(())
    }

    /// Tells the broker what is settled. What came by an earlier connection fails without harm.
    async fn settle(&mut self, fetching: &mut Fetching<'_>) -> Result<(), RabbitError> {
        let settled = self.shared.unsettled.lock().take_settled();
        if settled.is_empty() {
            return Ok(());
        }
        let tell = settled.iter().map(|(message, outcome)| async {
            let told = match outcome {
                Disposition::Acknowledge => message.acker.ack(BasicAckOptions::default()).await,
                // Nack and not reject, which RabbitMQ 4.3 counts as a failed delivery.
                Disposition::Return => {
                    let options = BasicNackOptions { requeue: true, ..Default::default() };
                    message.acker.nack(options).await
                }
            };
            if let Err(error) = told {
                tracing::debug!("a batch cannot be settled any more: {error}");
            }
        });
        // All at once: one after the other, each would wait until the one before is written out.
        answered(join_all(tell).map(Ok)).await?;
        for (message, _) in &settled {
            fetching.settled(message.subscription).await?;
        }
        Ok(())
    }

    /// Looks at the queues' lengths: for the metrics, for the prefetch, and because a consumer that
    /// gets nothing while batches wait is broken, whatever the connection says.
    async fn check(&mut self, fetching: &mut Fetching<'_>) -> Result<(), RabbitError> {
        let queues: Vec<_> = fetching.queues().collect();
        for &(partition, class) in &queues {
            let source = Source::Batches(partition, class);
            let at = now();
            let ready = fetching.ready(self.queue(source)).await?;
            lag_gauge(partition, class).set(f64::from(ready));
            if let Some(followed) = self.shared.queues.lock().get_mut(&(partition, class)) {
                followed.look = Some(Look { at, waiting: ready });
            }
            let prefetch = self.prefetch(source, queues.len());
            fetching.renew(source, prefetch).await?;
            fetching.check_silence(source, ready, self.config.silence())?;
        }
        Ok(())
    }
}

fn lag_gauge(partition: u16, class: TrafficClass) -> metrics::Gauge {
    let labels = [("partition", partition.to_string()), ("class", class.name().to_owned())];
    gauge!("logweir_queue_ready_batches", &labels)
}

/// A message of a subscription, or the end of one of its consumers.
struct Item {
    source: Source,
    subscription: u64,
    tag: ShortString,
    delivery: Option<lapin::Result<lapin::message::Delivery>>,
}

/// What is being fetched on one connection.
struct Fetching<'a> {
    connection: &'a Connection,
    /// The channel on which queue lengths are asked for; the broker closes it where a queue is
    /// gone, and nothing is fetched on it.
    channel: Option<Channel>,
    items: SelectAll<BoxStream<'static, Item>>,
    by_source: BTreeMap<Source, Subscription>,
    /// Given up, with messages in hand.
    closing: BTreeMap<u64, Subscription>,
    next_tag: u64,
}

struct Subscription {
    number: u64,
    channel: Channel,
    queue: ShortString,
    /// The consumer that fetches; earlier ones have been cancelled.
    tag: ShortString,
    prefetch: u16,
    /// Messages fetched and not settled.
    unsettled: usize,
    /// When a message last came or was settled.
    active: Instant,
}

impl<'a> Fetching<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            channel: None,
            items: SelectAll::new(),
            by_source: BTreeMap::new(),
            closing: BTreeMap::new(),
            next_tag: 0,
        }
    }

    async fn subscribe(
        &mut self,
        source: Source,
        number: u64,
        queue: ShortString,
        prefetch: u16,
    ) -> Result<(), RabbitError> {
        let channel = answered(self.connection.create_channel()).await?;
        let (tag, active) = (ShortString::default(), Instant::now());
        let mut subscription =
            Subscription { number, channel, queue, tag, prefetch, unsettled: 0, active };
        self.consume(source, &mut subscription).await?;
        self.by_source.insert(source, subscription);
        Ok(())
    }

    async fn consume(
        &mut self,
        source: Source,
        subscription: &mut Subscription,
    ) -> Result<(), RabbitError> {
        self.next_tag += 1;
        let tag: ShortString = format!("{}-{}", subscription.queue, self.next_tag).into();
        let Subscription { channel, queue, number, .. } = &*subscription;
        answered(channel.basic_qos(subscription.prefetch, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consume =
            channel.basic_consume(queue.clone(), tag.clone(), options, FieldTable::default());
        let consumer = answered(consume).await?;
        let number = *number;
        subscription.tag = tag.clone();
        let item =
            move |delivery| Item { source, subscription: number, tag: tag.clone(), delivery };
        // The end of the stream becomes an item of its own: in `SelectAll` it would just vanish,
        // and nobody would learn that the broker has cancelled the consumer.
        let items = consumer.map(Some).chain(stream::once(async { None })).map(item);
        self.items.push(items.boxed());
        Ok(())
    }

    /// Fetches no more of a source; gives the number of its subscription.
    async fn give_up(&mut self, source: Source) -> Result<u64, RabbitError> {
        let subscription = self.by_source.remove(&source).expect("it is being fetched");
        let Subscription { channel, tag, number, .. } = &subscription;
        let number = *number;
        // Cancelled, but the channel stays open: closing it would hand what is in hand to another
        // process while this one still stores it.
        answered(channel.basic_cancel(tag.clone(), BasicCancelOptions::default())).await?;
        self.closing.insert(number, subscription);
        self.close_if_settled(number).await?;
        Ok(number)
    }

    /// Fetches with another prefetch if that pays. What the earlier consumer fetched stays.
    async fn renew(&mut self, source: Source, prefetch: u16) -> Result<(), RabbitError> {
        // A prefetch holds for consumers that begin after it was set, so that another one needs
        // another consumer. Only at half or twice as much, or each change would cost a round trip.
        let Some(mut subscription) = self.by_source.remove(&source) else { return Ok(()) };
        let (smaller, larger) =
            (subscription.prefetch / 2, subscription.prefetch.saturating_mul(2));
        if prefetch <= smaller || prefetch >= larger {
            let tag = subscription.tag.clone();
            let cancel = subscription.channel.basic_cancel(tag, BasicCancelOptions::default());
            answered(cancel).await?;
            subscription.prefetch = prefetch;
            self.consume(source, &mut subscription).await?;
        }
        self.by_source.insert(source, subscription);
        Ok(())
    }

    /// A consumer has ended: if nobody cancelled it here, the broker did, for its queue is gone.
    fn ended(&self, source: Source, tag: &ShortString) -> Result<(), RabbitError> {
        match self.by_source.get(&source) {
            Some(subscription) if subscription.tag == *tag => Err(RabbitError::Unreachable(
                format!("the broker cancelled the consumer of {}", subscription.queue),
            )),
            _ => Ok(()),
        }
    }

    fn came(&mut self, number: u64) {
        if let Some(subscription) = self.find(number) {
            subscription.unsettled += 1;
            subscription.active = Instant::now();
        }
    }

    async fn settled(&mut self, number: u64) -> Result<(), RabbitError> {
        // One of an earlier connection is not known here.
        if let Some(subscription) = self.find(number) {
            subscription.unsettled = subscription.unsettled.saturating_sub(1);
            subscription.active = Instant::now();
        }
        self.close_if_settled(number).await
    }

    fn find(&mut self, number: u64) -> Option<&mut Subscription> {
        let fetching = self.by_source.values_mut().find(|found| found.number == number);
        fetching.or_else(|| self.closing.get_mut(&number))
    }

    async fn close_if_settled(&mut self, number: u64) -> Result<(), RabbitError> {
        match self.closing.get(&number) {
            Some(subscription) if subscription.unsettled == 0 => {
                let subscription = self.closing.remove(&number).expect("it was just there");
                answered(subscription.channel.close(200, "given up".into())).await
            }
            _ => Ok(()),
        }
    }

    fn queues(&self) -> impl Iterator<Item = (u16, TrafficClass)> {
        self.by_source.keys().filter_map(|source| match source {
            Source::Batches(partition, class) => Some((*partition, *class)),
            Source::DeadLetters => None,
        })
    }

    /// Messages of a queue that nobody has fetched.
    async fn ready(&mut self, queue: ShortString) -> Result<u32, RabbitError> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => answered(self.connection.create_channel()).await?,
        };
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let declared =
            answered(channel.queue_declare(queue, options, FieldTable::default())).await?;
        self.channel = Some(channel);
        Ok(declared.message_count())
    }

    fn check_silence(
        &self,
        source: Source,
        ready: u32,
        silence_max: Duration,
    ) -> Result<(), RabbitError> {
        let Some(subscription) = self.by_source.get(&source) else { return Ok(()) };
        // A broker may forget a consumer without a word; the connection stays up, so that
        // heartbeats notice nothing. With a full prefetch silence means that this process is slow.
        let has_room = subscription.unsettled < usize::from(subscription.prefetch);
        if ready > 0 && has_room && subscription.active.elapsed() > silence_max {
            counter!("logweir_queue_silences_total").increment(1);
            let queue = &subscription.queue;
            warn!(%queue, ready, "batches wait and none came for {silence_max:?}");
            return Err(RabbitError::Unreachable(format!("the consumer of {queue} is silent")));
        }
        Ok(())
    }
}
