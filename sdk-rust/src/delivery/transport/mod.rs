//! The way to the server: one connection per address, retries by the policy of [`crate::RetryPolicy`].
//!
//! [`Sender`] is the lower-level piece beneath the client, for programs that keep ids and sequences
//! themselves. It must live inside a tokio runtime. It holds no queue: a call returns when the batch
//! is durable, refused for good, or out of time.

mod codec;
mod contact;
mod options;
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

use self::{codec::IngestCodec, contact::Contact, tls::secured, token::Header};
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
/// An address that gives no sign of life for so long is said to be away: within two seconds.
const GREETING_TIMEOUT: Duration = Duration::from_millis(1_500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Below this, compression costs more than it saves.
const COMPRESS_FROM_BYTES: usize = 1 << 10;
/// A refused token is said this often.
const TOKEN_NOTICE_INTERVAL: Duration = Duration::from_secs(300);

/// Whom a sender tells, apart from its caller.
#[derive(Clone)]
pub(crate) struct Listeners {
    pub(crate) notice: Notice,
    /// Whether logs wait in the spool, and not in memory, while an address is away; none if only the
    /// caller is told.
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
        /// What the server said.
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
        /// What the server said.
        message: String,
    },
    /// The deadline passed. It may be durable or not: resend it under the same id.
    OutOfTime {
        /// The last refusal, empty if there was none.
        message: String,
    },
}

/// Sends batches and waits for their answers. Cheap to clone; the clones share connections and pauses.
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
    contacts: Vec<Contact>,
    header: Option<Header>,
    token_said: Option<Instant>,
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
        let encoding = options.compression.encoding(&addresses);
        let endpoints = addresses.into_iter().map(|address| endpoint(address, &options, encoding));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let pool = EndpointPool::new(options.retry.clone(), endpoints.len());
        let contacts = endpoints.iter().map(|_| Contact::default()).collect();
        let state = Mutex::new(State { pool, contacts, header, token_said: None });
        let moved = Notify::new();
        Ok(Self { inner: Arc::new(Inner { endpoints, token, options, listeners, state, moved }) })
    }

    /// For each address, a connection that is only to show whether it can be reached.
    pub(crate) fn greetings(&self) -> impl Iterator<Item = impl Future<Output = ()> + use<>> {
        (0..self.inner.endpoints.len()).map(|number| {
            let inner = Arc::clone(&self.inner);
            async move { inner.greet(number).await }
        })
    }

    /// Says which addresses have given no sign of life so far.
    pub(crate) fn say_unanswered(&self) {
        (0..self.inner.endpoints.len()).for_each(|number| {
            self.inner.say_away(number, "no answer so far", Contact::unanswered);
        });
    }

    /// Sends a batch and tries again, byte for byte, until it is answered for good or `deadline` has
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

    /// Waits for leave to make an attempt; none when the deadline has passed.
    async fn acquire(&self, deadline: Option<Instant>) -> Option<Attempt<'_>> {
        loop {
            let moved = self.inner.moved.notified();
            tokio::pin!(moved);
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
    async fn greet(&self, number: usize) {
        let greeted = timeout(GREETING_TIMEOUT, self.endpoints[number].greet()).await;
        match greeted.unwrap_or_else(|_| Err("no answer so far".into())) {
            Ok(()) => self.state.lock().contacts[number].greeted(),
            Err(cause) => self.say_away(number, &cause, Contact::unanswered),
        }
    }

    /// Says that an address is away, if what is known of it finds that worth saying.
    fn say_away(&self, number: usize, cause: &str, judge: fn(&mut Contact, Instant) -> bool) {
        let is_news = judge(&mut self.state.lock().contacts[number], platform::now());
        let Some(spool_works) = self.listeners.spool_works.as_ref().filter(|_| is_news) else {
            return;
        };
        let place = if spool_works.load(Ordering::Relaxed) { "in the spool" } else { "in memory" };
        let address = &self.endpoints[number].address;
        (self.listeners.notice)(&format!(
            "cannot reach {address} ({cause}); logs are kept {place} and sent when it is back"
        ));
    }

    fn say_back(&self, number: usize) {
        let away = self.state.lock().contacts[number].answered(platform::now());
        if let (Some(away), Some(_)) = (away, &self.listeners.spool_works) {
            let address = &self.endpoints[number].address;
            (self.listeners.notice)(&format!("{address} is back after {} s", away.as_secs()));
        }
    }
}

impl Endpoint {
    /// Connects, and waits until the other side has said something. What fails is told by its cause.
    async fn greet(&self) -> Result<(), String> {
        let uri = self.connector.uri();
        if uri.scheme_str() == Some("https") {
            let connected = self.connector.connect().await;
            return connected
                .map(drop)
                .map_err(|error| root_cause(&error).unwrap_or_else(|| error.to_string()));
        }
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
        contact::greet(&format!("{host}:{port}")).await.map_err(|error| error.to_string())
    }
}

/// One attempt. Gives its leave back when dropped, so that an abandoned probe blocks nobody.
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
        let limit = left.map_or(limit, |left| left.min(limit));
        match timeout(limit, self.call(batch.request.clone(), limit)).await {
            Ok(answer) => answer.map_err(|status| Refusal::from_status(&status)),
            Err(_) => Err(Refusal::unanswered(limit)),
        }
    }

    async fn call(&self, bytes: Bytes, limit: Duration) -> Result<v1::IngestResponse, Status> {
        let endpoint = &self.inner.endpoints[self.ticket.endpoint];
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
        self.inner.say_back(self.ticket.endpoint);
        self.inner.listeners.token_refused.store(false, Ordering::Relaxed);
    }

    fn refused(&self, refusal: &Refusal, history: &mut History) -> Next {
        let now = platform::now();
        let (next, is_token_refused) = {
            let pool = &mut self.inner.state.lock().pool;
            let next = pool.refused(self.ticket, refusal, history, now, platform::random_share());
            (next, pool.is_token_refused())
        };
        if refusal.is_transport {
            self.inner.say_away(self.ticket.endpoint, &refusal.message, Contact::failed);
        } else {
            self.inner.say_back(self.ticket.endpoint);
        }
        self.inner.listeners.token_refused.store(is_token_refused, Ordering::Relaxed);
        if next == Next::ReadToken {
            self.read_token();
        }
        // Otherwise the caller hears of it, and says so.
        if is_token_refused && self.inner.options.retry.hold_on_refused_token {
            self.say_token_refused(&refusal.message, now);
        }
        next
    }

    /// A token that cannot be read now may be readable at the next probe: the old one is kept.
    fn read_token(&self) {
        if let Ok(header) = self.inner.token.header() {
            self.inner.state.lock().header = header;
        }
    }

    fn say_token_refused(&self, message: &str, now: Instant) {
        {
            let said = &mut self.inner.state.lock().token_said;
            if said.is_some_and(|said| now.duration_since(said) < TOKEN_NOTICE_INTERVAL) {
                return;
            }
            *said = Some(now);
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
        self.inner.state.lock().pool.finish(self.ticket);
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
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
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
