//! A real server with scripted answers, on a thread and a runtime of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use logweir_sdk::{
    Client, ClientBuilder, RetryPolicy, Stats,
    v1::{
        self,
        ingest_service_server::{IngestService, IngestServiceServer},
    },
};
use parking_lot::{Condvar, Mutex};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{
    Code, Request, Response, Status, Streaming, codec::CompressionEncoding,
    transport::ServerTlsConfig,
};
use tonic_types::{ErrorDetails, StatusExt};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One answer.
#[derive(Clone)]
pub(crate) enum Answer {
    Accept,
    /// Accepts, but for the logs at these positions.
    Reject(Vec<u32>),
    Refuse(Status),
    /// Stores the batch, then breaks the connection off before the answer.
    StoreThenRefuse(Status),
    /// Answers when the gate is opened.
    Hold,
}

/// Decides on an answer from the batch and the token.
pub(crate) type Rule = Box<dyn Fn(&v1::Batch, &str) -> Option<Answer> + Send + Sync>;

/// What the server has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Every attempt, in order.
    pub(crate) attempts: Vec<v1::Batch>,
    /// What is stored, once per id.
    pub(crate) stored: HashMap<Vec<u8>, v1::Batch>,
    pub(crate) doubled: u64,
    pub(crate) tokens: Vec<String>,
}

impl Seen {
    pub(crate) fn stored_records(&self) -> usize {
        self.stored.values().map(|batch| batch.records.len()).sum()
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        let records = self.stored.values().flat_map(|batch| &batch.records);
        let mut messages: Vec<String> = records.map(|record| record.message.clone()).collect();
        messages.sort();
        messages
    }

    /// The account with the highest sequence stored.
    pub(crate) fn last_account(&self) -> v1::Account {
        let producers = self.stored.values().filter_map(|batch| batch.producer.as_ref());
        let last = producers.max_by_key(|producer| producer.sequence);
        last.and_then(|producer| producer.account.clone()).unwrap_or_default()
    }

    /// `emitted − stored − rejected − dropped − queued − spooled`, as the server computes it for
    /// each producer; what is too much for one does not make up for what another lacks.
    pub(crate) fn missing(&self, rejected: u64) -> i64 {
        let mut producers: HashMap<&[u8], (u64, v1::Account, i64)> = HashMap::new();
        for batch in self.stored.values() {
            let producer = batch.producer.as_ref().unwrap();
            let known = producers.entry(&producer.producer_id).or_default();
            known.2 += batch.records.len() as i64;
            if producer.sequence >= known.0 {
                known.0 = producer.sequence;
                known.1 = producer.account.clone().unwrap_or_default();
            }
        }
        let missing = |(_, account, stored): (u64, v1::Account, i64)| {
            let dropped: u64 = account.dropped.iter().map(|drop| drop.count).sum();
            (account.emitted as i64 - stored - (dropped + account.queued) as i64).abs()
        };
        producers.into_values().map(missing).sum::<i64>() - rejected as i64
    }

    /// The numbers of all producers' batches.
    pub(crate) fn sequences(&self) -> Vec<u64> {
        self.names().into_iter().map(|(_, sequence)| sequence).collect()
    }

    /// Producer and number of each batch.
    pub(crate) fn names(&self) -> Vec<(Vec<u8>, u64)> {
        let producers = self.stored.values().filter_map(|batch| batch.producer.as_ref());
        let mut names: Vec<_> =
            producers.map(|producer| (producer.producer_id.clone(), producer.sequence)).collect();
        names.sort_unstable_by_key(|(_, sequence)| *sequence);
        names
    }
}

struct State {
    seen: Mutex<Seen>,
    changed: Condvar,
    script: Mutex<VecDeque<Answer>>,
    rule: Option<Rule>,
    gate: watch::Sender<bool>,
}

pub(crate) struct Server {
    state: Arc<State>,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A server that gives these answers in turn, then accepts.
    pub(crate) fn scripted(script: impl IntoIterator<Item = Answer>) -> Self {
        Self::start(script.into_iter().collect(), None, None, None)
    }

    /// A server whose answers depend on the batch.
    pub(crate) fn ruled(
        rule: impl Fn(&v1::Batch, &str) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(VecDeque::new(), Some(Box::new(rule)), None, None)
    }

    /// A server at a known address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self::start(VecDeque::new(), None, Some(address), None)
    }

    /// A server that speaks TLS.
    pub(crate) fn secured(tls: ServerTlsConfig) -> Self {
        Self::start(VecDeque::new(), None, None, Some(tls))
    }

    fn start(
        script: VecDeque<Answer>,
        rule: Option<Rule>,
        at: Option<SocketAddr>,
        tls: Option<ServerTlsConfig>,
    ) -> Self {
        let state = Arc::new(State {
            seen: Mutex::default(),
            changed: Condvar::new(),
            script: Mutex::new(script),
            rule,
            gate: watch::Sender::new(false),
        });
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = std::sync::mpsc::sync_channel(1);
        let for_thread = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let wanted = at.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
                let listener = TcpListener::bind(wanted).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                let service = IngestServiceServer::new(Scripted { state: for_thread })
                    .accept_compressed(CompressionEncoding::Gzip)
                    .accept_compressed(CompressionEncoding::Zstd);
                let builder = tonic::transport::Server::builder();
                let mut builder = match tls {
                    Some(tls) => builder.tls_config(tls).unwrap(),
                    None => builder,
                };
                let serve = builder
                    .add_service(service)
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    served = serve => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().unwrap();
        Self { state, address, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets the held answers go.
    pub(crate) fn open_gate(&self) {
        self.state.gate.send_replace(true);
    }

    /// Waits until what was seen satisfies `until`.
    pub(crate) fn wait_until(&self, what: &str, until: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.state.seen.lock();
        while !until(&seen) {
            let timed_out = self.state.changed.wait_until(&mut seen, deadline).timed_out();
            assert!(!timed_out, "{what} did not happen; {} attempts", seen.attempts.len());
        }
    }

    pub(crate) fn seen<T>(&self, look: impl Fn(&Seen) -> T) -> T {
        look(&self.state.seen.lock())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        if !std::thread::panicking() {
            let names = self.seen(Seen::names);
            let different: HashSet<_> = names.iter().collect();
            assert_eq!(different.len(), names.len(), "a number of a producer names one batch");
        }
    }
}

struct Scripted {
    state: Arc<State>,
}

impl Scripted {
    fn next_answer(&self, batch: &v1::Batch, token: &str) -> Answer {
        let ruled = self.state.rule.as_ref().and_then(|rule| rule(batch, token));
        ruled.or_else(|| self.state.script.lock().pop_front()).unwrap_or(Answer::Accept)
    }

    fn store(&self, batch: v1::Batch) {
        let mut seen = self.state.seen.lock();
        if let Some(before) = seen.stored.insert(batch.batch_id.clone(), batch.clone()) {
            assert_eq!(before, batch, "a repeat has the same content");
            seen.doubled += 1;
        }
        self.state.changed.notify_all();
    }
}

#[tonic::async_trait]
impl IngestService for Scripted {
    async fn ingest(
        &self,
        request: Request<v1::IngestRequest>,
    ) -> Result<Response<v1::IngestResponse>, Status> {
        let token = request.metadata().get("authorization");
        let token = token.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let batch = request.into_inner().batch.unwrap();
        let answer = self.next_answer(&batch, &token);
        {
            let mut seen = self.state.seen.lock();
            seen.attempts.push(batch.clone());
            seen.tokens.push(token);
            self.state.changed.notify_all();
        }
        let mut rejected = Vec::new();
        match answer {
            Answer::Accept => {}
            Answer::Refuse(status) => return Err(status),
            Answer::StoreThenRefuse(status) => {
                self.store(batch);
                return Err(status);
            }
            Answer::Hold => {
                let mut gate = self.state.gate.subscribe();
                gate.wait_for(|open| *open).await.unwrap();
            }
            Answer::Reject(positions) => {
                rejected = positions;
            }
        }
        let accepted = batch.records.len() - rejected.len();
        let mut kept = batch;
        let mut position = 0;
        kept.records.retain(|_| {
            position += 1;
            !rejected.contains(&(position - 1))
        });
        self.store(kept);
        let rejected = rejected.into_iter().map(|index| v1::RejectedRecord {
            index,
            reason: "bad_record".into(),
            message: "it is bad".into(),
        });
        let (accepted, rejected) = (accepted as u32, rejected.collect());
        Ok(Response::new(v1::IngestResponse { accepted, rejected }))
    }

    type IngestStreamStream =
        Pin<Box<dyn Stream<Item = Result<v1::IngestStreamResponse, Status>> + Send>>;

    async fn ingest_stream(
        &self,
        _request: Request<Streaming<v1::IngestStreamRequest>>,
    ) -> Result<Response<Self::IngestStreamStream>, Status> {
        Err(Status::unimplemented("not used by the library"))
    }
}

pub(crate) fn status(code: Code) -> Answer {
    Answer::Refuse(Status::new(code, format!("scripted {code:?}")))
}

pub(crate) fn retry_after(code: Code, delay: Duration) -> Answer {
    let details = ErrorDetails::with_retry_info(Some(delay));
    Answer::Refuse(Status::with_error_details(code, "scripted", details))
}

pub(crate) fn with_reason(code: Code, reason: &str) -> Answer {
    let details = ErrorDetails::with_error_info(reason, "logweir", HashMap::new());
    Answer::Refuse(Status::with_error_details(code, "scripted", details))
}

/// A policy that retries at once, so that no test waits for the clock.
pub(crate) fn quick() -> RetryPolicy {
    let moment = Duration::from_millis(1);
    RetryPolicy {
        first: moment,
        max: moment,
        hold_on_refused_token: true,
        token_first: moment,
        token_max: moment,
        permission_wait: moment,
        permission_pause: moment,
        ..RetryPolicy::default()
    }
}

/// A client that sends only what fills a batch or is flushed, and says nothing.
pub(crate) fn client_of(server: &Server) -> ClientBuilder {
    Client::builder()
        .endpoint(server.url())
        .token("secret")
        .retry(quick())
        .batch_delay(Duration::from_secs(3_600))
        .on_notice(|_| {})
}

/// Waits until the client's counts satisfy `until`.
pub(crate) fn wait_for_stats(client: &Client, what: &str, until: impl Fn(&Stats) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !until(&client.stats()) {
        assert!(Instant::now() < deadline, "{what} did not happen: {:?}", client.stats());
        std::thread::yield_now();
    }
}
