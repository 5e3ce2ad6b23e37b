//! The receiver of syslog, RFC 5424 and RFC 3164, over TCP, TLS and UDP. Off unless it is given an address.
//!
//! `framing` finds the messages in a stream, `translate` makes logs of them by the one reader of log text:
//! both pure. `connection` reads a stream no faster than its messages become durable, `datagrams` takes
//! what comes by UDP, `intake` passes messages on until they are durable. Nothing in the protocol says
//! that a message arrived: what a sender wrote and was not read when a connection ends is lost, and the
//! sender does not know.

mod config;
mod connection;
mod datagrams;
mod framing;
mod intake;
mod translate;

use std::sync::Arc;

use logweir_core::{
    fairness::permits::TenantPermits,
    runtime::{
        clock::Clock,
        tasks::{Fate, Tasks},
    },
};
use tokio::net::{TcpListener, UdpSocket};

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

/// Listens until the tasks are asked to stop.
///
/// # Errors
///
/// If the token lets nobody send.
pub(crate) fn start(
    listeners: SyslogListeners,
    shared: Shared,
    tasks: &Tasks,
) -> Result<(), Refusal> {
    let Shared { auth, ingest, budget, connections, tls, clock } = shared;
    let SyslogListeners { tcp, tls: within_tls, udp, config, token } = listeners;
    let header = format!("Bearer {}", token.trim());
    auth.admit(Some(header.as_bytes()), Access::Ingest)?;
    let zone = config.zone();
    let stop = tasks.stop_token();
    let intake = Arc::new(Intake { auth, ingest, budget, header, zone, clock, stop });
    let streams = Streams::new(config.clone(), Arc::clone(&intake), connections);
    for listener in tcp {
        let accepting = Arc::clone(&streams).accept(listener, None, tasks.clone());
        tasks.spawn("syslog over TCP", Fate::Essential, accepting);
    }
    for listener in within_tls {
        let accepting = Arc::clone(&streams).accept(listener, tls.clone(), tasks.clone());
        tasks.spawn("syslog over TLS", Fate::Essential, accepting);
    }
    for socket in udp {
        let datagrams = Datagrams::new(config.message_bytes_max, Arc::clone(&intake));
        tasks.spawn("syslog over UDP", Fate::Essential, datagrams.take(socket));
    }
    Ok(())
}
