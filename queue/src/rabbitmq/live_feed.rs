//! The live feed between processes: processors show what they stored, servers show it to their
//! readers. Best effort: what cannot be shown is counted and passed over, and no commit waits.
//!
//! A server with readers binds a queue of its own to the live exchange and says, at once and every
//! two seconds, that it has readers; a processor shows logs only while it has heard that lately.
//! Every message carries its publisher's id and how many logs of the tenant that showed before. The
//! count also comes within a second when nothing more is stored, and those of all tenants as soon as
//! a server says that it reads. So a server sees what was lost of each tenant on the way: dropped by
//! a processor that could not keep up, by the broker from a full queue, or with a connection.
//!
//! All tenants' logs are shown while any server has a reader.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Connection,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use logweir_core::{
    identity::Tenant,
    runtime::tasks::{Fate, Tasks},
    wire::{LiveLogs, decode_live_logs, encode_live_logs},
};
use metrics::counter;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    RabbitConfig, RabbitError,
    connection::{Events, Opener, Session, keep},
    message::{compress, decompress},
    response_timeout::answered,
    topology::{Names, declare_live},
};
use crate::live_feed::{AllReader, LiveFeed, Shown};

/// How long after what it has shown a processor tells its count again: a loss is known so late.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How often a server says that it has readers.
const READERS_SAID_EVERY: Duration = Duration::from_secs(2);
/// Two of them may be lost.
const READERS_BELIEVED_FOR: Duration = Duration::from_secs(6);
/// A queue outlives its last reader for so long: another often comes soon.
const QUEUE_KEPT_FOR: Duration = Duration::from_secs(10);
/// Messages that a processor has sent and the broker has not confirmed; each is about 512 KiB
/// before compression.
const UNCONFIRMED_MAX: usize = 16;
/// Messages that a server has fetched and not shown.
const PREFETCH: u16 = 16;
/// What waits for one server in the broker, bytes; beyond it the oldest are dropped.
const SERVER_BYTES_MAX: i64 = 32 << 20;
/// A message unfolded, bytes; the largest holds 512 KiB of logs and one log more.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Starts of processors that a server remembers; far more than run at once.
const PUBLISHERS_MAX: usize = 10_000;

/// Shows what is published to a processor's feed to the servers, for as long as any has readers.
pub fn relay_live_feed(
    config: &RabbitConfig,
    feed: &LiveFeed,
    tasks: &Tasks,
) -> Result<(), RabbitError> {
    let session = Relay {
        names: Names::new(config),
        feed: feed.clone(),
        stop: tasks.stop_token(),
        publisher_id: rand::random(),
        shown: HashMap::new(),
        untold: HashSet::new(),
        reading: None,
    };
    let opener = Opener::new(config, "show live logs")?;
    tasks.spawn("live feed relay", Fate::MayEnd, keep(opener, None, session));
    Ok(())
}

/// Shows what processors store to the readers of a server's feed.
pub fn follow_live_feed(
    config: &RabbitConfig,
    feed: &LiveFeed,
    tasks: &Tasks,
) -> Result<(), RabbitError> {
    let session = Follower {
        names: Names::new(config),
        readers: feed.readers(),
        feed: feed.clone(),
        stop: tasks.stop_token(),
        counts: Counts::default(),
    };
    let opener = Opener::new(config, "follow live logs")?;
    tasks.spawn("live feed follower", Fate::MayEnd, keep(opener, None, session));
    Ok(())
}

/// A processor's side.
struct Relay {
    names: Names,
    feed: LiveFeed,
    stop: CancellationToken,
    publisher_id: [u8; 16],
    /// Logs of each tenant shown or passed over, or published before anybody read.
    shown: HashMap<Tenant, u64>,
    /// Tenants of which logs were shown since counts were told last.
    untold: HashSet<Tenant>,
    /// Kept while the connection is lost, so that what passes meanwhile is counted.
    reading: Option<Reading>,
}

struct Reading {
    logs: AllReader,
    until: Instant,
}

type Sent = BoxFuture<'static, lapin::Result<()>>;

#[async_trait]
impl Session for Relay {
    async fn run(&mut self, connection: &Connection) -> Result<(), RabbitError> {
        let mut events = Events::of(connection);
        let channel = answered(connection.create_channel()).await?;
        declare_live(&channel, &self.names).await?;
        // Confirmations not for durability but for back-pressure: they bound what is under way.
        answered(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut heard = subscribe(&channel, self.names.live_readers(), true).await?;
        let mut sent: FuturesUnordered<Sent> = FuturesUnordered::new();
        let (mut tick, mut blocked) = (every(COUNT_EVERY), false);
        // Readers are believed to be there still: their word may be lost with the connection.
        if let Some(reading) = &mut self.reading {
            reading.until = Instant::now() + READERS_BELIEVED_FOR;
        }
        let stop = self.stop.clone();
        loop {
            // What is not read now is passed over by the feed, which is bounded, and counted.
            let may_send = !blocked && sent.len() < UNCONFIRMED_MAX;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                reason = events.next() => blocked = reason?.is_some(),
                reader = heard.next() => {
                    reader.ok_or_else(cancelled)??;
                    self.read_on();
                    // A server that is new misses nothing from here on without knowing.
                    if may_send {
                        sent.push(self.send_counts(&channel, self.all_counts(), true));
                    }
                }
                Some(confirmed) = sent.next() => confirmed?,
                next = next_group(&mut self.reading), if may_send => {
                    let Some(shown) = next else { return Ok(()) };
                    sent.push(self.send(&channel, shown));
                }
                _ = tick.tick() => {
                    events.check()?;
                    self.reading.take_if(|reading| reading.until < Instant::now());
                    if !self.untold.is_empty() && may_send {
                        let counts = self.untold_counts();
                        sent.push(self.send_counts(&channel, counts, false));
                    }
                }
            }
        }
    }

    fn lost(&mut self, _error: &RabbitError) {}

    async fn finished(&self) {
        self.stop.cancelled().await;
    }
}

impl Relay {
    /// A server has readers.
    fn read_on(&mut self) {
        let until = Instant::now() + READERS_BELIEVED_FOR;
        match &mut self.reading {
            Some(reading) => reading.until = until,
            none => {
                let (logs, published) = self.feed.subscribe_all();
                *none = Some(Reading { logs, until });
                self.shown.extend(published);
            }
        }
    }

    fn send(&mut self, channel: &Channel, Shown { tenant, logs, published_before }: Shown) -> Sent {
        let count = logs.len() as u64;
        // What this process could not show in time counts as shown, so that servers see a jump in
        // the count and tell their readers of the gap.
        self.shown.insert(tenant.clone(), published_before + count);
        self.untold.insert(tenant.clone());
        counter!("logweir_live_feed_logs_shown_total").increment(count);
        let shown = vec![(tenant.clone(), published_before)];
        let publisher_id = self.publisher_id;
        let logs = logs.to_vec();
        self.publish(channel, LiveLogs { tenant, publisher_id, logs, shown, names_all: false })
    }

    fn send_counts(&self, channel: &Channel, shown: Vec<(Tenant, u64)>, names_all: bool) -> Sent {
        let (tenant, publisher_id) = (Tenant::default(), self.publisher_id);
        let live = LiveLogs { tenant, publisher_id, logs: Vec::new(), shown, names_all };
        self.publish(channel, live)
    }

    /// Not what is published by now: of that, what is not shown yet may still be passed over.
    fn all_counts(&self) -> Vec<(Tenant, u64)> {
        self.shown.iter().map(|(tenant, shown)| (tenant.clone(), *shown)).collect()
    }

    fn untold_counts(&mut self) -> Vec<(Tenant, u64)> {
        let untold = self.untold.drain();
        untold
            .filter_map(|tenant| self.shown.get_key_value(&tenant).map(|(t, n)| (t.clone(), *n)))
            .collect()
    }

    fn publish(&self, channel: &Channel, live: LiveLogs) -> Sent {
        let (channel, exchange) = (channel.clone(), self.names.live());
        async move {
            let body = compress(&encode_live_logs(live)).map_err(lapin::Error::from)?;
            publish(&channel, exchange, &body).await
        }
        .boxed()
    }
}

/// For ever while nobody reads.
async fn next_group(reading: &mut Option<Reading>) -> Option<Shown> {
    match reading {
        Some(reading) => reading.logs.next().await,
        None => std::future::pending().await,
    }
}

/// A server's side.
struct Follower {
    names: Names,
    feed: LiveFeed,
    readers: watch::Receiver<usize>,
    stop: CancellationToken,
    counts: Counts,
}

/// The queue of a server with readers.
struct Following {
    channel: Channel,
    logs: lapin::Consumer,
    /// When there was a reader last.
    read_at: Instant,
}

#[async_trait]
impl Session for Follower {
    async fn run(&mut self, connection: &Connection) -> Result<(), RabbitError> {
        let mut events = Events::of(connection);
        let mut following: Option<Following> = None;
        let mut tick = every(READERS_SAID_EVERY);
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                reason = events.next() => drop(reason?),
                delivery = next_delivery(&mut following) => {
                    let delivery = delivery.ok_or_else(cancelled)??;
                    self.show(&delivery.data);
                    answered(delivery.acker.ack(BasicAckOptions::default())).await?;
                }
                changed = self.readers.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.say(connection, &mut following).await?;
                }
                _ = tick.tick() => {
                    events.check()?;
                    self.say(connection, &mut following).await?;
                }
            }
        }
    }

    fn lost(&mut self, _error: &RabbitError) {}

    async fn finished(&self) {
        self.stop.cancelled().await;
    }
}

impl Follower {
    /// Says that there are readers, if there are; has a queue while there are some, or were lately.
    async fn say(
        &mut self,
        connection: &Connection,
        following: &mut Option<Following>,
    ) -> Result<(), RabbitError> {
        if *self.readers.borrow_and_update() == 0 {
            if let Some(unread) = following.take_if(|f| f.read_at.elapsed() > QUEUE_KEPT_FOR) {
                answered(unread.channel.close(200, "no readers".into())).await?;
                self.counts = Counts::default();
            }
            return Ok(());
        }
        if following.is_none() {
            let channel = answered(connection.create_channel()).await?;
            declare_live(&channel, &self.names).await?;
            answered(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
            let logs = subscribe(&channel, self.names.live(), false).await?;
            *following = Some(Following { channel, logs, read_at: Instant::now() });
        }
        let found = following.as_mut().expect("it was just made");
        found.read_at = Instant::now();
        answered(publish(&found.channel, self.names.live_readers(), b"")).await
    }

    fn show(&mut self, body: &[u8]) {
        let decoded = decompress(body, MESSAGE_BYTES_MAX)
            .map_err(|error| error.to_string())
            .and_then(|bytes| decode_live_logs(&bytes).map_err(|error| error.to_string()));
        match decoded {
            Ok(live) => {
                for (tenant, lost) in self.counts.lost(&live) {
                    counter!("logweir_live_feed_logs_lost_total").increment(lost);
                    self.feed.relay(&tenant, Vec::new(), lost);
                }
                self.feed.relay(&live.tenant, live.logs, 0);
            }
            // The publisher's next count shows what was in it.
            Err(error) => warn!("a message of the live feed cannot be read: {error}"),
        }
    }
}

/// For ever while there is no queue.
async fn next_delivery(
    following: &mut Option<Following>,
) -> Option<lapin::Result<lapin::message::Delivery>> {
    match following {
        Some(following) => following.logs.next().await,
        None => std::future::pending().await,
    }
}

/// How many logs each publisher has shown, as far as was seen here.
#[derive(Default)]
struct Counts(HashMap<[u8; 16], Publisher>);

#[derive(Default)]
struct Publisher {
    seen: HashMap<Tenant, u64>,
    /// Whether it has named all of its tenants: any other began later, at 0.
    named_all: bool,
}

impl Counts {
    /// Logs that were lost before these, by tenant. Of a publisher that is new here none is missed.
    fn lost(&mut self, live: &LiveLogs) -> Vec<(Tenant, u64)> {
        // Each start of a processor has another id. Forgetting all of them costs at most one loss
        // that is not told.
        if self.0.len() >= PUBLISHERS_MAX {
            self.0.clear();
        }
        let publisher = self.0.entry(live.publisher_id).or_default();
        if live.names_all {
            publisher.begin(&live.shown);
            return Vec::new();
        }
        let mut lost: Vec<_> =
            live.shown.iter().filter_map(|shown| publisher.note(shown)).collect();
        lost.retain(|(_, lost)| *lost > 0);
        let before = live.shown.iter().find(|(tenant, _)| *tenant == live.tenant);
        if let (Some(seen), Some((_, before))) = (publisher.seen.get_mut(&live.tenant), before) {
            // Never back: a message may come after one that was published later.
            *seen = (*seen).max(before + live.logs.len() as u64);
        }
        lost
    }
}

impl Publisher {
    /// Its counts at first sight; later they say nothing new.
    fn begin(&mut self, shown: &[(Tenant, u64)]) {
        if std::mem::replace(&mut self.named_all, true) {
            return;
        }
        for (tenant, logs) in shown {
            self.seen.entry(tenant.clone()).or_insert(*logs);
        }
    }

    /// How many logs were shown and not seen.
    fn note(&mut self, (tenant, logs): &(Tenant, u64)) -> Option<(Tenant, u64)> {
        let before = self.seen.get(tenant).copied().or(self.named_all.then_some(0));
        // Never back: a message may come after one that was published later.
        self.seen.insert(tenant.clone(), before.map_or(*logs, |before| before.max(*logs)));
        before.map(|before| (tenant.clone(), logs.saturating_sub(before)))
    }
}

/// Consumes what an exchange sends from now on, by a queue that vanishes with the channel.
async fn subscribe(
    channel: &Channel,
    exchange: ShortString,
    no_ack: bool,
) -> Result<lapin::Consumer, RabbitError> {
    // Not a quorum queue like those of batches: what is in it is stored already, and a server that
    // dies must leave nothing behind that fills up.
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(SERVER_BYTES_MAX));
    let queue = answered(channel.queue_declare("".into(), options, arguments)).await?;
    let (name, options) = (queue.name().clone(), QueueBindOptions::default());
    let bind =
        channel.queue_bind(name.clone(), exchange, "".into(), options, FieldTable::default());
    answered(bind).await?;
    let options = BasicConsumeOptions { no_ack, ..Default::default() };
    answered(channel.basic_consume(name, "".into(), options, FieldTable::default())).await
}

/// Publishes to whoever is bound; with confirmations on, resolves when the broker has it.
async fn publish(channel: &Channel, exchange: ShortString, body: &[u8]) -> lapin::Result<()> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish(exchange, "".into(), options, body, properties).await?.await.map(drop)
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn cancelled() -> RabbitError {
    RabbitError::Unreachable("the broker cancelled a consumer of the live feed".into())
}

#[cfg(test)]
mod tests {
    use logweir_core::{
        identity::{BatchId, LogId, Service, TemplateId},
        record::{Level, Record, ScoredRecord, StoredLog},
        timestamp::Timestamp,
    };

    use super::*;

    fn live(publisher: u8, shown: &[(&str, u64)], logs: usize) -> LiveLogs {
        let tenant = |name: &str| Tenant::new(name).unwrap();
        LiveLogs {
            tenant: tenant(shown.first().map_or("none", |(name, _)| name)),
            publisher_id: [publisher; 16],
            logs: vec![stored(); logs],
            shown: shown.iter().map(|(name, count)| (tenant(name), *count)).collect(),
            names_all: false,
        }
    }

    fn stored() -> StoredLog {
        StoredLog {
            id: LogId { time: Timestamp::EPOCH, batch_id: BatchId([1; 16]), index: 0 },
            received_at: Timestamp::EPOCH,
            service: Service::new("a").unwrap(),
            instance: String::new(),
            environment: String::new(),
            scored: ScoredRecord {
                record: Record::default(),
                level: Level::Info,
                template_id: TemplateId(1),
                anomaly_score: 0.0,
                is_anomaly: false,
                anomaly_reasons: Vec::new(),
            },
        }
    }

    /// What is lost, by tenant.
    fn lost(counts: &mut Counts, live: &LiveLogs) -> Vec<(String, u64)> {
        counts.lost(live).into_iter().map(|(tenant, lost)| (tenant.to_string(), lost)).collect()
    }

    #[test]
    fn a_jump_in_a_publishers_count_is_a_loss_of_its_tenant() {
        let mut counts = Counts::default();
        assert_eq!(
            lost(&mut counts, &live(1, &[("a", 500)], 0)),
            [],
            "it began before we listened"
        );
        assert_eq!(lost(&mut counts, &live(1, &[("a", 500)], 2)), []);
        assert_eq!(lost(&mut counts, &live(1, &[("b", 7_000)], 1)), []);
        assert_eq!(lost(&mut counts, &live(1, &[("a", 509)], 1)), [("a".to_owned(), 7)]);
        assert_eq!(lost(&mut counts, &live(2, &[("a", 3)], 0)), [], "another counts for itself");
        let both = live(1, &[("a", 510), ("b", 7_002)], 0);
        assert_eq!(lost(&mut counts, &both), [("b".to_owned(), 1)]);
    }

    #[test]
    fn a_tenant_that_was_not_there_at_first_sight_is_missed_from_its_first_log_on() {
        let mut counts = Counts::default();
        let first = LiveLogs { names_all: true, ..live(1, &[("a", 10)], 0) };
        assert_eq!(lost(&mut counts, &first), []);
        // It comes after a message that was published later.
        assert_eq!(lost(&mut counts, &live(1, &[("a", 7)], 3)), []);
        assert_eq!(lost(&mut counts, &live(1, &[("a", 12)], 1)), [("a".to_owned(), 2)]);
        assert_eq!(lost(&mut counts, &live(1, &[("b", 4)], 1)), [("b".to_owned(), 4)]);
        let again = LiveLogs { names_all: true, ..live(1, &[("b", 90)], 0) };
        assert_eq!(lost(&mut counts, &again), [], "it was seen before");
        assert_eq!(lost(&mut counts, &live(1, &[("b", 5)], 1)), []);
    }
}
