//! `logweir server`: what senders and readers connect to, in front of RabbitMQ and PostgreSQL. Any number of them may run; they
//! share the database, the broker and the file of the keys that sign tokens.

use std::sync::Arc;

use clap::Args;
use logweir_queue::LiveFeed;

use crate::{
    config::ConfigArgs,
    error::Exit,
    output::announce,
    wiring::{ListenArgs, Process, of_broker},
};

/// Arguments of `logweir server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    #[command(flatten)]
    settings: ConfigArgs,
    #[command(flatten)]
    listen: ListenArgs,
}

impl ServerArgs {
    /// Runs it until SIGINT or SIGTERM.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let settings = self.listen.load(&self.settings)?;
        let partitions = settings.rabbitmq.partitions;
        let process = Process::begin("server", settings, partitions)?;
        let rabbit = process.settings.rabbitmq(&process.identity)?;
        let bound = process.bind().await?;
        let connect = async {
            let storage = process.open_database().await?;
            let publisher = logweir_queue::publisher(&rabbit, &process.tasks).await;
            Ok((storage, publisher.map_err(of_broker)?))
        };
        let Some((storage, publisher)) = process.unless_stopped(connect).await? else {
            return process.stop().await;
        };
        let live_feed = LiveFeed::default();
        logweir_queue::follow_live_feed(&rabbit, &live_feed, &process.tasks).map_err(of_broker)?;
        announce(&format!("ready on {}", bound.endpoint));
        process.serve(bound, Arc::clone(&publisher), storage, live_feed, true).await?;
        publisher.close();
        process.stop().await
    }
}
