//! Connections: accepted up to a bound, within TLS if that is set up, spoken to in HTTP/1.1 or
//! HTTP/2 as they begin, and let finish when the server stops.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use futures::future::select_all;
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use logweir_core::{
    fairness::{permits::TenantPermits, threshold::Threshold},
    runtime::tasks::{Fate, Tasks},
};
use metrics::counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, sink},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::{
    seat::{Seat, UnclaimedSeats},
    tls::Tls,
};
use crate::config::ServerConfig;

/// A connection must send its first byte, shake hands, and send each request's headers, within
/// this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
// A client whose machine lost power never closes its connection. Pings find that out within 30 s,
// else such connections would fill `connections_max` for hours (TCP's own keep-alive: two).
pub(crate) const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
// HTTP/2 begins with windows of 64 KiB (RFC 9113, 6.9.2): a batch of 4 MiB would take some sixty
// round trips. What lies in these windows unread is not charged to the in-flight budget, so they
// are no larger than the largest batch.
/// What a sender may have under way unread, on one stream and on one connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Of one answer, made ready for the socket: two of its frames (see `response_body`).
const SEND_BUFFER_BYTES_MAX: usize = 128 << 10;
/// Streams of a connection that may end for the client's mistakes, and that it may reset before they
/// are looked at, until the connection ends ("rapid reset", CVE-2023-44487).
const RESET_STREAMS_MAX: usize = 128;
const UNACCEPTED_RESET_STREAMS_MAX: usize = 20;
/// One tenant may have so many times the connections that it leaves: 75 % alone, 43 % each of two.
const SHARE_ALPHA: u64 = 3;
/// A connection that is to give way to another ends within this, for it has nothing to finish.
const GIVES_WAY_WITHIN: Duration = Duration::from_millis(100);
/// After the system had no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The first byte of a TLS connection: the content type `handshake` (RFC 8446, 5.1). No HTTP method
/// and no HTTP/2 preface begins with it.
const HANDSHAKE_BYTE: u8 = 0x16;
const TLS_ONLY: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: text/plain\r\n\r\nthis port speaks TLS only: use https://\n";

/// The connections of tenants.
pub(crate) fn permits(config: &ServerConfig) -> TenantPermits {
    TenantPermits::new(rule(config))
}

fn rule(config: &ServerConfig) -> Threshold {
    Threshold::for_one(config.connections_max as u64, SHARE_ALPHA)
}

/// Serves until the tasks are asked to stop, then lets what is under way finish, for a bounded
/// time.
pub(crate) async fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    config: &ServerConfig,
    tls: Option<Tls>,
    connections: TenantPermits,
    tasks: &Tasks,
) {
    let builder = builder(config);
    let total = usize::try_from(rule(config).total).unwrap_or(usize::MAX);
    let room = Arc::new(Semaphore::new(total.min(Semaphore::MAX_PERMITS)));
    let unclaimed = UnclaimedSeats::default();
    let graceful = GracefulShutdown::new();
    let stop = tasks.stop_token();
    let mut first = 0;
    loop {
        first += 1;
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listeners, first) => accepted,
        };
        let Some(stream) = usable(accepted).await else { continue };
        // Closed at once and not left to wait: a connection that nobody reads would hold the client
        // until its own time-out. And before TLS, for a handshake costs more than the refusal.
        let Some(permit) = find_room(&room, &unclaimed).await else {
            counter!("logweir_connections_refused_total").increment(1);
            continue;
        };
        // Asked for anew by each connection, so that a renewed certificate is met by the next one.
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let (builder, stop) = (builder.clone(), stop.clone());
        let seat = Seat::within(permit, connections.clone());
        unclaimed.note(&seat);
        let connection = Connection { stream, acceptor, seat, builder, stop };
        let watcher = graceful.watcher();
        tasks.spawn("connection", Fate::MayEnd, connection.serve(router.clone(), watcher));
    }
    // Closed before the drain: who connects now is refused by the system and tries another server,
    // instead of waiting in the backlog of one that will never accept it.
    drop(listeners);
    let drain = Duration::from_secs(config.drain_timeout_seconds);
    if timeout(drain, graceful.shutdown()).await.is_err() {
        warn!("connections were still busy after {} s; closing them", drain.as_secs());
    }
}

type Accepted = io::Result<(TcpStream, SocketAddr)>;

/// Accepts on any of the addresses. One after the other is looked at first, so that none that is always
/// ready keeps the others waiting.
async fn accept(listeners: &[TcpListener], first: usize) -> Accepted {
    let count = listeners.len();
    let in_turn = (first..first + count).map(|turn| Box::pin(listeners[turn % count].accept()));
    select_all(in_turn).await.0
}

/// Room for one more connection, if need be that of one that is nobody's.
async fn find_room(
    room: &Arc<Semaphore>,
    unclaimed: &UnclaimedSeats,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
        return Some(permit);
    }
    if !unclaimed.end_oldest() {
        return None;
    }
    counter!("logweir_connections_evicted_total").increment(1);
    timeout(GIVES_WAY_WITHIN, Arc::clone(room).acquire_owned()).await.ok()?.ok()
}

fn builder(config: &ServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // A client that sends its headers byte by byte (slowloris) would else hold a connection for as
    // long as it likes. The timer must be set too: with a time-out and no timer hyper panics.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.connection_streams_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .max_pending_accept_reset_streams(UNACCEPTED_RESET_STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn usable(accepted: Accepted) -> Option<TcpStream> {
    match accepted {
        Ok((stream, _)) => {
            // Responses are small; Nagle's algorithm would hold each back until the last is
            // acknowledged, up to 40 ms with delayed acknowledgements.
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "the connection is gone already");
                return None;
            }
            Some(stream)
        }
        Err(error) => {
            // Out of file descriptors, for one: others must end before there can be more.
            warn!(%error, "cannot accept a connection");
            counter!("logweir_connections_refused_total").increment(1);
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

struct Connection {
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    seat: Seat,
    builder: auto::Builder<TokioExecutor>,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(self, router: Router, watcher: Watcher) {
        let Self { stream, acceptor, seat, builder, stop } = self;
        let begun = tokio::select! {
            biased;
            // Nothing is under way yet.
            () = stop.cancelled() => return,
            () = seat.evicted() => return,
            begun = timeout(HEADER_TIMEOUT, begin(stream, acceptor)) => begun,
        };
        let spoken = Spoken { builder, router, seat, watcher };
        match begun {
            Ok(Ok(Begun::Plain(stream))) => spoken.over(stream).await,
            Ok(Ok(Begun::Tls(stream))) => spoken.over(*stream).await,
            Ok(Err(error)) => debug!(%error, "the connection did not begin well"),
            Err(_) => debug!("the connection was silent"),
        }
    }
}

enum Begun {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Waits for the first byte, and shakes hands within TLS.
async fn begin(mut stream: TcpStream, acceptor: Option<TlsAcceptor>) -> io::Result<Begun> {
    stream.readable().await?;
    let Some(acceptor) = acceptor else { return Ok(Begun::Plain(stream)) };
    // Peeked at and not read, so that the handshake finds it. A client that speaks plain HTTP to a
    // port with TLS would else see a reset connection and nothing that says why.
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE_BYTE {
        counter!("logweir_tls_handshakes_failed_total").increment(1);
        stream.write_all(TLS_ONLY).await?;
        stream.shutdown().await?;
        // A socket closed with something unread sends a reset, which may overtake the answer: read
        // to the end first. The caller's time-out bounds how long.
        copy(&mut stream, &mut sink()).await?;
        return Err(io::Error::other("it is not within TLS"));
    }
    match acceptor.accept(stream).await {
        Ok(stream) => Ok(Begun::Tls(Box::new(stream))),
        Err(error) => {
            counter!("logweir_tls_handshakes_failed_total").increment(1);
            Err(error)
        }
    }
}

struct Spoken {
    builder: auto::Builder<TokioExecutor>,
    router: Router,
    seat: Seat,
    watcher: Watcher,
}

impl Spoken {
    async fn over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(self, stream: S) {
        let seat = self.seat.clone();
        let seated = self.router.map_request(move |mut request: Request<Incoming>| {
            seat.note_request();
            request.extensions_mut().insert(seat.clone());
            request
        });
        let service = TowerToHyperService::new(seated);
        let served =
            self.builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        tokio::select! {
            ended = self.watcher.watch(served) => if let Err(error) = ended {
                debug!(error, "the connection ended badly");
            },
            () = self.seat.must_end() => debug!("the connection asked nothing, or was refused"),
        }
    }
}
