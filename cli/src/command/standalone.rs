//! `logweir standalone`: server, queue, processor and storage in one process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;
use logweir_core::runtime::{
    clock::system_clock,
    identity::ProcessIdentity,
    tasks::{Fate, Tasks},
    telemetry::{self, Metrics},
};
use logweir_queue::{InProcessQueue, LiveFeed, Publisher};
use logweir_server::{Ports, Tls, TokenKeys};
use logweir_storage::{SqliteStorage, Storage};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};

use crate::{
    demo,
    error::{Error, Exit},
    output::announce,
    settings::{Settings, SettingsArgs},
};

/// How long everything may take to stop once the doors are closed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `logweir standalone`.
#[derive(Debug, Args)]
pub struct StandaloneArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The one address for gRPC and HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "LOGWEIR_LISTEN")]
    listen: Option<String>,
    /// Speak TLS alone, with this certificate and its chain (PEM); needs --tls-key
    #[arg(long, value_name = "FILE", env = "LOGWEIR_TLS_CERT")]
    tls_cert: Option<String>,
    /// The private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", env = "LOGWEIR_TLS_KEY")]
    tls_key: Option<String>,
    /// Take clients with a certificate of this CA alone (PEM)
    #[arg(long, value_name = "FILE", env = "LOGWEIR_TLS_CLIENT_CA")]
    tls_client_ca: Option<String>,
    /// Send made-up traffic, and say what to try
    #[arg(long)]
    demo: bool,
}

impl StandaloneArgs {
    /// Runs it until SIGINT or SIGTERM.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let settings = self.settings.load(&[
            ("listen", self.listen.as_deref()),
            ("tls_cert", self.tls_cert.as_deref()),
            ("tls_key", self.tls_key.as_deref()),
            ("tls_client_ca", self.tls_client_ca.as_deref()),
        ])?;
        let tls = settings.tls_files().map(Tls::open).transpose()?;
        if tls.is_some() && self.demo {
            let text = "--demo speaks no TLS: leave out the certificate to try it";
            return Err(Error::Usage(text.into()).into());
        }
        telemetry::start_logging(&settings.log).map_err(Error::Usage)?;
        let tasks = Tasks::new();
        stop_on_signals(&tasks)?;
        let listener = listen(&settings.listen).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", listener.local_addr()?);
        let (ports, storage) = open(&settings, tls, &tasks).await?;
        let publisher = Arc::clone(&ports.publisher);
        let served =
            logweir_server::run(settings.server(), ports, listener, &tasks, system_clock());
        announce(&format!("ready on {endpoint}"));
        if self.demo {
            demo::start(&settings, &endpoint, storage.as_ref(), &tasks).await?;
        }
        served.await?;
        stop(&tasks, publisher.as_ref()).await
    }
}

/// Opens storage and starts the processor.
async fn open(
    settings: &Settings,
    tls: Option<Tls>,
    tasks: &Tasks,
) -> anyhow::Result<(Ports, Arc<dyn Storage>)> {
    let metrics = Metrics::install()?;
    let storage = Arc::new(SqliteStorage::open(&settings.storage(), system_clock())?);
    let token_keys = TokenKeys::open_or_create(&settings.token_key_file())?;
    let (publisher, consumer) = InProcessQueue::open(settings.queue());
    let live_feed = LiveFeed::default();
    let parts = logweir_processor::Parts {
        config: settings.processor(),
        limits: settings.server.limits.clone(),
        identity: ProcessIdentity::new("standalone", &system_clock()),
        consumer,
        partitions: None,
        partition_count: 1,
        write: storage.clone(),
        administer: storage.clone(),
        live_feed: live_feed.clone(),
        clock: system_clock(),
    };
    logweir_processor::start(parts, tasks).await?;
    let storage_port = storage.clone();
    let ports = Ports {
        publisher,
        storage: storage_port,
        live_feed,
        token_keys,
        tls,
        identity: None,
        partitions: 1,
        metrics,
    };
    Ok((ports, storage))
}

/// Downstream: the doors are closed already; what they took is stored, then everything ends.
async fn stop(tasks: &Tasks, publisher: &dyn Publisher) -> anyhow::Result<Exit> {
    publisher.close();
    tasks.stop();
    let end = tasks.wait(STOP_TIMEOUT).await;
    if !end.laggards.is_empty() {
        warn!(laggards = ?end.laggards, "some tasks did not stop in time");
    }
    match end.failed {
        Some(what) => Err(anyhow::anyhow!("{what}")),
        None if end.laggards.is_empty() => Ok(Exit::Done),
        None => Ok(Exit::Failed),
    }
}

async fn listen(address: &str) -> Result<TcpListener, Error> {
    let address: SocketAddr = address.parse().map_err(|_| {
        Error::Usage(format!(
            "--listen {address:?} is no address: use IP:PORT, such as 127.0.0.1:4317"
        ))
    })?;
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another program has it; stop that, or pass --listen",
            std::io::ErrorKind::PermissionDenied => "take a port above 1023 with --listen",
            _ => "pass another with --listen",
        };
        Error::Unavailable(format!("cannot listen on {address}: {error}; {advice}"))
    })
}

/// SIGINT or SIGTERM stops in order.
fn stop_on_signals(tasks: &Tasks) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stopping = tasks.clone();
    tasks.spawn("signals", Fate::MayEnd, async move {
        let stop = stopping.stop_token();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = stop.cancelled() => return,
        }
        info!("stopping");
        stopping.stop();
    });
    Ok(())
}
