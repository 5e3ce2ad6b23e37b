//! The queue and the live feed in RabbitMQ, 3.10 to 4.x.
//!
//! A batch is one persistent message in one of the two queues of its partition: what tenants send
//! that send much waits in the one for bulk, so that it is not before what others send.
//! [`publisher`] says `Ok` once
//! the broker has confirmed it and has not returned it as unroutable; [`consumer`] hands out the
//! batches of the partitions that it is told to take and acknowledges what is stored.
//! [`relay_live_feed`] and [`follow_live_feed`] join the live feeds of processors and servers.
//!
//! # What happens when
//!
//! - *The connection is lost.* It is opened again after a back-off, everything is declared again, and
//!   what was not confirmed is published again while its `publish` still waits; it may then be
//!   stored twice in the queue, and storage takes it once. Until the broker is back, publishing is
//!   refused at once.
//! - *The broker blocks publishers* (its memory or disk alarm): everything that waits for a
//!   confirmation is answered [`PublishError::Full`](crate::PublishError::Full) at once, and so is
//!   what comes until the alarm ends.
//! - *The broker's disk has no room at all*, because others filled it past its alarm's limit: quorum
//!   queues of RabbitMQ 3.10 end, and refuse consumers with `INTERNAL_ERROR`, until the broker is
//!   restarted. Nothing is lost, nothing flows. Let the limit (`disk_free_limit`) be large.
//! - *A queue is full or has no majority*: the broker refuses the batch, or does not confirm it in
//!   time.
//! - *A queue is deleted*: its next batch is returned, everything is declared again, and the batch
//!   is published again.
//! - *A consumer dies*: what it had fetched goes to others, with a count of the times it was handed
//!   out. A batch handed out too often goes to the broker's dead letters, which every consumer
//!   drains: it comes as [quarantined](logweir_core::record::Batch::quarantined), so that storage
//!   has it among its own dead letters. A message that cannot be read comes as a batch of rejected
//!   logs that hold its bytes.

mod config;
mod connection;
mod consumer;
mod error;
mod live_feed;
mod message;
mod position;
mod publisher;
mod response_timeout;
mod topology;
mod traffic_class;
mod unsettled;

use std::sync::Arc;

use logweir_core::runtime::tasks::{Fate, Tasks};

pub use self::{
    config::RabbitConfig,
    consumer::{Committed, Partitions},
    error::RabbitError,
    live_feed::{follow_live_feed, relay_live_feed},
};
use self::{
    connection::{Opener, keep},
    consumer::ConsumerSession,
    publisher::PublisherSession,
};
use crate::{Consumer, Publisher};

/// Connects a server's end: declares the queues and publishes to them from now on. The tasks end
/// once the publisher is closed and everything is confirmed.
pub async fn publisher(
    config: &RabbitConfig,
    tasks: &Tasks,
) -> Result<Arc<dyn Publisher>, RabbitError> {
    let opener = Opener::new(config, "publish")?;
    let connection = opener.open_at_start().await?;
    let (publisher, session) = PublisherSession::new(config);
    tasks.spawn("queue publisher", Fate::MayEnd, keep(opener, Some(connection), session));
    Ok(Arc::new(publisher))
}

/// Connects a processor's end: declares the queues. It takes from no partition until
/// [`Partitions::assign`]. Once the process is to stop, it gives back what was not handed out and
/// ends when everything handed out is settled; once the consumer is dropped, it gives back what is
/// not settled at that moment.
pub async fn consumer(
    config: &RabbitConfig,
    tasks: &Tasks,
) -> Result<(Box<dyn Consumer>, Partitions), RabbitError> {
    let opener = Opener::new(config, "consume")?;
    let connection = opener.open_at_start().await?;
    let (consumer, partitions, session) = ConsumerSession::new(config, tasks.stop_token());
    tasks.spawn("queue consumer", Fate::MayEnd, keep(opener, Some(connection), session));
    Ok((Box::new(consumer), partitions))
}
