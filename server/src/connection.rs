//! Connections: accepted up to a bound, spoken to in HTTP/1.1 or HTTP/2 as they begin, and let
//! finish when the server stops.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use logweir_core::runtime::tasks::{Fate, Tasks};
use metrics::{counter, gauge};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::{debug, warn};

use crate::config::ServerConfig;

/// A connection must send its first byte, and each request its headers, within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What a sender may have under way unread, on one stream and on one connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// After the system had no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the tasks are asked to stop, then lets what is under way finish, for a bounded time.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    config: &ServerConfig,
    tasks: &Tasks,
) {
    let builder = builder(config);
    let room = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let stop = tasks.stop_token();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Some(stream) = usable(accepted).await else { continue };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            counter!("logweir_connections_refused_total").increment(1);
            continue;
        };
        let connection = Connection { stream, permit, builder: builder.clone() };
        let watcher = graceful.watcher();
        tasks.spawn("connection", Fate::MayEnd, connection.serve(router.clone(), watcher));
    }
    drop(listener);
    let drain = Duration::from_secs(config.drain_timeout_seconds);
    if timeout(drain, graceful.shutdown()).await.is_err() {
        warn!("connections were still busy after {} s; closing them", drain.as_secs());
    }
}

fn builder(config: &ServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.connection_streams_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn usable(accepted: io::Result<(TcpStream, std::net::SocketAddr)>) -> Option<TcpStream> {
    match accepted {
        Ok((stream, _)) => {
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
    permit: OwnedSemaphorePermit,
    builder: auto::Builder<TokioExecutor>,
}

impl Connection {
    async fn serve(self, router: Router, watcher: hyper_util::server::graceful::Watcher) {
        let Self { stream, permit, builder } = self;
        if !matches!(timeout(HEADER_TIMEOUT, stream.readable()).await, Ok(Ok(()))) {
            debug!("the connection was silent");
            return;
        }
        gauge!("logweir_connections").increment(1);
        let service = TowerToHyperService::new(router);
        let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(served).await {
            debug!(error, "the connection ended badly");
        }
        gauge!("logweir_connections").decrement(1);
        drop(permit);
    }
}
