//! A server's end: publishes, and says `Ok` for what the broker confirmed.
//!
//! One task owns the connection. A call of `publish` hands it a message and waits for the answer,
//! at most until its deadline; the task keeps each message until it is confirmed, refused, or lost
//! by a connection while nobody waits for it any more.
//!
//! # What counts as confirmed
//!
//! An unroutable message is confirmed too; only the message that the broker returns before tells.
//! The client library joins a returned message to the next confirmation that comes, which may be
//! that of another batch. So nothing that is confirmed is answered before all confirmations that
//! are there were looked at; and if anything among them was returned, none of them counts:
//! everything is declared again and published again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use logweir_core::{fairness::resource::HeldShare, identity::Tenant, record::Batch};
use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{error, info, warn};

use super::{
    RabbitConfig, RabbitError,
    connection::{Events, Session},
    message::{self, Message},
    response_timeout::answered,
    topology::Names,
    traffic_class::Policer,
};
use crate::{
    PublishError, Publisher, partition_of,
    room::{Place, Room},
};

/// How long a refused publisher is asked to wait while the broker is full, blocked or away.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A confirmation that takes so much longer than anybody waits for it is taken for lost.
// Not at once: a queue whose leader is being elected is slow for some seconds, and publishing all
// of it again on another connection would double what the broker has to store.
const CONFIRM_TIMEOUTS_MAX: u32 = 4;
/// How often the connection and the oldest unconfirmed message are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

const GAUGES: [&str; 2] = ["logweir_queue_unconfirmed_batches", "logweir_queue_unconfirmed_bytes"];

type Answer = Result<(), PublishError>;

/// What callers and task share.
struct Shared {
    names: Names,
    partitions: u16,
    message_bytes_max: usize,
    confirm_timeout: Duration,
    /// For what is under way: counted until the last trace of each batch is gone.
    room: Room,
    policer: Mutex<Policer>,
    state: Mutex<State>,
    closing: Notify,
}

struct State {
    closed: bool,
    broker: Broker,
}

enum Broker {
    Takes,
    Blocks(String),
    IsAway(String),
}

impl State {
    fn check(&self) -> Answer {
        if self.closed {
            return Err(PublishError::Closed);
        }
        match &self.broker {
            Broker::Takes => Ok(()),
            Broker::Blocks(reason) => Err(blocked(reason)),
            Broker::IsAway(cause) => {
                let cause = format!("the queue is not reachable ({cause})");
                Err(PublishError::NotDurable { cause, retry_after: RETRY_AFTER })
            }
        }
    }
}

fn blocked(reason: &str) -> PublishError {
    let what = format!("RabbitMQ blocks publishers: {reason}");
    PublishError::Full { what, retry_after: RETRY_AFTER }
}

/// A message under way, and who waits for it.
struct Pending {
    queue: ShortString,
    message: Arc<Message>,
    /// Taken once answered. The room is kept until the confirmation comes or the connection is
    /// lost, for so long does the message take memory.
    answer: Option<oneshot::Sender<Answer>>,
    since: Instant,
    _place: Place,
}

impl Pending {
    fn answer(&mut self, answer: Answer) {
        if let Some(waiting) = self.answer.take() {
            // A publisher that gave up waiting hears nothing; its sender repeats the batch.
            drop(waiting.send(answer));
        }
    }

    fn is_awaited(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| !answer.is_closed())
    }
}

/// The handle that servers publish through.
pub(super) struct RabbitPublisher {
    shared: Arc<Shared>,
    intake: mpsc::Sender<Pending>,
}

#[async_trait]
impl Publisher for RabbitPublisher {
    async fn publish(&self, batch: Batch) -> Answer {
        // Before a batch is compressed: while the broker is away or blocks, refusing must be cheap.
        self.check_ready()?;
        let shared = &self.shared;
        let tenant = batch.tenant.clone();
        let partition = partition_of(&tenant, &batch.resource.service, shared.partitions);
        let mut message = shared.encode(batch)?;
        let place = shared.room.take(&tenant, message.body.len())?;
        // After it has room: what is refused is not sent.
        let policed =
            shared.policer.lock().police(&tenant, partition, message.cost(), Instant::now());
        if policed.bulk_follows {
            message.note_bulk_follows();
        }
        let (answer, answered) = oneshot::channel();
        let pending = Pending {
            queue: shared.names.batches(partition, policed.class),
            message: Arc::new(message),
            answer: Some(answer),
            since: Instant::now(),
            _place: place,
        };
        // It has room for everything that is let through.
        self.intake.try_send(pending).map_err(|_| PublishError::Closed)?;
        match timeout(shared.confirm_timeout, answered).await {
            Ok(answer) => {
                let answer = answer.unwrap_or(Err(PublishError::Closed));
                if answer.is_ok() && policed.bulk_follows {
                    shared.policer.lock().said(&tenant, partition);
                }
                answer
            }
            Err(_) => {
                counter!("logweir_queue_confirm_timeouts_total").increment(1);
                let within = shared.confirm_timeout;
                let cause = format!("RabbitMQ did not confirm the batch within {within:?}");
                Err(PublishError::NotDurable { cause, retry_after: RETRY_AFTER })
            }
        }
    }

    fn check_ready(&self) -> Answer {
        self.shared.state.lock().check()?;
        self.shared.room.check_newcomer()
    }

    fn check_room(&self, tenant: &Tenant) -> Answer {
        self.shared.state.lock().check()?;
        self.shared.room.check(tenant)
    }

    fn held_shares(&self, tenant: &Tenant) -> [HeldShare; 2] {
        self.shared.room.held_shares(tenant)
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.closing.notify_one();
    }
}

impl Drop for RabbitPublisher {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn encode(&self, batch: Batch) -> Result<Message, PublishError> {
        let batch_id = batch.batch_id;
        let refuse = |cause| {
            // It will never fit, but no error here may be final: the sender would drop the batch.
            // It comes back rarely until somebody raises the limit or sends smaller batches.
            error!(%batch_id, "a batch cannot be published: {cause}");
            PublishError::NotDurable { cause, retry_after: Duration::from_secs(60) }
        };
        let message = message::encode(batch)
            .map_err(|error| refuse(format!("it cannot be compressed: {error}")))?;
        let (bytes, bytes_max) = (message.body.len(), self.message_bytes_max);
        if bytes > bytes_max {
            let cause = format!("{bytes} bytes compressed, the queue takes {bytes_max}; send less");
            return Err(refuse(cause));
        }
        Ok(message)
    }

    fn set_broker(&self, broker: Broker) {
        gauge!("logweir_queue_publisher_connected").set(if matches!(broker, Broker::IsAway(_)) {
            0.0
        } else {
            1.0
        });
        gauge!("logweir_queue_blocked").set(if matches!(broker, Broker::Blocks(_)) {
            1.0
        } else {
            0.0
        });
        self.state.lock().broker = broker;
    }

    fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

/// The task's side.
pub(super) struct PublisherSession {
    shared: Arc<Shared>,
    intake: mpsc::Receiver<Pending>,
    unconfirmed: BTreeMap<u64, Pending>,
    next_number: u64,
}

impl PublisherSession {
    pub(super) fn new(config: &RabbitConfig) -> (RabbitPublisher, Self) {
        let (batches_max, bytes_max) =
            (config.unconfirmed_batches_max, config.unconfirmed_bytes_max);
        let room = Room::new(batches_max, bytes_max, GAUGES);
        let (sender, intake) = mpsc::channel(room.batches_total());
        // The first connection is open already.
        let broker = Broker::Takes;
        let shared = Arc::new(Shared {
            names: Names::new(config),
            partitions: config.partitions,
            message_bytes_max: config.message_bytes_max,
            confirm_timeout: config.confirm_timeout(),
            room,
            policer: Mutex::default(),
            state: Mutex::new(State { closed: false, broker }),
            closing: Notify::new(),
        });
        let publisher = RabbitPublisher { shared: Arc::clone(&shared), intake: sender };
        let unconfirmed = BTreeMap::new();
        (publisher, Self { shared, intake, unconfirmed, next_number: 0 })
    }
}

#[async_trait]
impl Session for PublisherSession {
    async fn run(&mut self, connection: &Connection) -> Result<(), RabbitError> {
        let mut events = Events::of(connection);
        let channel = answered(connection.create_channel()).await?;
        answered(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut under_way = UnderWay { channel, confirmations: FuturesUnordered::new() };
        // What waits from before comes first, and only then is the broker said to take batches.
        self.publish_again(&mut under_way);
        self.shared.set_broker(Broker::Takes);
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.shared.is_closed() && self.unconfirmed.is_empty() && self.intake.is_empty() {
                return Ok(());
            }
            // Confirmations before new batches: they give room back, and senders wait for them.
            tokio::select! {
                biased;
                blocked = events.next() => self.set_blocked(blocked?),
                Some(first) = under_way.confirmations.next() => {
                    let confirmed = under_way.drain(first);
                    self.settle(confirmed)?;
                }
                Some(pending) = self.intake.recv() => self.publish(&mut under_way, pending),
                _ = check.tick() => {
                    events.check()?;
                    self.check_oldest()?;
                }
                () = self.shared.closing.notified() => {}
            }
        }
    }

    fn lost(&mut self, error: &RabbitError) {
        self.shared.set_broker(Broker::IsAway(error.to_string()));
    }

    async fn finished(&self) {
        while !self.shared.is_closed() {
            self.shared.closing.notified().await;
        }
    }
}

impl PublisherSession {
    fn publish(&mut self, under_way: &mut UnderWay, mut pending: Pending) {
        // The broker may have begun to block since the caller asked.
        if let Broker::Blocks(reason) = &self.shared.state.lock().broker {
            return pending.answer(Err(blocked(reason)));
        }
        let number = self.next_number;
        self.next_number += 1;
        under_way.publish(number, &pending);
        self.unconfirmed.insert(number, pending);
    }

    /// What nobody waits for any more is forgotten: its sender repeats it.
    fn publish_again(&mut self, under_way: &mut UnderWay) {
        self.unconfirmed.retain(|_, pending| pending.is_awaited());
        if !self.unconfirmed.is_empty() {
            let batches = self.unconfirmed.len();
            info!(batches, "publishing again what was not confirmed");
            counter!("logweir_queue_published_again_total").increment(batches as u64);
        }
        for (number, pending) in &mut self.unconfirmed {
            pending.since = Instant::now();
            under_way.publish(*number, pending);
        }
    }

    /// Answers what waits at once, for the alarm may last; what was sent before it may yet be
    /// stored.
    fn set_blocked(&mut self, reason: Option<String>) {
        let Some(reason) = reason else {
            info!("RabbitMQ takes batches again");
            return self.shared.set_broker(Broker::Takes);
        };
        warn!("RabbitMQ blocks publishers: {reason}");
        counter!("logweir_queue_blocks_total").increment(1);
        for pending in self.unconfirmed.values_mut() {
            pending.answer(Err(blocked(&reason)));
        }
        self.shared.set_broker(Broker::Blocks(reason));
    }

    fn settle(&mut self, confirmed: Vec<Confirmed>) -> Result<(), RabbitError> {
        let mut returned = None;
        for (_, confirmation) in &confirmed {
            match confirmation {
                Ok(Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back))) => {
                    returned = Some(back.routing_key.to_string());
                }
                Ok(_) => {}
                Err(error) => return Err(error.clone().into()),
            }
        }
        // Ended like a lost connection, because a new session declares the queues again.
        if let Some(queue) = returned {
            counter!("logweir_queue_returned_total").increment(1);
            return Err(RabbitError::Unreachable(format!("there is no queue {queue}")));
        }
        for (number, confirmation) in confirmed {
            let Some(mut pending) = self.unconfirmed.remove(&number) else { continue };
            match confirmation {
                // The one answer that means durable. `NotRequested`: confirmations are off.
                Ok(Confirmation::Ack(None)) => pending.answer(Ok(())),
                _ => pending.answer(Err(self.refused(&pending.queue))),
            }
        }
        Ok(())
    }

    fn refused(&self, queue: &ShortString) -> PublishError {
        counter!("logweir_queue_refused_total").increment(1);
        let what = format!("RabbitMQ refuses batches for {queue}, which is at its limit");
        PublishError::Full { what, retry_after: RETRY_AFTER }
    }

    /// A confirmation that never comes would take room for ever. While the broker blocks, none
    /// comes.
    fn check_oldest(&self) -> Result<(), RabbitError> {
        let oldest = self.unconfirmed.first_key_value().map(|(_, pending)| pending.since);
        let limit = self.shared.confirm_timeout * CONFIRM_TIMEOUTS_MAX;
        let blocked = matches!(self.shared.state.lock().broker, Broker::Blocks(_));
        match oldest {
            Some(since) if !blocked && since.elapsed() > limit => {
                Err(RabbitError::Unreachable(format!("no confirmation came within {limit:?}")))
            }
            _ => Ok(()),
        }
    }
}

type Confirmed = (u64, Result<Confirmation, lapin::Error>);

/// What is on its way on one channel.
struct UnderWay {
    channel: Channel,
    confirmations: FuturesUnordered<BoxFuture<'static, Confirmed>>,
}

impl UnderWay {
    fn publish(&mut self, number: u64, pending: &Pending) {
        let (channel, queue) = (self.channel.clone(), pending.queue.clone());
        let message = Arc::clone(&pending.message);
        let publish = async move {
            // Without `mandatory` the broker confirms what it has no queue for, and drops it.
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let properties = message.properties.clone();
            channel.basic_publish("".into(), queue, options, &message.body, properties).await?.await
        };
        self.confirmations.push(publish.map(move |outcome| (number, outcome)).boxed());
    }

    /// All confirmations that are there. The second look finds what the first one, which stops
    /// after a turn of each, may have left.
    fn drain(&mut self, first: Confirmed) -> Vec<Confirmed> {
        let mut confirmed = vec![first];
        for _look in 0..2 {
            while let Some(Some(next)) = self.confirmations.next().now_or_never() {
                confirmed.push(next);
            }
        }
        confirmed
    }
}
