//! The way to the server: one connection per address, retries by the policy of [`crate::RetryPolicy`].
//!
//! [`Sender`] is the lower-level piece beneath the client, for programs that keep ids and sequences
//! themselves. It must live inside a tokio runtime. It holds no queue: a call returns when the batch
//! is durable, refused for good, or out of time.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes};
use logweir_proto::v1;
use parking_lot::Mutex;
use prost::Message;
use tokio::{sync::Notify, time::timeout};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    batch::{EncodedBatch, SDK_NAME, SDK_VERSION},
    error::{BuildError, DropReason},
    retry::{Gate, History, Next, Refusal, RetryPolicy, Start, Ticket},
    rim::{self, Notice},
};

const INGEST_PATH: &str = "/logweir.v1.IngestService/Ingest";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Below this, compression costs more than it saves.
const COMPRESS_FROM_BYTES: usize = 1 << 10;
/// A refused token is said this often.
const TOKEN_NOTICE_INTERVAL: Duration = Duration::from_secs(300);

/// Where the token comes from. A file or a function is read again when the server refuses the token.
#[derive(Clone)]
pub enum Token {
    /// This text.
    Text(String),
    /// A file that holds it alone.
    File(PathBuf),
    /// A function. It runs on the sending thread and must be quick.
    Callback(Arc<dyn Fn() -> Option<String> + Send + Sync>),
    /// None, for a proxy that adds it.
    None,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Token::Text",
            Self::File(_) => "Token::File",
            Self::Callback(_) => "Token::Callback",
            Self::None => "Token::None",
        })
    }
}

type Header = MetadataValue<Ascii>;

impl Token {
    /// The token as it is now, checked.
    pub(crate) fn text(&self) -> Result<Option<String>, BuildError> {
        let text = match self {
            Self::Text(text) => Some(text.clone()),
            Self::File(path) => {
                let read = std::fs::read_to_string(path);
                Some(read.map_err(|error| BuildError::TokenFile(path.clone(), error))?)
            }
            Self::Callback(read) => rim::survive(|| read()).flatten(),
            Self::None => None,
        };
        let Some(text) = text else { return Ok(None) };
        let text = text.trim();
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_plain { Ok(Some(text.into())) } else { Err(BuildError::Token) }
    }

    fn header(&self) -> Result<Option<Header>, BuildError> {
        let Some(text) = self.text()? else { return Ok(None) };
        let mut header: Header = format!("Bearer {text}").parse().map_err(|_| BuildError::Token)?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

/// How requests are compressed. Small ones never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all: cheapest for the processor, right for a server on the same machine.
    None,
    /// Smallest support needed; about five times the work of zstd.
    Gzip,
    /// Smallest and quick.
    #[default]
    Zstd,
}

/// How to speak to `https://` addresses. The files are PEM, and read once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// The CA of the server, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// A certificate to show to the server, and its private key.
    pub client_files: Option<(PathBuf, PathBuf)>,
}

impl TlsOptions {
    /// Whether the files can be used.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        self.apply(Endpoint::from_static("https://localhost")).map(|_| ())
    }

    fn apply(&self, endpoint: Endpoint) -> Result<Endpoint, BuildError> {
        let mut config = match &self.ca_file {
            None => ClientTlsConfig::new().with_native_roots(),
            Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem(path)?)),
        };
        if let Some((certificate, key)) = &self.client_files {
            config = config.identity(Identity::from_pem(pem(certificate)?, pem(key)?));
        }
        endpoint.tls_config(config).map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
            BuildError::Tls(cause)
        })
    }
}

/// The text of a PEM file. Without this check a file that holds none would count as an empty one.
fn pem(path: &Path) -> Result<String, BuildError> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let text = text.and_then(|text| {
        if text.contains("-----BEGIN ") { Ok(text) } else { Err("it holds no PEM".into()) }
    });
    text.map_err(|cause| BuildError::Tls(format!("{}: {cause}", path.display())))
}

/// How a [`Sender`] sends.
#[derive(Debug, Clone, PartialEq)]
pub struct SendOptions {
    /// Compression of requests of 1 KiB and more.
    pub compression: Compression,
    /// Longest time for one attempt. 10 s.
    pub attempt_timeout: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
    /// For `https://` addresses.
    pub tls: TlsOptions,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            attempt_timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
            tls: TlsOptions::default(),
        }
    }
}

/// Whom a sender tells of a refused token, apart from its caller.
#[derive(Clone)]
pub(crate) struct Listeners {
    pub(crate) notice: Notice,
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
    doors: Vec<Door>,
    token: Token,
    options: SendOptions,
    listeners: Listeners,
    state: Mutex<State>,
    /// An attempt ended, or the gate moved.
    moved: Notify,
}

struct Door {
    address: String,
    plain: Grpc<Channel>,
    packed: Grpc<Channel>,
}

struct State {
    gate: Gate,
    header: Option<Header>,
    token_said: Option<Instant>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses: Vec<&str> =
            self.inner.doors.iter().map(|door| door.address.as_str()).collect();
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
    ) -> Result<Self, BuildError> {
        let listeners =
            Listeners { notice: rim::notice_on_stderr(), token_refused: Arc::default() };
        Self::connect_with(endpoints, token, options, listeners)
    }

    pub(crate) fn connect_with(
        endpoints: &str,
        token: Token,
        options: SendOptions,
        listeners: Listeners,
    ) -> Result<Self, BuildError> {
        let addresses = parse_endpoints(endpoints)?;
        let header = token.header()?;
        let doors = addresses.into_iter().map(|address| door(address, &options));
        let doors = doors.collect::<Result<Vec<_>, _>>()?;
        let gate = Gate::new(options.retry.clone(), doors.len());
        let state = Mutex::new(State { gate, header, token_said: None });
        let moved = Notify::new();
        Ok(Self { inner: Arc::new(Inner { doors, token, options, listeners, state, moved }) })
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
                Err(status) => Refusal::from_status(&status),
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
            let now = rim::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return None;
            }
            let until = {
                let mut state = self.inner.state.lock();
                match state.gate.start(now) {
                    Start::Now(ticket) => {
                        let header = state.header.clone();
                        return Some(Attempt { inner: &self.inner, ticket, header });
                    }
                    Start::Wait(until) => until,
                }
            };
            match until.into_iter().chain(deadline).min() {
                None => moved.await,
                // Either way the gate is asked again.
                Some(until) => {
                    tokio::time::timeout_at(until.into(), moved).await.ok();
                }
            }
        }
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
    ) -> Result<v1::IngestResponse, Status> {
        let limit = self.inner.options.attempt_timeout;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(rim::now()));
        let limit = left.map_or(limit, |left| left.min(limit));
        let call = self.call(batch.request.clone(), limit);
        timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
    }

    async fn call(&self, bytes: Bytes, limit: Duration) -> Result<v1::IngestResponse, Status> {
        let door = &self.inner.doors[self.ticket.door];
        let packs = bytes.len() >= COMPRESS_FROM_BYTES;
        let mut grpc = if packs { door.packed.clone() } else { door.plain.clone() };
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
        let mut state = self.inner.state.lock();
        state.gate.succeeded(self.ticket);
        self.inner.listeners.token_refused.store(false, Ordering::Relaxed);
    }

    fn refused(&self, refusal: &Refusal, history: &mut History) -> Next {
        let now = rim::now();
        let (next, is_token_refused) = {
            let gate = &mut self.inner.state.lock().gate;
            let next = gate.refused(self.ticket, refusal, history, now, rim::random_share());
            (next, gate.is_token_refused())
        };
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
        let address = &self.inner.doors[self.ticket.door].address;
        let advice = "logs are held; give a valid one, made by `logweir token issue`";
        (self.inner.listeners.notice)(&format!(
            "{address} refuses the token ({message}): {advice}"
        ));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.inner.state.lock().gate.finish(self.ticket);
        self.inner.moved.notify_waiters();
    }
}

/// The addresses of a comma list, each with its scheme.
pub(crate) fn parse_endpoints(list: &str) -> Result<Vec<String>, BuildError> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let addresses = names.map(parse_endpoint).collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() { Err(BuildError::Endpoint(list.into())) } else { Ok(addresses) }
}

fn parse_endpoint(name: &str) -> Result<String, BuildError> {
    let address = if name.contains("://") { name.into() } else { format!("http://{name}") };
    let uri: tonic::codegen::http::Uri =
        address.parse().map_err(|_| BuildError::Endpoint(name.into()))?;
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16());
    let plain = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let is_plain = uri.authority().is_some_and(|authority| authority.as_str() == plain);
    let usable = ["http", "https"].contains(&uri.scheme_str().unwrap_or_default())
        && !host.is_empty()
        && is_plain;
    if usable { Ok(address) } else { Err(BuildError::Endpoint(name.into())) }
}

fn door(address: String, options: &SendOptions) -> Result<Door, BuildError> {
    let endpoint = Endpoint::from_shared(address.clone())
        .and_then(|endpoint| endpoint.user_agent(format!("{SDK_NAME}/{SDK_VERSION}")))
        .map_err(|_| BuildError::Endpoint(address.clone()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let is_tls = endpoint.uri().scheme_str() == Some("https");
    let endpoint = if is_tls { options.tls.apply(endpoint)? } else { endpoint };
    let plain = Grpc::new(endpoint.connect_lazy());
    let packed = match options.compression {
        Compression::None => plain.clone(),
        Compression::Gzip => plain.clone().send_compressed(CompressionEncoding::Gzip),
        Compression::Zstd => plain.clone().send_compressed(CompressionEncoding::Zstd),
    };
    Ok(Door { address, plain, packed })
}

/// Sends bytes that are encoded already.
struct IngestCodec;

impl Codec for IngestCodec {
    type Encode = Bytes;
    type Decode = v1::IngestResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for IngestCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for IngestCodec {
    type Item = v1::IngestResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let decoded = v1::IngestResponse::decode(buffer);
        decoded.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_comma_list_with_http_understood() {
        let good = [
            ("http://a:4317", vec!["http://a:4317"]),
            (" a:1 ,https://b:2,", vec!["http://a:1", "https://b:2"]),
            ("127.0.0.1:4317", vec!["http://127.0.0.1:4317"]),
            ("[::1]:4317", vec!["http://[::1]:4317"]),
        ];
        for (list, expected) in good {
            assert_eq!(parse_endpoints(list).unwrap(), expected, "{list}");
        }
        for bad in [
            "",
            " , ",
            "http://",
            "https://",
            "ftp://a",
            "a b:1",
            "http://a:99999999",
            "http://u@a:1",
        ] {
            assert!(parse_endpoints(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_trimmed_checked_and_never_shown() {
        let header = Token::Text(" secret\n".into()).header().unwrap().unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer secret");
        assert!(header.is_sensitive());
        assert!(matches!(Token::Text("a\nb".into()).header(), Err(BuildError::Token)));
        assert!(matches!(Token::File("/nowhere".into()).header(), Err(BuildError::TokenFile(..))));
        assert!(!format!("{:?}", Token::Text("secret".into())).contains("secret"));
    }
}
