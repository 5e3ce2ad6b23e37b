//! What the serving processes have in common: how each begins, how its parts are put together, and
//! in which order they end. A backend is named only here and in `standalone`.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use logweir_alerting::{dependencies::Dependencies as AlertingDependencies, leader};
use logweir_core::runtime::{
    clock::{Clock, system_clock},
    identity::ProcessIdentity,
    retry::at_start,
    tasks::{Fate, Tasks},
    telemetry::{self, Metrics},
};
use logweir_processor::Parts;
use logweir_queue::{Consumer, LiveFeed, Partitions, Publisher, RabbitError};
use logweir_server::{Listeners, Ports, SyslogListeners, Tls, TokenKeys};
use logweir_storage::{PostgresStorage, ReadLogs, Storage, StorageError};
use tokio::{
    net::{TcpListener, TcpSocket, UdpSocket},
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};

use crate::{
    config::{ConfigArgs, ProcessConfig},
    error::{Error, Exit},
};

/// How long everything may take to stop once nothing new is taken.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that wait until they are taken; the system may have a lower bound, on Linux
/// `net.core.somaxconn`, 4,096 by default since 5.4.
// Who comes when it is full asks again after a second at the earliest.
const CONNECTIONS_WAITING_MAX: u32 = 4_096;

/// Arguments of the processes that listen.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// The address for gRPC and HTTP, several by commas; port 0 takes a free one. By default
    /// 127.0.0.1:4317 and, where OpenTelemetry sends over HTTP, 127.0.0.1:4318
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
    /// Let pages of these origins call from a browser: https://HOST[:PORT] by commas, or *
    #[arg(long, value_name = "ORIGINS", env = "LOGWEIR_CORS_ORIGINS")]
    cors_origins: Option<String>,
}

impl ListenArgs {
    /// The settings with these above all.
    pub fn load(&self, settings: &ConfigArgs) -> anyhow::Result<ProcessConfig> {
        Ok(settings.load(&[
            ("listen", self.listen.as_deref()),
            ("tls_cert", self.tls_cert.as_deref()),
            ("tls_key", self.tls_key.as_deref()),
            ("tls_client_ca", self.tls_client_ca.as_deref()),
            ("cors_origins", self.cors_origins.as_deref()),
        ])?)
    }
}

/// A serving process.
pub struct Process {
    /// What was set.
    pub settings: ProcessConfig,
    /// Its tasks; asked to stop by SIGINT and SIGTERM.
    pub tasks: Tasks,
    /// The name under which it sends heartbeats and holds leases.
    pub identity: ProcessIdentity,
    /// The time.
    pub clock: Clock,
    /// How many partitions its queue has.
    partitions: u16,
    metrics: Metrics,
}

/// The addresses that are listened on, plain or within TLS.
pub struct BoundListeners {
    listeners: Vec<TcpListener>,
    syslog: Option<SyslogListeners>,
    tls: Option<Tls>,
    /// The first of them, such as `http://127.0.0.1:4317`.
    pub endpoint: String,
}

impl Process {
    /// Begins to log, to count and to heed signals; its queue has so many partitions.
    pub fn begin(
        kind: &'static str,
        settings: ProcessConfig,
        partitions: u16,
    ) -> anyhow::Result<Self> {
        // Logging first, so that nothing after it fails unheard; signals before anything that
        // waits, so that a start that hangs on a database can be stopped in order.
        telemetry::start_logging(&settings.log).map_err(Error::Usage)?;
        let (tasks, clock) = (Tasks::new(), system_clock());
        stop_on_signals(&tasks)?;
        let identity = ProcessIdentity::new(kind, &clock);
        let metrics = Metrics::install()?;
        metrics.start_upkeep(&tasks);
        Ok(Self { settings, tasks, identity, clock, partitions, metrics })
    }

    /// Opens the addresses to listen on; who connects waits until they are served.
    pub async fn bind(&self) -> anyhow::Result<BoundListeners> {
        // Certificate and address are checked before the database is waited for: a mistake in
        // either should be told at once, and not after a minute.
        let tls = self.settings.tls_files().map(Tls::open).transpose()?;
        let mut listeners = Vec::new();
        // Each or none: where another program has one of them, its senders would lose their logs to it,
        // and a warning is read by nobody.
        for address in self.settings.listen.split(',') {
            listeners.push(listen(address.trim())?);
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", listeners[0].local_addr()?);
        let syslog = self.bind_syslog().await?;
        Ok(BoundListeners { listeners, syslog, tls, endpoint })
    }

    async fn bind_syslog(&self) -> anyhow::Result<Option<SyslogListeners>> {
        let config = self.settings.syslog.clone();
        if !config.is_on() {
            return Ok(None);
        }
        let streams =
            |addresses: &str| addresses_of(addresses).map(listen).collect::<Result<Vec<_>, _>>();
        let (tcp, tls) = (streams(&config.tcp_listen)?, streams(&config.tls_listen)?);
        let mut udp = Vec::new();
        for address in addresses_of(&config.udp_listen) {
            let bound = UdpSocket::bind(parsed(address)?).await;
            udp.push(bound.map_err(|error| not_listening(address, &error))?);
        }
        let path = PathBuf::from(&config.token_file);
        let token = std::fs::read_to_string(&path).map_err(|source| Error::File {
            action: "read",
            path,
            source,
        })?;
        Ok(Some(SyslogListeners { tcp, tls, udp, config, token }))
    }

    /// What a start waits for; none: the process is to stop before it has that.
    pub async fn unless_stopped<T>(
        &self,
        start: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<Option<T>> {
        self.tasks.stop_token().run_until_cancelled(start).await.transpose()
    }

    /// The database, once it answers.
    pub async fn open_database(&self) -> anyhow::Result<Arc<dyn Storage>> {
        Ok(Arc::new(open_database(&self.settings, &self.clock).await?))
    }

    /// Serves until the process is to stop and what was under way is answered.
    pub async fn serve(
        &self,
        bound: BoundListeners,
        publisher: Arc<dyn Publisher>,
        storage: Arc<dyn Storage>,
        live_feed: LiveFeed,
        says_it_lives: bool,
    ) -> anyhow::Result<()> {
        let ports = Ports {
            publisher,
            storage,
            live_feed,
            token_keys: token_keys(&self.settings)?,
            tls: bound.tls,
            identity: says_it_lives.then(|| self.identity.clone()),
            partitions: self.partitions,
            metrics: self.metrics.clone(),
        };
        let config = self.settings.server();
        let clock = Arc::clone(&self.clock);
        let listeners = Listeners { http: bound.listeners, syslog: bound.syslog };
        Ok(logweir_server::run(config, ports, listeners, &self.tasks, clock).await?)
    }

    /// Starts to move batches from the queue to storage. What a tenant asks for, such as a training, is
    /// read from `read_for_tenants`, in that tenant's turn.
    pub async fn start_processor(
        &self,
        consumer: Box<dyn Consumer>,
        partitions: Option<Partitions>,
        storage: Arc<dyn Storage>,
        read_for_tenants: Arc<dyn ReadLogs>,
        live_feed: LiveFeed,
    ) -> anyhow::Result<()> {
        let parts = Parts {
            config: self.settings.processor(),
            limits: self.settings.server.limits.clone(),
            identity: self.identity.clone(),
            consumer,
            partitions,
            partition_count: self.partitions,
            write: Arc::clone(&storage) as _,
            administer: Arc::clone(&storage) as _,
            read: read_for_tenants,
            models: Arc::clone(&storage) as _,
            findings: Arc::clone(&storage) as _,
            jobs: storage as _,
            live_feed,
            clock: Arc::clone(&self.clock),
        };
        Ok(logweir_processor::start(parts, &self.tasks).await?)
    }

    /// Starts to watch what is stored, and to tell people; unless another process does. What a tenant
    /// asks for, such as a preview of a rule, is read from `read_for_tenants`, in that tenant's turn.
    pub fn start_alerting(
        &self,
        storage: &Arc<dyn Storage>,
        read_for_tenants: Arc<dyn ReadLogs>,
    ) -> anyhow::Result<()> {
        if !self.settings.alerting.enabled {
            return Ok(());
        }
        let parts = AlertingDependencies {
            config: self.settings.alerting.clone(),
            holder: self.identity.process_id.clone(),
            read: Arc::clone(storage) as _,
            read_for_tenants,
            administer: Arc::clone(storage) as _,
            alerts: Arc::clone(storage) as _,
            jobs: Arc::clone(storage) as _,
            partition_of: logweir_queue::partition_of,
            partitions: self.partitions,
            clock: Arc::clone(&self.clock),
        };
        leader::start(parts, &self.tasks).map_err(|why| Error::Usage(why).into())
    }

    /// Answers about the process itself until it is to stop.
    pub async fn serve_status(
        &self,
        bound: BoundListeners,
        storage: Arc<dyn Storage>,
        says_it_lives: bool,
    ) {
        let (config, metrics) = (self.settings.server(), self.metrics.clone());
        let identity = says_it_lives.then(|| self.identity.clone());
        let (listeners, tasks) = (bound.listeners, &self.tasks);
        logweir_server::run_status(&config, identity, storage, metrics, listeners, tasks).await;
    }

    /// Downstream: nothing new comes in any more; what was taken is stored, then everything ends.
    pub async fn stop(&self) -> anyhow::Result<Exit> {
        // In `standalone` the publisher is closed by now, so that the pipeline runs empty and ends
        // by itself. A task that hangs is named instead of being waited for without end.
        self.tasks.stop();
        let end = self.tasks.wait(STOP_TIMEOUT).await;
        if !end.laggards.is_empty() {
            warn!(laggards = ?end.laggards, "some tasks did not stop in time");
        }
        match end.failed {
            Some(what) => Err(anyhow::anyhow!("{what}")),
            None if end.laggards.is_empty() => Ok(Exit::Done),
            None => Ok(Exit::Failed),
        }
    }
}

/// The database of the settings, once it answers.
pub async fn open_database(
    settings: &ProcessConfig,
    clock: &Clock,
) -> anyhow::Result<PostgresStorage> {
    let config = settings.postgres()?;
    // Waited for and not failed on: after a reboot all containers start at once, and the database
    // is rarely the first that is ready.
    let open = || PostgresStorage::open(&config, Arc::clone(clock));
    Ok(at_start("the database", StorageError::is_retryable, open).await?)
}

/// A failure of the broker as the command's.
pub fn of_broker(error: RabbitError) -> Error {
    // A wrong password does not heal: exit code 3 would tell a service manager to try again.
    if error.is_retryable() {
        Error::Unavailable(error.to_string())
    } else {
        Error::Usage(error.to_string())
    }
}

/// The keys that sign tokens; made if there are none, which is said where others may have theirs.
pub fn token_keys(settings: &ProcessConfig) -> anyhow::Result<TokenKeys> {
    let path = settings.token_key_file();
    let is_new = !path.exists();
    if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
        std::fs::create_dir_all(folder).map_err(|source| Error::File {
            action: "create",
            path: folder.to_owned(),
            source,
        })?;
    }
    let keys = TokenKeys::open_or_create(&path)?;
    // A second server with keys of its own refuses the tokens of the first: behind a load balancer
    // every other request would fail as if its token were broken.
    if is_new && !settings.database_url.is_empty() {
        warn!(
            "the keys that sign tokens were made, in {}: every server of the installation must have \
             the same file, see token_key_file",
            path.display()
        );
    }
    Ok(keys)
}

fn listen(address: &str) -> Result<TcpListener, Error> {
    bind(parsed(address)?).map_err(|error| not_listening(address, &error))
}

fn parsed(address: &str) -> Result<SocketAddr, Error> {
    address.parse().map_err(|_| {
        let text = format!("{address:?} is no address: use IP:PORT, such as 127.0.0.1:4317");
        Error::Usage(text)
    })
}

fn not_listening(address: &str, error: &std::io::Error) -> Error {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another program has it; stop that, or pass --listen with the address to take"
        }
        std::io::ErrorKind::PermissionDenied => "take a port above 1023 with --listen",
        _ => "pass another with --listen",
    };
    Error::Unavailable(format!("cannot listen on {address}: {error}; {advice}"))
}

fn addresses_of(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|address| !address.is_empty())
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As the standard library has it: a port is free again as soon as who had it has ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(CONNECTIONS_WAITING_MAX)
}

/// SIGINT or SIGTERM stops in order.
fn stop_on_signals(tasks: &Tasks) -> std::io::Result<()> {
    // SIGTERM is what systemd, Docker and Kubernetes send before they kill. Both are taken over
    // here and not within the task, so that one that comes before it runs is not missed.
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
