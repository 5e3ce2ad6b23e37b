//! The receiver of syslog, RFC 5424 and RFC 3164, over TCP, TLS and UDP. Off unless it is given an address.
//!
//! `framing` finds the messages in a stream, `translate` makes logs of them by the one reader of log text:
//! both pure. `connection` reads a stream no faster than its messages become durable, `datagrams` takes
//! what comes by UDP, `intake` passes messages on until they are durable. Nothing in the protocol says
//! that a message arrived: what a sender wrote and was not read when a connection ends is lost, and the
//! sender does not know. When the process stops nothing more is read, and what was has a time to become
//! durable.

mod config;
mod connection;
mod datagrams;
mod framing;
mod intake;
#[cfg(test)]
mod tests;
mod translate;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use logweir_core::{
    fairness::permits::TenantPermits,
    runtime::{
        clock::Clock,
        tasks::{Fate, Tasks},
    },
};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, UdpSocket},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

pub use self::config::SyslogConfig;
use self::{connection::Streams, datagrams::Datagrams, intake::Intake};
use crate::{
    auth::{Access, Auth},
    ingest::Ingest,
    listener::{message_body::Budget, tls::Tls},
    status::Refusal,
};

/// The addresses that syslog is listened for on, and by whose token.
pub struct SyslogListeners {
    /// Plain TCP.
    pub tcp: Vec<TcpListener>,
    /// Within TLS.
    pub tls: Vec<TcpListener>,
    /// UDP.
    pub udp: Vec<UdpSocket>,
    /// What bounds them.
    pub config: SyslogConfig,
    /// Says whose the logs are.
    pub token: String,
}

/// What syslog shares with everything else that brings logs.
pub(crate) struct Shared {
    pub(crate) auth: Arc<Auth>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) budget: Budget,
    pub(crate) connections: TenantPermits,
    pub(crate) tls: Option<Tls>,
    pub(crate) clock: Clock,
}

/// Syslog that is listened for.
pub(crate) struct Running {
    tracker: TaskTracker,
    intake: Arc<Intake>,
}

impl Running {
    /// Resolves after the stop, once what was read is durable, or this time is over and the rest was
    /// given up.
    pub(crate) async fn drained(self, within: Duration) {
        self.intake.stop.cancelled().await;
        self.tracker.close();
        if timeout(within, self.tracker.wait()).await.is_err() {
            self.intake.give_up.cancel();
            self.tracker.wait().await;
        }
        let messages = self.intake.given_up.load(Ordering::Relaxed);
        if messages > 0 {
            warn!(messages, "syslog messages that were read could not be stored before the end");
        }
    }
}

/// Listens until the tasks are asked to stop.
///
/// # Errors
///
/// If the token lets nobody send.
pub(crate) fn start(
    listeners: SyslogListeners,
    shared: Shared,
    tasks: &Tasks,
) -> Result<Running, Refusal> {
    let Shared { auth, ingest, budget, connections, tls, clock } = shared;
    let SyslogListeners { tcp, tls: within_tls, udp, config, token } = listeners;
    let header = format!("Bearer {}", token.trim());
    auth.admit(Some(header.as_bytes()), Access::Ingest)?;
    let zone = config.zone();
    let stop = tasks.stop_token();
    let (give_up, given_up) = (CancellationToken::new(), AtomicU64::new(0));
    let intake = Intake {
        auth,
        ingest,
        budget,
        header,
        zone,
        clock,
        stop,
        give_up,
        given_up,
        told: Mutex::default(),
    };
    let (intake, tracker) = (Arc::new(intake), TaskTracker::new());
    let streams = Streams::new(config.clone(), Arc::clone(&intake), connections);
    for listener in tcp {
        let accepting = Arc::clone(&streams).accept(listener, None, tasks.clone(), tracker.clone());
        tasks.spawn("syslog over TCP", Fate::Essential, tracker.track_future(accepting));
    }
    for listener in within_tls {
        let streams = Arc::clone(&streams);
        let accepting = streams.accept(listener, tls.clone(), tasks.clone(), tracker.clone());
        tasks.spawn("syslog over TLS", Fate::Essential, tracker.track_future(accepting));
    }
    for socket in udp {
        let datagrams = Datagrams::new(config.message_bytes_max, Arc::clone(&intake));
        let taking = tracker.track_future(datagrams.take(socket));
        tasks.spawn("syslog over UDP", Fate::Essential, taking);
    }
    Ok(Running { tracker, intake })
}
