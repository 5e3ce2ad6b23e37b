//! `logweir standalone`: server, queue, processor, storage and alerting in one process.

use std::sync::Arc;

use clap::Args;
use logweir_queue::{InProcessQueue, LiveFeed};
use logweir_storage::{SqliteStorage, Storage};
use tracing::warn;

use crate::{
    config::ConfigArgs,
    demo,
    error::{Error, Exit},
    output::announce,
    wiring::{ListenArgs, Process},
};

/// Arguments of `logweir standalone`.
#[derive(Debug, Args)]
pub struct StandaloneArgs {
    #[command(flatten)]
    settings: ConfigArgs,
    #[command(flatten)]
    listen: ListenArgs,
    /// Send made-up traffic, and say what to try
    #[arg(long)]
    demo: bool,
}

impl StandaloneArgs {
    /// Runs it until SIGINT or SIGTERM.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let settings = self.listen.load(&self.settings)?;
        if settings.tls_files().is_some() && self.demo {
            let text = "--demo speaks no TLS: leave out the certificate to try it";
            return Err(Error::Usage(text.into()).into());
        }
        // One partition: there is nobody to share the queue with.
        let process = Process::begin("standalone", settings, 1)?;
        // A warning and no error, for the variables may be set for another program in the same
        // shell; but whoever expects his logs in PostgreSQL should hear of it.
        if !process.settings.database_url.is_empty() || !process.settings.amqp_url.is_empty() {
            let data_dir = &process.settings.data_dir;
            warn!("standalone uses neither database_url nor amqp_url: its data lies in {data_dir}");
        }
        let bound = process.bind().await?;
        let storage = SqliteStorage::open(&process.settings.storage(), process.clock.clone())?;
        let background: Arc<dyn Storage> = Arc::new(storage.for_background());
        let storage = Arc::new(storage);
        let (publisher, consumer) = InProcessQueue::open(process.settings.queue());
        let live_feed = LiveFeed::default();
        // The reader of the queue before its writers: a server that takes batches which nobody
        // stores would let every sender wait for its time-out.
        let (kept, feed) = (background.clone(), live_feed.clone());
        process.start_processor(consumer, None, kept, storage.clone(), feed).await?;
        process.start_alerting(&background, storage.clone())?;
        announce(&format!("ready on {}", bound.endpoint));
        if self.demo {
            let (settings, tasks) = (&process.settings, &process.tasks);
            demo::start(settings, &bound.endpoint, storage.as_ref(), tasks).await?;
        }
        process.serve(bound, Arc::clone(&publisher), storage, live_feed, false).await?;
        // Only after the server has ended: what it took is still to be answered. Then the pipeline
        // stores what waits and sees the end of the queue.
        publisher.close();
        process.stop().await
    }
}
