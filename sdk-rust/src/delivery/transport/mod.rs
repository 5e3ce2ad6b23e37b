//! The way to the server: one connection per address, retries by the policy of
//! [`crate::RetryPolicy`].
//!
//! [`Sender`] is the lower-level piece beneath the client, for programs that keep ids and sequences
//! themselves. It must live inside a tokio runtime. It holds no queue: a call returns when the
//! batch is durable, refused for good, or out of time.

mod codec;
mod options;
mod reachability;
mod tls;
mod token;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::uri::PathAndQuery;
use logweir_proto::v1;
use tokio::{sync::Notify, time::timeout};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint as Connector},
};

use self::{codec::IngestCodec, reachability::Reachability, tls::secured, token::Header};
pub(crate) use self::{options::parse_endpoints, token::checked_token};
pub use self::{
    options::{Compression, SendOptions},
    tls::TlsOptions,
    token::Token,
};
use crate::{
    delivery::{
        batch::{EncodedBatch, SDK_NAME, SDK_VERSION},
        retry::{EndpointPool, History, Next, Refusal, Start, Ticket, root_cause},
    },
    error::{ConfigError, DropReason},
    lock::Mutex,
    platform::{self, Notice},
};

const INGEST_PATH: &str = "/logweir.v1.IngestService/Ingest";
/// An address that gives no sign of life for so long is told to be away: a person is to know within
/// two seconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(1_500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Below this, compression costs more than it saves.
const COMPRESS_FROM_BYTES: usize = 1 << 10;
/// A refused token is told at most this often.
const TOKEN_NOTICE_INTERVAL: Duration = Duration::from_secs(300);

/// Whom a sender tells, apart from its caller.
#[derive(Clone)]
pub(crate) struct Listeners {
    pub(crate) notice: Notice,
    /// Whether logs wait in the spool, and not in memory, while an address is away; none if only
    /// the caller is told.
    pub(crate) spool_works: Option<Arc<AtomicBool>>,
    /// Whether batches are held because the token is refused.
    pub(crate) token_refused: Arc<AtomicBool>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum SendOutcome {
    /// It is durable, but for the logs named.
    Accepted {
        /// How many logs are durable.
        accepted: u32,
        /// Logs that broke a rule of their own; never resend them.
        rejected: Vec<v1::RejectedRecord>,
    },
    /// It must be split, each part under a new id.
    TooLarge {
        /// The message of the server.
        message: String,
    },
    /// It was refused for good; never resend it unchanged.
    Refused {
        /// The server's status code.
        code: tonic::Code,
        /// What to count it as.
        reason: DropReason,
        /// Positions of the logs at fault, if the server named them.
        bad_records: Vec<u32>,
        /// The message of the server.
        message: String,
    },
    /// The deadline passed. It may be durable or not: resend it under the same id.
    OutOfTime {
        /// The last refusal, empty if there was none.
        message: String,
    },
}

/// Sends batches and waits for their responses. Cheap to clone; the clones share connections and
/// pauses.
#[derive(Clone)]
pub struct Sender {
    inner: Arc<Inner>,
}

struct Inner {
    endpoints: Vec<Endpoint>,
    token: Token,
    options: SendOptions,
    listeners: Listeners,
    state: Mutex<State>,
    /// An attempt ended, or the pool moved.
    moved: Notify,
}

struct Endpoint {
    address: String,
    connector: Connector,
    plain: Grpc<Channel>,
    compressed: Grpc<Channel>,
}

struct State {
    pool: EndpointPool,
    reachability: Vec<Reachability>,
    header: Option<Header>,
    token_notified_at: Option<Instant>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let endpoints = self.inner.endpoints.iter();
        let addresses: Vec<&str> = endpoints.map(|endpoint| endpoint.address.as_str()).collect();
        f.debug_struct("Sender").field("endpoints", &addresses).finish_non_exhaustive()
    }
}

impl Sender {
    /// Prepares connections to a comma list of addresses; they are opened when needed. Batches are
    /// spread over the addresses in turn, and go elsewhere while one fails. Call it inside a tokio
    /// runtime with I/O and time enabled.
    pub fn connect(
        endpoints: &str,
        token: Token,
        options: SendOptions,
    ) -> Result<Self, ConfigError> {
        let listeners = Listeners {
            notice: platform::notice_on_stderr(),
            spool_works: None,
            token_refused: Arc::default(),
        };
        Self::connect_with(endpoints, token, options, listeners)
    }

    pub(crate) fn connect_with(
        endpoints: &str,
        token: Token,
        options: SendOptions,
        listeners: Listeners,
    ) -> Result<Self, ConfigError> {
        let addresses = parse_endpoints(endpoints)?;
        let header = token.header()?;
        // For all addresses alike: one that is far away makes up for the work at the others.
        let encoding = options.compression.encoding(&addresses);
        let endpoints = addresses.into_iter().map(|address| endpoint(address, &options, encoding));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let pool = EndpointPool::new(options.retry.clone(), endpoints.len());
        let reachability = endpoints.iter().map(|_| Reachability::default()).collect();
        let state = Mutex::new(State { pool, reachability, header, token_notified_at: None });
        let moved = Notify::new();
        Ok(Self { inner: Arc::new(Inner { endpoints, token, options, listeners, state, moved }) })
    }

    /// For each address, a connection that is only to show whether it can be reached.
    pub(crate) fn handshakes(&self) -> impl Iterator<Item = impl Future<Output = ()> + use<>> {
        (0..self.inner.endpoints.len()).map(|number| {
            let inner = Arc::clone(&self.inner);
            async move { inner.handshake(number).await }
        })
    }

    /// Says which addresses have given no sign of life so far.
    pub(crate) fn notify_unreached(&self) {
        (0..self.inner.endpoints.len()).for_each(|number| {
            self.inner.notify_unreachable(number, "no answer so far", Reachability::not_responding);
        });
    }

    /// Sends a batch and tries again, byte for byte, until its response is final or `deadline` has
    /// passed; without a deadline, for as long as it takes. May be dropped at any await.
    pub async fn send(&self, batch: &EncodedBatch, deadline: Option<Instant>) -> SendOutcome {
        let mut history = History::default();
        let mut message = String::new();
        loop {
            let Some(attempt) = self.acquire(deadline).await else {
                return SendOutcome::OutOfTime { message };
            };
            let refusal = match attempt.run(batch, deadline).await {
                Ok(response) => {
                    attempt.succeeded();
                    let v1::IngestResponse { accepted, rejected } = response;
                    return SendOutcome::Accepted { accepted, rejected };
                }
                Err(refusal) => refusal,
            };
            match attempt.refused(&refusal, &mut history) {
                Next::Again | Next::ReadToken => message = refusal.message,
                Next::Split => return SendOutcome::TooLarge { message: refusal.message },
                Next::GiveUp(reason) => {
                    let Refusal { code, bad_records, message, .. } = refusal;
                    return SendOutcome::Refused { code, reason, bad_records, message };
                }
            }
        }
    }

    /// Waits for permission to make an attempt; none when the deadline has passed.
    async fn acquire(&self, deadline: Option<Instant>) -> Option<Attempt<'_>> {
        loop {
            let moved = self.inner.moved.notified();
            tokio::pin!(moved);
            // Before the pool is asked: a move between the question and the wait would be missed.
            moved.as_mut().enable();
            let now = platform::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return None;
            }
            let until = {
                let mut state = self.inner.state.lock();
                match state.pool.start(now) {
                    Start::Now(ticket) => {
                        let header = state.header.clone();
                        return Some(Attempt { inner: &self.inner, ticket, header });
                    }
                    Start::Wait(until) => until,
                }
            };
            match until.into_iter().chain(deadline).min() {
                None => moved.await,
                // Either way the pool is asked again.
                Some(until) => {
                    tokio::time::timeout_at(until.into(), moved).await.ok();
                }
            }
        }
    }
}

impl Inner {
    async fn handshake(&self, number: usize) {
        let result = timeout(HANDSHAKE_TIMEOUT, self.endpoints[number].handshake()).await;
        match result.unwrap_or_else(|_| Err("no answer so far".into())) {
            Ok(()) => self.state.lock().reachability[number].handshake_done(),
            Err(cause) => self.notify_unreachable(number, &cause, Reachability::not_responding),
        }
    }

    /// Says that an address is away, if what is known of it finds that worth saying.
    fn notify_unreachable(
        &self,
        number: usize,
        cause: &str,
        note: fn(&mut Reachability, Instant) -> bool,
    ) {
        let is_news = note(&mut self.state.lock().reachability[number], platform::now());
        let Some(spool_works) = self.listeners.spool_works.as_ref().filter(|_| is_news) else {
            return;
        };
        let place = if spool_works.load(Ordering::Relaxed) { "in the spool" } else { "in memory" };
        let address = &self.endpoints[number].address;
        (self.listeners.notice)(&format!(
            "cannot reach {address} ({cause}); logs are kept {place} and sent when it is back"
        ));
    }

    fn notify_reachable(&self, number: usize) {
        let away = self.state.lock().reachability[number].responded(platform::now());
        if let (Some(away), Some(_)) = (away, &self.listeners.spool_works) {
            let address = &self.endpoints[number].address;
            (self.listeners.notice)(&format!("{address} is back after {} s", away.as_secs()));
        }
    }
}

impl Endpoint {
    /// Connects, and waits until the other side has sent something. What fails is told by its
    /// cause.
    async fn handshake(&self) -> Result<(), String> {
        let uri = self.connector.uri();
        if uri.scheme_str() == Some("https") {
            let connected = self.connector.connect().await;
            return connected
                .map(drop)
                .map_err(|error| root_cause(&error).unwrap_or_else(|| error.to_string()));
        }
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
        reachability::handshake(&format!("{host}:{port}")).await.map_err(|error| error.to_string())
    }
}

/// One attempt. Gives its permission back when dropped, so that an abandoned probe blocks nobody.
struct Attempt<'a> {
    inner: &'a Inner,
    ticket: Ticket,
    header: Option<Header>,
}

impl Attempt<'_> {
    async fn run(
        &self,
        batch: &EncodedBatch,
        deadline: Option<Instant>,
    ) -> Result<v1::IngestResponse, Refusal> {
        let limit = self.inner.options.attempt_timeout;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(platform::now()));
        // An attempt that outlives the batch's deadline could store what was counted as expired.
        let limit = left.map_or(limit, |left| left.min(limit));
        match timeout(limit, self.call(batch.request.clone(), limit)).await {
            Ok(response) => response.map_err(|status| Refusal::from_status(&status)),
            Err(_) => Err(Refusal::timed_out(limit)),
        }
    }

    async fn call(&self, bytes: Bytes, limit: Duration) -> Result<v1::IngestResponse, Status> {
        let endpoint = &self.inner.endpoints[self.ticket.endpoint];
        // Each message says for itself whether it is compressed.
        let compresses = bytes.len() >= COMPRESS_FROM_BYTES;
        let mut grpc =
            if compresses { endpoint.compressed.clone() } else { endpoint.plain.clone() };
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let mut request = Request::new(bytes);
        request.set_timeout(limit);
        if let Some(header) = &self.header {
            request.metadata_mut().insert("authorization", header.clone());
        }
        let path = PathAndQuery::from_static(INGEST_PATH);
        Ok(grpc.unary(request, path, IngestCodec).await?.into_inner())
    }

    fn succeeded(&self) {
        self.inner.state.lock().pool.succeeded(self.ticket);
        self.inner.notify_reachable(self.ticket.endpoint);
        self.inner.listeners.token_refused.store(false, Ordering::Relaxed);
    }

    fn refused(&self, refusal: &Refusal, history: &mut History) -> Next {
        let now = platform::now();
        // One hold of the lock, so that the two belong together.
        let (next, is_token_refused) = {
            let pool = &mut self.inner.state.lock().pool;
            let next = pool.refused(self.ticket, refusal, history, now, platform::random_share());
            (next, pool.is_token_refused())
        };
        if refusal.is_transport {
            self.inner.notify_unreachable(
                self.ticket.endpoint,
                &refusal.message,
                Reachability::failed,
            );
        } else {
            self.inner.notify_reachable(self.ticket.endpoint);
        }
        self.inner.listeners.token_refused.store(is_token_refused, Ordering::Relaxed);
        if next == Next::ReadToken {
            self.read_token();
        }
        // Otherwise the caller hears of it, and says so.
        if is_token_refused && self.inner.options.retry.hold_on_refused_token {
            self.notify_token_refused(&refusal.message, now);
        }
        next
    }

    /// A token that cannot be read now may be readable at the next probe: the old one is kept.
    fn read_token(&self) {
        if let Ok(header) = self.inner.token.header() {
            self.inner.state.lock().header = header;
        }
    }

    fn notify_token_refused(&self, message: &str, now: Instant) {
        {
            let notified_at = &mut self.inner.state.lock().token_notified_at;
            if notified_at.is_some_and(|at| now.duration_since(at) < TOKEN_NOTICE_INTERVAL) {
                return;
            }
            *notified_at = Some(now);
        }
        let address = &self.inner.endpoints[self.ticket.endpoint].address;
        let advice = r#"logs are held; give a valid one, made by "logweir token issue""#;
        (self.inner.listeners.notice)(&format!(
            "{address} refuses the token ({message}); {advice}"
        ));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // In `drop`, so that an attempt that is aborted at an await gives it back as well.
        self.inner.state.lock().pool.finish(self.ticket);
        // A probe that ended lets others try.
        self.inner.moved.notify_waiters();
    }
}

fn endpoint(
    address: String,
    options: &SendOptions,
    encoding: Option<CompressionEncoding>,
) -> Result<Endpoint, ConfigError> {
    let connector = Connector::from_shared(address.clone())
        .and_then(|connector| connector.user_agent(format!("{SDK_NAME}/{SDK_VERSION}")))
        .map_err(|_| ConfigError::Endpoint(address.clone()))?
        .connect_timeout(CONNECT_TIMEOUT)
        // A batch is written as a whole, and nothing follows that it could wait for.
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        // A firewall forgets idle connections; the first log after a quiet hour would wait for a
        // timeout.
        .keep_alive_while_idle(true);
    let is_tls = connector.uri().scheme_str() == Some("https");
    let connector = if is_tls { secured(connector, &options.tls)? } else { connector };
    let plain = Grpc::new(connector.connect_lazy());
    let compressed = match encoding {
        None => plain.clone(),
        Some(encoding) => plain.clone().send_compressed(encoding),
    };
    Ok(Endpoint { address, connector, plain, compressed })
}
