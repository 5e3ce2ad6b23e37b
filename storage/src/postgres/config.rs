//! Where the database is, and the pool of connections to it.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::config::Host;

use super::tls::Tls;
use crate::StorageError;

/// Longest wait for a connection, a free one or a new one.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection whose peer has gone is given up after this.
// As long as a write may take (`WRITTEN_WITHIN`). By the system's defaults it would be two hours.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the data lies and how long it is kept.
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full`; may be PgBouncer's.
    /// `sslmode` and `sslrootcert` mean what they mean elsewhere.
    pub url: String,
    /// Connections of this process.
    pub connections_max: usize,
    /// Logs are deleted when all logs of their day are older than this by event time.
    pub retention_age: Option<Duration>,
    /// How long a batch keeps an entry of its own in the ledger.
    pub ledger_age: Duration,
}

impl PostgresConfig {
    /// The defaults: 16 connections, no age, 48 hours.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connections_max: 16,
            retention_age: None,
            ledger_age: Duration::from_secs(48 * 3_600),
        }
    }

    /// The pool, and the name of the database without secrets.
    pub(super) fn pool(&self) -> Result<(Pool, Arc<str>), StorageError> {
        let (url, tls) = Tls::split(&self.url).map_err(unusable)?;
        let mut config: tokio_postgres::Config = url.parse().map_err(unusable)?;
        // A string of `key=value` pairs keeps its own `sslmode`: only URLs were looked through.
        if self.url.contains("://") {
            config.ssl_mode(tls.mode);
        }
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(PEER_TIMEOUT);
        config
            .keepalives_idle(PEER_TIMEOUT)
            .keepalives_interval(PEER_TIMEOUT / 4)
            .keepalives_retries(4);
        if config.get_application_name().is_none() {
            config.application_name("logweir");
        }
        let place = place(&config).into();
        // A query to see whether a connection works would cost a round trip each time: one that
        // does not is found out by its use.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, tls.connector().map_err(unusable)?, recycling);
        let pool = Pool::builder(manager)
            .max_size(self.connections_max.max(1))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECT_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .build()
            .map_err(unusable)?;
        Ok((pool, place))
    }
}

fn unusable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StorageError {
    StorageError::Unusable { place: "the database's URL".to_owned(), source: source.into() }
}

/// Host, port and database.
fn place(config: &tokio_postgres::Config) -> String {
    let hosts =
        config.get_hosts().iter().zip(config.get_ports().iter().chain(std::iter::repeat(&5432)));
    let hosts: Vec<String> = hosts
        .map(|(host, port)| match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    format!("the database {} at {}", config.get_dbname().unwrap_or("postgres"), hosts.join(","))
}
