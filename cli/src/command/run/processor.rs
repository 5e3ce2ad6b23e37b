//! `logweir processor`: takes batches from RabbitMQ and writes them to PostgreSQL. Any number of
//! them may run; they share the queue's partitions among each other.

use clap::Args;
use logweir_queue::LiveFeed;

use crate::{
    config::ConfigArgs,
    error::Exit,
    output::announce,
    wiring::{Process, of_broker},
};

/// Arguments of `logweir processor`.
#[derive(Debug, Args)]
pub struct ProcessorArgs {
    #[command(flatten)]
    settings: ConfigArgs,
    /// The address of /healthz, /readyz and /metrics, plain HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "LOGWEIR_LISTEN", default_value = "127.0.0.1:4319")]
    listen: String,
}

impl ProcessorArgs {
    /// Runs it until SIGINT or SIGTERM; what it has taken is stored before it ends.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let settings = self.settings.load(&[
            ("listen", Some(&self.listen)),
            // Nothing that is secret is told there.
            ("tls_cert", Some("")),
            ("tls_key", Some("")),
            ("tls_client_ca", Some("")),
        ])?;
        let partitions = settings.rabbitmq.partitions;
        let process = Process::begin("processor", settings, partitions)?;
        let rabbit = process.settings.rabbitmq(&process.identity)?;
        let bound = process.bind().await?;
        let connect = async {
            let storage = process.open_database().await?;
            let consumer = logweir_queue::consumer(&rabbit, &process.tasks).await;
            Ok((storage, consumer.map_err(of_broker)?))
        };
        let connected = process.unless_stopped(connect).await?;
        let Some((storage, (consumer, partitions))) = connected else {
            return process.stop().await;
        };
        // Before the pipeline starts, or the first logs that are stored would be shown to nobody.
        let live_feed = LiveFeed::default();
        logweir_queue::relay_live_feed(&rabbit, &live_feed, &process.tasks).map_err(of_broker)?;
        let (kept, read_for_tenants) = (storage.clone(), storage.clone());
        process
            .start_processor(consumer, Some(partitions), kept, read_for_tenants, live_feed)
            .await?;
        announce(&format!("ready on {}", bound.endpoint));
        // Without a heartbeat of its own: the membership sends it, with the partitions.
        process.serve_status(bound, storage, false).await;
        process.stop().await
    }
}
