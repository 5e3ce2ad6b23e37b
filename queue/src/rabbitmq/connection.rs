//! Connections that come back: opening one, and a supervisor that opens the next when one is lost.

use std::time::Duration;

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use lapin::{
    Connection, ConnectionProperties, Event,
    tcp::OwnedTLSConfig,
    uri::{AMQPScheme, AMQPUri},
};
use logweir_core::runtime::retry::Backoff;
use metrics::counter;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::{
    config::{ANSWER_TIMEOUT, RabbitConfig},
    error::{ACCESS_REFUSED, NOT_ALLOWED, RabbitError, cause, number},
    topology,
};

/// A dead connection is noticed within two of these.
// RabbitMQ proposes 60 s, in which a server whose broker has gone would let every sender time out.
// Below 5 s a busy machine is taken for a dead one.
const HEARTBEAT_SECONDS: u16 = 5;
const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// The wait between attempts: short, since senders are refused until the broker is back.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(2) };
/// Attempts between two words about a broker that stays away: about half a minute.
const ATTEMPTS_PER_WORD: u32 = 30;

/// What works on a connection for as long as that lasts.
#[async_trait]
pub(super) trait Session: Send {
    /// Works until everything is done, or the connection is lost.
    async fn run(&mut self, connection: &Connection) -> Result<(), RabbitError>;

    /// The connection is lost, and another will be opened.
    fn lost(&mut self, error: &RabbitError);

    /// Resolves if there is nothing to do that needs a connection any more.
    async fn finished(&self);
}

/// Runs a session on one connection after the other, until it is done. The first may be there.
// By hand, although the library can recover connections: it cannot channels, consumers and what was
// not confirmed, and would take up again only half of what a session had.
pub(super) async fn keep(opener: Opener, first: Option<Connection>, mut session: impl Session) {
    let mut next = first;
    loop {
        let connection = match next.take() {
            Some(connection) => connection,
            None => tokio::select! {
                connection = opener.open_again() => connection,
                () = session.finished() => return,
            },
        };
        match session.run(&connection).await {
            Ok(()) => return close(&connection).await,
            Err(error) => {
                counter!("logweir_queue_connections_lost_total", "purpose" => opener.purpose)
                    .increment(1);
                warn!(purpose = opener.purpose, "the connection is lost: {error}");
                session.lost(&error);
            }
        }
        // A connection that is alive, such as one whose queue was deleted, is not left behind.
        close(&connection).await;
    }
}

async fn close(connection: &Connection) {
    if connection.status().connected() {
        // One that is lost at this moment is closed too. Not waited for longer: the next connection
        // is opened only after this.
        drop(timeout(Duration::from_secs(2), connection.close(200, "done".into())).await);
    }
}

/// Opens connections for one purpose.
pub(super) struct Opener {
    config: RabbitConfig,
    uri: AMQPUri,
    purpose: &'static str,
}

impl Opener {
    pub(super) fn new(config: &RabbitConfig, purpose: &'static str) -> Result<Self, RabbitError> {
        // The library's words may hold the whole address, and with it the password.
        let told = |cause: String| RabbitError::Url(cause.replace(&config.url, "***"));
        let mut uri: AMQPUri = config.url.parse().map_err(told)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.connection_timeout.get_or_insert(CONNECT_TIMEOUT_MS);
        Ok(Self { config: config.clone(), uri, purpose })
    }

    /// A connection on which everything is declared. Waits for a broker that does not answer, but
    /// not for one that refuses.
    pub(super) async fn open_at_start(&self) -> Result<Connection, RabbitError> {
        let deadline = Instant::now() + self.config.start_timeout();
        let mut attempt = 0;
        loop {
            match self.open().await {
                Err(error) if error.is_retryable() && Instant::now() < deadline => {
                    attempt += 1;
                    info!(purpose = self.purpose, "waiting for the broker: {error}");
                    sleep(BACKOFF.delay(attempt, rand::random())).await;
                }
                result => return result,
            }
        }
    }

    async fn open_again(&self) -> Connection {
        let mut attempt = 0;
        loop {
            attempt += 1;
            sleep(BACKOFF.delay(attempt, rand::random())).await;
            match self.open().await {
                Ok(connection) => {
                    info!(purpose = self.purpose, attempt, "connected");
                    return connection;
                }
                Err(error) if attempt % ATTEMPTS_PER_WORD == 1 => {
                    warn!(purpose = self.purpose, attempt, "not connected, trying on: {error}");
                }
                Err(error) => debug!(purpose = self.purpose, attempt, "not connected: {error}"),
            }
        }
    }

    async fn open(&self) -> Result<Connection, RabbitError> {
        let connection = self.connect().await?;
        // On every connection, not just the first: what somebody deleted meanwhile comes back
        // before a batch is published to it.
        topology::declare(&connection, &self.config).await?;
        Ok(connection)
    }

    async fn connect(&self) -> Result<Connection, RabbitError> {
        let name = format!("{}: {}", self.config.process, self.purpose);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let tls =
            OwnedTLSConfig { identity: None, cert_chain: self.config.tls_authorities_pem.clone() };
        let runtime =
            lapin::runtime::default_runtime().map_err(|error| self.unreachable(&error))?;
        let opening =
            Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime);
        match timeout(ANSWER_TIMEOUT, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.refused_or_unreachable(&error)),
            Err(_) => Err(self.unreachable(&"it does not answer")),
        }
    }

    fn refused_or_unreachable(&self, error: &lapin::Error) -> RabbitError {
        match number(error) {
            Some(ACCESS_REFUSED | NOT_ALLOWED) => {
                RabbitError::Refused { address: self.address(), cause: cause(error) }
            }
            _ => self.unreachable(&cause(error)),
        }
    }

    fn unreachable(&self, cause: &dyn std::fmt::Display) -> RabbitError {
        RabbitError::Unreachable(format!("{}: {cause}", self.address()))
    }

    fn address(&self) -> String {
        let tls = if self.uri.scheme == AMQPScheme::AMQPS { " (TLS)" } else { "" };
        format!("{}:{}{tls}", self.uri.authority.host, self.uri.authority.port)
    }
}

/// What a connection says about itself: that it is blocked, that it is not blocked any more, or an
/// error once it is lost.
pub(super) struct Events<'a> {
    connection: &'a Connection,
    events: std::pin::Pin<Box<dyn Stream<Item = Event> + Send>>,
}

impl<'a> Events<'a> {
    pub(super) fn of(connection: &'a Connection) -> Self {
        Self { connection, events: Box::pin(connection.events_listener()) }
    }

    /// The reason for which the connection is blocked; none once it is not. May be cancelled.
    pub(super) async fn next(&mut self) -> Result<Option<String>, RabbitError> {
        loop {
            match self.events.next().await {
                Some(Event::ConnectionBlocked(reason)) => return Ok(Some(reason)),
                Some(Event::ConnectionUnblocked) => return Ok(None),
                Some(Event::Error(error)) => return Err(error.into()),
                None => return Err(closed()),
                Some(_) => {}
            }
        }
    }

    /// An error if the connection is lost, whether it said so or not.
    pub(super) fn check(&self) -> Result<(), RabbitError> {
        if self.connection.status().connected() { Ok(()) } else { Err(closed()) }
    }
}

fn closed() -> RabbitError {
    RabbitError::Unreachable("the connection is closed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_told_without_the_password() {
        for url in ["amqp:u:s3cret@h", "http://u:s3cret@h", "u:s3cret@h", "amqp://u:s3cret@h:x"] {
            let config = RabbitConfig { url: url.into(), ..RabbitConfig::default() };
            let error = Opener::new(&config, "publish").err().expect("it is none").to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
